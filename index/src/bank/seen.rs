//! Whose banks they are: a tenant gets a state in which the others' banks do not exist, so that no search, no count and no
//! name can forget to leave them out; and the writer itself makes a change for a tenant, or refuses it.
//!
//! Banks without a tenant's name are everybody's to match against, and nobody's but the operator's to read or change.

use std::sync::Arc;

use super::change::{BankChange, clip, name_fits};
use super::{BankError, BankState, Directory, NAME_MAX};
use crate::tenant::{Tenant, split};

/// Whether the tenant may make this change. What is not its own is not there for it.
pub(super) fn check(tenant: &Tenant, change: &BankChange) -> Result<(), BankError> {
    let makes = |name: &str| match tenant.owns(name) {
        true => Ok(()),
        false => Err(BankError::Foreign { tenant: tenant.clone() }),
    };
    let finds = |name: &str| match tenant.owns(name) {
        true => Ok(()),
        false => Err(BankError::NotFound { name: clip(name) }),
    };
    match change {
        BankChange::Create { name, .. } => makes(name),
        BankChange::Update { name, new_name, .. } => {
            finds(name)?;
            new_name.as_deref().map_or(Ok(()), makes)
        }
        BankChange::Delete { name: bank }
        | BankChange::Add { bank, .. }
        | BankChange::Exchange { bank, .. }
        | BankChange::Edit { bank, .. }
        | BankChange::Remove { bank, .. }
        | BankChange::Exported { bank, .. } => finds(bank),
    }
}

/// Whether a bank may have this name: `[A-Z_][A-Z0-9_]*`, behind its tenant's name and a dot if it is a tenant's.
pub(super) fn bank_name_fits(name: &str) -> bool {
    name.len() <= NAME_MAX
        && match split(name) {
            Some((tenant, own)) => Tenant::try_from(tenant.to_string()).is_ok() && name_fits(own),
            None => name_fits(name),
        }
}

impl Directory {
    /// Whether a bank's contents may be read by whom this directory is for: all of them by the operator, its own by a
    /// tenant.
    pub fn opens(&self, name: &str) -> bool {
        self.tenant().is_none_or(|tenant| tenant.owns(name))
    }

    fn seen_by(&self, tenant: &Tenant) -> Self {
        let mut seen = Self::narrowed_to(tenant);
        for bank in self.banks().filter(|bank| split(&bank.name).is_none() || tenant.owns(&bank.name)) {
            seen.insert(bank.clone());
        }
        seen
    }
}

impl BankState {
    /// The same state as a tenant sees it: with its own banks and those that are everybody's. Searches find nothing else.
    #[must_use]
    pub fn seen_by(&self, tenant: &Tenant) -> Self {
        Self { directory: Arc::new(self.directory.seen_by(tenant)), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_banks_that_fit() {
        for fine in ["NCII", "ACME.NCII", "_._", "A1.B_2"] {
            assert!(bank_name_fits(fine), "{fine}");
        }
        let long = format!("A.{}", "B".repeat(NAME_MAX));
        for wrong in [".NCII", "ACME.", "ACME..NCII", "ACME.A.B", "acme.NCII", "1.NCII", "ACME.ncii", &long] {
            assert!(!bank_name_fits(wrong), "{wrong}");
        }
    }
}
