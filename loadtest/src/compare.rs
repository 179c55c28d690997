//! Two results side by side.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use ingest::out;
use serde_json::Value;

use crate::plan::Compare;

/// What must be alike for two results to be comparable.
const SHAPE: [&str; 6] = ["mode", "batch", "connections", "depth", "hit_ratio", "offered_per_s"];

/// Prints the ratios; an error where the runs are of different shape.
pub fn run(compare: &Compare) -> Result<bool> {
    let (first, second) = (read(&compare.first)?, read(&compare.second)?);
    let mut differing: Vec<&str> = SHAPE.into_iter().filter(|name| first[*name] != second[*name]).collect();
    if first["server"]["hashes"] != second["server"]["hashes"] {
        differing.push("server.hashes");
    }
    if !differing.is_empty() && !compare.anyway {
        bail!(
            "the runs differ in {}: they are not comparable (--anyway compares them all the same)",
            differing.join(", ")
        );
    }
    out!("{:<14} {:>14} {:>14} {:>8}", "", "first", "second", "ratio");
    for (name, first, second) in [
        ("lookups/s", &first["lookups_per_s"], &second["lookups_per_s"]),
        ("p50 µs", &first["latency_us"]["p50"], &second["latency_us"]["p50"]),
        ("p99 µs", &first["latency_us"]["p99"], &second["latency_us"]["p99"]),
        ("p99.9 µs", &first["latency_us"]["p999"], &second["latency_us"]["p999"]),
        ("memory", &first["server"]["rss_bytes"], &second["server"]["rss_bytes"]),
    ] {
        let (first, second) = (number(name, first)?, number(name, second)?);
        out!("{name:<14} {first:>14.0} {second:>14.0} {:>8.3}", second / first);
    }
    for (name, run) in [("first", &first), ("second", &second)] {
        if run["generator_bound"] != Value::Null {
            out!("the {name} run was limited by its generator: {}", run["generator_bound"]);
        }
        if run["false_hits"] != 0 || run["hits_found"] != run["hits_expected"] {
            out!("the {name} run had wrong answers");
        }
    }
    Ok(true)
}

fn read(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not a result of `run --json`", path.display()))
}

fn number(name: &str, value: &Value) -> Result<f64> {
    value.as_f64().with_context(|| format!("a result has no {name}: it is not one of `run --json`"))
}
