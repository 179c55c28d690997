//! Re-scans: very many hashes against the banks, in requests of up to a million.
//!
//! A request is one sorted sweep of the tables, on a thread of its own that gives way to the shards. What it
//! answers is streamed, a line for each hash that matched, and ends with a line that says so: an answer without
//! it is not whole.

use std::io;
use std::sync::Arc;

use async_channel::{Sender, bounded};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use index::bank::BankState;
use index::{BulkFound, BulkScratch, Distance, Hash256, SignalType};
use serde::Deserialize;
use serde_json::json;

use super::{Admin, Refusal, lookup};

/// Hashes of a request.
pub const HASHES_MAX: usize = 1 << 20;
/// How much a scan gives way, in the system's words ('nice').
const NICE: i32 = 10;
/// Bytes of answers that are sent together.
const TEXT_BYTES: usize = 64 << 10;

/// How to scan.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScanQuery {
    threshold: Option<u16>,
    limit: Option<usize>,
}

/// `POST /api/v1/scan[?threshold=31][&limit=256]`, PDQ hashes of 32 bytes each as body: NDJSON.
pub async fn scan(
    State(admin): State<Arc<Admin>>,
    query: Result<Query<ScanQuery>, QueryRejection>,
    body: Body,
) -> Result<impl IntoResponse, Refusal> {
    let (threshold, limit, state) = how(&admin, query)?;
    let body = to_bytes(body, HASHES_MAX * size_of::<Hash256>()).await.map_err(|_| {
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("a scan takes at most {HASHES_MAX} hashes of 32 bytes: send the rest in another request"),
        )
    })?;
    let hashes: Vec<Hash256> =
        body.chunks_exact(32).filter_map(|bytes| bytes.try_into().ok()).map(Hash256).collect();
    if hashes.len() * 32 != body.len() {
        return Err(Refusal::bad(format!("{} bytes are not whole hashes of 32 bytes each", body.len())));
    }
    let turn = admin.turn().await?;
    let (sender, receiver) = bounded::<io::Result<Bytes>>(16);
    let work = move || {
        // Refused, it is as fast and only less polite.
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "a scan runs at full priority");
        }
        answer(&state, &hashes, threshold, limit, &sender);
        drop(turn);
    };
    std::thread::Builder::new().name("scan".into()).spawn(work).map_err(|error| {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, format!("no thread for the scan: {error}"))
    })?;
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(receiver)))
}

fn how(
    admin: &Admin,
    query: Result<Query<ScanQuery>, QueryRejection>,
) -> Result<(Distance, usize, Arc<BankState>), Refusal> {
    let Query(query) = query?;
    let threshold = lookup::threshold(SignalType::Pdq, query.threshold)?;
    let limit = query.limit.unwrap_or(usize::MAX).clamp(1, admin.config.limits.matches_max);
    Ok((threshold, limit, admin.loaded()?.banks.state_owned()))
}

fn answer(
    state: &BankState,
    hashes: &[Hash256],
    threshold: Distance,
    limit: usize,
    lines: &Sender<io::Result<Bytes>>,
) {
    let mut out = BulkFound::default();
    state.tables.pdq.search_bulk(hashes, threshold, limit, &mut BulkScratch::default(), &mut out);
    let (mut text, mut hits) = (String::new(), 0u64);
    for matches in out.found.chunk_by(|a, b| a.query == b.query) {
        let index = matches[0].query;
        let total = out.totals[index as usize];
        let listed: Vec<_> = matches
            .iter()
            .map(|hit| {
                let bank = state.directory.get(hit.bank).map_or("", |bank| &bank.name);
                json!({ "bank": bank, "content": hit.content, "distance": hit.distance })
            })
            .collect();
        let truncated = listed.len() < total as usize;
        let line =
            json!({ "index": index, "matches": listed, "matches_total": total, "truncated": truncated });
        text.push_str(&line.to_string());
        text.push('\n');
        hits += 1;
        if text.len() > TEXT_BYTES && lines.send_blocking(Ok(std::mem::take(&mut text).into())).is_err() {
            return; // nobody reads on
        }
    }
    let end = json!({ "done": true, "hashes": hashes.len(), "hits": hits, "generation": state.generation });
    text.push_str(&format!("{end}\n"));
    let _ = lines.send_blocking(Ok(text.into()));
}
