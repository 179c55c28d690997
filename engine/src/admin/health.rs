//! Alive, ready, counted.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::{Admin, Refusal};

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
    })))
}

/// `GET /metrics` in Prometheus' text form.
pub async fn metrics(State(admin): State<Arc<Admin>>) -> Result<impl IntoResponse, Refusal> {
    let banks = admin.loaded().ok().map(|loaded| loaded.banks.state_owned());
    let text = admin.metrics.render(admin.disk.is_full(), banks.as_deref());
    Ok(([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text))
}

/// `GET /api/v1/index`: shape and size of the tables.
pub async fn index(State(admin): State<Arc<Admin>>) -> Result<Json<Value>, Refusal> {
    let state = admin.loaded()?.banks.state_owned();
    let (pdq, md5) = (state.pdq.stats(), state.md5.stats());
    Ok(Json(json!({
        "generation": state.generation,
        "kernel": admin.metrics.kernel(),
        "pdq": { "signals": state.pdq.len(), "tables": pdq },
        "video_md5": { "signals": state.md5.len(), "tables": md5 },
    })))
}
