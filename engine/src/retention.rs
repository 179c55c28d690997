//! Deleting what is kept no longer: every minute, and whenever somebody asks, what is due is begun until nothing is due, and
//! what was begun goes on. Blobs are destroyed between two commits of the desk; whoever starts again finds in the rows what is
//! left. Nothing is begun while the clock is in doubt.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use index::store::Store;
use reporter::desk::retention::{self, Deletion, Swept};
use reporter::{DeskError, Turn, Tx};
use tokio::sync::Notify;

use crate::clock::trusted_ms;
use crate::desk::Desk;
use crate::evidence::Evidence;
use crate::failpoint::{failpoint, test_number};

const PAUSE: Duration = Duration::from_secs(60);
/// Deletions that are looked at together.
const LOOK_AT: usize = 64;
/// After a sweep others have the desk for as long as it worked: deletion takes half of what the desk can do at most.
const REST_MIN: Duration = Duration::from_millis(1);

/// What is counted of deletions.
#[derive(Debug, Default)]
pub struct RetentionCounts {
    /// Jobs deleted since start.
    pub jobs: AtomicU64,
    /// Items removed since start.
    pub items: AtomicU64,
}

/// What the worker needs.
pub struct Retention {
    /// The case database.
    pub store: Arc<dyn Store>,
    /// Where deletions begin and end.
    pub desk: Desk,
    /// Where media are destroyed.
    pub evidence: Arc<Evidence>,
    /// Rung when somebody has begun one.
    pub bell: Arc<Notify>,
    /// What is counted.
    pub counts: Arc<RetentionCounts>,
}

impl Retention {
    /// Deletes what is due, for ever.
    pub async fn run(self) {
        let pause = test_number("HASHWARD_RETENTION_MS").map_or(PAUSE, Duration::from_millis);
        loop {
            let _ = tokio::time::timeout(pause, self.bell.notified()).await; // either is the time to look
            let (mut jobs, mut items) = (0, 0);
            loop {
                let (swept, worked) = self.begin().await;
                (jobs, items) = (jobs + swept.jobs, items + swept.items);
                let more = self.go_on().await;
                if !more.is_some_and(|more| more || swept.more) {
                    break; // nothing more is due, or something is wrong: a minute later it may not be
                }
                tokio::time::sleep(worked.max(REST_MIN)).await;
            }
            if jobs + items > 0 {
                tracing::warn!(jobs, items, "deleted because they were kept for their time");
            }
        }
    }

    /// Begins some of what is due; gives how long the desk worked on it, too.
    async fn begin(&self) -> (Swept, Duration) {
        // The desk's own time is not asked: whether it can be trusted is known when it is the turn of this.
        let sweep = |turn: &mut Turn<'_>| {
            turn.removes = true;
            let begun = Instant::now();
            let swept = trusted_ms().map(|now_ms| retention::sweep(&mut turn.tx, now_ms)).transpose()?;
            Ok((swept.unwrap_or_default(), begun.elapsed()))
        };
        match self.desk.ask(sweep).await {
            Ok((swept, worked)) => {
                if swept.jobs + swept.items > 0 {
                    failpoint("deletion-begun");
                }
                self.counts.items.fetch_add(swept.items, Ordering::Relaxed);
                (swept, worked)
            }
            Err(error) => {
                tracing::warn!(%error, "what is kept no longer could not be looked for");
                (Swept::default(), REST_MIN)
            }
        }
    }

    /// Goes on with what was begun, and says whether there may be more; `None` if something of it stopped.
    async fn go_on(&self) -> Option<bool> {
        let under_way = self.under_way().await;
        let mut more = Some(under_way.len() == LOOK_AT);
        for deletion in under_way {
            let job = deletion.job;
            match self.delete(deletion).await {
                Ok(()) => drop(self.counts.jobs.fetch_add(1, Ordering::Relaxed)),
                Err(error) => {
                    tracing::error!(%job, %error, "a deletion stopped; it goes on in a minute");
                    more = None;
                }
            }
        }
        more
    }

    async fn under_way(&self) -> Vec<Deletion> {
        let store = self.store.clone();
        let read = move || retention::under_way(&Tx::new(&*store), LOOK_AT);
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::error!(%error, "deletions under way do not read");
                Vec::new()
            }
            Err(_) => Vec::new(), // the program ends
        }
    }

    async fn delete(&self, deletion: Deletion) -> Result<(), String> {
        let (evidence, blobs, job) = (self.evidence.clone(), deletion.blobs, deletion.job);
        let destroying = tokio::task::spawn_blocking(move || {
            blobs.iter().try_for_each(|blob| evidence.destroy(blob).map(drop))
        });
        let destroyed = destroying.await.map_err(|_| "the server is shutting down".to_string())?;
        destroyed.map_err(|error| error.to_string())?;
        failpoint("deletion-destroyed");
        loop {
            let go_on = move |turn: &mut Turn<'_>| -> Result<bool, DeskError> {
                turn.removes = true;
                Ok(retention::go_on(&mut turn.tx, job, turn.terms.now_ms)?)
            };
            if self.desk.ask(go_on).await.map_err(|error| error.to_string())? {
                failpoint("deletion-done");
                return Ok(());
            }
        }
    }
}
