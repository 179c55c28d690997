//! Jobs, reviewers and decisions.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Platform, Server, Setup};

use crate::banks::random_hashes;
use crate::items::{hashed, post, rule, send, settled, sound, with};

const INCIDENT: &str = "Child Pornography (possession, manufacture, and distribution)";

/// A server whose rule sends what matches to NCMEC, and hashes that match.
fn to_ncmec(seed: u64, count: usize) -> (Server, Vec<index::Hash256>) {
    let server = with(Setup::default());
    server.create_bank("KNOWN");
    let hashes = random_hashes(seed, count);
    for hash in &hashes {
        server.add_pdq("KNOWN", hash);
    }
    rule(&server, "csam", json!({ "banks": ["KNOWN"], "actions": [{ "enqueue_ncmec": {} }] }));
    (server, hashes)
}

fn next(server: &Server, queue: &str, reviewer: &str) -> Option<Value> {
    let (status, job) =
        server.http.post(&format!("/api/v1/queues/{queue}/next"), &json!({ "reviewer": reviewer }));
    assert!(status == 200 || status == 204, "{job}");
    (status == 200).then_some(job)
}

fn act(server: &Server, job: &Value, what: &str, body: Value) -> (u16, Value) {
    server.http.post(&format!("/api/v1/jobs/{}/{what}", job["id"]), &body)
}

fn media(server: &Server, job: &Value) -> Vec<Value> {
    server.pages(&format!("/api/v1/jobs/{}/media", job["id"]))
}

