//! Numbers that everything here is known by.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A job's number: 1, 2, 3 …
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// Name of an organisation for which is reported.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrgName(String);

impl OrgName {
    /// A name of 1 to 64 letters, digits, `-` and `_`; none if it is not.
    pub fn parse(text: &str) -> Option<Self> {
        let fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        (!text.is_empty() && text.len() <= 64 && text.chars().all(fine)).then(|| Self(text.to_string()))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for OrgName {
    /// The organisation of queues that name none.
    fn default() -> Self {
        Self("default".to_string())
    }
}

impl std::fmt::Display for OrgName {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}
