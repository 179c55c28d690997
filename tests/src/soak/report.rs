//! What a soak saw, as a table, and whether that is good enough.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Plan;
use super::memory::Slope;
use super::priority;
use super::probe::{CLIENTS, MACHINE};
use super::stage::Phase;

/// Lines of a server's last words that are shown: the reason where it gives one, else the end.
const LAST_LINES: usize = 4;
const REASONS: [&str; 3] = ["panicked at", "ERROR", "invariant"];
/// Waits of a client in quiet phases without which nothing is compared with its p99.
const QUIET_WAITS_MIN: usize = 20;
/// Milliseconds that a frame waits in quiet phases at most, of 100 frames 99, on a machine with nothing else to do.
const CALM_MS: f64 = 20.0;
const MIB: f64 = (1 << 20) as f64;

/// How a life of the server ended.
#[derive(Clone, Debug)]
pub enum Ended {
    /// It was killed on purpose.
    Killed,
    /// It ended, and nobody had asked for it.
    ByItself {
        /// Its exit status.
        status: String,
        /// Who was at work.
        phase: String,
        /// Its log.
        words: String,
    },
    /// SIGTERM was followed in so long.
    Drained(Duration),
    /// SIGTERM was not followed in time.
    Stuck,
}

/// One life of the server.
#[derive(Clone, Debug)]
pub struct Life {
    begun: Instant,
    ready: Duration,
    at_start: u64,
    peak: u64,
    /// Seconds since its start, and bytes, at the end of each quiet phase.
    quiet: Vec<(f64, f64)>,
    last: u64,
}

impl Default for Life {
    fn default() -> Self {
        Self::begin(Duration::ZERO, None)
    }
}

impl Life {
    /// A life that begins now.
    pub fn begin(ready: Duration, resident: Option<u64>) -> Self {
        let at_start = resident.unwrap_or(0);
        Self { begun: Instant::now(), ready, at_start, peak: at_start, quiet: Vec::new(), last: at_start }
    }

    /// Takes a sample of its memory.
    pub fn sample(&mut self, resident: Option<u64>) {
        self.last = resident.unwrap_or(self.last);
        self.peak = self.peak.max(self.last);
    }

    /// Takes the sample that counts: what it holds when hostile clients have been gone for a while.
    ///
    /// Gives what it holds more than at the end of the quiet phase before.
    pub fn quiet_ended(&mut self, resident: Option<u64>) -> Option<f64> {
        let bytes = resident? as f64;
        let before = self.quiet.last().map(|(_, bytes)| *bytes);
        self.quiet.push((self.begun.elapsed().as_secs_f64(), bytes));
        before.map(|before| bytes - before)
    }

    /// Growth in MiB an hour.
    fn growth(&self, warm_up: usize) -> Option<Slope> {
        let points: Vec<(f64, f64)> =
            self.quiet.iter().skip(warm_up).map(|(at, bytes)| (at / 3600.0, bytes / MIB)).collect();
        Slope::of(&points)
    }
}

/// What a soak saw.
#[derive(Debug)]
pub struct Report {
    plan: Plan,
    lives: Vec<(Life, f64, Ended)>,
    phases: BTreeMap<String, Duration>,
    /// Most bytes that were held after a phase and not before it.
    left: BTreeMap<String, f64>,
    census: Option<Result<Value, String>>,
    /// Answers that were not what they must be.
    pub wrong: u64,
    /// The first of them.
    pub wrong_words: Vec<String>,
    /// Acknowledged hits that are not in the hit log.
    pub lost: Vec<String>,
    /// Hits that were acknowledged.
    pub acknowledged: u64,
    /// Everything that was counted.
    pub counts: BTreeMap<&'static str, u64>,
    /// Waits in microseconds by phase and client.
    pub waits: BTreeMap<(String, &'static str), Vec<u32>>,
}

impl Report {
    /// Nothing seen yet.
    pub fn new(plan: &Plan) -> Self {
        Self {
            plan: plan.clone(),
            lives: Vec::new(),
            phases: BTreeMap::new(),
            left: BTreeMap::new(),
            census: None,
            wrong: 0,
            wrong_words: Vec::new(),
            lost: Vec::new(),
            acknowledged: 0,
            counts: BTreeMap::new(),
            waits: BTreeMap::new(),
        }
    }

