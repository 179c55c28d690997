//! Answers over the binary port.

use std::collections::BTreeSet;
use std::time::Duration;

use index::store::Durability;
use index::{Digest, RequestId, SignalType, UploadContext};
use ingest::wire::{self, Connection, Query, Reply};
use serde_json::json;
use tests::{Server, Setup, flipped, hex};

use crate::banks::random_hashes;

#[test]
fn a_lookup_finds_what_is_within_31_bits_and_nothing_else() {
    let server = Server::start();
    server.create_bank("B");
    let hashes = random_hashes(1, 300);
    let ids: Vec<u64> = hashes.iter().map(|hash| server.add_pdq("B", hash)).collect();
    let mut client = server.client();
    for bits in [0, 15, 31, 32, 35] {
        let queries: Vec<_> = hashes.iter().map(|hash| flipped(hash, bits, bits as u64)).collect();
        let answer = client.lookup(Query::pdq(queries)).unwrap();
        if bits > 31 {
            assert!(answer.hits.is_empty(), "at {bits} bits: {:?}", answer.hits.first());
            continue;
        }
        let found: Vec<_> = answer
            .hits
            .iter()
            .map(|hit| (hit.matches[0].content.0, hit.matches[0].distance.bits()))
            .collect();
        let expected: Vec<_> = ids.iter().map(|id| (*id, bits as u16)).collect();
        assert_eq!(found, expected, "at {bits} bits");
    }
    let wider = Query { threshold: Some(35), ..Query::pdq(vec![flipped(&hashes[7], 35, 1)]) };
    assert_eq!(client.lookup(wider).unwrap().hits[0].matches[0].content.0, ids[7]);
}

#[test]
fn digests_of_every_type_match_exactly_over_both_ports_and_after_a_restart() {
    let server = Server::start();
    server.create_bank("V");
    let digest = |kind: SignalType, byte: u8| Digest::new(&vec![byte; kind.bytes().unwrap()]).unwrap();
    let hex = |kind: SignalType, byte: u8| format!("{byte:02X}").repeat(kind.bytes().unwrap());
    let kinds = || SignalType::EXACT.into_iter().filter(|kind| kind.bytes().is_some());
    for kind in kinds() {
        let body = json!({ "signals": { kind.name(): hex(kind, 0xab) } });
        assert_eq!(server.http.post("/api/v1/banks/V/contents", &body).0, 201);
    }
    let check = |server: &Server| {
        for (at, kind) in kinds().enumerate() {
            let content = at as u64 + 1;
            let query = || Query::exact(kind, vec![digest(kind, 0xac), digest(kind, 0xab)]);
            let answer = server.client().lookup(query()).unwrap();
            let found: Vec<_> = answer.hits.iter().map(|hit| (hit.hash, hit.matches[0].content.0)).collect();
            assert_eq!(found, [(1, content)], "{kind}");
            let body = json!({ "signal_type": kind, "signals": [hex(kind, 0xab), hex(kind, 0xac)] });
            let answer = server.http.post("/api/v1/lookup", &body).1;
            assert_eq!(answer["results"][0]["matches"][0]["content"].as_u64(), Some(content), "{answer}");
            assert_eq!(answer["results"][1]["matches_total"].as_u64(), Some(0), "{answer}");
            assert_eq!(server.http.get("/api/v1/index").1[kind.name()]["signals"].as_u64(), Some(1));
        }
    };
    check(&server);
    // A hit of a Submit names its type and its digest.
    let kind = SignalType::Sha1;
    let submitted = Query::exact(kind, vec![digest(kind, 0xab)]);
    server.client().submit(RequestId::fresh(), submitted, vec![]).unwrap();
    let hit = &server.pages("/api/v1/hits")[0];
    assert_eq!(
        (hit["signal_type"].as_str(), hit["signal"].as_str()),
        (Some("sha1"), Some(&*hex(kind, 0xab).to_lowercase()))
    );
    let killed = server.kill();
    check(&killed.restart());
}

