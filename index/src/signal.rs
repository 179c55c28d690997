//! What is matched: signal types, their text form, their distance, and the ids a match names.
//!
//! Text is parsed once, at the edge; inside, a [`Signal`] is always valid. The rules for each type are
//! those of HMA's signal types, so that a hash list which HMA takes means the same here.

mod kind;
pub mod text;
mod video;

use std::fmt;
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use kind::{SignalError, SignalType};
pub use video::{FRAMES_MAX, Frame};

/// 256 bits in the order their text has them: byte 0 holds the first two digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
#[repr(C, align(32))]
pub struct Hash256(pub [u8; 32]);

impl Hash256 {
    /// The four words the kernels work on. Their byte order is the machine's; distances do not depend on it.
    pub const fn words(&self) -> [u64; 4] {
        bytemuck::must_cast(self.0)
    }

    /// Bits in which two hashes differ.
    pub const fn distance(&self, other: &Self) -> Distance {
        let (a, b) = (self.words(), other.words());
        let bits = (a[0] ^ b[0]).count_ones()
            + (a[1] ^ b[1]).count_ones()
            + (a[2] ^ b[2]).count_ones()
            + (a[3] ^ b[3]).count_ones();
        Distance(bits as u16)
    }
}

impl fmt::Debug for Hash256 {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, out)
    }
}

/// A digest in the order its text has it; one of less than 32 bytes ends in zeroes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
#[repr(C, align(32))]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes, at most 32.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut digest = [0; 32];
        digest.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self(digest))
    }

    /// All 32 bytes, zeroes included.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, out)
    }
}

/// Bytes of a URL or a text at most.
pub const TEXT_BYTES_MAX: usize = 64 << 10;

/// One valid signal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    /// A PDQ hash.
    Pdq(Hash256),
    /// A digest of this type, which is one of [`SignalType::EXACT`] and not a URL.
    Exact(SignalType, Digest),
    /// A URL or a text.
    Text(SignalType, Arc<str>),
    /// The frames of a video, in order.
    Video(Arc<[Frame]>),
}

impl Signal {
    /// Reads the text form as HMA does: PDQ takes 64 lower-case hex digits and nothing around them;
    /// digests are trimmed and lower-cased first, URLs trimmed; a vPDQ signal is a JSON list of `"hash,quality,seconds"`.
    pub fn parse(kind: SignalType, text: &str) -> Result<Self, SignalError> {
        match (kind, kind.bytes()) {
            (SignalType::Vpdq, _) => Ok(Self::Video(video::parse(text)?)),
            (SignalType::Url, _) => Self::text(kind, text.trim()),
            (_, None) => Self::text(kind, text),
            (SignalType::Pdq, Some(length)) => {
                Self::from_bytes(kind, &read_hex(kind, length, text, "lower-case hex digits")?[..length])
            }
            (_, Some(length)) => {
                let text = text.trim().to_ascii_lowercase();
                Self::from_bytes(kind, &read_hex(kind, length, &text, "hex digits")?[..length])
            }
        }
    }

    fn text(kind: SignalType, text: &str) -> Result<Self, SignalError> {
        let reason = if text.is_empty() {
            "it is empty".to_string()
        } else if text.len() > TEXT_BYTES_MAX {
            format!("it has {} bytes, {TEXT_BYTES_MAX} are allowed", text.len())
        } else {
            return Ok(Self::Text(kind, text.into()));
        };
        Err(SignalError::Text { kind, reason })
    }

    /// Reads the binary form.
    pub fn from_bytes(kind: SignalType, bytes: &[u8]) -> Result<Self, SignalError> {
        let Some(expected) = kind.bytes() else {
            if kind == SignalType::Vpdq {
                return Ok(Self::Video(video::read(bytes)?));
            }
            let text = std::str::from_utf8(bytes)
                .map_err(|_| SignalError::Text { kind, reason: "it is not UTF-8".to_string() })?;
            return Self::text(kind, text);
        };
        let wrong = || SignalError::Bytes { kind, expected, found: bytes.len() };
        match (kind, Digest::new(bytes).filter(|_| bytes.len() == expected)) {
            (_, None) => Err(wrong()),
            (SignalType::Pdq, Some(Digest(bytes))) => Ok(Self::Pdq(Hash256(bytes))),
            (kind, Some(digest)) => Ok(Self::Exact(kind, digest)),
        }
    }

    /// Bytes of the binary form.
    pub fn binary_len(&self) -> usize {
        match self {
            Signal::Pdq(hash) => hash.0.len(),
            Signal::Exact(kind, digest) => kind.bytes().unwrap_or(digest.0.len()),
            Signal::Text(_, text) => text.len(),
            Signal::Video(frames) => frames.len() * video::FRAME_BYTES,
        }
    }

