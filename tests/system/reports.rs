//! What people see of reports and do to them: whose a report is, what was sent and received for it, what is held and why,
//! and alarms that stay until somebody looks.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use reporter::cyber_tipline::Environment;
use serde_json::{Value, json};
use tests::ncmec::{Endpoint, Fault, Options};
use tests::{Http, Ncmec, Platform, Server, Setup};

use crate::access::{PASSWORD, bearing, create_admin, key, person};
use crate::filing::{filed, set_up, setup};
use crate::items::{post, send, settled, sound};

const TEST: Environment = Environment::Test;
const PRODUCTION: Environment = Environment::Production;

/// A server on a data directory with an admin, who is its client.
fn start(setup: Setup, data: &Path) -> Server {
    let mut server = setup.data(data).start();
    server.http = Http::logged_in(&server.admin, "root", PASSWORD);
    server
}

/// The same that was set up to report.
fn reporting(ncmec: &Ncmec, platform: &Platform, data: &Path) -> Server {
    assert!(create_admin(data, "root", PASSWORD).0);
    let server = start(setup(ncmec), data);
    set_up(&server, platform, TEST);
    server
}

/// A user's job, which a person decides as a report; whether they open its medium before.
fn reported(server: &Server, platform: &Platform, reviewer: &Http, user: &str, opens: bool) -> u64 {
    let url = platform.url("media/known");
    send(server, &[post(&format!("of-{user}"), user, json!({ "cover": url }))]);
    settled(server);
    let (status, job) = reviewer.post("/api/v1/queues/ncmec/next", &json!({}));
    assert_eq!(status, 200, "{job}");
    let place = format!("/api/v1/jobs/{}", job["id"]);
    if opens {
        let deadline = Instant::now() + Duration::from_secs(20);
        while reviewer.bytes(&format!("{place}/media/1/content"), &[]).0 != 200 {
            assert!(Instant::now() < deadline, "{}", server.log());
            thread::sleep(Duration::from_millis(50));
        }
    }
    let classification = if opens { "A1" } else { "Unclassified" };
    let body = json!({
        "decision": "report",
        "lease": job["lease"]["token"],
        "revision": job["revision"],
        "incident_type": "Child Pornography (possession, manufacture, and distribution)",
        "media": [{ "media": 1, "classification": classification, "viewed": opens }],
    });
    let (status, answer) = reviewer.post(&format!("{place}/decision"), &body);
    assert_eq!(status, 200, "{answer}");
    job["id"].as_u64().unwrap()
}

/// Waits until a list of reports or alarms is as it should be.
fn until(http: &Http, server: &Server, path: &str, fits: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        let (status, page) = http.get(path);
        assert_eq!(status, 200, "{page}");
        let entries = page["entries"].as_array().unwrap();
        if fits(entries) {
            return entries.clone();
        }
        assert!(Instant::now() < deadline, "{page}\n{}", server.log());
        thread::sleep(Duration::from_millis(30));
    }
}

