//! `/c/bank/NAME/signal` and `/c/bank/NAME/content`: what a bank holds.

use std::fmt::Display;
use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::http::{HeaderMap, header};
use index::bank::{BankChange, NewContent, StoredContent};
use index::{ContentId, Signal, SignalType};
use serde_json::{Map, Value, json};

use super::super::cases::blocking;
use super::Admin;
use super::answer::{Answer, Fault, json};
use super::banks::{change, missing, shown};
use super::fields::{Pairs, first, json_body, type_name};
use super::media::{self, Upload};
use super::signals::{installed, parse};
use crate::access::Caller;

/// Characters of a note.
const NOTE_MAX: usize = 255;
/// How far ahead a content may be disabled.
const AHEAD_MAX_S: u64 = 5 * 365 * 24 * 3600;

/// `POST /c/bank/NAME/signal {"<type>": "<signal>", …, "note"?}`
pub async fn add_signals(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(bank): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    known(&admin, &caller, &bank)?;
    let Value::Object(mut given) = json_body(&headers, &body)? else {
        return Err(Fault::bad("Request input was not a dict"));
    };
    let note = note(given.remove("note"))?;
    if given.is_empty() {
        return Err(Fault::bad("No signals given"));
    }
    let mut signals = Vec::with_capacity(given.len());
    for (kind, text) in &given {
        let kind =
            installed(&admin, kind).ok_or_else(|| Fault::bad(format!("No such signal type {kind}")))?;
        signals.push(parse_value(kind, text)?);
    }
    add(&admin, &caller, &headers, bank, NewContent { signals, note, metadata: String::new() }).await
}

fn parse_value(kind: SignalType, value: &Value) -> Result<Signal, Fault> {
    let parsed = match value {
        Value::String(text) => parse(kind, text),
        other => Err(format!("expected string or bytes-like object, got '{}'", type_name(other))),
    };
    parsed.map_err(|fault| Fault::bad(format!("Invalid {kind} signal: {fault}")))
}

fn known(admin: &Admin, caller: &Caller, bank: &str) -> Result<(), Fault> {
    admin.loaded()?.opened(caller, bank).map(|_| ()).map_err(|_| missing(bank))
}

fn note(value: Option<Value>) -> Result<String, Fault> {
    match value.unwrap_or_default() {
        Value::Null => Ok(String::new()),
        Value::String(note) if note.chars().count() > NOTE_MAX => {
            Err(Fault::bad(format!("note must be at most {NOTE_MAX} characters")))
        }
        Value::String(note) => Ok(note),
        _ => Err(Fault::bad("note should be a string")),
    }
}

async fn add(
    admin: &Admin,
    caller: &Caller,
    headers: &HeaderMap,
    bank: String,
    content: NewContent,
) -> Answer {
    let signals = shown_signals(&content.signals);
    let answer = change(admin, caller, headers, BankChange::Add { bank, contents: vec![content] }).await?;
    Ok(json(&json!({ "id": answer.first_content, "signals": signals })))
}

fn shown_signals(signals: &[Signal]) -> Value {
    signals.iter().map(|signal| (signal.kind().name().to_string(), json!(signal.to_string()))).collect()
}

/// `POST /c/bank/NAME/content?url=…` or with a file: hashes it and adds its signals.
pub async fn add_media(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(bank): Path<String>,
    Query(query): Pairs,
    request: Request,
) -> Answer {
    known(&admin, &caller, &bank)?;
    let headers = request.headers().clone();
    let (hashes, metadata, note_given) = if let Some(url) = first(&query, "url") {
        let body = Bytes::from_request(request, &()).await.map_err(|error| Fault::bad(error.to_string()))?;
        let about = if body.is_empty() { Value::Null } else { json_body(&headers, &body)? };
        let field = |name: &str| about.get(name).cloned();
        let (metadata, note_given) = (metadata(field("metadata"))?, note(field("note"))?);
        (media::hash_url(&admin, url, &query).await?, metadata, note_given)
    } else if is_multipart(&headers) {
        let form = Upload::read(&admin, request).await?;
        let field = |name: &str| form.fields.get(name).cloned();
        let about = field("metadata").filter(|text| !text.is_empty()).map(|text| {
            serde_json::from_str(&text).map_err(|_| Fault::bad("metadata form field must be valid JSON"))
        });
        let (metadata, note_given) = (metadata(about.transpose()?)?, note(field("note").map(Value::String))?);
        (media::hash_upload(&admin, form, &query).await?, metadata, note_given)
    } else {
        return Err(Fault::bad("Neither `url` nor multipart file upload was received"));
    };
    let mut signals = Vec::with_capacity(hashes.len());
    for (kind, text) in &hashes {
        signals.push(parse_value(*kind, &json!(text))?);
    }
    if signals.is_empty() {
        return Err(Fault::bad("No signals given"));
    }
    add(&admin, &caller, &headers, bank, NewContent { signals, note: note_given, metadata }).await
}

