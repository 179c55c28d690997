//! How answers are written: NCMEC's XML, in the charset that is asked for, and broken in the ways that are asked for.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use super::book::Reply;
use super::fault::Fault;
use super::form::find;

const HTML: &str = "<!DOCTYPE html><html><head><title>Error</title></head><body><h1>The page is not available</h1>\
    <p>Please come back later.</p></body></html>";
/// What an answer is made too long with.
static PIECE: [u8; 64 << 10] = [b' '; 64 << 10];
/// Whoever stalls a client does not do it for ever.
const STALL_MAX: Duration = Duration::from_secs(600);

/// An HTTP answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// What its body is.
    pub content_type: String,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// One with a body.
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, content_type: content_type.to_string(), headers: Vec::new(), body: body.into() }
    }

    /// One in NCMEC's XML.
    pub fn xml(status: u16, reply: &Reply, latin1: bool) -> Self {
        let (charset, letters) =
            if latin1 { ("ISO-8859-1", " (d\u{e9}j\u{e0} vu \u{a7})") } else { ("UTF-8", "") };
        let text = xml(reply, charset, letters);
        let body: Vec<u8> = if latin1 {
            text.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect()
        } else {
            text.into()
        };
        Self::new(status, &format!("application/xml;charset={charset}"), body)
    }

    /// One of somebody before NCMEC.
    pub fn html(status: u16) -> Self {
        Self::new(status, "text/html; charset=utf-8", HTML)
    }

    /// The answer to whom is not known.
    pub fn unauthorized(as_xml: bool) -> Self {
        let mut answer = if as_xml {
            Self::xml(401, &Reply::refused(1000, "Authentication Required"), true)
        } else {
            Self::new(401, "text/plain", "")
        };
        answer.headers.push(("www-authenticate", "Basic realm=\"ispws\"".to_string()));
        answer
    }

    /// Writes it; gives whether the connection goes on.
    pub fn send(&self, stream: &mut TcpStream, fault: Option<Fault>) -> io::Result<bool> {
        match fault {
            Some(Fault::Lost) => Ok(false),
            Some(Fault::Reset) => {
                set_socket_linger(&*stream, Some(Duration::ZERO))?;
                Ok(false)
            }
            Some(Fault::Stall) => {
                stalled(stream);
                Ok(false)
            }
            Some(Fault::Cut) => {
                stream.write_all(self.head(&self.length()).as_bytes())?;
                stream.write_all(&self.body[..self.body.len() / 2])?;
                Ok(false)
            }
            Some(Fault::Slow(milliseconds)) => {
                stream.write_all(self.head(&self.length()).as_bytes())?;
                for byte in &self.body {
                    thread::sleep(Duration::from_millis(milliseconds));
                    stream.write_all(&[*byte])?;
                }
                Ok(true)
            }
            Some(Fault::Oversized(bytes)) => self.send_oversized(stream, bytes),
            _ => {
                let whole = [self.head(&self.length()).as_bytes(), &self.body].concat();
                stream.write_all(&whole)?;
                Ok(true)
            }
        }
    }

    fn length(&self) -> String {
        format!("content-length: {}", self.body.len())
    }

    fn head(&self, framing: &str) -> String {
        let more: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let Self { status, content_type, .. } = self;
        format!(
            "HTTP/1.1 {status} {}\r\ncontent-type: {content_type}\r\n{more}{framing}\r\n\r\n",
            reason(*status)
        )
    }

    /// The same, with very many spaces in it.
    fn send_oversized(&self, stream: &mut TcpStream, bytes: u64) -> io::Result<bool> {
        let at = find(&self.body, b"</responseDescription>").or_else(|| find(&self.body, b"<files"));
        let (before, behind) = self.body.split_at(at.unwrap_or(0));
        stream.write_all(self.head("transfer-encoding: chunked").as_bytes())?;
        let mut chunk = |piece: &[u8]| -> io::Result<()> {
            if piece.is_empty() {
                return Ok(()); // it would end the body
            }
            stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
            stream.write_all(piece)?;
            stream.write_all(b"\r\n")
        };
        chunk(before)?;
        let mut left = bytes;
        while left > 0 {
            let length = PIECE.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            chunk(&PIECE[..length])?;
            left -= length as u64;
        }
        chunk(behind)?;
        stream.write_all(b"0\r\n\r\n")?;
        Ok(true)
    }
}

/// Waits until the client has had enough.
fn stalled(stream: &mut TcpStream) {
    let begun = Instant::now();
    let _ = stream.set_read_timeout(Some(STALL_MAX));
    while begun.elapsed() < STALL_MAX && stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {}
}

fn xml(reply: &Reply, charset: &str, letters: &str) -> String {
    let tag = |name: &str, text: &str| format!("<{name}>{text}</{name}>");
    let code = tag("responseCode", &reply.code.to_string());
    let report = reply.report_id.map_or_else(String::new, |id| tag("reportId", &id.to_string()));
    let content = match &reply.files {
        Some(files) => {
            let files: String = files.iter().map(|id| tag("fileId", id)).collect();
            tag("reportDoneResponse", &format!("{code}{report}{}", tag("files", &files)))
        }
        None => {
            let words = tag("responseDescription", &format!("{}{letters}", escaped(&reply.words)));
            let file = reply.file_id.as_ref().map_or_else(String::new, |id| tag("fileId", id));
            let hash = reply.hash.as_ref().map_or_else(String::new, |hash| tag("hash", hash));
            tag("reportResponse", &format!("{code}{words}{report}{file}{hash}"))
        }
    };
    format!("<?xml version=\"1.0\" encoding=\"{charset}\" standalone=\"yes\"?>\n{content}\n")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Answer",
    }
}
