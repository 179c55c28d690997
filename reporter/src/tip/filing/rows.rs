//! Where filings lie, and how they are found.
//!
//! Rows of keyspace `tips` (numbers big-endian, names ended by NUL):
//!
//! | key | value |
//! |---|---|
//! | `f` ‖ job u64 | JSON row, version 1: [`Tip`] |
//! | `q` ‖ organisation ‖ due ms u64 ‖ job u64 | nothing: filings that wait, by when they are due |
//! | `t` ‖ job u64 | nothing: filings that somebody works on |
//! | `h` ‖ job u64 | nothing: filings that are held for a person |
//! | `n` ‖ job u64 | JSON row, version 1: [`Informed`] |
//! | `x` ‖ job u64 | JSON row, version 1: [`Draft`], as it was sent last |
//! | `i` ‖ environment u8 ‖ NCMEC's number u64 | u64: the filing that was finished under it |
//! | `p` ‖ user's type, id ‖ all ones minus the time u64 ‖ job u64 | u64: NCMEC's number of a production report |
//! | `r` ‖ job u64 ‖ number u64 | what was sent and received; owned by `record` |
//! | `a`, `u` ‖ number u64, `k` ‖ kind ‖ about | alarms; owned by `desk::alarm` |
//!
//! `desk::retention` takes all rows of a job but `i` when its contents are deleted. It goes by these keys, and reads
//! `environment`, `user` and `filed` of a [`Tip`]: change both together.

use std::ops::ControlFlow;

use index::store::keys::{decode_u64, encode_u64};
use index::store::{Keyspace, Range, StoreError};

use super::{Draft, Filed, Informed, Stage, Tip};
use crate::cyber_tipline::Environment;
use crate::desk::item::ItemKey;
use crate::ids::{JobId, OrgName};
use crate::tx::{Tx, after_prefix, key, read_row};

pub(super) const SPACE: Keyspace = Keyspace::Tips;
/// Organisations that are looked through for filings that are due.
const ORGANISATIONS_MAX: usize = 10_000;
/// Waiting filings that are moved with the time.
const MOVED_MAX: usize = 10_000;
/// Earlier reports that a report names.
const PRIOR_MAX: usize = 1000;

impl Tip {
    /// Whether it waits to be worked on.
    pub fn waits(&self) -> bool {
        !self.taken && self.held.is_none() && self.stage < Stage::Filed
    }
}

/// A filing.
pub fn tip(tx: &Tx<'_>, job: JobId) -> Result<Option<Tip>, StoreError> {
    tx.read(SPACE, &place(b'f', job))
}

