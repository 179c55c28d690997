//! The key that seals the rows of all databases, in `data.key`: wrapped, and bound to what it says of them.
//!
//! The file also says which databases hold sealed rows only. That is part of the name the key is wrapped under, so nobody
//! can take it back to have plain rows accepted, except with an older copy of the file itself.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use index::store::Database;
use index::store::whole_file::{Readers, replace_file};
use serde::{Deserialize, Serialize};

use super::{KEY, Wrap, WrapError, random};

const VERSION: u32 = 1;
const FILE: &str = "data.key";

/// The data key of a data directory.
pub struct DataKey {
    folder: PathBuf,
    wrap: Arc<dyn Wrap>,
    key: [u8; KEY],
    /// Names of the databases in which every row is sealed.
    sealed: Mutex<BTreeSet<String>>,
}

/// Why there is no data key.
#[derive(Debug, thiserror::Error)]
pub enum DataKeyError {
    /// It was sealed with another key.
    #[error(
        "{path} does not open with this key file: put the key file back that this data directory was sealed with \
         (--key-file), or {path} itself from the same backup as the rest"
    )]
    OtherKey {
        /// The file.
        path: String,
    },
    /// It is not there, although rows are sealed with it.
    #[error("{path} is missing, and {what} was sealed with it: put it back from the newest backup")]
    Missing {
        /// Where it should be.
        path: String,
        /// What only it opens.
        what: String,
    },
    /// It does not read.
    #[error("{path} does not read as a data key ({reason}): put it back from the newest backup")]
    Unlike {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// It was made by a newer program.
    #[error("{path} has version {found}, this program knows {VERSION}: run the newer hashward")]
    Newer {
        /// The file.
        path: String,
        /// The version found.
        found: u32,
    },
    /// It can be neither read nor written.
    #[error("{path} cannot be used: {reason}")]
    Unusable {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    sealed: BTreeSet<String>,
    key: String,
}

impl DataKey {
    /// Where it lies in a data directory.
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join(FILE)
    }

    /// Reads the key. Makes one if there is none, and `sealed` names nothing that an older one would be needed for.
    pub fn open(data_dir: &Path, wrap: Arc<dyn Wrap>, sealed: Option<&str>) -> Result<Self, DataKeyError> {
        let path = Self::path(data_dir).display().to_string();
        let folder = data_dir.to_path_buf();
        let unlike = |reason: String| DataKeyError::Unlike { path: path.clone(), reason };
        let unusable = |reason: String| DataKeyError::Unusable { path: path.clone(), reason };
        let text = match (fs::read(Self::path(data_dir)), sealed) {
            (Ok(text), _) => text,
            (Err(error), Some(what)) if error.kind() == io::ErrorKind::NotFound => {
                return Err(DataKeyError::Missing { path, what: what.to_string() });
            }
            (Err(error), None) if error.kind() == io::ErrorKind::NotFound => {
                let mut key = [0; KEY];
                random(&mut key).map_err(|error| unusable(error.to_string()))?;
                let made = Self { folder, wrap, key, sealed: Mutex::default() };
                made.write(&BTreeSet::new()).map_err(|error| unusable(error.to_string()))?;
                return Ok(made);
            }
            (Err(error), _) => return Err(unusable(error.to_string())),
        };
        let stored: Stored = serde_json::from_slice(&text).map_err(|error| unlike(error.to_string()))?;
        if stored.version != VERSION {
            return Err(DataKeyError::Newer { path, found: stored.version });
        }
        let wrapped = BASE64_STANDARD.decode(&stored.key).map_err(|error| unlike(error.to_string()))?;
        let key = wrap.unwrap(&name(&stored.sealed), &wrapped).map_err(|error| match error {
            WrapError::Broken => DataKeyError::OtherKey { path: path.clone() },
            WrapError::Unavailable(_) => unusable(error.to_string()),
        })?;
        let key = key.try_into().map_err(|_| unlike("its key has another length".to_string()))?;
        Ok(Self { folder, wrap, key, sealed: Mutex::new(stored.sealed) })
    }

    /// The key itself.
    pub(crate) fn reveal(&self) -> &[u8; KEY] {
        &self.key
    }

    /// Whether every row of a database is known to be sealed.
    pub fn seals_all_of(&self, database: Database) -> bool {
        self.sealed.lock().unwrap_or_else(PoisonError::into_inner).contains(database.name())
    }

    /// Remembers, durably, that every row of a database is sealed.
    pub fn note_sealed(&self, database: Database) -> Result<(), DataKeyError> {
        let mut sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut more = sealed.clone();
        more.insert(database.name().to_string());
        self.write(&more).map_err(|error| DataKeyError::Unusable {
            path: Self::path(&self.folder).display().to_string(),
            reason: error.to_string(),
        })?;
        *sealed = more;
        Ok(())
    }

    /// Wraps it anew; what is sealed with it stays as it is.
    pub fn rewrap(&self, to: &dyn Wrap) -> Result<(), WrapError> {
        let sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        self.write_with(to, &sealed)
    }

    fn write(&self, sealed: &BTreeSet<String>) -> Result<(), WrapError> {
        self.write_with(&*self.wrap, sealed)
    }

    /// Whole or not there: a crash in between leaves what was.
    fn write_with(&self, wrap: &dyn Wrap, sealed: &BTreeSet<String>) -> Result<(), WrapError> {
        let wrapped = wrap.wrap(&name(sealed), &self.key)?;
        let stored =
            Stored { version: VERSION, sealed: sealed.clone(), key: BASE64_STANDARD.encode(wrapped) };
        let text = serde_json::to_vec(&stored).map_err(io::Error::other)?;
        Ok(replace_file(&Self::path(&self.folder), &text, Readers::Owner)?)
    }
}

