//! What a lookup asks of its matches, and which of them count.
//!
//! One rule for every search: what is removed, not seen, beyond its bank's threshold, paused or in a bank that is off is
//! left out match by match, before anything is cut to a limit.

use super::{Bank, BankState};
use crate::mih::Scratch;
use crate::nearest::{Nearest, Partial, Ranked};
use crate::signal::{BankId, ContentId, Distance, Hash256, SignalType};
use crate::slices::GoesOn;
use crate::snapshot::{BulkRow, Found, Place};

/// Is told of a match and whether it counts; says whether it is watched for.
pub type OnMatch<'a> = &'a dyn Fn(ContentId, bool) -> bool;

/// How much of what matches is listed, and what counts.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// Matches listed of each query, nearest first.
    pub limit: usize,
    /// Whether the nearest match of every further bank is listed as well.
    pub every_bank: bool,
    /// The second at which contents that are paused do not count; `None` if they do.
    pub now_s: Option<u64>,
    /// Whether banks that are off count.
    pub off_counts: bool,
    /// Which banks count; all if absent.
    pub banks: Option<&'a dyn Fn(&Bank) -> bool>,
    /// Whether matches that do not count are noted all the same.
    pub notes_all: bool,
    /// Told of what is noted; without it nothing is.
    pub on_match: Option<OnMatch<'a>>,
}

impl<'a> Ask<'a> {
    /// Everything that matches at this second: so many of each query, and the nearest of every further bank.
    pub fn matching(limit: usize, now_s: u64) -> Self {
        Self {
            limit,
            every_bank: true,
            now_s: Some(now_s),
            off_counts: false,
            banks: None,
            notes_all: false,
            on_match: None,
        }
    }

    /// The same for who is watched: also what does not count is noted.
    pub fn noting(limit: usize, now_s: u64, on_match: OnMatch<'a>) -> Self {
        Self { notes_all: true, on_match: Some(on_match), ..Self::matching(limit, now_s) }
    }
}

/// A part of a search: when it ends, and where it goes on.
pub struct Slice<'g> {
    /// Says whether the search goes on; asked often.
    pub goes_on: GoesOn<'g>,
    /// The search that the first query was interrupted in, which goes on with that query alone; afterwards that of the query
    /// behind those that were searched whole, if it was interrupted. Only the same state, ask and threshold can go on with it.
    pub interrupted: Option<Interrupted>,
}

impl<'g> Slice<'g> {
    /// All of a search.
    pub fn whole() -> Self {
        Self { goes_on: &|| true, interrupted: None }
    }

    /// Gathers what `visit` takes for so many queries; it returns how many it searched whole.
    fn search(
        &mut self,
        queries: usize,
        ask: &Ask<'_>,
        nearest: &mut Nearest<Found>,
        visit: impl FnOnce(&mut Nearest<Found>, GoesOn<'g>, &mut Option<Place>) -> usize,
    ) -> usize {
        nearest.begin(queries, ask.limit, ask.every_bank);
        let mut place = None;
        if let Some(Interrupted { place: at, matches }) = self.interrupted.take() {
            place = Some(at);
            nearest.resume(matches);
        }
        let whole = visit(nearest, self.goes_on, &mut place);
        self.interrupted = place.map(|place| Interrupted { place, matches: nearest.interrupt(whole) });
        nearest.finish();
        nearest.keep_first(whole);
        whole
    }
}

/// A query whose search was interrupted: where, and what it matched so far.
#[derive(Debug)]
pub struct Interrupted {
    place: Place,
    matches: Partial<Found>,
}

/// Decides of each match whether it counts. Remembers the last bank: duplicates lie in few.
pub(crate) struct Filter<'s> {
    state: &'s BankState,
    ask: &'s Ask<'s>,
    /// Everything counts: nothing is looked at, as nearly always.
    all: bool,
    /// The type's own threshold, where banks may have theirs.
    own: Option<Distance>,
    last: Option<(BankId, OfBank)>,
}

/// What counts of a bank.
#[derive(Clone, Copy)]
struct OfBank {
    /// Nothing where the bank is not seen.
    within: Option<Distance>,
    counts: bool,
}

impl<'s> Filter<'s> {
    /// `own` is the type's own threshold where each bank's holds.
    pub(crate) fn new(state: &'s BankState, ask: &'s Ask<'s>, own: Option<Distance>) -> Self {
        let directory = &state.directory;
        let pauses = ask.now_s.is_some() && !state.paused.is_empty();
        let by_bank =
            directory.is_narrowed() || ask.banks.is_some() || directory.has_off() && !ask.off_counts;
        let all = own.is_none() && !by_bank && !pauses;
        Self { state, ask, all, own, last: None }
    }

