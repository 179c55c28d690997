//! The command line: what is asked for.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Load generator for Hashward.
#[derive(Debug, Parser)]
#[command(name = "hashward-loadtest", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Fill a bank with uniform random PDQ hashes
    Seed(Seed),
    /// Load the binary port and check every answer
    Run(Run),
    /// Runs at many rates, or a search for the highest rate within a latency; a JSON list on standard output
    Sweep(Sweep),
    /// Two results of `run --json` side by side
    Compare(Compare),
    /// Send items to the items API and wait until rules have settled all of them
    Items(Items),
    /// Reviewers asking for work at once, while very many jobs are open
    Jobs(Jobs),
}

/// `hashward-loadtest items`
#[derive(Debug, Args)]
pub struct Items {
    /// Admin URL of the server
    #[arg(long, default_value = "http://127.0.0.1:7480")]
    pub admin: String,
    /// Items to send
    #[arg(long, default_value_t = 100_000)]
    pub count: u64,
    /// Items of a request
    #[arg(long, default_value_t = 200)]
    pub batch: usize,
    /// Requests under way at once
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// Live rules
    #[arg(long, default_value_t = 50)]
    pub rules: u64,
    /// A seeded bank
    #[arg(long, default_value = "LOADTEST")]
    pub bank: String,
    /// Its seed
    #[arg(long, default_value_t = 1)]
    pub bank_seed: u64,
    /// How many hashes it has
    #[arg(long, default_value_t = 100_000)]
    pub bank_count: u64,
    /// Share of items that match
    #[arg(long, default_value_t = 0.01)]
    pub hit_ratio: f64,
    /// Seed of the items
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
}

/// `hashward-loadtest jobs`
#[derive(Debug, Args)]
pub struct Jobs {
    /// Admin URL of the server
    #[arg(long, default_value = "http://127.0.0.1:7480")]
    pub admin: String,
    /// Binary port of the server
    #[arg(long, default_value = "127.0.0.1:7400")]
    pub addr: std::net::SocketAddr,
    /// Hits to submit first; 0 if there are jobs already
    #[arg(long, default_value_t = 1_000_000)]
    pub hits: u64,
    /// Hits of each item, and so of each job
    #[arg(long, default_value_t = 10)]
    pub hits_per_job: u64,
    /// Hashes of a Submit
    #[arg(long, default_value_t = 1000)]
    pub batch: usize,
    /// Seed of the bank they match
    #[arg(long, default_value_t = 1)]
    pub bank_seed: u64,
    /// How many hashes it has
    #[arg(long, default_value_t = 100_000)]
    pub bank_count: u64,
    /// The queue
    #[arg(long, default_value = "default")]
    pub queue: String,
    /// Reviewers who ask at once
    #[arg(long, default_value_t = 16)]
    pub reviewers: u64,
    /// Jobs that each takes
    #[arg(long, default_value_t = 100)]
    pub each: u64,
}

