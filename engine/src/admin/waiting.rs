//! What waits: items that are not settled yet and why, deliveries that were not understood, decisions to be reported.

use std::sync::Arc;
use std::thread;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use index::store::Keyspace;
use reporter::desk::intake::{self, Arrival};
use reporter::desk::item::{self, Item, ItemKey, Report, items_of};
use reporter::desk::outbox::{self, Filing};
use reporter::{Census, DeskError, Tx, read_row};
use serde::Deserialize;
use serde_json::{Value, json};

use super::cases::blocking;
use super::deed::Deed;
use super::{Admin, Refusal};
use crate::access::Caller;
use crate::nice::give_way;

const PAGE_MAX: usize = 1000;

/// Which part of a list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitingQuery {
    /// Those after this one, as `next` has it.
    after: Option<String>,
    /// At most; 100 if absent, 1000 at most.
    limit: Option<usize>,
}

/// `GET /api/v1/intake[?after=…][&limit=N]`: items that wait, in the order in which they are tried.
pub async fn intake(
    State(admin): State<Arc<Admin>>,
    query: Result<Query<WaitingQuery>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let Query(query) = query?;
    let after = match query.after.as_deref() {
        None => None,
        Some(text) => Some(
            text.split_once('-')
                .and_then(|(due, number)| Some((due.parse().ok()?, number.parse().ok()?)))
                .ok_or_else(|| Refusal::bad("after: use what 'next' has"))?,
        ),
    };
    let limit = query.limit.unwrap_or(100).clamp(1, PAGE_MAX);
    let store = admin.loaded()?.cases.clone();
    blocking(move || {
        let mut entries: Vec<Arrival> = intake::waiting(&Tx::new(&*store), after, limit + 1)?;
        let more = entries.len() > limit;
        entries.truncate(limit);
        let mut page = json!({ "entries": entries });
        if let Some(last) = entries.last().filter(|_| more) {
            page["next"] = json!(format!("{}-{}", last.due_ms, last.number));
        }
        Ok(Json(page))
    })
    .await
}

/// What is done with an item that waits.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitingBody {
    /// `retry` tries it now; `give_up` lets people decide on what is known.
    action: WaitingAction,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WaitingAction {
    Retry,
    GiveUp,
}

/// `POST /api/v1/intake/{number} {"action": "retry" | "give_up"}`
pub async fn act(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(number): Path<String>,
    body: Result<Json<WaitingBody>, JsonRejection>,
) -> Result<Json<Value>, Refusal> {
    let Json(WaitingBody { action }) = body?;
    let number: u64 =
        number.parse().map_err(|_| Refusal::bad(format!("'{number}' is not an arrival's number")))?;
    let loaded = admin.loaded()?;
    let word = if action == WaitingAction::GiveUp { "intake.give_up" } else { "intake.retry" };
    let deed = Deed::new(&caller, word, format!("arrival {number}")).about_child_safety(true);
    let done = loaded.act(deed, move |turn, _| {
        let found = intake::arrival(&turn.tx, number)?;
        let mut arrival =
            found.ok_or(DeskError::NotFound { what: "waiting item", name: number.to_string() })?;
        if action == WaitingAction::GiveUp {
            let why =
                arrival.trouble.clone().unwrap_or_else(|| "an operator did not wait for it".to_string());
            arrival.give_up(&why);
        }
        turn.resume(arrival)
    });
    done.await?;
    loaded.intake.notify_one();
    Ok(Json(json!({ "number": number })))
}

/// `GET /api/v1/deliveries`: what webhooks are still to be told, and what was given up.
pub async fn deliveries(State(admin): State<Arc<Admin>>) -> Result<Json<Value>, Refusal> {
    let store = admin.loaded()?.cases.clone();
    blocking(move || {
        let tx = Tx::new(&*store);
        let rows = |prefix: &[u8]| -> Result<Vec<Value>, Refusal> {
            let rows = tx.rows(Keyspace::Outbox, prefix, PAGE_MAX)?;
            Ok(rows.iter().map(|(_, row)| read_row(Keyspace::Outbox, row)).collect::<Result<_, _>>()?)
        };
        Ok(Json(json!({ "waiting": rows(b"d")?, "given_up": rows(b"x")?, "bank_additions": rows(b"b")? })))
    })
    .await
}

/// `GET /api/v1/filings`: decisions that wait to be reported to NCMEC, oldest first.
pub async fn filings(State(admin): State<Arc<Admin>>) -> Result<Json<Vec<Filing>>, Refusal> {
    let store = admin.loaded()?.cases.clone();
    blocking(move || Ok(Json(outbox::filings_open(&Tx::new(&*store), PAGE_MAX)?))).await
}

/// `GET /api/v1/census`: counts everything and finds what is not in exactly one right place. Reads every row of one moment,
/// on a thread that gives way to others; nobody waits meanwhile but who asks for another.
pub async fn census(State(admin): State<Arc<Admin>>) -> Result<Json<Census>, Refusal> {
    let store = admin.loaded()?.cases.clone();
    let turn = admin.turns.census().await?;
    blocking(move || {
        let _turn = turn;
        thread::scope(|scope| {
            let read = thread::Builder::new().name("census".into()).spawn_scoped(scope, || {
                give_way();
                reporter::census(&*store)
            });
            let read = read.map_err(|error| {
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, format!("no thread for the census: {error}"))
            })?;
            Ok(Json(read.join().map_err(|_| Refusal::interrupted())??))
        })
    })
    .await
}

/// `GET /api/v1/reports/{id}`: what a user of a platform reported.
pub async fn report(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
) -> Result<Json<Report>, Refusal> {
    let store = admin.loaded()?.cases.clone();
    blocking(move || {
        let found = item::report(&Tx::new(&*store), &id)?;
        Ok(Json(found.ok_or(DeskError::NotFound { what: "report", name: id })?))
    })
    .await
}

/// Which item.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemQuery {
    #[serde(rename = "typeId")]
    type_id: String,
    id: String,
}

/// `GET /api/v1/items?typeId=…&id=…`: an item as it was settled last.
pub async fn show_item(
    State(admin): State<Arc<Admin>>,
    query: Result<Query<ItemQuery>, QueryRejection>,
) -> Result<Json<Item>, Refusal> {
    let Query(ItemQuery { type_id, id }) = query?;
    let store = admin.loaded()?.cases.clone();
    blocking(move || {
        let found = item::item(&Tx::new(&*store), &ItemKey::new(type_id, &id))?;
        Ok(Json(found.ok_or(DeskError::NotFound { what: "settled item", name: id })?))
    })
    .await
}

/// `GET /api/v1/users/items?typeId=…&id=…`: a user's items, newest first, at most 1000.
pub async fn user_items(
    State(admin): State<Arc<Admin>>,
    query: Result<Query<ItemQuery>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let Query(ItemQuery { type_id, id }) = query?;
    let store = admin.loaded()?.cases.clone();
    blocking(move || {
        let (items, more) = items_of(&Tx::new(&*store), &ItemKey::new(type_id, id), PAGE_MAX)?;
        Ok(Json(json!({ "items": items, "more": more })))
    })
    .await
}
