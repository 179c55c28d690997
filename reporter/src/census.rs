//! Counting everything, and finding what is not in exactly one right place: a hit in two jobs or in none, a job that
//! nobody can find, a count that does not count. Reads every row; for operators who doubt, and for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use index::Position;
use index::store::{Keyspace, Range, Store, StoreError, salvage};
use serde::Serialize;

use crate::desk::decision::{Decision, DecisionKind};
use crate::desk::evidence::{MEDIUM, Piece, State, TIP};
use crate::desk::intake::Arrival;
use crate::desk::item::ItemKey;
use crate::desk::job::{Job, JobId, JobKind, QueueCounts};
use crate::desk::outbox::Filing;
use crate::router;
use crate::tip::filing::{Stage, Tip};
use crate::tx::{Tx, read_row};

/// Faults that are listed; all are counted.
const LISTED_MAX: usize = 100;

/// What there is, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Census {
    /// Hits in the log.
    pub hits: u64,
    /// Of those, routed to a job.
    pub hits_in_jobs: u64,
    /// Of those, with an item that waits.
    pub hits_waiting: u64,
    /// Of those, not reached by the router yet.
    pub hits_ahead: u64,
    /// Of those, of jobs that were deleted: their places are left.
    pub hits_deleted: u64,
    /// Of those, set aside: something that routing them needs does not read.
    pub hits_set_aside: u64,
    /// Items that wait.
    pub waiting: u64,
    /// Items that are settled.
    pub items: u64,
    /// Jobs.
    pub jobs: u64,
    /// Of those, open.
    pub open: u64,
    /// Decisions.
    pub decisions: u64,
    /// Decisions that must be reported and are not yet.
    pub filings: u64,
    /// Of those, held for a person.
    pub filings_held: u64,
    /// Reports that NCMEC has.
    pub filed: u64,
    /// Media that are preserved.
    pub media_kept: u64,
    /// Media that wait to be.
    pub media_waiting: u64,
    /// Media that could not be.
    pub media_given_up: u64,
    /// Further files of reports that are preserved.
    pub tip_files: u64,
    /// Parts of the database that do not read. What lies in them is counted nowhere above, and may show as faults.
    pub unreadable: u64,
    /// How many faults there are.
    pub faults: u64,
    /// The first of them, in words.
    pub listed: Vec<String>,
}

impl Census {
    fn fault(&mut self, words: String) {
        self.faults += 1;
        if self.listed.len() < LISTED_MAX {
            self.listed.push(words);
        }
    }

    fn unread(&mut self, unread: Unread) {
        self.unreadable += unread.count;
        let room = LISTED_MAX.saturating_sub(self.listed.len());
        self.listed.extend(unread.first.into_iter().take(room));
    }
}

/// What is compared of a job.
struct JobSeen {
    is_open: bool,
    is_leased: bool,
    hits: u64,
    media: u64,
}

/// Everything that is read before it is compared.
#[derive(Default)]
struct Read {
    jobs: BTreeMap<JobId, JobSeen>,
    /// What the open jobs make each queue hold.
    counted: BTreeMap<String, QueueCounts>,
    /// Users with open NCMEC jobs, and those of them that have two.
    users: BTreeMap<ItemKey, JobId>,
    doubled: Vec<(String, JobId, JobId)>,
    /// By position: the jobs that have it, and the job it is said to belong to.
    hits: BTreeMap<u64, (Vec<JobId>, Option<JobId>)>,
    waiting: BTreeSet<JobId>,
    leased: BTreeSet<JobId>,
    deleted: BTreeSet<JobId>,
    /// Jobs that are being deleted.
    going: BTreeSet<JobId>,
    open: BTreeMap<JobId, u64>,
    /// Jobs of which something says how long they are kept.
    ending: BTreeSet<JobId>,
    media: BTreeMap<JobId, u64>,
    counts: BTreeMap<String, QueueCounts>,
    /// By position: the arrivals that it waits with.
    attached: BTreeMap<u64, BTreeSet<u64>>,
    /// Positions that the router has set aside.
    aside: BTreeSet<u64>,
}

