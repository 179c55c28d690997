//! How a program steers the stand-in, and reads what came: JSON under `/control`, for this machine alone.

use std::collections::BTreeMap;
use std::io::{BufRead, Read};
use std::sync::Mutex;

use reporter::cyber_tipline::Environment;
use serde_json::{Map, Value, json};

use super::book::{File, Report, State};
use super::fault::{Endpoint, Fault, Plan};
use super::held::{Held, User};
use super::reply::Answer;
use super::serve::lock;
use crate::wire::{Body, Head};

/// Where it is.
pub const PATH: &str = "/control";
const BODY_BYTES_MAX: u64 = 16 << 20;

/// What `/` and `/control` say.
pub const HELP: &str = r#"A stand-in for NCMEC's CyberTipline: nothing that comes here is reported to anybody.

GET    /control/reports                    all reports: state, files, XML, details. ?state=finished|open|retracted|expired
GET    /control/reports/ENV/ID             one; ENV is test or production
GET    /control/reports/ENV/ID/files/FILE  a file's bytes, if it is small
GET    /control/finished                   finished reports by the espIdentifier of the reported user
GET    /control/calls                      every call: when, what, whose credentials, what was answered. ?endpoint=upload
GET    /control/counts                     calls by environment and endpoint
GET    /control/faults                     what is told to go wrong
POST   /control/faults                     {"endpoint":"upload","fault":"lost","times":2}; without times: always
DELETE /control/faults                     nothing goes wrong any more
POST   /control/plan                       {"seed":7,"chances":[{"endpoint":"upload","fault":"reset","chance":0.1}]}; without endpoint: any
GET    /control/clock                      what the stand-in's clock says
POST   /control/clock                      {"advance_seconds":3600} or {"now_ms":1790000000000}
POST   /control/settings                   {"delay_ms":0,"latin1":false,"unauthorized_xml":false,"finish_refused_as_done":false,"keep_bytes_max":1048576}
POST   /control/users                      {"environment":"test","user":"U","password":"P"}
PUT    /control/xsd                        what /xsd answers from now on

Faults that stop a request before it has an effect: code:N (HTTP 200), status:N, too_many:SECONDS, unauthorized,
unauthorized_xml, reset, stall, html. Faults after it had its effect: lost, gateway_timeout, slow:MILLISECONDS, truncated,
cut, oversized:BYTES, latin1, wrong_md5, no_report_id, duplicate_file_id. And healthy: to let requests pass before a fault.
"#;

/// Answers a request of it.
pub fn answer(
    head: &Head,
    body: &mut Body<'_, impl BufRead>,
    environment: Environment,
    held: &Mutex<Held>,
) -> Answer {
    let mut bytes = Vec::new();
    if body.take(BODY_BYTES_MAX).read_to_end(&mut bytes).is_err() {
        return refused("the body does not end");
    }
    let path: Vec<&str> = head.path().split('/').filter(|part| !part.is_empty()).skip(1).collect();
    let mut held = lock(held);
    if (head.method.as_str(), path.as_slice()) == ("PUT", &["xsd"]) {
        held.xsd = bytes;
        return done();
    }
    let asked: Value = if bytes.is_empty() {
        json!({})
    } else {
        match serde_json::from_slice(&bytes) {
            Ok(asked) => asked,
            Err(error) => return refused(&error.to_string()),
        }
    };
    let query = |name: &str| {
        let (_, query) = head.target.split_once('?')?;
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    };
    match (head.method.as_str(), path.as_slice()) {
        ("GET", []) => Answer::new(200, "text/plain", HELP),
        ("GET", ["reports"]) => {
            let state = query("state");
            let now_ms = held.now_ms();
            let reports = held.book.reports(now_ms);
            let wanted = reports.filter(|(_, now)| state.is_none_or(|state| now.name() == state));
            told(&Value::Array(wanted.map(|(report, now)| report_json(report, now)).collect()))
        }
        ("GET", ["reports", named, id, more @ ..]) => one_report(&held, named, id, more),
        ("GET", ["finished"]) => {
            let finished = finished(&held, environment).into_iter().map(|(mark, ids)| (mark, json!(ids)));
            told(&Value::Object(finished.collect()))
        }
        ("GET", ["calls"]) => {
            let endpoint = query("endpoint");
            let calls = held.calls().filter(|call| {
                endpoint.is_none_or(|wanted| call.endpoint.is_some_and(|endpoint| endpoint.name() == wanted))
            });
            told(&Value::Array(calls.map(super::held::Call::json).collect()))
        }
        ("GET", ["counts"]) => {
            let mut counts = Map::new();
            for ((environment, endpoint), count) in &held.counts {
                counts.entry(environment.name()).or_insert_with(|| json!({}))[endpoint.name()] = json!(count);
            }
            told(&Value::Object(counts))
        }
        ("GET", ["clock"]) => told(&json!({ "now_ms": held.now_ms() })),
        ("GET", ["faults"]) => {
            let told_faults = held.faults.told().map(|(endpoint, fault, times)| {
                let times = (times != u64::MAX).then_some(times);
                json!({ "endpoint": endpoint.name(), "fault": fault.to_string(), "times": times })
            });
            told(&Value::Array(told_faults.collect()))
        }
        ("DELETE", ["faults"]) => {
            held.faults.clear();
            done()
        }
        ("POST", [what]) => match change(&mut held, what, &asked) {
            Ok(true) => done(),
            Ok(false) => unknown(),
            Err(words) => refused(&words),
        },
        _ => unknown(),
    }
}