/// A decision to report, with these fields besides.
fn report(job: &Value, media: Value, more: Value) -> Value {
    let mut body = json!({ "decision": "report", "lease": job["lease"]["token"], "revision": job["revision"],
        "incident_type": INCIDENT, "media": media });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn two_hundred_reviewers_never_share_a_job_and_the_oldest_goes_first() {
    let server = with(Setup::default());
    server.create_bank("KNOWN");
    let hashes = random_hashes(41, 300);
    for hash in &hashes {
        server.add_pdq("KNOWN", hash);
    }
    let items: Vec<Value> = hashes
        .iter()
        .enumerate()
        .map(|(at, hash)| post(&format!("{at}"), "u", json!({ "gallery": [hashed(hash)] })))
        .collect();
    send(&server, &items[..150]);
    settled(&server);
    send(&server, &items[150..]);
    settled(&server);
    let first: BTreeSet<u64> =
        server.jobs("default").iter().take(200).map(|job| job["id"].as_u64().unwrap()).collect();
    let lent: Vec<u64> = thread::scope(|scope| {
        let asking: Vec<_> = (0..200)
            .map(|number| {
                let server = &server;
                scope.spawn(move || {
                    next(server, "default", &format!("r{number}")).unwrap()["id"].as_u64().unwrap()
                })
            })
            .collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    let different: BTreeSet<u64> = lent.iter().copied().collect();
    assert_eq!(different.len(), 200, "two reviewers share a job");
    assert_eq!(different, first, "somebody was given a job before its turn");
    // Who asks again has what they have; it survives a crash.
    let server = server.kill().restart();
    assert_eq!(next(&server, "default", "r7").unwrap()["id"], lent[7]);
    assert_eq!(server.jobs("default").len(), 100);
    let (status, answer) = server.http.post("/api/v1/queues/defautl/next", &json!({ "reviewer": "r" }));
    assert!(status == 404 && answer["message"] == "there is no queue 'defautl'", "{answer}");
    let census = sound(&server);
    assert_eq!(census["open"], 300);
}

#[test]
fn a_lease_ends_a_job_is_skipped_moved_and_commented() {
    let (server, hashes) = to_ncmec(42, 3);
    rule(&server, "review", json!({ "order": 0, "banks": ["KNOWN"], "queue": "first" }));
    assert_eq!(
        server.http.put("/api/v1/queues/first", &json!({ "description": "d", "lease_seconds": 5 })).0,
        200
    );
    let items: Vec<Value> =
        (0..2).map(|at| post(&format!("{at}"), "u", json!({ "gallery": [hashed(&hashes[at])] }))).collect();
    items.iter().for_each(|item| {
        send(&server, std::slice::from_ref(item));
        settled(&server);
    });
    let job = next(&server, "first", "anna").unwrap();
    let lease = json!({ "lease": job["lease"]["token"] });
    assert_eq!(act(&server, &job, "skip", json!({ "lease": "somebody's" })).0, 409);
    let (status, back) = act(&server, &job, "skip", lease.clone());
    assert!(status == 200 && back["lease"].is_null(), "{back}");
    let other = next(&server, "first", "anna").unwrap();
    assert_ne!(other["id"], job["id"], "what was skipped does not come again at once");
    assert_eq!(next(&server, "first", "ben").unwrap()["id"], job["id"], "others get it, first");
    assert!(next(&server, "first", "carl").is_none());
    thread::sleep(Duration::from_millis(5_200));
    assert_eq!(next(&server, "first", "carl").unwrap()["id"], job["id"], "a lease ends");
    let (status, answer) = act(
        &server,
        &other,
        "decision",
        json!({ "decision": "ignore", "lease": other["lease"]["token"], "revision": other["revision"] }),
    );
    assert_eq!(status, 409, "whose lease ended decides nothing: {answer}");

    let other = next(&server, "first", "dora").unwrap();
    assert_eq!(act(&server, &other, "move", json!({ "queue": "second" })).0, 409, "only who has it moves it");
    let (status, moved) =
        act(&server, &other, "move", json!({ "queue": "second", "lease": other["lease"]["token"] }));
    assert_eq!((status, &moved["queue"]), (200, &json!("second")));
    assert_eq!(act(&server, &moved, "priority", json!({ "priority": 9 })).1["priority"], 9);
    for text in ["one", "two"] {
        assert_eq!(act(&server, &moved, "comments", json!({ "reviewer": "dora", "text": text })).0, 201);
    }
    assert_eq!(act(&server, &moved, "comments", json!({ "reviewer": "dora", "text": " " })).0, 400);
    let comments = server.pages(&format!("/api/v1/jobs/{}/comments", moved["id"]));
    assert_eq!((comments.len(), &comments[1]["text"]), (2, &json!("two")));
    assert_eq!(server.http.delete("/api/v1/queues/first").0, 409, "it has a job");
    sound(&server);
}

#[test]
fn a_user_has_one_open_ncmec_job_with_all_their_media_and_what_comes_joins_it() {
    let (server, hashes) = to_ncmec(43, 3);
    let strangers = random_hashes(44, 3);
    // What is known of the user before, and the user's own picture.
    send(
        &server,
        &[
            post(
                "before",
                "u",
                json!({ "gallery": [hashed(&strangers[0])], "made": "2026-01-01T00:00:00Z" }),
            ),
            json!({ "id": "u", "typeId": "user", "data": { "face": hashed(&strangers[1]) } }),
            post("other", "v", json!({ "gallery": [hashed(&strangers[0])] })),
        ],
    );
    settled(&server);
    send(&server, &[post("1", "u", json!({ "gallery": [hashed(&strangers[2]), hashed(&hashes[0])] }))]);
    settled(&server);
    let job = next(&server, "ncmec", "anna").unwrap();
    assert_eq!((&job["subject"]["id"], &job["media"], &job["hits"]), (&json!("u"), &json!(4), &json!(1)));
    let listed = media(&server, &job);
    let of = |item: &str| listed.iter().filter(|media| media["item"]["id"] == item).collect::<Vec<_>>();
    assert_eq!((of("1").len(), of("before").len(), of("u").len(), of("other").len()), (2, 1, 1, 0));
    let matched: Vec<&Value> = listed
        .iter()
        .filter(|media| media["matches"].as_array().is_some_and(|found| !found.is_empty()))
        .collect();
    assert_eq!(
        (matched.len(), &matched[0]["matches"][0]["bank_name"], &matched[0]["reported"]),
        (1, &json!("KNOWN"), &json!(true))
    );
    assert!(matched[0]["reasons"][0].as_str().unwrap().contains("match in KNOWN"));
    assert!(of("before").iter().all(|media| media["reported"] == json!(false)));

    // More matches while it is open, also by a rule that names another queue: the same job, its reasons kept.
    rule(
        &server,
        "elsewhere",
        json!({ "order": 0, "banks": ["KNOWN"], "actions": [{ "enqueue_ncmec": { "queue": "other" } }] }),
    );
    send(
        &server,
        &[
            post("2", "u", json!({ "gallery": [hashed(&hashes[1])] })),
            post("3", "u", json!({ "gallery": [hashed(&strangers[2])] })),
        ],
    );
    settled(&server);
    assert_eq!((server.jobs("ncmec").len(), server.jobs("other").len()), (0, 0), "anna has the only one");
    let now = server.http.get(&format!("/api/v1/jobs/{}", job["id"])).1;
    assert_eq!((&now["media"], &now["hits"], &now["reasons_total"]), (&json!(6), &json!(2), &json!(2)));
    // Nobody decides on less than there is.
    let all: Vec<Value> =
        (1..=4).map(|number| json!({ "media": number, "classification": "A1", "viewed": true })).collect();
    let (status, answer) = act(&server, &job, "decision", report(&job, json!(all), json!({})));
    assert_eq!((status, &answer["revision"]), (409, &now["revision"]), "{answer}");
    let again = next(&server, "ncmec", "anna").unwrap();
    let all: Vec<Value> =
        (1..=6).map(|number| json!({ "media": number, "classification": "A1", "viewed": true })).collect();
    let body = report(&again, json!(all), json!({ "request": "0198-1" }));
    let (status, decision) = act(&server, &again, "decision", body.clone());
    assert_eq!(status, 200, "{decision}");
    assert_eq!(
        act(&server, &again, "decision", body.clone()),
        (200, decision.clone()),
        "the same request, the same decision"
    );
    let mut twice = body;
    twice["request"] = json!("0198-2");
    assert_eq!(act(&server, &again, "decision", twice).0, 409);
    let other = json!({ "decision": "ignore", "lease": again["lease"]["token"], "revision": again["revision"],
        "request": "0198-1" });
    assert_eq!(act(&server, &again, "decision", other).0, 409, "another decision under the same id");
    assert_eq!(decision["by"], json!({ "reviewer": { "name": "anna" } }));
    let filings = server.http.get("/api/v1/filings").1;
    assert_eq!(filings.as_array().unwrap().len(), 1, "{filings}");
    // After that, new content is a new job.
    send(&server, &[post("4", "u", json!({ "gallery": [hashed(&hashes[2])] }))]);
    settled(&server);
    assert_eq!((server.jobs("other").len(), &server.jobs("other")[0]["media"]), (1, &json!(7)));
    let server = server.kill().restart();
    assert_eq!(server.http.get("/api/v1/filings").1, filings, "a decision and its report survive a crash");
    sound(&server);
}

#[test]
fn what_a_report_must_have_is_checked_by_the_server() {
    let (server, hashes) = to_ncmec(45, 2);
    send(&server, &[post("1", "u", json!({ "gallery": [hashed(&hashes[0]), hashed(&hashes[1])] }))]);
    settled(&server);
    let job = next(&server, "ncmec", "anna").unwrap();
    let one = |class: &str| json!({ "media": 1, "classification": class, "viewed": true });
    let two = |class: &str| json!({ "media": 2, "classification": class, "viewed": true });
    let escalate = json!({ "escalate": " " });
    for (body, pointer, says) in [
        (
            report(&job, json!([one("A1")]), json!({})),
            "/media",
            "1 of 2 media are decided, 2 must be: not yet 2",
        ),
        (report(&job, json!([one("none"), two("none")]), json!({})), "/media", "nothing is reported"),
        (report(&job, json!([one("A1"), one("A1")]), json!({})), "/media/1/media", "decided twice"),
        (
            report(&job, json!([one("A1"), { "media": 9, "classification": "A1" }]), json!({})),
            "/media/1/media",
            "has no medium 9",
        ),
        (
            report(&job, json!([one("C1"), two("A1")]), json!({})),
            "/media/0/classification",
            "use one of A1, A2, B1, B2",
        ),
        (
            report(&job, json!([{ "media": 1 }, two("A1")]), json!({})),
            "/media/0/classification",
            "is missing",
        ),
        (
            report(&job, json!([{ "media": 1, "classification": "A1" }, two("A1")]), json!({})),
            "/media/0/classification",
            "not viewed",
        ),
        (
            report(&job, json!([{ "media": 1, "classification": "A1", "annotations": ["odd"] }]), json!({})),
            "/media/0/annotations/0",
            "use one of animeDrawingVirtualHentai",
        ),
        (report(&job, json!([one("A1"), two("A1")]), escalate), "/escalate", "is empty"),
        (
            report(&job, json!([one("A1"), two("A1")]), json!({ "incident_type": "Bad" })),
            "/incident_type",
            "use one of Child",
        ),
        (
            report(&job, json!([one("A1"), two("A1")]), json!({ "threads": [{ "id": "t", "typeId": "x" }] })),
            "/threads/0",
            "does not belong to the job",
        ),
    ] {
        let (status, answer) = act(&server, &job, "decision", body);
        assert_eq!((status, &answer["fields"][0]["pointer"]), (400, &json!(pointer)), "{answer}");
        assert!(answer["message"].as_str().unwrap().contains(says), "{answer}");
    }
    // A medium that cannot be opened stays in the list, and is left out by name.
    let unviewable = json!({ "media": 2, "unviewable": "the player shows nothing" });
    let labelled = json!({ "media": 1, "classification": "B2", "viewed": true, "annotations": ["viral", "infant", "viral"] });
    let more = json!({ "escalate": "a child is in danger", "additional_info": "seen today",
        "supplemental_files": [{ "url": "https://a.example/f", "file_name": "f.pdf" }], "contents": [{ "id": "1", "typeId": "post" }] });
    let (status, decision) =
        act(&server, &job, "decision", report(&job, json!([labelled, unviewable]), more));
    assert_eq!(status, 200, "{decision}");
    assert_eq!(decision["report"]["media"][0]["annotations"], json!(["viral", "infant"]));
    assert_eq!(decision["report"]["media"][1]["unviewable"], "the player shows nothing");
    assert_eq!(decision["report"]["escalate"], "a child is in danger");
}

#[test]
fn a_minimum_may_be_set_and_classes_may_be_off() {
    let (server, hashes) = to_ncmec(46, 3);
    let settings = json!({ "media_required": { "minimum": 2 }, "industry_classification": false });
    assert_eq!(server.http.put("/api/v1/settings", &settings).0, 200);
    send(&server, &[post("1", "u", json!({ "gallery": hashes.iter().map(hashed).collect::<Vec<_>>() }))]);
    settled(&server);
    let job = next(&server, "ncmec", "anna").unwrap();
    let decided = |count: u64, class: &str| -> Value {
        (1..=count)
            .map(|number| json!({ "media": number, "classification": class, "viewed": true }))
            .collect()
    };
    let (status, answer) = act(&server, &job, "decision", report(&job, decided(2, "A1"), json!({})));
    assert!(status == 400 && answer["message"].as_str().unwrap().contains("use Unclassified"), "{answer}");
    assert_eq!(act(&server, &job, "decision", report(&job, decided(1, "Unclassified"), json!({}))).0, 400);
    assert_eq!(act(&server, &job, "decision", report(&job, decided(2, "Unclassified"), json!({}))).0, 200);
}

#[test]
fn words_alone_can_be_escalated_and_reported() {
    let server = with(Setup::default());
    let thread = json!([{ "id": "m1", "typeId": "post", "data": { "text": "hello" } }]);
    let body = json!({ "reporter": { "kind": "user", "typeId": "user", "id": "r" },
        "reportedItem": post("words", "groomer", json!({})), "reportedForReason": { "reason": "grooming" }, "reportedItemThread": thread });
    assert_eq!(server.http.post("/api/v1/report", &body).0, 201);
    settled(&server);
    let review = next(&server, "default", "anna").unwrap();
    let refused = act(&server, &review, "decision", report(&review, json!([]), json!({})));
    assert!(
        refused.0 == 400 && refused.1["message"].as_str().unwrap().contains("only an NCMEC job is reported"),
        "{}",
        refused.1
    );
    let escalate =
        |lease: Value| act(&server, &review, "ncmec", json!({ "reviewer": "anna", "lease": lease }));
    assert_eq!(escalate(json!("somebody's")).0, 409);
    let (status, job) = escalate(review["lease"]["token"].clone());
    assert_eq!((status, &job["subject"]["id"], &job["media"]), (200, &json!("groomer"), &json!(0)), "{job}");
    let closed = server.http.get(&format!("/api/v1/jobs/{}", review["id"])).1;
    assert_eq!(
        (&closed["closed"]["became"], &closed["decision"]["kind"]),
        (&job["id"], &json!("enqueue_ncmec"))
    );
    let job = next(&server, "ncmec", "ben").unwrap();
    assert_eq!(
        act(&server, &job, "decision", report(&job, json!([]), json!({}))).0,
        400,
        "nothing is reported"
    );
    let (status, decision) = act(
        &server,
        &job,
        "decision",
        report(&job, json!([]), json!({ "threads": job["threads"], "contents": job["contents"] })),
    );
    assert_eq!(status, 200, "{decision}");
    assert_eq!(decision["report"]["threads"], json!([{ "id": "m1", "typeId": "post" }]));
    sound(&server);
}

#[test]
fn a_decision_to_act_tells_the_platform() {
    let platform = Platform::start();
    let server = with(Setup::default().flag("--signing-key-file", Platform::key_file().display()));
    server.http.put("/api/v1/webhooks/remove", &json!({ "url": platform.url("hook/remove") }));
    let body = json!({ "reporter": { "kind": "user", "typeId": "user", "id": "r" }, "reportedItem": post("bad", "u", json!({})) });
    assert_eq!(server.http.post("/api/v1/report", &body).0, 201);
    let job = next(&server, "default", "anna").unwrap();
    let decide = |webhooks: Value| {
        let body = json!({ "decision": "act", "lease": job["lease"]["token"], "revision": job["revision"], "webhooks": webhooks, "reason": "spam" });
        act(&server, &job, "decision", body)
    };
    assert_eq!(decide(json!([])).0, 400);
    assert_eq!(decide(json!(["nothing"])).0, 400);
    assert_eq!(decide(json!(["remove"])).0, 200);
    let told = platform.wait("/hook/remove", 1)[0].json();
    assert_eq!((&told["item"]["id"], &told["decisionReason"]), (&json!("bad"), &json!("spam")));
}

#[test]
fn uploads_of_one_user_make_one_ncmec_job() {
    let (server, hashes) = to_ncmec(47, 3);
    let mut client = server.client();
    for (at, hash) in hashes.iter().enumerate() {
        let context = index::UploadContext {
            item_id: Some(format!("i{}", at / 2)),
            creator: Some("u".into()),
            url: Some(format!("https://a.example/{at}")),
            ..Default::default()
        };
        let query = ingest::wire::Query::pdq(vec![*hash]);
        client.submit(index::RequestId::fresh(), query, vec![(0, context)]).unwrap();
    }
    // And one of which nothing is known but its hash.
    client.submit(index::RequestId::fresh(), ingest::wire::Query::pdq(vec![hashes[0]]), vec![]).unwrap();
    settled(&server);
    let jobs = server.jobs("ncmec");
    assert_eq!((jobs.len(), &jobs[0]["media"], &jobs[0]["hits"]), (1, &json!(3), &json!(3)));
    let urls: BTreeMap<String, u64> = media(&server, &jobs[0])
        .iter()
        .map(|media| {
            (media["url"].as_str().unwrap().to_string(), media["matches"].as_array().unwrap().len() as u64)
        })
        .collect();
    assert_eq!(urls.into_values().collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!((server.jobs("triage").len(), &server.jobs("triage")[0]["ncmec_wanted"]), (1, &json!(true)));
    assert_eq!(server.http.get("/api/v1/hits/4").1["job"], server.jobs("triage")[0]["id"]);
}
