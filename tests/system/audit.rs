//! The audit log from outside: what is changed is remembered, a stopped server's log is checked, and what was done to log,
//! heads or key is found.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Server, Setup, program};

const HEADS: &str = "audit-heads.ndjson";

fn signing_often() -> Setup {
    Setup::default().flag("--audit-head-seconds", 1)
}

/// Changes a setting so many times.
fn change(server: &Server, times: usize) {
    for time in 0..times {
        let body = json!({ "user_type": format!("user{time}") });
        let (status, answer) = server.http.put("/api/v1/settings", &body);
        assert_eq!(status, 200, "{answer}");
    }
}

/// Waits until a metric has come so far.
fn reaches(server: &Server, metric: &str, value: u32) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.metric(metric) < f64::from(value) {
        assert!(Instant::now() < deadline, "{}", server.log());
        thread::sleep(Duration::from_millis(50));
    }
}

fn check(data: &Path, more: &[(&str, &Path)]) -> Output {
    let mut command = Command::new(program("hashward"));
    command.args(["check", "--audit", "--data-dir"]).arg(data);
    for (flag, value) in more {
        command.arg(flag).arg(value);
    }
    command.env_remove("HASHWARD_AUDIT_HEADS").output().unwrap()
}

/// Exit status and what it printed.
fn verdict(output: Output) -> (i32, String) {
    let words = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), words)
}

fn sound(data: &Path) -> String {
    let (code, words) = verdict(check(data, &[]));
    assert_eq!(code, 0, "{words}");
    assert!(words.contains(": sound"), "{words}");
    words
}

fn bad(data: &Path, more: &[(&str, &Path)], says: &str) {
    let (code, words) = verdict(check(data, more));
    assert_eq!(code, 1, "{words}");
    assert!(words.contains(says) && words.contains("NOT sound"), "{words}");
}

/// A copy of a data directory beside it.
fn copy(data: &Path, name: &str) -> PathBuf {
    fn walk(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
            let target = to.join(entry.file_name().unwrap());
            if entry.is_dir() {
                walk(&entry, &target);
            } else {
                fs::copy(&entry, &target).unwrap();
            }
        }
    }
    let to = data.with_file_name(name);
    walk(data, &to);
    to
}

#[test]
fn what_is_changed_is_remembered_and_checked() {
    let server = signing_often().start();
    change(&server, 20);
    let refused = server.http.put("/api/v1/settings", &json!({ "user_type": 5 }));
    assert_eq!(refused.0, 400, "and not remembered");
    let (status, page) = server.http.get("/api/v1/audit?limit=5&action=settings");
    assert_eq!(status, 200, "{page}");
    let numbers: Vec<&Value> =
        page["entries"].as_array().unwrap().iter().map(|entry| &entry["number"]).collect();
    assert_eq!((json!(numbers), &page["next"]), (json!([20, 19, 18, 17, 16]), &json!(16)));
    let newest = &page["entries"][0];
    assert_eq!(
        (&newest["action"], &newest["who"], &newest["details"], &newest["previous"]),
        (
            &json!("settings.change"),
            &json!("setup"),
            &json!({ "user_type": "user19" }),
            &page["entries"][1]["hash"]
        )
    );
    let pages = server.pages("/api/v1/audit");
    assert_eq!(pages.len(), 20, "oldest first, from the first");
    assert_eq!(server.http.get("/api/v1/audit?who=ada").1, json!({ "entries": [] }));
    assert_eq!(server.http.get("/api/v1/audit?after=1&before=2").0, 400);

    reaches(&server, "hashward_audit_signed", 20);
    let (status, head) = server.http.get("/api/v1/audit/head");
    assert_eq!((status, &head["number"], &head["hash"]), (200, &json!(20), &newest["hash"]));
    let lines = fs::read_to_string(server.data().join(HEADS)).unwrap();
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(last, head);
    assert_eq!(server.metric("hashward_audit_failures"), 0.0);

    let (code, words) = verdict(check(server.data(), &[]));
    assert!(code == 2 && words.contains("is locked by another process"), "{words}");
    change(&server, 1);
    let stopped = server.stop();
    let before = fs::read_dir(stopped.data().join("case")).unwrap().count();
    let words = sound(stopped.data());
    assert!(
        words.contains("21 records, last signed head 21"),
        "the end is signed when the server stops: {words}"
    );
    assert_eq!(fs::read_dir(stopped.data().join("case")).unwrap().count(), before, "nothing is written");
}

