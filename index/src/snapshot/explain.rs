//! How a search goes about it: what the planner chose for each segment, what that is expected to cost, and what
//! it costs when measured.

use std::time::Instant;

use serde::Serialize;

use super::PdqSnapshot;
use crate::mih::cost::Costs;
use crate::mih::{Cut, Scratch};
use crate::segment::Segment;
use crate::signal::{Distance, Hash256};

/// Queries of a measurement, in batches of [`BATCH`].
const QUERIES: usize = 1024;
const BATCH: usize = 64;

/// How one segment is searched.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SegmentPlan {
    /// Signals in it, removed ones included.
    pub signals: usize,
    /// Bytes of memory it holds.
    pub bytes: usize,
    /// Whether a restart finds it stored.
    pub stored: bool,
    /// `flat`, or how hashes are cut: `narrow` (32 chunks of 8 bits), `wide` (16 of 16 bits).
    pub shape: &'static str,
    /// Cache lines of a bucket.
    pub bucket_lines: usize,
    /// Buckets that outgrew their lines.
    pub crowded_buckets: usize,
    /// Whether it has no tables although it is so large that it should.
    pub lacks_tables: bool,
    /// Whether a search at this threshold reads everything.
    pub reads_all: bool,
    /// Buckets a search probes.
    pub probes: usize,
    /// Bits a probed bucket may differ from the query's, by chunk; -1 leaves a chunk out.
    pub radii: Vec<i8>,
    /// Nanoseconds a query is expected to take.
    pub predicted_ns: f32,
    /// Nanoseconds a random query took, if it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured_ns: Option<f32>,
    /// What each way to build it was expected to cost a query at the usual threshold, in nanoseconds.
    pub options: Vec<ShapeOption>,
}

/// A way to build a segment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShapeOption {
    /// `flat`, `narrow` or `wide`.
    pub shape: &'static str,
    /// Nanoseconds a query is expected to take.
    pub predicted_ns: f32,
}

impl PdqSnapshot {
    /// The plans of all segments at this threshold, oldest first; with `measure` each is searched for random
    /// hashes, which takes some milliseconds.
    pub fn explain(&self, threshold: Distance, measure: bool) -> Vec<SegmentPlan> {
        self.segments.iter().map(|segment| explain(segment, threshold, measure)).collect()
    }
}

fn explain(segment: &Segment<Hash256>, threshold: Distance, measure: bool) -> SegmentPlan {
    let costs = Costs::current();
    let (signals, tables) = (segment.len(), segment.tables());
    let (plan, predicted_ns) = match tables {
        Some(tables) => costs.expected(tables, signals, threshold),
        None => (None, costs.flat(signals)),
    };
    let options = costs.options(signals).into_iter();
    SegmentPlan {
        signals,
        bytes: segment.bytes(),
        stored: segment.stored().is_some(),
        shape: name(tables.map(|tables| tables.shape().cut())),
        bucket_lines: tables.map_or(0, |tables| tables.shape().width()),
        crowded_buckets: tables.map_or(0, |tables| tables.crowded()),
        lacks_tables: tables.is_none() && costs.choose(signals).is_some(),
        reads_all: plan.is_none(),
        probes: plan.as_ref().map_or(0, |plan| plan.probes()),
        radii: plan.iter().flat_map(|plan| plan.radii()).collect(),
        predicted_ns,
        measured_ns: measure.then(|| measured(segment, threshold)),
        options: options.map(|(cut, predicted_ns)| ShapeOption { shape: name(cut), predicted_ns }).collect(),
    }
}

fn name(cut: Option<Cut>) -> &'static str {
    match cut {
        None => "flat",
        Some(Cut::Narrow) => "narrow",
        Some(Cut::Wide) => "wide",
    }
}

/// The median over batches, after one that is not counted.
fn measured(segment: &Segment<Hash256>, threshold: Distance) -> f32 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut word = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state ^ state >> 33).to_le_bytes()
    };
    let mut hash = || {
        let mut bytes = [0; 32];
        bytes.chunks_exact_mut(8).for_each(|eight| eight.copy_from_slice(&word()));
        Hash256(bytes)
    };
    let queries: Vec<Hash256> = (0..QUERIES).map(|_| hash()).collect();
    let mut scratch = Scratch::default();
    let mut times: Vec<f32> = Vec::with_capacity(QUERIES / BATCH);
    for batch in queries.chunks(BATCH) {
        let begun = Instant::now();
        segment.search(batch, threshold, &mut scratch, |_, _, _| {});
        times.push(begun.elapsed().as_nanos() as f32 / batch.len() as f32);
    }
    let times = &mut times[1..];
    times.sort_by(f32::total_cmp);
    times[times.len() / 2]
}
