//! What is kept for how long, dismissed and reported: nothing goes before its time or while it is held; what goes is gone, wherever the program is
//! killed.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use reporter::cyber_tipline::Environment;
use serde_json::{Value, json};
use tests::{Http, Ncmec, Platform, Server, Setup};

use crate::access::{PASSWORD, bearing, create_admin, key};
use crate::filing;
use crate::items::{describe, png, post, rule, send, settled, sound};

/// So many days after the first start, with an admin.
fn start(data: &Path, days: u64, kill: Option<&str>) -> Server {
    start_with(Setup::default().flag("--fetch-allow", "127.0.0.1/32"), data, days, kill)
}

fn start_with(setup: Setup, data: &Path, days: u64, kill: Option<&str>) -> Server {
    let setup = setup.data(data).env("HASHWARD_RETENTION_MS", 200).env("HASHWARD_CLOCK_DAYS", days);
    let mut server = kill.into_iter().fold(setup, |setup, kill| setup.env("HASHWARD_KILL_AT", kill)).start();
    server.http = Http::logged_in(&server.admin, "root", PASSWORD);
    server
}

/// A data directory with an admin, a bank and a rule.
fn set_up(platform: &Platform, data: &Path) -> Server {
    assert!(create_admin(data, "root", PASSWORD).0);
    let server = start(data, 0, None);
    describe(&server);
    server.create_bank("KNOWN");
    assert_eq!(server.http.upload("/c/bank/KNOWN/content", "photo", &png(3)).0, 200);
    rule(&server, "csam", json!({ "banks": ["KNOWN"], "actions": [{ "enqueue_ncmec": {} }] }));
    platform.put("known", "image/png", &png(3));
    server
}

/// A user's job, decided without a report.
fn dismissed(server: &Server, platform: &Platform, user: &str) -> u64 {
    let url = platform.url("media/known");
    send(server, &[post(&format!("of-{user}"), user, json!({ "cover": url }))]);
    settled(server);
    let (status, job) = server.http.post("/api/v1/queues/ncmec/next", &json!({}));
    assert_eq!(status, 200, "{job}");
    let body = json!({ "decision": "ignore", "lease": job["lease"]["token"], "revision": job["revision"] });
    let (status, answer) = server.http.post(&format!("/api/v1/jobs/{}/decision", job["id"]), &body);
    assert_eq!(status, 200, "{answer}");
    job["id"].as_u64().unwrap()
}

fn blobs(data: &Path) -> usize {
    fs::read_dir(data.join("evidence")).unwrap().count()
}

/// How often an action on a job is on record.
fn recorded(server: &Server, job: u64, action: &str) -> usize {
    let (status, page) = server.http.get(&format!("/api/v1/audit?after=0&limit=1000&action={action}"));
    assert_eq!(status, 200, "{page}");
    let of_it = |entry: &&Value| entry["about"] == format!("job {job}");
    page["entries"].as_array().unwrap().iter().filter(of_it).count()
}

/// Waits until a job is gone, with all that was of it.
fn gone(server: &Server, job: u64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while server.http.get(&format!("/api/v1/jobs/{job}")).0 != 404 {
        assert!(Instant::now() < deadline, "{}", server.log());
        thread::sleep(Duration::from_millis(50));
    }
    let census = sound(server);
    assert_eq!((&census["jobs"], &census["media_kept"], &census["items"]), (&json!(0), &json!(0), &json!(0)));
    assert_eq!(blobs(server.data()), 0, "contents and keys are gone");
    for action in ["job.deletion_begun", "job.deleted"] {
        assert_eq!(recorded(server, job, action), 1, "{action}");
    }
    for hit in server.pages("/api/v1/hits") {
        assert_eq!((&hit["signal"], &hit["context"]["url"]), (&json!(""), &Value::Null), "{hit}");
    }
}

#[test]
fn a_dismissed_job_is_kept_for_its_time_and_longer_while_it_is_held() {
    let (platform, folder) = (Platform::start(), tempfile::tempdir().unwrap());
    let data = folder.path().join("data");
    let server = set_up(&platform, &data);
    let job = dismissed(&server, &platform, "u");
    let place = format!("/api/v1/jobs/{job}");
    assert_eq!(server.http.put("/api/v1/settings", &json!({ "retention_reported_days": 364 })).0, 400);
    let (status, hold) = server.http.put(&format!("{place}/hold"), &json!({ "reason": "a letter" }));
    assert_eq!((status, &hold["by"]), (200, &json!("person:root")), "{hold}");
    drop(server.stop());

    let server = start(&data, 31, None);
    thread::sleep(Duration::from_secs(1));
    let (status, refused) = server.http.delete(&place);
    let says = refused["message"].as_str().unwrap();
    assert!(status == 409 && says.contains("held by person:root: a letter"), "{refused}");
    drop(server.stop());

    let server = start(&data, 29, None);
    assert_eq!(server.http.delete(&format!("{place}/hold")).0, 204);
    assert_eq!(server.http.delete(&format!("{place}/hold")).0, 404);
    thread::sleep(Duration::from_secs(1));
    let (status, refused) = server.http.delete(&place);
    assert!(status == 409 && refused["message"].as_str().unwrap().contains("more days"), "{refused}");
    assert!(server.http.get(&place).1["kept_until_ms"].is_u64());
    assert_eq!(server.http.bytes(&format!("{place}/media/1/content"), &[]).0, 200);
    drop(server.stop());

    let server = start(&data, 31, None);
    gone(&server, job);
    assert_eq!(server.http.delete(&place).0, 404);
    // What comes after finds its way: the log of hits goes on where it was.
    let next = dismissed(&server, &platform, "u");
    assert!(next > job);
    sound(&server);
}

