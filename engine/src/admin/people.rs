//! People and their sessions. A wrong name, a wrong password and a person who was switched off are answered alike, after
//! the same time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use reporter::access::{self, Person, PersonWanted, Session, digest};
use reporter::{At, DeskError};
use serde_json::{Value, json};

use super::cases::blocking;
use super::deed::Deed;
use super::guard::{SESSION_COOKIE, cookie};
use super::{Admin, Peer, Refusal};
use crate::access::{Caller, fresh_secret, password};
use crate::clock::now_ms;

/// A working day with its breaks; then one logs in again.
const SESSION: Duration = Duration::from_secs(12 * 3600);
const PASSWORD_BYTES_MAX: usize = 1024;

type Body = Result<Json<Value>, JsonRejection>;

fn shown(person: &Person) -> Value {
    json!({
        "name": person.name, "display_name": person.display_name, "role": person.role,
        "rights": person.role.rights().list(), "created_ms": person.created_ms, "disabled": person.disabled,
    })
}

/// `POST /api/v1/login {"name", "password"}`: a session, in a cookie that no script reads.
pub async fn login(
    State(admin): State<Arc<Admin>>,
    Extension(Peer(peer)): Extension<Peer>,
    body: Body,
) -> Result<Response, Refusal> {
    let Json(body) = body?;
    let at = At::new(&body, "");
    let read = || -> Result<(String, String), DeskError> {
        at.only(&["name", "password"])?;
        Ok((at.need("name")?.text_to(64)?.to_string(), at.need("password")?.text()?.to_string()))
    };
    let (name, given) = read()?;
    let loaded = admin.loaded()?;
    if let Err(wait) = admin.logins.admit(&name, peer, Instant::now()) {
        return Err(Refusal::too_many(wait));
    }
    let known = admin.door.directory().people.get(&name).filter(|person| !person.disabled).cloned();
    if !is_right(&admin, given, known.as_ref().map(|person| person.password.clone())).await? {
        // Remembered whether or not there is such a person, so that it takes as long.
        let failed = Deed::by(format!("address:{peer}"), "login.failed", format!("person {}", named(&name)));
        loaded.act(failed, |_, _| Ok(())).await?;
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "name or password is wrong"));
    }
    let Some(person) = known else { return Err(Refusal::interrupted()) };
    admin.logins.succeeded(&name);
    let secret =
        || fresh_secret().map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()));
    let (token, csrf, now_ms) = (secret()?, secret()?, now_ms());
    let until_ms = now_ms + SESSION.as_millis() as u64;
    let begun =
        Session { digest: digest(&token), person: person.name.clone(), since_ms: now_ms, until_ms, csrf };
    let body = told(&person, &begun);
    let deed = Deed::by(format!("person:{name}"), "login", format!("address {peer}"));
    let logged_in = loaded.act(deed, move |turn, _| {
        access::begin_session(&mut turn.tx, &begun, now_ms)?;
        turn.people_changed = true;
        Ok(())
    });
    logged_in.await?;
    let cookie =
        format!("{SESSION_COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/; Max-Age={}", SESSION.as_secs());
    Ok((with_cookie(cookie), Json(body)).into_response())
}

/// A name that somebody tried, as a record may hold it: who types a password there has it in no log.
fn named(name: &str) -> &str {
    let given = json!(name);
    if At::new(&given, "").login().is_ok() { name } else { "?" }
}

fn with_cookie(cookie: String) -> [(header::HeaderName, String); 2] {
    [(header::SET_COOKIE, cookie), (header::CACHE_CONTROL, "no-store".to_string())]
}

/// Compares a password, at the CPUs' pace: a login takes one for a while.
async fn is_right(admin: &Admin, given: String, hash_of: Option<String>) -> Result<bool, Refusal> {
    let turn = admin.turns.people().await?;
    blocking(move || {
        let _turn = turn;
        Ok(given.len() <= PASSWORD_BYTES_MAX && password::is_right(&given, hash_of.as_deref()))
    })
    .await
}

async fn hashed(admin: &Admin, given: String) -> Result<String, Refusal> {
    let turn = admin.turns.people().await?;
    let hash = blocking(move || {
        let _turn = turn;
        password::hash(&given)
            .map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
    });
    hash.await
}

/// What a page needs to know of who uses it.
fn told(person: &Person, session: &Session) -> Value {
    let mut told = shown(person);
    told["csrf"] = json!(session.csrf);
    told["until_ms"] = json!(session.until_ms);
    told
}

