//! The bank writer: one thread that takes queued bank changes, commits them as a group and answers each.
//!
//! While one group is being synced the next one gathers, so many small changes share a sync without waiting
//! for a timer.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_channel::{Receiver, Sender, bounded};
use index::bank::{BankAnswer, BankChange, BankError, BankRequest, Banks};
use index::store::StoreError;

use crate::clock;
use crate::disk::Disk;
use crate::merge::MergeBell;
use crate::shutdown;

/// Changes waiting at most; beyond it a sender waits.
const QUEUE_MAX: usize = 1024;
/// A group ends when it holds this many contents: about one megabyte of log.
const GROUP_CONTENTS_MAX: usize = 16_384;
/// Unmerged signals of any one type with which imports wait for the merge, and for how long at a time.
const DELTA_MAX: usize = 65_536;
const MERGE_PAUSE: Duration = Duration::from_millis(2);

struct Waiting {
    request: BankRequest,
    reply: Sender<Result<BankAnswer, BankError>>,
}

/// Hands changes to the bank writer. Dropping the last one ends the thread after what is queued.
#[derive(Clone)]
pub struct Curator(Sender<Waiting>);

impl Curator {
    /// Makes one change; returns when it is durable and visible, or refused.
    pub async fn change(&self, request: BankRequest) -> Result<BankAnswer, BankError> {
        let (reply, answer) = bounded(1);
        if self.0.send(Waiting { request, reply }).await.is_err() {
            return Err(stopped());
        }
        answer.recv().await.unwrap_or_else(|_| Err(stopped()))
    }

    /// The same for a thread that may wait.
    pub fn change_blocking(&self, request: BankRequest) -> Result<BankAnswer, BankError> {
        let (reply, answer) = bounded(1);
        if self.0.send_blocking(Waiting { request, reply }).is_err() {
            return Err(stopped());
        }
        answer.recv_blocking().unwrap_or_else(|_| Err(stopped()))
    }
}

/// Waits, before very many contents are added, while very many are not merged yet: the merge sets the pace, so that
/// lookups stay fast.
pub fn wait_for_merge(banks: &Banks) {
    while banks.state().tables.unmerged() > DELTA_MAX {
        thread::sleep(MERGE_PAUSE);
    }
}

fn stopped() -> BankError {
    BankError::Store(Arc::new(StoreError::Failed {
        path: "the bank writer".into(),
        reason: "the server is shutting down; whether the change was made is unknown, send it again with the same id".into(),
    }))
}

/// Starts the thread.
pub fn start(
    banks: Arc<Banks>,
    disk: Arc<Disk>,
    bell: MergeBell,
) -> std::io::Result<(Curator, JoinHandle<()>)> {
    let (sender, queue) = bounded(QUEUE_MAX);
    let thread = thread::Builder::new().name("curator".into()).spawn(move || {
        while let Ok(first) = queue.recv_blocking() {
            let group = gather(first, &queue);
            write(&banks, &disk, group);
            bell.ring();
        }
    })?;
    Ok((Curator(sender), thread))
}

fn gather(first: Waiting, queue: &Receiver<Waiting>) -> Vec<Waiting> {
    let size = |waiting: &Waiting| match &waiting.request.change {
        BankChange::Add { contents, .. } => contents.len().max(1),
        _ => 1,
    };
    let mut contents = size(&first);
    let mut group = vec![first];
    while contents < GROUP_CONTENTS_MAX {
        let Ok(next) = queue.try_recv() else { break };
        contents += size(&next);
        group.push(next);
    }
    group
}

fn write(banks: &Banks, disk: &Disk, group: Vec<Waiting>) {
    let (requests, replies): (Vec<_>, Vec<_>) =
        group.into_iter().map(|waiting| (waiting.request, waiting.reply)).unzip();
    let answers = match disk.admit() {
        Ok(()) => banks.apply(requests, clock::moment()),
        Err(full) => remove_only(banks, disk, requests, Arc::new(full)),
    };
    for (answer, reply) in answers.into_iter().zip(replies) {
        match &answer {
            Err(BankError::Store(error)) => {
                disk.observe(Err(error));
                shutdown::stop_unless_curable(error);
            }
            Ok(_) => disk.written(),
            Err(_) => {}
        }
        // Whoever asked may have gone; the change stands all the same.
        let _ = reply.send_blocking(answer);
    }
}

/// On a full disk removals are made, from what is reserved for them, since they are how there comes to be room; the other
/// changes are refused.
fn remove_only(
    banks: &Banks,
    disk: &Disk,
    requests: Vec<BankRequest>,
    full: Arc<StoreError>,
) -> Vec<Result<BankAnswer, BankError>> {
    let removes = |request: &BankRequest| match &request.change {
        BankChange::Delete { .. } | BankChange::Remove { .. } => true,
        BankChange::Exchange { put, .. } => put.is_empty(),
        _ => false,
    };
    let admitted = disk.admit_removal().is_ok();
    let made: Vec<bool> = requests.iter().map(|request| admitted && removes(request)).collect();
    let removals = requests.into_iter().zip(&made).filter(|(_, made)| **made).map(|(request, _)| request);
    let mut answers = banks.apply(removals.collect(), clock::moment()).into_iter();
    let refused = || Err(BankError::Store(full.clone()));
    made.into_iter()
        .map(|made| if made { answers.next().unwrap_or_else(refused) } else { refused() })
        .collect()
}
