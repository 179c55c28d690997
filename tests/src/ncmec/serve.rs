//! Calls of the interface over HTTP/1.1: who calls, what goes wrong, what is answered.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use reporter::cyber_tipline::Environment;

use super::book::{Caller, Reply};
use super::control;
use super::fault::{Endpoint, Fault};
use super::form::{self, FormError, Sent};
use super::held::{Call, Held, Settings, Shown};
use super::reply::Answer;
use crate::wire::{Body, Head};

/// Below the host.
pub const BASE: &str = "/ispws";
const XML_BYTES_MAX: u64 = 16 << 20;
/// A connection on which nothing comes for so long ends.
const IDLE_MAX: Duration = Duration::from_secs(300);

/// Takes what is held for a moment.
pub fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves a connection until it ends.
pub fn connection(stream: TcpStream, environment: Environment, held: &Mutex<Held>) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE_MAX))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(256 << 10, stream.try_clone()?);
    let mut stream = stream;
    while let Some(head) = Head::read(&mut reader) {
        if head.expects_continue() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut body = Body::new(&mut reader, &head)?;
        let goes_on = if head.path() == "/" || head.path().starts_with(control::PATH) {
            let answer = if stream.peer_addr()?.ip().is_loopback() {
                control::answer(&head, &mut body, environment, held)
            } else {
                Answer::new(403, "text/plain", "control is for this machine alone\n")
            };
            body.drain()?;
            answer.send(&mut stream, None)?
        } else {
            exchange(&head, &mut body, &mut stream, environment, held)?
        };
        if !goes_on || head.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            break;
        }
    }
    Ok(())
}

/// One call.
fn exchange(
    head: &Head,
    body: &mut Body<'_, impl BufRead>,
    stream: &mut TcpStream,
    environment: Environment,
    held: &Mutex<Held>,
) -> io::Result<bool> {
    let endpoint = head
        .path()
        .strip_prefix(BASE)
        .and_then(|path| path.strip_prefix('/'))
        .and_then(|name| name.parse::<Endpoint>().ok())
        .filter(|endpoint| endpoint.method() == head.method);
    let (mut call, settings) = {
        let mut held = lock(held);
        let mut call = held.begin(environment, endpoint, format!("{} {}", head.method, head.target));
        call.content_type = head.header("content-type").map(ToString::to_string);
        call.shown = held.who(environment, head.header("authorization"));
        held.note(&call);
        (call, held.settings.clone())
    };
    let fault = call.fault;
    let mut answer = match fault {
        Some(fault) if !fault.processes() => {
            if !matches!(fault, Fault::Reset | Fault::Stall) {
                body.drain()?;
            }
            unprocessed(fault, &mut call, &settings)
        }
        _ => {
            let remote = stream.peer_addr()?.ip().to_string();
            let answer = processed(head, body, &remote, &mut call, &settings, held)?;
            body.drain()?;
            answer
        }
    };
    answer.headers.push(("request-id", call.request_id.clone()));
    let answers = !matches!(fault, Some(Fault::Reset | Fault::Stall | Fault::Lost));
    call.status = answers.then_some(answer.status);
    lock(held).note(&call); // it has had its effect, whatever the answer waits for
    thread::sleep(Duration::from_millis(settings.delay_ms));
    let end = |call: &mut Call| {
        let mut held = lock(held);
        call.ended_us = Some(held.elapsed_us());
        held.note(call);
    };
    if fault == Some(Fault::Stall) {
        let sent = answer.send(stream, fault);
        end(&mut call);
        return sent;
    }
    end(&mut call);
    let sent = answer.send(stream, fault);
    if settings.says {
        say(&call);
    }
    sent
}

/// The answer to a call that has no effect.
fn unprocessed(fault: Fault, call: &mut Call, settings: &Settings) -> Answer {
    match fault {
        Fault::Code(code) => {
            xml(call, settings, Reply::refused(code, "The stand-in was told to answer this"))
        }
        Fault::TooMany(seconds) => {
            let mut answer = Answer::new(429, "text/plain", "too many requests");
            answer.headers.push(("retry-after", seconds.to_string()));
            answer
        }
        Fault::Unauthorized | Fault::UnauthorizedXml => Answer::unauthorized(fault == Fault::UnauthorizedXml),
        Fault::Html => Answer::html(200),
        Fault::Status(status) => Answer::new(status, "text/plain", "the stand-in was told to answer this"),
        _ => Answer::new(500, "text/plain", ""), // is not sent
    }
}

