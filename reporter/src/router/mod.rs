//! The router: from hits and items to jobs, by rules.
//!
//! A case (`case`) is what rules see: an item with its matches. `settle` asks the rules and writes all that follows;
//! this file follows the hit log with a cursor, and settles what waited. Cursor, jobs and everything else are one batch:
//! either all of it happened or none. The cursor is read from the store at every step, never remembered, so after a commit
//! whose outcome is unknown the next step sees what is true.
//!
//! A hit whose row, or a row that routing it needs, does not read is set aside (`aside`): never lost, and the hits behind
//! it are routed. A hit that is missing stops the router there, with its position in the error.

pub mod aside;
mod case;
pub mod condition;
mod cursor;
pub mod effect;
pub mod evaluation;
pub mod policy;
pub mod replay;
pub mod rule;
pub mod settle;
pub mod table;

use std::ops::ControlFlow;

use index::store::keys::{cursor_key, decode_hit, decode_u64, encode_u64, hit_key, wrong};
use index::store::{Batch, Keyspace, Range, Store, StoreError};
use index::{Hit, Position};

use self::case::Case;
use self::settle::{Routed, Settled, Terms, settle};
use self::table::{Classified, Facts, MatchFact, RuleTable, Screened, Source, Subject};
use crate::desk::intake::{self, Arrival};
use crate::desk::item::{Found, complete};
use crate::desk::job::job_of_hit;
use crate::desk::queue::Verdict;
use crate::error::{DeskError, RouterError};
use crate::tx::Tx;

/// Hits a step routes at most: bounds its memory and the size of its commit.
const STEP_HITS_MAX: usize = 4096;
/// Hits that are read one by one in a step, where some do not read.
const ONE_BY_ONE_MAX: usize = 256;
const STAGE: &str = "router";
/// Tries to learn who made an item that matched, or is reported as child abuse, before people must find out: some fifteen
/// seconds.
pub const CREATOR_TRIES: u32 = 4;

/// How far the router is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// The last hit routed; 0 before the first.
    pub cursor: Position,
    /// The last hit of the log; 0 for an empty one.
    pub log_end: Position,
}

impl Gauges {
    /// Hits that wait for the router.
    pub fn lag(&self) -> u64 {
        self.log_end.0.saturating_sub(self.cursor.0)
    }
}

/// Routes the next hits of the log: one, and further ones until `limit` or `enough` ends the step.
pub fn follow(
    tx: &mut Tx<'_>,
    store: &dyn Store,
    terms: Terms<'_>,
    limit: usize,
    enough: &dyn Fn() -> bool,
) -> Result<Followed, RouterError> {
    let Gauges { cursor, log_end } = gauges(store)?;
    let limit = limit.clamp(1, STEP_HITS_MAX);
    let hits = match hits_after(store, cursor, log_end, limit) {
        Ok(hits) => hits.into_iter().map(|hit| (hit.position, Ok(hit))).collect(),
        Err(error) if is_unread(&error) => {
            hits_one_by_one(store, cursor, log_end, limit.min(ONE_BY_ONE_MAX))?
        }
        Err(error) => return Err(error),
    };
    let (mut last, mut routed, mut set_aside) = (cursor, Vec::new(), 0);
    for (position, hit) in hits {
        if last != cursor && enough() {
            break;
        }
        last = position;
        let before = tx.savepoint();
        match hit.map_err(DeskError::from).and_then(|hit| route(tx, terms, &hit)) {
            Ok(ways) => routed.extend(ways),
            Err(error) if aside::is_damage(&error) => {
                tx.rollback(before);
                aside::set_aside(tx, position, &error.to_string(), terms.now_ms);
                set_aside += 1;
            }
            Err(error) => return Err(of_hit(error)),
        }
    }
    if last != cursor {
        tx.put(Keyspace::CaseMeta, cursor_key(STAGE), encode_u64(last.0));
    }
    Ok(Followed { routed, set_aside, gauges: Gauges { cursor: last, log_end } })
}

