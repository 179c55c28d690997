//! kill -9 at random places while hundreds of reports are filed with a stand-in that fails at random: each job ends in
//! exactly one finished report, or is held for a person for a cause that is written down.
//!
//! Seeds are printed; `HASHWARD_SEED` plays one again. Every place beside a durable step and a call is hit, and shown to
//! have been.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reporter::cyber_tipline::Environment;
use serde_json::{Value, json};
use tests::ncmec::{Endpoint, Fault, Plan};
use tests::{Http, Ncmec, Platform, Server, Setup};

use crate::filing::{set_up, setup};
use crate::items::{post, send, settled, sound};

/// Every place, in the order of a filing's way: before and after what is sent, and after what came of it is written.
const POINTS: [&str; 20] = [
    "tip-adopted",
    "tip-taken",
    "tip-informed-answered",
    "tip-informed-kept",
    "tip-file-stored",
    "tip-file-kept",
    "tip-built-kept",
    "tip-submit-intended",
    "tip-submit-answered",
    "tip-submit-kept",
    "tip-upload-intended",
    "tip-upload-answered",
    "tip-upload-kept",
    "tip-fileinfo-intended",
    "tip-fileinfo-answered",
    "tip-fileinfo-kept",
    "tip-finish-intended",
    "tip-finish-answered",
    "tip-finish-kept",
    "tip-failed-kept",
];
const FILINGS: usize = 500;
const ROUNDS: usize = 2;
/// The causes that docs/reporting.md lists.
const CAUSES: [&str; 10] = [
    "rejected",
    "all_media_missing",
    "attempts_spent",
    "too_old",
    "finish_unknown",
    "retracted",
    "finished_elsewhere",
    "wrong_answer",
    "environment_changed",
    "file_changed",
];

/// What goes wrong at NCMEC, by chance: a quarter of all calls.
fn plan(seed: u64) -> Plan {
    let any = |fault, chance| (None, fault, chance);
    let chances = vec![
        any(Fault::Code(1000), 0.03),
        any(Fault::Status(503), 0.02),
        any(Fault::TooMany(0), 0.01),
        any(Fault::Reset, 0.03),
        any(Fault::Html, 0.01),
        any(Fault::Lost, 0.06),
        any(Fault::GatewayTimeout, 0.02),
        any(Fault::Truncated, 0.02),
        any(Fault::Cut, 0.02),
        any(Fault::Latin1, 0.02),
        any(Fault::Oversized(2 << 20), 0.01),
        any(Fault::Unauthorized, 0.005),
        (Some(Endpoint::Upload), Fault::WrongMd5, 0.02),
        (Some(Endpoint::Upload), Fault::DuplicateFileId, 0.02),
        (Some(Endpoint::Submit), Fault::NoReportId, 0.02),
    ];
    Plan { seed, chances }
}

fn at(data: &Path, ncmec: &Ncmec, kill: Option<&str>) -> Setup {
    let setup = setup(ncmec)
        .data(data)
        .killed_often()
        .env("HASHWARD_TIP_FASTER", 100_000)
        .env("HASHWARD_NCMEC_CALL_MS", 3000);
    kill.into_iter().fold(setup, |setup, kill| setup.env("HASHWARD_KILL_AT", kill))
}

/// Decides the next jobs, as long as there is a server.
fn decide(http: &Http, count: usize, files: &[String]) -> Option<()> {
    for _ in 0..count {
        let Ok((status, job)) = http.try_post("/api/v1/queues/ncmec/next", &json!({ "reviewer": "anna" }))
        else {
            return None;
        };
        if status == 204 || job["id"].is_null() {
            return Some(());
        }
        let id = job["id"].as_u64().unwrap();
        let media: Vec<Value> = (1..=job["media"].as_u64().unwrap())
            .map(|number| json!({ "media": number, "classification": "Unclassified" }))
            .collect();
        let more: Vec<Value> = files
            .iter()
            .filter(|_| id % 5 == 0)
            .map(|url| json!({ "url": url, "file_name": "evidence.pdf" }))
            .collect();
        let body = json!({
            "decision": "report", "lease": job["lease"]["token"], "revision": job["revision"],
            "request": format!("of job {id}"), "incident_type": "Child Sex Tourism", "media": media,
            "supplemental_files": more,
        });
        // Whether it was taken is seen when the next job is asked for.
        match http.try_post(&format!("/api/v1/jobs/{id}/decision"), &body) {
            Ok((200 | 409, _)) => {}
            Ok(other) => panic!("{other:?}"),
            Err(_) => return None,
        }
    }
    Some(())
}

