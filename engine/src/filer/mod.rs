//! Filing reports to NCMEC: decisions are taken up, and each goes its steps (`work`), so many at once for an organisation
//! as it may, all organisations beside each other. Where filings stand is in the store, and written by the desk; who
//! starts again goes on.
//!
//! A host that does not work and an organisation that NCMEC does not know are left alone (`crate::circuits`) until `/status`
//! answers well, and nobody's report pays for it.

mod client;
mod probe;
mod send;
mod work;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use index::store::{Store, StoreError};
use reporter::cyber_tipline::Environment;
use reporter::desk::alarm;
use reporter::tip::filing::pace::Pace;
use reporter::tip::filing::{rows, step};
use reporter::tip::organisation::{Credentials, Organisation, credentials, organisation};
use reporter::{JobId, OrgName, Tx};
use tokio::sync::Notify;
use tokio::task::{Id, JoinSet};

use self::client::Ncmec;
use crate::circuits::{Circuits, FilerCounts, May, Part};
use crate::clock::now_ms;
use crate::desk::Desk;
use crate::evidence::Evidence;
use crate::failpoint::{failpoint, test_number};
use crate::hosts::Hosts;
use crate::in_hand::InHand;
use crate::outbound::Caller;
use crate::sources::Sources;

const PAUSE: Duration = Duration::from_millis(500);
/// Reports in flight over all organisations: each holds a connection and some chunks of a file.
const AT_ONCE: usize = 64;
/// The same trouble is not told again so soon.
const QUIET: Duration = Duration::from_secs(600);

/// What filing needs.
pub struct FilerParts {
    /// The case database.
    pub store: Arc<dyn Store>,
    /// Where outcomes go.
    pub desk: Desk,
    /// Calls the platform.
    pub caller: Arc<Caller>,
    /// Where further files are fetched.
    pub sources: Arc<Sources>,
    /// Where media are kept.
    pub evidence: Arc<Evidence>,
    /// Which CyberTipline.
    pub environment: Environment,
    /// Where it is.
    pub base_url: String,
    /// Filings that are worked on, noted before.
    pub in_hand: InHand,
    /// Rung when somebody wants a filing looked at now.
    pub bell: Arc<Notify>,
    /// What is left alone.
    pub circuits: Arc<Circuits>,
    /// What is counted.
    pub counts: Arc<FilerCounts>,
}

/// Files reports.
pub struct Filer {
    parts: FilerParts,
    ncmec: Ncmec,
    hosts: Hosts,
    pace: Pace,
}

/// An organisation that may report.
struct Ready {
    organisation: Organisation,
    credentials: Credentials,
}

/// How fast time passes for filings: tests let it pass faster.
pub fn pace() -> Pace {
    test_number("HASHWARD_TIP_FASTER").map_or_else(Pace::default, |faster| Pace { faster })
}

impl Filer {
    /// Files to the CyberTipline of these parts.
    pub fn new(parts: FilerParts) -> anyhow::Result<Self> {
        let ncmec = Ncmec::new(parts.base_url.clone())?;
        Ok(Self { parts, ncmec, hosts: Hosts::default(), pace: pace() })
    }

    /// Works on what is due, for ever.
    pub async fn run(self) {
        let this = Arc::new(self);
        this.give_back().await;
        tokio::join!(this.file_all(), this.watch_schema());
    }

