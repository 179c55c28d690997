//! From media to signals: decode within limits, then hash.

mod decode;
pub mod digest;
#[cfg(feature = "fetch")]
pub mod fetch;
pub mod pdq;
#[cfg(feature = "video")]
pub mod video;

use std::ops::ControlFlow;

use index::Frame;

pub use decode::{Limits, MediaError, decode, is_picture};
pub use pdq::Pdq;

/// Hashes a picture with PDQ.
pub fn hash_picture(bytes: &[u8], limits: &Limits) -> Result<Pdq, MediaError> {
    let picture = decode(bytes, limits)?;
    Ok(pdq::hash(picture.as_raw(), picture.width() as usize, picture.height() as usize))
}

/// Whether a file begins as the usual containers of videos do.
pub fn is_video(bytes: &[u8]) -> bool {
    let at = |from: usize, magic: &[u8]| bytes.get(from..).is_some_and(|rest| rest.starts_with(magic));
    at(4, b"ftyp")
        || at(0, &[0x1a, 0x45, 0xdf, 0xa3]) // Matroska, WebM
        || (at(0, b"RIFF") && at(8, b"AVI "))
        || at(0, b"FLV\x01")
        || at(0, b"OggS")
        || at(0, &[0, 0, 1, 0xba]) // MPEG programme stream
        || (at(0, &[0x47]) && at(188, &[0x47])) // MPEG transport stream
        || at(0, &[0x30, 0x26, 0xb2, 0x75]) // ASF, WMV
}

/// Hashes the frames of an animated picture, at most so many; `None` if it is not animated.
pub fn hash_frames(bytes: &[u8], limits: &Limits, most: usize) -> Result<Option<Vec<Frame>>, MediaError> {
    let mut hashed = Vec::new();
    let animated = decode::frames(bytes, limits, |picture, time_ms| {
        let Pdq { hash, quality } =
            pdq::hash(picture.as_raw(), picture.width() as usize, picture.height() as usize);
        hashed.push(Frame { hash, quality, time_ms });
        if hashed.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(animated.then_some(hashed))
}
