//! The search for one frame, in slices: what it found so far waits with its connection while others get their turn.
//!
//! A frame is searched block by block and each block is judged at once, so that a bank full of duplicates costs time,
//! bounded by [`SLICE`], and never memory for what is not told.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use index::bank::{Ask, BankState, Interrupted, Slice};
use index::hit::UPLOAD;
use index::{BankId, ContentId, Digest, Distance, Hash256, SignalType, Tenant};
use ingest::wire::{HitRef, Match, QueryView};
use reporter::access::Directory;
use reporter::router::table::{Classified, Facts, MatchFact, Screened, Source, Subject};

use super::connection::Connection;
use super::listed::{bank_name, list};
use super::serve::{Core, Told};
use super::views::View;
use crate::clock::{now_ms, now_s};
use crate::defence::Matched;

/// How long a frame is searched before the shard's other connections get their turn. A query among very many matches is
/// interrupted.
pub(super) const SLICE: Duration = Duration::from_micros(500);
/// Hashes searched together: at first, and at most.
const BLOCK: usize = 16;
const BLOCK_MAX: usize = 64;
/// Matches listed in one answer: past it each hash lists its nearest, and that of every bank. Bounds what a
/// Submit against a bank full of duplicates can make the ledger hold.
const FRAME_MATCHES_MAX: usize = 65_536;
/// Entries whose room each buffer keeps for the next frame.
const KEPT: usize = 8192;

/// What is known of a frame so far.
pub(super) struct Work {
    /// The lookup it is, where its frame is served already: it was set aside, and takes longer than a slice.
    pub(super) apart: Option<Apart>,
    /// The banks it is matched against, while it waits.
    state: Option<Arc<BankState>>,
    /// Its hashes.
    pub(super) pdq: Vec<Hash256>,
    pub(super) digests: Vec<Digest>,
    /// How many of them were searched for, and how many come next.
    pub(super) done: usize,
    block: usize,
    /// The next of them, if its search was interrupted.
    pub(super) interrupted: Option<Interrupted>,
    pub(super) hits: Vec<HitRef>,
    pub(super) matches: Vec<Match>,
    /// The nearest match of each hash that matched.
    pub(super) nearest: Vec<Matched>,
    /// The first honeytoken found.
    pub(super) honeytoken: Option<ContentId>,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            apart: None,
            state: None,
            pdq: Vec::new(),
            digests: Vec::new(),
            done: 0,
            block: BLOCK,
            interrupted: None,
            hits: Vec::new(),
            matches: Vec::new(),
            nearest: Vec::new(),
            honeytoken: None,
        }
    }
}

impl Work {
    /// Forgets a frame, and gives back what an unusual one took.
    pub(super) fn clear(&mut self) {
        trim(&mut self.pdq);
        trim(&mut self.digests);
        trim(&mut self.hits);
        trim(&mut self.matches);
        trim(&mut self.nearest);
        (self.apart, self.state, self.interrupted, self.honeytoken) = (None, None, None, None);
        (self.done, self.block) = (0, BLOCK);
    }

    /// Makes it a lookup whose frame is served already, of whose hashes so many were searched for, and the next perhaps
    /// in part.
    pub(super) fn go_apart(&mut self, apart: Apart, searched: usize, interrupted: Option<Interrupted>) {
        self.apart = Some(apart);
        (self.done, self.interrupted) = (searched, interrupted);
    }
}

/// A PDQ lookup without its frame.
pub(super) struct Apart {
    pub(super) correlation: u64,
    pub(super) threshold: Option<Distance>,
}

/// What is searched for.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) kind: SignalType,
    pub(super) hashes: usize,
    pub(super) threshold: Option<Distance>,
}

impl Asked {
    pub(super) fn of(query: &QueryView<'_>) -> Self {
        Self { kind: query.signal_type, hashes: query.len(), threshold: query.threshold }
    }
}