/// Finished reports by their mark.
pub fn finished(held: &Held, environment: Environment) -> BTreeMap<String, Vec<i64>> {
    let mut found = BTreeMap::<String, Vec<i64>>::new();
    for (report, state) in held.book.reports(held.now_ms()) {
        if report.environment == environment && state == State::Finished {
            found.entry(report.esp_identifier().unwrap_or_default()).or_default().push(report.id);
        }
    }
    found
}

fn one_report(held: &Held, environment: &str, id: &str, more: &[&str]) -> Answer {
    let Some((environment, id)) = environment_of(environment).ok().zip(id.parse().ok()) else {
        return unknown();
    };
    let Some(report) = held.book.report(environment, id, held.now_ms()) else { return unknown() };
    match more {
        [] => told(&report_json(&report, report.state)),
        ["files", wanted] => match report.files.into_iter().find(|file| file.id == *wanted) {
            Some(File { kept: Some(bytes), .. }) => Answer::new(200, "application/octet-stream", bytes),
            _ => unknown(),
        },
        _ => unknown(),
    }
}

/// Changes something; false if there is no such thing.
fn change(held: &mut Held, what: &str, asked: &Value) -> Result<bool, String> {
    let text = |from: &Value, name: &str| {
        from[name].as_str().map(ToString::to_string).ok_or_else(|| format!("'{name}' must be a text"))
    };
    match what {
        "faults" => {
            let (endpoint, fault): (Endpoint, Fault) =
                (text(asked, "endpoint")?.parse()?, text(asked, "fault")?.parse()?);
            held.faults.tell(endpoint, fault, asked["times"].as_u64().unwrap_or(u64::MAX));
        }
        "plan" => {
            let mut plan = Plan { seed: asked["seed"].as_u64().unwrap_or(0), chances: Vec::new() };
            for row in asked["chances"].as_array().into_iter().flatten() {
                let endpoint = row["endpoint"].as_str().map(str::parse).transpose()?;
                let chance = row["chance"].as_f64().filter(|chance| (0.0..=1.0).contains(chance));
                let chance = chance.ok_or("'chance' must be between 0 and 1")?;
                plan.chances.push((endpoint, text(row, "fault")?.parse()?, chance));
            }
            held.faults.plan = plan;
        }
        "clock" => {
            let ahead = asked["advance_seconds"].as_u64().map(|seconds| held.now_ms() + seconds * 1000);
            let now_ms = asked["now_ms"].as_u64().or(ahead);
            held.set_clock(now_ms.ok_or("'advance_seconds' or 'now_ms' must be a number")?);
        }
        "settings" => {
            let now = &mut held.settings;
            let yes = |name: &str, before: bool| asked[name].as_bool().unwrap_or(before);
            now.delay_ms = asked["delay_ms"].as_u64().unwrap_or(now.delay_ms);
            now.latin1 = yes("latin1", now.latin1);
            now.unauthorized_xml = yes("unauthorized_xml", now.unauthorized_xml);
            now.finish_refused_as_done = yes("finish_refused_as_done", now.finish_refused_as_done);
            let keep = asked["keep_bytes_max"].as_u64().and_then(|bytes| usize::try_from(bytes).ok());
            now.keep_bytes_max = keep.unwrap_or(now.keep_bytes_max);
        }
        "users" => {
            let environment = environment_of(&text(asked, "environment")?)?;
            held.users.push(User {
                environment,
                name: text(asked, "user")?,
                password: text(asked, "password")?,
            });
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn environment_of(name: &str) -> Result<Environment, String> {
    [Environment::Test, Environment::Production]
        .into_iter()
        .find(|environment| environment.name() == name)
        .ok_or_else(|| format!("'{name}' is neither 'test' nor 'production'"))
}

fn report_json(report: &Report, state: State) -> Value {
    let files = report.files.iter().map(|file| {
        json!({ "id": file.id, "name": file.name, "content_type": file.content_type, "bytes": file.bytes, "md5": file.md5,
            "kept": file.kept.is_some(), "details": file.details })
    });
    json!({ "id": report.id, "environment": report.environment.name(), "user": report.user, "state": state.name(),
        "opened_ms": report.opened_ms, "modified_ms": report.modified_ms, "expires_ms": report.expires_ms(),
        "esp_identifier": report.esp_identifier(), "xml": report.xml, "files": files.collect::<Vec<_>>() })
}

fn told(value: &Value) -> Answer {
    Answer::new(200, "application/json", value.to_string())
}

fn done() -> Answer {
    told(&json!({}))
}

fn refused(words: &str) -> Answer {
    Answer::new(400, "application/json", json!({ "message": words }).to_string())
}

fn unknown() -> Answer {
    Answer::new(
        404,
        "application/json",
        json!({ "message": "there is no such thing: see /control" }).to_string(),
    )
}