#[test]
fn a_submit_logs_its_hits_once_however_often_it_is_sent() {
    let server = Server::start();
    server.create_bank("B");
    let hashes = random_hashes(2, 3);
    server.add_pdq("B", &hashes[0]);
    let mut client = server.client();
    let request = RequestId::fresh();
    let context =
        UploadContext { item_id: Some("i-1".into()), item_type: Some("photo".into()), ..Default::default() };
    let query = Query { upload_ids: vec![71, 72, 73], ..Query::pdq(hashes.clone()) };
    let (answer, receipt) = client.submit(request, query.clone(), vec![(0, context.clone())]).unwrap();
    assert_eq!((answer.hits.len(), receipt.durability, receipt.replayed), (1, Some(Durability::Sync), false));

    // The bank changes; the stored answer does not.
    server.add_pdq("B", &hashes[1]);
    for _ in 0..3 {
        let (again, replay) = client.submit(request, query.clone(), vec![(0, context.clone())]).unwrap();
        // Hits make the ledger look the id up, so the first answer comes even without the retry mark.
        assert_eq!(
            (again, replay.first_position, replay.replayed),
            (answer.clone(), receipt.first_position, true)
        );
    }
    // Under its id nothing else passes for it: other hashes or another content would be a lost hit.
    let other = Query { upload_ids: vec![71, 72, 73], ..Query::pdq(vec![hashes[1], hashes[0], hashes[2]]) };
    let other_item = UploadContext { item_id: Some("i-2".into()), ..context.clone() };
    for (query, contexts) in [
        (other, vec![(0, context.clone())]),
        (query.clone(), vec![(1, context.clone())]),
        (query.clone(), vec![(0, other_item)]),
        (query.clone(), vec![]),
    ] {
        let error = client.submit(request, query, contexts).unwrap_err().to_string();
        assert!(error.contains("was used for another request"), "{error}");
    }
    // A URL that was signed anew is the same upload.
    let signed = UploadContext { url: Some("https://media.example/i-1?signature=2".into()), ..context };
    let (again, _) = client.submit(request, query.clone(), vec![(0, signed)]).unwrap();
    assert_eq!(again, answer);
    let hits = server.pages("/api/v1/hits");
    assert_eq!(hits.len(), 1);
    assert_eq!((&hits[0]["upload_id"], &hits[0]["signal"]), (&json!(71), &json!(hex(&hashes[0]))));
    assert_eq!(hits[0]["context"], json!({ "item_id": "i-1", "item_type": "photo" }));

    let (_, miss) = client.submit(RequestId::fresh(), Query::pdq(vec![hashes[2]]), vec![]).unwrap();
    assert_eq!(miss.durability, None, "a miss makes nothing durable and says so");
}

