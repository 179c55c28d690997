//! The stamp in a data directory: where our time was, so that the next process goes on from there. Written beside, synced,
//! renamed; its folder is synced.

use std::fs::File;
use std::io;
use std::path::Path;

use index::store::whole_file::{Readers, replace_file};
use serde::{Deserialize, Serialize};

use super::timeline::{Event, Reading, Timeline};

/// How often it is written.
pub const EVERY_MS: u64 = 60_000;
const FILE: &str = "clock";
const VERSION: u32 = 1;
/// A stamp is a few hundred bytes.
const BYTES_MAX: u64 = 4096;

/// What is kept.
#[derive(Debug, Serialize, Deserialize)]
pub struct Stamp {
    version: u32,
    /// Which start of the machine it is of.
    boot_id: String,
    /// Our time when it was written.
    stamped_ms: u64,
    timeline: Timeline,
}

impl Stamp {
    /// Our time as it is now.
    pub fn of(timeline: &Timeline, now: Reading, boot_id: String) -> Self {
        let stamped_ms = timeline.at(now.boot_ms);
        Self { version: VERSION, boot_id, stamped_ms, timeline: timeline.clone() }
    }

    /// Reads what is there, if anything is.
    pub fn read(folder: &Path) -> io::Result<Option<Self>> {
        let text = match File::open(folder.join(FILE)) {
            Ok(file) => io::read_to_string(io::Read::take(file, BYTES_MAX))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let stamp: Self = serde_json::from_str(&text)?;
        match stamp.version {
            VERSION => Ok(Some(stamp)),
            other => Err(io::Error::other(format!("version {other} is unknown"))),
        }
    }

    /// Our time from now on.
    pub fn resume(self, now: Reading, boot_id: &str) -> (Timeline, Option<Event>) {
        let Self { boot_id: stamped, stamped_ms, mut timeline, .. } = self;
        if boot_id.is_empty() || boot_id != stamped || !timeline.is_before(now) {
            return timeline.after_boot(stamped_ms, now);
        }
        let event = timeline.observe(now);
        (timeline, event)
    }

    /// Writes it, whole or not at all; durable when this returns.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        replace_file(&folder.join(FILE), &serde_json::to_vec(self)?, Readers::Umask)
    }
}
