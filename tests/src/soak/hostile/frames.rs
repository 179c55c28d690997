//! Hostile clients that speak the binary protocol well: every frame is legal.

use std::collections::HashMap;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use index::RequestId;
use ingest::wire::{Connection, ConnectionError, Query, Receiver, Reply, Request, hello};
use loadtest::workload::{Mix, draw};

use super::Scene;
use crate::soak::banks;

/// Hashes of the largest legal frame.
const HASHES_MAX: usize = 4096;
/// More than any PDQ threshold may be is refused; this is the widest that is not.
const WIDEST: u16 = 128;
/// How long an answer is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Connections of an overload, and hashes of each of its frames.
const OVERLOAD_CONNECTIONS: usize = 4;
const OVERLOAD_BATCH: usize = 1024;
/// Frames of an overload that are under way on a connection.
const OVERLOAD_DEPTH: usize = 64;
/// One-hit Submits under way on a connection. More would settle together, in one wake-up of the shard.
const SUBMITS_DEPTH: u64 = 1;
/// Pipelines whose answers nobody reads.
const UNREAD_CONNECTIONS: usize = 8;
/// Hashes of their frames, each of which matches: answers are long and cost the server little.
const UNREAD_BATCH: u64 = 2048;
/// A server that takes no byte for so long has filled what it may.
const FULL_AFTER: Duration = Duration::from_secs(1);

/// Asks one frame after another.
fn closed_loop(scene: &Scene<'_>, what: &'static str, request: &Request) {
    let Ok(mut connection) = Connection::open(scene.place.listen, None, ANSWER_MAX) else { return };
    let mut frame = Vec::new();
    request.encode(1, &mut frame);
    while scene.goes_on() {
        let answered = connection.send(&frame).and_then(|()| connection.receive());
        match answered {
            Ok((_, Reply::Busy { retry_after })) => scene.nap(retry_after),
            Ok(_) => scene.stage.count(what, 1),
            Err(_) => return,
        }
    }
}

pub fn copies(scene: &mut Scene<'_>) {
    let query = Query::pdq(vec![banks::duplicate(scene.stage.seed); HASHES_MAX]);
    closed_loop(scene, "frames of copies answered", &Request::Lookup(query));
}

pub fn threshold(scene: &mut Scene<'_>) {
    let mut bank = banks::uniform(scene.stage.seed);
    let hashes = (0..256).map(|at| bank.get(at % scene.plan.hashes)).collect();
    let query = Query { threshold: Some(WIDEST), ..Query::pdq(hashes) };
    closed_loop(scene, "frames with the widest threshold answered", &Request::Lookup(query));
}

/// Submits of one hash that matches, on one connection.
pub fn submits(scene: &mut Scene<'_>) {
    let Ok(mut connection) = Connection::open(scene.place.listen, None, ANSWER_MAX) else { return };
    let mut bank = banks::uniform(scene.stage.seed);
    let mut under_way = HashMap::new();
    let (mut next, mut frame) = (0u64, Vec::new());
    loop {
        while (under_way.len() as u64) < SUBMITS_DEPTH && scene.goes_on() {
            let (request, hash) = (RequestId::fresh(), bank.get(next % scene.plan.hashes));
            frame.clear();
            let query = Query::pdq(vec![hash]);
            Request::Submit { request, retry: false, query, contexts: Vec::new() }.encode(next, &mut frame);
            if connection.send(&frame).is_err() {
                return;
            }
            under_way.insert(next, request);
            next += 1;
        }
        if under_way.is_empty() {
            return;
        }
        let Ok((at, reply)) = connection.receive() else { return };
        let Some(request) = under_way.remove(&at) else { return };
        match reply {
            Reply::Submit(answer, receipt) => {
                if answer.hits.len() != 1 {
                    scene.stage.wrong(format!("a Submit of a banked hash has {} hits", answer.hits.len()));
                }
                scene.stage.acknowledged.add(receipt.first_position.0, answer.hits.len() as u64, request);
                scene.stage.count("one-hit Submits", 1);
            }
            Reply::Busy { .. } => scene.stage.count("Busy", 1),
            _ => return,
        }
    }
}

