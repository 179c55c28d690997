//! A full disk is a state: nothing more is written, lookups go on, and it ends by itself.
//!
//! RocksDB survives ENOSPC, but a database that never meets it has nothing to recover from. So before a
//! commit the free space is compared with a reserve; only what slips past that reaches RocksDB's own error.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use index::store::StoreError;

const RESERVE_MAX: u64 = 256 << 20;

/// Watches the file system that holds the data directory.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    reserve: Option<u64>,
    full: AtomicBool,
}

impl Disk {
    /// Watches `folder`; `reserve` is the free space below which nothing is written (default: 256 MiB or
    /// 5 % of the file system, the smaller).
    pub fn new(folder: &Path, reserve: Option<u64>) -> Self {
        Self { folder: folder.to_path_buf(), reserve, full: AtomicBool::new(false) }
    }

    /// Whether the last look, or the last commit, found the disk full.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Whether a commit may be tried. One `statvfs`, about a microsecond, per group of commits.
    pub fn admit(&self) -> Result<(), StoreError> {
        let full = || StoreError::DiskFull { path: self.folder.display().to_string() };
        // A file system that cannot be asked is left to RocksDB's own errors.
        let Ok(stat) = rustix::fs::statvfs(&self.folder) else { return Ok(()) };
        let (free, size) = (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize);
        let reserve = self.reserve.unwrap_or((size / 20).min(RESERVE_MAX));
        if free >= reserve {
            return Ok(()); // whether it can be written shows when it is
        }
        self.note(true);
        Err(full())
    }

    /// Takes note of a commit's outcome.
    pub fn observe(&self, outcome: Result<(), &StoreError>) {
        match outcome {
            Ok(()) => self.note(false),
            Err(error) if error.is_disk_full() => self.note(true),
            Err(_) => {}
        }
    }

    fn note(&self, full: bool) {
        if self.full.swap(full, Ordering::Relaxed) != full {
            if full {
                tracing::error!(folder = %self.folder.display(), "disk full: nothing is written until space is freed; lookups go on");
            } else {
                tracing::info!("disk has room again: writing resumed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_larger_than_the_free_space_is_a_full_disk_until_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path(), Some(u64::MAX));
        assert!(disk.admit().unwrap_err().is_disk_full() && disk.is_full());
        let disk = Disk::new(folder.path(), Some(0));
        assert!(disk.admit().is_ok() && !disk.is_full());
    }
}
