//! The router's place in the hit log, found again where its row does not read.
//!
//! Every hit that was routed has a row that names its job, and every hit that waits is named by its arrival; both are in the
//! commit that moved the router on. So the last hit that either names is a place from which the router can go on. Hits
//! before it that nobody names were set aside, or are an arrival's that was settled ahead of the router: they are set
//! aside, and tried again at once. Where these rows do not all read, nothing is guessed and the router stays where it is.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use index::Position;
use index::store::keys::{cursor_key, encode_u64};
use index::store::{Keyspace, Range, StoreError, salvage};

use super::{STAGE, aside};
use crate::desk::alarm;
use crate::desk::intake::Arrival;
use crate::tx::{Tx, read_row};

/// The kind of the alarm.
const ALARM: &str = "routing.place_found";
/// Hits that are set aside at most; where more are named by nobody, something else is wrong.
const UNNAMED_MAX: usize = 100_000;

/// Finds the router's place again; gives the number of hits that are set aside, or none where it cannot be found.
pub(super) fn find(
    tx: &mut Tx<'_>,
    store: &dyn index::store::Store,
    reason: &StoreError,
    now_ms: u64,
) -> Result<Option<u64>, StoreError> {
    let Some(waiting) = waiting(store)? else { return Ok(None) };
    let (mut last, mut unnamed, mut is_whole) = (0, Vec::new(), true);
    let mut reach = |position: u64| {
        while last + 1 < position && unnamed.len() <= UNNAMED_MAX {
            last += 1;
            if !waiting.contains(&last) {
                unnamed.push(Position(last));
            }
        }
        last = last.max(position);
    };
    let visit = &mut |key: &[u8], _: &[u8]| {
        reach(number(key, 1));
        ControlFlow::Continue(())
    };
    salvage(store, Keyspace::Jobs, Range::between(b"p", b"q"), visit, &mut |_| is_whole = false)?;
    waiting.last().into_iter().for_each(|position| reach(*position));
    if !is_whole || unnamed.len() > UNNAMED_MAX {
        return Ok(None);
    }
    for position in &unnamed {
        aside::put(tx, *position, "the router's place was lost, and no job has this hit", now_ms);
    }
    tx.put(Keyspace::CaseMeta, cursor_key(STAGE), encode_u64(last));
    let words = format!(
        "the router's place in the hit log did not read ({reason}); it was found again at hit {last} from the jobs, and \
         {} hits that no job has are tried again. Routing goes on. `hashward check --rows` on the stopped server names what \
         else is damaged; restore a backup if that is needed",
        unnamed.len()
    );
    let before = tx.savepoint();
    if alarm::raise(tx, ALARM, "the hit log", &words, false, now_ms).is_err() {
        tx.rollback(before); // an alarm lies in rows as well; the log tells of it
    }
    Ok(Some(unnamed.len() as u64))
}

/// The hits of what waits to be settled; none if not all of it reads.
fn waiting(store: &dyn index::store::Store) -> Result<Option<BTreeSet<u64>>, StoreError> {
    let (mut waiting, mut is_whole, mut unread) = (BTreeSet::new(), true, false);
    let visit = &mut |key: &[u8], row: &[u8]| {
        match key.first() {
            Some(b'w') => match read_row::<Arrival>(Keyspace::Intake, row) {
                Ok(arrival) => waiting.extend(arrival.hits.iter().map(|position| position.0)),
                Err(_) => unread = true,
            },
            Some(b'a') => drop(waiting.insert(number(key, 9))),
            _ => {}
        }
        ControlFlow::Continue(())
    };
    salvage(store, Keyspace::Intake, Range::ALL, visit, &mut |_| is_whole = false)?;
    Ok((is_whole && !unread).then_some(waiting))
}

/// The number at this place of a key.
fn number(key: &[u8], at: usize) -> u64 {
    key.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}
