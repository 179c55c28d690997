//! From media to signals: decode within limits, then hash.

#[cfg(feature = "cage")]
pub mod cage;
mod decode;
pub mod digest;
#[cfg(feature = "fetch")]
pub mod fetch;
pub mod pdq;
#[cfg(feature = "cage")]
pub mod video;

use std::ops::ControlFlow;
use std::time::Instant;

use index::Frame;

pub use decode::{Limits, MediaError, decode, is_picture, shrink};
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

/// Hashes the frames of an animated picture, at most so many and until then; `None` if it is not animated. A small file
/// may hold very many large frames.
pub fn hash_frames(
    bytes: &[u8],
    limits: &Limits,
    most: usize,
    deadline: Instant,
) -> Result<Option<Vec<Frame>>, MediaError> {
    let (mut hashed, mut late) = (Vec::new(), false);
    let animated = decode::frames(bytes, limits, |picture, time_ms| {
        late = Instant::now() >= deadline;
        if late {
            return ControlFlow::Break(());
        }
        let Pdq { hash, quality } =
            pdq::hash(picture.as_raw(), picture.width() as usize, picture.height() as usize);
        hashed.push(Frame { hash, quality, time_ms });
        if hashed.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    if late { Err(MediaError::Time) } else { Ok(animated.then_some(hashed)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn very_many_frames_are_given_up_in_time() {
        let mut gif = Vec::new();
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut gif);
        for shade in 0..20 {
            let picture = image::RgbaImage::from_pixel(64, 64, image::Rgba([shade, 0, 0, 255]));
            encoder.encode_frame(image::Frame::new(picture)).unwrap();
        }
        drop(encoder);
        let (limits, now) = (Limits::default(), Instant::now());
        assert!(matches!(hash_frames(&gif, &limits, 100, now), Err(MediaError::Time)));
        let later = now + Duration::from_secs(60);
        assert_eq!(hash_frames(&gif, &limits, 100, later).unwrap().unwrap().len(), 20);
        assert_eq!(hash_frames(&gif, &limits, 7, later).unwrap().unwrap().len(), 7);
    }
}
