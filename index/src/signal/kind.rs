//! The kinds of signal, and what each takes.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Distance;

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
    /// A URL, compared whole.
    Url = 6,
    /// MD5 of a URL's normal form: 128 bits, exact.
    UrlMd5 = 7,
    /// A text; like ones are found by their edits.
    RawText = 8,
    /// A video's frames as PDQ hashes; like ones are found by the share of frames they have in common.
    Vpdq = 9,
}

impl SignalType {
    /// Every signal type, in the order of their numbers.
    pub const ALL: [SignalType; 9] = [
        SignalType::Pdq,
        SignalType::VideoMd5,
        SignalType::Md5,
        SignalType::Sha1,
        SignalType::Sha256,
        SignalType::Url,
        SignalType::UrlMd5,
        SignalType::RawText,
        SignalType::Vpdq,
    ];
    /// Those that are compared whole, by a digest.
    pub const EXACT: [SignalType; 6] = [
        SignalType::VideoMd5,
        SignalType::Md5,
        SignalType::Sha1,
        SignalType::Sha256,
        SignalType::Url,
        SignalType::UrlMd5,
    ];

    /// The name operators and APIs use.
    pub const fn name(self) -> &'static str {
        match self {
            SignalType::Pdq => "pdq",
            SignalType::VideoMd5 => "video_md5",
            SignalType::Md5 => "md5",
            SignalType::Sha1 => "sha1",
            SignalType::Sha256 => "sha256",
            SignalType::Url => "url",
            SignalType::UrlMd5 => "url_md5",
            SignalType::RawText => "raw_text",
            SignalType::Vpdq => "vpdq",
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

    /// Length of the binary form in bytes; `None` where signals differ in length.
    pub const fn bytes(self) -> Option<usize> {
        match self {
            SignalType::Pdq | SignalType::Sha256 => Some(32),
            SignalType::VideoMd5 | SignalType::Md5 | SignalType::UrlMd5 => Some(16),
            SignalType::Sha1 => Some(20),
            SignalType::Url | SignalType::RawText | SignalType::Vpdq => None,
        }
    }

    /// Whether its signals lie in tables of their own that are built at every start, not in stored segments.
    pub const fn is_rebuilt(self) -> bool {
        matches!(self, SignalType::RawText | SignalType::Vpdq)
    }

    /// The distance up to which two signals of this type are the same content, unless a request says
    /// otherwise: of vPDQ, two frames. 31 for PDQ is HMA's and NCMEC's (HMA API, signal types); exact types have 0.
    pub const fn threshold(self) -> Distance {
        match self {
            SignalType::Pdq | SignalType::Vpdq => Distance(31),
            _ => Distance(0),
        }
    }

    /// The largest threshold a request may ask for.
    pub const fn threshold_max(self) -> Distance {
        match self {
            SignalType::Pdq => Distance::MAX,
            kind => kind.threshold(),
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
    #[error(
        "unknown signal type '{name}': known are pdq, video_md5, md5, sha1, sha256, url, url_md5, raw_text, vpdq"
    )]
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
    /// The text is empty, too long, or no text.
    #[error("this is no {kind} signal: {reason}")]
    Text {
        /// The type that was expected.
        kind: SignalType,
        /// What is wrong, and what is expected.
        reason: String,
    },
}

pub(super) fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}
