//! The server ends when it is told to, and not before.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::{Duration, Instant};

use index::{Hash256, RequestId};
use ingest::wire::{Connection, Query, Reply, Request, hello, lookup};
use rustix::process::Signal;
use serde_json::Value;
use tests::{Server, Setup};

use crate::banks::random_hashes;

const REACTORS: [&str; 2] = ["glommio", "epoll"];
/// Frames that a client has under way.
const DEPTH: usize = 32;

/// A server with a bank of one hash.
fn serving(setup: Setup) -> (Server, Hash256) {
    let server = setup.start();
    let banked = random_hashes(97, 1)[0];
    server.create_bank("B");
    server.add_pdq("B", &banked);
    (server, banked)
}

/// Submits one hit `count` times over one connection; returns when all are acknowledged.
fn submit(server: &Server, hash: Hash256, count: usize) {
    let mut connection = Connection::open(server.listen, None, Duration::from_secs(20)).unwrap();
    let (mut sent, mut answered) = (0, 0);
    while answered < count {
        let mut frames = Vec::new();
        while sent < count && sent - answered < DEPTH {
            let query = Query::pdq(vec![hash]);
            let (request, contexts) = (RequestId::fresh(), Vec::new());
            Request::Submit { request, retry: false, query, contexts }.encode(sent as u64, &mut frames);
            sent += 1;
        }
        connection.send(&frames).unwrap();
        match connection.receive().unwrap() {
            (_, Reply::Submit(answer, _)) => assert_eq!(answer.hits.len(), 1),
            (_, other) => panic!("a Submit was answered by {other:?}"),
        }
        answered += 1;
    }
}

/// glommio counts the references to a task in 16 bits: a pending accept that was polled again for each settled Submit
/// ended the process after 32 768 of them.
#[test]
fn one_connection_submits_more_hits_than_a_counter_of_16_bits_holds() {
    let count = if std::env::var_os("FULL").is_some() { 110_000 } else { 36_000 };
    let setup = Setup::default().flag("--reactor", "glommio").flag("--durability", "wal");
    // 200 000 sweeps would take 14 hours at their usual rate.
    let (mut server, hash) = serving(setup.env("HASHWARD_SWEEP_MICROS", 50));
    submit(&server, hash, count);
    assert!(server.runs(), "{}", server.log());
    assert_eq!(server.metric("hashward_hits_logged"), count as f64);
    server.stop();
}

/// A connection that has asked for much and reads nothing.
pub(crate) fn stuffed(server: &Server) -> TcpStream {
    let mut socket = server.socket();
    socket.set_nonblocking(true).unwrap();
    let mut bytes = Vec::new();
    hello(1, None, &mut bytes);
    let query = Query { threshold: Some(128), ..Query::pdq(random_hashes(98, 512)) };
    for correlation in 0..200 {
        lookup(correlation, &query, &mut bytes);
    }
    let (mut written, until) = (0, Instant::now() + Duration::from_secs(3));
    while written < bytes.len() && Instant::now() < until {
        match socket.write(&bytes[written..]) {
            Ok(count) => written += count,
            Err(_) => thread::sleep(Duration::from_millis(20)), // full: the server reads no more of it
        }
    }
    // Answers pile up once the buffers of the connection are full.
    let until = Instant::now() + Duration::from_secs(30);
    while server.metric_of("hashward_buffer_bytes{shard=\"0\"}") < Some(1e6) {
        assert!(Instant::now() < until, "nothing piles up: {}", server.log());
        thread::sleep(Duration::from_millis(50));
    }
    socket
}

/// A bank in which random queries find much at threshold 128, so that answers are long.
pub(crate) fn long_answers(setup: Setup, reactor: &str) -> Server {
    // Nothing is shed, so that answers pile up.
    let server = setup.flag("--reactor", reactor).flag("--queue-ms-max", 60_000).start();
    server.create_bank("LONG");
    for hash in random_hashes(99, 300) {
        server.add_pdq("LONG", &hash);
    }
    server
}

#[test]
fn sigterm_ends_the_server_although_a_client_does_not_read() {
    for reactor in REACTORS {
        let mut server = long_answers(Setup::default(), reactor);
        let _stuffed: Vec<_> = (0..3).map(|_| stuffed(&server)).collect();
        server.signal(Signal::TERM);
        let status = server.wait();
        assert!(status.success(), "{reactor}: {status}: {}", server.log());
    }
}

#[test]
fn a_second_sigterm_ends_the_server_at_once() {
    for reactor in REACTORS {
        let mut server = long_answers(Setup::default(), reactor);
        let _stuffed = stuffed(&server);
        server.signal(Signal::TERM);
        thread::sleep(Duration::from_millis(300));
        assert!(
            server.runs(),
            "{reactor}: the drain waits for a client that does not read: {}",
            server.log()
        );
        let begun = Instant::now();
        server.signal(Signal::TERM);
        let status = server.wait();
        assert_eq!(status.code(), Some(75), "{reactor}: {}", server.log());
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        assert!(server.log().contains("a second signal came before the drain was done"));
    }
}

#[test]
fn sighup_reads_the_rules_again_and_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.toml");
    let rules = |name: &str| {
        format!("[[rule]]\nname = \"{name}\"\nbanks = [\"B\"]\nqueue = \"q\"\nverdict = \"block\"\n")
    };
    std::fs::write(&file, rules("first")).unwrap();
    let (mut server, hash) = serving(Setup::default().flag("--rules", file.display()));
    let named = |server: &Server, name: &str| {
        let (_, list) = server.http.get("/api/v1/rules");
        list.as_array().unwrap().iter().any(|rule| rule["name"] == name && rule["state"] == "live")
    };
    let wait = |server: &Server, words: &str| {
        let until = Instant::now() + Duration::from_secs(20);
        while !server.log().contains(words) {
            assert!(Instant::now() < until, "'{words}' is not logged: {}", server.log());
            thread::sleep(Duration::from_millis(20));
        }
    };
    assert!(named(&server, "first"), "{:?}", server.http.get("/api/v1/rules"));
    std::fs::write(&file, rules("second")).unwrap();
    server.signal(Signal::HUP);
    wait(&server, "the rules file was read again");
    assert!(named(&server, "second") && !named(&server, "first"));

    std::fs::write(&file, "[[rule]]\nname = 7\n").unwrap();
    server.signal(Signal::HUP);
    wait(&server, "the rules stay as they were");
    assert!(named(&server, "second") && server.runs());
    assert_eq!(server.client().lookup(Query::pdq(vec![hash])).unwrap().hits.len(), 1);
    server.stop();
}

#[test]
fn the_next_start_says_how_the_last_run_ended() {
    let last = |server: &Server, reason: &str| {
        let (_, text) = server.http.plain("GET", "/metrics", None);
        assert!(text.contains(&format!("hashward_last_end{{reason=\"{reason}\"}} 1")), "{text}");
    };
    let server = Server::start();
    last(&server, "none");
    let killed = server.kill();
    let server = killed.restart();
    last(&server, "killed");
    assert!(server.log().contains("left no reason"), "{}", server.log());
    let stopped = server.stop();
    let run: Value =
        serde_json::from_slice(&std::fs::read(stopped.data().join("last-run.json")).unwrap()).unwrap();
    assert_eq!(run["end"], "stopped");
    let mut server = stopped.restart();
    last(&server, "stopped");
    assert!(!server.log().contains("the run before this one"));
    // SIGABRT is not ours: it ends the process as the system does, without a word.
    server.signal(Signal::ABORT);
    assert_eq!(server.wait().signal(), Some(Signal::ABORT.as_raw()));
}
