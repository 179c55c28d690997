//! Whatever is sent, there is a clear answer, and the neighbours do not notice.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use index::{Hash256, RequestId};
use ingest::wire::frame::{PREFIX, Split, append, split};
use ingest::wire::{ClientError, ErrorCode, Query, Refusal, Reply, Request, hello, lookup};
use serde_json::{Value, json};
use tests::{Server, Setup};

use crate::banks::random_hashes;

/// Reads the next answer; `None` when the server closed.
fn answer(socket: &mut TcpStream) -> Option<(u64, Reply)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Split::Frame { end } = split(&bytes, 1 << 20) {
            return Some(Reply::decode(&bytes[PREFIX..end]).expect("the server speaks the protocol"));
        }
        match socket.read(&mut buffer) {
            Ok(0) => return None,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("no answer: {error}"),
        }
    }
}

fn refusal(socket: &mut TcpStream) -> Refusal {
    match answer(socket) {
        Some((_, Reply::Error(refusal))) => refusal,
        other => panic!("an error was expected, not {other:?}"),
    }
}

fn greeted(server: &Server) -> TcpStream {
    let mut socket = server.socket();
    let mut bytes = Vec::new();
    hello(1, None, &mut bytes);
    socket.write_all(&bytes).unwrap();
    assert!(matches!(answer(&mut socket), Some((1, Reply::Welcome(_)))));
    socket
}

fn frame(bytes: &[u8]) -> Vec<u8> {
    let mut framed = Vec::new();
    append(bytes, &mut framed);
    framed
}

#[test]
fn frames_that_are_wrong_get_a_clear_answer_and_neighbours_do_not_notice() {
    let server = Server::start();
    let mut neighbour = server.client();
    let query = || Query::pdq(vec![Hash256([1; 32])]);
    neighbour.lookup(query()).unwrap();

    let mut socket = greeted(&server);
    socket.write_all(&(2_000_000u32).to_le_bytes()).unwrap();
    let refused = refusal(&mut socket);
    assert_eq!(refused.code, ErrorCode::frame_too_large);
    assert!(refused.message.contains("2000000") && refused.message.contains("1048576"), "{refused}");
    assert!(answer(&mut socket).is_none(), "what follows a wrong length cannot be trusted");

    // Before Hello a stranger gets less room.
    let mut socket = server.socket();
    socket.write_all(&(5000u32).to_le_bytes()).unwrap();
    assert_eq!(refusal(&mut socket).code, ErrorCode::frame_too_large);

    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[0xff; 64]] {
        let mut socket = server.socket();
        socket.write_all(&frame(garbage)).unwrap();
        assert_eq!(refusal(&mut socket).code, ErrorCode::bad_frame);
        assert!(answer(&mut socket).is_none());
    }
    let mut socket = server.socket();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(
        refusal(&mut socket).code,
        ErrorCode::frame_too_large,
        "HTTP on this port is answered, not hung"
    );

    let mut socket = server.socket();
    let mut bytes = Vec::new();
    lookup(9, &query(), &mut bytes);
    socket.write_all(&bytes).unwrap();
    assert_eq!(refusal(&mut socket).code, ErrorCode::hello_expected);

    neighbour.lookup(query()).unwrap();
    let (_, metrics) = server.http.get("/metrics");
    assert!(metrics.as_str().unwrap().contains("hashward_errors_total"), "{metrics}");
}

#[test]
fn fields_that_are_wrong_are_named_and_the_connection_goes_on() {
    let server = Setup::default().flag("--hashes-max", 8).start();
    let mut client = server.client();
    let hashes = random_hashes(31, 9);
    let mut refused = |query: Query| match client.lookup(query) {
        Err(ClientError::Refused(refusal)) => refusal,
        other => panic!("a refusal was expected, not {other:?}"),
    };
    let one = || Query::pdq(vec![hashes[0]]);
    let refusal = refused(Query::pdq(hashes.clone()));
    assert_eq!((refusal.code, refusal.field.as_str()), (ErrorCode::bad_hash_count, "pdq"));
    assert!(refusal.message.contains("9 hashes") && refusal.message.contains("1 to 8"), "{refusal}");
    assert_eq!(refused(Query::pdq(vec![])).code, ErrorCode::bad_hash_count);
    let refusal = refused(Query { threshold: Some(129), ..one() });
    assert_eq!((refusal.code, refusal.field.as_str()), (ErrorCode::bad_threshold, "threshold"));
    let refusal = refused(Query { upload_ids: vec![1, 2], ..one() });
    assert_eq!((refusal.code, refusal.field.as_str()), (ErrorCode::bad_field, "upload_ids"));
    assert!(client.lookup(one()).is_ok(), "the same connection answers what is right");

    let old = "01890a5d-ac96-774b-bcce-b302099a8057".parse::<RequestId>().unwrap(); // born in 2023
    server.create_bank("B");
    server.add_pdq("B", &hashes[0]);
    // Nothing that was born then was ever removed, so it was not logged before.
    assert!(client.submit(old, one(), vec![]).is_ok());
    // A day is over for its answer: it goes with the next Submit after a start, and the id is unknown.
    let server = server.stop().restart();
    let mut client = server.client();
    assert!(client.submit(RequestId::fresh(), one(), vec![]).is_ok());
    match client.submit(old, one(), vec![]) {
        Err(ClientError::Refused(refusal)) => {
            assert_eq!(refusal.code, ErrorCode::request_too_old);
            assert!(refusal.message.contains("unknown"), "{refusal}");
        }
        other => panic!("a refusal was expected, not {other:?}"),
    }
}

