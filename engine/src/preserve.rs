//! Preserving media of jobs: what is wanted is fetched, stored in the vault, and named by the desk; what no row names is
//! swept out. What is wanted is in the store, so whoever starts again goes on.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use index::store::Store;
use reporter::Tx;
use reporter::desk::evidence::{self, Want};
use tokio::task::JoinSet;

use crate::clock::now_ms;
use crate::desk::Desk;
use crate::evidence::{Evidence, PreserveCounts};
use crate::failpoint::{failpoint, test_number};
use crate::sources::Sources;

/// Media fetched at once: few, since what comes in is fetched beside it; more than a few slow hosts have.
const AT_ONCE: usize = 8;
const LOOK_AT: usize = 64;
const PAUSE: Duration = Duration::from_millis(500);
/// Before a medium is tried again whose outcome the desk did not take.
const REFUSED_PAUSE: Duration = Duration::from_secs(2);
/// How often is looked for blobs that nothing names, and how old they are at least.
const SWEEP: Duration = Duration::from_secs(60);
const ORPHAN_AGE: Duration = Duration::from_secs(3600);

/// What the worker needs.
pub struct Preserver {
    /// The case database.
    pub store: Arc<dyn Store>,
    /// Where outcomes go.
    pub desk: Desk,
    /// Where media are fetched.
    pub sources: Arc<Sources>,
    /// Where they are stored.
    pub evidence: Arc<Evidence>,
    /// What is counted.
    pub counts: Arc<PreserveCounts>,
}

impl Preserver {
    /// Preserves and sweeps, for ever.
    pub async fn run(self: Arc<Self>) {
        tokio::join!(self.preserve_all(), self.sweep_all());
    }

    async fn preserve_all(self: &Arc<Self>) {
        let (mut working, mut under_way) = (JoinSet::new(), HashMap::new());
        loop {
            for want in self.due().await {
                if working.len() >= AT_ONCE || under_way.values().any(|medium| *medium == want.medium) {
                    continue;
                }
                let (this, medium) = (self.clone(), want.medium);
                under_way.insert(working.spawn(async move { this.preserve(want).await }).id(), medium);
            }
            if working.is_empty() {
                tokio::time::sleep(PAUSE).await;
            }
            let mut done = tokio::time::timeout(PAUSE, working.join_next_with_id()).await.ok().flatten();
            while let Some(ended) = done {
                under_way.remove(&ended.map_or_else(|error| error.id(), |(id, ())| id));
                done = working.try_join_next_with_id();
            }
        }
    }

    async fn due(&self) -> Vec<Want> {
        let store = self.store.clone();
        let read = move || evidence::due(&Tx::new(&*store), now_ms(), LOOK_AT);
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok(due)) => due,
            Ok(Err(error)) => {
                tracing::error!(%error, "what must be preserved does not read");
                Vec::new()
            }
            Err(_) => Vec::new(), // the program ends
        }
    }

    /// One try of one medium.
    async fn preserve(&self, want: Want) {
        let fetched = self.sources.preserve_medium(&self.evidence, &want.url).await;
        failpoint("preserve-stored");
        let medium = want.medium;
        let told = match fetched {
            Ok(kept) => {
                let blob = kept.blob.clone();
                let named = self.desk.ask(move |turn| Ok(evidence::keep(&mut turn.tx, medium, &kept)?)).await;
                failpoint("preserve-linked");
                self.evidence.let_go([blob.as_str()]);
                named.map(|named| named.then_some(&self.counts.kept))
            }
            Err(why) => {
                let fail = move |turn: &mut reporter::Turn<'_>| {
                    Ok(evidence::fail(&mut turn.tx, medium, &why, turn.terms.now_ms)?)
                };
                let given_up = self.desk.ask(fail).await;
                if matches!(given_up, Ok(true)) {
                    self.counts.given_up.fetch_add(1, Ordering::Relaxed);
                    tracing::error!("a medium could not be preserved for a week: its job says why");
                }
                given_up.map(|_| Some(&self.counts.failed))
            }
        };
        match told {
            // Preserved otherwise meanwhile, or wanted no more: what was stored is swept out.
            Ok(None) => {}
            Ok(Some(count)) => drop(count.fetch_add(1, Ordering::Relaxed)),
            Err(error) => {
                tracing::warn!(%error, "what became of a medium could not be written; it is tried again");
                tokio::time::sleep(REFUSED_PAUSE).await; // it is due still
            }
        }
    }

    async fn sweep_all(&self) {
        let age = test_number("HASHWARD_ORPHAN_MS").map_or(ORPHAN_AGE, Duration::from_millis);
        loop {
            tokio::time::sleep(SWEEP.min(age.max(PAUSE))).await;
            let (evidence, store) = (self.evidence.clone(), self.store.clone());
            match tokio::task::spawn_blocking(move || evidence.sweep(&*store, age)).await {
                Ok(Ok(0)) => {}
                Ok(Ok(count)) => {
                    self.counts.swept.fetch_add(count, Ordering::Relaxed);
                    tracing::info!(count, "stored media that nothing named were destroyed");
                }
                Ok(Err(error)) => tracing::error!(%error, "stored media cannot be looked through"),
                Err(_) => return, // the program ends
            }
        }
    }
}
