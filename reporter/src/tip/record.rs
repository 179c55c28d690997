//! What was sent and received for a filing: the exact bytes, hashed, in order, never changed.
//!
//! What is about to be sent is written down in the commit before it is sent, what came back in the commit of what follows
//! of it. A record's hash covers the hash before it, so that none can be changed or taken out unseen. Media are not
//! written down again: their hashes are, and where their bytes lie. Passwords never are.
//!
//! Rows of keyspace `tips`: `r` ‖ job u64 ‖ number u64 → JSON row, version 1: [`Record`]; numbers count from 1.

use index::store::keys::decode_u64;
use index::store::{Keyspace, Range, StoreError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::audit::Hex;
use crate::ids::JobId;
use crate::tx::{Tx, after_prefix, read_row};

const SPACE: Keyspace = Keyspace::Tips;
const KIND: u8 = b'r';

/// Something that was sent or received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its place among the filing's records, from 1.
    pub number: u64,
    /// When, in milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// What it is.
    #[serde(flatten)]
    pub entry: Entry,
    /// Hash of the record before; empty of the first.
    pub before: String,
    /// SHA-256 over the hash before and this record's JSON without this field.
    #[serde(default)]
    pub hash: String,
}

/// One message, or its absence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Which call: `submit`, `upload`, `fileinfo`, `finish`, `additional_info`.
    pub call: String,
    /// Which way.
    pub direction: Direction,
    /// Method and path of a request; the status of an answer.
    pub head: String,
    /// Headers that matter, without authorisation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// What was in it.
    pub body: Body,
}

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From us: about to be sent.
    Sent,
    /// To us.
    Received,
    /// No whole answer came.
    Lost,
}

/// The bytes of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// Text in UTF-8.
    Utf8(String),
    /// Other bytes, each the character of its number.
    Bytes(String),
    /// A file between two texts: that of a form before it, and that after.
    File {
        /// Before.
        head: String,
        /// Its SHA-256.
        sha256: String,
        /// Its length.
        bytes: u64,
        /// After.
        tail: String,
    },
}

impl Body {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Utf8(text.to_string()),
            Err(_) => Self::Bytes(bytes.iter().map(|byte| char::from(*byte)).collect()),
        }
    }
}

/// Writes down what happens next to a filing.
pub fn append(tx: &mut Tx<'_>, job: JobId, entry: Entry, now_ms: u64) -> Result<(), StoreError> {
    let last = last(tx, job)?;
    let number = last.as_ref().map_or(1, |last| last.number + 1);
    let before = last.map(|last| last.hash).unwrap_or_default();
    let mut record = Record { number, at_ms: now_ms, entry, before, hash: String::new() };
    record.hash = hash_of(&record);
    tx.save(SPACE, place(job, number), &record);
    Ok(())
}

/// A filing's records after one of them, at most so many.
pub fn records(tx: &Tx<'_>, job: JobId, after: u64, max: usize) -> Result<Vec<Record>, StoreError> {
    let (from, to) = (place(job, after.saturating_add(1)), after_prefix(&prefix(job)));
    let mut found = Vec::new();
    tx.scan(SPACE, Range { from: &from, to: to.as_deref(), backwards: false }, &mut |_, row| {
        if found.len() < max {
            found.push(read_row(SPACE, row));
        }
        if found.len() < max { std::ops::ControlFlow::Continue(()) } else { std::ops::ControlFlow::Break(()) }
    })?;
    found.into_iter().collect()
}

/// Whether a record is as it was written.
pub fn is_sound(record: &Record) -> bool {
    record.hash == hash_of(record)
}

/// The first of a filing's records that is not as it was written, or does not follow the one before; none if all are.
pub fn first_broken(tx: &Tx<'_>, job: JobId) -> Result<Option<u64>, StoreError> {
    let (mut after, mut before) = (0, String::new());
    loop {
        let page = records(tx, job, after, 100)?;
        for record in &page {
            if record.number != after + 1 || record.before != before || !is_sound(record) {
                return Ok(Some(after + 1));
            }
            (after, before) = (record.number, record.hash.clone());
        }
        if page.is_empty() {
            return Ok(None);
        }
    }
}

