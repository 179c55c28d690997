//! Pictures to pixels, within limits that are checked before anything is decoded.
//!
//! The format is told by the content, never by a name. Supported: JPEG, PNG, WebP, GIF, BMP and TIFF; of several
//! frames the first, or with [`frames`] all.

use std::io::Cursor;
use std::ops::ControlFlow;

use image::codecs::gif::GifDecoder;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::error::{ImageError, LimitErrorKind};
use image::{AnimationDecoder, DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};
use serde::{Deserialize, Serialize};

/// What is read.
const FORMATS: [ImageFormat; 6] = [
    ImageFormat::Jpeg,
    ImageFormat::Png,
    ImageFormat::WebP,
    ImageFormat::Gif,
    ImageFormat::Bmp,
    ImageFormat::Tiff,
];

/// What a picture may cost.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of the file.
    pub bytes_max: usize,
    /// Pixels: width times height.
    pub pixels_max: u64,
    /// Bytes the decoder may allocate.
    pub memory_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes_max: 50 << 20, pixels_max: 100_000_000, memory_max: 512 << 20 }
    }
}

impl Limits {
    fn of_decoder(&self) -> image::Limits {
        let mut limits = image::Limits::no_limits();
        limits.max_alloc = Some(self.memory_max);
        limits
    }
}

/// Why a file gives no pixels.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// There is nothing.
    #[error("the file is empty")]
    Empty,
    /// The file is too large to look at.
    #[error("the file has {found} bytes, {max} are allowed")]
    Bytes {
        /// Its size.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// It is not a picture this build reads.
    #[error("the content is {found}; pictures are read as JPEG, PNG, WebP, GIF, BMP or TIFF")]
    Format {
        /// What the first bytes suggest.
        found: &'static str,
    },
    /// The picture would be too large.
    #[error("the picture is {width} x {height} pixels, {max} pixels are allowed")]
    Pixels {
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
        /// The limit.
        max: u64,
    },
    /// The decoder needs more memory than allowed.
    #[error("decoding the picture takes more memory than allowed")]
    Memory,
    /// It has too much to decode.
    #[error("decoding the picture takes longer than allowed")]
    Time,
    /// The file is cut or damaged.
    #[error("the picture is cut or damaged: {reason}")]
    Damaged {
        /// The decoder's words.
        reason: String,
    },
}

/// Whether a file begins as a picture that is read.
pub fn is_picture(bytes: &[u8]) -> bool {
    image::guess_format(bytes).is_ok_and(|format| FORMATS.contains(&format))
}

/// Decodes a picture to RGB. Alpha is dropped, grey is repeated, a palette resolved.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<RgbImage, MediaError> {
    let format = checked(bytes, limits)?;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits.of_decoder());
    Ok(reader.decode().map_err(fault)?.into_rgb8())
}

/// A picture as a JPEG of quality 90 with so many pixels at most; never enlarged.
pub fn shrink(bytes: &[u8], limits: &Limits, pixels_max: u32) -> Result<Vec<u8>, MediaError> {
    let picture = decode(bytes, limits)?;
    let (width, height) = picture.dimensions();
    let share = (f64::from(pixels_max) / (f64::from(width) * f64::from(height))).sqrt();
    let small = if share < 1.0 {
        let side = |pixels: u32| ((f64::from(pixels) * share) as u32).max(1);
        image::imageops::thumbnail(&picture, side(width), side(height))
    } else {
        picture
    };
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, 90).encode_image(&small).map_err(fault)?;
    Ok(jpeg)
}

