//! Preserved media, sealed at rest: one file for its content, one for its key, both named by a random number.
//!
//! `evidence/ID.blob` opens only with `evidence/ID.key`, which opens only with the key that [`Wrap`]s. To destroy a piece
//! is to destroy its key first: what is left of the content then is noise, on this disk and in every backup that lacks
//! the key. A piece is whole or not there: written aside, synced, renamed. Who keeps the ids decides what is an orphan;
//! here nothing is removed that could be somebody's evidence.

mod blob;
mod folder;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use index::store::StoreError;
use md5::Md5;
use rustix::fs::{Dir, OFlags};
use sha2::{Digest, Sha256};

pub use self::blob::BlobReader;
use self::blob::{BlobWriter, CHUNK};
use self::folder::Folder;
use crate::disk::Disk;
use crate::failpoint::failpoint;
use crate::secrets::{KEY, Wrap, WrapError, random};

const FOLDER: &str = "evidence";
/// Endings of names; what ends with `NEW` is not whole.
const BLOB: &str = ".blob";
const KEYS: &str = ".key";
const NEW: &str = ".new";

/// A piece of evidence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId([u8; 16]);

impl BlobId {
    fn fresh() -> io::Result<Self> {
        let mut id = [0; 16];
        random(&mut id)?;
        Ok(Self(id))
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// Not 32 small hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("is no evidence id: use its 32 hexadecimal digits")]
pub struct NoBlobId;

impl FromStr for BlobId {
    type Err = NoBlobId;

    fn from_str(text: &str) -> Result<Self, NoBlobId> {
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(NoBlobId),
        };
        let digits: &[u8; 32] = text.as_bytes().try_into().map_err(|_| NoBlobId)?;
        let mut id = [0; 16];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(id))
    }
}

/// What was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What it is found by.
    pub id: BlobId,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: [u8; 32],
    /// Its MD5, by which others know it.
    pub md5: [u8; 16],
}

/// Why evidence is not stored, read or destroyed.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// No room. Nothing of it was kept.
    #[error("{0}")]
    Full(StoreError),
    /// What should be stored could not be read to its end. Nothing of it was kept.
    #[error("what should be preserved ended with an error ({0}); nothing of it was kept")]
    Source(io::Error),
    /// It is larger than was allowed. Nothing of it was kept.
    #[error("what should be preserved is longer than {max} bytes; nothing of it was kept")]
    TooLong {
        /// The most that was allowed.
        max: u64,
    },
    /// Not an id that was ever given.
    #[error("'{0}' is no evidence id")]
    NoId(String),
    /// There is no such piece, or no more.
    #[error("there is no evidence {0}: it was destroyed, or never stored")]
    Gone(BlobId),
    /// It is there, and not as it was written.
    #[error("evidence {id} is damaged ({reason}): restore {id}.blob and {id}.key from a backup")]
    Damaged {
        /// Which.
        id: BlobId,
        /// What is wrong.
        reason: String,
    },
    /// The key that wraps its key does not work.
    #[error("the key of evidence {id}: {reason}")]
    Key {
        /// Which.
        id: BlobId,
        /// Why.
        reason: WrapError,
    },
    /// The folder cannot be used.
    #[error("{path} cannot be used ({reason}): check the disk, its rights, and that nothing there is a link")]
    Disk {
        /// The folder.
        path: String,
        /// Why, in the system's words.
        reason: io::Error,
    },
}

/// All evidence of a data directory. Shared between threads; every call blocks on the disk.
pub struct Vault {
    folder: Folder,
    wrap: Arc<dyn Wrap>,
    disk: Arc<Disk>,
}

