//! Banks over HTTP: list, make, show, remove; add and remove contents.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use index::bank::{Bank, BankAnswer, BankChange, Event, NewContent};
use index::{ContentId, Distance, RequestId, Signal, SignalType};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::cases::blocking;
use super::{Admin, Refusal, lookup};
use crate::access::Caller;

/// A bank as shown.
#[derive(Serialize)]
pub struct BankShown {
    id: u32,
    name: String,
    created_ms: u64,
    /// Share of the sampled lookups it takes part in; 0 is off.
    enabled_ratio: f64,
    /// Bits in which PDQ hashes may differ from its own; null is the type's.
    threshold: Option<Distance>,
    contents: u64,
    signals: BTreeMap<&'static str, u64>,
}

impl From<&Bank> for BankShown {
    fn from(bank: &Bank) -> Self {
        Self {
            id: bank.id.0,
            name: bank.name.to_string(),
            created_ms: bank.created_ms,
            enabled_ratio: bank.enabled_ratio,
            threshold: bank.threshold,
            contents: bank.contents,
            signals: SignalType::ALL.iter().map(|kind| kind.name()).zip(bank.signals).collect(),
        }
    }
}

/// `GET /api/v1/banks`
pub async fn list(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Vec<BankShown>>, Refusal> {
    let state = admin.loaded()?.banks_of(&caller);
    Ok(Json(state.directory.list().into_iter().map(BankShown::from).collect()))
}

/// `GET /api/v1/banks/{name}`
pub async fn show(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<BankShown>, Refusal> {
    let state = admin.loaded()?.banks_of(&caller);
    state.directory.named(&name).map(|bank| Json(bank.into())).ok_or_else(|| no_bank(&name))
}

/// The refusal for a bank that is not there.
pub fn no_bank(name: &str) -> Refusal {
    let name: String = name.chars().take(64).collect();
    Refusal::not_found(format!("bank '{name}' not found; `hashward bank list` shows the banks there are"))
}

/// Body of a bank's creation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewBank {
    name: String,
}

/// `POST /api/v1/banks`
pub async fn create(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Result<Json<NewBank>, JsonRejection>,
) -> Result<(StatusCode, Json<BankAnswer>), Refusal> {
    let Json(NewBank { name }) = body?;
    Ok((
        StatusCode::CREATED,
        change(&admin, &caller, &headers, BankChange::Create { name, enabled_ratio: 1.0 }).await?,
    ))
}

/// Body of a bank's change; what is absent stays.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BankEdit {
    name: Option<String>,
    enabled_ratio: Option<f64>,
    /// Null takes its own threshold away.
    #[serde(default, deserialize_with = "given")]
    threshold: Option<Option<u16>>,
}

/// A field that is there, be it null.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<u16>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// `PUT /api/v1/banks/{name} {"name"?, "enabled_ratio"?, "threshold"?}`
pub async fn update(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Path(name): Path<String>,
    body: Result<Json<BankEdit>, JsonRejection>,
) -> Result<Json<BankAnswer>, Refusal> {
    let Json(BankEdit { name: new_name, enabled_ratio, threshold }) = body?;
    if enabled_ratio.is_some_and(|ratio| !(0.0..=1.0).contains(&ratio)) {
        return Err(Refusal::bad("enabled_ratio is 0 (off) to 1 (always)"));
    }
    let threshold = threshold
        .map(|bits| bits.map(|bits| lookup::threshold(SignalType::Pdq, Some(bits))).transpose())
        .transpose()?;
    change(&admin, &caller, &headers, BankChange::Update { name, new_name, enabled_ratio, threshold }).await
}

/// `GET /api/v1/banks/{name}/history`: what happened to the bank itself, oldest first.
pub async fn history(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Vec<Event>>, Refusal> {
    let loaded = admin.loaded()?;
    let (banks, id) = (loaded.banks.clone(), loaded.opened(&caller, &name)?);
    blocking(move || Ok(Json(banks.bank_history(id)?))).await
}

/// `DELETE /api/v1/banks/{name}`; deleting what is not there is done already.
pub async fn remove(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Result<Json<BankAnswer>, Refusal> {
    change(&admin, &caller, &headers, BankChange::Delete { name }).await
}

/// Body of a content's addition: `{"signals": {"pdq": "…"}, "note": "…", "metadata": {…}}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContentBody {
    signals: BTreeMap<String, String>,
    #[serde(default)]
    note: String,
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
}

/// `POST /api/v1/banks/{name}/contents`
pub async fn add(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Path(bank): Path<String>,
    body: Result<Json<ContentBody>, JsonRejection>,
) -> Result<(StatusCode, Json<BankAnswer>), Refusal> {
    let Json(ContentBody { signals, note, metadata }) = body?;
    let signals = signals
        .iter()
        .map(|(kind, text)| Signal::parse(SignalType::from_name(kind)?, text))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Refusal::bad(error.to_string()))?;
    let metadata = metadata.map_or_else(String::new, |metadata| Value::Object(metadata).to_string());
    let contents = vec![NewContent { signals, note, metadata }];
    Ok((StatusCode::CREATED, change(&admin, &caller, &headers, BankChange::Add { bank, contents }).await?))
}

/// `DELETE /api/v1/banks/{name}/contents/{content}`; removing what is not there is done already.
pub async fn remove_content(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Path((bank, content)): Path<(String, String)>,
) -> Result<Json<BankAnswer>, Refusal> {
    let content = content
        .parse()
        .map(ContentId)
        .map_err(|_| Refusal::bad(format!("'{content}' is not a content id")))?;
    change(&admin, &caller, &headers, BankChange::Remove { bank, content }).await
}

async fn change(
    admin: &Admin,
    caller: &Caller,
    headers: &HeaderMap,
    change: BankChange,
) -> Result<Json<BankAnswer>, Refusal> {
    let id = request_id(headers)?;
    let answer = admin.loaded()?.curator.change(caller.asks(id, change)).await?;
    Ok(Json(answer))
}

/// The client-made id that makes a change replayable, from the `Idempotency-Key` header.
pub fn request_id(headers: &HeaderMap) -> Result<Option<RequestId>, Refusal> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim_matches('"');
    text.parse().map(Some).map_err(|error| Refusal::bad(format!("Idempotency-Key: {error}")))
}
