//! What a reader sees: segments, a delta of what came after them, and what was removed from both.
//!
//! A snapshot never changes. A writer makes the next one from it, sharing nearly everything; a merge is
//! planned on one snapshot, runs without any, and is put into whatever snapshot is newest by then. Search is
//! exact in each of them.
//!
//! Content ids and bank ids are never reused, so 'removed' needs no time attached.

mod bulk;
mod delta;
mod explain;
mod merge;
mod removed;

use std::collections::HashSet;
use std::sync::Arc;

pub use crate::mih::Scratch;
pub use crate::segment::{Entry, Searchable};
pub use bulk::BulkRow;
pub use explain::{SegmentPlan, ShapeOption};
pub use merge::{MergeJob, Merged};

use crate::nearest::Ranked;
use crate::segment::{Owner, Segment};
use crate::signal::{BankId, ContentId, Digest, Distance, Hash256};
use crate::slices::{GoesOn, Stretch};
use delta::Delta;
use removed::Removed;

/// PDQ signals.
pub type PdqSnapshot = Snapshot<Hash256>;
/// Digests of one type.
pub type ExactSnapshot = Snapshot<Digest>;

/// A banked signal within the threshold of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Index of the query in its batch.
    pub query: u32,
    /// The content.
    pub content: ContentId,
    /// Its bank.
    pub bank: BankId,
    /// Bits that differ.
    pub distance: Distance,
}

impl Found {
    fn new(query: usize, owner: Owner, distance: Distance) -> Self {
        Self { query: query as u32, content: owner.content(), bank: owner.bank(), distance }
    }
}

impl Ranked for Found {
    #[inline]
    fn rank(&self) -> (u32, ContentId) {
        (u32::from(self.distance.bits()), self.content)
    }

    #[inline]
    fn bank(&self) -> BankId {
        self.bank
    }
}

/// Where a search of a snapshot was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The segment, or the delta behind them all.
    segment: usize,
    /// What was read of it.
    read: usize,
}

/// Shape and size of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// Signals in each segment, removed ones included.
    pub segments: Vec<usize>,
    /// Signals not yet in a segment.
    pub delta: usize,
    /// Signals that are removed and still take room.
    pub dead: usize,
    /// Bytes of memory held.
    pub bytes: usize,
}

/// All signals of one type at one moment.
pub struct Snapshot<H: Searchable> {
    /// Oldest first.
    segments: Vec<Arc<Segment<H>>>,
    /// Younger than all of them.
    delta: Delta<H>,
    removed: Removed,
    removed_banks: Arc<HashSet<BankId>>,
    live: usize,
    /// Merges put in so far: a merge goes into a snapshot that has had none since its plan.
    merges: u64,
    /// Signals of a segment at most.
    segment_max: usize,
}

impl<H: Searchable> Clone for Snapshot<H> {
    fn clone(&self) -> Self {
        Self {
            segments: self.segments.clone(),
            delta: self.delta.clone(),
            removed: self.removed.clone(),
            removed_banks: self.removed_banks.clone(),
            live: self.live,
            merges: self.merges,
            segment_max: self.segment_max,
        }
    }
}

impl<H: Searchable> Default for Snapshot<H> {
    fn default() -> Self {
        Self::from_entries(Vec::new())
    }
}

impl<H: Searchable> Snapshot<H> {
    /// A snapshot of these entries, in one segment if they are not too many.
    pub fn from_entries(entries: Vec<Entry<H>>) -> Self {
        Self::of(entries, H::SEGMENT_MAX)
    }

    /// A snapshot of these entries, in segments of at most so many.
    pub fn of(entries: Vec<Entry<H>>, segment_max: usize) -> Self {
        let live = entries.len();
        let segments = Segment::build_all(entries, segment_max);
        Self::from_segments(segments, live, &[], HashSet::new()).with_segment_max(segment_max)
    }

    /// The same snapshot, whose segments hold at most so many signals from the next merge on.
    #[must_use]
    pub fn with_segment_max(self, segment_max: usize) -> Self {
        Self { segment_max: segment_max.clamp(1, H::SEGMENT_MAX), ..self }
    }

