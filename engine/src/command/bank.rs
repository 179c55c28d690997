//! `hashward bank`: banks of a running server.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::process::ExitCode;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ingest::stdout::Out;
use ingest::{note, out};
use serde_json::{Value, json};

use super::http::{Api, segment};
use crate::cli::{BankArgs, BankVerb, Import};

/// Runs the verb.
pub fn run(args: BankArgs) -> Result<ExitCode> {
    let api = Api::new(&args.server.admin);
    match args.verb {
        BankVerb::Create { name } => print(&api.post("/api/v1/banks", &json!({ "name": name }))?),
        BankVerb::List => list(&api)?,
        BankVerb::Show { name } => print(&api.get(&format!("/api/v1/banks/{}", segment(&name)))?),
        BankVerb::Delete { name } => print(&api.delete(&format!("/api/v1/banks/{}", segment(&name)))?),
        BankVerb::Import(args) => return import(&api, args),
        BankVerb::Export { name, restricted } => {
            let path = format!("/api/v1/banks/{}/export?restricted={restricted}", segment(&name));
            let mut response = api.open(&path)?;
            io::copy(&mut response.body_mut().as_reader(), &mut Out)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(answer: &Value) {
    out!("{answer}");
}

fn list(api: &Api) -> Result<()> {
    let banks = api.get("/api/v1/banks")?;
    for bank in banks.as_array().context("the server's answer is not a list")? {
        print(bank);
    }
    Ok(())
}

fn import(api: &Api, args: Import) -> Result<ExitCode> {
    let (input, length): (Box<dyn Read>, Option<u64>) = if args.file.as_os_str() == "-" {
        (Box::new(io::stdin()), None)
    } else {
        let file = File::open(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
        let length = file.metadata()?.len();
        (Box::new(file), Some(length))
    };
    let bar = progress(length);
    let mut path = format!(
        "/api/v1/banks/{}/import?signal_type={}&strict={}",
        segment(&args.name),
        segment(&args.signal_type),
        args.strict
    );
    if let Some(format) = &args.format {
        path.push_str(&format!("&format={}", segment(format)));
    }
    let answer = api.stream(&path, bar.wrap_read(input));
    bar.finish_and_clear();
    let answer = answer?;
    print(&answer);
    // Without --strict a bad line stops nothing, but nobody shall overlook it.
    for line in answer["bad_lines"].as_array().into_iter().flatten() {
        note!("hashward: not imported: {}", line.as_str().unwrap_or(""));
    }
    Ok(ExitCode::SUCCESS)
}

/// A bar on a terminal, silence elsewhere.
fn progress(length: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(length, ProgressDrawTarget::hidden());
    }
    let bar = length.map_or_else(ProgressBar::no_length, ProgressBar::new);
    let style = ProgressStyle::with_template("{bytes} of {total_bytes} {wide_bar} {bytes_per_sec} {eta}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
