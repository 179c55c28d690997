//! What must still be told to others, each in a row until it is done: it enters in the batch that makes it necessary, so
//! that no crash comes between.
//!
//! Rows of keyspace `outbox` (numbers big-endian):
//!
//! | key | value |
//! |---|---|
//! | `d` ‖ due ms u64 ‖ number u64 | JSON row, version 1: [`Delivery`], what a webhook is told |
//! | `b` ‖ due ms u64 ‖ number u64 | JSON row, version 1: [`Addition`], what a bank gets |
//! | `f` ‖ decided ms u64 ‖ job u64 | JSON row, version 1: [`Filing`], what is to be reported to NCMEC |
//! | `g` ‖ decided ms u64 ‖ job u64 | JSON row, version 1: [`Filing`] that was taken up and is not over |
//! | `x` ‖ number u64 | JSON row, version 1: [`Delivery`] that was given up |

use std::collections::{BTreeMap, BTreeSet};

use index::SignalType;
use index::store::{Keyspace, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::due;
use super::item::ItemKey;
use super::job::{JobId, counter};
use crate::tx::{Tx, read_row};

const LAST_KEY: &[u8] = b"last_delivery";
/// Given up after so long: a day's outage of the receiver is survived several times over.
const GIVEN_UP_MS: u64 = 7 * 24 * 3_600_000;
const PAUSE_MIN_MS: u64 = 1000;
const PAUSE_MAX_MS: u64 = 3_600_000;

/// What a webhook is told, until it says that it has understood.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// Stays the same over all tries, so that a receiver sees a repeat.
    pub number: u64,
    /// Which webhook.
    pub webhook: String,
    /// What it is told.
    pub body: Value,
    /// Since when, in milliseconds since 1970 (UTC).
    pub since_ms: u64,
    /// When it is tried next.
    pub due_ms: u64,
    /// Tries that failed.
    pub tries: u32,
    /// Why the last one failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// Signals that go into a bank.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Addition {
    /// Its number.
    pub number: u64,
    /// Which bank.
    pub bank: String,
    /// The signals of one medium.
    pub signals: BTreeMap<SignalType, String>,
    /// Where they come from.
    pub note: String,
    /// Since when.
    pub since_ms: u64,
    /// When it is tried next.
    pub due_ms: u64,
    /// Tries that failed.
    pub tries: u32,
    /// Why the last one failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// A decision that must become a report to NCMEC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Filing {
    /// The decided job.
    pub job: JobId,
    /// The user it is about.
    pub user: ItemKey,
    /// When it was decided, in milliseconds since 1970 (UTC).
    pub decided_ms: u64,
}

/// How long to wait after so many failures: doubled each time, from a second to an hour.
pub fn pause_ms(tries: u32) -> u64 {
    PAUSE_MIN_MS.saturating_mul(1 << tries.min(20)).min(PAUSE_MAX_MS)
}

/// Tells a webhook something.
pub fn put_delivery(tx: &mut Tx<'_>, webhook: &str, body: Value, now_ms: u64) -> Result<(), StoreError> {
    let number = counter(tx, LAST_KEY)?;
    let delivery = Delivery {
        number,
        webhook: webhook.to_string(),
        body,
        since_ms: now_ms,
        due_ms: now_ms,
        tries: 0,
        trouble: None,
    };
    tx.save(Keyspace::Outbox, due_key(b'd', now_ms, number), &delivery);
    Ok(())
}

/// Adds a medium's signals to a bank.
pub fn put_addition(
    tx: &mut Tx<'_>,
    bank: &str,
    signals: BTreeMap<SignalType, String>,
    note: String,
    now_ms: u64,
) -> Result<(), StoreError> {
    let number = counter(tx, LAST_KEY)?;
    let addition = Addition {
        number,
        bank: bank.to_string(),
        signals,
        note,
        since_ms: now_ms,
        due_ms: now_ms,
        tries: 0,
        trouble: None,
    };
    tx.save(Keyspace::Outbox, due_key(b'b', now_ms, number), &addition);
    Ok(())
}

/// Hands a decision to who reports it.
pub fn put_filing(tx: &mut Tx<'_>, filing: &Filing) {
    tx.save(Keyspace::Outbox, due_key(b'f', filing.decided_ms, filing.job.0), filing);
}

/// Deliveries that are due, at most so many.
pub fn due_deliveries(tx: &Tx<'_>, now_ms: u64, max: usize) -> Result<Vec<Delivery>, StoreError> {
    due(tx, b'd', now_ms, max)
}

