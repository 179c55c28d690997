//! Re-scans: very many hashes against the banks, in requests of up to a million.
//!
//! A request is one sorted sweep of the tables, on a thread of its own that gives way to the shards. What it
//! answers is streamed, a line for each hash that matched, and ends with a line that says so: an answer without
//! it is not whole.
//!
//! A scan holds memory from before its body is read until its answer is out, out of what is set aside for scans. It
//! holds a turn at the CPUs only while it computes: never while its client reads, and not for long at a time.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_channel::{Sender, TrySendError, bounded};
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use index::bank::{Ask, BankState};
use index::{BulkRow, Distance, Hash256, SignalType};
use serde::Deserialize;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

use super::body::{declared, upload};
use super::{Admin, Refusal, Turns, lookup};
use crate::access::Caller;
use crate::clock::now_s;
use crate::nice::give_way;

/// Hashes of a request.
pub const HASHES_MAX: usize = 1 << 20;
const BODY_MAX: usize = HASHES_MAX * size_of::<Hash256>();
/// Bytes that a scan takes for each of its hashes (itself, twice while it is read, and sorted), and for what it found.
const HASH_BYTES: usize = 2 * size_of::<Hash256>() + 140;
const FOUND_BYTES: usize = 32 << 20;
/// Bytes of answers that are sent together.
const TEXT_BYTES: usize = 64 << 10;
/// How long a scan computes before others that wait for the CPUs get a turn.
const SPELL: Duration = Duration::from_millis(100);

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
    Extension(caller): Extension<Caller>,
    query: Result<Query<ScanQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<impl IntoResponse, Refusal> {
    let Query(query) = query?;
    let threshold = query.threshold.map(|bits| lookup::threshold(SignalType::Pdq, Some(bits))).transpose()?;
    let limit = query.limit.unwrap_or(usize::MAX).clamp(1, admin.config.limits.matches_max);
    let state = admin.loaded()?.banks_of(&caller);
    let length = declared(&headers).unwrap_or(BODY_MAX);
    let too_large = || {
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("a scan takes at most {HASHES_MAX} hashes of 32 bytes: send the rest in another request"),
        )
    };
    if length > BODY_MAX {
        return Err(too_large());
    }
    let memory = admin.turns.scan_memory(length / size_of::<Hash256>() * HASH_BYTES + FOUND_BYTES).await?;
    let body = upload(&admin, body, length, too_large).await?;
    let (hashes, rest) = body.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(Refusal::bad(format!("{} bytes are not whole hashes of 32 bytes each", body.len())));
    }
    let hashes: Vec<Hash256> = hashes.iter().map(|bytes| Hash256(*bytes)).collect();
    drop(body);
    let turn = admin.turns.machines().await?;
    let (sender, receiver) = bounded::<io::Result<Bytes>>(16);
    let mut lines = Lines {
        text: String::new(),
        hits: 0,
        lines: sender,
        turns: admin.turns.clone(),
        turn: Some(turn),
        since: Instant::now(),
        runtime: Handle::current(),
    };
    let work = move || {
        give_way();
        lines.answer(&state, &hashes, threshold, limit);
        drop(memory);
    };
    std::thread::Builder::new().name("scan".into()).spawn(work).map_err(|error| {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, format!("no thread for the scan: {error}"))
    })?;
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(receiver)))
}

/// The lines of an answer on their way out, and the turn at the CPUs that makes them.
struct Lines {
    text: String,
    hits: u64,
    lines: Sender<io::Result<Bytes>>,
    turns: Turns,
    turn: Option<OwnedSemaphorePermit>,
    /// When the turn began.
    since: Instant,
    runtime: Handle,
}

impl Lines {
    fn answer(&mut self, state: &BankState, hashes: &[Hash256], threshold: Option<Distance>, limit: usize) {
        let ask = Ask { every_bank: false, ..Ask::matching(limit, now_s()) };
        let this = std::cell::RefCell::new(&mut *self);
        let pause = || this.borrow_mut().pause();
        let tell = |row: &BulkRow<'_>| this.borrow_mut().tell(state, row);
        if !state.scan(hashes, threshold, &ask, pause, tell) {
            return; // nobody reads on
        }
        let (hits, generation) = (self.hits, state.generation);
        let end = json!({ "done": true, "hashes": hashes.len(), "hits": hits, "generation": generation });
        self.text.push_str(&format!("{end}\n"));
        self.send();
    }

    /// Lets others that wait for the CPUs have a turn; says whether to go on.
    fn pause(&mut self) -> bool {
        if self.since.elapsed() >= SPELL {
            self.turn = None;
            self.take_turn();
        }
        self.turn.is_some() && !self.lines.is_closed()
    }

    fn take_turn(&mut self) {
        self.turn = self.runtime.block_on(self.turns.machines()).ok();
        self.since = Instant::now();
    }

    /// Writes what a hash matched; says whether to go on.
    fn tell(&mut self, state: &BankState, row: &BulkRow<'_>) -> bool {
        let listed: Vec<_> = row
            .listed
            .iter()
            .map(|hit| {
                let bank = state.directory.get(hit.bank).map_or("", |bank| &bank.name);
                json!({ "bank": bank, "content": hit.content, "distance": hit.distance })
            })
            .collect();
        let truncated = listed.len() < row.total as usize;
        let line = json!({
            "index": row.query,
            "matches": listed,
            "matches_total": row.total,
            "truncated": truncated,
        });
        self.text.push_str(&line.to_string());
        self.text.push('\n');
        self.hits += 1;
        self.text.len() <= TEXT_BYTES || self.send()
    }

    /// Sends what is written so far. Waits without a turn for a client that reads slowly; the connection of one that stopped
    /// ends.
    fn send(&mut self) -> bool {
        let full = match self.lines.try_send(Ok(std::mem::take(&mut self.text).into())) {
            Ok(()) => return true,
            Err(TrySendError::Closed(_)) => return false,
            Err(TrySendError::Full(text)) => text,
        };
        self.turn = None;
        if self.lines.send_blocking(full).is_err() {
            return false;
        }
        self.take_turn();
        self.turn.is_some()
    }
}