/// Counts everything as it is now. Others may write meanwhile: what they commit is not seen. Takes some 100 bytes of
/// memory for each hit, job, and medium.
pub fn census(store: &dyn Store) -> Result<Census, StoreError> {
    let store = &*store.snapshot();
    let mut census = Census::default();
    let mut read = Read::default();
    census.unread(each(store, Keyspace::Jobs, |key, row| read.job_row(key, row))?);
    let mut items = 0;
    let unread = each(store, Keyspace::Items, |key, _| {
        items += u64::from(key.first() == Some(&b'i'));
        Ok(())
    })?;
    census.items = items;
    census.unread(unread);
    let set_aside = router::aside::list(&Tx::new(store), Position(0), usize::MAX);
    read.aside = set_aside.into_iter().flatten().map(|(position, _)| position.0).collect();
    waiting(store, &mut census, &mut read)?;
    jobs(&mut census, &mut read);
    decisions(store, &mut census, &read)?;
    hits(store, &mut census, &read)?;
    media(store, &mut census, &read)?;
    Ok(census)
}

/// What of a keyspace does not read.
#[derive(Default)]
struct Unread {
    count: u64,
    first: Vec<String>,
}

impl Unread {
    fn add(&mut self, words: String) {
        self.count += 1;
        if self.first.len() < LISTED_MAX {
            self.first.push(words);
        }
    }
}

