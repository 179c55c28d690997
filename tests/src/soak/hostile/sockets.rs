//! Hostile clients that hold sockets: silent, slow, unfinished, too many, or without any protocol.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ingest::wire::{Connection, hello};
use rand::Rng;

use super::Scene;
use crate::soak::banks;

const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Connections that a kind opens at most.
const IDLE: usize = 1200;
const HOGS: usize = 1200;
const CONNECTS: usize = 1500;
const DRIPS: usize = 64;
const BODIES: usize = 48;
const SCANS: usize = 4;
const GARBAGE: usize = 32;
/// Hashes of a scan.
const SCANNED: u64 = 65_536;
const SCANNED_COPIES: usize = 4096;

fn connect(address: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, CONNECT_MAX).ok()?;
    stream.set_write_timeout(Some(CONNECT_MAX)).ok()?;
    Some(stream)
}

/// Both ports.
fn ports(scene: &Scene<'_>) -> [SocketAddr; 2] {
    [scene.place.listen, scene.place.admin.parse().unwrap_or(scene.place.listen)]
}

/// Opens connections to both ports, while the phase lasts.
fn open_many(scene: &Scene<'_>, count: usize) -> Vec<TcpStream> {
    let ports = ports(scene);
    let mut streams = Vec::new();
    for at in 0..count {
        if !scene.goes_on() {
            break;
        }
        streams.extend(connect(ports[at % 2]));
    }
    streams
}

pub fn idle(scene: &mut Scene<'_>) {
    let held = open_many(scene, IDLE);
    scene.stage.count("idle connections", held.len() as u64);
    while scene.goes_on() {
        scene.nap(Duration::from_secs(1));
    }
}

pub fn hogs(scene: &mut Scene<'_>) {
    let mut held = Vec::new();
    while scene.goes_on() && held.len() < HOGS {
        match Connection::open(scene.place.listen, None, CONNECT_MAX) {
            Ok(connection) => held.push(connection),
            Err(_) => break, // there are no more slots
        }
    }
    scene.stage.count("idle connections after Hello", held.len() as u64);
    while scene.goes_on() {
        scene.nap(Duration::from_secs(1));
    }
}

pub fn connects(scene: &mut Scene<'_>) {
    while scene.goes_on() {
        let held = open_many(scene, CONNECTS);
        scene.stage.count("connections opened and closed", held.len() as u64);
        scene.nap(Duration::from_millis(500));
    }
}

/// Sends bytes before it closes, so that the server's answer meets a closed socket: otherwise the closed connections use
/// up the local ports, and a newcomer waits for its own system to find one.
pub fn churn(scene: &mut Scene<'_>) {
    let ports = ports(scene);
    for at in 0.. {
        if !scene.goes_on() {
            break;
        }
        let Some(mut stream) = connect(ports[at % 2]) else { continue };
        let _ = stream.write_all(&[0xff; 8]); // no frame, and no HTTP
        scene.stage.count("connections opened and closed at once", 1);
    }
}

pub fn drip(scene: &mut Scene<'_>) {
    let mut first = Vec::new();
    hello(0, None, &mut first);
    let request =
        b"GET /api/v1/banks HTTP/1.1\r\nhost: localhost\r\nx-slow: very slow indeed\r\n\r\n".to_vec();
    let bytes = [first, request];
    let ports = ports(scene);
    let mut streams: Vec<(usize, Option<TcpStream>, usize)> =
        (0..DRIPS).map(|at| (at % 2, connect(ports[at % 2]), 0)).collect();
    while scene.goes_on() {
        for (port, stream, sent) in &mut streams {
            let byte = &bytes[*port][*sent..=*sent];
            let written = stream.as_mut().is_some_and(|stream| stream.write(byte).is_ok());
            // The last byte never comes; a connection that was cut is opened again.
            if !written || *sent + 2 >= bytes[*port].len() {
                (*stream, *sent) = (connect(ports[*port]), 0);
            } else {
                *sent += 1;
            }
        }
        scene.nap(Duration::from_millis(200));
    }
}

pub fn bodies(scene: &mut Scene<'_>) {
    let admin = ports(scene)[1];
    let paths = [
        ("/api/v1/scan", 32 << 20),
        ("/api/v1/banks/GROWING/import?signal_type=pdq&format=lines", 1 << 30),
        ("/api/v1/items/async/", 32 << 20),
        ("/api/v1/match", 1 << 20),
        ("/api/v1/hash", 32 << 20),
        ("/api/v1/lookup", 1 << 20),
    ];
    let mut held = Vec::new();
    for at in 0..BODIES {
        if !scene.goes_on() {
            break;
        }
        let (path, length) = paths[at % paths.len()];
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        let Some(mut stream) = connect(admin) else { continue };
        let part = vec![b' '; (length / 2).min(4 << 20)];
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&part)); // refused early, maybe
        held.push(stream);
    }
    scene.stage.count("unfinished bodies", held.len() as u64);
    while scene.goes_on() {
        scene.nap(Duration::from_secs(1));
    }
}

fn scan(scene: &Scene<'_>, body: &[u8]) {
    let admin = ports(scene)[1];
    let head = format!(
        "POST /api/v1/scan?threshold=31 HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut held = Vec::new();
    for _ in 0..SCANS {
        let Some(mut stream) = connect(admin) else { continue };
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).is_ok() {
            scene.stage.count("scans that nobody reads", 1);
        }
        held.push(stream);
    }
    while scene.goes_on() {
        scene.nap(Duration::from_secs(1));
    }
}

pub fn scans(scene: &mut Scene<'_>) {
    let mut bank = banks::uniform(scene.stage.seed);
    let body: Vec<u8> = (0..SCANNED).flat_map(|at| bank.get(at % scene.plan.hashes).0).collect();
    scan(scene, &body);
}

pub fn scan_copies(scene: &mut Scene<'_>) {
    scan(scene, &banks::duplicate(scene.stage.seed).0.repeat(SCANNED_COPIES));
}

pub fn garbage(scene: &mut Scene<'_>) {
    let ports = ports(scene);
    let mut bytes = vec![0u8; 4096];
    while scene.goes_on() {
        for at in 0..GARBAGE {
            let Some(mut stream) = connect(ports[at % 2]) else { continue };
            scene.random.fill_bytes(&mut bytes);
            if at % 4 < 2 {
                bytes[..4].copy_from_slice(&1024u32.to_le_bytes()); // a frame's length
            }
            let _ = stream.write_all(&bytes); // cut off in the middle, mostly
            scene.stage.count("connections with garbage", 1);
        }
        scene.nap(Duration::from_millis(100));
    }
}
