//! The databases and the keys they are sealed with, in the order that never makes a key over what it could not open.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use index::store::{
    BlockCache, DataDir, Database, Keyspace, Range, RocksStore, Store, StoreError, StoreOptions,
};

use crate::clock::now_ms;
use crate::config::Config;
use crate::damage::{Damage, Watched};
use crate::rekey;
use crate::sealed::{Seal, find_sealed};
use crate::secrets::{DataKey, KeyFile, Wrap};
use crate::vault;

/// The key file where nobody says otherwise, in the data directory.
pub const KEY_FILE: &str = "secrets.key";

/// What is opened.
pub struct Stores {
    /// Banks, sealed where it needs to be.
    pub bank: Arc<dyn Store>,
    /// Cases, sealed.
    pub case: Arc<dyn Store>,
    /// Wraps what is small and secret.
    pub wrap: Arc<dyn Wrap>,
    /// Seals further databases.
    pub seal: Seal,
    /// Memory that the databases share for what is read from disk.
    pub cache: BlockCache,
    /// What of the rows does not read.
    pub damage: Arc<Damage>,
}

/// Opens both databases with their keys; makes those where nothing was sealed yet.
pub fn open(config: &Config, data_dir: &DataDir) -> Result<Stores> {
    if rekey::is_under_way(data_dir.path()) {
        bail!(
            "a change of the key file was begun and not ended: run `hashward rekey` again with the same old and new file"
        );
    }
    let (cache, damage) = (BlockCache::new(config.cache_bytes), Arc::new(Damage::default()));
    let bank = open_as_found(config, data_dir, Database::Bank, &cache)?;
    let case = open_as_found(config, data_dir, Database::Case, &cache)?;
    let mut sealed = sealed_part(&bank, Database::Bank)?.or(sealed_part(&case, Database::Case)?);
    if sealed.is_none() && vault::holds_any(data_dir.path())? {
        sealed = Some("evidence".to_string());
    }
    let data_key = DataKey::path(data_dir.path());
    let credential = match first_credential(&bank) {
        Err(error) if error.is_damage() && data_key.exists() => None, // asked only where there is no data key
        other => other?,
    };
    let needs_key_file = match &credential {
        _ if data_key.exists() => Some(data_key.display().to_string()),
        Some((api, _)) if sealed.is_none() => Some(format!("the stored credentials of '{api}'")),
        _ => sealed.clone(),
    };
    let default = data_dir.path().join(KEY_FILE);
    let path = config.key_file.as_deref().unwrap_or(&default);
    let wrap: Arc<dyn Wrap> = Arc::new(KeyFile::open(path, needs_key_file.as_deref())?);
    tell_where(path, data_dir.path());
    if let Some((api, wrapped)) = credential
        && !data_key.exists()
    {
        // From before there was a data key: they tell whether this key file is the one.
        wrap.unwrap(&api, &wrapped).with_context(|| {
            format!(
                "the stored credentials of '{api}' do not open with key file {}: put the key file back that they were \
                 sealed with",
                path.display()
            )
        })?;
    }
    let seal = Seal::new(Arc::new(DataKey::open(data_dir.path(), wrap.clone(), sealed.as_deref())?))?;
    // Everything that an older program left has opened; from here on rows are written that it does not know.
    data_dir.raise_format().map_err(StoreError::of_opening)?;
    let [bank, case] = [complete(bank)?, complete(case)?];
    let bank = Watched::over(seal.open(bank, Database::Bank, |_| Ok(()))?, damage.clone());
    let case = seal.open(case, Database::Case, |case| reporter::renew_media_keys(case, config.durability))?;
    let case = Watched::over(case, damage.clone());
    let renewed = reporter::renew_jobs(&*case, config.durability, now_ms())?;
    if renewed > 0 {
        tracing::info!(
            jobs = renewed,
            "jobs of an older version: their media are preserved from now on, and what was dismissed has a term"
        );
    }
    let items = reporter::renew_items(&*case, config.durability, now_ms())?;
    if items > 0 {
        tracing::info!(items, "items of an older version: they go when they are old as counted from now");
    }
    Ok(Stores { bank, case, wrap, seal, cache, damage })
}

/// Opens a database without the keyspaces that an older program did not know: that program can open it still.
fn open_as_found(
    config: &Config,
    data_dir: &DataDir,
    database: Database,
    cache: &BlockCache,
) -> Result<RocksStore> {
    let options = StoreOptions { durability: config.durability, cache: cache.clone() };
    Ok(RocksStore::open_as_found(data_dir.path(), database, options).map_err(StoreError::of_opening)?)
}

/// What in a database is sealed, if anything is.
fn sealed_part(store: &RocksStore, database: Database) -> Result<Option<String>, StoreError> {
    find_sealed(store, database, |space| store.has(space))
}

fn complete(mut store: RocksStore) -> Result<Arc<dyn Store>> {
    store.complete().map_err(StoreError::of_opening)?;
    Ok(Arc::new(store))
}

/// A stored credential, if there is one.
fn first_credential(bank: &RocksStore) -> Result<Option<(String, Vec<u8>)>, StoreError> {
    let mut first = None;
    if !bank.has(Keyspace::Credentials) {
        return Ok(first);
    }
    bank.scan(Keyspace::Credentials, Range::ALL, &mut |api, wrapped| {
        first = Some((String::from_utf8_lossy(api).into_owned(), wrapped.to_vec()));
        ControlFlow::Break(())
    })?;
    Ok(first)
}

fn tell_where(key_file: &Path, data_dir: &Path) {
    let inside = |path: &Path| Some(path.canonicalize().ok()?.starts_with(data_dir.canonicalize().ok()?));
    if inside(key_file) == Some(true) {
        tracing::info!(
            "the key file lies in the data directory: who copies one has the other; --key-file keeps them apart"
        );
    }
}
