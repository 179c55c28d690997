//! Picture decoders, each by itself: a mutation that turns one format into another teaches the fuzzer nothing.
//!
//! The decoders are those of the `image` crates. Some inputs are known to make them panic; `tests/corpus.rs` names them.

use std::time::{Duration, Instant};

use ingest::media::{self, Limits};

/// Small, so that an input costs milliseconds.
const LIMITS: Limits = Limits { bytes_max: 1 << 20, pixels_max: 1 << 18, memory_max: 32 << 20 };
const FRAMES_MAX: usize = 8;
const ANIMATION_MAX: Duration = Duration::from_secs(2);

/// JPEG.
pub fn jpeg(bytes: &[u8]) {
    decode(bytes, bytes.starts_with(&[0xff, 0xd8]));
}

/// PNG and APNG.
pub fn png(bytes: &[u8]) {
    decode(bytes, bytes.starts_with(b"\x89PNG"));
}

/// WebP, animated or not.
pub fn webp(bytes: &[u8]) {
    decode(bytes, bytes.starts_with(b"RIFF"));
}

/// GIF, animated or not.
pub fn gif(bytes: &[u8]) {
    decode(bytes, bytes.starts_with(b"GIF8"));
}

/// BMP.
pub fn bmp(bytes: &[u8]) {
    decode(bytes, bytes.starts_with(b"BM"));
}

/// TIFF of both byte orders.
pub fn tiff(bytes: &[u8]) {
    decode(bytes, bytes.starts_with(b"II*\0") || bytes.starts_with(b"MM\0*"));
}

fn decode(bytes: &[u8], of_format: bool) {
    if !of_format {
        return;
    }
    if let Ok(picture) = media::decode(bytes, &LIMITS) {
        assert!(u64::from(picture.width()) * u64::from(picture.height()) <= LIMITS.pixels_max);
        let hashed = media::hash_picture(bytes, &LIMITS).expect("it was decoded a moment ago");
        assert!(hashed.quality <= 100);
    }
    if let Ok(Some(frames)) = media::hash_frames(bytes, &LIMITS, FRAMES_MAX, Instant::now() + ANIMATION_MAX) {
        assert!(frames.len() <= FRAMES_MAX);
    }
}
