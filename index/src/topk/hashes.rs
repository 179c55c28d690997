//! The nearest known contents, at any distance: for people who look into a match, not for the upload path.
//!
//! Exact, by two ways. Most who are asked for have neighbours within the usual threshold; where there are enough
//! of them the tables tell. Else everything is read: half a millisecond for a million hashes, so there is no size
//! at which an approximate index of hashes would be worth its misses (`cargo bench -p benches --bench topk`).

use std::collections::BinaryHeap;

use crate::kernel::Kernel;
use crate::mih::Scratch;
use crate::signal::{BankId, ContentId, Hash256, SignalType};
use crate::snapshot::{Found, PdqSnapshot};

/// Hashes read before the limit is drawn closer: they and what they yield stay in the first-level cache.
const BLOCK: usize = 1024;

/// Buffers of a search, reused.
#[derive(Debug, Default)]
pub struct NearestScratch {
    scratch: Scratch,
}

impl PdqSnapshot {
    /// The `count` contents nearest to the query, by distance, then by content; of contents as far away as the
    /// last one, those with the smaller ids. Fewer where there are no more within `farthest` bits (0 to 256).
    /// `wanted` says which banks count.
    pub fn nearest(
        &self,
        query: &Hash256,
        count: usize,
        farthest: u16,
        wanted: impl Fn(BankId) -> bool,
        scratch: &mut NearestScratch,
    ) -> Vec<Found> {
        let threshold = SignalType::Pdq.threshold();
        let NearestScratch { scratch } = scratch;
        let none =
            || Best { found: BinaryHeap::with_capacity(count + 1), count, farthest: u32::from(farthest) };
        let mut best = none();
        self.visit(std::slice::from_ref(query), threshold, scratch, |hit| {
            if hit.distance.bits() <= farthest
                && best.takes(hit.distance.bits(), hit.content)
                && wanted(hit.bank)
            {
                best.take(hit);
            }
        });
        if best.found.len() >= count || farthest <= threshold.bits() {
            return best.sorted();
        }
        let mut best = none();
        let kernel = Kernel::current();
        self.blocks(BLOCK, |hashes, owner| {
            scratch.near.clear();
            kernel.flat(query, hashes, best.limit(), &mut scratch.near);
            for (place, distance) in &scratch.near {
                let (content, bank) = owner(*place);
                if best.takes(distance.bits(), content) && wanted(bank) && !self.is_gone(content, bank) {
                    best.take(Found { query: 0, content, bank, distance: *distance });
                }
            }
        });
        best.sorted()
    }
}

/// The best so far, the worst of them on top.
struct Best {
    found: BinaryHeap<Ranked>,
    count: usize,
    farthest: u32,
}

impl Best {
    /// What is farther is of no interest any more.
    fn limit(&self) -> u32 {
        let last = self.found.peek().filter(|_| self.found.len() >= self.count);
        last.map_or(self.farthest, |Ranked(hit)| u32::from(hit.distance.bits()))
    }

    fn takes(&self, distance: u16, content: ContentId) -> bool {
        let last = self.found.peek().filter(|_| self.found.len() >= self.count);
        last.is_none_or(|Ranked(hit)| (distance, content) < (hit.distance.bits(), hit.content))
    }

    fn sorted(self) -> Vec<Found> {
        self.found.into_sorted_vec().into_iter().map(|Ranked(hit)| hit).collect()
    }

    fn take(&mut self, hit: Found) {
        self.found.push(Ranked(hit));
        if self.found.len() > self.count {
            self.found.pop();
        }
    }
}

/// Ordered by distance, then by content.
#[derive(Debug, PartialEq, Eq)]
struct Ranked(Found);

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0.distance, self.0.content).cmp(&(other.0.distance, other.0.content))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
