//! A transaction: reads see what was written before in it, nothing is in the store until it is committed, and one
//! command's changes can be taken back without those of the commands before it.
//!
//! There is one writer of cases, so a transaction needs no locks: what it read stays true until it is committed.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use index::store::keys::{json_row, read_json_row};
use index::store::{Batch, Keyspace, Range, Store, StoreError, Visit, salvage};
use serde::Serialize;
use serde::de::DeserializeOwned;

type Key = (Keyspace, Vec<u8>);
/// A key and what lies there.
pub type Row = (Vec<u8>, Vec<u8>);

/// Rows are JSON of this version.
const ROW_VERSION: u8 = 1;

/// Writes that wait for their commit, over a store.
pub struct Tx<'s> {
    store: &'s dyn Store,
    /// `None` is a removed row.
    pending: BTreeMap<Key, Option<Vec<u8>>>,
    /// What each write replaced among the pending ones, last one last.
    undo: Vec<(Key, Option<Option<Vec<u8>>>)>,
}

/// A place to go back to.
#[derive(Clone, Copy, Debug)]
pub struct Savepoint(usize);

impl<'s> Tx<'s> {
    /// A transaction without writes.
    pub fn new(store: &'s dyn Store) -> Self {
        Self { store, pending: BTreeMap::new(), undo: Vec::new() }
    }

    /// Here.
    pub fn savepoint(&self) -> Savepoint {
        Savepoint(self.undo.len())
    }

    /// Takes back what was written since.
    pub fn rollback(&mut self, to: Savepoint) {
        while self.undo.len() > to.0 {
            let Some((key, before)) = self.undo.pop() else { return };
            match before {
                Some(before) => self.pending.insert(key, before),
                None => self.pending.remove(&key),
            };
        }
    }

    /// How many writes it holds.
    pub fn writes(&self) -> usize {
        self.undo.len()
    }

    /// The batch to commit.
    pub fn into_batch(self) -> Batch {
        let mut batch = Batch::default();
        for ((space, key), row) in self.pending {
            match row {
                Some(row) => batch.put(space, key, row),
                None => batch.delete(space, key),
            }
        }
        batch
    }

    /// The row at this key.
    pub fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if !self.pending.is_empty()
            && let Some(row) = self.pending.get(&(space, key.to_vec()))
        {
            return Ok(row.clone());
        }
        self.store.get(space, key)
    }

    /// Writes a row.
    pub fn put(&mut self, space: Keyspace, key: impl Into<Vec<u8>>, row: impl Into<Vec<u8>>) {
        self.write((space, key.into()), Some(row.into()));
    }

    /// Removes a row, if there.
    pub fn delete(&mut self, space: Keyspace, key: impl Into<Vec<u8>>) {
        self.write((space, key.into()), None);
    }

    fn write(&mut self, key: Key, row: Option<Vec<u8>>) {
        let before = self.pending.insert(key.clone(), row);
        self.undo.push((key, before));
    }

    /// The value at this key.
    pub fn read<T: DeserializeOwned>(&self, space: Keyspace, key: &[u8]) -> Result<Option<T>, StoreError> {
        self.get(space, key)?.map(|row| read_row(space, &row)).transpose()
    }

    /// Writes a value.
    pub fn save(&mut self, space: Keyspace, key: impl Into<Vec<u8>>, value: &impl Serialize) {
        self.put(space, key, json_row(ROW_VERSION, value));
    }

    /// Visits rows as [`Store::scan`] does, with the pending writes among them.
    pub fn scan(&self, space: Keyspace, range: Range<'_>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        if range.to.is_some_and(|to| to <= range.from) {
            return Ok(());
        }
        let from = Bound::Included((space, range.from.to_vec()));
        let to = match range.to {
            Some(to) => Bound::Excluded((space, to.to_vec())),
            None => Bound::Unbounded,
        };
        let rows = self.pending.range((from, to)).filter(|((own, _), _)| *own == space);
        let mut own: Box<dyn Iterator<Item = (&Key, &Option<Vec<u8>>)>> =
            if range.backwards { Box::new(rows.rev()) } else { Box::new(rows) };
        let mut next = own.next();
        let mut ended = false;
        let before = |one: &[u8], other: &[u8]| if range.backwards { one > other } else { one < other };
        self.store.scan(space, range, &mut |key, row| {
            while let Some(((_, pending), value)) = next
                && before(pending, key)
            {
                if let Some(value) = value
                    && visit(pending, value).is_break()
                {
                    ended = true;
                    return ControlFlow::Break(());
                }
                next = own.next();
            }
            let flow = match next {
                Some(((_, pending), value)) if pending == key => {
                    next = own.next();
                    value.as_ref().map_or(ControlFlow::Continue(()), |value| visit(key, value))
                }
                _ => visit(key, row),
            };
            ended = flow.is_break();
            flow
        })?;
        while !ended && let Some(((_, pending), value)) = next {
            if let Some(value) = value
                && visit(pending, value).is_break()
            {
                break;
            }
            next = own.next();
        }
        Ok(())
    }

    /// Visits the rows that read, stepping over what is damaged: for lists of what is due, where one damaged row must not
    /// keep the rest from being done. Of pending writes it knows nothing; the store's owner takes note of the damage.
    pub fn scan_readable(
        &self,
        space: Keyspace,
        range: Range<'_>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        if self.pending.is_empty() {
            return salvage(self.store, space, range, visit, &mut |_| {});
        }
        self.scan(space, range, visit)
    }

    /// The number at the end of the last key that begins so; 0 if there is none.
    pub fn last_number(&self, space: Keyspace, prefix: &[u8]) -> Result<u64, StoreError> {
        let (end, mut last) = (after_prefix(prefix), 0);
        self.scan(space, Range { from: prefix, to: end.as_deref(), backwards: true }, &mut |key, _| {
            last = key.last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
            ControlFlow::Break(())
        })?;
        Ok(last)
    }

    /// The rows whose keys begin so, at most so many.
    pub fn rows(&self, space: Keyspace, prefix: &[u8], max: usize) -> Result<Vec<Row>, StoreError> {
        let end = after_prefix(prefix);
        let range = Range { from: prefix, to: end.as_deref(), backwards: false };
        let mut rows = Vec::new();
        self.scan(space, range, &mut |key, row| {
            if rows.len() < max {
                rows.push((key.to_vec(), row.to_vec()));
            }
            if rows.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(rows)
    }
}

/// Writes that a step may still make.
pub struct Budget {
    max: usize,
    /// Writes of the transaction when the step began: others' commands may be in it.
    before: usize,
}

impl Budget {
    /// So many writes from now on.
    pub fn begin(tx: &Tx<'_>, max: usize) -> Self {
        Self { max, before: tx.writes() }
    }

    /// How many are left.
    pub fn left(&self, tx: &Tx<'_>) -> usize {
        self.max.saturating_sub(tx.writes().saturating_sub(self.before))
    }
}

/// Reads what [`Tx::save`] wrote.
pub fn read_row<T: DeserializeOwned>(space: Keyspace, row: &[u8]) -> Result<T, StoreError> {
    read_json_row(space, ROW_VERSION, row)
}

/// The first key after all that begin so; none if there is no such key.
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return Some(end);
        }
        end.pop();
    }
    None
}

