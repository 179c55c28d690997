//! A store in memory: for tests, and the oracle the durable backend is compared with.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Batch, Change, Durability, Keyspace, Range, Store, StoreError, Visit};

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// Rows in ordered maps. Durable as long as the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    spaces: Mutex<BTreeMap<Keyspace, Rows>>,
}

impl MemoryStore {
    fn spaces(&self) -> MutexGuard<'_, BTreeMap<Keyspace, Rows>> {
        // A panic while holding the lock cannot leave half a batch: changes only move whole rows.
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn copied(&self) -> Self {
        Self { spaces: Mutex::new(self.spaces().clone()) }
    }
}

/// The rows of a store as they were.
struct Copied<'s> {
    store: &'s MemoryStore,
    rows: MemoryStore,
}

impl Store for Copied<'_> {
    fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.rows.get(space, key)
    }

    fn scan(&self, space: Keyspace, range: Range<'_>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.rows.scan(space, range, visit)
    }

    fn snapshot(&self) -> Arc<dyn Store + '_> {
        Arc::new(Copied { store: self.store, rows: self.rows.copied() })
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        self.store.commit(batch, durability)
    }
}

impl Store for MemoryStore {
    fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.spaces().get(&space).and_then(|rows| rows.get(key).cloned()))
    }

    fn scan(&self, space: Keyspace, range: Range<'_>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        // Copied, so that `visit` may use the store.
        let end = range.to.map_or(Bound::Unbounded, Bound::Excluded);
        if range.to.is_some_and(|to| to <= range.from) {
            return Ok(());
        }
        let mut rows: Vec<(Vec<u8>, Vec<u8>)> = self
            .spaces()
            .get(&space)
            .map(|rows| {
                rows.range::<[u8], _>((Bound::Included(range.from), end))
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect()
            })
            .unwrap_or_default();
        if range.backwards {
            rows.reverse();
        }
        let _ = rows.iter().try_for_each(|(key, value)| visit(key, value));
        Ok(())
    }

    fn snapshot(&self) -> Arc<dyn Store + '_> {
        Arc::new(Copied { store: self, rows: self.copied() })
    }

    fn commit(&self, batch: Batch, _durability: Durability) -> Result<(), StoreError> {
        let mut spaces = self.spaces();
        for change in batch.changes {
            match change {
                Change::Put(space, key, value) => {
                    spaces.entry(space).or_default().insert(key, value);
                }
                Change::Delete(space, key) => {
                    spaces.entry(space).or_default().remove(&key);
                }
                Change::DeleteRange(space, from, to) => {
                    spaces.entry(space).or_default().retain(|key, _| key < &from || key >= &to);
                }
            }
        }
        Ok(())
    }
}
