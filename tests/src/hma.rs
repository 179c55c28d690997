//! A stand-in for HMA: the routes a load generator uses, with HMA's habits. It closes each connection, shows a
//! signal only when its index has been built again, and gives distances as text.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use index::{Hash256, Signal, SignalType};
use serde_json::{Value, json};

/// How often the index is built.
const BUILD: Duration = Duration::from_millis(300);
/// Bits that may differ.
const THRESHOLD: u16 = 31;

/// A running stand-in; it ends with the test's process.
pub struct Hma {
    /// Where it listens.
    pub address: SocketAddr,
    /// Every so many lookups it finds nothing; 0: it always answers rightly.
    pub forgets: Arc<AtomicU32>,
    /// Milliseconds that each request takes at least.
    pub slow_ms: Arc<AtomicU32>,
}

#[derive(Default)]
struct State {
    banks: BTreeSet<String>,
    signals: Vec<Hash256>,
    /// So many of them are in the index,
    indexed: usize,
    /// which was built then.
    built: Option<Instant>,
    lookups: u32,
}

impl Hma {
    /// Starts one on a free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let (state, forgets) = (Arc::new(Mutex::new(State::default())), Arc::new(AtomicU32::new(0)));
        let (forgetting, slow_ms) = (forgets.clone(), Arc::new(AtomicU32::new(0)));
        let slow = slow_ms.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, forgets, slow) = (state.clone(), forgetting.clone(), slow.clone());
                thread::spawn(move || {
                    thread::sleep(Duration::from_millis(slow.load(Ordering::Relaxed).into()));
                    serve(stream, &state, &forgets);
                });
            }
        });
        Self { address, forgets, slow_ms }
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>, forgets: &AtomicU32) {
    let Ok(mut out) = stream.try_clone() else { return };
    let Some((method, target, body)) = read(stream) else { return };
    let mut state = state.lock().expect("no handler panics");
    if state.built.is_none_or(|built| built.elapsed() > BUILD) {
        state.indexed = state.signals.len();
        state.built = Some(Instant::now());
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let argument = |name: &str| {
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_string))
    };
    let (status, answer) = match (method.as_str(), parts.as_slice()) {
        ("GET", ["m", "index", "status"]) => {
            (200, json!({ "pdq": { "built_to": 1, "present": true, "size": state.indexed } }))
        }
        ("POST", ["c", "banks"]) => match body["name"].as_str() {
            Some(name) if !state.banks.insert(name.to_string()) => {
                (403, json!({ "message": "Bank already exists" }))
            }
            _ => (201, json!({ "name": body["name"], "matching_enabled_ratio": 1.0 })),
        },
        ("POST", ["c", "bank", bank, "signal"]) if !state.banks.contains(*bank) => {
            (404, json!({ "message": format!("bank '{bank}' not found") }))
        }
        ("POST", ["c", "bank", _, "signal"]) => match pdq(body["pdq"].as_str().unwrap_or("")) {
            Some(hash) => {
                state.signals.push(hash);
                (200, json!({ "id": state.signals.len(), "signals": body }))
            }
            None => (400, json!({ "message": "Invalid pdq signal: invalid PDQ hash" })),
        },
        ("GET", ["m", "raw_lookup"]) => match argument("signal").as_deref().and_then(pdq) {
            Some(hash) => {
                state.lookups += 1;
                let every = forgets.load(Ordering::Relaxed);
                let forgets = every > 0 && state.lookups.is_multiple_of(every);
                let known = state.signals[..state.indexed].iter().enumerate();
                let near = known.filter_map(|(at, banked)| {
                    let distance = banked.distance(&hash).bits();
                    (distance <= THRESHOLD && !forgets)
                        .then(|| json!({ "bank_content_id": at + 1, "distance": distance.to_string() }))
                });
                (200, json!({ "matches": near.collect::<Vec<_>>() }))
            }
            None => (400, json!({ "message": "invalid signal: invalid PDQ hash" })),
        },
        _ => (404, json!({ "message": "not found" })),
    };
    let text = format!("{answer}\n");
    let head = format!(
        "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        text.len()
    );
    let _ = out.write_all((head + &text).as_bytes()); // a client that is gone needs no answer
}

fn pdq(text: &str) -> Option<Hash256> {
    match Signal::parse(SignalType::Pdq, text) {
        Ok(Signal::Pdq(hash)) => Some(hash),
        _ => None,
    }
}

/// Method, target and JSON body of a request.
fn read(stream: TcpStream) -> Option<(String, String, Value)> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(str::to_string);
    let (method, target) = (words.next()?, words.next()?);
    let (mut length, mut chunked) = (0, false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let (name, value) = line.split_once(':').unwrap_or((line.trim(), ""));
        match (name.to_ascii_lowercase().as_str(), value.trim()) {
            ("", _) => break,
            ("content-length", value) => length = value.parse().ok()?,
            ("transfer-encoding", value) => chunked = value.eq_ignore_ascii_case("chunked"),
            _ => {}
        }
    }
    let mut body = Vec::new();
    while chunked {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let size = u64::from_str_radix(line.trim(), 16).ok()?;
        (&mut reader).take(size).read_to_end(&mut body).ok()?;
        reader.read_line(&mut String::new()).ok()?;
        chunked = size > 0;
    }
    (&mut reader).take(length).read_to_end(&mut body).ok()?;
    Some((method, target, serde_json::from_slice(&body).unwrap_or_default()))
}