    /// A snapshot of segments, oldest first, of which `live` signals are left when these contents and banks
    /// are taken away.
    pub(crate) fn from_segments(
        segments: Vec<Arc<Segment<H>>>,
        live: usize,
        removed: &[ContentId],
        removed_banks: HashSet<BankId>,
    ) -> Self {
        let removed = if removed.is_empty() { Removed::default() } else { Removed::default().with(removed) };
        let removed_banks = Arc::new(removed_banks);
        let segment_max = H::SEGMENT_MAX;
        Self { segments, delta: Delta::default(), removed, removed_banks, live, merges: 0, segment_max }
    }

    /// The segments, oldest first: every content of one is younger than all those of the one before.
    pub(crate) fn segments(&self) -> &[Arc<Segment<H>>] {
        &self.segments
    }

    /// The oldest content that is in no stored segment; `None` if all are.
    pub(crate) fn first_unstored(&self) -> Option<ContentId> {
        let segment = self.segments.iter().find(|segment| segment.stored().is_none());
        segment.map(|segment| segment.first()).or_else(|| self.delta.first())
    }

    /// Whether a segment that is not stored is older than one that is: until it is stored, a list cannot name the younger.
    pub(crate) fn has_stored_behind_unstored(&self) -> bool {
        let mut behind = self.segments.iter().skip_while(|segment| segment.stored().is_some());
        behind.any(|segment| segment.stored().is_some())
    }

    /// Whether the content was removed and a segment or the delta may still hold it.
    pub(crate) fn remembers_removal(&self, content: ContentId) -> bool {
        self.removed.contains(content)
    }

    /// Signals that a search can find.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Signals not yet merged into a segment: what slows a search down if it piles up.
    pub fn unmerged(&self) -> usize {
        self.delta.len()
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.segments.iter().map(|segment| segment.bytes()).sum::<usize>() + self.delta.bytes()
    }

    /// Bytes that the segments take while the largest merge there can be is under way, at most; `signal` bytes are
    /// what a signal of the delta takes then.
    pub(crate) fn planned_bytes(&self, signal: usize) -> usize {
        let bytes = self.segments.iter().map(|segment| segment.bytes()).sum::<usize>();
        let held = self.held() - self.delta.len();
        let merged = held.min(self.segment_max);
        // What a signal takes in the new segment: as much as in the old ones.
        let made = (bytes as u128 * merged as u128 / held.max(1) as u128) as usize;
        bytes + made + H::BUILD_BYTES * (merged + self.delta.len()) + signal * self.delta.len()
    }

    /// Shape and size.
    pub fn stats(&self) -> Stats {
        Stats {
            segments: self.segments.iter().map(|segment| segment.len()).collect(),
            delta: self.delta.len(),
            dead: self.held() - self.live,
            bytes: self.bytes(),
        }
    }

    /// With further entries.
    #[must_use]
    pub fn with_added(&self, entries: &[Entry<H>]) -> Self {
        Self { delta: self.delta.with(entries), live: self.live + entries.len(), ..self.clone() }
    }

    /// Without the signals of these contents. Each must be there, and its bank not be removed.
    #[must_use]
    pub fn with_removed(&self, contents: &[ContentId]) -> Self {
        Self { removed: self.removed.with(contents), live: self.live - contents.len(), ..self.clone() }
    }

    /// Without the signals of a bank; `signals` is how many it has.
    #[must_use]
    pub fn with_bank_removed(&self, bank: BankId, signals: usize) -> Self {
        if signals == 0 {
            return self.clone(); // ids are not reused: nothing of it can come
        }
        let mut removed_banks = HashSet::clone(&self.removed_banks);
        removed_banks.insert(bank);
        Self { removed_banks: Arc::new(removed_banks), live: self.live - signals, ..self.clone() }
    }

    /// Appends every signal within the threshold of each query: by query, then by distance, then by content. Takes memory
    /// for all of them; what answers strangers keeps a [`Nearest`](crate::Nearest) instead.
    pub fn search(&self, queries: &[H], threshold: Distance, scratch: &mut Scratch, found: &mut Vec<Found>) {
        let before = found.len();
        self.visit(queries, threshold, scratch, |hit| found.push(hit));
        found[before..].sort_unstable_by_key(|hit| (hit.query, hit.distance, hit.content));
    }

    /// Calls `found` with every signal within the threshold of each query, in no order.
    pub(crate) fn visit(
        &self,
        queries: &[H],
        threshold: Distance,
        scratch: &mut Scratch,
        found: impl FnMut(Found),
    ) {
        self.visit_while(queries, threshold, scratch, &|| true, &mut None, found);
    }

