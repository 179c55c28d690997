//! The reviewers' page at `/ui/`: files that are compiled in and hold no data, so everybody may load them. What the page
//! may do is narrowed to this server: no script, style or picture from elsewhere, nothing inline, nothing kept.
//!
//! That media are veiled, and looks recorded, is the page's own part (`media.js`); docs/reviewing.md says what it does.

use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

/// Path, type and text.
const FILES: [(&str, &str, &str); 9] = [
    ("/ui/", HTML, include_str!("page.html")),
    ("/ui/page.css", "text/css; charset=utf-8", include_str!("page.css")),
    ("/ui/page.js", SCRIPT, include_str!("page.js")),
    ("/ui/api.js", SCRIPT, include_str!("api.js")),
    ("/ui/dom.js", SCRIPT, include_str!("dom.js")),
    ("/ui/job.js", SCRIPT, include_str!("job.js")),
    ("/ui/media.js", SCRIPT, include_str!("media.js")),
    ("/ui/report.js", SCRIPT, include_str!("report.js")),
    ("/ui/wellbeing.js", SCRIPT, include_str!("wellbeing.js")),
];

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Media come as `blob:` only: bytes that the page fetched itself.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob:; media-src blob:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Whether a path is one of the page's files.
pub fn is_file(path: &str) -> bool {
    FILES.iter().any(|(at, _, _)| *at == path)
}

/// `GET /ui/` and what it loads.
pub async fn file(uri: Uri) -> Response {
    let Some((_, kind, text)) = FILES.iter().find(|(at, _, _)| *at == uri.path()) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, *kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    let mut response = text.into_response();
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
