//! The embedded store behind one small trait: ordered keys in named keyspaces, batches that are whole or
//! not there, and a durability each commit names.
//!
//! Databases of their own, so that a bulk import never stalls a hit's fsync: `bank`, `case`, `recent`. The backends are
//! `rocks` (the only file that names RocksDB; feature `rocksdb`) and [`MemoryStore`] for tests. Key and
//! value layouts are in [`keys`].

mod data_dir;
mod error;
pub mod keys;
mod memory;
mod requests;
#[cfg(feature = "rocksdb")]
mod rocks;
mod salvage;
pub mod segments;
mod watermark;
pub mod whole_file;

use std::ops::ControlFlow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use data_dir::{DataDir, FORMAT_FILE, HeldDir};
pub use error::StoreError;
pub use memory::MemoryStore;
pub use requests::{AHEAD_MAX, KeptAnswer, Moment, RequestWindow, Seen, WindowLimits, request_digest};
#[cfg(feature = "rocksdb")]
pub use rocks::{BlockCache, RocksSegments, RocksStore, StoreOptions};
pub use salvage::{Lost, count_rows, salvage};
pub use watermark::Watermark;

/// A database: a folder of its own with its own write-ahead log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    /// Banks, contents, signals.
    Bank,
    /// Hits, requests, cursors; items, rules, jobs, decisions.
    Case,
    /// Submissions of the last hours. Apart from the cases, so that its many bytes never stall a hit's sync.
    Recent,
}

impl Database {
    /// Folder of the stored segments: a database of its own, since everything in it can be made again.
    pub const SEGMENTS: &str = "segments";

    /// Folder name inside the data directory.
    pub const fn name(self) -> &'static str {
        match self {
            Database::Bank => "bank",
            Database::Case => "case",
            Database::Recent => "recent",
        }
    }

    /// The keyspaces it holds.
    pub fn keyspaces(self) -> impl Iterator<Item = Keyspace> {
        Keyspace::ALL.into_iter().filter(move |space| space.database() == self)
    }
}

/// A keyspace: a column family in RocksDB, a map in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Keyspace {
    /// `bank` database: format version, counters, generation.
    BankMeta,
    /// Banks by id.
    Banks,
    /// Banked contents with their signals, by bank and content id.
    Contents,
    /// Contents whose signals are not all in stored segments, by bank and content id.
    Rebuilt,
    /// Contents that do not match for now, or ever, by bank and content id.
    Paused,
    /// Which content an exchange's record became, by bank and the record's key.
    Imported,
    /// Exchanges by name; rows are the program's.
    Exchanges,
    /// Sealed credentials by exchange programme; rows are the program's.
    Credentials,
    /// Contents that were removed while stored segments may hold their signals, by content id.
    Removed,
    /// What happened to banks and contents.
    History,
    /// Answers of replayable bank changes, by request id.
    BankRequests,
    /// `case` database: format version, counters, cursors.
    CaseMeta,
    /// The hit log, by position.
    Hits,
    /// Answers of replayable Submits, by request id.
    CaseRequests,
    /// Of format 1: hits in queues, before there were jobs.
    QueueEntries,
    /// Items as platforms tell of them, whose they are, and reports by users; rows are `reporter`'s.
    Items,
    /// Items whose media wait to be matched; rows are `reporter`'s.
    Intake,
    /// Item types, rules, queues, settings, each in all its versions; rows are `reporter`'s.
    Policy,
    /// What rules said, by time; rows are `reporter`'s.
    Evaluations,
    /// Review jobs with what belongs to them; rows are `reporter`'s.
    Jobs,
    /// Decisions, one for each job; rows are `reporter`'s.
    Decisions,
    /// What must still be told to others; rows are `reporter`'s.
    Outbox,
    /// People, keys of machines, sessions, what was frozen; rows are `reporter`'s.
    People,
    /// The audit log, by number; rows are `reporter`'s.
    Audit,
    /// What is kept of media, for whom and until when; rows are `reporter`'s.
    Evidence,
    /// Reports to NCMEC on their way and filed, what was sent and received for them, alarms; rows are `reporter`'s.
    Tips,
    /// `recent` database: submitted frames by time; rows are the program's.
    Recent,
}

