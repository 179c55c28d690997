//! Databases that programs of different ages open.

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
