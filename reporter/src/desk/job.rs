//! Review jobs: what waits for people, and everything that belongs to it.
//!
//! Rows of keyspace `jobs` (numbers big-endian, names ended by NUL):
//!
//! | key | value |
//! |---|---|
//! | `j` ‖ job u64 | JSON row, version 1: [`Job`] |
//! | `o` ‖ `n` ‖ user's type, id | u64: the user's open NCMEC job, the only one |
//! | `o` ‖ `r` ‖ queue ‖ item's type, id | u64: the item's open review job in that queue |
//! | `q` ‖ queue ‖ u8 255 - priority ‖ enqueued ms u64 ‖ job u64 | nothing: jobs that wait, first ones first |
//! | `l` ‖ lease's end ms u64 ‖ job u64 | nothing: jobs that reviewers have |
//! | `v` ‖ queue ‖ reviewer | u64: the job that the reviewer has |
//! | `s` ‖ reviewer ‖ job u64 | u64: until when the reviewer does not get it again |
//! | `n` ‖ queue | JSON row, version 1: [`QueueCounts`] |
//! | `h` ‖ job u64 ‖ position u64 | nothing: a hit that belongs to it |
//! | `p` ‖ position u64 | u64: the job a hit belongs to, one for each routed hit |
//! | `m` ‖ job u64 ‖ number u64 | JSON row, version 1: a medium of the job |
//! | `K` ‖ job u64 ‖ digest of what the medium is known by | u64: its number |
//! | `c` ‖ job u64 ‖ number u64 | JSON row, version 1: [`Comment`] |
//! | `E X H D T I i` | what is kept for how long; owned by `retention` |
//!
//! Counts change in the batch that changes what they count.

use index::Position;
use index::store::keys::{decode_u64, encode_u64, wrong};
use index::store::{Keyspace, StoreError};
use serde::{Deserialize, Serialize};

use super::item::ItemKey;
use super::queue::{QueueName, Verdict};
pub use crate::ids::JobId;
use crate::tx::{Tx, key};

/// Reasons that a job lists; all are counted.
const REASONS_MAX: usize = 200;
/// Threads, contents and reports that a job lists.
const LISTED_MAX: usize = 200;
/// Where new jobs stand among others.
pub const PRIORITY: u8 = 5;
/// Before the others: reported as child abuse.
pub const PRIORITY_CSAM: u8 = 8;
const LAST_JOB_KEY: &[u8] = b"last_job";

/// What a job is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// An item.
    Review,
    /// A user, with everything known of them.
    Ncmec,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// What it is about.
    pub kind: JobKind,
    /// Where it waits.
    pub queue: QueueName,
    /// 0 to 9; higher ones come first.
    pub priority: u8,
    /// The item, or the user.
    pub subject: ItemKey,
    /// When it was made, in milliseconds since 1970 (UTC).
    pub created_ms: u64,
    /// When it came into its queue.
    pub enqueued_ms: u64,
    /// Goes up with everything that joins it, so that nobody decides on less than there is.
    pub revision: u64,
    /// Hits that belong to it.
    pub hits: u64,
    /// Its media: of an NCMEC job all of the user's, of a review job those of the item that have a URL.
    pub media: u64,
    /// Whether the user has more media than a job lists.
    #[serde(default)]
    pub media_truncated: bool,
    /// Why it is here, the first ones.
    pub reasons: Vec<Reason>,
    /// How many reasons there are.
    pub reasons_total: u64,
    /// Contents that are reported, also those without media.
    #[serde(default)]
    pub contents: Vec<ItemKey>,
    /// Threads around them.
    #[serde(default)]
    pub threads: Vec<ItemKey>,
    /// Reports by users of the platform.
    #[serde(default)]
    pub reports: Vec<String>,
    /// Whether there are more contents, threads or reports than are listed.
    #[serde(default)]
    pub listed_truncated: bool,
    /// What a person must set right: no user is known, or a medium cannot be looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Whether an NCMEC job was meant, and no user is known to make it of.
    #[serde(default)]
    pub ncmec_wanted: bool,
    /// Comments on it.
    #[serde(default)]
    pub comments: u64,
    /// Who has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// Its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Closed>,
}

/// Why something is in a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// When, in milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// What brought it.
    pub item: ItemKey,
    /// In words.
    pub words: String,
    /// The rule that sent it; none for the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The rule's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_version: Option<u64>,
    /// What the rule tells uploaders.
    pub verdict: Verdict,
}

