//! Databases that programs of different ages open.

use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};

use super::*;

/// Opens a database as a program does that knows all of its keyspaces but one.
fn open_as_older(folder: &Path) -> Result<DB, Error> {
    let older = Keyspace::ALL
        .into_iter()
        .filter(|space| space.database() == Database::Case && *space != Keyspace::Tips);
    let names = older.map(Keyspace::name).chain([DEFAULT_COLUMN_FAMILY_NAME]);
    let families = names.map(|name| ColumnFamilyDescriptor::new(name, Options::default()));
    DB::open_cf_descriptors(&database_options(), folder.join(Database::Case.name()), families)
}

#[test]
fn an_older_program_opens_a_database_until_its_keyspaces_are_completed() {
    let folder = tempfile::tempdir().unwrap();
    drop(open_as_older(folder.path()).unwrap());
    let mark = folder.path().join("case.high-water");
    Watermark::open(&mark).unwrap().establish(&mark).unwrap();
    let open = || RocksStore::open_as_found(folder.path(), Database::Case, StoreOptions::default());
    let store = open().unwrap();
    assert!(store.has(Keyspace::Hits) && !store.has(Keyspace::Tips));
    drop(store);
    drop(open_as_older(folder.path()).unwrap()); // the upgrade failed: it goes on with the older program

    let mut store = open().unwrap();
    store.complete().unwrap();
    let mut batch = Batch::default();
    batch.put(Keyspace::Tips, [1], [1]);
    store.commit(batch, Durability::Sync).unwrap();
    drop(store);
    assert!(open_as_older(folder.path()).is_err());
    let store = RocksStore::open(folder.path(), Database::Case, StoreOptions::default()).unwrap();
    assert_eq!(store.get(Keyspace::Tips, &[1]).unwrap(), Some(vec![1]));
}

#[test]
fn a_look_up_reads_little_however_many_rows_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { cache: BlockCache::new(128 << 10), ..StoreOptions::default() };
    let open = || RocksStore::open(folder.path(), Database::Case, options.clone()).unwrap();
    let store = open();
    let mut noise = 1u64;
    for first in (0..80_000u64).step_by(10_000) {
        let mut batch = Batch::default();
        for row in first..first + 10_000 {
            let value: Vec<u8> = (0..60)
                .flat_map(|_| {
                    noise =
                        noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    noise.to_be_bytes()
                })
                .collect();
            batch.put(Keyspace::Jobs, (2 * row).to_be_bytes(), value);
        }
        store.commit(batch, Durability::Wal).unwrap();
    }
    let family = store.db.cf_handle(Keyspace::Jobs.name()).unwrap();
    store.db.compact_range_cf(&family, None::<&[u8]>, None::<&[u8]>);
    drop(store);
    let store = open();
    set_perf_stats(PerfStatsLevel::EnableCount);
    let mut context = PerfContext::default();
    let mut read = |row: u64| {
        context.reset();
        store.get(Keyspace::Jobs, &row.to_be_bytes()).unwrap();
        context.metric(PerfMetric::BlockReadByte)
    };
    // The cache holds neither the four files' indexes nor their filters whole: 26 KB each of them, read together.
    let bytes: Vec<u64> = (0..40).map(|at| read(at * 3_999)).collect();
    assert!(bytes[1..].iter().all(|bytes| *bytes < PART as u64 + 4096), "{bytes:?}");
    set_perf_stats(PerfStatsLevel::Disable);
}
