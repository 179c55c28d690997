//! A hit: an upload that matched banked content, as it is logged, routed and shown.
//!
//! `ingest` and `reporter` never import each other; they meet in these types.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use uuid::{NoContext, Timestamp, Uuid};

use crate::signal::{BankId, ContentId, Distance, Generation, SignalType, number};
use crate::tenant::Tenant;

number! {
    /// Place of a hit in the hit log: 1, 2, 3 … without holes.
    Position(u64)
}

/// One submitted hash that lies within the threshold of at least one banked content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// Where in the log; the hit's id towards everything downstream.
    pub position: Position,
    /// The Submit that carried it, and which of its hashes it is.
    pub request: RequestId,
    /// Zero-based index of the hash in that Submit.
    pub index: u32,
    /// When the engine logged it, in milliseconds since 1970 (UTC).
    pub received_ms: u64,
    /// State of the banks it was matched against.
    pub generation: Generation,
    /// Type of the submitted signal.
    pub signal_type: SignalType,
    /// The submitted signal in text form.
    pub signal: String,
    /// What it matched, nearest first. Never empty.
    pub matches: Vec<HitMatch>,
    /// How many contents matched in all; more than `matches` holds if the answer's limit cut it.
    pub matches_total: u32,
    /// The uploader's number for the content, as the Submit gave it (0 when it gave none).
    pub upload_id: u64,
    /// What the uploader told about the content.
    #[serde(default)]
    pub context: UploadContext,
}

/// One banked content a hit matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HitMatch {
    /// The bank it lies in.
    pub bank: BankId,
    /// The bank's name when the hit was logged: a later rename or deletion must not blank the case.
    pub bank_name: String,
    /// The banked content.
    pub content: ContentId,
    /// Bits between the two signals; 0 for exact types.
    pub distance: Distance,
}

/// What an uploader may tell about a content. Everything is optional and kept as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UploadContext {
    /// The platform's id of the item.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item_id: Option<String>,
    /// The platform's type of the item (`photo`, `avatar`, …); rules may ask for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item_type: Option<String>,
    /// The platform's id of the user who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creator: Option<String>,
    /// Where the media can be fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// When it was made, in milliseconds since 1970 (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at_ms: Option<u64>,
    /// The address it was uploaded from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// The tenant whose key sent it. Uploaders cannot tell it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Tenant>,
    /// Of an item that waited in this program: its arrival, whose jobs it belongs to. Uploaders cannot tell it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrival: Option<u64>,
}

/// The type of an upload of which nobody said what it is.
pub const UPLOAD: &str = "upload";

impl UploadContext {
    /// The same as a tenant's: what it names is its own.
    #[must_use]
    pub fn of(mut self, tenant: Option<&Tenant>) -> Self {
        if let Some(tenant) = tenant {
            self.item_type = self.item_type.map(|of| tenant.own(&of));
            self.tenant = Some(tenant.clone());
        }
        self
    }

    /// The item's type, or what stands for none.
    pub fn item_type_or_upload(&self) -> Cow<'_, str> {
        match &self.item_type {
            Some(of) => Cow::Borrowed(of),
            None => self.own(UPLOAD),
        }
    }

    /// The name of something of who sent it: behind the tenant's, if it was one.
    pub fn own<'n>(&self, name: &'n str) -> Cow<'n, str> {
        self.tenant.as_ref().map_or(Cow::Borrowed(name), |tenant| Cow::Owned(tenant.own(name)))
    }
}

/// A client-made id of a mutating request: a UUID of version 7, so that it carries its own birth time and
/// ids sort by it. Replaying one within the window gives the first answer again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(Uuid);

/// Why bytes or a text are not a request id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a request id is a UUID of version 7 (time-ordered), {found}")]
pub struct RequestIdError {
    found: String,
}

impl RequestId {
    /// A fresh id, stamped with this machine's clock.
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }

    /// A fresh id that is born at this time.
    pub fn fresh_at(born_ms: u64) -> Self {
        let (seconds, nanos) = (born_ms / 1000, (born_ms % 1000) as u32 * 1_000_000);
        Self(Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, nanos)))
    }

    /// The id of something that others name and that happened at this time: the same whenever it is told of.
    pub fn of(born_ms: u64, name: &[u8]) -> Self {
        let mut bytes = Self::floor(born_ms);
        bytes[6..].copy_from_slice(&Sha256::digest(name)[..10]);
        bytes[6] = bytes[6] & 0x0f | 0x70; // version 7
        bytes[8] = bytes[8] & 0x3f | 0x80; // the variant of RFC 9562
        Self(Uuid::from_bytes(bytes))
    }

    /// Reads the 16 bytes of the wire form.
    pub fn from_bytes(bytes: [u8; 16]) -> Result<Self, RequestIdError> {
        let id = Uuid::from_bytes(bytes);
        match id.get_version_num() {
            7 => Ok(Self(id)),
            other => Err(RequestIdError { found: format!("this is version {other}") }),
        }
    }

    /// The 16 bytes of the wire form; they sort by birth time.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The smallest id born at this time: the lower end of a range of keys.
    pub fn floor(born_ms: u64) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&born_ms.to_be_bytes()[2..]);
        bytes
    }

    /// The id of one part of a request that is carried out in parts: the same for the same number, always.
    pub fn part(&self, number: u64) -> Self {
        let mut bytes = *self.0.as_bytes();
        // The last eight bytes are random but for two bits; those stay as they are (`10…`).
        for (byte, part) in
            bytes[9..].iter_mut().zip(number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes())
        {
            *byte ^= part;
        }
        Self(Uuid::from_bytes(bytes))
    }

    /// The id as a tenant says it: another's same id is another, so nobody gets another's answer by sending its id again.
    #[must_use]
    pub fn said_by(self, tenant: Option<&Tenant>) -> Self {
        let Some(tenant) = tenant else { return self };
        let mut bytes = *self.0.as_bytes();
        let digest = Sha256::digest([tenant.name().as_bytes(), &bytes].concat());
        bytes[9..].copy_from_slice(&digest[..7]);
        Self(Uuid::from_bytes(bytes))
    }

    /// When the client made it, in milliseconds since 1970 by the client's clock.
    pub fn born_ms(&self) -> u64 {
        let b = self.0.as_bytes();
        u64::from_be_bytes([0, 0, b[0], b[1], b[2], b[3], b[4], b[5]])
    }
}

impl FromStr for RequestId {
    type Err = RequestIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id = Uuid::parse_str(text).map_err(|error| RequestIdError { found: error.to_string() })?;
        Self::from_bytes(id.into_bytes())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_carry_their_birth_time_and_sort_by_it() {
        let id = RequestId::fresh();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(RequestId::from_bytes(*id.as_bytes()), Ok(id));
        let named = RequestId::of(1_700_000_000_123, b"a name");
        assert_eq!(RequestId::from_bytes(*named.as_bytes()), Ok(named));
        assert_eq!(
            (named.born_ms(), named),
            (1_700_000_000_123, RequestId::of(1_700_000_000_123, b"a name"))
        );
        assert_ne!(named, RequestId::of(1_700_000_000_123, b"another"));
        assert!(RequestId::floor(id.born_ms()) <= *id.as_bytes());
        assert!(RequestId::floor(id.born_ms() + 1) > *id.as_bytes());
        assert!(
            "67e55044-10b1-426f-9247-bb680e5fe0c8"
                .parse::<RequestId>()
                .unwrap_err()
                .to_string()
                .contains("version 4")
        );
    }
}
