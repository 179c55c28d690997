//! How long the contents of jobs and items are kept, what holds them beyond that, and their deletion, which goes on
//! wherever it was cut short.
//!
//! A job's contents may go when its time is over: after a decision that reports nothing, or after its report is finished.
//! The time is that of the settings when it is over, and never less than was promised when it began. Deletion begins with
//! a commit that takes the evidence out of the rows and remembers its blobs; when these are destroyed another takes
//! everything else, and leaves a tombstone. What somebody holds is not deleted.
//!
//! Rows of keyspace `jobs` (numbers big-endian, names ended by NUL):
//!
//! | key | value |
//! |---|---|
//! | `E` ‖ job u64 | JSON row, version 1: [`Term`] |
//! | `X` ‖ until ms u64 ‖ job u64 | nothing: terms that run out, first ones first; without those that are held |
//! | `H` ‖ job u64 | JSON row, version 1: [`Hold`] |
//! | `D` ‖ job u64 | JSON row, version 1: [`Deletion`], under way |
//! | `T` ‖ job u64 | JSON row, version 1: [`Tombstone`] |
//! | `I` ‖ job u64 ‖ item's type, id | nothing: items that the job names |
//! | `i` ‖ item's type, id ‖ job u64 | nothing: jobs that name the item |
//!
//! Of keyspace `tips`, which `tip::filing` owns, a deletion takes the rows of the job: `f`, `n`, `x`, `r`, `t`, `h`, and the
//! user's `p`. What it reads of `f` is a `Filed`. `i` stays, which says that NCMEC's number was this job's.

use std::ops::ControlFlow;

use index::store::keys::{decode_hit, decode_u64, encode_hit, hit_key, wrong};
use index::store::{Keyspace, Range, StoreError};
use index::{Position, UploadContext};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::child_safety::is_child_safety_job;
use super::decision::{DecisionKind, decision};
use super::evidence;
use super::item::{self, ItemKey};
use super::job::{Job, JobId, JobKind, job, job_key, numbered, put_job};
use super::outbox;
use super::settings::{Settings, settings};
use crate::audit::{self, Entry};
use crate::cyber_tipline::Environment;
use crate::error::DeskError;
use crate::tx::{Budget, Tx, after_prefix, key, read_row};

const SPACE: Keyspace = Keyspace::Jobs;
const DAY_MS: u64 = 24 * 3_600_000;
/// Who deletes what nobody asked to have deleted.
const NOBODY: &str = "retention";
/// Jobs whose deletion one call of [`sweep`] begins, and items that it removes: some milliseconds of a commit, so that others
/// who write need not wait for long.
const JOBS_AT_ONCE: usize = 20;
const ITEMS_AT_ONCE: usize = 500;
/// Rows that one commit takes out of a job.
const ROWS_AT_ONCE: usize = 5000;
/// Writes after which one call of [`sweep`] or [`go_on`] begins nothing more: an item has its uploads, a job its media.
const WRITES_AT_ONCE: usize = 5000;

/// Why a job's contents are kept for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Nothing was reported.
    Dismissed,
    /// Its report is finished.
    Reported,
}

/// For how long a job's contents are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// Why.
    pub ended: Ended,
    /// Since when, in milliseconds since 1970 (UTC).
    pub ended_ms: u64,
    /// Until when at least.
    pub until_ms: u64,
}

impl Term {
    fn new(ended: Ended, now_ms: u64, settings: &Settings) -> Self {
        let begun = Self { ended, ended_ms: now_ms, until_ms: now_ms };
        Self { until_ms: begun.end_ms(settings), ..begun }
    }

    /// Until when by these settings, and not before what was promised.
    pub fn end_ms(&self, settings: &Settings) -> u64 {
        let days = match self.ended {
            Ended::Dismissed => settings.retention_dismissed_days,
            Ended::Reported => settings.retention_reported_days,
        };
        self.until_ms.max(self.ended_ms.saturating_add(days * DAY_MS))
    }
}

/// Somebody's word that a job is not to be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when, in milliseconds since 1970 (UTC).
    pub at_ms: u64,
}

