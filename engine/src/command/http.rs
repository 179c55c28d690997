//! A client of the admin port for the command line.

use std::io::{BufRead, Read};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use ureq::http::Response;
use ureq::typestate::WithBody;
use ureq::{Agent, Body, RequestBuilder, SendBody};

/// The admin port of a running server.
pub struct Api {
    agent: Agent,
    base: String,
    token: Option<String>,
}

impl Api {
    /// The server at this URL; the token, if any, comes from `HASHWARD_TOKEN`.
    pub fn new(base: &str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(5)))
            .build();
        Self {
            agent: config.into(),
            base: base.trim_end_matches('/').to_string(),
            token: std::env::var("HASHWARD_TOKEN").ok(),
        }
    }

    /// Asks for something.
    pub fn get(&self, path: &str) -> Result<Value> {
        read(self.open(path)?)
    }

    /// Asks for something that is not JSON, or long.
    pub fn open(&self, path: &str) -> Result<Response<Body>> {
        let mut request = self.agent.get(self.url(path));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        accept(request.call().with_context(|| self.unreachable())?)
    }

    /// Asks for text.
    pub fn text(&self, path: &str) -> Result<String> {
        Ok(self.open(path)?.body_mut().read_to_string()?)
    }

    /// Removes something.
    pub fn delete(&self, path: &str) -> Result<Value> {
        let mut request = self.agent.delete(self.url(path));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        read(accept(request.call().with_context(|| self.unreachable())?)?)
    }

    /// Sends JSON.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(
            path,
            "application/json",
            SendBody::from_owned_reader(std::io::Cursor::new(body.to_string())),
        )
    }

    /// Sends JSON, to stand where the path says.
    pub fn put(&self, path: &str, body: &Value) -> Result<Value> {
        let body = SendBody::from_owned_reader(std::io::Cursor::new(body.to_string()));
        read(self.send_with(self.agent.put(self.url(path)), "application/json", body)?)
    }

    /// Sends a stream of any length.
    pub fn stream(&self, path: &str, body: impl Read + 'static) -> Result<Value> {
        self.send(path, "application/octet-stream", SendBody::from_owned_reader(body))
    }

    /// Sends a stream of any length, to stand where the path says.
    pub fn put_stream(&self, path: &str, body: impl Read + 'static) -> Result<Value> {
        let request = self.agent.put(self.url(path));
        read(self.send_with(request, "application/x-ndjson", SendBody::from_owned_reader(body))?)
    }

    /// Sends bytes; the answer is the caller's to read.
    pub fn post_bytes(&self, path: &str, body: Vec<u8>) -> Result<Response<Body>> {
        self.request(
            path,
            "application/octet-stream",
            SendBody::from_owned_reader(std::io::Cursor::new(body)),
        )
    }

    fn send(&self, path: &str, kind: &str, body: SendBody<'static>) -> Result<Value> {
        read(self.request(path, kind, body)?)
    }

    fn request(&self, path: &str, kind: &str, body: SendBody<'static>) -> Result<Response<Body>> {
        self.send_with(self.agent.post(self.url(path)), kind, body)
    }

    fn send_with(
        &self,
        request: RequestBuilder<WithBody>,
        kind: &str,
        body: SendBody<'static>,
    ) -> Result<Response<Body>> {
        let mut request = request.header("content-type", kind);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        accept(request.send(body).with_context(|| self.unreachable())?)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn unreachable(&self) -> String {
        format!("no answer from {}: is `hashward serve` running there (--admin URL)?", self.base)
    }
}

fn accept(mut response: Response<Body>) -> Result<Response<Body>> {
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let text = response.body_mut().read_to_string().unwrap_or_default();
    let message = serde_json::from_str::<Value>(&text)
        .ok()
        .and_then(|body| body.get("message")?.as_str().map(str::to_string))
        .unwrap_or(text);
    bail!("{message} (HTTP {status})")
}

/// The answer; null if it is empty.
fn read(mut response: Response<Body>) -> Result<Value> {
    let mut reader = std::io::BufReader::new(response.body_mut().as_reader());
    if reader.fill_buf()?.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_reader(reader).context("the server's answer is not JSON")
}

/// A path segment with what must not stand in one escaped.
pub fn segment(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => (byte as char).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}
