//! Where reports go, and who else is told: one CyberTipline, chosen by exactly one word; the platform before a report and
//! after it; and what goes on where it stopped when the program was killed.

use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, thread};

use reporter::cyber_tipline::Environment;
use serde_json::json;
use tests::ncmec::{Endpoint, Fault};
use tests::{Misinformed, Ncmec, Platform, Setup};

use crate::filing::{TEST, decide, filed, organisation, set_up, setup};
use crate::filing_faults::{alarms, say, tip, wait};
use crate::items::signed;

const PRODUCTION: Environment = Environment::Production;

fn production(ncmec: &Ncmec) -> Setup {
    setup(ncmec).env("NCMEC_ENV", "production")
}

/// How many calls came to each CyberTipline.
fn calls(ncmec: &Ncmec) -> (usize, usize) {
    let of = |environment| ncmec.calls().iter().filter(|call| call.environment == environment).count();
    (of(TEST), of(PRODUCTION))
}

#[test]
fn check_21_nothing_but_exactly_production_reaches_production() {
    for word in [None, Some(""), Some("Production"), Some("prod"), Some(" production "), Some("PRODUCTION")] {
        let (ncmec, platform) = (Ncmec::start(), Platform::start());
        let setup = setup(&ncmec);
        let server = word.into_iter().fold(setup, |setup, word| setup.env("NCMEC_ENV", word)).start();
        set_up(&server, &platform, TEST);
        decide(&server, &platform, "u1");
        filed(&server, 1);
        let (test, production) = calls(&ncmec);
        assert!(test >= 4 && production == 0, "{word:?}: {test}, {production}");
    }
    let (ncmec, platform) = (Ncmec::start(), Platform::start());
    let server = production(&ncmec).start();
    set_up(&server, &platform, PRODUCTION);
    decide(&server, &platform, "u1");
    filed(&server, 1);
    let (test, production) = calls(&ncmec);
    assert!(test == 0 && production >= 4, "{test}, {production}");
}

#[test]
fn check_22_credentials_of_the_other_environment_send_no_byte() {
    let (ncmec, platform) = (Ncmec::start(), Platform::start());
    let server = setup(&ncmec).start();
    set_up(&server, &platform, PRODUCTION);
    let job = decide(&server, &platform, "u1");
    let deadline = Instant::now() + Duration::from_secs(30);
    while alarms(&server, "ncmec.not_set_up").is_empty() {
        assert!(Instant::now() < deadline, "{}", server.log());
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(Duration::from_millis(500));
    assert_eq!(calls(&ncmec), (0, 0));
    assert_eq!(tip(&server, job)["stage"], "decided");
}

#[test]
fn check_12_24_25_environments_share_no_numbers_and_earlier_production_reports_are_named() {
    let (ncmec, platform, folder) = (Ncmec::start(), Platform::start(), tempfile::tempdir().unwrap());
    let data = folder.path().join("data");
    let server = setup(&ncmec).data(&data).start();
    set_up(&server, &platform, TEST);
    decide(&server, &platform, "u1");
    filed(&server, 1);
    drop(server.stop());
    // A restart reports nothing again.
    let server = setup(&ncmec).data(&data).start();
    thread::sleep(Duration::from_millis(500));
    assert_eq!(ncmec.calls_of(Endpoint::Submit).len(), 1);
    drop(server.stop());

    let server = production(&ncmec).data(&data).start();
    let user = Ncmec::user(PRODUCTION);
    let body = json!({ "username": user.name, "password": user.password, "environment": "production" });
    assert!(server.http.put("/api/v1/organisations/default/credentials", &body).0 < 300);
    for count in 2..=3 {
        decide(&server, &platform, "u1");
        filed(&server, count);
    }
    let (test, real) = (ncmec.finished(TEST), ncmec.finished(PRODUCTION));
    assert_eq!(test["u1"][0], real["u1"][0], "the stand-ins count alike: both numbers are kept");
    assert_eq!((test["u1"].len(), real["u1"].len()), (1, 2), "new evidence is a new report");
    let second = ncmec.report(PRODUCTION, real["u1"][1]).unwrap();
    let xml = second.xml;
    let prior = format!("<priorCTReports>{}</priorCTReports>", real["u1"][0]);
    assert_eq!(xml.matches("<priorCTReports>").count(), 1, "test reports are never named: {xml}");
    assert!(xml.contains(&prior), "{xml}");
}

#[test]
fn check_19_20_59_the_platform_is_told_in_production_until_it_hears_and_once_of_each() {
    let (ncmec, platform) = (Ncmec::start(), Platform::start());
    let server = production(&ncmec).start();
    set_up(&server, &platform, PRODUCTION);
    assert!(server.http.put("/api/v1/webhooks/ban", &json!({ "url": platform.url("hook/ban") })).0 < 300);
    organisation(
        &server,
        json!({
            "additional_info_url": platform.url("info"),
            "preservation_url": platform.url("preserve"),
            "actions_on_report": ["ban"],
        }),
    );
    platform.fail("/preserve", &[500, 500, 0]);
    ncmec.fail(Endpoint::Finish, Fault::Lost, 1);
    let job = decide(&server, &platform, "u1");
    let done = wait(&server, job, |tip| tip["stage"] == "filed");
    let told = platform.wait("/preserve", 4);
    let ids: Vec<&String> = told.iter().map(|asked| &asked.headers["webhook-id"]).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "the same delivery again: {ids:?}");
    for asked in told.iter().chain(&platform.asked("/info")).chain(&platform.wait("/hook/ban", 1)) {
        signed(asked);
    }
    let body = told[3].json();
    assert_eq!(body["user"], json!({ "id": "u1", "typeId": "user" }));
    assert_eq!(body["reportId"], json!(done["filed"]["report_id"].to_string()));
    assert_eq!(body["reportedMedia"], json!([{ "id": "of-u1", "typeId": "post" }]));
    thread::sleep(Duration::from_millis(700));
    assert_eq!(platform.asked("/hook/ban").len(), 1, "once for a job");
    assert_eq!(platform.asked("/preserve").len(), 4);
}