/// The answer to a call that has its effect.
fn processed(
    head: &Head,
    body: &mut Body<'_, impl BufRead>,
    remote: &str,
    call: &mut Call,
    settings: &Settings,
    held: &Mutex<Held>,
) -> io::Result<Answer> {
    let caller = match &call.shown {
        Shown::Known(caller) if caller.environment == call.environment => caller.clone(),
        _ => return Ok(Answer::unauthorized(settings.unauthorized_xml)),
    };
    let Some(endpoint) = call.endpoint else {
        let reply = Reply::refused(1210, format!("Resource not found: {}", call.line));
        return Ok(Answer { status: 404, ..xml(call, settings, reply) });
    };
    let mut reply = match endpoint {
        Endpoint::Xsd => return Ok(Answer::new(200, "application/xml", lock(held).xsd.clone())),
        Endpoint::Status => Reply {
            words: format!("Remote User : {}, Remote Ip : {remote}", caller.user),
            ..Reply::default()
        },
        Endpoint::Submit | Endpoint::FileInfo => document(head, body, endpoint, &caller, call, held)?,
        Endpoint::Upload | Endpoint::Finish | Endpoint::Retract => {
            form(head, body, endpoint, &caller, call, held)?
        }
    };
    match (call.fault, &mut reply) {
        (Some(Fault::WrongMd5), Reply { hash: Some(hash), .. }) => *hash = "0".repeat(32),
        (Some(Fault::DuplicateFileId), Reply { hash: Some(_), file_id, report_id: Some(id), .. }) => {
            *file_id = lock(held).book.first_file(&caller, *id).map(ToString::to_string);
        }
        _ => {}
    }
    let mut answer = xml(call, settings, reply);
    match call.fault {
        Some(Fault::GatewayTimeout) => answer = Answer::html(504),
        Some(Fault::Truncated) => answer.body.truncate(answer.body.len() / 2),
        _ => {}
    }
    Ok(answer)
}

/// Answers in XML, and writes down what is answered.
fn xml(call: &mut Call, settings: &Settings, mut reply: Reply) -> Answer {
    call.code = Some(reply.code);
    call.report_id = call.report_id.or(reply.report_id);
    if call.endpoint == Some(Endpoint::Finish) && reply.code != 0 && settings.finish_refused_as_done {
        reply.files = Some(Vec::new());
        reply.report_id = reply.report_id.or(call.report_id).or(Some(0));
    }
    if call.fault == Some(Fault::NoReportId) {
        reply.report_id = None;
    }
    Answer::xml(200, &reply, settings.latin1 || call.fault == Some(Fault::Latin1))
}

/// Calls that send XML.
fn document(
    head: &Head,
    body: &mut Body<'_, impl BufRead>,
    endpoint: Endpoint,
    caller: &Caller,
    call: &mut Call,
    held: &Mutex<Held>,
) -> io::Result<Reply> {
    let kind = head.header("content-type").unwrap_or("").split(';').next().unwrap_or("").trim();
    if !matches!(kind.to_ascii_lowercase().as_str(), "text/xml" | "application/xml") {
        return Ok(Reply::refused(
            4000,
            format!("Invalid request: the content type '{kind}' is not text/xml"),
        ));
    }
    let mut bytes = Vec::new();
    body.take(XML_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > XML_BYTES_MAX {
        return Ok(Reply::refused(4000, "Invalid request: the XML is too long"));
    }
    call.body = Some(String::from_utf8_lossy(&bytes).into_owned());
    let mut held = lock(held);
    let now_ms = held.now_ms();
    Ok(match endpoint {
        Endpoint::Submit => held.book.submit(caller, &bytes, now_ms),
        _ => held.book.file_info(caller, &bytes, now_ms),
    })
}

/// Calls that send a form.
fn form(
    head: &Head,
    body: &mut Body<'_, impl BufRead>,
    endpoint: Endpoint,
    caller: &Caller,
    call: &mut Call,
    held: &Mutex<Held>,
) -> io::Result<Reply> {
    let kind = head.header("content-type").unwrap_or("");
    let is_multipart = kind.to_ascii_lowercase().starts_with("multipart/");
    let keep_max = if endpoint == Endpoint::Upload { lock(held).settings.keep_bytes_max } else { 0 };
    let read = match form::read(kind, body, keep_max) {
        Some(read) if is_multipart || endpoint != Endpoint::Upload => read,
        _ => {
            return Ok(Reply::refused(
                4000,
                format!("Invalid request: '{kind}' is not the content type of its form"),
            ));
        }
    };
    let (id, file): (Option<String>, Option<Sent>) = match read {
        Ok(mut form) => (form.fields.remove("id"), form.file),
        Err(FormError::Broken(error)) => return Err(error),
        Err(FormError::Malformed(words)) => {
            let code = if endpoint == Endpoint::Upload { 4200 } else { 4000 };
            return Ok(Reply::refused(code, format!("Malformed file submittal: {words}")));
        }
    };
    call.report_id = id.as_deref().and_then(|id| id.trim().parse().ok());
    let mut held = lock(held);
    let now_ms = held.now_ms();
    let id = id.as_deref();
    Ok(match endpoint {
        Endpoint::Upload => held.book.upload(caller, id, file, now_ms),
        Endpoint::Finish => held.book.finish(caller, id, now_ms),
        _ => held.book.retract(caller, id, now_ms),
    })
}

/// A line for people.
fn say(call: &Call) {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_string());
    eprintln!(
        "{:>6}  {:<10} {:<24} status {:<4} code {:<5} report {:<10} {}",
        call.number,
        call.environment.name(),
        call.line,
        or_dash(call.status.map(|status| status.to_string())),
        or_dash(call.code.map(|code| code.to_string())),
        or_dash(call.report_id.map(|id| id.to_string())),
        call.fault.map_or_else(String::new, |fault| format!("({fault})")),
    );
}