/// A reviewer's hold on a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who.
    pub reviewer: String,
    /// What proves it.
    pub token: String,
    /// Until when, in milliseconds since 1970 (UTC).
    pub until_ms: u64,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// When, in milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// By which decision.
    pub decision: String,
    /// The job that took its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub became: Option<JobId>,
}

/// A comment on a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comment {
    /// When, in milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// By whom.
    pub reviewer: String,
    /// What it says.
    pub text: String,
}

/// What a queue holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueCounts {
    /// Open jobs, those that reviewers have among them.
    pub jobs: u64,
    /// Jobs that reviewers have.
    pub leased: u64,
    /// Hits of the open jobs.
    pub hits: u64,
}

/// What is put into a queue.
pub struct Enqueue<'a> {
    /// What the job is about.
    pub kind: JobKind,
    /// The item, or the user.
    pub subject: &'a ItemKey,
    /// Where a new job waits.
    pub queue: &'a QueueName,
    /// Where it stands there.
    pub priority: u8,
    /// Why.
    pub reason: Reason,
    /// Now.
    pub now_ms: u64,
}

/// The job of this number.
pub fn job(tx: &Tx<'_>, id: JobId) -> Result<Option<Job>, StoreError> {
    tx.read(Keyspace::Jobs, &job_key(b'j', id))
}

/// Writes a job.
pub fn put_job(tx: &mut Tx<'_>, job: &Job) {
    tx.save(Keyspace::Jobs, job_key(b'j', job.id), job);
}

/// The open job of a subject: of a user the one NCMEC job there is in any queue, of an item the one of this queue.
pub fn open_job(
    tx: &Tx<'_>,
    kind: JobKind,
    queue: &QueueName,
    subject: &ItemKey,
) -> Result<Option<Job>, StoreError> {
    let Some(row) = tx.get(Keyspace::Jobs, &open_key(kind, queue, subject))? else { return Ok(None) };
    let id = JobId(decode_u64(Keyspace::Jobs, &row)?);
    let found = job(tx, id)?;
    found.map(Some).ok_or_else(|| wrong(Keyspace::Jobs, "an open job is listed and not there"))
}

/// Adds to the open job of the subject, or makes one; writes nothing but what a new job needs to be found. The caller
/// changes it further, and writes it.
pub fn enqueue(tx: &mut Tx<'_>, what: Enqueue<'_>) -> Result<Job, StoreError> {
    let Enqueue { kind, subject, queue, priority, reason, now_ms } = what;
    if let Some(mut job) = open_job(tx, kind, queue, subject)? {
        job.add_reason(reason);
        if priority > job.priority {
            unlist(tx, &job);
            job.priority = priority;
            list(tx, &job);
        }
        return Ok(job);
    }
    let id = JobId(counter_or(tx, LAST_JOB_KEY, last_job)?);
    let mut job = Job {
        id,
        kind,
        queue: queue.clone(),
        priority,
        subject: subject.clone(),
        created_ms: now_ms,
        enqueued_ms: now_ms,
        revision: 0,
        hits: 0,
        media: 0,
        media_truncated: false,
        reasons: Vec::new(),
        reasons_total: 0,
        contents: Vec::new(),
        threads: Vec::new(),
        reports: Vec::new(),
        listed_truncated: false,
        trouble: None,
        ncmec_wanted: false,
        comments: 0,
        lease: None,
        closed: None,
    };
    job.add_reason(reason);
    tx.put(Keyspace::Jobs, open_key(kind, queue, subject), encode_u64(id.0));
    list(tx, &job);
    change_counts(tx, queue, |counts| counts.jobs += 1)?;
    Ok(job)
}

impl Job {
    /// Notes why something joined, and that something did.
    pub fn add_reason(&mut self, reason: Reason) {
        self.revision += 1;
        self.reasons_total += 1;
        if self.reasons.len() < REASONS_MAX {
            self.reasons.push(reason);
        }
    }

    /// Lists a content, a thread or a report, once.
    pub fn add_content(&mut self, content: &ItemKey) {
        self.listed_truncated |= !add_once(&mut self.contents, content);
    }

    /// The same of a thread.
    pub fn add_thread(&mut self, thread: &ItemKey) {
        self.listed_truncated |= !add_once(&mut self.threads, thread);
    }

    /// The same of a report.
    pub fn add_report(&mut self, report: &String) {
        self.listed_truncated |= !add_once(&mut self.reports, report);
    }

