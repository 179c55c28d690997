//! Searching a segment's tables for a batch of queries.
//!
//! Every cache line is asked for long before it is needed. The buckets of a block of queries are listed first,
//! so that while one is scanned those of the next query are on their way; then the slots of all near
//! signatures are fetched together, then their hashes.

use super::cost::Costs;
use super::{Plan, Tables, skew};
use crate::kernel::{AHEAD_MAX, Kernel, Probes, Scanned, ahead, prefetch};
use crate::signal::{Distance, Hash256};
use crate::slices::{GoesOn, Reached, Stretch, read_all};

/// Queries whose buckets are listed together: 16 lists of 272 fit the first-level cache beside the lines.
const BLOCK: usize = 16;
/// Survivors after which a block ends early, so that queries among duplicates take bounded memory.
const SURVIVORS_FULL: usize = 1 << 16;
/// Survivors of one query at most: with more, reading everything in order is cheaper, and takes no memory for them.
const SURVIVORS_MAX: usize = 1 << 18;
/// Hashes in crowded buckets of one query that take as long to read as some ordinary queries: after it the time is looked
/// at.
const CROWDED: usize = 1 << 13;
/// Entries whose room each buffer keeps for the next search.
const KEPT: usize = 1 << 15;

/// Buffers of a search, reused: a search allocates nothing once they have grown.
#[derive(Debug, Default)]
pub struct Scratch {
    buckets: Vec<u32>,
    pub(super) scanned: Scanned,
    /// Where each query's survivors end.
    ends: Vec<u32>,
    /// Slots of the survivors.
    slots: Vec<u32>,
    /// Queries of a block that are to be read flat.
    flat: Vec<usize>,
    /// Other plans than the even one, with where their survivors end.
    other: Vec<(usize, Plan)>,
    plan: Option<(Distance, Plan)>,
    /// Places in a block or segment with their distances.
    pub(crate) near: Vec<(u32, Distance)>,
}

impl Scratch {
    /// Gives back what an unusual search took.
    pub(crate) fn trim(&mut self) {
        self.scanned.survivors.clear();
        self.slots.clear();
        self.near.clear();
        self.scanned.survivors.shrink_to(KEPT);
        self.slots.shrink_to(KEPT);
        self.near.shrink_to(KEPT);
    }
}

/// Survivors of a query with which verifying them is cheaper than reading everything.
pub(super) fn survivors_max(hashes: usize) -> usize {
    (64 + hashes / 8).min(SURVIVORS_MAX)
}

impl Tables {
    /// Calls `found` with (query, slot, distance) for every hash within the threshold. Asks whether it goes on after each
    /// block of queries, after each query that meets crowded buckets, and while one is read flat: only then a query can be
    /// interrupted.
    pub fn search(
        &self,
        hashes: &[Hash256],
        queries: &[Hash256],
        threshold: Distance,
        scratch: &mut Scratch,
        stretch: Stretch<'_>,
        mut found: impl FnMut(usize, u32, Distance),
    ) -> Reached {
        if stretch.from > 0 {
            return flat_while(hashes, &queries[..1], threshold, scratch, stretch, found);
        }
        let Some(plan) = self.plan(threshold, scratch) else {
            return flat_while(hashes, queries, threshold, scratch, stretch, found);
        };
        let goes_on = stretch.goes_on;
        let mut first = 0;
        let mut end = None;
        while first < queries.len() && end.is_none() {
            let block = &queries[first..queries.len().min(first + BLOCK)];
            let scanned = self.scan(block, &plan, hashes.len(), scratch, goes_on);
            let block = &block[..scanned];
            self.verify(hashes, block, &plan, threshold, scratch, |at, slot, distance| {
                found(first + at, slot, distance);
            });
            // A query among crowded buckets: reading everything once is cheaper.
            let rest = std::mem::take(&mut scratch.flat);
            for (number, at) in rest.iter().enumerate() {
                let tell = |_, slot, distance| found(first + at, slot, distance);
                let reached = flat_while(hashes, &block[*at..=*at], threshold, scratch, stretch, tell);
                if let Some(read) = reached.read {
                    end = Some(Reached::within(first + at, read));
                } else if !goes_on() {
                    // Those before the next one that is to be read flat are whole.
                    end = Some(Reached::whole(first + rest.get(number + 1).copied().unwrap_or(scanned)));
                }
                if end.is_some() {
                    break;
                }
            }
            scratch.flat = rest;
            first += scanned;
            if end.is_none() && !goes_on() {
                end = Some(Reached::whole(first));
            }
        }
        scratch.plan = Some((threshold, plan));
        end.unwrap_or(Reached::whole(queries.len()))
    }

    /// The even plan where probing is expected to cost less than reading everything.
    fn plan(&self, threshold: Distance, scratch: &mut Scratch) -> Option<Plan> {
        let cut = self.shape.cut();
        let plan = match scratch.plan.take() {
            Some((planned, plan)) if planned == threshold && plan.cut() == cut => plan,
            _ => Plan::even(cut, threshold)?,
        };
        let (costs, hashes) = (Costs::current(), self.slots.len() / cut.tables());
        (costs.probing(self.shape, hashes, &plan) < costs.flat(hashes)).then_some(plan)
    }

