//! Hash lists in and out: streams of any length, in bounded memory.

use std::io::{self, BufReader};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use async_channel::{Sender, bounded};
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::{Extension, Json};
use index::bank::{BankChange, NewContent};
use index::store::keys::{content_key, decode_content, read_content_key};
use index::store::{Keyspace, Range, Store};
use index::{BankId, ContentId, RequestId, SignalType};
use ingest::exchange::api;
use ingest::import::{Format, ImportError, Records};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::banks::request_id;
use super::body::{BodyReader, read_whole};
use super::cases::blocking;
use super::{Admin, Loaded, Refusal};
use crate::access::Caller;
use crate::curator;

/// Contents committed together: a sync each, small enough to keep the delta small.
const BATCH: usize = 4096;
/// Or as many bytes of signals: videos are long.
const BATCH_BYTES: usize = 4 << 20;
/// Bad lines shown; all are counted.
const BAD_SHOWN: usize = 20;

/// How to read the list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportQuery {
    signal_type: String,
    format: Option<String>,
    #[serde(default)]
    strict: bool,
}

/// What an import did.
#[derive(Default, Serialize)]
pub struct ImportAnswer {
    /// Contents added; durable and visible.
    imported: u64,
    /// Those of them that an earlier import under the same `Idempotency-Key` had added.
    replayed: u64,
    /// Lines that were not taken.
    bad: u64,
    /// The first of them, with number and reason.
    bad_lines: Vec<String>,
    /// State that shows all of it.
    generation: u64,
    seconds: f64,
    #[serde(skip)]
    bank: Option<BankId>,
}

/// `POST /api/v1/banks/{name}/import?signal_type=T[&format=lines|csv|ndjson][&strict=true]`, the list as body.
///
/// Batches are durable one by one: an import that breaks off has added what its answer, or `bank show`, says.
/// Sent again under the same `Idempotency-Key`, it adds only what is missing.
pub async fn import(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(bank): Path<String>,
    query: Result<Query<ImportQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ImportAnswer>, Refusal> {
    let job = job(&admin, caller, bank, query, &headers)?;
    read_whole(body, move |reader| read(admin.loaded()?, job, reader)).await.map(Json)
}

struct Job {
    caller: Caller,
    bank: String,
    kind: SignalType,
    format: Option<Format>,
    strict: bool,
    id: Option<RequestId>,
}

fn job(
    admin: &Admin,
    caller: Caller,
    bank: String,
    query: Result<Query<ImportQuery>, QueryRejection>,
    headers: &HeaderMap,
) -> Result<Job, Refusal> {
    let Query(query) = query?;
    let kind = SignalType::from_name(&query.signal_type).map_err(|error| Refusal::bad(error.to_string()))?;
    let format = query.format.as_deref().map(str::parse::<Format>).transpose();
    let format = format.map_err(|error| Refusal::bad(error.to_string()))?;
    let id = request_id(headers)?;
    admin.loaded()?.opened(&caller, &bank)?;
    Ok(Job { caller, bank, kind, format, strict: query.strict, id })
}

fn read(loaded: &Loaded, job: Job, body: BodyReader) -> Result<ImportAnswer, Refusal> {
    let started = Instant::now();
    let mut records = Records::open(BufReader::new(body), job.format, job.kind)
        .map_err(|error| Refusal::bad(error.to_string()))?;
    let mut answer = ImportAnswer::default();
    let (mut batch, mut bytes, mut number) = (Vec::with_capacity(BATCH), 0, 0);
    loop {
        match records.next() {
            Some(Ok(record)) => {
                let note = record.note.unwrap_or_default();
                bytes += record.signal.binary_len();
                batch.push(NewContent { signals: vec![record.signal], note, ..NewContent::default() });
                if batch.len() == BATCH || bytes >= BATCH_BYTES {
                    number += 1;
                    bytes = 0;
                    write(loaded, &job, number, std::mem::take(&mut batch), &mut answer)?;
                }
            }
            Some(Err(ImportError::Line(bad))) if !job.strict => {
                answer.bad += 1;
                if answer.bad_lines.len() < BAD_SHOWN {
                    answer.bad_lines.push(bad.to_string());
                }
            }
            Some(Err(error)) => {
                return Err(Refusal::bad(format!(
                    "{error}; {} contents before it are imported",
                    answer.imported
                )));
            }
            None => break,
        }
    }
    write(loaded, &job, number + 1, batch, &mut answer)?;
    answer.seconds = started.elapsed().as_secs_f64();
    Ok(answer)
}

fn write(
    loaded: &Loaded,
    job: &Job,
    number: u64,
    contents: Vec<NewContent>,
    answer: &mut ImportAnswer,
) -> Result<(), Refusal> {
    curator::wait_for_merge(&loaded.banks);
    let change = BankChange::Add { bank: job.bank.clone(), contents };
    let done = loaded.curator.change_blocking(job.caller.asks(job.id.map(|id| id.part(number)), change))?;
    // An import that goes on in another bank would leave its first part in one that is gone.
    if answer.bank.replace(done.bank).is_some_and(|bank| bank != done.bank) {
        let words = format!(
            "bank '{}' was deleted and another one made in its place meanwhile: {} contents went with the former",
            job.bank, answer.imported
        );
        return Err(Refusal::new(StatusCode::CONFLICT, words));
    }
    answer.imported += done.contents;
    answer.replayed += if done.replayed { done.contents } else { 0 };
    answer.generation = done.generation.0;
    Ok(())
}

/// Whether to give out what its source shares with members only.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportQuery {
    #[serde(default)]
    restricted: bool,
}

