//! What is stored and does not read as it was written: matching goes on, what needs the damaged row is set aside, and
//! somebody hears of it.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use index::{Hash256, RequestId};
use ingest::wire::Query;
use rustix::process::Signal;
use serde_json::{Value, json};
use tests::{Server, Setup, Stopped, hex, program, refusal};

use crate::banks::random_hashes;

/// The table files of a keyspace in a database.
fn tables(data: &Path, database: &str, keyspace: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(data.join(database)).unwrap().map(|entry| entry.unwrap().path());
    // As RocksDB's table properties have it: `rocksdb.column.family.name`, its start left to the row before.
    let mark = format!("name{keyspace}");
    let holds = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap();
        path.extension().is_some_and(|ending| ending == "sst")
            && bytes.windows(mark.len()).any(|window| window == mark.as_bytes())
    };
    files.filter(holds).collect()
}

fn flip(path: &Path, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

/// Flips a bit in every block of a table, but not in what lies behind the blocks; twice undoes it.
fn flip_blocks(path: &Path) {
    let rows = fs::metadata(path).unwrap().len() / 2;
    (40..rows).step_by(500).for_each(|at| flip(path, at));
}

fn submit(server: &Server, hash: Hash256) {
    server.client().submit(RequestId::fresh(), Query::pdq(vec![hash]), vec![]).unwrap();
}

/// Waits until this holds.
fn until(server: &Server, what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: {}", server.log());
        thread::sleep(Duration::from_millis(50));
    }
}

fn census(server: &Server) -> Value {
    let (status, census) = server.http.get("/api/v1/census");
    assert_eq!(status, 200, "{census}");
    census
}

/// A stopped server with a bank, some routed hits, and everything in table files.
fn filled(hashes: &[Hash256]) -> Stopped {
    let server = Server::start();
    server.create_bank("B");
    for hash in hashes {
        server.add_pdq("B", hash);
    }
    hashes.iter().for_each(|hash| submit(&server, *hash));
    until(&server, "routed", || census(&server)["hits_in_jobs"] == hashes.len());
    let stopped = server.stop();
    drop(stopped.restart().stop()); // a start writes what is in the logs into tables
    stopped
}

fn check_rows(data: &Path) -> (Option<i32>, String) {
    let output =
        Command::new(program("hashward")).args(["check", "--rows", "--data-dir"]).arg(data).output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[test]
fn a_damaged_job_stops_neither_starts_nor_lookups_and_its_hits_are_routed_when_it_is_restored() {
    let hashes = random_hashes(71, 8);
    let stopped = filled(&hashes);
    assert_eq!(check_rows(stopped.data()).0, Some(0), "{}", check_rows(stopped.data()).1);
    let jobs = tables(stopped.data(), "case", "jobs");
    assert!(!jobs.is_empty());
    jobs.iter().for_each(|table| flip_blocks(table));

    // More than one start: what was set aside once does not stop the next.
    for round in 1..=2u64 {
        let server = stopped.restart();
        assert_eq!(
            server.client().lookup(Query::pdq(vec![hashes[0]])).unwrap().hits.len(),
            1,
            "lookups go on"
        );
        submit(&server, hashes[0]);
        let aside = || server.metric("hashward_hits_set_aside");
        until(&server, "set aside", || aside() as u64 == round);
        let ready = || server.http.get("/readyz").1;
        until(&server, "readyz says so", || ready()["damaged"]["keyspaces"] == json!(["jobs"]));
        until(&server, "the pass has read all", || server.metric("hashward_scrub_last_seconds") > 0.0);
        assert!(server.metric("hashward_damaged_parts") >= 1.0);
        let counted = census(&server);
        assert_eq!((&counted["hits_set_aside"], &counted["hits"]), (&json!(round), &json!(8 + round)));
        assert!(counted["unreadable"].as_u64().unwrap() >= 1, "{counted}");
        let (_, alarms) = server.http.get("/api/v1/alarms");
        let text = alarms.to_string();
        assert!(text.contains("routing.set_aside"), "{text}");
        until(&server, "alarm", || server.http.get("/api/v1/alarms").1.to_string().contains("store.damaged"));
        drop(server.stop());
    }
    let (code, words) = check_rows(stopped.data());
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("'jobs'") && words.contains("NOT sound"), "{words}");

    jobs.iter().filter(|table| table.exists()).for_each(|table| flip_blocks(table));
    let server = stopped.restart();
    until(&server, "routed after all", || census(&server)["hits_in_jobs"] == 10);
    let counted = census(&server);
    assert_eq!((&counted["hits_set_aside"], &counted["faults"]), (&json!(0), &json!(0)), "{counted}");
    until(&server, "whole again", || server.http.get("/readyz").1["damaged"].is_null());
}

