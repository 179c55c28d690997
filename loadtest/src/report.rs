//! What was measured, for people and for programs.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};

use crate::driver::Outcome;
use crate::generator;
use crate::plan::Run;
use crate::seed::Api;

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
    duration_s: f64,
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
    let verdicts = &outcome.verdicts;
    let right = verdicts.found == verdicts.expected
        && verdicts.false_hits == 0
        && outcome.errors == 0
        && outcome.answered > 0;
    if let Some(reason) = &report.generator_bound {
        eprintln!("this run was limited by its generator: {reason}");
        if right && !plan.allow_generator_bound {
            eprintln!("nothing is reported; --allow-generator-bound reports it all the same");
            return Ok(Verdict::GeneratorBound);
        }
    }
    let json = serde_json::to_string_pretty(&report)?;
    let to_stdout = plan.json.as_deref() == Some(Path::new("-"));
    if to_stdout {
        println!("{json}");
    } else {
        print!("{}", table(&report));
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
    let micros = |nanos: u64| (nanos as f64 / 100.0).round() / 10.0;
    let at = |quantile: f64| micros(outcome.latency.value_at_quantile(quantile));
    let (hashes, memory) =
        scrape(plan).unwrap_or((json!(outcome.welcome.hashes), json!(outcome.welcome.rss_bytes)));
    Report {
        mode: if plan.rate.is_some() { "open loop" } else { "closed loop" },
        batch: plan.batch,
        connections: plan.connections,
        depth: plan.rate.is_none().then_some(plan.depth),
        hit_ratio: plan.hit_ratio,
        generator_busy: generator::share(outcome.busy_seconds, outcome.seconds, outcome.threads),
        generator_bound: generator::fault(
            outcome.busy_seconds,
            outcome.seconds,
            outcome.threads,
            outcome.late,
            outcome.sent / plan.batch.max(1) as u64,
        ),
        lookups_per_s: outcome.answered as f64 / outcome.seconds,
        frames_per_s: outcome.frames as f64 / outcome.seconds,
        offered_per_s: plan.rate,
        duration_s: outcome.seconds,
        sent: outcome.sent,
        answered: outcome.answered,
        errors: outcome.errors,
        busy: outcome.busy,
        late_sends: outcome.late,
        first_error: outcome.first_error.clone(),
        hits_expected: outcome.verdicts.expected,
        hits_found: outcome.verdicts.found,
        false_hits: outcome.verdicts.false_hits,
        latency_us: json!({
            "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": micros(outcome.latency.max()),
        }),
        server: json!({
            "cores": outcome.welcome.shards,
            "hashes": hashes,
            "rss_bytes": memory,
            "reactor": outcome.welcome.reactor,
            "kernel": outcome.welcome.kernel,
        }),
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

/// A page of its own with the latency curve.
fn page(report: &Report, outcome: &Outcome) -> String {
    let (width, height, left) = (720.0, 320.0, 60.0);
    let top = (outcome.latency.max().max(2) as f64).ln();
    let floor = (outcome.latency.min().max(1) as f64).ln();
    let mut points = String::new();
    // x: nines of the quantile, y: logarithm of the latency.
    for step in 0..=200 {
        let nines = f64::from(step) / 200.0 * 4.0;
        let quantile = 1.0 - 10f64.powf(-nines);
        let value = (outcome.latency.value_at_quantile(quantile).max(1) as f64).ln();
        let (x, y) = (
            left + nines / 4.0 * width,
            height - (value - floor) / (top - floor).max(1e-9) * (height - 20.0),
        );
        let _ = write!(points, "{x:.1},{y:.1} "); // a String takes everything
    }
    let labels: String = ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]
        .iter()
        .enumerate()
        .map(|(at, label)| {
            format!(
                "<text x='{:.0}' y='{:.0}'>{label}</text>",
                left + at as f64 * width / 4.0 - 16.0,
                height + 18.0
            )
        })
        .collect();
    let micros = |value: f64| format!("{:.0} µs", value.exp() / 1000.0);
    format!(
        "<!doctype html><meta charset=utf-8><title>Hashward load test</title>\
         <style>body{{font:15px sans-serif;margin:2em;max-width:60em}}svg{{background:#f6f6f6}}</style>\
         <h1>{:.0} lookups/s</h1><pre>{}</pre>\
         <svg width={} height={}><polyline fill=none stroke='#07c' stroke-width=2 points='{points}'/>{labels}\
         <text x=4 y=20>{}</text><text x=4 y={height}>{}</text></svg>\
         <p>Latency of a frame by quantile; both axes are logarithmic.</p>",
        report.lookups_per_s,
        table(report),
        left + width + 40.0,
        height + 30.0,
        micros(top),
        micros(floor),
    )
}
