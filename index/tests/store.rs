//! The durable store against the one in memory, and its refusals. Needs the feature `rocksdb`.
#![allow(clippy::panic, clippy::unwrap_used)] // a test fails by panicking
#![cfg(feature = "rocksdb")]

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use index::store::{
    Batch, Database, Durability, Keyspace, MemoryStore, Range, RocksStore, Store, StoreError, StoreOptions,
};
use proptest::prelude::*;

fn open(folder: &Path) -> Result<RocksStore, StoreError> {
    RocksStore::open(folder, Database::Case, StoreOptions::default())
}

fn rows(store: &dyn Store, range: Range<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    let visit = &mut |key: &[u8], value: &[u8]| {
        rows.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    };
    store.scan(Keyspace::Hits, range, visit).unwrap();
    rows
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    DeleteRange(u8, u8),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (any::<u8>(), any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
        2 => any::<u8>().prop_map(Step::Delete),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Step::DeleteRange(a.min(b), a.max(b))),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn the_durable_store_answers_as_the_one_in_memory(steps in steps(), from: u8, to: u8) {
        let folder = tempfile::tempdir().unwrap();
        let (mut durable, memory) = (open(folder.path()).unwrap(), MemoryStore::default());
        for step in steps {
            let mut batch = Batch::default();
            match step {
                Step::Put(key, value) => batch.put(Keyspace::Hits, [key], [value]),
                Step::Delete(key) => batch.delete(Keyspace::Hits, [key]),
                Step::DeleteRange(a, b) => batch.delete_range(Keyspace::Hits, [a], [b]),
                Step::Reopen => {
                    drop(durable);
                    durable = open(folder.path()).unwrap();
                }
            }
            durable.commit(batch.clone(), Durability::Sync).unwrap();
            memory.commit(batch, Durability::Sync).unwrap();
        }
        let ends = ([from.min(to)], [from.max(to)]);
        for range in [Range::ALL, Range::between(&ends.0, &ends.1), Range::starting(&ends.0)] {
            prop_assert_eq!(rows(&durable, range), rows(&memory, range));
            prop_assert_eq!(rows(&durable, range.reversed()), rows(&memory, range.reversed()));
        }
        prop_assert_eq!(durable.get(Keyspace::Hits, &[from]).unwrap(), memory.get(Keyspace::Hits, &[from]).unwrap());
    }
}

/// A database with these rows, synced one by one, and the path of its newest log.
fn filled(folder: &Path, count: u32) -> PathBuf {
    let store = open(folder).unwrap();
    for number in 0..count {
        let mut batch = Batch::default();
        batch.put(Keyspace::Hits, number.to_be_bytes(), vec![number as u8; 200]);
        store.commit(batch, Durability::Sync).unwrap();
    }
    let logs = fs::read_dir(folder.join("case")).unwrap().map(|entry| entry.unwrap().path());
    logs.filter(|path| path.extension().is_some_and(|ending| ending == "log")).max().unwrap()
}

fn flip(path: &Path, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn one_flipped_bit_anywhere_in_the_log_is_loud() {
    for part in 0..10 {
        let folder = tempfile::tempdir().unwrap();
        let log = filled(folder.path(), 100);
        let length = fs::metadata(&log).unwrap().len();
        flip(&log, length * part / 10 + 50);
        let error = open(folder.path()).map(drop).expect_err("a damaged log must not open silently");
        assert!(matches!(error, StoreError::Damaged { .. } | StoreError::LostWrites { .. }), "{error}");
        assert!(error.to_string().contains("restore"), "says what to do: {error}");
    }
}

#[test]
fn a_log_cut_behind_what_was_acknowledged_is_loud_and_an_unacknowledged_tail_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let log = filled(folder.path(), 20);
    let whole = fs::read(&log).unwrap();

    // A torn record after the last acknowledged one is what a power cut leaves: it is dropped.
    fs::write(&log, [&whole[..], &whole[..100]].concat()).unwrap();
    let survivors = rows(&open(folder.path()).unwrap(), Range::ALL).len();
    assert_eq!(survivors, 20);

    let folder = tempfile::tempdir().unwrap();
    let log = filled(folder.path(), 20);
    let whole = fs::read(&log).unwrap();
    fs::write(&log, &whole[..whole.len() - 10]).unwrap();
    let error = open(folder.path()).map(drop).expect_err("an acknowledged row is missing");
    assert!(matches!(error, StoreError::LostWrites { .. }), "{error}");
}

#[test]
fn a_database_that_vanished_is_not_taken_for_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 3);
    fs::remove_dir_all(folder.path().join("case")).unwrap();
    let error = open(folder.path()).map(drop).expect_err("acknowledged rows are missing");
    assert!(matches!(error, StoreError::LostWrites { found: 0, .. }), "{error}");
}

#[test]
fn a_database_without_its_high_water_mark_is_not_trusted() {
    for spoil in
        [|path: &Path| fs::remove_file(path).unwrap(), |path: &Path| fs::write(path, [0; 8192]).unwrap()]
    {
        let folder = tempfile::tempdir().unwrap();
        filled(folder.path(), 3);
        spoil(&folder.path().join("case.high-water"));
        let error = open(folder.path()).map(drop).expect_err("nobody knows what was promised");
        assert!(error.to_string().contains("case.high-water is missing or blank"), "{error}");
        // And a second try is as careful as the first.
        assert!(open(folder.path()).is_err());
    }
}

#[test]
fn a_locked_database_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let _held = open(folder.path()).unwrap();
    let error = open(folder.path()).map(drop).expect_err("it is held");
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
}
