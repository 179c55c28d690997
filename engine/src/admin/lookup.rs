//! Lookups over HTTP: for operators and the command line. Pipelines use the binary port.

use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use index::bank::Ask;
use index::{Distance, FindRule, FindScratch, Found, Nearest, NearestScratch, Signal, SignalType};
use reporter::access::Right;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::banks::no_bank;
use super::cases::blocking;
use super::matches::Matches;
use super::{Admin, Refusal};
use crate::access::{Caller, Seen};
use crate::clock::now_s;

const SIGNALS_MAX: usize = 1000;
/// Signals searched for together.
const AT_ONCE: usize = 16;

/// Body of a lookup.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookupBody {
    signal_type: String,
    signals: Vec<String>,
    #[serde(default)]
    threshold: Option<u16>,
    /// Matches listed per signal, nearest first; the server's limit where none is named.
    #[serde(default)]
    limit: Option<usize>,
}

/// One signal and what matched it.
#[derive(Serialize)]
pub struct LookupResult {
    signal: String,
    #[serde(flatten)]
    matches: Matches,
}

/// Answer of a lookup.
#[derive(Serialize)]
pub struct LookupAnswer {
    generation: u64,
    results: Vec<LookupResult>,
}

/// `POST /api/v1/lookup {"signal_type", "signals": [hex…], "threshold"?, "limit"?}`
pub async fn lookup(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<LookupBody>, JsonRejection>,
) -> Result<Json<LookupAnswer>, Refusal> {
    let Json(body) = body?;
    let state = admin.loaded()?.banks_of(&caller);
    let bad = |error: index::SignalError| Refusal::bad(error.to_string());
    let kind = SignalType::from_name(&body.signal_type).map_err(bad)?;
    if body.signals.len() > SIGNALS_MAX {
        return Err(Refusal::bad(format!(
            "{} signals in one request, {SIGNALS_MAX} at most",
            body.signals.len()
        )));
    }
    let sees = caller.rights.has(Right::Distance);
    let rule = rule(&admin, &caller, kind, body.threshold)?;
    let limit = body.limit.unwrap_or(usize::MAX).min(admin.config.limits.matches_max);
    let signals =
        body.signals.iter().map(|text| parse(kind, text)).collect::<Result<Vec<_>, _>>().map_err(bad)?;
    let turn = match kind.is_rebuilt() {
        true => Some(admin.turns.of(&caller).await?),
        false => None,
    };
    let door = admin.door.clone();
    blocking(move || {
        let _turn = turn;
        let mut results = Vec::with_capacity(signals.len());
        let (mut nearest, mut room, now_s) = (Nearest::default(), FindScratch::default(), now_s());
        let mut seen = Seen::new(&door);
        for signals in signals.chunks(AT_ONCE) {
            let watch = |content, _| seen.is_honeytoken(content);
            // Every bank is to be named where nothing but banks is.
            let ask = Ask { every_bank: !sees, ..Ask::noting(limit, now_s, &watch) };
            state.find_all(signals, &rule, &ask, &mut room, &mut nearest);
            seen.note(signals, nearest.rows());
            let first = results.len();
            results.extend(
                signals
                    .iter()
                    .map(|signal| LookupResult { signal: signal.to_string(), matches: Matches::default() }),
            );
            for row in nearest.rows() {
                let matches = Matches::of(&state, nearest.listed(row), row.total);
                results[first + row.query as usize].matches = matches;
            }
        }
        door.judge_all(&caller, seen)?;
        if !sees {
            results.iter_mut().for_each(|result| result.matches.veil());
        }
        Ok(Json(LookupAnswer { generation: state.generation.0, results }))
    })
    .await
}

/// Reads a signal as `bank import` does: a PDQ hash may be written in upper case. HMA's routes refuse that, as HMA does.
fn parse(kind: SignalType, text: &str) -> Result<Signal, index::SignalError> {
    match kind {
        SignalType::Pdq => Signal::parse(kind, &text.to_ascii_lowercase()),
        _ => Signal::parse(kind, text),
    }
}

/// Who is wanted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NearestQuery {
    signal: String,
    #[serde(default = "ten")]
    k: usize,
    max_distance: Option<u16>,
    bank: Option<String>,
}

fn ten() -> usize {
    10
}

/// `GET /api/v1/nearest?signal=HEX[&k=10][&max_distance=256][&bank=NAME]`: the banked PDQ contents nearest to
/// this hash, however far. Exact.
pub async fn nearest(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<NearestQuery>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let Query(query) = query?;
    let state = admin.loaded()?.banks.state_owned();
    let signal = parse(SignalType::Pdq, &query.signal).map_err(|error| Refusal::bad(error.to_string()))?;
    let Signal::Pdq(hash) = signal else { return Err(Refusal::bad("the signal is not a PDQ hash")) };
    let farthest = query.max_distance.unwrap_or(256);
    if !(1..=SIGNALS_MAX).contains(&query.k) || farthest > 256 {
        return Err(Refusal::bad(format!("k is 1 to {SIGNALS_MAX}, max_distance 0 to 256")));
    }
    let bank = match &query.bank {
        Some(name) => Some(state.directory.named(name).ok_or_else(|| no_bank(name))?.id),
        None => None,
    };
    // It reads everything: not more of them at once than there are CPUs.
    let turn = admin.turns.of(&caller).await?;
    blocking(move || {
        let wanted = |found| bank.is_none_or(|bank| bank == found);
        let found =
            state.tables.pdq.nearest(&hash, query.k, farthest, wanted, &mut NearestScratch::default());
        drop(turn);
        let shown = |hit: &Found| {
            let bank = state.directory.get(hit.bank).map_or("", |bank| &bank.name);
            json!({ "bank": bank, "content": hit.content, "distance": hit.distance })
        };
        let matches: Vec<Value> = found.iter().map(shown).collect();
        Ok(Json(json!({
            "generation": state.generation,
            "signal": signal.to_string(),
            "approximate": false,
            "matches": matches,
        })))
    })
    .await
}

/// What counts as a match where a request asks for a threshold, or does not.
fn rule(admin: &Admin, caller: &Caller, kind: SignalType, asked: Option<u16>) -> Result<FindRule, Refusal> {
    let mut rule = admin.config.find_rule();
    if let Some(asked) = chosen(caller, kind, asked)? {
        rule.threshold = Some(asked);
        rule.video.distance = asked;
    }
    Ok(rule)
}

/// The threshold that a request chooses, if it does, and its caller may.
pub fn chosen(caller: &Caller, kind: SignalType, asked: Option<u16>) -> Result<Option<Distance>, Refusal> {
    let asked = asked.map(|bits| threshold(kind, Some(bits))).transpose()?;
    match caller.refused_threshold(kind, asked) {
        Some(why) => Err(Refusal::new(StatusCode::FORBIDDEN, why)),
        None => Ok(asked),
    }
}

/// The threshold asked for, or the type's own.
pub fn threshold(kind: SignalType, asked: Option<u16>) -> Result<Distance, Refusal> {
    let Some(bits) = asked else { return Ok(kind.threshold()) };
    Distance::new(bits)
        .filter(|distance| *distance <= kind.threshold_max())
        .ok_or_else(|| Refusal::bad(format!("threshold {bits}: {kind} takes 0 to {}", kind.threshold_max())))
}