/// The same of additions to banks.
pub fn due_additions(tx: &Tx<'_>, now_ms: u64, max: usize) -> Result<Vec<Addition>, StoreError> {
    due(tx, b'b', now_ms, max)
}

/// Whether a decision of this time waits to be reported, or is being reported.
pub fn is_filed_later(tx: &Tx<'_>, job: JobId, decided_ms: u64) -> Result<bool, StoreError> {
    for kind in [b'f', b'g'] {
        if tx.get(Keyspace::Outbox, &due_key(kind, decided_ms, job.0))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Decisions that nobody has taken up to report, oldest first.
pub fn filings(tx: &Tx<'_>, max: usize) -> Result<Vec<Filing>, StoreError> {
    due(tx, b'f', u64::MAX, max)
}

/// Decisions that are not reported yet: those that are being reported, then those that nobody has taken up.
pub fn filings_open(tx: &Tx<'_>, max: usize) -> Result<Vec<Filing>, StoreError> {
    // A filing that is taken up meanwhile is in the second place when it has left the first: never in neither.
    let waiting = filings(tx, max)?;
    let mut open: Vec<Filing> = due(tx, b'g', u64::MAX, max)?;
    let begun: BTreeSet<(u64, JobId)> = open.iter().map(|filing| (filing.decided_ms, filing.job)).collect();
    open.extend(waiting.into_iter().filter(|filing| !begun.contains(&(filing.decided_ms, filing.job))));
    open.truncate(max);
    Ok(open)
}

/// A decision was taken up.
pub fn begin_filing(tx: &mut Tx<'_>, filing: &Filing) {
    tx.delete(Keyspace::Outbox, due_key(b'f', filing.decided_ms, filing.job.0));
    tx.save(Keyspace::Outbox, due_key(b'g', filing.decided_ms, filing.job.0), filing);
}

/// It is reported, or will not be.
pub fn end_filing(tx: &mut Tx<'_>, job: JobId, decided_ms: u64) {
    for kind in [b'f', b'g'] {
        tx.delete(Keyspace::Outbox, due_key(kind, decided_ms, job.0));
    }
}

/// A delivery was understood.
pub fn delivered(tx: &mut Tx<'_>, delivery: &Delivery) {
    tx.delete(Keyspace::Outbox, due_key(b'd', delivery.due_ms, delivery.number));
}

/// A delivery failed: it is tried later, or given up where it has failed for a week. True if it was given up.
pub fn undelivered(tx: &mut Tx<'_>, delivery: &Delivery, trouble: &str, now_ms: u64) -> bool {
    delivered(tx, delivery);
    let again = Delivery {
        tries: delivery.tries.saturating_add(1),
        due_ms: now_ms + pause_ms(delivery.tries),
        trouble: Some(trouble.to_string()),
        ..delivery.clone()
    };
    let given_up = now_ms.saturating_sub(delivery.since_ms) > GIVEN_UP_MS;
    let place = if given_up {
        [b"x", &again.number.to_be_bytes()[..]].concat()
    } else {
        due_key(b'd', again.due_ms, again.number)
    };
    tx.save(Keyspace::Outbox, place, &again);
    given_up
}

/// An addition is in its bank.
pub fn added(tx: &mut Tx<'_>, addition: &Addition) {
    tx.delete(Keyspace::Outbox, due_key(b'b', addition.due_ms, addition.number));
}

/// An addition failed and is tried later. It is never given up: somebody must mend it.
pub fn not_added(tx: &mut Tx<'_>, addition: &Addition, trouble: &str, now_ms: u64) {
    added(tx, addition);
    let again = Addition {
        tries: addition.tries.saturating_add(1),
        due_ms: now_ms + pause_ms(addition.tries),
        trouble: Some(trouble.to_string()),
        ..addition.clone()
    };
    tx.save(Keyspace::Outbox, due_key(b'b', again.due_ms, again.number), &again);
}

fn due<T: serde::de::DeserializeOwned>(
    tx: &Tx<'_>,
    kind: u8,
    now_ms: u64,
    max: usize,
) -> Result<Vec<T>, StoreError> {
    let found = due::due(tx, Keyspace::Outbox, &[kind], now_ms, max)?;
    found.iter().map(|(_, row)| read_row(Keyspace::Outbox, row)).collect()
}

fn due_key(kind: u8, due_ms: u64, number: u64) -> Vec<u8> {
    [&[kind], &due_ms.to_be_bytes()[..], &number.to_be_bytes()].concat()
}