fn alarms_open(http: &Http) -> f64 {
    let (_, text) = http.plain("GET", "/metrics", None);
    let line = text.lines().find(|line| line.starts_with("hashward_alarms_open")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn check_56_a_test_report_is_its_reviewers_and_nobody_elses() {
    let (ncmec, platform, folder) = (Ncmec::start(), Platform::start(), tempfile::tempdir().unwrap());
    let server = reporting(&ncmec, &platform, &folder.path().join("data"));
    let admin = &server.http;
    let [anna, carl] = ["anna", "carl"].map(|name| person(&server, admin, name, "child_safety_moderator"));
    let (ben, dora) = (person(&server, admin, "ben", "moderator"), person(&server, admin, "dora", "analyst"));
    let machine = bearing(&server, &key(admin, &["report"]).1);
    let job = reported(&server, &platform, &anna, "u1", false);
    filed(&server, 1);
    let place = format!("/api/v1/cybertips/{job}");
    let entries = anna.get("/api/v1/cybertips").1["entries"].clone();
    assert_eq!((&entries[0]["is_test"], &entries[0]["stage"]), (&json!(true), &json!("filed")), "{entries}");
    assert_eq!(machine.get("/api/v1/cybertips").1["entries"], entries);
    for other in [admin, &carl] {
        assert_eq!(other.get("/api/v1/cybertips").1["entries"], json!([]));
        let number = format!("/api/v1/cybertips?report_id={}", entries[0]["report_id"]);
        assert_eq!(other.get(&number).1["entries"], json!([]));
        let absent = other.get("/api/v1/cybertips/999999").1.to_string().replace("999999", "N");
        for (status, answer) in [
            other.get(&place),
            other.get(&format!("{place}/records")),
            other.post(&place, &json!({ "action": "retry" })),
        ] {
            assert_eq!((status, answer.to_string().replace(&job.to_string(), "N")), (404, absent.clone()));
        }
        assert_eq!(other.plain("GET", "/api/v1/cybertips/export", None), (200, String::new()));
    }
    for other in [&ben, &dora] {
        for path in ["/api/v1/cybertips", &place, "/api/v1/cybertips/export", "/api/v1/filings"] {
            assert_eq!(other.get(path).0, 403, "{path}");
        }
    }
    let (_, text) = dora.plain("GET", "/metrics", None);
    assert!(!text.contains("hashward_filings_held{}") && !text.contains("stage="), "counts are hidden, too");
    let (status, answer) = anna.post(&place, &json!({ "action": "retry" }));
    assert!(status == 409 && answer["message"].as_str().unwrap().contains("is over"), "{answer}");
    let (_, lines) = anna.plain("GET", "/api/v1/cybertips/export", None);
    let line: Value = serde_json::from_str(lines.trim()).unwrap();
    assert_eq!((&line["job"], lines.lines().count()), (&json!(job), 1));
    let log = admin.get("/api/v1/audit?limit=1000").1["entries"].clone();
    let has = |who: &str, action: &str| {
        let mut entries = log.as_array().unwrap().iter();
        entries.any(|entry| entry["action"] == action && entry["who"] == who)
    };
    assert!(has("filer", "tip.opened") && has("filer", "tip.filed"));
    assert!(has("person:anna", "request.begun") && has("person:root", "request.begun"));
    assert!(!has("person:root", "tip.view") && !has("person:carl", "tip.view"), "they saw nothing");
}

#[test]
fn check_56_a_production_report_is_seen_by_who_may_see_reports() {
    let (ncmec, platform, folder) = (Ncmec::start(), Platform::start(), tempfile::tempdir().unwrap());
    let data = folder.path().join("data");
    assert!(create_admin(&data, "root", PASSWORD).0);
    let server = start(setup(&ncmec).env("NCMEC_ENV", "production"), &data);
    set_up(&server, &platform, PRODUCTION);
    let [anna, carl] =
        ["anna", "carl"].map(|name| person(&server, &server.http, name, "child_safety_moderator"));
    let ben = person(&server, &server.http, "ben", "moderator");
    let job = reported(&server, &platform, &anna, "u1", false);
    filed(&server, 1);
    for http in [&anna, &carl, &server.http] {
        let (status, shown) = http.get(&format!("/api/v1/cybertips/{job}"));
        assert_eq!(
            (status, &shown["is_test"], &shown["environment"]),
            (200, &json!(false), &json!("production"))
        );
    }
    assert_eq!(ben.get(&format!("/api/v1/cybertips/{job}")).0, 403);
    assert!(ncmec.finished(TEST).is_empty());
}

#[test]
fn check_58_what_was_sent_and_received_is_kept_to_the_byte_without_the_login() {
    let (ncmec, platform, folder) = (Ncmec::start(), Platform::start(), tempfile::tempdir().unwrap());
    let server = reporting(&ncmec, &platform, &folder.path().join("data"));
    let anna = person(&server, &server.http, "anna", "child_safety_moderator");
    let job = reported(&server, &platform, &anna, "u1", true);
    filed(&server, 1);
    let place = format!("/api/v1/cybertips/{job}");
    let (_, shown) = anna.get(&place);
    let number = shown["report_id"].as_i64().unwrap();
    let there = ncmec.report(TEST, number).unwrap();
    assert_eq!(shown["xml"], there.xml);
    let medium = &shown["media"][0];
    assert_eq!((&medium["classification"], &medium["file_id"]), (&json!("A1"), &json!(there.files[0].id)));
    assert_eq!(Some(medium["details_xml"].as_str().unwrap()), there.files[0].details.as_deref());

    let records = pages(&anna, &format!("{place}/records"));
    assert!(records.iter().all(|record| record["sound"] == true), "{records:#?}");
    let calls: Vec<(&str, &str)> = records
        .iter()
        .map(|record| (record["call"].as_str().unwrap(), record["direction"].as_str().unwrap()))
        .collect();
    let each = ["submit", "upload", "fileinfo", "finish"];
    assert_eq!(calls, each.map(|call| [(call, "sent"), (call, "received")]).concat());
    assert_eq!(records[0]["body"]["utf8"], there.xml, "to the byte");
    for (record, call) in records.iter().skip(1).step_by(2).zip(each) {
        let made = ncmec.calls_of(call.parse().unwrap());
        let headers = record["headers"].to_string();
        assert!(headers.contains(&made[0].request_id), "{headers}");
    }
    let all = json!(records).to_string();
    let user = Ncmec::user(TEST);
    assert!(!all.contains(&user.password) && !all.to_lowercase().contains("authorization"));
    let text = json!(shown).to_string();
    assert!(!text.contains(&user.password));
    let (_, log) = server.http.get("/api/v1/audit?limit=1000&action=tip");
    let looked = log["entries"].as_array().unwrap().iter();
    let by_anna = looked.filter(|entry| entry["who"] == "person:anna").map(|entry| entry["action"].clone());
    let by_anna: Vec<Value> = by_anna.collect();
    assert_eq!(
        (by_anna.first(), by_anna.last()),
        (Some(&json!("tip.view_records")), Some(&json!("tip.view")))
    );
    for secret in [user.password.as_str(), "media/known"] {
        assert!(!server.log().contains(secret), "{secret} is in the log");
    }
}

/// All of a list that is continued as `after`.
fn pages(http: &Http, path: &str) -> Vec<Value> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let (status, page) = http.get(&format!("{path}?limit=3&after={after}"));
        assert_eq!((status, &page["first_broken"]), (200, &Value::Null), "{page}");
        all.extend(page["entries"].as_array().unwrap().iter().cloned());
        match page["next"].as_u64() {
            Some(next) => after = next,
            None => return all,
        }
    }
}

