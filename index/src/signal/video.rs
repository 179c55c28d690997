//! vPDQ: a video as the PDQ hashes of some of its frames.
//!
//! The text form is HMA's: a JSON list of `"hash,quality,seconds"` (HMA API, signal types). The binary form is 37 bytes
//! a frame: hash, quality u8, milliseconds u32.

use std::fmt;
use std::sync::Arc;

use super::{Hash256, Signal, SignalError, SignalType};

/// Frames of one signal at most: two and a half hours at one a second.
pub const FRAMES_MAX: usize = 10_000;
pub(super) const FRAME_BYTES: usize = 37;

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frame {
    /// Its PDQ hash.
    pub hash: Hash256,
    /// 0 to 100: how much there is to tell it by.
    pub quality: u8,
    /// When it is shown, in milliseconds from the beginning.
    pub time_ms: u32,
}

impl Frame {
    /// The hashes of the frames of at least this quality, each once, in their order: what a video is matched by.
    pub fn hashes(frames: &[Frame], quality_min: u8) -> Vec<Hash256> {
        let mut seen = std::collections::HashSet::with_capacity(frames.len());
        let good = frames.iter().filter(|frame| frame.quality >= quality_min).map(|frame| frame.hash);
        good.filter(|hash| seen.insert(*hash)).collect()
    }
}

fn wrong(reason: impl Into<String>) -> SignalError {
    SignalError::Text { kind: SignalType::Vpdq, reason: reason.into() }
}

pub(super) fn parse(text: &str) -> Result<Arc<[Frame]>, SignalError> {
    let rows: Vec<String> = serde_json::from_str(text)
        .map_err(|_| wrong("it is a JSON list of \"hash,quality,seconds\", a text for each frame"))?;
    if rows.len() > FRAMES_MAX {
        return Err(wrong(format!("it has {} frames, {FRAMES_MAX} are allowed", rows.len())));
    }
    let frame = |(at, row): (usize, &String)| {
        parse_frame(row).map_err(|reason| wrong(format!("frame {}: {reason}", at + 1)))
    };
    rows.iter().enumerate().map(frame).collect()
}

fn parse_frame(row: &str) -> Result<Frame, String> {
    let mut fields = row.split(',');
    let (Some(hash), Some(quality), Some(seconds), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err("it is \"hash,quality,seconds\"".to_string());
    };
    let Signal::Pdq(hash) = Signal::parse(SignalType::Pdq, hash).map_err(|error| error.to_string())? else {
        return Err("its hash is no PDQ hash".to_string());
    };
    let quality = quality.trim().parse().ok().filter(|quality| *quality <= 100);
    let quality = quality.ok_or("quality is 0 to 100")?;
    let seconds: Option<f64> = seconds.trim().parse().ok();
    let seconds = seconds.filter(|seconds| (0.0..=f64::from(u32::MAX) / 1000.0).contains(seconds));
    let seconds = seconds.ok_or("its time is a number of seconds, 0 or more")?;
    Ok(Frame { hash, quality, time_ms: (seconds * 1000.0).round() as u32 })
}

pub(super) fn read(bytes: &[u8]) -> Result<Arc<[Frame]>, SignalError> {
    let (frames, rest) = bytes.as_chunks::<FRAME_BYTES>();
    if !rest.is_empty() || frames.len() > FRAMES_MAX {
        return Err(wrong(format!("{} bytes are not whole frames", bytes.len())));
    }
    let frame = |bytes: &[u8; FRAME_BYTES]| {
        let (mut hash, mut time) = ([0; 32], [0; 4]);
        hash.copy_from_slice(&bytes[..32]);
        time.copy_from_slice(&bytes[33..]);
        Frame { hash: Hash256(hash), quality: bytes[32], time_ms: u32::from_be_bytes(time) }
    };
    if let Some(at) = frames.iter().position(|bytes| bytes[32] > 100) {
        return Err(wrong(format!("frame {}: quality is 0 to 100", at + 1)));
    }
    Ok(frames.iter().map(frame).collect())
}

pub(super) fn write(frames: &[Frame], into: &mut Vec<u8>) {
    for frame in frames {
        into.extend_from_slice(&frame.hash.0);
        into.push(frame.quality);
        into.extend_from_slice(&frame.time_ms.to_be_bytes());
    }
}

/// Seconds are printed with as many digits as they need, one at least.
pub(super) fn show(frames: &[Frame], out: &mut fmt::Formatter<'_>) -> fmt::Result {
    out.write_str("[")?;
    for (at, frame) in frames.iter().enumerate() {
        let (comma, seconds) = (if at > 0 { "," } else { "" }, f64::from(frame.time_ms) / 1000.0);
        write!(out, "{comma}\"{:?},{},{seconds:?}\"", frame.hash, frame.quality)?;
    }
    out.write_str("]")
}
