//! The server serves, and ends when it is told to, although nobody takes its log; and signals end it in order or not at
//! all.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tests::{Http, Server, Setup, program, refusal};

use crate::endurance::{long_answers, stuffed};

/// Starts the server in a shell that does this to its outputs first.
fn redirected(script: &str) -> Setup {
    Setup::default().wrapped(&["bash", "-c", script, "bash"])
}

/// A script that makes `pipe`, fills it, and starts the server with it as output `number`. The server's third descriptor
/// keeps the pipe open for reading, and does not read.
fn stalled(pipe: &Path, number: u8) -> String {
    let pipe = pipe.display();
    format!(
        "mkfifo '{pipe}'; exec 3<>'{pipe}'; dd if=/dev/zero bs=4096 count=16 >&3 2>/dev/null; \
         exec \"$@\" {number}>'{pipe}'"
    )
}

fn last_run(data: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(data.join("last-run.json")).unwrap()).unwrap()
}

#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    for to in ["/dev/full", ">(exec true)"] {
        let server = redirected(&format!("exec \"$@\" 2> {to}")).start();
        server.create_bank("B");
        let until = Instant::now() + Duration::from_secs(10);
        while server.metric("hashward_log_lines_dropped") < 1.0 {
            assert!(Instant::now() < until, "{to}: no line is counted");
            thread::sleep(Duration::from_millis(20));
        }
        let stopped = server.stop();
        assert_eq!(last_run(stopped.data())["end"], "stopped", "{to}");
    }
}

#[test]
fn a_log_that_nobody_reads_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let server = redirected(&stalled(&pipe, 2)).env("HASHWARD_LOG_BYTES", 300).start();
    assert_eq!(server.http.plain("GET", "/healthz", None).0, 200);
    assert!(server.metric("hashward_log_lines_dropped") > 0.0);

    // It is read again: the log goes on, and says what is missing.
    let mut reader = BufReader::new(File::open(&pipe).unwrap());
    reader.read_exact(&mut [0; 16 * 4096]).unwrap();
    let (send, lines) = std::sync::mpsc::channel();
    thread::spawn(move || reader.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    let mut seen = Vec::new();
    while !seen.iter().any(|line: &String| line.contains("log lines were dropped")) {
        let line = lines.recv_timeout(Duration::from_secs(10));
        seen.push(line.unwrap_or_else(|_| panic!("no word about dropped lines: {seen:#?}")));
    }
    assert!(seen.iter().any(|line| line.contains("what may be used")), "{seen:#?}");
    server.stop();
    let rest: Vec<_> = std::iter::from_fn(|| lines.recv_timeout(Duration::from_secs(5)).ok()).collect();
    assert!(rest.last().is_some_and(|line| line.ends_with("stopped")), "the last lines: {rest:#?}");
}

#[test]
fn sigterm_ends_the_server_although_nobody_reads_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let server = redirected(&stalled(&folder.path().join("pipe"), 2)).start();
    let begun = Instant::now();
    let stopped = server.stop();
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(last_run(stopped.data())["end"], "stopped");
}

#[test]
fn a_second_sigterm_ends_the_server_although_nobody_reads_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let script = stalled(&folder.path().join("pipe"), 2);
    let mut server = long_answers(redirected(&script), "epoll");
    let _stuffed = stuffed(&server);
    server.signal(Signal::TERM);
    thread::sleep(Duration::from_millis(500));
    let begun = Instant::now();
    server.signal(Signal::TERM);
    let status = server.wait();
    assert_eq!(status.code(), Some(75), "{status}");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(last_run(server.data())["end"], "not_drained");
}

#[test]
fn a_ready_line_that_cannot_be_written_is_explained() {
    for to in ["/dev/full", ">(exec true)"] {
        // The reader of the pipe is gone long before the server is ready.
        let (status, words) = refusal(redirected(&format!("exec \"$@\" > {to}")));
        assert_eq!(status.code(), Some(2), "{to}: {words}");
        let words = words.lines().last().unwrap();
        assert!(words.contains("cannot write the ready line to stdout"), "{to}: {words}");
    }
}

#[test]
fn a_stdout_that_nobody_reads_keeps_nothing_from_serving() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let mut server = Command::new("bash")
        .args(["-c", &stalled(&pipe, 1), "bash"])
        .arg(program("hashward"))
        .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path().join("data"))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(server.stderr.take().unwrap()).lines().map_while(Result::ok);
    let waits = log.find(|line| line.contains("nobody reads stdout"));
    let served = waits.map(|_| {
        let mut line = String::new();
        let mut reader = BufReader::new(File::open(&pipe).unwrap());
        reader.read_exact(&mut [0; 16 * 4096]).unwrap();
        reader.read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        Http::new(ready["admin"].as_str().unwrap()).plain("GET", "/healthz", None).0
    });
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(served, Some(200));
}

#[test]
fn signals_that_ask_for_nothing_are_logged_and_end_nothing() {
    let mut server = Server::start();
    let ignored = [
        (Signal::USR1, "SIGUSR1"),
        (Signal::USR2, "SIGUSR2"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::VTALARM, "SIGVTALRM"),
        (Signal::PROF, "SIGPROF"),
        (Signal::IO, "SIGIO"),
        (Signal::POWER, "SIGPWR"),
        (Signal::STKFLT, "SIGSTKFLT"),
        (Signal::XFSZ, "SIGXFSZ"),
        (Signal::XCPU, "SIGXCPU"),
    ];
    let real_time = |server: &Server| {
        let kill = format!("kill -40 {}", server.pid());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    };
    for (signal, name) in
        ignored.map(|(signal, name)| (Some(signal), name)).into_iter().chain([(None, "real-time range")])
    {
        match signal {
            Some(signal) => server.signal(signal),
            None => real_time(&server),
        }
        let until = Instant::now() + Duration::from_secs(10);
        while !server.log().contains(name) {
            assert!(server.runs(), "{name} ends the server: {}", server.log());
            assert!(Instant::now() < until, "{name} is not logged: {}", server.log());
            thread::sleep(Duration::from_millis(10));
        }
    }
    server.stop();
}

#[test]
fn sigquit_drains() {
    let mut server = Server::start();
    server.signal(Signal::QUIT);
    let status = server.wait();
    assert!(status.success(), "{status}: {}", server.log());
    assert_eq!(last_run(server.data())["end"], "stopped");
}

/// `timeout` signals its child, and then the group that the child is in.
#[test]
fn two_sigterms_in_one_breath_are_one() {
    let mut server = long_answers(Setup::default(), "epoll");
    let _stuffed = stuffed(&server);
    for signal in [Signal::TERM, Signal::TERM, Signal::INT] {
        server.signal(signal);
        thread::sleep(Duration::from_millis(30));
    }
    let status = server.wait();
    assert!(status.success(), "{status}: {}", server.log());
}
