//! `/api/v1/hash` and `/api/v1/match`: from files, URLs and signals to matches, many in one call.
//!
//! What cannot be hashed is answered as an error of its item, never as an item without matches: unknown is not clean.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::{Extension, Json};
use index::bank::{Ask, Bank, BankState};
use index::{BankId, FindRule, FindScratch, Frame, Match, Nearest, Signal, SignalType};
use ingest::media::fetch::FetchError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::banks::no_bank;
use super::body::{declared, upload};
use super::cases::blocking;
use super::hashing::{self, Hashed, Wanted};
use super::lookup::chosen;
use super::matches::MatchShown;
use super::{Admin, Refusal};
use crate::access::{Caller, Seen};
use crate::clock::now_s;

/// Items of one request.
const ITEMS_MAX: usize = 1000;
/// URLs of one request, and how many of them are fetched at once.
const URLS_MAX: usize = 100;
const URLS_AT_ONCE: usize = 8;
/// Signals searched for together.
const AT_ONCE: usize = 16;
/// Contents that the frames of one file match at most before no more are counted.
const COUNTED_MAX: usize = 1 << 20;

/// How a file is hashed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HashQuery {
    /// Where the file is fetched; the body is the file otherwise.
    url: Option<String>,
    /// Signal types with commas between; those that fit the file if absent.
    types: Option<String>,
    /// Also the eight hashes of the picture turned and mirrored.
    #[serde(default)]
    dihedral: bool,
}

/// `GET /api/v1/hash?url=…[&types=a,b][&dihedral=true]`
pub async fn hash_url(
    State(admin): State<Arc<Admin>>,
    query: Result<Query<HashQuery>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let Query(query) = query?;
    let url = query.url.as_ref().ok_or_else(|| Refusal::bad("name a url, or POST the file itself"))?;
    let kinds = query.types.as_deref().map(types).transpose()?;
    let fetched = admin.fetcher.fetch(url).await?;
    let hashed =
        hash_bytes(&admin, fetched.bytes.clone(), &fetched.content_type, kinds, query.dihedral).await;
    drop(fetched.room);
    Ok(Json(shown(&hashed?)))
}

/// `POST /api/v1/hash[?types=a,b][&dihedral=true]`, the file as body.
pub async fn hash_file(
    State(admin): State<Arc<Admin>>,
    query: Result<Query<HashQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Refusal> {
    let max = admin.config.fetch.bytes_max;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let content_type = content_type.unwrap_or_default();
    let length = declared(&headers);
    let too_large = || Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a file has at most {max} bytes"));
    let Query(query) = query?;
    let kinds = query.types.as_deref().map(types).transpose()?;
    if length.is_some_and(|length| length > max) {
        return Err(too_large());
    }
    let room = admin.hold(length).await?;
    let bytes = upload(&admin, body, max, too_large).await?;
    let hashed = hash_bytes(&admin, bytes, content_type, kinds, query.dihedral).await;
    drop(room);
    Ok(Json(shown(&hashed?)))
}

/// Signal types with commas between.
fn types(names: &str) -> Result<Vec<SignalType>, Refusal> {
    let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
    let kinds: Vec<SignalType> = names
        .map(SignalType::from_name)
        .collect::<Result<_, _>>()
        .map_err(|error| Refusal::bad(error.to_string()))?;
    if kinds.is_empty() { Err(Refusal::bad("name at least one signal type")) } else { Ok(kinds) }
}

/// Hashes a file with the types asked for, or those that fit it.
async fn hash_bytes(
    admin: &Admin,
    bytes: Bytes,
    content_type: &str,
    kinds: Option<Vec<SignalType>>,
    dihedral: bool,
) -> Result<Hashed, Refusal> {
    let partial = kinds.is_none();
    let kinds = kinds.unwrap_or_else(|| hashing::kinds_of(&bytes, content_type));
    let wanted = Wanted { kinds, dihedral, frames: true, partial };
    Ok(hashing::hash(admin, bytes, wanted).await?)
}

fn shown(hashed: &Hashed) -> Value {
    let mut answer = json!({ "signals": signals_shown(hashed) });
    if let Some((_, quality)) = &hashed.picture {
        answer["quality"] = json!(quality);
    }
    if !hashed.dihedral.is_empty() {
        let hashes = hashed.dihedral.iter().map(|(turn, hash)| (turn.to_string(), json!(hash.to_string())));
        answer["dihedral"] = Value::Object(hashes.collect());
    }
    if let Some(frames) = &hashed.frames {
        answer["frames"] = frames.iter().map(frame_shown).collect();
    }
    if let Some(damage) = &hashed.damage {
        answer["damage"] = json!(damage);
    }
    if !hashed.failed.is_empty() {
        answer["not_hashed"] = json!(failed_shown(hashed));
    }
    answer
}

fn frame_shown(frame: &Frame) -> Value {
    json!({ "pdq": Signal::Pdq(frame.hash).to_string(), "quality": frame.quality, "time_ms": frame.time_ms })
}

/// By type; null where there is too little to be matched by.
fn signals_shown(hashed: &Hashed) -> BTreeMap<&'static str, Option<String>> {
    let text = |signal: &Option<Signal>| signal.as_ref().map(Signal::to_string);
    hashed.signals.iter().map(|(kind, signal)| (kind.name(), text(signal))).collect()
}