    /// Appends the binary form.
    pub fn write(&self, into: &mut Vec<u8>) {
        match self {
            Signal::Pdq(hash) => into.extend_from_slice(&hash.0),
            Signal::Exact(kind, digest) => into.extend_from_slice(&digest.0[..kind.bytes().unwrap_or(32)]),
            Signal::Text(_, text) => into.extend_from_slice(text.as_bytes()),
            Signal::Video(frames) => video::write(frames, into),
        }
    }

    /// What signals that are compared whole are compared by; `None` for the others.
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Signal::Exact(_, digest) => Some(*digest),
            Signal::Text(SignalType::Url, url) => Some(Digest(Sha256::digest(url.as_bytes()).into())),
            _ => None,
        }
    }

    /// Which type it is of.
    pub const fn kind(&self) -> SignalType {
        match self {
            Signal::Pdq(_) => SignalType::Pdq,
            Signal::Exact(kind, _) | Signal::Text(kind, _) => *kind,
            Signal::Video(_) => SignalType::Vpdq,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Signal::Pdq(hash) => write_hex(&hash.0, out),
            Signal::Exact(kind, digest) => write_hex(&digest.0[..kind.bytes().unwrap_or(32)], out),
            Signal::Text(_, text) => out.write_str(text),
            Signal::Video(frames) => video::show(frames, out),
        }
    }
}

fn write_hex(bytes: &[u8], out: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
}

/// Reads so many bytes; those behind them are zero.
fn read_hex(
    kind: SignalType,
    length: usize,
    text: &str,
    digits: &'static str,
) -> Result<[u8; 32], SignalError> {
    let nibble = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    // The character first: 'not a digit' helps more than a length counted over it.
    if let Some((at, found)) =
        text.chars().enumerate().find(|(_, c)| !c.is_ascii() || nibble(*c as u8).is_none())
    {
        return Err(SignalError::Digit { kind, digits, at: at + 1, found });
    }
    if text.len() != 2 * length {
        return Err(SignalError::Length { kind, expected: 2 * length, found: text.len() });
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        // Both were checked above; 0 stands for a digit that cannot occur.
        *byte = nibble(pair[0]).unwrap_or(0) << 4 | nibble(pair[1]).unwrap_or(0);
    }
    Ok(bytes)
}

/// Bits that may differ. More than half of 256 would match anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Distance(u16);

impl Distance {
    /// Half of 256 bits: two unrelated hashes are as likely below as above.
    pub const MAX: Distance = Distance(128);

    /// A threshold of this many bits; none above [`Distance::MAX`].
    pub const fn new(bits: u16) -> Option<Self> {
        if bits <= Self::MAX.0 { Some(Self(bits)) } else { None }
    }

    /// A distance that was counted: up to 256 bits, where [`Distance::new`] takes thresholds only.
    pub(crate) const fn counted(bits: u16) -> Self {
        Self(bits)
    }

    /// The number of bits.
    pub const fn bits(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Distance {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(out)
            }
        }
    };
}
pub(crate) use number;