    /// Reads the buckets of a block of queries into `scratch`; says of how many, since it ends early where very much is
    /// near, or where buckets are crowded and `goes_on` says no.
    fn scan(
        &self,
        queries: &[Hash256],
        plan: &Plan,
        hashes: usize,
        scratch: &mut Scratch,
        goes_on: GoesOn<'_>,
    ) -> usize {
        let (width, kernel) = (self.shape.width(), Kernel::current());
        let mut buckets = std::mem::take(&mut scratch.buckets);
        buckets.clear();
        queries.iter().for_each(|query| plan.buckets(query, &mut buckets));
        let total = buckets.len();
        buckets.resize(total + AHEAD_MAX, buckets.last().copied().unwrap_or(0));
        for bucket in &buckets[..ahead(width).min(total)] {
            prefetch(&self.lines, *bucket as usize * width);
        }
        scratch.scanned.survivors.clear();
        scratch.ends.clear();
        scratch.flat.clear();
        scratch.other.clear();
        for (at, query) in queries.iter().enumerate() {
            let before = scratch.scanned.survivors.len();
            let signatures = self.shape.cut().signatures(query);
            scratch.scanned.spilled.clear();
            let probes = Probes {
                buckets: &buckets[at * plan.probes()..],
                groups: plan.groups(),
                signatures: &signatures,
            };
            kernel.probe(&self.lines, width, &probes, &mut scratch.scanned);
            let (mut settled, mut crowded) = (true, false);
            if !scratch.scanned.spilled.is_empty() {
                match skew::settle(self, hashes, query, &signatures, plan, &mut scratch.scanned, before) {
                    skew::Settled::Read => {}
                    skew::Settled::Flat => settled = false,
                    skew::Settled::Replanned(other) => scratch.other.push((at, other)),
                }
                let met =
                    scratch.scanned.spilled.iter().map(|met| self.spills[met.spill as usize].count as usize);
                crowded = met.sum::<usize>() > CROWDED;
            }
            // Each is a hash to be fetched: so many, and reading all of them in order is cheaper.
            if !settled || scratch.scanned.survivors.len() - before > survivors_max(hashes) {
                scratch.scanned.survivors.truncate(before);
                scratch.flat.push(at);
            }
            scratch.scanned.survivors[before..]
                .iter()
                .for_each(|near| prefetch(&self.slots, near.place as usize));
            scratch.ends.push(scratch.scanned.survivors.len() as u32);
            if scratch.scanned.survivors.len() >= SURVIVORS_FULL || (crowded || !settled) && !goes_on() {
                break;
            }
        }
        scratch.buckets = buckets;
        scratch.ends.len()
    }

    /// Compares what survived whole.
    fn verify(
        &self,
        hashes: &[Hash256],
        queries: &[Hash256],
        plan: &Plan,
        threshold: Distance,
        scratch: &mut Scratch,
        mut found: impl FnMut(usize, u32, Distance),
    ) {
        scratch.slots.clear();
        for near in &scratch.scanned.survivors {
            let slot = self.slots[near.place as usize];
            prefetch(hashes, slot as usize);
            scratch.slots.push(slot);
        }
        let mut first = 0;
        for (at, (query, end)) in queries.iter().zip(&scratch.ends).enumerate() {
            let end = *end as usize;
            for place in first..end {
                let (slot, table) = (scratch.slots[place], scratch.scanned.survivors[place].table);
                let hash = &hashes[slot as usize];
                let distance = query.distance(hash);
                if distance <= threshold {
                    let other = scratch.other.iter().find(|(of, _)| *of == at);
                    let plan = other.map_or(plan, |(_, plan)| plan);
                    if plan.shows_first(usize::from(table), query, hash) {
                        found(at, slot, distance);
                    }
                }
            }
            first = end;
        }
    }
}

/// Calls `found` with (query, place, distance) for every hash within the threshold, and reads them all for it.
pub fn flat(
    hashes: &[Hash256],
    queries: &[Hash256],
    threshold: Distance,
    scratch: &mut Scratch,
    found: impl FnMut(usize, u32, Distance),
) {
    flat_while(hashes, queries, threshold, scratch, Stretch { from: 0, goes_on: &|| true }, found);
}

/// The same for a part of them.
pub fn flat_while(
    hashes: &[Hash256],
    queries: &[Hash256],
    threshold: Distance,
    scratch: &mut Scratch,
    stretch: Stretch<'_>,
    mut found: impl FnMut(usize, u32, Distance),
) -> Reached {
    let (kernel, bits) = (Kernel::current(), u32::from(threshold.bits()));
    read_all(hashes, queries.len(), stretch, |query, first, hashes| {
        scratch.near.clear();
        kernel.flat(&queries[query], hashes, bits, &mut scratch.near);
        scratch.near.iter().for_each(|(place, distance)| found(query, first as u32 + *place, *distance));
    })
}
