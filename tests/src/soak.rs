//! A soak: one server, well-behaved clients that check every answer, hostile clients of every kind, and random kills.
//!
//! Quiet phases, in which only well-behaved clients work, alternate with hostile ones, one kind at a time and then all at
//! once. The run fails if the server ends by itself, an answer is wrong, an acknowledged hit is missing, its memory keeps
//! growing from quiet phase to quiet phase, or a well-behaved client waits much longer in hostile phases than in quiet ones.

mod acknowledged;
mod banks;
mod hostile;
mod load;
mod memory;
mod plan;
mod priority;
mod probe;
mod report;
mod stage;

use std::thread;
use std::time::{Duration, Instant};

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use hostile::Kind;
pub use plan::Plan;
pub use report::Report;

use crate::{Server, Setup};
use report::{Ended, Life};
use stage::{Phase, Stage};

/// How often the server is looked at.
const TICK: Duration = Duration::from_millis(250);
/// Time after a start or a hostile phase in which nothing is measured as quiet.
const SETTLING: Duration = Duration::from_secs(3);
/// Time for the server to drain and end after SIGTERM.
const DRAIN_MAX: Duration = Duration::from_secs(30);
/// How many times as long as others a phase is whose kind needs very many answers on one connection.
const CLOSED_TIMES: u32 = 3;
/// Descriptors that the clients may have open at once.
const OWN_DESCRIPTORS: i32 = 16_384;
/// Share of the run in which the server is killed; afterwards one life lasts to the end.
const KILLED_SHARE: f64 = 0.5;

/// Runs a soak.
pub fn run(plan: &Plan) -> Result<Report, String> {
    raise_own_limit();
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let data = folder.path().join("data");
    let server = setup(plan).data(&data).try_start()?;
    let stage = Stage::new(plan.seed);
    banks::seed(&server.http, plan)?;
    let mut soak = Soak {
        plan,
        stage: &stage,
        random: ChaCha8Rng::seed_from_u64(plan.seed),
        data: &data,
        server: None,
        life: Life::default(),
        begun: Instant::now(),
        next_kill: None,
        before: String::new(),
        report: Report::new(plan),
    };
    soak.enter(server, Duration::ZERO);
    thread::scope(|scope| {
        load::start(scope, &stage, plan);
        probe::start(scope, &stage, plan);
        let outcome = soak.phases();
        stage.end();
        outcome
    })?;
    soak.finish()
}

/// The soak opens thousands of connections; the server gets a limit of its own.
fn raise_own_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }); // fewer clients otherwise
    // The kernel enlarges the table of descriptors now. Later, it would stop every thread that opens one for a while.
    let _ = rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), OWN_DESCRIPTORS);
}

fn setup(plan: &Plan) -> Setup {
    let limit = format!("ulimit -Sn {}; exec \"$0\" \"$@\"", plan.nofile);
    let setup = Setup::default().wrapped(&["sh", "-c", &limit]).flag("--reactor", &plan.reactor);
    plan.server_flag.iter().fold(setup, |setup, flag| match flag.split_once('=') {
        Some((name, value)) => setup.flag(&format!("--{name}"), value),
        None => setup.flag(&format!("--{flag}"), "true"),
    })
}

struct Soak<'s> {
    plan: &'s Plan,
    stage: &'s Stage,
    random: ChaCha8Rng,
    data: &'s std::path::Path,
    server: Option<Server>,
    life: Life,
    begun: Instant,
    next_kill: Option<Instant>,
    /// The phase before this one.
    before: String,
    report: Report,
}

