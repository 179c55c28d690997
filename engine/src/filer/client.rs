//! Calls to NCMEC's CyberTipline (specs/cybertipline.md 1.1 to 1.3): one host, chosen at the start; no redirect is followed,
//! no proxy used, every answer bounded in bytes and time, every call in a form that can be written down before it is made.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use futures_lite::Stream;
use futures_lite::StreamExt as _;
use ingest::media::fetch::choose_cryptography;
use reporter::cyber_tipline::reply::{self, REPLY_BYTES_MAX};
use reporter::cyber_tipline::verdict::Heard;
use reporter::tip::organisation::Credentials;
use reporter::tip::record::{Body as Recorded, Direction, Entry};
use reqwest::{Body, Client, Method, redirect};

use crate::failpoint::test_number;

/// From connecting to the last byte of an answer, of calls without a file.
const CALL_MAX: Duration = Duration::from_secs(60);
/// How long an upload may stand still, and how long its answer may take after its last byte.
const STILL_MAX: Duration = Duration::from_secs(120);
/// The longest pause that an answer may ask for.
const RETRY_AFTER_MAX_S: u64 = 24 * 3600;

/// Bytes of a file on their way.
pub type Chunks = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// A call, before it is made.
pub struct Call {
    /// What records call it: `submit`, `upload`, `fileinfo`, `finish`.
    pub name: &'static str,
    method: Method,
    content_type: Option<String>,
    content: Content,
}

enum Content {
    Text(String),
    File { head: String, tail: String, bytes: u64, sha256: String },
}

/// What came of a call.
pub struct Answered {
    /// What it means is judged by this.
    pub heard: Heard,
    /// What is written down of it.
    pub received: Entry,
}

impl Call {
    /// Asks whether we are known, and it works.
    pub fn status() -> Self {
        Self::bare("status")
    }

    /// Asks for the schema.
    pub fn schema() -> Self {
        Self::bare("xsd")
    }

    fn bare(name: &'static str) -> Self {
        Self { name, method: Method::GET, content_type: None, content: Content::Text(String::new()) }
    }

    /// Opens a report.
    pub fn submit(xml: &str) -> Self {
        Self::xml("submit", xml.to_string())
    }

    /// Tells of a file.
    pub fn file_info(xml: String) -> Self {
        Self::xml("fileinfo", xml)
    }

    fn xml(name: &'static str, xml: String) -> Self {
        let content_type = Some("text/xml; charset=utf-8".to_string());
        Self { name, method: Method::POST, content_type, content: Content::Text(xml) }
    }

    /// Finishes a report.
    pub fn finish(report_id: i64) -> Self {
        let content_type = Some("application/x-www-form-urlencoded".to_string());
        let content = Content::Text(format!("id={report_id}"));
        Self { name: "finish", method: Method::POST, content_type, content }
    }

    /// Uploads a file; `boundary` does not come in it.
    pub fn upload(
        report_id: i64,
        (name, content_type): (&str, &str),
        (bytes, sha256): (u64, &str),
        boundary: &str,
    ) -> Self {
        // As browsers escape names in forms.
        let name = name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A");
        let content_type = if content_type.is_empty() || content_type.contains(['\r', '\n']) {
            "application/octet-stream"
        } else {
            content_type
        };
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"id\"\r\n\r\n{report_id}\r\n--{boundary}\r\n\
             Content-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: {content_type}\r\n\r\n"
        );
        let tail = format!("\r\n--{boundary}--\r\n");
        Self {
            name: "upload",
            method: Method::POST,
            content_type: Some(format!("multipart/form-data; boundary={boundary}")),
            content: Content::File { head, tail, bytes, sha256: sha256.to_string() },
        }
    }

    /// What is written down of it before it is made.
    pub fn sent(&self) -> Entry {
        let body = match &self.content {
            Content::Text(text) => Recorded::Utf8(text.clone()),
            Content::File { head, tail, bytes, sha256 } => {
                let (head, tail) = (head.clone(), tail.clone());
                Recorded::File { head, tail, bytes: *bytes, sha256: sha256.clone() }
            }
        };
        let content_type = self.content_type.clone().map(|kind| ("Content-Type".to_string(), kind));
        Entry {
            call: self.name.to_string(),
            direction: Direction::Sent,
            head: format!("{} /{}", self.method, self.name),
            headers: content_type.into_iter().collect(),
            body,
        }
    }

    fn lost(&self, why: &str) -> Answered {
        let received = Entry {
            call: self.name.to_string(),
            direction: Direction::Lost,
            head: String::new(),
            headers: Vec::new(),
            body: Recorded::Utf8(why.to_string()),
        };
        Answered { heard: Heard::Nothing { why: why.to_string() }, received }
    }
}

/// NCMEC's CyberTipline.
pub struct Ncmec {
    client: Client,
    base_url: String,
    call_max: Duration,
    still_max: Duration,
}

