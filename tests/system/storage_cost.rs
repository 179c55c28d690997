//! What storage costs at size: bytes read and time for a start, a page of hits, a scrape, a census and a change.
//!
//! `FULL=1` takes 10 million contents and a million hits, each with a job of its own; `HASHWARD_CONTENTS` and
//! `HASHWARD_HITS` say otherwise. Without either it is small, and holds the bounds that do not depend on the size.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use index::RequestId;
use ingest::wire::Query;
use serde_json::json;
use tests::{Server, flipped, hex};

use crate::banks::random_hashes;

const PER_IMPORT: usize = 50_000;

fn number(name: &str, full: usize, small: usize) -> usize {
    let named = std::env::var(name).ok().and_then(|value| value.parse().ok());
    named.unwrap_or(if std::env::var("FULL").is_ok_and(|full| full == "1") { full } else { small })
}

/// Bytes that the server has read, of files and sockets.
fn read_so_far(server: &Server) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/io", server.pid())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("rchar:")).unwrap();
    line.trim().parse().unwrap()
}

/// Does something some times; prints and gives the least bytes and time it took.
fn cost(server: &Server, what: &str, times: usize, work: impl Fn()) -> (u64, Duration) {
    let once = || {
        let (before, begun) = (read_so_far(server), Instant::now());
        work();
        (read_so_far(server) - before, begun.elapsed())
    };
    let all: Vec<(u64, Duration)> = (0..times).map(|_| once()).collect();
    let first = all[0];
    let least = (
        all.iter().map(|one| one.0).min().unwrap_or_default(),
        all.iter().map(|one| one.1).min().unwrap_or_default(),
    );
    println!(
        "{what}: {} KiB in {:?} at first, {} KiB in {:?} then",
        first.0 >> 10,
        first.1,
        least.0 >> 10,
        least.1
    );
    least
}

#[test]
fn pages_scrapes_and_changes_cost_the_same_however_much_is_stored() {
    let contents = number("HASHWARD_CONTENTS", 10_000_000, 20_000);
    let hits = number("HASHWARD_HITS", 1_000_000, 4_096);
    let server = Server::start();
    server.create_bank("B");
    let hashes = random_hashes(91, 64);
    for hash in &hashes {
        server.add_pdq("B", hash);
    }
    for part in 0..contents.div_ceil(PER_IMPORT) {
        let many = random_hashes(1_000 + part as u64, PER_IMPORT.min(contents - part * PER_IMPORT));
        let lines: String = many.iter().map(|hash| hex(hash) + "\n").collect();
        let path = "/api/v1/banks/B/import?signal_type=pdq";
        assert_eq!(server.http.stream(path, std::io::Cursor::new(lines)).0, 200);
    }
    let mut client = server.client();
    for at in 0..hits.div_ceil(64) {
        let near = hashes.iter().map(|hash| flipped(hash, 12, at as u64)).collect();
        client.submit(RequestId::fresh(), Query::pdq(near), vec![]).unwrap();
    }
    let routed = Instant::now();
    let logged = hits.div_ceil(64) * 64;
    while server.metric("hashward_router_position") < logged as f64 {
        assert!(routed.elapsed() < Duration::from_secs(3600), "{}", server.log());
        thread::sleep(Duration::from_millis(100));
    }
    drop(client);
    let stopped = server.stop();
    drop(stopped.restart().stop()); // what is in the logs is in tables now
    let begun = Instant::now();
    let server = stopped.restart();
    println!("{contents} contents, {logged} hits and jobs");
    println!("start: {} KiB in {:?}", read_so_far(&server) >> 10, begun.elapsed());
    // The reads of the pass over everything are not those that are measured.
    let deadline = Instant::now() + Duration::from_secs(if hits > 100_000 { 3600 } else { 20 });
    while server.metric("hashward_scrub_last_seconds") == 0.0 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(100));
    }
    let page = |after: usize| server.http.get(&format!("/api/v1/hits?after={after}&limit=1"));
    let (bytes, _) = cost(&server, "a page of one hit", 10, || assert_eq!(page(logged / 2).0, 200));
    assert!(bytes < 128 << 10, "a page of one hit reads {bytes} bytes");
    let (bytes, _) = cost(&server, "a scrape", 10, || assert!(server.metric("hashward_hits_logged") >= 0.0));
    assert!(bytes < 512 << 10, "a scrape reads {bytes} bytes");
    cost(&server, "a change", 10, || {
        server.add_pdq("B", &hashes[0]);
    });
    cost(&server, "a Submit with a hit", 10, || {
        let mut client = server.client();
        client.submit(RequestId::fresh(), Query::pdq(vec![hashes[0]]), vec![]).unwrap();
    });
    cost(&server, "a census", 2, || assert_eq!(server.http.get("/api/v1/census").0, 200));
    let (beside, longest) =
        (0..10).map(|_| beside_a_census(&server)).find(|(beside, _)| *beside > 0).unwrap_or_default();
    println!("{beside} commands were carried out beside a census, the slowest in {longest:?}");
    assert!(beside > 0, "the desk waits for a census");
}

/// How many commands the desk carries out while a census is read, but for the first, which may be before it; and how long
/// the slowest took.
fn beside_a_census(server: &Server) -> (usize, Duration) {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (status, counted) = server.http.get("/api/v1/census");
            ended.store(true, Ordering::Release);
            assert!(status == 200 && counted["faults"] == 0, "{counted}");
        });
        let mut took = Vec::new();
        loop {
            let begun = Instant::now();
            let queue = json!({ "description": format!("beside a census {}", took.len()) });
            assert_eq!(server.http.put("/api/v1/queues/beside", &queue).0, 200);
            if ended.load(Ordering::Acquire) {
                return (took.len().saturating_sub(1), took.into_iter().max().unwrap_or_default());
            }
            took.push(begun.elapsed());
        }
    })
}
