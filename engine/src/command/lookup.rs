//! `hashward lookup`: which banked contents match these signals.

use std::process::ExitCode;

use anyhow::{Context, Result};
use ingest::out;
use serde_json::json;

use super::http::{Api, segment};
use crate::cli::Lookup;

/// Asks the server; one JSON line per signal, in order.
pub fn run(args: Lookup) -> Result<ExitCode> {
    if let Some(count) = args.nearest {
        anyhow::ensure!(
            args.signal_type == "pdq",
            "--nearest is for --signal-type pdq: a digest is equal or not"
        );
        let api = Api::new(&args.server.admin);
        for signal in &args.signals {
            out!("{}", api.get(&format!("/api/v1/nearest?k={count}&signal={}", segment(signal)))?);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let body =
        json!({ "signal_type": args.signal_type, "signals": args.signals, "threshold": args.threshold });
    let answer = Api::new(&args.server.admin).post("/api/v1/lookup", &body)?;
    for result in answer["results"].as_array().context("the server's answer has no results")? {
        out!("{result}");
    }
    Ok(ExitCode::SUCCESS)
}