    /// Counts a phase.
    pub fn passed(&mut self, phase: &Phase, time: Duration) {
        *self.phases.entry(phase.label.clone()).or_default() += time;
    }

    /// Takes what the server holds more after a phase than before it.
    pub fn left(&mut self, phase: &str, bytes: Option<f64>) {
        if let Some(bytes) = bytes {
            let most = self.left.entry(phase.to_string()).or_insert(bytes);
            *most = most.max(bytes);
        }
    }

    /// Keeps a life that ended.
    pub fn ended(&mut self, life: Life, how: Ended) {
        let seconds = life.begun.elapsed().as_secs_f64();
        self.lives.push((life, seconds, how));
    }

    /// Keeps the census at the end.
    pub fn census(&mut self, census: Result<Value, String>) {
        self.census = Some(census);
    }

    /// The wait of a client in a phase that so many of 100 do not exceed, in milliseconds.
    fn wait(&self, phase: &str, client: &'static str, percent: f64) -> Option<f64> {
        let mut waits = self.waits.get(&(phase.to_string(), client))?.clone();
        if waits.is_empty() || (phase == "quiet" && waits.len() < QUIET_WAITS_MIN) {
            return None;
        }
        waits.sort_unstable();
        let at = ((waits.len() as f64 * percent / 100.0).ceil() as usize).clamp(1, waits.len());
        Some(f64::from(waits[at - 1]) / 1000.0)
    }

    /// How many times the quiet p99 a client waits in a phase.
    fn times(&self, phase: &str, client: &'static str) -> Option<f64> {
        Some(self.wait(phase, client, 99.0)? / self.wait("quiet", client, 99.0)?.max(1e-3))
    }

