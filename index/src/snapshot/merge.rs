//! Turning the delta and young segments into one segment, in the background.
//!
//! Segments stand in the order of their age. A merge takes the delta and the youngest segments, up to one that
//! is too large to be worth it; so order stays, and each signal is moved O(log n) times. A search of a segment
//! costs nearly the same whatever its size, so segments are kept few: everything small is merged again and
//! again, and the large one when a sixteenth has gathered. When nothing changes for a while all are merged into
//! one. When a quarter is dead, everything is merged at once.
//!
//! Memory peak: the new segment beside those it replaces, and 5 MiB.

use std::collections::HashSet;
use std::sync::Arc;

use super::delta::Delta;
use super::removed::Removed;
use super::{Entry, Searchable, Snapshot};
use crate::segment::Segment;
use crate::signal::{BankId, ContentId};

/// Entries of the delta that make a merge worth while: a scan of so many costs as much as a small segment.
const DELTA_MIN: usize = 512;
/// Segments up to this size are merged every time: it takes a few milliseconds.
const YOUNG: usize = 32_768;
/// A segment joins a merge if it is at most so many times what is merged already,
const TIER: usize = 16;
/// or so many times while a bulk load brings a lot at once: then more segments are better than more merging.
const TIER_BULK: usize = 1;
/// A delta that only a bulk load makes.
const BULK: usize = 32_768;
/// Idle segments are merged when they are a part in so many of all, or more than [`IDLE_SEGMENTS`].
const IDLE_SHARE: usize = 512;
const IDLE_SEGMENTS: usize = 2;
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
        if dead >= DEAD_MIN && dead * 4 >= held {
            return Some(self.merge_from(0));
        }
        if self.delta.len() < DELTA_MIN {
            return None;
        }
        let tier = if self.delta.len() < BULK { TIER } else { TIER_BULK };
        let (mut from, mut total) = (self.segments.len(), self.delta.len());
        for segment in self.segments.iter().rev() {
            if segment.len() > YOUNG.max(tier * total) {
                break;
            }
            total += segment.len();
            from -= 1;
        }
        Some(self.merge_from(from))
    }

    /// The merge that is worth doing while nothing changes: into one segment, which is the fastest to search.
    pub fn plan_idle_merge(&self) -> Option<MergeJob<H>> {
        let largest = self.segments.iter().map(|segment| segment.len()).max().unwrap_or(0);
        let rest = self.held() - largest;
        let worth = rest > 0 && (rest * IDLE_SHARE >= self.held() || self.segments.len() > IDLE_SEGMENTS);
        worth.then(|| self.merge_from(0))
    }

    /// The merge of everything in no stored segment, so that it can be stored.
    pub(crate) fn plan_storable_merge(&self) -> Option<MergeJob<H>> {
        let stored = self.segments.iter().take_while(|segment| segment.stored().is_some()).count();
        (self.delta.len() > 0).then(|| self.merge_from(stored))
    }

    fn merge_from(&self, from: usize) -> MergeJob<H> {
        MergeJob {
            segments: self.segments[from..].to_vec(),
            delta: self.delta.clone(),
            removed: self.removed.clone(),
            removed_banks: self.removed_banks.clone(),
            full: from == 0,
            merges: self.merges,
        }
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
