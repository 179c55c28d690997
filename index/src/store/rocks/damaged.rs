//! Keyspaces in which damage was met, remembered beside their database.
//!
//! RocksDB makes a database read-only when a compaction meets a damaged block, and a restart compacts again. So a
//! keyspace with damage is not compacted, from then on and over restarts, until it has been read whole.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rocksdb::{Error, ErrorKind};

use super::super::whole_file::{Readers, replace_file, sync_folder_of};
use super::super::{Database, Keyspace};

/// The keyspaces, and the file that names them: one a line.
pub(super) struct Spaces {
    file: PathBuf,
    spaces: BTreeSet<Keyspace>,
    is_written: bool,
}

impl Spaces {
    /// Reads the file of a database, if there is one.
    pub(super) fn read(folder: &Path, database: Database) -> io::Result<Self> {
        let mut read = Self { is_written: true, ..Self::unwritten(folder, database) };
        match fs::read_to_string(&read.file) {
            Ok(names) => {
                let named = |space: &Keyspace| names.lines().any(|name| name == space.name());
                read.spaces = database.keyspaces().filter(named).collect();
                Ok(read)
            }
            // What it says is a caution, not a promise: a file that does not read is as none.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                Ok(read)
            }
            Err(error) => Err(error),
        }
    }

    /// None yet, and none is ever written: for a database that is only read.
    pub(super) fn unwritten(folder: &Path, database: Database) -> Self {
        let file = folder.join(format!("{}.damaged", database.name()));
        Self { file, spaces: BTreeSet::new(), is_written: false }
    }

    pub(super) fn contains(&self, space: Keyspace) -> bool {
        self.spaces.contains(&space)
    }

    /// Adds one; false if it was there. A file that cannot be written leaves the keyspace remembered in memory.
    pub(super) fn insert(&mut self, space: Keyspace) -> bool {
        let is_new = self.spaces.insert(space);
        if is_new {
            let _ = self.write();
        }
        is_new
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, space: Keyspace) -> io::Result<()> {
        self.spaces.remove(&space);
        self.write()
    }

    fn write(&self) -> io::Result<()> {
        if !self.is_written {
            return Ok(());
        }
        if self.spaces.is_empty() {
            return match fs::remove_file(&self.file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => sync_folder_of(&self.file),
            };
        }
        let names: String = self.spaces.iter().map(|space| format!("{}\n", space.name())).collect();
        replace_file(&self.file, names.as_bytes(), Readers::Umask)
    }
}

/// Whether a commit failed because a background job met damage.
pub(super) fn is_of_compaction(error: &Error) -> bool {
    error.kind() == ErrorKind::Corruption
}

/// The table file that an error names, without its folder.
pub(super) fn file_in(error: &Error) -> Option<String> {
    let text: &str = error.as_ref();
    let end = text.find(".sst")?;
    let start = text[..end].rfind(|letter: char| !letter.is_ascii_digit()).map_or(0, |at| at + 1);
    (start < end).then(|| format!("{}.sst", &text[start..end]))
}
