//! The JSON routes behind HMA's pages. What they refuse they say on a page.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, Request, State};
use axum::http::HeaderMap;
use axum::{Extension, Form};
use index::bank::StoredContent;
use index::{Match, Signal, SignalType};
use serde_json::{Value, json};

use super::super::cases::blocking;
use super::super::openapi::escaped;
use super::Admin;
use super::answer::{Answer, Fault, json, page, redirect};
use super::banks::{create_bank, missing};
use super::content::user_metadata;
use super::fields::{first, json_body};
use super::matching::{Gate, by_bank, search, signal, state};
use super::media::{self, Hashes, Upload};
use crate::access::Caller;

type Pairs = Result<Form<Vec<(String, String)>>, FormRejection>;

/// Matches of which the notes and metadata are read.
const READ_MAX: usize = 1000;

/// The refusal as a page.
fn on_page(answer: Answer) -> Answer {
    match answer {
        Err(Fault::Message(status, text)) => Ok(page(status, &escaped(&text))),
        other => other,
    }
}

fn pairs(form: Pairs) -> Vec<(String, String)> {
    form.map(|Form(pairs)| pairs).unwrap_or_default()
}

/// Whether banks match whatever their ratio, as these routes do unless told otherwise.
fn bypasses(given: Option<&str>) -> bool {
    !given.is_some_and(|word| word.eq_ignore_ascii_case("false"))
}

/// A field of a form that must be there.
fn needed<'a>(pairs: &'a [(String, String)], name: &str, called: &str) -> Result<&'a str, Fault> {
    let given = first(pairs, name).filter(|text| !text.is_empty());
    given.ok_or_else(|| Fault::bad(format!("{called} is required")))
}

/// A signal that was given, as what hashing would have given.
fn as_hashes(admin: &Admin, kind: &str, text: &str) -> Result<Hashes, Fault> {
    let signal = signal(admin, kind, text)?;
    Ok(Hashes::from([(signal.kind(), signal.to_string())]))
}

/// `POST /ui/query_hash` of a form: `signal_type`, `signal_value`, `bypass_enabled_ratio`?
pub async fn query_hash(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    form: Pairs,
) -> Answer {
    on_page(query_hash_of(&admin, &caller, &pairs(form)).await)
}

async fn query_hash_of(admin: &Arc<Admin>, caller: &Caller, pairs: &[(String, String)]) -> Answer {
    let kind = needed(pairs, "signal_type", "Signal type")?;
    let hashes = as_hashes(admin, kind, needed(pairs, "signal_value", "Signal value")?)?;
    matches(admin, caller, hashes, bypasses(first(pairs, "bypass_enabled_ratio"))).await
}

/// `POST /ui/query_url` of a form: `url`, `content_type`, `bypass_enabled_ratio`?
pub async fn query_url(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    form: Pairs,
) -> Answer {
    on_page(query_url_of(&admin, &caller, &pairs(form)).await)
}

async fn query_url_of(admin: &Arc<Admin>, caller: &Caller, pairs: &[(String, String)]) -> Answer {
    let url = needed(pairs, "url", "URL")?;
    needed(pairs, "content_type", "Content type")?;
    let hashes = media::hash_url(admin, url, pairs).await.map_err(|fault| match fault {
        Fault::Message(status, text) => Fault::Message(status, format!("Failed to hash URL content: {text}")),
        other => other,
    })?;
    matches(admin, caller, hashes, bypasses(first(pairs, "bypass_enabled_ratio"))).await
}

