//! What a bank holds, in pages, and one content by itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use index::bank::{Ask, Bank, ENABLED, Event, StoredContent};
use index::{ContentId, Distance, FindRule, FindScratch, Nearest, Nearness, Signal, SignalType};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cases::blocking;
use super::lookup::threshold;
use super::{Admin, Refusal};
use crate::access::Caller;

const PAGE_MAX: usize = 1000;
/// Contents looked at for one page: a filter that few pass ends a page early, not late.
const LOOKED_AT_MAX: usize = 50_000;

/// Which contents.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContentsQuery {
    /// Contents after this id.
    after: Option<u64>,
    /// Contents at most; 100 if absent, 1000 at most.
    limit: Option<usize>,
    /// Those with a signal of this type.
    signal_type: Option<String>,
    /// Those whose note or metadata contains this text.
    text: Option<String>,
    /// Those whose PDQ hash is like this one: nearest first, in one page.
    near: Option<String>,
    /// How like: bits that may differ; the bank's own threshold if absent.
    distance: Option<u16>,
    /// Those that match (false: those that are disabled for now or for good).
    enabled: Option<bool>,
}

/// A content as shown.
#[derive(Serialize)]
pub struct ContentShown {
    content: ContentId,
    bank: String,
    signals: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    note: String,
    #[serde(skip_serializing_if = "Value::is_null")]
    metadata: Value,
    /// From which second since 1970 on it matches: 0 never, 1 always.
    disabled_until: u64,
    /// Bits from the hash that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    distance: Option<Distance>,
}

/// A page of contents. `next` continues it; absent at the end. A page may be short, even empty, and not be the last.
#[derive(Serialize)]
pub struct ContentsPage {
    entries: Vec<ContentShown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<ContentId>,
}

fn shown(content: StoredContent, bank: &str) -> ContentShown {
    let text = |signal: &Signal| (signal.kind().name(), signal.to_string());
    ContentShown {
        content: content.content,
        bank: bank.to_string(),
        signals: content.signals.iter().map(text).collect(),
        note: content.note,
        metadata: serde_json::from_str(&content.metadata).unwrap_or_default(),
        disabled_until: content.disabled_until,
        distance: None,
    }
}

/// `GET /api/v1/banks/{name}/contents[?after=ID][&limit=N][&signal_type=…][&text=…][&near=HEX&distance=N][&enabled=false]`
pub async fn list(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    query: Result<Query<ContentsQuery>, QueryRejection>,
) -> Result<Json<ContentsPage>, Refusal> {
    let Query(query) = query?;
    let loaded = admin.loaded()?;
    let (banks, bank) = (loaded.banks.clone(), loaded.opened(&caller, &name)?);
    let kind = query.signal_type.as_deref().map(SignalType::from_name).transpose();
    let kind = kind.map_err(|error| Refusal::bad(error.to_string()))?;
    let limit = query.limit.unwrap_or(100).clamp(1, PAGE_MAX);
    let near = query.near.as_deref().map(|text| near(text, query.distance)).transpose()?;
    blocking(move || {
        let wanted = |content: &StoredContent| {
            kind.is_none_or(|kind| content.signals.iter().any(|signal| signal.kind() == kind))
                && query.enabled.is_none_or(|enabled| enabled == (content.disabled_until == ENABLED))
                && query
                    .text
                    .as_ref()
                    .is_none_or(|text| content.note.contains(text) || content.metadata.contains(text))
        };
        if let Some((signal, rule)) = near {
            let of_bank = |of: &Bank| of.id == bank;
            let ask = Ask {
                limit: LOOKED_AT_MAX,
                every_bank: false,
                now_s: None,
                off_counts: true,
                banks: Some(&of_bank),
                notes_all: false,
                on_match: None,
            };
            let mut found = Nearest::default();
            banks.state_owned().find_all(&[signal], &rule, &ask, &mut FindScratch::default(), &mut found);
            let mut entries = Vec::new();
            for hit in found.rows().iter().flat_map(|row| found.listed(row)) {
                let Some(content) = banks.content_of(bank, hit.content)?.filter(&wanted) else { continue };
                let Nearness::Bits(distance) = hit.nearness else { continue };
                entries.push(ContentShown { distance: Some(distance), ..shown(content, &name) });
                if entries.len() == limit {
                    break;
                }
            }
            return Ok(Json(ContentsPage { entries, next: None }));
        }
        let after = ContentId(query.after.unwrap_or(0));
        let (entries, next) = banks.contents(bank, after, limit, LOOKED_AT_MAX, wanted)?;
        let entries = entries.into_iter().map(|content| shown(content, &name)).collect();
        Ok(Json(ContentsPage { entries, next }))
    })
    .await
}

/// A PDQ hash to look for, and how near.
fn near(text: &str, distance: Option<u16>) -> Result<(Signal, FindRule), Refusal> {
    let signal = Signal::parse(SignalType::Pdq, text).map_err(|error| Refusal::bad(error.to_string()))?;
    let threshold = distance.map(|bits| threshold(SignalType::Pdq, Some(bits))).transpose()?;
    Ok((signal, FindRule { threshold, ..FindRule::default() }))
}

/// `GET /api/v1/contents/{id}/history`: what happened to a content, oldest first, also after its end.
pub async fn history(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
) -> Result<Json<Vec<Event>>, Refusal> {
    let id = content_id(&id)?;
    let banks = admin.loaded()?.banks.clone();
    blocking(move || {
        let events = banks.content_history(id)?;
        if events.is_empty() && banks.content(id)?.is_none() {
            return Err(Refusal::not_found(format!("there is and was no content {id}")));
        }
        Ok(Json(events))
    })
    .await
}

/// A content's id as it stands in a path.
pub fn content_id(text: &str) -> Result<ContentId, Refusal> {
    text.parse().map(ContentId).map_err(|_| Refusal::bad(format!("'{text}' is not a content id")))
}

/// `GET /api/v1/contents/{id}`: a content, whichever bank it lies in.
pub async fn show(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
) -> Result<Json<ContentShown>, Refusal> {
    let id = content_id(&id)?;
    let banks = admin.loaded()?.banks.clone();
    blocking(move || {
        let content = banks.content(id)?.ok_or_else(|| Refusal::not_found(format!("no content {id}")))?;
        let state = banks.state_owned();
        let bank = state.directory.get(content.bank).map_or("", |bank| &bank.name);
        Ok(Json(shown(content, bank)))
    })
    .await
}
