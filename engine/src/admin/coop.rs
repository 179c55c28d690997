//! Coop's two routes for platforms (specs/coop.md 4.5): items, and reports by users. Same shapes, same error body.
//!
//! What is answered 202 or 201 is durable. One bad item refuses its whole batch, as Coop does; the answer names every bad
//! one, and says how to send the others: the same body to `?on_bad_item=skip`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use index::{RequestId, Signal, Tenant};
use reporter::desk::intake::Arrival;
use reporter::desk::item::{Item, Screening, item, put_report};
use reporter::desk::submission::{
    Refused, Reported, Submission, foreign, parent, read_items, read_report, types_of,
};
use reporter::{At, DeskError, FieldError, Tx};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::Admin;
use super::body::{declared, upload};
use super::cases::blocking;
use crate::access::Caller;
use crate::clock::now_ms;
use crate::desk::AskError;
use crate::failpoint::failpoint;
use crate::submit::Submitter;

/// Bodies at most.
const BODY_MAX: usize = 32 << 20;

/// What a report of child abuse is answered with behind whose item nobody is known.
const NOBODY: &str = "no user is known behind the item: its type has no creatorId, or the field is empty; unless the \
                      platform's partial items endpoint says who made it, the report waits in the triage queue";

/// An error in Coop's shape.
#[derive(Debug)]
pub struct Errors {
    status: StatusCode,
    errors: Vec<Value>,
    more: Option<Value>,
}

impl Errors {
    /// One error.
    pub fn one(status: StatusCode, kind: &str, title: &str, detail: &str) -> Self {
        let error = json!({ "status": status.as_u16(), "type": [format!("/errors/{kind}")], "title": title, "detail": detail });
        Self { status, errors: vec![error], more: None }
    }

    fn add(&mut self, data: bool, error: &FieldError) {
        let (kind, title) = if data {
            ("data-invalid-for-item-type", "The data for this item is invalid.")
        } else {
            ("invalid-user-input", "The request is invalid.")
        };
        self.errors.push(json!({
            "status": self.status.as_u16(), "type": [format!("/errors/{kind}")], "title": title,
            "detail": error.problem, "pointer": error.pointer,
        }));
    }

    fn of(data: bool, errors: &[FieldError]) -> Self {
        let mut all = Self { status: StatusCode::BAD_REQUEST, errors: Vec::new(), more: None };
        errors.iter().for_each(|error| all.add(data, error));
        all
    }
}

impl IntoResponse for Errors {
    fn into_response(self) -> Response {
        let mut body = json!({ "errors": self.errors });
        if let (Some(body), Some(Value::Object(more))) = (body.as_object_mut(), self.more) {
            body.extend(more);
        }
        (self.status, Json(body)).into_response()
    }
}

impl From<super::Refusal> for Errors {
    fn from(refusal: super::Refusal) -> Self {
        let (kind, title) = match refusal.status() {
            StatusCode::UNAUTHORIZED => ("unauthenticated", "The API key is missing or wrong."),
            StatusCode::FORBIDDEN | StatusCode::MISDIRECTED_REQUEST => {
                ("unauthorized", "The request is not allowed.")
            }
            StatusCode::REQUEST_TIMEOUT => ("invalid-user-input", "The request took too long."),
            _ => ("not-now", "The request cannot be served now."),
        };
        Self::one(refusal.status(), kind, title, refusal.message())
    }
}

impl From<AskError> for Errors {
    fn from(error: AskError) -> Self {
        let (status, kind) = match &error {
            AskError::Refused(DeskError::Fields(errors)) => return Self::of(false, errors),
            AskError::Refused(DeskError::Store(error)) if error.is_disk_full() => {
                (StatusCode::INSUFFICIENT_STORAGE, "disk-full")
            }
            AskError::Refused(DeskError::Store(_)) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal-server-error")
            }
            _ => (StatusCode::SERVICE_UNAVAILABLE, "not-now"),
        };
        Self::one(status, kind, "The request was not taken; send it again.", &error.to_string())
    }
}

/// How a batch is taken.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemsQuery {
    /// What happens to the others where one is bad.
    #[serde(default)]
    on_bad_item: OnBadItem,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OnBadItem {
    /// None is taken.
    #[default]
    Refuse,
    /// They are taken.
    Skip,
}

