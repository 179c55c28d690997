//! The key in a file: the simplest that can [`Wrap`].

use std::fs;
use std::io;
use std::path::Path;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};

use index::store::whole_file::{Readers, create_file};

use super::{KEY, Wrap, WrapError, random};

/// Bytes of a nonce: enough that random ones never meet.
const NONCE: usize = 24;

/// Wraps with XChaCha20-Poly1305 under the key of a file.
pub struct KeyFile(XChaCha20Poly1305);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It is not there, although something was sealed with it.
    #[error(
        "key file {path} is missing, and {what} was sealed with it: put it back from where it is kept safe, or name \
         its place with --key-file; no new key is made, because it would open nothing"
    )]
    Missing {
        /// Where it should be.
        path: String,
        /// What only it opens.
        what: String,
    },
    /// What is there is no key.
    #[error("key file {path} is no key of {KEY} bytes: put the right file back")]
    Unlike {
        /// Where it is.
        path: String,
    },
    /// It cannot be read, or made.
    #[error("key file {path} cannot be used: {reason}")]
    Unusable {
        /// Where it is.
        path: String,
        /// Why, in the system's words.
        reason: io::Error,
    },
}

impl KeyFile {
    /// Reads the key. Makes it, readable by its owner alone, if there is none and `sealed` names nothing that an older one
    /// would be needed for.
    pub fn open(path: &Path, sealed: Option<&str>) -> Result<Self, KeyFileError> {
        let shown = || path.display().to_string();
        let key = match (fs::read(path), sealed) {
            (Ok(stored), _) => stored.try_into().map_err(|_| KeyFileError::Unlike { path: shown() })?,
            (Err(error), Some(what)) if error.kind() == io::ErrorKind::NotFound => {
                return Err(KeyFileError::Missing { path: shown(), what: what.to_string() });
            }
            (Err(error), None) if error.kind() == io::ErrorKind::NotFound => {
                make(path).map_err(|reason| KeyFileError::Unusable { path: shown(), reason })?
            }
            (Err(reason), _) => return Err(KeyFileError::Unusable { path: shown(), reason }),
        };
        Ok(Self(XChaCha20Poly1305::new(&key.into())))
    }
}

fn make(path: &Path) -> io::Result<[u8; KEY]> {
    let mut key = [0; KEY];
    random(&mut key)?;
    // Durable before anything hangs on it: a power cut must not leave data without its key.
    create_file(path, &key, Readers::Owner)?;
    Ok(key)
}

impl Wrap for KeyFile {
    fn wrap(&self, name: &str, secret: &[u8]) -> Result<Vec<u8>, WrapError> {
        let mut nonce = [0; NONCE];
        random(&mut nonce)?;
        let payload = Payload { msg: secret, aad: name.as_bytes() };
        let sealed =
            self.0.encrypt(&XNonce::from(nonce), payload).map_err(|_| io::Error::other("sealing failed"))?;
        Ok([&nonce[..], &sealed].concat())
    }

    fn unwrap(&self, name: &str, wrapped: &[u8]) -> Result<Vec<u8>, WrapError> {
        let (nonce, sealed) = wrapped.split_first_chunk::<NONCE>().ok_or(WrapError::Broken)?;
        let payload = Payload { msg: sealed, aad: name.as_bytes() };
        self.0.decrypt(&XNonce::from(*nonce), payload).map_err(|_| WrapError::Broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_with_its_key_and_name_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let open = |path: &Path| KeyFile::open(path, None).unwrap();
        let sealed = open(&path).wrap("ncmec", b"hunter2").unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        let again = open(&path);
        assert_eq!(again.unwrap("ncmec", &sealed).unwrap(), b"hunter2");
        assert!(again.unwrap("stop_ncii", &sealed).is_err() && again.unwrap("ncmec", &sealed[..20]).is_err());
        let mut flipped = sealed.clone();
        flipped[30] ^= 1;
        assert!(again.unwrap("ncmec", &flipped).is_err());
        assert!(open(&folder.path().join("other")).unwrap("ncmec", &sealed).is_err());
    }

    #[test]
    fn a_secret_of_the_first_version_opens_still() {
        // Sealed by the version that had credentials alone, with a key of 32 sevens.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, [7; KEY]).unwrap();
        let nonce = [9; NONCE];
        let payload = Payload { msg: &b"{\"user\":\"x\"}"[..], aad: b"ncmec" };
        let cipher = XChaCha20Poly1305::new(&[7; KEY].into());
        let sealed = [&nonce[..], &cipher.encrypt(&XNonce::from(nonce), payload).unwrap()].concat();
        let file = KeyFile::open(&path, Some("a credential")).unwrap();
        assert_eq!(file.unwrap("ncmec", &sealed).unwrap(), b"{\"user\":\"x\"}");
    }

    #[test]
    fn a_key_is_made_only_where_nothing_needs_an_older_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let error = KeyFile::open(&path, Some("data.key")).err().unwrap().to_string();
        assert!(error.contains("is missing, and data.key was sealed with it"), "{error}");
        assert!(!path.exists());
        KeyFile::open(&path, None).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
        assert_eq!((fs::read(&path).unwrap().len(), mode & 0o777), (KEY, 0o600));
        fs::write(&path, "short").unwrap();
        assert!(KeyFile::open(&path, None).err().unwrap().to_string().contains("is no key of 32 bytes"));
    }
}
