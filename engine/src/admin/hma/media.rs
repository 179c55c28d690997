//! From a URL or an upload to the signals of its content type.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Query, Request, State};
use axum::http::StatusCode;
use index::{Signal, SignalType};
use ingest::media::fetch::{FetchError, Fetched};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::super::Refusal;
use super::super::body::declared;
use super::super::hashing::{self, Wanted};
use super::Admin;
use super::answer::{Answer, Fault, json};
use super::content::is_multipart;
use super::fields::{Fields, Pairs, first};
use super::signals::installed;

/// A text for each signal type that was hashed; empty where the content says too little to be matched on.
pub type Hashes = BTreeMap<SignalType, String>;

/// What a file is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// A picture.
    Photo,
    /// A video.
    Video,
    /// A text that is a URL.
    Url,
    /// A text.
    Text,
}

impl ContentType {
    const ALL: [ContentType; 4] = [Self::Photo, Self::Video, Self::Url, Self::Text];

    /// HMA's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Photo => "photo",
            Self::Video => "video",
            Self::Url => "url",
            Self::Text => "text",
        }
    }

    /// Those that there are with these signal types: photo and video always, as in HMA.
    pub fn of(kinds: &[SignalType]) -> Vec<Self> {
        let has = |content: &Self| {
            matches!(content, Self::Photo | Self::Video)
                || content.signal_types().iter().any(|kind| kinds.contains(kind))
        };
        Self::ALL.into_iter().filter(has).collect()
    }

    fn named(admin: &Admin, name: &str) -> Result<Self, Fault> {
        Self::of(&admin.config.hma_signal_types.0)
            .into_iter()
            .find(|content| content.name() == name)
            .ok_or_else(|| Fault::bad(format!("no such content_type: '{name}'")))
    }

    /// What a `Content-Type` header says.
    fn of_header(kind: &str) -> Result<Self, Fault> {
        let lower = kind.to_ascii_lowercase();
        if lower.starts_with("image") {
            Ok(Self::Photo)
        } else if lower.starts_with("video") {
            Ok(Self::Video)
        } else {
            Err(Fault::bad(format!(
                "unsupported url ContentType: '{}', if you know the expected type, provide it with the content_type \
                 query param",
                kind.chars().take(128).collect::<String>()
            )))
        }
    }

    fn signal_types(self) -> &'static [SignalType] {
        match self {
            Self::Photo => &[SignalType::Pdq, SignalType::Md5, SignalType::Sha1, SignalType::Sha256],
            Self::Video => &[
                SignalType::VideoMd5,
                SignalType::Vpdq,
                SignalType::Md5,
                SignalType::Sha1,
                SignalType::Sha256,
            ],
            Self::Url => &[SignalType::Url, SignalType::UrlMd5],
            Self::Text => &[SignalType::RawText],
        }
    }
}

/// The signal types asked for, of those that are installed for this content type.
fn types(admin: &Admin, query: &[(String, String)], content: ContentType) -> Result<Vec<SignalType>, Fault> {
    let Some(asked) = first(query, "types") else {
        let own = |kind: &SignalType| content.signal_types().contains(kind);
        return Ok(admin.config.hma_signal_types.0.iter().copied().filter(own).collect());
    };
    let names: Vec<&str> = asked.split(',').filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        return Err(Fault::bad("empty signal type selection"));
    }
    names
        .into_iter()
        .map(|name| {
            installed(admin, name)
                .filter(|kind| content.signal_types().contains(kind))
                .ok_or_else(|| Fault::bad(format!("signal type '{name}' doesn't exist or is disabled")))
        })
        .collect()
}

async fn hash(admin: &Admin, bytes: Bytes, kinds: Vec<SignalType>) -> Result<Hashes, Fault> {
    let wanted = Wanted { kinds, ..Wanted::default() };
    let hashed = hashing::hash(admin, bytes, wanted)
        .await
        .map_err(|error| Fault::Message(error.status(), error.to_string()))?;
    let text = |signal: Option<Signal>| signal.map_or_else(String::new, |signal| signal.to_string());
    Ok(hashed.signals.into_iter().map(|(kind, signal)| (kind, text(signal))).collect())
}