/// `POST /ui/query` of a file: `photo` or `video`, `bypass_enabled_ratio`?
pub async fn query_file(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Answer {
    let answer = async {
        let form = Upload::read(&admin, request).await?;
        let bypass = bypasses(form.fields.get("bypass_enabled_ratio").map(String::as_str));
        let hashes = media::hash_upload(&admin, form, &[]).await?;
        matches(&admin, &caller, hashes, bypass).await
    };
    on_page(answer.await)
}

/// What matches each hash, nearest first, with what is said about it.
async fn matches(admin: &Arc<Admin>, caller: &Caller, hashes: Hashes, bypass: bool) -> Answer {
    let state = state(admin, caller)?;
    let mut found: Vec<(SignalType, String, String, Match)> = Vec::new();
    for (kind, text) in &hashes {
        let signal = signal(admin, kind.name(), text)?;
        let coin = if bypass { 0.0 } else { super::coin::flip(None) };
        let gate = Arc::new(Gate::new(&state, None, coin));
        let hits = search(admin, &state, &signal, &gate).await?;
        for (bank, hits) in by_bank(&state, &hits.listed) {
            found.extend(hits.into_iter().map(|hit| (*kind, text.clone(), bank.clone(), hit)));
        }
    }
    found.sort_by_key(|(_, _, _, hit)| hit.nearness.rank());
    let mut banks: Vec<String> = found.iter().map(|(_, _, bank, _)| bank.clone()).collect();
    banks.sort();
    banks.dedup();
    let hashes = media::shown(&hashes);
    let stored = admin.loaded()?.banks.clone();
    blocking(move || {
        let mut shown = Vec::with_capacity(found.len());
        for (at, (kind, text, bank, hit)) in found.iter().enumerate() {
            let mut row = row(*kind, text, hit);
            row["bank_name"] = json!(bank);
            if at < READ_MAX
                && let Some(content) = stored.content_of(hit.bank, hit.content)?
            {
                describe(&mut row, &content);
            }
            shown.push(row);
        }
        Ok(json(&json!({ "banks": banks, "hashes": hashes, "matches": shown })))
    })
    .await
}

fn row(kind: SignalType, text: &str, hit: &Match) -> Value {
    json!({
        "content_id": hit.content,
        "distance": hit.nearness.text(),
        "signal_type": kind.name(),
        "signal_value": text,
    })
}

fn describe(row: &mut Value, content: &StoredContent) {
    if !content.note.is_empty() {
        row["note"] = json!(content.note);
    }
    let metadata = user_metadata(content);
    if !metadata.is_null() {
        row["metadata"] = metadata;
    }
}

/// `POST /ui/bank/NAME/content/find`: contents of one bank that a signal or a URL matches, disabled ones as well.
pub async fn find(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    on_page(find_in(&admin, &caller, &name, &headers, &body).await)
}

async fn find_in(
    admin: &Arc<Admin>,
    caller: &Caller,
    name: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Answer {
    admin.loaded()?.opened(caller, name).map_err(|_| missing(name))?;
    let given = json_body(headers, body)?;
    let field = |name: &str| given.get(name).and_then(Value::as_str);
    let hashes = match (field("url"), field("content_type"), field("signal_type"), field("signal_value")) {
        (Some(url), Some(kind), ..) => {
            let query = [("content_type".to_string(), kind.to_string())];
            media::hash_url(admin, url, &query).await?
        }
        (Some(_), None, ..) => return Err(Fault::bad("content_type required when searching by URL")),
        (None, _, Some(kind), Some(text)) => as_hashes(admin, kind, text)?,
        _ => {
            return Err(Fault::bad(
                "Either 'url' with 'content_type' or 'signal_type' with 'signal_value' required",
            ));
        }
    };
    let state = state(admin, caller)?;
    let gate = Arc::new(Gate::open(&state, Some(name)));
    let (mut rows, mut ids) = (Vec::new(), Vec::new());
    for (kind, text) in &hashes {
        let signal: Signal = signal(admin, kind.name(), text)?;
        for hit in &search(admin, &state, &signal, &gate).await?.listed {
            rows.push(row(*kind, text, hit));
            ids.push(hit.content);
        }
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(json(&json!({ "bank_name": name, "content_ids": ids, "matches": rows })))
}

/// `POST /ui/create_bank` of a form: `bank_name`.
pub async fn create(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    form: Pairs,
) -> Answer {
    let pairs = pairs(form);
    let made = async {
        create_bank(&admin, &caller, &headers, needed(&pairs, "bank_name", "Bank name")?, 1.0).await?;
        Ok(redirect("./"))
    };
    on_page(made.await)
}
