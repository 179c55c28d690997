//! The clock is set while the server runs: nothing is deleted, nothing refused, leases keep their length, and somebody is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use index::RequestId;
use ingest::wire::{Client, ClientError, ClientOptions, ErrorCode, Query};
use serde_json::{Value, json};
use tests::{Http, Platform, Server, Setup};

use crate::access::{PASSWORD, create_admin};
use crate::banks::random_hashes;
use crate::items::{describe, png, post, rule, send, settled};

const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// The clocks of a server: how far its wall clock and its boot clock are ahead of the machine's.
pub struct Clocks<'a> {
    folder: &'a Path,
    wall_ms: i64,
    boot_ms: i64,
}

impl<'a> Clocks<'a> {
    pub fn new(folder: &'a Path) -> Self {
        let new = Self { folder, wall_ms: 0, boot_ms: 0 };
        new.write();
        new
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.join("clocks")
    }

    fn write(&self) {
        let draft = self.folder.join("clocks.new");
        fs::write(&draft, format!("{} {}", self.wall_ms, self.boot_ms)).unwrap();
        fs::rename(draft, self.file()).unwrap();
        thread::sleep(Duration::from_millis(60)); // a server looks at it every 20 ms
    }

    /// Somebody sets the wall clock.
    fn set(&mut self, by: Duration, backward: bool) {
        let by_ms = by.as_millis() as i64;
        self.wall_ms += if backward { -by_ms } else { by_ms };
        self.write();
    }

    /// Time passes.
    pub fn pass(&mut self, time: Duration) {
        self.wall_ms += time.as_millis() as i64;
        self.boot_ms += time.as_millis() as i64;
        self.write();
    }

    pub fn setup(&self) -> Setup {
        Setup::default()
            .data(&self.folder.join("data"))
            .env("HASHWARD_CLOCK_FILE", self.file().display())
            .env("HASHWARD_CLOCK_MS", 50)
            .env("HASHWARD_RETENTION_MS", 100)
            .flag("--fetch-allow", "127.0.0.1/32")
    }
}

/// Waits until the server doubts its clock, or does not.
fn doubts(server: &Server, doubts: bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (status, ready) = server.http.get("/readyz");
        assert_eq!(status, 200, "{ready}");
        if ready["clock"]["in_doubt"] == doubts && ready["clock"]["deletion_paused"] == doubts {
            assert_eq!(server.metric("hashward_clock_in_doubt"), f64::from(u8::from(doubts)));
            return ready["clock"].clone();
        }
        assert!(Instant::now() < deadline, "{ready}\n{}", server.log());
        thread::sleep(Duration::from_millis(20));
    }
}

fn machine_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Waits for an alarm about the clock, and a record of it.
fn told(server: &Server) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (_, alarms) = server.http.get("/api/v1/alarms");
        let alarm = alarms["entries"].as_array().unwrap().iter().any(|alarm| alarm["kind"] == "clock.jumped");
        let (_, audit) = server.http.get("/api/v1/audit?after=0&limit=1000&action=clock.jumped");
        if alarm && !audit["entries"].as_array().unwrap().is_empty() {
            assert!(server.metric("hashward_clock_jumps") > 0.0 && server.log().contains("WARN"));
            return;
        }
        assert!(Instant::now() < deadline, "{alarms} {audit}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn submit(server: &Server, id: RequestId, hash: index::Hash256) -> Result<bool, ClientError> {
    let mut client = Client::new(server.listen, ClientOptions::default());
    let answer = client.submit(id, Query::pdq(vec![hash]), vec![])?;
    assert_eq!(answer.0.hits.len(), 1);
    Ok(answer.1.replayed)
}

