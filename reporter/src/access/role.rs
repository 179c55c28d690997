//! Rights, and the sets of them that roles and scopes are.

use serde::{Deserialize, Serialize};

/// Something one may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Right {
    /// Ask whether signals match, and in which banks.
    Match,
    /// See how near a match is, and stored signals.
    Distance,
    /// Change banks, their contents, exchanges and embeddings.
    Curate,
    /// Send uploads, items and reports by users.
    Items,
    /// Work on review jobs.
    Review,
    /// See child safety data: NCMEC and triage queues, their jobs, hits, items, media.
    ChildSafety,
    /// See what is reported to NCMEC.
    Report,
    /// Change rules, queues, item types, webhooks, settings.
    Configure,
    /// See counts and health.
    Observe,
    /// Make people and keys.
    Admin,
    /// Read the audit log.
    Audit,
}

impl Right {
    /// Every right.
    pub const ALL: [Right; 11] = [
        Right::Match,
        Right::Distance,
        Right::Curate,
        Right::Items,
        Right::Review,
        Right::ChildSafety,
        Right::Report,
        Right::Configure,
        Right::Observe,
        Right::Admin,
        Right::Audit,
    ];

    /// The name operators and documents use.
    pub const fn name(self) -> &'static str {
        match self {
            Right::Match => "match",
            Right::Distance => "distance",
            Right::Curate => "curate",
            Right::Items => "items",
            Right::Review => "review",
            Right::ChildSafety => "child_safety",
            Right::Report => "report",
            Right::Configure => "configure",
            Right::Observe => "observe",
            Right::Admin => "admin",
            Right::Audit => "audit",
        }
    }
}

/// A set of rights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights(u16);

impl Rights {
    /// Every right there is.
    pub const ALL: Rights = Rights::of(&Right::ALL);

    /// These rights.
    pub const fn of(rights: &[Right]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < rights.len() {
            bits |= 1 << rights[at] as u8;
            at += 1;
        }
        Self(bits)
    }

    /// These and those.
    pub const fn and(self, others: Rights) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether this right is among them.
    pub const fn has(self, right: Right) -> bool {
        self.0 & 1 << right as u8 != 0
    }

    /// The rights, in the order of [`Right::ALL`].
    pub fn list(self) -> Vec<Right> {
        Right::ALL.into_iter().filter(|right| self.has(*right)).collect()
    }
}

/// What a person is (the roles of Coop: specs/coop.md 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// May do everything.
    Admin,
    /// Leads reviewers: rules, queues, banks, and everything reviewers see.
    ModeratorManager,
    /// Reviews, child safety too.
    ChildSafetyModerator,
    /// Reviews, without child safety.
    Moderator,
    /// Sees counts.
    Analyst,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 5] =
        [Role::Admin, Role::ModeratorManager, Role::ChildSafetyModerator, Role::Moderator, Role::Analyst];

    /// The name operators and APIs use.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::ModeratorManager => "moderator_manager",
            Role::ChildSafetyModerator => "child_safety_moderator",
            Role::Moderator => "moderator",
            Role::Analyst => "analyst",
        }
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// What it may do.
    pub const fn rights(self) -> Rights {
        use Right::{ChildSafety, Configure, Curate, Distance, Items, Match, Observe, Report, Review};
        match self {
            Role::Admin => Rights::ALL,
            Role::ModeratorManager => {
                Rights::of(&[Match, Distance, Curate, Items, Review, ChildSafety, Report, Configure, Observe])
            }
            Role::ChildSafetyModerator => Rights::of(&[Match, Distance, Review, ChildSafety, Report]),
            Role::Moderator => Rights::of(&[Review]),
            Role::Analyst => Rights::of(&[Observe]),
        }
    }
}

/// What a machine's key opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Lookups that say yes or no, and the bank.
    Match,
    /// Lookups with distances, and stored signals.
    Distance,
    /// Banks and exchanges.
    Curate,
    /// Uploads, items, reports by users.
    Items,
    /// Review jobs, without child safety.
    Review,
    /// Child safety data and what is reported; with `review` also NCMEC jobs.
    Report,
    /// People, keys, rules, settings.
    Admin,
    /// The audit log.
    Audit,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Scope; 8] = [
        Scope::Match,
        Scope::Distance,
        Scope::Curate,
        Scope::Items,
        Scope::Review,
        Scope::Report,
        Scope::Admin,
        Scope::Audit,
    ];

    /// The name operators and APIs use.
    pub const fn name(self) -> &'static str {
        match self {
            Scope::Match => "match",
            Scope::Distance => "distance",
            Scope::Curate => "curate",
            Scope::Items => "items",
            Scope::Review => "review",
            Scope::Report => "report",
            Scope::Admin => "admin",
            Scope::Audit => "audit",
        }
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }

    /// What it opens.
    pub const fn rights(self) -> Rights {
        use Right::{
            Admin, Audit, ChildSafety, Configure, Curate, Distance, Items, Match, Observe, Report, Review,
        };
        match self {
            Scope::Match => Rights::of(&[Match]),
            Scope::Distance => Rights::of(&[Match, Distance]),
            Scope::Curate => Rights::of(&[Match, Distance, Curate]),
            Scope::Items => Rights::of(&[Match, Items]),
            Scope::Review => Rights::of(&[Review]),
            Scope::Report => Rights::of(&[ChildSafety, Report]),
            Scope::Admin => Rights::of(&[Configure, Observe, Admin]),
            Scope::Audit => Rights::of(&[Audit]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn child_safety_is_for_three_roles_and_one_scope() {
        let sees = |rights: Rights| rights.has(Right::ChildSafety);
        let roles: Vec<Role> = Role::ALL.into_iter().filter(|role| sees(role.rights())).collect();
        assert_eq!(roles, [Role::Admin, Role::ModeratorManager, Role::ChildSafetyModerator]);
        let scopes: Vec<Scope> = Scope::ALL.into_iter().filter(|scope| sees(scope.rights())).collect();
        assert_eq!(scopes, [Scope::Report]);
        for role in Role::ALL {
            assert_eq!(Role::parse(role.name()), Some(role));
            assert_eq!(Rights::of(&role.rights().list()), role.rights());
        }
        assert!(Scope::ALL.into_iter().all(|scope| Scope::parse(scope.name()) == Some(scope)));
    }
}
