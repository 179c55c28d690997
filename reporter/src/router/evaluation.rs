//! The log of what rules said: one row for each case, with every rule's version and every question's answer.
//!
//! Rows of keyspace `evaluations`: ms u64 ‖ number u64, big-endian → JSON row, version 1: [`Evaluation`]. Results are a
//! word for each rule of the table of that version, in its order, with blanks between: `L` live or `B` background (`X`
//! expired); then `p`assed, `f`ailed, `i`napplicable, `e`rrored, `n`ot known before the classifier is asked, or `.` not
//! run; a colon; and a letter of these for each question as written, `-` where the answer did not matter.

use std::ops::ControlFlow;

use index::Position;
use index::store::{Keyspace, Range, StoreError};
use serde::{Deserialize, Serialize};

use super::case::Case;
use super::rule::RuleState;
use super::table::{Outcome, Source};
use crate::desk::item::ItemKey;
use crate::desk::job::counter_or;
use crate::tx::{Tx, read_row};

const LAST_KEY: &[u8] = b"last_evaluation";

/// What rules said of a case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// When, in milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// Its number.
    pub number: u64,
    /// Of which item.
    pub item: ItemKey,
    /// Where that came from.
    pub source: Source,
    /// The arrival it came by; 0 for an upload that did not wait.
    #[serde(default)]
    pub arrival: u64,
    /// Its first hit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hit: Option<Position>,
    /// Which table of rules.
    pub table: u64,
    /// A word for each rule.
    pub results: String,
}

impl Evaluation {
    /// What rules said of this case.
    pub fn of(case: &Case, table: u64, results: String, now_ms: u64) -> Self {
        Self {
            at_ms: now_ms,
            number: 0,
            item: case.item.key.clone(),
            source: case.source,
            arrival: case.item.arrival,
            hit: case.hits.first().copied(),
            table,
            results,
        }
    }
}

/// Adds a rule's word.
pub fn write(results: &mut String, state: RuleState, outcome: Option<Outcome>, letters: &[char]) {
    if !results.is_empty() {
        results.push(' ');
    }
    results.push(match state {
        RuleState::Live => 'L',
        RuleState::Background => 'B',
        RuleState::Draft | RuleState::Expired | RuleState::Archived => 'X',
    });
    results.push(outcome.map_or('.', Outcome::letter));
    results.push(':');
    results.extend(letters);
}

/// Logs an evaluation; gives what it is known by.
pub fn put(tx: &mut Tx<'_>, evaluation: Evaluation) -> Result<(u64, u64), StoreError> {
    let number = counter_or(tx, LAST_KEY, |tx| tx.last_number(Keyspace::Evaluations, &[]))?;
    let id = (evaluation.at_ms, number);
    tx.save(Keyspace::Evaluations, evaluation_key(id), &Evaluation { number, ..evaluation });
    Ok(id)
}

/// An evaluation.
pub fn get(tx: &Tx<'_>, id: (u64, u64)) -> Result<Option<Evaluation>, StoreError> {
    tx.read(Keyspace::Evaluations, &evaluation_key(id))
}

/// Evaluations after one of them, oldest first, at most so many.
pub fn after(tx: &Tx<'_>, id: (u64, u64), max: usize) -> Result<Vec<Evaluation>, StoreError> {
    let from = [&evaluation_key(id)[..], &[0]].concat();
    let mut found = Vec::new();
    tx.scan(Keyspace::Evaluations, Range::starting(&from), &mut |_, row| {
        found.push(read_row(Keyspace::Evaluations, row));
        if found.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    found.into_iter().collect()
}

/// The range of keys of what is older.
pub fn older(before_ms: u64) -> (Vec<u8>, Vec<u8>) {
    (Vec::new(), evaluation_key((before_ms, 0)))
}

fn evaluation_key((at_ms, number): (u64, u64)) -> Vec<u8> {
    [at_ms.to_be_bytes(), number.to_be_bytes()].concat()
}

/// Reads `ms-number`.
pub fn read_id(text: &str) -> Option<(u64, u64)> {
    let (ms, number) = text.split_once('-')?;
    Some((ms.parse().ok()?, number.parse().ok()?))
}