#[test]
fn who_has_copied_heads_away_is_shown_what_the_log_holds_and_that_it_only_grew() {
    let server = signing_often().start();
    let (data, mine) = (server.data().to_path_buf(), tempfile::tempdir().unwrap());
    assert_eq!(server.http.get("/api/v1/audit/proof?record=1").0, 404, "nothing is signed yet");
    let signed = |number: u32| {
        reaches(&server, "hashward_audit_signed", number);
        server.http.plain("GET", "/api/v1/audit/head", None).1
    };
    change(&server, 11);
    let first = signed(11);
    change(&server, 26);
    let last = signed(37);
    let (heads, key) = (mine.path().join("heads"), mine.path().join("pub"));
    fs::write(&heads, format!("{first}\n{last}\n")).unwrap();
    fs::copy(data.join("audit.pub"), &key).unwrap();
    let given = |name: &str, proof: &Value| {
        let file = mine.path().join(name);
        fs::write(&file, proof.to_string()).unwrap();
        let mut command = Command::new(program("hashward"));
        command.args(["check", "--audit-proof"]).arg(file).arg("--heads").arg(&heads);
        verdict(command.arg("--public-key").arg(&key).current_dir(mine.path()).output().unwrap())
    };
    let fetched = |asks: &str| server.http.get(&format!("/api/v1/audit/proof?{asks}"));

    let (status, within) = fetched("record=5");
    assert_eq!((status, &within["size"]), (200, &json!(37)), "{within}");
    let (code, words) = given("within", &within);
    let record = server.http.get("/api/v1/audit?after=4&limit=1").1["entries"][0].clone();
    assert_eq!(record["hash"], within["hash"]);
    assert!(
        code == 0 && words.contains("record 5 is in the log of 37") && words.contains("user4"),
        "{words}"
    );
    let (code, words) = given("grown", &fetched("earlier=11").1);
    assert!(code == 0 && words.contains("of 37 records") && words.contains("that of 11 records"), "{words}");
    assert_eq!(given("then", &fetched("record=5&size=11").1).0, 0);

    let mut other = within.clone();
    other["body"] = json!(within["body"].as_str().unwrap().replace("user4", "user5"));
    let (code, words) = given("other", &other);
    assert!(code == 1 && words.contains("NOT proven"), "{words}");
    let (code, words) = given("unheard", &fetched("record=5&size=20").1);
    assert!(code == 2 && words.contains("size=<its number>"), "no head that I have has 20: {words}");
    assert_eq!(given("nothing", &json!({ "proves": "all" })).0, 2);
    for (asks, status) in [
        ("record=38", 404),
        ("record=0", 404),
        ("record=1&size=38", 404),
        ("earlier=37", 404),
        ("earlier=0", 404),
        ("record=1&earlier=2", 400),
        ("size=3", 400),
        ("record=x", 400),
        ("", 400),
    ] {
        let (found, words) = fetched(asks);
        assert_eq!(found, status, "{asks}: {words}");
    }
    let lost = sound(server.stop().data());
    assert!(lost.contains("37 records, last signed head 37"), "the tree is checked with the log: {lost}");
}

#[test]
fn a_data_directory_that_was_set_back_is_found_by_its_heads() {
    let server = signing_often().start();
    change(&server, 7);
    let stopped = server.stop();
    let old = copy(stopped.data(), "old");
    let server = stopped.restart_with(signing_often());
    change(&server, 5);
    let stopped = server.stop();
    assert!(sound(stopped.data()).contains("12 records"));
    assert!(sound(&old).contains("7 records"), "by its own heads it is as it was");
    let heads = stopped.data().join(HEADS);
    bad(&old, &[("--heads", &heads)], "record 8 is missing");

    // A server on it goes on, but does not sign over what is gone.
    let server = signing_often().data(&old).flag("--audit-heads", heads.display()).start();
    change(&server, 9);
    reaches(&server, "hashward_audit_failures", 1);
    assert!(server.log().contains("does not hold record 12 as it was signed"), "{}", server.log());
    let stopped = server.stop();
    bad(stopped.data(), &[("--heads", &heads)], "record 8 or one of those up to record 12 was rewritten");
}

