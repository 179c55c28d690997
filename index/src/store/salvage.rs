//! Reading around damage: everything in a keyspace that can still be read, and where something cannot.
//!
//! A scan ends at the first block or row that does not read. A salvage goes on behind it: a row that does not open is
//! stepped over by its key; behind a damaged block, whose keys nobody can tell, the next readable key is searched for in
//! doubling steps, then narrowed down, so that no more is left out than the block itself.

use std::ops::ControlFlow;

use super::{Keyspace, Range, Store, StoreError, Visit};

/// Bytes of a key that are counted with when a damaged block is stepped over.
const KEY_BYTES: usize = 64;

/// A part of a keyspace that does not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The first key that does not read, or the first place at which it may lie.
    pub from: Vec<u8>,
    /// Where rows can be read again; `None`: nothing more can be read up to the end.
    pub to: Option<Vec<u8>>,
    /// Whether it is one row, whose key is `from`.
    pub one_row: bool,
    /// What the store says.
    pub reason: String,
}

/// Visits what reads of the rows in `range`, in order, and tells of what does not. Errors other than damage end it.
pub fn salvage(
    store: &dyn Store,
    space: Keyspace,
    range: Range<'_>,
    visit: &mut Visit<'_>,
    lost: &mut dyn FnMut(Lost),
) -> Result<(), StoreError> {
    let (mut from, mut ended) = (range.from.to_vec(), false);
    loop {
        let mut last: Option<Vec<u8>> = None;
        let part = Range { from: &from, to: range.to, backwards: false };
        let outcome = store.scan(space, part, &mut |key, row| {
            let seen = last.get_or_insert_default();
            seen.clear();
            seen.extend_from_slice(key);
            let flow = visit(key, row);
            ended = flow.is_break();
            flow
        });
        let reason = match outcome {
            Err(error) if error.is_damage() && !ended => error.to_string(),
            other => return other,
        };
        let start = last.map_or(from, after);
        let (found, one_row) = match first_key(store, space, &start, range.to) {
            // Its key reads, so its block does: it is this row alone that does not open.
            Ok(Some(key)) => (Some(key), true),
            Ok(None) => (None, false),
            Err(error) if error.is_damage() => (beyond(store, space, &start, range.to)?, false),
            Err(error) => return Err(error),
        };
        let to = if one_row { found.clone().map(after) } else { found.clone() };
        let begins = if one_row { found.unwrap_or(start) } else { start };
        lost(Lost { from: begins, to: to.clone(), one_row, reason });
        match to {
            Some(to) => from = to,
            None => return Ok(()),
        }
    }
}

/// How many rows a keyspace has: the store's estimate where that is no more than `enough`, since to count is to read them
/// all; otherwise those that read are counted.
pub fn count_rows(store: &dyn Store, space: Keyspace, enough: u64) -> Result<u64, StoreError> {
    let estimate = store.estimate(space)?;
    if estimate <= enough {
        return Ok(estimate);
    }
    let mut rows = 0;
    let visit = &mut |_: &[u8], _: &[u8]| {
        rows += 1;
        ControlFlow::Continue(())
    };
    salvage(store, space, Range::ALL, visit, &mut |_| {})?;
    Ok(rows)
}

