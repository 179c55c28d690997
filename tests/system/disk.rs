//! A full disk is a state; a failing sync is a stop.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use index::RequestId;
use ingest::wire::{Client, ClientError, ClientOptions, ErrorCode, Query};
use serde_json::json;
use tests::{Setup, flipped, hex, skipped};

use crate::banks::random_hashes;

/// A small file system of our own; unmounted when dropped.
struct Small(tempfile::TempDir);

impl Small {
    fn mount(test: &str, megabytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={megabytes}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
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
