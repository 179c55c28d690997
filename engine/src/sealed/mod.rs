//! A store that seals the values of another: what lies on the disk opens with the data key alone.
//!
//! Keys of rows stay as they are, or nothing could be found: numbers, and the ids by which others know their items, users,
//! reviewers, queues and rules. What a value is sealed for ([`seals`]) is decided by keyspace, so a row that should be
//! sealed and is not is refused: nobody can plant one. A row that is taken away, or put back as it was before at the
//! same place, cannot be told; the hit log and the census find holes.
//!
//! A database of an older format is sealed when it is opened ([`Seal::open`]), before anybody reads it.

mod rows;

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use index::store::keys::{is_bare_content, wrong};
use index::store::{
    Batch, Change, Database, Durability, Keyspace, Range, Store, StoreError, Visit, VisitKey,
};

use self::rows::{RowCipher, is_sealed};

use crate::secrets::{DataKey, DataKeyError};

/// Rows and bytes that are sealed in one commit when an older database is opened.
const PASS_ROWS: usize = 4096;
const PASS_BYTES: usize = 8 << 20;
/// Rows that are tried before a keyspace counts as sealed with another key.
const TRIED_ROWS: usize = 1000;

/// Seals databases with one data key.
#[derive(Clone)]
pub struct Seal {
    key: Arc<DataKey>,
    cipher: Arc<RowCipher>,
}

/// Seals what goes into `inner`, opens what comes out.
struct SealedStore<'s> {
    inner: Arc<dyn Store + 's>,
    cipher: Arc<RowCipher>,
}

/// Why a database is not opened sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Its rows.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The data key.
    #[error(transparent)]
    Key(#[from] DataKeyError),
}

/// Whether a row of this keyspace with this value is sealed. In the clear stay, of the bank database: numbers and ids,
/// contents that hold nothing but hashes (so that millions load as fast as ever; `segments/` has them as well), and
/// credentials, which are wrapped already. Of the case database the audit log, which holds no secrets and which an auditor
/// checks without any.
pub fn seals(space: Keyspace, value: &[u8]) -> bool {
    match space {
        Keyspace::BankMeta
        | Keyspace::Rebuilt
        | Keyspace::Paused
        | Keyspace::Imported
        | Keyspace::Credentials
        | Keyspace::Removed
        | Keyspace::Audit => false,
        Keyspace::Contents => !is_bare_content(value),
        Keyspace::Banks
        | Keyspace::Exchanges
        | Keyspace::History
        | Keyspace::BankRequests
        | Keyspace::CaseMeta
        | Keyspace::Hits
        | Keyspace::CaseRequests
        | Keyspace::QueueEntries
        | Keyspace::Items
        | Keyspace::Intake
        | Keyspace::Policy
        | Keyspace::Evaluations
        | Keyspace::Jobs
        | Keyspace::Decisions
        | Keyspace::Outbox
        | Keyspace::People
        | Keyspace::Evidence
        | Keyspace::Tips
        | Keyspace::Recent => true,
    }
}

impl Seal {
    /// Seals with this key.
    pub fn new(key: Arc<DataKey>) -> io::Result<Self> {
        let cipher = Arc::new(RowCipher::new(key.reveal())?);
        Ok(Self { key, cipher })
    }

    /// The rows of a database that is sealed already, as they are: nothing is tried, nothing is changed.
    pub fn over(&self, inner: Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(SealedStore { inner, cipher: self.cipher.clone() })
    }

    /// Opens a database sealed. What an older program left in the clear is sealed now, `renew` turns what else of it must
    /// not stay as it was, and every file is written anew, so that none holds what was before. Then that is remembered
    /// with the key. After a crash in between it goes on from what is in the clear still.
    pub fn open(
        &self,
        inner: Arc<dyn Store>,
        database: Database,
        renew: impl FnOnce(&dyn Store) -> Result<(), StoreError>,
    ) -> Result<Arc<dyn Store>, SealError> {
        let sealed = Arc::new(SealedStore { inner, cipher: self.cipher.clone() });
        if !self.key.seals_all_of(database) {
            let mut count = 0;
            for space in database.keyspaces() {
                count += sealed.seal_plain(space)?;
            }
            renew(&*sealed)?;
            sealed.inner.purge()?;
            self.key.note_sealed(database)?;
            if count > 0 {
                tracing::info!(
                    database = database.name(),
                    rows = count,
                    "rows of an older format were sealed"
                );
            }
        }
        for space in database.keyspaces() {
            sealed.opens(space)?;
        }
        Ok(sealed)
    }
}

