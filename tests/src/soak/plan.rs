//! The command line of the soak.

use std::time::Duration;

use clap::Parser;

use super::Kind;

/// Loads a server with well-behaved and hostile clients, kills it now and then, and judges what it did.
#[derive(Clone, Debug, Parser)]
#[command(name = "hashward-soak", version)]
pub struct Plan {
    /// Seconds in all
    #[arg(long, env = "SOAK_SECONDS", default_value_t = 1800.0)]
    pub seconds: f64,
    /// Seconds of each phase, quiet or hostile
    #[arg(long, default_value_t = 20.0)]
    pub phase_seconds: f64,
    /// Mean seconds from a start to the next kill -9, in the first half of the run; 0 never kills
    #[arg(long, default_value_t = 120.0)]
    pub kill_seconds: f64,
    /// Only these kinds of hostile client, with commas between; `none` leaves well-behaved clients alone
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Kind>,
    /// Not these kinds
    #[arg(long, value_enum, value_delimiter = ',')]
    pub except: Vec<Kind>,
    /// Seed of every random choice
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The server's reactor
    #[arg(long, default_value = "auto")]
    pub reactor: String,
    /// The server's soft limit of file descriptors
    #[arg(long, default_value_t = 1024)]
    pub nofile: u64,
    /// A further setting of the server, as NAME=VALUE
    #[arg(long, value_name = "NAME=VALUE")]
    pub server_flag: Vec<String>,
    /// PDQ hashes of the uniform bank
    #[arg(long, default_value_t = 100_000)]
    pub hashes: u64,
    /// Contents with one and the same hash
    #[arg(long, default_value_t = 20_000)]
    pub duplicates: u64,
    /// How many times the quiet p99 a well-behaved client may wait in hostile phases; 0 judges no times
    #[arg(long, default_value_t = 3.0)]
    pub factor: f64,
    /// The census, which reads every row of the cases, is asked for every so many seconds; 0 never before the end
    #[arg(long, default_value_t = 10)]
    pub census_seconds: usize,
    /// Growth of memory that is taken for noise, in MiB an hour
    #[arg(long, default_value_t = 16.0)]
    pub growth_mib: f64,
    /// Say each phase and each end as it comes
    #[arg(long)]
    pub verbose: bool,
}

impl Plan {
    /// Time in all.
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.clamp(1.0, 7.0 * 86_400.0))
    }

    /// Time of a phase.
    pub fn phase(&self) -> Duration {
        Duration::from_secs_f64(self.phase_seconds.clamp(1.0, 3600.0))
    }

    /// Quiet phases of a life whose memory still warms up: every kind works once meanwhile.
    pub fn warm_up(&self) -> usize {
        self.kinds().len().max(2)
    }

    /// The kinds of hostile client that take part.
    pub fn kinds(&self) -> Vec<Kind> {
        let asked = |kind: &Kind| self.only.is_empty() || self.only.contains(kind);
        let kinds = Kind::ALL.into_iter().filter(asked);
        kinds.filter(|kind| !self.except.contains(kind) && *kind != Kind::None).collect()
    }
}
