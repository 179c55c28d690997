//! The data directory: who owns it, and which format it has. Checked before any database is touched.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::StoreError;
use super::keys::{FORMAT, FORMAT_READ_MIN};
use super::whole_file::{Readers, replace_file, sync_folder_of};

/// The file in a data directory that says its format: in each one from its first start on.
pub const FORMAT_FILE: &str = "FORMAT";
const FORMAT_DRAFT: &str = "FORMAT.new";
const LOCK_FILE: &str = "LOCK";

/// A data directory that this process owns until the value is dropped (or the process ends, however).
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Takes the directory, or makes it. Refuses one that another process holds, that a newer program
    /// wrote, or that is somebody else's. One of an older format stays so until [`DataDir::raise_format`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            let made = fs::create_dir_all(path).and_then(|()| sync_folder_of(path));
            made.map_err(|error| StoreError::of_io(path, "made", &error))?;
        }
        let lock_path = path.join(LOCK_FILE);
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotADirectory => StoreError::of_io(path, "used as a data directory", &error),
            _ => StoreError::of_io(&lock_path, "opened for writing", &error),
        };
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(locked(path, &mut lock)),
            Err(errno) => return Err(failed(errno.into())),
        }
        // The holder's number is for people, and a disk without room is no reason not to start.
        let number = format!("{:<10}", std::process::id());
        let _ = lock.set_len(0).and_then(|()| lock.write_all_at(number.as_bytes(), 0));
        check_format(path)?;
        Ok(Self { path: path.to_path_buf(), _lock: lock })
    }

    /// Says that rows of this program's format are written from now on, so that an older program refuses the directory.
    /// To be called when everything an older format left is known to open, and before any of it is changed.
    pub fn raise_format(&self) -> Result<(), StoreError> {
        match fs::read_to_string(self.path.join(FORMAT_FILE)) {
            Ok(text) if text.trim() == FORMAT.to_string() => Ok(()),
            _ => write_format(&self.path).map_err(|error| not_written(&self.path, &error)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A data directory that nobody writes while this value lives: for who only reads it. Nothing of it is changed, so it may
/// lie on a medium that cannot be.
#[derive(Debug)]
pub struct HeldDir {
    path: PathBuf,
    _lock: Option<File>,
}

impl HeldDir {
    /// Holds a directory that is there. Refuses one that a process owns, or of a format that cannot be read as it is.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let shown = path.display().to_string();
        let failed = |error: io::Error| StoreError::of_io(path, "read", &error);
        let text = fs::read_to_string(path.join(FORMAT_FILE)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::Unreadable {
                path: shown.clone(),
                reason: format!("it has no {FORMAT_FILE} file, so it is not a hashward data directory"),
            },
            _ => failed(error),
        })?;
        match text.trim().parse::<u32>() {
            Ok(FORMAT_READ_MIN..=FORMAT) => {}
            Ok(found) if found > FORMAT => {
                return Err(StoreError::Newer { path: shown, found, known: FORMAT });
            }
            Ok(_) => return Err(StoreError::Older { path: shown }),
            Err(_) => return Err(no_number(shown)),
        }
        let lock = match File::open(path.join(LOCK_FILE)) {
            Ok(mut lock) => match flock(&lock, FlockOperation::NonBlockingLockShared) {
                Ok(()) => Some(lock),
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(locked(path, &mut lock)),
                Err(errno) => return Err(failed(errno.into())),
            },
            // Who owns a directory has made the file: a copy may come without it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        Ok(Self { path: path.to_path_buf(), _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn locked(path: &Path, lock: &mut File) -> StoreError {
    let mut holder = String::new();
    // Who holds it is worth saying and not worth another error.
    let _ = lock.read_to_string(&mut holder);
    let holder = holder.trim();
    let who = if holder.is_empty() { String::new() } else { format!(" (held by process {holder})") };
    StoreError::Locked { path: format!("{}{who}", path.display()) }
}

fn no_number(path: String) -> StoreError {
    StoreError::Damaged { path, reason: format!("its {FORMAT_FILE} file does not hold a number") }
}

fn check_format(path: &Path) -> Result<(), StoreError> {
    let shown = path.display().to_string();
    let file = path.join(FORMAT_FILE);
    match fs::read_to_string(&file) {
        Ok(text) => match text.trim().parse::<u32>() {
            Ok(found) if found > FORMAT => Err(StoreError::Newer { path: shown, found, known: FORMAT }),
            Ok(_) => Ok(()), // an older one is raised when everything of it is known to open
            Err(_) => Err(no_number(shown)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let foreign = fs::read_dir(path)
                .map_err(|error| StoreError::of_io(path, "listed", &error))?
                .filter_map(Result::ok)
                .map(|entry| entry.file_name())
                .find(|name| name != LOCK_FILE && name != FORMAT_DRAFT && name != "lost+found");
            if let Some(name) = foreign {
                return Err(StoreError::Unusable {
                    path: shown,
                    tried: "used as a data directory",
                    reason: format!(
                        "it holds {name:?} but no {FORMAT_FILE} file, so it is not a hashward data directory"
                    ),
                    remedy: "give --data-dir another folder, or put the FORMAT file back from a backup",
                });
            }
            write_format(path).map_err(|error| not_written(path, &error))
        }
        Err(error) => Err(StoreError::of_io(&file, "read", &error)),
    }
}

fn write_format(path: &Path) -> io::Result<()> {
    replace_file(&path.join(FORMAT_FILE), format!("{FORMAT}\n").as_bytes(), Readers::Umask)
}

fn not_written(path: &Path, error: &io::Error) -> StoreError {
    StoreError::of_io(&path.join(FORMAT_FILE), "written", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_format_is_raised_only_when_that_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let format = || fs::read_to_string(folder.path().join(FORMAT_FILE)).unwrap();
        drop(DataDir::open(folder.path()).unwrap());
        fs::write(folder.path().join(FORMAT_FILE), "2\n").unwrap();
        let owned = DataDir::open(folder.path()).unwrap();
        assert_eq!(format(), "2\n", "an upgrade that fails from here on leaves it to the older program");
        owned.raise_format().unwrap();
        assert_eq!(format(), format!("{FORMAT}\n"));
    }

    #[test]
    fn a_directory_has_one_owner_and_a_known_format() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let owned = DataDir::open(&path).unwrap();
        let error = DataDir::open(&path).unwrap_err();
        assert!(error.to_string().contains(&format!("held by process {}", std::process::id())), "{error}");
        assert!(matches!(HeldDir::open(&path), Err(StoreError::Locked { .. })));
        drop(owned);

        let held = (HeldDir::open(&path).unwrap(), HeldDir::open(&path).unwrap());
        assert!(matches!(DataDir::open(&path), Err(StoreError::Locked { .. })));
        drop(held);
        fs::write(path.join(FORMAT_FILE), "1\n").unwrap();
        assert!(matches!(HeldDir::open(&path), Err(StoreError::Older { .. })));
        for readable in FORMAT_READ_MIN..=FORMAT {
            fs::write(path.join(FORMAT_FILE), format!("{readable}\n")).unwrap();
            drop(HeldDir::open(&path).unwrap());
        }
        let nowhere = folder.path().join("nowhere");
        assert!(HeldDir::open(&nowhere).is_err() && !nowhere.exists());

        fs::write(path.join(FORMAT_FILE), "999\n").unwrap();
        let error = DataDir::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::Newer { found: 999, .. }), "{error}");
        fs::write(path.join(FORMAT_FILE), "soup").unwrap();
        assert!(matches!(DataDir::open(&path), Err(StoreError::Damaged { .. })));
        fs::remove_file(path.join(FORMAT_FILE)).unwrap();
        fs::write(path.join("holiday.jpg"), "").unwrap();
        let error = DataDir::open(&path).unwrap_err();
        assert!(error.to_string().contains("holiday.jpg"), "{error}");
    }
}