/// The first key behind this one.
fn after(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

fn first_key(
    store: &dyn Store,
    space: Keyspace,
    from: &[u8],
    to: Option<&[u8]>,
) -> Result<Option<Vec<u8>>, StoreError> {
    let mut first = None;
    store.keys(space, Range { from, to, backwards: false }, &mut |key| {
        first = Some(key.to_vec());
        ControlFlow::Break(())
    })?;
    Ok(first)
}

/// The first place behind `start` from which can be read; `None` if there is none before the end.
fn beyond(
    store: &dyn Store,
    space: Keyspace,
    start: &[u8],
    to: Option<&[u8]>,
) -> Result<Option<Vec<u8>>, StoreError> {
    let reads = |place: &[u8]| match first_key(store, space, trimmed(place), to) {
        Ok(_) => Ok(true),
        Err(error) if error.is_damage() => Ok(false),
        Err(error) => Err(error),
    };
    let further = |bad: &[u8], step| plus(bad, step).filter(|place| to.is_none_or(|to| trimmed(place) < to));
    let mut bad = start.to_vec();
    bad.resize(bad.len().max(KEY_BYTES), 0);
    let mut step = 0;
    while let Some(place) = further(&bad, step)
        && !reads(&place)?
    {
        bad = place;
        step += 1;
    }
    // What lies 2^step further on reads, or is beyond the end; so the first place that reads is nearer, or there is none.
    for step in (0..step).rev() {
        if let Some(place) = further(&bad, step)
            && !reads(&place)?
        {
            bad = place;
        }
    }
    Ok(further(&bad, 0).map(|place| trimmed(&place).to_vec()))
}

/// A key as a number, and 2^bit more; `None` if it does not fit.
fn plus(key: &[u8], bit: usize) -> Option<Vec<u8>> {
    let mut sum = key.to_vec();
    let mut carry = 1u16 << (bit % 8);
    for byte in sum.iter_mut().rev().skip(bit / 8) {
        let more = u16::from(*byte) + carry;
        *byte = more as u8;
        carry = more >> 8;
        if carry == 0 {
            return Some(sum);
        }
    }
    None
}

/// A key without the zeroes at its end: the shortest that is the same number, and the first of them in order.
fn trimmed(key: &[u8]) -> &[u8] {
    let end = key.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    &key[..end]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::store::{Batch, Durability, MemoryStore};

    const SPACE: Keyspace = Keyspace::Hits;

    /// Rows in blocks; of some blocks nothing reads, of some rows only the key.
    struct Damaged {
        inner: MemoryStore,
        keys: Vec<Vec<u8>>,
        per_block: usize,
        blocks: BTreeSet<usize>,
        rows: BTreeSet<usize>,
    }

    impl Damaged {
        fn check(&self, key: &[u8], value: bool) -> Result<(), StoreError> {
            let at = self.keys.iter().position(|own| own == key).unwrap();
            if self.blocks.contains(&(at / self.per_block)) {
                return Err(StoreError::Damaged { path: "here".into(), reason: format!("block of {at}") });
            }
            if value && self.rows.contains(&at) {
                return Err(StoreError::Row { keyspace: "hits", reason: format!("row {at}") });
            }
            Ok(())
        }
    }

    impl Store for Damaged {
        fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            self.check(key, true)?;
            self.inner.get(space, key)
        }

        fn scan(&self, space: Keyspace, range: Range<'_>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
            let mut outcome = Ok(());
            self.inner.scan(space, range, &mut |key, row| match self.check(key, true) {
                Ok(()) => visit(key, row),
                Err(error) => {
                    outcome = Err(error);
                    ControlFlow::Break(())
                }
            })?;
            outcome
        }

        fn keys(
            &self,
            space: Keyspace,
            range: Range<'_>,
            visit: &mut crate::store::VisitKey<'_>,
        ) -> Result<(), StoreError> {
            let mut outcome = Ok(());
            self.inner.scan(space, range, &mut |key, _| match self.check(key, false) {
                Ok(()) => visit(key),
                Err(error) => {
                    outcome = Err(error);
                    ControlFlow::Break(())
                }
            })?;
            outcome
        }

        fn snapshot(&self) -> std::sync::Arc<dyn Store + '_> {
            self.inner.snapshot()
        }

        fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
            self.inner.commit(batch, durability)
        }
    }

    proptest! {
        #[test]
        fn everything_outside_a_damaged_block_is_found_and_the_rest_is_told(
            keys in prop::collection::btree_set(
                prop_oneof![
                    (0u64..100_000).prop_map(|n| n.to_be_bytes().to_vec()),
                    prop::collection::vec(any::<u8>(), 1..12),
                    "[a-z]{1,40}".prop_map(String::into_bytes),
                ],
                1..60,
            ),
            per_block in 1usize..8,
            blocks in prop::collection::btree_set(0usize..60, 0..3),
            rows in prop::collection::btree_set(0usize..60, 0..5),
        ) {
            let keys: Vec<Vec<u8>> = keys.into_iter().collect();
            let inner = MemoryStore::default();
            let mut batch = Batch::default();
            keys.iter().for_each(|key| batch.put(SPACE, key.clone(), [1]));
            inner.commit(batch, Durability::Sync).unwrap();
            let store = Damaged { inner, keys: keys.clone(), per_block, blocks, rows };
            let (mut found, mut lost) = (Vec::new(), Vec::new());
            salvage(
                &store,
                SPACE,
                Range::ALL,
                &mut |key, _| {
                    found.push(key.to_vec());
                    ControlFlow::Continue(())
                },
                &mut |one| lost.push(one),
            )
            .unwrap();
            prop_assert!(found.is_sorted());
            let covers = |key: &Vec<u8>| {
                lost.iter().any(|lost| *key >= lost.from && lost.to.as_ref().is_none_or(|to| key < to))
            };
            for (at, key) in keys.iter().enumerate() {
                let reads = store.check(key, true).is_ok();
                prop_assert!(!reads || found.contains(key) || two_blocks(&store, at), "row {} is left out", at);
                prop_assert!(found.contains(key) != covers(key), "row {} is found or told of", at);
            }
        }
    }

    #[test]
    fn rows_behind_a_block_that_spans_most_of_the_keys_are_found() {
        let keys: Vec<Vec<u8>> = [1u8, 2, 0x90, 0x91, 0xff].into_iter().map(|byte| vec![byte]).collect();
        let inner = MemoryStore::default();
        let mut batch = Batch::default();
        keys.iter().for_each(|key| batch.put(SPACE, key.clone(), [1]));
        inner.commit(batch, Durability::Sync).unwrap();
        let store = Damaged { inner, keys, per_block: 3, blocks: BTreeSet::from([0]), rows: BTreeSet::new() };
        let (mut found, mut lost) = (Vec::new(), Vec::new());
        let visit = &mut |key: &[u8], _: &[u8]| {
            found.push(key.to_vec());
            ControlFlow::Continue(())
        };
        salvage(&store, SPACE, Range::ALL, visit, &mut |one| lost.push(one)).unwrap();
        assert_eq!(found, [vec![0x91], vec![0xff]]);
        assert_eq!(lost.len(), 1);
        assert!(lost[0].to.as_ref().is_some_and(|to| *to > vec![0x90] && *to <= vec![0x91]), "{lost:?}");
    }

    /// Whether a row lies between two damaged blocks: a step may carry beyond both.
    fn two_blocks(store: &Damaged, at: usize) -> bool {
        let block = at / store.per_block;
        store.blocks.range(..block).next().is_some() && store.blocks.range(block + 1..).next().is_some()
    }
}
