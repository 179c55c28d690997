//! Keys of machines: made and rotated here, their secrets shown once.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use reporter::access::{self, Budget, Key, KeyWanted, digest};
use reporter::{At, DeskError, FieldError};
use serde_json::{Value, json};

use super::deed::Deed;
use super::{Admin, Refusal};
use crate::access::{Caller, fresh_key};
use crate::clock::now_ms;

type Body = Result<Json<Value>, JsonRejection>;

/// A key as it is shown: never its secret, nor what that is compared with.
fn shown(key: &Key, now_ms: u64) -> Value {
    let before_until_ms = key.before.map(|(_, until_ms)| until_ms).filter(|until_ms| now_ms < *until_ms);
    json!({
        "number": key.number, "name": key.name, "tenant": key.tenant, "scopes": key.scopes,
        "rights": key.rights().list(),
        "budget": key.budget, "created_ms": key.created_ms, "created_by": key.created_by,
        "rotated_ms": key.rotated_ms, "before_until_ms": before_until_ms, "expires_ms": key.expires_ms,
        "disabled": key.disabled, "frozen": key.frozen,
    })
}

/// With the secret, which nobody may keep but who asked.
fn with_secret(status: StatusCode, key: &Key, secret: &str) -> Response {
    let mut body = shown(key, now_ms());
    body["secret"] = json!(secret);
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// What a record says of a key.
fn told(key: &Key) -> Value {
    json!({ "number": key.number, "tenant": key.tenant, "scopes": key.scopes, "disabled": key.disabled })
}

fn number(text: &str) -> Result<u64, Refusal> {
    text.parse().map_err(|_| Refusal::bad(format!("'{text}' is not a key's number")))
}

fn no_randomness(error: std::io::Error) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the system gives no random bytes: {error}"))
}

/// `GET /api/v1/keys`
pub async fn list(State(admin): State<Arc<Admin>>) -> Json<Vec<Value>> {
    let now_ms = now_ms();
    Json(admin.door.directory().keys.values().map(|key| shown(key, now_ms)).collect())
}

/// `GET /api/v1/keys/{number}`
pub async fn show(
    State(admin): State<Arc<Admin>>,
    Path(given): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let directory = admin.door.directory();
    let key = directory.keys.get(&number(&given)?);
    let key = key.ok_or(DeskError::NotFound { what: "key", name: given })?;
    Ok(Json(shown(key, now_ms())))
}

/// `POST /api/v1/keys {"name", "scopes", "tenant"?, "budget"?, "expires_ms"?}`: the secret is in this answer and nowhere else.
pub async fn add(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Response, Refusal> {
    let Json(body) = body?;
    let at = At::new(&body, "");
    let read = || -> Result<KeyWanted, DeskError> {
        at.need("name")?;
        at.need("scopes")?;
        Ok(KeyWanted::read(&at)?)
    };
    let (wanted, by) = (read()?, caller.name());
    let made = admin.loaded()?.act(Deed::new(&caller, "key.add", "key"), move |turn, deed| {
        let number = access::next_key(&mut turn.tx)?;
        let secret = fresh_key(number).map_err(|error| DeskError::Conflict { problem: error.to_string() })?;
        let mut key = Key {
            number,
            name: String::new(),
            scopes: Vec::new(),
            budget: Budget::default(),
            digest: digest(&secret),
            tenant: wanted.tenant.clone(),
            before: None,
            created_ms: turn.terms.now_ms,
            created_by: by,
            rotated_ms: turn.terms.now_ms,
            expires_ms: None,
            disabled: false,
            frozen: None,
        };
        wanted.apply(&mut key)?;
        access::put_key(&mut turn.tx, &key);
        turn.people_changed = true;
        deed.tell(told(&key));
        Ok((key, secret))
    });
    let (key, secret) = made.await?;
    Ok(with_secret(StatusCode::CREATED, &key, &secret))
}

/// `PUT /api/v1/keys/{number}`: changes what is given.
pub async fn change(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(given): Path<String>,
    body: Body,
) -> Result<Json<Value>, Refusal> {
    let (number, Json(body)) = (number(&given)?, body?);
    let wanted = KeyWanted::read(&At::new(&body, "")).map_err(DeskError::from)?;
    changed(&admin, &caller, "key.change", number, |key| wanted.apply(key)).await
}

/// `POST /api/v1/keys/{number}/thaw`: lets a frozen key ask again.
pub async fn thaw(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(given): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let number = number(&given)?;
    let thawed = changed(&admin, &caller, "key.thaw", number, |key| {
        key.frozen = None;
        Ok(())
    })
    .await?;
    admin.door.thaw(number);
    Ok(thawed)
}

async fn changed(
    admin: &Admin,
    caller: &Caller,
    action: &str,
    number: u64,
    change: impl FnOnce(&mut Key) -> Result<(), FieldError> + Send + 'static,
) -> Result<Json<Value>, Refusal> {
    let deed = Deed::new(caller, action, format!("key {number}"));
    let changed = admin.loaded()?.act(deed, move |turn, deed| {
        let mut key = access::key(&turn.tx, number)?;
        change(&mut key)?;
        access::put_key(&mut turn.tx, &key);
        turn.people_changed = true;
        deed.tell(told(&key));
        Ok(key)
    });
    Ok(Json(shown(&changed.await?, now_ms())))
}

/// `POST /api/v1/keys/{number}/rotate {"grace_seconds"?}`: a new secret; the one before opens for so long yet.
pub async fn rotate(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(given): Path<String>,
    body: Body,
) -> Result<Response, Refusal> {
    let (number, Json(body)) = (number(&given)?, body?);
    let grace_seconds = Key::read_grace(&At::new(&body, "")).map_err(DeskError::from)?;
    let secret = fresh_key(number).map_err(no_randomness)?;
    let new = digest(&secret);
    let deed = Deed::new(&caller, "key.rotate", format!("key {number}"));
    let deed = deed.with(json!({ "grace_seconds": grace_seconds }));
    let rotated = admin.loaded()?.act(deed, move |turn, _| {
        let mut key = access::key(&turn.tx, number)?;
        key.rotate(new, grace_seconds, turn.terms.now_ms);
        access::put_key(&mut turn.tx, &key);
        turn.people_changed = true;
        Ok(key)
    });
    Ok(with_secret(StatusCode::OK, &rotated.await?, &secret))
}

/// `DELETE /api/v1/keys/{number}`
pub async fn remove(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(given): Path<String>,
) -> Result<StatusCode, Refusal> {
    let number = number(&given)?;
    let deed = Deed::new(&caller, "key.remove", format!("key {number}"));
    let removed = admin.loaded()?.act(deed, move |turn, _| {
        access::key(&turn.tx, number)?;
        access::forget_key(&mut turn.tx, number);
        turn.people_changed = true;
        Ok(())
    });
    removed.await?;
    Ok(StatusCode::NO_CONTENT)
}
