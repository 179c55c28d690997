//! What a running stand-in holds: the book of reports, who may call, what goes wrong, every call that came, the clock.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reporter::cyber_tipline::Environment;
use serde_json::{Value, json};

use super::book::{Book, Caller};
use super::fault::{Endpoint, Fault, Faults, mix};

/// Beyond so many, the oldest calls are forgotten; they stay counted.
const CALLS_MAX: usize = 200_000;

/// Somebody who may call.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Where.
    pub environment: Environment,
    /// The name in the Basic authorisation.
    pub name: String,
    /// The password there.
    pub password: String,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.environment.name())
    }
}

/// How it behaves when nothing goes wrong.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long an answer takes, in milliseconds.
    pub delay_ms: u64,
    /// Whether answers are in ISO-8859-1, as in 2016.
    pub latin1: bool,
    /// Whether 401 has XML, as in 2016.
    pub unauthorized_xml: bool,
    /// Whether a `/finish` that is refused answers with the root of one that succeeds: NCMEC's schema allows both.
    pub finish_refused_as_done: bool,
    /// Files up to this length are kept, so that they can be looked at.
    pub keep_bytes_max: usize,
    /// Whether each call is a line on stderr.
    pub says: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            delay_ms: 0,
            latin1: false,
            unauthorized_xml: false,
            finish_refused_as_done: false,
            keep_bytes_max: 1 << 20,
            says: false,
        }
    }
}

/// Whose credentials came with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// There were none.
    Nothing,
    /// Nobody's.
    Wrong,
    /// Somebody's of this environment, right or not for where they came.
    Known(Caller),
}

/// A call that came.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its number.
    pub number: u64,
    /// When it came, in milliseconds since 1970 by the stand-in's clock.
    pub at_ms: u64,
    /// When its head was read, in microseconds since the stand-in was started.
    pub began_us: u64,
    /// When its answer was ready, or the client of one that gets none had left; none while it is worked on.
    pub ended_us: Option<u64>,
    /// Where.
    pub environment: Environment,
    /// What was called; none if there is no such thing.
    pub endpoint: Option<Endpoint>,
    /// Its method and path.
    pub line: String,
    /// What its body was said to be.
    pub content_type: Option<String>,
    /// Who called.
    pub shown: Shown,
    /// What went wrong because it was told to.
    pub fault: Option<Fault>,
    /// Its body, unless that was a file's.
    pub body: Option<String>,
    /// The report it was about, or opened.
    pub report_id: Option<i64>,
    /// The HTTP status of its answer; none where there was none.
    pub status: Option<u16>,
    /// The code in its answer.
    pub code: Option<i64>,
    /// `Request-ID` of its answer.
    pub request_id: String,
}

impl Call {
    /// As JSON.
    pub fn json(&self) -> Value {
        let shown = match &self.shown {
            Shown::Nothing => json!("none"),
            Shown::Wrong => json!("wrong"),
            Shown::Known(caller) => json!({ "environment": caller.environment.name(), "user": caller.user }),
        };
        json!({ "number": self.number, "at_ms": self.at_ms, "began_us": self.began_us, "ended_us": self.ended_us,
            "environment": self.environment.name(), "endpoint": self.endpoint.map(Endpoint::name), "line": self.line,
            "content_type": self.content_type, "credentials": shown, "fault": self.fault.map(|fault| fault.to_string()),
            "body": self.body, "report_id": self.report_id, "status": self.status, "code": self.code,
            "request_id": self.request_id })
    }
}

/// All of it.
#[derive(Debug)]
pub struct Held {
    /// Reports.
    pub book: Book,
    /// What goes wrong.
    pub faults: Faults,
    /// Who may call.
    pub users: Vec<User>,
    /// How it behaves.
    pub settings: Settings,
    /// What `/xsd` answers.
    pub xsd: Vec<u8>,
    /// Calls of each endpoint.
    pub counts: BTreeMap<(Environment, Endpoint), u64>,
    calls: VecDeque<Call>,
    number: u64,
    started: Instant,
    /// How far its clock is ahead of the machine's.
    ahead_ms: i64,
}

impl Held {
    /// Nothing yet.
    pub fn new(book: Book, users: Vec<User>, settings: Settings, xsd: Vec<u8>) -> Self {
        Self {
            book,
            faults: Faults::default(),
            users,
            settings,
            xsd,
            counts: BTreeMap::new(),
            calls: VecDeque::new(),
            number: 0,
            started: Instant::now(),
            ahead_ms: 0,
        }
    }

    /// What its clock says, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        machine_ms().saturating_add_signed(self.ahead_ms)
    }

    /// Sets its clock; it goes on from there.
    pub fn set_clock(&mut self, now_ms: u64) {
        self.ahead_ms = now_ms.cast_signed().saturating_sub(machine_ms().cast_signed());
    }

    /// Writes a call down; what it tells is filled in by the caller.
    pub fn begin(&mut self, environment: Environment, endpoint: Option<Endpoint>, line: String) -> Call {
        self.number += 1;
        if let Some(endpoint) = endpoint {
            *self.counts.entry((environment, endpoint)).or_default() += 1;
        }
        let call = Call {
            number: self.number,
            at_ms: self.now_ms(),
            began_us: self.elapsed_us(),
            ended_us: None,
            environment,
            endpoint,
            line,
            content_type: None,
            shown: Shown::Nothing,
            fault: endpoint.and_then(|endpoint| self.faults.take(endpoint)),
            body: None,
            report_id: None,
            status: None,
            code: None,
            request_id: format!("{:016x}", mix(self.number)),
        };
        if self.calls.len() >= CALLS_MAX {
            self.calls.pop_front();
        }
        self.calls.push_back(call.clone());
        call
    }

    /// Writes down how far a call is.
    pub fn note(&mut self, call: &Call) {
        let first = self.calls.front().map_or(0, |first| first.number);
        let at = call.number.checked_sub(first).and_then(|at| usize::try_from(at).ok());
        if let Some(held) = at.and_then(|at| self.calls.get_mut(at)) {
            *held = call.clone();
        }
    }

    /// Every call, in the order of their coming.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter()
    }

    /// Microseconds since it was started.
    pub fn elapsed_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Whose these credentials are; the environment's own first.
    pub fn who(&self, environment: Environment, authorization: Option<&str>) -> Shown {
        let Some(given) = authorization else { return Shown::Nothing };
        let pair = given
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
            .and_then(|(_, coded)| BASE64_STANDARD.decode(coded.trim()).ok())
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let Some((name, password)) = pair.as_deref().and_then(|pair| pair.split_once(':')) else {
            return Shown::Wrong;
        };
        let mut known: Vec<&User> =
            self.users.iter().filter(|user| user.name == name && user.password == password).collect();
        known.sort_by_key(|user| user.environment != environment);
        known.first().map_or(Shown::Wrong, |user| {
            Shown::Known(Caller { environment: user.environment, user: user.name.clone() })
        })
    }
}

fn machine_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
