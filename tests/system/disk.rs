//! A full disk is a state; a failing sync is a stop.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use index::RequestId;
use ingest::wire::{Client, ClientError, ClientOptions, ErrorCode, Query};
use serde_json::json;
use tests::{Platform, Setup, flipped, hex, refusal, skipped};

use crate::banks::random_hashes;
use crate::clock::{Clocks, DAY};
use crate::items::{describe, png, post, rule, send, settled, sound};

/// A small file system of our own; unmounted when dropped.
struct Small(tempfile::TempDir);

impl Small {
    fn mount(test: &str, megabytes: u32) -> Option<Self> {
        Self::mount_with(test, &format!("size={megabytes}m"))
    }

    fn mount_with(test: &str, size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(folder.path()).output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self(folder));
        }
        skipped(test, "a tmpfs cannot be mounted here (needs root)");
        None
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status(); // the folder stays if it fails
    }
}

fn fill(path: &Path) {
    let mut size = 1 << 20;
    let mut bytes = Vec::new();
    // Until not even a page fits.
    while size >= 4096 {
        let old = bytes.len();
        bytes.resize(old + size, 7u8);
        if fs::write(path, &bytes).is_err() {
            bytes.truncate(old);
            size /= 2;
        }
    }
    let _ = fs::write(path, &bytes); // as much as there is room for
}

#[test]
fn a_full_disk_refuses_writes_answers_lookups_and_recovers_by_itself() {
    let test = "a_full_disk_refuses_writes_answers_lookups_and_recovers_by_itself";
    for reserve in ["0", "4194304"] {
        let Some(small) = Small::mount(test, 96) else { return };
        let data = small.0.path().join("data");
        // With a reserve the product stops first; without one RocksDB itself meets ENOSPC.
        let server = Setup::default().data(&data).flag("--disk-reserve-bytes", reserve).start();
        server.create_bank("B");
        let hashes = random_hashes(41, 40);
        let banked = server.add_pdq("B", &hashes[0]);
        let options = ClientOptions { patience: Duration::from_millis(400), ..ClientOptions::default() };
        let mut client = Client::new(server.listen, options);
        let mut acknowledged = Vec::new();
        let submit = |client: &mut Client, at: usize| {
            let request = RequestId::fresh();
            let query = Query::pdq(vec![flipped(&hashes[0], at % 32, 1); 32]);
            (request, client.submit(request, query, vec![]))
        };
        let (request, outcome) = submit(&mut client, 0);
        outcome.unwrap();
        acknowledged.push(request);

        let ballast = small.0.path().join("ballast");
        fill(&ballast);
        let until = Instant::now() + Duration::from_secs(60);
        let (refused_request, error) = loop {
            let (request, outcome) = submit(&mut client, acknowledged.len());
            match outcome {
                Ok(_) => acknowledged.push(request),
                Err(error) => break (request, error),
            }
            assert!(Instant::now() < until, "the disk is never full");
        };
        match &error {
            ClientError::Unknown { last, .. } => {
                assert!(last.contains("full") && last.contains("free space"), "{last}")
            }
            ClientError::Refused(refusal) => assert_eq!(refusal.code, ErrorCode::disk_full),
        }
        let body = json!({ "signals": { "pdq": hex(&hashes[1]) } });
        let (status, answer) = server.http.post("/api/v1/banks/B/contents", &body);
        if reserve != "0" {
            assert_eq!(status, 507, "{answer}");
            assert!(answer["message"].as_str().unwrap().contains("free space"), "{answer}");
        }
        let found = client.lookup(Query::pdq(vec![hashes[0]])).unwrap();
        assert_eq!(found.hits[0].matches[0].content.0, banked, "lookups go on");

        fs::remove_file(&ballast).unwrap();
        let freed = Instant::now();
        let mut patient = server.client();
        patient.submit(refused_request, Query::pdq(vec![hashes[0]; 32]), vec![]).unwrap();
        acknowledged.push(refused_request);
        println!(
            "reserve {reserve}: {} acknowledged, writing again after {:?}",
            acknowledged.len(),
            freed.elapsed()
        );
        drop(server.kill());

        let server = Setup::default().data(&data).flag("--disk-reserve-bytes", reserve).start();
        let hits = server.pages("/api/v1/hits");
        for request in &acknowledged {
            let logged = hits.iter().filter(|hit| hit["request"] == json!(request.to_string())).count();
            assert_eq!(logged, 32, "of 32 hits of {request}");
        }
        assert_eq!(hits.len(), 32 * acknowledged.len(), "nothing else came back from a failed write");
        let positions: Vec<u64> = hits.iter().map(|hit| hit["position"].as_u64().unwrap()).collect();
        assert!(positions.iter().copied().eq(1..=hits.len() as u64), "the log has no hole");
        let routed: usize = server.routed().iter().map(|(_, entries)| entries.len()).sum();
        assert_eq!(routed, hits.len());
    }
}

