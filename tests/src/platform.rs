//! A stand-in for a platform and its parties: media to fetch, endpoints for partial items, for what it adds to a report and
//! for what it must preserve, webhooks, and the classifier. It remembers what it was asked, and fails as it is told to.

mod info;

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use serde_json::{Value, json};

use self::info::Informant;
pub use self::info::Misinformed;
use crate::wire::{Body, Head};

/// A running stand-in.
pub struct Platform {
    /// Where.
    pub address: SocketAddr,
    held: Arc<Mutex<Held>>,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its path.
    pub path: String,
    /// Its headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Asked {
    /// Its body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    /// Whether it was signed with the key in this file: as Coop signs, and with its id and time.
    pub fn is_signed_with(&self, key_file: &Path) -> bool {
        let pem = std::fs::read_to_string(key_file).expect("a key file");
        let der: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = BASE64_STANDARD.decode(der).expect("a key in PEM");
        let key = RsaKeyPair::from_pkcs8(&der).expect("an RSA key");
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public().as_ref());
        let is_good = |bytes: &[u8], signature: Option<&str>| {
            let signature = signature.and_then(|text| BASE64_STANDARD.decode(text).ok());
            signature.is_some_and(|signature| public.verify(bytes, &signature).is_ok())
        };
        let header = |name: &str| self.headers.get(name).map(String::as_str);
        let (id, time) = (header("webhook-id").unwrap_or(""), header("webhook-timestamp").unwrap_or(""));
        let dated = [id.as_bytes(), b".", time.as_bytes(), b".", &self.body].concat();
        let timed = header("webhook-signature").and_then(|given| given.strip_prefix("v1rsa,"));
        is_good(&self.body, header("coop-signature"))
            && is_good(&dated, timed)
            && !is_good(&[&dated[..], b" "].concat(), timed)
    }
}

#[derive(Default)]
struct Held {
    files: BTreeMap<String, (String, Vec<u8>)>,
    /// By path: type and length of files that are made up as they are sent.
    films: BTreeMap<String, (String, u64)>,
    /// By path: after how many bytes the next answer gets stuck.
    stalls: BTreeMap<String, u64>,
    /// Items that the platform tells of when it is asked.
    items: Vec<Value>,
    /// What it adds to reports.
    informant: Informant,
    priority: Option<&'static str>,
    /// By beginning of the path: statuses to answer the next requests with.
    faults: BTreeMap<String, VecDeque<u16>>,
    asked: Vec<Asked>,
}

impl Platform {
    /// Starts one that knows nothing.
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

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A URL of its.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// Serves a file; gives its URL.
    pub fn put(&self, name: &str, kind: &str, bytes: &[u8]) -> String {
        self.lock().files.insert(format!("/media/{name}"), (kind.to_string(), bytes.to_vec()));
        self.url(&format!("media/{name}"))
    }

    /// Serves a file of so many bytes, those of [`film`]; gives its URL.
    pub fn put_film(&self, name: &str, kind: &str, bytes: u64) -> String {
        self.lock().films.insert(format!("/media/{name}"), (kind.to_string(), bytes));
        self.url(&format!("media/{name}"))
    }

    /// Gets stuck once in the midst of a film, after so many bytes, until who asked goes away.
    pub fn stall(&self, name: &str, bytes: u64) {
        self.lock().stalls.insert(format!("/media/{name}"), bytes);
    }

    /// Serves no files any more.
    pub fn lose_all(&self) {
        self.lock().files.clear();
    }

    /// Tells of an item when it is asked for it.
    pub fn tell(&self, item: Value) {
        self.lock().items.push(item);
    }

    /// Adds these fields to what it tells of a user when a report is about to be filed.
    pub fn inform_of_user(&self, id: &str, fields: Value) {
        self.lock().informant.told.insert(("users", id.to_string()), fields);
    }

    /// The same of a medium.
    pub fn inform_of_media(&self, id: &str, fields: Value) {
        self.lock().informant.told.insert(("media", id.to_string()), fields);
    }

    /// Adds a field to the whole of what it tells: `additionalFiles`, `messages`, `additionalInfo`.
    pub fn inform_besides(&self, name: &str, value: Value) {
        self.lock().informant.more.insert(name.to_string(), value);
    }

    /// Makes the next such answer wrong.
    pub fn misinform(&self, fault: Misinformed) {
        self.lock().informant.faults.push_back(fault);
    }

    /// What the classifier says of every picture.
    pub fn classify_as(&self, priority: &'static str) {
        self.lock().priority = Some(priority);
    }

