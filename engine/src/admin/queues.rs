//! Queues: which there are, what waits in them, and the next job of one. A queue that a caller does not see is not there.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use index::RequestId;
use index::store::Keyspace;
use reporter::access::{Person, Right, Sight, is_child_safety};
use reporter::desk::job::{Job, JobId, QueueCounts, counts, job};
use reporter::desk::lease::{self, Asking};
use reporter::desk::queue::QueueName;
use reporter::desk::settings::{self, Queue};
use reporter::router::policy::{self, Catalog};
use reporter::router::rule::Rule;
use reporter::tip::organisation::organisation;
use reporter::{At, DeskError, Tx};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::cases::blocking;
use super::deed::Deed;
use super::jobs::{PAGE_MAX, PageQuery, hide_lease, reviewer};
use super::organisations::unnamed;
use super::policies::unused;
use super::{Admin, Refusal};
use crate::access::Caller;
use crate::failpoint::failpoint;

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

/// Every queue that was set up or holds something, and is seen.
pub fn queues_shown(tx: &Tx<'_>, sight: &Sight) -> Result<Vec<QueueShown>, DeskError> {
    let mut queues: BTreeMap<QueueName, Queue> =
        settings::queues(tx)?.into_iter().map(|queue| (queue.name.clone(), queue)).collect();
    for (key, _) in tx.rows(Keyspace::Jobs, b"n", PAGE_MAX)? {
        let name = String::from_utf8_lossy(&key[1..key.len().saturating_sub(1)]).into_owned();
        if let Ok(name) = QueueName::parse(&name) {
            queues.entry(name.clone()).or_insert_with(|| Queue::new(name));
        }
    }
    let settings = settings::settings(tx)?;
    let mut shown = Vec::new();
    for mut queue in queues.into_values() {
        if !sight.sees_queue(&settings, &queue.name, Some(&queue)) {
            continue;
        }
        queue.child_safety = is_child_safety(&settings, &queue.name, Some(&queue));
        let oldest = waiting(tx, &queue.name, 0, 1)?.into_iter().next();
        let counts = counts(tx, &queue.name)?;
        shown.push(QueueShown { queue, counts, oldest_ms: oldest.map(|job| job.enqueued_ms) });
    }
    Ok(shown)
}

