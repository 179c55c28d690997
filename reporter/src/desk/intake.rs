//! What came in and is not settled: each arrival waits here, durably, until its media were compared with the banks and
//! rules have seen it.
//!
//! Whatever fails is tried again, later and later, for as long as it takes; who looks sees it wait, and why. What cannot
//! be found out in three days goes to people as unknown. Nothing is taken for clean because something failed.
//!
//! Rows of keyspace `intake` (numbers big-endian):
//!
//! | key | value |
//! |---|---|
//! | `w` ‖ due ms u64 ‖ arrival u64 | JSON row, version 1: [`Arrival`] |
//! | `d` ‖ arrival u64 | u64: its due ms, so that it is found by its number |
//! | `a` ‖ arrival u64 ‖ position u64 | nothing: a hit of it, logged before it was settled |
//! | `t` ‖ queue ‖ number u64 | what a worker has in hand (the program's own: `in_hand`) |

use std::ops::ControlFlow;

use index::store::keys::{decode_u64, encode_u64};
use index::store::{Keyspace, Range, StoreError};
use index::{Position, Tenant};
use serde::{Deserialize, Serialize};

use super::due;
use super::evidence;
use super::item::{Found, Item, Report, Screening};
use super::job::counter;
use super::outbox::pause_ms;
use crate::tx::{Tx, read_row};

/// After so long people decide.
pub const PATIENCE_MS: u64 = 3 * 24 * 3_600_000;
const LAST_KEY: &[u8] = b"last_arrival";

/// Something that waits to be settled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arrival {
    /// Its number: 1, 2, 3 …; 0 before it has one.
    pub number: u64,
    /// The item, as it came.
    pub item: Item,
    /// The report it came by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
    /// The tenant whose key sent it: it is compared with that one's banks and everybody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Tenant>,
    /// Whether it is an upload that matched: its hits are in the log already.
    #[serde(default)]
    pub upload: bool,
    /// Hits of it that are known.
    #[serde(default)]
    pub hits: Vec<Position>,
    /// What hits matched that were logged for it before it was settled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logged: Vec<Found>,
    /// When it is tried next, in milliseconds since 1970 (UTC).
    pub due_ms: u64,
    /// Tries that failed.
    #[serde(default)]
    pub tries: u32,
    /// Why it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// What rules wait for besides.
    #[serde(default)]
    pub needs: Needs,
    /// What the classifier said, once it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classified: Option<Answered>,
    /// Whether the platform was asked for the item's maker.
    #[serde(default)]
    pub asked_for_creator: bool,
    /// Whether people have it already, with what was known of it.
    #[serde(default)]
    pub placed: bool,
    /// Whether it is settled as it is, with what is unknown as unknown.
    #[serde(default)]
    pub given_up: bool,
}

/// What rules wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// The classifier's answer.
    #[serde(default)]
    pub classification: bool,
    /// The item's maker.
    #[serde(default)]
    pub creator: bool,
}

/// The classifier's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answered {
    /// There is nothing to ask about, or nobody to ask.
    Inapplicable,
    /// The highest priority of the item's pictures.
    As(Priority),
}

/// How soon a person should look, as Google's Content Safety API says (specs/coop.md 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Priority {
    /// Hardly ever.
    VeryLow,
    /// Late.
    Low,
    /// In its turn.
    Medium,
    /// Early.
    High,
    /// First.
    VeryHigh,
}

/// The priorities by their names, lowest first.
pub const PRIORITIES: [(&str, Priority); 5] = [
    ("VERY_LOW", Priority::VeryLow),
    ("LOW", Priority::Low),
    ("MEDIUM", Priority::Medium),
    ("HIGH", Priority::High),
    ("VERY_HIGH", Priority::VeryHigh),
];

impl Arrival {
    /// An item that came.
    pub fn of(item: Item, report: Option<Report>) -> Self {
        Self {
            number: 0,
            item,
            report,
            tenant: None,
            upload: false,
            hits: Vec::new(),
            logged: Vec::new(),
            due_ms: 0,
            tries: 0,
            trouble: None,
            needs: Needs::default(),
            classified: None,
            asked_for_creator: false,
            placed: false,
            given_up: false,
        }
    }

    /// The same, sent by a tenant's key.
    #[must_use]
    pub fn from(self, tenant: Option<Tenant>) -> Self {
        Self { tenant, ..self }
    }

    /// Takes what is unknown for unknown, so that it can be settled.
    pub fn give_up(&mut self, why: &str) {
        self.given_up = true;
        self.give_up_media(why);
    }

    /// The same of its media alone.
    pub fn give_up_media(&mut self, why: &str) {
        for media in &mut self.item.media {
            if media.screening == Screening::Waiting {
                media.screening = Screening::Unknown { why: why.to_string() };
            }
        }
    }

