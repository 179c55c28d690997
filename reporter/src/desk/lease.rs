//! Who works on what: a job is lent to one reviewer at a time, for a while.
//!
//! The oldest job of the highest priority goes first, to whoever asks, unless that reviewer skipped it. A reviewer who
//! asks again gets the same job again. What nobody brings back in time waits again, where it stood.

use std::collections::HashMap;
use std::ops::ControlFlow;

use index::store::keys::{decode_u64, encode_u64, wrong};
use index::store::{Batch, Change, Keyspace, Range, StoreError};

use super::child_safety::is_child_safety;
use super::job::{
    Comment, Job, JobId, JobKind, Lease, change_counts, forget_lease, holder_key, job, job_key, lease_key,
    list, move_to, put_job, unlist,
};
use super::queue::QueueName;
use super::settings;
use crate::error::DeskError;
use crate::tx::{Tx, after_prefix, key};

/// Leases taken back at once.
const EXPIRED_MAX: usize = 256;
/// Leases that are moved with the time: more than reviewers have at once.
const LENT_MAX: usize = 10_000;
/// Jobs passed over for a reviewer who skipped them.
const SKIPPED_MAX: usize = 10_000;
/// How long a skipped job does not come again to who skipped it.
const SKIP_MS: u64 = 3_600_000;
const COMMENT_CHARS_MAX: usize = 10_000;

/// Where lists begin. Rows are taken from a list's beginning, and the store walks over what was removed there until it
/// is compacted; so we remember the first row that is left. Forgetting is harmless.
#[derive(Default)]
pub struct Floors(HashMap<Vec<u8>, Vec<u8>>);

impl Floors {
    fn of(&self, prefix: &[u8]) -> Vec<u8> {
        self.0.get(prefix).cloned().unwrap_or_else(|| prefix.to_vec())
    }

    fn raise(&mut self, prefix: &[u8], first: &[u8]) {
        self.0.insert(prefix.to_vec(), first.to_vec());
    }

    /// Takes note of what a commit adds before a beginning.
    pub fn observe(&mut self, batch: &Batch) {
        for change in &batch.changes {
            let Change::Put(Keyspace::Jobs, added, _) = change else { continue };
            if !matches!(added.first(), Some(b'q' | b'l')) {
                continue;
            }
            for (prefix, first) in &mut self.0 {
                if added.starts_with(prefix) && added < first {
                    first.clone_from(added);
                }
            }
        }
    }

    /// Forgets everything: what was taken note of may not have happened.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

/// Who asks for work, and with what.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// Who.
    pub reviewer: &'a str,
    /// What will prove that the job is theirs.
    pub token: &'a str,
    /// Now.
    pub now_ms: u64,
}

/// Lends the next job of a queue; none if none waits.
pub fn next(
    tx: &mut Tx<'_>,
    floors: &mut Floors,
    queue: &QueueName,
    asking: Asking<'_>,
) -> Result<Option<Job>, DeskError> {
    let Asking { reviewer, token, now_ms } = asking;
    take_back(tx, floors, now_ms)?;
    if let Some(row) = tx.get(Keyspace::Jobs, &holder_key(queue, reviewer))? {
        let held = job(tx, JobId(decode_u64(Keyspace::Jobs, &row)?))?;
        let theirs = |lease: &Lease| lease.reviewer == reviewer && lease.until_ms > now_ms;
        if held.as_ref().is_some_and(|held| held.lease.as_ref().is_some_and(theirs)) {
            return Ok(held);
        }
    }
    let Some(mut found) = first_for(tx, floors, queue, reviewer, now_ms)? else { return Ok(None) };
    let of_queue = settings::queue(tx, queue)?;
    let until_ms = now_ms + settings::settings(tx)?.lease_ms(of_queue.as_ref());
    unlist(tx, &found);
    lend(tx, &mut found, Lease { reviewer: reviewer.to_string(), token: token.to_string(), until_ms })?;
    change_counts(tx, queue, |counts| counts.leased += 1)?;
    Ok(Some(found))
}

fn lend(tx: &mut Tx<'_>, job: &mut Job, lease: Lease) -> Result<(), StoreError> {
    tx.put(Keyspace::Jobs, lease_key(lease.until_ms, job.id), []);
    tx.put(Keyspace::Jobs, holder_key(&job.queue, &lease.reviewer), encode_u64(job.id.0));
    job.lease = Some(lease);
    put_job(tx, job);
    Ok(())
}

