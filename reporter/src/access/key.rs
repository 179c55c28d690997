//! Keys of machines. A secret has 256 random bits, so its digest needs no salt and no slow hash; it is shown once, when it
//! is made, and never kept.

use std::fmt;

use index::Tenant;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::role::{Rights, Scope};
use crate::read::{At, FieldError};

const NAME_CHARS_MAX: usize = 128;
/// How long the secret before a rotated one opens, at most.
const GRACE_SECONDS_MAX: u64 = 30 * 24 * 3600;
/// What a tenant's key may open.
const TENANTS: [Scope; 4] = [Scope::Match, Scope::Distance, Scope::Curate, Scope::Items];
/// Digests are made for this and nothing else.
const DOMAIN: &[u8] = b"hashward secret\0";

/// SHA-256 of a secret: as good as the secret for comparing, and no use for anything else.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

/// The digest of a secret.
pub fn digest(secret: &str) -> Digest {
    Digest(Sha256::new().chain_update(DOMAIN).chain_update(secret).finalize().into())
}

impl fmt::Debug for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Digest(…)")
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || "a digest is 64 hex digits".to_string();
        let mut digest = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong());
        }
        for (at, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(digest))
    }
}

/// A machine's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its number, part of what the machine sends.
    pub number: u64,
    /// What it is for.
    pub name: String,
    /// What it opens.
    pub scopes: Vec<Scope>,
    /// The tenant that it is of, for good: what it asks and sends is the tenant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Tenant>,
    /// How much it may ask.
    #[serde(default)]
    pub budget: Budget,
    /// Digest of its secret.
    pub digest: Digest,
    /// The secret before, and until when it opens too, in milliseconds since 1970 (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<(Digest, u64)>,
    /// When it was made.
    pub created_ms: u64,
    /// By whom.
    pub created_by: String,
    /// When it got its secret.
    pub rotated_ms: u64,
    /// When it ends; never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// Whether it opens nothing for now.
    #[serde(default)]
    pub disabled: bool,
    /// Why it opens nothing: what it asked looked like an attack on the hash lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Frozen>,
}

/// How many signals a key may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// In an hour; no limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<u64>,
    /// In a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_day: Option<u64>,
}

/// Why and when a key was frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// In milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// In words.
    pub why: String,
}

impl Key {
    /// Whether this secret opens it now.
    pub fn opens(&self, digest: &Digest, now_ms: u64) -> bool {
        // Digests of secrets of 256 bits: how long a comparison takes tells nothing of the secret.
        let right = self.digest == *digest
            || self.before.is_some_and(|(before, until_ms)| before == *digest && now_ms < until_ms);
        right && !self.disabled && self.expires_ms.is_none_or(|end| now_ms < end)
    }

    /// What it may do.
    pub fn rights(&self) -> Rights {
        self.scopes.iter().fold(Rights::default(), |rights, scope| rights.and(scope.rights()))
    }

    /// Gives it a new secret; the one before opens for so long yet.
    pub fn rotate(&mut self, digest: Digest, grace_seconds: u64, now_ms: u64) {
        self.before = (grace_seconds > 0).then(|| (self.digest, now_ms + grace_seconds * 1000));
        (self.digest, self.rotated_ms) = (digest, now_ms);
    }

    /// Why it may not have these scopes: whoever reviews, reports or sets things up sees what is everybody's.
    fn check_tenant(&self) -> Result<(), FieldError> {
        let beyond = self.scopes.iter().find(|scope| !TENANTS.contains(scope));
        match beyond.filter(|_| self.tenant.is_some()) {
            Some(scope) => Err(FieldError {
                pointer: "/scopes".to_string(),
                problem: format!(
                    "a tenant's key has match, distance, curate and items, not '{}'",
                    scope.name()
                ),
            }),
            None => Ok(()),
        }
    }

    /// Reads how long the secret before is to open.
    pub fn read_grace(at: &At<'_>) -> Result<u64, FieldError> {
        at.only(&["grace_seconds"])?;
        at.field("grace_seconds")?.map_or(Ok(0), |grace| grace.whole(0, GRACE_SECONDS_MAX))
    }
}

/// What an operator says about a key.
#[derive(Clone, Debug)]
pub struct KeyWanted {
    /// What it is for.
    pub name: Option<String>,
    /// What it opens.
    pub scopes: Option<Vec<Scope>>,
    /// Whose it is. Of a key that is there it cannot be changed.
    pub tenant: Option<Tenant>,
    /// How much it may ask.
    pub budget: Option<Budget>,
    /// When it ends.
    pub expires_ms: Option<u64>,
    /// Whether it opens nothing.
    pub disabled: Option<bool>,
}

