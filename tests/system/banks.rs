//! Banks over HTTP, and when a change is seen.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use index::Hash256;
use ingest::wire::{Client, ClientOptions, Query};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tests::{Server, Setup, hex};

/// So many uniform hashes.
pub fn random_hashes(seed: u64, count: usize) -> Vec<Hash256> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let draw = || {
        let mut bytes = [0; 32];
        random.fill_bytes(&mut bytes);
        Hash256(bytes)
    };
    std::iter::repeat_with(draw).take(count).collect()
}

#[test]
fn an_acknowledged_change_is_seen_on_every_ordered_pair_of_shards() {
    let shards = 4;
    let server = Setup::default().flag("--cores", shards).start();
    server.create_bank("B");
    // The kernel spreads connections over the shards; connect until there is one on each.
    let mut clients: Vec<Option<Client>> = (0..shards).map(|_| None).collect();
    while clients.iter().any(Option::is_none) {
        let mut client = Client::new(server.listen, ClientOptions::default());
        let shard = usize::from(client.welcome().unwrap().shard);
        clients[shard].get_or_insert(client);
    }
    let mut clients: Vec<Client> = clients.into_iter().flatten().collect();
    let hashes = random_hashes(5, 1000);
    let pairs: Vec<(usize, usize)> =
        (0..shards).flat_map(|a| (0..shards).filter(move |b| *b != a).map(move |b| (a, b))).collect();
    let mut seen = 0;
    for (round, hash) in hashes.iter().enumerate() {
        let (first, second) = pairs[round % pairs.len()];
        let mut sees =
            |shard: usize| !clients[shard].lookup(Query::pdq(vec![*hash])).unwrap().hits.is_empty();
        assert!(!sees(first));
        let content = server.add_pdq("B", hash);
        seen += usize::from(sees(second) && sees(first));
        if round % 10 == 0 {
            let (status, _) = server.http.delete(&format!("/api/v1/banks/B/contents/{content}"));
            assert_eq!((status, sees(second), sees(first)), (200, false, false), "a removal is seen as well");
        }
    }
    assert_eq!(seen, 1000);
    println!("visible {seen} of 1000, over {} ordered pairs of {shards} shards", pairs.len());
}

#[test]
fn answers_stay_exact_while_banks_grow_shrink_and_merge() {
    let server = Setup::default().flag("--cores", 2).start();
    server.create_bank("KEPT");
    let kept = random_hashes(71, 200);
    let ids: Vec<u64> = kept.iter().map(|hash| server.add_pdq("KEPT", hash)).collect();
    let done = AtomicBool::new(false);
    let lookups = thread::scope(|scope| {
        let watchers: Vec<_> = (0..2u64)
            .map(|number| {
                let (server, kept, ids, done) = (&server, &kept, &ids, &done);
                scope.spawn(move || {
                    let (mut client, mut rounds) = (server.client(), 0u64);
                    while !done.load(Ordering::Relaxed) || rounds <= 10 {
                        let bits = [31, 32][rounds as usize % 2];
                        let seed = rounds * 2 + number;
                        let queries = kept.iter().map(|hash| tests::flipped(hash, bits, seed)).collect();
                        let answer = client.lookup(Query::pdq(queries)).unwrap();
                        let found: Vec<u64> =
                            answer.hits.iter().map(|hit| hit.matches[0].content.0).collect();
                        let expected = if bits == 31 { ids.clone() } else { vec![] };
                        assert_eq!(found, expected, "round {rounds} at {bits} bits");
                        rounds += 1;
                    }
                    rounds
                })
            })
            .collect();
        for round in 0..8 {
            let name = format!("PASSING_{round}");
            server.create_bank(&name);
            let list: String =
                random_hashes(100 + round, 15_000).iter().map(|hash| hex(hash) + "\n").collect();
            let path = format!("/api/v1/banks/{name}/import?signal_type=pdq");
            assert_eq!(server.http.stream(&path, std::io::Cursor::new(list)).0, 200);
            if round >= 2 {
                assert_eq!(server.http.delete(&format!("/api/v1/banks/PASSING_{}", round - 2)).0, 200);
            }
        }
        done.store(true, Ordering::Relaxed);
        watchers.into_iter().map(|watcher| watcher.join().unwrap()).sum::<u64>()
    });
    let (_, tables) = server.http.get("/api/v1/index");
    assert_eq!(tables["pdq"]["signals"], json!(200 + 2 * 15_000), "{tables}");
    println!("{lookups} lookups of 200 hashes, all exact; tables at the end: {}", tables["pdq"]["tables"]);
}

