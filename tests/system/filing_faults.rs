//! What goes wrong at NCMEC while a report is filed: it is tried again where it may be, a person is asked where it may
//! not, and what nobody's report is at fault for costs none.

use std::thread;
use std::time::{Duration, Instant};

use reporter::cyber_tipline::Environment;
use serde_json::{Value, json};
use tests::ncmec::{Endpoint, Fault};
use tests::{Ncmec, Platform, Server};

use crate::filing::{TEST, decide, decide_with, filed, set_up, setup};

/// A server with an organisation, and its parties.
fn start() -> (Ncmec, Platform, Server) {
    let (ncmec, platform) = (Ncmec::start(), Platform::start());
    // A day is four seconds: pauses, and how often the schema is compared.
    let server = setup(&ncmec).env("HASHWARD_NCMEC_CALL_MS", 1500).env("HASHWARD_TIP_FASTER", 20_000).start();
    set_up(&server, &platform, TEST);
    (ncmec, platform, server)
}

/// A filing as it is now.
pub fn tip(server: &Server, job: u64) -> Value {
    let (status, tip) = server.http.get(&format!("/api/v1/cybertips/{job}"));
    assert!([200, 404].contains(&status), "{status} {tip}");
    tip
}

/// Waits until a filing is as it must be.
pub fn wait(server: &Server, job: u64, fits: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found = tip(server, job);
        if fits(&found) {
            return found;
        }
        assert!(Instant::now() < deadline, "{found}\n{}", server.log());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until a filing is held, for this cause.
pub fn held(server: &Server, job: u64, cause: &str) -> Value {
    let tip = wait(server, job, |tip| !tip["held"].is_null());
    assert_eq!(tip["held"]["cause"], cause, "{tip}");
    tip
}

/// Says what is to become of a filing.
pub fn say(server: &Server, job: u64, word: Value) -> (u16, Value) {
    server.http.post(&format!("/api/v1/cybertips/{job}"), &word)
}

/// Open alarms of a kind.
pub fn alarms(server: &Server, kind: &str) -> Vec<Value> {
    let (status, list) = server.http.get("/api/v1/alarms");
    assert_eq!(status, 200, "{list}");
    list["entries"].as_array().unwrap().iter().filter(|alarm| alarm["kind"] == kind).cloned().collect()
}

#[test]
fn check_13_16_60_every_fault_at_every_endpoint_ends_in_one_report() {
    let (ncmec, platform, server) = start();
    let endpoints = [Endpoint::Submit, Endpoint::Upload, Endpoint::FileInfo, Endpoint::Finish];
    let mut count = 0;
    for fault in Fault::all() {
        for endpoint in endpoints {
            ncmec.fail(endpoint, fault, 1);
        }
        count += 1;
        let user = format!("u{count}");
        let job = decide(&server, &platform, &user);
        let tip = wait(&server, job, |tip| tip["stage"] == "filed" || !tip["held"].is_null());
        assert_eq!(tip["stage"], "filed", "{fault:?}: {tip}");
        assert_eq!(ncmec.finished(TEST)[&user].len(), 1, "{fault:?}");
        ncmec.heal();
    }
    filed(&server, count);
}

#[test]
fn check_03_09_a_lost_submit_leaves_an_orphan_that_is_never_finished_and_listed() {
    let (ncmec, platform, server) = start();
    ncmec.fail(Endpoint::Submit, Fault::Lost, 1);
    ncmec.fail(Endpoint::Upload, Fault::Lost, 1);
    let job = decide(&server, &platform, "u1");
    let tip = wait(&server, job, |tip| tip["stage"] == "filed");
    let former = tip["former"].as_array().unwrap();
    assert_eq!((former.len(), &former[0]["report_id"]), (1, &Value::Null), "its number is not known");
    let reports = ncmec.reports(TEST);
    assert_eq!(reports.len(), 2);
    assert_eq!(ncmec.finished(TEST)["u1"], [tip["filed"]["report_id"].as_i64().unwrap()]);
    // The upload whose answer was lost lies in the report: NCMEC lists it, and so do we.
    assert_eq!(tip["filed"]["verified"], true);
    assert_eq!(tip["filed"]["unknown"].as_array().map(Vec::len), Some(1), "{tip}");
    assert!(tip["filed"]["missing"].is_null());
}

#[test]
fn check_08_14_a_refusal_is_held_at_once_and_mended_by_a_person() {
    let (ncmec, platform, server) = start();
    for (number, code) in [4000, 4100, 4110, 4200].into_iter().enumerate() {
        ncmec.fail(Endpoint::Submit, Fault::Code(code), 1);
        let calls = ncmec.calls_of(Endpoint::Submit).len();
        let job = decide(&server, &platform, &format!("u{code}"));
        let tip = held(&server, job, "rejected");
        assert!(tip["held"]["words"].as_str().unwrap().contains(&code.to_string()), "{tip}");
        thread::sleep(Duration::from_millis(300));
        assert_eq!(ncmec.calls_of(Endpoint::Submit).len(), calls + 1, "no further call by itself");
        assert_eq!(alarms(&server, "tip.held").len(), number + 1);
        let (status, answer) = say(&server, job, json!({ "action": "retry" }));
        assert_eq!(status, 200, "{answer}");
        wait(&server, job, |tip| tip["stage"] == "filed");
    }
    // The same of a finish: refused, it is not in doubt.
    ncmec.fail(Endpoint::Finish, Fault::Code(4100), 1);
    let job = decide(&server, &platform, "last");
    held(&server, job, "rejected");
    assert_eq!(say(&server, job, json!({ "action": "retry" })).0, 200);
    wait(&server, job, |tip| tip["stage"] == "filed");
    assert_eq!(ncmec.finished(TEST)["last"].len(), 1);
}

#[test]
fn check_15_who_is_not_known_waits_with_an_alarm_and_goes_on_when_known() {
    let (_ncmec, platform, server) = start();
    let body = json!({ "username": "somebody", "password": "else", "environment": "test" });
    assert!(server.http.put("/api/v1/organisations/default/credentials", &body).0 < 300);
    let job = decide(&server, &platform, "u1");
    let deadline = Instant::now() + Duration::from_secs(60);
    while alarms(&server, "ncmec.credentials").is_empty() {
        assert!(Instant::now() < deadline, "an alarm within a minute");
        thread::sleep(Duration::from_millis(20));
    }
    let waiting = tip(&server, job);
    assert_eq!((&waiting["spent"], &waiting["held"]), (&json!(0), &Value::Null), "{waiting}");
    let user = Ncmec::user(TEST);
    let body = json!({ "username": user.name, "password": user.password, "environment": "test" });
    assert!(server.http.put("/api/v1/organisations/default/credentials", &body).0 < 300);
    let tip = wait(&server, job, |tip| tip["stage"] == "filed");
    assert_eq!(tip["spent"], 0);
}

#[test]
fn check_10_a_report_that_ncmec_forgot_is_opened_again_unless_it_may_be_finished() {
    let (ncmec, platform, server) = start();
    // Forgotten before it was to be finished.
    ncmec.fail_always(Endpoint::Upload, Fault::Reset);
    let job = decide(&server, &platform, "u1");
    let first = wait(&server, job, |tip| tip["open"]["report_id"].is_i64());
    ncmec.advance(Duration::from_secs(26 * 3600));
    ncmec.heal();
    let tip = wait(&server, job, |tip| tip["stage"] == "filed" || !tip["held"].is_null());
    assert_eq!(tip["stage"], "filed", "{tip}");
    assert_eq!(tip["former"][0]["report_id"], first["open"]["report_id"], "{tip}");
    // Forgotten after a finish without an answer.
    ncmec.fail_always(Endpoint::Finish, Fault::Reset);
    let job = decide(&server, &platform, "u2");
    let before = ncmec.calls_of(Endpoint::Submit).len();
    wait(&server, job, |tip| tip["finishes"].as_u64() > Some(0));
    ncmec.advance(Duration::from_secs(26 * 3600));
    ncmec.heal();
    let tip = held(&server, job, "finish_unknown");
    let submits = ncmec.calls_of(Endpoint::Submit).len();
    assert!(submits <= before + 1, "never opened again by itself");
    assert_eq!(say(&server, job, json!({ "action": "retry" })).0, 409, "it could be filed twice");
    let other = json!({ "action": "confirm_filed", "report_id": 1 });
    assert_eq!(say(&server, job, other).0, 409, "never opened under that number");
    assert_eq!(alarms(&server, "tip.held").len(), 1);
    assert_eq!(say(&server, job, json!({ "action": "open_new" })).0, 200);
    let done = wait(&server, job, |tip| tip["stage"] == "filed");
    assert_eq!(done["former"][0]["report_id"], tip["open"]["report_id"]);
    assert_eq!(ncmec.finished(TEST)["u2"].len(), 1);
}

#[test]
fn check_42_a_file_that_arrived_otherwise_is_uploaded_again() {
    let (ncmec, platform, server) = start();
    ncmec.fail(Endpoint::Upload, Fault::WrongMd5, 1);
    let job = decide(&server, &platform, "u1");
    wait(&server, job, |tip| tip["stage"] == "filed");
    assert_eq!(ncmec.calls_of(Endpoint::Upload).len(), 2);
}

#[test]
fn check_18_a_storm_of_429_is_met_by_one_report_at_a_time() {
    let (ncmec, platform, server) = start();
    ncmec.fail(Endpoint::Submit, Fault::TooMany(1), 3);
    let jobs: Vec<u64> = (0..8).map(|user| decide(&server, &platform, &format!("u{user}"))).collect();
    filed(&server, jobs.len() as u64);
    assert_eq!(ncmec.at_once(&Ncmec::user(TEST).name), 1, "one in flight for the organisation");
    assert_eq!(ncmec.finished(TEST).len(), 8);
    for job in jobs {
        assert_eq!(tip(&server, job)["spent"], 0, "a host that wants peace costs nothing");
    }
}

#[test]
fn check_44_a_medium_whose_url_died_is_sent_from_what_was_preserved() {
    let (ncmec, platform, server) = start();
    ncmec.fail_always(Endpoint::Submit, Fault::Status(503));
    let job = decide(&server, &platform, "u1");
    let deadline = Instant::now() + Duration::from_secs(30);
    while server.http.get("/api/v1/census").1["media_kept"] != json!(1) {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(20));
    }
    platform.lose_all();
    ncmec.heal();
    wait(&server, job, |tip| tip["stage"] == "filed");
    let report = ncmec.report(TEST, ncmec.finished(TEST)["u1"][0]).unwrap();
    assert_eq!(report.files.len(), 1);
    assert!(ncmec.finished(Environment::Production).is_empty());
}