#[test]
fn an_unknown_signal_type_a_wrong_version_and_a_wrong_token_are_named() {
    let token = "0123456789abcdef0123456789abcdef";
    let server = Setup::default().env("HASHWARD_TOKEN", token).start();
    let say = |given: Option<&str>, patch: &dyn Fn(&mut Vec<u8>)| {
        let mut socket = server.socket();
        let mut bytes = Vec::new();
        hello(3, given, &mut bytes);
        patch(&mut bytes);
        socket.write_all(&bytes).unwrap();
        (answer(&mut socket), socket)
    };
    let code = |reply: Option<(u64, Reply)>| match reply {
        Some((3, Reply::Error(refusal))) => refusal.code,
        other => panic!("an error was expected, not {other:?}"),
    };
    assert_eq!(code(say(None, &|_| ()).0), ErrorCode::unauthorized);
    assert_eq!(code(say(Some("0123456789abcdef0123456789abcdeX"), &|_| ()).0), ErrorCode::unauthorized);
    // The version is the one u16 in the frame that is 1 and lies before the token; find it by trying.
    let mut plain = Vec::new();
    hello(3, Some(token), &mut plain);
    let wrong_version = (PREFIX..plain.len() - 1).any(|at| {
        if plain[at..at + 2] != [1, 0] {
            return false;
        }
        let (reply, _) = say(Some(token), &|bytes| bytes[at] = 99);
        matches!(reply, Some((3, Reply::Error(refusal))) if refusal.code == ErrorCode::bad_version && refusal.message.contains("99"))
    });
    assert!(wrong_version);

    let (welcome, mut socket) = say(Some(token), &|_| ());
    assert!(matches!(welcome, Some((3, Reply::Welcome(_)))));
    let mut bytes = Vec::new();
    Request::Lookup(Query::exact(index::SignalType::VideoMd5, vec![index::Digest::new(&[7; 16]).unwrap()]))
        .encode(4, &mut bytes);
    // signal_type 2 is the only byte 2 that turns into 'unknown signal type' when it is 9.
    let unknown = (PREFIX..bytes.len()).filter(|at| bytes[*at] == 2).any(|at| {
        let mut patched = bytes.clone();
        patched[at] = 9;
        let (_, mut socket) = say(Some(token), &|_| ());
        socket.write_all(&patched).unwrap();
        matches!(answer(&mut socket), Some((_, Reply::Error(refusal))) if refusal.code == ErrorCode::unknown_signal_type)
    });
    assert!(unknown);
    socket.write_all(&bytes).unwrap();
    assert!(matches!(answer(&mut socket), Some((4, Reply::Lookup(_)))));

    assert_eq!(server.http.get("/healthz").0, 200);
    assert_eq!(server.http.get("/api/v1/banks").0, 401);
    let bearer = format!("Bearer {token}");
    assert_eq!(server.http.get_with("/api/v1/banks", &[("authorization", &bearer)]).0, 200);
    assert!(!server.log().contains(token), "the token is in the log");
}

