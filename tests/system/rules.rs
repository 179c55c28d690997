//! Rules from outside: what they do, what is logged of them, whom they tell.

use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use image::ImageFormat;
use serde_json::{Value, json};
use tests::{Platform, Setup};

use crate::banks::random_hashes;
use crate::items::{hashed, png, post, rule, send, settled, signed, sound, with};

#[test]
fn rules_act_when_live_are_logged_in_the_background_and_keep_their_versions() {
    let server = with(Setup::default());
    server.create_bank("KNOWN");
    let hash = random_hashes(33, 1)[0];
    server.add_pdq("KNOWN", &hash);
    let when = json!({ "conjunction": "AND", "conditions": [
        { "hash_match": { "banks": ["KNOWN"], "distance_max": 15 } },
        { "field": "likes", "comparator": "GREATER_THAN", "value": 10 }
    ] });
    let written = |state: &str| {
        json!({ "kind": "proactive", "state": state, "when": when, "by": "ben",
        "actions": [{ "enqueue": { "queue": "popular" } }] })
    };
    assert_eq!(rule(&server, "popular", written("background"))["version"], 1);
    let item = |id: &str, likes: u64| post(id, "u", json!({ "likes": likes, "gallery": [hashed(&hash)] }));
    send(&server, &[item("1", 50), item("2", 5)]);
    settled(&server);
    assert_eq!((server.jobs("popular").len(), server.jobs("default").len()), (0, 2));
    let logged = |at: usize| server.http.get("/api/v1/evaluations").1["entries"][at].clone();
    let results: Vec<Value> = (0..2).map(|at| logged(at)["results"].clone()).collect();
    assert!(results.contains(&json!("Bp:pp")) && results.contains(&json!("Bf:-f")), "{results:?}");
    let table = &server.http.get(&format!("/api/v1/rule-tables/{}", logged(0)["table"])).1;
    assert_eq!(table["rules"], json!([["popular", 1]]));

    // Before it goes live: what would it have done?
    let (status, replayed) =
        server.http.post("/api/v1/rules/replay", &json!({ "name": "popular", "days": 1 }));
    assert_eq!(status, 200, "{replayed}");
    assert_eq!(
        (&replayed["hits"], &replayed["passed"], &replayed["failed"]),
        (&json!(2), &json!(1), &json!(1))
    );
    assert_eq!(
        (&replayed["banks"]["KNOWN"], &replayed["samples"][0]["item"]["id"]),
        (&json!(1), &json!("1"))
    );
    let draft = json!({ "rule": { "queue": "q", "banks": ["KNOWN"] } });
    assert_eq!(server.http.post("/api/v1/rules/replay", &draft).1["passed"], 2);

    assert_eq!(rule(&server, "popular", written("live"))["version"], 2);
    assert_eq!(rule(&server, "popular", written("live"))["version"], 2, "the same again is no version");
    send(&server, &[item("3", 50), item("4", 5)]);
    settled(&server);
    let subjects = |queue: &str| -> Vec<Value> {
        server.jobs(queue).iter().map(|job| job["subject"]["id"].clone()).collect()
    };
    assert_eq!(subjects("popular"), [json!("3")]);
    let shown = server.http.get("/api/v1/rules/popular").1;
    assert_eq!(rule(&server, "popular", shown)["version"], 2, "what is shown is taken back as it is");
    // Its end is in the past: it does nothing, and says so.
    let mut over = written("live");
    over["expires"] = json!("2020-01-01T00:00:00Z");
    let shown = rule(&server, "popular", over);
    assert_eq!(
        (&shown["version"], &shown["state"], &shown["state_now"]),
        (&json!(3), &json!("live"), &json!("expired"))
    );
    send(&server, &[item("5", 50)]);
    settled(&server);
    assert_eq!(subjects("popular"), [json!("3")]);
    let versions = server.http.get("/api/v1/rules/popular/versions").1;
    let states: Vec<&Value> = versions.as_array().unwrap().iter().map(|version| &version["state"]).collect();
    assert_eq!(states, ["background", "live", "live"]);
    assert_eq!(versions[1]["changed_by"], "ben");
    // What a rule names is not taken away under it; a rule that is taken out keeps its versions.
    assert_eq!(server.http.delete("/api/v1/queues/popular").0, 404, "it has no settings of its own");
    assert_eq!(server.http.delete("/api/v1/rules/popular").0, 200);
    assert_eq!(server.http.get("/api/v1/rules/popular/versions").1.as_array().unwrap().len(), 4);
}

