//! From media to signals: decode within limits, then hash.

mod decode;
pub mod digest;
#[cfg(feature = "fetch")]
pub mod fetch;
pub mod pdq;

pub use decode::{Limits, MediaError, decode};
pub use pdq::Pdq;

/// Hashes a picture with PDQ.
pub fn hash_picture(bytes: &[u8], limits: &Limits) -> Result<Pdq, MediaError> {
    let picture = decode(bytes, limits)?;
    Ok(pdq::hash(picture.as_raw(), picture.width() as usize, picture.height() as usize))
}
