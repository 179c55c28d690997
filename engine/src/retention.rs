//! Deleting what is kept no longer: every minute, and whenever somebody asks, what is due is begun, and what was begun
//! goes on. Blobs are destroyed between two commits of the desk; whoever starts again finds in the rows what is left.

use std::sync::Arc;
use std::time::Duration;

use index::store::Store;
use reporter::Tx;
use reporter::desk::retention::{self, Deletion};
use tokio::sync::Notify;

use crate::desk::Desk;
use crate::evidence::Evidence;
use crate::failpoint::{failpoint, test_number};

const PAUSE: Duration = Duration::from_secs(60);
/// Deletions that are looked at together.
const LOOK_AT: usize = 64;

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
}

impl Retention {
    /// Deletes what is due, for ever.
    pub async fn run(self) {
        let pause = test_number("HASHWARD_RETENTION_MS").map_or(PAUSE, Duration::from_millis);
        loop {
            let _ = tokio::time::timeout(pause, self.bell.notified()).await; // either is the time to look
            match self.desk.ask(|turn| retention::sweep(&mut turn.tx, turn.terms.now_ms)).await {
                Ok((0, 0)) => {}
                Ok((jobs, items)) => {
                    failpoint("deletion-begun");
                    tracing::info!(jobs, items, "what is kept no longer is deleted");
                }
                Err(error) => tracing::warn!(%error, "what is kept no longer could not be looked for"),
            }
            for deletion in self.under_way().await {
                let job = deletion.job;
                if let Err(error) = self.delete(deletion).await {
                    tracing::error!(%job, %error, "a deletion stopped; it goes on in a minute");
                }
            }
        }
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
            let go_on = move |turn: &mut reporter::Turn<'_>| {
                Ok(retention::go_on(&mut turn.tx, job, turn.terms.now_ms)?)
            };
            if self.desk.ask(go_on).await.map_err(|error| error.to_string())? {
                failpoint("deletion-done");
                return Ok(());
            }
        }
    }
}
