//! Submits of the control plane: signals of any type are matched, judged and logged as those of the binary port are.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_channel::bounded;
use index::bank::{Ask, BankState, Banks};
use index::{
    Distance, FindRule, FindScratch, Generation, Hit, HitMatch, Match, Nearest, Nearness, Position,
    RequestId, Signal, Tenant, UploadContext,
};
use ingest::wire::{Query, Request};
use reporter::router::{self, policy::Catalog};

use crate::clock::{now_ms, now_s};
use crate::ledger::{Append, AppendError, Ledger, Receipt, Ticket};
use crate::recent::Recent;

/// Tries while the log is full of others' work.
const TRIES: usize = 200;
const PAUSE: Duration = Duration::from_millis(10);
/// Signals searched for together.
const AT_ONCE: usize = 16;

/// Where the control plane submits.
pub struct Submitter {
    /// The banks.
    pub banks: Arc<Banks>,
    /// The rules that give verdicts, as they are at any moment.
    pub catalog: Arc<ArcSwap<Catalog>>,
    /// Where hits become durable.
    pub ledger: Ledger,
    /// Where Submits are kept for a while.
    pub recent: Recent,
    /// What counts as a match.
    pub rule: FindRule,
    /// Matches listed per signal.
    pub matches_max: usize,
}

/// What one of several signals matched.
pub struct Matched {
    /// Which signal.
    pub place: u32,
    /// The nearest matches, and the nearest of every bank.
    pub matches: Vec<HitMatch>,
    /// How many there are in all.
    pub total: u32,
}

/// Why a Submit is not in the log.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The log refuses.
    #[error(transparent)]
    Refused(#[from] AppendError),
    /// The log has no room for now.
    #[error("the hit log is busy; send it again")]
    Busy,
    /// The server ends before it answered.
    #[error("the server is shutting down; whether it was logged is unknown, send it again")]
    Stopped,
}

impl Submitter {
    /// Matches signals of one content; returns when its hits are durable. `None` if there are none. A request that
    /// comes again gives the first answer again.
    pub async fn submit(
        self: &Arc<Self>,
        request: RequestId,
        signals: Vec<Signal>,
        context: UploadContext,
    ) -> Result<Option<Receipt>, SubmitError> {
        self.keep(request, &signals, &context);
        let this = self.clone();
        let found = tokio::task::spawn_blocking(move || {
            let (generation, matched) = this.matching(context.tenant.as_ref(), &signals);
            let hits: Vec<Hit> = matched
                .into_iter()
                .map(|Matched { place, matches, total }| Hit {
                    position: Position(0),
                    request,
                    index: place,
                    received_ms: 0,
                    generation,
                    signal_type: signals[place as usize].kind(),
                    signal: signals[place as usize].to_string(),
                    matches,
                    matches_total: total,
                    upload_id: 0,
                    context: context.clone(),
                })
                .collect();
            (generation, hits)
        });
        let (generation, hits) = found.await.map_err(|_| SubmitError::Stopped)?;
        if hits.is_empty() {
            return Ok(None);
        }
        self.append(request, generation, hits).await.map(Some)
    }

    /// Logs hits of one content; returns when they are durable.
    pub async fn append(
        &self,
        request: RequestId,
        generation: Generation,
        hits: Vec<Hit>,
    ) -> Result<Receipt, SubmitError> {
        let (catalog, now_ms) = (self.catalog.load_full(), now_ms());
        let verdicts: Vec<u8> =
            hits.iter().map(|hit| router::verdict_of(&catalog.table, hit, now_ms).number()).collect();
        for _ in 0..TRIES {
            let (inbox, settled) = bounded(1);
            let ticket = Ticket { inbox, connection: 0, correlation: 0 };
            // Its ids are this program's own: each stands for one content, whatever matches by now.
            let (hits, verdicts) = (hits.clone(), verdicts.clone());
            let append = Append { request, digest: None, generation, hits, verdicts, ticket };
            if self.ledger.append(append).is_ok() {
                let settled = settled.recv().await.map_err(|_| SubmitError::Stopped)?;
                return Ok(settled.outcome?);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(SubmitError::Busy)
    }

    /// What signals match now, each by its place; for a tenant in its own banks and everybody's. Takes a CPU for a while.
    pub fn matching(&self, tenant: Option<&Tenant>, signals: &[Signal]) -> (Generation, Vec<Matched>) {
        let state = self.banks.state_of(tenant);
        let ask = Ask::matching(self.matches_max, now_s());
        let (mut room, mut nearest, mut matched) = (FindScratch::default(), Nearest::default(), Vec::new());
        for (at, signals) in signals.chunks(AT_ONCE).enumerate() {
            state.find_all(signals, &self.rule, &ask, &mut room, &mut nearest);
            matched.extend(nearest.rows().iter().map(|row| Matched {
                place: (at * AT_ONCE) as u32 + row.query,
                matches: nearest.listed(row).iter().map(|hit| as_hit(&state, hit)).collect(),
                total: row.total,
            }));
        }
        (state.generation, matched)
    }

    /// Keeps the PDQ hashes for reverse lookup, as a frame that a client might have sent.
    fn keep(&self, request: RequestId, signals: &[Signal], context: &UploadContext) {
        let pdq = |signal: &Signal| if let Signal::Pdq(hash) = signal { Some(*hash) } else { None };
        let hashes: Vec<_> = signals.iter().filter_map(pdq).collect();
        if hashes.is_empty() {
            return;
        }
        let contexts = (0..hashes.len() as u32).map(|hash| (hash, context.clone())).collect();
        let submit = Request::Submit { request, retry: false, query: Query::pdq(hashes), contexts };
        let mut frame = Vec::new();
        submit.encode(0, &mut frame);
        self.recent.note(&frame[ingest::wire::frame::PREFIX..]);
    }
}

fn as_hit(state: &BankState, hit: &Match) -> HitMatch {
    HitMatch {
        bank: hit.bank,
        bank_name: state.directory.get(hit.bank).map_or_else(String::new, |bank| bank.name.to_string()),
        content: hit.content,
        distance: as_bits(hit.nearness),
    }
}

/// A hit knows bits: edits count as such, and of a video the percent of its frames that were not found.
fn as_bits(nearness: Nearness) -> Distance {
    let bits = match nearness {
        Nearness::Bits(distance) => return distance,
        Nearness::Same => 0,
        Nearness::Edits { edits, .. } => edits.min(128) as u16,
        Nearness::Frames { query_percent, .. } => (100.0 - query_percent).ceil() as u16,
    };
    Distance::new(bits).unwrap_or(Distance::MAX)
}
