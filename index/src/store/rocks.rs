//! The durable backend. Only here and in the folder beside it is RocksDB named.
//!
//! Opened so that damage is loud (specs: a power cut may tear the log's end, nothing else may go missing):
//! WAL recovery mode `kTolerateCorruptedTailRecords`, paranoid checks, WALs tracked in the manifest, and a
//! [`Watermark`] beside the database that a synced commit raises before it is acknowledged.
//! `recycle_log_file_num` stays off: it does not go with that recovery mode.

mod damaged;
mod segments;
mod snapshot;
#[cfg(test)]
mod tests;
mod words;

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamily,
    ColumnFamilyDescriptor, CompactOptions, DB, DBCompressionType, DBRawIterator, DBRecoveryMode,
    DEFAULT_COLUMN_FAMILY_NAME, Error, FlushOptions, LogLevel, LruCacheOptions, Options, ReadOptions,
    Snapshot, WriteBatch, WriteOptions,
};

use self::damaged::Spaces;
use self::snapshot::RocksSnapshot;
use self::words::{classify, classify_io, of_commit, of_opening, of_read};
use super::whole_file::sync_folder_of;
use super::{
    Batch, Change, Database, Durability, Keyspace, Range, Store, StoreError, Visit, VisitKey, Watermark,
};

pub use segments::RocksSegments;

/// Bits of a Bloom filter for each key: one in a hundred look-ups of a key that is not there reads a block.
const BLOOM_BITS: f64 = 10.0;
/// Bytes of a part of an index or filter: each is read and kept by itself.
const PART: usize = 16 << 10;
/// Bytes of a shard of the cache: the filter of a few million rows fits, as files of older programs have it in one piece.
const CACHE_SHARD: usize = 8 << 20;
/// Threads that flush and compact, whatever the number of cores: at least and at most.
const JOBS: (usize, usize) = (2, 8);

/// Memory for blocks, filters and indexes read from disk, which databases share.
#[derive(Clone)]
pub struct BlockCache(Cache);

impl BlockCache {
    /// A cache of so many bytes.
    pub fn new(bytes: usize) -> Self {
        // What does not fit a shard is never kept. Left to itself RocksDB makes shards of 512 KiB.
        let shards = (bytes / CACHE_SHARD).max(1).ilog2().min(6);
        let mut options = LruCacheOptions::default();
        options.set_capacity(bytes);
        options.set_num_shard_bits(shards as i32);
        Self(Cache::new_lru_cache_opts(&options))
    }

    /// Bytes that it holds now.
    pub fn used(&self) -> usize {
        self.0.get_usage()
    }
}

/// What an operator may tune of one database.
#[derive(Clone)]
pub struct StoreOptions {
    /// Memory for what is read from disk.
    pub cache: BlockCache,
    /// The most any commit is worth: with [`Durability::Wal`] nothing is synced, whoever asks for it.
    pub durability: Durability,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { cache: BlockCache::new(32 << 20), durability: Durability::Sync }
    }
}

/// One RocksDB database with its high-water mark.
pub struct RocksStore {
    db: DB,
    path: PathBuf,
    database: Database,
    options: StoreOptions,
    /// Also orders the commits: the mark must never cover a row that a later sync still has to reach.
    watermark: Mutex<Watermark>,
    /// Keyspaces in which damage was met: they are not compacted, which would stop the database.
    damaged: Mutex<Spaces>,
}

impl RocksStore {
    /// Opens the database in `folder`, or makes it; checks that every acknowledged write is there.
    pub fn open(folder: &Path, database: Database, options: StoreOptions) -> Result<Self, StoreError> {
        let mut store = Self::open_as_found(folder, database, options)?;
        store.complete()?;
        Ok(store)
    }

