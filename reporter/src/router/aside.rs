//! Hits that are set aside: routing one of them needs a row that does not read.
//!
//! The router goes on behind such a hit; the hit stays in the log, its row here says why it was not routed, and an alarm
//! tells people. At each start it is tried again, so a hit is routed once what it needs has been restored. A hit is routed
//! and taken from here in one commit, so it is never routed twice.
//!
//! Rows of keyspace `case_meta`: `aside/` ‖ position u64 → JSON row, version 1: [`Aside`].

use index::store::keys::{decode_u64, hit_key};
use index::store::{Keyspace, StoreError};
use index::{Hit, Position};
use serde::{Deserialize, Serialize};

use super::settle::{Routed, Terms};
use crate::desk::alarm;
use crate::error::DeskError;
use crate::tx::{Tx, read_row};

const SPACE: Keyspace = Keyspace::CaseMeta;
const PREFIX: &[u8] = b"aside/";
/// The kind of the alarm.
const ALARM: &str = "routing.set_aside";

/// Why a hit is not routed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aside {
    /// What does not read, in the store's words.
    pub reason: String,
    /// Since when, in milliseconds since 1970 (UTC).
    pub since_ms: u64,
}

/// Whether an error says that something stored does not read.
pub(super) fn is_damage(error: &DeskError) -> bool {
    matches!(error, DeskError::Store(error) if error.is_damage())
}

/// Sets a hit aside.
pub(super) fn set_aside(tx: &mut Tx<'_>, position: Position, reason: &str, now_ms: u64) {
    put(tx, position, reason, now_ms);
    let words = format!(
        "hit {position} is not routed, because a row that this needs does not read ({reason}): `hashward check --rows` \
         names what is damaged; restore a backup, and the next start routes the hit. Other hits are routed."
    );
    // An alarm lies in rows as well. What it says is in the log and in the hit's own row, too.
    let before = tx.savepoint();
    if alarm::raise(tx, ALARM, "the hit log", &words, false, now_ms).is_err() {
        tx.rollback(before);
    }
}

/// Writes a hit's row, and raises no alarm.
pub(super) fn put(tx: &mut Tx<'_>, position: Position, reason: &str, now_ms: u64) {
    tx.save(SPACE, key(position), &Aside { reason: reason.to_string(), since_ms: now_ms });
}

/// The hits that are set aside after this one, at most so many, in their order.
pub fn list(tx: &Tx<'_>, after: Position, max: usize) -> Result<Vec<(Position, Aside)>, StoreError> {
    let (from, to) = (key(Position(after.0.saturating_add(1))), key(Position(u64::MAX)));
    let mut found = Vec::new();
    let range = index::store::Range::between(&from, &to);
    tx.scan_readable(SPACE, range, &mut |place, row| {
        found.push((place.to_vec(), row.to_vec()));
        if found.len() < max { std::ops::ControlFlow::Continue(()) } else { std::ops::ControlFlow::Break(()) }
    })?;
    let read = |(place, row): (Vec<u8>, Vec<u8>)| {
        let position = decode_u64(SPACE, place.get(PREFIX.len()..).unwrap_or_default())?;
        Ok((Position(position), read_row(SPACE, &row)?))
    };
    found.into_iter().map(read).collect()
}

/// Tries the next hits behind this one again; gives what was routed, and the last that was tried.
pub fn retry(
    tx: &mut Tx<'_>,
    terms: Terms<'_>,
    after: Position,
    max: usize,
) -> Result<(Vec<Routed>, Option<Position>), DeskError> {
    let (mut routed, mut last) = (Vec::new(), None);
    for (position, _) in list(tx, after, max)? {
        last = Some(position);
        let before = tx.savepoint();
        match hit_at(tx, position).and_then(|hit| super::route(tx, terms, &hit)) {
            Ok(ways) => {
                routed.extend(ways);
                tx.delete(SPACE, key(position));
            }
            Err(error) if is_damage(&error) => tx.rollback(before),
            Err(error) => return Err(error),
        }
    }
    Ok((routed, last))
}

fn hit_at(tx: &Tx<'_>, position: Position) -> Result<Hit, DeskError> {
    let missing = || index::store::keys::wrong(Keyspace::Hits, &format!("hit {position} is missing"));
    let row = tx.get(Keyspace::Hits, &hit_key(position))?.ok_or_else(missing)?;
    Ok(super::read_row_of(position, &row)?)
}

fn key(position: Position) -> Vec<u8> {
    [PREFIX, &position.0.to_be_bytes()].concat()
}
