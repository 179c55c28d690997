//! Stored segments: one sorted file each, written beside the database and taken in whole.
//!
//! So nothing passes the write-ahead log or a write buffer, and a segment is removed by dropping its file.

use std::path::{Path, PathBuf};

use rocksdb::{
    BlockBasedOptions, DB, DBCompressionType, IngestExternalFileOptions, LogLevel, Options, ReadOptions,
    SstFileWriter,
};

use super::super::segments::{Chunk, ChunkKey, SegmentId, SegmentStore, chunk_key, segment_of};
use super::super::{Database, StoreError};
use super::words::{classify, classify_io, of_commit, of_read};

/// The database of stored segments.
pub struct RocksSegments {
    db: DB,
    path: PathBuf,
}

impl RocksSegments {
    /// Opens the database in `folder`, or makes it. What is damaged beyond opening is thrown away and made
    /// anew, since everything in it can be; the reason is returned.
    pub fn open(folder: &Path) -> Result<(Self, Option<String>), StoreError> {
        let path = folder.join(Database::SEGMENTS);
        let (db, reason) = match DB::open(&options(), &path) {
            Ok(db) => (db, None),
            Err(error) => match classify(&path, &error) {
                StoreError::Damaged { reason, .. } => {
                    std::fs::remove_dir_all(&path).map_err(|error| classify_io(&path, &error))?;
                    (DB::open(&options(), &path).map_err(|error| classify(&path, &error))?, Some(reason))
                }
                other => return Err(other),
            },
        };
        let segments = Self { db, path };
        segments.forget_draft()?; // of a killed process
        Ok((segments, reason))
    }

    /// Removes the draft, if there is one.
    fn forget_draft(&self) -> Result<(), StoreError> {
        let draft = self.draft();
        match std::fs::remove_file(&draft) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(classify_io(&draft, &error)),
            _ => Ok(()),
        }
    }

    /// Writes the draft whole and takes it in.
    fn take_in(&self, chunks: &mut dyn Iterator<Item = Chunk>) -> Result<(), rocksdb::Error> {
        let (options, draft) = (options(), self.draft());
        let mut file = SstFileWriter::create(&options);
        file.open(&draft)?;
        for (key, value) in chunks {
            file.put(key, value)?;
        }
        file.finish()?; // synced
        let mut ingest = IngestExternalFileOptions::default();
        ingest.set_move_files(true);
        self.db.ingest_external_file_opts(&ingest, vec![&draft])
    }

    /// The file a segment is written to before it is taken in.
    fn draft(&self) -> PathBuf {
        self.path.join("segment.draft")
    }

    fn fail(&self, error: &rocksdb::Error) -> StoreError {
        classify(&self.path, error)
    }
}

impl SegmentStore for RocksSegments {
    fn write(&self, _segment: SegmentId, chunks: &mut dyn Iterator<Item = Chunk>) -> Result<(), StoreError> {
        self.take_in(chunks).map_err(|error| {
            // It takes room that may be missing. Should it stay, the next write or start takes it away.
            let _ = self.forget_draft();
            of_commit(&self.path, &error)
        })
    }

    fn read(&self, key: &ChunkKey, visit: &mut dyn FnMut(&[u8])) -> Result<(), StoreError> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let chunk = self.db.get_pinned_opt(key, &options).map_err(|error| of_read(&self.path, &error))?;
        chunk.iter().for_each(|chunk| visit(chunk));
        Ok(())
    }

    /// Every table file is one segment, taken in whole and never compacted, so the files' bounds name them all: no block
    /// is read, which might be damaged.
    fn list(&self) -> Result<Vec<SegmentId>, StoreError> {
        let files = self.db.live_files().map_err(|error| self.fail(&error))?;
        let bounds = files.iter().flat_map(|file| [&file.start_key, &file.end_key]);
        let mut found: Vec<SegmentId> = bounds.filter_map(|key| segment_of(key.as_deref()?)).collect();
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    fn remove(&self, segment: SegmentId) -> Result<(), StoreError> {
        let (from, to) = (chunk_key(segment, 0, 0), chunk_key(segment, u16::MAX, u32::MAX));
        self.db.delete_file_in_range(from, to).map_err(|error| self.fail(&error))
    }
}

fn options() -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.disable_cache(); // each chunk is read once, at start
    blocks.set_format_version(5);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_paranoid_checks(true);
    options.set_disable_auto_compactions(true);
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::None); // hashes do not compress
    options.set_write_buffer_size(1 << 20);
    options.set_max_open_files(64);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(4);
    options
}
