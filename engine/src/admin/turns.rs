//! Turns at the CPUs and at memory, for requests that take much of either: who waits for whom.
//!
//! People (logins, reviewers, the console) and machines (scans, hashing, intake) have turns of their own, so that no
//! amount of machines' work keeps people out. A turn covers computing alone: nobody holds one while a client reads an
//! answer or sends a body.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Refusal;
use crate::access::{Caller, Who};
use crate::metrics::TurnCounts;

/// MiB that scans take all together; more of them wait before their bodies are read.
const SCAN_MIB: usize = 512;

/// Turns of each kind. All wait in order.
#[derive(Clone)]
pub struct Turns {
    people: Arc<Semaphore>,
    machines: Arc<Semaphore>,
    scan_mib: Arc<Semaphore>,
    census: Arc<Semaphore>,
    /// What is counted.
    pub counts: Arc<TurnCounts>,
}

impl Turns {
    /// As many people's turns at once as there are CPUs, and as many machines'.
    pub fn new(cpus: usize, counts: Arc<TurnCounts>) -> Self {
        let turns = |count| Arc::new(Semaphore::new(count));
        Self {
            people: turns(cpus),
            machines: turns(cpus),
            scan_mib: turns(SCAN_MIB),
            census: turns(1),
            counts,
        }
    }

    /// Waits for a turn of people.
    pub async fn people(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        wait(&self.people, 1, &self.counts.people).await
    }

    /// Waits for a turn of machines.
    pub async fn machines(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        wait(&self.machines, 1, &self.counts.machines).await
    }

    /// Waits for a turn of whoever calls.
    pub async fn of(&self, caller: &Caller) -> Result<OwnedSemaphorePermit, Refusal> {
        match caller.who {
            Who::Person(_) | Who::Setup => self.people().await,
            Who::Nobody | Who::Token | Who::Listed(_) | Who::Key { .. } => self.machines().await,
        }
    }

    /// Waits until no other census reads: each holds much of what it read in memory.
    pub async fn census(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        wait(&self.census, 1, &self.counts.censuses).await
    }

    /// Waits for memory for a scan that takes so many bytes.
    pub async fn scan_memory(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let mib = ((bytes >> 20) + 1).min(SCAN_MIB);
        wait(&self.scan_mib, mib as u32, &self.counts.scans).await
    }
}

async fn wait(
    turns: &Arc<Semaphore>,
    count: u32,
    waiting: &AtomicU64,
) -> Result<OwnedSemaphorePermit, Refusal> {
    let _waits = Waits::new(waiting);
    turns.clone().acquire_many_owned(count).await.map_err(|_| Refusal::interrupted())
}

/// Counts one that waits, until it has its turn or gives up.
struct Waits<'c>(&'c AtomicU64);

impl<'c> Waits<'c> {
    fn new(waiting: &'c AtomicU64) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
