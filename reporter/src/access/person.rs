//! People: what is known of them, what may be changed, and their sessions.

use serde::{Deserialize, Serialize};

use super::key::Digest;
use super::role::Role;
use crate::read::{At, FieldError};

const DISPLAY_CHARS_MAX: usize = 128;

/// A person who logs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// What they log in by.
    pub name: String,
    /// What they are called.
    #[serde(default)]
    pub display_name: String,
    /// What they may do.
    pub role: Role,
    /// Their password's Argon2 hash, in PHC form. Never shown.
    pub password: String,
    /// When they were made, in milliseconds since 1970 (UTC).
    pub created_ms: u64,
    /// Whether they may not log in any more.
    #[serde(default)]
    pub disabled: bool,
}

impl Person {
    /// A person who may do next to nothing and has no password yet.
    pub fn new(name: String, created_ms: u64) -> Self {
        let (display_name, password) = (String::new(), String::new());
        Self { name, display_name, role: Role::Analyst, password, created_ms, disabled: false }
    }

    /// Whether they can make other people.
    pub fn is_admin(&self) -> bool {
        self.role == Role::Admin && !self.disabled
    }
}

/// What is to be changed of a person.
#[derive(Clone, Debug, Default)]
pub struct PersonWanted {
    /// What they are called.
    pub display_name: Option<String>,
    /// What they may do.
    pub role: Option<Role>,
    /// Hash of a new password; set by who hashes it.
    pub password: Option<String>,
    /// Whether they may log in.
    pub disabled: Option<bool>,
}

impl PersonWanted {
    /// Reads a change; the password is read by who hashes it.
    pub fn read(at: &At<'_>) -> Result<Self, FieldError> {
        at.only(&["name", "display_name", "role", "password", "disabled"])?;
        Ok(Self {
            display_name: at
                .field("display_name")?
                .map(|text| text.text_to(DISPLAY_CHARS_MAX).map(str::to_string))
                .transpose()?,
            role: at.field("role")?.map(|role| read_role(&role)).transpose()?,
            password: None,
            disabled: at.field("disabled")?.map(|disabled| disabled.flag()).transpose()?,
        })
    }

    /// The person with what is wanted.
    pub fn applied(self, before: Person) -> Person {
        Person {
            display_name: self.display_name.unwrap_or(before.display_name),
            role: self.role.unwrap_or(before.role),
            password: self.password.unwrap_or(before.password),
            disabled: self.disabled.unwrap_or(before.disabled),
            ..before
        }
    }
}

fn read_role(at: &At<'_>) -> Result<Role, FieldError> {
    Role::parse(at.text()?).ok_or_else(|| {
        let known: Vec<&str> = Role::ALL.into_iter().map(Role::name).collect();
        at.wrong(format!("is no role: use {}", known.join(", ")))
    })
}

/// A person's session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Digest of its token.
    pub digest: Digest,
    /// Whose it is.
    pub person: String,
    /// Since when, in milliseconds since 1970 (UTC).
    pub since_ms: u64,
    /// Until when.
    pub until_ms: u64,
    /// What a page of ours sends with every change, and no other page knows.
    pub csrf: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_role_that_is_none_is_pointed_at() {
        let error = PersonWanted::read(&At::new(&json!({ "role": "root" }), "")).unwrap_err().to_string();
        assert!(error.starts_with("/role") && error.contains("child_safety_moderator"), "{error}");
    }
}