/// Starts a server that dies at a failpoint. It may die before it says that it is ready.
fn killed_at(setup: Setup, point: &str) {
    match setup.try_start() {
        Ok(mut server) => {
            server.wait();
            drop(server.kill());
        }
        Err(words) => assert!(words.contains(&format!("failpoint {point} hit")), "{words}"),
    }
}

#[test]
fn wherever_a_deletion_is_killed_it_is_ended_once() {
    let (platform, folder) = (Platform::start(), tempfile::tempdir().unwrap());
    let data = folder.path().join("data");
    let server = set_up(&platform, &data);
    drop(server.stop());
    let points = [
        "deletion-begun",
        "evidence-key-destroyed",
        "evidence-destroyed",
        "deletion-destroyed",
        "desk-after-commit",
        "deletion-done",
    ];
    for (round, point) in (0u64..).zip(points) {
        let server = start(&data, round * 40, None);
        let job = dismissed(&server, &platform, &format!("u{round}"));
        drop(server.stop());
        let setup = Setup::default()
            .data(&data)
            .env("HASHWARD_RETENTION_MS", 200)
            .env("HASHWARD_CLOCK_DAYS", round * 40 + 31)
            .env("HASHWARD_KILL_AT", point);
        killed_at(setup, point);
        let server = start(&data, round * 40 + 31, None);
        gone(&server, job);
        drop(server.stop());
    }
}

/// A data directory with the job of a report that is filed.
fn filed_report(ncmec: &Ncmec, platform: &Platform, data: &Path) -> u64 {
    assert!(create_admin(data, "root", PASSWORD).0);
    let mut server = start_with(filing::setup(ncmec).env("NCMEC_ENV", "production"), data, 0, None);
    filing::set_up(&server, platform, Environment::Production);
    server.http = bearing(&server, &key(&server.http, &["items", "review", "report", "admin"]).1);
    let job = filing::decide(&server, platform, "planted-user");
    filing::filed(&server, 1);
    assert_eq!(blobs(data), 2, "a medium, and its key");
    drop(server.stop());
    job
}

/// That nothing is left of a report but that it was filed.
fn proven(server: &Server, job: u64, report_id: i64) {
    gone(server, job);
    let place = format!("/api/v1/cybertips/{job}");
    for path in [place.clone(), format!("{place}/records")] {
        let (status, left) = server.http.get(&path);
        let report = &left["report"];
        assert_eq!((status, &report["report_id"]), (410, &json!(report_id)), "{left}");
        assert!(report["environment"] == "production" && report["filed_ms"].is_u64());
        assert!(!left.to_string().contains("planted-user"));
    }
    assert_eq!(server.http.get("/api/v1/cybertips").1["entries"], json!([]));
    assert_eq!(server.http.plain("GET", "/api/v1/cybertips/export", None).1, "");
    let (_, log) = server.http.get("/api/v1/audit?action=job.deleted");
    assert_eq!(log["entries"][0]["details"]["report_id"], report_id);
}

#[test]
fn what_was_reported_is_kept_for_a_year_and_longer_while_it_is_held() {
    let (ncmec, platform, folder) = (Ncmec::start(), Platform::start(), tempfile::tempdir().unwrap());
    let data = folder.path().join("data");
    let job = filed_report(&ncmec, &platform, &data);
    let report_id = ncmec.finished(Environment::Production)["planted-user"][0];
    let place = format!("/api/v1/jobs/{job}");

    let server = start(&data, 364, None);
    thread::sleep(Duration::from_secs(1));
    let (status, refused) = server.http.delete(&place);
    assert!(status == 409 && refused["message"].as_str().unwrap().contains("for 1 more days"), "{refused}");
    let (_, kept) = server.http.get(&format!("/api/v1/cybertips/{job}"));
    assert_eq!(kept["report_id"], report_id);
    assert_eq!(server.http.bytes(&format!("{place}/media/1/content"), &[]).0, 200);
    assert_eq!(server.http.put(&format!("{place}/hold"), &json!({ "reason": "a letter" })).0, 200);
    drop(server.stop());

    let server = start(&data, 366, None);
    thread::sleep(Duration::from_secs(1));
    let (status, refused) = server.http.delete(&place);
    assert!(status == 409 && refused["message"].as_str().unwrap().contains("held by"), "{refused}");
    assert_eq!(server.http.delete(&format!("{place}/hold")).0, 204);
    proven(&server, job, report_id);
}

#[test]
fn wherever_the_deletion_of_a_report_is_killed_it_is_ended_once() {
    let (platform, folder) = (Platform::start(), tempfile::tempdir().unwrap());
    let points = [
        "deletion-begun",
        "evidence-key-destroyed",
        "deletion-destroyed",
        "desk-after-commit",
        "deletion-done",
    ];
    for point in points {
        let ncmec = Ncmec::start();
        let data = folder.path().join(point);
        let job = filed_report(&ncmec, &platform, &data);
        let report_id = ncmec.finished(Environment::Production)["planted-user"][0];
        let setup = Setup::default()
            .data(&data)
            .env("HASHWARD_RETENTION_MS", 200)
            .env("HASHWARD_CLOCK_DAYS", 366)
            .env("HASHWARD_KILL_AT", point);
        killed_at(setup, point);
        proven(&start(&data, 366, None), job, report_id);
    }
}
