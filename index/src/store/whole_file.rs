//! Small files that are there whole, or as they were before, whatever happens meanwhile.
//!
//! A file is written beside its place, synced, renamed into its place, and then its folder is synced: after a power cut
//! at any moment there is the old file, the new one, or none where there was none. A draft that a crash leaves is
//! written over by the next write.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Its owner alone.
    Owner,
    /// Whoever the process's umask lets.
    Umask,
    /// Everybody, whatever the umask.
    Everybody,
}

impl Readers {
    /// Lets them read a file that was just made.
    pub fn admit(self, file: &File) -> io::Result<()> {
        match self {
            Readers::Everybody => file.set_permissions(Permissions::from_mode(0o644)),
            Readers::Owner | Readers::Umask => Ok(()),
        }
    }
}

/// Writes a file in the place of the one that is there, if there is one. Durable when it returns.
pub fn replace_file(path: &Path, bytes: &[u8], readers: Readers) -> io::Result<()> {
    let draft = draft(path, bytes, readers)?;
    fs::rename(&draft, path).inspect_err(|_| forget(&draft))?;
    sync_folder_of(path)
}

/// Makes a file that must not be there yet; one that is there stays as it is, and is an error. Durable when it returns.
pub fn create_file(path: &Path, bytes: &[u8], readers: Readers) -> io::Result<()> {
    let draft = draft(path, bytes, readers)?;
    // A link, unlike a rename, does not replace what is there.
    let made = fs::hard_link(&draft, path);
    forget(&draft);
    made?;
    sync_folder_of(path)
}

/// Makes the names in the folder of this path durable.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Where a file lies until it is whole.
fn draft_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    path.with_file_name(name)
}

/// Writes and syncs the draft; on an error it is removed, since it takes room that is missing.
fn draft(path: &Path, bytes: &[u8], readers: Readers) -> io::Result<PathBuf> {
    let draft = draft_of(path);
    // One that a crash left may be readable by more than it should be.
    fs::remove_file(&draft).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    if readers == Readers::Owner {
        options.mode(0o600);
    }
    let written = options.open(&draft).and_then(|mut file| {
        readers.admit(&file)?;
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.inspect_err(|_| forget(&draft))?;
    Ok(draft)
}

/// Removes a draft. One that stays is written over by the next.
fn forget(draft: &Path) {
    let _ = fs::remove_file(draft);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_leaves_no_draft() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pub");
        fs::write(folder.path().join("key.pub.new"), "of a crash").unwrap();
        replace_file(&path, b"one", Readers::Owner).unwrap();
        replace_file(&path, b"two", Readers::Owner).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_there_is_not_created_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create_file(&path, b"one", Readers::Umask).unwrap();
        let error = create_file(&path, b"two", Readers::Umask).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_cannot_take_its_place_leaves_no_draft() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir_all(path.join("by a folder")).unwrap();
        assert!(replace_file(&path, b"one", Readers::Umask).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
