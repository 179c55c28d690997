//! kill -9 at every place between intake, hit, routing, job and decision: what was acknowledged is there, once, and
//! everything is in one right place.
//!
//! The program under test has the places built in (cargo feature `failpoints`) and says when it dies at one. Seeds are
//! printed; `HASHWARD_SEED` plays one again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use index::Hash256;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tests::{Http, Platform, Server, Setup, Unanswered};

use crate::banks::random_hashes;
use crate::items::{describe, hashed, png, post, rule, settled, sound};

/// Every place, in the order of the data's way.
const POINTS: [&str; 17] = [
    "items-read",
    "items-stored",
    "report-read",
    "report-stored",
    "desk-before-commit",
    "desk-after-commit",
    "intake-before-log",
    "ledger-before-commit",
    "ledger-after-commit",
    "intake-logged",
    "intake-found-out",
    "job-lent",
    "job-escalated",
    "decision-read",
    "decision-stored",
    "webhook-told",
    "bank-added",
];
/// Rounds at each, at least; items that are sent at a time, and that are taken in the end at least.
const ROUNDS: usize = 2;
const ITEMS: usize = 32;
const ITEMS_TAKEN: usize = 1000;

/// What the platform knows it has sent, and what of it was acknowledged.
#[derive(Default)]
struct Sent {
    items: usize,
    /// Acknowledged: whether it matches, whether its webhook is told.
    taken: BTreeMap<String, (bool, bool)>,
    /// How often an item was sent without an answer.
    unanswered: BTreeMap<String, u64>,
    /// To be sent again: path and body.
    unknown: Vec<(String, Value)>,
    reports: BTreeSet<String>,
    /// Decided jobs.
    decided: BTreeMap<u64, Value>,
}

impl Sent {
    /// Sends something that may be sent again; keeps it for later if no answer came.
    fn post(&mut self, http: &Http, path: &str, body: Value) -> Option<Value> {
        let (status, answer) = match http.try_post(path, &body) {
            Ok(answer) => answer,
            Err(unanswered) => {
                let items = body["items"].as_array().into_iter().flatten().chain([&body["reportedItem"]]);
                for id in items.filter_map(|item| item["id"].as_str()) {
                    let times = self.unanswered.entry(id.to_string()).or_default();
                    *times += u64::from(unanswered == Unanswered::Unknown);
                }
                self.unknown.push((path.to_string(), body));
                return None;
            }
        };
        match (path.rsplit('/').next(), status) {
            (Some("report"), 201) => drop(self.reports.insert(answer["reportId"].to_string())),
            (Some("decision"), 200) => {
                drop(self.decided.insert(answer["job"].as_u64().unwrap(), answer.clone()))
            }
            // Decided or lent otherwise since it was sent; what is true is compared in the end.
            (Some("decision" | "ncmec"), 404 | 409) => {}
            (Some("ncmec"), 200) => {}
            (Some("async"), 202) => {
                for item in body["items"].as_array().unwrap() {
                    let is = |word: &str| item["data"]["text"].as_str().unwrap().contains(word);
                    self.taken.insert(item["id"].as_str().unwrap().to_string(), (is("match"), is("tell")));
                }
            }
            _ => panic!("{path}: {status} {answer}"),
        }
        Some(answer)
    }
}

/// One piece of a platform's day.
fn play(server: &Server, sent: &mut Sent, rng: &mut ChaCha8Rng, hashes: &[Hash256], urls: &[String]) {
    let http = &server.http;
    for (path, body) in std::mem::take(&mut sent.unknown) {
        sent.post(http, &path, body);
    }
    let mut item = |sent: &mut Sent| {
        sent.items += 1;
        let user = format!("u{}", rng.random_range(0..40));
        let hash = hashes.choose(rng).unwrap();
        let (words, data) = match rng.random_range(0..10) {
            0..4 => {
                ("match tell", json!({ "gallery": [hashed(&tests::flipped(hash, 4, sent.items as u64))] }))
            }
            4..6 => ("clean", json!({ "gallery": [hashed(&random_hashes(sent.items as u64, 1)[0])] })),
            6 => ("match", json!({ "cover": urls[0] })),
            7 => ("clean", json!({ "cover": urls[1] })),
            _ => ("words tell", json!({})),
        };
        let mut item = post(&format!("i{}", sent.items), &user, data);
        item["data"]["text"] = json!(words);
        item
    };
    for _ in 0..4 {
        let items: Vec<Value> = (0..ITEMS / 4).map(|_| item(sent)).collect();
        sent.post(http, "/api/v1/items/async", json!({ "items": items }));
    }
    for csam in [true, false] {
        let report = json!({ "reporter": { "kind": "user", "typeId": "user", "id": "r" },
            "reportedItem": item(sent), "reportedForReason": { "csam": csam } });
        sent.post(http, "/api/v1/report", report);
    }
    for queue in ["ncmec", "default"].into_iter().cycle().take(10) {
        review(http, sent, queue);
    }
}

