//! `hashward-peers`: what `benches/peers/run.py` drives. Each measured thing is a process of its own.
#![warn(clippy::print_stderr, clippy::print_stdout)] // `ingest::stdout` writes, without a panic

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use benches::contender::follow;
use benches::data::{Dataset, make};
use benches::nearest;
use benches::ours::Ours;
use benches::roofline::Roofline;
use benches::{cage, churn};
use clap::Parser;
use index::Kernel;
use ingest::media::cage::{Enforcement, run_helper};
use ingest::{note, out};

/// Our side of `make bench-peers`.
#[derive(Debug, Parser)]
#[command(version, about)]
enum Verb {
    /// Make a bank with its questions and their right answers, unless they are there
    Make {
        /// What the bank is like
        #[arg(long)]
        dataset: Dataset,
        /// Hashes in it
        #[arg(long)]
        n: usize,
        /// Folder to write
        #[arg(long)]
        dir: PathBuf,
        /// Folder with data/pdq of real pictures
        #[arg(long, env = "HASHWARD_SHARED", default_value = "../shared")]
        shared: PathBuf,
    },
    /// Build our index of a folder, then answer commands: go S, misses S, poisson S, constant S, bulk, check, singles
    Ours {
        /// Folder that `make` wrote
        #[arg(long)]
        dir: PathBuf,
    },
    /// Map 256 MiB, then answer: go S
    Roofline,
    /// Lookups while signals are added and merged, against idle: one JSON object
    Churn {
        /// Signals in the bank
        #[arg(long, default_value_t = 1_000_000)]
        n: usize,
        /// Signals added a second
        #[arg(long, default_value_t = 1000)]
        per_second: usize,
        /// Seconds, idle and again while adding
        #[arg(long, default_value_t = 20.0)]
        seconds: f64,
    },
    /// The nearest of all: by looking at everything, and by a graph. One JSON object a line
    Nearest {
        /// Points; a graph takes about a millisecond each to build
        #[arg(long, value_delimiter = ',', default_value = "10000")]
        n: Vec<usize>,
    },
    /// Pictures hashed in a decoder's cage and in this process, in turn: one JSON object
    Cage {
        /// The picture; the target is one of 1600 x 1004 pixels at 1.05 times the cost or less
        #[arg(long)]
        picture: PathBuf,
        /// How often each way
        #[arg(long, default_value_t = 300)]
        rounds: usize,
    },
    /// The helper of that
    #[command(hide = true)]
    DecodeHelper,
    /// The kernels this CPU has, best first
    Kernels,
}

fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Make { dataset, n, dir, shared } => {
            let meta = make(dataset, n, &dir, &shared)?;
            out!("{}", serde_json::to_string(&meta)?);
        }
        Verb::Ours { dir } => {
            let (mut ours, ready) = Ours::load(&dir)?;
            follow(ready, &mut ours)?;
        }
        Verb::Roofline => {
            let (mut roofline, ready) = Roofline::load()?;
            follow(ready, &mut roofline)?;
        }
        Verb::Churn { n, per_second, seconds } => out!("{}", churn::measure(n, per_second, seconds)?),
        Verb::Nearest { n } => nearest::measure(&n, |row| out!("{row}"))?,
        Verb::Cage { picture, rounds } => out!("{}", cage::measure(&picture, rounds)?),
        Verb::DecodeHelper => run_helper(Enforcement::Full)?,
        Verb::Kernels => Kernel::available().for_each(|kernel| out!("{}", kernel.name())),
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(Verb::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note!("hashward-peers: {error:#}");
            ExitCode::from(2)
        }
    }
}
