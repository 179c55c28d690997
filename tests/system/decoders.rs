//! Decoders in a cage: what crashes, hangs or takes over a decoder costs the file its answer, and nothing else.

use std::fs;
use std::io::Cursor;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use image::ImageFormat;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tests::{Clips, Platform, Server, Setup, program, skipped};

use crate::hma::shared;
use crate::items::{describe, png, post, send, settled, with};
use crate::media::picture;

/// Pictures of 2 to 4 kB that make a decoder panic.
fn panics(test: &str) -> Option<Vec<Vec<u8>>> {
    let Some(shared) = shared() else {
        skipped(test, "no HASHWARD_SHARED");
        return None;
    };
    let file = |number| fs::read(shared.join(format!("data/cases/webp-panic-{number}.webp"))).unwrap();
    Some((1..=3).map(file).collect())
}

/// The helper processes of a server.
fn helpers(server: &Server) -> Vec<Pid> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(number) = process.file_name().to_string_lossy().parse::<i32>() else { continue };
        let Ok(status) = fs::read_to_string(process.path().join("status")) else { continue };
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok());
        let is_helper = fs::read(process.path().join("cmdline"))
            .is_ok_and(|command| String::from_utf8_lossy(&command).contains("decode-helper"));
        if parent == Some(server.pid()) && is_helper {
            found.push(Pid::from_raw(number).unwrap());
        }
    }
    found
}