fn last(tx: &Tx<'_>, job: JobId) -> Result<Option<Record>, StoreError> {
    let (from, to) = (prefix(job), after_prefix(&prefix(job)));
    let mut found = None;
    tx.scan(SPACE, Range { from: &from, to: to.as_deref(), backwards: true }, &mut |key, row| {
        found = Some(decode_u64(SPACE, key.get(9..).unwrap_or_default()).and(read_row(SPACE, row)));
        std::ops::ControlFlow::Break(())
    })?;
    found.transpose()
}

fn hash_of(record: &Record) -> String {
    let bare = Record { hash: String::new(), ..record.clone() };
    let json = serde_json::to_vec(&bare).expect("a record of texts and numbers is JSON");
    let mut hash = Sha256::new();
    hash.update(record.before.as_bytes());
    hash.update(json);
    let digest: [u8; 32] = hash.finalize().into();
    Hex(digest).to_string()
}

fn prefix(job: JobId) -> Vec<u8> {
    [&[KIND][..], &job.0.to_be_bytes()].concat()
}

fn place(job: JobId, number: u64) -> Vec<u8> {
    [&prefix(job)[..], &number.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use index::store::MemoryStore;

    fn entry(direction: Direction, bytes: &[u8]) -> Entry {
        let headers = vec![("Request-ID".to_string(), "r-1".to_string())];
        let (call, head) = ("submit".to_string(), "POST /submit".to_string());
        Entry { call, direction, head, headers, body: Body::of(bytes) }
    }

    #[test]
    fn check_58_every_byte_is_kept_in_order_and_a_change_is_found() {
        let store = MemoryStore::default();
        let mut tx = Tx::new(&store);
        for job in [7, 8] {
            for number in 0..5u8 {
                append(&mut tx, JobId(job), entry(Direction::Sent, &[number, 0xff, b'<']), 9).unwrap();
                append(&mut tx, JobId(job), entry(Direction::Received, "<é/>".as_bytes()), 10).unwrap();
            }
        }
        assert_eq!(first_broken(&tx, JobId(7)).unwrap(), None);
        let all = records(&tx, JobId(7), 0, 99).unwrap();
        assert_eq!(all.len(), 10);
        assert_eq!(records(&tx, JobId(7), 8, 99).unwrap(), all[8..]);
        assert_eq!(all[1].entry.body, Body::Utf8("<é/>".to_string()));
        assert_eq!(all[2].entry.body, Body::Bytes("\u{1}ÿ<".to_string()));
        for at in 0..all.len() as u64 {
            let mut changed = Tx::new(&store);
            for record in &all {
                changed.save(SPACE, place(JobId(7), record.number), record);
            }
            let mut other = all[at as usize].clone();
            other.entry.head.push('x');
            changed.save(SPACE, place(JobId(7), at + 1), &other);
            assert_eq!(first_broken(&changed, JobId(7)).unwrap(), Some(at + 1), "changed");
            // Changed with a hash that fits: the one after it does not follow any more.
            other.hash = hash_of(&other);
            changed.save(SPACE, place(JobId(7), at + 1), &other);
            let found = first_broken(&changed, JobId(7)).unwrap();
            assert!(found == Some(at + 2) || at + 1 == all.len() as u64, "{found:?}");
            changed.save(SPACE, place(JobId(7), at + 1), &all[at as usize]);
            changed.delete(SPACE, place(JobId(7), at + 1));
            let found = first_broken(&changed, JobId(7)).unwrap();
            assert!(found == Some(at + 1) || at + 1 == all.len() as u64, "taken out: {found:?}");
        }
    }
}
