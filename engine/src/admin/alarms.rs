//! Alarms about reporting: what somebody must look at. Those that are child safety data are there for who may see it.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use reporter::access::{Right, Rights};
use reporter::desk::alarm::{self, Alarm};
use reporter::{DeskError, Tx};
use serde::Deserialize;
use serde_json::{Value, json};

use super::cases::blocking;
use super::deed::Deed;
use super::jobs::PAGE_MAX;
use super::{Admin, Refusal};
use crate::access::Caller;

/// Which alarms.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlarmsQuery {
    /// Those that somebody acknowledged, too.
    #[serde(default)]
    all: bool,
    /// Of all: those before this number.
    before: Option<u64>,
    /// At most; 100 if absent, 1000 at most.
    limit: Option<usize>,
}

/// Whether a caller sees an alarm.
fn sees(rights: Rights, alarm: &Alarm) -> bool {
    let by = if alarm.child_safety { &[Right::ChildSafety][..] } else { &[Right::Observe, Right::Report] };
    by.iter().any(|right| rights.has(*right))
}

/// `GET /api/v1/alarms[?all=true][&before=N][&limit=N]`: those that nobody acknowledged, oldest first; or all, newest first.
pub async fn list(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<AlarmsQuery>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let Query(AlarmsQuery { all, before, limit }) = query?;
    if before.is_some() && !all {
        return Err(Refusal::bad("before: goes with 'all=true'"));
    }
    let limit = limit.unwrap_or(100).clamp(1, PAGE_MAX);
    let (store, rights) = (admin.loaded()?.cases.clone(), caller.rights);
    blocking(move || {
        let tx = Tx::new(&*store);
        let found = match all {
            true => alarm::alarms(&tx, before.unwrap_or(u64::MAX), limit)?,
            false => alarm::open_alarms(&tx, limit)?,
        };
        let next = found.last().filter(|_| all && found.len() == limit).map(|last| last.number);
        let seen: Vec<&Alarm> = found.iter().filter(|alarm| sees(rights, alarm)).collect();
        let mut page = json!({ "entries": seen });
        if let Some(next) = next {
            page["next"] = json!(next);
        }
        Ok(Json(page))
    })
    .await
}

/// `POST /api/v1/alarms/{number}/acknowledge`: somebody has looked at it.
pub async fn acknowledge(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(text): Path<String>,
) -> Result<Json<Alarm>, Refusal> {
    let number: u64 = text.parse().map_err(|_| Refusal::bad(format!("'{text}' is not an alarm's number")))?;
    let (by, rights) = (caller.name(), caller.rights);
    let deed = Deed::new(&caller, "alarm.acknowledge", format!("alarm {number}"));
    let done = admin.loaded()?.desk.ask(move |turn| {
        let found = alarm::alarm(&turn.tx, number)?.filter(|alarm| sees(rights, alarm));
        let found = found.ok_or(DeskError::NotFound { what: "alarm", name: number.to_string() })?;
        let told = json!({ "kind": found.kind, "about": found.about });
        let done = alarm::acknowledge(&mut turn.tx, number, &by, turn.terms.now_ms)?;
        deed.with(told).about_child_safety(found.child_safety).record(turn)?;
        Ok(done)
    });
    Ok(Json(done.await?))
}