#[test]
fn check_36_a_report_says_viewed_only_of_what_a_person_opened() {
    let (ncmec, platform, folder) = (Ncmec::start(), Platform::start(), tempfile::tempdir().unwrap());
    let server = reporting(&ncmec, &platform, &folder.path().join("data"));
    let anna = person(&server, &server.http, "anna", "child_safety_moderator");
    for (user, opens) in [("u1", true), ("u2", false)] {
        let job = reported(&server, &platform, &anna, user, opens);
        filed(&server, if opens { 1 } else { 2 });
        let (_, shown) = anna.get(&format!("/api/v1/cybertips/{job}"));
        let details = shown["media"][0]["details_xml"].as_str().unwrap();
        assert!(details.contains(&format!("<fileViewedByEsp>{opens}</fileViewedByEsp>")), "{details}");
        assert!(!details.contains("<exifViewedByEsp>true"), "{details}");
    }
}

#[test]
fn check_22_with_the_other_environments_login_nothing_is_sent_and_an_alarm_stays() {
    let (ncmec, platform, folder) = (Ncmec::start(), Platform::start(), tempfile::tempdir().unwrap());
    let server = reporting(&ncmec, &platform, &folder.path().join("data"));
    let admin = &server.http;
    let login = |environment| {
        let user = Ncmec::user(environment);
        let body = json!({ "username": user.name, "password": user.password, "environment": environment });
        let path = "/api/v1/organisations/default/credentials";
        assert_eq!(admin.put(path, &body).0, 200);
    };
    login(PRODUCTION);
    let anna = person(&server, admin, "anna", "child_safety_moderator");
    let (ben, dora) = (person(&server, admin, "ben", "moderator"), person(&server, admin, "dora", "analyst"));
    let before = ncmec.calls().len();
    reported(&server, &platform, &anna, "u1", false);
    let raised = until(&anna, &server, "/api/v1/alarms", |open| !open.is_empty());
    let alarm = raised.iter().find(|alarm| alarm["kind"] == "ncmec.not_set_up").unwrap();
    assert!(alarm["words"].as_str().unwrap().contains("production"), "{alarm}");
    assert_eq!(ncmec.calls().len(), before, "not a byte was sent");
    // Whoever may not see child safety data sees no such alarm, nor counts it.
    assert!(alarms_open(admin) > 0.0);
    for other in [&ben, &dora] {
        assert_eq!(other.get("/api/v1/alarms?all=true").1["entries"], json!([]));
    }
    assert_eq!(alarms_open(&dora), 0.0);
    login(TEST);
    filed(&server, 1);
    let numbers: Vec<&Value> = raised.iter().map(|alarm| &alarm["number"]).collect();
    let still = anna.get("/api/v1/alarms").1["entries"].clone();
    assert!(
        still.as_array().unwrap().iter().any(|open| open["number"] == alarm["number"]),
        "until acknowledged"
    );
    for number in numbers {
        let path = format!("/api/v1/alarms/{number}/acknowledge");
        for other in [&ben, &dora] {
            assert_eq!(other.post(&path, &json!({})).0, 403);
        }
        let (status, done) = anna.post(&path, &json!({}));
        assert_eq!((status, &done["acknowledged"]["by"]), (200, &json!("person:anna")));
    }
    assert_eq!(anna.post("/api/v1/alarms/99999/acknowledge", &json!({})).0, 404);
    let (_, log) = admin.get("/api/v1/audit?limit=1000&action=alarm.acknowledge");
    assert_eq!(log["entries"].as_array().unwrap().len(), raised.len());
}