    /// Opens the database with the keyspaces that it has: those that an older program did not know are not made, since
    /// that program refuses a database that has them. [`RocksStore::complete`] makes them; until then nothing but what
    /// [`RocksStore::has`] may be asked for.
    pub fn open_as_found(
        folder: &Path,
        database: Database,
        options: StoreOptions,
    ) -> Result<Self, StoreError> {
        let path = folder.join(database.name());
        let fail = |error: Error| of_opening(&path, &error);
        let mark_path = folder.join(format!("{}.high-water", database.name()));
        let failed = |error| StoreError::of_io(&mark_path, "opened for writing", &error);
        let mut watermark = Watermark::open(&mark_path).map_err(failed)?;
        if watermark.is_fresh() && path.join("CURRENT").exists() {
            return Err(without_mark(&path, &mark_path));
        }
        watermark.establish(&mark_path).map_err(failed)?;
        if watermark.reached() > 0 && !path.join("CURRENT").exists() {
            return Err(StoreError::LostWrites {
                path: path.display().to_string(),
                found: 0,
                acknowledged: watermark.reached(),
            });
        }
        let damaged =
            Spaces::read(folder, database).map_err(|error| StoreError::of_io(&path, "read", &error))?;
        let there = match path.join("CURRENT").exists() {
            true => Some(DB::list_cf(&Options::default(), &path).map_err(fail)?),
            false => None, // it is made, with every keyspace
        };
        let is_there = |name: &str| there.as_ref().is_none_or(|there| there.iter().any(|one| one == name));
        let mut families = families(database, &options, |space| damaged.contains(space));
        families.retain(|family| is_there(family.name()));
        Self {
            db: DB::open_cf_descriptors(&database_options(), &path, families).map_err(fail)?,
            path,
            database,
            options,
            watermark: Mutex::new(watermark),
            damaged: Mutex::new(damaged),
        }
        .named()?
        .checked()
    }

