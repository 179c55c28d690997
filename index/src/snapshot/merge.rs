//! Turning the delta and young segments into one segment, in the background.
//!
//! Segments stand in the order of their age. A merge takes the delta and the youngest segments, up to one that
//! is too large to be worth it; so order stays, and each signal is moved O(log n) times. A search of a segment
//! costs nearly the same whatever its size, so segments are kept few: everything small is merged again and
//! again, and the large one when a sixteenth has gathered. When nothing changes for a while all are merged into
//! one. When a quarter is dead, everything is merged at once.
//!
//! A segment holds at most `segment_max` signals. What does not fit one lies in several, each as full as its neighbours
//! let it be, and a merge takes only what fits one: so two neighbours together are more than one segment holds, and there
//! are at most twice as many segments as there could be.
//!
//! Memory peak: one new segment beside those it replaces, and 5 MiB.

use std::collections::HashSet;
use std::ops::Range;
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
    /// Neighbours.
    segments: Vec<Arc<Segment<H>>>,
    /// Empty where the segments are not the youngest.
    delta: Delta<H>,
    removed: Removed,
    removed_banks: Arc<HashSet<BankId>>,
    merges: u64,
    segment_max: usize,
}

/// A merge that was done: what came out, and what it replaces.
pub struct Merged<H: Searchable> {
    segments: Vec<Arc<Segment<H>>>,
    replaces: Vec<Arc<Segment<H>>>,
    delta_entries: usize,
    /// Removed contents that are in no segment any more; sorted.
    gone: Vec<ContentId>,
    merges: u64,
}

impl<H: Searchable> Snapshot<H> {
    /// The merge that is worth doing now, if one is. One at a time: a second plan before the first is put in
    /// would merge the same entries twice, and [`Snapshot::with_merged`] refuses it.
    pub fn plan_merge(&self) -> Option<MergeJob<H>> {
        let (held, dead) = (self.held(), self.held() - self.live);
        if dead >= DEAD_MIN && dead * 4 >= held {
            return Some(self.plan_purge());
        }
        if self.delta.len() < DELTA_MIN {
            return None;
        }
        let tier = if self.delta.len() < BULK { TIER } else { TIER_BULK };
        let (mut from, mut total) = (self.segments.len(), self.delta.len());
        for segment in self.segments.iter().rev() {
            if segment.len() > YOUNG.max(tier * total) || total + segment.len() > self.segment_max {
                break;
            }
            total += segment.len();
            from -= 1;
        }
        Some(self.merge_from(from))
    }

    /// The merge of everything, where one segment holds it; else of what has most dead entries: so a purge of very many
    /// signals never holds more than one segment twice.
    fn plan_purge(&self) -> MergeJob<H> {
        let end = self.segments.len();
        if self.live <= self.segment_max {
            return self.merge_from(0);
        }
        let gone = |content, bank| usize::from(self.is_gone(content, bank));
        let dead = |segment: &Segment<H>| {
            segment.owners().iter().map(|owner| gone(owner.content(), owner.bank())).sum::<usize>()
        };
        let in_delta: usize = self.delta.entries().map(|entry| gone(entry.content, entry.bank)).sum();
        let most = (0..end).map(|at| (dead(&self.segments[at]), at)).max();
        match most {
            Some((dead, at)) if dead > in_delta => self.merge_of(at..at + 1),
            _ => self.merge_from(end),
        }
    }

    /// The merge that is worth doing while nothing changes: into as few segments as there can be, which are the fastest
    /// to search.
    pub fn plan_idle_merge(&self) -> Option<MergeJob<H>> {
        let (mut end, mut delta) = (self.segments.len(), self.delta.len());
        loop {
            let (mut from, mut total, mut largest) = (end, delta, 0);
            while from > 0 && total + self.segments[from - 1].len() <= self.segment_max {
                from -= 1;
                total += self.segments[from].len();
                largest = largest.max(self.segments[from].len());
            }
            let rest = total - largest;
            if rest > 0 && (rest * IDLE_SHARE >= total || end - from > IDLE_SEGMENTS) {
                return Some(if end == self.segments.len() {
                    self.merge_from(from)
                } else {
                    self.merge_of(from..end)
                });
            }
            // One that is full, or that leaves no room for its neighbour, stays as it is.
            end = from.min(end.saturating_sub(1));
            delta = 0;
            if end == 0 {
                return None;
            }
        }
    }

    /// The merge of everything in no stored segment, so that it can be stored.
    pub(crate) fn plan_storable_merge(&self) -> Option<MergeJob<H>> {
        let (mut from, mut total) = (self.segments.len(), self.delta.len());
        while from > 0
            && self.segments[from - 1].stored().is_none()
            && total + self.segments[from - 1].len() <= self.segment_max
        {
            from -= 1;
            total += self.segments[from].len();
        }
        (self.delta.len() > 0).then(|| self.merge_from(from))
    }

    /// The merge of the youngest segments and the delta.
    fn merge_from(&self, from: usize) -> MergeJob<H> {
        MergeJob { delta: self.delta.clone(), ..self.merge_of(from..self.segments.len()) }
    }