/// Visits every row that reads; gives what does not.
fn each(
    store: &dyn Store,
    space: Keyspace,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<Unread, StoreError> {
    let (mut rows, mut parts) = (Unread::default(), Unread::default());
    salvage(
        store,
        space,
        Range::ALL,
        &mut |key, row| {
            if let Err(error) = visit(key, row) {
                rows.add(format!("row {} of '{}' does not read: {error}", shown(key), space.name()));
            }
            ControlFlow::Continue(())
        },
        &mut |lost| {
            parts.add(format!("'{}' does not read at {}: {}", space.name(), shown(&lost.from), lost.reason));
        },
    )?;
    rows.first.append(&mut parts.first);
    rows.count += parts.count;
    Ok(rows)
}

/// A key, in hex.
fn shown(key: &[u8]) -> String {
    key.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The number at this place of a key.
fn number(key: &[u8], at: usize) -> u64 {
    key.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

fn value(row: &[u8]) -> JobId {
    JobId(number(row, 0))
}

impl Read {
    fn job(&mut self, id: JobId, job: Job) {
        let (is_open, is_leased) = (job.is_open(), job.lease.is_some());
        self.jobs.insert(id, JobSeen { is_open, is_leased, hits: job.hits, media: job.media });
        if !is_open {
            return;
        }
        let counts = self.counted.entry(job.queue.as_str().to_string()).or_default();
        counts.jobs += 1;
        counts.leased += u64::from(is_leased);
        counts.hits += job.hits;
        if job.kind == JobKind::Ncmec {
            let user = job.subject.id.to_string();
            if let Some(other) = self.users.insert(job.subject, id) {
                self.doubled.push((user, other, id));
            }
        }
    }

    fn job_row(&mut self, key: &[u8], row: &[u8]) -> Result<(), StoreError> {
        match key.first() {
            Some(b'j') => {
                self.job(JobId(number(key, 1)), read_row(Keyspace::Jobs, row)?);
            }
            Some(b'h') => self.hits.entry(number(key, 9)).or_default().0.push(JobId(number(key, 1))),
            Some(b'p') => self.hits.entry(number(key, 1)).or_default().1 = Some(value(row)),
            Some(b'q') => drop(self.waiting.insert(JobId(number(key, key.len().saturating_sub(8))))),
            Some(b'l') => drop(self.leased.insert(JobId(number(key, 9)))),
            Some(b'T') => drop(self.deleted.insert(JobId(number(key, 1)))),
            Some(b'D') => {
                self.going.insert(JobId(number(key, 1)));
                self.ending.insert(JobId(number(key, 1)));
            }
            Some(b'E' | b'I') => drop(self.ending.insert(JobId(number(key, 1)))),
            Some(b'o') => *self.open.entry(value(row)).or_default() += 1,
            Some(b'm') => *self.media.entry(JobId(number(key, 1))).or_default() += 1,
            Some(b'n') => {
                let name = String::from_utf8_lossy(&key[1..key.len() - 1]).into_owned();
                self.counts.insert(name, read_row(Keyspace::Jobs, row)?);
            }
            _ => {}
        }
        Ok(())
    }
}

fn waiting(store: &dyn Store, census: &mut Census, read: &mut Read) -> Result<(), StoreError> {
    let (mut arrivals, mut due, mut attached) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    let unread = each(store, Keyspace::Intake, |key, row| {
        match key.first() {
            Some(b'w') => {
                let arrival: Arrival = read_row(Keyspace::Intake, row)?;
                arrivals.insert(arrival.number, (number(key, 1), arrival));
            }
            Some(b'd') => drop(due.insert(number(key, 1), number(row, 0))),
            Some(b'a') => attached.push((number(key, 1), number(key, 9))),
            _ => {}
        }
        Ok(())
    })?;
    census.unread(unread);
    census.waiting = arrivals.len() as u64;
    for (number, (due_ms, arrival)) in &arrivals {
        if due.get(number) != Some(due_ms) {
            census.fault(format!("arrival {number} waits and is not found by its number"));
        }
        for position in &arrival.hits {
            read.attached.entry(position.0).or_default().insert(*number);
        }
    }
    for number in due.keys().filter(|number| !arrivals.contains_key(number)) {
        census.fault(format!("arrival {number} is listed and does not wait"));
    }
    for (arrival, position) in attached {
        if !arrivals.contains_key(&arrival) {
            census.fault(format!("hit {position} hangs on arrival {arrival}, which does not wait"));
        }
        read.attached.entry(position).or_default().insert(arrival);
    }
    Ok(())
}

fn jobs(census: &mut Census, read: &mut Read) {
    census.jobs = read.jobs.len() as u64;
    for (id, job) in &read.jobs {
        let open = job.is_open;
        let listed = (read.waiting.contains(id), read.leased.contains(id));
        if listed != (open && !job.is_leased, open && job.is_leased) {
            census.fault(format!("job {id} (open: {open}) waits or is lent: {listed:?}"));
        }
        if read.open.get(id).copied().unwrap_or(0) != u64::from(open) {
            census.fault(format!("job {id} (open: {open}) is not found by its subject exactly once"));
        }
        if read.media.get(id).copied().unwrap_or(0) != job.media {
            census.fault(format!("job {id} counts {} media and has others", job.media));
        }
        census.open += u64::from(open);
    }
    for (user, other, id) in &read.doubled {
        census.fault(format!("user {user} has two open NCMEC jobs: {other} and {id}"));
    }
    let lost = read.waiting.iter().chain(&read.leased).chain(read.open.keys()).chain(&read.ending);
    for id in lost.filter(|id| !read.jobs.contains_key(id)) {
        census.fault(format!("job {id} is listed and not there"));
    }
    for (queue, counts) in &read.counts {
        let found = read.counted.remove(queue).unwrap_or_default();
        if found != *counts {
            census.fault(format!("queue {queue} says {counts:?} and holds {found:?}"));
        }
    }
    for queue in read.counted.keys() {
        census.fault(format!("queue {queue} holds jobs that it does not count"));
    }
}

fn decisions(store: &dyn Store, census: &mut Census, read: &Read) -> Result<(), StoreError> {
    let (mut decided, mut filed) = (BTreeMap::new(), BTreeMap::new());
    census.unread(each(store, Keyspace::Decisions, |key, row| {
        let decision: Decision = read_row(Keyspace::Decisions, row)?;
        decided.insert(JobId(number(key, 1)), decision.kind);
        Ok(())
    })?);
    let unread = each(store, Keyspace::Outbox, |key, row| {
        if matches!(key.first(), Some(b'f' | b'g')) {
            let filing: Filing = read_row(Keyspace::Outbox, row)?;
            *filed.entry(filing.job).or_insert(0u64) += 1;
        }
        Ok(())
    })?;
    census.unread(unread);
    census.decisions = decided.len() as u64;
    census.filings = filed.values().sum();
    for (id, job) in &read.jobs {
        if job.is_open == decided.contains_key(id) {
            census.fault(format!("job {id} is open and decided, or neither"));
        }
    }
    for (id, times) in &filed {
        let report = decided.get(id) == Some(&DecisionKind::Report);
        if *times != 1 || !report {
            census.fault(format!("job {id} is to be reported {times} times, decided so: {report}"));
        }
    }
    let over = filings(store, census, &filed)?;
    // What was decided as a report waits to be one, or is over; nothing else can have become of it.
    let reports = decided.iter().filter(|(_, kind)| **kind == DecisionKind::Report);
    for (id, _) in reports.filter(|(id, _)| !filed.contains_key(id) && !over.contains(id)) {
        census.fault(format!("job {id} was decided as a report, and nothing became of it"));
    }
    Ok(())
}

/// Filings: each that is not over is listed where it is looked for, and waits in the outbox. Gives those that are over.
fn filings(
    store: &dyn Store,
    census: &mut Census,
    waiting: &BTreeMap<JobId, u64>,
) -> Result<BTreeSet<JobId>, StoreError> {
    let (mut tips, mut due, mut over) = (Vec::new(), BTreeMap::<JobId, u64>::new(), BTreeSet::new());
    let unread = each(store, Keyspace::Tips, |key, row| {
        match key.first() {
            Some(b'f') => tips.push(read_row::<Tip>(Keyspace::Tips, row)?),
            Some(b'q') => *due.entry(JobId(number(key, key.len().saturating_sub(8)))).or_default() += 1,
            _ => {}
        }
        Ok(())
    })?;
    census.unread(unread);
    for tip in tips {
        let id = tip.job;
        let times = due.remove(&id).unwrap_or(0);
        if times != u64::from(tip.waits()) {
            census.fault(format!("the filing of job {id} is listed {times} times as due"));
        }
        let is_over = tip.stage >= Stage::Filed;
        if is_over == waiting.contains_key(&id) {
            census.fault(format!("the filing of job {id} is over and waits, or neither"));
        }
        if is_over {
            over.insert(id);
            census.filed += u64::from(tip.filed.is_some());
        }
        census.filings_held += u64::from(tip.held.is_some());
    }
    for id in due.keys() {
        census.fault(format!("a filing of job {id} is due and not there"));
    }
    Ok(over)
}

fn hits(store: &dyn Store, census: &mut Census, read: &Read) -> Result<(), StoreError> {
    let cursor = router::gauges(store).map_or(Position(0), |gauges| gauges.cursor);
    let mut in_jobs: BTreeMap<JobId, u64> = BTreeMap::new();
    let unread = each(store, Keyspace::Hits, |key, _| {
        let position = number(key, 0);
        census.hits += 1;
        let (jobs, said) = read.hits.get(&position).cloned().unwrap_or_default();
        let attached = read.attached.get(&position).map_or(0, BTreeSet::len);
        match (jobs.as_slice(), said, attached) {
            ([one], Some(said), 0) if *one == said => {
                census.hits_in_jobs += 1;
                *in_jobs.entry(*one).or_default() += 1;
            }
            // Those that its deletion has not reached are in the job still.
            ([], Some(said), 0) if read.deleted.contains(&said) || read.going.contains(&said) => census.hits_deleted += 1,
            ([], None, 0) if read.aside.contains(&position) => census.hits_set_aside += 1,
            ([], None, 1) => census.hits_waiting += 1,
            ([], None, 0) if position > cursor.0 => census.hits_ahead += 1,
            _ => census.fault(format!(
                "hit {position} is in jobs {jobs:?}, is said to be in {said:?}, and waits {attached} times (the router is at {cursor})"
            )),
        }
        Ok(())
    })?;
    census.unread(unread);
    for (id, job) in &read.jobs {
        let found = in_jobs.get(id).copied().unwrap_or(0);
        if found != job.hits {
            census.fault(format!("job {id} counts {} hits and has {found}", job.hits));
        }
    }
    Ok(())
}

/// Every medium belongs to jobs, and is preserved, waits, or was given up.
fn media(store: &dyn Store, census: &mut Census, read: &Read) -> Result<(), StoreError> {
    let (mut pieces, mut due, mut blobs) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let (mut of_jobs, mut owners) = (BTreeSet::new(), BTreeSet::new());
    let (mut of_tips, mut tip_blobs) = (BTreeSet::new(), BTreeSet::new());
    let unread = each(store, Keyspace::Evidence, |key, row| {
        let rest = key.get(1..).unwrap_or_default();
        match key.first() {
            Some(b'e') => drop(pieces.insert(rest.to_vec(), read_row::<Piece>(Keyspace::Evidence, row)?)),
            Some(b'w') => drop(due.insert(rest.get(8..).unwrap_or_default().to_vec(), number(key, 1))),
            Some(b'b') if row.first() == Some(&MEDIUM) => {
                drop(blobs.insert(rest.to_vec(), row[1..].to_vec()))
            }
            Some(b'b') if row.first() == Some(&TIP) => {
                tip_blobs.insert((number(row, 1), rest.to_vec()));
            }
            Some(&TIP) => {
                of_tips.insert((number(key, 1), rest.get(8..).unwrap_or_default().to_vec()));
            }
            Some(b'j') => drop(of_jobs.insert((row.to_vec(), number(key, 1), number(key, 9)))),
            Some(b'o') => drop(owners.insert((
                rest.get(..32).unwrap_or_default().to_vec(),
                number(key, 33),
                number(key, 41),
            ))),
            _ => {}
        }
        Ok(())
    })?;
    census.unread(unread);
    if of_jobs != owners {
        census.fault("media of jobs and jobs of media differ".to_string());
    }
    census.tip_files = of_tips.len() as u64;
    if of_tips != tip_blobs || of_tips.iter().any(|(job, _)| !read.jobs.contains_key(&JobId(*job))) {
        census.fault("further files of reports are not found by their job and by their blob".to_string());
    }
    for (medium, job, number) in &of_jobs {
        if !read.jobs.contains_key(&JobId(*job)) || !pieces.contains_key(medium) {
            census.fault(format!("medium {number} of job {job} is named, and one of the two is not there"));
        }
    }
    let owned: BTreeSet<&Vec<u8>> = owners.iter().map(|(medium, ..)| medium).collect();
    for (medium, piece) in &pieces {
        let (count, right) = match &piece.state {
            State::Waiting { due_ms, .. } => (&mut census.media_waiting, due.remove(medium) == Some(*due_ms)),
            State::Kept(kept) => {
                (&mut census.media_kept, blobs.remove(kept.blob.as_bytes()).as_ref() == Some(medium))
            }
            State::GivenUp { .. } => (&mut census.media_given_up, true),
        };
        *count += 1;
        if !right || !owned.contains(medium) {
            census.fault("a medium is not found by when it is due, by its blob, or by a job".to_string());
        }
    }
    if !due.is_empty() || !blobs.is_empty() {
        census.fault(format!("{} media are due and {} blobs named in vain", due.len(), blobs.len()));
    }
    Ok(())
}
