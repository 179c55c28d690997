//! Searching for very many queries at once.

use super::{Found, PdqSnapshot};
use crate::mih::Scratch;
use crate::mih::bulk::Sorted;
use crate::segment::{Owner, Segment};
use crate::signal::{Distance, Hash256};

/// Matches of a sweep that are held at once (12 bytes each). A list against a bank full of duplicates has more;
/// it is then searched query by query.
const SWEPT_MAX: usize = 32 << 20;

/// Buffers of a bulk search, reused.
#[derive(Debug, Default)]
pub struct BulkScratch {
    scratch: Scratch,
    sorted: Sorted,
    /// What a segment's sweep found: query, slot, distance.
    swept: Vec<(u32, u32, Distance)>,
    /// What one query found in one segment.
    single: Vec<Found>,
}

/// What a bulk search found.
#[derive(Debug, Default)]
pub struct BulkFound {
    /// By query, then by distance, then by content; of each query the nearest up to the limit.
    pub found: Vec<Found>,
    /// Matches of each query, listed or not.
    pub totals: Vec<u32>,
}

impl PdqSnapshot {
    /// What [`Snapshot::search`](super::Snapshot::search) finds, of each query the nearest `limit` and how many
    /// there are: by streaming the tables, several times faster where there are hundreds of thousands of queries.
    pub fn search_bulk(
        &self,
        queries: &[Hash256],
        threshold: Distance,
        limit: usize,
        scratch: &mut BulkScratch,
        out: &mut BulkFound,
    ) {
        out.found.clear();
        out.totals.clear();
        out.totals.resize(queries.len(), 0);
        for segment in &self.segments {
            self.search_segment(segment, queries, threshold, limit, scratch, out);
        }
        let BulkScratch { scratch, .. } = scratch;
        self.delta.search(queries, threshold, scratch, |query, owner, distance| {
            self.keep(query, owner, distance, &mut out.found, &mut out.totals);
        });
        out.found.sort_unstable_by_key(|hit| (hit.query, hit.distance, hit.content));
        let (mut last, mut listed) = (None, 0);
        out.found.retain(|hit| {
            listed = if last == Some(hit.query) { listed + 1 } else { 1 };
            last = Some(hit.query);
            listed <= limit
        });
    }

    fn keep(
        &self,
        query: usize,
        owner: Owner,
        distance: Distance,
        found: &mut Vec<Found>,
        totals: &mut [u32],
    ) {
        if !self.is_removed(owner) {
            totals[query] += 1;
            found.push(Found { query: query as u32, content: owner.content(), bank: owner.bank(), distance });
        }
    }

    fn search_segment(
        &self,
        segment: &Segment<Hash256>,
        queries: &[Hash256],
        threshold: Distance,
        limit: usize,
        bulk: &mut BulkScratch,
        out: &mut BulkFound,
    ) {
        let BulkScratch { scratch, sorted, swept, single } = bulk;
        swept.clear();
        let plan =
            segment.tables().and_then(|tables| Some((tables, tables.bulk_plan(queries.len(), threshold)?)));
        let is_swept = plan.is_some_and(|(tables, plan)| {
            tables.sweep(segment.hashes(), queries, threshold, &plan, sorted, |query, slot, distance| {
                swept.push((query, slot, distance));
                swept.len() < SWEPT_MAX
            })
        });
        if is_swept {
            for (query, slot, distance) in
                swept.drain(..).filter(|(query, ..)| !sorted.crowded[*query as usize])
            {
                self.keep(query as usize, segment.owner(slot), distance, &mut out.found, &mut out.totals);
            }
        }
        for (at, query) in queries.iter().enumerate().filter(|(at, _)| !is_swept || sorted.crowded[*at]) {
            single.clear();
            segment.search(std::slice::from_ref(query), threshold, scratch, |_, owner, distance| {
                self.keep(at, owner, distance, single, &mut out.totals);
            });
            if single.len() > limit {
                single.select_nth_unstable_by_key(limit, |hit| (hit.distance, hit.content));
                single.truncate(limit);
            }
            out.found.append(single);
        }
    }
}
