//! What waits to be reported is listed while the filer takes it up.

#![allow(clippy::unwrap_used)] // clippy takes this file's helpers for code outside tests

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use index::store::{Batch, Durability, Keyspace, MemoryStore, Range, Store, StoreError, Visit};
use reporter::Tx;
use reporter::desk::item::ItemKey;
use reporter::desk::job::JobId;
use reporter::desk::outbox::{Filing, begin_filing, filings_open, put_filing};

/// A store in which the filer takes the only filing up between two reads.
#[derive(Default)]
struct Moving {
    rows: MemoryStore,
    moved: AtomicBool,
}

fn filing() -> Filing {
    Filing { job: JobId(7), user: ItemKey::new("user", "u"), decided_ms: 5 }
}

impl Store for Moving {
    fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.rows.get(space, key)
    }

    fn scan(&self, space: Keyspace, range: Range<'_>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.rows.scan(space, range, visit)?;
        if !self.moved.swap(true, Ordering::Relaxed) {
            let mut tx = Tx::new(&self.rows);
            begin_filing(&mut tx, &filing());
            self.rows.commit(tx.into_batch(), Durability::Wal)?;
        }
        Ok(())
    }

    fn snapshot(&self) -> Arc<dyn Store + '_> {
        self.rows.snapshot()
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        self.rows.commit(batch, durability)
    }
}

#[test]
fn a_filing_that_is_taken_up_meanwhile_is_listed_once() {
    let store = Moving::default();
    let mut tx = Tx::new(&store.rows);
    put_filing(&mut tx, &filing());
    store.commit(tx.into_batch(), Durability::Wal).unwrap();
    let listed = || filings_open(&Tx::new(&store), 10).unwrap().len();
    assert_eq!([listed(), listed()], [1, 1], "at the moment it moves, and afterwards");
}
