//! Rows of the store, as another version of the program or a damaged disk left them.

use index::Hit;
use index::store::keys::{
    About, decode_content, decode_hit, decode_removed, encode_content, encode_hit, encode_removed, json_row,
};
use index::store::{Batch, Durability, Keyspace, MemoryStore, Store};
use reporter::access::{Key, Person, Session};
use reporter::desk::decision::Decision;
use reporter::desk::evidence::Piece;
use reporter::desk::intake::Arrival;
use reporter::desk::item::Item;
use reporter::desk::job::Job;
use reporter::desk::outbox::Filing;
use reporter::desk::settings::{Queue, Settings, Webhook};
use reporter::router::evaluation::Evaluation;
use reporter::router::rule::Rule;
use reporter::tip::filing::Tip;
use reporter::tip::organisation::Organisation;
use reporter::{read_row, renew_items, renew_jobs, renew_media_keys};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::choose;

const NOW_MS: u64 = 1_800_000_000_000;

type Probe = fn(&[u8]);

/// Each layout by its place: the first byte of an input names it, '0' the first.
static LAYOUTS: [Probe; 20] = [
    content,
    removed,
    hit,
    json_of::<Job>,
    json_of::<Item>,
    json_of::<Decision>,
    json_of::<Arrival>,
    json_of::<Filing>,
    json_of::<Tip>,
    json_of::<Piece>,
    json_of::<Evaluation>,
    json_of::<Rule>,
    json_of::<Queue>,
    json_of::<Webhook>,
    json_of::<Settings>,
    json_of::<Organisation>,
    json_of::<Person>,
    json_of::<Session>,
    json_of::<Key>,
    renewed,
];

/// Reads a row of the layout that the first byte names; what reads is written and reads the same.
pub fn rows(bytes: &[u8]) {
    let Some((layout, row)) = choose(bytes, LAYOUTS.len()) else { return };
    LAYOUTS[layout](row);
}

fn json_of<T: DeserializeOwned + Serialize>(row: &[u8]) {
    let Ok(value) = read_row::<T>(Keyspace::Jobs, row) else { return };
    let written = json_row(1, &value);
    let again: T = read_row(Keyspace::Jobs, &written).expect("what was written reads");
    assert_eq!(json_row(1, &again), written, "a row changes when it is written again");
}

fn content(row: &[u8]) {
    let mut signals = Vec::new();
    let Ok(About { note, metadata }) = decode_content(row, &mut signals) else { return };
    let written = encode_content(&signals, &About { note, metadata });
    let mut again = Vec::new();
    let about = decode_content(&written, &mut again).expect("what was written reads");
    assert_eq!((about.note, about.metadata), (note, metadata));
    assert_eq!(again, signals);
}

fn removed(row: &[u8]) {
    let Some((key, row)) = row.split_at_checked(8) else { return };
    if let Ok(found) = decode_removed(key, row) {
        assert_eq!(decode_removed(key, &encode_removed(&found)).ok().as_ref(), Some(&found));
    }
}

fn hit(row: &[u8]) {
    let Ok(hit): Result<Hit, _> = decode_hit(row) else { return };
    assert_eq!(decode_hit(&encode_hit(&hit)).ok().as_ref(), Some(&hit));
}

/// Carries a job, an item and a medium's key of an earlier format over, as a start does.
fn renewed(row: &[u8]) {
    let store = MemoryStore::default();
    let mut batch = Batch::default();
    let number = 1u64.to_be_bytes();
    batch.put(Keyspace::Jobs, [&b"j"[..], &number].concat(), row);
    batch.put(Keyspace::Items, *b"ipost\x001\0", row);
    store.commit(batch, Durability::Sync).expect("memory takes it");
    let _ = renew_media_keys(&store, Durability::Sync);
    for _ in 0..2 {
        let _ = renew_jobs(&store, Durability::Sync, NOW_MS);
        let _ = renew_items(&store, Durability::Sync, NOW_MS);
    }
}
