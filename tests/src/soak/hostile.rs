//! Hostile clients. Each kind works for one phase, is bounded in what it opens, and lets go of everything at its end.

mod frames;
mod sockets;

use std::thread;
use std::time::{Duration, Instant};

pub use frames::Unread;

use clap::ValueEnum;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::stage::{Place, Stage};
use super::{Plan, priority};

/// Kinds of hostile client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Frames of 4 096 copies of the hash that has very many contents
    Copies,
    /// Lookups with the widest threshold there is
    Threshold,
    /// Bulk scans of hashes that match, whose answers nobody reads
    Scans,
    /// Bulk scans of copies of the hash that has very many contents
    ScanCopies,
    /// Connections to both ports that say nothing
    Idle,
    /// Connections that say Hello and nothing more
    Hogs,
    /// Very many connections at once, opened and closed again and again
    Connects,
    /// One connection after another to both ports, closed at once behind a few bytes that are no protocol
    Churn,
    /// Hello and HTTP requests, a byte at a time
    Drip,
    /// Pipelines of frames with long answers that nobody reads
    Pipeline,
    /// HTTP bodies that stop in the middle
    Bodies,
    /// More one-hit Submits on one connection than a counter of 15 bits holds, while nobody else connects
    Submits,
    /// More lookups than the server can answer, whatever comes back
    Overload,
    /// Bytes that are no protocol
    Garbage,
    /// No hostile client at all
    None,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 15] = [
        Kind::Copies,
        Kind::Threshold,
        Kind::Scans,
        Kind::ScanCopies,
        Kind::Idle,
        Kind::Hogs,
        Kind::Connects,
        Kind::Churn,
        Kind::Drip,
        Kind::Pipeline,
        Kind::Bodies,
        Kind::Submits,
        Kind::Overload,
        Kind::Garbage,
        Kind::None,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Copies => "copies",
            Kind::Threshold => "threshold",
            Kind::Scans => "scans",
            Kind::ScanCopies => "scan-copies",
            Kind::Idle => "idle",
            Kind::Hogs => "hogs",
            Kind::Connects => "connects",
            Kind::Churn => "churn",
            Kind::Drip => "drip",
            Kind::Pipeline => "pipeline",
            Kind::Bodies => "bodies",
            Kind::Submits => "submits",
            Kind::Overload => "overload",
            Kind::Garbage => "garbage",
            Kind::None => "none",
        }
    }
}

/// What a hostile client works with.
pub struct Scene<'s> {
    stage: &'s Stage,
    plan: &'s Plan,
    place: Place,
    until: Instant,
    random: ChaCha8Rng,
}

impl Scene<'_> {
    /// Whether its phase and the server it works on last.
    fn goes_on(&self) -> bool {
        Instant::now() < self.until && !self.stage.over() && self.stage.lives(&self.place)
    }

    /// Sleeps so long, or until it is over.
    fn nap(&self, time: Duration) {
        let then = (Instant::now() + time).min(self.until);
        while self.goes_on() && Instant::now() < then {
            thread::sleep((then - Instant::now()).min(Duration::from_millis(50)));
        }
    }
}

/// Runs one kind until the phase ends, on each server that there is meanwhile.
pub fn run(kind: Kind, stage: &Stage, plan: &Plan, until: Instant, seed: u64) {
    let act = match kind {
        Kind::Copies => frames::copies,
        Kind::Threshold => frames::threshold,
        Kind::Submits => frames::submits,
        Kind::Overload => frames::overload,
        Kind::Pipeline => frames::unread,
        Kind::Hogs => sockets::hogs,
        Kind::Idle => sockets::idle,
        Kind::Connects => sockets::connects,
        Kind::Churn => sockets::churn,
        Kind::Drip => sockets::drip,
        Kind::Bodies => sockets::bodies,
        Kind::Scans => sockets::scans,
        Kind::ScanCopies => sockets::scan_copies,
        Kind::Garbage => sockets::garbage,
        Kind::None => return,
    };
    priority::last();
    while Instant::now() < until && !stage.over() {
        if let Some(place) = stage.now() {
            act(&mut Scene { stage, plan, place, until, random: ChaCha8Rng::seed_from_u64(seed) });
        }
        thread::sleep(Duration::from_millis(50));
    }
}
