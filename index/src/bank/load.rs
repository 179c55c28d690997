//! From the store to memory, at start.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;

use super::{
    Bank, BankOptions, BankRecord, BankState, Banks, Counters, Directory, Entries, Paused, Storing, Tables,
    Writer, stored,
};
use crate::signal::{BankId, ContentId, Generation, SignalType};
use crate::store::keys::{
    GENERATION_KEY, LAST_BANK_KEY, LAST_CONTENT_KEY, content_key, decode_content, decode_u64, read_bank_key,
    read_content_key, read_json_row, wrong,
};
use crate::store::{Keyspace, Range, RequestWindow, Store, StoreError};

/// How far loading is; read by the readiness probe while it runs.
#[derive(Debug, Default)]
pub struct LoadProgress {
    /// Contents read.
    pub contents: AtomicU64,
}

/// How the tables came to be.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Why stored segments could not be used, if they could not: all were built anew from the contents.
    pub rebuilt: Option<String>,
    /// Signals that came from stored segments.
    pub stored: usize,
}

/// What was read.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) directory: Directory,
    pub(super) tables: Tables,
}

impl Banks {
    /// Reads every bank from the store; tables come from stored segments, or are built where there are none.
    pub fn load(
        store: Arc<dyn Store>,
        options: BankOptions,
        progress: &LoadProgress,
    ) -> Result<(Self, LoadReport), StoreError> {
        let BankOptions { storing, durability, window, opened_ms, memory, segment_max } = options;
        let segment_max = segment_max.unwrap_or(usize::MAX);
        let counters = read_counters(&*store)?;
        let mut directory = read_directory(&*store)?;
        let paused = Arc::new(Paused::read(&*store)?);
        let mut report = LoadReport::default();
        let mut stored = None;
        if let Some(storing) = &storing {
            match stored::load(&*store, &*storing.store, &directory, segment_max, progress)? {
                Ok(loaded) => stored = Some(loaded),
                Err(reason) => report.rebuilt = reason,
            }
        }
        let (loaded, keeper) = match stored {
            Some(loaded) => loaded,
            None => {
                let entries = read_contents(&*store, &mut directory, progress)?;
                let tables = Tables::from_entries(entries, segment_max);
                let start_over = |storing: &Storing| stored::start_over(&*store, &*storing.store);
                let keeper = storing.as_ref().map(start_over).transpose()?.unwrap_or_default();
                (Loaded { directory, tables }, keeper)
            }
        };
        let mut loaded = loaded;
        loaded.tables = loaded.tables.with_segment_max(segment_max);
        let mut rebuilt = Entries::default();
        read_rebuilt(&*store, &mut rebuilt)?;
        loaded.tables.add(&rebuilt);
        let requests = RequestWindow::open(
            &*store,
            (Keyspace::BankRequests, Keyspace::BankMeta),
            window,
            opened_ms.unwrap_or(u64::MAX),
        )?;
        let state = BankState {
            generation: counters.generation,
            last_content: counters.last_content,
            directory: Arc::new(loaded.directory),
            paused,
            tables: loaded.tables,
        };
        report.stored = state.stored_signals();
        let banks = Self {
            store,
            durability,
            memory,
            state: ArcSwap::from_pointee(state),
            writer: Mutex::new(Writer { counters, requests, pruned_ms: 0 }),
            publish: Mutex::new(()),
            merging: Mutex::new(()),
            storing,
            keeper: Mutex::new(keeper),
        };
        Ok((banks, report))
    }
}

fn read_counters(store: &dyn Store) -> Result<Counters, StoreError> {
    let number = |key| -> Result<u64, StoreError> {
        store.get(Keyspace::BankMeta, key)?.map_or(Ok(0), |row| decode_u64(Keyspace::BankMeta, &row))
    };
    Ok(Counters {
        generation: Generation(number(GENERATION_KEY)?),
        last_bank: BankId(number(LAST_BANK_KEY)? as u32),
        last_content: ContentId(number(LAST_CONTENT_KEY)?),
    })
}

fn read_directory(store: &dyn Store) -> Result<Directory, StoreError> {
    let mut directory = Directory::default();
    visit(store, Keyspace::Banks, Range::ALL, |key, row| {
        let record: BankRecord = read_json_row(Keyspace::Banks, 1, row)?;
        directory.insert(Bank {
            id: read_bank_key(key)?,
            name: record.name.into(),
            created_ms: record.created_ms,
            enabled_ratio: record.enabled_ratio,
            threshold: record.threshold,
            contents: 0,
            signals: [0; SignalType::ALL.len()],
        });
        Ok(())
    })?;
    Ok(directory)
}

fn read_contents(
    store: &dyn Store,
    directory: &mut Directory,
    progress: &LoadProgress,
) -> Result<Entries, StoreError> {
    let (mut entries, mut signals) = (Entries::default(), Vec::new());
    visit(store, Keyspace::Contents, Range::ALL, |key, row| {
        let (bank, content) = read_content_key(key)?;
        decode_content(row, &mut signals)?;
        // A bank's contents go with it in one batch; one without a bank would be a fault of the store.
        let owner = directory.counts(bank).ok_or_else(|| StoreError::Row {
            keyspace: Keyspace::Contents.name(),
            reason: format!("content {content} lies in bank {bank}, which does not exist"),
        })?;
        *owner.contents += 1;
        for signal in &signals {
            owner.signals[signal.kind().place()] += 1;
            if !signal.kind().is_rebuilt() {
                entries.push(signal, content, bank);
            }
        }
        progress.contents.fetch_add(1, Ordering::Relaxed);
        Ok(())
    })?;
    Ok(entries)
}

/// Reads the signals that no stored segment holds.
fn read_rebuilt(store: &dyn Store, entries: &mut Entries) -> Result<(), StoreError> {
    let (mut keys, mut signals) = (Vec::new(), Vec::new());
    visit(store, Keyspace::Rebuilt, Range::ALL, |key, _| {
        keys.push(read_content_key(key)?);
        Ok(())
    })?;
    for (bank, content) in keys {
        let row = store.get(Keyspace::Contents, &content_key(bank, content))?.ok_or_else(|| {
            wrong(Keyspace::Rebuilt, &format!("content {content} of bank {bank} is not there"))
        })?;
        decode_content(&row, &mut signals)?;
        for signal in signals.iter().filter(|signal| signal.kind().is_rebuilt()) {
            entries.push(signal, content, bank);
        }
    }
    entries.sort_rebuilt();
    Ok(())
}

/// Visits rows until one does not read.
pub(super) fn visit(
    store: &dyn Store,
    space: Keyspace,
    range: Range<'_>,
    mut row: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut outcome = Ok(());
    store.scan(space, range, &mut |key, value| match row(key, value) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            outcome = Err(error);
            ControlFlow::Break(())
        }
    })?;
    outcome
}
