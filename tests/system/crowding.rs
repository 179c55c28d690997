//! Many clients, and some that want it all: those that ask little are served, whoever else is there.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use index::Hash256;
use ingest::wire::{Client, ClientOptions, Connection, Query, Reply, hello, lookup};
use rustix::process::Signal;
use tests::{Server, Setup, refusal};

use crate::banks::random_hashes;

/// A client that does not wait long.
fn hasty(server: &Server) -> Client {
    let patience = Duration::from_secs(5);
    Client::new(server.listen, ClientOptions { patience, timeout: patience, ..ClientOptions::default() })
}

fn one() -> Query {
    Query::pdq(vec![Hash256([1; 32])])
}

/// Connections that said Hello and then nothing.
fn idle_guests(server: &Server, count: usize) -> Vec<Connection> {
    (0..count).map(|_| Connection::open(server.listen, None, Duration::from_secs(5)).unwrap()).collect()
}

/// Clients that ask one after another until they are asked for.
struct Working {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Result<usize, String>>,
}

impl Working {
    /// So many connections, which have worked for longer than a second.
    fn start(server: &Server, count: usize) -> Self {
        let mut connections = idle_guests(server, count);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut bytes = Vec::new();
            lookup(1, &one(), &mut bytes);
            let mut answered = 0;
            while !stopped.load(Ordering::Relaxed) {
                for connection in &mut connections {
                    connection
                        .send(&bytes)
                        .and_then(|()| connection.receive())
                        .map_err(|error| error.to_string())?;
                    answered += 1;
                }
            }
            Ok(answered)
        });
        thread::sleep(Duration::from_millis(1100));
        Self { stop, thread }
    }

    /// Ends them; says how much was answered, or why somebody was cut off.
    fn end(self) -> Result<usize, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

#[test]
fn idle_strangers_do_not_use_up_the_descriptors() {
    for reactor in ["glommio", "epoll"] {
        let setup = Setup::default().wrapped(&["prlimit", "--nofile=1024:5000"]).flag("--reactor", reactor);
        let mut server = setup.flag("--cores", 1).start();
        server.create_bank("B");
        let mut friend = hasty(&server);
        friend.welcome().unwrap();
        let strangers: Vec<TcpStream> =
            (0..1600).map_while(|_| TcpStream::connect(server.listen).ok()).collect();
        assert!(strangers.len() > 1100, "{}", strangers.len());
        // What opens files goes on: a bank change is synced, a content is stored.
        for hash in random_hashes(71, 50) {
            server.add_pdq("B", &hash);
        }
        friend.lookup(one()).unwrap();
        hasty(&server).lookup(one()).unwrap();
        assert!(server.runs(), "{}", server.log());
        let stopped = server.stop();
        drop(strangers);
        stopped.restart().stop();
    }
}

#[test]
fn connections_do_not_enlarge_the_table_of_descriptors() {
    let server = Setup::default().wrapped(&["prlimit", "--nofile=1024:20000"]).flag("--cores", 1).start();
    let size = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("FDSize:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
    };
    let before = size();
    let guests = idle_guests(&server, 700);
    assert!(before > 2048 && size() == before, "{before}, now {}", size());
    drop(guests);
}

#[test]
fn settings_that_need_more_descriptors_than_there_may_be_are_refused() {
    let (status, words) = refusal(Setup::default().wrapped(&["prlimit", "--nofile=700:700"]));
    assert!(!status.success() && words.contains("the process may have 700"), "{words}");
    let limited = || Setup::default().wrapped(&["prlimit", "--nofile=8000:8000"]).flag("--cores", 1);
    let (status, words) = refusal(limited().flag("--connections-max", 9000));
    assert!(!status.success() && words.contains("--connections-max"), "{words}");
    let (_, text) = limited().start().http.plain("GET", "/healthz", None);
    assert!(!text.is_empty());
}

#[test]
fn idle_clients_give_up_their_places_to_newcomers() {
    for reactor in ["glommio", "epoll"] {
        let setup = Setup::default().flag("--cores", 1).flag("--reactor", reactor);
        let setup = setup.flag("--connections-max", 40).flag("--connections-per-address-max", 40);
        let server = setup.start();
        let working = Working::start(&server, 40);
        for _ in 0..20 {
            let newcomer = Connection::open(server.listen, None, Duration::from_secs(5));
            assert!(newcomer.is_err(), "{reactor}: nobody is silent");
        }
        let answered =
            working.end().unwrap_or_else(|words| panic!("{reactor}: who works was cut off: {words}"));
        assert!(answered > 400, "{reactor}: {answered}");
        thread::sleep(Duration::from_millis(500)); // their places are free by now
        // Those that never asked anything are silent at once: no newcomer tries twice.
        let idle = idle_guests(&server, 40);
        thread::sleep(Duration::from_millis(50));
        let newcomers: Vec<_> = (0..60)
            .map(|at| {
                thread::sleep(Duration::from_millis(2));
                let newcomer = Connection::open(server.listen, None, Duration::from_secs(5));
                newcomer.unwrap_or_else(|error| panic!("{reactor}: newcomer {at}: {error}"))
            })
            .collect();
        drop((idle, newcomers));
        // Strangers that say nothing shut nobody out either.
        let strangers: Vec<_> = (0..200).map_while(|_| TcpStream::connect(server.listen).ok()).collect();
        hasty(&server).lookup(one()).unwrap();
        drop(strangers);
    }
}