/// Filings before this one, the newest first, at most so many.
pub fn tips(tx: &Tx<'_>, before: Option<JobId>, max: usize) -> Result<Vec<Tip>, StoreError> {
    let end = before.map_or_else(|| after_prefix(b"f"), |job| Some(place(b'f', job)));
    let range = Range { from: b"f", to: end.as_deref(), backwards: true };
    let mut found = Vec::new();
    tx.scan(SPACE, range, &mut |_, row| {
        if found.len() < max {
            found.push(read_row(SPACE, row));
        }
        if found.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    found.into_iter().collect()
}

/// What the platform added.
pub fn informed(tx: &Tx<'_>, job: JobId) -> Result<Option<Informed>, StoreError> {
    tx.read(SPACE, &place(b'n', job))
}

/// What a report says, as it is sent.
pub fn draft(tx: &Tx<'_>, job: JobId) -> Result<Option<Draft>, StoreError> {
    tx.read(SPACE, &place(b'x', job))
}

/// The filing that was finished under NCMEC's number.
pub fn by_report(tx: &Tx<'_>, environment: Environment, report_id: i64) -> Result<Option<JobId>, StoreError> {
    let row = tx.get(SPACE, &report_key(environment, report_id))?;
    row.map(|row| decode_u64(SPACE, &row).map(JobId)).transpose()
}

/// NCMEC's numbers of production reports about a user, the newest first.
pub fn prior(tx: &Tx<'_>, user: &ItemKey) -> Result<Vec<i64>, StoreError> {
    let rows = tx.rows(SPACE, &user_key(user), PRIOR_MAX)?;
    rows.iter().map(|(_, row)| decode_u64(SPACE, row).map(|id| id as i64)).collect()
}

/// Filings that are held, the oldest jobs first, at most so many.
pub fn held(tx: &Tx<'_>, max: usize) -> Result<Vec<JobId>, StoreError> {
    jobs(tx, b'h', max)
}

/// Filings that somebody works on.
pub fn taken(tx: &Tx<'_>) -> Result<Vec<JobId>, StoreError> {
    jobs(tx, b't', usize::MAX)
}

/// Organisations that have filings that wait, and when the first of each is due.
pub fn waiting(tx: &Tx<'_>) -> Result<Vec<(OrgName, u64)>, StoreError> {
    let (mut from, end) = (b"q".to_vec(), after_prefix(b"q"));
    let mut found = Vec::new();
    while found.len() < ORGANISATIONS_MAX {
        let mut first = None;
        tx.scan(SPACE, Range { from: &from, to: end.as_deref(), backwards: false }, &mut |key, _| {
            first = Some(key.to_vec());
            ControlFlow::Break(())
        })?;
        let Some((name, due_ms, _)) = first.as_deref().and_then(read_due) else { break };
        from = after_prefix(&due_prefix(&name)).unwrap_or_default();
        found.push((name, due_ms));
    }
    Ok(found)
}

/// An organisation's filings that are due, the ones that have waited longest first, at most so many.
pub fn due(tx: &Tx<'_>, organisation: &OrgName, now_ms: u64, max: usize) -> Result<Vec<JobId>, StoreError> {
    let from = due_prefix(organisation);
    let to = due_key(organisation, now_ms.saturating_add(1), JobId(0));
    let mut found = Vec::new();
    tx.scan_readable(SPACE, Range { from: &from, to: Some(&to), backwards: false }, &mut |key, _| {
        found.extend(read_due(key).map(|(_, _, job)| job));
        if found.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(found)
}

/// Lets filings wait as long as they would have if the time had not moved by so much.
pub fn moved(tx: &mut Tx<'_>, moved_ms: i64) -> Result<(), StoreError> {
    for (place, _) in tx.rows(SPACE, b"q", MOVED_MAX)? {
        let Some(before) = read_due(&place).map(|(_, _, job)| tip(tx, job)).transpose()?.flatten() else {
            continue;
        };
        let after = Tip { due_ms: before.due_ms.saturating_add_signed(moved_ms), ..before.clone() };
        put(tx, Some(&before), &after);
    }
    Ok(())
}

/// Writes a filing over what it was before, and where it is found.
pub(super) fn put(tx: &mut Tx<'_>, before: Option<&Tip>, tip: &Tip) {
    if let Some(before) = before.filter(|before| before.waits()) {
        tx.delete(SPACE, due_key(&before.organisation, before.due_ms, before.job));
    }
    if tip.waits() {
        tx.put(SPACE, due_key(&tip.organisation, tip.due_ms, tip.job), []);
    }
    for (kind, was, is) in [
        (b't', before.is_some_and(|before| before.taken), tip.taken),
        (b'h', before.is_some_and(|before| before.held.is_some()), tip.held.is_some()),
    ] {
        match (was, is) {
            (false, true) => tx.put(SPACE, place(kind, tip.job), []),
            (true, false) => tx.delete(SPACE, place(kind, tip.job)),
            _ => {}
        }
    }
    tx.save(SPACE, place(b'f', tip.job), tip);
}

pub(super) fn put_informed(tx: &mut Tx<'_>, job: JobId, informed: &Informed) {
    tx.save(SPACE, place(b'n', job), informed);
}

pub(super) fn put_draft(tx: &mut Tx<'_>, job: JobId, draft: &Draft) {
    tx.save(SPACE, place(b'x', job), draft);
}

/// Lists a finished report where it is looked for.
pub(super) fn put_filed(tx: &mut Tx<'_>, tip: &Tip, filed: &Filed) {
    tx.put(SPACE, report_key(tip.environment, filed.report_id), encode_u64(tip.job.0));
    if tip.environment == Environment::Production {
        let newest_first = (u64::MAX - filed.at_ms).to_be_bytes();
        let place = [&user_key(&tip.user)[..], &newest_first, &tip.job.0.to_be_bytes()].concat();
        tx.put(SPACE, place, encode_u64(filed.report_id as u64));
    }
}

fn jobs(tx: &Tx<'_>, kind: u8, max: usize) -> Result<Vec<JobId>, StoreError> {
    let rows = tx.rows(SPACE, &[kind], max)?;
    rows.iter().map(|(key, _)| decode_u64(SPACE, &key[1..]).map(JobId)).collect()
}

fn place(kind: u8, job: JobId) -> Vec<u8> {
    [&[kind][..], &job.0.to_be_bytes()].concat()
}

fn due_prefix(organisation: &OrgName) -> Vec<u8> {
    key(b'q', &[organisation.as_str()])
}

fn due_key(organisation: &OrgName, due_ms: u64, job: JobId) -> Vec<u8> {
    [&due_prefix(organisation)[..], &due_ms.to_be_bytes(), &job.0.to_be_bytes()].concat()
}

fn read_due(key: &[u8]) -> Option<(OrgName, u64, JobId)> {
    let end = key.iter().position(|byte| *byte == 0)?;
    let name = OrgName::parse(std::str::from_utf8(key.get(1..end)?).ok()?)?;
    let (due, job) = key.get(end + 1..)?.split_at_checked(8)?;
    Some((name, u64::from_be_bytes(due.try_into().ok()?), JobId(u64::from_be_bytes(job.try_into().ok()?))))
}

fn report_key(environment: Environment, report_id: i64) -> Vec<u8> {
    [&[b'i', environment as u8][..], &report_id.to_be_bytes()].concat()
}

fn user_key(user: &ItemKey) -> Vec<u8> {
    key(b'p', &[&user.type_id, &user.id])
}
