//! Stored segments: what is kept of the tables so that a restart need not build them again.
//!
//! A *list* row names the stored segments and says what they cover: of each type, every signal of the contents
//! below `covers` that was not removed by then. It also holds the banks' counts at that moment. From a list, what
//! came after it is found without reading all contents: younger contents by their ids, removals in their own
//! keyspace, removed banks because they are gone. So an old list is as right as a new one, only slower to start
//! from; a segment that does not read as written makes the list worthless, and all is built from the contents.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::load::{Loaded, visit};
use super::{BankState, Banks, Directory, Entries, LoadProgress, lock};
use crate::segment::{Entry, Searchable, Segment};
use crate::signal::{BankId, ContentId, Generation, SignalType};
use crate::snapshot::Snapshot;
use crate::store::keys::{
    SEGMENTS_KEY, content_key, decode_content, decode_removed, json_row, read_content_key, read_json_row,
    removed_key,
};
use crate::store::segments::{SegmentId, SegmentStore, read_part, write_parts};
use crate::store::{Batch, Durability, Keyspace, Range, Store, StoreError};

/// Layout of the arrays. Another one is not read but built anew.
const LAYOUT: u32 = 2;
/// A younger delta than this is searched as it is after a restart; more becomes a segment at once.
const DELTA_MAX: usize = 512;

const LIST_VERSION: u8 = 1;

/// The stored list.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct List {
    layout: u32,
    generation: Generation,
    last_content: ContentId,
    banks: Vec<Counts>,
    types: BTreeMap<SignalType, Covered>,
    /// Segments below it may have been used.
    next: SegmentId,
}

/// What a bank held.
#[derive(Debug, Serialize, Deserialize)]
struct Counts {
    bank: BankId,
    contents: u64,
    signals: BTreeMap<SignalType, u64>,
}

/// What is stored of a type.
#[derive(Debug, Serialize, Deserialize)]
struct Covered {
    /// Every signal of the contents up to this one lies in the segments.
    covers: ContentId,
    /// Oldest first.
    segments: Vec<Row>,
}

/// A stored segment.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    id: SegmentId,
    signals: usize,
    numbers: Vec<u64>,
}