    /// Notes and takes a match as far as it counts.
    #[inline]
    pub(crate) fn take<M: Ranked>(
        &mut self,
        nearest: &mut Nearest<M>,
        query: usize,
        found: M,
        bits: Distance,
    ) {
        let (bank, (_, content)) = (found.bank(), found.rank());
        let Some(counts) = (if self.all { Some(true) } else { self.counts(bank, content, bits) }) else {
            return;
        };
        if let Some(on_match) = self.ask.on_match
            && (counts || self.ask.notes_all)
        {
            let is_watched = on_match(content, counts);
            nearest.note(query, &found, is_watched);
        }
        if counts {
            nearest.take(query, found);
        }
    }

    /// Whether a match counts; `None` if it is none.
    fn counts(&mut self, bank: BankId, content: ContentId, bits: Distance) -> Option<bool> {
        let of = match self.last {
            Some((last, of)) if last == bank => of,
            _ => {
                let of = self.of_bank(bank);
                self.last = Some((bank, of));
                of
            }
        };
        if bits > of.within? {
            return None;
        }
        Some(of.counts && self.ask.now_s.is_none_or(|now_s| self.state.paused.matches(content, now_s)))
    }

    fn of_bank(&self, bank: BankId) -> OfBank {
        let known = self.state.directory.get(bank);
        if known.is_none() && self.state.directory.is_narrowed() {
            return OfBank { within: None, counts: false };
        }
        let threshold = |own| known.and_then(|bank| bank.threshold).unwrap_or(own);
        let is_on = self.ask.off_counts || known.is_some_and(|bank| !bank.is_off());
        let is_asked = self.ask.banks.is_none_or(|banks| known.is_some_and(banks));
        OfBank { within: Some(self.own.map_or(Distance::MAX, threshold)), counts: is_on && is_asked }
    }
}

impl BankState {
    /// The PDQ signals within the threshold of each query; without one, within that of each bank. Returns how many
    /// queries, from the first, were searched whole: all unless the slice ends earlier, and none where it ends within the
    /// first query.
    pub fn search_pdq(
        &self,
        hashes: &[Hash256],
        threshold: Option<Distance>,
        ask: &Ask<'_>,
        slice: &mut Slice<'_>,
        scratch: &mut Scratch,
        nearest: &mut Nearest<Found>,
    ) -> usize {
        let (widest, own) = self.reach(threshold);
        let mut filter = Filter::new(self, ask, own);
        slice.search(hashes.len(), ask, nearest, |nearest, goes_on, place| {
            self.tables.pdq.visit_while(hashes, widest, scratch, goes_on, place, |found| {
                filter.take(nearest, found.query as usize, found, found.distance);
            })
        })
    }

    /// The same of signals of a type that is compared whole.
    pub fn search_exact(
        &self,
        kind: SignalType,
        digests: &[crate::signal::Digest],
        ask: &Ask<'_>,
        slice: &mut Slice<'_>,
        scratch: &mut Scratch,
        nearest: &mut Nearest<Found>,
    ) -> usize {
        let mut filter = Filter::new(self, ask, None);
        slice.search(digests.len(), ask, nearest, |nearest, goes_on, place| {
            self.tables.exact(kind).map_or(digests.len(), |exact| {
                exact.visit_while(digests, Distance::default(), scratch, goes_on, place, |found| {
                    filter.take(nearest, found.query as usize, found, found.distance);
                })
            })
        })
    }

    /// Tells of each query that matches what [`BankState::search_pdq`] lists of it, by query. `pause` is called before
    /// each segment is swept and before each block of queries; when it or `tell` says no the search ends there, and this
    /// says no.
    pub fn scan(
        &self,
        queries: &[Hash256],
        threshold: Option<Distance>,
        ask: &Ask<'_>,
        pause: impl FnMut() -> bool,
        tell: impl FnMut(&BulkRow<'_>) -> bool,
    ) -> bool {
        let (widest, own) = self.reach(threshold);
        let mut filter = Filter::new(self, ask, own);
        let take = |nearest: &mut Nearest<Found>, query, found: Found| {
            filter.take(nearest, query, found, found.distance);
        };
        self.tables.pdq.scan(queries, widest, (ask.limit, ask.every_bank), take, pause, tell)
    }

    /// How far a search for PDQ signals has to reach, and the type's own threshold where each bank's holds.
    pub(crate) fn reach(&self, asked: Option<Distance>) -> (Distance, Option<Distance>) {
        let own = SignalType::Pdq.threshold();
        match (asked, self.directory.widest_threshold()) {
            (Some(asked), _) => (asked, None),
            (None, Some(widest)) => (own.max(widest), Some(own)),
            (None, None) => (own, None),
        }
    }
}
