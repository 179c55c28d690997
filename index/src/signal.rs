//! What is matched: signal types, their text form, their distance, and the ids a match names.
//!
//! Text is parsed once, at the edge; inside, a [`Signal`] is always valid. The rules for each type are
//! those of HMA's signal types, so that a hash list which HMA takes means the same here.

use std::fmt;

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};

/// The kinds of signal this build matches. The number is part of the store's layout and of the wire
/// protocol: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum SignalType {
    /// Perceptual hash of a picture: 256 bits, Hamming distance.
    Pdq = 1,
    /// MD5 of a video file: 128 bits, exact.
    VideoMd5 = 2,
    /// MD5 of any file: 128 bits, exact.
    Md5 = 3,
    /// SHA-1 of any file: 160 bits, exact.
    Sha1 = 4,
    /// SHA-256 of any file: 256 bits, exact.
    Sha256 = 5,
}

impl SignalType {
    /// Every signal type, in the order of their numbers.
    pub const ALL: [SignalType; 5] =
        [SignalType::Pdq, SignalType::VideoMd5, SignalType::Md5, SignalType::Sha1, SignalType::Sha256];
    /// Those that are compared whole.
    pub const EXACT: [SignalType; 4] =
        [SignalType::VideoMd5, SignalType::Md5, SignalType::Sha1, SignalType::Sha256];

    /// The name operators and APIs use.
    pub const fn name(self) -> &'static str {
        match self {
            SignalType::Pdq => "pdq",
            SignalType::VideoMd5 => "video_md5",
            SignalType::Md5 => "md5",
            SignalType::Sha1 => "sha1",
            SignalType::Sha256 => "sha256",
        }
    }

    /// The type with this name.
    pub fn from_name(name: &str) -> Result<Self, SignalError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| SignalError::UnknownType { name: clip(name) })
    }

    /// The type with this number on the wire or in the store.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// Its place in [`SignalType::ALL`], and in whatever is kept by type.
    pub const fn place(self) -> usize {
        self as usize - 1
    }

    /// Length of the binary form in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            SignalType::Pdq | SignalType::Sha256 => 32,
            SignalType::VideoMd5 | SignalType::Md5 => 16,
            SignalType::Sha1 => 20,
        }
    }

    /// The distance up to which two signals of this type are the same content, unless a request says
    /// otherwise. 31 for PDQ is HMA's and NCMEC's (HMA API, signal types); exact types have 0.
    pub const fn threshold(self) -> Distance {
        match self {
            SignalType::Pdq => Distance(31),
            _ => Distance(0),
        }
    }

    /// The largest threshold a request may ask for.
    pub const fn threshold_max(self) -> Distance {
        match self {
            SignalType::Pdq => Distance::MAX,
            _ => Distance(0),
        }
    }
}

impl fmt::Display for SignalType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// Why a text is not a signal. The message names the fault and what is expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignalError {
    /// No such signal type.
    #[error("unknown signal type '{name}': known are pdq, video_md5, md5, sha1, sha256")]
    UnknownType {
        /// What was asked for, cut to a printable length.
        name: String,
    },
    /// The text has the wrong length.
    #[error("a {kind} signal is {expected} hex digits, this has {found}")]
    Length {
        /// The type that was expected.
        kind: SignalType,
        /// Digits expected.
        expected: usize,
        /// Digits found.
        found: usize,
    },
    /// The text has a character that is not a digit of this type.
    #[error("a {kind} signal is made of {digits}, character {at} is {found:?}")]
    Digit {
        /// The type that was expected.
        kind: SignalType,
        /// The digits this type takes.
        digits: &'static str,
        /// One-based place of the character.
        at: usize,
        /// The character found.
        found: char,
    },
    /// The binary form has the wrong length.
    #[error("a {kind} signal is {expected} bytes, this has {found}")]
    Bytes {
        /// The type that was expected.
        kind: SignalType,
        /// Bytes expected.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
}

fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}

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

/// One valid signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    /// A PDQ hash.
    Pdq(Hash256),
    /// A digest of this type, which is one of [`SignalType::EXACT`].
    Exact(SignalType, Digest),
}

impl Signal {
    /// Reads the text form as HMA does: PDQ takes 64 lower-case hex digits and nothing around them;
    /// digests are trimmed and lower-cased first.
    pub fn parse(kind: SignalType, text: &str) -> Result<Self, SignalError> {
        let bytes = match kind {
            SignalType::Pdq => read_hex(kind, text, "lower-case hex digits")?,
            _ => read_hex(kind, &text.trim().to_ascii_lowercase(), "hex digits")?,
        };
        Self::from_bytes(kind, &bytes[..kind.bytes()])
    }

    /// Reads the binary form.
    pub fn from_bytes(kind: SignalType, bytes: &[u8]) -> Result<Self, SignalError> {
        let wrong = || SignalError::Bytes { kind, expected: kind.bytes(), found: bytes.len() };
        match (kind, Digest::new(bytes).filter(|_| bytes.len() == kind.bytes())) {
            (_, None) => Err(wrong()),
            (SignalType::Pdq, Some(Digest(bytes))) => Ok(Self::Pdq(Hash256(bytes))),
            (kind, Some(digest)) => Ok(Self::Exact(kind, digest)),
        }
    }

    /// The binary form.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Signal::Pdq(hash) => &hash.0,
            Signal::Exact(kind, digest) => &digest.0[..kind.bytes()],
        }
    }

    /// Which type it is of.
    pub const fn kind(&self) -> SignalType {
        match self {
            Signal::Pdq(_) => SignalType::Pdq,
            Signal::Exact(kind, _) => *kind,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(self.as_bytes(), out)
    }
}

fn write_hex(bytes: &[u8], out: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
}

/// Reads as many bytes as the type has; those behind them are zero.
fn read_hex(kind: SignalType, text: &str, digits: &'static str) -> Result<[u8; 32], SignalError> {
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
    if text.len() != 2 * kind.bytes() {
        return Err(SignalError::Length { kind, expected: 2 * kind.bytes(), found: text.len() });
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

    #[test]
    fn pdq_text_is_taken_exactly_as_hma_takes_it() {
        let text = "f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22";
        let signal = Signal::parse(SignalType::Pdq, text).unwrap();
        assert_eq!(signal.to_string(), text);
        assert_eq!(Signal::from_bytes(SignalType::Pdq, signal.as_bytes()), Ok(signal));
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
        for kind in SignalType::EXACT {
            let text = "5a".repeat(kind.bytes());
            let signal = Signal::parse(kind, &text).unwrap();
            assert_eq!((signal.to_string(), signal.kind()), (text.clone(), kind));
            assert_eq!(Signal::from_bytes(kind, signal.as_bytes()), Ok(signal));
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
        assert_eq!(SignalType::from_number(9), None);
    }
}