fn census(server: &Server, name: &str) -> u64 {
    sound(server)[name].as_u64().unwrap()
}

#[test]
fn check_01_each_job_ends_in_one_finished_report_wherever_the_program_is_killed() {
    let given = std::env::var("HASHWARD_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = given.unwrap_or_else(|| index::RequestId::fresh().born_ms());
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (ncmec, platform, folder) = (Ncmec::start(), Platform::start(), tempfile::tempdir().unwrap());
    let data = folder.path().join("data");
    let server = at(&data, &ncmec, None).start();
    set_up(&server, &platform, Environment::Test);
    crate::filing::organisation(
        &server,
        json!({ "additional_info_url": platform.url("info"), "at_once": 8 }),
    );
    let more = [platform.put("evidence", "application/pdf", b"%PDF-")];
    let url = platform.url("media/known");
    for users in (0..FILINGS).collect::<Vec<_>>().chunks(50) {
        let of = |user: &usize| post(&format!("of-{user}"), &format!("u{user}"), json!({ "cover": url }));
        send(&server, &users.iter().map(of).collect::<Vec<_>>());
    }
    settled(&server);
    drop(server.stop());
    ncmec.plan(plan(seed));

    let mut points: Vec<&str> = POINTS.iter().cycle().take(POINTS.len() * ROUNDS).copied().collect();
    points.shuffle(&mut rng);
    let mut killed = BTreeMap::<&str, usize>::new();
    let each = FILINGS / points.len() + 1;
    for point in &points {
        let kill = format!("{point}:{}", rng.random_range(1..=4));
        // What waits is filed at once: it may be killed before it says that it is ready.
        let mut server = match at(&data, &ncmec, Some(&kill)).try_start() {
            Ok(server) => server,
            Err(words) => {
                assert!(words.contains(&format!("failpoint {point} hit")), "{kill}: {words}");
                *killed.entry(point).or_default() += 1;
                continue;
            }
        };
        decide(&server.http, each, &more);
        let deadline = Instant::now() + Duration::from_secs(60);
        while server.runs() {
            assert!(Instant::now() < deadline, "it is never killed at {kill}: {}", server.log());
            decide(&server.http, 1, &more);
            std::thread::sleep(Duration::from_millis(20));
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while !server.log().contains(&format!("failpoint {point} hit")) {
            assert!(Instant::now() < deadline, "{kill}: it ended otherwise: {}", server.log());
        }
        *killed.entry(point).or_default() += 1;
        drop(server.kill());
    }
    assert!(killed.len() == POINTS.len() && killed.values().all(|times| *times == ROUNDS), "{killed:?}");

    let server = at(&data, &ncmec, None).start();
    while census(&server, "decisions") < FILINGS as u64 {
        decide(&server.http, FILINGS, &more).expect("nobody kills it now");
    }
    let deadline = Instant::now() + Duration::from_secs(180);
    while census(&server, "filings") > census(&server, "filings_held") {
        assert!(Instant::now() < deadline, "{}\n{}", sound(&server), server.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    check(&server, &ncmec, killed.values().sum());
}

fn check(server: &Server, ncmec: &Ncmec, killed: usize) {
    let (filed, held) = (census(server, "filed"), census(server, "filings_held"));
    assert_eq!(filed + held, FILINGS as u64, "a job is lost");
    let finished = ncmec.finished(Environment::Test);
    for (user, reports) in &finished {
        assert_eq!(reports.len(), 1, "{user} was reported more than once: {reports:?}");
    }
    let (_, list) = server.http.get("/api/v1/cybertips?limit=1000");
    let tips = list["entries"].as_array().unwrap_or_else(|| panic!("{list}"));
    assert_eq!(tips.len(), FILINGS);
    for tip in tips {
        let user = tip["user"]["id"].as_str().unwrap();
        match tip["held"]["cause"].as_str() {
            None => assert_eq!(finished[user], [tip["filed"]["report_id"].as_i64().unwrap()], "{tip}"),
            Some(cause) => assert!(CAUSES.contains(&cause), "{tip}"),
        }
    }
    assert!(finished.len() as u64 >= filed);
    assert!(filed * 100 >= FILINGS as u64 * 98, "{filed} of {FILINGS} were filed unattended");
    let calls = ncmec.calls().len();
    println!(
        "{FILINGS} filings, killed {killed} times at {} places, {calls} calls: {filed} filed, once each, {held} held",
        POINTS.len()
    );
}
