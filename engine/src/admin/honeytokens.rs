//! Honeytokens: banked hashes of no picture, in no feed. Whoever finds one, or takes one out, has a copy of the list.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::{Extension, Json};
use index::Signal;
use index::bank::{BankChange, NewContent};
use reporter::{At, DeskError, access};
use serde_json::{Value, json};

use super::deed::Deed;
use super::{Admin, Refusal};
use crate::access::Caller;
use crate::defence::random_hash;

const AT_ONCE: u64 = 1000;

/// `GET /api/v1/honeytokens`
pub async fn list(State(admin): State<Arc<Admin>>) -> Json<Vec<Value>> {
    let directory = admin.door.directory();
    let shown = |(content, bank)| json!({ "content": content, "bank": bank });
    Json(directory.honeytokens.iter().map(shown).collect())
}

/// `POST /api/v1/honeytokens {"bank", "count"}`: banks so many new ones.
pub async fn add(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let Json(body) = body?;
    let at = At::new(&body, "");
    let read = || -> Result<(String, u64), DeskError> {
        at.only(&["bank", "count"])?;
        Ok((at.need("bank")?.words(512)?.to_string(), at.need("count")?.whole(1, AT_ONCE)?))
    };
    let (bank, count) = read()?;
    let loaded = admin.loaded()?;
    let made = (0..count).map(|_| random_hash()).collect::<Result<Vec<_>, _>>();
    let made = made.map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let content = |hash| NewContent { signals: vec![Signal::Pdq(hash)], ..NewContent::default() };
    let contents = made.into_iter().map(content).collect();
    let banked = loaded.curator.change(BankChange::Add { bank: bank.clone(), contents }.into()).await?;
    let first = banked.first_content;
    let contents: Vec<_> = (first.0..first.0 + count).map(index::ContentId).collect();
    let deed = Deed::new(&caller, "honeytokens.add", format!("bank {bank}")).with(json!({ "count": count }));
    let named = contents.clone();
    let kept = loaded.act(deed, move |turn, _| {
        named.iter().for_each(|content| access::put_honeytoken(&mut turn.tx, *content, &bank));
        turn.people_changed = true;
        Ok(())
    });
    kept.await?;
    Ok((StatusCode::CREATED, Json(json!({ "contents": contents }))))
}
