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
use super::{classify, classify_io};

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
        let draft = segments.draft();
        if draft.exists() {
            std::fs::remove_file(&draft).map_err(|error| classify_io(&draft, &error))?; // of a killed process
        }
        Ok((segments, reason))
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
        let (options, draft) = (options(), self.draft());
        let fail = |error: rocksdb::Error| self.fail(&error);
        let mut file = SstFileWriter::create(&options);
        file.open(&draft).map_err(fail)?;
        for (key, value) in chunks {
            file.put(key, value).map_err(fail)?;
        }
        file.finish().map_err(fail)?; // synced
        let mut ingest = IngestExternalFileOptions::default();
        ingest.set_move_files(true);
        self.db.ingest_external_file_opts(&ingest, vec![&draft]).map_err(fail)
    }

    fn read(&self, key: &ChunkKey, visit: &mut dyn FnMut(&[u8])) -> Result<(), StoreError> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let chunk = self.db.get_pinned_opt(key, &options).map_err(|error| self.fail(&error))?;
        chunk.iter().for_each(|chunk| visit(chunk));
        Ok(())
    }

    fn list(&self) -> Result<Vec<SegmentId>, StoreError> {
        let mut found = Vec::new();
        let mut rows = self.db.raw_iterator();
        rows.seek_to_first();
        while let Some(segment) = rows.key().and_then(segment_of) {
            found.push(segment);
            rows.seek(chunk_key(SegmentId(segment.0 + 1), 0, 0));
        }
        rows.status().map_err(|error| self.fail(&error))?;
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
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::None); // hashes do not compress
    options.set_write_buffer_size(1 << 20);
    options.set_max_open_files(64);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(4);
    options
}
