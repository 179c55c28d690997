//! RocksDB's statuses in the operator's words.
//!
//! What went wrong matters as much as how: a read that fails is damage, and what does not need it goes on; a write or a
//! sync that fails for another reason than space ends the program.

use std::io;
use std::path::Path;

use rocksdb::{Error, ErrorKind};

use super::super::error::{StoreError, remedy};

/// An error of opening or of looking after files. The text is all that tells an ENOSPC or a held lock apart.
pub(super) fn classify(path: &Path, error: &Error) -> StoreError {
    let reason = error.to_string();
    let path = path.display().to_string();
    if let Some(full) = of_no_room(&reason, &path) {
        return full;
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

/// An error of opening a database, before anything is promised. What the system does not allow is no fault of the disk.
pub(super) fn of_opening(path: &Path, error: &Error) -> StoreError {
    let reason = error.to_string();
    let kinds = [
        ("Permission denied", io::ErrorKind::PermissionDenied),
        ("Read-only file system", io::ErrorKind::ReadOnlyFilesystem),
        ("Not a directory", io::ErrorKind::NotADirectory),
    ];
    let met = kinds.into_iter().find(|(words, _)| reason.contains(words));
    match met.and_then(|(_, kind)| remedy(kind)) {
        Some(remedy) => {
            StoreError::Unusable { path: path.display().to_string(), tried: "opened", reason, remedy }
        }
        None => classify(path, error),
    }
}

/// An error of reading: never a reason to end the program, since nothing was promised.
pub(super) fn of_read(path: &Path, error: &Error) -> StoreError {
    let reason = error.to_string();
    let path = path.display().to_string();
    let is_damage = match error.kind() {
        ErrorKind::Corruption | ErrorKind::NotFound | ErrorKind::Incomplete => true,
        // A sector that does not read, or a file that is gone; but not a lack of descriptors or memory.
        ErrorKind::IOError => {
            !["Too many open files", "Cannot allocate memory"].iter().any(|words| reason.contains(words))
        }
        _ => false,
    };
    if is_damage { StoreError::Damaged { path, reason } } else { StoreError::Unreadable { path, reason } }
}

/// An error of a commit: a full disk, or a reason to end the program.
pub(super) fn of_commit(path: &Path, error: &Error) -> StoreError {
    let reason = error.to_string();
    let path = path.display().to_string();
    of_no_room(&reason, &path).unwrap_or(StoreError::Failed { path, reason })
}

/// ENOSPC and EDQUOT, in the C library's words. Of the two RocksDB goes on by itself only after ENOSPC: EDQUOT is to it as
/// any other failed write, after which a database must be opened again.
fn of_no_room(reason: &str, path: &str) -> Option<StoreError> {
    let says = |words: [&str; 2]| words.iter().any(|words| reason.contains(words));
    let path = path.to_string();
    if says(["Disk quota exceeded", "Quota exceeded"]) {
        return Some(StoreError::QuotaSpent { path });
    }
    says(["No space left", "Space limit"]).then_some(StoreError::DiskFull { path })
}

/// An error of a file of ours.
pub(super) fn classify_io(path: &Path, error: &std::io::Error) -> StoreError {
    let path = path.display().to_string();
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StoreError::DiskFull { path },
        std::io::ErrorKind::InvalidData => StoreError::Damaged { path, reason: error.to_string() },
        _ => StoreError::Failed { path, reason: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use std::io::Error;

    use super::*;

    #[test]
    fn a_spent_quota_is_a_full_disk() {
        for number in [28, 122] {
            let error = Error::from_raw_os_error(number); // ENOSPC, EDQUOT
            assert!(classify_io(Path::new("x"), &error).is_disk_full(), "{error}");
            let met = of_no_room(&error.to_string(), "x").unwrap();
            assert!(met.is_disk_full(), "{met}");
            let resumes = met.to_string().contains("resumes by itself");
            assert_eq!(resumes, number == 28, "RocksDB resumes after ENOSPC alone: {met}");
        }
        assert!(!classify_io(Path::new("x"), &Error::from_raw_os_error(5)).is_disk_full());
    }
}