#[test]
fn banks_are_made_listed_shown_and_removed() {
    let server = Server::start();
    for name in ["B_ONE", "B_TWO"] {
        server.create_bank(name);
    }
    assert_eq!(server.http.post("/api/v1/banks", &json!({ "name": "B_ONE" })).0, 409);
    let hash = random_hashes(6, 1)[0];
    let content = server.add_pdq("B_ONE", &hash);
    let (_, shown) = server.http.get("/api/v1/banks/B_ONE");
    assert_eq!((&shown["contents"], &shown["signals"]["pdq"]), (&json!(1), &json!(1)));
    let (_, found) =
        server.http.post("/api/v1/lookup", &json!({ "signal_type": "pdq", "signals": [hex(&hash)] }));
    assert_eq!(
        found["results"][0]["matches"],
        json!([{ "bank": "B_ONE", "content": content, "distance": 0 }])
    );

    assert_eq!(server.http.delete("/api/v1/banks/B_ONE").0, 200);
    assert_eq!(server.http.delete("/api/v1/banks/B_ONE").0, 200, "deleting what is gone is done already");
    assert_eq!(server.http.get("/api/v1/banks/B_ONE").0, 404);
    assert!(server.client().lookup(Query::pdq(vec![hash])).unwrap().hits.is_empty());
    let server = server.stop().restart();
    let (_, banks) = server.http.get("/api/v1/banks");
    assert_eq!((banks.as_array().unwrap().len(), &banks[0]["name"]), (1, &json!("B_TWO")));
}

#[test]
fn lists_go_in_and_come_out_the_same() {
    let server = Server::start();
    server.create_bank("IN");
    let hashes = random_hashes(7, 5000);
    let lines: String = hashes.iter().map(|hash| format!("{}\n", hex(hash))).collect();
    let list = format!("# a list\n{lines}not a hash\n");
    let (status, answer) =
        server.http.stream("/api/v1/banks/IN/import?signal_type=pdq", std::io::Cursor::new(list.clone()));
    assert_eq!((status, &answer["imported"], &answer["bad"]), (200, &json!(5000), &json!(1)), "{answer}");
    assert!(answer["bad_lines"][0].as_str().unwrap().starts_with("line 5002: "), "{answer}");
    let strict = "/api/v1/banks/IN/import?signal_type=pdq&strict=true";
    let (status, answer) = server.http.stream(strict, std::io::Cursor::new("zz\n"));
    assert_eq!(status, 400, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("line 1"), "{answer}");

    let (_, exported) = server.http.get("/api/v1/banks/IN/export");
    server.create_bank("OUT");
    let text = exported.as_str().expect("NDJSON is not one JSON value").to_string();
    let (_, answer) =
        server.http.stream("/api/v1/banks/OUT/import?signal_type=pdq", std::io::Cursor::new(text));
    assert_eq!((&answer["imported"], &answer["bad"]), (&json!(5000), &json!(0)));
    let answer = server.client().lookup(Query::pdq(hashes[..100].to_vec())).unwrap();
    assert!(answer.hits.iter().all(|hit| hit.total == 2) && answer.hits.len() == 100);
}

#[test]
fn a_change_repeated_under_its_key_is_made_once() {
    let server = Server::start();
    server.create_bank("B");
    let key = index::RequestId::fresh().to_string();
    let body = json!({ "signals": { "pdq": hex(&random_hashes(8, 1)[0]) }, "note": "n" });
    let send = || server.http.post_with("/api/v1/banks/B/contents", &body, &[("idempotency-key", &key)]);
    let (first, again) = (send(), send());
    assert_eq!((first.0, again.0), (201, 201));
    assert_eq!(first.1["first_content"], again.1["first_content"]);
    assert_eq!((&first.1["replayed"], &again.1["replayed"]), (&json!(false), &json!(true)));
    let (status, refused) =
        server.http.post_with("/api/v1/banks", &json!({ "name": "C" }), &[("idempotency-key", &key)]);
    assert!(status == 409 && refused.to_string().contains("used for another change"), "{status}: {refused}");
    assert_eq!(server.http.get("/api/v1/banks/B").1["contents"], json!(1));
    // Born in 2023, and nothing that was born then was ever removed: it is made once.
    let old = "01890a5d-ac96-774b-bcce-b302099a8057";
    let send = |server: &Server| {
        server.http.post_with("/api/v1/banks/B/contents", &body, &[("idempotency-key", old)])
    };
    for replayed in [false, true] {
        let (status, answer) = send(&server);
        assert_eq!((status, &answer["replayed"]), (201, &json!(replayed)), "{answer}");
    }
    // A day is over for its answer: it goes with the next change after a start, and the id is unknown.
    let server = server.stop().restart();
    server.create_bank("OTHER");
    let (status, answer) = send(&server);
    assert_eq!(status, 410, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("unknown"), "{answer}");
    assert_eq!(server.http.get("/api/v1/banks/B").1["contents"], json!(2));
}

