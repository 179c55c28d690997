//! What was measured, for people and for programs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use ingest::{note, out};
use serde::Serialize;
use serde_json::{Value, json};

use crate::driver::Outcome;
use crate::generator;
use crate::page::{self, Axis, Line, Scale};
use crate::plan::Run;
use crate::seed::Api;
use crate::tally::{SLOTS, Slot};

/// The result as JSON; the fields are part of the contract.
#[derive(Serialize)]
struct Report {
    mode: &'static str,
    batch: usize,
    connections: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    depth: Option<usize>,
    hit_ratio: f64,
    /// Share of the CPUs it could use that the generator used.
    generator_busy: f64,
    /// Why the generator was the bottleneck, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    generator_bound: Option<String>,
    lookups_per_s: f64,
    frames_per_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    offered_per_s: Option<f64>,
    /// From the beginning of the window to the last answer: rates are by this.
    duration_s: f64,
    /// The window as planned.
    planned_s: f64,
    sent: u64,
    answered: u64,
    errors: u64,
    busy: u64,
    late_sends: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_error: Option<String>,
    hits_expected: u64,
    hits_found: u64,
    false_hits: u64,
    latency_us: Value,
    server: Value,
}

/// What a run comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every answer was right.
    Right,
    /// One was not, or there was none.
    Wrong,
    /// Right, but no faster than the generator.
    GeneratorBound,
}

impl Verdict {
    /// Right or not.
    pub fn of(right: bool) -> Self {
        if right { Verdict::Right } else { Verdict::Wrong }
    }
}

/// The result as JSON.
pub fn json(plan: &Run, outcome: &Outcome) -> Result<Value> {
    Ok(serde_json::to_value(report(plan, outcome))?)
}

