//! How the admin port says no: a status and `{"message": "…"}`, the shape HMA's clients know.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use index::bank::BankError;
use index::store::StoreError;
use reporter::RouterError;

use super::hma;

/// A refusal with its status and message.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    message: String,
    retry_after_s: Option<u32>,
}

impl Refusal {
    /// A refusal; the message says what was wrong and what to do.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after_s: None }
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
        Self { status: StatusCode::SERVICE_UNAVAILABLE, message, retry_after_s: Some(1) }
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
        let mut response =
            (self.status, Json(serde_json::json!({ "message": self.message }))).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<&StoreError> for Refusal {
    fn from(error: &StoreError) -> Self {
        let (status, retry_after_s) = match error {
            StoreError::DiskFull { .. } => (StatusCode::INSUFFICIENT_STORAGE, Some(5)),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, None),
        };
        Self { status, message: error.to_string(), retry_after_s }
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

impl From<BankError> for Refusal {
    fn from(error: BankError) -> Self {
        let status = match &error {
            BankError::Name { .. } | BankError::Content { .. } => StatusCode::BAD_REQUEST,
            BankError::Exists { .. } => StatusCode::CONFLICT,
            BankError::NotFound { .. } => StatusCode::NOT_FOUND,
            BankError::TooOld { .. } => StatusCode::GONE,
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

/// No such path.
pub async fn no_route(uri: Uri) -> Response {
    if !is_own(&uri) {
        return hma::no_route();
    }
    Refusal::not_found(format!("no route {}", uri.path())).into_response()
}

/// A path, but not with this method. The router adds which it takes.
pub async fn no_method(method: Method, uri: Uri) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::OK.into_response();
    }
    if !is_own(&uri) {
        return hma::no_method();
    }
    let text = format!("{} does not take {method}", uri.path());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, text).into_response()
}