#[test]
fn an_answer_does_not_outlive_the_bank_it_tells_of() {
    let server = Server::start();
    let [one, list] = [(); 2].map(|()| index::RequestId::fresh().to_string());
    let body = json!({ "signals": { "pdq": hex(&random_hashes(8, 1)[0]) } });
    let lines: String = random_hashes(9, 300).iter().map(|hash| hex(hash) + "\n").collect();
    let send = || {
        let added = server.http.post_with("/api/v1/banks/B/contents", &body, &[("idempotency-key", &one)]);
        let path = "/api/v1/banks/B/import?signal_type=pdq";
        let headers = [("idempotency-key", list.as_str())];
        (added, server.http.text_with(path, &lines, &headers))
    };
    server.create_bank("B");
    for replayed in [0, 300] {
        let (added, imported) = send();
        assert_eq!((added.0, imported.0), (201, 200), "{}", imported.1);
        assert_eq!((&imported.1["imported"], &imported.1["replayed"]), (&json!(300), &json!(replayed)));
    }
    assert_eq!(server.http.delete("/api/v1/banks/B").0, 200);
    let (added, imported) = send();
    assert_eq!((added.0, imported.0), (404, 404), "{} {}", added.1, imported.1);
    server.create_bank("B");
    let (added, imported) = send();
    assert_eq!((added.0, imported.0), (409, 409), "{} {}", added.1, imported.1);
    assert_eq!(server.http.get("/api/v1/banks/B").1["contents"], json!(0));
}

#[test]
fn a_bank_is_read_in_pages_and_filtered() {
    let server = Setup::default().start();
    server.create_bank("B");
    server.create_bank("OTHER");
    let hashes = random_hashes(71, 25);
    for (at, hash) in hashes.iter().enumerate() {
        let mut signals = json!({ "pdq": hex(hash) });
        if at % 5 == 0 {
            signals["md5"] = json!(format!("{at:032x}"));
        }
        let body = json!({ "signals": signals, "note": format!("case {at}") });
        assert_eq!(server.http.post("/api/v1/banks/B/contents", &body).0, 201);
    }
    server.add_pdq("OTHER", &hashes[0]);
    let pages = |filter: &str| {
        let (mut ids, mut after) = (Vec::new(), 0);
        loop {
            let path = format!("/api/v1/banks/B/contents?limit=7&after={after}{filter}");
            let (status, page) = server.http.get(&path);
            assert_eq!(status, 200, "{page}");
            let entries = page["entries"].as_array().unwrap();
            ids.extend(entries.iter().map(|entry| entry["content"].as_u64().unwrap()));
            match page["next"].as_u64() {
                Some(next) => after = next,
                None => return ids,
            }
        }
    };
    assert_eq!(pages(""), (1..=25).collect::<Vec<_>>());
    assert_eq!(pages("&signal_type=md5"), [1, 6, 11, 16, 21]);
    assert_eq!(pages("&text=case%2012"), [13]);
    assert_eq!(server.http.put("/c/bank/B/content/9", &json!({ "disable_until_ts": 0 })).0, 200);
    assert_eq!(pages("&enabled=false"), [9]);
    let (_, content) = server.http.get("/api/v1/contents/13");
    assert_eq!((&content["bank"], &content["note"]), (&json!("B"), &json!("case 12")), "{content}");
    assert_eq!(content["signals"]["pdq"], hex(&hashes[12]));
    for (path, status) in [
        ("/api/v1/contents/99", 404),
        ("/api/v1/contents/x", 400),
        ("/api/v1/banks/NONE/contents", 404),
        ("/api/v1/banks/B/contents?signal_type=what", 400),
        ("/api/v1/banks/B/contents?what=1", 400),
    ] {
        assert_eq!(server.http.get(path).0, status, "{path}");
    }
}