/// A reviewer takes a job and decides it, or makes it an NCMEC job.
fn review(http: &Http, sent: &mut Sent, queue: &str) {
    let asked = http.try_post(&format!("/api/v1/queues/{queue}/next"), &json!({ "reviewer": "anna" }));
    let Ok((200, job)) = asked else { return };
    let path = format!("/api/v1/jobs/{}", job["id"]);
    if job["kind"] == "review" && job["id"].as_u64().unwrap() % 2 == 0 {
        let body = json!({ "reviewer": "anna", "lease": job["lease"]["token"] });
        sent.post(http, &format!("{path}/ncmec"), body);
        return;
    }
    let mut body = json!({ "lease": job["lease"]["token"], "revision": job["revision"], "decision": "ignore",
        "request": format!("of job {}", job["id"]) });
    if job["kind"] == "ncmec" && job["media"] != json!(0) {
        let media: Vec<Value> = (1..=job["media"].as_u64().unwrap())
            .map(|number| json!({ "media": number, "classification": "B1", "viewed": true }))
            .collect();
        body["decision"] = json!("report");
        body["incident_type"] = json!("Child Sex Tourism");
        body["media"] = json!(media);
    }
    sent.post(http, &format!("{path}/decision"), body);
}

fn setup(data: &std::path::Path, kill: Option<String>) -> Setup {
    let setup = Setup::default()
        .data(data)
        .killed_often()
        .flag("--fetch-allow", "127.0.0.1/32")
        .flag("--signing-key-file", Platform::key_file().display());
    kill.into_iter().fold(setup, |setup, kill| setup.env("HASHWARD_KILL_AT", kill))
}

/// Banks and rules: uploads of every second user go to NCMEC, what matches grows a bank, some words are told.
fn set_up(server: &Server, platform: &Platform) {
    describe(server);
    server.create_bank("KNOWN");
    server.create_bank("GROWS");
    assert_eq!(server.http.upload("/c/bank/KNOWN/content", "photo", &png(3)).0, 200);
    server.http.put("/api/v1/webhooks/platform", &json!({ "url": platform.url("hook") }));
    let tell = json!({ "field": "text", "comparator": "CONTAINS", "value": "tell" });
    let actions = json!([{ "webhook": { "name": "platform" } }]);
    rule(server, "tell", json!({ "kind": "proactive", "when": tell, "actions": actions }));
    let grow = json!([{ "add_to_bank": { "bank": "GROWS" } }]);
    rule(server, "grow", json!({ "kind": "proactive", "banks": ["KNOWN"], "actions": grow }));
    let even = json!({ "input": "author", "comparator": "MATCHES", "value": "[02468]$" });
    let both =
        json!({ "conjunction": "AND", "conditions": [even, { "hash_match": { "banks": ["KNOWN"] } }] });
    rule(server, "csam", json!({ "when": both, "actions": [{ "enqueue_ncmec": {} }] }));
}