/// Empties a buffer, and gives back what an unusual frame took.
pub(super) fn trim<T>(buffer: &mut Vec<T>) {
    buffer.clear();
    buffer.shrink_to(KEPT);
}

/// How many hashes fit a slice, where so many took so long; at least one.
pub(super) fn fitting(hashes: usize, took: Duration, most: usize) -> usize {
    let each = (took.as_nanos() as usize / hashes.max(1)).max(1);
    (SLICE.as_nanos() as usize / each).clamp(1, most)
}

/// Hashes of a search, and which of its frame they are.
pub(super) struct Block {
    /// The rows of the search that are the frame's.
    pub(super) rows: Range<usize>,
    /// The query of the search that is the frame's hash `hash`.
    pub(super) query: u32,
    /// A hash of the frame.
    pub(super) hash: u32,
}

impl Core {
    /// The banks that the frame in work is matched against: those it began with, or the newest.
    pub(super) fn state_of_work(&mut self, tenant: Option<&Tenant>) -> View {
        match self.work.state.take() {
            Some(state) => View::Tenants(state),
            None => self.views.newest(&self.parts.banks, tenant),
        }
    }

    /// Lets the frame in work wait for its next slice.
    pub(super) fn set_aside(&mut self, connection: &mut Connection, state: View) {
        self.work.state = Some(state.into_owned());
        connection.work = Some(Box::new(std::mem::take(&mut self.work)));
    }

    /// The same for a lookup whose frame is served already.
    pub(super) fn keep_apart(&mut self, connection: &mut Connection, state: Arc<BankState>) {
        self.work.state = Some(state);
        connection.apart.push_front(Box::new(std::mem::take(&mut self.work)));
    }

    /// Copies a frame's hashes where it is begun.
    pub(super) fn begin(&mut self, query: &QueryView<'_>) {
        if self.work.done == 0 {
            match query.signal_type {
                SignalType::Pdq => query.append_pdq(&mut self.work.pdq),
                _ => query.copy_digests(&mut self.work.digests),
            }
        }
    }

