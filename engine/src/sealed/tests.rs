//! A sealed store is a store like the one below it, on which nothing can be read or planted.

use std::collections::BTreeMap;

use index::Signal;
use index::signal::Hash256;
use index::store::keys::{About, encode_content, encode_u64};
use index::store::{MemoryStore, RocksStore, StoreOptions};
use proptest::prelude::*;

use super::rows::OVERHEAD;
use super::*;
use crate::damage::{Damage, Watched};
use crate::secrets::{KeyFile, Wrap};

fn seal_in(folder: &std::path::Path) -> Seal {
    let wrap: Arc<dyn Wrap> = Arc::new(KeyFile::open(&folder.join("kek"), None).unwrap());
    Seal::new(Arc::new(DataKey::open(folder, wrap, None).unwrap())).unwrap()
}

fn put(store: &dyn Store, rows: &[(Keyspace, &[u8], &[u8])]) {
    let mut batch = Batch::default();
    rows.iter().for_each(|(space, key, value)| batch.put(*space, *key, *value));
    store.commit(batch, Durability::Sync).unwrap();
}

fn opened(seal: &Seal, inner: &Arc<MemoryStore>, database: Database) -> Result<Arc<dyn Store>, SealError> {
    seal.open(inner.clone(), database, |_| Ok(()))
}

fn plain(inner: &MemoryStore, database: Database) -> Vec<(Keyspace, Vec<u8>)> {
    let mut found = Vec::new();
    for space in database.keyspaces() {
        inner
            .scan(space, Range::ALL, &mut |key, row| {
                if !is_sealed(row) {
                    found.push((space, key.to_vec()));
                }
                ControlFlow::Continue(())
            })
            .unwrap();
    }
    found
}

#[test]
fn every_row_of_the_cases_but_the_audit_log_is_sealed_and_read_back_by_a_later_process() {
    let folder = tempfile::tempdir().unwrap();
    let inner = Arc::new(MemoryStore::default());
    let store = opened(&seal_in(folder.path()), &inner, Database::Case).unwrap();
    for space in Database::Case.keyspaces() {
        put(&*store, &[(space, b"full", b"https://example.com"), (space, b"none", b"")]);
    }
    let plain = plain(&inner, Database::Case);
    assert!(plain.iter().all(|(space, _)| *space == Keyspace::Audit) && plain.len() == 2, "{plain:?}");
    let later = opened(&seal_in(folder.path()), &inner, Database::Case).unwrap();
    for store in [&store, &later] {
        for space in Database::Case.keyspaces() {
            assert_eq!(store.get(space, b"full").unwrap().unwrap(), b"https://example.com");
            assert_eq!(store.get(space, b"none").unwrap().unwrap(), b"");
            assert_eq!(store.get(space, b"gone").unwrap(), None);
        }
    }
}

#[test]
fn a_snapshot_of_a_sealed_and_watched_store_opens_its_rows_and_tells_of_damage() {
    let folder = tempfile::tempdir().unwrap();
    let inner = Arc::new(MemoryStore::default());
    let damage = Arc::new(Damage::default());
    let sealed = opened(&seal_in(folder.path()), &inner, Database::Case).unwrap();
    let store = Watched::over(sealed, damage.clone());
    put(&*store, &[(Keyspace::Jobs, b"one", b"then")]);
    put(&*inner, &[(Keyspace::Tips, b"planted", b"plain")]);
    let snapshot = store.snapshot();
    put(&*snapshot, &[(Keyspace::Jobs, b"one", b"now"), (Keyspace::Jobs, b"two", b"now")]);
    let mut seen = Vec::new();
    let visit = &mut |key: &[u8], row: &[u8]| {
        seen.push((key.to_vec(), row.to_vec()));
        ControlFlow::Continue(())
    };
    snapshot.scan(Keyspace::Jobs, Range::ALL, visit).unwrap();
    assert_eq!(seen, [(b"one".to_vec(), b"then".to_vec())]);
    assert_eq!(store.get(Keyspace::Jobs, b"one").unwrap().unwrap(), b"now");
    assert!(damage.shown().is_none() && snapshot.get(Keyspace::Tips, b"planted").is_err());
    assert_eq!(damage.shown().unwrap().keyspaces, ["tips"]);
}