/// The format, and that the picture keeps to the limits, before anything is decoded.
fn checked(bytes: &[u8], limits: &Limits) -> Result<ImageFormat, MediaError> {
    if bytes.is_empty() {
        return Err(MediaError::Empty);
    }
    if bytes.len() > limits.bytes_max {
        return Err(MediaError::Bytes { found: bytes.len(), max: limits.bytes_max });
    }
    let format = match image::guess_format(bytes) {
        Ok(format) if FORMATS.contains(&format) => format,
        Ok(other) => {
            return Err(MediaError::Format {
                found: other.extensions_str().first().copied().unwrap_or("unknown"),
            });
        }
        Err(_) => return Err(MediaError::Format { found: "of no known kind" }),
    };
    if format == ImageFormat::Jpeg && !jpeg_ends(bytes) {
        return Err(MediaError::Damaged { reason: "the end of the JPEG is missing".to_string() });
    }
    let (width, height) =
        ImageReader::with_format(Cursor::new(bytes), format).into_dimensions().map_err(fault)?;
    if u64::from(width) * u64::from(height) > limits.pixels_max {
        return Err(MediaError::Pixels { width, height, max: limits.pixels_max });
    }
    Ok(format)
}

/// Calls `frame` with each frame of an animated picture (GIF, WebP, PNG) and when it is shown, in milliseconds, until
/// it says that it is enough. Says whether the picture is animated; one that is not has no frames.
pub fn frames(
    bytes: &[u8],
    limits: &Limits,
    mut frame: impl FnMut(RgbImage, u32) -> ControlFlow<()>,
) -> Result<bool, MediaError> {
    let format = checked(bytes, limits)?;
    let file = Cursor::new(bytes);
    let frames = match format {
        ImageFormat::Gif => {
            let mut decoder = GifDecoder::new(file).map_err(fault)?;
            decoder.set_limits(limits.of_decoder()).map_err(fault)?;
            decoder.into_frames()
        }
        ImageFormat::WebP => {
            let mut decoder = WebPDecoder::new(file).map_err(fault)?;
            if !decoder.has_animation() {
                return Ok(false);
            }
            decoder.set_limits(limits.of_decoder()).map_err(fault)?;
            decoder.into_frames()
        }
        ImageFormat::Png => {
            let decoder = PngDecoder::with_limits(file, limits.of_decoder()).map_err(fault)?;
            if !decoder.is_apng().map_err(fault)? {
                return Ok(false);
            }
            decoder.apng().map_err(fault)?.into_frames()
        }
        _ => return Ok(false),
    };
    let (mut at_ms, mut count) = (0u32, 0);
    let mut held = None; // a GIF of one frame is a picture
    for decoded in frames {
        let decoded = decoded.map_err(fault)?;
        let (over, under) = decoded.delay().numer_denom_ms();
        let shown = (DynamicImage::from(decoded.into_buffer()).into_rgb8(), at_ms);
        at_ms = at_ms.saturating_add(over / under.max(1));
        count += 1;
        if let Some((picture, at)) = held.replace(shown)
            && frame(picture, at).is_break()
        {
            return Ok(true);
        }
    }
    if count > 1
        && let Some((picture, at)) = held
    {
        let _ = frame(picture, at); // the last one: whether it is enough makes no difference
    }
    Ok(count > 1)
}

/// Whether a JPEG goes on to its end-of-image marker. A decoder paints what is missing grey and says nothing: the hash
/// would be that of another picture.
fn jpeg_ends(bytes: &[u8]) -> bool {
    let mut at = 2; // behind start-of-image
    loop {
        // Fill bytes, and the scan's own data with its stuffed zeroes and restarts, lie before the next marker.
        let Some(skip) = bytes.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == 0xff)) else {
            return false;
        };
        at += skip + 1;
        match bytes.get(at) {
            None => return false,
            Some(0xd9) => return true,
            Some(0xff) => {}
            Some(0x00 | 0x01 | 0xd0..=0xd8) => at += 1,
            Some(_) => {
                let Some(&[high, low]) = bytes.get(at + 1..at + 3) else { return false };
                at += 1 + usize::from(u16::from_be_bytes([high, low]));
            }
        }
    }
}

