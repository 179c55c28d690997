//! Reviewing: queues, jobs, leases, decisions. Until there are people with roles (a later issue), whoever may call the
//! admin port says who the reviewer is.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use index::store::Keyspace;
use index::store::keys::{decode_hit, hit_key};
use index::{Hit, RequestId};
use reporter::desk::decision::{self, Decision, Wanted, read_key};
use reporter::desk::item::{Item, item};
use reporter::desk::job::{Comment, Job, JobId, QueueCounts, counts, hits_of, job, job_key, numbered};
use reporter::desk::lease::{self, Asking};
use reporter::desk::ncmec::{JobMedia, media_of};
use reporter::desk::queue::QueueName;
use reporter::desk::settings::{self, Queue};
use reporter::router::effect::escalate_job;
use reporter::router::policy::Catalog;
use reporter::{At, DeskError, Tx};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::cases::blocking;
use super::{Admin, Refusal};
use crate::failpoint::failpoint;

const PAGE_MAX: usize = 1000;
const REVIEWER_CHARS_MAX: usize = 128;

/// A queue as a list of queues shows it.
#[derive(Serialize)]
pub struct QueueShown {
    #[serde(flatten)]
    queue: Queue,
    #[serde(flatten)]
    counts: QueueCounts,
    /// When the first of the waiting jobs came, in milliseconds since 1970 (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_ms: Option<u64>,
}

impl QueueShown {
    /// When the first of the waiting jobs came.
    pub fn oldest_ms(&self) -> Option<u64> {
        self.oldest_ms
    }

    /// For metrics: its name, its jobs, those that reviewers have, and for how long the first has waited.
    pub fn gauges(&self, oldest_seconds: f64) -> (String, u64, u64, f64) {
        (self.queue.name.to_string(), self.counts.jobs, self.counts.leased, oldest_seconds)
    }
}

/// Every queue that was set up, or holds something, or is named in the settings.
pub fn queues_shown(tx: &Tx<'_>) -> Result<Vec<QueueShown>, DeskError> {
    let mut names: std::collections::BTreeMap<QueueName, Queue> =
        settings::queues(tx)?.into_iter().map(|queue| (queue.name.clone(), queue)).collect();
    for (key, _) in tx.rows(Keyspace::Jobs, b"n", PAGE_MAX)? {
        let name = String::from_utf8_lossy(&key[1..key.len().saturating_sub(1)]).into_owned();
        if let Ok(name) = QueueName::parse(&name) {
            names.entry(name.clone()).or_insert(Queue {
                name,
                description: String::new(),
                lease_seconds: None,
            });
        }
    }
    let shown = |queue: Queue| -> Result<QueueShown, DeskError> {
        let oldest = waiting(tx, &queue.name, 0, 1)?.into_iter().next();
        Ok(QueueShown {
            counts: counts(tx, &queue.name)?,
            oldest_ms: oldest.map(|job| job.enqueued_ms),
            queue,
        })
    };
    names.into_values().map(shown).collect()
}

/// `GET /api/v1/queues`
pub async fn queues(State(admin): State<Arc<Admin>>) -> Result<Json<Vec<QueueShown>>, Refusal> {
    let store = admin.loaded()?.cases.clone();
    blocking(move || Ok(Json(queues_shown(&Tx::new(&*store))?))).await
}

/// Which part of a list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// Entries after this one.
    #[serde(default)]
    after: u64,
    /// Entries at most; 100 if absent, 1000 at most.
    limit: Option<usize>,
}

impl PageQuery {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(100).clamp(1, PAGE_MAX)
    }
}

