//! The folder of the vault: every name is looked up in it and nowhere else, and none may be a link.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, mkdirat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

/// An open folder.
pub struct Folder {
    path: PathBuf,
    file: File,
}

impl Folder {
    /// Opens it, or makes it, for its owner alone.
    pub fn open(path: &Path) -> io::Result<Self> {
        match mkdirat(CWD, path, Mode::RWXU) {
            Ok(()) => File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self { path: path.to_path_buf(), file: openat(CWD, path, flags, Mode::empty())?.into() })
    }

    /// Where it is, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens what is there.
    pub fn open_file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let file: File =
            openat(&self.file, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?.into();
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::Error::other(format!("{name} is no file")))
        }
    }

    /// Makes a file that is not there yet.
    pub fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.file, name, flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    /// Writes a small file, whole or not there; its draft's name ends with `draft`.
    pub fn write(&self, name: &str, draft: &str, bytes: &[u8]) -> io::Result<()> {
        let draft = format!("{name}{draft}");
        let mut file = self.create(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        self.rename(&draft, name)?;
        self.sync()
    }

    /// Gives a file its name.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(&self.file, from, &self.file, to)?)
    }

    /// Writes noughts over a small file, durably; false if it is not there.
    pub fn overwrite(&self, name: &str) -> io::Result<bool> {
        let file = match self.open_file(name, OFlags::WRONLY) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len();
        file.write_all_at(&vec![0; usize::try_from(length).unwrap_or_default().min(1 << 20)], 0)?;
        file.sync_all()?;
        Ok(true)
    }

    /// Removes a file; false if it is not there.
    pub fn unlink(&self, name: &str) -> io::Result<bool> {
        match unlinkat(&self.file, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether something of this name is there.
    pub fn exists(&self, name: &str) -> io::Result<bool> {
        match statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// What is in it, entry by entry.
    pub fn entries(&self) -> io::Result<Dir> {
        Ok(Dir::read_from(&self.file)?)
    }

    /// All names in it.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in self.entries()? {
            if let Ok(name) = entry?.file_name().to_str() {
                names.push(name.to_string());
            }
        }
        Ok(names)
    }

    /// Makes its names durable.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}