fn failed_shown(hashed: &Hashed) -> BTreeMap<&'static str, String> {
    hashed.failed.iter().map(|(kind, why)| (kind.name(), why.clone())).collect()
}

/// Body of a batch.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatchBody {
    items: Vec<Item>,
    /// Banks by name; all if absent.
    banks: Option<Vec<String>>,
    /// Bits that PDQ hashes may differ in; each bank's own if absent.
    threshold: Option<u16>,
    /// Matches listed per item, nearest first; the server's limit where none is named.
    limit: Option<usize>,
}

/// What is to be matched: signals, or a URL.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    /// Given back with the answer.
    id: Option<Value>,
    signals: Option<BTreeMap<String, String>>,
    url: Option<String>,
    /// Signal types to make of the URL's file, with commas between; those that fit it if absent.
    types: Option<String>,
}

/// What matched an item, or why that is unknown.
#[derive(Serialize)]
struct ItemAnswer {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    found: Option<ItemFound>,
}

impl ItemAnswer {
    /// Whether 'no match' would mean that there is none.
    fn is_complete(&self) -> bool {
        self.found.as_ref().is_some_and(|found| found.damage.is_none() && found.not_hashed.is_empty())
    }
}

#[derive(Serialize)]
struct ItemFound {
    /// By type; null where there is too little to be matched by.
    signals: BTreeMap<&'static str, Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quality: Option<u8>,
    /// What is wrong with the file: there may be more in it than was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<String>,
    /// By type, why the file was not matched by it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    not_hashed: BTreeMap<&'static str, String>,
    matches: Vec<ItemMatch>,
    matches_total: usize,
    truncated: bool,
}

#[derive(Serialize)]
struct ItemMatch {
    signal_type: SignalType,
    /// When the frame of an animated picture that matched is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_ms: Option<u32>,
    #[serde(flatten)]
    shown: MatchShown,
}

