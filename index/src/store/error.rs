//! What can go wrong with a store, in words that tell an operator what to do.

use std::io::{self, ErrorKind};
use std::path::Path;

/// What the store can say went wrong. Each message names the cause and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No room: a state, not an end. Lookups go on.
    #[error("the disk of {path} is full: free space there; writing resumes by itself")]
    DiskFull {
        /// The database's folder.
        path: String,
    },
    /// A quota is spent, and RocksDB met it: it writes no more before it is opened again. Lookups go on.
    #[error(
        "the quota of {path} is spent, and after that RocksDB does not go on by itself: raise the quota or free space \
         there, then start hashward again; lookups go on until then"
    )]
    QuotaSpent {
        /// The database's folder.
        path: String,
    },
    /// No room to open it: a state that only a person ends.
    #[error(
        "the disk of {path} is full, and no database opens without writing some files: free 64 MiB there, then start \
         hashward again; nothing was changed"
    )]
    NoRoomToOpen {
        /// The database's folder.
        path: String,
    },
    /// Another process has it open.
    #[error(
        "{path} is locked by another process: stop the other hashward, or give --data-dir another folder"
    )]
    Locked {
        /// The database's folder.
        path: String,
    },
    /// Written by a newer program.
    #[error(
        "{path} has format {found}, this program knows up to {known}: run the newer hashward, or restore a backup"
    )]
    Newer {
        /// The database's folder.
        path: String,
        /// The format found.
        found: u32,
        /// The newest format this program reads.
        known: u32,
    },
    /// Written by an older program; only reading it is no way to renew it.
    #[error(
        "{path} was written by an older hashward, which had no such rows: start this one on it once, then ask again"
    )]
    Older {
        /// The database's folder.
        path: String,
    },
    /// Acknowledged rows are missing: the log lost its end.
    #[error(
        "{path} lost acknowledged writes: it ends at sequence {found}, but {acknowledged} was acknowledged \
         (a damaged or replaced write-ahead log): restore the newest backup, or the file system's copy"
    )]
    LostWrites {
        /// The database's folder.
        path: String,
        /// Newest sequence number found.
        found: u64,
        /// Newest sequence number whose durability was promised.
        acknowledged: u64,
    },
    /// The data on disk is damaged.
    #[error("{path} is damaged: {reason}: restore a backup; nothing was changed")]
    Damaged {
        /// The database's folder.
        path: String,
        /// What the store found, in its words.
        reason: String,
    },
    /// It cannot be read at all.
    #[error("{path} cannot be read: {reason}")]
    Unreadable {
        /// The folder.
        path: String,
        /// Why.
        reason: String,
    },
    /// A row does not read as its layout says.
    #[error("a row of '{keyspace}' does not read as its layout says ({reason}): restore a backup")]
    Row {
        /// The keyspace.
        keyspace: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// What can be made again from other rows could not be written, for another reason than space. Nothing is lost.
    #[error(
        "{path} cannot be written ({reason}): it is tried again, and what is missing is made at the next start"
    )]
    NotStored {
        /// The database's folder.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// The system does not let the program use a path. Nothing is wrong with the disk, and nothing was changed.
    #[error("{path} cannot be {tried} ({reason}): {remedy}")]
    Unusable {
        /// The file or folder.
        path: String,
        /// What was tried: `opened`, `made`, `written`.
        tried: &'static str,
        /// The system's words.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Writing or syncing failed for another reason than space. The process must stop: what reached the
    /// disk is unknown, and a sync must not be retried.
    #[error("{path} cannot be written ({reason}): check the disk, then start hashward again")]
    Failed {
        /// The database's folder.
        path: String,
        /// The system's words.
        reason: String,
    },
}

impl StoreError {
    /// An error of a file or folder before anything is promised: the cause decides what there is to do.
    pub fn of_io(path: &Path, tried: &'static str, error: &io::Error) -> Self {
        // std has no stable name for a loop of links.
        let is_loop = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
        let kind = if is_loop { ErrorKind::InvalidFilename } else { error.kind() };
        let reason = error.to_string();
        let path = path.display().to_string();
        match (kind, remedy(kind)) {
            (ErrorKind::StorageFull | ErrorKind::QuotaExceeded, _) => StoreError::DiskFull { path },
            (ErrorKind::InvalidData, _) => StoreError::Damaged { path, reason },
            (_, Some(remedy)) => StoreError::Unusable { path, tried, reason, remedy },
            (_, None) => StoreError::Failed { path, reason },
        }
    }

    /// The same error of a database that is being opened: it does not resume by itself.
    #[must_use]
    pub fn of_opening(self) -> Self {
        match self {
            StoreError::DiskFull { path } | StoreError::QuotaSpent { path } => {
                StoreError::NoRoomToOpen { path }
            }
            other => other,
        }
    }

    /// The same error of a write of what can be made again from other rows: it is no reason to stop.
    #[must_use]
    pub fn of_derived(self) -> Self {
        match self {
            StoreError::Failed { path, reason } => StoreError::NotStored { path, reason },
            other => other,
        }
    }

    /// Whether it is a lack of space, which is a state and no reason to end the program.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, StoreError::DiskFull { .. } | StoreError::QuotaSpent { .. })
    }

    /// Whether something stored does not read as it was written. What needs it cannot go on; everything else can.
    pub fn is_damage(&self) -> bool {
        matches!(self, StoreError::Damaged { .. } | StoreError::Row { .. })
    }
}

/// What to do about an error of a path; none where the disk itself is in doubt.
pub(super) fn remedy(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::PermissionDenied => {
            "give the user that hashward runs as this path (`ls -ld` shows its owner and mode), or run hashward as the user \
             that owns it"
        }
        ErrorKind::ReadOnlyFilesystem => "mount the file system writable, or give --data-dir another folder",
        ErrorKind::NotADirectory | ErrorKind::IsADirectory => {
            "a file lies where a folder belongs, or the other way round: give --data-dir a folder"
        }
        ErrorKind::AlreadyExists => {
            "something other than a folder has this name (a link that leads nowhere?): remove it, or give --data-dir \
             another folder"
        }
        ErrorKind::NotFound => "make the folder that it belongs in, or give --data-dir another folder",
        ErrorKind::InvalidInput | ErrorKind::InvalidFilename => {
            "this is no path that the system takes: give --data-dir another folder"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_error_of_the_disk_says_check_the_disk() {
        let words = |number| {
            let error = io::Error::from_raw_os_error(number);
            StoreError::of_io(Path::new("/srv/data"), "opened", &error).to_string()
        };
        // EPERM, ENOENT, EACCES, EEXIST, ENOTDIR, EISDIR, EINVAL, EROFS, ENAMETOOLONG, ELOOP
        for number in [1, 2, 13, 17, 20, 21, 22, 30, 36, 40] {
            let words = words(number);
            assert!(
                words.starts_with("/srv/data cannot be opened (") && !words.contains("the disk"),
                "{words}"
            );
        }
        assert!(words(13).contains("owner and mode"), "{}", words(13));
        for number in [5, 74] {
            assert!(words(number).contains("check the disk"), "EIO, EBADMSG: {}", words(number));
        }
        assert!(words(28).contains("is full"), "ENOSPC: {}", words(28));
    }
}
