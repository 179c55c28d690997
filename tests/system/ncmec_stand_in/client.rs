//! A client of the stand-in for NCMEC that knows nothing of ours: it sends, and shows what came back.

use std::io::Cursor;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reporter::cyber_tipline::Environment::Test;
use tests::Ncmec;
use tests::ncmec::{Endpoint, User};
use ureq::{Agent, SendBody};

pub const XML: &str = "text/xml; charset=utf-8";
pub const FORM: &str = "application/x-www-form-urlencoded";

/// A client of one CyberTipline.
pub struct Client {
    pub agent: Agent,
    pub base: String,
    pub authorization: String,
}

/// What came back.
#[derive(Debug)]
pub struct Told {
    pub status: u16,
    pub kind: String,
    pub request_id: Option<String>,
    pub retry_after: Option<String>,
    pub body: Vec<u8>,
}

impl Told {
    pub fn text(&self) -> String {
        match self.kind.contains("ISO-8859-1") {
            true => self.body.iter().map(|byte| char::from(*byte)).collect(),
            false => String::from_utf8(self.body.clone()).unwrap(),
        }
    }

    pub fn tag(&self, name: &str) -> Option<String> {
        let text = self.text();
        let (_, from) = text.split_once(&format!("<{name}>"))?;
        Some(from.split_once("</").expect("an end").0.to_string())
    }

    pub fn code(&self) -> i64 {
        self.tag("responseCode").unwrap_or_else(|| panic!("{self:?}")).parse().unwrap()
    }
}

impl Client {
    pub fn new(base: String, user: &User) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(300)));
        let authorization = BASE64_STANDARD.encode(format!("{}:{}", user.name, user.password));
        Self { agent: config.build().into(), base, authorization: format!("Basic {authorization}") }
    }

    pub fn of(ncmec: &Ncmec) -> Self {
        Self::new(ncmec.url(), &Ncmec::user(Test))
    }

    pub fn send(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: SendBody<'_>,
    ) -> Result<Told, ureq::Error> {
        let request = ureq::http::Request::builder().method(method).uri(format!("{}/{path}", self.base));
        let request = request.header("authorization", &self.authorization).header("content-type", kind);
        let mut response = self.agent.run(request.body(body).unwrap())?;
        let header =
            |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_string());
        Ok(Told {
            status: response.status().as_u16(),
            kind: header("content-type").unwrap_or_default(),
            request_id: header("request-id"),
            retry_after: header("retry-after"),
            body: response.body_mut().with_config().limit(1 << 30).read_to_vec()?,
        })
    }

    pub fn try_post(&self, path: &str, kind: &str, body: &[u8]) -> Result<Told, ureq::Error> {
        self.send("POST", path, kind, SendBody::from_reader(&mut Cursor::new(body)))
    }

    pub fn post(&self, path: &str, kind: &str, body: &[u8]) -> Told {
        let told = self.try_post(path, kind, body).unwrap();
        assert!(told.request_id.is_some(), "{told:?}");
        told
    }

    pub fn get(&self, path: &str) -> Told {
        self.send("GET", path, "", SendBody::none()).unwrap()
    }

    /// Opens a report.
    pub fn submit(&self, user: &str) -> i64 {
        let told = self.post("submit", XML, report(user).as_bytes());
        assert_eq!((told.status, told.code()), (200, 0), "{told:?}");
        told.tag("reportId").unwrap().parse().unwrap()
    }

    pub fn upload(&self, id: i64, bytes: &[u8]) -> Told {
        self.post("upload", &multipart_kind(), &multipart(id, bytes))
    }

    pub fn finish(&self, id: i64) -> Told {
        self.post("finish", FORM, format!("id={id}").as_bytes())
    }

    /// Calls that reach a report, each with a body that is right.
    pub fn reach(&self, endpoint: Endpoint, id: i64, file: &str) -> Result<Told, ureq::Error> {
        match endpoint {
            Endpoint::Status | Endpoint::Xsd => self.send("GET", endpoint.name(), "", SendBody::none()),
            Endpoint::Submit => self.try_post("submit", XML, report("u").as_bytes()),
            Endpoint::Upload => self.try_post("upload", &multipart_kind(), &multipart(id, b"bytes")),
            Endpoint::FileInfo => self.try_post("fileinfo", XML, details(id, file).as_bytes()),
            Endpoint::Finish | Endpoint::Retract => {
                self.try_post(endpoint.name(), FORM, format!("id={id}").as_bytes())
            }
        }
    }
}

pub fn report(user: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><report><incidentSummary><incidentType>Child Sex Tourism</incidentType>\
         <incidentDateTime>2020-01-02T03:04:05Z</incidentDateTime></incidentSummary><reporter><reportingPerson>\
         <email>desk@example.com</email></reportingPerson></reporter><personOrUserReported><espIdentifier>{user}\
         </espIdentifier></personOrUserReported></report>"
    )
}

pub fn details(id: i64, file: &str) -> String {
    format!(
        "<fileDetails><reportId>{id}</reportId><fileId>{file}</fileId><originalFileName>a.png</originalFileName>\
         <fileRelevance>Reported</fileRelevance></fileDetails>"
    )
}

pub fn multipart_kind() -> String {
    "multipart/form-data; boundary=xx".to_string()
}

pub fn multipart_head(id: i64) -> String {
    format!(
        "--xx\r\nContent-Disposition: form-data; name=\"id\"\r\n\r\n{id}\r\n--xx\r\nContent-Disposition: form-data; \
         name=\"file\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n"
    )
}

pub fn multipart(id: i64, bytes: &[u8]) -> Vec<u8> {
    [multipart_head(id).as_bytes(), bytes, b"\r\n--xx--\r\n"].concat()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