impl Banks {
    /// Stores one segment if one is worth it, or else brings the list up to date; says whether it did
    /// anything. Takes long: call it from a thread of its own, as [`Banks::merge_step`].
    pub fn store_step(&self) -> Result<bool, StoreError> {
        let Some(storing) = &self.storing else { return Ok(false) };
        let mut keeper = lock(&self.keeper);
        match store_one(&self.state_owned(), storing, &mut keeper.next) {
            Ok(true) => Ok(true),
            Ok(false) => self.write_list(&mut keeper, &*storing.store),
            Err(full) if full.is_disk_full() => {
                // A list of what is stored still names less than the last one did: what merges replaced goes, and there
                // may be room for the next try.
                self.write_list(&mut keeper, &*storing.store)?;
                Err(full)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes stored segments that no table has any more, and stores nothing: for a full disk. Says whether it removed
    /// any.
    pub fn free_step(&self) -> Result<bool, StoreError> {
        let Some(storing) = &self.storing else { return Ok(false) };
        self.write_list(&mut lock(&self.keeper), &*storing.store)
    }

    fn write_list(&self, keeper: &mut Keeper, segments: &dyn SegmentStore) -> Result<bool, StoreError> {
        let state = self.state_owned();
        let last = state.last_content;
        // A list covers what is below its first gap. One that was made by a merge meanwhile is stored first.
        let tables = &state.tables;
        if tables.pdq.has_stored_behind_unstored()
            || tables.exact.iter().any(Snapshot::has_stored_behind_unstored)
        {
            return Ok(false);
        }
        let mut types = BTreeMap::from([(SignalType::Pdq, covered(&state.tables.pdq, last))]);
        types.extend(
            SignalType::EXACT
                .into_iter()
                .zip(&state.tables.exact)
                .map(|(kind, exact)| (kind, covered(exact, last))),
        );
        let ids: Vec<SegmentId> =
            types.values().flat_map(|covered| covered.segments.iter().map(|row| row.id)).collect();
        if ids == keeper.listed {
            // Of a write that failed after it had taken something in.
            return remove_unlisted(segments, &ids);
        }
        let banks = state.directory.list().into_iter().map(|bank| Counts {
            bank: bank.id,
            contents: bank.contents,
            signals: SignalType::ALL.into_iter().zip(bank.signals).collect(),
        });
        let list = List {
            layout: LAYOUT,
            generation: state.generation,
            last_content: last,
            banks: banks.collect(),
            types,
            next: keeper.next,
        };
        let mut batch = Batch::default();
        batch.put(Keyspace::BankMeta, SEGMENTS_KEY, json_row(LIST_VERSION, &list));
        // Removals that no segment has to be told of any more.
        visit(&*self.store, Keyspace::Removed, Range::ALL, |key, row| {
            let removed = decode_removed(key, row)?;
            let known = state.tables.remembers_removal(removed.content);
            if !known && removed.generation <= state.generation {
                batch.delete(Keyspace::Removed, removed_key(removed.content));
            }
            Ok(())
        })?;
        self.store.commit(batch, Durability::Sync)?;
        remove_unlisted(segments, &ids)?;
        keeper.listed = ids;
        Ok(true)
    }
}

/// Removes stored segments that no list names; says whether there were any.
fn remove_unlisted(segments: &dyn SegmentStore, listed: &[SegmentId]) -> Result<bool, StoreError> {
    let mut any = false;
    for segment in segments.list()?.into_iter().filter(|segment| !listed.contains(segment)) {
        segments.remove(segment)?;
        any = true;
    }
    Ok(any)
}

/// Where segments are stored, and when.
#[derive(Clone)]
pub struct Storing {
    /// Where.
    pub store: Arc<dyn SegmentStore>,
    /// Signals that make a segment worth storing: to read the contents of 32 768 again takes some 50 ms.
    pub worth: usize,
    /// Contents that came after an unstored signal: by then it is stored however small its segment, since a
    /// restart reads all contents from the first unstored on.
    pub lag: u64,
    /// Says whether there is room for a segment of so many bytes.
    pub admit: Admit,
}

/// Says whether so many bytes may be written.
pub type Admit = Arc<dyn Fn(u64) -> Result<(), StoreError> + Send + Sync>;

impl Storing {
    /// In this store, at the usual times.
    pub fn into(store: Arc<dyn SegmentStore>) -> Self {
        Self { store, worth: 32_768, lag: 200_000, admit: Arc::new(|_| Ok(())) }
    }

    /// Whether a signal waits so long to be stored that it should be merged for it.
    pub(super) fn lags<H: Searchable>(&self, snapshot: &Snapshot<H>, last: ContentId) -> bool {
        snapshot.first_unstored().is_some_and(|first| first.0 + self.lag < last.0)
    }
}

/// What the storing thread remembers.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    /// The next id to use.
    next: SegmentId,
    /// The segments the stored list names.
    listed: Vec<SegmentId>,
}

/// Stores one segment of any type, if one is worth it; says whether it did.
fn store_one(state: &BankState, storing: &Storing, next: &mut SegmentId) -> Result<bool, StoreError> {
    let last = state.last_content;
    if store_next(&state.tables.pdq, storing, next, last)? {
        return Ok(true);
    }
    for exact in &state.tables.exact {
        if store_next(exact, storing, next, last)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Stores the oldest segment that is not, if it is worth it; says whether it did.
fn store_next<H: Searchable>(
    snapshot: &Snapshot<H>,
    storing: &Storing,
    next: &mut SegmentId,
    last: ContentId,
) -> Result<bool, StoreError> {
    let Some(segment) = snapshot.segments().iter().find(|segment| segment.stored().is_none()) else {
        return Ok(false);
    };
    let in_the_way = snapshot.has_stored_behind_unstored();
    if segment.len() < storing.worth && !storing.lags(snapshot, last) && !in_the_way {
        return Ok(false);
    }
    let parts = segment.parts().1;
    (storing.admit)(parts.iter().map(|part| part.len() as u64).sum())?;
    let id = *next;
    next.0 += 1; // whether or not it is written whole
    write_parts(&*storing.store, id, &parts).map_err(StoreError::of_derived)?;
    segment.set_stored(id);
    Ok(true)
}

/// What the stored segments of a type cover.
fn covered<H: Searchable>(snapshot: &Snapshot<H>, last: ContentId) -> Covered {
    let stored = snapshot.segments().iter().map_while(|segment| {
        Some(Row { id: segment.stored()?, signals: segment.len(), numbers: segment.parts().0 })
    });
    let covers = snapshot.first_unstored().map_or(last, |first| ContentId(first.0 - 1));
    Covered { covers, segments: stored.collect() }
}

/// Loads what the list names and what came after it. `Ok(Err(reason))` where that cannot be done.
pub(super) fn load(
    store: &dyn Store,
    segments: &dyn SegmentStore,
    directory: &Directory,
    segment_max: usize,
    progress: &LoadProgress,
) -> Result<Result<(Loaded, Keeper), Option<String>>, StoreError> {
    let Some(row) = store.get(Keyspace::BankMeta, SEGMENTS_KEY)? else { return Ok(Err(None)) };
    let list: List = match read_json_row(Keyspace::BankMeta, LIST_VERSION, &row) {
        Ok(list) => list,
        Err(error) => return Ok(Err(Some(error.to_string()))),
    };
    if list.layout != LAYOUT {
        return Ok(Err(Some(format!("they have layout {}, this program writes {LAYOUT}", list.layout))));
    }
    let mut loaded = Loaded { directory: directory.clone(), ..Loaded::default() };
    for counts in &list.banks {
        if let Some(bank) = loaded.directory.counts(counts.bank) {
            *bank.contents = counts.contents;
            counts.signals.iter().for_each(|(kind, count)| bank.signals[kind.place()] = *count);
        }
    }
    let mut removed: BTreeMap<SignalType, Vec<ContentId>> = BTreeMap::new();
    visit(store, Keyspace::Removed, Range::ALL, |key, row| {
        let gone = decode_removed(key, row)?;
        if gone.generation > list.generation
            && gone.content <= list.last_content
            && let Some(bank) = loaded.directory.counts(gone.bank)
        {
            *bank.contents -= 1;
            gone.kinds.iter().for_each(|kind| bank.signals[kind.place()] -= 1);
        }
        for kind in gone.kinds {
            if list.types.get(&kind).is_some_and(|covered| gone.content <= covered.covers) {
                removed.entry(kind).or_default().push(gone.content);
            }
        }
        Ok(())
    })?;
    let younger = read_younger(store, &list, &mut loaded.directory, progress)?;
    let Entries { pdq, exact, .. } = younger;
    let directory = &loaded.directory;
    let source = Source { segments, list: &list, directory, removed: &removed, progress, segment_max };
    loaded.tables.pdq = match source.assemble(SignalType::Pdq, pdq) {
        Ok(pdq) => pdq,
        Err(reason) => return Ok(Err(Some(reason))),
    };
    for ((place, kind), younger) in SignalType::EXACT.into_iter().enumerate().zip(exact) {
        loaded.tables.exact[place] = match source.assemble(kind, younger) {
            Ok(exact) => exact,
            Err(reason) => return Ok(Err(Some(reason))),
        };
    }
    let rows = list.types.values().flat_map(|covered| covered.segments.iter().map(|row| row.id));
    let listed: Vec<SegmentId> = rows.collect();
    // Written and not listed before the process ended.
    if let Err(error) = remove_unlisted(segments, &listed) {
        return Ok(Err(Some(error.to_string())));
    }
    Ok(Ok((loaded, Keeper { next: list.next, listed })))
}

/// After a list that could not be used: it goes, and what it named; ids go on behind whatever is there.
pub(super) fn start_over(store: &dyn Store, segments: &dyn SegmentStore) -> Result<Keeper, StoreError> {
    if store.get(Keyspace::BankMeta, SEGMENTS_KEY)?.is_some() {
        let mut batch = Batch::default();
        batch.delete(Keyspace::BankMeta, SEGMENTS_KEY);
        store.commit(batch, Durability::Sync)?;
    }
    let mut next = SegmentId(1);
    for segment in segments.list()? {
        next = next.max(SegmentId(segment.0 + 1));
        segments.remove(segment)?;
    }
    Ok(Keeper { next, listed: Vec::new() })
}

/// Reads the contents that are younger than what is stored, and counts those younger than the list.
fn read_younger(
    store: &dyn Store,
    list: &List,
    directory: &mut Directory,
    progress: &LoadProgress,
) -> Result<Entries, StoreError> {
    // A type that was not known yet when the list was written has no signals that old.
    let covers = |kind| list.types.get(&kind).map_or(list.last_content, |covered| covered.covers);
    let least = SignalType::ALL.into_iter().map(covers).min().unwrap_or_default();
    let (mut younger, mut signals) = (Entries::default(), Vec::new());
    let banks: Vec<BankId> = directory.banks().map(|bank| bank.id).collect();
    for bank in banks {
        let (from, to) =
            (content_key(bank, ContentId(least.0 + 1)), content_key(BankId(bank.0 + 1), ContentId(0)));
        visit(store, Keyspace::Contents, Range::between(&from, &to), |key, row| {
            let (bank, content) = read_content_key(key)?;
            decode_content(row, &mut signals)?;
            let Some(owner) = directory.counts(bank) else { return Ok(()) };
            if content > list.last_content {
                *owner.contents += 1;
            }
            for signal in &signals {
                if content > list.last_content {
                    owner.signals[signal.kind().place()] += 1;
                }
                if content > covers(signal.kind()) && !signal.kind().is_rebuilt() {
                    younger.push(signal, content, bank);
                }
            }
            progress.contents.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })?;
    }
    younger.pdq.sort_unstable_by_key(|entry| entry.content);
    younger.exact.iter_mut().for_each(|exact| exact.sort_unstable_by_key(|entry| entry.content));
    Ok(younger)
}

/// What snapshots are put together from.
struct Source<'s> {
    segments: &'s dyn SegmentStore,
    list: &'s List,
    directory: &'s Directory,
    removed: &'s BTreeMap<SignalType, Vec<ContentId>>,
    progress: &'s LoadProgress,
    segment_max: usize,
}

impl Source<'_> {
    /// A type's snapshot: stored segments, what came after them, and what was removed since.
    fn assemble<H: Searchable>(
        &self,
        kind: SignalType,
        younger: Vec<Entry<H>>,
    ) -> Result<Snapshot<H>, String> {
        let mut segments: Vec<Arc<Segment<H>>> = Vec::new();
        for row in self.list.types.get(&kind).map_or(&[][..], |covered| &covered.segments) {
            if row.signals > self.segment_max.min(H::SEGMENT_MAX) {
                return Err(format!(
                    "stored segment {} holds {} signals, this program keeps fewer together",
                    row.id.0, row.signals
                ));
            }
            segments.push(Arc::new(read_segment(self.segments, row)?));
            self.progress.contents.fetch_add(row.signals as u64, Ordering::Relaxed);
        }
        let live: u64 = self.directory.list().iter().map(|bank| bank.signals[kind.place()]).sum();
        let held: usize = segments.iter().map(|segment| segment.len()).sum::<usize>() + younger.len();
        if (held as u64) < live {
            return Err(format!("the banks hold {live} {kind} signals, the segments only {held}"));
        }
        let banks: HashSet<BankId> = segments.iter().flat_map(|segment| segment.banks()).copied().collect();
        let removed_banks = banks.into_iter().filter(|bank| self.directory.get(*bank).is_none()).collect();
        let removed = held_of(&segments, self.removed.get(&kind).map_or(&[][..], Vec::as_slice));
        let young = younger.len();
        if young > DELTA_MAX {
            segments.extend(Segment::build_all(younger, self.segment_max));
            return Ok(Snapshot::from_segments(segments, live as usize, &removed, removed_banks));
        }
        let without_young = (live as usize).saturating_sub(young);
        Ok(Snapshot::from_segments(segments, without_young, &removed, removed_banks).with_added(&younger))
    }
}

/// Of these removed contents those that a segment still holds. A merge has left the others out; were they remembered, no
/// later merge would meet and forget them, and their rows would stay.
fn held_of<H: Searchable>(segments: &[Arc<Segment<H>>], removed: &[ContentId]) -> Vec<ContentId> {
    if removed.is_empty() {
        return Vec::new();
    }
    let wanted: HashSet<ContentId> = removed.iter().copied().collect();
    let entries = segments.iter().flat_map(|segment| segment.entries());
    entries.map(|entry| entry.content).filter(|content| wanted.contains(content)).collect()
}

fn read_segment<H: Searchable>(store: &dyn SegmentStore, row: &Row) -> Result<Segment<H>, String> {
    let mut part = 0;
    let mut read = |bytes: &mut [u8]| {
        part += 1;
        read_part(store, row.id, part - 1, bytes)
    };
    Segment::from_parts(row.id, row.signals, &row.numbers, &mut read)
        .map_err(|error| error.to_string())?
        .ok_or_else(|| format!("stored segment {}: its numbers are those of no segment", row.id.0))
}

impl BankState {
    /// Signals of all types in segments that are stored.
    pub fn stored_signals(&self) -> usize {
        fn stored<H: Searchable>(snapshot: &Snapshot<H>) -> usize {
            let stored = snapshot.segments().iter().filter(|segment| segment.stored().is_some());
            stored.map(|segment| segment.len()).sum()
        }
        stored(&self.tables.pdq) + self.tables.exact.iter().map(stored).sum::<usize>()
    }
}
