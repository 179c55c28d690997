//! `hashward-loadtest`: fill a bank, then load the binary port and check every answer.
#![warn(clippy::print_stderr, clippy::print_stdout)] // `ingest::stdout` writes, without a panic

mod cases;
mod compare;
mod driver;
mod generator;
mod page;
mod plan;
mod report;
mod seed;
mod sweep;
mod tally;

use std::process::ExitCode;

use clap::Parser;
use ingest::note;
use loadtest::{truth, workload};

use plan::{Cli, Verb};
use report::Verdict;

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Seed(seed) => seed::run(&seed).map(|()| Verdict::Right),
        Verb::Run(run) => {
            let run = run.feasible();
            driver::run(&run).and_then(|result| report::write(&run, &result))
        }
        Verb::Sweep(sweep) => sweep::run(&sweep).map(Verdict::of),
        Verb::Items(plan) => cases::items(&plan).map(|()| Verdict::Right),
        Verb::Jobs(plan) => cases::jobs(&plan).map(|()| Verdict::Right),
        Verb::Compare(compare) => compare::run(&compare).map(Verdict::of),
    };
    match outcome {
        Ok(Verdict::Right) => ExitCode::SUCCESS,
        Ok(Verdict::Wrong) => ExitCode::from(1),
        Ok(Verdict::GeneratorBound) => ExitCode::from(3),
        Err(error) => {
            note!("hashward-loadtest: {error:#}");
            ExitCode::from(2)
        }
    }
}