#[test]
fn half_a_frame_then_silence_ends_and_costs_nobody_else() {
    let server = Setup::default().flag("--frame-seconds", 1).start();
    let mut drips: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut socket = greeted(&server);
            socket.write_all(&[40, 0, 0, 0, 1, 2, 3]).unwrap();
            socket
        })
        .collect();
    let mut silent = server.socket(); // never says Hello
    let started = Instant::now();
    let mut client = server.client();
    for socket in &mut drips {
        client.lookup(Query::pdq(vec![Hash256([3; 32])])).unwrap();
        let refused = refusal(socket);
        assert_eq!(refused.code, ErrorCode::timed_out);
        assert!(refused.message.contains("not finished in time"), "{refused}");
        assert!(answer(socket).is_none());
    }
    assert!(refusal(&mut silent).message.contains("Hello"));
    assert!(started.elapsed() < Duration::from_secs(10));
    let closed =
        || server.http.get("/metrics").1.as_str().unwrap().contains("hashward_connections{shard=\"0\"} 1.0");
    let until = Instant::now() + Duration::from_secs(5);
    while !closed() {
        assert!(Instant::now() < until, "connections are not given back");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_client_that_never_reads_is_cut_off_in_bounded_memory() {
    let server = Server::start();
    server.create_bank("B");
    let hash = Hash256([9; 32]);
    for _ in 0..200 {
        server.add_pdq("B", &hash);
    }
    let before = resident(&server);
    let mut socket = greeted(&server);
    socket.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut bytes = Vec::new();
    lookup(1, &Query::pdq(vec![hash; 64]), &mut bytes); // each answer lists 12 800 matches: 200 kB
    let until = Instant::now() + Duration::from_secs(30);
    while socket.write_all(&bytes).is_ok() {
        assert!(Instant::now() < until, "it is never cut off");
    }
    assert!(resident(&server) < before + (64 << 20), "memory grew from {before} to {}", resident(&server));
    server.client().lookup(Query::pdq(vec![hash])).unwrap();
}

fn resident(server: &Server) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/statm", server.pid())).unwrap();
    text.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn admin_faults_are_named() {
    let server = Server::start();
    server.create_bank("B");
    let message =
        |(status, body): (u16, Value)| (status, body["message"].as_str().unwrap_or_default().to_string());
    let post = |path: &str, body: Value| message(server.http.post(path, &body));
    for (path, body, status, says) in [
        ("/api/v1/banks", json!({ "name": "lower" }), 400, "'lower' is not allowed"),
        ("/api/v1/banks", json!({ "nam": "X" }), 422, "nam"),
        (
            "/api/v1/banks/NONE/contents",
            json!({ "signals": { "pdq": "00".repeat(32) } }),
            404,
            "'NONE' not found",
        ),
        ("/api/v1/banks/B/contents", json!({ "signals": { "pdq": "xyz" } }), 400, "character 1 is 'x'"),
        ("/api/v1/banks/B/contents", json!({ "signals": { "pdq": "AB".repeat(32) } }), 400, "lower-case"),
        (
            "/api/v1/banks/B/contents",
            json!({ "signals": { "photodna": "00" } }),
            400,
            "unknown signal type 'photodna'",
        ),
        ("/api/v1/banks/B/contents", json!({ "signals": {} }), 400, "it has no signal"),
        (
            "/api/v1/lookup",
            json!({ "signal_type": "pdq", "signals": ["00"] }),
            400,
            "64 hex digits, this has 2",
        ),
        (
            "/api/v1/lookup",
            json!({ "signal_type": "pdq", "signals": [], "threshold": 999 }),
            400,
            "threshold 999",
        ),
        ("/api/v1/nothing", json!({}), 404, "no route /api/v1/nothing"),
        ("/metrics", json!({}), 405, "does not take POST"),
    ] {
        let (found, words) = post(path, body.clone());
        assert_eq!(found, status, "{path} {body}: {words}");
        assert!(words.contains(says), "{path} {body}: {words}");
    }
    for (path, says) in [
        ("/api/v1/hits?limit=x", "limit"),
        ("/api/v1/queues/NO!", "not a queue name"),
        ("/api/v1/hits/99", "no hit"),
    ] {
        let (status, words) = message(server.http.get(path));
        assert!((400..500).contains(&status) && words.contains(says), "{path}: {status} {words}");
    }
    let evil = server.http.get_with("/api/v1/banks", &[("host", "evil.example")]);
    assert_eq!(message(evil).0, 421);
    let evil = server.http.get_with("/api/v1/banks", &[("origin", "http://evil.example")]);
    assert_eq!(message(evil).0, 403);
    let import = server.http.stream("/api/v1/banks/B/import?signal_type=pdq&format=xml", std::io::empty());
    assert!(message(import).1.contains("unknown format 'xml'"));
}

#[test]
fn an_http_client_that_stays_silent_in_the_middle_is_cut_off() {
    let server = Setup::default().flag("--idle-seconds", 1).start();
    let import = "POST /api/v1/banks/B/import?signal_type=pdq HTTP/1.1\r\nhost: localhost\r\n";
    server.create_bank("B");
    for sent in [
        String::new(),
        "GET /healthz HTTP/1.1\r\nhost: local".to_string(),
        "POST /c/banks HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n{".to_string(),
        format!("{import}transfer-encoding: chunked\r\n\r\n2\r\n0f\r\n"),
        // Answered, and then silent.
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n".to_string(),
    ] {
        let mut socket = TcpStream::connect(&server.admin).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        socket.write_all(sent.as_bytes()).unwrap();
        let started = Instant::now();
        let mut rest = Vec::new();
        // To the end of the connection, or its reset: either is an end.
        match socket.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{sent:?}: {error}"),
        }
        let rest = String::from_utf8_lossy(&rest);
        assert!(started.elapsed() < Duration::from_secs(25), "{sent:?} is waited for");
        assert!(!rest.starts_with("HTTP/1.1 2") || sent.contains("healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"), "{rest}");
    }
    assert_eq!(server.http.get("/api/v1/banks/B").1["contents"], 0, "half a line is no content");
}
