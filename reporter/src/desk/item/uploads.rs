//! Media that were uploaded under an item's id. Each has a row of its own, so that a further upload of an item costs the
//! same however many came before it.

use std::ops::ControlFlow;

use index::store::{Keyspace, Range, StoreError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Item, ItemKey, Media, Screening, UPLOAD_FIELD};
use crate::tx::{Tx, after_prefix, key, read_row};

const SPACE: Keyspace = Keyspace::Items;
/// Uploads that are kept with an item, as many as a job lists of what came before it. Hits are kept always, and a job lists
/// what it is about.
pub const UPLOADS_MAX: u64 = 2000;
/// The nearest matches that an upload lists of all its hits; a hit has its own.
const MATCHES_MAX: usize = 500;

/// An uploaded medium, and its place among the item's.
#[derive(Serialize, Deserialize)]
struct Upload {
    number: u64,
    media: Media,
}

/// Adds an item's uploads to its media, in the order in which they came; those that the platform has told of itself are
/// there already.
pub(super) fn add_all(tx: &Tx<'_>, item: &mut Item) -> Result<(), StoreError> {
    if item.uploads == 0 {
        return Ok(());
    }
    let rows = tx.rows(SPACE, &prefix(&item.key), usize::MAX)?;
    let uploads = rows.iter().map(|(_, row)| read_row::<Upload>(SPACE, row));
    let mut uploads = uploads.collect::<Result<Vec<_>, _>>()?;
    uploads.sort_by_key(|upload| upload.number);
    let told = item.media.len();
    for upload in uploads {
        if !item.media.iter().take(told).any(|known| known.signals == upload.media.signals) {
            item.media.push(upload.media);
        }
    }
    Ok(())
}

/// Takes the uploads out of an item's media.
pub(super) fn take(item: &mut Item) -> Vec<Media> {
    let (uploads, told) =
        std::mem::take(&mut item.media).into_iter().partition(|media| media.field == UPLOAD_FIELD);
    item.media = told;
    uploads
}

/// Keeps an upload with its item, or adds what it matched to the same upload of before. The caller writes the item.
pub(super) fn put(tx: &mut Tx<'_>, item: &mut Item, media: Media) -> Result<(), StoreError> {
    let place = place(&item.key, &media);
    let upload = match tx.read::<Upload>(SPACE, &place)? {
        Some(known) if media.matches().all(|found| known.media.matches().any(|other| other == found)) => {
            return Ok(());
        }
        Some(mut known) => {
            add_matches(&mut known.media, &media);
            known
        }
        None if item.uploads >= UPLOADS_MAX => {
            item.uploads_not_kept += 1;
            return Ok(());
        }
        None => {
            item.uploads += 1;
            Upload { number: item.uploads, media }
        }
    };
    tx.save(SPACE, place, &upload);
    Ok(())
}

/// Adds to a medium what the same signal has matched now.
pub fn add_matches(known: &mut Media, now: &Media) {
    let mut all: Vec<_> = known.matches().cloned().collect();
    all.extend(now.matches().filter(|found| !known.matches().any(|other| other == *found)).cloned());
    all.sort_by_key(|found| found.hit.distance);
    all.truncate(MATCHES_MAX);
    known.screening = Screening::Done { matches: all };
}

/// Forgets an item's uploads, at most so many; says how many, and whether none is left.
pub(super) fn forget(tx: &mut Tx<'_>, of: &ItemKey, max: usize) -> Result<(usize, bool), StoreError> {
    let (from, mut places, mut more) = (prefix(of), Vec::new(), false);
    let end = after_prefix(&from);
    let range = Range { from: &from, to: end.as_deref(), backwards: false };
    tx.scan(SPACE, range, &mut |place, _| {
        more = places.len() >= max;
        if more {
            return ControlFlow::Break(());
        }
        places.push(place.to_vec());
        ControlFlow::Continue(())
    })?;
    let count = places.len();
    places.into_iter().for_each(|place| tx.delete(SPACE, place));
    Ok((count, !more))
}

fn prefix(of: &ItemKey) -> Vec<u8> {
    key(b'm', &[&of.type_id, &of.id])
}

/// Keys are not sealed, so a signal stands in one as its digest.
fn place(of: &ItemKey, media: &Media) -> Vec<u8> {
    let mut digest = Sha256::new();
    for (kind, signal) in &media.signals {
        digest.update(format!("{kind}:{signal} "));
    }
    [&prefix(of)[..], &digest.finalize()].concat()
}

#[cfg(test)]
mod tests {
    use index::SignalType;
    use index::store::MemoryStore;
    use serde_json::Value;

    use super::super::{MediaKind, item, put_item};
    use super::*;

    /// Such a program knows no `uploads` in an item, and no row of an upload: what it writes of an item hides them, and they
    /// stay when it deletes the item.
    #[test]
    fn a_program_of_format_3_would_lose_uploads_so_it_must_refuse_the_directory() {
        let store = MemoryStore::default();
        let mut tx = Tx::new(&store);
        let of = ItemKey::new("post", "1");
        let signals = [(SignalType::Md5, "0".repeat(32))].into();
        let (field, kind) = (UPLOAD_FIELD.to_string(), MediaKind::Image);
        let upload = Media { field, kind, url: None, signals, screening: Screening::Waiting, kept: None };
        put_item(&mut tx, Item { media: vec![upload], ..Item::bare(of.clone(), 1) }).unwrap();
        assert_eq!(item(&tx, &of).unwrap().unwrap().media.len(), 1);
        let place = key(b'i', &[&of.type_id, &of.id]);
        let mut row: Value = tx.read(Keyspace::Items, &place).unwrap().unwrap();
        row.as_object_mut().unwrap().remove("uploads");
        tx.save(Keyspace::Items, place.clone(), &row);
        assert!(item(&tx, &of).unwrap().unwrap().media.is_empty(), "the upload is lost");
        tx.delete(Keyspace::Items, place);
        assert_eq!(tx.rows(Keyspace::Items, b"m", 9).unwrap().len(), 1, "the upload outlives its item");
        const { assert!(index::store::keys::FORMAT > 3) };
    }
}