    /// Opens a database that is there for reading alone: no file of it is written, nor the mark's. Commits fail.
    pub fn read(folder: &Path, database: Database, options: StoreOptions) -> Result<Self, StoreError> {
        let path = folder.join(database.name());
        let mark_path = folder.join(format!("{}.high-water", database.name()));
        let watermark = match Watermark::read(&mark_path) {
            Ok(mark) if mark.is_fresh() => return Err(without_mark(&path, &mark_path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(without_mark(&path, &mark_path));
            }
            read => read.map_err(|error| StoreError::of_io(&mark_path, "read", &error))?,
        };
        let there = DB::list_cf(&Options::default(), &path).map_err(|error| of_opening(&path, &error))?;
        if database.keyspaces().any(|space| there.iter().all(|name| name != space.name())) {
            return Err(StoreError::Older { path: path.display().to_string() });
        }
        let mut opening = database_options();
        opening.create_if_missing(false);
        opening.create_missing_column_families(false);
        let families = families(database, &options, |_| false);
        let db = DB::open_cf_descriptors_read_only(&opening, &path, families, false);
        let db = db.map_err(|error| of_opening(&path, &error))?;
        let damaged = Mutex::new(Spaces::unwritten(folder, database));
        Self { db, path, database, options, watermark: Mutex::new(watermark), damaged }.checked()
    }

    /// Whether the database has this keyspace.
    pub fn has(&self, space: Keyspace) -> bool {
        self.db.cf_handle(space.name()).is_some()
    }

    /// Makes the keyspaces that an older program did not know. From here on that program refuses the database.
    pub fn complete(&mut self) -> Result<(), StoreError> {
        for space in self.database.keyspaces().filter(|space| !self.has(*space)).collect::<Vec<_>>() {
            let family = family_options(Some(space), &self.options.cache.0);
            self.db.create_cf(space.name(), &family).map_err(|error| classify(&self.path, &error))?;
        }
        Ok(())
    }

    /// This database, its folder's name durable: RocksDB syncs what lies in the folder.
    fn named(self) -> Result<Self, StoreError> {
        sync_folder_of(&self.path).map_err(|error| classify_io(&self.path, &error))?;
        Ok(self)
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
        // `complete` made every keyspace of this database; asking it for another's is a fault of ours.
        self.db.cf_handle(space.name()).expect("a keyspace of this database")
    }

    fn fail(&self, error: &Error) -> StoreError {
        classify(&self.path, error)
    }

    /// An error of reading. What does not read as it was written is remembered of its keyspace.
    fn unread(&self, space: Keyspace, error: &Error) -> StoreError {
        let error = of_read(&self.path, error);
        if error.is_damage() {
            self.spare([space]);
        }
        error
    }

    /// An error of committing. If a compaction met damage, that keyspace is not compacted after the next start.
    fn uncommitted(&self, error: &Error) -> StoreError {
        if damaged::is_of_compaction(error) {
            match self.space_of_file(error) {
                Some(space) => self.spare([space]),
                None => self.spare(self.database.keyspaces()),
            }
        }
        of_commit(&self.path, error)
    }

    /// The keyspace of the file that an error names.
    fn space_of_file(&self, error: &Error) -> Option<Keyspace> {
        let file = damaged::file_in(error)?;
        let files = self.db.live_files().ok()?;
        let found = files.into_iter().find(|live| live.name.trim_start_matches('/') == file)?;
        self.database.keyspaces().find(|space| space.name() == found.column_family_name)
    }

    /// Ends compactions of these keyspaces: one that meets damage makes the whole database refuse writes. Remembered
    /// over restarts, as far as the disk lets it.
    fn spare(&self, spaces: impl IntoIterator<Item = Keyspace>) {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        for space in spaces {
            if damaged.insert(space) {
                // An error leaves compactions on: then one that meets the damage stops the program, and the next start
                // has them off.
                let _ = self.db.set_options_cf(self.family(space), &[("disable_auto_compactions", "true")]);
            }
        }
    }

    /// An iterator over a range, at its first row in the direction of the range.
    ///
    /// RocksDB reads ahead by itself once a scan has read two blocks in a row, from 8 KiB doubling to 256 KiB: a page
    /// reads little more than itself, and a long scan in large pieces.
    fn rows<'i>(
        &'i self,
        of: Option<&'i Snapshot<'_>>,
        space: Keyspace,
        range: Range<'_>,
    ) -> DBRawIterator<'i> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(range.from);
        if let Some(to) = range.to {
            options.set_iterate_upper_bound(to);
        }
        // What is read from a place to the end is read once; pages and lists of what is due are read again and again.
        options.fill_cache(range.to.is_some());
        let mut rows = match of {
            Some(snapshot) => snapshot.raw_iterator_cf_opt(self.family(space), options),
            None => self.db.raw_iterator_cf_opt(self.family(space), options),
        };
        if range.backwards {
            rows.seek_to_last()
        } else {
            rows.seek_to_first()
        }
        rows
    }

    fn visit(
        &self,
        mut rows: DBRawIterator<'_>,
        space: Keyspace,
        range: Range<'_>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        while let (Some(key), Some(value)) = (rows.key(), rows.value()) {
            if visit(key, value).is_break() {
                break;
            }
            if range.backwards { rows.prev() } else { rows.next() }
        }
        // An iterator that met a damaged block just ends; only its status says so.
        rows.status().map_err(|error| self.unread(space, &error))
    }

    fn visit_keys(
        &self,
        mut rows: DBRawIterator<'_>,
        space: Keyspace,
        range: Range<'_>,
        visit: &mut VisitKey<'_>,
    ) -> Result<(), StoreError> {
        while let Some(key) = rows.key() {
            if visit(key).is_break() {
                break;
            }
            if range.backwards { rows.prev() } else { rows.next() }
        }
        rows.status().map_err(|error| self.unread(space, &error))
    }
}

/// What a database is that has no mark: how much of it was acknowledged is unknown.
fn without_mark(path: &Path, mark_path: &Path) -> StoreError {
    let reason = format!("its high-water file {} is missing or blank", mark_path.display());
    StoreError::Damaged { path: path.display().to_string(), reason }
}

