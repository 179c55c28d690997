//! Alarms: what somebody must look at, on the books until a person says that they have. What happens again while nobody
//! has is counted, not doubled.
//!
//! Rows of keyspace `tips` (numbers big-endian; the others there are owned by `tip`):
//!
//! | key | value |
//! |---|---|
//! | `a` ‖ number u64 | JSON row, version 1: [`Alarm`] |
//! | `u` ‖ number u64 | one byte for each alarm that nobody acknowledged: 1 if only who may see child safety data sees it |
//! | `k` ‖ kind ‖ NUL ‖ about ‖ NUL | number u64 of the alarm of this kind, about this, that nobody acknowledged |

use std::ops::ControlFlow;

use index::store::keys::{decode_u64, encode_u64};
use index::store::{Keyspace, Range, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::job::counter_or;
use super::outbox;
use super::settings::settings;
use crate::error::DeskError;
use crate::tx::{Tx, key, read_row};

const SPACE: Keyspace = Keyspace::Tips;
const LAST_KEY: &[u8] = b"last_alarm";

/// Something that somebody must look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// From 1.
    pub number: u64,
    /// What kind, in dotted words: `tip.held`.
    pub kind: String,
    /// What it concerns: `job 17`.
    pub about: String,
    /// What has happened, and what to do; as it was last.
    pub words: String,
    /// When it happened first, in milliseconds since 1970 (UTC).
    pub since_ms: u64,
    /// When it happened last.
    pub last_ms: u64,
    /// How often it happened.
    pub times: u64,
    /// Whether only who may see child safety data sees it.
    pub child_safety: bool,
    /// Who has looked at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledged>,
}

/// Somebody's word that they have looked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Who.
    pub by: String,
    /// When, in milliseconds since 1970 (UTC).
    pub at_ms: u64,
}

/// Raises an alarm, or counts it up if nobody has looked at the last one of its kind about this. The operator's webhook is
/// told of a new one. Gives its number.
pub fn raise(
    tx: &mut Tx<'_>,
    kind: &str,
    about: &str,
    words: &str,
    child_safety: bool,
    now_ms: u64,
) -> Result<u64, StoreError> {
    let place = key(b'k', &[kind, about]);
    let open = match tx.get(SPACE, &place)? {
        Some(row) => alarm(tx, decode_u64(SPACE, &row)?)?,
        None => None,
    };
    if let Some(open) = open {
        let again = Alarm {
            words: words.to_string(),
            last_ms: now_ms,
            times: open.times + 1,
            child_safety: open.child_safety || child_safety,
            ..open
        };
        tx.put(SPACE, numbered(b'u', again.number), [u8::from(again.child_safety)]);
        tx.save(SPACE, numbered(b'a', again.number), &again);
        return Ok(again.number);
    }
    let number = counter_or(tx, LAST_KEY, |tx| tx.last_number(SPACE, b"a"))?;
    let (kind, about, words) = (kind.to_string(), about.to_string(), words.to_string());
    if let Some(webhook) = settings(tx)?.alarm_webhook {
        let body = json!({
            "kind": "alarm", "alarm": kind, "about": about, "words": words, "number": number, "at_ms": now_ms,
        });
        outbox::put_delivery(tx, &webhook, body, now_ms)?;
    }
    let (since_ms, last_ms, times) = (now_ms, now_ms, 1);
    let new =
        Alarm { number, kind, about, words, since_ms, last_ms, times, child_safety, acknowledged: None };
    tx.put(SPACE, place, encode_u64(number));
    tx.put(SPACE, numbered(b'u', number), [u8::from(child_safety)]);
    tx.save(SPACE, numbered(b'a', number), &new);
    Ok(number)
}

/// Whether an alarm of this kind about this was raised that nobody has acknowledged.
pub fn is_open(tx: &Tx<'_>, kind: &str, about: &str) -> Result<bool, StoreError> {
    Ok(tx.get(SPACE, &key(b'k', &[kind, about]))?.is_some())
}

/// An alarm by its number.
pub fn alarm(tx: &Tx<'_>, number: u64) -> Result<Option<Alarm>, StoreError> {
    tx.read(SPACE, &numbered(b'a', number))
}

