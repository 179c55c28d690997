//! How the admin port says no: a status and `{"message": "…"}`, the shape HMA's clients know.

use std::sync::Arc;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use index::bank::BankError;
use index::store::StoreError;
use reporter::{DeskError, RouterError};
use serde_json::{Value, json};

use super::access::Asked;
use super::coop::Errors;
use super::guard::is_coops;
use super::hma;
use crate::defence::Refused;
use crate::desk::AskError;

/// Longest words of an extractor.
const WORDS_MAX: usize = 4096;

/// A refusal with its status and message.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    message: String,
    retry_after_s: Option<u32>,
    /// Fields that are wrong: pointer and what is wrong.
    fields: Vec<(String, String)>,
    /// What a client may need to go on.
    more: Option<Value>,
}

impl Refusal {
    /// A refusal; the message says what was wrong and what to do.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after_s: None, fields: Vec::new(), more: None }
    }

    /// The same with what a client may need to go on.
    pub fn with(self, more: Value) -> Self {
        Self { more: Some(more), ..self }
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What it says.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The request does not make sense as it is.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// Not yet: banks are loading. Never 404 here: clients take that for 'the bank is gone'.
    pub fn loading(contents: u64) -> Self {
        let message = format!("loading banks: {contents} contents read so far");
        Self { retry_after_s: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message) }
    }

    /// Too many tries: wait so long.
    pub fn too_many(wait: Duration) -> Self {
        let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        let message = format!("too many tries: wait {seconds} s");
        Self { retry_after_s: Some(seconds), ..Self::new(StatusCode::TOO_MANY_REQUESTS, message) }
    }

    /// A thread or task of ours ended before it answered.
    pub fn interrupted() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the server is shutting down; the outcome is unknown, send it again",
        )
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut body = json!({ "message": self.message });
        if !self.fields.is_empty() {
            let fields = self
                .fields
                .iter()
                .map(|(pointer, problem)| json!({ "pointer": pointer, "problem": problem }));
            body["fields"] = fields.collect();
        }
        if let (Some(body), Some(Value::Object(more))) = (body.as_object_mut(), self.more) {
            body.extend(more);
        }
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<&StoreError> for Refusal {
    fn from(error: &StoreError) -> Self {
        let (status, retry_after_s) = match error {
            StoreError::DiskFull { .. } | StoreError::QuotaSpent { .. } => {
                (StatusCode::INSUFFICIENT_STORAGE, Some(5))
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, None),
        };
        Self { retry_after_s, ..Self::new(status, error.to_string()) }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match &refused {
            Refused::Frozen { .. } => Self::new(StatusCode::FORBIDDEN, refused.to_string()),
            Refused::Budget { retry_after } => {
                let seconds = u32::try_from(retry_after.as_secs()).unwrap_or(u32::MAX).max(1);
                let refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, refused.to_string());
                Self { retry_after_s: Some(seconds), ..refusal }
            }
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::from(&error)
    }
}

impl From<RouterError> for Refusal {
    fn from(error: RouterError) -> Self {
        match &error {
            RouterError::Store(error) => Self::from(error),
            RouterError::QueueName { .. } => Self::bad(error.to_string()),
            other => Self::new(StatusCode::INTERNAL_SERVER_ERROR, other.to_string()),
        }
    }
}

impl From<DeskError> for Refusal {
    fn from(error: DeskError) -> Self {
        let message = error.to_string();
        let (status, more) = match &error {
            DeskError::Fields(fields) => {
                let fields =
                    fields.iter().map(|field| (field.pointer.clone(), field.problem.clone())).collect();
                return Self { fields, ..Self::bad(message) };
            }
            DeskError::NoJob { .. } | DeskError::NotFound { .. } => (StatusCode::NOT_FOUND, None),
            DeskError::NotHeld { .. } | DeskError::Conflict { .. } => (StatusCode::CONFLICT, None),
            DeskError::Closed { decision, became, .. } => {
                (StatusCode::CONFLICT, Some(json!({ "decision": decision, "became": became })))
            }
            DeskError::Changed { revision, .. } => {
                (StatusCode::CONFLICT, Some(json!({ "revision": revision })))
            }
            DeskError::Stopped => (StatusCode::SERVICE_UNAVAILABLE, None),
            DeskError::Store(error) => return Self::from(Arc::as_ref(error)),
        };
        Self { more, ..Self::new(status, message) }
    }
}

