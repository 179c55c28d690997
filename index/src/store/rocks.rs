//! The durable backend. Only here and in the folder beside it is RocksDB named.
//!
//! Opened so that damage is loud (specs: a power cut may tear the log's end, nothing else may go missing):
//! WAL recovery mode `kTolerateCorruptedTailRecords`, paranoid checks, WALs tracked in the manifest, and a
//! [`Watermark`] beside the database that a synced commit raises before it is acknowledged.
//! `recycle_log_file_num` stays off: it does not go with that recovery mode.

mod segments;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamily, ColumnFamilyDescriptor,
    CompactOptions, DB, DBCompressionType, DBRecoveryMode, DEFAULT_COLUMN_FAMILY_NAME, Error, ErrorKind,
    FlushOptions, LogLevel, Options, ReadOptions, WriteBatch, WriteOptions,
};

use super::{Batch, Change, Database, Durability, Keyspace, Range, Store, StoreError, Visit, Watermark};

pub use segments::RocksSegments;

/// What an operator may tune of one database.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// Memory for blocks read from disk, in bytes.
    pub block_cache_bytes: usize,
    /// The most any commit is worth: with [`Durability::Wal`] nothing is synced, whoever asks for it.
    pub durability: Durability,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { block_cache_bytes: 32 << 20, durability: Durability::Sync }
    }
}

/// One RocksDB database with its high-water mark.
pub struct RocksStore {
    db: DB,
    path: PathBuf,
    database: Database,
    durability: Durability,
    /// Also orders the commits: the mark must never cover a row that a later sync still has to reach.
    watermark: Mutex<Watermark>,
}

impl RocksStore {
    /// Opens the database in `folder`, or makes it; checks that every acknowledged write is there.
    pub fn open(folder: &Path, database: Database, options: StoreOptions) -> Result<Self, StoreError> {
        let path = folder.join(database.name());
        let fail = |error: Error| classify(&path, &error);
        let mark_path = folder.join(format!("{}.high-water", database.name()));
        let mut watermark = Watermark::open(&mark_path).map_err(|error| classify_io(&mark_path, &error))?;
        if watermark.is_fresh() && path.join("CURRENT").exists() {
            let reason = format!("its high-water file {} is missing or blank", mark_path.display());
            return Err(StoreError::Damaged { path: path.display().to_string(), reason });
        }
        watermark.establish(&mark_path).map_err(|error| classify_io(&mark_path, &error))?;
        if watermark.reached() > 0 && !path.join("CURRENT").exists() {
            return Err(StoreError::LostWrites {
                path: path.display().to_string(),
                found: 0,
                acknowledged: watermark.reached(),
            });
        }
        let db = DB::open_cf_descriptors(&database_options(), &path, families(database, options));
        Self {
            db: db.map_err(fail)?,
            path,
            database,
            durability: options.durability,
            watermark: Mutex::new(watermark),
        }
        .checked()
    }

    /// Opens a database that is there for reading alone: no file of it is written, nor the mark's. Commits fail.
    pub fn read(folder: &Path, database: Database, options: StoreOptions) -> Result<Self, StoreError> {
        let path = folder.join(database.name());
        let mark_path = folder.join(format!("{}.high-water", database.name()));
        let watermark = Watermark::read(&mark_path).map_err(|error| classify_io(&mark_path, &error))?;
        let there = DB::list_cf(&Options::default(), &path).map_err(|error| classify(&path, &error))?;
        if database.keyspaces().any(|space| there.iter().all(|name| name != space.name())) {
            return Err(StoreError::Older { path: path.display().to_string() });
        }
        let mut opening = database_options();
        opening.create_if_missing(false);
        opening.create_missing_column_families(false);
        let db = DB::open_cf_descriptors_read_only(&opening, &path, families(database, options), false);
        let db = db.map_err(|error| classify(&path, &error))?;
        Self { db, path, database, durability: options.durability, watermark: Mutex::new(watermark) }
            .checked()
    }

    /// This database, if it reaches what was acknowledged.
    fn checked(self) -> Result<Self, StoreError> {
        let found = self.db.latest_sequence_number();
        let acknowledged = self.watermark.lock().unwrap_or_else(PoisonError::into_inner).reached();
        if found < acknowledged {
            return Err(StoreError::LostWrites {
                path: self.path.display().to_string(),
                found,
                acknowledged,
            });
        }
        Ok(self)
    }

    fn family(&self, space: Keyspace) -> &ColumnFamily {
        // `open` made every keyspace of this database; asking it for another's is a fault of ours.
        self.db.cf_handle(space.name()).expect("a keyspace of this database")
    }

