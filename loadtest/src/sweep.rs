//! Many runs: rates from one to another, or a search for the highest rate within a latency.

use std::fs;

use anyhow::{Context, Result, bail};
use ingest::{note, out};

use crate::driver::{self, Outcome};
use crate::page::{self, Axis, Line, Scale};
use crate::plan::{Run, Sweep};
use crate::report;

/// Runs the sweep; says whether every answer of every run was right.
pub fn run(sweep: &Sweep) -> Result<bool> {
    if sweep.run.rate.is_some() || sweep.from <= 0.0 || sweep.to < sweep.from || sweep.steps == 0 {
        bail!("a sweep sets the rate itself: --from is above 0, --to not below it, --steps 1 or more");
    }
    let mut all = Points { plan: sweep.run.clone().feasible(), runs: Vec::new(), right: true };
    match sweep.p99_us {
        None => {
            for step in 0..sweep.steps {
                let share = if sweep.steps == 1 { 0.0 } else { f64::from(step) / f64::from(sweep.steps - 1) };
                all.measure(sweep.from * (sweep.to / sweep.from).powf(share))?;
            }
        }
        Some(target) => all.search(sweep.from, sweep.to, sweep.steps, target)?,
    }
    if let Some(path) = &sweep.run.html {
        fs::write(path, all.page()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    out!("{}", serde_json::to_string_pretty(&serde_json::Value::Array(all.runs))?);
    Ok(all.right)
}

struct Points {
    plan: Run,
    runs: Vec<serde_json::Value>,
    right: bool,
}

impl Points {
    /// One run at this rate; its p99 in microseconds, infinite where it did not keep up.
    fn measure(&mut self, rate: f64) -> Result<f64> {
        let plan = Run { rate: Some(rate), ..self.plan.clone() };
        let outcome = driver::run(&plan)?;
        let p99 =
            keeps_up(&outcome, rate).then(|| outcome.tally.latency.value_at_quantile(0.99) as f64 / 1e3);
        note!(
            "{rate:>12.0}/s offered {:>12.0}/s answered  p99 {}",
            outcome.tally.answered as f64 / outcome.seconds,
            p99.map_or("did not keep up".into(), |p99| format!("{p99:.0} µs")),
        );
        // Overload is what a sweep looks for; a wrong answer is not.
        let verdicts = &outcome.tally.verdicts;
        self.right &= verdicts.false_hits == 0 && verdicts.found == verdicts.expected;
        self.runs.push(report::json(&plan, &outcome)?);
        Ok(p99.unwrap_or(f64::INFINITY))
    }

    /// Halves the distance between a rate that is within the target and one that is not.
    fn search(&mut self, from: f64, to: f64, steps: u32, target: f64) -> Result<()> {
        if self.measure(from)? > target {
            bail!("already {from:.0}/s has a p99 above {target:.0} µs: begin lower");
        }
        let (mut within, mut beyond) = (from, to);
        for _ in 0..steps {
            let middle = (within * beyond).sqrt();
            if self.measure(middle)? <= target { within = middle } else { beyond = middle }
        }
        note!("highest rate with a p99 within {target:.0} µs: {within:.0}/s (not {beyond:.0}/s)");
        Ok(())
    }
}

impl Points {
    /// Latency and what was answered, by what was offered.
    fn page(&self) -> String {
        let mut runs: Vec<&serde_json::Value> = self.runs.iter().collect();
        let number = |value: &serde_json::Value| value.as_f64().unwrap_or(f64::NAN);
        runs.sort_by(|a, b| number(&a["offered_per_s"]).total_cmp(&number(&b["offered_per_s"])));
        let line = |name, value: &dyn Fn(&serde_json::Value) -> f64| Line {
            name,
            points: runs.iter().map(|run| (number(&run["offered_per_s"]), value(run))).collect(),
        };
        let offered = || Axis::new("lookups/s offered", Scale::Log);
        page::page(
            "Latency by rate",
            &[
                page::plot(
                    "Latency of a frame",
                    &offered(),
                    &Axis::new("µs", Scale::Log),
                    &[
                        line("p50", &|run| number(&run["latency_us"]["p50"])),
                        line("p99", &|run| number(&run["latency_us"]["p99"])),
                        line("p99.9", &|run| number(&run["latency_us"]["p999"])),
                    ],
                ),
                page::plot(
                    "Answered",
                    &offered(),
                    &Axis::new("lookups/s", Scale::Log),
                    &[
                        line("answered", &|run| number(&run["lookups_per_s"])),
                        line("offered", &|run| number(&run["offered_per_s"])),
                    ],
                ),
            ],
        )
    }
}

/// Seconds after the end of a run within which the last answers may come, or a fiftieth of the run if that is longer: a
/// server that is paused once has kept up.
const TAIL_MAX: f64 = 0.5;

/// Whether what was offered was answered, and soon enough.
fn keeps_up(outcome: &Outcome, rate: f64) -> bool {
    let tail = outcome.seconds - outcome.planned;
    outcome.tally.errors == 0
        && outcome.tally.answered as f64 / outcome.planned > 0.98 * rate
        && tail <= TAIL_MAX.max(outcome.planned / 50.0)
}
