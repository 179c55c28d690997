//! What curators have beyond HMA: thresholds of banks, histories, statistics, exports, and looking back.

use std::io::Cursor;
use std::thread;
use std::time::{Duration, Instant};

use index::{RequestId, UploadContext};
use ingest::wire::Query;
use serde_json::{Value, json};
use tests::{Server, Setup, flipped, hex};

use crate::banks::random_hashes;

fn contents_found(server: &Server, hash: &index::Hash256, threshold: Option<u16>) -> Vec<u64> {
    let query = Query { threshold, ..Query::pdq(vec![*hash]) };
    let hits = server.client().lookup(query).unwrap().hits;
    let mut over_wire: Vec<u64> =
        hits.iter().flat_map(|hit| &hit.matches).map(|found| found.content.0).collect();
    over_wire.sort_unstable();
    let body = json!({ "signal_type": "pdq", "signals": [hex(hash)], "threshold": threshold });
    let answer = server.http.post("/api/v1/lookup", &body).1;
    let mut over_http: Vec<u64> = ids(&answer["results"][0]["matches"], "content");
    over_http.sort_unstable();
    assert_eq!(over_http, over_wire, "both ports answer the same");
    over_wire
}

fn ids(list: &Value, field: &str) -> Vec<u64> {
    list.as_array().unwrap().iter().filter_map(|row| row[field].as_u64()).collect()
}

#[test]
fn a_bank_may_have_a_threshold_of_its_own() {
    let server = Server::start();
    let hash = random_hashes(5, 1)[0];
    for bank in ["STRICT", "USUAL", "WIDE"] {
        server.create_bank(bank);
        server.add_pdq(bank, &hash);
    }
    let put = |bank: &str, threshold: Value| {
        server.http.put(&format!("/api/v1/banks/{bank}"), &json!({ "threshold": threshold }))
    };
    assert_eq!(put("STRICT", json!(10)).0, 200);
    assert_eq!(put("WIDE", json!(60)).0, 200);
    for bad in [json!(129), json!(-1), json!("9")] {
        assert!([400, 422].contains(&put("WIDE", bad).0));
    }
    let check = |server: &Server| {
        for (bits, expected) in [
            (0, vec![1, 2, 3]),
            (10, vec![1, 2, 3]),
            (11, vec![2, 3]),
            (31, vec![2, 3]),
            (32, vec![3]),
            (60, vec![3]),
            (61, vec![]),
        ] {
            assert_eq!(contents_found(server, &flipped(&hash, bits, 1), None), expected, "at {bits} bits");
        }
        // Who names a threshold gets it, of every bank.
        assert_eq!(contents_found(server, &flipped(&hash, 20, 1), Some(20)), [1, 2, 3]);
        assert_eq!(contents_found(server, &flipped(&hash, 40, 1), Some(31)), Vec::<u64>::new());
        let raw = server
            .http
            .get(&format!("/m/raw_lookup?signal_type=pdq&signal={}", hex(&flipped(&hash, 40, 1))))
            .1;
        assert_eq!(raw, json!({ "matches": [3] }), "HMA's routes keep to it");
    };
    check(&server);
    let killed = server.kill();
    let server = killed.restart();
    check(&server);
    assert_eq!(server.http.get("/api/v1/banks/STRICT").1["threshold"], 10);
    server.http.put("/api/v1/banks/STRICT", &json!({ "threshold": null }));
    server.http.put("/api/v1/banks/WIDE", &json!({ "name": "WIDER", "enabled_ratio": 0.0 }));
    assert_eq!(contents_found(&server, &flipped(&hash, 31, 1), None), [1, 2]);
}

