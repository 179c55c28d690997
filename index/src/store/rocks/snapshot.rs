//! A view of a database as it was when the view was taken.

use std::sync::Arc;

use rocksdb::Snapshot;

use super::super::{Batch, Durability, Keyspace, Range, Store, StoreError, Visit, VisitKey};
use super::RocksStore;

/// The rows of a moment; what it has of the database beside them is of now.
pub(super) struct RocksSnapshot<'s> {
    store: &'s RocksStore,
    rows: Arc<Snapshot<'s>>,
}

impl<'s> RocksSnapshot<'s> {
    pub(super) fn new(store: &'s RocksStore, rows: Snapshot<'s>) -> Self {
        Self { store, rows: Arc::new(rows) }
    }
}

impl Store for RocksSnapshot<'_> {
    fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.rows.get_cf(self.store.family(space), key).map_err(|error| self.store.unread(space, &error))
    }

    fn scan(&self, space: Keyspace, range: Range<'_>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.store.visit(self.store.rows(Some(&self.rows), space, range), space, range, visit)
    }

    fn keys(&self, space: Keyspace, range: Range<'_>, visit: &mut VisitKey<'_>) -> Result<(), StoreError> {
        self.store.visit_keys(self.store.rows(Some(&self.rows), space, range), space, range, visit)
    }

    fn last_key(&self, space: Keyspace) -> Result<Option<Vec<u8>>, StoreError> {
        let mut last = None;
        let looked = self.keys(space, Range::ALL.reversed(), &mut |key| {
            last = Some(key.to_vec());
            std::ops::ControlFlow::Break(())
        });
        match looked {
            // Where the last rows do not read, the files tell of a key that is no less than the last one.
            Err(error) if error.is_damage() => self.store.last_key(space),
            looked => looked.map(|()| last),
        }
    }

    fn estimate(&self, space: Keyspace) -> Result<u64, StoreError> {
        self.store.estimate(space)
    }

    fn snapshot(&self) -> Arc<dyn Store + '_> {
        Arc::new(RocksSnapshot { store: self.store, rows: self.rows.clone() })
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        self.store.commit(batch, durability)
    }
}