/// Finds the router's place again if its row does not read: then routing can go on. Gives the number of hits that were set
/// aside for it, to be tried again at once; none if the place reads, or cannot be found.
pub fn find_place(tx: &mut Tx<'_>, store: &dyn Store, now_ms: u64) -> Result<Option<u64>, StoreError> {
    match store.get(Keyspace::CaseMeta, &cursor_key(STAGE)) {
        Err(error) if error.is_damage() => cursor::find(tx, store, &error, now_ms),
        other => other.map(|_| None),
    }
}

/// What a step of the router did.
pub struct Followed {
    /// What was placed where.
    pub routed: Vec<Routed>,
    /// Hits that were set aside.
    pub set_aside: u64,
    /// How far the router is.
    pub gauges: Gauges,
}

/// Whether the error is a hit that does not read.
fn is_unread(error: &RouterError) -> bool {
    match error {
        RouterError::Hit { .. } => true,
        RouterError::Store(error) => error.is_damage(),
        _ => false,
    }
}

/// A place in the log, with its hit if that reads.
type Placed = (Position, Result<Hit, StoreError>);

/// The next hits where some do not read: each by itself, so that those that do are routed.
fn hits_one_by_one(
    store: &dyn Store,
    cursor: Position,
    log_end: Position,
    limit: usize,
) -> Result<Vec<Placed>, RouterError> {
    let last = log_end.0.min(cursor.0.saturating_add(limit as u64));
    let mut hits = Vec::new();
    for position in (cursor.0.saturating_add(1)..=last).map(Position) {
        let hit = match store.get(Keyspace::Hits, &hit_key(position)) {
            Ok(Some(row)) => read_row_of(position, &row),
            Ok(None) if hits.is_empty() => return Err(RouterError::Hole { missing: position, log_end }),
            Ok(None) => break,
            Err(error) if error.is_damage() => Err(error),
            Err(error) => return Err(error.into()),
        };
        hits.push((position, hit));
    }
    Ok(hits)
}

/// A hit's way: to a job, or to the arrival that it is of, or to wait until something is found out.
fn route(tx: &mut Tx<'_>, terms: Terms<'_>, hit: &Hit) -> Result<Vec<Routed>, DeskError> {
    if let Some(number) = hit.context.arrival {
        if job_of_hit(tx, hit.position)?.is_some() {
            return Ok(Vec::new()); // settled with its arrival
        }
        if intake::arrival(tx, number)?.is_some() {
            intake::attach(tx, number, hit.position);
            return Ok(Vec::new());
        }
    }
    let case = Case::of_hit(tx, &terms.catalog.settings, hit)?;
    match settle(tx, terms, case)? {
        Settled::Done(routed) => Ok(routed),
        Settled::Needs(needs, case) => {
            let mut arrival = case.into_arrival();
            arrival.needs = needs;
            arrival.due_ms = terms.now_ms;
            intake::number(tx, &mut arrival)?;
            intake::put(tx, &arrival);
            Ok(Vec::new())
        }
    }
}

/// Takes something new in: settles it at once if nothing waits, else lets it wait.
pub fn take(tx: &mut Tx<'_>, terms: Terms<'_>, mut arrival: Arrival) -> Result<Vec<Routed>, DeskError> {
    intake::number(tx, &mut arrival)?;
    complete(tx, &mut arrival.item)?;
    go_on(tx, terms, arrival)
}

/// Goes on with something that waited, with what was found out about it. If it waits no longer nothing happens: it was
/// settled before.
pub fn resume(tx: &mut Tx<'_>, terms: Terms<'_>, mut arrival: Arrival) -> Result<Vec<Routed>, DeskError> {
    let Some(before) = intake::arrival(tx, arrival.number)? else { return Ok(Vec::new()) };
    intake::remove(tx, &before);
    attached(tx, &mut arrival)?;
    go_on(tx, terms, arrival)
}