fn signal_all(pids: &[Pid], signal: Signal) {
    for pid in pids {
        let _ = kill_process(*pid, signal); // it may have been replaced
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn hash(server: &Server, file: &[u8]) -> (u16, Value) {
    server.http.stream("/api/v1/hash", Cursor::new(file.to_vec()))
}

#[test]
fn a_picture_that_crashes_a_decoder_is_answered_and_ends_nothing() {
    let test = "a_picture_that_crashes_a_decoder_is_answered_and_ends_nothing";
    let Some(files) = panics(test) else { return };
    let (platform, mut server) = (Platform::start(), with(Setup::default()));
    let good = hash(&server, &png(3)).1["signals"]["pdq"].clone();
    for (count, file) in (1..).zip(&files) {
        let (status, answer) = hash(&server, file);
        assert_eq!(status, 200, "{answer}");
        let why = answer["not_hashed"]["pdq"].as_str().unwrap();
        assert!(why.contains("cannot be decoded: the decoder crashed"), "{why}");
        assert!(answer["signals"]["md5"].is_string(), "the rest is there: {answer}");
        let (status, answer) = server.http.upload("/h/hash", "photo", file);
        assert_eq!(status, 400, "{answer}");
        let url = platform.put("panic.webp", "image/webp", file);
        let items = json!({ "items": [{ "url": url }] });
        let answer = server.http.post("/api/v1/match", &items).1;
        assert_eq!(answer["incomplete"], 1, "unknown is not clean: {answer}");
        let (status, _) = server.http.get(&format!("/h/hash?url={url}"));
        assert_eq!(status, 400);
        assert_eq!(server.metric("hashward_decoder_crashes"), f64::from(4 * count));
        assert_eq!(hash(&server, &png(3)).1["signals"]["pdq"], good);
    }
    assert!(server.runs());
    assert_eq!(
        server.metric("hashward_decode_helpers_lost"),
        24.0,
        "each was tried again with a fresh helper"
    );
    let alarms = || server.http.get("/api/v1/alarms").1;
    until("an alarm", || alarms().to_string().contains("decoders.lost"));
    until("all are replaced", || server.http.get("/readyz").1["decoders"]["idle"].as_u64() > Some(0));
}

#[test]
fn an_item_whose_picture_crashes_a_decoder_waits_and_a_restart_gets_ready() {
    let test = "an_item_whose_picture_crashes_a_decoder_waits_and_a_restart_gets_ready";
    let Some(files) = panics(test) else { return };
    let (platform, mut server) = (Platform::start(), with(Setup::default()));
    let items: Vec<Value> = (1..)
        .zip(&files)
        .map(|(number, file)| {
            let url = platform.put(&format!("{number}.webp"), "image/webp", file);
            post(&format!("bad-{number}"), "u", json!({ "cover": { "url": url } }))
        })
        .collect();
    send(&server, &items);
    let troubles = |server: &Server| {
        let waiting = server.http.get("/api/v1/intake?limit=10").1;
        let of = |entry: &Value| entry["trouble"].as_str().unwrap_or_default().to_string();
        waiting["entries"].as_array().unwrap().iter().map(of).collect::<Vec<String>>()
    };
    let all_wait = |server: &Server| {
        let troubles = troubles(server);
        troubles.len() == 3 && troubles.iter().all(|why| why.contains("the decoder crashed"))
    };
    until("all three wait, and say why", || all_wait(&server));
    assert!(server.runs());
    let folder = server.kill();
    let mut server = folder.restart_with(Setup::default().flag("--fetch-allow", "127.0.0.1/32"));
    until("they wait still", || all_wait(&server));
    // What comes behind them is not held up.
    send(
        &server,
        &[post("good", "u", json!({ "cover": { "url": platform.put("good", "image/png", &png(5)) } }))],
    );
    until("the good one is settled", || {
        server.http.get("/api/v1/intake?limit=10").1["entries"].as_array().unwrap().len() == 3
    });
    assert!(server.runs());
}

#[test]
fn a_helper_that_is_killed_in_mid_work_is_replaced_and_its_file_tried_again() {
    let server = Server::start();
    let good = hash(&server, &png(3)).1["signals"]["pdq"].clone();
    let stopped = helpers(&server);
    assert!(!stopped.is_empty());
    signal_all(&stopped, Signal::STOP);
    thread::scope(|scope| {
        let asked = scope.spawn(|| hash(&server, &png(3)));
        until("the file is with a helper", || server.metric("hashward_decoder_files") >= 2.0);
        signal_all(&stopped, Signal::KILL);
        let (status, answer) = asked.join().unwrap();
        assert_eq!((status, &answer["signals"]["pdq"]), (200, &good), "{answer}");
    });
    assert!(server.metric("hashward_decode_helpers_lost") >= 1.0);
    assert_eq!(server.metric("hashward_decoder_crashes"), 0.0, "the file is not at fault");
    until("others wait", || !helpers(&server).is_empty());
}

#[test]
fn a_helper_that_hangs_is_killed_at_its_limit_and_replaced() {
    let server = Setup::default().flag("--hash-seconds", 1).start();
    let stopped = helpers(&server);
    signal_all(&stopped, Signal::STOP);
    let started = Instant::now();
    let (status, answer) = hash(&server, &png(3));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(status, 200, "{answer}");
    let why = answer["not_hashed"]["pdq"].as_str().unwrap();
    assert!(why.contains("the decoder did not end within 1 s and was stopped"), "{why}");
    assert_eq!(server.metric("hashward_decoder_overruns"), 1.0);
    until("one of them is gone", || {
        helpers(&server).iter().filter(|pid| stopped.contains(pid)).count() < stopped.len()
    });
    // Those that nobody has noticed yet cost a file each; then all is well.
    until("all are replaced", || hash(&server, &png(3)).1["signals"]["pdq"].is_string());
}

#[test]
fn helpers_end_with_their_server() {
    let server = Server::start();
    let helpers = helpers(&server);
    assert!(!helpers.is_empty());
    server.kill();
    let runs = |pid: &Pid| Path::new(&format!("/proc/{}/exe", pid.as_raw_nonzero())).exists();
    until("all helpers are gone", || !helpers.iter().any(runs));
}

#[test]
fn a_helper_can_neither_open_files_nor_sockets_nor_start_anything() {
    let output = Command::new(program("hashward")).args(["decode-helper", "--check"]).output().unwrap();
    let words = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{words} {}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<Value> = words.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let tried: Vec<&Value> = lines.iter().filter(|line| line["tried"].is_string()).collect();
    assert!(tried.len() >= 12, "{words}");
    assert!(tried.iter().all(|line| line["refused"].is_string()), "{words}");
}

#[test]
fn a_helper_has_no_environment_few_files_and_limits() {
    let server =
        Setup::default().env("HASHWARD_TOKEN", "a secret that is at least 32 characters").try_start();
    let Ok(server) = server else { panic!("{}", server.err().unwrap()) };
    for pid in helpers(&server) {
        let of = |name: &str| PathBuf::from(format!("/proc/{}/{name}", pid.as_raw_nonzero()));
        let environment = fs::read(of("environ")).unwrap();
        assert!(environment.is_empty(), "{}", String::from_utf8_lossy(&environment));
        let status = fs::read_to_string(of("status")).unwrap();
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_string();
        assert_eq!((field("Seccomp:").as_str(), field("NoNewPrivs:").as_str()), ("2", "1"));
        let limits = fs::read_to_string(of("limits")).unwrap();
        let hard = |name: &str| {
            let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().to_string()
        };
        assert_eq!(hard("Max open files"), "3");
        assert_eq!((hard("Max core file size"), hard("Max file size")), ("0".to_string(), "0".to_string()));
        assert_eq!(hard("Max address space"), (4u64 << 30).to_string());
        assert!(hard("Max cpu time").parse::<u64>().unwrap() <= 4200);
    }
}

/// Runs a shell script in ffmpeg's place.
fn caged(script: &str) -> (bool, String) {
    let output = Command::new(program("hashward"))
        .args(["decode-helper", "--cpu-seconds", "5", "--", "/bin/bash", "-c", script])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let words =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), words)
}