fn free_bytes(folder: &Path) -> u64 {
    let stat = rustix::fs::statvfs(folder).unwrap();
    stat.f_bavail * stat.f_frsize
}

/// Takes bytes until only so many are free.
fn fill_up_to(path: &Path, free: u64) {
    let left = || free_bytes(path.parent().unwrap());
    let bytes = vec![7u8; usize::try_from(left().saturating_sub(free)).unwrap()];
    fs::write(path, &bytes).unwrap();
    assert!(left() <= free);
}

#[test]
fn on_a_full_disk_removals_are_made_and_nothing_else() {
    let test = "on_a_full_disk_removals_are_made_and_nothing_else";
    let Some(small) = Small::mount(test, 160) else { return };
    let data = small.0.path().join("data");
    let reserve: u64 = 64 << 20;
    let server = Setup::default().data(&data).flag("--disk-reserve-bytes", reserve).start();
    ["B", "C"].iter().for_each(|name| server.create_bank(name));
    let hashes = random_hashes(43, 4);
    let banked = server.add_pdq("B", &hashes[0]);
    server.add_pdq("C", &hashes[1]);
    let ballast = small.0.path().join("ballast");
    fill_up_to(&ballast, reserve / 2);
    let body = json!({ "signals": { "pdq": hex(&hashes[2]) } });
    assert_eq!(server.http.post("/api/v1/banks/B/contents", &body).0, 507);
    let (status, answer) = server.http.delete(&format!("/api/v1/banks/B/contents/{banked}"));
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = server.http.delete("/api/v1/banks/C");
    assert_eq!(status, 200, "{answer}");
    assert!(server.client().lookup(Query::pdq(vec![hashes[0], hashes[1]])).unwrap().hits.is_empty());
    assert_eq!(server.http.get("/readyz").1["disk_full"], true, "a removal does not make it roomy");
    assert_eq!(server.http.post("/api/v1/banks/B/contents", &body).0, 507);
    fs::remove_file(&ballast).unwrap();
    server.add_pdq("B", &hashes[2]);
    assert_eq!(server.http.get("/readyz").1["disk_full"], false);
}

