//! Clients of the admin port that send no more: those that still read get their whole answers, and those that are gone
//! cost nothing for long.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use index::Hash256;
use rustix::net::sockopt::set_socket_linger;
use tests::{Server, Setup, hex};

use crate::banks::random_hashes;

/// Longer than it takes until a client that sent a FIN is asked whether it still reads.
const SLOW: Duration = Duration::from_millis(4500);

/// What became of a fetch at a slow media host.
#[derive(Debug, PartialEq, Eq)]
enum Fetch {
    Begun,
    Answered,
    BrokenOff,
}

/// A media host that answers each request after this long, and tells what became of it.
fn slow_host(answers_after: Duration) -> (String, Receiver<Fetch>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/file", listener.local_addr().unwrap());
    let (sender, events) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, events) = (stream.unwrap(), sender.clone());
            thread::spawn(move || {
                let mut head = [0; 4096];
                if stream.read(&mut head).unwrap_or(0) == 0 {
                    return;
                }
                let _ = events.send(Fetch::Begun);
                stream.set_read_timeout(Some(answers_after)).unwrap();
                let waits = stream.read(&mut head).is_err_and(|error| {
                    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
                });
                if !waits {
                    let _ = events.send(Fetch::BrokenOff);
                    return;
                }
                let answer = b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 3\r\n\r\nabc";
                let _ = stream.write_all(answer);
                let _ = events.send(Fetch::Answered);
            });
        }
    });
    (url, events)
}

fn server() -> Server {
    Setup::default().flag("--cores", 1).flag("--fetch-allow", "127.0.0.0/8").start()
}

/// Sends a request and nothing behind it.
fn asks(server: &Server, version: &str, method: &str, path: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(&server.admin).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let head = format!(
        "{method} {path} HTTP/{version}\r\nHost: {}\r\nContent-Length: {}\r\n\r\n",
        server.admin,
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    stream
}

/// Shuts down the sending half, and reads all that comes.
fn reads_on(mut stream: TcpStream) -> String {
    stream.shutdown(Shutdown::Write).unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    all
}

#[test]
fn a_client_that_sends_no_more_gets_its_whole_answer() {
    let server = server();
    let (slow, _events) = slow_host(SLOW);
    let slow = format!("/api/v1/hash?types=md5&url={}", slow.replace(':', "%3A").replace('/', "%2F"));
    let md5 = "900150983cd24fb0d6963f7d28e17f72"; // of "abc"
    thread::scope(|scope| {
        for version in ["1.0", "1.1"] {
            let (server, slow) = (&server, &slow);
            scope.spawn(move || {
                let answer = reads_on(asks(server, version, "GET", slow, b""));
                let interim = answer.matches("HTTP/1.1 100 Continue\r\n\r\n").count();
                assert_eq!(interim > 0, version == "1.1", "{answer}");
                let answer = answer.replace("HTTP/1.1 100 Continue\r\n\r\n", "");
                assert!(answer.starts_with(&format!("HTTP/{version} 200")), "{answer}");
                assert!(answer.contains(md5), "{answer}");
            });
        }
    });
    server.create_bank("B");
    let hashes = random_hashes(31, 2000);
    let list: String = hashes.iter().map(|hash| hex(hash) + "\n").collect();
    let import = "/api/v1/banks/B/import?signal_type=pdq&format=lines";
    let answer = reads_on(asks(&server, "1.1", "POST", import, list.as_bytes()));
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"imported\":2000"), "{answer}");
    let answer = reads_on(asks(&server, "1.1", "POST", "/api/v1/scan", &bytes_of(&hashes)));
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"done\":true"), "{answer}");
    assert_eq!(answer.matches("\"index\":").count(), 2000);
    assert!(answer.ends_with("0\r\n\r\n"), "the answer ends as one");
    assert_eq!(server.metric("hashward_clients_gone"), 0.0);
}

fn bytes_of(hashes: &[Hash256]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

#[test]
fn a_body_that_breaks_off_is_answered_as_such() {
    let server = server();
    server.create_bank("B");
    for path in ["/api/v1/banks/B/import?signal_type=pdq&format=lines", "/api/v1/scan", "/api/v1/lookup"] {
        let mut stream = TcpStream::connect(&server.admin).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n");
        stream.write_all(format!("{head}Content-Length: 64\r\n\r\n0f0f").as_bytes()).unwrap();
        let begun = Instant::now();
        let answer = reads_on(stream);
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("{\"message\":"), "{path}: {answer}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{path}: {:?}", begun.elapsed());
    }
}

/// Ways to be gone, and how long the server may take to notice.
const GONE: [(&str, &str, Duration); 3] = [
    ("reset", "1.1", Duration::from_millis(1500)),
    ("closed", "1.1", Duration::from_secs(7)),
    ("closed after its sending half", "1.1", Duration::from_secs(7)),
];
/// TCP alone finds this one, when the client's system has forgotten the socket: after a minute under Linux.
const GONE_SILENTLY: (&str, &str, Duration) = ("closed", "1.0", Duration::from_secs(90));

#[test]
fn a_client_that_is_gone_costs_nothing_for_long() {
    let server = server();
    let (slow, events) = slow_host(Duration::from_secs(100));
    let slow = format!("/api/v1/hash?types=md5&url={}", slow.replace(':', "%3A").replace('/', "%2F"));
    let mut ways = GONE.to_vec();
    if std::env::var("FULL").is_ok_and(|full| full == "1") {
        ways.push(GONE_SILENTLY);
    }
    for (at, (way, version, within)) in ways.into_iter().enumerate() {
        let stream = asks(&server, version, "GET", &slow, b"");
        assert_eq!(events.recv_timeout(Duration::from_secs(20)), Ok(Fetch::Begun));
        match way {
            "reset" => set_socket_linger(&stream, Some(Duration::ZERO)).unwrap(),
            "closed" => {}
            _ => stream.shutdown(Shutdown::Write).unwrap(),
        }
        drop(stream);
        let begun = Instant::now();
        assert_eq!(events.recv_timeout(within), Ok(Fetch::BrokenOff), "{way}, HTTP/{version}");
        println!("{way}, HTTP/{version}: the fetch ended after {:?}", begun.elapsed());
        assert_eq!(server.metric("hashward_clients_gone"), at as f64 + 1.0);
    }
}

#[test]
fn a_scan_ends_when_its_client_is_gone() {
    let server = server();
    server.create_bank("B");
    let hash = random_hashes(32, 1)[0];
    let list = format!("{}\n", hex(&hash)).repeat(20_000);
    let import = "/api/v1/banks/B/import?signal_type=pdq&format=lines";
    assert_eq!(server.http.stream(import, std::io::Cursor::new(list)).0, 200);
    let body: Vec<u8> = std::iter::repeat_n(hash.0, 100_000).flatten().collect();
    let stream = asks(&server, "1.1", "POST", "/api/v1/scan", &body);
    let until = Instant::now() + Duration::from_secs(20);
    while scans(&server) == 0 {
        assert!(Instant::now() < until, "the scan begins");
        thread::sleep(Duration::from_millis(5));
    }
    stream.shutdown(Shutdown::Write).unwrap();
    drop(stream);
    let begun = Instant::now();
    while scans(&server) > 0 {
        assert!(begun.elapsed() < Duration::from_secs(3), "the scan goes on for nobody");
        thread::sleep(Duration::from_millis(5));
    }
    println!("the scan ended after {:?}", begun.elapsed());
}

/// Scans under way, by their threads.
fn scans(server: &Server) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().flatten();
    tasks
        .filter(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "scan"))
        .count()
}
