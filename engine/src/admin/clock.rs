//! The clock: whether it is in doubt, and a person's word that it is right. `docs/retention.md` is for operators.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::declared;
use super::deed::Deed;
use super::{Admin, Refusal};
use crate::access::Caller;
use crate::clock::{ClockState, clock};
use crate::clock_watch::move_waits;

/// How far the time that a person gives may be from the server's.
const APART_MS_MAX: u64 = 300_000;

/// What somebody says the time is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeBody {
    now_ms: u64,
}

/// Shows the clock.
pub fn shown(state: &ClockState) -> Value {
    let doubt = state.doubt.map(|doubt| {
        json!({ "since_ms": doubt.since_ms, "jumped_ms": doubt.jumped_ms, "settles_in_ms": state.settles_in_ms })
    });
    let in_doubt = doubt.is_some();
    json!({
        "now_ms": state.now_ms, "wall_ms": state.wall_ms, "in_doubt": in_doubt, "deletion_paused": in_doubt,
        "doubt": doubt,
    })
}

/// `GET /api/v1/clock`: the server's time, and whether it is in doubt.
pub async fn show() -> Json<Value> {
    Json(shown(&clock().state()))
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING) || declared(headers).is_some_and(|length| length > 0)
}

/// `POST /api/v1/clock/confirm {"now_ms"}?`: the server's wall clock is right. Deletion goes on. With `now_ms` the server
/// first compares its wall clock with that.
pub async fn confirm(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Result<Option<Json<TimeBody>>, JsonRejection>,
) -> Result<Json<Value>, Refusal> {
    let (state, loaded) = (clock().state(), admin.loaded()?);
    let now_ms = match body? {
        Some(Json(TimeBody { now_ms })) => now_ms,
        None if has_body(&headers) => {
            let words = "content-type: a body with now_ms is application/json";
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, words.to_string()));
        }
        None => state.wall_ms,
    };
    let conflict = |words: String| Err(Refusal::new(StatusCode::CONFLICT, words));
    let Some(doubt) = state.doubt else { return conflict("the clock is not in doubt".to_string()) };
    if now_ms.abs_diff(state.wall_ms) > APART_MS_MAX {
        return conflict(format!(
            "now_ms: you say that it is {now_ms} ms since 1970 (UTC), the server's wall clock says {}: set that clock \
             first, then confirm it",
            state.wall_ms
        ));
    }
    let details = json!({ "said_ms": now_ms, "wall_ms": state.wall_ms, "jumped_ms": doubt.jumped_ms });
    let deed = Deed::new(&caller, "clock.confirm", "clock").with(details);
    loaded.act(deed, |_, _| Ok(())).await?; // what cannot be recorded is not done
    let moved_ms = clock().confirm().unwrap_or(0);
    tracing::warn!(by = caller.name(), moved_ms, "the clock was confirmed: deletion because of age goes on");
    loaded.desk.ask(move |turn| move_waits(turn, moved_ms)).await?;
    loaded.retention.notify_one();
    Ok(show().await)
}