    /// The same as long as `goes_on` says so. Returns how many queries, from the first, were searched whole. Of the others
    /// some signals may have been told: all before `place` of the next one if that is set, else they are to be dropped. With
    /// a `place` the first query goes on there, alone.
    pub(crate) fn visit_while(
        &self,
        mut queries: &[H],
        threshold: Distance,
        scratch: &mut Scratch,
        goes_on: GoesOn<'_>,
        place: &mut Option<Place>,
        mut found: impl FnMut(Found),
    ) -> usize {
        let begun = place.take();
        if begun.is_some() {
            queries = &queries[..queries.len().min(1)];
        }
        let mut keep = |query: usize, owner: Owner, distance: Distance| {
            if !self.is_removed(owner) {
                found(Found::new(query, owner, distance));
            }
        };
        for number in begun.map_or(0, |place| place.segment)..=self.segments.len() {
            if queries.is_empty() {
                break;
            }
            let from = begun.filter(|place| place.segment == number).map_or(0, |place| place.read);
            let stretch = Stretch { from, goes_on };
            let reached = match self.segments.get(number) {
                Some(segment) => segment.search_while(queries, threshold, scratch, stretch, &mut keep),
                None => self.delta.search_while(queries, threshold, scratch, stretch, &mut keep),
            };
            if reached.whole < queries.len() {
                *place = reached.read.map(|read| Place { segment: number, read });
                queries = &queries[..reached.whole];
            }
        }
        scratch.trim();
        queries.len()
    }

    /// Calls `visit` with all hashes in blocks of this size at most, and a way to tell whose a hash is.
    pub(crate) fn blocks(
        &self,
        size: usize,
        mut visit: impl FnMut(&[H], &dyn Fn(u32) -> (ContentId, BankId)),
    ) {
        for segment in &self.segments {
            for (block, hashes) in segment.hashes().chunks(size).enumerate() {
                visit(hashes, &|place| {
                    let owner = segment.owner((block * size) as u32 + place);
                    (owner.content(), owner.bank())
                });
            }
        }
        self.delta.blocks(&mut visit);
    }

    /// Whether a content that is still held was removed, itself or with its bank.
    pub(crate) fn is_gone(&self, content: ContentId, bank: BankId) -> bool {
        self.removed.contains(content)
            || (!self.removed_banks.is_empty() && self.removed_banks.contains(&bank))
    }

    fn is_removed(&self, owner: Owner) -> bool {
        self.is_gone(owner.content(), owner.bank())
    }