impl From<AskError> for Refusal {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Refused(error) => Self::from(error),
            AskError::Busy => {
                let refusal = Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string());
                Self { retry_after_s: Some(1), ..refusal }
            }
        }
    }
}

impl From<BankError> for Refusal {
    fn from(error: BankError) -> Self {
        let status = match &error {
            BankError::Name { .. } | BankError::Foreign { .. } | BankError::Content { .. } => {
                StatusCode::BAD_REQUEST
            }
            BankError::Exists { .. } => StatusCode::CONFLICT,
            BankError::Reused { .. } => {
                return Self::new(StatusCode::CONFLICT, format!("Idempotency-Key: {error}"));
            }
            BankError::NotFound { .. } => StatusCode::NOT_FOUND,
            BankError::TooOld { .. } => StatusCode::GONE,
            BankError::Future { .. } => return Self::bad(format!("Idempotency-Key: {error}")),
            BankError::Memory { .. } => StatusCode::INSUFFICIENT_STORAGE,
            BankError::Store(error) => return Self::from(Arc::as_ref(error)),
        };
        Self::new(status, error.to_string())
    }
}

impl From<JsonRejection> for Refusal {
    fn from(error: JsonRejection) -> Self {
        Self::new(error.status(), error.body_text())
    }
}

impl From<QueryRejection> for Refusal {
    fn from(error: QueryRejection) -> Self {
        Self::new(error.status(), error.body_text())
    }
}

/// Whether a path is of our own API, which says no in JSON; HMA's clients know pages.
fn is_own(uri: &Uri) -> bool {
    ["/api/", "/healthz", "/readyz", "/metrics", "/openapi.json"]
        .iter()
        .any(|own| uri.path().starts_with(own))
}

/// Brings what the router or an extractor refuses into the form of its route: a path that is no UTF-8, a body that is too
/// long. Those are the refusals in plain text; no route of ours makes one.
pub async fn in_form(request: Request, next: Next) -> Response {
    let uri = request.uri().clone();
    let response = next.run(request).await;
    let status = response.status();
    let is_plain = |kind: &HeaderValue| kind.as_bytes().starts_with(b"text/plain");
    let refused = status.is_client_error() || status.is_server_error();
    if !refused || !response.headers().get(header::CONTENT_TYPE).is_some_and(is_plain) {
        return response;
    }
    let words = to_bytes(response.into_body(), WORDS_MAX).await.unwrap_or_default();
    let words = String::from_utf8_lossy(&words);
    if is_coops(uri.path()) {
        Errors::from(Refusal::new(status, words)).into_response()
    } else if is_own(&uri) {
        Refusal::new(status, words).into_response()
    } else {
        hma::message(status, &words)
    }
}

/// No such path.
pub async fn no_route(uri: Uri) -> Response {
    if !is_own(&uri) {
        return hma::no_route();
    }
    Refusal::not_found(format!("no route {}", uri.path())).into_response()
}

/// A path, but not with this method. The router adds which it takes.
pub async fn no_method(asked: Option<Extension<Asked>>, method: Method, uri: Uri) -> Response {
    let method = asked.map_or(method, |Extension(Asked(method))| method);
    if method == Method::OPTIONS {
        return StatusCode::OK.into_response();
    }
    if !is_own(&uri) {
        return hma::no_method();
    }
    let text = format!("{} does not take {method}", uri.path());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, text).into_response()
}