    /// Answers the next requests whose path begins so with these statuses; 0 ends the connection without an answer.
    pub fn fail(&self, path: &str, statuses: &[u16]) {
        self.lock().faults.entry(path.to_string()).or_default().extend(statuses);
    }

    /// What was asked under a path.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        self.lock().asked.iter().filter(|asked| asked.path.starts_with(path)).cloned().collect()
    }

    /// Waits until so much was asked under a path.
    pub fn wait(&self, path: &str, count: usize) -> Vec<Asked> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let asked = self.asked(path);
            if asked.len() >= count {
                return asked;
            }
            assert!(Instant::now() < deadline, "{path} was asked {} times, not {count}", asked.len());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The file with the key that signs; for tests alone.
    pub fn key_file() -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/platform-key.pem"))
    }
}

const PIECE: usize = 64 << 10;

/// The bytes of a film, piece by piece; no two pieces are alike.
pub fn film(bytes: u64) -> impl Iterator<Item = Vec<u8>> {
    let pieces = bytes.div_ceil(PIECE as u64);
    (0..pieces).map(move |number| {
        let mut piece = number.to_le_bytes().repeat(PIECE / 8);
        piece.truncate((bytes - number * PIECE as u64).min(PIECE as u64) as usize);
        piece
    })
}

fn send_film(mut stream: &TcpStream, kind: &str, bytes: u64, stall: Option<u64>) -> Option<()> {
    let head = format!(
        "HTTP/1.1 200 Answer\r\ncontent-type: {kind}\r\ncontent-length: {bytes}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    let mut left = stall.unwrap_or(bytes);
    for piece in film(bytes) {
        let count = left.min(piece.len() as u64);
        stream.write_all(&piece[..count as usize]).ok()?;
        left -= count;
        if left == 0 {
            break;
        }
    }
    if stall.is_some() {
        let _ = stream.read(&mut [0]); // until it is closed
    }
    None // one request a connection
}

fn serve(stream: &TcpStream, held: &Mutex<Held>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let head = Head::read(&mut reader)?;
    let mut body = Vec::new();
    Body::new(&mut reader, &head).ok()?.read_to_end(&mut body).ok()?;
    let path = head.target;
    let mut stream = stream.try_clone().ok()?;
    let film = {
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        let film = held.films.get(&path).cloned();
        if film.is_some() {
            held.asked.push(Asked { path: path.clone(), headers: head.headers.clone(), body: Vec::new() });
        }
        film.map(|film| (film, held.stalls.remove(&path)))
    };
    if let Some(((kind, bytes), stall)) = film {
        return send_film(&stream, &kind, bytes, stall);
    }
    let (status, kind, answer) = {
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        held.asked.push(Asked { path: path.clone(), headers: head.headers, body: body.clone() });
        let fault = held.faults.iter_mut().find(|(under, left)| path.starts_with(*under) && !left.is_empty());
        match fault.and_then(|(_, left)| left.pop_front()) {
            Some(0) => return None,
            Some(status) => (status, "text/plain".to_string(), b"no".to_vec()),
            None if path.starts_with("/info") => {
                let (answer, fault) = held.informant.answer(&body);
                if let Some(fault) = fault {
                    drop(held);
                    info::send(&mut stream, &answer, &fault).ok()?;
                    return None;
                }
                (200, "application/json".to_string(), answer)
            }
            None => answer(&held, &path, &body),
        }
    };
    let head = format!(
        "HTTP/1.1 {status} Answer\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        answer.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&answer).ok()?;
    None // one request a connection
}

fn answer(held: &Held, path: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
    let json = |value: Value| (200, "application/json".to_string(), value.to_string().into_bytes());
    if let Some((kind, bytes)) = held.files.get(path) {
        return (200, kind.clone(), bytes.clone());
    }
    match path {
        "/partial" => {
            let asked: Value = serde_json::from_slice(body).unwrap_or_default();
            let wanted = asked["items"].as_array().cloned().unwrap_or_default();
            let known = |item: &&Value| {
                wanted.iter().any(|key| key["id"] == item["id"] && key["typeId"] == item["typeId"])
            };
            json(json!({ "items": held.items.iter().filter(known).collect::<Vec<_>>() }))
        }
        "/v1beta1/images:classify" => {
            let asked: Value = serde_json::from_slice(body).unwrap_or_default();
            let images = asked["images"].as_array().map_or(0, Vec::len);
            let priority = held.priority.unwrap_or("VERY_LOW");
            json(json!({ "reviewPriorities": vec![priority; images], "model_version": "1" }))
        }
        hook if hook.starts_with("/hook") || hook.starts_with("/preserve") => json(json!({})),
        _ => (404, "text/plain".to_string(), b"no such thing".to_vec()),
    }
}