    /// Entries in memory, removed ones included.
    fn held(&self) -> usize {
        self.segments.iter().map(|segment| segment.len()).sum::<usize>() + self.delta.len()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// How often a search asks whether it goes on before it is told no.
    type Patience = usize;

    /// Searches slice by slice; returns what was found, and how many queries each slice searched whole.
    fn sliced<H: Searchable>(
        snapshot: &Snapshot<H>,
        queries: &[H],
        threshold: Distance,
        patience: Patience,
    ) -> (Vec<Found>, Vec<usize>) {
        let (mut scratch, mut found, mut slices, mut first) = (Scratch::default(), Vec::new(), Vec::new(), 0);
        let (mut place, mut interrupted) = (None, Vec::new());
        while first < queries.len() {
            let before = place;
            let asked = Cell::new(0);
            let goes_on = || {
                asked.set(asked.get() + 1);
                asked.get() <= patience
            };
            let mut told: Vec<Found> = std::mem::take(&mut interrupted);
            let rest = &queries[first..];
            let whole = snapshot
                .visit_while(rest, threshold, &mut scratch, &goes_on, &mut place, |hit| told.push(hit));
            assert!(whole > 0 || place != before, "a slice comes further than the one before");
            if place.is_some() {
                let next = told.iter().filter(|hit| hit.query as usize == whole);
                interrupted = next.map(|hit| Found { query: 0, ..*hit }).collect();
            }
            told.retain(|hit| (hit.query as usize) < whole);
            told.sort_unstable_by_key(|hit| (hit.query, hit.distance, hit.content));
            found.extend(told.into_iter().map(|hit| Found { query: hit.query + first as u32, ..hit }));
            slices.push(whole);
            first += whole;
        }
        (found, slices)
    }

    fn entries<H>(hashes: Vec<H>) -> Vec<Entry<H>> {
        let entry = |(at, hash)| Entry { hash, content: ContentId(at as u64 + 1), bank: BankId(1) };
        hashes.into_iter().enumerate().map(entry).collect()
    }

    /// Hashes of which some are alike, in several segments and a delta; and queries for them.
    fn crowded(random: &mut ChaCha8Rng) -> (PdqSnapshot, Vec<Hash256>) {
        let same = Hash256(random.random());
        let mut hashes: Vec<Hash256> = (0..24_000).map(|_| Hash256(random.random())).collect();
        for at in (0..hashes.len()).step_by(6) {
            hashes[at] = same;
        }
        let mut queries: Vec<Hash256> = (0..40).map(|at| hashes[at * 600 + 1]).collect();
        for at in (3..40).step_by(9) {
            queries[at] = same;
        }
        let mut entries = entries(hashes);
        let young = entries.split_off(22_500);
        (PdqSnapshot::of(entries, 12_000).with_added(&young), queries)
    }

    #[test]
    fn a_search_in_slices_finds_what_one_in_one_go_does() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let (snapshot, queries) = crowded(&mut random);
        for (bits, patience) in [(31, 0), (31, 1), (31, 2), (31, 7), (0, 1), (128, 3), (90, 0)] {
            let threshold = Distance::new(bits).unwrap();
            let mut expected = Vec::new();
            snapshot.search(&queries, threshold, &mut Scratch::default(), &mut expected);
            let (found, slices) = sliced(&snapshot, &queries, threshold, patience);
            assert!(expected.len() > 4 * 4000 && found == expected, "{bits} bits, {slices:?}");
        }
        let digest = |at: u32| Digest::new(&[(at % 251) as u8; 16]).unwrap();
        let digests = ExactSnapshot::of(entries((0..251 * 1100).map(digest).collect()), 200_000);
        let queries: Vec<Digest> = (0..50).map(|at| digest(at * 5)).collect();
        let mut expected = Vec::new();
        digests.search(&queries, Distance::default(), &mut Scratch::default(), &mut expected);
        let (found, slices) = sliced(&digests, &queries, Distance::default(), 0);
        assert!(expected.len() == 50 * 1100 && found == expected, "{slices:?}");
        assert!(slices.iter().all(|slice| *slice <= 1), "{slices:?}");
    }

    #[test]
    fn a_query_that_matches_everything_is_interrupted() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let same = Hash256(random.random());
        let mut all = entries(vec![same; 70_000]);
        let young = all.split_off(50_000);
        let snapshot = PdqSnapshot::of(all, 30_000).with_added(&young);
        let (asked, matches) = (Cell::new(0), Cell::new(0));
        let most = Cell::new(0);
        let goes_on = || {
            asked.set(asked.get() + 1);
            most.set(most.get().max(matches.replace(0)));
            true
        };
        let mut scratch = Scratch::default();
        for bits in [31, 128] {
            let (threshold, mut place) = (Distance::new(bits).unwrap(), None);
            let whole = snapshot.visit_while(&[same], threshold, &mut scratch, &goes_on, &mut place, |_| {
                matches.set(matches.get() + 1);
            });
            assert_eq!((whole, place), (1, None));
        }
        assert!(asked.get() >= 16 && most.get() <= 8192, "{} matches between two questions", most.get());
    }

    #[test]
    fn a_query_among_duplicates_ends_its_slice_and_others_do_not() {
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let (snapshot, queries) = crowded(&mut random);
        let threshold = Distance::new(31).unwrap();
        let (_, slices) = sliced(&snapshot, &[queries[3]; 20], threshold, 0);
        assert!(slices.iter().all(|whole| *whole <= 1), "{slices:?}");
        // Elsewhere one question for each block of 16, and not one for each query.
        let hashes: Vec<Hash256> = (0..24_000).map(|_| Hash256(random.random())).collect();
        let uniform = PdqSnapshot::from_entries(entries(hashes.clone()));
        let asked = Cell::new(0);
        let goes_on = || {
            asked.set(asked.get() + 1);
            true
        };
        let mut place = None;
        uniform.visit_while(&hashes[..64], threshold, &mut Scratch::default(), &goes_on, &mut place, |_| {});
        assert_eq!(place, None);
        assert!(asked.get() <= 4 || uniform.segments[0].tables().is_none(), "{}", asked.get());
    }
}