fn fault(error: ImageError) -> MediaError {
    match error {
        ImageError::Limits(error) if matches!(error.kind(), LimitErrorKind::InsufficientMemory) => {
            MediaError::Memory
        }
        other => MediaError::Damaged { reason: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(width: u32, height: u32) -> Vec<u8> {
        let picture = RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, (x * y) as u8]));
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn each_fault_is_named() {
        let limits = Limits { bytes_max: 4000, pixels_max: 500, memory_max: 1 << 20 };
        let says = |bytes: &[u8], limits: &Limits| decode(bytes, limits).unwrap_err().to_string();
        assert_eq!(says(b"", &limits), "the file is empty");
        assert_eq!(says(&[0; 5000], &limits), "the file has 5000 bytes, 4000 are allowed");
        assert!(says(b"\0\0\x01\0...........", &limits).contains("is ico; pictures are read as JPEG, PNG"));
        assert!(says(b"just some text, no picture", &limits).contains("of no known kind"));
        assert_eq!(says(&png(30, 20), &limits), "the picture is 30 x 20 pixels, 500 pixels are allowed");
        let whole = png(20, 20);
        assert!(decode(&whole, &limits).is_ok());
        assert!(says(&whole[..whole.len() / 2], &limits).starts_with("the picture is cut or damaged"));
        let tight = Limits { memory_max: 100, ..limits };
        assert!(decode(&whole, &tight).is_err());
    }

    #[test]
    fn a_picture_that_is_cut_is_refused_in_every_format() {
        let picture = image::DynamicImage::from(RgbImage::from_fn(200, 150, |x, y| {
            image::Rgb([(x * y) as u8, (x * 5) as u8, (y * 3) as u8])
        }));
        for format in FORMATS {
            let mut bytes = Cursor::new(Vec::new());
            picture.write_to(&mut bytes, format).unwrap();
            let bytes = bytes.into_inner();
            assert!(decode(&bytes, &Limits::default()).is_ok(), "{format:?}");
            for share in [1, 3, 5, 9] {
                let cut = &bytes[..bytes.len() * share / 10];
                assert!(decode(cut, &Limits::default()).is_err(), "{format:?}, {share} tenths");
            }
        }
    }

    fn gif(shades: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
        for shade in shades {
            let picture = image::RgbaImage::from_pixel(8, 8, image::Rgba([*shade, 0, 0, 255]));
            let delay = image::Delay::from_numer_denom_ms(500, 1);
            encoder.encode_frame(image::Frame::from_parts(picture, 0, 0, delay)).unwrap();
        }
        drop(encoder);
        bytes
    }

    #[test]
    fn every_frame_of_an_animated_picture_is_given_with_its_time() {
        let seen = |bytes: &[u8], most: usize| {
            let mut seen = Vec::new();
            let animated = frames(bytes, &Limits::default(), |picture, at_ms| {
                seen.push((picture.get_pixel(3, 3).0[0], at_ms));
                if seen.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            (animated.unwrap(), seen)
        };
        assert_eq!(seen(&gif(&[10, 200, 90]), 9), (true, vec![(10, 0), (200, 500), (90, 1000)]));
        assert_eq!(seen(&gif(&[10, 200, 90]), 2), (true, vec![(10, 0), (200, 500)]));
        assert_eq!(seen(&gif(&[10]), 9), (false, vec![]));
        assert_eq!(seen(&png(9, 9), 9), (false, vec![]));
        let cut = gif(&[10, 200, 90]);
        let cut = &cut[..cut.len() - 30];
        assert!(frames(cut, &Limits::default(), |_, _| ControlFlow::Continue(())).is_err());
    }

    proptest::proptest! {
        #[test]
        fn a_spoilt_picture_is_an_error_or_pixels_never_a_panic(at in 0usize..2000, value: u8, cut in 0usize..2000) {
            let mut bytes = png(20, 20);
            let length = bytes.len();
            bytes[at % length] = value;
            bytes.truncate(length - cut % length);
            let _ = decode(&bytes, &Limits::default());
        }
    }
}
