//! Scans and lookups against banks full of duplicates: they take bounded memory, and keep nobody else out.

use std::io::{Cursor, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use index::{BankId, Hash256, RequestId, SignalType};
use ingest::wire::Query;
use serde_json::{Value, json};
use tests::{Server, Setup, flipped, hex};

use crate::banks::random_hashes;

/// Whether the heavy forms are wanted.
fn full() -> bool {
    std::env::var("FULL").is_ok_and(|full| full == "1")
}

/// Duplicates of one hash in its bank.
fn duplicates() -> usize {
    if full() { 100_000 } else { 20_000 }
}

fn import(server: &Server, bank: &str, kind: SignalType, list: String) -> u64 {
    let path = format!("/api/v1/banks/{bank}/import?signal_type={kind}&format=lines");
    let (status, answer) = server.http.stream(&path, Cursor::new(list));
    assert_eq!(status, 200, "{answer}");
    answer["imported"].as_u64().unwrap()
}

/// A server whose bank FULL holds nothing but one hash, and whose bank OTHER holds it once.
fn full_of_one() -> (Server, Hash256) {
    let server = Setup::default().flag("--cores", 1).start();
    let hash = random_hashes(5, 1)[0];
    for bank in ["FULL", "OTHER"] {
        server.create_bank(bank);
    }
    let line = format!("{}\n", hex(&hash));
    let imported = import(&server, "FULL", SignalType::Pdq, line.repeat(duplicates()));
    assert_eq!(imported, duplicates() as u64);
    server.add_pdq("OTHER", &hash);
    (server, hash)
}

#[test]
fn a_frame_of_one_hash_against_a_bank_full_of_it_is_bounded_and_others_go_on() {
    let (server, hash) = full_of_one();
    let resident = || server.metric("process_resident_memory_bytes") as u64;
    let before = resident();
    let asked = Query::pdq(vec![hash; 4096]);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let begun = Instant::now();
            let answer = server.client().lookup(asked.clone()).unwrap();
            (answer, begun.elapsed())
        });
        // Others on the same shard are answered meanwhile.
        let (mut client, stranger) = (server.client(), random_hashes(6, 1));
        let (mut slowest, mut asks) = (Duration::ZERO, 0);
        while !asking.is_finished() {
            let begun = Instant::now();
            client.lookup(Query::pdq(stranger.clone())).unwrap();
            slowest = slowest.max(begun.elapsed());
            asks += 1;
        }
        let (answer, took) = asking.join().unwrap();
        println!("{took:?} for the frame; {asks} lookups beside it, the slowest {slowest:?}");
        assert!(slowest < took / 2, "a neighbour waited {slowest:?} of {took:?}");
        assert_eq!(answer.hits.len(), 4096);
        for hit in &answer.hits {
            assert_eq!(hit.total as usize, duplicates() + 1);
            let banks: Vec<BankId> = hit.matches.iter().map(|found| found.bank).collect();
            assert!(
                banks.contains(&BankId(1)) && banks.contains(&BankId(2)),
                "the nearest of every bank is listed"
            );
            assert!(hit.matches.iter().all(|found| found.distance.bits() == 0) && banks.len() <= 257);
        }
    });
    // A Submit, whose hits become durable; the widest threshold, at which all strangers match as well.
    let (answer, receipt) = server
        .client()
        .submit(RequestId::fresh(), Query::pdq(vec![flipped(&hash, 3, 1); 256]), vec![])
        .unwrap();
    assert_eq!((answer.hits.len(), receipt.replayed), (256, false));
    let wide = Query { threshold: Some(128), ..Query::pdq(vec![hash; 512]) };
    assert_eq!(server.client().lookup(wide).unwrap().hits[511].total as usize, duplicates() + 1);
    let grown = resident().saturating_sub(before);
    println!("{} MiB more than before", grown >> 20);
    assert!(grown < 200 << 20, "{} MiB stayed", grown >> 20);
}