#[test]
fn over_the_window_the_answer_is_busy_and_nothing_was_done() {
    let server = Setup::default().flag("--window-frames", 2).start();
    server.create_bank("B");
    let hash = random_hashes(4, 1)[0];
    server.add_pdq("B", &hash);
    let mut connection = Connection::open(server.listen, None, Duration::from_secs(10)).unwrap();
    assert_eq!(connection.welcome.window_frames, 2);
    let requests: Vec<RequestId> = (0..50).map(|_| RequestId::fresh()).collect();
    let mut frames = Vec::new();
    for (at, request) in requests.iter().enumerate() {
        wire::submit(at as u64, *request, false, &Query::pdq(vec![hash]), &[], &mut frames);
    }
    connection.send(&frames).unwrap();
    let (mut logged, mut busy) = (BTreeSet::new(), 0);
    for _ in &requests {
        match connection.receive().unwrap() {
            (at, Reply::Submit(..)) => drop(logged.insert(requests[at as usize].to_string())),
            (_, Reply::Busy { retry_after }) if retry_after > Duration::ZERO => busy += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(logged.len() >= 2 && busy > 0, "{} logged, {busy} busy", logged.len());
    let hits = server.pages("/api/v1/hits");
    let there: BTreeSet<String> =
        hits.iter().map(|hit| hit["request"].as_str().unwrap().to_string()).collect();
    assert_eq!((there, hits.len()), (logged.clone(), logged.len()), "what was Busy left nothing behind");
}

#[test]
fn rules_choose_queue_and_verdict() {
    let rules = tempfile::NamedTempFile::new().unwrap();
    let text = "default_queue = 'rest'\n[[rule]]\nname = 'near avatars'\nbanks = ['A']\ndistance_max = 10\n\
                item_types = ['avatar']\nqueue = 'avatars'\nverdict = 'block'\n[[rule]]\nname = 'bank b'\n\
                banks = ['B']\nqueue = 'bees'\nverdict = 'log'\n";
    std::fs::write(rules.path(), text).unwrap();
    let server = Setup::default().flag("--rules", rules.path().display()).start();
    let hashes = random_hashes(3, 2);
    for (bank, hash) in ["A", "B"].iter().zip(&hashes) {
        server.create_bank(bank);
        server.add_pdq(bank, hash);
    }
    let avatar = UploadContext { item_type: Some("avatar".into()), ..Default::default() };
    let near = flipped(&hashes[0], 10, 1);
    let far = flipped(&hashes[0], 11, 1);
    let query = Query::pdq(vec![near, near, far, hashes[1]]);
    let contexts = vec![(0, avatar.clone()), (2, avatar)];
    let (answer, _) = server.client().submit(RequestId::fresh(), query, contexts).unwrap();
    let verdicts: Vec<u8> = answer.hits.iter().map(|hit| hit.verdict).collect();
    assert_eq!(verdicts, [3, 2, 2, 1], "block, the default's review twice, log");
    let queues: Vec<_> = server.routed().into_iter().map(|(name, entries)| (name, entries.len())).collect();
    let expected = [("avatars", 1), ("bees", 1), ("rest", 2)].map(|(name, count)| (name.to_string(), count));
    assert_eq!(queues, expected);
}

#[test]
fn small_lookups_of_many_connections_get_their_own_answers() {
    let server = Setup::default().flag("--cores", 1).start();
    server.create_bank("B");
    let hashes = random_hashes(9, 64);
    let ids: Vec<u64> = hashes.iter().map(|hash| server.add_pdq("B", hash)).collect();
    // Frame n asks for hash n and a stranger, 20 bits away; thresholds, sizes and Submits alternate, so that some
    // frames are searched together and some are not.
    let strangers = random_hashes(10, 64);
    let frame = |n: u64| {
        let at = n as usize % 64;
        let size = if n.is_multiple_of(13) { 40 } else { 1 };
        let asked = [strangers[at], flipped(&hashes[at], 20, n)].into_iter().cycle();
        let threshold = if n.is_multiple_of(5) { Some(10) } else { None };
        let query = Query { threshold, ..Query::pdq(asked.take(2 * size).collect()) };
        let request = match n % 11 {
            0 => wire::Request::Submit {
                request: RequestId::fresh(),
                retry: false,
                query,
                contexts: Vec::new(),
            },
            _ => wire::Request::Lookup(query),
        };
        (request, if threshold.is_some() { 0 } else { size }, ids[at])
    };
    std::thread::scope(|scope| {
        for first in (0..16).map(|thread| thread * 1000) {
            let (frame, listen) = (&frame, server.listen);
            scope.spawn(move || {
                let mut connection = Connection::open(listen, None, Duration::from_secs(20)).unwrap();
                for burst in (first..first + 300).step_by(30).map(|from| from..from + 30) {
                    let mut bytes = Vec::new();
                    burst.clone().for_each(|n| frame(n).0.encode(n, &mut bytes));
                    connection.send(&bytes).unwrap();
                    let mut answered = BTreeSet::new();
                    while answered.len() < 30 {
                        let (n, reply) = connection.receive().unwrap();
                        let (Reply::Lookup(answer) | Reply::Submit(answer, _)) = reply else {
                            panic!("{reply:?}")
                        };
                        let (_, expected, content) = frame(n);
                        assert!(
                            burst.contains(&n) && answered.insert(n),
                            "{n} was answered twice or never asked"
                        );
                        assert_eq!(answer.hits.len(), expected, "frame {n}");
                        for (place, hit) in answer.hits.iter().enumerate() {
                            let found =
                                (hit.hash as usize, hit.matches[0].content.0, hit.matches[0].distance.bits());
                            assert_eq!(found, (2 * place + 1, content, 20), "frame {n}");
                        }
                    }
                }
            });
        }
    });
    // A client that says all it has to say and stops sending still gets its answers.
    let connection = Connection::open(server.listen, None, Duration::from_secs(20)).unwrap();
    let (mut sender, mut receiver) = connection.split();
    let mut bytes = Vec::new();
    (1..5).for_each(|n| frame(n).0.encode(n, &mut bytes));
    sender.send(&bytes).unwrap();
    sender.finish().unwrap();
    let answered: BTreeSet<u64> = (1..5).map(|_| receiver.receive().unwrap().0).collect();
    assert_eq!(answered, BTreeSet::from([1, 2, 3, 4]));
    assert!(receiver.receive().is_err(), "and then the connection ends");
}
