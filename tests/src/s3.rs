//! A stand-in for S3: GET of objects for whoever signs as AWS prescribes (Signature Version 4), faults included.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use sha2::{Digest, Sha256};

/// Id of the key that is known.
pub const KEY_ID: &str = "AKIDTEST";
/// The key.
pub const SECRET: &str = "secret/of+the=test";
/// The region it is for.
pub const REGION: &str = "eu-west-1";

/// A running stand-in.
pub struct S3 {
    /// Where.
    pub address: SocketAddr,
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    /// By `/bucket/key` as it is, not encoded.
    objects: BTreeMap<String, Vec<u8>>,
    /// Statuses to answer the next requests with.
    faults: VecDeque<u16>,
    asked: usize,
}

impl S3 {
    /// Starts one without objects.
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let held = Arc::new(Mutex::new(Held::default()));
        let shared = held.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let held = shared.clone();
                thread::spawn(move || while serve(&stream, &held).is_some() {});
            }
        });
        Self { address, held }
    }

    /// Puts an object.
    pub fn put(&self, bucket: &str, key: &str, bytes: &[u8]) {
        self.lock().objects.insert(format!("/{bucket}/{key}"), bytes.to_vec());
    }

    /// Answers the next requests with these statuses.
    pub fn fail(&self, statuses: &[u16]) {
        self.lock().faults.extend(statuses);
    }

    /// Requests that came.
    pub fn asked(&self) -> usize {
        self.lock().asked
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(stream: &TcpStream, held: &Mutex<Held>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    if reader.read_line(&mut first).ok()? == 0 {
        return None;
    }
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_string());
    }
    let mut words = first.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
    held.asked += 1;
    let refused = |status: u16, code: &str| {
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>");
        answer(stream, status, "application/xml", body.as_bytes())
    };
    if let Some(status) = held.faults.pop_front() {
        return refused(status, "SlowDown");
    }
    if !is_signed(method, path, query, &headers) {
        return refused(403, "SignatureDoesNotMatch");
    }
    match held.objects.get(&decoded(path)) {
        Some(bytes) if method == "GET" => answer(stream, 200, "binary/octet-stream", bytes),
        Some(_) => refused(405, "MethodNotAllowed"),
        None => refused(404, "NoSuchKey"),
    }
}

fn answer(mut stream: &TcpStream, status: u16, kind: &str, body: &[u8]) -> Option<()> {
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\netag: \"e\"\r\n\
         last-modified: Sat, 21 Nov 2026 12:00:00 GMT\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()
}

/// Whether the signature is the one AWS would compute for this request.
fn is_signed(method: &str, path: &str, query: &str, headers: &BTreeMap<String, String>) -> bool {
    let given = headers.get("authorization").map(String::as_str).unwrap_or_default();
    let field = |name: &str| {
        let rest = given.split_once(&format!("{name}="))?.1;
        Some(rest.split(',').next().unwrap_or(rest).trim().to_string())
    };
    let (Some(credential), Some(names), Some(signature)) =
        (field("Credential"), field("SignedHeaders"), field("Signature"))
    else {
        return false;
    };
    let Some(time) = headers.get("x-amz-date") else { return false };
    let Some(day) = time.get(..8) else { return false };
    let scope = format!("{day}/{REGION}/s3/aws4_request");
    if credential != format!("{KEY_ID}/{scope}") || !names.split(';').any(|name| name == "host") {
        return false;
    }
    let of = |name: &str| headers.get(name).cloned().unwrap_or_default();
    let lines: String = names.split(';').map(|name| format!("{name}:{}\n", of(name))).collect();
    let mut pairs: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
    pairs.sort_unstable();
    let payload = of("x-amz-content-sha256");
    let canonical = format!("{method}\n{path}\n{}\n{lines}\n{names}\n{payload}", pairs.join("&"));
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let mut key = hmac(format!("AWS4{SECRET}").as_bytes(), day.as_bytes());
    for part in [REGION, "s3", "aws4_request"] {
        key = hmac(&key, part.as_bytes());
    }
    hex(&hmac(&key, to_sign.as_bytes())) == signature
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let pad = |byte: u8| block.map(|of_key| of_key ^ byte);
    let inner = Sha256::digest([&pad(0x36)[..], message].concat());
    Sha256::digest([&pad(0x5c)[..], &inner].concat()).to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn decoded(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| char::from(byte.unwrap_or(b'0')).to_digit(16).unwrap_or(0) as u8;
        bytes.push(if byte == b'%' { digit(rest.next()) * 16 + digit(rest.next()) } else { byte });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
