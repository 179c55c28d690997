//! The hit log: hits become durable here, in order, before anyone is told.
//!
//! One thread serves all shards. It takes what is queued as one group, drops replays, gives out positions
//! without holes, commits hits and the Submits' answers in one synced batch, and only then answers. While a
//! group is being synced the next one gathers: group commit without a timer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use async_channel::{Receiver, Sender, TrySendError as ChannelError, bounded};
use index::store::keys::{decode_u64, encode_hit, hit_key};
use index::store::{
    Batch, Durability, KeptAnswer, Keyspace, Moment, RequestWindow, Seen, Store, StoreError, WindowLimits,
};
use index::{Generation, Hit, HitMatch, Position, RequestId};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::desk::Desk;
use crate::disk::Disk;
use crate::failpoint::failpoint;
use crate::shutdown;

/// Submits waiting at most; beyond it shards answer Busy.
pub const QUEUE_MAX: usize = 1024;
/// A group ends when it holds this many hits.
const GROUP_HITS_MAX: usize = 4096;
const PRUNE_EVERY_MS: u64 = 60_000;

/// A Submit on its way into the log.
#[derive(Debug)]
pub struct Append {
    /// The client's id.
    pub request: RequestId,
    /// Tells it from others under the same id; none where this program makes the ids.
    pub digest: Option<u64>,
    /// State of the banks it was matched against.
    pub generation: Generation,
    /// Its hits, `position` still 0. Empty only for a retry, which must learn its first answer.
    pub hits: Vec<Hit>,
    /// What the rules said of each hit (`Verdict` as its wire number).
    pub verdicts: Vec<u8>,
    /// Where the answer goes.
    pub ticket: Ticket,
}

/// Which connection's which frame waits.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// The shard's inbox.
    pub inbox: Sender<Settled>,
    /// The connection on that shard.
    pub connection: u64,
    /// The frame on that connection.
    pub correlation: u64,
}

/// The log's answer to a Submit.
#[derive(Debug)]
pub struct Settled {
    /// The connection on the shard.
    pub connection: u64,
    /// The frame on that connection.
    pub correlation: u64,
    /// Durable, or why not.
    pub outcome: Result<Receipt, AppendError>,
}

/// What a Submit is answered with, now and whenever its id is replayed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// State of the banks it was matched against.
    pub generation: Generation,
    /// What the acknowledgement is worth; absent where there was nothing to make durable.
    pub durability: Option<Durability>,
    /// Position of the first hit; the others follow. 0 without hits.
    pub first_position: Position,
    /// The hashes that matched.
    pub outcomes: Vec<Outcome>,
    /// Whether this is the stored answer of an earlier Submit with the same id.
    #[serde(default)]
    pub replayed: bool,
}

/// One hash that matched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Zero-based index of the hash in the Submit.
    pub hash: u32,
    /// What the rules said, as its wire number.
    pub verdict: u8,
    /// Contents that matched in all.
    pub total: u32,
    /// The nearest of them.
    pub matches: Vec<HitMatch>,
}

/// Why a Submit is not in the log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// No room; nothing was logged.
    #[error("{0}")]
    DiskFull(Arc<StoreError>),
    /// The id is older than the replay window.
    #[error(
        "request id {0} is older than the replay window, so whether it was logged is unknown: look for its hits, \
         or submit again under a fresh id (and check the uploader's clock)"
    )]
    TooOld(RequestId),
    /// The id was born after the present; nothing was logged.
    #[error(
        "request id {0} is {1} ms in the future, so nothing was logged: the uploader's clock, or this machine's, is wrong; \
         set it, and submit again under a fresh id"
    )]
    Future(RequestId, u64),
    /// The id stands for another Submit; nothing was logged.
    #[error(
        "request id {0} was used for another request, so nothing was logged: make a new id and submit again"
    )]
    Reused(RequestId),
    /// The store failed; the process stops.
    #[error("{0}")]
    Store(Arc<StoreError>),
}