impl Ncmec {
    /// The one at this URL.
    pub fn new(base_url: String) -> Result<Self, reqwest::Error> {
        choose_cryptography();
        let client = Client::builder()
            .user_agent(concat!("hashward/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(Duration::from_secs(10))
            .build()?;
        // A test waits less long for who does not answer.
        let [call_max, still_max] = [CALL_MAX, STILL_MAX]
            .map(|max| test_number("HASHWARD_NCMEC_CALL_MS").map_or(max, Duration::from_millis));
        Ok(Self { client, base_url, call_max, still_max })
    }

    /// NCMEC's schema, as it gives it out.
    pub async fn schema(&self, credentials: &Credentials) -> Result<Vec<u8>, String> {
        let call = Call::schema();
        let request = self
            .client
            .get(format!("{}/{}", self.base_url, call.name))
            .basic_auth(&credentials.username, Some(&credentials.password));
        let whole = tokio::time::timeout(self.call_max, ask(request))
            .await
            .map_err(|_| "no answer".to_string())??;
        if whole.status == 200 { Ok(whole.body) } else { Err(format!("status {}", whole.status)) }
    }

    /// Makes a call; `file` has the bytes of one that uploads.
    pub async fn make(&self, call: &Call, credentials: &Credentials, file: Option<Chunks>) -> Answered {
        let mut request = self
            .client
            .request(call.method.clone(), format!("{}/{}", self.base_url, call.name))
            .basic_auth(&credentials.username, Some(&credentials.password));
        if let Some(content_type) = &call.content_type {
            request = request.header("content-type", content_type);
        }
        let moved = Arc::new(AtomicU64::new(0));
        let sends_file = file.is_some();
        request = match (&call.content, file) {
            (Content::File { head, tail, bytes, .. }, Some(file)) => {
                let length = head.len() as u64 + bytes + tail.len() as u64;
                request.header("content-length", length).body(form(head, file, tail, moved.clone()))
            }
            (Content::Text(text), _) if call.method == Method::POST => request.body(text.clone()),
            _ => request,
        };
        let asking = ask(request);
        let answer = if sends_file {
            while_it_moves(asking, &moved, self.still_max).await
        } else {
            let late = |_| Err(format!("no whole answer within {} s", self.call_max.as_secs()));
            tokio::time::timeout(self.call_max, asking).await.unwrap_or_else(late)
        };
        match answer {
            Ok(whole) => whole.judged(call),
            Err(why) => call.lost(&why),
        }
    }
}

/// A whole answer.
struct Whole {
    status: u16,
    retry_after_s: Option<u64>,
    content_type: Option<String>,
    request_id: Option<String>,
    /// At most a byte more than is read.
    body: Vec<u8>,
}

impl Whole {
    fn judged(self, call: &Call) -> Answered {
        let headers = [("Content-Type", &self.content_type), ("Request-ID", &self.request_id)];
        let headers =
            headers.into_iter().filter_map(|(name, value)| Some((name.to_string(), value.clone()?)));
        let received = Entry {
            call: call.name.to_string(),
            direction: Direction::Received,
            head: self.status.to_string(),
            headers: headers.collect(),
            body: Recorded::of(&self.body),
        };
        let reply = reply::parse(&self.body, self.content_type.as_deref());
        let retry_after_ms = self.retry_after_s.map(|seconds| seconds.min(RETRY_AFTER_MAX_S) * 1000);
        Answered { heard: Heard::Answer { status: self.status, retry_after_ms, reply }, received }
    }
}

async fn ask(request: reqwest::RequestBuilder) -> Result<Whole, String> {
    let broken = |error: reqwest::Error| {
        let mut cause: &dyn std::error::Error = &error.without_url();
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        cause.to_string()
    };
    let mut response = request.send().await.map_err(broken)?;
    let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_string());
    let mut whole = Whole {
        status: response.status().as_u16(),
        retry_after_s: header("retry-after").and_then(|text| text.parse().ok()),
        content_type: header("content-type"),
        request_id: header("request-id"),
        body: Vec::new(),
    };
    while whole.body.len() <= REPLY_BYTES_MAX
        && let Some(chunk) = response.chunk().await.map_err(broken)?
    {
        let room = REPLY_BYTES_MAX + 1 - whole.body.len();
        whole.body.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    Ok(whole)
}

/// The form around a file, whose bytes are counted as they go.
fn form(head: &str, file: Chunks, tail: &str, moved: Arc<AtomicU64>) -> Body {
    let text = |text: &str| futures_lite::stream::once(Ok(Bytes::copy_from_slice(text.as_bytes())));
    let whole = text(head).chain(file).chain(text(tail)).map(move |chunk: io::Result<Bytes>| {
        if let Ok(chunk) = &chunk {
            moved.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
        chunk
    });
    Body::wrap_stream(whole)
}

/// Waits for an answer as long as bytes go, and some time after the last.
async fn while_it_moves(
    asking: impl Future<Output = Result<Whole, String>>,
    moved: &AtomicU64,
    still_max: Duration,
) -> Result<Whole, String> {
    tokio::pin!(asking);
    let mut before = 0;
    loop {
        if let Ok(answer) = tokio::time::timeout(still_max, &mut asking).await {
            return answer;
        }
        let now = moved.load(Ordering::Relaxed);
        if now == before {
            return Err(format!("the upload stood still for {} s", still_max.as_secs()));
        }
        before = now;
    }
}
