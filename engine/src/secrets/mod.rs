//! Secrets at rest, in two layers: whoever can [`Wrap`] keeps a few small secrets, and one of those, the data key, seals
//! all the rest.
//!
//! [`Wrap`] is the seam for a key management service. Here it is a [`KeyFile`]. It wraps exchanges' credentials, the
//! [`DataKey`] of the databases, and the key of each piece of evidence; so changing it means wrapping those anew, and
//! none of the data. A key is made where nothing was sealed yet, and never over something that it could not open.

mod data_key;
mod key_file;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use index::store::whole_file::{Readers, create_file};

pub use data_key::{DataKey, DataKeyError};
pub use key_file::{KeyFile, KeyFileError};

/// Bytes of every key here.
pub const KEY: usize = 32;

/// Wraps and unwraps small secrets with a key that it never gives out.
pub trait Wrap: Send + Sync {
    /// Wraps a secret; it is unwrapped under the same `name` only.
    fn wrap(&self, name: &str, secret: &[u8]) -> Result<Vec<u8>, WrapError>;

    /// Gives back what was wrapped under this name.
    fn unwrap(&self, name: &str, wrapped: &[u8]) -> Result<Vec<u8>, WrapError>;
}

/// Why a secret is not wrapped, or not unwrapped. Never with its bytes.
#[derive(Debug, thiserror::Error)]
pub enum WrapError {
    /// It does not open.
    #[error("it does not open: it was sealed with another key, or it is damaged")]
    Broken,
    /// Whoever holds the key does not answer.
    #[error("the key cannot be used ({0}): try again when it can")]
    Unavailable(#[from] io::Error),
}

/// Reads a file with a key; writes what `make` gives if there is none.
pub fn read_or_make(path: &Path, make: impl FnOnce() -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = make()?;
            create_file(path, &made, Readers::Owner)?;
            Ok(made)
        }
        read => read,
    }
}

/// Fills these bytes from the system's source of randomness.
pub fn random(bytes: &mut [u8]) -> io::Result<()> {
    File::open("/dev/urandom")?.read_exact(bytes)
}
