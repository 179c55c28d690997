//! Samples of the machine: its clock, the log, and the memory and CPUs that this process may use.

use super::{Kind, Metrics, Sample};
use crate::cgroup::Allowance;
use crate::clock::clock;
use crate::logging;

/// All of them.
pub(super) fn samples(metrics: &Metrics) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut add = |name, help, kind, rows| samples.push(Sample { name, help, kind, rows });
    let one = |value: f64| vec![(Vec::new(), value)];
    let state = clock().state();
    for (name, help, kind, value) in [
        (
            "hashward_clock_in_doubt",
            "1 while nothing is deleted because of its age",
            Kind::Gauge,
            f64::from(u8::from(state.doubt.is_some())),
        ),
        (
            "hashward_clock_ahead_seconds",
            "How far the wall clock is ahead of the time that is used",
            Kind::Gauge,
            state.wall_ms as f64 / 1000.0 - state.now_ms as f64 / 1000.0,
        ),
        (
            "hashward_clock_jumps",
            "Jumps of the wall clock since start",
            Kind::Counter,
            clock().jumps() as f64,
        ),
        (
            "hashward_log_lines_dropped",
            "Log lines since start that stderr did not take, or not fast enough",
            Kind::Counter,
            logging::dropped() as f64,
        ),
    ] {
        add(name, help, kind, one(value));
    }
    let Allowance { memory, cpus } = &metrics.allowance;
    if let Some(memory) = memory {
        add(
            "hashward_memory_limit_bytes",
            "Memory that this process may use, and who says so",
            Kind::Gauge,
            vec![(vec![("source", memory.source.clone())], memory.limit as f64)],
        );
    }
    if let Some(bytes) = metrics.tables_bytes_max {
        add(
            "hashward_index_bytes_max",
            "Memory that the tables may take, merges included",
            Kind::Gauge,
            one(bytes as f64),
        );
    }
    if let Some(cpus) = cpus {
        add(
            "hashward_cpu_quota",
            "CPUs' worth of time that this process may use, and who says so",
            Kind::Gauge,
            vec![(vec![("source", cpus.source.clone())], cpus.limit)],
        );
    }
    if let Some(bytes) = resident_bytes() {
        add("process_resident_memory_bytes", "Resident memory", Kind::Gauge, one(bytes as f64));
    }
    samples
}

/// Resident memory of this process, from `/proc/self/statm`; `None` where there is none.
pub fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
