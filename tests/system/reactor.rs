//! Both reactors serve alike, and the choice between them is made rightly and said.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use index::{Hash256, RequestId};
use ingest::wire::{Client, ClientOptions, Query};
use rustix::process::Signal;
use seccompiler::{SeccompAction, SeccompFilter, TargetArch};
use tests::{Server, Setup, flipped, refusal};

use crate::banks::random_hashes;

/// Lets the calling thread, and what it starts, no longer set up an io_uring: as Docker's default profile does.
fn forbid_io_uring() {
    let calls = [425, 426, 427].map(|call| (call, vec![])); // io_uring_setup, _enter, _register
    let rules: BTreeMap<i64, Vec<_>> = calls.into_iter().collect();
    let architecture = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let (others, these) =
        (SeccompAction::Allow, SeccompAction::Errno(rustix::io::Errno::PERM.raw_os_error() as u32));
    let filter = SeccompFilter::new(rules, others, these, architecture).unwrap();
    let program: seccompiler::BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

/// Runs on a thread that may not set up an io_uring.
fn without_io_uring<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let run = move || {
        forbid_io_uring();
        work()
    };
    thread::spawn(run).join().unwrap()
}

/// Banks, looks up, submits, over several connections and shards; then drains.
fn serves(server: Server, reactor: &str) {
    server.create_bank("B");
    let banked = random_hashes(81, 300);
    for hash in &banked {
        server.add_pdq("B", hash);
    }
    let mut clients: Vec<Client> = (0..6).map(|_| server.client()).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.welcome().unwrap().reactor, reactor);
        let queries: Vec<Hash256> =
            banked.iter().enumerate().map(|(which, hash)| flipped(hash, (which + at) % 34, 5)).collect();
        let answer = client.lookup(Query::pdq(queries)).unwrap();
        let found: Vec<usize> = answer.hits.iter().map(|hit| hit.hash as usize).collect();
        let expected: Vec<usize> = (0..banked.len()).filter(|which| (which + at) % 34 <= 31).collect();
        assert_eq!(found, expected);
        let submitted = Query::pdq(vec![banked[at]]);
        let (answer, _) = client.submit(RequestId::fresh(), submitted, Vec::new()).unwrap();
        assert_eq!(answer.hits.len(), 1);
    }
    assert_eq!(server.pages("/api/v1/hits").len(), 6);

    // A peer that has sent half a frame when the server ends holds nothing up.
    let mut slow = server.socket();
    slow.write_all(&[9, 0]).unwrap();
    let metrics = server.http.get("/metrics").1.to_string();
    assert!(metrics.contains(&format!("reactor=\\\"{reactor}\\\"")), "{metrics}");
    assert!(server.log().contains(&format!("reactor=\"{reactor}\"")), "{}", server.log());
    let mut server = server;
    server.signal(Signal::TERM);
    assert!(server.wait().success(), "{}", server.log());
    let _ = slow.read_to_end(&mut Vec::new()); // ended, or reset: both are an end
}

#[test]
fn both_reactors_serve_alike_and_drain() {
    for reactor in ["glommio", "epoll"] {
        serves(Setup::default().flag("--cores", 2).flag("--reactor", reactor).start(), reactor);
    }
}

#[test]
fn a_silent_peer_is_closed_on_epoll_too() {
    let server = Setup::default().flag("--reactor", "epoll").flag("--idle-seconds", 1).start();
    let mut silent = server.socket();
    silent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).unwrap();
    assert!(String::from_utf8_lossy(&rest).contains("silent for too long"));
    let mut client = Client::new(server.listen, ClientOptions::default());
    client.welcome().unwrap();
}

#[test]
fn auto_is_epoll_and_glommio_says_why_it_cannot_be_had() {
    let server = without_io_uring(|| Setup::default().flag("--cores", 2).start());
    serves(server, "epoll");
    let (status, words) = without_io_uring(|| refusal(Setup::default().flag("--reactor", "glommio")));
    assert!(!status.success() && words.contains("--reactor glommio: the kernel refuses io_uring"), "{words}");
    assert!(words.contains("seccomp") && words.contains("kernel.io_uring_disabled"), "{words}");
}

#[test]
fn with_too_little_lockable_memory_glommio_says_what_to_set() {
    let limited = || Setup::default().wrapped(&["prlimit", "--memlock=65536:65536"]);
    serves(limited().start(), "epoll");
    let (status, words) = refusal(limited().flag("--reactor", "glommio"));
    assert!(!status.success() && words.contains("only 65536 bytes may be locked"), "{words}");
    assert!(words.contains("ulimit -l 512") && words.contains("LimitMEMLOCK=512K"), "{words}");
}