/// A file of 200 MB (with `FULL=1` one of 5 GB) on its way through fetching, the vault and the upload.
#[test]
fn check_43_a_huge_file_is_filed_in_little_memory() {
    let (ncmec, platform, server) = start();
    let full = std::env::var("FULL").is_ok_and(|full| full == "1");
    let bytes: u64 = if full { 5 << 30 } else { 200 << 20 };
    let url = platform.put_film("film", "video/mp4", bytes);
    decide(&server, &platform, "before");
    filed(&server, 1);
    server.forget_peak();
    let before = server.peak();
    let files = json!([{ "url": url, "file_name": "film.mp4", "additional_info": "all of it" }]);
    let job = decide_with(&server, &platform, "u1", json!({ "supplemental_files": files }));
    let deadline = Instant::now() + Duration::from_secs(if full { 1800 } else { 120 });
    while tip(&server, job)["stage"] != "filed" {
        assert!(Instant::now() < deadline, "{}", tip(&server, job));
        thread::sleep(Duration::from_millis(50));
    }
    let grown = server.peak().saturating_sub(before) >> 20;
    let report = ncmec.report(TEST, ncmec.finished(TEST)["u1"][0]).unwrap();
    assert_eq!(report.files.iter().map(|file| file.bytes).max(), Some(bytes));
    assert!(grown < 64, "{grown} MB more for a file of {} MB", bytes >> 20);
    println!("{} MB filed with {grown} MB more memory", bytes >> 20);
}