impl Keyspace {
    /// Every keyspace.
    pub const ALL: [Keyspace; 27] = [
        Keyspace::BankMeta,
        Keyspace::Banks,
        Keyspace::Contents,
        Keyspace::Rebuilt,
        Keyspace::Paused,
        Keyspace::Imported,
        Keyspace::Exchanges,
        Keyspace::Credentials,
        Keyspace::Removed,
        Keyspace::History,
        Keyspace::BankRequests,
        Keyspace::CaseMeta,
        Keyspace::Hits,
        Keyspace::CaseRequests,
        Keyspace::QueueEntries,
        Keyspace::Items,
        Keyspace::Intake,
        Keyspace::Policy,
        Keyspace::Evaluations,
        Keyspace::Jobs,
        Keyspace::Decisions,
        Keyspace::Outbox,
        Keyspace::People,
        Keyspace::Audit,
        Keyspace::Evidence,
        Keyspace::Tips,
        Keyspace::Recent,
    ];

    /// Name of the column family. Never reuse one.
    pub const fn name(self) -> &'static str {
        match self {
            Keyspace::BankMeta => "bank_meta",
            Keyspace::Banks => "banks",
            Keyspace::Contents => "contents",
            Keyspace::Rebuilt => "rebuilt",
            Keyspace::Paused => "paused",
            Keyspace::Imported => "imported",
            Keyspace::Exchanges => "exchanges",
            Keyspace::Credentials => "credentials",
            Keyspace::Removed => "removed",
            Keyspace::History => "history",
            Keyspace::BankRequests => "bank_requests",
            Keyspace::CaseMeta => "case_meta",
            Keyspace::Hits => "hits",
            Keyspace::CaseRequests => "case_requests",
            Keyspace::QueueEntries => "queue_entries",
            Keyspace::Items => "items",
            Keyspace::Intake => "intake",
            Keyspace::Policy => "policy",
            Keyspace::Evaluations => "evaluations",
            Keyspace::Jobs => "jobs",
            Keyspace::Decisions => "decisions",
            Keyspace::Outbox => "outbox",
            Keyspace::People => "people",
            Keyspace::Audit => "audit",
            Keyspace::Evidence => "evidence",
            Keyspace::Tips => "tips",
            Keyspace::Recent => "recent",
        }
    }

    /// The database it lies in. A batch never spans two.
    pub const fn database(self) -> Database {
        match self {
            Keyspace::BankMeta
            | Keyspace::Banks
            | Keyspace::Contents
            | Keyspace::Rebuilt
            | Keyspace::Paused
            | Keyspace::Imported
            | Keyspace::Exchanges
            | Keyspace::Credentials
            | Keyspace::Removed
            | Keyspace::History
            | Keyspace::BankRequests => Database::Bank,
            Keyspace::CaseMeta
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
            | Keyspace::Audit
            | Keyspace::Evidence
            | Keyspace::Tips => Database::Case,
            Keyspace::Recent => Database::Recent,
        }
    }
}

/// What an acknowledgement is worth (docs: 'Durability words').
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Durability {
    /// In this process's memory: lost with it.
    Mem = 1,
    /// In the operating system's hands: survives kill -9.
    Wal = 2,
    /// On the disk: survives a power cut.
    #[default]
    Sync = 3,
}

/// Changes that take effect together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// In order; a later change to a key wins.
    pub changes: Vec<Change>,
}

/// One change of a [`Batch`].
#[derive(Clone, Debug)]
pub enum Change {
    /// Write a row.
    Put(Keyspace, Vec<u8>, Vec<u8>),
    /// Remove a row, if there.
    Delete(Keyspace, Vec<u8>),
    /// Remove the rows with `from <= key < to`.
    DeleteRange(Keyspace, Vec<u8>, Vec<u8>),
}

impl Batch {
    /// Writes a row.
    pub fn put(&mut self, space: Keyspace, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.push(Change::Put(space, key.into(), value.into()));
    }