/// `GET /api/v1/banks/{name}/export[?restricted=true]`: NDJSON, a signal a line, in a form `import` takes back. The
/// bank's history says that it was given out.
pub async fn export(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    query: Result<Query<ExportQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Refusal> {
    let Query(ExportQuery { restricted: insists }) = query?;
    let loaded = admin.loaded()?;
    let id = loaded.opened(&caller, &name)?;
    let (exchanges, of) = (loaded.exchanges.clone(), name.clone());
    let source = blocking(move || Ok::<_, Refusal>(exchanges.get(&of)?)).await?;
    let source = source.and_then(|exchange| api(&exchange.api)).filter(|api| api.restricted);
    if let Some(api) = source.filter(|_| !insists) {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            format!(
                "bank '{name}' is fed by {}, which shares with its members only: if you may pass it on, ask again \
                 with ?restricted=true; the bank's history will say so",
                api.name
            ),
        ));
    }
    admin.door.exports(&caller, &name);
    let change = BankChange::Exported { bank: name, restricted: source.is_some() };
    loaded.curator.change(caller.asks(request_id(&headers)?, change)).await?;
    let store = loaded.banks.store();
    let (sender, receiver) = bounded::<io::Result<Bytes>>(16);
    tokio::task::spawn_blocking(move || write_lines(&*store, id, &sender));
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((StatusCode::OK, headers, Body::from_stream(receiver)))
}

fn write_lines(store: &dyn Store, bank: BankId, lines: &Sender<io::Result<Bytes>>) {
    let (from, to) = (content_key(bank, ContentId(0)), content_key(BankId(bank.0 + 1), ContentId(0)));
    let (mut signals, mut text, mut failed) = (Vec::new(), String::new(), None);
    let outcome = store.scan(Keyspace::Contents, Range::between(&from, &to), &mut |key, row| {
        let read = read_content_key(key).and_then(|key| Ok((key.1, decode_content(row, &mut signals)?.note.to_string())));
        match read {
            Ok((content, note)) => {
                for signal in &signals {
                    let line = json!({ "signal": signal.to_string(), "signal_type": signal.kind(), "content": content, "note": note });
                    text.push_str(&format!("{line}\n"));
                }
            }
            Err(error) => {
                failed = Some(error);
                return ControlFlow::Break(());
            }
        }
        if text.len() > 64 << 10 && lines.send_blocking(Ok(std::mem::take(&mut text).into())).is_err() {
            return ControlFlow::Break(()); // nobody reads on
        }
        ControlFlow::Continue(())
    });
    let last = match outcome.err().or(failed) {
        // A broken stream tells the client that the list is not whole.
        Some(error) => Err(io::Error::other(error.to_string())),
        None => Ok(text.into()),
    };
    let _ = lines.send_blocking(last);
}