    /// The merge of neighbours.
    fn merge_of(&self, segments: Range<usize>) -> MergeJob<H> {
        MergeJob {
            segments: self.segments[segments].to_vec(),
            delta: Delta::default(),
            removed: self.removed.clone(),
            removed_banks: self.removed_banks.clone(),
            merges: self.merges,
            segment_max: self.segment_max,
        }
    }

    /// With a merge put in. What was added or removed since its plan stays added or removed.
    #[must_use]
    pub fn with_merged(&self, merged: Merged<H>) -> Self {
        // The segments alone would not tell: a merge of the delta replaces none.
        assert_eq!(merged.merges, self.merges, "two merges were planned at once");
        let is_first =
            |segment: &Arc<Segment<H>>| merged.replaces.first().is_some_and(|old| Arc::ptr_eq(old, segment));
        let at = self.segments.iter().position(is_first).unwrap_or(self.segments.len());
        let replaced = at..at + merged.replaces.len();
        let same = |(old, segment): (&Arc<Segment<H>>, &Arc<Segment<H>>)| Arc::ptr_eq(old, segment);
        assert!(
            self.segments.get(replaced.clone()).is_some_and(|old| old.iter().zip(&merged.replaces).all(same)),
            "a merge was planned on another snapshot"
        );
        let mut segments = self.segments.clone();
        segments.splice(replaced, merged.segments);
        let delta = self.delta.without_first(merged.delta_entries);
        Self {
            removed_banks: self.removed_banks_in(&segments, &delta),
            segments,
            delta,
            removed: self.removed.without(&merged.gone),
            live: self.live,
            merges: self.merges + 1,
            segment_max: self.segment_max,
        }
    }

    /// The removed banks of which anything is left.
    fn removed_banks_in(&self, segments: &[Arc<Segment<H>>], delta: &Delta<H>) -> Arc<HashSet<BankId>> {
        if self.removed_banks.is_empty() {
            return self.removed_banks.clone();
        }
        let in_delta: HashSet<BankId> = delta.entries().map(|entry| entry.bank).collect();
        let is_left = |bank: &&BankId| {
            in_delta.contains(bank)
                || segments.iter().any(|segment| segment.banks().binary_search(bank).is_ok())
        };
        Arc::new(self.removed_banks.iter().filter(is_left).copied().collect())
    }
}

impl<H: Searchable> MergeJob<H> {
    /// Does the merge. Long; touches nothing that a reader or writer uses.
    pub fn run(self) -> Merged<H> {
        let everything =
            || self.segments.iter().flat_map(|segment| segment.entries()).chain(self.delta.entries());
        let mut gone = Vec::new();
        let mut left = 0usize;
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
        // More than fits one segment is a delta alone, in the order of its contents.
        let parts = left.div_ceil(self.segment_max);
        let mut rest = everything().filter(stays);
        let mut segments = Vec::with_capacity(parts);
        for part in 0..parts {
            let count = left * (part + 1) / parts - left * part / parts;
            segments.push(Arc::new(Segment::build(count, rest.by_ref().take(count))));
        }
        drop(rest);
        gone.sort_unstable();
        Merged {
            segments,
            delta_entries: self.delta.len(),
            replaces: self.segments,
            gone,
            merges: self.merges,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::signal::Digest;
    use crate::snapshot::ExactSnapshot;

    const CHILD: &str = "HASHWARD_MERGE_CHILD";

    /// A figure of this process, in bytes.
    fn memory(name: &str) -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<usize>().unwrap() << 10
    }

    /// Other tests take memory, too: this one is a process of its own.
    #[test]
    fn a_merge_of_digests_takes_no_more_memory_than_is_planned() {
        if std::env::var_os(CHILD).is_none() {
            let child = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "snapshot::merge::tests::a_merge_of_digests_takes_no_more_memory_than_is_planned",
                ])
                .env(CHILD, "1")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&child.stdout);
            assert!(child.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let digest = |at: u64| {
            let word = at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            Digest::new(&[word.to_be_bytes(), word.swap_bytes().to_be_bytes()].concat()).unwrap()
        };
        let entry = |at: u64| Entry { hash: digest(at), content: ContentId(at), bank: BankId(1) };
        let entries: Vec<Entry<Digest>> = (1..=800_000).map(entry).collect();
        let snapshot = ExactSnapshot::of(entries, 400_000).with_segment_max(usize::MAX);
        assert_eq!(snapshot.segments.len(), 2);
        std::fs::write("/proc/self/clear_refs", "5").unwrap(); // forgets the peak
        let (before, planned) = (memory("VmRSS:"), snapshot.planned_bytes(0) - snapshot.bytes());
        let merged = snapshot.with_merged(snapshot.plan_idle_merge().unwrap().run());
        let taken = memory("VmHWM:") - before;
        assert_eq!((merged.segments.len(), merged.len()), (1, 800_000));
        // Huge pages come whole, and the allocator keeps some.
        assert!(taken < planned + (12 << 20), "{} of {} MiB planned", taken >> 20, planned >> 20);
    }
}