/// Whether a data directory holds evidence that a key was needed for.
pub fn holds_any(data_dir: &Path) -> io::Result<bool> {
    match std::fs::read_dir(data_dir.join(FOLDER)) {
        Ok(mut entries) => Ok(entries.any(|entry| {
            entry.is_ok_and(|entry| entry.file_name().to_str().is_some_and(|name| name.ends_with(KEYS)))
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

impl Vault {
    /// Opens the folder in the data directory, or makes it. What was being written when the program ended is removed.
    pub fn open(data_dir: &Path, wrap: Arc<dyn Wrap>, disk: Arc<Disk>) -> Result<Self, VaultError> {
        let path = data_dir.join(FOLDER);
        let unusable = |reason| VaultError::Disk { path: path.display().to_string(), reason };
        let folder = Folder::open(&path).map_err(unusable)?;
        let vault = Self { folder, wrap, disk };
        vault.remove_unfinished()?;
        Ok(vault)
    }

    /// An id that no piece has.
    pub fn fresh_id(&self) -> Result<BlobId, VaultError> {
        BlobId::fresh().map_err(|error| self.disk(error))
    }

    /// Stores what this gives under a fresh id, up to so many bytes; durable when it returns.
    pub fn store(&self, id: BlobId, mut from: impl Read, bytes_max: u64) -> Result<Kept, VaultError> {
        let kept = self.write(id, &mut from, bytes_max);
        if kept.is_err() {
            // Best effort: what cannot be removed now is at the next start.
            let _ = self.discard(id);
        }
        kept
    }

    fn write(&self, id: BlobId, from: &mut dyn Read, bytes_max: u64) -> Result<Kept, VaultError> {
        self.admit()?;
        let mut key = [0; KEY];
        random(&mut key).map_err(|error| self.disk(error))?;
        let wrapped = self.wrap.wrap(&key_name(id), &key).map_err(|reason| VaultError::Key { id, reason })?;
        let content = self.folder.create(&format!("{id}{BLOB}{NEW}")).map_err(|error| self.disk(error))?;
        let mut content = BlobWriter::new(content, id, &key).map_err(|error| self.disk(error))?;
        let (mut sha256, mut md5, mut bytes) = (Sha256::new(), Md5::new(), 0);
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = match from.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(VaultError::Source(error)),
            };
            bytes += count as u64;
            if bytes > bytes_max {
                return Err(VaultError::TooLong { max: bytes_max });
            }
            self.admit()?;
            sha256.update(&chunk[..count]);
            md5.update(&chunk[..count]);
            content.write(&chunk[..count]).map_err(|error| self.disk(error))?;
        }
        content.finish().map_err(|error| self.disk(error))?;
        failpoint("evidence-content-written");
        // The key gets its name first, so that a content with a name has its key.
        self.folder.write(&format!("{id}{KEYS}"), NEW, &wrapped).map_err(|error| self.disk(error))?;
        failpoint("evidence-key-written");
        let blob = format!("{id}{BLOB}");
        self.folder.rename(&format!("{blob}{NEW}"), &blob).map_err(|error| self.disk(error))?;
        self.folder.sync().map_err(|error| self.disk(error))?;
        failpoint("evidence-written");
        Ok(Kept { id, bytes, sha256: sha256.finalize().into(), md5: md5.finalize().into() })
    }

    /// Opens a piece; what it reads is verified as it is read. Its end was verified when this returns.
    pub fn open_blob(&self, id: BlobId) -> Result<BlobReader, VaultError> {
        let wrapped = self.wrapped_key(id)?;
        let key = self.wrap.unwrap(&key_name(id), &wrapped).map_err(|reason| match reason {
            WrapError::Broken => VaultError::Damaged { id, reason: format!("its key {reason}") },
            WrapError::Unavailable(_) => VaultError::Key { id, reason },
        })?;
        let damaged = |reason: String| VaultError::Damaged { id, reason };
        let key = key.try_into().map_err(|_| damaged("its key has another length".to_string()))?;
        BlobReader::open(self.open_file(id, BLOB)?, id, &key).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => damaged(error.to_string()),
            _ => self.disk(error),
        })
    }

    fn wrapped_key(&self, id: BlobId) -> Result<Vec<u8>, VaultError> {
        let mut wrapped = Vec::new();
        let file = self.open_file(id, KEYS)?;
        file.take(4096).read_to_end(&mut wrapped).map_err(|error| self.disk(error))?;
        Ok(wrapped)
    }

    fn open_file(&self, id: BlobId, ending: &str) -> Result<File, VaultError> {
        let opened = self.folder.open_file(&format!("{id}{ending}"), OFlags::RDONLY);
        opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => VaultError::Gone(id),
            _ => self.disk(error),
        })
    }

    /// Wraps the key of every piece anew, but of those that are wrapped so already; says how many, and which pieces have a key
    /// that opens with neither. Nobody else may use the vault meanwhile.
    pub fn rewrap(&self, to: &dyn Wrap) -> Result<(u64, Vec<BlobId>), VaultError> {
        let (mut count, mut broken) = (0, Vec::new());
        for id in self.list()? {
            let (name, file) = (key_name(id), format!("{id}{KEYS}"));
            if !self.folder.exists(&file).map_err(|error| self.disk(error))? {
                continue; // half destroyed: only its content is left
            }
            let wrapped = self.wrapped_key(id)?;
            if to.unwrap(&name, &wrapped).is_ok() {
                continue;
            }
            let key = match self.wrap.unwrap(&name, &wrapped) {
                Ok(key) => key,
                Err(WrapError::Broken) => {
                    broken.push(id);
                    continue;
                }
                Err(reason) => return Err(VaultError::Key { id, reason }),
            };
            let wrapped = to.wrap(&name, &key).map_err(|reason| VaultError::Key { id, reason })?;
            self.admit()?;
            self.folder.write(&file, NEW, &wrapped).map_err(|error| self.disk(error))?;
            failpoint("rekey-evidence");
            count += 1;
        }
        Ok((count, broken))
    }

    /// Destroys a piece for good; true if there was anything of it. After a crash in the midst it is called again, as it is
    /// for one that is gone.
    pub fn destroy(&self, id: BlobId) -> Result<bool, VaultError> {
        let had_key = self.destroy_key(id)?;
        failpoint("evidence-key-destroyed");
        let had_content = self.remove_content(id)?;
        failpoint("evidence-destroyed");
        Ok(had_key || had_content)
    }

    /// The key is written over before it is unlinked, and all that is on the disk before this returns. A disk that writes
    /// elsewhere than where it is told (flash, copy on write) may have the old bytes still: they are wrapped.
    fn destroy_key(&self, id: BlobId) -> Result<bool, VaultError> {
        let name = format!("{id}{KEYS}");
        let had = self.folder.overwrite(&name).and_then(|had| Ok(had && self.folder.unlink(&name)?));
        let had = had.map_err(|error| self.disk(error))?;
        self.folder.sync().map_err(|error| self.disk(error))?;
        Ok(had)
    }

    fn remove_content(&self, id: BlobId) -> Result<bool, VaultError> {
        let had = self.folder.unlink(&format!("{id}{BLOB}")).map_err(|error| self.disk(error))?;
        self.folder.sync().map_err(|error| self.disk(error))?;
        Ok(had)
    }

    /// The ids of all there is something of, whole or half destroyed.
    pub fn list(&self) -> Result<Vec<BlobId>, VaultError> {
        let names = self.folder.names().map_err(|error| self.disk(error))?;
        let ids: BTreeSet<BlobId> = names.iter().filter_map(|name| id_in(name)).collect();
        Ok(ids.into_iter().collect())
    }

    /// Begins to list what there is, name by name.
    pub fn begin_listing(&self) -> Result<Listing, VaultError> {
        Ok(Listing(self.folder.entries().map_err(|error| self.disk(error))?))
    }

    /// The ids among the next so many names; none at the end. What comes meanwhile is in it or not.
    pub fn next_ids(&self, listing: &mut Listing, names: usize) -> Result<Option<Vec<BlobId>>, VaultError> {
        let mut ids = BTreeSet::new();
        for read in 0..names {
            match listing.0.next() {
                Some(entry) => {
                    let entry = entry.map_err(|error| self.disk(error.into()))?;
                    ids.extend(entry.file_name().to_str().ok().and_then(id_in));
                }
                None if read == 0 => return Ok(None),
                None => break,
            }
        }
        Ok(Some(ids.into_iter().collect()))
    }

    /// Removes what was never whole: contents without their name, and their keys.
    fn remove_unfinished(&self) -> Result<(), VaultError> {
        for name in self.folder.names().map_err(|error| self.disk(error))? {
            let Some(unfinished) = name.strip_suffix(NEW) else { continue };
            let id = unfinished.strip_suffix(BLOB).or(unfinished.strip_suffix(KEYS)).map(str::parse);
            if let Some(Ok(id)) = id {
                self.discard(id)?;
            }
        }
        Ok(())
    }

    fn discard(&self, id: BlobId) -> Result<(), VaultError> {
        let names = [format!("{id}{KEYS}{NEW}"), format!("{id}{BLOB}{NEW}")];
        let whole = self.folder.exists(&format!("{id}{BLOB}")).map_err(|error| self.disk(error))?;
        if !whole {
            self.destroy_key(id)?; // first: its content's draft is what tells that it is of no use
        }
        for name in names {
            self.folder.unlink(&name).map_err(|error| self.disk(error))?;
        }
        self.folder.sync().map_err(|error| self.disk(error))
    }

    fn admit(&self) -> Result<(), VaultError> {
        self.disk.admit().map_err(VaultError::Full)
    }

    fn disk(&self, reason: io::Error) -> VaultError {
        let path = self.folder.path().display().to_string();
        match reason.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                VaultError::Full(StoreError::DiskFull { path })
            }
            _ => VaultError::Disk { path, reason },
        }
    }
}

/// A list of the folder that is read bit by bit.
pub struct Listing(Dir);

/// The id in the name of a content or a key.
fn id_in(name: &str) -> Option<BlobId> {
    name.strip_suffix(BLOB).or(name.strip_suffix(KEYS))?.parse().ok()
}

fn key_name(id: BlobId) -> String {
    format!("evidence/{id}")
}

#[cfg(test)]
mod tests;
