//! `hashward-soak`: loads a server with well-behaved and hostile clients for a long time, and judges what it did.

use std::process::ExitCode;

use clap::Parser;
use tests::soak::{Plan, run};

fn main() -> ExitCode {
    let plan = Plan::parse();
    match run(&plan) {
        Ok(report) => {
            println!("{report}");
            if report.faults().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(words) => {
            eprintln!("hashward-soak: {words}");
            ExitCode::from(2)
        }
    }
}