#[test]
fn on_a_full_disk_retention_goes_on_and_its_space_comes_back() {
    const JOBS: usize = 3;
    const MEDIUM: usize = 12 << 20;
    let test = "on_a_full_disk_retention_goes_on_and_its_space_comes_back";
    let Some(small) = Small::mount(test, 224) else { return };
    let (platform, mut clocks) = (Platform::start(), Clocks::new(small.0.path()));
    let reserve: u64 = 64 << 20;
    let server = clocks.setup().flag("--disk-reserve-bytes", reserve).start();
    describe(&server);
    server.create_bank("KNOWN");
    assert_eq!(server.http.upload("/c/bank/KNOWN/content", "photo", &png(3)).0, 200);
    rule(&server, "csam", json!({ "banks": ["KNOWN"], "actions": [{ "enqueue_ncmec": {} }] }));
    for at in 0..JOBS {
        // What lies behind a picture's end is of its file, and kept.
        let mut medium = png(3);
        medium.resize(MEDIUM + at, at as u8);
        platform.put(&format!("of-{at}"), "image/png", &medium);
        let cover = json!({ "cover": platform.url(&format!("media/of-{at}")) });
        send(&server, &[post(&format!("p{at}"), &format!("u{at}"), cover)]);
        settled(&server);
        let (status, job) = server.http.post("/api/v1/queues/ncmec/next", &json!({ "reviewer": "anna" }));
        assert_eq!(status, 200, "{job}");
        let body =
            json!({ "decision": "ignore", "lease": job["lease"]["token"], "revision": job["revision"] });
        assert_eq!(server.http.post(&format!("/api/v1/jobs/{}/decision", job["id"]), &body).0, 200);
    }
    send(&server, &[post("harmless", "w", json!({}))]);
    assert_eq!(sound(&server)["media_kept"], JOBS);

    fill_up_to(&small.0.path().join("ballast"), reserve - (8 << 20));
    let write = || server.http.put("/api/v1/queues/later", &json!({ "description": "d" })).0;
    assert_eq!(write(), 507);
    clocks.pass(31 * DAY);
    let deadline = Instant::now() + Duration::from_secs(30);
    let gone = || {
        server.metric("hashward_jobs_deleted") as usize == JOBS
            && server.metric("hashward_items_deleted") >= 1.0
    };
    while !gone() {
        assert!(Instant::now() < deadline, "{}", server.log());
        thread::sleep(Duration::from_millis(50));
    }
    let free = free_bytes(small.0.path());
    assert!(free > reserve + (JOBS * MEDIUM / 2) as u64, "the media's space is free: {free}");
    assert_eq!(write(), 200, "writing resumes by itself, beside the ballast");
    let census = sound(&server);
    let left = ["jobs", "media_kept", "items"].map(|what| census[what].as_u64().unwrap());
    assert_eq!(left, [0; 3], "{census}");
}

#[test]
fn a_file_system_without_free_inodes_is_a_full_disk_that_ends_by_itself() {
    let test = "a_file_system_without_free_inodes_is_a_full_disk_that_ends_by_itself";
    let Some(small) = Small::mount_with(test, "size=128m,nr_inodes=2000") else { return };
    let data = small.0.path().join("data");
    let server = Setup::default().data(&data).flag("--disk-reserve-bytes", 0).start();
    server.create_bank("B");
    let hashes = random_hashes(44, 2);
    server.add_pdq("B", &hashes[0]);
    let ballast = small.0.path().join("ballast");
    fs::create_dir(&ballast).unwrap();
    let taken = (0..2000).take_while(|at| fs::write(ballast.join(at.to_string()), "").is_ok()).count();
    assert!(taken > 100, "{taken}");
    let body = json!({ "signals": { "pdq": hex(&hashes[1]) } });
    for _ in 0..20 {
        let (status, answer) = server.http.post("/api/v1/banks/B/contents", &body);
        assert_eq!(status, 507, "{answer}");
        assert!(answer["message"].as_str().unwrap().contains("no room for more files"), "{answer}");
    }
    assert_eq!(server.client().lookup(Query::pdq(vec![hashes[0]])).unwrap().hits.len(), 1, "lookups go on");
    fs::remove_dir_all(&ballast).unwrap();
    server.add_pdq("B", &hashes[1]);
    let request = RequestId::fresh();
    server.client().submit(request, Query::pdq(vec![hashes[1]]), vec![]).unwrap();
}

#[test]
fn a_start_without_a_free_byte_says_what_to_do() {
    let test = "a_start_without_a_free_byte_says_what_to_do";
    let Some(small) = Small::mount(test, 64) else { return };
    let data = small.0.path().join("data");
    let server = Setup::default().data(&data).flag("--disk-reserve-bytes", 0).start();
    server.create_bank("B");
    drop(server.stop());
    let ballast = small.0.path().join("ballast");
    fill(&ballast);
    let (status, words) = refusal(Setup::default().data(&data));
    assert!(!status.success());
    assert!(words.contains("free 64 MiB there, then start"), "{words}");
    assert!(!words.contains("by itself") && !words.contains("panicked"), "{words}");
    fs::remove_file(&ballast).unwrap();
    let server = Setup::default().data(&data).start();
    server.add_pdq("B", &random_hashes(45, 1)[0]);
}