/// The first waiting job that this reviewer did not skip.
fn first_for(
    tx: &Tx<'_>,
    floors: &mut Floors,
    queue: &QueueName,
    reviewer: &str,
    now_ms: u64,
) -> Result<Option<Job>, StoreError> {
    let prefix = key(b'q', &[queue.as_str()]);
    let (from, to) = (floors.of(&prefix), after_prefix(&prefix));
    let (mut first, mut found, mut passed) = (None, None, 0);
    let range = Range { from: &from, to: to.as_deref(), backwards: false };
    let mut failed = None;
    tx.scan(Keyspace::Jobs, range, &mut |listed, _| {
        first.get_or_insert_with(|| listed.to_vec());
        let id = listed.get(listed.len().saturating_sub(8)..).map(|id| decode_u64(Keyspace::Jobs, id));
        let Some(Ok(id)) = id else {
            failed = Some(wrong(Keyspace::Jobs, "a waiting job's key is cut"));
            return ControlFlow::Break(());
        };
        match skipped(tx, reviewer, JobId(id), now_ms) {
            Ok(true) if passed < SKIPPED_MAX => {
                passed += 1;
                return ControlFlow::Continue(());
            }
            Ok(_) => found = Some(JobId(id)),
            Err(error) => failed = Some(error),
        }
        ControlFlow::Break(())
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    if let Some(first) = first {
        floors.raise(&prefix, &first);
    }
    let Some(id) = found else { return Ok(None) };
    job(tx, id)?.map(Some).ok_or_else(|| wrong(Keyspace::Jobs, "a waiting job is listed and not there"))
}

fn skipped(tx: &Tx<'_>, reviewer: &str, id: JobId, now_ms: u64) -> Result<bool, StoreError> {
    let row = tx.get(Keyspace::Jobs, &skip_key(reviewer, id))?;
    Ok(row.map(|row| decode_u64(Keyspace::Jobs, &row)).transpose()?.is_some_and(|until| until > now_ms))
}

fn skip_key(reviewer: &str, id: JobId) -> Vec<u8> {
    [&key(b's', &[reviewer])[..], &id.0.to_be_bytes()].concat()
}

/// Lets the jobs wait again whose time is over.
pub fn take_back(tx: &mut Tx<'_>, floors: &mut Floors, now_ms: u64) -> Result<usize, StoreError> {
    let (from, to) = (floors.of(b"l"), lease_key(now_ms + 1, JobId(0)));
    let (mut first, mut ended) = (None, Vec::new());
    let range = Range { from: &from, to: Some(&to), backwards: false };
    tx.scan(Keyspace::Jobs, range, &mut |lease, _| {
        first.get_or_insert_with(|| lease.to_vec());
        ended.push(decode_u64(Keyspace::Jobs, lease.get(9..).unwrap_or_default()));
        if ended.len() < EXPIRED_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    if let Some(first) = first {
        floors.raise(b"l", &first);
    }
    let count = ended.len();
    for id in ended {
        let before = tx.savepoint();
        let late = id.and_then(|id| job(tx, JobId(id)));
        let given = late.and_then(|late| late.map_or(Ok(()), |mut late| give_back(tx, &mut late)));
        match given {
            // A job that does not read keeps its lease; the others are taken back.
            Err(error) if error.is_damage() => tx.rollback(before),
            other => other?,
        }
    }
    Ok(count)
}

/// Lets leases end when they would have if the time had not moved by so much, and at most their length from now: a clock
/// that is set changes no lease, and a restart lengthens none. Says how many were changed.
pub fn moved(tx: &mut Tx<'_>, moved_ms: i64, now_ms: u64) -> Result<usize, StoreError> {
    let (settings, mut changed) = (settings::settings(tx)?, 0);
    for (place, _) in tx.rows(Keyspace::Jobs, b"l", LENT_MAX)? {
        let id = decode_u64(Keyspace::Jobs, place.get(9..).unwrap_or_default())?;
        let Some(mut lent) = job(tx, JobId(id))? else { continue };
        let Some(lease) = lent.lease.clone() else { continue };
        let longest_ms = settings.lease_ms(settings::queue(tx, &lent.queue)?.as_ref());
        let until_ms = lease.until_ms.saturating_add_signed(moved_ms).min(now_ms + longest_ms);
        if until_ms != lease.until_ms {
            forget_lease(tx, &lent, &lease);
            lend(tx, &mut lent, Lease { until_ms, ..lease })?;
            changed += 1;
        }
    }
    Ok(changed)
}

/// Lets a job wait again where it stood.
fn give_back(tx: &mut Tx<'_>, job: &mut Job) -> Result<(), StoreError> {
    let Some(lease) = job.lease.take() else { return Ok(()) };
    forget_lease(tx, job, &lease);
    list(tx, job);
    put_job(tx, job);
    change_counts(tx, &job.queue, |counts| counts.leased = counts.leased.saturating_sub(1))
}

/// A job that whoever shows this token has.
pub fn held(tx: &Tx<'_>, id: JobId, token: &str, now_ms: u64) -> Result<Job, DeskError> {
    let job = open(tx, id)?;
    match &job.lease {
        Some(lease) if lease.token == token && lease.until_ms > now_ms => Ok(job),
        _ => Err(DeskError::NotHeld { job: id }),
    }
}

/// A job that nobody has decided.
pub fn open(tx: &Tx<'_>, id: JobId) -> Result<Job, DeskError> {
    let job = job(tx, id)?.ok_or(DeskError::NoJob { job: id })?;
    match &job.closed {
        Some(closed) => {
            Err(DeskError::Closed { job: id, decision: closed.decision.clone(), became: closed.became })
        }
        None => Ok(job),
    }
}

/// Takes a job's lease for longer.
pub fn extend(tx: &mut Tx<'_>, id: JobId, token: &str, now_ms: u64) -> Result<Job, DeskError> {
    let mut job = held(tx, id, token, now_ms)?;
    let Some(lease) = job.lease.take() else { return Err(DeskError::NotHeld { job: id }) };
    forget_lease(tx, &job, &lease);
    let of_queue = settings::queue(tx, &job.queue)?;
    let until_ms = now_ms + settings::settings(tx)?.lease_ms(of_queue.as_ref());
    lend(tx, &mut job, Lease { until_ms, ..lease })?;
    Ok(job)
}

/// Gives a job back; with `skip` it goes to others first.
pub fn release(tx: &mut Tx<'_>, id: JobId, token: &str, skip: bool, now_ms: u64) -> Result<Job, DeskError> {
    let mut job = held(tx, id, token, now_ms)?;
    if let Some(lease) = job.lease.as_ref().filter(|_| skip) {
        tx.put(Keyspace::Jobs, skip_key(&lease.reviewer, id), encode_u64(now_ms + SKIP_MS));
    }
    give_back(tx, &mut job)?;
    Ok(job)
}

/// Moves a job to another queue. One that a reviewer has is moved by them alone.
pub fn transfer(
    tx: &mut Tx<'_>,
    id: JobId,
    token: Option<&str>,
    queue: &QueueName,
    now_ms: u64,
) -> Result<Job, DeskError> {
    let mut job = may_change(tx, id, token, now_ms)?;
    if job.queue == *queue {
        return Ok(job);
    }
    let (settings, own) = (settings::settings(tx)?, settings::queue(tx, queue)?);
    if job.kind == JobKind::Review && *queue == settings.ncmec_queue {
        return Err(DeskError::Conflict {
            problem: format!("'{queue}' is for NCMEC jobs: make one of this job's user ('enqueue to NCMEC')"),
        });
    }
    if (job.kind == JobKind::Ncmec || job.ncmec_wanted) && !is_child_safety(&settings, queue, own.as_ref()) {
        return Err(DeskError::Conflict {
            problem: format!("'{queue}' is not for child safety: move it to a queue that is"),
        });
    }
    if !move_to(tx, &mut job, queue, now_ms)? {
        return Err(DeskError::Conflict {
            problem: format!(
                "'{queue}' has an open job of this item already: decide this one as its duplicate"
            ),
        });
    }
    Ok(job)
}

/// An open job that nobody else has.
pub fn may_change(tx: &Tx<'_>, id: JobId, token: Option<&str>, now_ms: u64) -> Result<Job, DeskError> {
    let job = open(tx, id)?;
    match (&job.lease, token) {
        (Some(lease), _) if lease.until_ms > now_ms && Some(lease.token.as_str()) != token => {
            Err(DeskError::NotHeld { job: id })
        }
        _ => Ok(job),
    }
}

/// Changes where a job stands in its queue.
pub fn set_priority(tx: &mut Tx<'_>, id: JobId, priority: u8) -> Result<Job, DeskError> {
    let mut job = open(tx, id)?;
    if job.lease.is_none() {
        unlist(tx, &job);
    }
    job.priority = priority;
    list(tx, &job);
    put_job(tx, &job);
    Ok(job)
}

/// Adds a comment. Also to a job that is decided.
pub fn comment(
    tx: &mut Tx<'_>,
    id: JobId,
    reviewer: &str,
    text: &str,
    now_ms: u64,
) -> Result<Comment, DeskError> {
    let mut job = job(tx, id)?.ok_or(DeskError::NoJob { job: id })?;
    if text.trim().is_empty() || text.chars().count() > COMMENT_CHARS_MAX {
        let problem = format!("a comment has 1 to {COMMENT_CHARS_MAX} characters");
        return Err(DeskError::field("/text", problem));
    }
    job.comments += 1;
    let comment = Comment { at_ms: now_ms, reviewer: reviewer.to_string(), text: text.to_string() };
    tx.save(Keyspace::Jobs, [&job_key(b'c', id)[..], &job.comments.to_be_bytes()].concat(), &comment);
    put_job(tx, &job);
    Ok(comment)
}
