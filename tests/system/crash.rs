//! kill -9 while clients submit: what was acknowledged is there, once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use index::{Hash256, RequestId};
use ingest::wire::{Client, ClientOptions, Query};
use serde_json::json;
use tests::{Server, Setup, flipped};

use crate::banks::random_hashes;

#[test]
fn every_acknowledged_hit_is_in_the_queue_exactly_once_after_kill_9() {
    let hashes = random_hashes(21, 64);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Setup::default().data(&data).start();
    server.create_bank("B");
    for hash in &hashes {
        server.add_pdq("B", hash);
    }
    let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
    let mut unknown: Vec<(RequestId, Hash256)> = Vec::new();
    let mut server = Some(server);
    for round in 0..6u64 {
        let running = server.take().unwrap();
        let (address, stop, answered) = (running.listen, AtomicBool::new(false), AtomicUsize::new(0));
        let outcomes = thread::scope(|scope| {
            let submitters: Vec<_> = (0..4u64)
                .map(|number| {
                    let (hashes, stop, answered) = (&hashes, &stop, &answered);
                    scope.spawn(move || {
                        let patience = Duration::from_millis(200);
                        let options = ClientOptions { patience, ..ClientOptions::default() };
                        let mut client = Client::new(address, options);
                        let mut outcomes = Vec::new();
                        for at in 0.. {
                            if stop.load(Ordering::Relaxed) {
                                break;
                            }
                            let request = RequestId::fresh();
                            let hash = flipped(&hashes[at % 64], at % 32, number + 1);
                            let outcome = client.submit(request, Query::pdq(vec![hash]), vec![]);
                            answered.fetch_add(usize::from(outcome.is_ok()), Ordering::Relaxed);
                            outcomes.push((request, hash, outcome.ok()));
                        }
                        outcomes
                    })
                })
                .collect();
            thread::sleep(Duration::from_millis(150 + 70 * round));
            let deadline = Instant::now() + Duration::from_secs(60);
            while answered.load(Ordering::Relaxed) < 40 {
                assert!(Instant::now() < deadline, "{}", running.log());
                thread::sleep(Duration::from_millis(10));
            }
            drop(running.kill());
            stop.store(true, Ordering::Relaxed);
            submitters.into_iter().flat_map(|submitter| submitter.join().unwrap()).collect::<Vec<_>>()
        });
        for (request, hash, outcome) in outcomes {
            match outcome {
                Some((answer, receipt)) => {
                    assert_eq!(answer.hits.len(), 1);
                    acknowledged.insert(request.to_string(), receipt.first_position.0);
                }
                None => unknown.push((request, hash)),
            }
        }
        server = Some(Setup::default().data(&data).start());
    }
    let server = server.unwrap();
    assert!(acknowledged.len() > 200, "only {} submits were acknowledged", acknowledged.len());

    // What is unknown is asked again under its id: now it is known, and there once.
    let mut client = server.client();
    for (request, hash) in &unknown {
        let (_, receipt) = client.submit(*request, Query::pdq(vec![*hash]), vec![]).unwrap();
        acknowledged.insert(request.to_string(), receipt.first_position.0);
    }
    let queues = server.routed();
    let mut routed: BTreeMap<u64, usize> = BTreeMap::new();
    for entry in queues.iter().flat_map(|(_, entries)| entries) {
        *routed.entry(entry["position"].as_u64().unwrap()).or_default() += 1;
    }
    let hits = server.pages("/api/v1/hits");
    let logged: BTreeMap<String, u64> = hits
        .iter()
        .map(|hit| (hit["request"].as_str().unwrap().to_string(), hit["position"].as_u64().unwrap()))
        .collect();
    assert_eq!(logged.len(), hits.len(), "a request was logged twice");
    for (request, position) in &acknowledged {
        assert_eq!(logged.get(request), Some(position), "{request} was acknowledged at {position}");
    }
    assert!(routed.values().all(|times| *times == 1), "a hit was routed twice");
    assert_eq!(routed.len(), hits.len(), "every hit of the log is in a queue");
    println!(
        "{} acknowledged over 6 kills, {} of them unknown at first; all once",
        acknowledged.len(),
        unknown.len()
    );
}

#[test]
fn an_acknowledged_bank_change_survives_kill_9() {
    let hashes = random_hashes(22, 200);
    let server = Server::start();
    server.create_bank("B");
    let ids: Vec<u64> = hashes.iter().map(|hash| server.add_pdq("B", hash)).collect();
    server.http.delete(&format!("/api/v1/banks/B/contents/{}", ids[3]));
    let server = server.kill().restart();
    let answer = server.client().lookup(Query::pdq(hashes.clone())).unwrap();
    let found: Vec<u64> = answer.hits.iter().map(|hit| hit.matches[0].content.0).collect();
    let expected: Vec<u64> = ids.iter().copied().filter(|id| *id != ids[3]).collect();
    assert_eq!(found, expected);
    let next = server.add_pdq("B", &hashes[3]);
    assert!(next > ids[199], "ids are never reused");
}

#[test]
fn a_terminated_server_settles_what_it_took() {
    let server = Server::start();
    server.create_bank("B");
    let hash = random_hashes(23, 1)[0];
    server.add_pdq("B", &hash);
    let mut client = server.client();
    let (_, receipt) = client.submit(RequestId::fresh(), Query::pdq(vec![hash]), vec![]).unwrap();
    assert_eq!(receipt.first_position.0, 1);
    let server = server.stop().restart();
    assert_eq!(server.routed()[0].1[0]["position"], json!(1));
}
