//! Secrets at rest: sealed with a key that lies in a file of its own, from the first one stored.
//!
//! [`Sealer`] is the seam for a key management service: whoever can seal and open takes its place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};

/// Bytes of a key.
const KEY: usize = 32;
/// Bytes of a nonce: enough that random ones never meet.
const NONCE: usize = 24;

/// Seals and opens.
pub struct Sealer(XChaCha20Poly1305);

/// Why a secret cannot be read. Never with its bytes.
#[derive(Debug, thiserror::Error)]
#[error(
    "a sealed secret does not open: the key file is another one, or the row is damaged; store the secret again"
)]
pub struct SealBroken;

impl Sealer {
    /// Reads the key file; makes it, readable by its owner alone, if there is none.
    pub fn open(path: &Path) -> io::Result<Self> {
        let stored = read_or_make(path, || {
            let mut key = [0; KEY];
            random(&mut key)?;
            Ok(key.to_vec())
        })?;
        let key: [u8; KEY] = stored.try_into().map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{} is no key of {KEY} bytes", path.display()))
        })?;
        Ok(Self(XChaCha20Poly1305::new(&key.into())))
    }

    /// Seals a secret; it opens only under the same `name`.
    pub fn seal(&self, name: &str, secret: &[u8]) -> io::Result<Vec<u8>> {
        let mut nonce = [0; NONCE];
        random(&mut nonce)?;
        let payload = Payload { msg: secret, aad: name.as_bytes() };
        let sealed =
            self.0.encrypt(&XNonce::from(nonce), payload).map_err(|_| io::Error::other("sealing failed"))?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Opens what [`Sealer::seal`] gave.
    pub fn unseal(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, SealBroken> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE>().ok_or(SealBroken)?;
        let payload = Payload { msg: sealed, aad: name.as_bytes() };
        self.0.decrypt(&XNonce::from(*nonce), payload).map_err(|_| SealBroken)
    }
}

/// Reads a key file; writes what `make` gives, readable by its owner alone, if there is none.
pub fn read_or_make(path: &Path, make: impl FnOnce() -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            // An empty file would be taken for a bad key at the next start.
            let made = make().inspect_err(|_| drop(fs::remove_file(path)))?;
            file.write_all(&made)?;
            file.sync_all()?;
            sync_folder(path)?;
            Ok(made)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::read(path),
        Err(error) => Err(error),
    }
}

/// Makes the name of a new file durable.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Fills with randomness of the system.
pub fn random(bytes: &mut [u8]) -> io::Result<()> {
    File::open("/dev/urandom")?.read_exact(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_with_its_key_and_name_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let sealed = Sealer::open(&path).unwrap().seal("ncmec", b"hunter2").unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        let again = Sealer::open(&path).unwrap();
        assert_eq!(again.unseal("ncmec", &sealed).unwrap(), b"hunter2");
        assert!(again.unseal("stop_ncii", &sealed).is_err() && again.unseal("ncmec", &sealed[..20]).is_err());
        let mut flipped = sealed.clone();
        flipped[30] ^= 1;
        assert!(again.unseal("ncmec", &flipped).is_err());
        let other = Sealer::open(&folder.path().join("other")).unwrap();
        assert!(other.unseal("ncmec", &sealed).is_err());
        fs::write(&path, "short").unwrap();
        assert!(Sealer::open(&path).is_err());
    }
}