/// Sends as fast as the socket takes it; another thread reads.
pub fn overload(scene: &mut Scene<'_>) {
    let mut bank = banks::uniform(scene.stage.seed);
    let mix = Mix { hit_ratio: 0.1, bank_count: scene.plan.hashes };
    let frames: Vec<Vec<u8>> = (0..16)
        .map(|at| {
            let mut frame = Vec::new();
            let batch = draw(OVERLOAD_BATCH, mix, &mut bank, &mut scene.random);
            Request::Lookup(Query::pdq(batch.hashes)).encode(at, &mut frame);
            frame
        })
        .collect();
    let scene = &*scene;
    thread::scope(|scope| {
        for _ in 0..OVERLOAD_CONNECTIONS {
            let frames = &frames;
            scope.spawn(move || {
                let Ok(connection) = Connection::open(scene.place.listen, None, ANSWER_MAX) else { return };
                let (mut sender, receiver) = connection.split();
                let (permit, permits) = std::sync::mpsc::sync_channel(OVERLOAD_DEPTH);
                scope.spawn(move || drain(scene, receiver, &permits));
                for frame in frames.iter().cycle() {
                    if !scene.goes_on() || permit.send(()).is_err() || sender.send(frame).is_err() {
                        break;
                    }
                }
                let _ = sender.finish(); // the reader ends when the last answer has come
            });
        }
    });
}

fn drain(scene: &Scene<'_>, mut receiver: Receiver, permits: &std::sync::mpsc::Receiver<()>) {
    while permits.recv().is_ok() {
        match receiver.receive() {
            Ok((_, Reply::Busy { .. })) => scene.stage.count("overload answered Busy", 1),
            Ok(_) => scene.stage.count("overload frames answered", 1),
            Err(_) => return,
        }
    }
}

/// Sends frames with long answers and reads none of them.
pub fn unread(scene: &mut Scene<'_>) {
    let mut unread = Unread::open(scene.place.listen, scene.stage.seed, scene.plan.hashes);
    while scene.goes_on() && unread.push() {
        scene.nap(Duration::from_millis(2));
    }
    while scene.goes_on() {
        scene.nap(Duration::from_secs(1));
    }
}

/// Connections that ask and never read.
pub struct Unread {
    frame: Vec<u8>,
    /// Each with what was sent of its last frame.
    streams: Vec<(TcpStream, usize)>,
}

impl Unread {
    fn open(listen: SocketAddr, seed: u64, hashes: u64) -> Self {
        let mut frame = Vec::new();
        let mut bank = banks::uniform(seed);
        let hashes = (0..UNREAD_BATCH).map(|at| bank.get(at % hashes)).collect();
        Request::Lookup(Query::pdq(hashes)).encode(1, &mut frame);
        let open = || -> Result<TcpStream, ConnectionError> {
            let mut stream = TcpStream::connect_timeout(&listen, ANSWER_MAX)?;
            let mut first = Vec::new();
            hello(0, None, &mut first);
            stream.write_all(&first)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        };
        let streams = (0..UNREAD_CONNECTIONS).filter_map(|_| open().ok()).map(|stream| (stream, 0)).collect();
        Self { frame, streams }
    }

    /// Opens them, and sends until the server reads no more of them.
    pub fn fill(listen: SocketAddr, seed: u64, hashes: u64) -> Self {
        let mut unread = Self::open(listen, seed, hashes);
        let (begun, mut moved, mut sent) = (Instant::now(), Instant::now(), 0);
        while begun.elapsed() < ANSWER_MAX && moved.elapsed() < FULL_AFTER && unread.push() {
            let now = unread.streams.iter().map(|(_, sent)| sent).sum::<usize>();
            if now != sent {
                (moved, sent) = (Instant::now(), now);
            }
            thread::sleep(Duration::from_millis(2));
        }
        unread
    }

    /// Sends what the sockets take; false once none is left.
    fn push(&mut self) -> bool {
        let frame = &self.frame;
        self.streams.retain_mut(|(stream, sent)| match stream.write(&frame[*sent..]) {
            Ok(count) => {
                *sent = (*sent + count) % frame.len();
                true
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        });
        !self.streams.is_empty()
    }
}