/// Every alarm before this number, newest first, at most so many.
pub fn alarms(tx: &Tx<'_>, before: u64, max: usize) -> Result<Vec<Alarm>, StoreError> {
    let (from, to) = (numbered(b'a', 0), numbered(b'a', before));
    let mut found = Vec::new();
    tx.scan(SPACE, Range { from: &from, to: Some(&to), backwards: true }, &mut |_, row| {
        found.push(read_row(SPACE, row));
        if found.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    found.into_iter().collect()
}

/// Alarms that nobody acknowledged, oldest first, at most so many.
pub fn open_alarms(tx: &Tx<'_>, max: usize) -> Result<Vec<Alarm>, StoreError> {
    let mut open = Vec::new();
    for (place, _) in tx.rows(SPACE, b"u", max)? {
        open.extend(alarm(tx, decode_u64(SPACE, place.get(1..).unwrap_or_default())?)?);
    }
    Ok(open)
}

/// How many alarms nobody acknowledged, counted to a limit; `child_safety` says whether those that are child safety data
/// are counted, too.
pub fn open_count(tx: &Tx<'_>, child_safety: bool, max: usize) -> Result<usize, StoreError> {
    let open = tx.rows(SPACE, b"u", max)?;
    Ok(open.iter().filter(|(_, row)| child_safety || row.first() == Some(&0)).count())
}

/// Somebody has looked at an alarm. Who was first is remembered.
pub fn acknowledge(tx: &mut Tx<'_>, number: u64, by: &str, now_ms: u64) -> Result<Alarm, DeskError> {
    let Some(mut alarm) = alarm(tx, number)? else {
        return Err(DeskError::NotFound { what: "alarm", name: number.to_string() });
    };
    if alarm.acknowledged.is_none() {
        alarm.acknowledged = Some(Acknowledged { by: by.to_string(), at_ms: now_ms });
        tx.delete(SPACE, key(b'k', &[&alarm.kind, &alarm.about]));
        tx.delete(SPACE, numbered(b'u', number));
        tx.save(SPACE, numbered(b'a', number), &alarm);
    }
    Ok(alarm)
}

fn numbered(kind: u8, number: u64) -> Vec<u8> {
    [&[kind], &number.to_be_bytes()[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::settings::{Settings, put_settings};
    use index::store::MemoryStore;

    #[test]
    fn check_17_an_alarm_stays_until_somebody_acknowledges_it() {
        let store = MemoryStore::default();
        let mut tx = Tx::new(&store);
        put_settings(&mut tx, &Settings { alarm_webhook: Some("pager".to_string()), ..Settings::default() });
        let held = raise(&mut tx, "tip.held", "job 1", "look", true, 5).unwrap();
        let circuit = raise(&mut tx, "tip.login", "organisation default", "mend", false, 6).unwrap();
        assert_eq!(raise(&mut tx, "tip.held", "job 1", "look again", true, 7).unwrap(), held);
        let open = open_alarms(&tx, 9).unwrap();
        assert_eq!(open.iter().map(|alarm| alarm.number).collect::<Vec<_>>(), [held, circuit]);
        assert_eq!((open[0].times, open[0].since_ms, open[0].last_ms), (2, 5, 7));
        assert_eq!(open[0].words, "look again");
        assert_eq!((open_count(&tx, true, 99).unwrap(), open_count(&tx, false, 99).unwrap()), (2, 1));
        let told = outbox::due_deliveries(&tx, 9, 9).unwrap();
        assert_eq!(told.iter().map(|told| &told.body["number"]).collect::<Vec<_>>(), [held, circuit]);

        assert!(acknowledge(&mut tx, 99, "anna", 8).is_err());
        assert!(is_open(&tx, "tip.held", "job 1").unwrap() && !is_open(&tx, "tip.held", "job 2").unwrap());
        acknowledge(&mut tx, held, "anna", 8).unwrap();
        assert!(!is_open(&tx, "tip.held", "job 1").unwrap());
        let first = acknowledge(&mut tx, held, "ben", 9).unwrap();
        assert_eq!(first.acknowledged, Some(Acknowledged { by: "anna".to_string(), at_ms: 8 }));
        assert_eq!((open_count(&tx, true, 99).unwrap(), open_count(&tx, false, 99).unwrap()), (1, 1));
        let new = raise(&mut tx, "tip.held", "job 1", "look", true, 10).unwrap();
        assert_ne!(new, held, "what happens after somebody looked is another alarm");
        let all = alarms(&tx, u64::MAX, 9).unwrap();
        assert_eq!(all.iter().map(|alarm| alarm.number).collect::<Vec<_>>(), [new, circuit, held]);
        assert_eq!(alarms(&tx, circuit, 9).unwrap().len(), 1);
    }
}