    /// Whether nobody has decided it.
    pub fn is_open(&self) -> bool {
        self.closed.is_none()
    }
}

/// False if there is no room for it.
fn add_once<T: PartialEq + Clone>(list: &mut Vec<T>, one: &T) -> bool {
    if list.contains(one) {
        return true;
    }
    let room = list.len() < LISTED_MAX;
    if room {
        list.push(one.clone());
    }
    room
}

/// Makes a hit belong to a job.
pub fn add_hit(tx: &mut Tx<'_>, job: &mut Job, position: Position) -> Result<(), StoreError> {
    tx.put(Keyspace::Jobs, [&job_key(b'h', job.id)[..], &position.0.to_be_bytes()].concat(), []);
    tx.put(Keyspace::Jobs, hit_key(position), encode_u64(job.id.0));
    job.hits += 1;
    change_counts(tx, &job.queue, |counts| counts.hits += 1)
}

/// The job a hit belongs to; none if it is not routed yet.
pub fn job_of_hit(tx: &Tx<'_>, position: Position) -> Result<Option<JobId>, StoreError> {
    let row = tx.get(Keyspace::Jobs, &hit_key(position))?;
    row.map(|row| decode_u64(Keyspace::Jobs, &row).map(JobId)).transpose()
}

/// Positions of a job's hits after one of them, at most so many.
pub fn hits_of(tx: &Tx<'_>, id: JobId, after: u64, max: usize) -> Result<Vec<Position>, StoreError> {
    let prefix = job_key(b'h', id);
    numbered(tx, &prefix, after, max)
        .map(|rows| rows.into_iter().map(|(number, _)| Position(number)).collect())
}

/// Rows under a prefix whose number comes after this one, at most so many.
pub fn numbered(
    tx: &Tx<'_>,
    prefix: &[u8],
    after: u64,
    max: usize,
) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
    let Some(first) = after.checked_add(1) else { return Ok(Vec::new()) };
    let from = [prefix, &first.to_be_bytes()[..]].concat();
    let end = crate::tx::after_prefix(prefix);
    let range = index::store::Range { from: &from, to: end.as_deref(), backwards: false };
    let mut found: Vec<Result<(u64, Vec<u8>), StoreError>> = Vec::new();
    tx.scan(Keyspace::Jobs, range, &mut |key, row| {
        if found.len() < max {
            found.push(decode_u64(Keyspace::Jobs, &key[prefix.len()..]).map(|number| (number, row.to_vec())));
        }
        if found.len() < max { std::ops::ControlFlow::Continue(()) } else { std::ops::ControlFlow::Break(()) }
    })?;
    found.into_iter().collect()
}

/// Ends a job.
pub fn close(
    tx: &mut Tx<'_>,
    job: &mut Job,
    decision: &str,
    became: Option<JobId>,
    now_ms: u64,
) -> Result<(), StoreError> {
    leave(tx, job)?;
    job.closed = Some(Closed { at_ms: now_ms, decision: decision.to_string(), became });
    put_job(tx, job);
    Ok(())
}

/// Moves an open job to another queue. False if the item has an open job there already.
pub fn move_to(tx: &mut Tx<'_>, job: &mut Job, queue: &QueueName, now_ms: u64) -> Result<bool, StoreError> {
    if job.kind == JobKind::Review && open_job(tx, job.kind, queue, &job.subject)?.is_some() {
        return Ok(false);
    }
    leave(tx, job)?;
    job.queue = queue.clone();
    job.enqueued_ms = now_ms;
    change_counts(tx, queue, |counts| {
        counts.jobs += 1;
        counts.hits += job.hits;
    })?;
    tx.put(Keyspace::Jobs, open_key(job.kind, queue, &job.subject), encode_u64(job.id.0));
    list(tx, job);
    put_job(tx, job);
    Ok(true)
}

/// Takes an open job out of its queue, and from who has it.
fn leave(tx: &mut Tx<'_>, job: &mut Job) -> Result<(), StoreError> {
    let lease = job.lease.take();
    match &lease {
        Some(lease) => forget_lease(tx, job, lease),
        None => unlist(tx, job),
    }
    tx.delete(Keyspace::Jobs, open_key(job.kind, &job.queue, &job.subject));
    change_counts(tx, &job.queue, |counts| {
        counts.jobs = counts.jobs.saturating_sub(1);
        counts.leased = counts.leased.saturating_sub(u64::from(lease.is_some()));
        counts.hits = counts.hits.saturating_sub(job.hits);
    })
}

