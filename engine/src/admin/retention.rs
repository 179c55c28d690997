//! How long jobs are kept: holding one, and deleting one whose time is over. `docs/retention.md` is for operators.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use reporter::DeskError;
use reporter::desk::retention::{self, Hold};
use serde::Deserialize;
use serde_json::{Value, json};

use super::deed::Deed;
use super::jobs::job_id;
use super::{Admin, Refusal};
use crate::access::{Caller, Who};
use crate::clock::trusted_ms;
use crate::failpoint::failpoint;

const REASON_CHARS_MAX: usize = 1000;
const DOUBTED: &str = "the server's clock jumped, so whether the job's time is over is in doubt: confirm the clock \
                       (POST /api/v1/clock/confirm) or wait until it has been steady for an hour";

/// Why a job is held.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldBody {
    reason: String,
}

/// Holds are somebody's: a person's, or a key's.
fn named(caller: &Caller) -> Result<String, Refusal> {
    match caller.who {
        Who::Person(_) | Who::Key { .. } => Ok(caller.name()),
        _ => {
            Err(Refusal::new(StatusCode::FORBIDDEN, "a hold needs a name: log in, or use a key of your own"))
        }
    }
}

/// `PUT /api/v1/jobs/{id}/hold {"reason"}`: it is not deleted until it is let go.
pub async fn hold(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Result<Json<HoldBody>, JsonRejection>,
) -> Result<Json<Hold>, Refusal> {
    let (id, by, Json(HoldBody { reason })) = (job_id(&id)?, named(&caller)?, body?);
    let length = reason.trim().chars().count();
    if length == 0 || length > REASON_CHARS_MAX {
        return Err(DeskError::field("/reason", format!("use 1 to {REASON_CHARS_MAX} characters")).into());
    }
    let sight = caller.sight();
    // Why is with the hold, sealed: the log is not.
    let deed = Deed::to_job(&caller, "job.hold", id);
    let held = admin.loaded()?.act(deed, move |turn, _| {
        sight.job(&turn.tx, id)?;
        let hold = Hold { by, reason, at_ms: turn.terms.now_ms };
        retention::hold(&mut turn.tx, id, &hold)?;
        Ok(hold)
    });
    Ok(Json(held.await?))
}

/// `DELETE /api/v1/jobs/{id}/hold`: its time counts again.
pub async fn let_go(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let (id, _, sight) = (job_id(&id)?, named(&caller)?, caller.sight());
    let let_go = admin.loaded()?.act(Deed::to_job(&caller, "job.let_go", id), move |turn, deed| {
        sight.job(&turn.tx, id)?;
        let hold = retention::let_go(&mut turn.tx, id)?;
        deed.tell(json!({ "held_by": hold.by }));
        Ok(())
    });
    let_go.await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /api/v1/jobs/{id}`: begins to delete a job whose time is over and that nobody holds. The record is written with
/// it, as it is for what the sweep begins.
pub async fn delete(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let (id, sight, by) = (job_id(&id)?, caller.sight(), caller.name());
    let loaded = admin.loaded()?;
    let begun = loaded.desk.ask(move |turn| {
        sight.job(&turn.tx, id)?;
        let begun = retention::begin(&mut turn.tx, id, &by, turn.terms.now_ms)?;
        match trusted_ms() {
            Some(_) => Ok(begun),
            None => Err(DeskError::Conflict { problem: DOUBTED.to_string() }),
        }
    });
    let begun = begun.await?;
    failpoint("deletion-begun");
    loaded.retention.notify_one();
    Ok((StatusCode::ACCEPTED, Json(json!({ "job": begun.job, "begun_ms": begun.begun_ms }))))
}