#[test]
fn what_happened_to_a_content_is_told_also_when_it_is_gone() {
    let server = Server::start();
    server.create_bank("B");
    let hashes = random_hashes(6, 3);
    let list = hashes.iter().map(|hash| hex(hash) + "\n").collect::<String>();
    let (status, imported) = server.http.stream("/api/v1/banks/B/import?signal_type=pdq", Cursor::new(list));
    assert_eq!((status, &imported["imported"]), (200, &json!(3)), "{imported}");
    server.http.put("/c/bank/B/content/2", &json!({ "disable_until_ts": 0, "note": "why" }));
    server.http.delete("/c/bank/B/content/2");
    let events = |path: &str| -> Vec<Value> {
        let (status, events) = server.http.get(path);
        assert_eq!(status, 200, "{events}");
        let mut events = events.as_array().unwrap().clone();
        assert!(events.is_sorted_by_key(|event| event["generation"].as_u64()), "{events:?}");
        for event in &mut events {
            let event = event.as_object_mut().unwrap();
            assert!(event.remove("at_ms").unwrap().as_u64().unwrap() > 1_600_000_000_000);
            event.remove("generation");
            event.remove("request");
        }
        events
    };
    let added = json!({ "event": "added", "bank": 1, "first": 1, "contents": 3 });
    assert_eq!(events("/api/v1/contents/1/history"), std::slice::from_ref(&added));
    assert_eq!(
        events("/api/v1/contents/2/history"),
        [
            added.clone(),
            json!({ "event": "edited", "bank": 1, "note": "why", "disabled_until": 0 }),
            json!({ "event": "removed", "bank": 1 }),
        ]
    );
    assert_eq!(server.http.get("/api/v1/contents/4/history").0, 404);
    let lines = server.http.get("/api/v1/banks/B/export").1;
    assert_eq!(lines.as_str().unwrap().lines().count(), 2);
    let what: Vec<Value> =
        events("/api/v1/banks/B/history").iter().map(|event| event["event"].clone()).collect();
    assert_eq!(what, ["bank_created", "bank_exported"]);
    server.http.delete("/api/v1/banks/B");
    let gone = json!({ "event": "bank_deleted", "bank": 1, "name": "B", "contents": 2 });
    assert_eq!(events("/api/v1/contents/1/history"), [added, gone]);
    assert_eq!(events("/api/v1/contents/2/history").last().unwrap()["event"], "removed");
}

#[test]
fn what_members_share_is_not_given_out_by_accident() {
    let server = Server::start();
    let made = server.http.post("/c/exchanges", &json!({ "bank": "NCMEC_HASHES", "api": "ncmec", "api_json": { "environment": "https://hashsharing.ncmec.org/npo" } }));
    assert_eq!(made.0, 201, "{}", made.1);
    for hash in random_hashes(7, 2) {
        server.add_pdq("NCMEC_HASHES", &hash);
    }
    let (status, refused) = server.http.get("/api/v1/banks/NCMEC_HASHES/export");
    assert_eq!(status, 403);
    assert!(refused["message"].as_str().unwrap().contains("?restricted=true"), "{refused}");
    let (status, lines) = server.http.get("/api/v1/banks/NCMEC_HASHES/export?restricted=true");
    assert_eq!((status, lines.as_str().unwrap().lines().count()), (200, 2));
    let history = server.http.get("/api/v1/banks/NCMEC_HASHES/history").1;
    let last = history.as_array().unwrap().last().unwrap();
    assert_eq!((&last["event"], &last["restricted"]), (&json!("bank_exported"), &json!(true)));
}

#[test]
fn lists_of_texts_urls_and_videos_go_in_and_come_out_the_same() {
    let server = Server::start();
    let frame = hex(&random_hashes(13, 1)[0]);
    let long = json!(vec![format!("{frame},100,1.5"); 9_000]).to_string(); // two thirds of a megabyte
    for (bank, kind, texts) in [
        ("URLS", "url", vec!["https://Example.com/A?b=C", "ftp://x/Y"]),
        ("TEXTS", "raw_text", vec!["Some Words, as They Stand", "\u{c4}nother \"one\""]),
        ("VIDEOS", "vpdq", vec![long.as_str()]),
    ] {
        server.create_bank(bank);
        let list: String = texts.iter().map(|text| json!({ "signal": text }).to_string() + "\n").collect();
        let import = |bank: &str, list: String| {
            let path = format!("/api/v1/banks/{bank}/import?signal_type={kind}&format=ndjson");
            server.http.stream(&path, Cursor::new(list))
        };
        let (status, imported) = import(bank, list);
        assert_eq!((status, &imported["imported"]), (200, &json!(texts.len())), "{imported}");
        let exported = |bank: &str| {
            let lines = server.http.get(&format!("/api/v1/banks/{bank}/export")).1;
            // One line of JSON is taken for JSON.
            let lines = lines.as_str().map_or_else(|| lines.to_string(), str::to_string);
            let line = |line: &str| serde_json::from_str::<Value>(line).unwrap();
            lines.lines().map(line).collect::<Vec<Value>>()
        };
        let signals = |rows: Vec<Value>| -> Vec<String> {
            rows.iter().map(|row| row["signal"].as_str().unwrap().to_string()).collect()
        };
        assert_eq!(signals(exported(bank)), texts, "{kind}");
        let copy = format!("{bank}_2");
        server.create_bank(&copy);
        let lines: String = exported(bank).iter().map(|row| row.to_string() + "\n").collect();
        assert_eq!(import(&copy, lines).0, 200);
        assert_eq!(signals(exported(&copy)), texts, "{kind}");
    }
    let page = server.http.get("/api/v1/banks/VIDEOS/contents").1;
    assert_eq!(page["entries"][0]["signals"]["vpdq"], long);
}

