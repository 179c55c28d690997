//! Reports to NCMEC: which there are and how far each is, what it says, what was sent and received for it, and what people
//! do to one that waits or is held. `docs/reporting.md` is for operators.
//!
//! Reports to the test CyberTipline are seen by the person who filed them, and by machines; others answer as if they were
//! not there. Those to the production one are seen by who may see reports and child safety data.

mod find;
mod shown;

use std::io;
use std::sync::Arc;

use async_channel::{Sender, bounded};
use axum::body::{Body, Bytes};
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::{Extension, Json};
use index::store::Store;
use reporter::desk::job::JobId;
use reporter::desk::retention;
use reporter::tip::filing::person::{self, Word};
use reporter::tip::filing::{Tip, rows};
use reporter::tip::record;
use reporter::{At, DeskError, Tx};
use serde_json::{Value, json};

use self::find::{Filter, ListQuery, Seen};
use super::cases::blocking;
use super::deed::Deed;
use super::jobs::{PageQuery, job_id};
use super::{Admin, Refusal};
use crate::access::Caller;

const REASON_CHARS_MAX: usize = 1000;
/// Bytes of records that a page holds: answers of the platform have megabytes.
const RECORDS_BYTES_MAX: usize = 16 << 20;
/// Filings of an export that are read at a time.
const EXPORTED_AT_ONCE: usize = 100;

fn absent(job: JobId) -> DeskError {
    DeskError::NotFound { what: "filing of job", name: job.to_string() }
}

/// A filing that a caller sees, or why not: 410 where its contents were deleted, with what proves that it was filed.
fn seen(tx: &Tx<'_>, job: JobId, eyes: &Seen) -> Result<Tip, Refusal> {
    if let Some(tip) = rows::tip(tx, job)?.filter(|tip| eyes.sees(tip)) {
        return Ok(tip);
    }
    match retention::tombstone(tx, job)? {
        Some(gone) if gone.report.as_ref().is_some_and(|report| eyes.sees_of(report.environment, None)) => {
            let message = format!("the contents of job {job} were deleted when their time was over");
            Err(Refusal::new(StatusCode::GONE, message).with(json!(gone)))
        }
        _ => Err(absent(job).into()),
    }
}

/// `GET /api/v1/cybertips[?stage=…][&held=…][&organisation=…]…`: newest first.
pub async fn list(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let Query(query) = query?;
    let (filter, before, limit) = query.read()?;
    let (store, eyes) = (admin.loaded()?.cases.clone(), Seen::by(&caller));
    blocking(move || {
        let (found, next) = find::find(&Tx::new(&*store), &filter, &eyes, before, limit)?;
        let entries: Vec<Value> = found.iter().map(shown::summary).collect();
        let mut page = json!({ "entries": entries });
        if let Some(next) = next {
            page["next"] = json!(next);
        }
        Ok(Json(page))
    })
    .await
}

/// `GET /api/v1/cybertips/{job}`: all of one. Who looked is on record before it is told.
pub async fn show(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let (job, eyes) = (job_id(&id)?, Seen::by(&caller));
    look(&admin, &caller, "tip.view", job).await?;
    let store = admin.loaded()?.cases.clone();
    blocking(move || {
        let tx = Tx::new(&*store);
        let tip = seen(&tx, job, &eyes)?;
        Ok(Json(shown::detail(&tx, &tip)?))
    })
    .await
}

/// `GET /api/v1/cybertips/{job}/records[?after=N][&limit=N]`: the exact bytes that were sent and received, in order, each
/// held against its hash.
pub async fn records(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let (job, Query(query), eyes) = (job_id(&id)?, query?, Seen::by(&caller));
    look(&admin, &caller, "tip.view_records", job).await?;
    let store = admin.loaded()?.cases.clone();
    blocking(move || {
        let tx = Tx::new(&*store);
        seen(&tx, job, &eyes)?;
        let (mut entries, mut bytes, mut after, mut more) = (Vec::new(), 0, query.after, true);
        while more && entries.len() < query.limit() && bytes < RECORDS_BYTES_MAX {
            let next = record::records(&tx, job, after, 1)?;
            more = !next.is_empty();
            for record in next {
                after = record.number;
                let mut shown = json!(record);
                shown["sound"] = json!(record::is_sound(&record));
                bytes += shown.to_string().len();
                entries.push(shown);
            }
        }
        let broken = record::first_broken(&tx, job)?;
        let mut page = json!({ "entries": entries, "first_broken": broken });
        if more && !record::records(&tx, job, after, 1)?.is_empty() {
            page["next"] = json!(after);
        }
        Ok(Json(page))
    })
    .await
}