#[test]
fn check_14_what_ncmec_refuses_is_held_until_a_person_says_what_to_do() {
    let (ncmec, platform, folder) = (Ncmec::start(), Platform::start(), tempfile::tempdir().unwrap());
    let server = reporting(&ncmec, &platform, &folder.path().join("data"));
    let anna = person(&server, &server.http, "anna", "child_safety_moderator");
    ncmec.fail_always(Endpoint::Submit, Fault::Code(4100));
    let jobs: Vec<u64> =
        ["u1", "u2"].iter().map(|user| reported(&server, &platform, &anna, user, false)).collect();
    let held = until(&anna, &server, "/api/v1/cybertips?held=true", |held| held.len() == 2);
    assert!(held.iter().all(|tip| tip["held"]["cause"] == "rejected" && tip["in_progress"] == false));
    let calls = ncmec.calls_of(Endpoint::Submit).len();
    thread::sleep(Duration::from_secs(1));
    assert_eq!(ncmec.calls_of(Endpoint::Submit).len(), calls, "nothing by itself");
    assert_eq!(server.metric("hashward_filings_held"), 2.0);
    let open = anna.get("/api/v1/alarms").1["entries"].clone();
    for job in &jobs {
        let about = format!("job {job}");
        let is = |alarm: &Value| alarm["kind"] == "tip.held" && alarm["about"] == about.as_str();
        assert!(open.as_array().unwrap().iter().any(is), "{open}");
    }
    let say = |job: u64, body: Value| anna.post(&format!("/api/v1/cybertips/{job}"), &body);
    for wrong in [
        json!({}),
        json!({ "action": "forget" }),
        json!({ "action": "cancel" }),
        json!({ "action": "confirm_filed" }),
        json!({ "action": "retry", "report_id": 1 }),
    ] {
        assert_eq!(say(jobs[0], wrong.clone()).0, 400, "{wrong}");
    }
    assert_eq!(
        say(jobs[0], json!({ "action": "confirm_filed", "report_id": 1 })).0,
        409,
        "nothing is in doubt"
    );
    assert_eq!(say(jobs[0], json!({ "action": "file_minimal" })).0, 409, "the platform has not failed");
    let (status, cancelled) = say(jobs[1], json!({ "action": "cancel", "reason": "decided by mistake" }));
    assert_eq!((status, &cancelled["stage"]), (200, &json!("cancelled")), "{cancelled}");
    ncmec.heal();
    assert_eq!(say(jobs[0], json!({ "action": "retry" })).0, 200);
    filed(&server, 1);
    assert_eq!(ncmec.finished(TEST).keys().collect::<Vec<_>>(), ["u1"]);
    let list = |query: &str| anna.get(&format!("/api/v1/cybertips?{query}")).1["entries"].clone();
    for (query, found) in [
        ("stage=filed", vec![jobs[0]]),
        ("stage=cancelled", vec![jobs[1]]),
        ("limit=1", vec![jobs[1]]),
        (&format!("before={}", jobs[1]), vec![jobs[0]]),
        ("typeId=user&id=u1", vec![jobs[0]]),
        ("organisation=other", vec![]),
        ("environment=production", vec![]),
        ("until_ms=1", vec![]),
        ("since_ms=1&environment=test", vec![jobs[1], jobs[0]]),
    ] {
        let listed: Vec<u64> =
            list(query).as_array().unwrap().iter().map(|tip| tip["job"].as_u64().unwrap()).collect();
        assert_eq!(listed, found, "{query}");
    }
    assert_eq!(anna.get("/api/v1/cybertips?id=u1").0, 400);
    let (_, log) = server.http.get("/api/v1/audit?limit=1000");
    let has = |action: &str| log["entries"].as_array().unwrap().iter().any(|entry| entry["action"] == action);
    assert!(has("tip.held") && has("tip.cancel") && has("tip.retry"));
    assert!(!log.to_string().contains("by mistake"), "why is with the filing, sealed");
    sound(&server);
}

