//! The log as a Merkle tree ([`super::tree`]), whose leaves are the hashes of its records. Who has a signed head and not the
//! log can be shown that a record is in it, or that a later head's log begins with an earlier one's, by a few hashes.
//!
//! Complete branches are stored, so that a proof takes as many reads as a number has bits. They follow from the records, and
//! are made when a head is to be signed: adding a record costs nothing more than it did.
//!
//! | key | value |
//! |---|---|
//! | `r` ‖ number u64 ‖ level u8 (from 1) | the hash (32 bytes) of the branch of that level whose last record this is |
//! | `tree` | records whose branches are stored u64 |
//!
//! So a branch lies behind the record that completes it, and one pass meets everything in the order it was made.

use std::ops::ControlFlow;

use index::store::keys::{decode_u64, encode_u64, wrong};
use index::store::{Batch, Durability, Range, Store, StoreError};

use super::tree::{Growing, TreeHash, join, leaf, split};
use super::{Hex, RecordHash, SPACE, StoredRow, genesis, read_record_key, record_key};

pub(super) const TREE_KEY: &[u8] = b"tree";
/// Records whose branches are stored in one commit.
const AT_ONCE: u64 = 4096;

/// The hash of the tree of the log's first `size` records, all of which are there; what is missing of it is stored first.
/// There is one who calls this at a time.
pub fn root_at(store: &dyn Store, size: u64) -> Result<TreeHash, StoreError> {
    let mut stored = stored(store)?;
    if stored < size {
        let mut tree = Growing::of(stored, |level, place| branch(store, level, place))?;
        while stored < size {
            grow(store, &mut tree, size.min(stored + AT_ONCE))?;
            stored = tree.leaves();
        }
    }
    hash_of(store, 0, size)
}

/// Makes what is stored of the tree anew, when it is asked for next: it is not what the records give.
pub fn forget_tree(store: &dyn Store) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    batch.delete(SPACE, TREE_KEY);
    store.commit(batch, Durability::Wal)
}

/// Records whose branches are stored. They are stored just before a head over them is signed, so that 0 says of a log that no
/// head was signed, or that its tree was forgotten.
pub fn stored(store: &dyn Store) -> Result<u64, StoreError> {
    store.get(SPACE, TREE_KEY)?.map_or(Ok(0), |row| decode_u64(SPACE, &row))
}

/// The path from a record, by its number, to the tree of the first `size`, the nearest branch first.
pub(super) fn path(store: &dyn Store, number: u64, size: u64) -> Result<Vec<TreeHash>, StoreError> {
    let (at, mut from, mut to, mut path) = (number - 1, 0, size, Vec::new());
    while to - from > 1 {
        let middle = from + split(to - from);
        if at < middle {
            path.push(hash_of(store, middle, to)?);
            to = middle;
        } else {
            path.push(hash_of(store, from, middle)?);
            from = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// What shows that the tree of `size` records begins with that of the first `earlier` (at least one, fewer than `size`).
pub(super) fn growth(store: &dyn Store, earlier: u64, size: u64) -> Result<Vec<TreeHash>, StoreError> {
    let (mut from, mut to, mut path) = (0, size, Vec::new());
    while earlier != to {
        let middle = from + split(to - from);
        if earlier <= middle {
            path.push(hash_of(store, middle, to)?);
            to = middle;
        } else {
            path.push(hash_of(store, from, middle)?);
            from = middle;
        }
    }
    // The earlier tree itself is known to who asks; a branch of it is not.
    if from > 0 {
        path.push(hash_of(store, from, to)?);
    }
    path.reverse();
    Ok(path)
}

/// The record that a branch lies behind and its level; none if the key is another row's.
pub(super) fn read_branch_key(key: &[u8]) -> Option<(u64, u32)> {
    let (&level, of) = key.split_last()?;
    Some((read_record_key(of)?, level.into()))
}

/// Adds the records up to this one, in one commit. Each must be what was written, behind the one before: what is signed over
/// them says so.
fn grow(store: &dyn Store, tree: &mut Growing, to: u64) -> Result<(), StoreError> {
    let (first, end) = (record_key(tree.leaves() + 1), record_key(to + 1));
    let (mut batch, mut fault) = (Batch::default(), None);
    let mut previous = match tree.leaves() {
        0 => genesis(),
        last => hash_of_record(store, last)?,
    };
    store.scan(SPACE, Range::between(&first, &end), &mut |key, row| {
        // Branches of a tree that was forgotten may lie between.
        let Some(number) = read_record_key(key) else { return ControlFlow::Continue(()) };
        if number != tree.leaves() + 1 {
            return ControlFlow::Break(());
        }
        match StoredRow::read(row) {
            Ok(stored) if !stored.follows(number, &previous) => {
                fault = Some(wrong(SPACE, &format!("record {number} was changed since it was written")));
            }
            Ok(stored) => {
                previous = stored.hash;
                for branch in tree.push(leaf(&stored.hash.0)) {
                    batch.put(SPACE, branch_key(number, branch.level), branch.hash.0);
                }
                return ControlFlow::Continue(());
            }
            Err(error) => fault = Some(error),
        }
        ControlFlow::Break(())
    })?;
    if let Some(error) = fault {
        return Err(error);
    }
    if tree.leaves() < to {
        return Err(wrong(SPACE, &format!("record {} is missing", tree.leaves() + 1)));
    }
    batch.put(SPACE, TREE_KEY, encode_u64(to));
    // It can be made again.
    store.commit(batch, Durability::Wal)
}

/// Of the leaves from `from` to before `to`, where `from` is a multiple of the largest branch in them.
fn hash_of(store: &dyn Store, from: u64, to: u64) -> Result<TreeHash, StoreError> {
    let leaves = to - from;
    if leaves == 0 {
        return Ok(Growing::default().root());
    }
    if leaves.is_power_of_two() {
        return branch(store, leaves.trailing_zeros(), from / leaves);
    }
    let middle = from + split(leaves);
    Ok(join(&hash_of(store, from, middle)?, &hash_of(store, middle, to)?))
}

/// A complete branch; one of level 0 is a leaf.
fn branch(store: &dyn Store, level: u32, place: u64) -> Result<TreeHash, StoreError> {
    let number = (place + 1) << level;
    let missing = || wrong(SPACE, &format!("the branch of level {level} behind record {number} is missing"));
    if level == 0 {
        return Ok(leaf(&hash_of_record(store, number)?.0));
    }
    let row = store.get(SPACE, &branch_key(number, level))?.ok_or_else(missing)?;
    let hash = row[..].try_into().map_err(|_| wrong(SPACE, "a branch has 32 bytes"))?;
    Ok(Hex(hash))
}

fn hash_of_record(store: &dyn Store, number: u64) -> Result<RecordHash, StoreError> {
    let missing = || wrong(SPACE, &format!("record {number} is missing"));
    Ok(StoredRow::read(&store.get(SPACE, &record_key(number))?.ok_or_else(missing)?)?.hash)
}

fn branch_key(number: u64, level: u32) -> [u8; 10] {
    let mut key = [level as u8; 10];
    key[..9].copy_from_slice(&record_key(number));
    key
}
