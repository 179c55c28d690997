//! The defence of the hash lists on the real ports: who reads a hash out is stopped before the 64th answer, and the key
//! stays frozen; who uploads is not.

use std::thread;
use std::time::{Duration, Instant};

use index::{Hash256, RequestId};
use ingest::wire::{Client, ClientOptions, Query};
use serde_json::{Value, json};
use tests::{Http, Platform, Server, Setup, flipped, hex};

use crate::access::{bearing, key, with_admin};
use crate::banks::random_hashes;

/// Answers before a reader must be stopped.
const ANSWERS: usize = 64;

/// Asks about a hash: whether it is listed; `None` where nothing is told any more.
trait Oracle {
    fn ask(&mut self, hashes: &[Hash256]) -> Option<Vec<bool>>;
}

impl<F: FnMut(&[Hash256]) -> Option<Vec<bool>>> Oracle for F {
    fn ask(&mut self, hashes: &[Hash256]) -> Option<Vec<bool>> {
        self(hashes)
    }
}

fn client(server: &Server, secret: &str) -> Client {
    let token = Some(secret.to_string());
    let patience = Duration::from_millis(200);
    Client::new(server.listen, ClientOptions { token, patience, ..ClientOptions::default() })
}

fn by_lookup(mut client: Client) -> impl FnMut(&[Hash256]) -> Option<Vec<bool>> {
    move |hashes| {
        let answer = client.lookup(Query::pdq(hashes.to_vec())).ok()?;
        Some((0..hashes.len()).map(|at| answer.hits.iter().any(|hit| hit.hash == at as u32)).collect())
    }
}

fn by_submit(mut client: Client) -> impl FnMut(&[Hash256]) -> Option<Vec<bool>> {
    move |hashes| {
        let query = Query::pdq(hashes.to_vec());
        let answer = client.submit(RequestId::fresh(), query, Vec::new()).ok()?.0;
        Some((0..hashes.len()).map(|at| answer.hits.iter().any(|hit| hit.hash == at as u32)).collect())
    }
}

fn by_http(http: Http) -> impl FnMut(&[Hash256]) -> Option<Vec<bool>> {
    move |hashes| {
        let signals: Vec<String> = hashes.iter().map(hex).collect();
        let (status, answer) =
            http.post("/api/v1/lookup", &json!({ "signal_type": "pdq", "signals": signals }));
        let results = answer["results"].as_array().filter(|_| status == 200)?;
        Some(results.iter().map(|result| result["matches"] != json!([])).collect())
    }
}

fn flip(hash: &Hash256, bit: usize) -> Hash256 {
    let mut flipped = *hash;
    flipped.0[bit / 8] ^= 1 << (bit % 8);
    flipped
}

/// Walks from a hash near a listed one to the boundary, then tries every bit: how many answers it got before it was
/// stopped, and the hash it read if it was not.
fn read_out(oracle: &mut dyn Oracle, start: Hash256, frame: usize) -> (usize, Option<Hash256>) {
    let mut answers = 0;
    let mut edge = start;
    for bit in 0..256 {
        let further = flip(&edge, bit);
        match oracle.ask(&[further]) {
            None => return (answers, None),
            Some(hit) => {
                answers += 1;
                if !hit[0] {
                    break;
                }
                edge = further;
            }
        }
    }
    let mut read = edge;
    let bits: Vec<usize> = (0..256).collect();
    for bits in bits.chunks(frame) {
        let hashes: Vec<Hash256> = bits.iter().map(|bit| flip(&edge, *bit)).collect();
        let Some(hits) = oracle.ask(&hashes) else { return (answers, None) };
        answers += hashes.len();
        for (bit, hit) in bits.iter().zip(hits) {
            read = if hit { flip(&read, *bit) } else { read };
        }
    }
    (answers, Some(read))
}

fn banked(admin: &Http, count: usize) -> Vec<Hash256> {
    let hashes = random_hashes(11, count);
    assert_eq!(admin.post("/api/v1/banks", &json!({ "name": "KNOWN" })).0, 201);
    for hash in &hashes {
        let body = json!({ "signals": { "pdq": hex(hash) } });
        assert_eq!(admin.post("/api/v1/banks/KNOWN/contents", &body).0, 201);
    }
    hashes
}