/// A deletion under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// The job.
    pub job: JobId,
    /// Who began it.
    pub by: String,
    /// When, in milliseconds since 1970 (UTC).
    pub begun_ms: u64,
    /// What must be destroyed before the rest goes.
    pub blobs: Vec<String>,
    /// Whether only who may see child safety data reads of it.
    pub child_safety: bool,
}

/// What is left of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// The job.
    pub job: JobId,
    /// When it went, in milliseconds since 1970 (UTC).
    pub deleted_ms: u64,
    /// What it was about.
    pub kind: JobKind,
    /// What became of it at NCMEC, if it was reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Reported>,
}

/// What proves that a job was reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// To which CyberTipline.
    pub environment: Environment,
    /// NCMEC's number.
    pub report_id: i64,
    /// When it was filed, in milliseconds since 1970 (UTC).
    pub filed_ms: u64,
}

/// What a deletion must know of a filing (`tip::filing::Tip`, whose names these are).
#[derive(Deserialize)]
struct Filed {
    environment: Environment,
    user: ItemKey,
    #[serde(default)]
    filed: Option<FiledAs>,
}

/// The same of `tip::filing::Filed`.
#[derive(Deserialize)]
struct FiledAs {
    report_id: i64,
    at_ms: u64,
}

/// A job was decided. What is reported stays until the report is finished.
pub fn closed(tx: &mut Tx<'_>, id: JobId, how: DecisionKind, now_ms: u64) -> Result<(), StoreError> {
    if how != DecisionKind::Report {
        begin_term(tx, id, Ended::Dismissed, now_ms)?;
    }
    Ok(())
}

/// Its time runs from now on.
pub(super) fn begin_term(tx: &mut Tx<'_>, id: JobId, ended: Ended, now_ms: u64) -> Result<(), StoreError> {
    put_term(tx, id, &Term::new(ended, now_ms, &settings(tx)?))
}

/// A job's report is finished: from now on the law's time runs. Its filing is out of the outbox.
pub fn finished(tx: &mut Tx<'_>, id: JobId, now_ms: u64) -> Result<(), DeskError> {
    let refuse = |problem: String| Err(DeskError::Conflict { problem });
    match decision(tx, id)? {
        Some(decided) if decided.kind == DecisionKind::Report => {
            if outbox::is_filed_later(tx, id, decided.at_ms)? {
                return refuse(format!("job {id} waits to be reported"));
            }
        }
        _ => return refuse(format!("job {id} is not decided as a report")),
    }
    if term(tx, id)?.is_none() {
        begin_term(tx, id, Ended::Reported, now_ms)?;
    }
    Ok(())
}

/// For how long a job's contents are kept; none while it is open, or its report is not finished.
pub fn term(tx: &Tx<'_>, id: JobId) -> Result<Option<Term>, StoreError> {
    tx.read(SPACE, &job_key(b'E', id))
}

fn put_term(tx: &mut Tx<'_>, id: JobId, term: &Term) -> Result<(), StoreError> {
    tx.save(SPACE, job_key(b'E', id), term);
    if hold_on(tx, id)?.is_none() {
        tx.put(SPACE, end_key(term.until_ms, id), []);
    }
    Ok(())
}

/// Who holds a job.
pub fn hold_on(tx: &Tx<'_>, id: JobId) -> Result<Option<Hold>, StoreError> {
    tx.read(SPACE, &job_key(b'H', id))
}

/// Holds a job, or gives another reason to.
pub fn hold(tx: &mut Tx<'_>, id: JobId, hold: &Hold) -> Result<(), DeskError> {
    if deletion(tx, id)?.is_some() {
        return Err(DeskError::Conflict {
            problem: format!("job {id} is being deleted: its evidence is gone"),
        });
    }
    if let Some(term) = term(tx, id)? {
        tx.delete(SPACE, end_key(term.until_ms, id));
    }
    tx.save(SPACE, job_key(b'H', id), hold);
    Ok(())
}

/// Holds it no longer.
pub fn let_go(tx: &mut Tx<'_>, id: JobId) -> Result<Hold, DeskError> {
    let held = hold_on(tx, id)?;
    let held = held.ok_or(DeskError::NotFound { what: "hold on job", name: id.to_string() })?;
    tx.delete(SPACE, job_key(b'H', id));
    if let Some(term) = term(tx, id)? {
        tx.put(SPACE, end_key(term.until_ms, id), []);
    }
    Ok(held)
}