/// `POST /api/v1/match {"items": [{"id"?, "signals" | "url", "types"?}…], "banks"?, "threshold"?, "limit"?}`
pub async fn match_batch(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<MatchBody>, JsonRejection>,
) -> Result<Json<Value>, Refusal> {
    let Json(body) = body?;
    let urls = body.items.iter().filter(|item| item.url.is_some()).count();
    if body.items.len() > ITEMS_MAX || urls > URLS_MAX {
        return Err(Refusal::bad(format!(
            "{} items with {urls} URLs in one request, {ITEMS_MAX} with {URLS_MAX} at most",
            body.items.len()
        )));
    }
    let mut rule = admin.config.find_rule();
    rule.threshold = chosen(&caller, SignalType::Pdq, body.threshold)?;
    let banks = {
        let state = admin.loaded()?.banks_of(&caller);
        let id = |name: &String| state.directory.named(name).map(|bank| bank.id).ok_or_else(|| no_bank(name));
        body.banks.as_ref().map(|names| names.iter().map(id).collect::<Result<Vec<_>, _>>()).transpose()?
    };
    let limit = body.limit.unwrap_or(usize::MAX).min(admin.config.limits.matches_max);
    let (ids, given): (Vec<_>, Vec<_>) = body.items.into_iter().map(|item| (item.id.clone(), item)).unzip();
    let hashed = hash_items(&admin, given).await;
    // Taken after the last file was hashed: what was banked meanwhile is found.
    let state = admin.loaded()?.banks_of(&caller);
    // Not more of them at once than there are CPUs.
    let turn = admin.turns.of(&caller).await?;
    let door = admin.door.clone();
    blocking(move || {
        let _turn = turn;
        let seen = RefCell::new(Seen::new(&door));
        let how = How { state: &state, rule, banks, limit, now_s: now_s(), seen: &seen };
        let mut room = FindScratch::default();
        let items: Vec<ItemAnswer> = ids
            .into_iter()
            .zip(hashed)
            .map(|(id, hashed)| match hashed {
                Ok(hashed) => ItemAnswer { id, error: None, found: Some(how.find(&hashed, &mut room)) },
                Err(error) => ItemAnswer { id, error: Some(error), found: None },
            })
            .collect();
        door.judge_all(&caller, seen.into_inner())?;
        let incomplete = items.iter().filter(|item| !item.is_complete()).count();
        Ok(Json(json!({ "generation": state.generation, "incomplete": incomplete, "items": items })))
    })
    .await
}

/// Each item's signals, or why there are none; files are fetched and hashed side by side.
async fn hash_items(admin: &Arc<Admin>, items: Vec<Item>) -> Vec<Result<Hashed, String>> {
    let mut hashed: Vec<Result<Hashed, String>> = Vec::with_capacity(items.len());
    let (mut fetching, mut waiting) = (JoinSet::new(), Vec::new());
    for (at, item) in items.into_iter().enumerate() {
        match (item.signals, item.url) {
            (Some(signals), None) => hashed.push(given(&signals)),
            (None, Some(url)) => {
                hashed.push(Err("the server is shutting down".to_string()));
                waiting.push((at, url, item.types));
            }
            _ => hashed.push(Err("an item has either signals or a url".to_string())),
        }
    }
    waiting.reverse();
    loop {
        while fetching.len() < URLS_AT_ONCE
            && let Some((at, url, kinds)) = waiting.pop()
        {
            let admin = admin.clone();
            fetching.spawn(async move { (at, fetch_and_hash(&admin, &url, kinds.as_deref()).await) });
        }
        match fetching.join_next().await {
            Some(Ok((at, of_url))) => hashed[at] = of_url,
            Some(Err(_)) => {} // the message it was born with stands
            None => return hashed,
        }
    }
}

async fn fetch_and_hash(admin: &Admin, url: &str, kinds: Option<&str>) -> Result<Hashed, String> {
    let kinds = kinds.map(types).transpose().map_err(|refusal| refusal.message().to_string())?;
    let fetched =
        admin.fetcher.fetch(url).await.map_err(|error| format!("the URL was not fetched: {error}"))?;
    let hashed = hash_bytes(admin, fetched.bytes.clone(), &fetched.content_type, kinds, false).await;
    drop(fetched.room);
    hashed.map_err(|refusal| refusal.message().to_string())
}

fn given(signals: &BTreeMap<String, String>) -> Result<Hashed, String> {
    let mut hashed = Hashed::default();
    for (name, text) in signals {
        let kind = SignalType::from_name(name).map_err(|error| error.to_string())?;
        let signal = Signal::parse(kind, text).map_err(|error| error.to_string())?;
        hashed.signals.insert(kind, Some(signal));
    }
    if hashed.signals.is_empty() { Err("an item has at least one signal".to_string()) } else { Ok(hashed) }
}

struct How<'a> {
    state: &'a BankState,
    rule: FindRule,
    banks: Option<Vec<BankId>>,
    limit: usize,
    now_s: u64,
    /// What the whole request asked and found, to be judged before it is told.
    seen: &'a RefCell<Seen>,
}