/// Puts a job among those that wait, unless a reviewer has it.
pub fn list(tx: &mut Tx<'_>, job: &Job) {
    if job.lease.is_none() {
        tx.put(Keyspace::Jobs, waiting_key(job), []);
    }
}

/// Takes it out again.
pub fn unlist(tx: &mut Tx<'_>, job: &Job) {
    tx.delete(Keyspace::Jobs, waiting_key(job));
}

/// Takes away what is written of a lease.
pub fn forget_lease(tx: &mut Tx<'_>, job: &Job, lease: &Lease) {
    tx.delete(Keyspace::Jobs, lease_key(lease.until_ms, job.id));
    tx.delete(Keyspace::Jobs, holder_key(&job.queue, &lease.reviewer));
}

/// What a queue holds.
pub fn counts(tx: &Tx<'_>, queue: &QueueName) -> Result<QueueCounts, StoreError> {
    Ok(tx.read(Keyspace::Jobs, &key(b'n', &[queue.as_str()]))?.unwrap_or_default())
}

/// Changes what a queue is said to hold.
pub fn change_counts(
    tx: &mut Tx<'_>,
    queue: &QueueName,
    change: impl FnOnce(&mut QueueCounts),
) -> Result<(), StoreError> {
    let mut counts = counts(tx, queue)?;
    change(&mut counts);
    tx.save(Keyspace::Jobs, key(b'n', &[queue.as_str()]), &counts);
    Ok(())
}

/// The last job, of those that are there and those that were deleted.
fn last_job(tx: &Tx<'_>) -> Result<u64, StoreError> {
    Ok(tx.last_number(Keyspace::Jobs, b"j")?.max(tx.last_number(Keyspace::Jobs, b"T")?))
}

/// The next of numbers that are counted in `case_meta`.
pub fn counter(tx: &mut Tx<'_>, name: &[u8]) -> Result<u64, StoreError> {
    let last = tx.get(Keyspace::CaseMeta, name)?;
    next_number(tx, name, last)
}

/// The same; where the row does not read, the last number is looked for among the rows that it was given to.
pub fn counter_or(
    tx: &mut Tx<'_>,
    name: &[u8],
    find: impl FnOnce(&Tx<'_>) -> Result<u64, StoreError>,
) -> Result<u64, StoreError> {
    let last = match tx.get(Keyspace::CaseMeta, name) {
        Err(error) if error.is_damage() => Some(encode_u64(find(tx)?).to_vec()),
        last => last?,
    };
    next_number(tx, name, last)
}

fn next_number(tx: &mut Tx<'_>, name: &[u8], last: Option<Vec<u8>>) -> Result<u64, StoreError> {
    let last = last.map_or(Ok(0), |row| decode_u64(Keyspace::CaseMeta, &row))?;
    tx.put(Keyspace::CaseMeta, name, encode_u64(last + 1));
    Ok(last + 1)
}

/// Key of a row that belongs to one job.
pub fn job_key(kind: u8, id: JobId) -> Vec<u8> {
    [&[kind], &id.0.to_be_bytes()[..]].concat()
}

/// Key of a hit's job.
fn hit_key(position: Position) -> Vec<u8> {
    [b"p", &position.0.to_be_bytes()[..]].concat()
}

/// Key of a waiting job.
pub fn waiting_key(job: &Job) -> Vec<u8> {
    let mut key = key(b'q', &[job.queue.as_str()]);
    key.push(255 - job.priority);
    key.extend_from_slice(&job.enqueued_ms.to_be_bytes());
    key.extend_from_slice(&job.id.0.to_be_bytes());
    key
}

/// Key of a lease by its end.
pub fn lease_key(until_ms: u64, id: JobId) -> Vec<u8> {
    [b"l", &until_ms.to_be_bytes()[..], &id.0.to_be_bytes()].concat()
}

/// Key of what a reviewer has in a queue.
pub fn holder_key(queue: &QueueName, reviewer: &str) -> Vec<u8> {
    key(b'v', &[queue.as_str(), reviewer])
}

fn open_key(kind: JobKind, queue: &QueueName, subject: &ItemKey) -> Vec<u8> {
    let rest = match kind {
        JobKind::Ncmec => key(b'n', &[&subject.type_id, &subject.id]),
        JobKind::Review => key(b'r', &[queue.as_str(), &subject.type_id, &subject.id]),
    };
    [b"o", &rest[..]].concat()
}