/// Notes that a job names an item.
pub fn name(tx: &mut Tx<'_>, id: JobId, of: &ItemKey) {
    tx.put(SPACE, [&job_key(b'I', id)[..], &item_part(of)].concat(), []);
    tx.put(SPACE, [&named_key(of)[..], &id.0.to_be_bytes()].concat(), []);
}

/// The same unless it is noted; true if it was not.
pub(super) fn name_once(tx: &mut Tx<'_>, id: JobId, of: &ItemKey) -> Result<bool, StoreError> {
    let missing = tx.get(SPACE, &[&job_key(b'I', id)[..], &item_part(of)].concat())?.is_none();
    if missing {
        name(tx, id, of);
    }
    Ok(missing)
}

fn is_named(tx: &Tx<'_>, of: &ItemKey) -> Result<bool, StoreError> {
    Ok(!tx.rows(SPACE, &named_key(of), 1)?.is_empty())
}

/// Begins to delete a job, if its time is over and nobody holds it; the record is in the same commit. A deletion that is
/// under way is given again.
pub fn begin(tx: &mut Tx<'_>, id: JobId, by: &str, now_ms: u64) -> Result<Deletion, DeskError> {
    if let Some(under_way) = deletion(tx, id)? {
        return Ok(under_way);
    }
    let doomed = job(tx, id)?.ok_or(DeskError::NoJob { job: id })?;
    let refuse = |problem: String| Err(DeskError::Conflict { problem });
    if let Some(hold) = hold_on(tx, id)? {
        return refuse(format!("job {id} is held by {}: {}", hold.by, hold.reason));
    }
    let Some(term) = term(tx, id)? else {
        let why = if doomed.is_open() { "is open: decide it first" } else { "waits to be reported" };
        return refuse(format!("job {id} {why}"));
    };
    let until_ms = term.end_ms(&settings(tx)?);
    if until_ms > now_ms {
        let days = (until_ms - now_ms).div_ceil(DAY_MS);
        return refuse(format!(
            "job {id} is kept until {until_ms} ms since 1970 (UTC), for {days} more days"
        ));
    }
    let begun = Deletion {
        job: id,
        by: by.to_string(),
        begun_ms: now_ms,
        blobs: evidence::release(tx, id)?,
        child_safety: is_child_safety_job(tx, &doomed)?,
    };
    tx.delete(SPACE, end_key(term.until_ms, id));
    tx.save(SPACE, job_key(b'D', id), &begun);
    record(tx, &begun, "job.deletion_begun", json!({ "until_ms": until_ms, "blobs": begun.blobs }), now_ms)?;
    Ok(begun)
}

fn record(
    tx: &mut Tx<'_>,
    of: &Deletion,
    action: &str,
    details: serde_json::Value,
    now_ms: u64,
) -> Result<(), StoreError> {
    let (who, about, child_safety) = (of.by.clone(), format!("job {}", of.job.0), of.child_safety);
    audit::append(tx, Entry { who, action: action.to_string(), about, details, child_safety }, now_ms)?;
    Ok(())
}

/// The deletion of a job, if it is under way.
pub fn deletion(tx: &Tx<'_>, id: JobId) -> Result<Option<Deletion>, StoreError> {
    tx.read(SPACE, &job_key(b'D', id))
}

/// Deletions under way, at most so many.
pub fn under_way(tx: &Tx<'_>, max: usize) -> Result<Vec<Deletion>, StoreError> {
    tx.rows(SPACE, b"D", max)?.iter().map(|(_, row)| read_row(SPACE, row)).collect()
}

/// Goes on with a deletion whose blobs are destroyed; true when it is done. False asks for another commit: there are more
/// rows than one takes.
pub fn go_on(tx: &mut Tx<'_>, id: JobId, now_ms: u64) -> Result<bool, StoreError> {
    let Some(under_way) = deletion(tx, id)? else { return Ok(true) };
    let mut doomed = job(tx, id)?.ok_or_else(|| wrong(SPACE, "a job is being deleted and not there"))?;
    if !forget_parts(tx, &mut doomed)? {
        put_job(tx, &doomed);
        return Ok(false);
    }
    tx.delete(Keyspace::Decisions, job_key(b'd', id));
    for kind in [b'j', b'E', b'D'] {
        tx.delete(SPACE, job_key(kind, id));
    }
    let report = forget_filing(tx, id)?;
    let details = report.as_ref().map_or(serde_json::Value::Null, |report| json!(report));
    let left = Tombstone { job: id, deleted_ms: now_ms, kind: doomed.kind, report };
    tx.save(SPACE, job_key(b'T', id), &left);
    record(tx, &under_way, "job.deleted", details, now_ms)?;
    Ok(true)
}

