//! Alive, ready, counted.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use index::{Costs, Position, SignalType};
use reporter::access::Sight;
use reporter::desk::{alarm, intake, outbox};
use reporter::router::aside;
use reporter::tip::filing::{Stage, rows};
use reporter::{DeskError, Tx};
use serde::Deserialize;
use serde_json::{Value, json};

use super::cases::blocking;
use super::queues::queues_shown;
use super::{Admin, Refusal, lookup};
use crate::access::Caller;
use crate::clock::{clock, now_ms};
use crate::metrics::CaseGauges;

/// What waits is counted so far for metrics.
const WAITING_MAX: usize = 10_000;
/// Filings whose stage is looked at for metrics.
const STAGES_MAX: usize = 1000;

/// How long gauges of damaged cases are shown before they are read anew, and for how many callers who see different parts.
const GAUGES_KEPT: Duration = Duration::from_secs(10);
const SIGHTS_MAX: usize = 64;

/// `GET /healthz`: the process answers. Says nothing about banks.
pub async fn alive() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: lookups are answered from all banks, and hits can be written.
pub async fn ready(State(admin): State<Arc<Admin>>) -> Result<Json<Value>, Refusal> {
    let loaded = admin.loaded()?;
    if !admin.accepting.load(Ordering::Acquire) {
        return Err(Refusal::new(
            axum::http::StatusCode::SERVICE_UNAVAILABLE,
            "the shards do not take traffic",
        ));
    }
    Ok(Json(json!({
        "ready": true,
        "generation": loaded.banks.state().generation,
        "disk_full": admin.disk.is_full(),
        "clock": super::clock::shown(&clock().state()),
        "damaged": admin.metrics.damage.shown(),
        "embeddings_unusable": loaded.embeddings.unusable().len(),
        "decoders": admin.decoders.shown(),
    })))
}

/// `GET /metrics` in Prometheus' text form.
pub async fn metrics(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
) -> Result<impl IntoResponse, Refusal> {
    let (mut banks, mut cases, sight) = (None, None, caller.sight());
    if let Ok(loaded) = admin.loaded() {
        banks = Some(loaded.banks.state_owned());
        let (store, alarms_lost) = (loaded.cases.clone(), admin.door.alarms_lost());
        let embeddings_unusable = loaded.embeddings.unusable().len() as u64;
        let known = admin.gauges.of(&sight, admin.metrics.damage.is_met());
        let gauges = match known {
            Some(gauges) => gauges,
            None => {
                let looks = sight.clone();
                let read = move || Ok::<_, Refusal>(case_gauges(&Tx::new(&*store), &looks)?);
                let gauges = blocking(read).await?;
                admin.gauges.keep(sight, gauges.clone());
                gauges
            }
        };
        cases = Some(CaseGauges { alarms_lost, embeddings_unusable, ..gauges });
    }
    let text = admin.metrics.render(admin.disk.is_full(), banks.as_deref(), cases.as_ref());
    Ok(([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text))
}

/// What was read for the last scrapes. While something is damaged it is shown for a while instead of being read anew: each
/// reading searches for where the rows go on behind the damage, and is counted as one that met it.
#[derive(Debug, Default)]
pub struct LastGauges(Mutex<Vec<(Sight, Instant, CaseGauges)>>);

impl LastGauges {
    /// What was read for this sight a short while ago, if something is damaged.
    fn of(&self, sight: &Sight, is_damaged: bool) -> Option<CaseGauges> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept.iter().find(|(of, at, _)| of == sight && at.elapsed() < GAUGES_KEPT);
        known.filter(|_| is_damaged).map(|(_, _, gauges)| gauges.clone())
    }

    fn keep(&self, sight: Sight, gauges: CaseGauges) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(of, at, _)| *of != sight && at.elapsed() < GAUGES_KEPT);
        if kept.len() < SIGHTS_MAX {
            kept.push((sight, Instant::now(), gauges));
        }
    }
}

