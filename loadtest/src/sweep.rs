//! Many runs: rates from one to another, or a search for the highest rate within a latency.

use anyhow::{Result, bail};

use crate::driver::{self, Outcome};
use crate::plan::{Run, Sweep};
use crate::report;

/// Runs the sweep; says whether every answer of every run was right.
pub fn run(sweep: &Sweep) -> Result<bool> {
    if sweep.run.rate.is_some() || sweep.from <= 0.0 || sweep.to < sweep.from || sweep.steps == 0 {
        bail!("a sweep sets the rate itself: --from is above 0, --to not below it, --steps 1 or more");
    }
    let mut all = Points { plan: sweep.run.clone(), runs: Vec::new(), right: true };
    match sweep.p99_us {
        None => {
            for step in 0..sweep.steps {
                let share = if sweep.steps == 1 { 0.0 } else { f64::from(step) / f64::from(sweep.steps - 1) };
                all.measure(sweep.from * (sweep.to / sweep.from).powf(share))?;
            }
        }
        Some(target) => all.search(sweep.from, sweep.to, sweep.steps, target)?,
    }
    println!("{}", serde_json::to_string_pretty(&serde_json::Value::Array(all.runs))?);
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
        let p99 = keeps_up(&outcome, rate).then(|| outcome.latency.value_at_quantile(0.99) as f64 / 1e3);
        eprintln!(
            "{rate:>12.0}/s offered {:>12.0}/s answered  p99 {}",
            outcome.answered as f64 / outcome.seconds,
            p99.map_or("did not keep up".into(), |p99| format!("{p99:.0} µs")),
        );
        // Overload is what a sweep looks for; a wrong answer is not.
        let verdicts = &outcome.verdicts;
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
        eprintln!("highest rate with a p99 within {target:.0} µs: {within:.0}/s (not {beyond:.0}/s)");
        Ok(())
    }
}

/// Whether what was offered was answered.
fn keeps_up(outcome: &Outcome, rate: f64) -> bool {
    outcome.errors == 0 && outcome.answered as f64 / outcome.seconds > 0.98 * rate
}