    /// What the process before this one had taken is nobody's.
    async fn give_back(&self) {
        while let Err(error) =
            self.parts.desk.ask(|turn| step::give_back(&mut turn.tx, turn.terms.now_ms)).await
        {
            tracing::error!(%error, "filings of before cannot be gone on with yet");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn file_all(self: &Arc<Self>) {
        let mut working = JoinSet::new();
        let mut under_way = HashMap::<Id, (OrgName, JobId)>::new();
        let mut told = HashMap::<OrgName, Instant>::new();
        let pause = PAUSE / u32::try_from(self.pace.faster.clamp(1, 20)).unwrap_or(1);
        loop {
            self.adopt().await;
            if self.host_may().await {
                let mut waiting = self.read(rows::waiting).await.unwrap_or_default();
                // Who has waited longest comes first to a place that is free: nobody's name decides.
                waiting.sort_by_key(|(_, due_ms)| *due_ms);
                for (name, _) in waiting {
                    let Some(ready) = self.ready(&name, &mut told).await else { continue };
                    let busy = under_way.values().filter(|(of, _)| *of == name).count();
                    let free = (ready.organisation.at_once as usize).saturating_sub(busy);
                    let free = free.min(AT_ONCE.saturating_sub(working.len()));
                    let of = name.clone();
                    // More than are free are looked at: some of the first may be under way still.
                    let look_at = free + busy;
                    let due = if free == 0 {
                        Vec::new()
                    } else {
                        self.read(move |tx| rows::due(tx, &of, now_ms(), look_at)).await.unwrap_or_default()
                    };
                    let ready = Arc::new(ready);
                    let new =
                        due.into_iter().filter(|job| !under_way.values().any(|(_, other)| other == job));
                    for job in new.take(free).collect::<Vec<_>>() {
                        let (this, ready) = (self.clone(), ready.clone());
                        let task = working.spawn(async move { this.work(job, &ready).await });
                        under_way.insert(task.id(), (name.clone(), job));
                    }
                }
            }
            let mut ended = None;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.parts.bell.notified() => {}
                done = working.join_next_with_id(), if !working.is_empty() => ended = done,
            }
            while let Some(done) = ended {
                under_way.remove(&done.map_or_else(|error| error.id(), |(id, ())| id));
                ended = working.try_join_next_with_id();
            }
        }
    }

    /// Takes up new decisions.
    async fn adopt(&self) {
        let environment = self.parts.environment;
        loop {
            let any = self.read(|tx| Ok(!reporter::desk::outbox::filings(tx, 1)?.is_empty())).await;
            if any != Some(true) {
                return;
            }
            let adopt = move |turn: &mut reporter::Turn<'_>| {
                step::adopt(&mut turn.tx, environment, turn.terms.now_ms)
            };
            if let Err(error) = self.parts.desk.ask(adopt).await {
                tracing::error!(%error, "decisions cannot be taken up to report them; they stay where they are");
                return;
            }
            failpoint("tip-adopted");
        }
    }

    /// Whether NCMEC's host may be asked; asks it whether it works again, if it is time to.
    async fn host_may(&self) -> bool {
        match self.parts.circuits.may(&Part::Host, Instant::now()) {
            May::Ask => true,
            May::Wait => false,
            May::Probe => self.probe_host().await,
        }
    }

    /// An organisation's settings and credentials, if it may report now. If not, that is told.
    async fn ready(&self, name: &OrgName, told: &mut HashMap<OrgName, Instant>) -> Option<Ready> {
        let of = name.clone();
        let (organisation, credentials) =
            self.read(move |tx| Ok((organisation(tx, &of)?, credentials(tx, &of)?))).await?;
        let environment = self.parts.environment;
        let trouble = match (organisation, credentials) {
            (Some(organisation), Some(credentials)) if credentials.environment == environment => {
                let ready = Ready { organisation, credentials };
                return self.organisation_may(&ready).await.then_some(ready);
            }
            (None, _) => format!("organisation {name} has no settings: put /api/v1/organisations/{name}"),
            (_, None) => format!("organisation {name} has no credentials of NCMEC's"),
            (_, Some(credentials)) => format!(
                "organisation {name} has credentials of the {} CyberTipline, and this server reports to the {} one",
                credentials.environment.name(),
                environment.name()
            ),
        };
        let now = Instant::now();
        if told.get(name).is_none_or(|at| now.duration_since(*at) > QUIET) {
            told.insert(name.clone(), now);
            self.raise(
                "ncmec.not_set_up",
                format!("organisation {name}"),
                format!("{trouble}: nothing is sent"),
            )
            .await;
        }
        None
    }

    /// Raises an alarm that only those see who may see child safety data.
    async fn raise(&self, kind: &'static str, about: String, words: String) {
        tracing::error!(kind, about, "an alarm: see /api/v1/alarms");
        let raised = self
            .parts
            .desk
            .ask(move |turn| Ok(alarm::raise(&mut turn.tx, kind, &about, &words, true, turn.terms.now_ms)?));
        if let Err(error) = raised.await {
            tracing::error!(%error, kind, "an alarm could not be kept");
        }
    }

    /// Reads from the store, off this thread.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Option<T> {
        let store = self.parts.store.clone();
        match tokio::task::spawn_blocking(move || read(&Tx::new(&*store))).await {
            Ok(Ok(found)) => Some(found),
            Ok(Err(error)) => {
                tracing::error!(%error, "filings do not read");
                None
            }
            Err(_) => None, // the program ends
        }
    }
}