    /// Removes a row, if there.
    pub fn delete(&mut self, space: Keyspace, key: impl Into<Vec<u8>>) {
        self.changes.push(Change::Delete(space, key.into()));
    }

    /// Removes the rows with `from <= key < to`.
    pub fn delete_range(&mut self, space: Keyspace, from: impl Into<Vec<u8>>, to: impl Into<Vec<u8>>) {
        let (from, to) = (from.into(), to.into());
        // RocksDB counts an empty range when it is written and not when the log is read again: the database would
        // seem to have lost what was acknowledged.
        if from < to {
            self.changes.push(Change::DeleteRange(space, from, to));
        }
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// What a scan calls with each row's key and value; `Break` ends the scan.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// What a visit of keys alone calls; `Break` ends it.
pub type VisitKey<'a> = dyn FnMut(&[u8]) -> ControlFlow<()> + 'a;

/// One database. Shared between threads; commits from several threads are ordered by the backend.
pub trait Store: Send + Sync {
    /// The row at this key.
    fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Visits the rows with `from <= key < to` (no end: to the last) in key order, or from the last to the
    /// first if `backwards`, over one consistent view, until `visit` breaks.
    fn scan(&self, space: Keyspace, range: Range<'_>, visit: &mut Visit<'_>) -> Result<(), StoreError>;

    /// Visits keys alone, as [`Store::scan`] does: for those who count rows, or want no more than where they lie.
    fn keys(&self, space: Keyspace, range: Range<'_>, visit: &mut VisitKey<'_>) -> Result<(), StoreError> {
        self.scan(space, range, &mut |key, _| visit(key))
    }

    /// The last key of a keyspace. Found even where the last row does not read, if the store can.
    fn last_key(&self, space: Keyspace) -> Result<Option<Vec<u8>>, StoreError> {
        let mut last = None;
        self.keys(space, Range::ALL.reversed(), &mut |key| {
            last = Some(key.to_vec());
            ControlFlow::Break(())
        })?;
        Ok(last)
    }

    /// About how many rows a keyspace has: no fewer than a part of them, and cheap where the store keeps counts.
    fn estimate(&self, space: Keyspace) -> Result<u64, StoreError> {
        let mut rows = 0;
        self.keys(space, Range::ALL, &mut |_| {
            rows += 1;
            ControlFlow::Continue(())
        })?;
        Ok(rows)
    }

    /// Says that everything in a keyspace has just been read without damage.
    fn found_whole(&self, _space: Keyspace) -> Result<(), StoreError> {
        Ok(())
    }

    /// Makes all that was committed durable, whatever its durability was, and writes every file anew: nothing that was
    /// replaced or removed is left in any of them. Reads everything there is; for once in a while.
    fn purge(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// The rows as they are now, whatever is committed later: for reads that take long and must be of one moment. A commit
    /// to it goes to the store itself. What is replaced while it lives stays on the disk, so it is let go when it was read.
    fn snapshot(&self) -> Arc<dyn Store + '_>;

    /// Makes the batch durable, whole. An error means 'unknown', never 'no': the batch may be there after
    /// a restart, so a caller answers 'unknown' and relies on request ids.
    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError>;
}

/// The part of a keyspace a scan visits.
#[derive(Clone, Copy, Debug)]
pub struct Range<'a> {
    /// First key, included.
    pub from: &'a [u8],
    /// Last key, excluded; `None` goes to the end of the keyspace.
    pub to: Option<&'a [u8]>,
    /// From the last to the first.
    pub backwards: bool,
}

impl<'a> Range<'a> {
    /// Every row.
    pub const ALL: Range<'static> = Range { from: &[], to: None, backwards: false };

    /// The rows with `from <= key < to`, in order.
    pub const fn between(from: &'a [u8], to: &'a [u8]) -> Self {
        Range { from, to: Some(to), backwards: false }
    }

    /// The rows from this key on, in order.
    pub const fn starting(from: &'a [u8]) -> Self {
        Range { from, to: None, backwards: false }
    }

    /// The same rows, last first.
    pub const fn reversed(self) -> Self {
        Range { backwards: true, ..self }
    }
}