#[test]
fn a_program_that_reads_films_has_no_network_writes_nothing_and_starts_nothing() {
    if !Path::new("/bin/bash").exists() {
        return skipped("a_program_that_reads_films", "no bash");
    }
    let (success, words) = caged("echo it runs");
    assert!(success && words.contains("it runs"), "{words}");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("written").display().to_string();
    for script in [
        format!("exec 3<>/dev/tcp/127.0.0.1/{port}"),
        format!("echo x > {file}"),
        "/bin/true & wait $!".to_string(),
        "kill -0 $PPID".to_string(),
    ] {
        let (success, words) = caged(&script);
        assert!(!success, "{script}: {words}");
    }
    assert!(!Path::new(&file).exists());
}

#[test]
fn films_are_hashed_in_the_cage() {
    let Some(clips) = Clips::new("films_are_hashed_in_the_cage") else { return };
    let server = Setup::default().flag("--hma-signal-types", "pdq,vpdq").start();
    for (name, source) in [("a.mp4", "testsrc2"), ("b.webm", "mandelbrot"), ("c.avi", "testsrc2")] {
        let film = clips.source(name, source, 3);
        let (status, answer) = server.http.upload("/h/hash?types=vpdq", "video", &film);
        assert_eq!(status, 200, "{name}: {answer}");
    }
}

#[test]
fn every_format_gives_the_same_hash_in_the_cage_as_outside() {
    let server = Server::start();
    for format in [
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::WebP,
        ImageFormat::Gif,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
    ] {
        let mut file = Cursor::new(Vec::new());
        picture(7).write_to(&mut file, format).unwrap();
        let file = file.into_inner();
        let outside = ingest::media::hash_picture(&file, &ingest::media::Limits::default()).unwrap();
        let inside = server.http.stream("/api/v1/hash?types=pdq&dihedral=true", Cursor::new(file)).1;
        let expected = index::Signal::Pdq(outside.hash).to_string();
        assert_eq!(inside["signals"]["pdq"], json!(expected), "{format:?}: {inside}");
        assert_eq!(inside["quality"], json!(outside.quality));
        assert_eq!(inside["dihedral"]["original"], json!(expected));
        assert_eq!(inside["dihedral"].as_object().unwrap().len(), 8);
    }
}

#[test]
fn where_system_calls_cannot_be_filtered_a_start_is_refused_unless_it_is_told_otherwise() {
    let started = |setup: Setup| without_seccomp(move || setup.try_start());
    let words = started(Setup::default()).err().unwrap();
    assert!(words.contains("seccomp") && words.contains("--cage partial"), "{words}");
    let server = started(Setup::default().flag("--cage", "partial")).unwrap();
    let missing = server.http.get("/readyz").1["decoders"]["missing"].clone();
    assert!(missing.to_string().contains("seccomp"), "{missing}");
    assert!(hash(&server, &png(3)).1["signals"]["pdq"].is_string());
}

/// Runs on a thread that may not filter system calls, nor may what it starts.
fn without_seccomp<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    use seccompiler::{SeccompAction, SeccompFilter, SeccompRule, TargetArch};
    let run = move || {
        let rules = [(317, Vec::<SeccompRule>::new())].into_iter().collect(); // seccomp(2)
        let architecture = TargetArch::try_from(std::env::consts::ARCH).unwrap();
        let refused = SeccompAction::Errno(rustix::io::Errno::PERM.raw_os_error() as u32);
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, architecture).unwrap();
        let program: seccompiler::BpfProgram = filter.try_into().unwrap();
        seccompiler::apply_filter(&program).unwrap();
        work()
    };
    thread::spawn(run).join().unwrap()
}

/// Starts a server that is killed when it has begun so many arrivals, and waits for that.
fn killed_at_arrival(data: &Path, count: u32) {
    let setup = Setup::default().data(data).flag("--fetch-allow", "127.0.0.1/32");
    let kill = format!("intake-begun:{count}");
    if let Ok(mut server) = setup.env("HASHWARD_KILL_AT", kill).try_start() {
        until("it is killed", || !server.runs());
    }
}

