//! Reverse lookup: which earlier submissions match content that is known only now?

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use index::{Distance, Signal, SignalType};
use serde::Deserialize;
use serde_json::{Value, json};

use super::cases::blocking;
use super::contents::content_id;
use super::lookup::threshold;
use super::{Admin, Refusal};
use crate::access::Caller;
use crate::clock::now_ms;

const LIMIT_MAX: usize = 10_000;
const HOUR_MS: u64 = 3_600_000;

/// What to look for, and in which hours.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecentQuery {
    signal_type: Option<String>,
    signal: Option<String>,
    /// The last so many; all that are kept if absent. 3, 24 and 72 are usual.
    hours: Option<f64>,
    threshold: Option<u16>,
    /// Submissions listed at most, newest first; 100 if absent.
    limit: Option<usize>,
}

/// `GET /api/v1/recent?signal_type=pdq&signal=HEX[&hours=24][&threshold=31][&limit=100]`
pub async fn of_signal(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<RecentQuery>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let Query(query) = query?;
    let (Some(kind), Some(text)) = (&query.signal_type, &query.signal) else {
        return Err(Refusal::bad("name a signal_type and a signal, or ask /api/v1/contents/{id}/recent"));
    };
    let bad = |error: index::SignalError| Refusal::bad(error.to_string());
    let kind = SignalType::from_name(kind).map_err(bad)?;
    let signal = Signal::parse(kind, text).map_err(bad)?;
    search(&admin, &caller, vec![signal], &query).await
}

/// `GET /api/v1/contents/{id}/recent[?hours=24][&threshold=31][&limit=100]`: submissions that match any of the content's
/// signals.
pub async fn of_content(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    query: Result<Query<RecentQuery>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let Query(query) = query?;
    if query.signal.is_some() || query.signal_type.is_some() {
        return Err(Refusal::bad(
            "the content's own signals are looked for; leave signal and signal_type out",
        ));
    }
    let id = content_id(&id)?;
    let banks = admin.loaded()?.banks.clone();
    let content = blocking(move || Ok::<_, Refusal>(banks.content(id)?)).await?;
    let content = content.ok_or_else(|| Refusal::not_found(format!("no content {id}")))?;
    search(&admin, &caller, content.signals, &query).await
}

async fn search(
    admin: &Admin,
    caller: &Caller,
    signals: Vec<Signal>,
    query: &RecentQuery,
) -> Result<Json<Value>, Refusal> {
    let recent = admin.loaded()?.recent.clone();
    if !recent.is_on() {
        return Err(Refusal::new(
            StatusCode::NOT_IMPLEMENTED,
            "submissions are not kept here: --recent-hours says for how long",
        ));
    }
    let hours = query.hours.unwrap_or(f64::MAX);
    if hours.is_nan() || hours < 0.0 {
        return Err(Refusal::bad("hours is a number, 0 or more"));
    }
    let since_ms = now_ms().saturating_sub((hours * HOUR_MS as f64) as u64);
    let limit = query.limit.unwrap_or(100).clamp(1, LIMIT_MAX);
    // Those of other types are not submitted over the binary port.
    let signals: Vec<(Signal, Distance)> = signals
        .into_iter()
        .filter(|signal| signal.kind().bytes().is_some())
        .map(|signal| {
            let asked = query.threshold.filter(|_| signal.kind() == SignalType::Pdq);
            Ok((signal.clone(), threshold(signal.kind(), asked)?))
        })
        .collect::<Result<_, Refusal>>()?;
    // It reads all of them: not more of them at once than there are CPUs.
    let turn = admin.turns.of(caller).await?;
    blocking(move || {
        let mut results = Vec::with_capacity(signals.len());
        for (signal, threshold) in signals {
            let found = recent.search(&signal, threshold, since_ms, limit)?;
            results.push(json!({
                "signal_type": signal.kind(),
                "signal": signal.to_string(),
                "threshold": threshold,
                "submissions": found,
            }));
        }
        drop(turn);
        Ok(Json(json!({ "since_ms": since_ms, "results": results })))
    })
    .await
}
