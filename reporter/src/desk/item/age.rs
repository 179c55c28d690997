//! Items by their age: what was received so long ago that it may go, if no job names it.

use std::ops::ControlFlow;

use index::store::{Keyspace, Range, StoreError};

use super::{Item, ItemKey, item_alone, read_key, unlist, uploads};
use crate::tx::{Tx, key};

/// Lists an item of before items had terms, so that it goes when it is old as counted from now, unless it is listed; says
/// whether it was not.
pub fn list_once(tx: &mut Tx<'_>, item: &Item, now_ms: u64) -> Result<bool, StoreError> {
    let listed = tx.get(Keyspace::Items, &old_key(item))?.is_some();
    if !listed {
        tx.put(Keyspace::Items, old_place(&item.key, now_ms), []);
    }
    Ok(!listed)
}

/// Items that were received before this, with the rows that say so, oldest first, at most so many.
pub fn older(tx: &Tx<'_>, before_ms: u64, max: usize) -> Result<Vec<(Vec<u8>, ItemKey)>, StoreError> {
    let to = [b"t", &before_ms.to_be_bytes()[..]].concat();
    let mut found = Vec::new();
    tx.scan(Keyspace::Items, Range { from: b"t", to: Some(&to), backwards: false }, &mut |place, _| {
        found.extend(place.get(9..).and_then(read_key).map(|of| (place.to_vec(), of)));
        if found.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(found)
}

/// Forgets an item, and at most so many of its uploads; false if it has more: then the item is there without those that
/// went, and the next call goes on.
pub fn forget_item(tx: &mut Tx<'_>, of: &ItemKey, uploads_max: usize) -> Result<bool, StoreError> {
    let Some(mut old) = item_alone(tx, of)? else { return Ok(true) };
    let (gone, all) = uploads::forget(tx, of, uploads_max)?;
    let place = key(b'i', &[&of.type_id, &of.id]);
    if all {
        unlist(tx, &old);
        tx.delete(Keyspace::Items, place);
    } else {
        old.uploads = old.uploads.saturating_sub(gone as u64).max(1); // while there are any, they are shown
        tx.save(Keyspace::Items, place, &old);
    }
    Ok(all)
}

/// Where an item is listed.
pub(super) fn old_key(item: &Item) -> Vec<u8> {
    old_place(&item.key, item.received_ms)
}

fn old_place(of: &ItemKey, at_ms: u64) -> Vec<u8> {
    let of = key(b'i', &[&of.type_id, &of.id]);
    [b"t", &at_ms.to_be_bytes()[..], &of[1..]].concat()
}