#[test]
fn the_first_routing_rule_that_holds_decides_also_what_uploaders_are_told() {
    let server = with(Setup::default());
    server.create_bank("KNOWN");
    let hash = random_hashes(34, 1)[0];
    server.add_pdq("KNOWN", &hash);
    let verdict = || {
        let query = ingest::wire::Query::pdq(vec![hash]);
        server.client().lookup(query).unwrap().hits[0].verdict
    };
    assert_eq!(verdict(), 2, "review, where no rule says otherwise");
    rule(&server, "late", json!({ "order": 2, "banks": ["KNOWN"], "queue": "late", "verdict": "log" }));
    assert_eq!(verdict(), 1);
    rule(&server, "early", json!({ "order": 1, "banks": ["KNOWN"], "queue": "early", "verdict": "block" }));
    assert_eq!(verdict(), 3, "a change of rules is seen by the next lookup");
    send(&server, &[post("1", "u", json!({ "gallery": [hashed(&hash)] }))]);
    settled(&server);
    assert_eq!((server.jobs("early").len(), server.jobs("late").len()), (1, 0));
    // A rule says where its jobs stand, too.
    let urgent = json!([{ "enqueue": { "queue": "early", "priority": 9 } }]);
    let author = json!({ "input": "author", "comparator": "EQUALS", "value": "vip" });
    rule(&server, "urgent", json!({ "order": 0, "when": author, "actions": urgent }));
    send(&server, &[post("2", "vip", json!({ "gallery": [hashed(&hash)] }))]);
    settled(&server);
    let order: Vec<Value> = server.jobs("early").iter().map(|job| job["subject"]["id"].clone()).collect();
    assert_eq!(order, [json!("2"), json!("1")]);
    for (name, says) in [("x", "there is no bank 'NO'"), ("%20x", "is not a name")] {
        let (status, answer) =
            server.http.put(&format!("/api/v1/rules/{name}"), &json!({ "queue": "q", "banks": ["NO"] }));
        assert!(status == 400 && answer["message"].as_str().unwrap().contains(says), "{answer}");
    }
}

#[test]
fn a_webhook_is_told_until_it_understands_signed_and_under_one_id() {
    let platform = Platform::start();
    let server = with(Setup::default().flag("--signing-key-file", Platform::key_file().display()));
    server.create_bank("KNOWN");
    server.create_bank("GROWS");
    let hash = random_hashes(35, 1)[0];
    server.add_pdq("KNOWN", &hash);
    let hook = json!({ "url": platform.url("hook/1") });
    assert_eq!(server.http.put("/api/v1/webhooks/platform", &hook).0, 200);
    let actions = json!([{ "webhook": { "name": "platform" } }, { "add_to_bank": { "bank": "GROWS" } }]);
    rule(&server, "tell", json!({ "kind": "proactive", "banks": ["KNOWN"], "actions": actions }));
    rule(&server, "again", json!({ "kind": "proactive", "banks": ["KNOWN"], "actions": actions }));
    platform.fail("/hook", &[500, 0]);
    let (near, stranger) = (tests::flipped(&hash, 5, 1), random_hashes(39, 1)[0]);
    send(&server, &[post("1", "u", json!({ "gallery": [hashed(&near), hashed(&stranger)] }))]);
    let asked = platform.wait("/hook", 3);
    asked.iter().for_each(signed);
    assert!(
        asked
            .iter()
            .all(|one| one.headers["webhook-id"] == asked[0].headers["webhook-id"]
                && one.body == asked[0].body)
    );
    let told = asked[0].json();
    assert_eq!(told["item"], json!({ "id": "1", "typeId": "post", "typeName": "post" }));
    assert_eq!((&told["matches"][0]["bank"], &told["matches"][0]["distance"]), (&json!("KNOWN"), &json!(5)));
    assert_eq!(told["rules"].as_array().unwrap().len(), 2, "told once, for both rules");
    settled(&server);
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let (_, left) = server.http.get("/api/v1/deliveries");
        if left == json!({ "waiting": [], "given_up": [], "bank_additions": [] }) {
            break;
        }
        assert!(Instant::now() < deadline, "{left}");
        thread::sleep(Duration::from_millis(20));
    }
    let answer = server.client().lookup(ingest::wire::Query::pdq(vec![near])).unwrap();
    let banks: Vec<&str> = answer.hits[0].matches.iter().map(|found| found.bank_name.as_str()).collect();
    assert_eq!(banks, ["GROWS", "KNOWN"]);
    let grown = &server.http.get("/api/v1/banks/GROWS").1["contents"];
    assert_eq!(grown, 1, "what matched, once for both rules");
    assert_eq!(server.http.delete("/api/v1/webhooks/platform").0, 409, "rules name it");
}

