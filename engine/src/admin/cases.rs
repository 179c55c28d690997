//! The hit log over HTTP, in pages.

use std::ops::ControlFlow;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use index::store::keys::{decode_hit, hit_key};
use index::store::{Keyspace, Range, Store, StoreError};
use index::{Hit, Position};
use reporter::Tx;
use reporter::desk::job::{JobId, job_of_hit};
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

/// A hit with its job.
#[derive(Serialize)]
pub struct HitShown {
    #[serde(flatten)]
    hit: Hit,
    /// The job it belongs to; none while it is not routed.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobId>,
}

/// `GET /api/v1/hits/{position}`
pub async fn hit(
    State(admin): State<Arc<Admin>>,
    Path(position): Path<String>,
) -> Result<Json<HitShown>, Refusal> {
    let position: u64 =
        position.parse().map_err(|_| Refusal::bad(format!("'{position}' is not a position")))?;
    let store = admin.loaded()?.cases.clone();
    blocking(move || {
        let row = store.get(Keyspace::Hits, &hit_key(Position(position)))?;
        let row = row.ok_or_else(|| Refusal::not_found(format!("no hit at position {position}")))?;
        let job = job_of_hit(&Tx::new(&*store), Position(position))?;
        Ok(Json(HitShown { hit: decode_hit(&row)?, job }))
    })
    .await
}

/// Runs what reads the store away from the runtime's own thread.
pub async fn blocking<T: Send + 'static, E: From<Refusal> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(Refusal::interrupted().into()))
}