/// The jobs that wait in a queue, in the order in which they are lent, without the first `skip`.
fn waiting(tx: &Tx<'_>, queue: &QueueName, skip: u64, max: usize) -> Result<Vec<Job>, DeskError> {
    let prefix = reporter::key(b'q', &[queue.as_str()]);
    let rows = tx.rows(Keyspace::Jobs, &prefix, (skip as usize).saturating_add(max))?;
    let ids = rows.iter().skip(skip as usize).filter_map(|(key, _)| {
        Some(JobId(u64::from_be_bytes(key.get(key.len().checked_sub(8)?..)?.try_into().ok()?)))
    });
    Ok(ids.map(|id| job(tx, id)).collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// `GET /api/v1/queues/{name}[?after=N][&limit=N]`: the jobs that wait, first ones first; `after` so many of them.
pub async fn queue(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let Query(query) = query?;
    let name = QueueName::parse(&name)?;
    let store = admin.loaded()?.cases.clone();
    blocking(move || {
        let tx = Tx::new(&*store);
        let mut jobs = waiting(&tx, &name, query.after, query.limit() + 1)?;
        let next = (jobs.len() > query.limit()).then(|| query.after + query.limit() as u64);
        jobs.truncate(query.limit());
        jobs.iter_mut().for_each(hide_lease);
        let mut page = json!({ "jobs": jobs });
        if let Some(next) = next {
            page["next"] = json!(next);
        }
        Ok(Json(page))
    })
    .await
}

/// A lease's proof is for who has it.
fn hide_lease(job: &mut Job) {
    if let Some(lease) = &mut job.lease {
        lease.token.clear();
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NextBody {
    reviewer: String,
}

fn reviewer(name: &str) -> Result<(), Refusal> {
    let length = name.chars().count();
    if length == 0 || length > REVIEWER_CHARS_MAX || name.chars().any(char::is_control) {
        return Err(Refusal::bad(format!("reviewer: use 1 to {REVIEWER_CHARS_MAX} printable characters")));
    }
    Ok(())
}

/// `POST /api/v1/queues/{name}/next {"reviewer"}`: lends the next job, 204 if none waits.
pub async fn next(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    body: Result<Json<NextBody>, JsonRejection>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let Json(NextBody { reviewer: who }) = body?;
    reviewer(&who)?;
    let name = QueueName::parse(&name)?;
    let token = RequestId::fresh().to_string();
    let lent = admin.loaded()?.desk.ask(move |turn| {
        if !is_queue(&turn.tx, turn.terms.catalog, &name)? {
            return Err(DeskError::NotFound { what: "queue", name: name.to_string() });
        }
        let asking = Asking { reviewer: &who, token: &token, now_ms: turn.terms.now_ms };
        lease::next(&mut turn.tx, turn.floors, &name, asking)
    });
    failpoint("job-lent");
    match lent.await? {
        Some(job) => Ok((StatusCode::OK, Json(json!(job)))),
        None => Ok((StatusCode::NO_CONTENT, Json(Value::Null))),
    }
}

/// Whether there is such a queue: it was set up, held something, or is where something may go.
fn is_queue(tx: &Tx<'_>, catalog: &Catalog, name: &QueueName) -> Result<bool, DeskError> {
    let settings = &catalog.settings;
    let named = [&settings.default_queue, &settings.ncmec_queue, &settings.triage_queue].contains(&name)
        || catalog.table.rules().iter().any(|compiled| compiled.rule.queues().any(|queue| queue == name));
    Ok(named
        || settings::queue(tx, name)?.is_some()
        || tx.get(Keyspace::Jobs, &reporter::key(b'n', &[name.as_str()]))?.is_some())
}

fn job_id(text: &str) -> Result<JobId, Refusal> {
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
}

/// `GET /api/v1/jobs/{id}`
pub async fn show(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
) -> Result<Json<JobShown>, Refusal> {
    let id = job_id(&id)?;
    let store = admin.loaded()?.cases.clone();
    blocking(move || {
        let tx = Tx::new(&*store);
        let mut job = job(&tx, id)?.ok_or(DeskError::NoJob { job: id })?;
        hide_lease(&mut job);
        Ok(Json(JobShown { item: item(&tx, &job.subject)?, decision: decision::decision(&tx, id)?, job }))
    })
    .await
}

#[derive(Serialize)]
pub struct Page<T> {
    entries: Vec<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

impl<T> Page<T> {
    fn new(mut entries: Vec<T>, limit: usize, number: impl Fn(&T) -> u64) -> Self {
        let more = entries.len() > limit;
        entries.truncate(limit);
        Self { next: if more { entries.last().map(number) } else { None }, entries }
    }
}

/// `GET /api/v1/jobs/{id}/media[?after=N][&limit=N]`
pub async fn media(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Page<JobMedia>>, Refusal> {
    let (id, Query(query)) = (job_id(&id)?, query?);
    let store = admin.loaded()?.cases.clone();
    blocking(move || {
        let media = media_of(&Tx::new(&*store), id, query.after, query.limit() + 1)?;
        Ok(Json(Page::new(media, query.limit(), |media| media.number)))
    })
    .await
}

/// `GET /api/v1/jobs/{id}/hits[?after=P][&limit=N]`
pub async fn hits(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Page<Hit>>, Refusal> {
    let (id, Query(query)) = (job_id(&id)?, query?);
    let store = admin.loaded()?.cases.clone();
    blocking(move || {
        let tx = Tx::new(&*store);
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
    Path(id): Path<String>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Page<Value>>, Refusal> {
    let (id, Query(query)) = (job_id(&id)?, query?);
    let store = admin.loaded()?.cases.clone();
    blocking(move || {
        let rows = numbered(&Tx::new(&*store), &job_key(b'c', id), query.after, query.limit() + 1)?;
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
    reviewer: String,
    text: String,
}

/// `POST /api/v1/jobs/{id}/comments {"reviewer", "text"}`
pub async fn comment(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    body: Result<Json<CommentBody>, JsonRejection>,
) -> Result<(StatusCode, Json<Comment>), Refusal> {
    let (id, Json(CommentBody { reviewer: who, text })) = (job_id(&id)?, body?);
    reviewer(&who)?;
    let desk = &admin.loaded()?.desk;
    let made = desk.ask(move |turn| lease::comment(&mut turn.tx, id, &who, &text, turn.terms.now_ms)).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseBody {
    lease: String,
}

/// `POST /api/v1/jobs/{id}/extend {"lease"}`: keeps a job for longer.
pub async fn extend(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    body: Result<Json<LeaseBody>, JsonRejection>,
) -> Result<Json<Job>, Refusal> {
    let (id, Json(LeaseBody { lease: token })) = (job_id(&id)?, body?);
    Ok(Json(
        admin
            .loaded()?
            .desk
            .ask(move |turn| lease::extend(&mut turn.tx, id, &token, turn.terms.now_ms))
            .await?,
    ))
}

/// `POST /api/v1/jobs/{id}/release {"lease"}`: gives a job back.
pub async fn release(
    state: State<Arc<Admin>>,
    path: Path<String>,
    body: Result<Json<LeaseBody>, JsonRejection>,
) -> Result<Json<Job>, Refusal> {
    give_back(state, path, body, false).await
}

/// `POST /api/v1/jobs/{id}/skip {"lease"}`: gives a job back, and lets others have it first.
pub async fn skip(
    state: State<Arc<Admin>>,
    path: Path<String>,
    body: Result<Json<LeaseBody>, JsonRejection>,
) -> Result<Json<Job>, Refusal> {
    give_back(state, path, body, true).await
}

async fn give_back(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    body: Result<Json<LeaseBody>, JsonRejection>,
    skip: bool,
) -> Result<Json<Job>, Refusal> {
    let (id, Json(LeaseBody { lease: token })) = (job_id(&id)?, body?);
    let desk = &admin.loaded()?.desk;
    Ok(Json(desk.ask(move |turn| lease::release(&mut turn.tx, id, &token, skip, turn.terms.now_ms)).await?))
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
    Path(id): Path<String>,
    body: Result<Json<MoveBody>, JsonRejection>,
) -> Result<Json<Job>, Refusal> {
    let (id, Json(MoveBody { queue, lease: token })) = (job_id(&id)?, body?);
    let queue = QueueName::parse(&queue)?;
    let desk = &admin.loaded()?.desk;
    let moved =
        desk.ask(move |turn| lease::transfer(&mut turn.tx, id, token.as_deref(), &queue, turn.terms.now_ms));
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
    Path(id): Path<String>,
    body: Result<Json<PriorityBody>, JsonRejection>,
) -> Result<Json<Job>, Refusal> {
    let (id, Json(PriorityBody { priority })) = (job_id(&id)?, body?);
    if priority > 9 {
        return Err(Refusal::bad("priority: use 0 to 9"));
    }
    let mut job =
        admin.loaded()?.desk.ask(move |turn| lease::set_priority(&mut turn.tx, id, priority)).await?;
    hide_lease(&mut job);
    Ok(Json(job))
}

/// `POST /api/v1/jobs/{id}/ncmec {"reviewer", "lease"?, "user"?}`: makes an NCMEC job of the user behind the item.
pub async fn ncmec(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Json<Job>, Refusal> {
    let (id, Json(body)) = (job_id(&id)?, body?);
    let at = At::new(&body, "");
    let read = || -> Result<_, DeskError> {
        at.only(&["reviewer", "lease", "user"])?;
        let who = at.need("reviewer")?.words(REVIEWER_CHARS_MAX)?.to_string();
        let token = at.field("lease")?.map(|token| token.text().map(str::to_string)).transpose()?;
        let user = at.field("user")?.map(|user| read_key(&user)).transpose()?;
        Ok((who, token, user))
    };
    let (who, token, user) = read()?;
    reviewer(&who)?;
    let made = admin.loaded()?.desk.ask(move |turn| {
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
    Path(id): Path<String>,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Json<Decision>, Refusal> {
    let (id, Json(body)) = (job_id(&id)?, body?);
    let wanted = Wanted::read(&At::new(&body, "")).map_err(DeskError::from)?;
    failpoint("decision-read");
    let decided = admin
        .loaded()?
        .desk
        .ask(move |turn| decision::decide(&mut turn.tx, id, wanted, turn.terms.now_ms))
        .await?;
    failpoint("decision-stored");
    Ok(Json(decided))
}
