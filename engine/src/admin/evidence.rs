//! Preserved media of jobs: which there are, and their bytes, for who sees the job. Who opens one is on record before the
//! first byte leaves. Bytes are decrypted chunk by chunk as they are read, and nothing that lets a browser keep, guess or
//! run them goes with them.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use reporter::access::Sight;
use reporter::desk::evidence::{self, Kept, State as Stage, piece_of};
use reporter::desk::job::{JobId, job_key};
use reporter::desk::ncmec::{JobMedia, media_of};
use reporter::{DeskError, Tx};
use serde::Serialize;
use serde_json::json;

use super::cases::blocking;
use super::deed::Deed;
use super::jobs::{Page, PageQuery, job_id};
use super::{Admin, Refusal};
use crate::access::Caller;
use crate::evidence::pieces;
use crate::vault::VaultError;

const ANY_TYPE: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// A medium with what is kept of it, and who opened it.
#[derive(Serialize)]
pub struct MediumShown {
    #[serde(flatten)]
    media: JobMedia,
    /// None of one without a URL: there is nothing to fetch.
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<EvidenceShown>,
    viewed_by: Vec<String>,
}

/// How far preserving a medium is.
#[derive(Serialize)]
pub struct EvidenceShown {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
}

impl From<Stage> for EvidenceShown {
    fn from(stage: Stage) -> Self {
        let (bytes, sha256) = (None, None);
        match stage {
            Stage::Waiting { trouble, .. } => Self { state: "waiting", bytes, sha256, trouble },
            Stage::GivenUp { trouble, .. } => {
                Self { state: "given_up", bytes, sha256, trouble: Some(trouble) }
            }
            Stage::Kept(kept) => {
                let (bytes, sha256) = (Some(kept.bytes), Some(kept.sha256));
                Self { state: "kept", bytes, sha256, trouble: None }
            }
        }
    }
}

/// `GET /api/v1/jobs/{id}/media[?after=N][&limit=N]`
pub async fn media(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Page<MediumShown>>, Refusal> {
    let (id, Query(query), sight) = (job_id(&id)?, query?, caller.sight());
    let store = admin.loaded()?.cases.clone();
    blocking(move || {
        let tx = Tx::new(&*store);
        sight.job(&tx, id)?;
        let mut shown = Vec::new();
        for media in media_of(&tx, id, query.after, query.limit() + 1)? {
            let evidence = piece_of(&tx, id, media.number)?.map(|piece| piece.state.into());
            let viewed_by = evidence::viewers(&tx, id, media.number)?;
            shown.push(MediumShown { media, evidence, viewed_by });
        }
        Ok(Json(Page::new(shown, query.limit(), |shown| shown.media.number)))
    })
    .await
}

/// `GET /api/v1/jobs/{id}/media/{number}/content`: the bytes, or one range of them.
pub async fn content(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path((id, number)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (id, number, sight) = (job_id(&id)?, medium_number(&number)?, caller.sight());
    let loaded = admin.loaded()?;
    let (store, vault) = (loaded.cases.clone(), loaded.evidence.clone());
    let opened = blocking(move || {
        let kept = kept_of(&Tx::new(&*store), &sight, id, number)?;
        let reader = vault.read(&kept.blob)?;
        Ok::<_, Refusal>((kept, reader))
    });
    let (kept, reader) = opened.await?;
    let length = reader.length();
    let range = match wanted(&headers, length) {
        Wanted::All => None,
        Wanted::Part(from, to) => Some((from, to)),
        Wanted::Nothing => {
            let range = [(header::CONTENT_RANGE, format!("bytes */{length}"))];
            let refusal = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, format!("it has {length} bytes"));
            return Ok((range, refusal).into_response());
        }
    };
    if method != Method::HEAD {
        let sight = caller.sight();
        let deed = Deed::to_job(&caller, "media.view", id).with(json!({ "media": number }));
        let viewed = loaded.act(deed, move |turn, _| {
            sight.job(&turn.tx, id)?;
            if let Some(person) = &sight.person {
                evidence::view(&mut turn.tx, (id, number), person, turn.terms.now_ms)?;
            }
            Ok(())
        });
        viewed.await?;
    }
    let mut response = match method {
        Method::HEAD => Response::new(Body::empty()),
        _ => Response::new(Body::from_stream(pieces(reader, range.unwrap_or((0, length))))),
    };
    let name = format!("attachment; filename=\"job-{id}-medium-{number}\"");
    let of = response.headers_mut();
    let text = |text: String| HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""));
    of.insert(header::CONTENT_TYPE, content_type(&kept));
    of.insert(header::CONTENT_DISPOSITION, text(name));
    of.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    of.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    of.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    of.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let (from, to) = range.unwrap_or((0, length));
    of.insert(header::CONTENT_LENGTH, HeaderValue::from(to - from));
    if range.is_some() {
        of.insert(header::CONTENT_RANGE, text(format!("bytes {from}-{}/{length}", to - 1)));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// `POST /api/v1/jobs/{id}/media/{number}/unblur`: remembers that somebody looks at a medium as it is.
pub async fn unblur(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path((id, number)): Path<(String, String)>,
) -> Result<StatusCode, Refusal> {
    let (id, number, sight) = (job_id(&id)?, medium_number(&number)?, caller.sight());
    let deed = Deed::to_job(&caller, "media.unblur", id).with(json!({ "media": number }));
    let noted = admin.loaded()?.act(deed, move |turn, _| {
        sight.job(&turn.tx, id)?;
        listed(&turn.tx, id, number)
    });
    noted.await?;
    Ok(StatusCode::NO_CONTENT)
}

fn medium_number(text: &str) -> Result<u64, Refusal> {
    text.parse().map_err(|_| Refusal::bad(format!("'{text}' is not a medium's number")))
}

fn listed(tx: &Tx<'_>, id: JobId, number: u64) -> Result<(), DeskError> {
    let place = [&job_key(b'm', id)[..], &number.to_be_bytes()].concat();
    match tx.get(index::store::Keyspace::Jobs, &place)? {
        Some(_) => Ok(()),
        None => Err(DeskError::NotFound { what: "medium of this job", name: number.to_string() }),
    }
}

/// What is kept of a job's medium, or why nothing is.
fn kept_of(tx: &Tx<'_>, sight: &Sight, id: JobId, number: u64) -> Result<Kept, Refusal> {
    sight.job(tx, id)?;
    listed(tx, id, number)?;
    let medium = format!("medium {number} of job {id}");
    match piece_of(tx, id, number)?.map(|piece| piece.state) {
        Some(Stage::Kept(kept)) => Ok(kept),
        Some(Stage::GivenUp { trouble, .. }) => Err(Refusal::not_found(format!("{medium} {trouble}"))),
        Some(Stage::Waiting { trouble: Some(why), .. }) => {
            Err(Refusal::not_found(format!("{medium} is not preserved yet, and is tried again: {why}")))
        }
        Some(Stage::Waiting { trouble: None, .. }) => {
            Err(Refusal::not_found(format!("{medium} is not preserved yet: it is being fetched")))
        }
        None => Err(Refusal::not_found(format!(
            "{medium} is not preserved: it came without a URL, or its job is being deleted"
        ))),
    }
}

/// What its host said it is, where a reviewer's page may show that; nothing that a browser would run.
fn content_type(kept: &Kept) -> HeaderValue {
    let told = kept.content_type.to_ascii_lowercase();
    let shown = ["image/", "video/", "audio/"].iter().any(|kind| told.starts_with(kind));
    if shown && !told.starts_with("image/svg") {
        HeaderValue::from_str(&kept.content_type).unwrap_or(ANY_TYPE)
    } else {
        ANY_TYPE
    }
}

/// Which bytes are wanted: from the first to before the last.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    All,
    Part(u64, u64),
    /// None that there is.
    Nothing,
}

