//! The durable store against the one in memory, and its refusals. Needs the feature `rocksdb`.
#![allow(clippy::panic, clippy::unwrap_used)] // a test fails by panicking
#![cfg(feature = "rocksdb")]

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use index::store::segments::{CHUNK_BYTES, SegmentId, SegmentStore, chunk_key, read_part, write_parts};
use index::store::{
    Batch, Database, Durability, Keyspace, MemoryStore, Range, RocksSegments, RocksStore, Store, StoreError,
    StoreOptions, salvage,
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
    #![proptest_config(ProptestConfig::with_cases(24))]

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

#[test]
fn a_snapshot_sees_nothing_that_is_committed_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let stores: [Box<dyn Store>; 2] =
        [Box::new(open(folder.path()).unwrap()), Box::new(MemoryStore::default())];
    for store in stores {
        let mut batch = Batch::default();
        (0..200u8).for_each(|key| batch.put(Keyspace::Hits, [key], [1]));
        store.commit(batch, Durability::Sync).unwrap();
        let (snapshot, before) = (store.snapshot(), rows(&*store, Range::ALL));
        let mut batch = Batch::default();
        batch.put(Keyspace::Hits, [3], [2]);
        batch.put(Keyspace::Hits, [250], [2]);
        batch.delete(Keyspace::Hits, [4]);
        batch.delete_range(Keyspace::Hits, [10], [190]);
        snapshot.commit(batch, Durability::Sync).unwrap();
        store.purge().unwrap(); // and the files are written anew
        for snapshot in [&*snapshot, &*snapshot.snapshot()] {
            assert_eq!(rows(snapshot, Range::ALL), before);
            let mut keys = Vec::new();
            let visit = &mut |key: &[u8]| {
                keys.push(key[0]);
                ControlFlow::Continue(())
            };
            snapshot.keys(Keyspace::Hits, Range::ALL.reversed(), visit).unwrap();
            assert!(keys.iter().copied().eq((0..200).rev()));
            assert_eq!(snapshot.last_key(Keyspace::Hits).unwrap(), Some(vec![199]));
            assert_eq!(snapshot.get(Keyspace::Hits, &[4]).unwrap(), Some(vec![1]));
            assert_eq!(snapshot.get(Keyspace::Hits, &[250]).unwrap(), None);
        }
        assert_eq!(store.get(Keyspace::Hits, &[4]).unwrap(), None);
        assert_eq!(store.last_key(Keyspace::Hits).unwrap(), Some(vec![250]));
    }
}

#[test]
fn a_purge_leaves_what_is_there_and_nothing_of_what_was() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let put = |value: &[u8]| {
        let mut batch = Batch::default();
        (0..200u8).for_each(|key| batch.put(Keyspace::Hits, [key], value));
        store.commit(batch, Durability::Wal).unwrap();
    };
    let lies = |word: &[u8]| {
        let files = fs::read_dir(folder.path().join("case")).unwrap();
        let mut files = files.map(|entry| fs::read(entry.unwrap().path()).unwrap());
        files.any(|bytes| bytes.windows(word.len()).any(|window| window == word))
    };
    put(b"what was written first");
    store.purge().unwrap();
    put(b"what is there now");
    assert!(lies(b"what was written first"));
    store.purge().unwrap();
    assert!(!lies(b"what was written first") && lies(b"what is there now"));
    drop(store);
    let store = open(folder.path()).unwrap();
    assert_eq!(rows(&store, Range::ALL).len(), 200);
}

#[test]
fn an_empty_range_removed_last_is_no_lost_write() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let store = open(folder.path()).unwrap();
        for (from, to) in [([7], [7]), ([9], [3])] {
            let mut batch = Batch::default();
            batch.delete_range(Keyspace::Hits, from, to);
            assert!(batch.is_empty());
            store.commit(batch, Durability::Sync).unwrap();
        }
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
        // Reading finds the same as opening, before a refused open has left a blank file and after.
        let read = || RocksStore::read(folder.path(), Database::Case, StoreOptions::default()).map(drop);
        for outcome in [read(), open(folder.path()).map(drop), read()] {
            let error = outcome.expect_err("nobody knows what was promised");
            assert!(error.to_string().contains("case.high-water is missing or blank"), "{error}");
        }
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

#[test]
fn a_database_that_is_only_read_is_whole_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    assert!(RocksStore::read(folder.path(), Database::Case, StoreOptions::default()).is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is made");
    filled(folder.path(), 50);
    let all = || {
        let inside =
            fs::read_dir(folder.path().join("case")).unwrap().chain(fs::read_dir(folder.path()).unwrap());
        let files = inside.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
        files.map(|path| (path.clone(), fs::read(&path).unwrap())).collect::<BTreeMap<_, _>>()
    };
    let before = all();
    let store = RocksStore::read(folder.path(), Database::Case, StoreOptions::default()).unwrap();
    assert_eq!(rows(&store, Range::ALL).len(), 50, "what lies in the log alone is read, too");
    let mut batch = Batch::default();
    batch.put(Keyspace::Hits, [1], [1]);
    assert!(store.commit(batch, Durability::Sync).is_err());
    drop(store);
    assert!(all() == before);
}

fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed) ^ (at >> 8) as u8).collect()
}

#[test]
fn stored_segments_read_back_after_reopening_and_go_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (long, short) = (pattern(CHUNK_BYTES * 2 + 5, 1), pattern(7, 2));
    {
        let (store, _) = RocksSegments::open(folder.path()).unwrap();
        write_parts(&store, SegmentId(1), &[&long, &[], &short]).unwrap();
        write_parts(&store, SegmentId(2), &[&short]).unwrap();
    }
    let (store, damaged) = RocksSegments::open(folder.path()).unwrap();
    assert_eq!(damaged, None);
    assert_eq!(store.list().unwrap(), [SegmentId(1), SegmentId(2)]);
    let mut back = vec![0; long.len()];
    read_part(&store, SegmentId(1), 0, &mut back).unwrap();
    assert!(back == long);
    read_part(&store, SegmentId(1), 2, &mut back[..short.len()]).unwrap();
    assert_eq!(back[..7], short[..]);
    assert!(read_part(&store, SegmentId(1), 2, &mut back[..6]).is_err(), "another length than written");
    assert!(read_part(&store, SegmentId(3), 0, &mut back).is_err(), "never written");
    store.remove(SegmentId(1)).unwrap();
    assert_eq!(store.list().unwrap(), [SegmentId(2)]);
    let bytes: u64 = files(folder.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(bytes < 1 << 20, "a removed segment keeps {bytes} bytes");
}

#[test]
fn a_flipped_bit_anywhere_in_a_stored_segment_is_noticed() {
    let data = pattern(300_000, 3);
    for part in 0..24 {
        let folder = tempfile::tempdir().unwrap();
        {
            let (store, _) = RocksSegments::open(folder.path()).unwrap();
            write_parts(&store, SegmentId(1), &[&data]).unwrap();
        }
        let file =
            files(folder.path()).into_iter().find(|path| path.extension().is_some_and(|it| it == "sst"));
        let file = file.expect("a segment is a file");
        let length = fs::metadata(&file).unwrap().len();
        flip(&file, if part < 12 { length * part / 12 + 1 } else { length - 1 - (part - 12) * 37 });
        // Either it cannot be opened and is made anew, or what is read is as written, or an error.
        let (store, _) = RocksSegments::open(folder.path()).unwrap();
        let mut back = vec![0; data.len()];
        if read_part(&store, SegmentId(1), 0, &mut back).is_ok() {
            assert!(back == data, "byte flipped in part {part}");
        }
    }
}

/// The files of the segments' database.
fn files(folder: &Path) -> Vec<PathBuf> {
    let folder = folder.join("segments");
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
}

/// A database with rows in tables, and what lies in them.
fn tables(folder: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let store = open(folder).unwrap();
    let mut batch = Batch::default();
    let mut rows = BTreeMap::new();
    for number in 0u64..3000 {
        // Not to be compressed, so that a block holds some twenty rows.
        let row: Vec<u8> = (0u64..20)
            .flat_map(|at| (number * 31 + at).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes())
            .collect();
        batch.put(Keyspace::Jobs, number.to_be_bytes(), row.clone());
        rows.insert(number.to_be_bytes().to_vec(), row);
    }
    store.commit(batch, Durability::Sync).unwrap();
    store.purge().unwrap();
    rows
}

/// The largest table file of a database.
fn largest_table(folder: &Path, database: &str) -> PathBuf {
    let files = fs::read_dir(folder.join(database)).unwrap().map(|entry| entry.unwrap().path());
    let tables = files.filter(|path| path.extension().is_some_and(|ending| ending == "sst"));
    tables.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

fn put_one(store: &dyn Store, key: &[u8]) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    batch.put(Keyspace::Jobs, key, [1]);
    store.commit(batch, Durability::Sync)
}