#[test]
fn changed_heads_and_another_key_are_found() {
    let server = signing_often().start();
    change(&server, 3);
    let stopped = server.stop();
    let (data, heads) = (stopped.data(), stopped.data().join(HEADS));
    let own_copy = data.with_file_name("copied.pub");
    fs::copy(data.join("audit.pub"), &own_copy).unwrap();
    let (code, words) = verdict(check(data, &[("--public-key", &own_copy)]));
    assert!(code == 0 && words.contains(": sound"), "{words}");

    let genuine = fs::read_to_string(&heads).unwrap();
    let digit = genuine.rfind('"').unwrap() - 1;
    let mut flipped = genuine.clone().into_bytes();
    flipped[digit] = if flipped[digit] == b'0' { b'1' } else { b'0' };
    fs::write(&heads, &flipped).unwrap();
    bad(data, &[], "is not signed with this key");
    fs::write(&heads, &genuine[..genuine.len() - 9]).unwrap();
    let (code, words) = verdict(check(data, &[]));
    assert!(code == 0 && words.contains("was cut while it was written"), "{words}");
    fs::write(&heads, &genuine).unwrap();

    // Whoever has the data directory signs a log of his own with a key of his own.
    for name in ["audit.key", "audit.pub", HEADS] {
        fs::remove_file(data.join(name)).unwrap();
    }
    let server = stopped.restart_with(signing_often());
    change(&server, 1);
    let stopped = server.stop();
    sound(stopped.data());
    bad(
        stopped.data(),
        &[("--public-key", &own_copy)],
        "line 1 of the heads file is not signed with this key",
    );

    let nowhere = data.with_file_name("nowhere");
    assert!(verdict(check(&nowhere, &[])).1.contains("not a hashward data directory") && !nowhere.exists());
}

#[test]
fn a_log_is_sound_whenever_its_server_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let acknowledged = AtomicU64::new(0);
    for round in 0..6 {
        let server = signing_often().data(&data).start();
        let (http, over) = (server.http.clone(), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        let answer = http.try_put("/api/v1/settings", &json!({ "user_type": "user" }));
                        acknowledged.fetch_add(u64::from(matches!(answer, Ok((200, _)))), Ordering::Relaxed);
                    }
                });
            }
            thread::sleep(Duration::from_millis(700 + 230 * round));
            drop(server.kill());
            over.store(true, Ordering::Relaxed);
        });
        let (words, acknowledged) = (sound(&data), acknowledged.load(Ordering::Relaxed));
        let records = words.split("audit: ").last().unwrap().split(' ').next().unwrap();
        assert!(
            acknowledged > 0 && records.parse::<u64>().unwrap() >= acknowledged,
            "{acknowledged}: {words}"
        );
    }
    drop(signing_often().data(&data).start().stop());
    assert!(sound(&data).contains(", 0 after it"));
}

/// `hashward check` with these flags.
fn check_with(data: &Path, flags: &[&str]) -> (i32, String) {
    let mut command = Command::new(program("hashward"));
    command.arg("check").args(flags).arg("--data-dir").arg(data);
    verdict(command.env_remove("HASHWARD_AUDIT_HEADS").output().unwrap())
}

#[test]
fn a_check_finds_what_the_next_start_refuses_or_warns_of() {
    let server = signing_often().start();
    server.create_bank("B");
    change(&server, 3);
    let stopped = server.stop();
    let data = stopped.data();
    for flags in [&[][..], &["--rows", "--audit"]] {
        let (code, words) = check_with(data, flags);
        assert_eq!(code, 0, "{words}");
        assert!(words.contains("rows: ") && words.contains("audit: "), "both are checked: {words}");
    }

    for name in ["bank.high-water", "case.high-water"] {
        for (way, spoil) in [("deleted", None), ("blank", Some([0; 8192]))] {
            let copied = copy(data, &format!("{name}-{way}"));
            match spoil {
                None => fs::remove_file(copied.join(name)).unwrap(),
                Some(bytes) => fs::write(copied.join(name), bytes).unwrap(),
            }
            let (code, words) = check_with(&copied, &[]);
            assert!(code == 2 && words.contains("is missing or blank"), "{way} {name}: {words}");
            let (status, refused) = tests::refusal(Setup::default().data(&copied));
            assert!(status.code() == Some(2) && refused.contains("is missing or blank"), "{refused}");
        }
    }

    for (way, spoil) in [("gone", true), ("empty", false)] {
        let copied = copy(data, way);
        match spoil {
            true => fs::remove_file(copied.join(HEADS)).unwrap(),
            false => fs::write(copied.join(HEADS), "").unwrap(),
        }
        bad(&copied, &[], "but there is no signed head");
        let code = check_with(&copied, &[]).0;
        assert_eq!(code, 1, "one part that is not sound is enough");
        let server = signing_often().data(&copied).start();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !server.log().contains("heads file is missing or empty") {
            assert!(Instant::now() < deadline, "{}", server.log());
            thread::sleep(Duration::from_millis(20));
        }
        change(&server, 1);
        sound(server.stop().data());
    }

    let copied = copy(data, "keyless");
    fs::remove_file(copied.join("audit.key")).unwrap();
    for _ in 0..2 {
        let (_, words) = tests::refusal(Setup::default().data(&copied));
        assert!(words.contains("audit.key is missing"), "it was not replaced, nor is it now: {words}");
    }
}