/// Takes out what a job consists of, as much as one commit does; true when nothing is left.
fn forget_parts(tx: &mut Tx<'_>, doomed: &mut Job) -> Result<bool, StoreError> {
    if !forget_hits(tx, doomed)? || !forget_items(tx, doomed)? {
        return Ok(false);
    }
    let id = doomed.id;
    let gone = forget_rows(tx, SPACE, &job_key(b'm', id))?;
    doomed.media = doomed.media.saturating_sub(gone as u64);
    Ok(gone < ROWS_AT_ONCE
        && forget_rows(tx, SPACE, &job_key(b'K', id))? < ROWS_AT_ONCE
        && forget_rows(tx, SPACE, &job_key(b'c', id))? < ROWS_AT_ONCE
        && forget_rows(tx, Keyspace::Evidence, &job_key(b'v', id))? < ROWS_AT_ONCE
        && forget_rows(tx, Keyspace::Tips, &job_key(b'r', id))? < ROWS_AT_ONCE)
}

/// What is left of a job that was deleted.
pub fn tombstone(tx: &Tx<'_>, id: JobId) -> Result<Option<Tombstone>, StoreError> {
    tx.read(SPACE, &job_key(b'T', id))
}

/// What was reported, sent and received goes; what proves that it was filed is given.
fn forget_filing(tx: &mut Tx<'_>, id: JobId) -> Result<Option<Reported>, StoreError> {
    let space = Keyspace::Tips;
    let place = job_key(b'f', id);
    let Some(Filed { environment, user, filed }) = tx.read(space, &place)? else { return Ok(None) };
    for (place, _) in tx.rows(space, &key(b'p', &[&user.type_id, &user.id]), usize::MAX)? {
        if place.ends_with(&id.0.to_be_bytes()) {
            tx.delete(space, place);
        }
    }
    for kind in [b'n', b'x', b't', b'h', b'f'] {
        tx.delete(space, job_key(kind, id));
    }
    Ok(filed.map(|FiledAs { report_id, at_ms }| Reported { environment, report_id, filed_ms: at_ms }))
}

/// What a hit held goes; its place in the log stays, because places are counted from the last one.
fn forget_hits(tx: &mut Tx<'_>, doomed: &mut Job) -> Result<bool, StoreError> {
    let prefix = job_key(b'h', doomed.id);
    let rows = numbered(tx, &prefix, 0, ROWS_AT_ONCE)?;
    for (position, _) in &rows {
        let place = hit_key(Position(*position));
        if let Some(row) = tx.get(Keyspace::Hits, &place)? {
            let mut hit = decode_hit(&row)?;
            (hit.signal, hit.matches, hit.matches_total) = (String::new(), Vec::new(), 0);
            (hit.upload_id, hit.context) = (0, UploadContext::default());
            tx.put(Keyspace::Hits, place, encode_hit(&hit));
        }
        tx.delete(SPACE, [&prefix[..], &position.to_be_bytes()].concat());
    }
    doomed.hits = doomed.hits.saturating_sub(rows.len() as u64);
    Ok(rows.len() < ROWS_AT_ONCE)
}

/// Items and reports of the job that no other job names.
fn forget_items(tx: &mut Tx<'_>, doomed: &Job) -> Result<bool, StoreError> {
    let prefix = job_key(b'I', doomed.id);
    let rows = tx.rows(SPACE, &prefix, ROWS_AT_ONCE)?;
    let (done, budget) = (rows.len() < ROWS_AT_ONCE, Budget::begin(tx, WRITES_AT_ONCE));
    for (place, _) in rows {
        let of = read_item(&place[prefix.len()..])?;
        let name = [&named_key(&of)[..], &doomed.id.0.to_be_bytes()].concat();
        let others = tx.rows(SPACE, &named_key(&of), 2)?.iter().any(|(other, _)| *other != name);
        if budget.left(tx) == 0 || !others && !item::forget_item(tx, &of, budget.left(tx))? {
            return Ok(false);
        }
        tx.delete(SPACE, name);
        tx.delete(SPACE, place);
    }
    for id in &doomed.reports {
        if let Some(report) = item::report(tx, id)?
            && !is_named(tx, &report.item)?
        {
            item::forget_report(tx, id);
        }
    }
    Ok(done)
}

