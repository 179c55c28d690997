//! The outbox's workers: webhooks are told until they understand, banks get what rules add to them. What is due is read
//! from the store; what became of it is written by the desk.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use index::bank::{BankChange, BankError, BankRequest, NewContent};
use index::store::{Store, StoreError};
use index::{RequestId, Signal};
use reporter::Tx;
use reporter::desk::outbox::{self, Addition, Delivery};
use reporter::desk::settings;

use crate::clock::now_ms;
use crate::curator::Curator;
use crate::desk::{Desk, OutboxCounts};
use crate::failpoint::failpoint;
use crate::hosts::Hosts;
use crate::outbound::{CallError, Caller};

const PAUSE: Duration = Duration::from_millis(500);
const LOOK_AT: usize = 64;
/// What a webhook answers is not looked at beyond its status.
const ANSWER_MAX: usize = 64 << 10;

/// What the workers need.
pub struct Outbox {
    /// The case database.
    pub store: Arc<dyn Store>,
    /// Where outcomes go.
    pub desk: Desk,
    /// Calls webhooks.
    pub caller: Arc<Caller>,
    /// Webhooks that do not answer.
    pub hosts: Hosts,
    /// Changes banks.
    pub curator: Curator,
    /// What is counted.
    pub counts: Arc<OutboxCounts>,
}

impl Outbox {
    /// Works on what is due, for ever.
    pub async fn run(self: Arc<Self>) {
        loop {
            let this = self.clone();
            let read = tokio::task::spawn_blocking(move || this.due()).await;
            let (deliveries, additions) = match read {
                Ok(Ok(due)) => due,
                Ok(Err(error)) => {
                    tracing::error!(%error, "the outbox does not read");
                    Default::default()
                }
                Err(_) => return, // the program ends
            };
            let idle = deliveries.is_empty() && additions.is_empty();
            let telling = deliveries.into_iter().map(|delivery| {
                let this = self.clone();
                tokio::spawn(async move { this.tell(delivery).await })
            });
            let telling: Vec<_> = telling.collect();
            for addition in additions {
                self.add(addition).await;
            }
            for told in telling {
                let _ = told.await; // it reports for itself
            }
            if idle {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn due(&self) -> Result<(Vec<Delivery>, Vec<Addition>), StoreError> {
        let tx = Tx::new(&*self.store);
        Ok((outbox::due_deliveries(&tx, now_ms(), LOOK_AT)?, outbox::due_additions(&tx, now_ms(), LOOK_AT)?))
    }

    async fn tell(&self, delivery: Delivery) {
        let outcome = self.call(&delivery).await;
        failpoint("webhook-told");
        let counts = &self.counts;
        let (count, told) = match outcome {
            Ok(()) => (
                &counts.delivered,
                self.desk
                    .ask(move |turn| {
                        outbox::delivered(&mut turn.tx, &delivery);
                        Ok(false)
                    })
                    .await,
            ),
            Err(why) => (
                &counts.failed,
                self.desk
                    .ask(move |turn| {
                        Ok(outbox::undelivered(&mut turn.tx, &delivery, &why, turn.terms.now_ms))
                    })
                    .await,
            ),
        };
        match told {
            Ok(given_up) => {
                count.fetch_add(1, Ordering::Relaxed);
                if given_up {
                    counts.given_up.fetch_add(1, Ordering::Relaxed);
                    tracing::error!("a webhook did not understand for a week: see /api/v1/deliveries");
                }
            }
            // It stays due, and is told again under the same id.
            Err(error) => tracing::warn!(%error, "what became of a delivery could not be written"),
        }
    }

    async fn call(&self, delivery: &Delivery) -> Result<(), String> {
        let named = settings::webhook(&Tx::new(&*self.store), &delivery.webhook)
            .map_err(|error| error.to_string())?;
        let webhook = named.ok_or_else(|| format!("there is no webhook '{}' any more", delivery.webhook))?;
        if !webhook.enabled {
            return Err("the webhook is switched off".to_string());
        }
        if let Some(why) = self.hosts.silent(&webhook.url, Instant::now()) {
            return Err(why);
        }
        let body = delivery.body.to_string().into_bytes();
        let id = format!("delivery-{}", delivery.number);
        let answer = self.caller.post(&webhook.url, &id, body, ANSWER_MAX).await;
        match &answer {
            Err(CallError::Broken(_)) => self.hosts.failed(&webhook.url, Instant::now()),
            _ => self.hosts.answered(&webhook.url),
        }
        answer.map(drop).map_err(|error| error.to_string())
    }

    async fn add(&self, addition: Addition) {
        let outcome = self.change(&addition).await;
        failpoint("bank-added");
        let counts = &self.counts;
        let told = match outcome {
            Ok(()) => {
                counts.added.fetch_add(1, Ordering::Relaxed);
                self.desk
                    .ask(move |turn| {
                        outbox::added(&mut turn.tx, &addition);
                        Ok(())
                    })
                    .await
            }
            Err(why) => {
                counts.failed.fetch_add(1, Ordering::Relaxed);
                self.desk
                    .ask(move |turn| {
                        outbox::not_added(&mut turn.tx, &addition, &why, turn.terms.now_ms);
                        Ok(())
                    })
                    .await
            }
        };
        if let Err(error) = told {
            tracing::warn!(%error, "what became of a bank addition could not be written");
        }
    }

    /// The same addition again is the same change: its id is made of its number.
    async fn change(&self, addition: &Addition) -> Result<(), String> {
        let parse = |(kind, text): (&index::SignalType, &String)| {
            Signal::parse(*kind, text).map_err(|error| error.to_string())
        };
        let signals = addition.signals.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let note = addition.note.chars().take(255).collect();
        let content = NewContent { signals, note, metadata: String::new() };
        let change = BankChange::Add { bank: addition.bank.clone(), contents: vec![content] };
        let id = RequestId::of(addition.since_ms, format!("addition {}", addition.number).as_bytes());
        let answer = match self.curator.change(BankRequest { id: Some(id), ..change.clone().into() }).await {
            // It failed for more than a day. Being in its bank twice does no harm; not being in it does.
            Err(BankError::TooOld { .. }) => self.curator.change(change.into()).await,
            answer => answer,
        };
        answer.map(drop).map_err(|error| error.to_string())
    }
}
