//! What shards count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Kind, Sample};

/// What one shard counts. Only its own thread writes.
#[derive(Debug, Default)]
pub struct ShardCounts {
    /// Connections open now.
    pub connections: AtomicU64,
    /// Frames taken.
    pub frames: AtomicU64,
    /// Hashes looked up.
    pub lookups: AtomicU64,
    /// Hashes that matched.
    pub hits: AtomicU64,
    /// Frames answered Busy.
    pub busy: AtomicU64,
    /// Frames answered with an error.
    pub errors: AtomicU64,
    /// Connections closed for a limit (idle, stalled, half a frame, too many).
    pub closed: AtomicU64,
    /// Connections refused because all places were taken.
    pub refused: AtomicU64,
    /// Frames answered Busy because they had waited for too long; counted in `busy` as well.
    pub shed: AtomicU64,
    /// Bytes of memory that connections hold for frames and answers.
    pub buffer_bytes: AtomicU64,
    /// Nanoseconds spent searching.
    pub search_nanos: AtomicU64,
}

/// Returns the samples of all shards.
pub(super) fn samples(shards: &[Arc<ShardCounts>]) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut add = |name, help, kind, rows| samples.push(Sample { name, help, kind, rows });
    let read = |value: &AtomicU64| value.load(Ordering::Relaxed) as f64;
    type Pick = fn(&ShardCounts) -> &AtomicU64;
    let per_shard: [(&'static str, &'static str, Kind, Pick); 10] = [
        ("hashward_connections", "Connections open", Kind::Gauge, |shard| &shard.connections),
        ("hashward_frames", "Frames taken", Kind::Counter, |shard| &shard.frames),
        ("hashward_lookups", "Hashes looked up", Kind::Counter, |shard| &shard.lookups),
        ("hashward_lookup_hits", "Hashes that matched", Kind::Counter, |shard| &shard.hits),
        ("hashward_busy", "Frames answered Busy", Kind::Counter, |shard| &shard.busy),
        ("hashward_errors", "Frames answered with an error", Kind::Counter, |shard| &shard.errors),
        ("hashward_closed", "Connections closed for a limit", Kind::Counter, |shard| &shard.closed),
        ("hashward_refused", "Connections refused: all places taken", Kind::Counter, |shard| &shard.refused),
        ("hashward_shed", "Frames answered Busy after waiting too long", Kind::Counter, |shard| &shard.shed),
        ("hashward_buffer_bytes", "Memory of connections' buffers", Kind::Gauge, |shard| &shard.buffer_bytes),
    ];
    let label = |at: usize| vec![("shard", at.to_string())];
    for (name, help, kind, pick) in per_shard {
        let rows = shards.iter().enumerate().map(|(at, shard)| (label(at), read(pick(shard)))).collect();
        add(name, help, kind, rows);
    }
    let seconds = shards.iter().enumerate();
    let seconds = seconds.map(|(at, shard)| (label(at), read(&shard.search_nanos) / 1e9)).collect();
    add("hashward_search_seconds", "Time spent searching", Kind::Counter, seconds);
    samples
}