#[test]
fn of_the_banks_hashes_stay_as_they_are_and_words_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let inner = Arc::new(MemoryStore::default());
    let store = opened(&seal_in(folder.path()), &inner, Database::Bank).unwrap();
    let hash = [Signal::Pdq(Hash256([7; 32]))];
    let bare = encode_content(&hash, &About::default());
    let noted = encode_content(&hash, &About { note: "from https://example.com", metadata: "" });
    put(
        &*store,
        &[
            (Keyspace::Contents, b"bare", &bare),
            (Keyspace::Contents, b"noted", &noted),
            (Keyspace::Exchanges, b"e", b"\x01{}"),
            (Keyspace::BankMeta, b"last", &encode_u64(5)),
        ],
    );
    let expected = [(Keyspace::BankMeta, b"last".to_vec()), (Keyspace::Contents, b"bare".to_vec())];
    assert_eq!(plain(&inner, Database::Bank), expected);
    let mut rows = Vec::new();
    store
        .scan(Keyspace::Contents, Range::ALL, &mut |_, row| {
            rows.push(row.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(rows, [bare, noted]);
}

#[test]
fn a_planted_moved_or_changed_row_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let inner = Arc::new(MemoryStore::default());
    let store = opened(&seal_in(folder.path()), &inner, Database::Case).unwrap();
    put(&*store, &[(Keyspace::Jobs, b"a", b"mine"), (Keyspace::Jobs, b"b", b"yours")]);
    let row = inner.get(Keyspace::Jobs, b"a").unwrap().unwrap();
    let mut flipped = row.clone();
    flipped[OVERHEAD] ^= 1;
    for planted in [&b""[..], b"\x01{}", &row, &flipped] {
        put(&*inner, &[(Keyspace::Jobs, b"b", planted)]);
        let error = store.get(Keyspace::Jobs, b"b").unwrap_err();
        assert!(matches!(&error, StoreError::Row { keyspace: "jobs", .. }), "{error}");
        let mut seen = 0;
        let scanned = store.scan(Keyspace::Jobs, Range::ALL, &mut |_, _| {
            seen += 1;
            ControlFlow::Continue(())
        });
        assert!(scanned.is_err() && seen == 1, "the scan ends at it");
    }
    // In another keyspace it is nothing either.
    put(&*inner, &[(Keyspace::Items, b"a", &row)]);
    assert!(store.get(Keyspace::Items, b"a").is_err());
}

#[test]
fn an_older_database_is_sealed_once_and_goes_on_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let inner = Arc::new(MemoryStore::default());
    let rows = PASS_ROWS + 700;
    for number in 0..rows as u64 {
        put(&*inner, &[(Keyspace::Hits, &encode_u64(number), b"\x01{\"plain\":true}")]);
    }
    put(&*inner, &[(Keyspace::CaseMeta, b"cursor", &encode_u64(9)), (Keyspace::Items, b"i", b"\x01{}")]);
    // The program ended before it could remember that all is sealed, and after half of it was.
    let failing = seal_in(folder.path())
        .open(inner.clone(), Database::Case, |_| Err(StoreError::DiskFull { path: "x".to_string() }));
    assert!(failing.is_err());
    put(&*inner, &[(Keyspace::Items, b"late", b"\x01{}")]);
    let seal = seal_in(folder.path());
    assert!(!seal.key.seals_all_of(Database::Case));
    assert!(find_sealed(&*inner, Database::Case, |_| true).unwrap().is_some());
    let store = opened(&seal, &inner, Database::Case).unwrap();
    assert!(plain(&inner, Database::Case).is_empty());
    assert_eq!(store.get(Keyspace::Items, b"late").unwrap().unwrap(), b"\x01{}");
    let mut seen = 0;
    store
        .scan(Keyspace::Hits, Range::ALL, &mut |_, row| {
            seen += usize::from(row == b"\x01{\"plain\":true}");
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(seen, rows);
    // From now on nobody seals what somebody planted.
    put(&*inner, &[(Keyspace::Items, b"planted", b"\x01{}")]);
    let later = opened(&seal_in(folder.path()), &inner, Database::Case).unwrap();
    assert!(later.get(Keyspace::Items, b"planted").is_err());
}

#[test]
fn a_database_sealed_with_another_key_is_refused_when_it_is_opened() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let inner = Arc::new(MemoryStore::default());
    let store = opened(&seal_in(folder.path()), &inner, Database::Case).unwrap();
    assert_eq!(find_sealed(&*inner, Database::Case, |_| true).unwrap(), None);
    put(&*store, &[(Keyspace::Items, b"i", b"\x01{}")]);
    assert_eq!(
        find_sealed(&*inner, Database::Case, |_| true).unwrap().unwrap(),
        "the case database's 'items'"
    );
    let error = opened(&seal_in(other.path()), &inner, Database::Case).err().unwrap().to_string();
    assert!(error.contains("does not open with this data directory's key"), "{error}");
}

proptest! {
    /// The model: the same store without a seal.
    #[test]
    fn it_answers_as_the_store_below_would(
        written in proptest::collection::vec((0..12u8, proptest::option::of(proptest::collection::vec(any::<u8>(), 0..60))), 0..30),
        (from, to, backwards) in (0..12u8, 0..13u8, any::<bool>()),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let inner = Arc::new(MemoryStore::default());
        let store = opened(&seal_in(folder.path()), &inner, Database::Case).unwrap();
        let mut model = BTreeMap::new();
        for (key, value) in written {
            let mut batch = Batch::default();
            match value {
                Some(value) => {
                    batch.put(Keyspace::Jobs, [key], value.clone());
                    model.insert(key, value);
                }
                None => {
                    batch.delete(Keyspace::Jobs, [key]);
                    model.remove(&key);
                }
            }
            store.commit(batch, Durability::Sync).unwrap();
        }
        let mut expected: Vec<(u8, Vec<u8>)> =
            if from < to { model.range(from..to).map(|(key, value)| (*key, value.clone())).collect() } else { Vec::new() };
        if backwards {
            expected.reverse();
        }
        let (mut rows, mut keys) = (Vec::new(), Vec::new());
        let (low, high) = ([from], [to]);
        let range = Range { from: &low, to: Some(&high), backwards };
        store.scan(Keyspace::Jobs, range, &mut |key, row| {
            rows.push((key[0], row.to_vec()));
            ControlFlow::Continue(())
        }).unwrap();
        store.keys(Keyspace::Jobs, range, &mut |key| {
            keys.push(key[0]);
            ControlFlow::Continue(())
        }).unwrap();
        prop_assert_eq!(&keys, &expected.iter().map(|(key, _)| *key).collect::<Vec<_>>());
        prop_assert_eq!(rows, expected);
    }
}

fn lies_in(folder: &std::path::Path, needle: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        let has = |bytes: Vec<u8>| bytes.windows(needle.len()).any(|window| window == needle);
        if path.is_dir() { lies_in(&path, needle) } else { has(std::fs::read(path).unwrap()) }
    })
}

