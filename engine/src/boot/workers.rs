//! Starting the workers of the control plane: what waits in the intake, what must be preserved, what must still be told.

use std::sync::Arc;

use anyhow::Result;
use index::store::Store;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::admin::Admin;
use crate::curator::Curator;
use crate::deliver::Outbox;
use crate::desk::Desk;
use crate::evidence::Evidence;
use crate::filer::{Filer, FilerParts};
use crate::hosts::Hosts;
use crate::in_hand::{InHand, Queue};
use crate::intake::Intake;
use crate::last_words::End;
use crate::outbound::Caller;
use crate::preserve::Preserver;
use crate::retention::Retention;
use crate::safety::Classifier;
use crate::sources::Sources;
use crate::submit::Submitter;

/// What workers work on.
pub struct Workers {
    /// The case database.
    pub store: Arc<dyn Store>,
    /// The one writer of cases.
    pub desk: Desk,
    /// The one writer of banks.
    pub curator: Curator,
    /// Preserved media.
    pub evidence: Arc<Evidence>,
    /// Rung when a deletion was begun.
    pub retention: Arc<Notify>,
    /// Rung when a filing may go on.
    pub filing: Arc<Notify>,
    /// How the program before this one ended.
    pub last_end: End,
}

impl Workers {
    /// Starts them on the control plane's runtime; they end with it.
    pub fn start(
        self,
        admin: &Arc<Admin>,
        runtime: &Handle,
        caller: Arc<Caller>,
        submitter: Arc<Submitter>,
        bell: Arc<Notify>,
    ) -> Result<()> {
        let Workers { store, desk, curator, evidence, retention, filing, last_end } = self;
        let in_hand = |queue| InHand::open(store.clone(), desk.clone(), queue, last_end);
        let sources = Arc::new(Sources { admin: admin.clone(), hosts: Hosts::default() });
        let classifier =
            admin.config.content_safety.clone().map(|(url, key)| {
                Classifier::start(runtime, caller.clone(), admin.decoders.clone(), url, key)
            });
        let intake = Intake {
            sources: sources.clone(),
            evidence: evidence.clone(),
            store: store.clone(),
            desk: desk.clone(),
            submitter,
            caller: caller.clone(),
            classifier,
            in_hand: in_hand(Queue::Intake)?,
            bell,
            counts: admin.metrics.intake.clone(),
        };
        runtime.spawn(Arc::new(intake).run());
        let retention = Retention {
            store: store.clone(),
            desk: desk.clone(),
            evidence: evidence.clone(),
            bell: retention,
            counts: admin.metrics.retention.clone(),
        };
        runtime.spawn(retention.run());
        let (filed_sources, filed_evidence) = (sources.clone(), evidence.clone());
        let preserver = Preserver {
            store: store.clone(),
            desk: desk.clone(),
            sources,
            evidence,
            counts: admin.metrics.preserve.clone(),
        };
        runtime.spawn(Arc::new(preserver).run());
        let ncmec = admin.config.ncmec.clone();
        let filer = Filer::new(FilerParts {
            store: store.clone(),
            desk: desk.clone(),
            caller: caller.clone(),
            sources: filed_sources,
            evidence: filed_evidence,
            environment: ncmec.environment,
            base_url: ncmec.base_url,
            in_hand: in_hand(Queue::Filings)?,
            bell: filing,
            circuits: admin.circuits.clone(),
            counts: admin.metrics.filer.clone(),
        })?;
        runtime.spawn(filer.run());
        let hosts = Hosts::default();
        let (deliveries, additions) = (in_hand(Queue::Deliveries)?, in_hand(Queue::Additions)?);
        let counts = admin.metrics.outbox.clone();
        let outbox = Outbox { store, desk, caller, hosts, curator, deliveries, additions, counts };
        runtime.spawn(Arc::new(outbox).run());
        Ok(())
    }
}
