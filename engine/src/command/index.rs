//! `hashward index explain`: how lookups go about it, and what they cost.

use std::process::ExitCode;

use anyhow::Result;
use ingest::out;
use serde_json::Value;

use super::http::Api;
use crate::cli::IndexVerb;

/// Asks the server.
pub fn run(verb: IndexVerb) -> Result<ExitCode> {
    let IndexVerb::Explain(args) = verb;
    let threshold = args.threshold.map_or_else(String::new, |bits| format!("&threshold={bits}"));
    let path = format!("/api/v1/index/explain?measure={}{threshold}", !args.no_measure);
    let answer = Api::new(&args.server.admin).get(&path)?;
    if args.json {
        out!("{answer}");
        return Ok(ExitCode::SUCCESS);
    }
    let costs = &answer["costs"];
    out!(
        "{} PDQ signals, {} of them not yet in a segment; threshold {}, kernel {}, costs {}",
        answer["signals"],
        answer["unmerged"],
        answer["threshold"],
        text(&costs["kernel"]),
        if costs["measured"] == true { "measured on this machine" } else { "as stored" },
    );
    out!(
        "{:>10}  {:<7} {:>6} {:>7} {:>6}  {:>12} {:>12}  radii",
        "signals",
        "shape",
        "lines",
        "crowded",
        "probes",
        "predicted ns",
        "measured ns"
    );
    for segment in answer["segments"].as_array().into_iter().flatten() {
        out!(
            "{:>10}  {:<7} {:>6} {:>7} {:>6}  {:>12} {:>12}  {}",
            segment["signals"],
            if segment["reads_all"] == true { "flat" } else { text(&segment["shape"]) },
            segment["bucket_lines"],
            segment["crowded_buckets"],
            segment["probes"],
            nanoseconds(&segment["predicted_ns"]),
            nanoseconds(&segment["measured_ns"]),
            radii(&segment["radii"]),
        );
        for option in segment["options"].as_array().into_iter().flatten() {
            out!(
                "{:>12}{:<7} {:>36}",
                "could be ",
                text(&option["shape"]),
                nanoseconds(&option["predicted_ns"])
            );
        }
    }
    out!(
        "a random lookup: {} ns predicted, {} ns measured",
        nanoseconds(&answer["predicted_ns"]),
        nanoseconds(&answer["measured_ns"])
    );
    Ok(ExitCode::SUCCESS)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn nanoseconds(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_string(), |value| format!("{:.0}", value + 0.0))
}

/// Equal neighbours together: `16 × 1`.
fn radii(value: &Value) -> String {
    let all: Vec<i64> = value.as_array().into_iter().flatten().filter_map(Value::as_i64).collect();
    let groups = all.chunk_by(|a, b| a == b);
    groups.map(|group| format!("{} × {}", group.len(), group[0])).collect::<Vec<_>>().join(", ")
}
