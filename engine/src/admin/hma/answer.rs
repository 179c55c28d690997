//! How HMA answers: compact JSON with sorted keys and a line end, `{"message": …}` for what an API route refuses,
//! lists of faults (422) for fields that do not fit, and small pages for what is no route.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use index::bank::BankError;
use index::store::StoreError;
use serde::Serialize;
use serde_json::Value;

use super::super::Refusal;

/// What a route gives.
pub type Answer = Result<Response, Fault>;

/// Why a route gives nothing else.
#[derive(Debug)]
pub enum Fault {
    /// `{"message": …}` with a status.
    Message(StatusCode, String),
    /// 422 with what is wrong, field by field.
    Fields(Vec<FieldFault>),
    /// No such route.
    NoRoute,
    /// Our own words: loading, a full disk.
    Own(Refusal),
}

impl Fault {
    /// 400 with these words.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::Message(StatusCode::BAD_REQUEST, message.into())
    }

    /// 404 with these words.
    pub fn missing(message: impl Into<String>) -> Self {
        Self::Message(StatusCode::NOT_FOUND, message.into())
    }
}

/// One field that does not fit. Its keys are printed in this order.
#[derive(Debug, Serialize)]
pub struct FieldFault {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) loc: Vec<&'static str>,
    pub(super) msg: String,
    pub(super) input: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ctx: Option<Value>,
    pub(super) url: String,
}

/// 200 with this JSON.
pub fn json(value: &Value) -> Response {
    json_with(StatusCode::OK, value)
}

/// This JSON with a status.
pub fn json_with(status: StatusCode, value: &Value) -> Response {
    text(status, "application/json", format!("{value}\n"))
}

/// A text with a status.
pub fn text(status: StatusCode, kind: &'static str, text: impl Into<Body>) -> Response {
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static(kind))], text.into()).into_response()
}

/// `{"message": …}` with a status.
pub fn message(status: StatusCode, message: &str) -> Response {
    json_with(status, &serde_json::json!({ "message": message }))
}

const HTML: &str = "text/html; charset=utf-8";

/// A page of one paragraph that says a status.
pub fn page(status: StatusCode, paragraph: &str) -> Response {
    let (number, reason) = (status.as_str(), status.canonical_reason().unwrap_or_default());
    let page = format!(
        "<!doctype html>\n<html lang=en>\n<title>{number} {reason}</title>\n<h1>{reason}</h1>\n<p>{paragraph}</p>\n"
    );
    text(status, HTML, page)
}

/// The page for a path that is no route.
pub fn no_route() -> Response {
    page(
        StatusCode::NOT_FOUND,
        "The requested URL was not found on the server. If you entered the URL manually please check your spelling \
         and try again.",
    )
}

/// The page for a method that a path does not take. Its `Allow` header is the router's.
pub fn no_method() -> Response {
    page(StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed for the requested URL.")
}

/// 302 to another path.
pub fn redirect(to: &'static str) -> Response {
    let page = format!(
        "<!doctype html>\n<html lang=en>\n<title>Redirecting...</title>\n<h1>Redirecting...</h1>\n<p>You should be \
         redirected automatically to the target URL: <a href=\"{to}\">{to}</a>. If not, click the link.\n"
    );
    let mut response = text(StatusCode::FOUND, HTML, page);
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(to));
    response
}

/// A line for probes.
pub fn line(status: StatusCode, line: &'static str) -> Response {
    text(status, HTML, line)
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        match self {
            Fault::Message(status, text) => message(status, &text),
            Fault::Fields(faults) => {
                // Structs with string keys, written to memory: it cannot fail.
                let list = serde_json::to_string(&faults).unwrap_or_default();
                text(StatusCode::UNPROCESSABLE_ENTITY, "application/json", list)
            }
            Fault::NoRoute => no_route(),
            Fault::Own(refusal) => refusal.into_response(),
        }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Own(refusal)
    }
}

impl From<BankError> for Fault {
    fn from(error: BankError) -> Self {
        match error {
            BankError::NotFound { name } => Self::missing(format!("bank '{name}' not found")),
            BankError::Name { .. } => Self::bad("Bank names must be UPPER_WITH_UNDERSCORE"),
            BankError::Exists { .. } => Self::Message(StatusCode::FORBIDDEN, "Bank already exists".into()),
            other => Self::Own(other.into()),
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Own(error.into())
    }
}
