//! The words of queues: their names, what an uploader is told, which text of rules decided. Names and versions are
//! parsed once, here; a row that holds something else does not read.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{RouterError, clip};

const NAME_CHARS_MAX: usize = 64;

/// Name of a queue: `[a-z0-9][a-z0-9_-]*`, at most 64 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QueueName(String);

impl QueueName {
    /// Reads a name.
    pub fn parse(name: &str) -> Result<Self, RouterError> {
        let first = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let good = name.starts_with(first)
            && name.chars().all(|c| first(c) || c == '_' || c == '-')
            && name.len() <= NAME_CHARS_MAX;
        if good {
            return Ok(Self(name.to_string()));
        }
        Err(RouterError::QueueName { name: clip(name), max: NAME_CHARS_MAX })
    }

    /// A name of this program's own.
    pub fn known(name: &'static str) -> Self {
        Self::parse(name).expect("names in this program are queue names")
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl From<QueueName> for String {
    fn from(name: QueueName) -> Self {
        name.0
    }
}

impl TryFrom<String> for QueueName {
    type Error = RouterError;

    fn try_from(name: String) -> Result<Self, RouterError> {
        Self::parse(&name)
    }
}

/// What the uploader is told about a hit, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing to do.
    None,
    /// Keep a note.
    Log,
    /// People will look at it.
    Review,
    /// Do not show it to anyone.
    Block,
}

impl Verdict {
    /// Every verdict, weakest first.
    pub const ALL: [Verdict; 4] = [Verdict::None, Verdict::Log, Verdict::Review, Verdict::Block];

    /// Its number on the wire: its place among [`Verdict::ALL`].
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The name operators and APIs use.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::None => "none",
            Verdict::Log => "log",
            Verdict::Review => "review",
            Verdict::Block => "block",
        }
    }
}

/// Which text of rules decided: 64 bits of the file, the same for the same text on every machine. Written
/// as 16 hex digits, since JSON's readers round numbers of that size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RulesVersion(u64);

impl RulesVersion {
    /// FNV-1a: tells edits apart. Whoever can forge a file can edit it, so nothing stronger is needed.
    pub(crate) fn of(text: &str) -> Self {
        Self(
            text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
                (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            }),
        )
    }
}

impl fmt::Display for RulesVersion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:016x}", self.0)
    }
}

impl From<RulesVersion> for String {
    fn from(version: RulesVersion) -> Self {
        version.to_string()
    }
}

impl TryFrom<String> for RulesVersion {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match u64::from_str_radix(&text, 16) {
            Ok(version) if text.len() == 16 => Ok(Self(version)),
            _ => Err(format!("a rules version is 16 hex digits, this is '{}'", clip(&text))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_names_are_refused_that_could_blur_keys() {
        for name in ["", "-a", "_a", "A", "a\0", "a b", "é", &"a".repeat(65)] {
            assert!(QueueName::parse(name).is_err(), "{name:?}");
        }
        for name in ["a", "0", "ncmec-review", "slow_lane", &"a".repeat(64)] {
            assert!(QueueName::parse(name).is_ok(), "{name:?}");
        }
    }
}