#[test]
fn check_19_20_in_the_test_environment_nobody_is_told() {
    let (ncmec, platform) = (Ncmec::start(), Platform::start());
    let server = setup(&ncmec).start();
    set_up(&server, &platform, TEST);
    assert!(server.http.put("/api/v1/webhooks/ban", &json!({ "url": platform.url("hook/ban") })).0 < 300);
    let more = json!({ "preservation_url": platform.url("preserve"), "actions_on_report": ["ban"] });
    organisation(&server, more);
    let job = decide(&server, &platform, "u1");
    wait(&server, job, |tip| tip["stage"] == "filed");
    thread::sleep(Duration::from_millis(700));
    assert_eq!((platform.asked("/hook").len(), platform.asked("/preserve").len()), (0, 0));
}

#[test]
fn check_59_without_a_key_the_platform_is_not_asked_and_nothing_is_filed() {
    let (ncmec, platform) = (Ncmec::start(), Platform::start());
    let server = Setup::default()
        .flag("--fetch-allow", "127.0.0.1/32")
        .env("HASHWARD_NCMEC_BASE_URL", ncmec.url())
        .env("HASHWARD_TIP_FASTER", 1000)
        .start();
    set_up(&server, &platform, TEST);
    organisation(&server, json!({ "additional_info_url": platform.url("info") }));
    let job = decide(&server, &platform, "u1");
    let tip = wait(&server, job, |tip| tip["trouble"].is_string());
    assert!(tip["trouble"].as_str().unwrap().contains("signing-key-file"), "{tip}");
    assert_eq!((platform.asked("/info").len(), calls(&ncmec).0), (0, 0));
}

#[test]
fn check_59_while_a_key_is_changed_both_sign() {
    let (ncmec, platform, folder) = (Ncmec::start(), Platform::start(), tempfile::tempdir().unwrap());
    let former = folder.path().join("former.pem");
    fs::copy(Platform::key_file(), &former).unwrap();
    let server = setup(&ncmec).flag("--signing-key-file-former", former.display()).start();
    set_up(&server, &platform, TEST);
    organisation(&server, json!({ "additional_info_url": platform.url("info") }));
    let job = decide(&server, &platform, "u1");
    wait(&server, job, |tip| tip["stage"] == "filed");
    let signature = platform.asked("/info")[0].headers["webhook-signature"].clone();
    let each: Vec<&str> = signature.split(' ').collect();
    assert!(each.len() == 2 && each.iter().all(|one| one.starts_with("v1rsa,")), "{signature}");
}

