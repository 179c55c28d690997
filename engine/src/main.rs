//! `hashward`: one binary, a verb each.
#![warn(clippy::print_stderr, clippy::print_stdout)] // `ingest::stdout` writes, without a panic

use std::process::ExitCode;

use clap::Parser;
use engine::cli::{Cli, Verb};
use engine::{boot, command, logging, private};
use ingest::stdout::Unwritten;

fn main() -> ExitCode {
    private::begin();
    let cli = Cli::parse();
    let outcome = match cli.verb {
        Verb::Serve(serve) => boot::serve(*serve),
        Verb::Bank(bank) => command::bank::run(bank),
        Verb::Lookup(lookup) => command::lookup::run(lookup),
        Verb::Index(index) => command::index::run(index.verb),
        Verb::Scan(scan) => command::scan::run(scan),
        Verb::Embeddings(embeddings) => command::embeddings::run(embeddings),
        Verb::Hash(hash) => command::hash::run(hash),
        Verb::Admin(admin) => command::admin::run(admin),
        Verb::Rekey(rekey) => command::rekey::run(rekey),
        Verb::Check(check) => command::check::run(check),
        Verb::Demo(demo) => command::demo::run(demo),
        Verb::DecodeHelper(helper) => command::decode_helper::run(helper),
    };
    match outcome {
        Ok(code) => {
            logging::flush();
            code
        }
        Err(error) => match error.downcast_ref::<Unwritten>() {
            Some(unwritten) => unwritten.told().into(),
            None => {
                logging::say(&format!("hashward: {error:#}"));
                ExitCode::from(2)
            }
        },
    }
}