    /// Whether something is missing before rules can see it.
    pub fn waits(&self) -> bool {
        !self.given_up && (self.item.waits() || self.needs.classification || self.needs.creator)
    }
}

/// Gives an arrival its number.
pub fn number(tx: &mut Tx<'_>, arrival: &mut Arrival) -> Result<(), StoreError> {
    if arrival.number == 0 {
        arrival.number = counter(tx, LAST_KEY)?;
        arrival.item.arrival = arrival.number;
    }
    Ok(())
}

/// Lets an arrival wait.
pub fn put(tx: &mut Tx<'_>, arrival: &Arrival) {
    tx.save(Keyspace::Intake, due_key(arrival.due_ms, arrival.number), arrival);
    tx.put(Keyspace::Intake, number_key(b'd', arrival.number), encode_u64(arrival.due_ms));
    evidence::claim(tx, arrival.number, &arrival.item);
}

/// The arrival of this number, if it still waits.
pub fn arrival(tx: &Tx<'_>, number: u64) -> Result<Option<Arrival>, StoreError> {
    let Some(row) = tx.get(Keyspace::Intake, &number_key(b'd', number))? else { return Ok(None) };
    tx.read(Keyspace::Intake, &due_key(decode_u64(Keyspace::Intake, &row)?, number))
}

/// An arrival is settled, or will be put anew.
pub fn remove(tx: &mut Tx<'_>, arrival: &Arrival) {
    tx.delete(Keyspace::Intake, due_key(arrival.due_ms, arrival.number));
    tx.delete(Keyspace::Intake, number_key(b'd', arrival.number));
}

/// Something failed: it is tried later. The caller has removed it.
pub fn postpone(tx: &mut Tx<'_>, mut arrival: Arrival, trouble: &str, now_ms: u64) {
    arrival.due_ms = now_ms + pause_ms(arrival.tries);
    arrival.tries = arrival.tries.saturating_add(1);
    arrival.trouble = Some(trouble.to_string());
    put(tx, &arrival);
}

/// Arrivals that are due, from the longest waiting on, at most so many.
pub fn due(tx: &Tx<'_>, now_ms: u64, max: usize) -> Result<Vec<Arrival>, StoreError> {
    let found = due::due(tx, Keyspace::Intake, b"w", now_ms, max)?;
    found.iter().map(|(_, row)| read_row(Keyspace::Intake, row)).collect()
}

/// All that wait, in the order in which they will be tried, after one of them.
pub fn waiting(tx: &Tx<'_>, after: Option<(u64, u64)>, max: usize) -> Result<Vec<Arrival>, StoreError> {
    let from = after.map_or(vec![b'w'], |(due_ms, number)| [&due_key(due_ms, number)[..], &[0]].concat());
    page(tx, &from, Some(b"x"), max)
}

/// How many wait, counted to a limit, and when the oldest of them came.
pub fn backlog(tx: &Tx<'_>, max: usize) -> Result<(u64, Option<u64>), StoreError> {
    let rows = tx.rows(Keyspace::Intake, b"d", max)?;
    let Some((first, _)) = rows.first() else { return Ok((0, None)) };
    let oldest = arrival(tx, decode_u64(Keyspace::Intake, &first[1..])?)?;
    Ok((rows.len() as u64, oldest.map(|arrival| arrival.item.received_ms)))
}

fn page(tx: &Tx<'_>, from: &[u8], to: Option<&[u8]>, max: usize) -> Result<Vec<Arrival>, StoreError> {
    let mut found = Vec::new();
    tx.scan_readable(Keyspace::Intake, Range { from, to, backwards: false }, &mut |_, row| {
        found.push(read_row(Keyspace::Intake, row));
        if found.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    found.into_iter().collect()
}

/// A hit of an arrival that still waits.
pub fn attach(tx: &mut Tx<'_>, arrival: u64, position: Position) {
    tx.put(Keyspace::Intake, [&number_key(b'a', arrival)[..], &position.0.to_be_bytes()].concat(), []);
}

/// Takes an arrival's attached hits.
pub fn take_attached(tx: &mut Tx<'_>, arrival: u64) -> Result<Vec<Position>, StoreError> {
    let prefix = number_key(b'a', arrival);
    let rows = tx.rows(Keyspace::Intake, &prefix, usize::MAX)?;
    let mut positions = Vec::with_capacity(rows.len());
    for (key, _) in rows {
        positions.push(Position(decode_u64(Keyspace::Intake, &key[prefix.len()..])?));
        tx.delete(Keyspace::Intake, key);
    }
    Ok(positions)
}

fn due_key(due_ms: u64, number: u64) -> Vec<u8> {
    [b"w", &due_ms.to_be_bytes()[..], &number.to_be_bytes()].concat()
}

fn number_key(kind: u8, number: u64) -> Vec<u8> {
    [&[kind], &number.to_be_bytes()[..]].concat()
}