#[test]
fn check_47_48_a_bad_answer_of_the_platform_files_nothing_until_a_person_says_so() {
    let (ncmec, platform) = (Ncmec::start(), Platform::start());
    let server = setup(&ncmec).start();
    set_up(&server, &platform, TEST);
    organisation(&server, json!({ "additional_info_url": platform.url("info") }));
    for bad in [
        Misinformed::Omits("u-omitted".to_string()),
        Misinformed::WrongType("screenName"),
        Misinformed::Huge(100 << 20),
        Misinformed::Html,
        Misinformed::Cut,
    ] {
        platform.misinform(bad);
    }
    let job = decide(&server, &platform, "u-omitted");
    let done = wait(&server, job, |tip| tip["stage"] == "filed");
    assert_eq!(done["spent"], 0, "NCMEC has answered nothing about it");
    assert!(platform.asked("/info").len() >= 6);
    assert_eq!(ncmec.calls_of(Endpoint::Submit).len(), 1);
    // It never answers well.
    (0..500).for_each(|_| platform.misinform(Misinformed::Omits("u2".to_string())));
    let job = decide(&server, &platform, "u2");
    let early = say(&server, job, json!({ "action": "file_minimal" }));
    assert!([404, 409].contains(&early.0), "not before it has failed often: {early:?}");
    let deadline = Instant::now() + Duration::from_secs(60);
    while alarms(&server, "tip.additional_info").is_empty() {
        assert!(Instant::now() < deadline, "{}", tip(&server, job));
        thread::sleep(Duration::from_millis(20));
    }
    // The operator sees which.
    wait(&server, job, |tip| tip["trouble"].as_str().is_some_and(|words| words.contains("u2")));
    while say(&server, job, json!({ "action": "file_minimal" })).0 == 409 {
        assert!(Instant::now() < deadline);
    }
    let done = wait(&server, job, |tip| tip["stage"] == "filed");
    assert!(done["minimal"].is_string());
}

fn killed_at(ncmec: &Ncmec, data: &Path, point: &str) {
    let platform = Platform::start();
    let mut server = setup(ncmec).data(data).env("HASHWARD_KILL_AT", point).start();
    set_up(&server, &platform, TEST);
    decide(&server, &platform, "u1");
    let deadline = Instant::now() + Duration::from_secs(30);
    while server.runs() {
        assert!(Instant::now() < deadline, "never killed at {point}: {}", server.log());
        thread::sleep(Duration::from_millis(10));
    }
    drop(server.kill());
}

#[test]
fn check_04_06_07_what_ncmec_acknowledged_is_not_asked_for_again_after_a_crash() {
    // Where it is killed; how often each call is made in all.
    for (point, submits, uploads, infos, finishes) in [
        ("tip-submit-kept", 1, 1, 1, 1),
        ("tip-submit-answered", 2, 1, 1, 1),
        ("tip-upload-kept", 1, 1, 1, 1),
        ("tip-upload-answered", 1, 2, 1, 1),
        ("tip-fileinfo-kept", 1, 1, 1, 1),
        // Filed, and not written down here: asked again under the same number.
        ("tip-finish-answered", 1, 1, 1, 2),
    ] {
        let (ncmec, folder) = (Ncmec::start(), tempfile::tempdir().unwrap());
        let data = folder.path().join("data");
        killed_at(&ncmec, &data, point);
        let server = setup(&ncmec).data(&data).start();
        filed(&server, 1);
        let count = |endpoint| ncmec.calls_of(endpoint).len();
        let made = (
            count(Endpoint::Submit),
            count(Endpoint::Upload),
            count(Endpoint::FileInfo),
            count(Endpoint::Finish),
        );
        assert_eq!(made, (submits, uploads, infos, finishes), "killed at {point}");
        assert_eq!(ncmec.finished(TEST)["u1"].len(), 1, "killed at {point}");
    }
}

#[test]
fn check_11_what_ncmec_may_have_deleted_by_our_clock_is_left() {
    let (ncmec, folder) = (Ncmec::start(), tempfile::tempdir().unwrap());
    let data = folder.path().join("data");
    killed_at(&ncmec, &data, "tip-submit-kept");
    let server = setup(&ncmec).data(&data).env("HASHWARD_CLOCK_DAYS", 2).start();
    filed(&server, 1);
    assert_eq!(ncmec.calls_of(Endpoint::Submit).len(), 2);
    let reports = ncmec.reports(TEST);
    assert!(reports[0].files.is_empty(), "the old one is not touched");
    assert_eq!(ncmec.finished(TEST)["u1"].len(), 1);
}