    /// Searches and judges the frame in work for a slice; says whether that was its end.
    pub(super) fn advance<'q>(
        &mut self,
        state: &BankState,
        asked: Asked,
        tenant: Option<&Tenant>,
        told: impl Fn(u32) -> Told<'q>,
    ) -> bool {
        let (kind, begun) = (asked.kind, Instant::now());
        let goes_on = || begun.elapsed() < SLICE;
        let watch = self.parts.door.honeytokens();
        let mut before = Duration::ZERO;
        loop {
            let first = self.work.done;
            let end = asked.hashes.min(first + self.work.block);
            let (pdq, digests) = (std::mem::take(&mut self.work.pdq), std::mem::take(&mut self.work.digests));
            let mut slice = Slice { goes_on: &goes_on, interrupted: self.work.interrupted.take() };
            let searched = match kind {
                SignalType::Pdq => {
                    self.search_pdq(state, &pdq[first..end], asked.threshold, watch.as_deref(), &mut slice)
                }
                _ => self.search_exact(state, kind, &digests[first..end], watch.as_deref(), &mut slice),
            };
            self.work.interrupted = slice.interrupted;
            (self.work.pdq, self.work.digests) = (pdq, digests);
            let end = first + searched; // fewer than asked for where very much matches
            let block = Block { rows: 0..self.nearest.rows().len(), query: 0, hash: first as u32 };
            self.judge(state, &block, kind, tenant, &told);
            self.work.done = end;
            let elapsed = begun.elapsed();
            self.count_search(end - first, elapsed - before);
            self.work.block = fitting(end - first, elapsed - before, BLOCK_MAX);
            if end == asked.hashes || elapsed >= SLICE {
                return end == asked.hashes;
            }
            before = elapsed;
        }
    }

    /// Fills `nearest`; returns how many hashes were searched for whole.
    pub(super) fn search_pdq(
        &mut self,
        state: &BankState,
        hashes: &[Hash256],
        threshold: Option<Distance>,
        watch: Option<&Directory>,
        slice: &mut Slice<'_>,
    ) -> usize {
        let limit = self.limit();
        let Self { scratch, nearest, .. } = self;
        with_watch(limit, watch, |ask| state.search_pdq(hashes, threshold, ask, slice, scratch, nearest))
    }

    fn search_exact(
        &mut self,
        state: &BankState,
        kind: SignalType,
        digests: &[Digest],
        watch: Option<&Directory>,
        slice: &mut Slice<'_>,
    ) -> usize {
        let limit = self.limit();
        let Self { scratch, nearest, .. } = self;
        with_watch(limit, watch, |ask| state.search_exact(kind, digests, ask, slice, scratch, nearest))
    }

    /// Matches that the next hash may list beside the nearest of every bank.
    fn limit(&self) -> usize {
        let room = FRAME_MATCHES_MAX.saturating_sub(self.work.matches.len()).max(1);
        self.parts.limits.matches_max.min(room)
    }

    pub(super) fn count_search(&mut self, hashes: usize, took: Duration) {
        let counts = &self.parts.counts;
        counts.lookups.fetch_add(hashes as u64, Ordering::Relaxed);
        counts.search_nanos.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    }

    /// Turns a block of `nearest` into hits and matches of the frame in work, with a verdict for each hit by the rules.
    pub(super) fn judge<'q>(
        &mut self,
        state: &BankState,
        block: &Block,
        signal_type: SignalType,
        tenant: Option<&Tenant>,
        told: impl Fn(u32) -> Told<'q>,
    ) {
        if block.rows.is_empty() {
            return;
        }
        let (catalog, now_ms) = (self.parts.catalog.load(), now_ms());
        for at in block.rows.clone() {
            let limit = self.limit();
            let row = &self.nearest.rows()[at];
            let found = self.nearest.listed(row);
            let hash = row.query - block.query + block.hash;
            let work = &mut self.work;
            work.honeytoken = work.honeytoken.or(row.watched);
            let Some(near) = found.first() else { continue };
            work.nearest.push(Matched { query: hash, content: near.content, distance: near.distance });
            let first = work.matches.len();
            list(found, limit, &mut work.matches);
            let listed = &work.matches[first..];
            let Told { item_id, item_type, author } = told(hash);
            // As `UploadContext` will have it in the hit.
            let own = tenant.map(|tenant| tenant.own(item_type.unwrap_or(UPLOAD)));
            let of = own.as_deref().or(item_type).unwrap_or(UPLOAD);
            let facts = Facts {
                subject: match item_id {
                    Some(id) => Subject::Item(of, id),
                    None => Subject::Signal(match signal_type {
                        SignalType::Pdq => &work.pdq[hash as usize].0,
                        kind => &work.digests[hash as usize].bytes()[..kind.bytes().unwrap_or(32)],
                    }),
                },
                item_type: item_type.map(|_| of),
                author,
                item: None,
                report: None,
                matches: listed.iter().map(|row| MatchFact {
                    bank_name: bank_name(state, BankId(row.bank())),
                    signal_type,
                    distance: Distance::new(row.distance()).unwrap_or(Distance::MAX),
                }),
                screened: Screened::Whole,
                classified: Classified::Inapplicable,
                source: Source::Upload,
            };
            let verdict = catalog.table.verdict(&facts, now_ms).number();
            work.hits.push(HitRef::new(hash, first as u32, listed.len() as u32, row.total, verdict));
        }
    }
}

/// Calls `search` with what a frame asks: everything that matches now, and to be told of honeytokens where there are any.
fn with_watch(limit: usize, watch: Option<&Directory>, search: impl FnOnce(&Ask<'_>) -> usize) -> usize {
    let ask = Ask::matching(limit, now_s());
    match watch {
        None => search(&ask),
        Some(directory) => {
            let is_watched = |content: ContentId, _: bool| directory.honeytokens.contains_key(&content);
            search(&Ask { on_match: Some(&is_watched), ..ask })
        }
    }
}