/// `GET /api/v1/queues`
pub async fn queues(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Vec<QueueShown>>, Refusal> {
    let (store, sight) = (admin.loaded()?.cases.clone(), caller.sight());
    blocking(move || Ok(Json(queues_shown(&Tx::new(&*store), &sight)?))).await
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
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let Query(query) = query?;
    let (name, sight) = (QueueName::parse(&name)?, caller.sight());
    let store = admin.loaded()?.cases.clone();
    blocking(move || {
        let tx = Tx::new(&*store);
        let settings = settings::settings(&tx)?;
        if !sight.sees_queue(&settings, &name, settings::queue(&tx, &name)?.as_ref()) {
            return Ok(Json(json!({ "jobs": [] }))); // as of a queue that nothing was ever put into
        }
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NextBody {
    reviewer: Option<String>,
}

/// `POST /api/v1/queues/{name}/next {"reviewer"}`: lends the next job, 204 if none waits.
pub async fn next(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Result<Json<NextBody>, JsonRejection>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let Json(NextBody { reviewer: who }) = body?;
    let who = reviewer(&caller, who.as_deref())?;
    let (name, sight) = (QueueName::parse(&name)?, caller.sight());
    let token = RequestId::fresh().to_string();
    let lent = admin.loaded()?.desk.ask(move |turn| {
        check_queue(&turn.tx, turn.terms.catalog, &sight, &name)?;
        let asking = Asking { reviewer: &who, token: &token, now_ms: turn.terms.now_ms };
        let lent = lease::next(&mut turn.tx, turn.floors, &name, asking)?;
        if let Some(job) = &lent {
            let details = json!({ "reviewer": who, "revision": job.revision });
            Deed::to_job(&caller, "job.lend", job.id).with(details).record(turn)?;
        }
        Ok(lent)
    });
    failpoint("job-lent");
    match lent.await? {
        Some(job) => Ok((StatusCode::OK, Json(json!(job)))),
        None => Ok((StatusCode::NO_CONTENT, Json(Value::Null))),
    }
}

/// Refuses a queue that is not there, or not seen: it must have been set up, hold something, or be where something may go.
pub fn check_queue(tx: &Tx<'_>, catalog: &Catalog, sight: &Sight, name: &QueueName) -> Result<(), DeskError> {
    let (settings, own) = (&catalog.settings, settings::queue(tx, name)?);
    let named = [&settings.default_queue, &settings.ncmec_queue, &settings.triage_queue].contains(&name)
        || catalog.table.rules().iter().any(|compiled| compiled.rule.queues().any(|queue| queue == name));
    let is =
        named || own.is_some() || tx.get(Keyspace::Jobs, &reporter::key(b'n', &[name.as_str()]))?.is_some();
    if is && sight.sees_queue(settings, name, own.as_ref()) {
        return Ok(());
    }
    Err(DeskError::NotFound { what: "queue", name: name.to_string() })
}

/// `PUT /api/v1/queues/{name} {"description"?, "lease_seconds"?, "child_safety"?, "members"?, "organisation"?}`
pub async fn put_queue(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Json<Queue>, Refusal> {
    let Json(body) = body?;
    let queue = Queue::read(QueueName::parse(&name)?, &At::new(&body, "")).map_err(DeskError::from)?;
    let (sight, directory) = (caller.sight(), admin.door.directory());
    let deed = Deed::new(&caller, "queue.change", format!("queue {}", queue.name));
    let deed = deed.with(json!({
        "child_safety": queue.child_safety, "members": queue.members, "organisation": queue.organisation,
    }));
    let kept = admin.loaded()?.act(deed, move |turn, _| {
        let before = settings::queue(&turn.tx, &queue.name)?;
        let settings = settings::settings(&turn.tx)?;
        let was = is_child_safety(&settings, &queue.name, before.as_ref());
        let is = is_child_safety(&settings, &queue.name, Some(&queue));
        if (was || is) && !sight.child_safety {
            return Err(DeskError::NotFound { what: "queue", name: queue.name.to_string() });
        }
        if was && !is && counts(&turn.tx, &queue.name)?.jobs > 0 {
            let problem = format!("'{}' has open jobs: what was child safety data stays it", queue.name);
            return Err(DeskError::Conflict { problem });
        }
        check_organisation(&turn.tx, before.as_ref(), &queue, is)?;
        for (at, member) in queue.members.iter().enumerate() {
            let person = directory.people.get(member);
            let fits = |person: &Person| {
                let rights = person.role.rights();
                rights.has(Right::Review) && (!is || rights.has(Right::ChildSafety))
            };
            if !person.is_some_and(fits) {
                let problem = format!("'{member}' is nobody who may work on this queue");
                return Err(DeskError::field(format!("/members/{at}"), problem));
            }
        }
        settings::put_queue(&mut turn.tx, &queue);
        Ok(queue)
    });
    Ok(Json(kept.await?))
}

/// That the organisation for which is reported is there, and that none loses the queue it names.
fn check_organisation(
    tx: &Tx<'_>,
    before: Option<&Queue>,
    queue: &Queue,
    child_safety: bool,
) -> Result<(), DeskError> {
    if let Some(name) = &queue.organisation
        && organisation(tx, name)?.is_none()
    {
        return Err(DeskError::field("/organisation", format!("there is no organisation '{name}'")));
    }
    let whose = |queue: &Queue| queue.organisation.clone().unwrap_or_default();
    if !child_safety || before.is_some_and(|before| whose(before) != whose(queue)) {
        unnamed(tx, "queue", queue.name.as_str(), |one| one.queue.as_ref() == Some(&queue.name))?;
    }
    Ok(())
}

/// `DELETE /api/v1/queues/{name}`: an empty one that no rule names.
pub async fn remove_queue(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<StatusCode, Refusal> {
    let (name, sight) = (QueueName::parse(&name)?, caller.sight());
    let deed = Deed::new(&caller, "queue.remove", format!("queue {name}"));
    let removed = admin.loaded()?.act(deed, move |turn, _| {
        let own = settings::queue(&turn.tx, &name)?;
        if own.is_none() || !sight.sees_queue(&settings::settings(&turn.tx)?, &name, own.as_ref()) {
            return Err(DeskError::NotFound { what: "queue", name: name.to_string() });
        }
        let jobs = counts(&turn.tx, &name)?.jobs;
        if jobs > 0 {
            return Err(DeskError::Conflict {
                problem: format!("'{name}' has {jobs} open jobs: move or decide them first"),
            });
        }
        let names = |rule: &Rule| rule.queues().any(|queue| *queue == name);
        unused("queue", name.as_str(), policy::rules_that(&turn.tx, names)?)?;
        unnamed(&turn.tx, "queue", name.as_str(), |one| one.queue.as_ref() == Some(&name))?;
        settings::forget_queue(&mut turn.tx, &name);
        Ok(())
    });
    removed.await?;
    Ok(StatusCode::NO_CONTENT)
}