impl KeyWanted {
    /// Reads what an operator says.
    pub fn read(at: &At<'_>) -> Result<Self, FieldError> {
        at.only(&["name", "scopes", "budget", "expires_ms", "disabled", "tenant"])?;
        let name =
            at.field("name")?.map(|name| name.words(NAME_CHARS_MAX).map(str::to_string)).transpose()?;
        Ok(Self {
            name,
            scopes: at.field("scopes")?.map(|scopes| read_scopes(&scopes)).transpose()?,
            tenant: at.field("tenant")?.map(|tenant| read_tenant(&tenant)).transpose()?,
            budget: at.field("budget")?.map(|budget| read_budget(&budget)).transpose()?,
            expires_ms: at.field("expires_ms")?.map(|end| end.whole(1, u64::MAX >> 11)).transpose()?,
            disabled: at.field("disabled")?.map(|disabled| disabled.flag()).transpose()?,
        })
    }

    /// Changes a key so.
    pub fn apply(self, key: &mut Key) -> Result<(), FieldError> {
        if self.tenant.is_some_and(|tenant| key.tenant.as_ref() != Some(&tenant)) {
            let problem = "is not the key's: a key stays whose it is, make another one".to_string();
            return Err(FieldError { pointer: "/tenant".to_string(), problem });
        }
        key.name = self.name.unwrap_or_else(|| std::mem::take(&mut key.name));
        key.scopes = self.scopes.unwrap_or_else(|| std::mem::take(&mut key.scopes));
        key.budget = self.budget.unwrap_or(key.budget);
        key.expires_ms = self.expires_ms.or(key.expires_ms);
        key.disabled = self.disabled.unwrap_or(key.disabled);
        key.check_tenant()
    }
}

fn read_tenant(at: &At<'_>) -> Result<Tenant, FieldError> {
    Tenant::try_from(at.text()?.to_string()).map_err(|error| at.wrong(error.to_string()))
}

fn read_scopes(at: &At<'_>) -> Result<Vec<Scope>, FieldError> {
    let known = || Scope::ALL.into_iter().map(Scope::name).collect::<Vec<_>>().join(", ");
    let mut scopes = Vec::new();
    for scope in at.list()? {
        let read = Scope::parse(scope.text()?);
        scopes.push(read.ok_or_else(|| scope.wrong(format!("is no scope: use {}", known())))?);
    }
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.is_empty() {
        return Err(at.wrong(format!("is empty: use some of {}", known())));
    }
    Ok(scopes)
}

fn read_budget(at: &At<'_>) -> Result<Budget, FieldError> {
    at.only(&["per_hour", "per_day"])?;
    let of = |name| at.field(name)?.map(|count| count.whole(1, u64::MAX >> 11)).transpose();
    Ok(Budget { per_hour: of("per_hour")?, per_day: of("per_day")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_key_opens_by_its_secret_until_it_ends_and_by_the_one_before_for_a_while() {
        let (first, second) = (digest("first"), digest("second"));
        let mut key = Key {
            number: 1,
            name: "uploads".to_string(),
            scopes: vec![Scope::Match, Scope::Items],
            budget: Budget::default(),
            digest: first,
            tenant: None,
            before: None,
            created_ms: 0,
            created_by: "anna".to_string(),
            rotated_ms: 0,
            expires_ms: Some(10_000),
            disabled: false,
            frozen: None,
        };
        assert!(key.opens(&first, 9_999) && !key.opens(&first, 10_000) && !key.opens(&second, 1));
        key.rotate(second, 2, 1_000);
        assert!(key.opens(&second, 1_000) && key.opens(&first, 2_999) && !key.opens(&first, 3_000));
        key.disabled = true;
        assert!(!key.opens(&second, 1_000));
        let row = serde_json::to_string(&key).unwrap();
        assert_eq!(serde_json::from_str::<Key>(&row).unwrap(), key);
        assert!(!format!("{key:?}").contains(&String::from(first)));
    }

    #[test]
    fn wrong_scopes_are_pointed_at() {
        for (scopes, pointer) in [(json!(["match", "root"]), "/scopes/1"), (json!([]), "/scopes")] {
            let wrong = KeyWanted::read(&At::new(&json!({ "scopes": scopes }), "")).unwrap_err();
            assert_eq!(wrong.pointer, pointer);
        }
    }
}