fn go_on(tx: &mut Tx<'_>, terms: Terms<'_>, mut arrival: Arrival) -> Result<Vec<Routed>, DeskError> {
    arrival.due_ms = terms.now_ms;
    if arrival.waits() {
        intake::put(tx, &arrival);
        return Ok(Vec::new());
    }
    let mut askable = terms.askable;
    // Who was asked once is not asked again.
    askable.creator &= !arrival.asked_for_creator && !arrival.given_up;
    askable.classifier &= arrival.classified.is_none() && !arrival.given_up;
    let mut case = Case::of_arrival(&arrival);
    if !terms.askable.classifier && !arrival.given_up && arrival.classified.is_none() {
        case.classified = Classified::Inapplicable;
    }
    match settle(tx, Terms { askable, ..terms }, case)? {
        Settled::Done(routed) => Ok(routed),
        Settled::Needs(needs, _) => {
            arrival.needs = needs;
            intake::put(tx, &arrival);
            Ok(Vec::new())
        }
    }
}

/// Takes in a report. One of child abuse is with NCMEC's reviewers before anything else is known of it, past the routing
/// rules; what its media match joins it there.
pub fn take_report(
    tx: &mut Tx<'_>,
    terms: Terms<'_>,
    mut arrival: Arrival,
) -> Result<Vec<Routed>, DeskError> {
    if !arrival.report.as_ref().is_some_and(|report| report.csam) {
        return take(tx, terms, arrival);
    }
    intake::number(tx, &mut arrival)?;
    complete(tx, &mut arrival.item)?;
    let mut routed = Vec::new();
    if arrival.item.user().is_some() || !terms.askable.creator {
        routed = settle::place_reported(tx, terms, &mut arrival)?;
    } else {
        arrival.needs.creator = true;
    }
    routed.extend(go_on(tx, terms, arrival)?);
    Ok(routed)
}

/// Lets an arrival wait on after a failure. A report of child abuse does not wait for its media: once it is known who is
/// behind it, or that nobody can say, it goes to people.
pub fn postpone(
    tx: &mut Tx<'_>,
    terms: Terms<'_>,
    mut arrival: Arrival,
    trouble: &str,
) -> Result<Vec<Routed>, DeskError> {
    let Some(before) = intake::arrival(tx, arrival.number)? else { return Ok(Vec::new()) };
    intake::remove(tx, &before);
    let csam = arrival.report.as_ref().is_some_and(|report| report.csam);
    let mut routed = Vec::new();
    if csam && !arrival.placed && (!arrival.needs.creator || arrival.tries >= CREATOR_TRIES) {
        routed = settle::place_reported(tx, terms, &mut arrival)?;
    }
    intake::postpone(tx, arrival, trouble, terms.now_ms);
    Ok(routed)
}

/// Adds the hits that were logged for an arrival, and what they matched.
fn attached(tx: &mut Tx<'_>, arrival: &mut Arrival) -> Result<(), DeskError> {
    for position in intake::take_attached(tx, arrival.number)? {
        if arrival.hits.contains(&position) {
            continue;
        }
        arrival.hits.push(position);
        let Some(row) = tx.get(Keyspace::Hits, &hit_key(position))? else { continue };
        let hit = decode_hit(&row)?;
        let found: Vec<Found> = hit
            .matches
            .iter()
            .map(|found| Found { signal_type: hit.signal_type, signal: None, hit: found.clone() })
            .collect();
        arrival.logged.extend(found);
    }
    Ok(())
}

fn of_hit(error: DeskError) -> RouterError {
    match error {
        DeskError::Store(error) => match std::sync::Arc::try_unwrap(error) {
            Ok(error) => RouterError::Store(error),
            Err(error) => RouterError::Store(wrong(Keyspace::Jobs, &error.to_string())),
        },
        other => RouterError::Store(wrong(Keyspace::Jobs, &other.to_string())),
    }
}

