//! Storing media in the vault for rows that will name them, and sweeping out what no row names.
//!
//! A blob is stored before the commit that names it, so a crash between leaves one that nobody names: it is destroyed when
//! it is older than any fetch takes. What this process has stored and whose commit is not known yet is *in hand*, and
//! stays whatever its age.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use axum::body::Bytes;
use index::store::{Store, StoreError};
use reporter::Tx;
use reporter::audit::Hex;
use reporter::desk::evidence::{Kept, is_named};

use crate::clock::now_ms;
use crate::disk::Disk;
use crate::secrets::Wrap;
use crate::vault::{BlobId, BlobReader, Vault, VaultError};

/// The vault, and what is in hand.
pub struct Evidence {
    vault: Vault,
    in_hand: Mutex<BTreeSet<BlobId>>,
    /// Read while something is stored and not in hand yet; written while blobs are listed.
    storing: RwLock<()>,
}

/// What is counted of preserving.
#[derive(Debug, Default)]
pub struct PreserveCounts {
    /// Media that were preserved, by the intake or here.
    pub kept: AtomicU64,
    /// Tries that failed.
    pub failed: AtomicU64,
    /// Media that were given up after a week.
    pub given_up: AtomicU64,
    /// Blobs that nothing named.
    pub swept: AtomicU64,
}

/// Why a blob is not destroyed.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The vault does not let it.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Whether it is named cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Evidence {
    /// Opens the vault of a data directory.
    pub fn open(data_dir: &Path, wrap: Arc<dyn Wrap>, disk: Arc<Disk>) -> Result<Self, VaultError> {
        Ok(Self {
            vault: Vault::open(data_dir, wrap, disk)?,
            in_hand: Mutex::default(),
            storing: RwLock::default(),
        })
    }

    /// Stores what was fetched; it is in hand until [`Evidence::let_go`].
    pub async fn keep(self: &Arc<Self>, bytes: Bytes, content_type: String) -> Result<Kept, String> {
        let this = self.clone();
        let storing = tokio::task::spawn_blocking(move || {
            let _storing = this.storing.read().unwrap_or_else(PoisonError::into_inner);
            let stored = this.vault.store(&bytes[..], u64::MAX)?;
            this.lock().insert(stored.id);
            Ok::<_, VaultError>(stored)
        });
        let stored = storing.await.map_err(|_| "the server is shutting down".to_string())?;
        let stored = stored.map_err(|error| error.to_string())?;
        Ok(Kept {
            blob: stored.id.to_string(),
            bytes: stored.bytes,
            sha256: Hex(stored.sha256).to_string(),
            md5: Hex(stored.md5).to_string(),
            content_type,
            at_ms: now_ms(),
        })
    }

    /// Whether it is named is known now.
    pub fn let_go<'a>(&self, blobs: impl IntoIterator<Item = &'a str>) {
        let mut in_hand = self.lock();
        for id in blobs.into_iter().filter_map(|blob| blob.parse().ok()) {
            in_hand.remove(&id);
        }
    }

    /// Opens a blob.
    pub fn read(&self, blob: &str) -> Result<BlobReader, VaultError> {
        self.vault.open_blob(id_of(blob)?)
    }

    /// Destroys a blob, if anything of it is there.
    pub fn destroy(&self, blob: &str) -> Result<bool, VaultError> {
        self.vault.destroy(id_of(blob)?)
    }

    /// Destroys blobs older than this that nothing names; says how many.
    pub fn sweep(&self, store: &dyn Store, age: Duration) -> Result<u64, SweepError> {
        let listed = {
            let _none = self.storing.write().unwrap_or_else(PoisonError::into_inner);
            self.vault.list_older(age)?
        };
        let mut destroyed = 0;
        for id in listed {
            // In this order: what is not in hand has been named before, if it ever is.
            if !self.lock().contains(&id) && !is_named(&Tx::new(store), &id.to_string())? {
                destroyed += u64::from(self.vault.destroy(id)?);
            }
        }
        Ok(destroyed)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<BlobId>> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn id_of(blob: &str) -> Result<BlobId, VaultError> {
    blob.parse().map_err(|_| VaultError::NoId(blob.chars().take(64).collect()))
}
