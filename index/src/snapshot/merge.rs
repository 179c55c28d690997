//! Turning the delta and small segments into one bigger segment, in the background.
//!
//! Size-tiered: the delta is merged with every segment that is not much larger than what is merged already,
//! so each signal is moved O(log n) times and there are O(log n) segments. When a quarter is dead,
//! everything is merged. Memory peak: the new tables beside the segments they replace, plus 96 bytes a PDQ
//! entry (64 for the entry, 32 for the hashes the tables are built from).

use std::collections::HashSet;
use std::sync::Arc;

use super::delta::Delta;
use super::removed::Removed;
use super::{Entry, Searchable, Snapshot};
use crate::segment::Segment;
use crate::signal::{BankId, ContentId};

/// Entries of the delta that make a merge worth while: a scan of so many costs a few microseconds.
const DELTA_MIN: usize = 4096;
/// A segment joins a merge if it is at most so many times what is merged already.
const TIER: usize = 3;
/// Dead entries that make a full merge worth while, if they are a quarter of all.
const DEAD_MIN: usize = 4096;

/// A merge to be done: what goes in, as it was when it was planned.
pub struct MergeJob<H: Searchable> {
    segments: Vec<Arc<Segment<H>>>,
    delta: Delta<H>,
    removed: Removed,
    removed_banks: Arc<HashSet<BankId>>,
    /// Everything goes in, so what it leaves out is nowhere any more.
    full: bool,
    merges: u64,
}

/// A merge that was done: what came out, and what it replaces.
pub struct Merged<H: Searchable> {
    segment: Option<Arc<Segment<H>>>,
    replaces: Vec<Arc<Segment<H>>>,
    delta_entries: usize,
    /// Removed contents that are in no segment any more; sorted.
    gone: Vec<ContentId>,
    /// Removed banks of which nothing is left.
    gone_banks: Arc<HashSet<BankId>>,
    merges: u64,
}

impl<H: Searchable> Snapshot<H> {
    /// The merge that is worth doing now, if one is. One at a time: a second plan before the first is put in
    /// would merge the same entries twice, and [`Snapshot::with_merged`] refuses it.
    pub fn plan_merge(&self) -> Option<MergeJob<H>> {
        let (held, dead) = (self.held(), self.held() - self.live);
        let full = dead >= DEAD_MIN && dead * 4 >= held;
        if !full && self.delta.len() < DELTA_MIN {
            return None;
        }
        let mut by_size = self.segments.clone();
        by_size.sort_by_key(|segment| segment.len());
        let mut total = self.delta.len();
        let joins = by_size.iter().take_while(|segment| {
            let joins = full || segment.len() <= TIER * total;
            total += segment.len();
            joins
        });
        let count = joins.count();
        by_size.truncate(count);
        let full = full || by_size.len() == self.segments.len();
        Some(MergeJob {
            segments: by_size,
            delta: self.delta.clone(),
            removed: self.removed.clone(),
            removed_banks: self.removed_banks.clone(),
            full,
            merges: self.merges,
        })
    }

    /// With a merge put in. What was added or removed since its plan stays added or removed.
    #[must_use]
    pub fn with_merged(&self, merged: Merged<H>) -> Self {
        // The segments alone would not tell: a merge of the delta replaces none.
        assert_eq!(merged.merges, self.merges, "two merges were planned at once");
        let replaced =
            |segment: &Arc<Segment<H>>| merged.replaces.iter().any(|old| Arc::ptr_eq(old, segment));
        let mut segments: Vec<_> =
            self.segments.iter().filter(|segment| !replaced(segment)).cloned().collect();
        assert_eq!(
            segments.len() + merged.replaces.len(),
            self.segments.len(),
            "a merge was planned on another snapshot"
        );
        segments.extend(merged.segment);
        let removed_banks = if self.removed_banks.is_disjoint(&merged.gone_banks) {
            self.removed_banks.clone()
        } else {
            Arc::new(self.removed_banks.difference(&merged.gone_banks).copied().collect())
        };
        Self {
            segments,
            delta: self.delta.without_first(merged.delta_entries),
            removed: self.removed.without(&merged.gone),
            removed_banks,
            live: self.live,
            merges: self.merges + 1,
        }
    }
}

impl<H: Searchable> MergeJob<H> {
    /// Does the merge. Long; touches nothing that a reader or writer uses.
    pub fn run(self) -> Merged<H> {
        let everything =
            || self.segments.iter().flat_map(|segment| segment.entries()).chain(self.delta.entries());
        let mut gone = Vec::new();
        let mut left = 0;
        for entry in everything() {
            if self.removed.contains(entry.content) {
                gone.push(entry.content);
            } else if !self.removed_banks.contains(&entry.bank) {
                left += 1;
            }
        }
        let stays = |entry: &Entry<H>| {
            !self.removed.contains(entry.content) && !self.removed_banks.contains(&entry.bank)
        };
        let segment = (left > 0).then(|| Arc::new(Segment::build(left, everything().filter(stays))));
        gone.sort_unstable();
        let gone_banks = if self.full { self.removed_banks } else { Arc::default() };
        Merged {
            segment,
            replaces: self.segments,
            delta_entries: self.delta.len(),
            gone,
            gone_banks,
            merges: self.merges,
        }
    }
}