impl Soak<'_> {
    fn phases(&mut self) -> Result<(), String> {
        let end = self.begun + self.plan.duration();
        while Instant::now() < end {
            let mut order: Vec<Vec<Kind>> = self.plan.kinds().into_iter().map(|kind| vec![kind]).collect();
            order.shuffle(&mut self.random);
            if order.len() > 1 {
                order.push(self.plan.kinds());
            }
            for kinds in order {
                self.phase(&[], end)?;
                if Instant::now() >= end {
                    return Ok(());
                }
                self.phase(&kinds, end)?;
            }
            self.phase(&[], end)?;
        }
        Ok(())
    }

    /// Lets a phase pass, whatever becomes of the server meanwhile.
    fn phase(&mut self, kinds: &[Kind], end: Instant) -> Result<(), String> {
        let begun = Instant::now();
        let phase = self.stage.begin(Phase::new(kinds, begun + SETTLING));
        let time = self.plan.phase() * if phase.closed { CLOSED_TIMES } else { 1 };
        let until = (begun + time).min(end);
        if self.plan.verbose {
            eprintln!("{:5.0} s  {}", self.begun.elapsed().as_secs_f64(), phase.label);
        }
        let (stage, plan) = (self.stage, self.plan);
        thread::scope(|scope| {
            for (number, kind) in kinds.iter().enumerate() {
                let seed = self.random.random::<u64>() ^ number as u64;
                scope.spawn(move || hostile::run(*kind, stage, plan, until, seed));
            }
            while Instant::now() < until {
                thread::sleep(TICK);
                self.tick(&phase)?;
            }
            Ok::<(), String>(())
        })?;
        self.report.passed(&phase, begun.elapsed());
        if kinds.is_empty() {
            let left = self.life.quiet_ended(self.server.as_ref().and_then(Server::resident));
            self.report.left(&self.before, left);
        }
        self.before.clone_from(&phase.label);
        Ok(())
    }

    fn tick(&mut self, phase: &Phase) -> Result<(), String> {
        let Some(server) = &mut self.server else { return Err("there is no server".to_string()) };
        if let Some(status) = server.ended() {
            thread::sleep(Duration::from_millis(100)); // its last words are still being collected
            let words = server.log();
            return self.again(Ended::ByItself {
                status: status.to_string(),
                phase: phase.label.clone(),
                words,
            });
        }
        self.life.sample(server.resident());
        if self.next_kill.is_some_and(|kill| Instant::now() >= kill) {
            return self.again(Ended::Killed);
        }
        Ok(())
    }

    /// Ends this life, if it has not ended, and begins another in the same folder.
    fn again(&mut self, ended: Ended) -> Result<(), String> {
        self.stage.leave();
        if let Some(server) = self.server.take() {
            drop(server.kill());
        }
        let life = std::mem::take(&mut self.life);
        if let Ended::ByItself { status, phase, .. } = &ended
            && self.plan.verbose
        {
            eprintln!("        the server ended by itself ({status}) in phase {phase}");
        }
        self.report.ended(life, ended);
        let begun = Instant::now();
        let server = setup(self.plan).data(self.data).try_start();
        let server = server.map_err(|words| format!("the server does not start again: {words}"))?;
        self.enter(server, begun.elapsed());
        self.check(false);
        Ok(())
    }

    fn enter(&mut self, server: Server, ready: Duration) {
        self.life = Life::begin(ready, server.resident());
        self.stage.enter(&server, Instant::now() + SETTLING);
        self.server = Some(server);
        let mean = self.plan.kill_seconds;
        let wait = Duration::from_secs_f64(mean * self.random.random_range(0.5..1.5));
        let last = self.begun + self.plan.duration().mul_f64(KILLED_SHARE);
        let at = Instant::now() + wait;
        self.next_kill = (mean > 0.0 && at < last).then_some(at);
    }

    /// Compares the hit log with what was acknowledged.
    fn check(&mut self, all: bool) {
        if let Some(server) = &self.server {
            let lost = self.stage.acknowledged.check(&server.admin, all);
            self.report.lost.extend(lost);
        }
    }

    fn finish(mut self) -> Result<Report, String> {
        self.check(true);
        let mut unread = None;
        if let Some(server) = &self.server {
            self.report.census(load::settled(&server.admin, self.stage));
            if self.plan.kinds().contains(&Kind::Pipeline) {
                unread = Some(hostile::Unread::fill(server.listen, self.plan.seed, self.plan.hashes));
            }
            server.signal(Signal::TERM);
        }
        let begun = Instant::now();
        let ended = loop {
            match self.server.as_mut().and_then(Server::ended) {
                Some(status) if status.success() => break Ended::Drained(begun.elapsed()),
                Some(status) => {
                    let words = self.server.as_ref().map(Server::log).unwrap_or_default();
                    let phase = "SIGTERM".to_string();
                    break Ended::ByItself { status: status.to_string(), phase, words };
                }
                None if begun.elapsed() > DRAIN_MAX => break Ended::Stuck,
                None => thread::sleep(TICK),
            }
        };
        drop(unread);
        self.report.ended(std::mem::take(&mut self.life), ended);
        self.stage.tell(&mut self.report);
        Ok(self.report)
    }
}