#[test]
fn a_flipped_block_takes_its_own_rows_and_no_others() {
    for part in [0, 3, 7, 9] {
        let folder = tempfile::tempdir().unwrap();
        let rows = tables(folder.path());
        let table = largest_table(folder.path(), "case");
        let data = 3000 * 170; // the index and the filter lie behind the rows
        flip(&table, data * part / 10 + 100);

        let store = open(folder.path()).unwrap();
        let (mut found, mut lost) = (Vec::new(), Vec::new());
        let visit = &mut |key: &[u8], row: &[u8]| {
            assert_eq!(rows[key], row);
            found.push(key.to_vec());
            ControlFlow::Continue(())
        };
        salvage(&store, Keyspace::Jobs, Range::ALL, visit, &mut |part| lost.push(part)).unwrap();
        let missing: Vec<&Vec<u8>> = rows.keys().filter(|key| !found.contains(key)).collect();
        assert!((1..60).contains(&missing.len()), "{} of one block", missing.len());
        assert_eq!(lost.len(), 1, "{lost:?}");
        for key in &missing {
            assert!(lost[0].from <= **key && lost[0].to.as_ref().is_none_or(|to| *key < to));
            let error = store.get(Keyspace::Jobs, key).unwrap_err();
            assert!(error.is_damage(), "{error}");
        }
        assert_eq!(store.last_key(Keyspace::Jobs).unwrap().unwrap(), 2999u64.to_be_bytes());
        put_one(&store, &5000u64.to_be_bytes()).unwrap();
        assert_eq!(store.last_key(Keyspace::Jobs).unwrap().unwrap(), 5000u64.to_be_bytes());
        let spared = folder.path().join("case.damaged");
        assert_eq!(fs::read_to_string(&spared).unwrap(), "jobs\n", "it is not compacted any more");
        store.found_whole(Keyspace::Jobs).unwrap();
        assert!(!spared.exists());
    }
}

#[test]
fn a_compaction_that_meets_damage_stops_a_database_once_and_not_at_every_start() {
    let folder = tempfile::tempdir().unwrap();
    tables(folder.path());
    flip(&largest_table(folder.path(), "case"), 200_000);
    let store = open(folder.path()).unwrap();
    store.purge().unwrap(); // compacts everything, whatever is told: nobody has read the damaged block yet
    let error = put_one(&store, b"after").unwrap_err();
    assert!(matches!(error, StoreError::Failed { .. }), "the program ends, and is started again: {error}");
    drop(store);
    let store = open(folder.path()).unwrap();
    // Enough for several compactions, were there any of this keyspace.
    for round in 0u64..8 {
        let mut batch = Batch::default();
        for number in 0u64..2000 {
            batch.put(Keyspace::Jobs, (10_000 + number).to_be_bytes(), vec![round as u8; 5000]);
        }
        store.commit(batch, Durability::Wal).unwrap();
    }
    put_one(&store, b"after").unwrap();
    assert_eq!(store.get(Keyspace::Jobs, &2999u64.to_be_bytes()).unwrap().unwrap().len(), 160);
}

#[test]
fn a_segment_that_cannot_be_written_leaves_no_draft() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = RocksSegments::open(folder.path()).unwrap();
    let chunk = |number| (chunk_key(SegmentId(1), 0, number), vec![1; 100]);
    // Keys that do not ascend are refused in the midst of the file, as a full disk would.
    let failed = store.write(SegmentId(1), &mut [chunk(2), chunk(1)].into_iter());
    assert!(failed.is_err());
    assert!(!folder.path().join("segments/segment.draft").exists());
    store.write(SegmentId(1), &mut [chunk(1), chunk(2)].into_iter()).unwrap();
    assert_eq!(store.list().unwrap(), [SegmentId(1)]);
}

#[test]
fn stored_segments_are_listed_and_removed_whatever_is_damaged_in_them() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = RocksSegments::open(folder.path()).unwrap();
    for id in [3, 4] {
        write_parts(&store, SegmentId(id), &[&[7; 100_000][..]]).unwrap();
    }
    drop(store);
    let files = fs::read_dir(folder.path().join("segments")).unwrap().map(|entry| entry.unwrap().path());
    for table in files.filter(|path| path.extension().is_some_and(|ending| ending == "sst")) {
        flip(&table, 10); // in the first block
    }
    let (store, made_anew) = RocksSegments::open(folder.path()).unwrap();
    assert!(made_anew.is_none());
    assert_eq!(store.list().unwrap(), [SegmentId(3), SegmentId(4)]);
    assert!(read_part(&store, SegmentId(3), 0, &mut [0; 100_000]).is_err());
    store.remove(SegmentId(3)).unwrap();
    assert_eq!(store.list().unwrap(), [SegmentId(4)]);
}

#[test]
fn a_page_reads_little_more_than_itself() {
    let folder = tempfile::tempdir().unwrap();
    let rows = tables(folder.path());
    let store = open(folder.path()).unwrap();
    let io = || {
        let text = fs::read_to_string("/proc/self/io").unwrap();
        let line = text.lines().find(|line| line.starts_with("rchar")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let page = |from: u64| {
        let (mut left, from) = (3, from.to_be_bytes());
        let visit = &mut |_: &[u8], _: &[u8]| {
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        store.scan(Keyspace::Jobs, Range::starting(&from), visit).unwrap();
    };
    page(10); // the index is read once
    // Other tests read, too: the least of some tries counts.
    let least = (0..20).map(|at| {
        let before = io();
        page(100 * at + 50);
        io() - before
    });
    let least = least.min().unwrap();
    println!("a page of 3 rows reads {least} bytes of {}", rows.len() * 170);
    assert!(least < 32 << 10, "{least} bytes for a page of 500");
}