/// Parts of a key, each ended by NUL: none of them holds one, so none runs into the next.
pub fn key(kind: u8, parts: &[&str]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + parts.iter().map(|part| part.len() + 1).sum::<usize>());
    key.push(kind);
    for part in parts {
        key.extend_from_slice(part.as_bytes());
        key.push(0);
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use index::store::{Durability, MemoryStore};
    use proptest::prelude::*;

    const SPACE: Keyspace = Keyspace::Jobs;

    fn rows(tx: &Tx<'_>, from: u8, to: u8, backwards: bool, max: usize) -> Vec<(u8, u8)> {
        let mut found = Vec::new();
        let (from, to) = ([from], [to]);
        tx.scan(SPACE, Range { from: &from, to: Some(&to), backwards }, &mut |key, row| {
            found.push((key[0], row[0]));
            if found.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .unwrap();
        found
    }

    proptest! {
        /// The obvious model: a map that is written at once.
        #[test]
        fn reads_see_writes_and_a_rollback_leaves_no_trace(
            stored in proptest::collection::btree_map(0..20u8, any::<u8>(), 0..12),
            first in proptest::collection::vec((0..20u8, proptest::option::of(any::<u8>())), 0..12),
            second in proptest::collection::vec((0..20u8, proptest::option::of(any::<u8>())), 0..12),
            (from, to, backwards, max) in (0..20u8, 0..21u8, any::<bool>(), 1..20usize),
        ) {
            let store = MemoryStore::default();
            let mut batch = Batch::default();
            stored.iter().for_each(|(key, row)| batch.put(SPACE, [*key], [*row]));
            store.commit(batch, Durability::Sync).unwrap();
            let mut model = stored.clone();
            let mut tx = Tx::new(&store);
            let write = |tx: &mut Tx<'_>, key: u8, row: Option<u8>| match row {
                Some(row) => tx.put(SPACE, [key], [row]),
                None => tx.delete(SPACE, [key]),
            };
            for (key, row) in first {
                write(&mut tx, key, row);
                match row { Some(row) => model.insert(key, row), None => model.remove(&key) };
            }
            let savepoint = tx.savepoint();
            second.iter().for_each(|(key, row)| write(&mut tx, *key, *row));
            tx.rollback(savepoint);
            let mut expected: Vec<(u8, u8)> =
                if from < to { model.range(from..to).map(|(k, v)| (*k, *v)).collect() } else { Vec::new() };
            if backwards { expected.reverse(); }
            expected.truncate(max);
            prop_assert_eq!(rows(&tx, from, to, backwards, max), expected);
            for key in 0..20u8 {
                prop_assert_eq!(tx.get(SPACE, &[key]).unwrap(), model.get(&key).map(|row| vec![*row]));
            }
            store.commit(tx.into_batch(), Durability::Sync).unwrap();
            let all: Vec<(u8, u8)> = model.into_iter().collect();
            prop_assert_eq!(rows(&Tx::new(&store), 0, 21, false, 99), all);
        }
    }

    #[test]
    fn keys_of_parts_never_run_into_each_other() {
        assert_ne!(key(b'i', &["a", "b"]), key(b'i', &["ab", ""]));
        assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after_prefix(&[1, 255]), Some(vec![2]));
        assert_eq!(after_prefix(&[255]), None);
    }
}