/// Whether a body is a form with files.
pub fn is_multipart(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.to_ascii_lowercase().starts_with("multipart/form-data")
}

/// Metadata as it is kept: a JSON object of three fields, or nothing.
fn metadata(value: Option<Value>) -> Result<String, Fault> {
    let given = match value.unwrap_or_default() {
        Value::Null => return Ok(String::new()),
        Value::Object(given) => given,
        _ => return Err(Fault::bad("metadata should be a json object")),
    };
    let mut kept = Map::new();
    for (name, value) in given {
        let fault = match (name.as_str(), &value) {
            ("collab", _) => continue, // says where an exchange had it from; nobody else may
            (_, Value::Null) => None,
            ("content_id" | "content_uri", Value::String(_)) | ("json", Value::Object(_)) => None,
            ("content_id" | "content_uri", _) => Some(("Input should be a valid string", "string_type")),
            ("json", _) => Some(("Input should be a valid dictionary", "dict_type")),
            _ => Some(("Extra inputs are not permitted", "extra_forbidden")),
        };
        if let Some((says, kind)) = fault {
            let shown: String = value.to_string().chars().take(64).collect();
            return Err(Fault::bad(format!(
                "Invalid metadata: 1 validation error for BankedContentMetadata\n{name}\n  {says} [type={kind}, \
                 input_value={shown}, input_type={}]\n    For further information visit \
                 https://errors.pydantic.dev/2.14/v/{kind}",
                type_name(&value)
            )));
        }
        kept.insert(name, value);
    }
    Ok(if kept.is_empty() { String::new() } else { Value::Object(kept).to_string() })
}

fn no_content(id: impl Display) -> Fault {
    Fault::missing(format!("content '{id}' not found"))
}

/// A content by its id alone, as in HMA: any bank that exists may stand in the path.
async fn find(
    admin: &Arc<Admin>,
    caller: &Caller,
    bank: &str,
    id: &str,
) -> Result<Option<StoredContent>, Fault> {
    let id = id.parse().map(ContentId).map_err(|_| Fault::NoRoute)?;
    known(admin, caller, bank)?;
    let loaded = admin.loaded()?;
    let (banks, state) = (loaded.banks.clone(), loaded.banks_of(caller));
    let found = blocking(move || banks.content(id).map_err(Fault::from)).await?;
    // A content of a bank that the caller may not read is not there.
    let opens = |content: &StoredContent| {
        let bank = state.directory.get(content.bank);
        bank.is_some_and(|bank| state.directory.opens(&bank.name))
    };
    Ok(found.filter(opens))
}

fn bank_of(admin: &Admin, content: &StoredContent) -> Result<(String, Value), Fault> {
    let state = admin.loaded()?.banks.state_owned();
    let bank = state.directory.get(content.bank).ok_or_else(|| no_content(content.content))?;
    Ok((bank.name.to_string(), shown(bank)))
}

/// All metadata, of persons and exchanges; `null` if none.
fn metadata_of(content: &StoredContent) -> Value {
    serde_json::from_str(&content.metadata).unwrap_or_default()
}