/// What the key is wrapped under.
fn name(sealed: &BTreeSet<String>) -> String {
    let sealed: Vec<&str> = sealed.iter().map(String::as_str).collect();
    format!("data-key/{VERSION}/{}", sealed.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::KeyFile;

    fn wrap(folder: &Path, name: &str) -> Arc<dyn Wrap> {
        Arc::new(KeyFile::open(&folder.join(name), None).unwrap())
    }

    #[test]
    fn a_data_key_is_made_once_and_remembers_what_is_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let made = DataKey::open(at, wrap(at, "kek"), None).unwrap();
        assert!(!made.seals_all_of(Database::Case));
        made.note_sealed(Database::Case).unwrap();
        let again = DataKey::open(at, wrap(at, "kek"), Some("a row")).unwrap();
        assert_eq!(again.reveal(), made.reveal());
        assert!(again.seals_all_of(Database::Case) && !again.seals_all_of(Database::Bank));
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(at.join(FILE)).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        let text = fs::read(at.join(FILE)).unwrap();
        assert!(!text.windows(KEY).any(|window| window == made.reveal()));
    }

    #[test]
    fn a_wrong_a_missing_and_a_changed_one_are_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let says = |kek: &str, sealed| match DataKey::open(at, wrap(at, kek), sealed) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        assert!(says("kek", Some("the case database")).contains("the case database was sealed with it"));
        DataKey::open(at, wrap(at, "kek"), None).unwrap().note_sealed(Database::Case).unwrap();
        assert!(says("other", None).contains("does not open with this key file"));
        let text = fs::read_to_string(at.join(FILE)).unwrap();
        // Nobody can have plain rows taken again by taking a word out.
        fs::write(at.join(FILE), text.replace("\"case\"", "")).unwrap();
        assert!(says("kek", None).contains("does not open with this key file"));
        fs::write(at.join(FILE), text.replace("\"version\":1", "\"version\":2")).unwrap();
        assert!(says("kek", None).contains("run the newer hashward"));
        fs::write(at.join(FILE), &text[..40]).unwrap();
        assert!(says("kek", None).contains("does not read as a data key"));
        fs::write(at.join(FILE), &text).unwrap();
        assert_eq!(says("kek", None), "");
    }
}