/// Counts the ledger's work; read by metrics and the router.
#[derive(Debug, Default)]
pub struct LedgerCounts {
    /// Hits logged since start.
    pub hits: AtomicU64,
    /// Synced commits since start.
    pub commits: AtomicU64,
    /// Submits answered from the replay window since start.
    pub replays: AtomicU64,
    /// Newest position in the log.
    pub last_position: AtomicU64,
}

/// Hands Submits to the ledger. Dropping the last one ends the thread after what is queued.
#[derive(Clone)]
pub struct Ledger(Sender<Append>);

impl Ledger {
    /// Queues a Submit; gives it back when the queue is full, so that the shard can say Busy.
    pub fn append(&self, append: Append) -> Result<(), Box<Append>> {
        self.0.try_send(append).map_err(|error| match error {
            ChannelError::Full(append) | ChannelError::Closed(append) => Box::new(append),
        })
    }
}

/// What the ledger needs of the rest.
pub struct LedgerParts {
    /// The case database.
    pub store: Arc<dyn Store>,
    /// Its disk.
    pub disk: Arc<Disk>,
    /// What a commit is worth.
    pub durability: Durability,
    /// How far back replays are answered.
    pub window: WindowLimits,
    /// Rung after each commit: hits wait to be routed.
    pub desk: Desk,
    /// Shared counters.
    pub counts: Arc<LedgerCounts>,
}

/// Reads the end of the log and starts the thread.
pub fn start(parts: LedgerParts) -> Result<(Ledger, JoinHandle<()>), StoreError> {
    // A key that does not read must stop us here: guessing an end would write over hits.
    let newest = parts.store.last_key(Keyspace::Hits)?;
    let last = newest.map_or(Ok(0), |key| decode_u64(Keyspace::Hits, &key)).map(Position)?;
    let spaces = (Keyspace::CaseRequests, Keyspace::CaseMeta);
    let requests = RequestWindow::open(&*parts.store, spaces, parts.window, clock::now_ms())?;
    parts.counts.last_position.store(last.0, Ordering::Release);
    let (sender, queue) = bounded(QUEUE_MAX);
    let mut log = Log { parts, requests, last, pruned_ms: 0 };
    let thread = thread::Builder::new()
        .name("ledger".into())
        .spawn(move || {
            while let Ok(first) = queue.recv_blocking() {
                let group = gather(first, &queue);
                log.write(group);
            }
        })
        .map_err(|error| StoreError::Failed {
            path: "the ledger thread".into(),
            reason: error.to_string(),
        })?;
    Ok((Ledger(sender), thread))
}

fn gather(first: Append, queue: &Receiver<Append>) -> Vec<Append> {
    let mut hits = first.hits.len();
    let mut group = vec![first];
    while hits < GROUP_HITS_MAX {
        let Ok(next) = queue.try_recv() else { break };
        hits += next.hits.len();
        group.push(next);
    }
    group
}

struct Log {
    parts: LedgerParts,
    requests: RequestWindow,
    last: Position,
    pruned_ms: u64,
}

impl Log {
    fn write(&mut self, group: Vec<Append>) {
        let now = clock::moment();
        let mut staged = Staged { batch: Batch::default(), last: self.last, answered: HashMap::new() };
        let outcomes: Vec<(Ticket, Result<Receipt, AppendError>)> =
            group.into_iter().map(|append| self.stage(&mut staged, append, now)).collect();
        let written = staged.last.0 - self.last.0;
        let committed = self.commit(staged, now).map_err(Arc::new);
        self.requests.settle(committed.is_ok());
        let counts = &self.parts.counts;
        if committed.is_ok() && written > 0 {
            counts.hits.fetch_add(written, Ordering::Relaxed);
            counts.commits.fetch_add(1, Ordering::Relaxed);
            counts.last_position.store(self.last.0, Ordering::Release);
        }
        for (ticket, outcome) in outcomes {
            let outcome = match (&committed, outcome) {
                // What was stored before, or refused, does not hang on this commit.
                (Err(error), Ok(receipt)) if !receipt.replayed => Err(refusal(error.clone())),
                (_, outcome) => outcome,
            };
            if matches!(&outcome, Ok(receipt) if receipt.replayed) {
                counts.replays.fetch_add(1, Ordering::Relaxed);
            }
            let settled = Settled { connection: ticket.connection, correlation: ticket.correlation, outcome };
            // The inbox is as large as all windows together; a closed one means the shard is gone.
            let _ = ticket.inbox.try_send(settled);
        }
        match &committed {
            Ok(()) => self.parts.desk.ring(),
            Err(error) => shutdown::stop_unless_curable(error),
        }
    }