/// Takes rows out, as many as one commit does; says how many.
fn forget_rows(tx: &mut Tx<'_>, space: Keyspace, prefix: &[u8]) -> Result<usize, StoreError> {
    let (mut places, end) = (Vec::new(), after_prefix(prefix));
    tx.scan(space, Range { from: prefix, to: end.as_deref(), backwards: false }, &mut |place, _| {
        places.push(place.to_vec());
        if places.len() < ROWS_AT_ONCE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let count = places.len();
    places.into_iter().for_each(|place| tx.delete(space, place));
    Ok(count)
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Jobs whose deletion it began.
    pub jobs: u64,
    /// Items that it removed.
    pub items: u64,
    /// Whether there may be more that is due.
    pub more: bool,
}

/// Begins to delete jobs whose time is over, and removes items that made none, a bounded number of each.
pub fn sweep(tx: &mut Tx<'_>, now_ms: u64) -> Result<Swept, DeskError> {
    let settings = settings(tx)?;
    let to = end_key(now_ms.saturating_add(1), JobId(0));
    let mut due = Vec::new();
    tx.scan(SPACE, Range { from: b"X", to: Some(&to), backwards: false }, &mut |key, _| {
        due.push(decode_u64(SPACE, key.get(9..).unwrap_or_default()).map(JobId));
        if due.len() < JOBS_AT_ONCE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let (mut jobs, mut more, budget) = (0, due.len() == JOBS_AT_ONCE, Budget::begin(tx, WRITES_AT_ONCE));
    for id in due {
        let id = id?;
        if budget.left(tx) == 0 {
            more = true;
            break;
        }
        let over = term(tx, id)?.ok_or_else(|| wrong(SPACE, "a term runs out and is not there"))?;
        let until_ms = over.end_ms(&settings);
        if until_ms > now_ms {
            // The settings keep it for longer than was promised then.
            tx.delete(SPACE, end_key(over.until_ms, id));
            put_term(tx, id, &Term { until_ms, ..over })?;
        } else {
            begin(tx, id, NOBODY, now_ms)?;
            jobs += 1;
        }
    }
    let before_ms = now_ms.saturating_sub(settings.retention_unmatched_days * DAY_MS);
    let mut items = 0;
    let old = item::older(tx, before_ms, ITEMS_AT_ONCE)?;
    more |= old.len() == ITEMS_AT_ONCE;
    for (place, of) in old {
        // What a job names goes with the job. What came again since is listed again.
        let is_old = item::item_alone(tx, &of)?.is_some_and(|item| item.received_ms < before_ms);
        let goes = is_old && !is_named(tx, &of)?;
        if budget.left(tx) == 0 || goes && !item::forget_item(tx, &of, budget.left(tx))? {
            more = true;
            break;
        }
        tx.delete(Keyspace::Items, place);
        items += u64::from(goes);
    }
    if items > 0 {
        let details = json!({ "items": items, "before_ms": before_ms });
        let (who, action, about) = (NOBODY.to_string(), "items.deleted".to_string(), "items".to_string());
        audit::append(tx, Entry { who, action, about, details, child_safety: false }, now_ms)?;
    }
    Ok(Swept { jobs, items, more })
}

fn end_key(until_ms: u64, id: JobId) -> Vec<u8> {
    [b"X", &until_ms.to_be_bytes()[..], &id.0.to_be_bytes()].concat()
}

fn item_part(of: &ItemKey) -> Vec<u8> {
    key(0, &[&of.type_id, &of.id])[1..].to_vec()
}

fn named_key(of: &ItemKey) -> Vec<u8> {
    key(b'i', &[&of.type_id, &of.id])
}

fn read_item(part: &[u8]) -> Result<ItemKey, StoreError> {
    item::read_key(part).ok_or_else(|| wrong(SPACE, "a job names no item"))
}