/// Remembers who looks at a filing that they see.
async fn look(admin: &Admin, caller: &Caller, action: &str, job: JobId) -> Result<(), Refusal> {
    let (deed, eyes) = (Deed::to_job(caller, action, job).about_child_safety(true), Seen::by(caller));
    let remember = move |turn: &mut reporter::Turn<'_>| {
        if rows::tip(&turn.tx, job)?.is_some_and(|tip| eyes.sees(&tip)) {
            deed.record(turn)?;
        }
        Ok(())
    };
    Ok(admin.loaded()?.desk.ask(remember).await?)
}

/// `GET /api/v1/cybertips/export[?…]`: NDJSON, a filing a line, as [`show`] has it. That it was taken out is on record.
pub async fn export(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<impl IntoResponse, Refusal> {
    let Query(query) = query?;
    let (filter, before, _) = query.read()?;
    let (store, eyes) = (admin.loaded()?.cases.clone(), Seen::by(&caller));
    let (sender, receiver) = bounded::<io::Result<Bytes>>(16);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = write_lines(&*store, &filter, &eyes, before, &sender) {
            // A broken stream tells the client that the list is not whole.
            let _ = sender.send_blocking(Err(io::Error::other(error.to_string())));
        }
    });
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(receiver)))
}

fn write_lines(
    store: &dyn Store,
    filter: &Filter,
    eyes: &Seen,
    mut before: Option<JobId>,
    lines: &Sender<io::Result<Bytes>>,
) -> Result<(), DeskError> {
    let tx = Tx::new(store);
    loop {
        let (found, next) = find::find(&tx, filter, eyes, before, EXPORTED_AT_ONCE)?;
        for tip in &found {
            let line = format!("{}\n", shown::detail(&tx, tip)?);
            if lines.send_blocking(Ok(line.into())).is_err() {
                return Ok(()); // nobody reads on
            }
        }
        match next {
            Some(next) => before = Some(next),
            None => return Ok(()),
        }
    }
}

/// `POST /api/v1/cybertips/{job} {"action", "report_id"?, "reason"?}`
pub async fn say(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Json<Value>, Refusal> {
    let (job, Json(body), eyes) = (job_id(&id)?, body?, Seen::by(&caller));
    let word = read_word(&At::new(&body, ""))?;
    let (who, environment) = (caller.name(), admin.config.ncmec.environment);
    let said = admin.loaded()?.desk.ask(move |turn| {
        if rows::tip(&turn.tx, job)?.is_none_or(|tip| !eyes.sees(&tip)) {
            return Err(absent(job));
        }
        person::say(&mut turn.tx, job, &word, &who, environment, turn.terms.now_ms)
    });
    let said = said.await?;
    admin.loaded()?.filing.notify_one();
    Ok(Json(shown::summary(&said)))
}

fn read_word(at: &At<'_>) -> Result<Word, DeskError> {
    #[derive(Clone, Copy)]
    enum Action {
        Retry,
        FileMinimal,
        Resume,
        ConfirmFiled,
        OpenNew,
        Cancel,
    }
    let action = at.need("action")?.one_of(&[
        ("retry", Action::Retry),
        ("file_minimal", Action::FileMinimal),
        ("resume", Action::Resume),
        ("confirm_filed", Action::ConfirmFiled),
        ("open_new", Action::OpenNew),
        ("cancel", Action::Cancel),
    ])?;
    let more: &[&str] = match action {
        Action::ConfirmFiled => &["action", "report_id"],
        Action::Cancel => &["action", "reason"],
        _ => &["action"],
    };
    at.only(more)?;
    Ok(match action {
        Action::Retry => Word::Retry,
        Action::FileMinimal => Word::FileMinimal,
        Action::Resume => Word::Resume,
        Action::ConfirmFiled => {
            let number = at.need("report_id")?.whole(1, i64::MAX as u64)?;
            Word::ConfirmFiled(number as i64) // it is no greater
        }
        Action::OpenNew => Word::OpenNew,
        Action::Cancel => Word::Cancel(at.need("reason")?.words(REASON_CHARS_MAX)?.to_string()),
    })
}