#[test]
fn a_damaged_hit_is_set_aside_and_those_behind_it_are_routed() {
    let hashes = random_hashes(72, 4);
    let stopped = filled(&hashes);
    let log = tables(stopped.data(), "case", "hits");
    log.iter().for_each(|table| flip(table, 40));
    let server = stopped.restart();
    submit(&server, hashes[0]);
    until(&server, "routed", || census(&server)["hits_in_jobs"].as_u64() >= Some(1));
    let (_, hit) = server.http.get("/api/v1/hits/5");
    assert_eq!(hit["position"], 5, "the log goes on behind what does not read: {hit}");
}

#[test]
fn the_router_finds_its_place_again_where_the_row_does_not_read() {
    let hashes = random_hashes(75, 6);
    let stopped = filled(&hashes);
    let counters = tables(stopped.data(), "case", "case_meta");
    assert!(!counters.is_empty());
    counters.iter().for_each(|table| flip(table, 40));
    for round in 1..=2 {
        let server = stopped.restart();
        assert_eq!(server.client().lookup(Query::pdq(vec![hashes[0]])).unwrap().hits.len(), 1);
        submit(&server, hashes[round]);
        until(&server, "routed", || census(&server)["hits_in_jobs"] == 6 + round);
        let counted = census(&server);
        let counts = ["hits", "hits_set_aside", "faults"].map(|what| counted[what].as_u64().unwrap());
        assert_eq!(counts, [6 + round as u64, 0, 0], "{counted}");
        until(&server, "told", || {
            server.http.get("/api/v1/alarms").1.to_string().contains("routing.place_found")
        });
        drop(server.stop());
    }
}

#[test]
fn scrapes_meet_known_damage_at_a_bounded_rate() {
    let hashes = random_hashes(76, 6);
    let stopped = filled(&hashes);
    tables(stopped.data(), "case", "case_meta").iter().for_each(|table| flip(table, 40));
    let server = stopped.restart();
    until(&server, "the pass has read all", || server.metric("hashward_scrub_last_seconds") > 0.0);
    assert!(server.metric("hashward_damaged_parts") >= 1.0);
    let met = || server.metric("hashward_damage_met");
    let (begun, mut last, mut scrapes, mut grew) = (Instant::now(), met(), 0, 0);
    while begun.elapsed() < Duration::from_secs(4) {
        let now = met();
        grew += u32::from(now > last);
        last = now;
        scrapes += 1;
    }
    println!("{grew} of {scrapes} scrapes met damage, {last} reads in all");
    assert!(scrapes > 20 && grew <= 2, "{grew} of {scrapes} scrapes met damage");
}

#[test]
fn damage_in_recent_submissions_throws_them_away_and_keeps_new_ones() {
    let hashes = random_hashes(73, 3);
    let stopped = filled(&hashes);
    for table in tables(stopped.data(), "recent", "recent") {
        flip(&table, 40);
    }
    let server = stopped.restart();
    let look = || server.http.get(&format!("/api/v1/recent?signal_type=pdq&signal={}", hex(&hashes[0])));
    let (status, answer) = look();
    assert_eq!(status, 200, "{answer}");
    until(&server, "thrown away", || server.metric("hashward_recent_lost") >= 1.0);
    submit(&server, hashes[0]);
    until(&server, "kept again", || look().1.to_string().contains("received_ms"));
}

