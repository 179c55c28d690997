//! Another key file: every key that the old one wraps is wrapped under the new one, while no server has the data directory
//! open. None of the data is written anew.
//!
//! A mark lies in the data directory from before the first key until after the last: while it does, no server starts, since
//! neither file opens everything. What is wrapped anew is left alone the second time, so whoever runs it again goes on.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use index::store::whole_file::{Readers, replace_file, sync_folder_of};
use index::store::{
    Batch, Database, Durability, Keyspace, Range, RocksStore, Store, StoreError, StoreOptions,
};

use crate::disk::Disk;
use crate::failpoint::failpoint;
use crate::secrets::{DataKey, DataKeyError, Wrap, WrapError};
use crate::vault::{BlobId, Vault, VaultError};

const MARK: &str = "key-file.changing";
/// What the mark's secret is wrapped under.
const NAME: &str = "key-file-change";

/// What was done.
#[derive(Debug)]
pub struct Rekeyed {
    /// Pieces of evidence whose keys were wrapped anew, this time.
    pub evidence: u64,
    /// Pieces whose keys opened with neither file: they did not before, either.
    pub broken: Vec<BlobId>,
    /// Credentials of exchanges, this time.
    pub credentials: u64,
}

/// Why it did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum RekeyError {
    /// It was begun with another.
    #[error(
        "a change to another new key file was begun here: run it again with that one, or this data is lost in part"
    )]
    OtherNewKey,
    /// There is nothing to change.
    #[error(
        "the new key file holds the key of the old one: name a file that is not there yet, and it is made"
    )]
    SameKey,
    /// A credential does not open.
    #[error("the stored credentials of '{api}' open with neither key file: put the right old one back")]
    Credential {
        /// Whose.
        api: String,
    },
    /// The data key.
    #[error(transparent)]
    DataKey(#[from] DataKeyError),
    /// Evidence.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The bank database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key file does not do its work.
    #[error(transparent)]
    Wrap(#[from] WrapError),
    /// The mark can be neither read nor written.
    #[error("{path} cannot be used: {reason}")]
    Mark {
        /// Where it is.
        path: String,
        /// Why, in the system's words.
        reason: io::Error,
    },
}

/// Whether a change was begun and not ended.
pub fn is_under_way(data_dir: &Path) -> bool {
    data_dir.join(MARK).exists()
}

/// Whether the data key is wrapped under this key file already.
pub fn is_done(data_dir: &Path, new: &Arc<dyn Wrap>) -> bool {
    !is_under_way(data_dir)
        && DataKey::path(data_dir).exists()
        && DataKey::open(data_dir, new.clone(), None).is_ok()
}

/// Whether these are two keys.
pub fn differ(old: &dyn Wrap, new: &dyn Wrap) -> Result<(), RekeyError> {
    match old.unwrap(NAME, &new.wrap(NAME, b"")?) {
        Ok(_) => Err(RekeyError::SameKey),
        Err(_) => Ok(()),
    }
}

/// Wraps everything anew, or goes on with it.
pub fn rekey(data_dir: &Path, old: &Arc<dyn Wrap>, new: &Arc<dyn Wrap>) -> Result<Rekeyed, RekeyError> {
    begin(data_dir, old, new)?;
    failpoint("rekey-marked");
    let vault = Vault::open(data_dir, old.clone(), Arc::new(Disk::new(data_dir, None)))?;
    let (evidence, broken) = vault.rewrap(&**new)?;
    let credentials = credentials(data_dir, &**old, &**new)?;
    failpoint("rekey-credentials");
    // Last: it decides with which file a server starts.
    if DataKey::path(data_dir).exists() && DataKey::open(data_dir, new.clone(), None).is_err() {
        DataKey::open(data_dir, old.clone(), None)?.rewrap(&**new)?;
    }
    failpoint("rekey-data-key");
    let mark = data_dir.join(MARK);
    fs::remove_file(&mark).and_then(|()| sync_folder_of(&mark)).map_err(|reason| of_mark(&mark, reason))?;
    Ok(Rekeyed { evidence, broken, credentials })
}

/// Sets the mark, which only the new key file opens; a mark that is there must open with it.
fn begin(data_dir: &Path, old: &Arc<dyn Wrap>, new: &Arc<dyn Wrap>) -> Result<(), RekeyError> {
    let mark = data_dir.join(MARK);
    match fs::read(&mark) {
        Ok(secret) => match new.unwrap(NAME, &secret) {
            Ok(_) => Ok(()),
            Err(WrapError::Broken) => Err(RekeyError::OtherNewKey),
            Err(error) => Err(error.into()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            differ(&**old, &**new)?;
            let secret = new.wrap(NAME, b"under way")?;
            if DataKey::path(data_dir).exists() {
                DataKey::open(data_dir, old.clone(), None)?; // the right old one, before anything is changed
            }
            replace_file(&mark, &secret, Readers::Owner).map_err(|reason| of_mark(&mark, reason))
        }
        Err(reason) => Err(of_mark(&mark, reason)),
    }
}

fn of_mark(mark: &Path, reason: io::Error) -> RekeyError {
    RekeyError::Mark { path: mark.display().to_string(), reason }
}

fn credentials(data_dir: &Path, old: &dyn Wrap, new: &dyn Wrap) -> Result<u64, RekeyError> {
    // As it was found: a data directory of an older program stays one.
    let store = RocksStore::open_as_found(data_dir, Database::Bank, StoreOptions::default())?;
    if !store.has(Keyspace::Credentials) {
        return Ok(0);
    }
    let mut stored = Vec::new();
    store.scan(Keyspace::Credentials, Range::ALL, &mut |api, wrapped| {
        stored.push((api.to_vec(), wrapped.to_vec()));
        std::ops::ControlFlow::Continue(())
    })?;
    let mut batch = Batch::default();
    for (api, wrapped) in stored {
        let name = String::from_utf8_lossy(&api).into_owned();
        if new.unwrap(&name, &wrapped).is_ok() {
            continue;
        }
        let secret = old.unwrap(&name, &wrapped).map_err(|error| match error {
            WrapError::Broken => RekeyError::Credential { api: name.clone() },
            error => error.into(),
        })?;
        batch.put(Keyspace::Credentials, api, new.wrap(&name, &secret)?);
    }
    let count = batch.changes.len() as u64;
    if count > 0 {
        store.commit(batch, Durability::Sync)?;
    }
    Ok(count)
}
