//! How much one has looked at today, for the page's counter: from the audit log, where each look is, so that no reload and
//! no other browser begins anew.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use reporter::audit::{self, Filter, Shown, Side};
use serde::Serialize;

use super::cases::blocking;
use super::{Admin, Refusal};
use crate::access::Caller;
use crate::clock::now_ms;

const DAY_MS: u64 = 24 * 3600 * 1000;
/// Records of one page, and pages: each looks through so much of the log at most.
const LIMIT: usize = 1000;
const PAGES_MAX: usize = 3;

/// Since midnight (UTC).
#[derive(Default, Serialize)]
pub struct Exposure {
    since_ms: u64,
    /// Media that were looked at as they are.
    unblurs: u64,
    /// Media that were opened.
    views: u64,
    /// Whether the whole day was read: of a very busy one the newest part is.
    complete: bool,
}

/// `GET /api/v1/session/exposure`: one's own.
pub async fn show(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Exposure>, Refusal> {
    let store = admin.loaded()?.cases.clone();
    let filter = Filter { action: Some("media".to_string()), who: Some(caller.name()), about: None };
    let now_ms = now_ms();
    blocking(move || {
        let mut found = Exposure { since_ms: now_ms - now_ms % DAY_MS, ..Exposure::default() };
        let mut before = None;
        for _ in 0..PAGES_MAX {
            // What one did oneself is no secret.
            let page = audit::page(&*store, Side::Before(before), LIMIT, &filter, true)?;
            for entry in page.entries {
                let Shown::Open(record) = entry else { continue };
                if record.at_ms < found.since_ms {
                    found.complete = true;
                    return Ok(Json(found));
                }
                match record.action.as_str() {
                    "media.unblur" => found.unblurs += 1,
                    "media.view" => found.views += 1,
                    _ => {}
                }
            }
            before = page.next;
            if before.is_none() {
                found.complete = true;
                break;
            }
        }
        Ok(Json(found))
    })
    .await
}