impl Store for RocksStore {
    fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.get_cf(self.family(space), key).map_err(|error| self.unread(space, &error))
    }

    fn scan(&self, space: Keyspace, range: Range<'_>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.visit(self.rows(None, space, range), space, range, visit)
    }

    fn keys(&self, space: Keyspace, range: Range<'_>, visit: &mut VisitKey<'_>) -> Result<(), StoreError> {
        self.visit_keys(self.rows(None, space, range), space, range, visit)
    }

    fn last_key(&self, space: Keyspace) -> Result<Option<Vec<u8>>, StoreError> {
        let mut last = None;
        let looked = self.keys(space, Range::ALL.reversed(), &mut |key| {
            last = Some(key.to_vec());
            ControlFlow::Break(())
        });
        match looked {
            Err(error) if error.is_damage() => {}
            looked => return looked.map(|()| last),
        }
        // The files say where they end without being read. What is younger than all of them lies behind it, in memory.
        let files = self.db.live_files().map_err(|error| self.unread(space, &error))?;
        let ends = files.into_iter().filter(|file| file.column_family_name == space.name());
        last = ends.filter_map(|file| file.end_key).max();
        let behind = last.clone().map(|key| [&key[..], &[0]].concat()).unwrap_or_default();
        self.keys(space, Range::starting(&behind), &mut |key| {
            last = Some(key.to_vec());
            ControlFlow::Continue(())
        })?;
        Ok(last)
    }

    fn estimate(&self, space: Keyspace) -> Result<u64, StoreError> {
        let found = self.db.property_int_value_cf(self.family(space), "rocksdb.estimate-num-keys");
        Ok(found.map_err(|error| self.unread(space, &error))?.unwrap_or(0))
    }

    fn found_whole(&self, space: Keyspace) -> Result<(), StoreError> {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        if !damaged.contains(space) {
            return Ok(());
        }
        damaged.remove(space).map_err(|error| classify_io(&self.path, &error))?;
        let compacts = self.db.set_options_cf(self.family(space), &[("disable_auto_compactions", "false")]);
        compacts.map_err(|error| self.fail(&error))
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

    fn snapshot(&self) -> Arc<dyn Store + '_> {
        Arc::new(RocksSnapshot::new(self, self.db.snapshot()))
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
        let sync = durability.min(self.options.durability) >= Durability::Sync;
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        let mut watermark = self.watermark.lock().unwrap_or_else(PoisonError::into_inner);
        self.db.write_opt(rows, &options).map_err(|error| self.uncommitted(&error))?;
        if sync {
            let reached = self.db.latest_sequence_number();
            watermark.raise(reached).map_err(|error| classify_io(&self.path, &error))?;
        }
        Ok(())
    }
}

/// Every family of a database, as it is opened.
fn families(
    database: Database,
    options: &StoreOptions,
    is_damaged: impl Fn(Keyspace) -> bool,
) -> Vec<ColumnFamilyDescriptor> {
    let family = |space: Option<Keyspace>| {
        let mut family = family_options(space, &options.cache.0);
        family.set_disable_auto_compactions(space.is_some_and(&is_damaged));
        ColumnFamilyDescriptor::new(space.map_or(DEFAULT_COLUMN_FAMILY_NAME, Keyspace::name), family)
    };
    database.keyspaces().map(Some).chain([None]).map(family).collect()
}

fn database_options() -> Options {
    let cores = std::thread::available_parallelism().map_or(JOBS.0, usize::from);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_paranoid_checks(true);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_max_total_wal_size(256 << 20);
    options.set_max_background_jobs(cores.clamp(JOBS.0, JOBS.1) as i32);
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
    // Filters and indexes grow with the rows: in the cache they are bounded by it.
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // A look-up reads one part of each, and not the filter of a million rows.
    blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    blocks.set_partition_filters(true);
    blocks.set_metadata_block_size(PART);
    blocks.set_pin_top_level_index_and_filter(true);
    if space.is_some_and(is_looked_up) {
        blocks.set_bloom_filter(BLOOM_BITS, false);
    }
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_size(8 << 20);
    options.set_compression_type(match space {
        Some(Keyspace::Contents) => DBCompressionType::None, // hashes do not compress
        _ => DBCompressionType::Lz4,
    });
    options
}

/// Whether rows of this keyspace are looked up by keys that are often not there. The rest are logs that are read in
/// order, or so few that they lie in one block.
const fn is_looked_up(space: Keyspace) -> bool {
    matches!(
        space,
        Keyspace::Contents
            | Keyspace::Imported
            | Keyspace::BankRequests
            | Keyspace::CaseRequests
            | Keyspace::Items
            | Keyspace::Intake
            | Keyspace::Jobs
            | Keyspace::Decisions
            | Keyspace::Evidence
            | Keyspace::Tips
            | Keyspace::People
    )
}
