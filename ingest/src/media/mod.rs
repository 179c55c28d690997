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

pub use decode::{Limits, MediaError, decode};
pub use pdq::Pdq;

/// Hashes a picture with PDQ.
pub fn hash_picture(bytes: &[u8], limits: &Limits) -> Result<Pdq, MediaError> {
    let picture = decode(bytes, limits)?;
    Ok(pdq::hash(picture.as_raw(), picture.width() as usize, picture.height() as usize))
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