/// How far the router is, read from the store: true even while steps fail.
pub fn gauges(store: &dyn Store) -> Result<Gauges, RouterError> {
    let cursor = match store.get(Keyspace::CaseMeta, &cursor_key(STAGE))? {
        Some(row) => Position(decode_u64(Keyspace::CaseMeta, &row)?),
        None => Position(0),
    };
    let log_end = store.last_key(Keyspace::Hits)?;
    let log_end = log_end.map_or(Ok(0), |key| decode_u64(Keyspace::Hits, &key)).map(Position)?;
    if log_end < cursor {
        return Err(RouterError::CursorBeyondLog { cursor, log_end });
    }
    Ok(Gauges { cursor, log_end })
}

/// What the uploader of a hit is told, as far as that hangs on nothing but the hit.
pub fn verdict_of(table: &RuleTable, hit: &Hit, now_ms: u64) -> Verdict {
    let signal = case::bytes_of(hit);
    let context = &hit.context;
    let of = context.item_type_or_upload();
    let facts = Facts {
        subject: match &context.item_id {
            Some(id) => Subject::Item(&of, id),
            None => Subject::Signal(&signal),
        },
        item_type: context.item_type.as_deref(),
        author: context.creator.as_deref(),
        item: None,
        report: None,
        matches: hit.matches.iter().map(|found| MatchFact::new(hit.signal_type, found)),
        screened: Screened::Whole,
        classified: Classified::Inapplicable,
        source: Source::Upload,
    };
    table.verdict(&facts, now_ms)
}

/// Format 1 had no jobs, only hits in queues. They are routed anew, all of them: nobody had decided anything. Gives what
/// makes it so, if there is something of that format.
pub fn renew_format_1(store: &dyn Store) -> Result<Option<Batch>, StoreError> {
    let mut found = false;
    store.scan(Keyspace::QueueEntries, Range::ALL, &mut |_, _| {
        found = true;
        ControlFlow::Break(())
    })?;
    if !found {
        return Ok(None);
    }
    let mut batch = Batch::default();
    batch.delete_range(Keyspace::QueueEntries, [], [u8::MAX]); // its keys began with letters
    batch.delete(Keyspace::CaseMeta, cursor_key(STAGE));
    Ok(Some(batch))
}

/// The hits from the one after `cursor` on, each there and each at its place. What precedes a fault is returned without
/// it: routed first, it leaves the fault to be met, and told, at the cursor.
fn hits_after(
    store: &dyn Store,
    cursor: Position,
    log_end: Position,
    limit: usize,
) -> Result<Vec<Hit>, RouterError> {
    let last = log_end.0.min(cursor.0.saturating_add(limit as u64));
    let (from, to) = (Position(cursor.0.saturating_add(1)), Position(last.saturating_add(1)));
    let mut hits = Vec::new();
    let mut expected = from;
    let mut fault = None;
    store.scan(Keyspace::Hits, Range::between(&hit_key(from), &hit_key(to)), &mut |key, row| {
        if key != hit_key(expected) {
            return ControlFlow::Break(());
        }
        match read_hit(expected, row) {
            Ok(hit) => hits.push(hit),
            Err(error) => {
                fault = Some(error);
                return ControlFlow::Break(());
            }
        }
        expected.0 += 1;
        ControlFlow::Continue(())
    })?;
    if hits.is_empty() && expected < to {
        return Err(fault.unwrap_or(RouterError::Hole { missing: expected, log_end }));
    }
    Ok(hits)
}

fn read_hit(position: Position, row: &[u8]) -> Result<Hit, RouterError> {
    read_row_of(position, row).map_err(|source| RouterError::Hit { position, source })
}

/// Reads the row of a hit, which must say that it is the one of this place.
fn read_row_of(position: Position, row: &[u8]) -> Result<Hit, StoreError> {
    let hit = decode_hit(row)?;
    if hit.position != position {
        return Err(wrong(Keyspace::Hits, &format!("it says it is hit {}", hit.position)));
    }
    Ok(hit)
}
