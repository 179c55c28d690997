//! Jobs: what they hold, and what reviewers do with them. A job that a caller does not see is not there.

use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use index::Hit;
use index::store::Keyspace;
use index::store::keys::{decode_hit, hit_key};
use reporter::desk::decision::{self, Decision, Wanted, read_key};
use reporter::desk::item::{Item, item};
use reporter::desk::job::{Comment, Job, JobId, hits_of, job_key, numbered};
use reporter::desk::lease;
use reporter::desk::queue::QueueName;
use reporter::desk::retention::{self, Hold};
use reporter::desk::settings::settings;
use reporter::router::effect::escalate_job;
use reporter::{At, DeskError, Tx};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::cases::blocking;
use super::deed::Deed;
use super::queues::check_queue;
use super::{Admin, Refusal};
use crate::access::{Caller, Who};
use crate::failpoint::failpoint;

/// Entries of a page at most.
pub const PAGE_MAX: usize = 1000;
const REVIEWER_CHARS_MAX: usize = 128;

/// Which part of a list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// Entries after this one.
    #[serde(default)]
    pub after: u64,
    /// Entries at most; 100 if absent, 1000 at most.
    limit: Option<usize>,
}

impl PageQuery {
    /// How many.
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(100).clamp(1, PAGE_MAX)
    }
}

/// A lease's proof is for who has it.
pub fn hide_lease(job: &mut Job) {
    if let Some(lease) = &mut job.lease {
        lease.token.clear();
    }
}

/// Who works on a job: a person is nobody else; a machine says for whom it speaks.
pub fn reviewer(caller: &Caller, given: Option<&str>) -> Result<String, Refusal> {
    if let Some(person) = caller.person() {
        if given.is_some_and(|given| given != person) {
            return Err(Refusal::bad(format!("reviewer: you are '{person}'")));
        }
        return Ok(person.to_string());
    }
    let given = given.unwrap_or_default();
    let length = given.chars().count();
    if length == 0 || length > REVIEWER_CHARS_MAX || given.chars().any(char::is_control) {
        return Err(Refusal::bad(format!("reviewer: use 1 to {REVIEWER_CHARS_MAX} printable characters")));
    }
    Ok(match &caller.who {
        Who::Key { number, .. } => format!("key:{number}/{given}"),
        _ => given.to_string(),
    })
}

/// A job's number, as paths have it.
pub fn job_id(text: &str) -> Result<JobId, Refusal> {
    text.parse().map(JobId).map_err(|_| Refusal::bad(format!("'{text}' is not a job's number")))
}

/// A job with what a reviewer needs first.
#[derive(Serialize)]
pub struct JobShown {
    #[serde(flatten)]
    job: Job,
    /// The item it is about, as it was settled last.
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<Item>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<Decision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold: Option<Hold>,
    /// Until when it is kept at least; not there while it is open, or its report is not finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_until_ms: Option<u64>,
}

