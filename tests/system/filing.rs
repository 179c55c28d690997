//! Reports are filed with a stand-in for NCMEC, once, whatever is lost on the way.

use std::thread;
use std::time::{Duration, Instant};

use reporter::cyber_tipline::Environment;
use serde_json::{Value, json};
use tests::ncmec::{Endpoint, Fault};
use tests::{Ncmec, Platform, Server, Setup};

use crate::items::{describe, png, post, rule, send, settled, sound};

pub const TEST: Environment = Environment::Test;

/// A server that reports to a stand-in, with an organisation; pauses are short.
pub fn setup(ncmec: &Ncmec) -> Setup {
    Setup::default()
        .flag("--fetch-allow", "127.0.0.1/32")
        .flag("--signing-key-file", Platform::key_file().display())
        .env("HASHWARD_NCMEC_BASE_URL", ncmec.url())
        .env("HASHWARD_TEST_PRODUCTION_URL", ncmec.production_url())
        .env("HASHWARD_TIP_FASTER", 1000)
}

/// Describes item types, a bank, a rule, and the organisation with its credentials.
pub fn set_up(server: &Server, platform: &Platform, environment: Environment) {
    describe(server);
    server.create_bank("KNOWN");
    assert_eq!(server.http.upload("/c/bank/KNOWN/content", "photo", &png(3)).0, 200);
    rule(server, "csam", json!({ "banks": ["KNOWN"], "actions": [{ "enqueue_ncmec": {} }] }));
    platform.put("known", "image/png", &png(3));
    organisation(server, json!({}));
    let user = Ncmec::user(environment);
    let body = json!({ "username": user.name, "password": user.password, "environment": environment });
    let (status, answer) = server.http.put("/api/v1/organisations/default/credentials", &body);
    assert!(status < 300, "{status} {answer}");
}

/// Sets up the default organisation, with these settings beside what it must have.
pub fn organisation(server: &Server, more: Value) {
    let mut body = json!({
        "company_name": "Example",
        "legal_url": "https://example.com/terms",
        "contact_email": "reports@example.com",
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, answer) = server.http.put("/api/v1/organisations/default", &body);
    assert!(status < 300, "{status} {answer}");
}

/// Sends a post of a user's whose picture is known, and decides on the job that comes of it: it is reported.
pub fn decide(server: &Server, platform: &Platform, user: &str) -> u64 {
    decide_with(server, platform, user, json!({}))
}

/// The same, with more in the decision.
pub fn decide_with(server: &Server, platform: &Platform, user: &str, more: Value) -> u64 {
    let url = platform.url("media/known");
    send(server, &[post(&format!("of-{user}"), user, json!({ "cover": url }))]);
    settled(server);
    let (status, job) = server.http.post("/api/v1/queues/ncmec/next", &json!({ "reviewer": "anna" }));
    assert_eq!(status, 200, "{job}");
    let id = job["id"].as_u64().unwrap();
    let decided: Vec<Value> = (1..=job["media"].as_u64().unwrap())
        .map(|number| json!({ "media": number, "classification": "Unclassified" }))
        .collect();
    let mut body = json!({
        "decision": "report",
        "lease": job["lease"]["token"],
        "revision": job["revision"],
        "incident_type": "Child Pornography (possession, manufacture, and distribution)",
        "media": decided,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, answer) = server.http.post(&format!("/api/v1/jobs/{id}/decision"), &body);
    assert_eq!(status, 200, "{answer}");
    id
}

/// Waits until so many reports are filed by our own count.
pub fn filed(server: &Server, count: u64) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let (status, census) = server.http.get("/api/v1/census");
        assert_eq!(status, 200, "{census}");
        if census["filed"].as_u64() >= Some(count) {
            return sound(server);
        }
        assert!(Instant::now() < deadline, "{census}\n{}", server.log());
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_decision_becomes_one_finished_report() {
    let (ncmec, platform) = (Ncmec::start(), Platform::start());
    let server = setup(&ncmec).start();
    set_up(&server, &platform, TEST);
    decide(&server, &platform, "u1");
    filed(&server, 1);
    let finished = ncmec.finished(TEST);
    assert_eq!(finished.len(), 1, "{finished:?}");
    assert_eq!(finished["u1"].len(), 1);
    let report = ncmec.report(TEST, finished["u1"][0]).unwrap();
    assert_eq!(report.files.len(), 1);
    assert!(ncmec.finished(Environment::Production).is_empty());
}

#[test]
fn check_02_a_finish_whose_answer_is_lost_is_asked_again_under_the_same_number() {
    let (ncmec, platform) = (Ncmec::start(), Platform::start());
    let server = setup(&ncmec).start();
    set_up(&server, &platform, TEST);
    ncmec.fail(Endpoint::Finish, Fault::Lost, 1);
    decide(&server, &platform, "u1");
    filed(&server, 1);
    assert_eq!(ncmec.finished(TEST)["u1"].len(), 1);
    assert_eq!(ncmec.calls_of(Endpoint::Submit).len(), 1, "never opened again");
    assert_eq!(ncmec.calls_of(Endpoint::Finish).len(), 2);
}