#[test]
fn whoever_reads_a_hash_out_is_stopped_before_the_64th_answer_on_every_way_in() {
    let platform = Platform::start();
    let (server, admin) = with_admin(
        Setup::default().flag("--cores", 2).flag("--signing-key-file", Platform::key_file().display()),
    );
    admin.put("/api/v1/webhooks/pager", &json!({ "url": platform.url("page") }));
    assert_eq!(admin.put("/api/v1/settings", &json!({ "alarm_webhook": "nobody" })).0, 400);
    assert_eq!(admin.put("/api/v1/settings", &json!({ "alarm_webhook": "pager" })).0, 200);
    let hashes = banked(&admin, 12);

    // The attack is real: whoever is not watched has the hash.
    let token_like = by_http(admin.clone());
    let (answers, read) = read_out(&mut { token_like }, flipped(&hashes[0], 20, 1), 1);
    assert!(read == Some(hashes[0]) && answers < 300, "{answers} answers without a warden");

    let mut frozen = Vec::new();
    for (at, scopes) in [&["match"][..], &["distance"]].iter().cycle().take(8).enumerate() {
        let (number, secret) = key(&admin, if at / 2 == 3 { &["items", "match"] } else { scopes });
        let start = flipped(&hashes[at], [0, 9, 20, 31, 5, 30, 12, 25][at], at as u64);
        let (answers, read) = match at / 2 {
            0 => read_out(&mut by_lookup(client(&server, &secret)), start, 1),
            1 => read_out(&mut by_lookup(client(&server, &secret)), start, 256),
            2 => read_out(&mut by_http(bearing(&server, &secret)), start, 16),
            _ => read_out(&mut by_submit(client(&server, &secret)), start, 4),
        };
        assert!(read.is_none() && answers < ANSWERS, "way {at}: {answers} answers");
        frozen.push((number, secret));
    }
    // Many connections, and so several shards, are one key.
    let (number, secret) = key(&admin, &["match"]);
    let mut connections: Vec<Client> = (0..16).map(|_| client(&server, &secret)).collect();
    let mut turn = 0;
    let mut spread = |hashes: &[Hash256]| {
        turn += 1;
        by_lookup_once(&mut connections[turn % 16], hashes)
    };
    let (answers, read) = read_out(&mut spread, flipped(&hashes[9], 15, 3), 1);
    assert!(read.is_none() && answers < ANSWERS, "spread over connections: {answers} answers");
    frozen.push((number, secret));

    // Frozen for good: on both ports, after a restart, until an admin thaws it. What it submits is recorded.
    let deadline = Instant::now() + Duration::from_secs(20);
    let is_frozen = |admin: &Http, number: u64| {
        admin.get(&format!("/api/v1/keys/{number}")).1["frozen"]["why"].is_string()
    };
    while !frozen.iter().all(|(number, _)| is_frozen(&admin, *number)) {
        assert!(Instant::now() < deadline, "a frozen key is not on record");
        thread::sleep(Duration::from_millis(50));
    }
    let (_, log) = admin.get("/api/v1/audit?action=alarm&limit=1000");
    assert_eq!(log["entries"].as_array().unwrap().len(), frozen.len(), "{log}");
    while platform.asked("/page").len() < frozen.len() {
        assert!(Instant::now() < deadline, "the operator was not told");
        thread::sleep(Duration::from_millis(50));
    }
    assert!(platform.asked("/page").iter().all(|asked| asked.json()["alarm"] == "walk"));
    let said = server.log() + &log.to_string();
    for hash in &hashes {
        assert!(!said.contains(&hex(hash)), "a hash is in a log");
    }
    let server = server.stop().restart_with(Setup::default().flag("--cores", 2));
    let admin = Http::logged_in(&server.admin, "root", crate::access::PASSWORD);
    let lookup = json!({ "signal_type": "pdq", "signals": [hex(&hashes[0])] });
    for (_, secret) in &frozen {
        assert!(by_lookup(client(&server, secret))(&hashes[..1]).is_none());
        assert_eq!(bearing(&server, secret).post("/api/v1/lookup", &lookup).0, 403);
    }
    let hits = |admin: &Http| admin.get("/api/v1/hits?limit=1000").1["entries"].as_array().unwrap().len();
    let before = hits(&admin);
    let (number, secret) = &frozen[6];
    assert!(by_submit(client(&server, secret))(&hashes[..1]).is_none(), "it is told nothing");
    let deadline = Instant::now() + Duration::from_secs(10);
    while hits(&admin) == before {
        assert!(Instant::now() < deadline, "a hit is lost because its sender is frozen");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(admin.post(&format!("/api/v1/keys/{number}/thaw"), &json!({})).0, 200);
    assert_eq!(by_lookup(client(&server, secret))(&hashes[..1]), Some(vec![true]));
}

fn by_lookup_once(client: &mut Client, hashes: &[Hash256]) -> Option<Vec<bool>> {
    let answer = client.lookup(Query::pdq(hashes.to_vec())).ok()?;
    Some((0..hashes.len()).map(|at| answer.hits.iter().any(|hit| hit.hash == at as u32)).collect())
}

#[test]
fn a_day_of_ordinary_uploads_freezes_nobody_and_a_budget_is_kept() {
    let (server, admin) = with_admin(Setup::default());
    let hashes = banked(&admin, 4);
    let (number, secret) = key(&admin, &["items", "distance"]);
    let mut pipeline = by_lookup(client(&server, &secret));
    // Each picture in hundreds of variants that differ in the same weak bits by twos, many times over, among misses.
    for round in 0..300u64 {
        let mut frame: Vec<Hash256> = random_hashes(1000 + round, 40);
        for hash in &hashes {
            let weak = |seed: u64| {
                (0..3).fold(*hash, |hash, step| {
                    let at = (seed.wrapping_mul(2_654_435_761).wrapping_add(step * 7919) % 40) as usize;
                    flip(&flip(&hash, at * 3), 255 - at * 3)
                })
            };
            frame.extend([*hash, weak(round % 97), weak(round % 41), weak(round % 97)]);
        }
        assert!(pipeline(&frame).is_some(), "frozen in round {round}: {}", server.log());
    }
    assert_eq!(admin.get(&format!("/api/v1/keys/{number}")).1["frozen"], Value::Null);

    let (status, _) = admin.put(&format!("/api/v1/keys/{number}"), &json!({ "budget": { "per_hour": 100 } }));
    assert_eq!(status, 200);
    let http = bearing(&server, &secret);
    let signals: Vec<String> = random_hashes(5, 90).iter().map(hex).collect();
    let lookup = json!({ "signal_type": "pdq", "signals": signals });
    assert_eq!(http.post("/api/v1/lookup", &lookup).0, 200);
    let (status, refused) = http.post("/api/v1/lookup", &lookup);
    assert!(status == 429 && refused["message"].as_str().unwrap().contains("budget"), "{refused}");
    let mut other = client(&server, &secret);
    assert!(by_lookup_once(&mut other, &random_hashes(6, 11)).is_none(), "both ports are one budget");
    assert!(by_lookup_once(&mut client(&server, &secret), &random_hashes(6, 10)).is_some());
}

#[test]
fn a_honeytoken_that_is_found_or_exported_is_told() {
    let (server, admin) = with_admin(Setup::default());
    banked(&admin, 1);
    let (status, made) = admin.post("/api/v1/honeytokens", &json!({ "bank": "KNOWN", "count": 3 }));
    assert_eq!(status, 201, "{made}");
    assert_eq!(admin.post("/api/v1/honeytokens", &json!({ "bank": "ABSENT", "count": 3 })).0, 404);
    let server = server.stop().restart();
    let admin = Http::logged_in(&server.admin, "root", crate::access::PASSWORD);
    assert_eq!(admin.get("/api/v1/honeytokens").1.as_array().unwrap().len(), 3);
    let content = made["contents"][1].as_u64().unwrap();
    let listed =
        admin.get(&format!("/api/v1/contents/{content}")).1["signals"]["pdq"].as_str().unwrap().to_string();
    let (number, secret) = key(&admin, &["match"]);
    let lookup = json!({ "signal_type": "pdq", "signals": [listed] });
    assert_eq!(bearing(&server, &secret).post("/api/v1/lookup", &lookup).0, 200);
    assert_eq!(admin.plain("GET", "/api/v1/banks/KNOWN/export", None).0, 200);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let (_, log) = admin.get("/api/v1/audit?action=alarm.honeytoken");
        let words: Vec<&str> = log["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["details"]["words"].as_str().unwrap())
            .collect();
        let found = words
            .iter()
            .any(|words| words.contains(&format!("key:{number}")) && words.contains(&content.to_string()));
        let exported = words.iter().any(|words| words.contains("person:root exports bank 'KNOWN'"));
        if found && exported {
            break;
        }
        assert!(Instant::now() < deadline, "{log}");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(admin.get(&format!("/api/v1/keys/{number}")).1["frozen"], Value::Null);
}

#[test]
fn a_key_chooses_no_threshold_beyond_the_types_own_on_either_port() {
    let (server, admin) = with_admin(Setup::default());
    let hashes = banked(&admin, 1);
    let near = hex(&flipped(&hashes[0], 20, 1));
    let secret = key(&admin, &["distance"]).1;
    let http = bearing(&server, &secret);
    let by_http = |http: &Http, threshold: u16| {
        let lookup = json!({ "signal_type": "pdq", "signals": [near], "threshold": threshold });
        let batch = json!({ "items": [{ "signals": { "pdq": near } }], "threshold": threshold });
        [http.post("/api/v1/lookup", &lookup).0, http.post("/api/v1/match", &batch).0]
    };
    let by_wire = |threshold: u16| {
        let query = Query { threshold: Some(threshold), ..Query::pdq(vec![hashes[0]]) };
        client(&server, &secret).lookup(query).is_ok()
    };
    for (threshold, may) in [(0, true), (31, true), (32, false), (128, false)] {
        assert_eq!(by_http(&http, threshold), [if may { 200 } else { 403 }; 2], "{threshold}");
        assert_eq!(by_wire(threshold), may, "{threshold}");
        assert_eq!(by_http(&admin, threshold), [200; 2], "a person may: {threshold}");
    }
}

#[test]
fn files_that_are_looked_up_are_judged_as_hashes_are() {
    let platform = Platform::start();
    let (server, admin) = with_admin(Setup::default().flag("--fetch-allow", "127.0.0.1/32"));
    banked(&admin, 1);
    let made = admin.post(
        "/api/v1/keys",
        &json!({ "name": "three", "scopes": ["distance"], "budget": { "per_hour": 3 } }),
    );
    assert_eq!(made.0, 201, "{}", made.1);
    let http = bearing(&server, made.1["secret"].as_str().unwrap());
    let url = platform.put("a", "image/png", &crate::items::png(3));
    let asked: Vec<u16> = (0..4).map(|_| http.get(&format!("/m/lookup?url={url}")).0).collect();
    assert_eq!((asked[0], asked[3]), (200, 429), "{asked:?}");
}