#[test]
fn without_a_key_nothing_is_sent_and_what_waits_says_so() {
    let platform = Platform::start();
    let server = with(Setup::default());
    let hook = json!({ "url": platform.url("hook") });
    assert_eq!(server.http.put("/api/v1/webhooks/platform", &hook).0, 200);
    let when = json!({ "field": "text", "comparator": "CONTAINS", "value": "WORDS" });
    rule(
        &server,
        "tell",
        json!({ "kind": "proactive", "when": when, "actions": [{ "webhook": { "name": "platform" } }] }),
    );
    send(&server, &[post("1", "u", json!({}))]);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (_, left) = server.http.get("/api/v1/deliveries");
        if left["waiting"][0]["trouble"].as_str().is_some_and(|why| why.contains("--signing-key-file")) {
            break;
        }
        assert!(Instant::now() < deadline, "{left}");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(platform.asked("/hook").len(), 0);
}

#[test]
fn the_classifier_is_asked_where_a_rule_hangs_on_it_and_waited_for() {
    let platform = Platform::start();
    let setup = Setup::default()
        .flag("--content-safety-url", platform.url(""))
        .env("HASHWARD_CONTENT_SAFETY_KEY", "a secret of the classifier");
    let server = with(setup);
    let likes = json!({ "field": "likes", "comparator": "GREATER_THAN", "value": 10 });
    let safety = json!({ "content_safety": { "at_least": "HIGH" } });
    let when = json!({ "conjunction": "AND", "conditions": [safety, likes] });
    rule(
        &server,
        "novel",
        json!({ "kind": "proactive", "when": when, "actions": [{ "enqueue_ncmec": {} }] }),
    );
    let url = platform.put("picture", "image/png", &png(5));
    platform.classify_as("VERY_HIGH");
    platform.fail("/v1beta1", &[503]);
    let item = |id: &str, likes: u64| post(id, id, json!({ "cover": url, "likes": likes }));
    send(&server, &[item("1", 50), item("2", 5)]);
    settled(&server);
    let jobs = server.jobs("ncmec");
    assert_eq!((jobs.len(), &jobs[0]["subject"]["id"]), (1, &json!("1")));
    let asked = platform.asked("/v1beta1/images:classify");
    assert_eq!(asked.len(), 2, "once for nothing, once with an answer; not for whom nothing hangs on it");
    assert_eq!(asked[1].headers["x-goog-api-key"], "a secret of the classifier");
    let image = BASE64_STANDARD.decode(asked[1].json()["images"][0].as_str().unwrap()).unwrap();
    assert_eq!(image::guess_format(&image).unwrap(), ImageFormat::Jpeg);
    assert!(!server.log().contains("a secret of the classifier"));
    platform.classify_as("MEDIUM");
    send(&server, &[item("3", 50)]);
    settled(&server);
    assert_eq!(server.jobs("ncmec").len(), 1);
}