/// How much waits for people, and for how long, as far as a caller sees it.
fn case_gauges(tx: &Tx<'_>, sight: &Sight) -> Result<CaseGauges, DeskError> {
    let now_ms = now_ms();
    let seconds =
        |since: Option<u64>| since.map_or(0.0, |since| now_ms.saturating_sub(since) as f64 / 1000.0);
    let (waiting, oldest_ms) = readable(intake::backlog(tx, WAITING_MAX))?;
    let filings = match sight.child_safety {
        true => Some(readable(outbox::filings_open(tx, WAITING_MAX))?),
        false => None,
    };
    let mut stages = BTreeMap::<String, u64>::new();
    for filing in filings.iter().flatten().take(STAGES_MAX) {
        let stage = readable(rows::tip(tx, filing.job))?.map_or(Stage::Decided, |tip| tip.stage);
        *stages.entry(json!(stage).as_str().unwrap_or_default().to_string()).or_default() += 1;
    }
    let held = filings.is_some().then(|| readable(rows::held(tx, WAITING_MAX))).transpose()?;
    Ok(CaseGauges {
        queues: readable(queues_shown(tx, sight))?
            .iter()
            .map(|queue| queue.gauges(seconds(queue.oldest_ms())))
            .collect(),
        waiting: (waiting, seconds(oldest_ms)),
        filings: filings.map(|filings| filings.len() as u64),
        filings_by_stage: stages.into_iter().collect(),
        filings_held: held.map(|held| held.len() as u64),
        alarms_open: readable(alarm::open_count(tx, sight.child_safety, WAITING_MAX))? as u64,
        alarms_lost: 0,
        set_aside: readable(aside::list(tx, Position(0), WAITING_MAX))?.len() as u64,
        embeddings_unusable: 0,
    })
}

/// What was read, or nothing where it is damaged: metrics tell of damage, and must not end with it.
fn readable<T: Default, E: Into<DeskError>>(read: Result<T, E>) -> Result<T, DeskError> {
    match read.map_err(Into::into) {
        Err(DeskError::Store(error)) if error.is_damage() => Ok(T::default()),
        other => other,
    }
}

/// `GET /api/v1/index`: shape and size of the tables, and how they are searched.
pub async fn index(State(admin): State<Arc<Admin>>) -> Result<Json<Value>, Refusal> {
    let state = admin.loaded()?.banks.state_owned();
    let plans = state.tables.pdq.explain(SignalType::Pdq.threshold(), false);
    let mut shown = json!({
        "generation": state.generation,
        "kernel": admin.metrics.kernel(),
        "costs": Costs::current(),
        "bytes": state.bytes(),
        "memory_max_bytes": admin.config.memory_max_bytes,
        "pdq": { "signals": state.tables.pdq.len(), "tables": state.tables.pdq.stats(), "plans": plans },
    });
    for kind in SignalType::EXACT {
        let stats = state.tables.exact(kind).map(|exact| exact.stats());
        shown[kind.name()] = json!({ "signals": state.tables.len(kind), "tables": stats });
    }
    Ok(Json(shown))
}

/// What is to be explained.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Explained {
    threshold: Option<u16>,
    #[serde(default)]
    measure: bool,
}

/// `GET /api/v1/index/explain?threshold=31&measure=true`: how a PDQ lookup at this threshold is done, what it is
/// expected to cost, and what it costs.
pub async fn explain(
    State(admin): State<Arc<Admin>>,
    query: Result<Query<Explained>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let Query(query) = query?;
    let state = admin.loaded()?.banks.state_owned();
    let threshold = lookup::threshold(SignalType::Pdq, query.threshold)?;
    blocking(move || {
        let plans = state.tables.pdq.explain(threshold, query.measure);
        let unmerged = state.tables.pdq.unmerged();
        let delta = Costs::current().flat(unmerged);
        let predicted = plans.iter().map(|plan| plan.predicted_ns).sum::<f32>() + delta;
        let measured: Option<f32> = plans.iter().map(|plan| plan.measured_ns).sum();
        Ok(Json(json!({
            "generation": state.generation,
            "threshold": threshold,
            "signals": state.tables.pdq.len(),
            "unmerged": unmerged,
            "predicted_ns": predicted,
            "measured_ns": measured.filter(|_| query.measure),
            "costs": Costs::current(),
            "segments": plans,
        })))
    })
    .await
}

#[cfg(test)]
mod tests {
    use reporter::access::Rights;

    use super::*;

    #[test]
    fn gauges_are_read_for_each_scrape_unless_something_is_damaged() {
        let (last, all) = (LastGauges::default(), Sight::new(Rights::default(), None));
        let anna = Sight::new(Rights::default(), Some("anna"));
        last.keep(all.clone(), CaseGauges { set_aside: 3, ..CaseGauges::default() });
        assert!(last.of(&all, false).is_none());
        assert_eq!(last.of(&all, true).unwrap().set_aside, 3);
        assert!(last.of(&anna, true).is_none(), "others see other queues");
        for at in 0..2 * SIGHTS_MAX {
            last.keep(Sight::new(Rights::default(), Some(&at.to_string())), CaseGauges::default());
        }
        assert_eq!(last.0.lock().unwrap().len(), SIGHTS_MAX);
    }
}
