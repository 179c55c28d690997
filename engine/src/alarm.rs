//! What follows an alarm: a key that was frozen stays frozen over restarts, everything is on record, and the operator's
//! webhook is told.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_channel::Receiver;
use reporter::access::{self, Frozen};
use reporter::audit::Entry;
use reporter::desk::outbox;
use reporter::{DeskError, Turn};
use serde_json::json;

use crate::defence::{Alarm, AlarmKind};
use crate::desk::Desk;

/// The same alarm again is not told again so soon.
const QUIET_MS: u64 = 600_000;
/// Alarms that are remembered for that.
const REMEMBERED_MAX: usize = 10_000;
const PAUSE: Duration = Duration::from_secs(1);

/// What is counted of alarms.
#[derive(Debug, Default)]
pub struct AlarmCounts {
    /// Keys frozen since start.
    pub frozen: AtomicU64,
    /// Honeytokens found since start.
    pub honeytokens: AtomicU64,
    /// Budgets spent since start, once an hour and key.
    pub budgets: AtomicU64,
    /// Crowds since start.
    pub crowds: AtomicU64,
}

impl AlarmCounts {
    fn of(&self, kind: AlarmKind) -> &AtomicU64 {
        match kind {
            AlarmKind::Walk => &self.frozen,
            AlarmKind::Honeytoken => &self.honeytokens,
            AlarmKind::Budget => &self.budgets,
            AlarmKind::Crowd => &self.crowds,
        }
    }
}

/// Hears alarms until nobody raises any more.
pub async fn hear(alarms: Receiver<Alarm>, desk: Desk, counts: Arc<AlarmCounts>) {
    let mut told = HashMap::<String, u64>::new();
    while let Ok(alarm) = alarms.recv().await {
        counts.of(alarm.kind).fetch_add(1, Ordering::Relaxed);
        if told.get(&alarm.words).is_some_and(|at_ms| alarm.at_ms < at_ms.saturating_add(QUIET_MS)) {
            continue;
        }
        if told.len() >= REMEMBERED_MAX {
            told.clear();
        }
        told.insert(alarm.words.clone(), alarm.at_ms);
        // The key is frozen already; that it stays so, and that somebody hears of it, is worth every try.
        loop {
            let followed = alarm.clone();
            match desk.ask(move |turn| follow(turn, &followed)).await {
                Ok(()) => break,
                Err(error) => {
                    tracing::error!(%error, kind = alarm.kind.name(), "an alarm is not on record yet")
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn follow(turn: &mut Turn<'_>, alarm: &Alarm) -> Result<(), DeskError> {
    let Alarm { key: number, kind, words, at_ms } = alarm;
    if *kind == AlarmKind::Walk {
        match access::key(&turn.tx, number.0) {
            Ok(mut key) => {
                key.frozen = Some(Frozen { at_ms: *at_ms, why: words.clone() });
                access::put_key(&mut turn.tx, &key);
                turn.people_changed = true;
            }
            Err(DeskError::NotFound { .. }) => {} // removed meanwhile: it opens nothing
            Err(error) => return Err(error),
        }
    }
    let name = kind.name();
    if let Some(webhook) = &turn.terms.catalog.settings.alarm_webhook {
        let body = json!({ "kind": "alarm", "alarm": name, "key": number.0, "words": words, "at_ms": at_ms });
        outbox::put_delivery(&mut turn.tx, webhook, body, turn.terms.now_ms)?;
    }
    turn.audit(Entry {
        who: "defence".to_string(),
        action: format!("alarm.{name}"),
        about: format!("key {}", number.0),
        details: json!({ "words": words }),
        child_safety: false,
    })
}
