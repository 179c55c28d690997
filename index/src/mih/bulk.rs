//! Searching for very many queries at once: the queries are brought to the buckets, not the buckets to the queries.
//!
//! Table by table the queries are sorted by their bucket. Then each bucket is read once, in order, and its lines
//! are compared with the signatures of all queries that would have probed it; those of one probe lie together.
//! Memory is streamed instead of hit at random, and a bucket's lines stay in registers.

use super::{Cut, Plan, Tables};
use crate::kernel::{Bucket, Kernel, LANES, Near, SPILLED, Sweep, prefetch};
use crate::signal::{Distance, Hash256};

/// Fewer queries than this are searched for as they come.
pub const QUERIES_MIN: usize = 16_384;
/// Near signatures that are taken a step on together: what is fetched for them fits the first-level cache.
const TOGETHER: usize = 128;
/// How many buckets ahead lines and signatures are fetched.
const AHEAD: usize = 8;
/// A bucket with more signatures is left to the search of single queries, which knows ways around it.
const CROWDED: u32 = 2048;
/// Signatures times queries that are compared before what is near is taken on: bounds what a list full of duplicates
/// yields at once.
const PAIRS_MAX: usize = 1 << 20;

/// Buffers of a bulk search.
#[derive(Debug, Default)]
pub struct Sorted {
    /// The queries' chunks, all first ones, then all second ones, and so on: each table needs but a few.
    chunks: Vec<u16>,
    /// Where the queries of each bucket begin, and one more for the end.
    starts: Vec<u32>,
    /// The queries, by bucket.
    order: Vec<u32>,
    /// Their signatures.
    signatures: Vec<u16>,
    sweeps: Vec<Sweep>,
    near: Vec<Near>,
    /// Near signatures whose slots are being fetched.
    asked: Vec<Near>,
    /// Pairs whose hashes are being fetched.
    pairs: Vec<Pair>,
    /// Queries that met a crowded bucket.
    pub(crate) crowded: Vec<bool>,
}

/// A query and a hash to be compared whole.
#[derive(Clone, Copy, Debug)]
struct Pair {
    query: u32,
    slot: u32,
}

impl Tables {
    /// Calls `found` with (query, slot, distance), in no order, for every hash within the threshold of a query,
    /// except for the queries that are marked in `sorted.crowded` afterwards: those are to be searched singly, and
    /// what was found for them is to be forgotten. When `found` says no the sweep is given up at once, which is answered
    /// by `false`; then all queries are to be searched singly.
    pub fn sweep(
        &self,
        hashes: &[Hash256],
        queries: &[Hash256],
        threshold: Distance,
        plan: &Plan,
        sorted: &mut Sorted,
        mut found: impl FnMut(u32, u32, Distance) -> bool,
    ) -> bool {
        sorted.crowded.clear();
        sorted.crowded.resize(queries.len(), false);
        sorted.cut(plan.cut(), queries);
        for table in 0..plan.cut().tables() {
            let flips = plan.flips(table);
            if flips.is_empty() {
                continue;
            }
            sorted.sort(plan.cut(), queries.len(), table);
            let mut goes_on = true;
            let mut verify = |pair: Pair| {
                let (query, hash) = (&queries[pair.query as usize], &hashes[pair.slot as usize]);
                let distance = query.distance(hash);
                if goes_on && distance <= threshold && plan.shows_first(table, query, hash) {
                    goes_on = found(pair.query, pair.slot, distance);
                }
                goes_on
            };
            for bucket in 0..plan.cut().buckets() {
                let Some(whole) = self.sweeps_of(table, bucket, &flips, sorted) else { continue };
                if !self
                    .sweep_bucket(&whole, sorted, |sorted| self.advance(hashes, queries, sorted, &mut verify))
                {
                    return sorted.give_up();
                }
            }
            while !(sorted.near.is_empty() && sorted.asked.is_empty() && sorted.pairs.is_empty()) {
                if !self.advance(hashes, queries, sorted, &mut verify) {
                    return sorted.give_up();
                }
            }
        }
        true
    }

    /// Takes what is near a step on: what is new has its slots fetched, what has its slots its hashes, and what
    /// has its hashes is compared whole. So nothing is waited for. Says whether it goes on.
    fn advance(
        &self,
        hashes: &[Hash256],
        queries: &[Hash256],
        sorted: &mut Sorted,
        verify: &mut impl FnMut(Pair) -> bool,
    ) -> bool {
        let goes_on = sorted.pairs.drain(..).all(verify);
        for near in sorted.asked.drain(..) {
            let (query, slot) = (sorted.order[near.query as usize], self.slots[near.place as usize]);
            prefetch(queries, query as usize);
            prefetch(hashes, slot as usize);
            sorted.pairs.push(Pair { query, slot });
        }
        std::mem::swap(&mut sorted.asked, &mut sorted.near);
        for near in &sorted.asked {
            prefetch(&sorted.order, near.query as usize);
            prefetch(&self.slots, near.place as usize);
        }
        goes_on
    }

