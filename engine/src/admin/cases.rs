//! Hits and queues over HTTP, in pages.

use std::ops::ControlFlow;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use index::store::keys::{decode_hit, hit_key};
use index::store::{Keyspace, Range, Store, StoreError};
use index::{Hit, Position};
use reporter::{QueueEntry, QueueName, QueueSummary};
use serde::{Deserialize, Serialize};

use super::{Admin, Refusal};

const PAGE_MAX: usize = 1000;

/// Which part of a list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// Entries after this position, oldest first.
    after: Option<u64>,
    /// Entries before this position, newest first.
    before: Option<u64>,
    /// Entries at most; 100 if absent, 1000 at most.
    limit: Option<usize>,
}

impl PageQuery {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(100).clamp(1, PAGE_MAX)
    }
}

/// A page of a list. `next` continues it in the same direction; absent at the end.
#[derive(Serialize)]
pub struct Page<T> {
    entries: Vec<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Position>,
}

/// `GET /api/v1/hits[?after=P|before=P][&limit=N]`: oldest first; with `before`, newest first.
pub async fn hits(
    State(admin): State<Arc<Admin>>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Page<Hit>>, Refusal> {
    let Query(query) = query?;
    if query.after.is_some() && query.before.is_some() {
        return Err(Refusal::bad("give 'after' or 'before', not both"));
    }
    let store = admin.loaded()?.cases.clone();
    blocking(move || read_hits(&*store, &query)).await
}

fn read_hits(store: &dyn Store, query: &PageQuery) -> Result<Json<Page<Hit>>, Refusal> {
    let from = hit_key(Position(query.after.map_or(0, |after| after.saturating_add(1))));
    let to = query.before.map(|before| hit_key(Position(before)));
    let range = Range { from: &from, to: to.as_ref().map(|key| &key[..]), backwards: query.before.is_some() };
    let (mut entries, mut more, mut bad) = (Vec::new(), false, None::<StoreError>);
    store.scan(Keyspace::Hits, range, &mut |_, row| {
        if entries.len() == query.limit() {
            more = true;
            return ControlFlow::Break(());
        }
        match decode_hit(row) {
            Ok(hit) => entries.push(hit),
            Err(error) => bad = Some(error),
        }
        if bad.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if let Some(error) = bad {
        return Err(error.into());
    }
    let next = if more { entries.last().map(|hit: &Hit| hit.position) } else { None };
    Ok(Json(Page { entries, next }))
}

/// `GET /api/v1/hits/{position}`
pub async fn hit(
    State(admin): State<Arc<Admin>>,
    Path(position): Path<String>,
) -> Result<Json<Hit>, Refusal> {
    let position: u64 =
        position.parse().map_err(|_| Refusal::bad(format!("'{position}' is not a position")))?;
    let store = admin.loaded()?.cases.clone();
    blocking(move || {
        let row = store.get(Keyspace::Hits, &hit_key(Position(position)))?;
        let row = row.ok_or_else(|| Refusal::not_found(format!("no hit at position {position}")))?;
        Ok(Json(decode_hit(&row)?))
    })
    .await
}

/// `GET /api/v1/queues`
pub async fn queues(State(admin): State<Arc<Admin>>) -> Result<Json<Vec<QueueSummary>>, Refusal> {
    let store = admin.loaded()?.cases.clone();
    blocking(move || Ok(Json(reporter::queues(&*store)?))).await
}

/// `GET /api/v1/queues/{name}[?after=P][&limit=N]`: oldest first.
pub async fn queue(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Page<QueueEntry>>, Refusal> {
    let Query(query) = query?;
    if query.before.is_some() {
        return Err(Refusal::bad("a queue is read forwards: use 'after'"));
    }
    let name = QueueName::parse(&name)?;
    let store = admin.loaded()?.cases.clone();
    blocking(move || {
        let page = reporter::entries(&*store, &name, query.after.map(Position), query.limit())?;
        Ok(Json(Page { entries: page.entries, next: page.next }))
    })
    .await
}

/// Runs what reads the store away from the runtime's own thread.
pub async fn blocking<T: Send + 'static, E: From<Refusal> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(Refusal::interrupted().into()))
}
