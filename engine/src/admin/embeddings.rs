//! Sets of embeddings over HTTP: import one whole, ask for the nearest.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use index::bank::name_fits;
use index::embeddings::{EmbeddingBuilder, EmbeddingSet, Metric, Strategy};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{BodyReader, read_whole};
use super::cases::blocking;
use super::{Admin, Refusal};
use crate::access::Caller;
use crate::embeddings::{PutError, Standing};

/// Longest line of an import.
const LINE_MAX: usize = 1 << 20;
/// Most neighbours of one answer.
const COUNT_MAX: usize = 1000;
/// Vectors between two looks at the memory left.
const ADMIT_EVERY: usize = 4096;

/// How vectors are compared.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportQuery {
    #[serde(default = "cosine")]
    metric: Metric,
    #[serde(default)]
    strategy: Strategy,
}

fn cosine() -> Metric {
    Metric::Cosine
}

#[derive(Deserialize)]
struct Line {
    id: String,
    vector: Vec<f32>,
}

/// `PUT /api/v1/embeddings/{name}[?metric=cosine|euclidean][&strategy=auto|exact|graph]`, NDJSON `{"id": …, "vector": […]}` as body: the
/// set is replaced whole, or, at the first line that cannot be taken, stays as it was.
pub async fn put(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    query: Result<Query<ImportQuery>, QueryRejection>,
    body: Body,
) -> Result<Json<Value>, Refusal> {
    let how = query.map_err(Refusal::from).and_then(|Query(query)| match name_fits(&name) {
        true => Ok(query),
        false => Err(Refusal::bad("a set's name is made of A-Z, 0-9 and _, does not start with a digit, and has at most 255 characters")),
    });
    let how = how?;
    admin.loaded()?;
    read_whole(body, move |reader| import(&admin, &name, &how, reader)).await.map(Json)
}

fn import(admin: &Admin, name: &str, how: &ImportQuery, body: BodyReader) -> Result<Value, Refusal> {
    let loaded = admin.loaded()?;
    let mut builder = EmbeddingBuilder::new(how.metric, how.strategy);
    let (mut reader, mut line) = (BufReader::new(body), Vec::new());
    for number in 1.. {
        let fault = |reason: String| Refusal::bad(format!("line {number}: {reason}; nothing was changed"));
        line.clear();
        let read = (&mut reader).take(LINE_MAX as u64 + 1).read_until(b'\n', &mut line);
        if read.map_err(|error| fault(error.to_string()))? == 0 {
            break;
        }
        if line.len() > LINE_MAX {
            return Err(fault(format!("longer than {LINE_MAX} bytes")));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let Line { id, vector } = serde_json::from_slice(&line)
            .map_err(|error| fault(format!("not {{\"id\": …, \"vector\": […]}}: {error}")))?;
        builder.push(id, vector).map_err(|error| fault(error.to_string()))?;
        if number % ADMIT_EVERY == 0 {
            loaded.embeddings.admit(name, builder.bytes(), &loaded.banks)?;
        }
    }
    let set = builder.finish();
    if set.is_empty() {
        return Err(Refusal::bad("no embeddings: send one JSON object a line, {\"id\": …, \"vector\": […]}"));
    }
    loaded.embeddings.put(name, set, &loaded.banks, &admin.disk)?;
    shown(admin, name)
}

impl From<PutError> for Refusal {
    fn from(error: PutError) -> Self {
        let status = match &error {
            PutError::Disk(error)
                if !matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) =>
            {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            PutError::Memory { .. } | PutError::Full(_) | PutError::Disk(_) => {
                StatusCode::INSUFFICIENT_STORAGE
            }
        };
        Self::new(status, error.to_string())
    }
}

/// `GET /api/v1/embeddings`
pub async fn list(State(admin): State<Arc<Admin>>) -> Result<Json<Vec<Value>>, Refusal> {
    let sets = admin.loaded()?.embeddings.list();
    Ok(Json(sets.iter().map(|(name, standing)| describe(name, standing)).collect()))
}

/// `GET /api/v1/embeddings/{name}`
pub async fn show(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Result<Json<Value>, Refusal> {
    shown(&admin, &name).map(Json)
}

/// `DELETE /api/v1/embeddings/{name}`; deleting what is not there is done already.
pub async fn remove(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Refusal> {
    blocking(move || {
        let removed = admin.loaded()?.embeddings.remove(&name).map_err(|error| {
            Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("the set's file could not be removed: {error}"),
            )
        })?;
        Ok(Json(json!({ "removed": removed })))
    })
    .await
}

/// Body of a search.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NearestBody {
    vector: Vec<f32>,
    #[serde(default = "ten")]
    k: usize,
    #[serde(default)]
    exact: bool,
}

fn ten() -> usize {
    10
}

/// `POST /api/v1/embeddings/{name}/nearest {"vector", "k"?, "exact"?}`: the embeddings nearest to this vector. An answer
/// that is approximate says so, with the recall measured when the set's graph was built.
pub async fn nearest(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Result<Json<NearestBody>, JsonRejection>,
) -> Result<Json<Value>, Refusal> {
    let Json(body) = body?;
    if !(1..=COUNT_MAX).contains(&body.k) {
        return Err(Refusal::bad(format!("k is 1 to {COUNT_MAX}")));
    }
    let set = ready(&admin, &name)?;
    let turn = admin.turns.of(&caller).await?;
    blocking(move || {
        let found = set.nearest(body.vector, body.k, body.exact);
        drop(turn);
        let found = found.map_err(|error| Refusal::bad(error.to_string()))?;
        let shown = |(id, distance): &(&str, f32)| json!({ "id": id, "distance": distance });
        Ok(Json(json!({
            "set": name,
            "metric": set.metric(),
            "approximate": found.recall.is_some(),
            "recall": found.recall,
            "matches": found.matches.iter().map(shown).collect::<Vec<_>>(),
        })))
    })
    .await
}

fn ready(admin: &Admin, name: &str) -> Result<Arc<EmbeddingSet>, Refusal> {
    match admin.loaded()?.embeddings.get(name) {
        Some(Standing::Ready(set)) => Ok(set),
        Some(Standing::Loading) => {
            Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the set is being read"))
        }
        Some(Standing::Damaged(reason)) => Err(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the set's file is damaged: {reason}: import it again"),
        )),
        Some(Standing::Missing) => Err(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the set's file is gone: import it again, or remove the set",
        )),
        None => Err(no_set(name)),
    }
}

fn shown(admin: &Admin, name: &str) -> Result<Value, Refusal> {
    let standing = admin.loaded()?.embeddings.get(name).ok_or_else(|| no_set(name))?;
    Ok(describe(name, &standing))
}

fn no_set(name: &str) -> Refusal {
    let name: String = name.chars().take(64).collect();
    Refusal::not_found(format!("set '{name}' not found; `hashward embeddings list` shows the sets there are"))
}

fn describe(name: &str, standing: &Standing) -> Value {
    let state = match standing {
        Standing::Loading => "loading",
        Standing::Damaged(_) => "damaged",
        Standing::Missing => "missing",
        Standing::Ready(set) if set.wants_graph() => "building", // and answers exactly until it is built
        Standing::Ready(_) => "ready",
    };
    let Standing::Ready(set) = standing else { return json!({ "name": name, "state": state }) };
    json!({
        "name": name,
        "state": state,
        "metric": set.metric(),
        "strategy": set.strategy(),
        "dimensions": set.dimensions(),
        "embeddings": set.len(),
        "bytes": set.bytes(),
        "approximate": set.recall().is_some(),
        "recall": set.recall(),
    })
}