    /// Compares a bucket with all queries that probe it, in parts, and takes what is near on; says whether it goes on.
    fn sweep_bucket(
        &self,
        bucket: &Bucket<'_>,
        sorted: &mut Sorted,
        mut advance: impl FnMut(&mut Sorted) -> bool,
    ) -> bool {
        let kernel = Kernel::current();
        let queries: u32 = sorted.sweeps.iter().map(|sweep| sweep.end - sweep.first).sum();
        if queries as usize * bucket.count as usize <= PAIRS_MAX {
            kernel.sweep(bucket, &sorted.sweeps, &sorted.signatures, &mut sorted.near);
            return sorted.near.len() < TOGETHER || advance(sorted);
        }
        let most = (PAIRS_MAX / bucket.count as usize).max(LANES) as u32;
        for at in 0..sorted.sweeps.len() {
            let whole = sorted.sweeps[at];
            for first in (whole.first..whole.end).step_by(most as usize) {
                let part = Sweep { first, end: whole.end.min(first + most), ..whole };
                kernel.sweep(bucket, &[part], &sorted.signatures, &mut sorted.near);
                if sorted.near.len() >= TOGETHER && !advance(sorted) {
                    return false;
                }
            }
        }
        true
    }

    /// A bucket, with the queries that probe it in `sorted.sweeps`; `None` where nothing is to be compared.
    fn sweeps_of(
        &self,
        table: usize,
        bucket: usize,
        flips: &[(u16, u8)],
        sorted: &mut Sorted,
    ) -> Option<Bucket<'_>> {
        let (cut, width) = (self.shape.cut(), self.shape.width());
        let place = (table * cut.buckets() + bucket) * width;
        let lines = &self.lines[place..place + width];
        let (base, count) = lines[0].head();
        (place + AHEAD * width..place + (AHEAD + 1) * width).for_each(|line| prefetch(&self.lines, line));
        if count == 0 {
            return None;
        }
        sorted.sweeps.clear();
        for (flip, limit) in flips {
            let from = bucket ^ usize::from(*flip);
            if let Some(first) = sorted.starts.get((bucket + AHEAD) ^ usize::from(*flip)) {
                prefetch(&sorted.signatures, *first as usize);
            }
            let (first, end) = (sorted.starts[from], sorted.starts[from + 1]);
            if first < end {
                sorted.sweeps.push(Sweep { first, end, limit: u32::from(*limit) });
            }
        }
        let mut whole = Bucket { lines, base, count: u32::from(count), head: true };
        if count == SPILLED {
            let spill = self.spills[base as usize];
            if spill.count > CROWDED {
                for sweep in &sorted.sweeps {
                    for at in sweep.first..sweep.end {
                        sorted.crowded[sorted.order[at as usize] as usize] = true;
                    }
                }
                return None;
            }
            let first = spill.line as usize;
            let lines = &self.spilled[first..first + (spill.count as usize).div_ceil(LANES)];
            whole = Bucket { lines, base: spill.base, count: spill.count, head: false };
        }
        Some(whole)
    }

    /// The plan of a bulk search; `None` where single queries do better.
    pub fn bulk_plan(&self, queries: usize, threshold: Distance) -> Option<Plan> {
        if queries < QUERIES_MIN { None } else { Plan::even(self.shape.cut(), threshold) }
    }
}

impl Sorted {
    /// Forgets what is under way.
    fn give_up(&mut self) -> bool {
        self.near.clear();
        self.asked.clear();
        self.pairs.clear();
        false
    }

    /// Lays the queries' chunks out.
    fn cut(&mut self, cut: Cut, queries: &[Hash256]) {
        self.chunks.clear();
        self.chunks.resize(cut.tables() * queries.len(), 0);
        // So many queries at a time that what is read and written stays in the first-level cache.
        for (block, some) in queries.chunks(64).enumerate() {
            for (table, chunks) in self.chunks.chunks_exact_mut(queries.len()).enumerate() {
                let chunks = &mut chunks[block * 64..][..some.len()];
                chunks.iter_mut().zip(some).for_each(|(chunk, query)| *chunk = cut.chunk(query, table));
            }
        }
    }

    /// Sorts the queries by their bucket of a table.
    fn sort(&mut self, cut: Cut, queries: usize, table: usize) {
        let chunks = |steps| {
            let at = cut.ring(table, steps) * queries;
            &self.chunks[at..at + queries]
        };
        let (own, next, next_but_one) = (chunks(0), chunks(1), chunks(2));
        self.starts.clear();
        self.starts.resize(cut.buckets() + 1, 0);
        own.iter().for_each(|chunk| self.starts[usize::from(cut.bucket(*chunk)) + 1] += 1);
        for at in 1..self.starts.len() {
            self.starts[at] += self.starts[at - 1];
        }
        self.order.resize(queries, 0);
        self.signatures.resize(queries + LANES, 0); // the kernels read so many at a time
        for at in 0..queries {
            let place = &mut self.starts[usize::from(cut.bucket(own[at]))];
            self.order[*place as usize] = at as u32;
            self.signatures[*place as usize] = cut.signature_of(next[at], next_but_one[at]);
            *place += 1;
        }
        // Each start has moved to its bucket's end, which is where the next one begins.
        self.starts.rotate_right(1);
        self.starts[0] = 0;
    }
}
