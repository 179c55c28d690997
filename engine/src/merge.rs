//! Work on the tables away from the shards: one thread merges the delta and young segments into bigger ones,
//! another stores what has become worth it. Both keep off the shards' CPUs where there are others.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use index::Faults;
use index::bank::Banks;

use crate::disk::Disk;
use crate::shutdown;

/// Without a change for so long, small gains are worth a merge, too.
const IDLE: Duration = Duration::from_secs(2);
/// A segment is stored when no merge came for so long, since one that is merged away at once is not worth it,
const CALM: Duration = Duration::from_secs(2);
/// or when the first merge not stored yet is so old.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a full disk is left alone.
const RETRY: Duration = Duration::from_secs(10);

/// Wakes the merge thread; dropping the last one ends it.
#[derive(Clone, Debug)]
pub struct MergeBell(SyncSender<()>);

impl MergeBell {
    /// Something was added or removed. Never blocks: one ring stands for many.
    pub fn ring(&self) {
        match self.0.try_send(()) {
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }
}

/// Starts both threads; `cpus` are those they may use.
pub fn start(
    banks: Arc<Banks>,
    disk: Arc<Disk>,
    cpus: Vec<usize>,
) -> std::io::Result<(MergeBell, [JoinHandle<()>; 2])> {
    let (bell, rings) = sync_channel(1);
    let (merged, merges) = sync_channel(1);
    let (merging, there) = (banks.clone(), cpus.clone());
    let merger = thread::Builder::new().name("merge".into()).spawn(move || {
        stay_on(&there);
        merge(&merging, &rings, &MergeBell(merged));
    })?;
    let storer = thread::Builder::new().name("store".into()).spawn(move || {
        stay_on(&cpus);
        store(&banks, &disk, &merges);
    })?;
    Ok((MergeBell(bell), [merger, storer]))
}

fn merge(banks: &Banks, rings: &Receiver<()>, merged: &MergeBell) {
    let mut told = Faults::default();
    loop {
        tell_faults(&mut told);
        let idle = match rings.recv_timeout(IDLE) {
            Ok(()) => false,
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        while banks.merge_step(idle) {
            merged.ring();
        }
    }
}

/// Says what makes searches slow, when there is more of it than was told: small pages once, tables each time.
fn tell_faults(told: &mut Faults) {
    let counted = Faults::counted();
    if counted.small_pages > 0 && told.small_pages == 0 {
        tracing::warn!(
            "the kernel refused huge pages for the tables: lookups are right and up to twice as slow; \
             set /sys/kernel/mm/transparent_hugepage/enabled to madvise or always and restart"
        );
    }
    if counted.tables > told.tables {
        tracing::error!(
            segments = counted.tables - told.tables,
            "tables of a segment could not be built for want of memory: lookups are right, and each reads all of its \
             hashes; give the server more memory and restart it (metric hashward_segments_without_tables)"
        );
    }
    *told = counted;
}

fn store(banks: &Banks, disk: &Disk, merges: &Receiver<()>) {
    let mut wait = Duration::ZERO; // what was built at start may wait to be stored
    loop {
        match merges.recv_timeout(wait) {
            Ok(()) => {
                let first = Instant::now();
                while first.elapsed() < PATIENCE && merges.recv_timeout(CALM).is_ok() {}
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        wait = RETRY;
        loop {
            let step = match disk.admit() {
                Ok(()) => banks.store_step(),
                // What no list names is taken away on a full disk as well.
                Err(full) => disk.admit_removal().and_then(|()| banks.free_step()).and(Err(full)),
            };
            match step {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    // Nothing is lost: a restart builds from the contents what is not stored.
                    tracing::warn!(%error, "a segment could not be stored");
                    shutdown::stop_unless_curable(&error);
                    break;
                }
            }
        }
    }
}

/// Keeps this thread on these CPUs; on all where there are none to choose from.
pub fn stay_on(cpus: &[usize]) {
    let mut set = rustix::thread::CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    if !cpus.is_empty()
        && let Err(error) = rustix::thread::sched_setaffinity(None, &set)
    {
        tracing::debug!(%error, "the thread stays on all CPUs");
    }
}