    fn stage(
        &mut self,
        staged: &mut Staged,
        append: Append,
        now: Moment,
    ) -> (Ticket, Result<Receipt, AppendError>) {
        let Append { request, digest, generation, hits, verdicts, ticket } = append;
        let replay = |kept: KeptAnswer<Receipt>| match kept.answers(digest) {
            true => Ok(kept.answer),
            false => Err(AppendError::Reused(request)),
        };
        if let Some(kept) = staged.answered.get(&request) {
            return (ticket, replay(kept.clone())); // twice in one group: one effect, one fate
        }
        match self.requests.seen(&*self.parts.store, request, now) {
            Ok(Seen::Fresh) => {}
            Ok(Seen::TooOld) => return (ticket, Err(AppendError::TooOld(request))),
            Ok(Seen::Future(ahead_ms)) => return (ticket, Err(AppendError::Future(request, ahead_ms))),
            Ok(Seen::Before(row)) => {
                let kept = KeptAnswer::read(Keyspace::CaseRequests, &row);
                let receipt = kept.map_err(|error| refusal(Arc::new(error))).and_then(replay);
                return (ticket, receipt.map(|receipt| Receipt { replayed: true, ..receipt }));
            }
            Err(error) => return (ticket, Err(refusal(Arc::new(error)))),
        }
        let durability = (!hits.is_empty()).then_some(self.parts.durability);
        let first_position = if hits.is_empty() { Position(0) } else { Position(staged.last.0 + 1) };
        let mut outcomes = Vec::with_capacity(hits.len());
        for (mut hit, verdict) in hits.into_iter().zip(verdicts) {
            staged.last.0 += 1;
            hit.position = staged.last;
            hit.received_ms = now.now_ms;
            staged.batch.put(Keyspace::Hits, hit_key(hit.position), encode_hit(&hit));
            outcomes.push(Outcome {
                hash: hit.index,
                verdict,
                total: hit.matches_total,
                matches: hit.matches,
            });
        }
        let receipt = Receipt { generation, durability, first_position, outcomes, replayed: false };
        if !receipt.outcomes.is_empty() {
            let kept = KeptAnswer { answer: receipt.clone(), request_digest: digest };
            self.requests.record(&mut staged.batch, request, &kept.row());
            staged.answered.insert(request, kept);
        }
        (ticket, Ok(receipt))
    }

    fn commit(&mut self, mut staged: Staged, now: Moment) -> Result<(), StoreError> {
        if staged.batch.is_empty() {
            return Ok(());
        }
        self.parts.disk.admit()?;
        if now.now_ms.abs_diff(self.pruned_ms) >= PRUNE_EVERY_MS {
            let more = self.requests.prune(&*self.parts.store, &mut staged.batch, now)?;
            self.pruned_ms = if more { 0 } else { now.now_ms };
        }
        failpoint("ledger-before-commit");
        let outcome = self.parts.store.commit(staged.batch, self.parts.durability);
        failpoint("ledger-after-commit");
        self.parts.disk.observe(outcome.as_ref().map(|_| ()));
        outcome?;
        self.last = staged.last;
        Ok(())
    }
}

/// A group on its way to one commit.
struct Staged {
    batch: Batch,
    last: Position,
    answered: HashMap<RequestId, KeptAnswer<Receipt>>,
}

fn refusal(error: Arc<StoreError>) -> AppendError {
    if error.is_disk_full() { AppendError::DiskFull(error) } else { AppendError::Store(error) }
}