#[test]
fn check_05_a_person_is_told_that_it_is_in_progress() {
    let (ncmec, platform, server) = start();
    ncmec.fail(Endpoint::Submit, Fault::Stall, 1);
    let job = decide(&server, &platform, "u1");
    wait(&server, job, |tip| tip["in_progress"] == true && tip["stage"] == "opening");
    let (status, answer) = say(&server, job, json!({ "action": "retry" }));
    assert_eq!(status, 409, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("in progress"), "{answer}");
    wait(&server, job, |tip| tip["stage"] == "filed");
    assert_eq!(ncmec.finished(TEST)["u1"].len(), 1);
}

/// A further file's host that gives nothing, or no end of it, holds a report up for hours at most: then it goes without,
/// and says so.
#[test]
fn a_file_that_cannot_be_had_is_named_in_the_report() {
    let (ncmec, platform, server) = start();
    let gone = platform.url("media/gone");
    let files = json!([{ "url": gone, "file_name": "chat.pdf" }]);
    let job = decide_with(&server, &platform, "u1", json!({ "supplemental_files": files }));
    let tip = wait(&server, job, |tip| tip["stage"] == "filed");
    assert_eq!(tip["supplemental_files"][0]["url"], json!(gone), "{tip}");
    let report = ncmec.report(TEST, ncmec.finished(TEST)["u1"][0]).unwrap();
    assert_eq!(report.files.len(), 1);
    assert!(report.xml.contains(&gone) && report.xml.contains("chat.pdf"), "{}", report.xml);
}

#[test]
fn check_27_another_schema_than_the_one_seen_last_is_an_alarm() {
    let (ncmec, platform, server) = start();
    decide(&server, &platform, "u1");
    filed(&server, 1);
    let deadline = Instant::now() + Duration::from_secs(60);
    let asked = || ncmec.calls_of(Endpoint::Xsd).len();
    while asked() < 2 {
        assert!(Instant::now() < deadline, "the schema is asked for when there are credentials");
        thread::sleep(Duration::from_millis(50));
    }
    assert!(alarms(&server, "ncmec.schema").is_empty());
    ncmec.set_xsd(b"<xs:schema/>");
    while alarms(&server, "ncmec.schema").is_empty() {
        assert!(Instant::now() < deadline, "asked {} times", asked());
        thread::sleep(Duration::from_millis(50));
    }
}
