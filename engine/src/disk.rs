//! A full disk is a state: nothing more is written, lookups go on, and it ends by itself.
//!
//! RocksDB survives ENOSPC, but a database that never meets it has nothing to recover from. So before a
//! commit the free space is compared with a reserve; only what slips past that reaches RocksDB's own error.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use index::store::{FORMAT_FILE, StoreError};
use rustix::io::Errno;

const RESERVE_MAX: u64 = 256 << 20;
/// The least default reserve: what admitted commits have put into write buffers (8 MiB each, `index::store`) must reach
/// the disk as well. It holds a full buffer of the hit log, of the cases and of the banks, and as much again in logs.
const RESERVE_MIN: u64 = 48 << 20;
/// Of a small file system at most this part is reserved by default.
const SMALL_PART: u64 = 4;
/// Of the reserve, the part that is left to RocksDB alone; the rest is for removals.
const LAST_PART: u64 = 4;
/// Free files below which nothing more is written: a flush that cannot make its file stops a database.
const FILES_RESERVE: u64 = 64;

/// What the system says of a path that is not there any more.
const GONE: [Errno; 3] = [Errno::NOENT, Errno::NOTDIR, Errno::STALE];

/// Watches the file system that holds the data directory.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    reserve: Option<u64>,
    /// Whether it was seen to be a data directory.
    had_format: AtomicBool,
    full: AtomicBool,
}

/// What a file system has left.
struct Free {
    bytes: u64,
    reserve: u64,
    has_files: bool,
}

impl Disk {
    /// Watches `folder`; `reserve` is the free space below which nothing is written (default: 5 % of the file system,
    /// at least 48 MiB or a quarter of it, the smaller, and at most 256 MiB).
    pub fn new(folder: &Path, reserve: Option<u64>) -> Self {
        if let (Some(reserve), Ok(stat)) = (reserve, rustix::fs::statvfs(folder))
            && reserve > stat.f_blocks * stat.f_frsize
        {
            let size = stat.f_blocks * stat.f_frsize;
            tracing::warn!(
                reserve,
                size,
                "--disk-reserve-bytes is more than the whole disk: nothing will be written until it is lowered"
            );
        }
        let (had_format, full) = Default::default();
        Self { folder: folder.to_path_buf(), reserve, had_format, full }
    }

    /// Whether the last look, or the last commit, found the disk full.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Whether a commit may be tried. One `stat` and one `statvfs`, about a microsecond each, per group of commits.
    pub fn admit(&self) -> Result<(), StoreError> {
        self.admit_bytes(0)
    }

    /// Whether so many bytes may be written beside the reserve.
    pub fn admit_bytes(&self, bytes: u64) -> Result<(), StoreError> {
        self.check_there()?;
        let Some(free) = self.free() else { return Ok(()) };
        if free.has_files && free.bytes >= free.reserve.saturating_add(bytes) {
            return Ok(()); // whether it can be written shows when it is
        }
        if !free.has_files || free.bytes < free.reserve {
            self.note(true);
        }
        Err(self.is_short(&free))
    }

    /// Whether a commit that takes away more than it writes may be tried: most of the reserve is for these.
    pub fn admit_removal(&self) -> Result<(), StoreError> {
        self.check_there()?;
        let Some(free) = self.free() else { return Ok(()) };
        if free.bytes >= free.reserve / LAST_PART { Ok(()) } else { Err(self.is_short(&free)) }
    }

    /// Whether the directory is still where it was. Files of one that was deleted can be written and synced, and are gone
    /// with the process: what is acknowledged then would be lost.
    fn check_there(&self) -> Result<(), StoreError> {
        match rustix::fs::stat(self.folder.join(FORMAT_FILE)) {
            Ok(_) => self.had_format.store(true, Ordering::Relaxed),
            Err(errno) if GONE.contains(&errno) && self.had_format.load(Ordering::Relaxed) => {
                return Err(StoreError::Failed {
                    path: self.folder.display().to_string(),
                    reason: "the data directory was deleted or moved while the server runs".to_string(),
                });
            }
            Err(_) => {} // not made yet, or a folder beside a data directory
        }
        Ok(())
    }