#[test]
fn whatever_was_acknowledged_is_in_one_right_place_wherever_the_program_was_killed() {
    let given = std::env::var("HASHWARD_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = given.unwrap_or_else(|| index::RequestId::fresh().born_ms());
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (platform, folder) = (Platform::start(), tempfile::tempdir().unwrap());
    let data = folder.path().join("data");
    let hashes = random_hashes(seed, 8);
    let urls = [platform.put("known", "image/png", &png(3)), platform.put("other", "image/png", &png(4))];
    let (mut sent, mut killed) = (Sent::default(), BTreeMap::<&str, usize>::new());
    let server = setup(&data, None).start();
    set_up(&server, &platform);
    hashes.iter().for_each(|hash| assert!(server.add_pdq("KNOWN", hash) > 0));
    drop(server.stop());
    // A round that is killed before anything is sent takes no items: how many there are depends on how fast it was. Then it
    // goes on until there are enough.
    for (round, point) in POINTS.iter().cycle().enumerate() {
        if round >= POINTS.len() * ROUNDS && sent.taken.len() >= ITEMS_TAKEN {
            break;
        }
        assert!(round < 4 * POINTS.len() * ROUNDS, "only {} items in {round} rounds", sent.taken.len());
        let kill = format!("{point}:{}", rng.random_range(1..=3));
        // What waits is worked on at once: it may be killed before it says that it is ready.
        let mut server = match setup(&data, Some(kill.clone())).try_start() {
            Ok(server) => server,
            Err(words) => {
                assert!(words.contains(&format!("failpoint {point} hit")), "{kill}: {words}");
                *killed.entry(point).or_default() += 1;
                continue;
            }
        };
        if rng.random_bool(0.3) {
            platform.fail("/media", &[503]);
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while server.runs() {
            assert!(Instant::now() < deadline, "it is never killed at {kill}: {}", server.log());
            play(&server, &mut sent, &mut rng, &hashes, &urls);
        }
        server.wait();
        let deadline = Instant::now() + Duration::from_secs(5);
        while !server.log().contains(&format!("failpoint {point} hit")) {
            assert!(Instant::now() < deadline, "{kill}: it ended otherwise: {}", server.log());
        }
        *killed.entry(point).or_default() += 1;
        drop(server.kill());
    }
    let server = setup(&data, None).start();
    while !sent.unknown.is_empty() {
        for (path, body) in std::mem::take(&mut sent.unknown) {
            sent.post(&server.http, &path, body);
        }
    }
    settled(&server);
    told(&server);
    check(&server, &platform, &sent);
    assert!(killed.len() == POINTS.len() && killed.values().all(|times| *times >= ROUNDS), "{killed:?}");
    println!(
        "{} items, {} reports, {} decisions; killed {} times at {} places, {} items sent again because no answer came: all in one place",
        sent.taken.len(),
        sent.reports.len(),
        sent.decided.len(),
        killed.values().sum::<usize>(),
        killed.len(),
        sent.unanswered.values().filter(|times| **times > 0).count()
    );
}

/// Waits until everybody has been told and every bank has what was to be added.
fn told(server: &Server) {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let (_, deliveries) = server.http.get("/api/v1/deliveries");
        assert_eq!(deliveries["given_up"], json!([]));
        if deliveries["waiting"] == json!([]) && deliveries["bank_additions"] == json!([]) {
            return;
        }
        assert!(Instant::now() < deadline, "{deliveries}\n{}", server.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn check(server: &Server, platform: &Platform, sent: &Sent) {
    let census = sound(server);
    assert_eq!(
        (&census["waiting"], &census["hits_waiting"], &census["hits_ahead"]),
        (&json!(0), &json!(0), &json!(0))
    );
    // A file matches by each type of signal that its bank has of it.
    let mut hits: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for hit in server.pages("/api/v1/hits") {
        let word = |value: &Value| value.as_str().unwrap().to_string();
        let of = hits.entry(word(&hit["context"]["item_id"])).or_default();
        *of.entry(word(&hit["signal_type"])).or_default() += 1;
    }
    let told: BTreeSet<String> = platform
        .asked("/hook")
        .iter()
        .map(|asked| asked.json()["item"]["id"].as_str().unwrap().to_string())
        .collect();
    for (id, (matches, tells)) in &sent.taken {
        let (status, item) = server.http.get(&format!("/api/v1/items?typeId=post&id={id}"));
        assert_eq!(status, 200, "{id} was taken and is not there");
        let media = item["media"].as_array().into_iter().flatten();
        media.for_each(|media| assert_eq!(media["screening"]["state"], "done", "{item}"));
        let times = hits.get(id).and_then(|of| of.values().max()).copied().unwrap_or(0);
        // What the platform sent again, because it could not know, may have come again.
        let most = 1 + sent.unanswered.get(id).copied().unwrap_or(0);
        let expected = if *matches { 1..=most } else { 0..=0 };
        assert!(expected.contains(&times), "{id} has {times} hits of a type, {expected:?} expected");
        assert!(!tells || told.contains(id), "nobody was told of {id}");
    }
    for (job, decision) in &sent.decided {
        let (_, shown) = server.http.get(&format!("/api/v1/jobs/{job}"));
        assert_eq!(&shown["decision"], decision, "a decision was acknowledged and is another");
    }
    let filings = server.http.get("/api/v1/filings").1;
    let filed: BTreeSet<u64> =
        filings.as_array().unwrap().iter().map(|filing| filing["job"].as_u64().unwrap()).collect();
    assert_eq!(filed.len(), filings.as_array().unwrap().len(), "a job is reported twice");
    for (job, _) in sent.decided.iter().filter(|(_, decision)| decision["kind"] == "report") {
        assert!(filed.contains(job), "job {job} was decided and is not reported");
    }
}