/// `POST /api/v1/items/async/[?on_bad_item=skip] {"items": […]}`: 202 when all are durable.
pub async fn items(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<ItemsQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Errors> {
    let (body, _room) = read(&admin, &headers, body).await?;
    let Query(query) = query.map_err(|error| {
        Errors::one(
            StatusCode::BAD_REQUEST,
            "invalid-user-input",
            "The request is invalid.",
            &error.body_text(),
        )
    })?;
    let loaded = admin.loaded()?;
    let (submitter, cases) = (loaded.submitter.clone(), loaded.cases.clone());
    let (tenant, of) = (caller.tenant.clone(), caller.tenant);
    let read = blocking(move || -> Result<_, Errors> {
        let body: Value = parse(&body, tenant.as_ref())?;
        let catalog = submitter.catalog.load_full();
        let types = types_of(&catalog.types, tenant.as_ref());
        let tx = Tx::new(&*cases);
        let parent_of = |key: &_| parent(&item(&tx, key).ok()??, &types);
        let read = read_items(&body, &types, &parent_of, now_ms());
        let mut submission = read.map_err(|error| Errors::of(false, &[error]))?;
        look_up(&submitter, tenant.as_ref(), &mut submission.items);
        Ok(submission)
    });
    let Submission { items, refused } = read.await?;
    let counts = &admin.metrics.intake;
    counts.refused.fetch_add(refused.len() as u64, Ordering::Relaxed);
    if !refused.is_empty() && query.on_bad_item == OnBadItem::Refuse {
        return Err(refusal(&refused, items.len()));
    }
    let taken = items.len() as u64;
    failpoint("items-read");
    if taken > 0 {
        loaded
            .desk
            .ask(move |turn| {
                items.into_iter().try_for_each(|item| turn.take(Arrival::of(item, None).from(of.clone())))
            })
            .await?;
        failpoint("items-stored");
        counts.taken.fetch_add(taken, Ordering::Relaxed);
        loaded.intake.notify_one();
    }
    if refused.is_empty() {
        return Ok(StatusCode::ACCEPTED.into_response());
    }
    let Errors { errors, .. } = refusal(&refused, 0);
    Ok((StatusCode::ACCEPTED, Json(json!({ "taken": taken, "errors": errors }))).into_response())
}

/// Reads a body within the memory that bodies and files take together: as JSON it takes some four times its length.
async fn read(
    admin: &Admin,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Bytes, OwnedSemaphorePermit), Errors> {
    let too_long = || {
        let detail = format!("a request has {BODY_MAX} bytes at most: send fewer items");
        Errors::one(StatusCode::PAYLOAD_TOO_LARGE, "invalid-user-input", "The body is too long.", &detail)
    };
    let length = declared(headers);
    if length.is_some_and(|length| length > BODY_MAX) {
        return Err(too_long());
    }
    let room = admin.hold(Some(length.unwrap_or(BODY_MAX).saturating_mul(4))).await?;
    Ok((upload(admin, body, BODY_MAX, too_long).await?, room))
}

fn refusal(refused: &[Refused], good: usize) -> Errors {
    let mut all = Errors { status: StatusCode::BAD_REQUEST, errors: Vec::new(), more: None };
    for item in refused {
        item.errors.iter().for_each(|error| all.add(item.data, error));
    }
    if good > 0 {
        let how = format!(
            "nothing was stored; {good} items are good: send the same body to ?on_bad_item=skip to have those taken"
        );
        let bad: Vec<usize> = refused.iter().map(|refused| refused.place).collect();
        all.more = Some(json!({ "good": good, "bad": bad, "resume": how }));
    }
    all
}

/// Reads a body; one by a tenant's key names nothing of anybody else's.
fn parse(body: &[u8], tenant: Option<&Tenant>) -> Result<Value, Errors> {
    let body: Value = serde_json::from_slice(body).map_err(|error| {
        Errors::one(
            StatusCode::BAD_REQUEST,
            "invalid-user-input",
            "The body is not JSON.",
            &error.to_string(),
        )
    })?;
    match tenant.and_then(|tenant| foreign(tenant, &At::new(&body, ""))) {
        Some(error) => Err(Errors::of(false, &[error])),
        None => Ok(body),
    }
}

/// Compares what needs no fetching with the banks at once. What matches waits all the same: its hits go into the log first.
fn look_up(submitter: &Submitter, tenant: Option<&Tenant>, items: &mut [Item]) {
    let mut signals = Vec::new();
    let mut places = Vec::new();
    for (at, item) in items.iter().enumerate() {
        for (media_at, media) in item.media.iter().enumerate().filter(|(_, media)| !media.signals.is_empty())
        {
            for (kind, text) in &media.signals {
                let Ok(signal) = Signal::parse(*kind, text) else { continue }; // checked before
                signals.push(signal);
                places.push((at, media_at));
            }
        }
    }
    let (_, matched) = submitter.matching(tenant, &signals);
    let hits: std::collections::HashSet<(usize, usize)> =
        matched.iter().map(|found| places[found.place as usize]).collect();
    for place in places.into_iter().filter(|place| !hits.contains(place)) {
        items[place.0].media[place.1].screening = Screening::Done { matches: Vec::new() };
    }
}

/// `POST /api/v1/report`: 201 with the report's id when it is durable.
pub async fn report(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Errors> {
    let (body, _room) = read(&admin, &headers, body).await?;
    let loaded = admin.loaded()?;
    let submitter = loaded.submitter.clone();
    let (tenant, of) = (caller.tenant.clone(), caller.tenant);
    let read = blocking(move || -> Result<_, Errors> {
        let body: Value = parse(&body, tenant.as_ref())?;
        let catalog = submitter.catalog.load_full();
        read_report(&body, &types_of(&catalog.types, tenant.as_ref()), now_ms())
            .map_err(|(data, errors)| Errors::of(data, &errors))
    });
    let Reported { mut report, item, others } = read.await?;
    report.id = RequestId::fresh().to_string();
    let id = report.id.clone();
    // Taken all the same, and not silently (specs/cybertipline.md 7.52).
    let nobody = report.csam && item.user().is_none();
    failpoint("report-read");
    loaded
        .desk
        .ask(move |turn| {
            put_report(&mut turn.tx, &report);
            turn.take_report(Arrival::of(item, Some(report)).from(of.clone()))?;
            others.into_iter().try_for_each(|item| turn.take(Arrival::of(item, None).from(of.clone())))
        })
        .await?;
    failpoint("report-stored");
    admin.metrics.intake.taken.fetch_add(1, Ordering::Relaxed);
    loaded.intake.notify_one();
    let mut answer = json!({ "reportId": id });
    if nobody {
        answer["warning"] = json!(NOBODY);
    }
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}
