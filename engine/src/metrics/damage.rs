//! Samples of what does not read as it was written.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Kind, Sample};
use crate::damage::Damage;

/// What of the databases does not read.
pub(super) fn samples(damage: &Damage) -> [Sample; 4] {
    let read = |value: &AtomicU64| value.load(Ordering::Relaxed) as f64;
    let sample = |name, help, kind, value| Sample { name, help, kind, rows: vec![(Vec::new(), value)] };
    [
        sample(
            "hashward_damage_met",
            "Reads since start that met something that is not as it was written",
            Kind::Counter,
            read(&damage.met),
        ),
        sample(
            "hashward_damaged_parts",
            "Rows and blocks that the last pass over everything could not read",
            Kind::Gauge,
            damage.parts() as f64,
        ),
        sample(
            "hashward_scrub_rows",
            "Rows that the last pass over everything read",
            Kind::Gauge,
            read(&damage.rows),
        ),
        sample(
            "hashward_scrub_last_seconds",
            "When the last pass over everything ended, in seconds since 1970 (UTC); 0 before the first",
            Kind::Gauge,
            read(&damage.last_pass_ms) / 1000.0,
        ),
    ]
}