/// Reads `Range`. What is not one range of bytes is no wish; so is a range that hangs on a validator, as none is given.
fn wanted(headers: &HeaderMap, length: u64) -> Wanted {
    let text = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let range = text.and_then(|text| text.strip_prefix("bytes=")).and_then(|range| range.split_once('-'));
    let Some((from, to)) = range.filter(|_| !headers.contains_key(header::IF_RANGE)) else {
        return Wanted::All;
    };
    let (from, to) = (from.trim(), to.trim());
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| digits(text));
    let (from, to) = match (number(from), number(to)) {
        (Some(from), Some(to)) if from <= to => (from, length.min(to.saturating_add(1))),
        (Some(from), None) if to.is_empty() => (from, length),
        (None, Some(last)) if from.is_empty() => (length.saturating_sub(last), length),
        _ => return Wanted::All,
    };
    if from < to { Wanted::Part(from, to) } else { Wanted::Nothing }
}

impl From<VaultError> for Refusal {
    fn from(error: VaultError) -> Self {
        let status = match error {
            VaultError::Gone(_) => StatusCode::GONE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_as_browsers_write_it() {
        let of = |range: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, HeaderValue::from_str(range).unwrap());
            wanted(&headers, 10)
        };
        assert_eq!(wanted(&HeaderMap::new(), 10), Wanted::All);
        for (range, from, to) in [
            ("bytes=0-", 0, 10),
            ("bytes=2-4", 2, 5),
            ("bytes=9-9", 9, 10),
            ("bytes=5-99", 5, 10),
            ("bytes=-3", 7, 10),
            ("bytes=-99", 0, 10),
        ] {
            assert_eq!(of(range), Wanted::Part(from, to), "{range}");
        }
        for range in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
            assert_eq!(of(range), Wanted::Nothing, "{range}");
        }
        for range in ["bytes=4-2", "bytes=1-2,4-5", "items=0-1", "bytes=-", "bytes=+1-2", "bytes=a-b"] {
            assert_eq!(of(range), Wanted::All, "{range}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_static("bytes=0-1"));
        headers.insert(header::IF_RANGE, HeaderValue::from_static("\"x\""));
        assert_eq!(wanted(&headers, 10), Wanted::All);
    }

    #[test]
    fn what_a_browser_would_run_is_only_bytes() {
        let of = |told: &str| {
            let kept = Kept {
                blob: String::new(),
                bytes: 0,
                sha256: String::new(),
                md5: String::new(),
                content_type: told.to_string(),
                at_ms: 0,
            };
            content_type(&kept)
        };
        assert_eq!(of("image/png"), "image/png");
        assert_eq!(of("video/mp4; codecs=x"), "video/mp4; codecs=x");
        for told in ["", "text/html", "image/svg+xml", "IMAGE/SVG+XML", "image/png\nx: y", "application/pdf"]
        {
            assert_eq!(of(told), ANY_TYPE, "{told}");
        }
    }
}