/// The metadata a person gave; `null` if none.
pub fn user_metadata(content: &StoredContent) -> Value {
    match metadata_of(content) {
        Value::Object(mut given) => {
            given.remove("collab");
            if given.is_empty() { Value::Null } else { Value::Object(given) }
        }
        other => other,
    }
}

/// `GET /c/bank/NAME/content/ID[?include_signals=true][&include_metadata=false]`
pub async fn show(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path((bank, id)): Path<(String, String)>,
    Query(query): Pairs,
) -> Answer {
    let content = find(&admin, &caller, &bank, &id).await?.ok_or_else(|| no_content(&id))?;
    let asked = |name: &str, default: bool| match first(&query, name) {
        Some(word) => word.eq_ignore_ascii_case("true"),
        None => default,
    };
    let (_, bank) = bank_of(&admin, &content)?;
    let mut answer = json!({
        "bank": bank,
        "disable_until_ts": content.disabled_until,
        "id": content.content,
        "original_media_uri": null,
    });
    if !content.note.is_empty() {
        answer["note"] = json!(content.note);
    }
    if asked("include_signals", false) {
        answer["signals"] = shown_signals(&content.signals);
    }
    let metadata = metadata_of(&content);
    if asked("include_metadata", true) && !metadata.is_null() {
        let field = |name: &str| metadata.get(name).cloned().unwrap_or_default();
        answer["metadata"] = json!({
            "collab": field("collab"),
            "content_id": field("content_id"),
            "content_uri": field("content_uri"),
            "json": field("json"),
        });
    }
    Ok(json(&answer))
}

/// `PUT /c/bank/NAME/content/ID {"disable_until_ts"?, "note"?}`
pub async fn update(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path((bank, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let content = find(&admin, &caller, &bank, &id).await?.ok_or_else(|| no_content(&id))?;
    let given = json_body(&headers, &body)?;
    let until = given.get("disable_until_ts").map(second).transpose()?;
    let new_note = given.get("note").map(|value| note(Some(value.clone()))).transpose()?;
    let (bank, _) = bank_of(&admin, &content)?;
    let edit = BankChange::Edit { bank, content: content.content, note: new_note, disabled_until: until };
    change(&admin, &caller, &headers, edit).await?;
    let banks = admin.loaded()?.banks.clone();
    let id = content.content;
    let content = blocking(move || banks.content(id).map_err(Fault::from)).await?;
    let content = content.ok_or_else(|| no_content(id))?;
    let (_, bank) = bank_of(&admin, &content)?;
    Ok(json(&json!({
        "bank": bank,
        "collab_metadata": {},
        "disable_until_ts": content.disabled_until,
        "id": content.content,
        "note": if content.note.is_empty() { Value::Null } else { json!(content.note) },
        "original_media_uri": null,
        "user_metadata": user_metadata(&content),
    })))
}

fn second(value: &Value) -> Result<u64, Fault> {
    let number = match value {
        Value::Number(number) => number.as_i64().or(number.as_f64().map(|number| number as i64)),
        Value::Bool(truth) => Some(i64::from(*truth)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let shown = || match value {
        Value::String(text) => format!("'{}'", text.chars().take(64).collect::<String>()),
        Value::Null => "None".to_string(),
        other => other.to_string().chars().take(64).collect(),
    };
    let number = number.ok_or_else(|| Fault::bad(format!("Invalid int: {}", shown())))?;
    let number =
        u64::try_from(number).map_err(|_| Fault::bad("disable_until_ts must be a non-negative integer"))?;
    if number >= crate::clock::now_s() + AHEAD_MAX_S {
        return Err(Fault::bad("disable_until_ts must be less than 5 years in the future"));
    }
    Ok(number)
}

/// `DELETE /c/bank/NAME/content/ID`
pub async fn remove(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path((bank, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    let Some(content) = find(&admin, &caller, &bank, &id).await? else {
        return Ok(json(&json!({ "deleted": 0 })));
    };
    let (bank, _) = bank_of(&admin, &content)?;
    let answer =
        change(&admin, &caller, &headers, BankChange::Remove { bank, content: content.content }).await?;
    Ok(json(&json!({ "deleted": answer.contents })))
}