/// `GET /api/v1/session`: who one is, and what one may do.
pub async fn session(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Response {
    let directory = admin.door.directory();
    let session = cookie(&headers).and_then(|token| directory.session(&digest(token), now_ms()));
    let body = match session {
        Some((session, person)) if caller.person().is_some() => told(person, session),
        _ => json!({ "name": caller.name(), "rights": caller.rights.list() }),
    };
    ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// `POST /api/v1/logout`: ends the session.
pub async fn logout(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    if let Some(ended) = cookie(&headers).map(digest) {
        let logged_out = admin.loaded()?.act(Deed::new(&caller, "logout", "session"), move |turn, _| {
            access::end_session(&mut turn.tx, &ended);
            turn.people_changed = true;
            Ok(())
        });
        logged_out.await?;
    }
    let gone = format!("{SESSION_COOKIE}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0");
    Ok((StatusCode::NO_CONTENT, with_cookie(gone)).into_response())
}

/// `PUT /api/v1/session/password {"old", "new"}`: a new password of one's own; all sessions end.
pub async fn change_password(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Extension(Peer(peer)): Extension<Peer>,
    body: Body,
) -> Result<StatusCode, Refusal> {
    let Json(body) = body?;
    let at = At::new(&body, "");
    let read = || -> Result<(String, String), DeskError> {
        at.only(&["old", "new"])?;
        Ok((at.need("old")?.text()?.to_string(), at.need("new")?.text()?.to_string()))
    };
    let (old, new) = read()?;
    let Some(name) = caller.person().map(str::to_string) else {
        return Err(Refusal::bad("only a person who is logged in has a password"));
    };
    if let Err(wait) = admin.logins.admit(&name, peer, Instant::now()) {
        return Err(Refusal::too_many(wait));
    }
    let hash_of = admin.door.directory().people.get(&name).map(|person| person.password.clone());
    if !is_right(&admin, old, hash_of).await? {
        return Err(DeskError::field("/old", "is not your password").into());
    }
    admin.logins.succeeded(&name);
    password::check(&new, &name).map_err(DeskError::from)?;
    let wanted = PersonWanted { password: Some(hashed(&admin, new).await?), ..PersonWanted::default() };
    put(&admin, &caller, name, wanted).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /api/v1/people`
pub async fn list(State(admin): State<Arc<Admin>>) -> Json<Vec<Value>> {
    Json(admin.door.directory().people.values().map(shown).collect())
}

/// `GET /api/v1/people/{name}`
pub async fn show(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Result<Json<Value>, Refusal> {
    let directory = admin.door.directory();
    let person = directory.people.get(&name);
    Ok(Json(shown(person.ok_or(DeskError::NotFound { what: "person", name })?)))
}

/// The password that is given for somebody.
async fn read_password(admin: &Admin, at: &At<'_>, name: &str) -> Result<Option<String>, Refusal> {
    let read = || -> Result<Option<String>, DeskError> {
        let Some(given) = at.field("password")? else { return Ok(None) };
        password::check(given.text()?, name)?;
        Ok(Some(given.text()?.to_string()))
    };
    match read()? {
        Some(given) => Ok(Some(hashed(admin, given).await?)),
        None => Ok(None),
    }
}

/// `POST /api/v1/people {"name", "role", "password", "display_name"?}`
pub async fn add(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let Json(body) = body?;
    let at = At::new(&body, "");
    let read = || -> Result<(String, PersonWanted), DeskError> {
        at.need("role")?;
        at.need("password")?;
        Ok((at.need("name")?.login()?, PersonWanted::read(&at)?))
    };
    let (name, mut wanted) = read()?;
    wanted.password = read_password(&admin, &at, &name).await?;
    let deed =
        Deed::new(&caller, "people.add", format!("person {name}")).with(json!({ "role": wanted.role }));
    let added = admin.loaded()?.act(deed, move |turn, _| {
        let person = wanted.applied(Person::new(name, turn.terms.now_ms));
        access::add_person(&mut turn.tx, &person)?;
        turn.people_changed = true;
        Ok(person)
    });
    Ok((StatusCode::CREATED, Json(shown(&added.await?))))
}

/// `PUT /api/v1/people/{name}`: changes what is given. Whoever may do less than before must log in again.
pub async fn change(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<Value>, Refusal> {
    let Json(body) = body?;
    let at = At::new(&body, "");
    let mut wanted = PersonWanted::read(&at).map_err(DeskError::from)?;
    wanted.password = read_password(&admin, &at, &name).await?;
    Ok(Json(shown(&put(&admin, &caller, name, wanted).await?)))
}

async fn put(admin: &Admin, caller: &Caller, name: String, wanted: PersonWanted) -> Result<Person, Refusal> {
    let details = json!({
        "role": wanted.role, "disabled": wanted.disabled, "password": wanted.password.is_some(),
    });
    let deed = Deed::new(caller, "people.change", format!("person {name}")).with(details);
    let changed = admin.loaded()?.act(deed, move |turn, _| {
        turn.people_changed = true;
        access::change_person(&mut turn.tx, &name, wanted)
    });
    Ok(changed.await?)
}