#[test]
fn scans_of_one_hash_are_bounded_and_answer_as_lookups_do() {
    let (server, hash) = full_of_one();
    server.forget_peak();
    let before = server.peak();
    // So many hashes that the tables are swept; of which a part is the one that the bank is full of.
    let (hashes, alike) = if full() { (200_000, 20_000) } else { (17_000, 1_000) };
    let strangers = random_hashes(7, hashes - alike);
    let body: Vec<u8> =
        strangers.into_iter().chain(std::iter::repeat_n(hash, alike)).flat_map(|hash| hash.0).collect();
    let (status, text) = server.http.stream("/api/v1/scan?limit=2", Cursor::new(body));
    assert_eq!(status, 200);
    let read = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    let lines: Vec<Value> = text.as_str().unwrap().lines().map(read).collect();
    assert_eq!(lines.len(), alike + 1, "a line for each hash that matched, and the end");
    for (at, line) in lines[..alike].iter().enumerate() {
        assert_eq!(line["index"].as_u64(), Some((hashes - alike + at) as u64));
        assert_eq!(line["matches_total"].as_u64(), Some(duplicates() as u64 + 1));
        assert_eq!((line["matches"].as_array().unwrap().len(), line["truncated"].as_bool()), (2, Some(true)));
    }
    assert_eq!((&lines[alike]["done"], &lines[alike]["hashes"]), (&json!(true), &json!(hashes)));
    let grown = server.peak().saturating_sub(before);
    println!("{} MiB at the peak", grown >> 20);
    assert!(grown < 400 << 20, "{} MiB at the peak", grown >> 20);
}

#[test]
fn clients_that_do_not_read_their_scans_keep_nobody_out() {
    let (server, hash) = full_of_one();
    let body: Vec<u8> = std::iter::repeat_n(hash.0, 100_000).flatten().collect();
    let stalled: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = TcpStream::connect(&server.admin).unwrap();
            let head = format!(
                "POST /api/v1/scan HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n",
                server.admin,
                body.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&body).unwrap();
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_secs(3)); // their answers fill every buffer there is
    let begun = Instant::now();
    let text = json!({ "signal_type": SignalType::RawText, "signals": ["some words that nobody banked"] });
    let (status, _) = server.http.post("/api/v1/lookup", &text);
    assert_eq!(status, 200);
    let (status, _) =
        server.http.post("/api/v1/login", &json!({ "name": "nobody", "password": "not this one" }));
    assert_eq!(status, 401);
    let took = begun.elapsed();
    println!("a text and a login beside four stalled scans: {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    // Their time is up soon, and what they held is free again.
    let until = Instant::now() + Duration::from_secs(60);
    while server.metric("hashward_answers_stalled") < 4.0 {
        assert!(Instant::now() < until, "{} scans ended", server.metric("hashward_answers_stalled"));
        std::thread::sleep(Duration::from_millis(200));
    }
    println!("the last of them ended after {:?}", begun.elapsed());
    drop(stalled);
}

#[test]
fn an_import_of_digests_leaves_lookups_fast() {
    let server = Setup::default().flag("--cores", 1).start();
    server.create_bank("B");
    let count: u64 = if full() { 1_000_000 } else { 150_000 };
    let digest = |at: u64| {
        let word = at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        [word.to_be_bytes(), (!word).to_be_bytes()].concat()
    };
    let line = |at: u64| digest(at).iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    let list: String = (0..count).map(line).collect();
    std::thread::scope(|scope| {
        let importing = scope.spawn(|| import(&server, "B", SignalType::Md5, list));
        let mut client = server.client();
        let asked: Vec<index::Digest> =
            (0..64).map(|at| index::Digest::new(&digest(count + at)).unwrap()).collect();
        let (mut slowest, mut largest) = (Duration::ZERO, 0);
        while !importing.is_finished() {
            let begun = Instant::now();
            client.lookup(Query::exact(SignalType::Md5, asked.clone())).unwrap();
            slowest = slowest.max(begun.elapsed());
            let delta = server.http.get("/api/v1/index").1["md5"]["tables"]["delta"].as_u64().unwrap();
            largest = largest.max(delta);
        }
        assert_eq!(importing.join().unwrap(), count);
        println!("slowest frame of 64 {slowest:?}, at most {largest} unmerged");
        assert!(largest <= 65_536 + 3 * 16_384, "{largest} unmerged digests");
        assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    });
}