/// `hashward-loadtest seed`
#[derive(Debug, Args)]
pub struct Seed {
    /// Admin URL of the server
    #[arg(long, default_value = "http://127.0.0.1:7480")]
    pub admin: String,
    /// Fill a bank of HMA at this URL instead, signal by signal, and wait until its index has them
    #[arg(long, value_name = "URL", conflicts_with = "admin")]
    pub hma: Option<String>,
    /// The bank; made if it does not exist
    #[arg(long)]
    pub bank: String,
    /// Hashes to add: hash i is bytes 32*i.. of ChaCha20 seeded with --seed
    #[arg(long)]
    pub count: u64,
    /// Seed of the hashes
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// `hashward-loadtest run`
#[derive(Clone, Debug, Args)]
pub struct Run {
    /// Drive HMA's HTTP API at this URL instead of the binary port: one hash a request, one request at a time on
    /// each connection
    #[arg(long, value_name = "URL", conflicts_with_all = ["addr", "mode", "depth", "admin"])]
    pub hma: Option<String>,
    /// Binary port of the server
    #[arg(long, default_value = "127.0.0.1:7400")]
    pub addr: String,
    /// Connections, a thread each (two in an open loop)
    #[arg(long, default_value_t = 2)]
    pub connections: usize,
    /// Hashes in a frame
    #[arg(long, default_value_t = 64)]
    pub batch: usize,
    /// Open loop: hashes offered a second, on a schedule that waits for nobody
    #[arg(long, conflicts_with = "closed")]
    pub rate: Option<f64>,
    /// How an open loop's sends are spaced
    #[arg(long, value_enum, default_value_t = Arrivals::Constant)]
    pub arrivals: Arrivals,
    /// Keep the generator on this CPU
    #[arg(long)]
    pub pin: Option<usize>,
    /// Report a run that the generator itself limited, too (else it ends with status 3)
    #[arg(long)]
    pub allow_generator_bound: bool,
    /// Closed loop: each connection keeps --depth frames under way (the default without --rate)
    #[arg(long)]
    pub closed: bool,
    /// Frames under way on a connection of a closed loop
    #[arg(long, default_value_t = 4)]
    pub depth: usize,
    /// Seconds to measure
    #[arg(long, default_value_t = 10.0)]
    pub duration: f64,
    /// Seconds before that, not counted
    #[arg(long, default_value_t = 1.0)]
    pub warmup: f64,
    /// Share of hashes planted within the threshold of a banked one
    #[arg(long, default_value_t = 0.1)]
    pub hit_ratio: f64,
    /// Seed the bank was filled with
    #[arg(long, default_value_t = 1)]
    pub bank_seed: u64,
    /// Hashes the bank was filled with
    #[arg(long, default_value_t = 0)]
    pub bank_count: u64,
    /// lookup, or submit (hits are logged durably)
    #[arg(long, value_enum, default_value_t = Mode::Lookup)]
    pub mode: Mode,
    /// Seed of the queries; another one asks other questions
    #[arg(long, default_value_t = 7)]
    pub query_seed: u64,
    /// Admin URL: the server's memory and number of hashes are read at the end, not at the beginning
    #[arg(long)]
    pub admin: Option<String>,
    /// Write the result as JSON; - is standard output
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Write the result as a page
    #[arg(long)]
    pub html: Option<PathBuf>,
}

/// `hashward-loadtest sweep`
#[derive(Clone, Debug, Args)]
pub struct Sweep {
    /// Lowest rate, hashes a second
    #[arg(long)]
    pub from: f64,
    /// Highest rate
    #[arg(long)]
    pub to: f64,
    /// Runs: spaced evenly in logarithm, or halvings of a search
    #[arg(long, default_value_t = 6)]
    pub steps: u32,
    /// Search for the highest rate whose p99 is within so many microseconds
    #[arg(long)]
    pub p99_us: Option<f64>,
    /// Each run.
    #[command(flatten)]
    pub run: Run,
}

/// `hashward-loadtest compare`
#[derive(Clone, Debug, Args)]
pub struct Compare {
    /// A result
    pub first: PathBuf,
    /// Another
    pub second: PathBuf,
    /// Compare runs of different shape
    #[arg(long)]
    pub anyway: bool,
}

/// How sends are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arrivals {
    /// Evenly.
    Constant,
    /// As independent users: intervals are exponentially distributed.
    Poisson,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Match, and answer.
    Lookup,
    /// Match, log hits, and answer.
    Submit,
}

impl Run {
    /// The plan as it can be run: HMA takes one hash a request, and a connection one request at a time.
    pub fn feasible(self) -> Self {
        if self.hma.is_some() { Self { batch: 1, depth: 1, ..self } } else { self }
    }

    /// Time to measure.
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.duration.clamp(0.1, 86_400.0))
    }

    /// Time before that.
    pub fn warmup(&self) -> Duration {
        Duration::from_secs_f64(self.warmup.clamp(0.0, 3600.0))
    }
}

/// The server's token, where it has one.
pub fn token() -> Option<String> {
    std::env::var("HASHWARD_TOKEN").ok()
}