#[test]
fn a_minute_three_days_ahead_refuses_no_submit_then_or_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut clocks = Clocks::new(folder.path());
    let server = clocks.setup().start();
    server.create_bank("B");
    let hash = random_hashes(5, 1)[0];
    server.add_pdq("B", &hash);
    let (first, now_ms) = (RequestId::fresh(), machine_ms());
    assert!(!submit(&server, first, hash).unwrap());

    clocks.set(3 * DAY, false);
    doubts(&server, true);
    told(&server);
    // A minute passes, so that the window is pruned: what was answered is, still.
    clocks.pass(Duration::from_secs(61));
    assert!(!submit(&server, RequestId::fresh(), hash).unwrap());
    assert!(submit(&server, first, hash).unwrap(), "it is answered as before");
    clocks.set(3 * DAY, true);
    clocks.pass(Duration::from_secs(61));
    assert!(!submit(&server, RequestId::fresh(), hash).unwrap());
    assert!(submit(&server, first, hash).unwrap());
    drop(server.stop());

    let server = clocks.setup().start();
    doubts(&server, true);
    assert!(!submit(&server, RequestId::fresh(), hash).unwrap());
    assert!(submit(&server, first, hash).unwrap());
    let hits = server.pages("/api/v1/hits");
    assert_eq!(hits.len(), 4);
    for hit in hits {
        let apart = hit["received_ms"].as_u64().unwrap().abs_diff(now_ms);
        assert!(apart < 600_000, "stamps do not jump: {hit}");
    }
    clocks.pass(HOUR);
    doubts(&server, false);
    // What is older than a day goes then, and nothing that is younger is refused for it.
    clocks.pass(DAY);
    assert!(!submit(&server, RequestId::fresh_at(machine_ms() + 25 * 3_600_000), hash).unwrap());
    let error = submit(&server, first, hash).unwrap_err().to_string();
    assert!(error.contains("older than the replay window"), "{error}");
    assert!(!submit(&server, RequestId::fresh_at(machine_ms() + 60_000), hash).unwrap(), "born after it");
}

#[test]
fn a_clock_that_is_set_back_a_day_refuses_nothing_and_deletes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut clocks = Clocks::new(folder.path());
    let server = clocks.setup().start();
    server.create_bank("B");
    let hash = random_hashes(6, 1)[0];
    server.add_pdq("B", &hash);
    let first = RequestId::fresh();
    assert!(!submit(&server, first, hash).unwrap());
    clocks.set(DAY, true);
    doubts(&server, true);
    assert!(!submit(&server, RequestId::fresh(), hash).unwrap());
    clocks.pass(HOUR);
    doubts(&server, false);
    // The time that is used is a day behind now, and clients whose clocks are right are not from the future.
    assert!(submit(&server, first, hash).unwrap());
    assert!(!submit(&server, RequestId::fresh(), hash).unwrap());
    drop(server.stop());
    let server = clocks.setup().start();
    assert!(submit(&server, first, hash).unwrap());
    assert!(!submit(&server, RequestId::fresh(), hash).unwrap());
    assert_eq!(server.pages("/api/v1/hits").len(), 4);
}

#[test]
fn a_lease_ends_in_its_time_though_the_clock_is_set_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut clocks = Clocks::new(folder.path());
    let server = clocks.setup().start();
    server.create_bank("B");
    let hash = random_hashes(9, 1)[0];
    server.add_pdq("B", &hash);
    let lease = json!({ "description": "d", "lease_seconds": 600 });
    assert_eq!(server.http.put("/api/v1/queues/default", &lease).0, 200);
    assert!(!submit(&server, RequestId::fresh(), hash).unwrap());
    server.routed();
    let next = |server: &Server, reviewer: &str| {
        let body = json!({ "reviewer": reviewer });
        server.http.post("/api/v1/queues/default/next", &body).1["id"].as_u64()
    };
    let job = next(&server, "anna");
    assert!(job.is_some() && next(&server, "ben").is_none());
    clocks.set(DAY, true);
    doubts(&server, true);
    clocks.pass(Duration::from_secs(500));
    assert_eq!(next(&server, "ben"), None, "it is anna's still");
    drop(server.stop());
    let server = clocks.setup().start();
    assert_eq!(next(&server, "ben"), None, "after a restart, too");
    clocks.pass(Duration::from_secs(101));
    assert_eq!(next(&server, "ben"), job);
}