number! {
    /// A bank. Given out in order, never reused: a deleted bank's id stays dead.
    BankId(u32)
}
number! {
    /// A banked content: one piece of known material with up to one signal a type. Serial over all banks
    /// (as in HMA), never reused.
    ContentId(u64)
}
number! {
    /// Counts the changes to banks. An answer that carries generation g saw every change up to g.
    Generation(u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(signal: &Signal) -> Vec<u8> {
        let mut bytes = Vec::new();
        signal.write(&mut bytes);
        assert_eq!(bytes.len(), signal.binary_len());
        bytes
    }

    #[test]
    fn texts_and_frames_read_back_and_what_they_are_not_is_said() {
        let frame = "f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22";
        let video = format!(r#"["{frame},100,0.0","{frame},49,12.345"]"#);
        for (kind, text) in [
            (SignalType::Url, "https://example.com/a?b#c"),
            (SignalType::RawText, " two words "),
            (SignalType::Vpdq, video.as_str()),
            (SignalType::Vpdq, "[]"),
        ] {
            let signal = Signal::parse(kind, text).unwrap();
            assert_eq!((signal.to_string(), signal.kind()), (text.to_string(), kind));
            assert_eq!(Signal::from_bytes(kind, &binary(&signal)), Ok(signal));
        }
        for (kind, text, says) in [
            (SignalType::Url, "  ", "no url signal: it is empty"),
            (SignalType::RawText, &"x".repeat(TEXT_BYTES_MAX + 1), "65536 are allowed"),
            (SignalType::Vpdq, "{}", "a JSON list of"),
            (SignalType::Vpdq, r#"["abc,100,0"]"#, "frame 1: a pdq signal is 64 hex digits"),
            (SignalType::Vpdq, &format!(r#"["{frame},101,0"]"#), "frame 1: quality is 0 to 100"),
            (SignalType::Vpdq, &format!(r#"["{frame},50,-1"]"#), "frame 1: its time is"),
            (SignalType::Vpdq, &format!(r#"["{frame},50,NaN"]"#), "frame 1: its time is"),
            (SignalType::Vpdq, &format!(r#"["{frame},50"]"#), "frame 1: it is \"hash,quality,seconds\""),
        ] {
            let error = Signal::parse(kind, text).unwrap_err().to_string();
            assert!(error.contains(says), "{text:.80}: {error}");
        }
        assert!(Signal::from_bytes(SignalType::Vpdq, &[0; 36]).is_err());
        assert!(Signal::from_bytes(SignalType::Url, &[0xff]).is_err());
    }

    #[test]
    fn pdq_text_is_taken_exactly_as_hma_takes_it() {
        let text = "f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22";
        let signal = Signal::parse(SignalType::Pdq, text).unwrap();
        assert_eq!(signal.to_string(), text);
        assert_eq!(Signal::from_bytes(SignalType::Pdq, &binary(&signal)), Ok(signal));
        for (bad, says) in [
            (text.to_uppercase(), "lower-case hex digits, character 1 is 'F'"),
            (format!(" {text}"), "character 1 is ' '"),
            (format!("{text}\n"), "character 65 is '\\n'"),
            (text[1..].to_string(), "64 hex digits, this has 63"),
            (String::new(), "this has 0"),
            ("é".repeat(32), "character 1 is 'é'"),
        ] {
            let error = Signal::parse(SignalType::Pdq, &bad).unwrap_err().to_string();
            assert!(error.contains(says), "{bad:?}: {error}");
        }
    }

    #[test]
    fn md5_text_is_trimmed_and_lowered() {
        let signal = Signal::parse(SignalType::VideoMd5, " D41D8CD98F00B204E9800998ECF8427E\n").unwrap();
        assert_eq!(signal.to_string(), "d41d8cd98f00b204e9800998ecf8427e");
        assert!(
            Signal::parse(SignalType::VideoMd5, "zz").unwrap_err().to_string().contains("character 1 is 'z'")
        );
    }

    #[test]
    fn each_digest_has_its_length() {
        for (kind, length) in SignalType::EXACT.into_iter().filter_map(|kind| Some((kind, kind.bytes()?))) {
            let text = "5a".repeat(length);
            let signal = Signal::parse(kind, &text).unwrap();
            assert_eq!((signal.to_string(), signal.kind()), (text.clone(), kind));
            assert_eq!(Signal::from_bytes(kind, &binary(&signal)), Ok(signal));
            assert!(Signal::parse(kind, &text[2..]).is_err() && Signal::from_bytes(kind, &[0; 33]).is_err());
        }
    }

    #[test]
    fn distance_counts_the_bits_that_differ() {
        let a = Hash256([0; 32]);
        let mut b = a;
        b.0[0] = 0b1010_0001;
        b.0[31] = 1;
        assert_eq!(a.distance(&b), Distance(4));
        assert_eq!(a.distance(&Hash256([0xff; 32])).bits(), 256);
        assert_eq!(Distance::new(129), None);
    }

    #[test]
    fn unknown_types_are_named() {
        assert!(SignalType::from_name("photodna").unwrap_err().to_string().contains("'photodna'"));
        assert_eq!(SignalType::from_name("video_md5"), Ok(SignalType::VideoMd5));
        assert_eq!(SignalType::from_number(10), None);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_read_reads_back_or_is_an_error(
            text in r#"[0-9a-f,\[\]"\. ]{0,200}|\[("[0-9a-f]{64},[0-9]{1,3},[0-9.]{1,6}",?){0,3}\]|.{0,40}"#,
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..120),
        ) {
            for kind in SignalType::ALL {
                for signal in [Signal::parse(kind, &text), Signal::from_bytes(kind, &bytes)].into_iter().flatten() {
                    let again = Signal::parse(kind, &signal.to_string());
                    // Spaces around a URL are not part of it; bytes may have them all the same.
                    let trimmed = kind == SignalType::Url && signal.to_string().trim() != signal.to_string();
                    proptest::prop_assert!(trimmed || again == Ok(signal.clone()), "{kind}: {signal:?} {again:?}");
                    proptest::prop_assert_eq!(Signal::from_bytes(kind, &binary(&signal)), Ok(signal));
                }
            }
        }
    }
}
