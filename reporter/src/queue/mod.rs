//! Review queues: one entry for each routed hit, in the order of the hit log.
//!
//! Rows of keyspace `queue_entries` (queue names hold no NUL, so names never run into positions):
//!
//! | key | value |
//! |---|---|
//! | `e` ‖ queue name ‖ NUL ‖ position u64 BE | JSON row, version 1: [`QueueEntry`] |
//! | `n` ‖ queue name | u64 BE: how many entries the queue has |
//!
//! Entries and their count are written in one batch by the router alone, so a count always equals a scan.

mod entry;

use std::ops::ControlFlow;

use index::Position;
use index::store::keys::{decode_u64, encode_u64, json_row, read_json_row, wrong};
use index::store::{Batch, Keyspace, Range, Store, StoreError};
use serde::Serialize;

use crate::error::RouterError;
pub use entry::{HitSummary, QueueEntry, QueueName, RulesVersion, Verdict};

/// Entries on a page at most.
const PAGE_ENTRIES_MAX: usize = 1000;
const ENTRY_VERSION: u8 = 1;
const ENTRY: u8 = b'e';
const COUNT: u8 = b'n';

/// A queue as a list of queues shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueueSummary {
    /// Its name.
    pub name: QueueName,
    /// How many entries wait.
    pub entries: u64,
    /// When the first of them was put there, in milliseconds since 1970 (UTC).
    pub oldest_ms: Option<u64>,
}

/// Some entries of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueuePage {
    /// In the order of the hit log.
    pub entries: Vec<QueueEntry>,
    /// Ask for the entries after this one to go on; none at the end.
    pub next: Option<Position>,
}

/// Every queue that ever had an entry, by name. Costs two reads a queue, whatever its length.
pub fn queues(store: &dyn Store) -> Result<Vec<QueueSummary>, RouterError> {
    let summary = |(name, entries): (QueueName, u64)| {
        let oldest = page(store, &name, None, 1)?.entries.into_iter().next();
        Ok(QueueSummary { name, entries, oldest_ms: oldest.map(|entry| entry.enqueued_ms) })
    };
    counts(store)?.into_iter().map(summary).collect()
}

/// A queue's entries after a position, from the beginning without one; at most 1000. A queue that never
/// had an entry is empty.
pub fn entries(
    store: &dyn Store,
    queue: &QueueName,
    after: Option<Position>,
    limit: usize,
) -> Result<QueuePage, RouterError> {
    Ok(page(store, queue, after, limit)?)
}

/// The entry of a hit; none if it is not routed yet. Costs one read a queue.
pub fn entry(store: &dyn Store, position: Position) -> Result<Option<QueueEntry>, RouterError> {
    for (queue, _) in counts(store)? {
        if let Some(row) = store.get(Keyspace::QueueEntries, &entry_key(&queue, position))? {
            return Ok(Some(read_entry(&row)?));
        }
    }
    Ok(None)
}

/// Writes an entry. Its key is made of the queue and the hit, so writing it twice leaves one.
pub(crate) fn put_entry(batch: &mut Batch, entry: &QueueEntry) {
    let key = entry_key(&entry.queue, entry.position);
    batch.put(Keyspace::QueueEntries, key, json_row(ENTRY_VERSION, entry));
}

/// Raises a queue's count. The caller is the only writer and commits it together with the entries.
pub(crate) fn add_to_count(
    store: &dyn Store,
    batch: &mut Batch,
    queue: &QueueName,
    more: u64,
) -> Result<(), StoreError> {
    let key = count_key(queue);
    let before = match store.get(Keyspace::QueueEntries, &key)? {
        Some(row) => decode_u64(Keyspace::QueueEntries, &row)?,
        None => 0,
    };
    let after = before.checked_add(more).ok_or_else(|| wrong(Keyspace::QueueEntries, "a count overflows"))?;
    batch.put(Keyspace::QueueEntries, key, encode_u64(after));
    Ok(())
}

fn counts(store: &dyn Store) -> Result<Vec<(QueueName, u64)>, StoreError> {
    let mut found = Vec::new();
    store.scan(Keyspace::QueueEntries, Range::between(&[COUNT], &[COUNT + 1]), &mut |key, row| {
        found.push(read_count(key, row));
        ControlFlow::Continue(())
    })?;
    found.into_iter().collect()
}

fn page(
    store: &dyn Store,
    queue: &QueueName,
    after: Option<Position>,
    limit: usize,
) -> Result<QueuePage, StoreError> {
    let limit = limit.clamp(1, PAGE_ENTRIES_MAX);
    let Some(first) = after.unwrap_or_default().0.checked_add(1) else {
        return Ok(QueuePage { entries: Vec::new(), next: None });
    };
    let (from, mut to) = (entry_key(queue, Position(first)), entry_prefix(queue));
    // The prefix ends in NUL: one above it is past the queue's last entry.
    to.pop();
    to.push(1);
    let mut found = Vec::new();
    let mut more = false;
    store.scan(Keyspace::QueueEntries, Range::between(&from, &to), &mut |_, row| {
        more = found.len() == limit;
        if more {
            return ControlFlow::Break(());
        }
        found.push(read_entry(row));
        ControlFlow::Continue(())
    })?;
    let entries: Vec<QueueEntry> = found.into_iter().collect::<Result<_, _>>()?;
    let next = entries.last().filter(|_| more).map(|entry| entry.position);
    Ok(QueuePage { entries, next })
}

fn read_entry(row: &[u8]) -> Result<QueueEntry, StoreError> {
    read_json_row(Keyspace::QueueEntries, ENTRY_VERSION, row)
}

fn entry_prefix(queue: &QueueName) -> Vec<u8> {
    [&[ENTRY], queue.as_str().as_bytes(), &[0]].concat()
}

fn entry_key(queue: &QueueName, position: Position) -> Vec<u8> {
    [&[ENTRY], queue.as_str().as_bytes(), &[0], &position.0.to_be_bytes()].concat()
}

fn count_key(queue: &QueueName) -> Vec<u8> {
    [&[COUNT], queue.as_str().as_bytes()].concat()
}

fn read_count(key: &[u8], row: &[u8]) -> Result<(QueueName, u64), StoreError> {
    let name = key.split_first().and_then(|(_, name)| std::str::from_utf8(name).ok());
    let name = name.and_then(|name| QueueName::parse(name).ok());
    let name = name.ok_or_else(|| wrong(Keyspace::QueueEntries, "a count's key is not a queue's name"))?;
    Ok((name, decode_u64(Keyspace::QueueEntries, row)?))
}
