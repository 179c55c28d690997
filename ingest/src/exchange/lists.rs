//! The directories in which hash lists lie, and how a list in one of them is opened.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, openat, statat};
use rustix::io::Errno;

/// Bytes of a list at most.
pub const LIST_BYTES_MAX: u64 = 1 << 30;

/// Directories that `local_file` exchanges may read. Without any, no file of the machine is read.
#[derive(Clone, Debug, Default)]
pub struct ListDirs(Vec<Dir>);

#[derive(Clone, Debug)]
struct Dir {
    /// As it was named, and as it is called without links: a list may be named beneath either.
    names: [PathBuf; 2],
}

/// Why a list is not opened.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// No directory is configured.
    #[error("no directory for lists is configured: start the server with --list-dir DIR")]
    NoDirectory,
    /// It lies elsewhere, or its name goes up.
    #[error("it does not lie beneath a directory of --list-dir")]
    Outside,
    /// A link stands in its way, or it is one.
    #[error("a symbolic link stands in its path, and links are not followed")]
    Link,
    /// A device, a pipe, a socket, a directory.
    #[error("it is no regular file")]
    NotAFile,
    /// It is larger than [`LIST_BYTES_MAX`].
    #[error("it has {0} bytes, and {LIST_BYTES_MAX} are allowed")]
    TooLarge(u64),
    /// The system's words.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl ListDirs {
    /// These directories; each must be there.
    pub fn new(dirs: Vec<PathBuf>) -> io::Result<Self> {
        let dir = |named: PathBuf| {
            let real = fs::canonicalize(&named)?;
            if !real.is_dir() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            Ok(Dir { names: [std::path::absolute(named)?, real] })
        };
        dirs.into_iter().map(dir).collect::<io::Result<_>>().map(Self)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Opens a list that is named by its whole path or by its path within a directory. Every step is taken from the
    /// directory before it and follows no link, so that nothing outside is ever opened, whoever changes names meanwhile.
    pub fn open(&self, name: &Path) -> Result<File, ListError> {
        if self.0.is_empty() {
            return Err(ListError::NoDirectory);
        }
        let mut last = ListError::Outside;
        for dir in &self.0 {
            let within = match name.is_absolute() {
                true => dir.names.iter().find_map(|of| name.strip_prefix(of).ok()),
                false => Some(name),
            };
            let Some(within) = within else { continue };
            match open_within(&dir.names[1], within) {
                Err(ListError::System(error)) if error.kind() == io::ErrorKind::NotFound => {
                    last = error.into();
                }
                opened => return opened,
            }
        }
        Err(last)
    }
}

impl fmt::Display for ListDirs {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<_> = self.0.iter().map(|dir| dir.names[0].display().to_string()).collect();
        out.write_str(&paths.join(","))
    }
}

fn open_within(dir: &Path, within: &Path) -> Result<File, ListError> {
    let steps = within.components().map(|step| match step {
        Component::Normal(name) => Ok(name),
        _ => Err(ListError::Outside),
    });
    let steps = steps.collect::<Result<Vec<&OsStr>, _>>()?;
    let Some((file, folders)) = steps.split_last() else { return Err(ListError::NotAFile) };
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at: OwnedFd = openat(CWD, dir, folder, Mode::empty()).map_err(io::Error::from)?;
    for name in folders {
        is_no_link(&at, name)?;
        at = openat(&at, *name, folder | OFlags::NOFOLLOW, Mode::empty()).map_err(refused)?;
    }
    // A pipe or a device is not even opened; what the name stands for afterwards is looked at again.
    if is_no_link(&at, file)? != FileType::RegularFile {
        return Err(ListError::NotAFile);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = openat(&at, *file, flags, Mode::empty()).map_err(refused)?;
    let stat = fstat(&opened).map_err(io::Error::from)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(ListError::NotAFile);
    }
    let bytes = u64::try_from(stat.st_size).unwrap_or(0);
    if bytes > LIST_BYTES_MAX {
        return Err(ListError::TooLarge(bytes));
    }
    Ok(File::from(opened))
}

fn is_no_link(at: &impl AsFd, name: &OsStr) -> Result<FileType, ListError> {
    let stat = statat(at, name, AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => Err(ListError::Link),
        kind => Ok(kind),
    }
}

/// What the system says of a link that came after the look.
fn refused(errno: Errno) -> ListError {
    if errno == Errno::LOOP { ListError::Link } else { ListError::System(errno.into()) }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_regular_files_beneath_the_directories_are_opened() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        for folder in ["lists/deep", "other", "secret"] {
            fs::create_dir_all(path(folder)).unwrap();
        }
        for (name, text) in [("lists/a", "a"), ("lists/deep/b", "b"), ("other/c", "c"), ("secret/key", "key")]
        {
            fs::write(path(name), text).unwrap();
        }
        symlink(path("secret/key"), path("lists/link")).unwrap();
        symlink(path("secret"), path("lists/folder")).unwrap();
        symlink("a", path("lists/inner")).unwrap();
        symlink(path("lists"), path("named")).unwrap();
        rustix::fs::mkfifoat(CWD, path("lists/pipe"), Mode::RUSR).unwrap();
        let dirs = ListDirs::new(vec![path("named"), path("other")]).unwrap();
        let read = |name: &Path| {
            dirs.open(name).map(|mut file| {
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                text
            })
        };
        for (name, text) in [("named/a", "a"), ("lists/a", "a"), ("lists/deep/b", "b"), ("other/c", "c")] {
            assert_eq!(read(&path(name)).unwrap(), text, "{name}");
        }
        assert_eq!([read(Path::new("deep/b")).unwrap(), read(Path::new("c")).unwrap()], ["b", "c"]);
        let says = |name: &Path| read(name).unwrap_err().to_string();
        for (name, words) in [
            ("secret/key", "does not lie beneath"),
            ("lists/../secret/key", "does not lie beneath"),
            ("lists/link", "symbolic link"),
            ("lists/folder/key", "symbolic link"),
            ("lists/inner", "symbolic link"),
            ("lists/pipe", "no regular file"),
            ("lists/deep", "no regular file"),
            ("lists", "no regular file"),
            ("lists/none", "No such file"),
        ] {
            assert!(says(&path(name)).contains(words), "{name}: {}", says(&path(name)));
        }
        for name in ["../secret/key", "/etc/passwd", "/proc/self/environ", "", "."] {
            let words = says(Path::new(name));
            assert!(words.contains("does not lie beneath") || words.contains("no regular file"), "{words}");
        }
        assert!(matches!(ListDirs::default().open(&path("lists/a")), Err(ListError::NoDirectory)));
        assert!(ListDirs::new(vec![path("none")]).is_err() && ListDirs::new(vec![path("lists/a")]).is_err());
        let large = File::create(path("lists/large")).unwrap();
        large.set_len(LIST_BYTES_MAX + 1).unwrap();
        assert!(matches!(dirs.open(Path::new("large")), Err(ListError::TooLarge(_))));
    }
}
