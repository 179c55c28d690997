//! Searching a segment's tables for a batch of queries.
//!
//! Three queries are under way at a time, so that memory is asked for before it is needed: the offsets of
//! one are being fetched, those of the next are read into runs, and the runs of the first are scanned while
//! records further ahead (into the next query's runs) are fetched.

use super::{OFFSETS, Plan, TABLES, Tables, chunks, signatures};
use crate::kernel::{Kernel, Run, Survivor, prefetch};
use crate::signal::{Distance, Hash256};

/// A candidate costs about this many times a hash of a flat scan: records are half as long, but scattered.
const CANDIDATE_COST: usize = 1;
/// A probe costs as much as so many hashes of a flat scan.
const PROBE_COST: usize = 8;

/// Buffers of a search, reused: a search allocates nothing once they have grown.
#[derive(Debug, Default)]
pub struct Scratch {
    runs: Vec<Run>,
    survivors: Vec<Survivor>,
    /// Places in a block or segment with their distances.
    pub(crate) near: Vec<(u32, Distance)>,
}

/// What one query's offsets said.
#[derive(Clone, Copy, Debug, Default)]
struct Gathered {
    runs: usize,
    candidates: usize,
}

impl Tables {
    /// Calls `found` with (query, slot, distance) for every hash within the threshold. The plan must be one
    /// for this threshold.
    pub fn search(
        &self,
        hashes: &[Hash256],
        queries: &[Hash256],
        threshold: Distance,
        plan: &Plan,
        scratch: &mut Scratch,
        mut found: impl FnMut(usize, u32, Distance),
    ) {
        let kernel = Kernel::current();
        let limit = u32::from(threshold.bits());
        let flat_cost = hashes.len();
        let mut runs = std::mem::take(&mut scratch.runs);
        runs.clear();
        if let Some(first) = queries.first() {
            self.fetch_offsets(first, plan);
        }
        let mut now =
            queries.first().map_or_else(Gathered::default, |first| self.gather(first, plan, &mut runs));
        if let Some(second) = queries.get(1) {
            self.fetch_offsets(second, plan);
        }
        for (at, query) in queries.iter().enumerate() {
            if let Some(later) = queries.get(at + 2) {
                self.fetch_offsets(later, plan);
            }
            let next =
                queries.get(at + 1).map_or_else(Gathered::default, |next| self.gather(next, plan, &mut runs));
            if now.candidates * CANDIDATE_COST + now.runs * PROBE_COST > flat_cost {
                // Crowded buckets: reading everything once is cheaper.
                scratch.near.clear();
                kernel.flat(query, hashes, limit, &mut scratch.near);
                scratch.near.iter().for_each(|(slot, distance)| found(at, *slot, *distance));
            } else {
                scratch.survivors.clear();
                let signatures = signatures(&chunks(query));
                kernel.runs(&signatures, &self.records, &runs, now.runs, limit, &mut scratch.survivors);
                for survivor in &scratch.survivors {
                    prefetch(hashes, survivor.slot as usize);
                }
                for survivor in &scratch.survivors {
                    let hash = &hashes[survivor.slot as usize];
                    let distance = query.distance(hash);
                    if distance <= threshold && is_first(query, hash, plan, survivor.table as usize) {
                        found(at, survivor.slot, distance);
                    }
                }
            }
            runs.drain(..now.runs);
            now = next;
        }
        scratch.runs = runs;
    }

    /// Asks for the offsets a query will read.
    fn fetch_offsets(&self, query: &Hash256, plan: &Plan) {
        for (table, chunk) in chunks(query).into_iter().enumerate() {
            let base = table * OFFSETS;
            // Keys that differ in the low four bits share a line of sixteen offsets.
            if plan.radii[table] >= 0 {
                prefetch(&self.offsets, base + usize::from(chunk));
            }
            if plan.radii[table] >= 1 {
                for bit in 4..16 {
                    prefetch(&self.offsets, base + usize::from(chunk ^ 1 << bit));
                }
            }
        }
    }

    /// Appends the runs of a query's buckets.
    fn gather(&self, query: &Hash256, plan: &Plan, runs: &mut Vec<Run>) -> Gathered {
        let before = runs.len();
        let mut candidates = 0;
        for (table, chunk) in chunks(query).into_iter().enumerate() {
            let offsets = &self.offsets[table * OFFSETS..(table + 1) * OFFSETS];
            Plan::keys(plan.radii[table], chunk, |key| {
                let (first, end) = (offsets[usize::from(key)], offsets[usize::from(key) + 1]);
                if first < end {
                    candidates += (end - first) as usize;
                    runs.push(Run { first, count: end - first, table: table as u32 });
                }
            });
        }
        Gathered { runs: runs.len() - before, candidates }
    }
}

/// A hash is reported from the first table that shows it, so that nobody has to remember the others.
fn is_first(query: &Hash256, hash: &Hash256, plan: &Plan, table: usize) -> bool {
    let (a, b) = (chunks(query), chunks(hash));
    (0..TABLES).find(|at| (a[*at] ^ b[*at]).count_ones() as i32 <= i32::from(plan.radii[*at])) == Some(table)
}