#[test]
fn the_first_block_of_a_stored_segment_is_damaged_and_the_tables_are_built_anew() {
    let server = Server::start();
    server.create_bank("B");
    let hashes = random_hashes(74, 40_000);
    let lines: String = hashes.iter().map(|hash| hex(hash) + "\n").collect();
    let path = "/api/v1/banks/B/import?signal_type=pdq";
    assert_eq!(server.http.stream(path, std::io::Cursor::new(lines)).0, 200);
    let tables = |data: &Path| {
        let files = fs::read_dir(data.join("segments")).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|end| end == "sst")).collect::<Vec<_>>()
    };
    until(&server, "stored", || !tables(server.data()).is_empty());
    let stopped = server.stop();
    tables(stopped.data()).iter().for_each(|table| flip(table, 20));
    let server = stopped.restart();
    assert_eq!(server.client().lookup(Query::pdq(vec![hashes[7]])).unwrap().hits.len(), 1);
    assert!(server.log().contains("built anew"), "{}", server.log());
}

#[test]
fn a_set_of_embeddings_whose_file_is_gone_is_missed() {
    let server = Server::start();
    let body = "{\"id\":\"a\",\"vector\":[1.0,0.0]}\n";
    assert_eq!(server.http.plain("PUT", "/api/v1/embeddings/FACES", Some(body)).0, 200);
    let stopped = server.stop();
    fs::remove_file(stopped.data().join("embeddings/FACES.set")).unwrap();
    let server = stopped.restart();
    let (_, list) = server.http.get("/api/v1/embeddings");
    assert_eq!((&list[0]["name"], &list[0]["state"]), (&json!("FACES"), &json!("missing")), "{list}");
    let (status, answer) =
        server.http.post("/api/v1/embeddings/FACES/nearest", &json!({ "vector": [1.0, 0.0] }));
    assert_eq!(status, 500, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("import it again"), "{answer}");
    assert_eq!(server.metric("hashward_embeddings_unusable"), 1.0);
    assert_eq!(server.http.get("/readyz").1["embeddings_unusable"], 1);
    until(&server, "told", || {
        let alarms = server.http.get("/api/v1/alarms").1.to_string();
        alarms.contains("embeddings.lost") && alarms.contains("import it again")
    });
    assert_eq!(server.http.plain("PUT", "/api/v1/embeddings/FACES", Some(body)).0, 200);
    assert_eq!(server.metric("hashward_embeddings_unusable"), 0.0);
    assert_eq!(server.http.delete("/api/v1/embeddings/FACES").0, 200);
    drop(server.stop());
    let server = stopped.restart();
    assert_eq!(server.http.get("/api/v1/embeddings").1, json!([]), "removed is not missed");
}

#[test]
fn a_public_half_that_a_power_cut_left_empty_is_made_again_from_the_key() {
    let stopped = Server::start().stop();
    let half = stopped.data().join("audit.pub");
    let whole = fs::read(&half).unwrap();
    for torn in [&b""[..], &whole[..20], &[0; 65]] {
        fs::write(&half, torn).unwrap();
        drop(stopped.restart());
        assert_eq!(fs::read(&half).unwrap(), whole);
    }
    // Another key's half is no torn one: the key was replaced.
    fs::write(&half, format!("{}\n", "ab".repeat(32))).unwrap();
    let (status, words) = refusal(Setup::default().data(stopped.data()));
    assert!(!status.success() && words.contains("another key's public half"), "{words}");
}

#[test]
fn a_kill_at_any_moment_of_the_first_start_leaves_nothing_that_the_next_one_refuses() {
    let folder = tempfile::tempdir().unwrap();
    for at in 0..12u64 {
        let data = folder.path().join(format!("data{at}"));
        let mut command = Command::new(program("hashward"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir"]).arg(&data);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut child = command.spawn().unwrap();
        thread::sleep(Duration::from_millis(15 * at));
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::KILL).unwrap();
        child.wait().unwrap();
        drop(Setup::default().data(&data).start());
    }
}