/// `GET /api/v1/jobs/{id}`
pub async fn show(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<JobShown>, Refusal> {
    let (id, sight) = (job_id(&id)?, caller.sight());
    let store = admin.loaded()?.cases.clone();
    blocking(move || {
        let tx = Tx::new(&*store);
        let mut job = sight.job(&tx, id)?;
        hide_lease(&mut job);
        let settings = settings(&tx)?;
        Ok(Json(JobShown {
            item: item(&tx, &job.subject)?,
            decision: decision::decision(&tx, id)?,
            hold: retention::hold_on(&tx, id)?,
            kept_until_ms: retention::term(&tx, id)?.map(|term| term.end_ms(&settings)),
            job,
        }))
    })
    .await
}

/// A page of a list. `next` continues it; absent at the end.
#[derive(Serialize)]
pub struct Page<T> {
    entries: Vec<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

impl<T> Page<T> {
    /// The first `limit` of what was read, which is one more if there are more.
    pub fn new(mut entries: Vec<T>, limit: usize, number: impl Fn(&T) -> u64) -> Self {
        let more = entries.len() > limit;
        entries.truncate(limit);
        Self { next: if more { entries.last().map(number) } else { None }, entries }
    }
}

/// `GET /api/v1/jobs/{id}/hits[?after=P][&limit=N]`
pub async fn hits(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Page<Hit>>, Refusal> {
    let (id, Query(query), sight) = (job_id(&id)?, query?, caller.sight());
    let store = admin.loaded()?.cases.clone();
    blocking(move || {
        let tx = Tx::new(&*store);
        sight.job(&tx, id)?;
        let mut found = Vec::new();
        for position in hits_of(&tx, id, query.after, query.limit() + 1)? {
            if let Some(row) = tx.get(Keyspace::Hits, &hit_key(position))? {
                found.push(decode_hit(&row)?);
            }
        }
        Ok(Json(Page::new(found, query.limit(), |hit: &Hit| hit.position.0)))
    })
    .await
}

/// `GET /api/v1/jobs/{id}/comments[?after=N][&limit=N]`
pub async fn comments(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Page<Value>>, Refusal> {
    let (id, Query(query), sight) = (job_id(&id)?, query?, caller.sight());
    let store = admin.loaded()?.cases.clone();
    blocking(move || {
        let tx = Tx::new(&*store);
        sight.job(&tx, id)?;
        let rows = numbered(&tx, &job_key(b'c', id), query.after, query.limit() + 1)?;
        let read = |(number, row): (u64, Vec<u8>)| -> Result<(u64, Value), Refusal> {
            let comment: Comment = reporter::read_row(Keyspace::Jobs, &row)?;
            let mut shown = json!(comment);
            shown["number"] = json!(number);
            Ok((number, shown))
        };
        let rows: Vec<(u64, Value)> = rows.into_iter().map(read).collect::<Result<_, _>>()?;
        let Page { entries, next } = Page::new(rows, query.limit(), |(number, _)| *number);
        Ok(Json(Page { entries: entries.into_iter().map(|(_, shown)| shown).collect(), next }))
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommentBody {
    reviewer: Option<String>,
    text: String,
}

/// `POST /api/v1/jobs/{id}/comments {"reviewer", "text"}`
pub async fn comment(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Result<Json<CommentBody>, JsonRejection>,
) -> Result<(StatusCode, Json<Comment>), Refusal> {
    let (id, Json(CommentBody { reviewer: who, text })) = (job_id(&id)?, body?);
    let (who, sight) = (reviewer(&caller, who.as_deref())?, caller.sight());
    let made = admin.loaded()?.act(Deed::to_job(&caller, "job.comment", id), move |turn, _| {
        sight.job(&turn.tx, id)?;
        lease::comment(&mut turn.tx, id, &who, &text, turn.terms.now_ms)
    });
    Ok((StatusCode::CREATED, Json(made.await?)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseBody {
    lease: String,
}

/// `POST /api/v1/jobs/{id}/extend {"lease"}`: keeps a job for longer.
pub async fn extend(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Result<Json<LeaseBody>, JsonRejection>,
) -> Result<Json<Job>, Refusal> {
    let (id, Json(LeaseBody { lease: token })) = (job_id(&id)?, body?);
    let sight = caller.sight();
    let extended = admin.loaded()?.desk.ask(move |turn| {
        sight.own_job(&turn.tx, id, turn.terms.now_ms)?;
        lease::extend(&mut turn.tx, id, &token, turn.terms.now_ms)
    });
    Ok(Json(extended.await?))
}

/// `POST /api/v1/jobs/{id}/release {"lease"}`: gives a job back.
pub async fn release(
    state: State<Arc<Admin>>,
    caller: Extension<Caller>,
    path: Path<String>,
    body: Result<Json<LeaseBody>, JsonRejection>,
) -> Result<Json<Job>, Refusal> {
    give_back(state, caller, path, body, false).await
}

/// `POST /api/v1/jobs/{id}/skip {"lease"}`: gives a job back, and lets others have it first.
pub async fn skip(
    state: State<Arc<Admin>>,
    caller: Extension<Caller>,
    path: Path<String>,
    body: Result<Json<LeaseBody>, JsonRejection>,
) -> Result<Json<Job>, Refusal> {
    give_back(state, caller, path, body, true).await
}

async fn give_back(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Result<Json<LeaseBody>, JsonRejection>,
    skip: bool,
) -> Result<Json<Job>, Refusal> {
    let (id, Json(LeaseBody { lease: token })) = (job_id(&id)?, body?);
    let sight = caller.sight();
    let action = if skip { "job.skip" } else { "job.release" };
    let given_back = admin.loaded()?.act(Deed::to_job(&caller, action, id), move |turn, _| {
        sight.own_job(&turn.tx, id, turn.terms.now_ms)?;
        lease::release(&mut turn.tx, id, &token, skip, turn.terms.now_ms)
    });
    Ok(Json(given_back.await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveBody {
    queue: String,
    lease: Option<String>,
}

/// `POST /api/v1/jobs/{id}/move {"queue", "lease"?}`
pub async fn transfer(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Result<Json<MoveBody>, JsonRejection>,
) -> Result<Json<Job>, Refusal> {
    let (id, Json(MoveBody { queue, lease: token })) = (job_id(&id)?, body?);
    let (queue, sight) = (QueueName::parse(&queue)?, caller.sight());
    let deed = Deed::to_job(&caller, "job.move", id).with(json!({ "queue": queue.as_str() }));
    let moved = admin.loaded()?.act(deed, move |turn, _| {
        sight.own_job(&turn.tx, id, turn.terms.now_ms)?;
        // Whoever sees every queue may begin one; to others a new one and a hidden one are the same.
        if !sight.is_whole() {
            check_queue(&turn.tx, turn.terms.catalog, &sight, &queue)?;
        }
        lease::transfer(&mut turn.tx, id, token.as_deref(), &queue, turn.terms.now_ms)
    });
    let mut job = moved.await?;
    hide_lease(&mut job);
    Ok(Json(job))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriorityBody {
    priority: u8,
}

/// `POST /api/v1/jobs/{id}/priority {"priority"}`: 0 to 9, higher ones come first.
pub async fn priority(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Result<Json<PriorityBody>, JsonRejection>,
) -> Result<Json<Job>, Refusal> {
    let (id, Json(PriorityBody { priority })) = (job_id(&id)?, body?);
    if priority > 9 {
        return Err(Refusal::bad("priority: use 0 to 9"));
    }
    let sight = caller.sight();
    let deed = Deed::to_job(&caller, "job.priority", id).with(json!({ "priority": priority }));
    let set = admin.loaded()?.act(deed, move |turn, _| {
        sight.job(&turn.tx, id)?;
        lease::set_priority(&mut turn.tx, id, priority)
    });
    let mut job = set.await?;
    hide_lease(&mut job);
    Ok(Json(job))
}

/// `POST /api/v1/jobs/{id}/ncmec {"reviewer", "lease"?, "user"?}`: makes an NCMEC job of the user behind the item.
pub async fn ncmec(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Json<Job>, Refusal> {
    let (id, Json(body)) = (job_id(&id)?, body?);
    let at = At::new(&body, "");
    let read = || -> Result<_, DeskError> {
        at.only(&["reviewer", "lease", "user"])?;
        let who = at.field("reviewer")?.map(|who| who.text().map(str::to_string)).transpose()?;
        let token = at.field("lease")?.map(|token| token.text().map(str::to_string)).transpose()?;
        let user = at.field("user")?.map(|user| read_key(&user)).transpose()?;
        Ok((who, token, user))
    };
    let (who, token, user) = read()?;
    let (who, sight) = (reviewer(&caller, who.as_deref())?, caller.sight());
    let deed = Deed::to_job(&caller, "job.enqueue_ncmec", id).with(json!({ "reviewer": who }));
    let made = admin.loaded()?.act(deed, move |turn, _| {
        sight.own_job(&turn.tx, id, turn.terms.now_ms)?;
        let mut from = lease::may_change(&turn.tx, id, token.as_deref(), turn.terms.now_ms)?;
        escalate_job(&mut turn.tx, turn.terms.catalog, &mut from, user, &who, turn.terms.now_ms)
    });
    let mut job = made.await?;
    failpoint("job-escalated");
    hide_lease(&mut job);
    Ok(Json(job))
}

/// `POST /api/v1/jobs/{id}/decision`: see the API's description for what a report needs.
pub async fn decide(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Json<Decision>, Refusal> {
    let (id, Json(body)) = (job_id(&id)?, body?);
    let wanted = Wanted::read(&At::new(&body, "")).map_err(DeskError::from)?;
    failpoint("decision-read");
    let sight = caller.sight();
    let person = caller.person().map(str::to_string);
    let decided = admin.loaded()?.act(Deed::to_job(&caller, "job.decide", id), move |turn, deed| {
        sight.own_job(&turn.tx, id, turn.terms.now_ms)?;
        let decided = decision::decide(&mut turn.tx, id, wanted, person.as_deref(), turn.terms.now_ms)?;
        deed.tell(json!({ "decision": decided.kind, "by": decided.by, "revision": decided.revision }));
        Ok(decided)
    });
    let decided = decided.await?;
    failpoint("decision-stored");
    Ok(Json(decided))
}