/// Fetches a URL and hashes what it gives.
pub async fn hash_url(admin: &Admin, url: &str, query: &[(String, String)]) -> Result<Hashes, Fault> {
    let named = first(query, "content_type").map(|name| ContentType::named(admin, name)).transpose()?;
    let Fetched { content_type, bytes, room } =
        admin.fetcher.fetch(url).await.map_err(|error| match error {
            FetchError::Url => Fault::bad("Invalid or unsafe URL provided"),
            FetchError::TooLarge { .. } => {
                Fault::Message(StatusCode::PAYLOAD_TOO_LARGE, "Content too large".into())
            }
            other => Fault::bad(format!("Failed to fetch URL: {other}")),
        })?;
    let content = match named {
        Some(content) => content,
        None => ContentType::of_header(&content_type)?,
    };
    let kinds = types(admin, query, content)?;
    let hashes = hash(admin, bytes, kinds).await;
    drop(room);
    hashes
}

/// What a form's own words may take beside a file.
const FORM_BYTES: usize = 64 << 10;

fn too_large() -> Refusal {
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "Content too large")
}

/// Files and fields of a form.
pub struct Upload {
    files: Vec<(String, Bytes)>,
    /// Fields that are no files.
    pub fields: BTreeMap<String, String>,
    held: Option<OwnedSemaphorePermit>,
}

impl Upload {
    /// Reads a form within the limits of an upload.
    pub async fn read(admin: &Admin, request: Request) -> Result<Self, Fault> {
        let length = declared(request.headers());
        if is_multipart(request.headers())
            && length.is_some_and(|length| length > admin.config.fetch.bytes_max + FORM_BYTES)
        {
            return Err(too_large().into());
        }
        let held = admin.hold(length).await?;
        let mut form = admin.in_upload_time(Self::read_form(admin, request)).await??;
        form.held = Some(held);
        Ok(form)
    }

    async fn read_form(admin: &Admin, mut request: Request) -> Result<Self, Fault> {
        let mut upload = Self { files: Vec::new(), fields: BTreeMap::new(), held: None };
        if !is_multipart(request.headers()) {
            return Ok(upload);
        }
        let damaged =
            || Fault::bad("The browser (or proxy) sent a request that this server could not understand.");
        DefaultBodyLimit::disable().apply(&mut request); // `left` is the limit
        let mut form = Multipart::from_request(request, &()).await.map_err(|_| damaged())?;
        let mut left = admin.config.fetch.bytes_max;
        while let Some(mut field) = form.next_field().await.map_err(|_| damaged())? {
            let (name, is_file) = (field.name().unwrap_or_default().to_string(), field.file_name().is_some());
            let mut bytes = Vec::new();
            while let Some(chunk) = field.chunk().await.map_err(|_| damaged())? {
                left = left.checked_sub(chunk.len()).ok_or_else(too_large).map_err(Fault::from)?;
                bytes.extend_from_slice(&chunk);
            }
            if is_file {
                upload.files.push((name, bytes.into()));
            } else {
                upload.fields.insert(name, String::from_utf8_lossy(&bytes).into_owned());
            }
        }
        Ok(upload)
    }
}

/// Hashes the one file of a form; the name of its field is its content type.
pub async fn hash_upload(
    admin: &Admin,
    mut form: Upload,
    query: &[(String, String)],
) -> Result<Hashes, Fault> {
    let (name, bytes) =
        form.files.pop().ok_or_else(|| Fault::bad("Missing multipart/form-data file upload"))?;
    if !form.files.is_empty() {
        return Err(Fault::bad("Only one file allowed per request"));
    }
    let content = ContentType::named(admin, &name)?;
    let kinds = types(admin, query, content)?;
    hash(admin, bytes, kinds).await
}

/// A process without the hasher's role takes signals only.
pub fn needs_hasher(admin: &Admin) -> Result<(), Fault> {
    if admin.config.roles.hasher {
        return Ok(());
    }
    Err(Fault::Message(StatusCode::FORBIDDEN, "Hashing is disabled, missing role".into()))
}

/// Hashes by the names of their types.
pub fn shown(hashes: &Hashes) -> Value {
    hashes.iter().map(|(kind, text)| (kind.name().to_string(), json!(text))).collect()
}

/// `GET /h/hash?url=…[&content_type=…][&types=a,b]`
pub async fn hash_of_url(State(admin): State<Arc<Admin>>, Query(query): Pairs) -> Answer {
    let mut fields = Fields::of_query(&query);
    let url = fields.text("url");
    fields.done()?;
    Ok(json(&shown(&hash_url(&admin, &url, &query).await?)))
}

/// `POST /h/hash[?types=a,b]` with a file.
pub async fn hash_of_file(State(admin): State<Arc<Admin>>, Query(query): Pairs, request: Request) -> Answer {
    let form = Upload::read(&admin, request).await?;
    Ok(json(&shown(&hash_upload(&admin, form, &query).await?)))
}