impl SealedStore<'_> {
    /// Whether a keyspace is sealed with this key: with another, it is refused here and not somewhere in the midst of the
    /// work. Where the first row does not open, a later one that does shows that it is damage and no other key.
    fn opens(&self, space: Keyspace) -> Result<(), StoreError> {
        let first = self.scan(space, Range::ALL, &mut |_, _| ControlFlow::Break(()));
        let Err(error) = first else { return Ok(()) };
        if !error.is_damage() {
            return Err(error);
        }
        let mut rows = Vec::new();
        let listed = self.inner.keys(space, Range::ALL, &mut |key| {
            rows.push(key.to_vec());
            if rows.len() < TRIED_ROWS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        if listed.is_err() {
            return Ok(()); // a block does not read, which says nothing of the key
        }
        // The data key opened, so rows of another key are those of another data directory: none of them opens.
        if rows.iter().any(|key| self.get(space, key).is_ok()) { Ok(()) } else { Err(error) }
    }

    /// Seals what is in the clear in a keyspace; gives the number of rows.
    fn seal_plain(&self, space: Keyspace) -> Result<u64, StoreError> {
        let (mut from, mut count) = (Vec::new(), 0);
        loop {
            let (mut batch, mut bytes, mut last) = (Batch::default(), 0, None);
            self.inner.scan(space, Range::starting(&from), &mut |key, row| {
                if !is_sealed(row) && seals(space, row) {
                    bytes += row.len();
                    batch.put(space, key, self.cipher.seal(space, key, row));
                }
                if batch.changes.len() < PASS_ROWS && bytes < PASS_BYTES {
                    return ControlFlow::Continue(());
                }
                last = Some(key.to_vec());
                ControlFlow::Break(())
            })?;
            count += batch.changes.len() as u64;
            if !batch.is_empty() {
                self.inner.commit(batch, Durability::Sync)?;
            }
            let Some(last) = last else { return Ok(count) };
            from = last;
            from.push(0); // the first key after it
        }
    }

    /// Makes a row what its owner wrote.
    fn opened<'r>(&self, space: Keyspace, key: &[u8], row: &'r mut [u8]) -> Result<&'r mut [u8], StoreError> {
        if is_sealed(row) && space != Keyspace::Credentials {
            return self.cipher.open(space, key, row);
        }
        if seals(space, row) {
            return Err(wrong(space, "it is not sealed, so this program did not write it"));
        }
        Ok(row)
    }
}

/// What in a database is sealed, if anything is: looked for where a pass that was cut short begins. Asks for keyspaces that
/// are `there` alone.
pub fn find_sealed(
    store: &dyn Store,
    database: Database,
    there: impl Fn(Keyspace) -> bool,
) -> Result<Option<String>, StoreError> {
    for space in database.keyspaces().filter(|space| there(*space)) {
        let mut found = false;
        let looked = store.scan(space, Range::ALL, &mut |_, row| {
            // The first row tells: all of a keyspace are sealed, in the order of their keys, but for contents, and there
            // are none without a bank.
            found = is_sealed(row) && space != Keyspace::Credentials;
            ControlFlow::Break(())
        });
        match looked {
            // What does not read may be sealed: no new key is made over it.
            Err(error) if error.is_damage() => found = true,
            other => other?,
        }
        if found {
            return Ok(Some(format!("the {} database's '{}'", database.name(), space.name())));
        }
    }
    Ok(None)
}

impl Store for SealedStore<'_> {
    fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(mut row) = self.inner.get(space, key)? else { return Ok(None) };
        let value = self.opened(space, key, &mut row)?;
        Ok(Some(value.to_vec()))
    }

    fn scan(&self, space: Keyspace, range: Range<'_>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let (mut copy, mut outcome) = (Vec::new(), Ok(()));
        self.inner.scan(space, range, &mut |key, row| {
            if !is_sealed(row) && !seals(space, row) {
                return visit(key, row); // most contents of banks: not even copied
            }
            copy.clear();
            copy.extend_from_slice(row);
            match self.opened(space, key, &mut copy) {
                Ok(value) => visit(key, value),
                Err(error) => {
                    outcome = Err(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        outcome
    }

    fn keys(&self, space: Keyspace, range: Range<'_>, visit: &mut VisitKey<'_>) -> Result<(), StoreError> {
        self.inner.keys(space, range, visit)
    }

    fn last_key(&self, space: Keyspace) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.last_key(space)
    }

    fn estimate(&self, space: Keyspace) -> Result<u64, StoreError> {
        self.inner.estimate(space)
    }

    fn found_whole(&self, space: Keyspace) -> Result<(), StoreError> {
        self.inner.found_whole(space)
    }

    fn purge(&self) -> Result<(), StoreError> {
        self.inner.purge()
    }

    fn snapshot(&self) -> Arc<dyn Store + '_> {
        Arc::new(SealedStore { inner: self.inner.snapshot(), cipher: self.cipher.clone() })
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        let seal = |change| match change {
            Change::Put(space, key, value) if seals(space, &value) => {
                let row = self.cipher.seal(space, &key, &value);
                Change::Put(space, key, row)
            }
            change => change,
        };
        self.inner.commit(Batch { changes: batch.changes.into_iter().map(seal).collect() }, durability)
    }
}

#[cfg(test)]
mod tests;
