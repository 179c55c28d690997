//! The Ed25519 key that signs the audit log's heads. Its public half lies beside it, for operators to copy elsewhere: who
//! makes a new key makes another public half, and every head that was signed before tells.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use index::store::whole_file::{Readers, replace_file};
use reporter::audit::Hex;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::secrets::read_or_make;

/// Signs heads.
pub struct AuditKey {
    pair: Ed25519KeyPair,
    public: Hex<32>,
}

impl AuditKey {
    /// Reads the key file, and makes it with its public half, which `readers` may read, if there is none.
    pub fn open(path: &Path, readers: Readers) -> io::Result<Self> {
        let public = public_file(path);
        if !path.exists() && read_public(&public).is_ok() {
            let text = format!(
                "{} is missing, although its public half {} is there: put the key back from a backup, or move that file and \
                 the heads file away together",
                path.display(),
                public.display()
            );
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        let stored = read_or_make(path, || {
            let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
            made.map(|key| key.as_ref().to_vec()).map_err(|_| io::Error::other("no key could be made"))
        })?;
        let key = Self::read(path, &stored)?;
        key.keep_public(&public, readers)?;
        Ok(key)
    }

    /// Looks at a key file, which is not made: what is wrong with it would keep the server from its start.
    pub fn check(path: &Path) -> io::Result<()> {
        let key = Self::read(path, &fs::read(path)?)?;
        match read_public(&public_file(path)) {
            Ok(found) if found != key.public => Err(key.replaced(&public_file(path))),
            _ => Ok(()), // a start writes it anew
        }
    }

    fn read(path: &Path, stored: &[u8]) -> io::Result<Self> {
        let wrong = |reason: &str| {
            let text = format!("{} is no Ed25519 key in PKCS #8 ({reason})", path.display());
            io::Error::new(io::ErrorKind::InvalidData, text)
        };
        let pair = Ed25519KeyPair::from_pkcs8(stored).map_err(|error| wrong(&error.to_string()))?;
        let half = pair.public_key().as_ref().try_into().map_err(|_| wrong("its public half is cut"))?;
        Ok(Self { pair, public: Hex(half) })
    }

    fn replaced(&self, public: &Path) -> io::Error {
        let text = format!(
            "{} is another key's public half: the key was replaced; restore it, or move that file and the heads file away \
             together",
            public.display()
        );
        io::Error::new(io::ErrorKind::InvalidData, text)
    }

    /// Writes the public half where there is none, or where what is there is no key: it follows from the key, and a
    /// crash of a program before this one could leave a part of it.
    fn keep_public(&self, path: &Path, readers: Readers) -> io::Result<()> {
        match read_public(path) {
            Ok(found) if found == self.public => Ok(()),
            Ok(_) => Err(self.replaced(path)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                if error.kind() == io::ErrorKind::InvalidData {
                    tracing::warn!(%error, "the public half of the audit key is written anew");
                }
                replace_file(path, format!("{}\n", self.public).as_bytes(), readers)
            }
            Err(error) => Err(error),
        }
    }

    /// The public half.
    pub fn public(&self) -> Hex<32> {
        self.public
    }

    /// Signs.
    pub fn sign(&self, bytes: &[u8]) -> Hex<64> {
        let mut signature = [0; 64];
        // ring's type has room for other algorithms; Ed25519 fills 64 bytes.
        signature.copy_from_slice(self.pair.sign(bytes).as_ref());
        Hex(signature)
    }
}

/// Whether the holder of this key has signed these bytes.
pub fn is_genuine(public: &Hex<32>, bytes: &[u8], signature: &Hex<64>) -> bool {
    UnparsedPublicKey::new(&ED25519, public.0).verify(bytes, &signature.0).is_ok()
}

/// Where the public half of a key file lies.
pub fn public_file(key_file: &Path) -> PathBuf {
    key_file.with_extension("pub")
}

/// Reads a public half: 64 digits of hex.
pub fn read_public(path: &Path) -> io::Result<Hex<32>> {
    let text = fs::read_to_string(path)?;
    text.trim().parse().map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{} is no public key: {error}", path.display()))
    })
}
