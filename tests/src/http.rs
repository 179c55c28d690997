//! Plain HTTP to the admin port: status and JSON, whatever the status.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::http::{HeaderValue, Request};
use ureq::middleware::MiddlewareNext;
use ureq::typestate::WithBody;
use ureq::{Agent, RequestBuilder, SendBody};

/// How long an answer may take where nobody says otherwise.
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// Nobody listened.
    NotSent,
    /// It may have been taken.
    Unknown,
}

/// A client of one server's admin port.
#[derive(Clone)]
pub struct Http {
    agent: Agent,
    base: String,
}

impl Http {
    /// The admin port at `host:port`.
    pub fn new(address: &str) -> Self {
        Self::showing(address, &[])
    }

    /// The admin port at `host:port`; an answer may take so long.
    pub fn with_timeout(address: &str, answer: Duration) -> Self {
        Self::build(address, &[], answer)
    }

    /// The admin port at `host:port`, with these headers on every request.
    pub fn showing(address: &str, headers: &[(&'static str, &str)]) -> Self {
        Self::build(address, headers, ANSWER_MAX)
    }

    fn build(address: &str, headers: &[(&'static str, &str)], answer: Duration) -> Self {
        let headers: Vec<(&str, HeaderValue)> = headers
            .iter()
            .map(|(name, value)| (*name, HeaderValue::from_str(value).expect("a header's value")))
            .collect();
        let show = move |mut request: Request<SendBody>, next: MiddlewareNext| {
            for (name, value) in &headers {
                request.headers_mut().insert(*name, value.clone());
            }
            next.handle(request)
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(answer))
            .middleware(show)
            .build();
        Self { agent: config.into(), base: format!("http://{address}") }
    }

    /// A person's client, after logging in.
    pub fn logged_in(address: &str, name: &str, password: &str) -> Self {
        let anybody = Self::new(address);
        let body = json!({ "name": name, "password": password }).to_string();
        let login = anybody.agent.post(format!("{}/api/v1/login", anybody.base));
        let answer = login.header("content-type", "application/json").send(body);
        let mut answer = answer.expect("the admin port answers");
        assert_eq!(answer.status().as_u16(), 200, "{name} logs in");
        let cookie = answer.headers()["set-cookie"].to_str().expect("a text").to_string();
        let told = answer.body_mut().read_to_string().expect("a text");
        let told: Value = serde_json::from_str(&told).expect("JSON");
        let session = cookie.split(';').next().unwrap_or_default();
        let csrf = told["csrf"].as_str().expect("a word");
        Self::showing(address, &[("cookie", session), ("x-csrf-token", csrf)])
    }

    /// GET: status and body.
    pub fn get(&self, path: &str) -> (u16, Value) {
        self.get_with(path, &[])
    }

    /// GET with headers.
    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.call())
    }

    /// GET of bytes, with headers: status, headers by their names in lower case, and body.
    pub fn bytes(&self, path: &str, headers: &[(&str, &str)]) -> (u16, BTreeMap<String, String>, Vec<u8>) {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = request.call().expect("the admin port answers");
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let told = response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let body = response.body_mut().with_config().limit(1 << 30).read_to_vec().expect("the answer ends");
        (response.status().as_u16(), told, body)
    }

    /// Any method, with a JSON body or none: status and the body as it came.
    pub fn plain(&self, method: &str, path: &str, body: Option<&str>) -> (u16, String) {
        let request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        let sent = match body {
            Some(body) => self.agent.run(
                request.header("content-type", "application/json").body(body.to_string()).expect("a request"),
            ),
            None => self.agent.run(request.body(()).expect("a request")),
        };
        let mut response = sent.expect("the admin port answers");
        (response.status().as_u16(), response.body_mut().read_to_string().expect("the answer is text"))
    }

    /// PUT of JSON: status and body.
    pub fn put(&self, path: &str, body: &Value) -> (u16, Value) {
        let request =
            self.agent.put(format!("{}{path}", self.base)).header("content-type", "application/json");
        answer(request.send(body.to_string()))
    }

    /// POST of a form with one file: status and body.
    pub fn upload(&self, path: &str, field: &str, file: &[u8]) -> (u16, Value) {
        let head = format!("--b\r\ncontent-disposition: form-data; name=\"{field}\"; filename=\"f\"\r\n\r\n");
        let body = [head.as_bytes(), file, b"\r\n--b--\r\n"].concat();
        let request = self.agent.post(format!("{}{path}", self.base));
        answer(request.header("content-type", "multipart/form-data; boundary=b").send(&body[..]))
    }

    /// DELETE: status and body.
    pub fn delete(&self, path: &str) -> (u16, Value) {
        answer(self.agent.delete(format!("{}{path}", self.base)).call())
    }

    /// POST of JSON: status and body.
    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.post_with(path, body, &[])
    }

    /// POST of JSON with headers.
    pub fn post_with(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> (u16, Value) {
        let mut request =
            self.agent.post(format!("{}{path}", self.base)).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.send(body.to_string()))
    }

    /// POST of a text with headers.
    pub fn text_with(&self, path: &str, text: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        let mut request = self.agent.post(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.send(text))
    }

    /// POST of JSON to a server that may die meanwhile; an error says whether it may have been taken.
    pub fn try_post(&self, path: &str, body: &Value) -> Result<(u16, Value), Unanswered> {
        attempt(self.agent.post(format!("{}{path}", self.base)), body)
    }

    /// The same for PUT.
    pub fn try_put(&self, path: &str, body: &Value) -> Result<(u16, Value), Unanswered> {
        attempt(self.agent.put(format!("{}{path}", self.base)), body)
    }

    /// Any method, with a JSON body or none, to a server that may die meanwhile.
    pub fn try_plain(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), Unanswered> {
        let request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        let sent = match body {
            Some(body) => {
                let request = request.header("content-type", "application/json");
                self.agent.run(request.body(body.to_string()).expect("a request"))
            }
            None => self.agent.run(request.body(()).expect("a request")),
        };
        attempted(sent)
    }

    /// POST of a text to a server that may die meanwhile.
    pub fn try_text(&self, path: &str, text: String) -> Result<(u16, Value), Unanswered> {
        attempted(self.agent.post(format!("{}{path}", self.base)).send(text))
    }

    /// POST of a stream: status and body.
    pub fn stream(&self, path: &str, body: impl Read + 'static) -> (u16, Value) {
        let request = self.agent.post(format!("{}{path}", self.base));
        answer(request.send(SendBody::from_owned_reader(body)))
    }
}

fn attempt(request: RequestBuilder<WithBody>, body: &Value) -> Result<(u16, Value), Unanswered> {
    let request = request.header("content-type", "application/json");
    attempted(request.send(body.to_string()))
}

fn attempted(
    sent: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<(u16, Value), Unanswered> {
    let mut response = sent.map_err(|error| match error {
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            Unanswered::NotSent
        }
        _ => Unanswered::Unknown,
    })?;
    let text = response.body_mut().with_config().limit(1 << 30).read_to_string();
    let text = text.map_err(|_| Unanswered::Unknown)?;
    Ok((response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text))))
}

fn answer(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> (u16, Value) {
    let mut response = response.expect("the admin port answers");
    let status = response.status().as_u16();
    let text = response.body_mut().with_config().limit(1 << 30).read_to_string().expect("the answer is text");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}
