//! Tenants: platforms that share one server and see nothing of each other (specs/reliability.md D2-5).
//!
//! What belongs to a tenant says so in its name: bank `ACME.NCII`, item type `ACME.post`. A name without one is everybody's.
//! Who calls for a tenant is known from their key, never from what they send; the name they send must fit.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Characters of a tenant's name at most.
const TENANT_MAX: usize = 64;
/// Between a tenant and what is its own.
const MARK: char = '.';

/// A tenant, by its name: `[A-Z_][A-Z0-9_]*`, 64 characters at most.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tenant(Arc<str>);

/// A text is no tenant's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no tenant's name: use A-Z, 0-9 and _, not starting with a digit, at most 64 characters")]
pub struct NoTenant;

impl TryFrom<String> for Tenant {
    type Error = NoTenant;

    fn try_from(name: String) -> Result<Self, NoTenant> {
        if name.len() <= TENANT_MAX && is_name(&name) { Ok(Self(name.into())) } else { Err(NoTenant) }
    }
}

impl From<Tenant> for String {
    fn from(tenant: Tenant) -> Self {
        tenant.0.to_string()
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl Tenant {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Whether what has this name is the tenant's.
    pub fn owns(&self, name: &str) -> bool {
        name.strip_prefix(&*self.0).is_some_and(|rest| rest.starts_with(MARK))
    }

    /// The name of the tenant's own thing; a name that says so already stays.
    pub fn own(&self, name: &str) -> String {
        if self.owns(name) { name.to_string() } else { format!("{self}{MARK}{name}") }
    }
}

/// The tenant's name in a name, and the rest of it; none if it is everybody's.
pub fn split(name: &str) -> Option<(&str, &str)> {
    name.split_once(MARK)
}

/// Whether a text is `[A-Z_][A-Z0-9_]*`.
pub fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
        && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_whose_it_is() {
        let acme = Tenant::try_from("ACME".to_string()).unwrap();
        assert!(acme.owns("ACME.NCII") && acme.owns("ACME.") && acme.owns("ACME.A.B"));
        for other in ["ACME", "ACMEX.NCII", "ACM.NCII", "BETA.NCII", "NCII", "", "acme.NCII", ".ACME"] {
            assert!(!acme.owns(other), "{other}");
        }
        assert_eq!(
            (acme.own("photo").as_str(), acme.own("ACME.photo").as_str()),
            ("ACME.photo", "ACME.photo")
        );
        assert_eq!(acme.own("BETA.photo"), "ACME.BETA.photo", "nobody gets into another's names");
        for wrong in ["", "acme", "A.B", "1A", "A B", &"A".repeat(TENANT_MAX + 1)] {
            assert_eq!(Tenant::try_from(wrong.to_string()), Err(NoTenant), "{wrong}");
        }
    }
}