#[test]
fn one_address_does_not_take_all_places() {
    let setup = Setup::default().flag("--cores", 1).flag("--connections-max", 40);
    let server = setup.flag("--connections-per-address-max", 10).start();
    let ours = Working::start(&server, 10);
    assert!(Connection::open(server.listen, None, Duration::from_secs(5)).is_err(), "the eleventh");
    // Another address of the loopback range is another client.
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &std::net::SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
    rustix::net::connect(&socket, &server.listen).unwrap();
    let mut other = TcpStream::from(socket);
    let mut bytes = Vec::new();
    hello(1, None, &mut bytes);
    other.write_all(&bytes).unwrap();
    other.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert!(std::io::Read::read(&mut other, &mut [0; 64]).unwrap() > 0, "welcomed");
    assert_eq!(server.metric_of("hashward_refused_total{shard=\"0\"}"), Some(1.0));
    ours.end().unwrap();
}

#[test]
fn connections_that_come_and_go_at_once_are_all_closed() {
    const TOGETHER: usize = 100; // fewer than the admin port has room for before it accepts them
    for reactor in ["glommio", "epoll"] {
        let server = Setup::default().flag("--cores", 1).flag("--reactor", reactor).start();
        let open = || std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
        let ask = || {
            hasty(&server).lookup(one()).unwrap();
            assert!(!server.http.plain("GET", "/healthz", None).1.is_empty());
        };
        ask();
        let before = open();
        for port in [server.listen, server.admin.parse::<SocketAddr>().unwrap()].repeat(3) {
            server.signal(Signal::STOP);
            let come: Vec<_> = (0..TOGETHER).map(|_| TcpStream::connect(port).unwrap()).collect();
            server.signal(Signal::CONT);
            ask();
            server.signal(Signal::STOP);
            for (at, mut stream) in come.into_iter().enumerate() {
                let bytes: &[u8] = [&b""[..], &[0xff; 8], b"GET /healthz HTTP/1.1\r\n\r\n"][at % 3];
                let _ = stream.write_all(bytes); // then it is closed
            }
            server.signal(Signal::CONT);
            ask();
        }
        let until = Instant::now() + Duration::from_secs(20);
        while open() > before + 2 && Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
        }
        assert!(open() <= before + 2, "{reactor}: {} descriptors, {before} before", open());
    }
}

/// Sends large frames without waiting for answers; reads them on another thread. Returns how many were Busy, and answered.
fn flood(server: &Server, frames: usize) -> thread::JoinHandle<(usize, usize)> {
    let connection = Connection::open(server.listen, None, Duration::from_secs(60)).unwrap();
    let (mut sender, mut receiver) = connection.split();
    let sending = thread::spawn(move || {
        let query = Query::pdq(random_hashes(72, 512));
        for correlation in 0..frames as u64 {
            let mut bytes = Vec::new();
            lookup(correlation, &query, &mut bytes);
            sender.send(&bytes).unwrap();
        }
        sender // not closed before all is answered
    });
    thread::spawn(move || {
        let (mut busy, mut answered) = (0, 0);
        while busy + answered < frames {
            match receiver.receive().unwrap().1 {
                Reply::Busy { .. } => busy += 1,
                Reply::Lookup(_) => answered += 1,
                other => panic!("{other:?}"),
            }
        }
        drop(sending.join().unwrap());
        (busy, answered)
    })
}

#[test]
fn a_backlog_is_shed_and_who_asks_little_does_not_notice() {
    for reactor in ["glommio", "epoll"] {
        let setup = Setup::default().flag("--cores", 1).flag("--reactor", reactor).flag("--queue-ms-max", 20);
        let server = setup.start();
        server.create_bank("B");
        server.import("B", &random_hashes(73, 20_000));
        let floods: Vec<_> = (0..4).map(|_| flood(&server, 400)).collect();
        let mut neighbour = Connection::open(server.listen, None, Duration::from_secs(20)).unwrap();
        let (mut busy, mut answered) = (0, 0);
        while floods.iter().any(|flood| !flood.is_finished()) {
            let mut bytes = Vec::new();
            lookup(answered, &one(), &mut bytes);
            neighbour.send(&bytes).unwrap();
            match neighbour.receive().unwrap().1 {
                Reply::Busy { .. } => busy += 1,
                _ => answered += 1,
            }
            thread::sleep(Duration::from_millis(2));
        }
        let outcomes: Vec<_> = floods.into_iter().map(|flood| flood.join().unwrap()).collect();
        let shed: usize = outcomes.iter().map(|(busy, _)| busy).sum();
        assert!(shed > 0 && outcomes.iter().all(|(_, answered)| *answered > 0), "{reactor}: {outcomes:?}");
        assert!(answered > 5 && busy == 0, "{reactor}: the neighbour: {answered} answered, {busy} busy");
        assert_eq!(server.metric_of("hashward_shed_total{shard=\"0\"}"), Some(shed as f64));
    }
}

#[test]
fn a_silent_connection_costs_little_memory() {
    for reactor in ["glommio", "epoll"] {
        let server = Setup::default().flag("--cores", 1).flag("--reactor", reactor).start();
        drop(idle_guests(&server, 50));
        let before = server.resident().unwrap();
        let mut guests = idle_guests(&server, 700);
        let each = server.resident().unwrap().saturating_sub(before) / 700;
        assert!(each < 24 << 10, "{reactor}: {each} bytes a connection");
        // A long frame is given back.
        for guest in &mut guests[..200] {
            let mut bytes = Vec::new();
            lookup(1, &Query::pdq(random_hashes(74, 4096)), &mut bytes);
            guest.send(&bytes).unwrap();
            guest.receive().unwrap();
        }
        thread::sleep(Duration::from_millis(1800));
        let held = server.metric_of("hashward_buffer_bytes{shard=\"0\"}").unwrap();
        assert!(held < 700.0 * 9.0 * 1024.0, "{reactor}: {held} bytes of buffers");
    }
}
