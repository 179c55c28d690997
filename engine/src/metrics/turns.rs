//! Who waits on the admin port.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Kind, Sample};

/// Requests that wait for a turn, and answers that nobody read on; shown by `/metrics`.
#[derive(Debug, Default)]
pub struct TurnCounts {
    /// People that wait for a CPU.
    pub people: AtomicU64,
    /// Machines that wait for a CPU.
    pub machines: AtomicU64,
    /// Scans that wait for memory.
    pub scans: AtomicU64,
    /// Censuses that wait for the one under way.
    pub censuses: AtomicU64,
    /// Connections of the admin port since start whose answers were not read in time.
    pub stalled: AtomicU64,
    /// Connections of the admin port since start whose clients were gone before their answers ended.
    pub gone: AtomicU64,
}

/// Returns their samples.
pub(super) fn samples(turns: &TurnCounts) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut add = |name, help, kind, rows| samples.push(Sample { name, help, kind, rows });
    let read = |value: &AtomicU64| value.load(Ordering::Relaxed) as f64;
    let waiting = [
        ("people", &turns.people),
        ("machines", &turns.machines),
        ("scans", &turns.scans),
        ("censuses", &turns.censuses),
    ];
    add(
        "hashward_turns_waiting",
        "Requests that wait for a CPU, scans for memory, or a census for the one before it",
        Kind::Gauge,
        waiting.map(|(pool, count)| (vec![("pool", pool.to_string())], read(count))).into(),
    );
    add(
        "hashward_answers_stalled",
        "Connections of the admin port since start that did not read their answers in time",
        Kind::Counter,
        vec![(Vec::new(), read(&turns.stalled))],
    );
    add(
        "hashward_clients_gone",
        "Connections of the admin port since start whose clients were gone before their answers ended",
        Kind::Counter,
        vec![(Vec::new(), read(&turns.gone))],
    );
    samples
}