#[test]
fn whatever_is_due_goes_in_one_sweep() {
    const ITEMS: usize = 3000;
    let folder = tempfile::tempdir().unwrap();
    let mut clocks = Clocks::new(folder.path());
    let server = clocks.setup().env("HASHWARD_RETENTION_MS", 2000).start();
    describe(&server);
    let items: Vec<Value> = (0..ITEMS).map(|at| post(&format!("{at}"), "u", json!({}))).collect();
    items.chunks(500).for_each(|some| send(&server, some));
    settled(&server);
    clocks.pass(31 * DAY);
    let deadline = Instant::now() + Duration::from_secs(30);
    while server.metric("hashward_items_deleted") < ITEMS as f64 {
        assert!(Instant::now() < deadline, "{}", server.log());
        thread::sleep(Duration::from_millis(50));
    }
    thread::sleep(Duration::from_millis(200));
    assert!(server.log().contains(&format!("items={ITEMS}")), "{}", server.log());
    let (_, audit) = server.http.get("/api/v1/audit?after=0&limit=1000&action=items.deleted");
    let told =
        audit["entries"].as_array().unwrap().iter().map(|entry| entry["details"]["items"].as_u64().unwrap());
    assert_eq!(told.sum::<u64>(), ITEMS as u64);
}

#[test]
fn an_id_from_the_future_is_refused_by_name_and_leaves_nothing_behind() {
    let server = Server::start();
    server.create_bank("B");
    let hash = random_hashes(7, 1)[0];
    server.add_pdq("B", &hash);
    let future = RequestId::fresh_at(machine_ms() + 3_600_000);
    for hash in [hash, random_hashes(8, 1)[0]] {
        let mut client = server.client();
        match client.submit(future, Query::pdq(vec![hash]), vec![]) {
            Err(ClientError::Refused(refused)) => {
                assert_eq!((refused.code, refused.field.as_str()), (ErrorCode::bad_request_id, "request"));
                assert!(refused.message.contains("in the future"), "{}", refused.message);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(server.pages("/api/v1/hits").is_empty());
    assert!(!submit(&server, RequestId::fresh(), hash).unwrap());
    let id = future.to_string();
    let body = json!({ "name": "LATER" });
    let (status, refused) = server.http.post_with("/api/v1/banks", &body, &[("Idempotency-Key", &id)]);
    let words = refused["message"].as_str().unwrap();
    assert!(
        status == 400 && words.contains("Idempotency-Key") && words.contains("in the future"),
        "{refused}"
    );
    server.create_bank("LATER");
}

#[test]
fn a_minute_400_days_ahead_deletes_no_job_until_somebody_says_that_it_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let (platform, mut clocks) = (Platform::start(), Clocks::new(folder.path()));
    let data = folder.path().join("data");
    assert!(create_admin(&data, "root", PASSWORD).0);
    let start = |clocks: &Clocks<'_>| {
        let mut server = clocks.setup().start();
        server.http = Http::logged_in(&server.admin, "root", PASSWORD);
        server
    };
    let server = start(&clocks);
    describe(&server);
    server.create_bank("KNOWN");
    assert_eq!(server.http.upload("/c/bank/KNOWN/content", "photo", &png(3)).0, 200);
    rule(&server, "csam", json!({ "banks": ["KNOWN"], "actions": [{ "enqueue_ncmec": {} }] }));
    platform.put("known", "image/png", &png(3));
    for user in ["u", "v"] {
        let medium = json!({ "cover": platform.url("media/known") });
        send(&server, &[post(&format!("of-{user}"), user, medium)]);
    }
    send(&server, &[post("harmless", "w", json!({}))]);
    settled(&server);
    let next = || server.http.post("/api/v1/queues/ncmec/next", &json!({})).1;
    let job = next();
    let place = format!("/api/v1/jobs/{}", job["id"]);
    let body = json!({ "decision": "ignore", "lease": job["lease"]["token"], "revision": job["revision"] });
    assert_eq!(server.http.post(&format!("{place}/decision"), &body).0, 200);
    let leased = next();
    let extend = |server: &Server| {
        let body = json!({ "lease": leased["lease"]["token"] });
        server.http.post(&format!("/api/v1/jobs/{}/extend", leased["id"]), &body)
    };

    clocks.set(400 * DAY, false);
    doubts(&server, true);
    told(&server);
    thread::sleep(Duration::from_millis(500));
    assert_eq!(server.http.get(&place).0, 200, "{}", server.log());
    let (status, answer) = extend(&server);
    assert_eq!(status, 200, "a lease does not end: {answer}");
    assert_eq!(server.http.get("/api/v1/items?typeId=post&id=harmless").0, 200);
    let (status, refused) = server.http.delete(&place);
    assert_eq!(status, 409, "{refused}");
    // A restart in that minute changes nothing.
    drop(server.stop());
    let server = start(&clocks);
    doubts(&server, true);
    let (status, answer) = extend(&server);
    assert_eq!(status, 200, "{answer}");
    thread::sleep(Duration::from_millis(500));
    assert_eq!(server.http.get(&place).0, 200, "{}", server.log());
    // Confirming takes somebody who knows what the time is.
    let confirm = |now_ms: u64| server.http.post("/api/v1/clock/confirm", &json!({ "now_ms": now_ms }));
    let (status, refused) = confirm(machine_ms());
    assert!(status == 409 && refused["message"].as_str().unwrap().contains("now_ms"), "{refused}");
    let (status, shown) = confirm(machine_ms() + 400 * 24 * 3_600_000);
    assert_eq!((status, &shown["in_doubt"]), (200, &json!(false)), "{shown}");
    // The session is 400 days old now.
    let mut server = server;
    server.http = Http::logged_in(&server.admin, "root", PASSWORD);
    let (status, answer) = extend(&server);
    assert_eq!(status, 200, "the lease moved with the time: {answer}");
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.http.get(&place).0 != 404 {
        assert!(Instant::now() < deadline, "{}", server.log());
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(confirm_conflict(&server), 409);
    let (_, audit) = server.http.get("/api/v1/audit?after=0&limit=1000&action=clock.confirm");
    assert_eq!(audit["entries"][0]["who"], "person:root", "{audit}");
    assert!(server.log().contains("deleted because they were kept for their time"), "{}", server.log());
    assert!(server.metric("hashward_jobs_deleted") >= 1.0);
}

fn confirm_conflict(server: &Server) -> u16 {
    server.http.post("/api/v1/clock/confirm", &json!({ "now_ms": machine_ms() })).0
}

/// Copies a folder with all that is in it; keys are for their owner alone, as no repository keeps it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (path, copied) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &copied);
            continue;
        }
        fs::copy(&path, &copied).unwrap();
        if path.extension().is_some_and(|ending| ending == "key") {
            fs::set_permissions(&copied, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}

#[test]
fn a_window_that_a_wrong_clock_closed_in_an_older_program_is_open_after_the_first_start() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    copy(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/clock-floor")), &data);
    let hash = index::Hash256([0xab; 32]);
    let old = RequestId::fresh_at(machine_ms() - 60_000);
    for round in 1..=2 {
        let server = Setup::default().data(&data).start();
        let first = RequestId::fresh();
        assert!(!submit(&server, first, hash).unwrap());
        assert!(submit(&server, first, hash).unwrap(), "it is answered as before");
        // Of what is older than the start nobody knows whether it was executed.
        let error = submit(&server, old, hash).unwrap_err().to_string();
        assert!(error.contains("older than the replay window"), "{error}");
        assert_eq!(server.pages("/api/v1/hits").len(), 2 + round, "two of them are the older program's");
        drop(server.stop());
    }
}
