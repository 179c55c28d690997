//! `/c/banks` and `/c/bank/NAME`.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use index::bank::{Bank, BankAnswer, BankChange, BankError};
use serde_json::{Value, json};

use super::super::banks::request_id;
use super::Admin;
use super::answer::{Answer, Fault, json, json_with, message};
use super::fields::Fields;
use crate::access::Caller;

/// A bank as HMA shows it.
pub fn shown(bank: &Bank) -> Value {
    json!({ "matching_enabled_ratio": bank.enabled_ratio, "name": &*bank.name })
}

/// Makes one change of banks.
pub async fn change(
    admin: &Admin,
    caller: &Caller,
    headers: &HeaderMap,
    change: BankChange,
) -> Result<BankAnswer, Fault> {
    let id = request_id(headers)?;
    Ok(admin.loaded()?.curator.change(caller.asks(id, change)).await?)
}

/// `GET /c/banks`
pub async fn list(State(admin): State<Arc<Admin>>, Extension(caller): Extension<Caller>) -> Answer {
    let state = admin.loaded()?.banks_of(&caller);
    let banks: Vec<Value> = state.directory.list().into_iter().map(shown).collect();
    Ok(json(&Value::Array(banks)))
}

/// `GET /c/bank/NAME`
pub async fn show(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer {
    let state = admin.loaded()?.banks_of(&caller);
    let bank = state.directory.named(&name).ok_or_else(|| missing(&name))?;
    Ok(json(&shown(bank)))
}

/// The refusal for a bank that is not there.
pub fn missing(name: &str) -> Fault {
    Fault::missing(format!("bank '{name}' not found"))
}

/// `POST /c/banks {"name", "enabled_ratio"?, "enabled"?}`
pub async fn create(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let mut fields = Fields::of_body(&headers, &body, "BankCreateRequest")?;
    let (name, ratio, enabled) =
        (fields.text("name"), fields.number("enabled_ratio"), fields.truth("enabled"));
    fields.done()?;
    // The ratio has a default and wins, so `enabled` alone does nothing, as in HMA.
    let ratio = match ratio {
        None => 1.0,
        Some(Some(ratio)) => ratio,
        Some(None) => f64::from(u8::from(enabled.unwrap_or(true))),
    };
    create_bank(&admin, &caller, &headers, &name, ratio).await?;
    Ok(json_with(StatusCode::CREATED, &json!({ "matching_enabled_ratio": ratio, "name": name })))
}

/// Makes a bank that matches in this share of lookups.
pub async fn create_bank(
    admin: &Admin,
    caller: &Caller,
    headers: &HeaderMap,
    name: &str,
    ratio: f64,
) -> Result<(), Fault> {
    let made = BankChange::Create { name: name.to_string(), enabled_ratio: ratio };
    change(admin, caller, headers, made).await.map(|_| ())
}

/// `PUT /c/bank/NAME {"name"?, "enabled"?, "enabled_ratio"?}`
pub async fn update(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let mut fields = Fields::of_body(&headers, &body, "BankUpdateRequest")?;
    let enabled = fields.truth("enabled");
    let ratio = fields.number("enabled_ratio").flatten();
    let new_name = fields.optional_text("name");
    fields.done()?;
    let wanted = ratio.or(enabled.map(|enabled| f64::from(u8::from(enabled))));
    let request = BankChange::Update {
        name: name.clone(),
        new_name: new_name.clone(),
        enabled_ratio: wanted,
        threshold: None,
    };
    match change(&admin, &caller, &headers, request).await {
        Err(Fault::Message(StatusCode::NOT_FOUND, _)) => return Err(Fault::missing("Bank not found")),
        Err(Fault::Message(StatusCode::FORBIDDEN, _)) => {
            return Err(Fault::Message(StatusCode::FORBIDDEN, "Bank name already exists".into()));
        }
        other => other?,
    };
    let name = new_name.unwrap_or(name);
    let state = admin.loaded()?.banks_of(&caller);
    let bank = state.directory.named(&name).ok_or_else(|| BankError::NotFound { name: name.clone() })?;
    let mut answer = shown(bank);
    // What was just switched is answered as the number that was set: 0 or 1, without a fraction.
    if let (Some(enabled), None) = (enabled, ratio) {
        answer["matching_enabled_ratio"] = json!(u8::from(enabled));
    }
    Ok(json(&answer))
}

/// `DELETE /c/bank/NAME`; one that is not there is gone already.
pub async fn remove(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Answer {
    change(&admin, &caller, &headers, BankChange::Delete { name }).await?;
    Ok(message(StatusCode::OK, "Done"))
}