#[test]
fn check_24_equal_numbers_of_both_environments_stand_side_by_side() {
    let (ncmec, platform, folder) = (Ncmec::start(), Platform::start(), tempfile::tempdir().unwrap());
    let data = folder.path().join("data");
    let server = reporting(&ncmec, &platform, &data);
    let machine = key(&server.http, &["report"]).1;
    let anna = person(&server, &server.http, "anna", "child_safety_moderator");
    let first = reported(&server, &platform, &anna, "u1", false);
    filed(&server, 1);
    drop(server.stop());
    // Another stand-in, whose production CyberTipline begins with the same number.
    let other = Ncmec::with(Options::default()).unwrap();
    let server = start(setup(&other).env("NCMEC_ENV", "production"), &data);
    let user = Ncmec::user(PRODUCTION);
    let body = json!({ "username": user.name, "password": user.password, "environment": "production" });
    assert_eq!(server.http.put("/api/v1/organisations/default/credentials", &body).0, 200);
    let anna = Http::logged_in(&server.admin, "anna", PASSWORD);
    let second = reported(&server, &platform, &anna, "u1", false);
    filed(&server, 2);
    let (one, two) = (ncmec.finished(TEST)["u1"][0], other.finished(PRODUCTION)["u1"][0]);
    assert_eq!(one, two);
    let machine = bearing(&server, &machine);
    let entries = machine.get(&format!("/api/v1/cybertips?report_id={one}")).1["entries"].clone();
    let found: Vec<(u64, bool)> = entries
        .as_array()
        .unwrap()
        .iter()
        .map(|tip| (tip["job"].as_u64().unwrap(), tip["is_test"].as_bool().unwrap()))
        .collect();
    assert_eq!(found, [(second, false), (first, true)]);
    let report = other.report(PRODUCTION, two).unwrap();
    assert!(!report.xml.contains("priorCTReports"), "test reports are not named: {}", report.xml);
}
