//! `hashward-loadtest`: fill a bank, then load the binary port and check every answer.

mod driver;
mod plan;
mod report;
mod seed;
mod truth;
mod workload;

use std::process::ExitCode;

use clap::Parser;

use plan::{Cli, Verb};

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Seed(seed) => seed::run(&seed).map(|()| true),
        Verb::Run(run) => driver::run(&run).and_then(|result| report::write(&run, &result)),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("hashward-loadtest: {error:#}");
            ExitCode::from(2)
        }
    }
}