#[test]
fn an_arrival_that_killed_the_server_twice_waits_for_a_person_and_others_go_on() {
    let (platform, folder) = (Platform::start(), tempfile::tempdir().unwrap());
    let data = folder.path().join("data");
    let setup = || Setup::default().data(&data).flag("--fetch-allow", "127.0.0.1/32");
    let cover = |seed: u32| {
        let url = platform.put(&seed.to_string(), "image/png", &png(seed));
        post(&format!("item-{seed}"), "u", json!({ "cover": { "url": url } }))
    };
    let server = setup().env("HASHWARD_KILL_AT", "intake-begun:2").try_start().unwrap();
    describe(&server);
    let mut server = server;
    // Both are in hand when the server dies.
    send(&server, &[cover(1), cover(2)]);
    until("it is killed", || !server.runs());
    drop(server);
    // Each is tried alone: the first is settled, the second kills the server again.
    killed_at_arrival(&data, 2);
    let server = setup().start();
    let waiting = || server.http.get("/api/v1/intake?limit=10").1["entries"].as_array().unwrap().clone();
    until("one waits, and says why", || {
        let waiting = waiting();
        let why = waiting.first().map(|entry| entry["trouble"].to_string()).unwrap_or_default();
        waiting.len() == 1 && why.contains("the server died 2 times while it worked on this")
    });
    let number = waiting()[0]["number"].clone();
    let deadly = |server: &Server| {
        let alarms = server.http.get("/api/v1/alarms").1;
        alarms["entries"].as_array().unwrap().iter().find(|alarm| alarm["kind"] == "work.deadly").cloned()
    };
    until("an alarm", || deadly(&server).is_some());
    assert_eq!(deadly(&server).unwrap()["about"], format!("arrival {number}"));
    send(&server, &[cover(3)]);
    until("what comes after is settled", || waiting().len() == 1);
    // It waits on over an orderly restart, until somebody has looked.
    server.stop();
    let server = setup().start();
    let waiting = || server.http.get("/api/v1/intake?limit=10").1["entries"].as_array().unwrap().clone();
    assert_eq!(waiting().len(), 1);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(waiting().len(), 1);
    let path = format!("/api/v1/alarms/{}/acknowledge", deadly(&server).unwrap()["number"]);
    assert_eq!(server.http.post(&path, &json!({})).0, 200);
    until("it is tried once more and settled", || waiting().is_empty());
}

#[test]
fn an_orderly_end_makes_nothing_suspect() {
    let (platform, folder) = (Platform::start(), tempfile::tempdir().unwrap());
    let data = folder.path().join("data");
    let setup = || Setup::default().data(&data).flag("--fetch-allow", "127.0.0.1/32");
    let server = setup().start();
    describe(&server);
    let url = platform.put_film("slow", "video/mp4", 1 << 20);
    platform.stall("slow", 1000);
    send(&server, &[post("slow", "u", json!({ "takes": { "first": { "url": url } } }))]);
    platform.wait("/media/slow", 1);
    server.stop();
    let server = setup().start();
    assert!(!server.log().contains("the program died while it worked on these"), "{}", server.log());
    platform.wait("/media/slow", 2);
}

#[test]
fn an_exchange_whose_fetch_killed_the_server_twice_is_switched_off() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let setup = || Setup::default().data(&data).flag("--dev", true);
    let mut server = setup().start();
    assert_eq!(server.http.post("/dev/setup_sample_example", &json!({})).0, 302);
    let enabled =
        |server: &Server, name: &str| server.http.get(&format!("/c/exchange/{name}")).1["enabled"].clone();
    let names = server.http.get("/c/exchanges").1;
    let name = names[0].as_str().unwrap().to_string();
    for _ in 0..2 {
        server.stop();
        server = setup().env("HASHWARD_KILL_AT", "exchange-begun").start();
        assert_eq!(enabled(&server, &name), true, "it is tried once more");
        let _ = server.http.try_post("/dev/run_fetch", &json!({}));
        until("it is killed", || !server.runs());
        drop(server);
        server = setup().start();
    }
    let fetch = |server: &Server| assert_eq!(server.http.post("/dev/run_fetch", &json!({})).0, 302);
    fetch(&server);
    assert_eq!(enabled(&server, &name), false);
    assert!(
        server.log().contains("the server died 2 times while it fetched this exchange"),
        "{}",
        server.log()
    );
    let path = format!("/c/exchange/{name}");
    assert_eq!(server.http.put(&path, &json!({ "enabled": true })).0, 200);
    fetch(&server);
    assert_eq!(enabled(&server, &name), true, "a person had it tried again, and nothing happened");
}

#[test]
fn items_with_good_pictures_are_screened_as_before() {
    let (platform, server) =
        (Platform::start(), Setup::default().flag("--fetch-allow", "127.0.0.1/32").start());
    describe(&server);
    server.create_bank("KNOWN");
    assert_eq!(server.http.upload("/c/bank/KNOWN/content", "photo", &png(3)).0, 200);
    let items: Vec<Value> = (0..20)
        .map(|number| {
            let url = platform.put(&format!("{number}"), "image/png", &png(number));
            post(&number.to_string(), "u", json!({ "cover": { "url": url } }))
        })
        .collect();
    send(&server, &items);
    settled(&server);
    assert_eq!(server.jobs("default").len(), 1);
}