#[test]
fn a_trusted_bank_decides_alone_only_after_somebody_switched_that_on() {
    let server = with(Setup::default());
    server.create_bank("SURE");
    let hash = random_hashes(36, 1)[0];
    server.add_pdq("SURE", &hash);
    let incident = "Child Pornography (possession, manufacture, and distribution)";
    let actions = json!([{ "decide": { "incident_type": incident } }]);
    rule(&server, "alone", json!({ "banks": ["SURE"], "actions": actions }));
    send(&server, &[post("1", "u1", json!({ "gallery": [hashed(&hash)] }))]);
    settled(&server);
    assert_eq!(server.jobs("ncmec").len(), 1, "off: people decide");
    assert_eq!(server.http.get("/api/v1/filings").1, json!([]));

    let trust = |body: Value| server.http.put("/api/v1/settings/trusted-banks", &body);
    assert_eq!(trust(json!({ "banks": ["SURE"] })).0, 400, "nobody says who");
    assert_eq!(trust(json!({ "banks": ["NO"], "by": "ada" })).0, 400);
    assert_eq!(trust(json!({ "banks": ["SURE"], "by": "ada" })).1["trusted_by"], "ada");
    send(
        &server,
        &[
            post("2", "u2", json!({ "gallery": [hashed(&hash)] })),
            post("3", "u1", json!({ "gallery": [hashed(&hash)] })),
        ],
    );
    settled(&server);
    let jobs = server.jobs("ncmec");
    assert_eq!((jobs.len(), &jobs[0]["subject"]["id"]), (1, &json!("u1")), "what people began stays theirs");
    let filings = server.http.get("/api/v1/filings").1;
    assert_eq!((filings.as_array().unwrap().len(), &filings[0]["user"]["id"]), (1, &json!("u2")));
    let job = server.http.get(&format!("/api/v1/jobs/{}", filings[0]["job"])).1;
    let decision = &job["decision"];
    assert_eq!(
        decision["by"],
        json!({ "automatic": { "rule": "alone", "rule_version": 1, "bank": "SURE" } })
    );
    let media = &decision["report"]["media"][0];
    assert_eq!(
        (&media["viewed"], &media["classification"]),
        (&json!(false), &json!("Unclassified")),
        "{decision}"
    );
    sound(&server);
}

#[test]
fn a_rule_that_names_ncmecs_queue_makes_an_ncmec_job_without_a_second_step() {
    let server = with(Setup::default());
    server.create_bank("KNOWN");
    let hash = random_hashes(37, 1)[0];
    server.add_pdq("KNOWN", &hash);
    rule(&server, "csam", json!({ "banks": ["KNOWN"], "queue": "ncmec" }));
    send(&server, &[post("1", "u", json!({ "gallery": [hashed(&hash)] }))]);
    let context = index::UploadContext { creator: Some("v".into()), ..Default::default() };
    let query = ingest::wire::Query::pdq(vec![hash]);
    server.client().submit(index::RequestId::fresh(), query, vec![(0, context)]).unwrap();
    settled(&server);
    let users: Vec<Value> = server.jobs("ncmec").iter().map(|job| job["subject"].clone()).collect();
    assert_eq!(users.len(), 2);
    for user in ["u", "v"] {
        assert!(users.contains(&json!({ "id": user, "typeId": "user" })), "{users:?}");
    }
    // Nor is a review job moved there by hand: it would be reported by nobody.
    rule(&server, "csam", json!({ "banks": ["KNOWN"], "queue": "review" }));
    send(&server, &[post("2", "w", json!({ "gallery": [hashed(&hash)] }))]);
    settled(&server);
    let job = &server.jobs("review")[0];
    let (status, answer) =
        server.http.post(&format!("/api/v1/jobs/{}/move", job["id"]), &json!({ "queue": "ncmec" }));
    assert!(status == 409 && answer["message"].as_str().unwrap().contains("enqueue to NCMEC"), "{answer}");
}

#[test]
fn many_pictures_are_classified_in_few_requests() {
    let platform = Platform::start();
    let setup = Setup::default()
        .flag("--content-safety-url", platform.url(""))
        .env("HASHWARD_CONTENT_SAFETY_KEY", "key");
    let server = with(setup);
    let when = json!({ "content_safety": { "at_least": "VERY_HIGH" } });
    rule(
        &server,
        "novel",
        json!({ "kind": "proactive", "when": when, "actions": [{ "enqueue": { "queue": "novel" } }] }),
    );
    let url = platform.put("picture", "image/png", &png(5));
    let items: Vec<Value> = (0..48).map(|at| post(&format!("{at}"), "u", json!({ "cover": url }))).collect();
    send(&server, &items);
    settled(&server);
    let requests = platform.asked("/v1beta1");
    let images: usize = requests.iter().map(|asked| asked.json()["images"].as_array().unwrap().len()).sum();
    assert_eq!(images, 48);
    assert!(requests.len() <= 24, "{} requests for 48 pictures", requests.len());
    assert!(requests.iter().all(|asked| asked.json()["images"].as_array().unwrap().len() <= 32));
}