impl How<'_> {
    /// What matches any of the signals, each content once for each type, nearest first.
    fn find(&self, hashed: &Hashed, room: &mut FindScratch) -> ItemFound {
        let (mut pdq, mut others) = (Vec::new(), Vec::new());
        for signal in hashed.signals.values().flatten() {
            let of_kind = if let Signal::Pdq(_) = signal { &mut pdq } else { &mut others };
            of_kind.push((signal.clone(), None));
        }
        for frame in
            hashed.frames.iter().flatten().filter(|frame| frame.quality >= self.rule.video.quality_min)
        {
            pdq.push((Signal::Pdq(frame.hash), Some(frame.time_ms)));
        }
        let mut found = Vec::new();
        let total = self.find_of_kind(&pdq, true, room, &mut found)
            + self.find_of_kind(&others, false, room, &mut found);
        let shown = |(signal_type, time_ms, hit): &Found| ItemMatch {
            signal_type: *signal_type,
            time_ms: *time_ms,
            shown: MatchShown::new(self.state, hit),
        };
        ItemFound {
            signals: signals_shown(hashed),
            quality: hashed.picture.as_ref().map(|(_, quality)| *quality),
            damage: hashed.damage.clone(),
            not_hashed: failed_shown(hashed),
            matches: found.iter().map(shown).collect(),
            matches_total: total,
            truncated: total > found.len(),
        }
    }

    /// Adds what some signals match to what others did, as far as it is listed; says how many contents they match.
    /// `alike` if the signals are of one type, so that a content is counted once; else each is of a type of its own.
    fn find_of_kind(
        &self,
        signals: &[(Signal, Option<u32>)],
        alike: bool,
        room: &mut FindScratch,
        found: &mut Vec<Found>,
    ) -> usize {
        let counted = (alike && signals.len() > 1).then(|| RefCell::new(HashSet::new()));
        let on_match = |content, counts| {
            if let Some(counted) =
                counted.as_ref().filter(|counted| counts && counted.borrow().len() < COUNTED_MAX)
            {
                counted.borrow_mut().insert(content);
            }
            self.seen.borrow().is_honeytoken(content)
        };
        let is_asked = |bank: &Bank| self.banks.as_ref().is_none_or(|banks| banks.contains(&bank.id));
        let noting = Ask::noting(self.limit, self.now_s, &on_match);
        let ask = Ask { every_bank: false, banks: Some(&is_asked), ..noting };
        let (mut nearest, mut total) = (Nearest::default(), 0);
        for some in signals.chunks(AT_ONCE) {
            let texts: Vec<Signal> = some.iter().map(|(signal, _)| signal.clone()).collect();
            self.state.find_all(&texts, &self.rule, &ask, room, &mut nearest);
            self.seen.borrow_mut().note(&texts, nearest.rows());
            for row in nearest.rows() {
                let (signal, time) = &some[row.query as usize];
                total += row.total as usize;
                found.extend(nearest.listed(row).iter().map(|hit| (signal.kind(), *time, *hit)));
            }
            // The nearest of all are among the nearest of each.
            found.sort_by_key(|(kind, time, hit)| (*kind, hit.content, hit.nearness.rank(), *time));
            found.dedup_by_key(|(kind, _, hit)| (*kind, hit.content));
            found.sort_by_key(|(kind, _, hit)| (hit.nearness.rank(), *kind, hit.content));
            found.truncate(self.limit);
        }
        counted.map_or(total, |counted| counted.into_inner().len())
    }
}

/// A match, the type of the signal it matched, and when in its file that signal is shown.
type Found = (SignalType, Option<u32>, Match);

impl From<FetchError> for Refusal {
    fn from(error: FetchError) -> Self {
        let status = match &error {
            FetchError::Url | FetchError::Unusual { .. } | FetchError::Private { .. } => {
                StatusCode::BAD_REQUEST
            }
            FetchError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_GATEWAY,
        };
        Refusal::new(status, format!("the URL was not fetched: {error}"))
    }
}
