//! The audit log: who did what to what, and when, as records that are only ever added, in the commit of what they tell of.
//!
//! Each record's hash is taken over the hash before it, its own number and its stored bytes. So a byte that changes, a
//! record that goes, or two that change places break the chain, and [`verify()`] says where. Whoever can write the database
//! can also forge a whole new chain; against that, the log's end is signed from time to time ([`SignedHead`]) and kept
//! elsewhere. What is signed cannot be changed unseen; what came after the last signed head can.
//!
//! Rows of keyspace `audit`:
//!
//! | key | value |
//! |---|---|
//! | `r` ‖ number u64 | the previous record's hash (32 bytes) ‖ this one's (32 bytes) ‖ body: JSON row, version 1 |
//! | `tip` | number u64 of the last record ‖ its hash (32 bytes) |
//!
//! and those of the tree over them (in `branches.rs`), whose hash is signed too: by it a few hashes prove something about the
//! log to who does not have it ([`Proof`]).

mod branches;
mod heads;
mod hex;
mod page;
mod proof;
mod tree;
mod verify;

use index::RequestId;
use index::store::keys::{decode_u64, encode_u64, json_row, read_json_row, wrong};
use index::store::{Keyspace, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::tx::Tx;

pub use branches::{forget_tree, root_at, stored as signing_reached};
pub use heads::{BadLine, Genuine, Head, Heads, Line, SignedHead};
pub use hex::{Hex, NotHex};
pub use page::{Filter, Page, Shown, Side, page};
pub use proof::{Proof, Proven, Unproven, consistency, inclusion};
pub use tree::TreeHash;
pub use verify::{Fault, Verdict, verify};

/// The hash of a record.
pub type RecordHash = Hex<32>;

const SPACE: Keyspace = Keyspace::Audit;
const RECORD: u8 = b'r';
const TIP_KEY: &[u8] = b"tip";
const ROW_VERSION: u8 = 1;
/// What stands before a body: two hashes.
const FRONT: usize = 64;
/// First words of everything that is hashed or signed here, so that no bytes mean two things.
const GENESIS: &[u8] = b"hashward audit log 1: before the first record";
const RECORD_DOMAIN: &[u8] = b"hashward audit log 1: record\0";

/// What is to be remembered.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Who did it.
    pub who: String,
    /// What was done, in dotted words: `job.decide`, `people.add`, `media.view`, `login.failed`.
    pub action: String,
    /// What it concerns: `job 17`.
    pub about: String,
    /// More of it; null if there is no more.
    pub details: Value,
    /// Only for those who may see child safety matters.
    pub child_safety: bool,
}

/// An entry in its place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// From 1, without holes.
    pub number: u64,
    /// When, in milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// See [`Entry::who`]; so the others of the same name.
    pub who: String,
    /// What was done.
    pub action: String,
    /// What it concerns.
    pub about: String,
    /// More of it.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub details: Value,
    /// Only for those who may see child safety matters.
    pub child_safety: bool,
    /// The hash of the record before.
    pub previous: RecordHash,
    /// Its own.
    pub hash: RecordHash,
}

/// Where the log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// The last record; 0 if there is none.
    pub number: u64,
    /// Its hash.
    pub hash: RecordHash,
}

/// The part of a record that is stored as JSON.
#[derive(Serialize, Deserialize)]
struct Body {
    at_ms: u64,
    who: String,
    action: String,
    about: String,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    details: Value,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    child_safety: bool,
    /// Known to nobody who sees the record sealed: its hash would otherwise tell whether a guess of the rest is right.
    salt: RequestId,
}

/// Adds a record, in the commit of this transaction.
pub fn append(tx: &mut Tx<'_>, entry: Entry, now_ms: u64) -> Result<Record, StoreError> {
    let Tip { number: last, hash: previous } = tip(tx)?;
    let number = last + 1;
    let Entry { who, action, about, details, child_safety } = entry;
    let body = Body { at_ms: now_ms, who, action, about, details, child_safety, salt: RequestId::fresh() };
    let bytes = json_row(ROW_VERSION, &body);
    let hash = record_hash(number, &previous, &bytes);
    tx.put(SPACE, record_key(number), [&previous.0[..], &hash.0, &bytes].concat());
    tx.put(SPACE, TIP_KEY, [&encode_u64(number)[..], &hash.0].concat());
    Ok(body.at(number, previous, hash))
}

/// Where the log ends, as this transaction sees it.
pub fn tip(tx: &Tx<'_>) -> Result<Tip, StoreError> {
    match tx.get(SPACE, TIP_KEY)? {
        Some(row) => read_tip(&row),
        None => Ok(Tip { number: 0, hash: genesis() }),
    }
}

/// A record by its number.
pub fn record(tx: &Tx<'_>, number: u64) -> Result<Option<Record>, StoreError> {
    tx.get(SPACE, &record_key(number))?.map(|row| StoredRow::read(&row)?.record(number)).transpose()
}

impl Body {
    fn at(self, number: u64, previous: RecordHash, hash: RecordHash) -> Record {
        let Body { at_ms, who, action, about, details, child_safety, salt: _ } = self;
        Record { number, at_ms, who, action, about, details, child_safety, previous, hash }
    }
}

/// A record's row in its parts.
struct StoredRow<'r> {
    previous: RecordHash,
    hash: RecordHash,
    body: &'r [u8],
}

impl<'r> StoredRow<'r> {
    fn read(row: &'r [u8]) -> Result<Self, StoreError> {
        let cut = || wrong(SPACE, &format!("a record has {FRONT} bytes or more"));
        let (previous, rest) = row.split_first_chunk().ok_or_else(cut)?;
        let (hash, body) = rest.split_first_chunk().ok_or_else(cut)?;
        Ok(Self { previous: Hex(*previous), hash: Hex(*hash), body })
    }

    /// Whether these are the bytes that were written as the record of this number, behind one of this hash.
    fn follows(&self, number: u64, previous: &RecordHash) -> bool {
        self.previous == *previous && record_hash(number, previous, self.body) == self.hash
    }

    fn record(&self, number: u64) -> Result<Record, StoreError> {
        Ok(read_json_row::<Body>(SPACE, ROW_VERSION, self.body)?.at(number, self.previous, self.hash))
    }
}

fn read_tip(row: &[u8]) -> Result<Tip, StoreError> {
    let (number, hash) = row.split_at_checked(8).ok_or_else(|| wrong(SPACE, "the tip is cut"))?;
    let hash = hash.try_into().map_err(|_| wrong(SPACE, "the tip's hash has not 32 bytes"))?;
    Ok(Tip { number: decode_u64(SPACE, number)?, hash: Hex(hash) })
}

/// Unambiguous: everything before the body has a fixed length.
fn record_hash(number: u64, previous: &RecordHash, body: &[u8]) -> RecordHash {
    let hash = Sha256::new()
        .chain_update(RECORD_DOMAIN)
        .chain_update(previous.0)
        .chain_update(encode_u64(number))
        .chain_update(body);
    Hex(hash.finalize().into())
}

/// What the first record has as the previous hash.
fn genesis() -> RecordHash {
    Hex(Sha256::digest(GENESIS).into())
}

fn record_key(number: u64) -> [u8; 9] {
    let mut key = [RECORD; 9];
    key[1..].copy_from_slice(&encode_u64(number));
    key
}

/// The number in a record's key; none if it is another row's.
fn read_record_key(key: &[u8]) -> Option<u64> {
    let (&kind, number) = key.split_first()?;
    if kind == RECORD { number.try_into().ok().map(u64::from_be_bytes) } else { None }
}

#[cfg(test)]
mod tests;