    /// Everything that makes the soak fail.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (life, (_, _, ended)) in (1..).zip(&self.lives) {
            match ended {
                Ended::ByItself { status, phase, .. } => {
                    faults.push(format!("life {life} ended by itself in phase {phase}: {status}"));
                }
                Ended::Stuck => faults.push(format!("life {life} did not end within 30 s of SIGTERM")),
                Ended::Killed | Ended::Drained(_) => {}
            }
        }
        if self.wrong > 0 {
            faults.push(format!("{} wrong answers: {}", self.wrong, self.wrong_words.join("; ")));
        }
        faults.extend(self.lost.iter().cloned());
        if let Some(Err(words)) = &self.census {
            faults.push(words.clone());
        }
        for (number, (life, ..)) in (1..).zip(&self.lives) {
            if let Some(growth) =
                life.growth(self.plan.warm_up()).filter(|growth| growth.is_above(self.plan.growth_mib))
            {
                faults.push(format!(
                    "life {number} grows by {:.0} ± {:.0} MiB an hour ({} quiet phases)",
                    growth.slope, growth.margin, growth.points
                ));
            }
        }
        if self.plan.factor > 0.0 {
            for phase in self.phases.keys().filter(|phase| *phase != "quiet") {
                for client in CLIENTS {
                    if let Some(times) = self.times(phase, client).filter(|times| *times > self.plan.factor) {
                        faults.push(format!(
                            "{phase}: p99 of {client} is {times:.1} times that of quiet phases"
                        ));
                    }
                }
            }
        }
        faults
    }

    fn lives(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "{:>4} {:>8} {:>8} {:>9} {:>9} {:>9}  {:<22} ended",
            "life", "seconds", "ready s", "MiB start", "peak", "last", "MiB/h, quiet phases"
        )?;
        for (number, (life, seconds, ended)) in (1..).zip(&self.lives) {
            let growth = life.growth(self.plan.warm_up()).map_or("too short".to_string(), |growth| {
                format!("{:.0} ± {:.0} of {}", growth.slope, growth.margin, growth.points)
            });
            let how = match ended {
                Ended::Killed => "kill -9".to_string(),
                Ended::ByItself { status, phase, .. } => format!("BY ITSELF in {phase}: {status}"),
                Ended::Drained(time) => format!("SIGTERM, drained in {:.1} s", time.as_secs_f64()),
                Ended::Stuck => "SIGTERM, DOES NOT END".to_string(),
            };
            let mib = |bytes: u64| bytes as f64 / MIB;
            writeln!(
                out,
                "{number:>4} {seconds:>8.0} {:>8.1} {:>9.0} {:>9.0} {:>9.0}  {growth:<22} {how}",
                life.ready.as_secs_f64(),
                mib(life.at_start),
                mib(life.peak),
                mib(life.last)
            )?;
            if let Ended::ByItself { words, .. } = ended {
                let lines: Vec<&str> = words.lines().collect();
                let reason = lines.iter().position(|line| REASONS.iter().any(|word| line.contains(word)));
                let from = reason.unwrap_or(lines.len().saturating_sub(LAST_LINES));
                for line in lines[from..].iter().take(LAST_LINES) {
                    writeln!(out, "       | {}", line.chars().take(200).collect::<String>())?;
                }
            }
        }
        Ok(())
    }

    fn waits(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:<12} {:>5}", "phase", "s")?;
        CLIENTS.iter().try_for_each(|client| write!(out, "  {client:>9} p50/p99/max ms  (x)"))?;
        writeln!(out, "  machine p50/p99/max ms  MiB left")?;
        let others = self.phases.keys().filter(|phase| *phase != "quiet");
        for phase in self.phases.keys().filter(|phase| *phase == "quiet").chain(others) {
            let seconds = self.phases[phase].as_secs_f64();
            write!(out, "{phase:<12} {seconds:>5.0}")?;
            for client in CLIENTS {
                let at = |percent| {
                    self.wait(phase, client, percent).map_or("-".to_string(), |ms| format!("{ms:.1}"))
                };
                let times = self.times(phase, client).map_or("-".to_string(), |times| format!("{times:.1}"));
                write!(out, "  {:>22} {times:>7}", format!("{}/{}/{}", at(50.0), at(99.0), at(100.0)))?;
            }
            let late = [50.0, 99.0, 100.0].map(|percent| {
                self.wait(phase, MACHINE, percent).map_or("-".to_string(), |ms| format!("{ms:.1}"))
            });
            write!(out, "  {:>22}", late.join("/"))?;
            let left = self.left.get(phase).map_or("-".to_string(), |bytes| format!("{:.0}", bytes / MIB));
            writeln!(out, "  {left:>8}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = &self.plan;
        writeln!(
            out,
            "soak of {:.0} s, phases of {:.0} s, seed {}, reactor {}, {} descriptors, {} hashes and {} duplicates",
            plan.seconds,
            plan.phase_seconds,
            plan.seed,
            plan.reactor,
            plan.nofile,
            plan.hashes,
            plan.duplicates
        )?;
        self.lives(out)?;
        self.waits(out)?;
        for (what, count) in &self.counts {
            writeln!(out, "{count:>10} {what}")?;
        }
        writeln!(
            out,
            "{:>10} hits acknowledged, {} faults in the hit log",
            self.acknowledged,
            self.lost.len()
        )?;
        writeln!(out, "{:>10} wrong answers", self.wrong)?;
        if let Some(ms) = self.wait("quiet", CLIENTS[0], 99.0).filter(|ms| *ms > CALM_MS) {
            writeln!(
                out,
                "NOTE frames wait {ms:.0} ms in quiet phases: this machine is busy, what is said of waits is too mild"
            )?;
        }
        if priority::refused() {
            writeln!(
                out,
                "NOTE measured clients may not run before others here (chrt -f): waits hold their wait for a core"
            )?;
        }
        let faults = self.faults();
        for fault in &faults {
            writeln!(out, "FAULT {fault}")?;
        }
        write!(out, "{}", if faults.is_empty() { "passed" } else { "failed" })
    }
}
