//! The outbox's workers: webhooks are told until they understand, banks get what rules add to them. What is due is read
//! from the store; what became of it is written by the desk.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use index::bank::{BankChange, BankError, BankRequest, NewContent};
use index::store::{Store, StoreError};
use index::{RequestId, Signal};
use reporter::desk::outbox::{self, Addition, Delivery};
use reporter::desk::settings;
use reporter::tip::filing::ended::PRESERVATION;
use reporter::tip::organisation::organisation;
use reporter::{OrgName, Tx};
use tokio::task::JoinSet;

use crate::clock::now_ms;
use crate::curator::Curator;
use crate::desk::{Desk, OutboxCounts};
use crate::failpoint::failpoint;
use crate::hosts::Hosts;
use crate::in_hand::InHand;
use crate::outbound::{CallError, Caller};

const PAUSE: Duration = Duration::from_millis(500);
const LOOK_AT: usize = 64;
/// What a webhook answers is not looked at beyond its status.
const ANSWER_MAX: usize = 64 << 10;

type Due<T> = fn(&Tx<'_>, u64, usize) -> Result<Vec<T>, StoreError>;

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
    /// Deliveries that are worked on, noted before.
    pub deliveries: InHand,
    /// The same of additions.
    pub additions: InHand,
    /// Changes banks.
    pub curator: Curator,
    /// What is counted.
    pub counts: Arc<OutboxCounts>,
}

impl Outbox {
    /// Works on what is due, for ever. A slow webhook holds up no bank, nor a bank a webhook.
    pub async fn run(self: Arc<Self>) {
        tokio::join!(self.tell_all(), self.add_all());
    }

    /// Many are told at once, and whoever is slow is waited for beside the others.
    async fn tell_all(self: &Arc<Self>) {
        let (mut telling, mut under_way) = (JoinSet::new(), HashMap::new());
        loop {
            for delivery in self.due(outbox::due_deliveries).await {
                if under_way.values().any(|number| *number == delivery.number) {
                    continue;
                }
                let (this, number) = (self.clone(), delivery.number);
                under_way.insert(telling.spawn(async move { this.tell(delivery).await }).id(), number);
            }
            if telling.is_empty() {
                tokio::time::sleep(PAUSE).await;
            }
            let mut told = tokio::time::timeout(PAUSE, telling.join_next_with_id()).await.ok().flatten();
            while let Some(ended) = told {
                under_way.remove(&ended.map_or_else(|error| error.id(), |(id, ())| id));
                told = telling.try_join_next_with_id();
            }
        }
    }

    async fn add_all(self: &Arc<Self>) {
        loop {
            let due = self.due(outbox::due_additions).await;
            if due.is_empty() {
                tokio::time::sleep(PAUSE).await;
            }
            for addition in due {
                self.add(addition).await;
            }
        }
    }

    async fn due<T: Send + 'static>(&self, read: Due<T>) -> Vec<T> {
        let store = self.store.clone();
        let read = move || read(&Tx::new(&*store), now_ms(), LOOK_AT);
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok(due)) => due,
            Ok(Err(error)) => {
                tracing::error!(%error, "the outbox does not read");
                Vec::new()
            }
            Err(_) => Vec::new(), // the program ends
        }
    }

    async fn tell(&self, delivery: Delivery) {
        let work = self.deliveries.begin(delivery.number).await;
        let (outcome, work) = match work {
            Ok(work) => (self.call(&delivery).await, Some(work)),
            Err(why) => (Err(why), None),
        };
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
        if let Some(work) = work {
            self.deliveries.done(work).await;
        }
    }

    async fn call(&self, delivery: &Delivery) -> Result<(), String> {
        let url = self.url_of(&delivery.webhook)?;
        let body = delivery.body.to_string().into_bytes();
        let id = format!("delivery-{}", delivery.number);
        let called = self.caller.post(&url, &id, body, ANSWER_MAX);
        let answer = self.hosts.ask(&url, called, |error| matches!(error, CallError::Broken(_)));
        answer.await.map(drop)
    }

    /// Where a webhook is called, or an organisation's preservation endpoint.
    fn url_of(&self, name: &str) -> Result<String, String> {
        let tx = Tx::new(&*self.store);
        if let Some(of) = name.strip_prefix(PRESERVATION) {
            let found = OrgName::parse(of).map(|of| organisation(&tx, &of)).transpose();
            let found = found.map_err(|error| error.to_string())?.flatten();
            let url = found.and_then(|organisation| organisation.preservation_url);
            return url.ok_or_else(|| format!("organisation '{of}' has no preservation endpoint any more"));
        }
        let named = settings::webhook(&tx, name).map_err(|error| error.to_string())?;
        let webhook = named.ok_or_else(|| format!("there is no webhook '{name}' any more"))?;
        if !webhook.enabled {
            return Err("the webhook is switched off".to_string());
        }
        Ok(webhook.url)
    }

    async fn add(&self, addition: Addition) {
        let work = self.additions.begin(addition.number).await;
        let (outcome, work) = match work {
            Ok(work) => (self.change(&addition).await, Some(work)),
            Err(why) => (Err(why), None),
        };
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
        if let Some(work) = work {
            self.additions.done(work).await;
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
            Err(BankError::TooOld { .. } | BankError::Future { .. }) => {
                self.curator.change(change.into()).await
            }
            answer => answer,
        };
        answer.map(drop).map_err(|error| error.to_string())
    }
}