#[test]
fn once_an_older_database_is_sealed_no_file_of_it_holds_what_was_plain() {
    const WORD: &[u8] = b"https://example.com/planted";
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let options = StoreOptions { durability: Durability::Wal, ..StoreOptions::default() };
        Arc::new(RocksStore::open(folder.path(), Database::Case, options).unwrap())
    };
    // In tables, in tables under a later write, removed, and in the log alone; and in a key.
    let inner = open();
    let known = [b"k\0\0\0\0\0\0\0\x07", WORD].concat();
    put(
        &*inner,
        &[(Keyspace::Items, b"a", WORD), (Keyspace::Items, b"b", WORD), (Keyspace::Jobs, &known, WORD)],
    );
    drop(inner);
    let inner = open();
    put(&*inner, &[(Keyspace::Items, b"b", b"\x01{}"), (Keyspace::Outbox, b"c", WORD)]);
    let mut batch = Batch::default();
    batch.delete(Keyspace::Jobs, known.as_slice());
    inner.commit(batch, Durability::Wal).unwrap();
    assert!(lies_in(folder.path(), WORD), "or the search proves nothing");
    let seal = seal_in(folder.path());
    let store = seal
        .open(inner.clone(), Database::Case, |case| reporter::renew_media_keys(case, Durability::Wal))
        .unwrap();
    assert_eq!(store.get(Keyspace::Items, b"a").unwrap().unwrap(), WORD);
    drop((store, inner));
    let inner = open();
    assert!(!lies_in(folder.path(), WORD));
    let store = seal_in(folder.path()).open(inner, Database::Case, |_| Ok(())).unwrap();
    assert_eq!(store.get(Keyspace::Items, b"a").unwrap().unwrap(), WORD);
    assert_eq!(store.get(Keyspace::Outbox, b"c").unwrap().unwrap(), WORD);
    assert_eq!(store.get(Keyspace::Items, b"b").unwrap().unwrap(), b"\x01{}");
}

/// `cargo test -p engine sealed::tests::cost -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn cost() {
    const ROWS: u64 = 128; // as a group of 64 hits with their answers
    for (name, durability, rounds) in [("synced", Durability::Sync, 400u64), ("wal", Durability::Wal, 4000)] {
        let folders = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let open = |at: &std::path::Path| -> Arc<dyn Store> {
            Arc::new(RocksStore::open(at, Database::Case, StoreOptions::default()).unwrap())
        };
        let plain = open(folders.0.path());
        let sealed =
            seal_in(folders.1.path()).open(open(folders.1.path()), Database::Case, |_| Ok(())).unwrap();
        // Half zeroes, so that a plain row compresses to half as rows of JSON do.
        let value: Vec<u8> =
            (0..500u32).map(|at| if at % 2 == 0 { 0 } else { ((at * 2_654_435) >> 7) as u8 }).collect();
        let mut spent = [std::time::Duration::ZERO; 2];
        for round in 0..rounds {
            for (store, spent) in [&plain, &sealed].into_iter().zip(&mut spent) {
                let mut batch = Batch::default();
                for row in 0..ROWS {
                    batch.put(Keyspace::Hits, encode_u64(round * ROWS + row), value.as_slice());
                }
                let begun = std::time::Instant::now();
                store.commit(batch, durability).unwrap();
                *spent += begun.elapsed();
            }
        }
        let [plain, sealed] = spent.map(|spent| (rounds * ROWS) as f64 / spent.as_secs_f64());
        println!("{name}: {plain:.0} rows/s plain, {sealed:.0} sealed");
    }
}
