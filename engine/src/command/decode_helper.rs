//! `hashward decode-helper`: what the server starts to decode files. Not for people, but for `--check`, which says
//! what of the cage this system has.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::{ExitCode, Stdio};

use anyhow::{Result, anyhow, bail};
use ingest::media::cage::{Enforcement, Launcher, probe, run_helper, run_program};
use ingest::{out, stdout};
use serde_json::json;

use crate::cli::DecodeHelper;

/// Decodes what comes by stdin, becomes another program, or tries its own cage.
pub fn run(args: DecodeHelper) -> Result<ExitCode> {
    let enforcement = if args.partial { Enforcement::Partial } else { Enforcement::Full };
    if args.check {
        return check(enforcement);
    }
    if args.probe {
        return try_all(enforcement);
    }
    let Some((program, arguments)) = args.program.split_first() else {
        run_helper(enforcement)?;
        return Ok(ExitCode::SUCCESS);
    };
    let arguments: Vec<OsString> = arguments.to_vec();
    let Err(words) = run_program(enforcement, args.cpu_seconds, program.as_ref(), &arguments);
    Err(anyhow!(words))
}

/// Says what a helper could still do; fails if that is anything.
fn check(enforcement: Enforcement) -> Result<ExitCode> {
    // Another process tries it: one that is confined cannot write to the file that stdout may be.
    let launcher = Launcher { enforcement, ..Launcher::default() };
    let tried = launcher.command().arg("--probe").stdin(Stdio::null()).output()?;
    stdout::text(format_args!("{}", String::from_utf8_lossy(&tried.stdout)));
    let _ = io::stderr().write_all(&tried.stderr); // there is nobody else to tell
    Ok(if tried.status.success() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Tries everything that a helper must not do.
fn try_all(enforcement: Enforcement) -> Result<ExitCode> {
    let (missing, probes) = probe(enforcement).map_err(|words| anyhow!(words))?;
    missing.iter().for_each(|words| out!("{}", json!({ "missing": words })));
    for probe in &probes {
        out!("{}", json!({ "tried": probe.tried, "refused": probe.refused }));
    }
    match probes.iter().filter(|probe| probe.refused.is_none()).count() {
        0 => Ok(ExitCode::SUCCESS),
        allowed => bail!("a decoder could do {allowed} things that it must not"),
    }
}