/// Writes the result wherever it was asked for; says whether every answer was right. The rate of a run that the
/// generator limited is not reported unless asked for: it would be taken for the server's.
pub fn write(plan: &Run, outcome: &Outcome) -> Result<Verdict> {
    let report = report(plan, outcome);
    let tally = &outcome.tally;
    let verdicts = &tally.verdicts;
    let right = verdicts.found == verdicts.expected
        && verdicts.false_hits == 0
        && tally.errors == 0
        && tally.answered > 0;
    if let Some(reason) = &report.generator_bound {
        note!("this run was limited by its generator: {reason}");
        if right && !plan.allow_generator_bound {
            note!("nothing is reported; --allow-generator-bound reports it all the same");
            return Ok(Verdict::GeneratorBound);
        }
    }
    let json = serde_json::to_string_pretty(&report)?;
    let to_stdout = plan.json.as_deref() == Some(Path::new("-"));
    if to_stdout {
        out!("{json}");
    } else {
        ingest::stdout::text(format_args!("{}", table(&report)));
    }
    if let Some(path) = plan.json.as_deref().filter(|_| !to_stdout) {
        fs::write(path, json + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &plan.html {
        fs::write(path, page(&report, outcome))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(Verdict::of(right))
}

fn report(plan: &Run, outcome: &Outcome) -> Report {
    let (tally, seconds, planned) = (&outcome.tally, outcome.seconds, outcome.planned);
    let micros = |nanos: u64| (nanos as f64 / 100.0).round() / 10.0;
    let at = |quantile: f64| micros(tally.latency.value_at_quantile(quantile));
    let mut server = outcome.server.clone();
    if let Some((hashes, memory)) = scrape(plan) {
        server["hashes"] = hashes;
        server["rss_bytes"] = memory;
    }
    let worked = tally.worked.as_secs_f64();
    Report {
        mode: if plan.rate.is_some() { "open loop" } else { "closed loop" },
        batch: plan.batch,
        connections: plan.connections,
        depth: plan.rate.is_none().then_some(plan.depth),
        hit_ratio: plan.hit_ratio,
        generator_busy: generator::share(worked, planned, outcome.threads),
        generator_bound: generator::fault(
            worked,
            planned,
            outcome.threads,
            tally.late,
            tally.sent / plan.batch.max(1) as u64,
        ),
        lookups_per_s: tally.answered as f64 / seconds,
        frames_per_s: tally.frames as f64 / seconds,
        offered_per_s: plan.rate,
        duration_s: seconds,
        planned_s: planned,
        sent: tally.sent,
        answered: tally.answered,
        errors: tally.errors,
        busy: tally.busy,
        late_sends: tally.late,
        first_error: tally.first_error.clone(),
        hits_expected: tally.verdicts.expected,
        hits_found: tally.verdicts.found,
        false_hits: tally.verdicts.false_hits,
        latency_us: json!({
            "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": micros(tally.latency.max()),
        }),
        server,
    }
}

/// Hashes and memory of the server now, from its metrics; without an admin URL its Welcome told them.
fn scrape(plan: &Run) -> Option<(Value, Value)> {
    let text = Api::new(plan.admin.as_deref()?).metrics().ok()?;
    let sum = |name: &str| {
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
    };
    Some((json!(sum("hashward_index_hashes")), json!(sum("process_resident_memory_bytes"))))
}

fn table(report: &Report) -> String {
    let latency = |name: &str| report.latency_us[name].as_f64().unwrap_or(0.0);
    let mut text = String::new();
    let mut line = |words: String| text.push_str(&(words + "\n"));
    line(format!(
        "{:.0} lookups/s ({:.0} frames/s, {})",
        report.lookups_per_s, report.frames_per_s, report.mode
    ));
    line(format!("p50 {:.0} µs, p99 {:.0} µs for a frame", latency("p50"), latency("p99")));
    line(String::new());
    if let Some(offered) = report.offered_per_s {
        line(format!("offered       {offered:.0} lookups/s, {} sends late by over 1 ms", report.late_sends));
    }
    line(format!(
        "latency       p90 {:.0}, p99.9 {:.0}, max {:.0} µs",
        latency("p90"),
        latency("p999"),
        latency("max")
    ));
    line(format!(
        "hashes        {} sent, {} answered in {:.1} s",
        report.sent, report.answered, report.duration_s
    ));
    line(format!(
        "planted hits  {} expected, {} found, {} false",
        report.hits_expected, report.hits_found, report.false_hits
    ));
    line(format!("not answered  {} errors, {} busy", report.errors, report.busy));
    if let Some(error) = &report.first_error {
        line(format!("first error   {error}"));
    }
    line(format!("generator     {:.0} % busy", report.generator_busy * 100.0));
    line(format!("server        {}", report.server));
    text
}

/// A page of its own: figures, latency by quantile, rate and latency over time.
fn page(report: &Report, outcome: &Outcome) -> String {
    let tally = &outcome.tally;
    let micros = |nanos: u64| nanos as f64 / 1000.0;
    // Across: how many nines the quantile has.
    let by_quantile = (0..=200)
        .map(|step| f64::from(step) / 50.0)
        .map(|nines| (nines, micros(tally.latency.value_at_quantile(1.0 - 10f64.powf(-nines)).max(1))));
    let quantiles = Axis {
        marks: ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]
            .iter()
            .enumerate()
            .map(|(nines, label)| (nines as f64, label.to_string()))
            .collect(),
        ..Axis::new("quantile", Scale::Linear)
    };
    let slot_seconds = outcome.planned / SLOTS as f64;
    let over_time = |value: &dyn Fn(&Slot) -> f64| -> Vec<(f64, f64)> {
        tally
            .slots
            .iter()
            .enumerate()
            .map(|(at, slot)| ((at as f64 + 0.5) * slot_seconds, value(slot)))
            .collect()
    };
    let latency = |quantile: f64| {
        over_time(&|slot| match slot.latency.is_empty() {
            true => f64::NAN, // nothing to draw
            false => slot.latency.value_at_quantile(quantile) as f64,
        })
    };
    let seconds = || Axis::new("seconds", Scale::Linear);
    page::page(
        &format!("{:.0} lookups/s", report.lookups_per_s),
        &[
            format!("<pre>{}</pre>", page::escape(&table(report))),
            page::plot(
                "Latency of a frame by quantile",
                &quantiles,
                &Axis::new("µs", Scale::Log),
                &[Line { name: "latency", points: by_quantile.collect() }],
            ),
            page::plot(
                "Lookups a second over time",
                &seconds(),
                &Axis::new("lookups/s", Scale::Linear),
                &[Line { name: "answered", points: over_time(&|slot| slot.answered as f64 / slot_seconds) }],
            ),
            page::plot(
                "Latency over time",
                &seconds(),
                &Axis::new("µs", Scale::Log),
                &[
                    Line { name: "p50", points: latency(0.5) },
                    Line { name: "p99", points: latency(0.99) },
                    Line { name: "max", points: latency(1.0) },
                ],
            ),
        ],
    )
}