    fn fail(&self, error: &Error) -> StoreError {
        classify(&self.path, error)
    }
}

impl Store for RocksStore {
    fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.get_cf(self.family(space), key).map_err(|error| self.fail(&error))
    }

    fn scan(&self, space: Keyspace, range: Range<'_>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(range.from);
        if let Some(to) = range.to {
            options.set_iterate_upper_bound(to);
        }
        options.set_readahead_size(2 << 20);
        options.fill_cache(false);
        let mut rows = self.db.raw_iterator_cf_opt(self.family(space), options);
        if range.backwards {
            rows.seek_to_last()
        } else {
            rows.seek_to_first()
        }
        while let (Some(key), Some(value)) = (rows.key(), rows.value()) {
            if visit(key, value).is_break() {
                break;
            }
            if range.backwards { rows.prev() } else { rows.next() }
        }
        // An iterator that met a damaged block just ends; only its status says so.
        rows.status().map_err(|error| self.fail(&error))
    }

    fn purge(&self) -> Result<(), StoreError> {
        let families: Vec<&ColumnFamily> =
            self.database.keyspaces().map(|space| self.family(space)).collect();
        // With every memtable on the disk the logs hold nothing that is needed, and go.
        self.db.flush_cfs_opt(&families, &FlushOptions::default()).map_err(|error| self.fail(&error))?;
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        for family in families {
            self.db.compact_range_cf_opt(family, None::<&[u8]>, None::<&[u8]>, &options);
        }
        Ok(())
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        let mut rows = WriteBatch::default();
        for change in batch.changes {
            match change {
                Change::Put(space, key, value) => rows.put_cf(self.family(space), key, value),
                Change::Delete(space, key) => rows.delete_cf(self.family(space), key),
                Change::DeleteRange(space, from, to) => rows.delete_range_cf(self.family(space), from, to),
            }
        }
        let sync = durability.min(self.durability) >= Durability::Sync;
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        let mut watermark = self.watermark.lock().unwrap_or_else(PoisonError::into_inner);
        self.db.write_opt(rows, &options).map_err(|error| self.fail(&error))?;
        if sync {
            let reached = self.db.latest_sequence_number();
            watermark.raise(reached).map_err(|error| classify_io(&self.path, &error))?;
        }
        Ok(())
    }
}

/// Every family of a database, as it is opened.
fn families(database: Database, options: StoreOptions) -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(options.block_cache_bytes);
    let families = database.keyspaces().map(|space| (space.name(), family_options(Some(space), &cache)));
    let families = families.chain([(DEFAULT_COLUMN_FAMILY_NAME, family_options(None, &cache))]);
    families.map(|(name, options)| ColumnFamilyDescriptor::new(name, options)).collect()
}

fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_paranoid_checks(true);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_max_total_wal_size(256 << 20);
    options.set_max_background_jobs(2);
    options.set_max_open_files(512);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(4);
    options
}

/// Options of a keyspace, or of the unused default family (`None`). After a full disk RocksDB resumes only
/// when the largest write buffer of any family fits, so all are small.
fn family_options(space: Option<Keyspace>, cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_format_version(5);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_size(8 << 20);
    options.set_compression_type(match space {
        Some(Keyspace::Contents) => DBCompressionType::None, // hashes do not compress
        _ => DBCompressionType::Lz4,
    });
    options
}

/// RocksDB's statuses in the operator's words. The text is all that tells an ENOSPC or a held lock apart.
fn classify(path: &Path, error: &Error) -> StoreError {
    let reason = error.to_string();
    let path = path.display().to_string();
    if reason.contains("No space left") || reason.contains("Space limit") {
        return StoreError::DiskFull { path };
    }
    match error.kind() {
        ErrorKind::Corruption | ErrorKind::NotFound | ErrorKind::Incomplete => {
            StoreError::Damaged { path, reason }
        }
        ErrorKind::IOError if reason.contains("lock file") || reason.contains("LOCK") => {
            StoreError::Locked { path }
        }
        ErrorKind::IOError if reason.contains("No such file") => StoreError::Damaged { path, reason },
        _ => StoreError::Failed { path, reason },
    }
}

fn classify_io(path: &Path, error: &std::io::Error) -> StoreError {
    let path = path.display().to_string();
    match error.kind() {
        std::io::ErrorKind::StorageFull => StoreError::DiskFull { path },
        std::io::ErrorKind::InvalidData => StoreError::Damaged { path, reason: error.to_string() },
        _ => StoreError::Failed { path, reason: error.to_string() },
    }
}