    /// What is left; a file system that cannot be asked is left to RocksDB's own errors.
    fn free(&self) -> Option<Free> {
        let stat = rustix::fs::statvfs(&self.folder).ok()?;
        let (bytes, size) = (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize);
        let reserve = self.reserve.unwrap_or_else(|| default_reserve(size));
        // Some file systems make files as they are needed and count none.
        let has_files = stat.f_files == 0 || stat.f_favail >= FILES_RESERVE.min(stat.f_files / 20);
        Some(Free { bytes, reserve, has_files })
    }

    fn is_short(&self, free: &Free) -> StoreError {
        let folder = self.folder.display();
        let path = match self.reserve {
            _ if !free.has_files => format!("{folder} (its file system has no room for more files)"),
            Some(reserve) => {
                format!(
                    "{folder} ({} bytes are free, and --disk-reserve-bytes keeps {reserve} so)",
                    free.bytes
                )
            }
            None => folder.to_string(),
        };
        StoreError::DiskFull { path }
    }

    /// Whether what is free exceeds the reserve, as it is now.
    pub fn has_room(&self) -> bool {
        self.free().is_none_or(|free| free.has_files && free.bytes >= free.reserve)
    }

    /// Takes note of a commit's outcome.
    pub fn observe(&self, outcome: Result<(), &StoreError>) {
        match outcome {
            Ok(()) => self.note(false),
            Err(error) if error.is_disk_full() => self.note(true),
            Err(_) => {}
        }
    }

    /// Takes note of a commit that may have been a removal on a full disk.
    pub fn written(&self) {
        if !self.is_full() || self.has_room() {
            self.note(false);
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

/// What is reserved of a file system of this size.
fn default_reserve(size: u64) -> u64 {
    (size / 20).max(RESERVE_MIN.min(size / SMALL_PART)).min(RESERVE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_reserve_holds_the_write_buffers_and_leaves_room() {
        let of = |mebibytes: u64| default_reserve(mebibytes << 20) >> 20;
        let sizes = [32, 64, 96, 512, 2048, 1 << 20];
        assert_eq!(sizes.map(of), [8, 16, 24, 48, 102, 256]);
    }

    #[test]
    fn a_reserve_larger_than_the_free_space_is_a_full_disk_until_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path(), Some(u64::MAX));
        let error = disk.admit().unwrap_err();
        assert!(error.is_disk_full() && disk.is_full());
        assert!(error.to_string().contains("--disk-reserve-bytes keeps"), "{error}");
        let disk = Disk::new(folder.path(), Some(0));
        assert!(disk.admit().is_ok() && !disk.is_full());
    }

    #[test]
    fn nothing_is_admitted_into_a_directory_that_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FORMAT_FILE), "1").unwrap();
        let disk = Disk::new(folder.path(), Some(0));
        assert!(disk.admit().is_ok() && disk.admit_removal().is_ok());
        std::fs::remove_file(folder.path().join(FORMAT_FILE)).unwrap();
        for refused in [disk.admit().unwrap_err(), disk.admit_removal().unwrap_err()] {
            assert!(refused.to_string().contains("deleted or moved"), "{refused}");
            assert!(!refused.is_disk_full());
        }
    }

    #[test]
    fn removals_are_let_through_where_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let free = Disk::new(folder.path(), None).free().unwrap().bytes;
        let disk = Disk::new(folder.path(), Some(free * 2));
        assert!(disk.admit().is_err() && disk.admit_removal().is_ok());
        disk.written();
        assert!(disk.is_full(), "a removal that was written does not mean that there is room");
        let disk = Disk::new(folder.path(), Some(free * 8));
        assert!(disk.admit_removal().is_err(), "the last part is left to the database");
    }

    #[test]
    fn a_write_without_room_is_refused_and_is_no_full_disk() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path(), Some(0));
        assert!(disk.admit_bytes(u64::MAX).unwrap_err().is_disk_full() && !disk.is_full());
    }
}
