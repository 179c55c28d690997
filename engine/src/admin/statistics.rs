//! Counts that HMA needs SQL for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::{Extension, Json};
use index::{BankId, SignalType};
use serde_json::{Value, json};

use super::cases::blocking;
use super::{Admin, Refusal};
use crate::access::Caller;

/// `GET /api/v1/statistics`: banks, signals, exchanges, lookups and queues in numbers.
pub async fn show(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, Refusal> {
    let (loaded, sight) = (admin.loaded()?, caller.sight());
    let (banks, exchanges, cases) = (loaded.banks.clone(), loaded.exchanges.clone(), loaded.cases.clone());
    let lookups = lookups(&admin);
    blocking(move || {
        let state = banks.state_owned();
        let paused: BTreeMap<BankId, u64> = state.paused.by_bank();
        let by_type = |counts: &[u64]| -> BTreeMap<&str, u64> {
            SignalType::ALL.iter().map(|kind| kind.name()).zip(counts.iter().copied()).collect()
        };
        let mut per_bank = Vec::new();
        for bank in state.directory.list() {
            let changed_ms = banks.bank_history(bank.id)?.last().map(|event| event.at_ms);
            per_bank.push(json!({
                "name": &*bank.name,
                "contents": bank.contents,
                "disabled_contents": paused.get(&bank.id).unwrap_or(&0),
                "signals": by_type(&bank.signals),
                "enabled_ratio": bank.enabled_ratio,
                "created_ms": bank.created_ms,
                "settings_changed_ms": changed_ms,
            }));
        }
        let mut per_exchange = Vec::new();
        for name in exchanges.names()? {
            let Some(exchange) = exchanges.get(&name)? else { continue };
            per_exchange.push(json!({
                "name": name,
                "api": exchange.api,
                "enabled": exchange.enabled,
                "status": exchange.status,
            }));
        }
        let totals: Vec<u64> = SignalType::ALL.iter().map(|kind| state.tables.len(*kind) as u64).collect();
        Ok(Json(json!({
            "generation": state.generation,
            "banks": per_bank,
            "signals": by_type(&totals),
            "contents": state.directory.list().iter().map(|bank| bank.contents).sum::<u64>(),
            "table_bytes": state.bytes(),
            "exchanges": per_exchange,
            "since_start": lookups,
            "queues": super::queues::queues_shown(&reporter::Tx::new(&*cases), &sight)?,
        })))
    })
    .await
}

/// What the shards counted since the program started.
fn lookups(admin: &Admin) -> Value {
    let sum = |of: fn(&crate::metrics::ShardCounts) -> u64| -> u64 {
        admin.metrics.shards.iter().map(|shard| of(shard)).sum()
    };
    json!({
        "lookups": sum(|shard| shard.lookups.load(Ordering::Relaxed)),
        "hits": sum(|shard| shard.hits.load(Ordering::Relaxed)),
        "frames": sum(|shard| shard.frames.load(Ordering::Relaxed)),
    })
}