/// A C shim that makes the n-th fdatasync or fsync after a signal file appears fail with EIO.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int armed(void) { const char *file = getenv("FAIL_SYNC_WHEN"); return file && access(file, F_OK) == 0; }
int fdatasync(int fd) {
  static int (*real)(int);
  if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
  if (armed()) { errno = EIO; return -1; }
  return real(fd);
}
int fsync(int fd) {
  static int (*real)(int);
  if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
  if (armed()) { errno = EIO; return -1; }
  return real(fd);
}
"#;

#[test]
fn a_failing_sync_stops_the_server_before_anything_false_is_said() {
    let test = "a_failing_sync_stops_the_server_before_anything_false_is_said";
    let folder = tempfile::tempdir().unwrap();
    let (source, shim, trigger) =
        (folder.path().join("s.c"), folder.path().join("s.so"), folder.path().join("now"));
    fs::write(&source, SHIM).unwrap();
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&shim).arg(&source).arg("-ldl").status();
    if !built.is_ok_and(|status| status.success()) {
        return skipped(test, "no C compiler");
    }
    let data = folder.path().join("data");
    let mut server = Setup::default()
        .data(&data)
        .env("LD_PRELOAD", shim.display())
        .env("FAIL_SYNC_WHEN", trigger.display())
        .start();
    server.create_bank("B");
    let hash = random_hashes(42, 1)[0];
    server.add_pdq("B", &hash);
    let options = ClientOptions { patience: Duration::from_millis(500), ..ClientOptions::default() };
    let mut client = Client::new(server.listen, options);
    let kept = RequestId::fresh();
    client.submit(kept, Query::pdq(vec![hash]), vec![]).unwrap();
    fs::write(&trigger, "").unwrap();
    let lost = RequestId::fresh();
    let outcome = client.submit(lost, Query::pdq(vec![hash]), vec![]);
    assert!(outcome.is_err(), "acknowledged although the sync failed");
    assert_eq!(server.wait().code(), Some(74), "{}", server.log());
    assert!(
        server.log().contains("check the disk") && !server.log().contains("panicked"),
        "{}",
        server.log()
    );

    fs::remove_file(&trigger).unwrap();
    let server = Setup::default().data(&data).start();
    let (_, receipt) = server.client().submit(lost, Query::pdq(vec![hash]), vec![]).unwrap();
    let hits = server.pages("/api/v1/hits");
    assert_eq!(hits.len(), 2, "the first, and the unknown one once: {receipt:?}");
}

#[test]
fn nothing_is_acknowledged_into_a_directory_that_was_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let (data, away) = (folder.path().join("data"), folder.path().join("away"));
    let mut server = Setup::default().data(&data).start();
    server.create_bank("B");
    let hash = random_hashes(43, 1)[0];
    server.add_pdq("B", &hash);
    fs::rename(&data, &away).unwrap(); // as good as deleted for whoever starts the server again
    let options = ClientOptions { patience: Duration::from_millis(500), ..ClientOptions::default() };
    let outcome =
        Client::new(server.listen, options).submit(RequestId::fresh(), Query::pdq(vec![hash]), vec![]);
    assert!(outcome.is_err(), "acknowledged into a directory that is not there");
    assert_eq!(server.wait().code(), Some(74), "{}", server.log());
    assert!(server.log().contains("deleted or moved"), "{}", server.log());
    fs::rename(&away, &data).unwrap();
    let server = Setup::default().data(&data).start();
    assert_eq!(server.client().lookup(Query::pdq(vec![hash])).unwrap().hits.len(), 1);
}