#[test]
fn a_bank_is_searched_by_distance_and_counted() {
    let server = Server::start();
    server.create_bank("A");
    server.create_bank("B");
    let hash = random_hashes(8, 1)[0];
    for bits in [40, 3, 20] {
        server.add_pdq("A", &flipped(&hash, bits, 2));
    }
    server.add_pdq("B", &hash);
    let near = |query: &str| {
        let (status, page) = server.http.get(&format!("/api/v1/banks/A/contents?near={}{query}", hex(&hash)));
        assert_eq!(status, 200, "{page}");
        (ids(&page["entries"], "content"), ids(&page["entries"], "distance"))
    };
    assert_eq!(near(""), (vec![2, 3], vec![3, 20]));
    assert_eq!(near("&distance=60"), (vec![2, 3, 1], vec![3, 20, 40]));
    assert_eq!(near("&distance=60&limit=1"), (vec![2], vec![3]));
    assert_eq!(server.http.get("/api/v1/banks/A/contents?near=zz").0, 400);

    server.http.put("/c/bank/A/content/1", &json!({ "disable_until_ts": 0 }));
    let counted = server.http.get("/api/v1/statistics").1;
    assert_eq!((&counted["contents"], &counted["signals"]["pdq"]), (&json!(4), &json!(4)), "{counted}");
    let a = &counted["banks"][0];
    assert_eq!((&a["name"], &a["contents"], &a["disabled_contents"]), (&json!("A"), &json!(3), &json!(1)));
}

#[test]
fn new_content_is_looked_for_in_what_was_submitted_before() {
    let server = Server::start();
    let hashes = random_hashes(9, 6);
    let mut client = server.client();
    let request = RequestId::fresh();
    let context = UploadContext {
        item_id: Some("item-3".into()),
        creator: Some("someone".into()),
        ..Default::default()
    };
    let query = Query { upload_ids: (100..106).collect(), ..Query::pdq(hashes.clone()) };
    for _ in 0..2 {
        client.submit(request, query.clone(), vec![(3, context.clone())]).unwrap(); // sent again, it is one submission
    }
    client.lookup(Query::pdq(vec![hashes[3]])).unwrap(); // nobody uploaded anything
    let path = |query: &str| {
        format!("/api/v1/recent?signal_type=pdq&signal={}{query}", hex(&flipped(&hashes[3], 12, 4)))
    };
    let found = |server: &Server, query: &str| {
        let (status, answer) = server.http.get(&path(query));
        assert_eq!(status, 200, "{answer}");
        answer["results"][0]["submissions"]["entries"].clone()
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while found(&server, "") == json!([]) {
        assert!(Instant::now() < deadline, "a submission is not kept: {}", server.log());
        thread::sleep(Duration::from_millis(20));
    }
    let check = |server: &Server| {
        let entries = found(server, "&hours=3");
        assert_eq!(entries.as_array().unwrap().len(), 1, "{entries}");
        let entry = &entries[0];
        assert_eq!(
            (&entry["upload_id"], &entry["index"], &entry["distance"]),
            (&json!(103), &json!(3), &json!(12))
        );
        assert_eq!(entry["request"], request.to_string());
        assert_eq!(
            (&entry["context"]["item_id"], &entry["context"]["creator"]),
            (&json!("item-3"), &json!("someone"))
        );
        assert_eq!(found(server, "&threshold=11"), json!([]));
        assert_eq!(found(server, "&hours=0"), json!([]));
    };
    check(&server);
    // As a person does it: bank the content, then look back.
    server.create_bank("NEW");
    let content = server.add_pdq("NEW", &flipped(&hashes[3], 12, 4));
    let back = server.http.get(&format!("/api/v1/contents/{content}/recent")).1;
    assert_eq!(back["results"][0]["submissions"]["entries"][0]["upload_id"], 103, "{back}");
    let killed = server.kill();
    check(&killed.restart());

    let off = Setup::default().flag("--recent-hours", 0).start();
    assert_eq!(off.http.get(&path("")).0, 501);
}

#[test]
fn what_is_kept_of_submissions_has_a_bound() {
    let server = Setup::default().flag("--recent-bytes-max", 200_000).start();
    let mut client = server.client();
    let hashes = random_hashes(10, 1000);
    for _ in 0..40 {
        client.submit(RequestId::fresh(), Query::pdq(hashes.clone()), vec![]).unwrap(); // 32 kB each
    }
    let kept = || {
        let path = format!("/api/v1/recent?signal_type=pdq&signal={}&limit=1000", hex(&hashes[0]));
        let found = server.http.get(&path).1["results"][0]["submissions"].clone();
        found["hashes"].as_u64().unwrap()
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let metrics = server.http.get("/metrics").1.to_string();
        if metrics.contains("hashward_recent_kept_total{} 40") {
            break;
        }
        assert!(Instant::now() < deadline, "{metrics}");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(kept() <= 14_000, "{} hashes are kept: twice the bound at most, a minute goes at once", kept());
}
