//! Signal and content types as HMA names them.

use std::sync::Arc;

use axum::extract::{Query, State};
use index::{Signal, SignalType};
use serde_json::{Value, json};

use super::Admin;
use super::answer::{Answer, Fault, json};
use super::fields::{Pairs, first};
use super::media::ContentType;

/// The type with this name, if HMA's routes have it (`--hma-signal-types`).
pub fn installed(admin: &Admin, name: &str) -> Option<SignalType> {
    admin.config.hma_signal_types.0.iter().copied().find(|kind| kind.name() == name)
}

/// Reads a signal's text; why not, in HMA's words where it has its own.
pub fn parse(kind: SignalType, text: &str) -> Result<Signal, String> {
    Signal::parse(kind, text).map_err(|error| match kind {
        SignalType::Pdq => "invalid PDQ hash".to_string(),
        SignalType::VideoMd5 | SignalType::Md5 | SignalType::UrlMd5 => {
            format!("'{}' is not a valid MD5 hash", text.chars().take(128).collect::<String>())
        }
        _ => error.to_string(),
    })
}

/// `GET /c/signal_type`
pub async fn signal_types(State(admin): State<Arc<Admin>>) -> Answer {
    let shown = |kind: &SignalType| json!({ "enabled_ratio": 1.0, "name": kind.name() });
    Ok(json(&admin.config.hma_signal_types.0.iter().map(shown).collect()))
}

/// `PUT /c/signal_type/NAME`: HMA fails on every one of them; types are all matched, always.
pub async fn set_signal_type() -> Answer {
    Err(Fault::bad(
        "signal types cannot be switched here: disable banks, or name the types a lookup shall use",
    ))
}

/// `GET /c/content_type`
pub async fn content_types(State(admin): State<Arc<Admin>>) -> Answer {
    let shown = |kind: ContentType| json!({ "enabled": true, "name": kind.name() });
    Ok(json(&ContentType::of(&admin.config.hma_signal_types.0).into_iter().map(shown).collect()))
}

/// The types a status is asked of.
fn asked(admin: &Admin, query: &[(String, String)]) -> Result<Vec<SignalType>, Fault> {
    match first(query, "signal_type") {
        None => Ok(admin.config.hma_signal_types.0.clone()),
        Some(name) => {
            let kind =
                installed(admin, name).ok_or_else(|| Fault::bad(format!("No such signal type '{name}'")))?;
            Ok(vec![kind])
        }
    }
}

/// `GET /m/index/status[?signal_type=…]`: the index has every change up to now, always.
pub async fn index_status(State(admin): State<Arc<Admin>>, Query(query): Pairs) -> Answer {
    status(
        &admin,
        &query,
        |size, now| json!({ "built_to": if size > 0 { json!(now) } else { json!(-1) }, "present": true, "size": size }),
    )
}

/// `GET /c/signal_type/index[?signal_type=…]`
pub async fn index_of_types(State(admin): State<Arc<Admin>>, Query(query): Pairs) -> Answer {
    status(&admin, &query, |size, now| {
        let at = if size > 0 { json!(now) } else { json!(-1) };
        json!({
            "db_size": size,
            "index_built_to": at,
            "index_out_of_date": false,
            "index_size": size,
            "newest_db_item": at,
        })
    })
}

fn status(admin: &Admin, query: &[(String, String)], show: impl Fn(usize, u64) -> Value) -> Answer {
    let kinds = asked(admin, query)?;
    let state = admin.loaded()?.banks.state_owned();
    let now = crate::clock::now_s();
    let shown = kinds.iter().map(|kind| (kind.name().to_string(), show(state.tables.len(*kind), now)));
    Ok(json(&shown.collect()))
}
