//! Searching for very many queries at once.
//!
//! The tables are swept for all queries together, which is several times faster than a search for each. A sweep keeps
//! what it finds, so it keeps little: queries that match very much are searched singly afterwards, and all of them are
//! where there is no end of matches. What comes out is told block by block, so nobody ever holds all of it.

use super::{Found, PdqSnapshot};
use crate::mih::Scratch;
use crate::mih::bulk::Sorted;
use crate::nearest::Nearest;
use crate::signal::{Distance, Hash256};

/// Matches that the sweeps of all segments keep (16 bytes each).
const SWEPT_MAX: usize = 2 << 20;
/// Matches of a query that the sweeps keep; with more it is searched singly.
const OF_QUERY_MAX: u32 = 256;
/// Queries that are told together.
const BLOCK: usize = 64;

/// Buffers of a bulk search.
#[derive(Debug, Default)]
struct BulkScratch {
    scratch: Scratch,
    sorted: Sorted,
    swept: Vec<Swept>,
    /// Of each query how many matches are kept.
    counts: Vec<u32>,
    /// Queries that are searched singly.
    single: Vec<bool>,
    /// Segments that were swept.
    is_swept: Vec<bool>,
}

/// A match that a sweep found.
#[derive(Clone, Copy, Debug)]
struct Swept {
    query: u32,
    slot: u32,
    segment: u32,
    distance: Distance,
}

/// What became of a query.
pub struct BulkRow<'r> {
    /// Index of the query.
    pub query: u32,
    /// The nearest matches.
    pub listed: &'r [Found],
    /// How many there are in all.
    pub total: u32,
}

impl PdqSnapshot {
    /// Tells of each query that matches the nearest `limit`, and how many there are, by query.
    pub fn search_bulk(
        &self,
        queries: &[Hash256],
        threshold: Distance,
        limit: usize,
        mut tell: impl FnMut(&BulkRow<'_>),
    ) {
        let take = |nearest: &mut Nearest<Found>, query, found| nearest.take(query, found);
        let tell = |row: &BulkRow<'_>| {
            tell(row);
            true
        };
        self.scan(queries, threshold, (limit, false), take, || true, tell);
    }

    /// The same, limited to what `take` takes; the face of it is `BankState::scan`.
    pub(crate) fn scan(
        &self,
        queries: &[Hash256],
        threshold: Distance,
        (limit, every_bank): (usize, bool),
        mut take: impl FnMut(&mut Nearest<Found>, usize, Found),
        mut pause: impl FnMut() -> bool,
        mut tell: impl FnMut(&BulkRow<'_>) -> bool,
    ) -> bool {
        let (mut room, mut nearest, mut from) = (BulkScratch::default(), Nearest::default(), 0);
        if !self.sweep(queries, threshold, &mut room, &mut pause) {
            return false;
        }
        for (block, some) in queries.chunks(BLOCK).enumerate() {
            if !pause() {
                return false;
            }
            let first = block * BLOCK;
            nearest.begin(some.len(), limit, every_bank);
            self.visit_block(queries, first..first + some.len(), threshold, &mut from, &mut room, |found| {
                take(&mut nearest, found.query as usize - first, found);
            });
            nearest.finish();
            let mut rows = nearest.rows().iter().filter(|row| row.total > 0);
            let goes_on = rows.all(|row| {
                let query = first as u32 + row.query;
                tell(&BulkRow { query, listed: nearest.listed(row), total: row.total })
            });
            if !goes_on {
                return false;
            }
        }
        true
    }

    /// Sweeps every segment that has tables for it. Afterwards `room` has the matches of all queries that are not to be
    /// searched singly, by query. Says no where `pause` does.
    fn sweep(
        &self,
        queries: &[Hash256],
        threshold: Distance,
        room: &mut BulkScratch,
        pause: &mut impl FnMut() -> bool,
    ) -> bool {
        let BulkScratch { sorted, swept, counts, single, is_swept, .. } = room;
        swept.clear();
        counts.clear();
        single.clear();
        counts.resize(queries.len(), 0);
        single.resize(queries.len(), false);
        is_swept.clear();
        let mut all_singly = false;
        for (number, segment) in self.segments.iter().enumerate() {
            let plan = segment.tables().filter(|_| !all_singly);
            let plan = plan.and_then(|tables| Some((tables, tables.bulk_plan(queries.len(), threshold)?)));
            is_swept.push(plan.is_some());
            let Some((tables, plan)) = plan else { continue };
            if !pause() {
                return false;
            }
            let whole =
                tables.sweep(segment.hashes(), queries, threshold, &plan, sorted, |query, slot, distance| {
                    let at = query as usize;
                    counts[at] += 1;
                    if counts[at] > OF_QUERY_MAX {
                        single[at] = true;
                        return true;
                    }
                    if swept.len() >= SWEPT_MAX {
                        swept.retain(|found| !single[found.query as usize]);
                        if swept.len() > SWEPT_MAX / 2 {
                            return false; // no few queries are to blame
                        }
                    }
                    swept.push(Swept { query, slot, segment: number as u32, distance });
                    true
                });
            all_singly = !whole;
            single.iter_mut().zip(&sorted.crowded).for_each(|(single, crowded)| *single |= crowded);
        }
        if all_singly {
            swept.clear();
            is_swept.fill(false);
        }
        *sorted = Sorted::default();
        swept.retain(|found| !single[found.query as usize]);
        swept.shrink_to_fit();
        swept.sort_unstable_by_key(|found| found.query);
        *counts = Vec::new();
        true
    }

    /// Calls `found` with all matches of a block of queries: those that were swept, `from` on, and the others.
    fn visit_block(
        &self,
        queries: &[Hash256],
        block: std::ops::Range<usize>,
        threshold: Distance,
        from: &mut usize,
        room: &mut BulkScratch,
        mut found: impl FnMut(Found),
    ) {
        let BulkScratch { scratch, swept, single, is_swept, .. } = room;
        while let Some(hit) = swept.get(*from).filter(|hit| (hit.query as usize) < block.end) {
            *from += 1;
            let owner = self.segments[hit.segment as usize].owner(hit.slot);
            if !self.is_removed(owner) {
                found(Found::new(hit.query as usize, owner, hit.distance));
            }
        }
        let some = &queries[block.clone()];
        let mut keep = |query: usize, owner, distance| {
            if !self.is_removed(owner) {
                found(Found::new(query, owner, distance));
            }
        };
        for (segment, _) in self.segments.iter().zip(&*is_swept).filter(|(_, is_swept)| !**is_swept) {
            segment.search(some, threshold, scratch, |query, owner, distance| {
                keep(block.start + query, owner, distance);
            });
        }
        for at in block.clone().filter(|at| single[*at]) {
            for (segment, _) in self.segments.iter().zip(&*is_swept).filter(|(_, is_swept)| **is_swept) {
                segment.search(&queries[at..=at], threshold, scratch, |_, owner, distance| {
                    keep(at, owner, distance)
                });
            }
        }
        self.delta.search(some, threshold, scratch, |query, owner, distance| {
            keep(block.start + query, owner, distance);
        });
        scratch.trim();
    }
}
