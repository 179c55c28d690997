//! NCMEC's CyberTipline as its interface has it: what a report and a file's details say, in the schema's order, how they
//! are written, what is checked before they are sent, and what the answers mean. Knows nothing of jobs, stores or sockets.
//!
//! Facts are those of specs/cybertipline.md, by section. Reading order: `model` → `xml` → `tree` → `limits` →
//! `schema` → `reply` → `verdict`.

pub mod limits;
pub mod model;
#[cfg(test)]
mod mutated;
#[cfg(test)]
mod random;
pub mod reply;
pub mod schema;
mod tree;
pub mod verdict;
pub mod xml;

use serde::{Deserialize, Serialize};

/// Which of NCMEC's two CyberTiplines: reports to the test one are thrown away there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// `exttest.cybertip.org`.
    Test,
    /// `report.cybertip.org`: what is filed there is investigated.
    Production,
}

impl Environment {
    /// The environment that this value of `NCMEC_ENV` selects: production if it is exactly that, else test.
    pub fn of(value: Option<&str>) -> Self {
        if value == Some("production") { Self::Production } else { Self::Test }
    }

    /// Where its interface is (specs/cybertipline.md 1.1).
    pub const fn base_url(self) -> &'static str {
        match self {
            Self::Test => "https://exttest.cybertip.org/ispws",
            Self::Production => "https://report.cybertip.org/ispws",
        }
    }

    /// The name operators and APIs use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Production => "production",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_21_only_exactly_production_selects_production() {
        for other in ["", "Production", "prod", " production ", "production ", "PRODUCTION", "production\0"] {
            assert_eq!(Environment::of(Some(other)), Environment::Test, "{other:?}");
        }
        assert_eq!(Environment::of(None), Environment::Test);
        assert_eq!(Environment::of(Some("production")), Environment::Production);
    }
}
