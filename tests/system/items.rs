//! What a platform tells of its items and users, by Coop's two routes, and what rules make of it.

use std::io::Cursor;
use std::thread;
use std::time::{Duration, Instant};

use image::ImageFormat;
use index::Hash256;
use serde_json::{Value, json};
use tests::{Asked, Platform, Server, Setup, hex};

use crate::banks::random_hashes;
use crate::media::picture;

/// Item types of the tests' platform.
pub fn describe(server: &Server) {
    let post = json!({ "kind": "CONTENT", "fields": [
        { "name": "text", "type": "STRING", "required": true },
        { "name": "cover", "type": "IMAGE" },
        { "name": "gallery", "type": "MEDIA", "container": "ARRAY" },
        { "name": "takes", "type": "VIDEO", "container": "MAP" },
        { "name": "author", "type": "RELATED_ITEM" },
        { "name": "parent", "type": "RELATED_ITEM" },
        { "name": "thread", "type": "RELATED_ITEM" },
        { "name": "made", "type": "DATETIME" },
        { "name": "likes", "type": "NUMBER" }
    ], "roles": { "creatorId": "author", "parentId": "parent", "threadId": "thread", "createdAt": "made" } });
    let user = json!({ "kind": "USER", "fields": [{ "name": "name", "type": "STRING" }, { "name": "face", "type": "IMAGE" }],
        "roles": { "displayName": "name", "profileIcon": "face" } });
    let thread = json!({ "kind": "THREAD", "fields": [{ "name": "opener", "type": "RELATED_ITEM" }],
        "roles": { "creatorId": "opener" } });
    let nameless = json!({ "kind": "CONTENT", "fields": [{ "name": "picture", "type": "IMAGE" }] });
    for (id, of) in [("post", post), ("user", user), ("thread", thread), ("nameless", nameless)] {
        let (status, answer) = server.http.put(&format!("/api/v1/item-types/{id}"), &of);
        assert_eq!((status, &answer["version"]), (200, &json!(1)), "{answer}");
    }
}

/// A server that may fetch from loopback, and knows the item types.
pub fn with(setup: Setup) -> Server {
    let server = setup.flag("--fetch-allow", "127.0.0.1/32").start();
    describe(&server);
    server
}

/// An item of type post by a user.
pub fn post(id: &str, user: &str, mut data: Value) -> Value {
    data["text"] = json!("words");
    if !user.is_empty() {
        data["author"] = json!({ "id": user, "typeId": "user" });
    }
    json!({ "id": id, "typeId": "post", "data": data })
}

/// A medium that the platform has hashed itself.
pub fn hashed(hash: &Hash256) -> Value {
    json!({ "signals": { "pdq": hex(hash) } })
}

/// Sends items; all must be taken.
pub fn send(server: &Server, items: &[Value]) {
    let (status, answer) = server.http.post("/api/v1/items/async/", &json!({ "items": items }));
    assert_eq!((status, answer), (202, json!("")));
}

/// Waits until nothing waits in the intake and every hit is routed.
pub fn settled(server: &Server) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let (_, waiting) = server.http.get("/api/v1/intake?limit=1");
        if waiting["entries"].as_array().unwrap().is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "{waiting}\n{}", server.log());
        thread::sleep(Duration::from_millis(20));
    }
    server.routed();
    sound(server);
}

/// Everything is in exactly one place.
pub fn sound(server: &Server) -> Value {
    let (status, census) = server.http.get("/api/v1/census");
    assert_eq!((status, &census["faults"]), (200, &json!(0)), "{census}");
    census
}

/// Makes a rule.
pub fn rule(server: &Server, name: &str, rule: Value) -> Value {
    let (status, answer) = server.http.put(&format!("/api/v1/rules/{name}"), &rule);
    assert_eq!(status, 200, "{answer}");
    answer
}

/// A picture as a file.
pub fn png(seed: u32) -> Vec<u8> {
    let mut png = Cursor::new(Vec::new());
    picture(seed).write_to(&mut png, ImageFormat::Png).unwrap();
    png.into_inner()
}

/// That a call was signed with the platform's key, as Coop signs and with its time.
pub fn signed(asked: &Asked) {
    assert!(asked.is_signed_with(&Platform::key_file()), "{:?}", asked.headers);
}

#[test]
fn every_medium_of_any_field_is_hashed_and_matched() {
    let (platform, server) = (Platform::start(), with(Setup::default()));
    server.create_bank("KNOWN");
    assert_eq!(server.http.upload("/c/bank/KNOWN/content", "photo", &png(3)).0, 200);
    let (known, other) =
        (platform.put("known", "image/png", &png(3)), platform.put("other", "image/png", &png(4)));
    let video = [&b"\0\0\0\x18ftypmp42"[..], &[7; 5000]].concat();
    assert_eq!(server.http.upload("/c/bank/KNOWN/content", "video", &video).0, 200);
    let film = platform.put("film", "video/mp4", &video);
    send(
        &server,
        &[
            post("film", "u", json!({ "takes": { "first": { "url": film } } })),
            post("cover", "u", json!({ "cover": known })),
            post("gallery", "u", json!({ "gallery": [{ "url": other }, { "url": known }] })),
            post("clean", "u", json!({ "cover": other, "gallery": [other] })),
            json!({ "id": "u", "typeId": "user", "data": { "face": known } }),
        ],
    );
    settled(&server);
    let mut found: Vec<(String, u64)> = server
        .jobs("default")
        .iter()
        .map(|job| (job["subject"]["id"].as_str().unwrap().to_string(), job["hits"].as_u64().unwrap()))
        .collect();
    found.sort();
    let expected = ["cover", "film", "gallery", "u"].map(|id| (id.to_string(), 1));
    assert_eq!(found, expected);
    let item = |id: &str| server.http.get(&format!("/api/v1/items?typeId=post&id={id}")).1;
    let gallery = item("gallery");
    assert_eq!(gallery["media"][0]["screening"], json!({ "state": "done" }));
    assert_eq!(gallery["media"][1]["screening"]["matches"][0]["bank_name"], "KNOWN", "{gallery}");
    assert_eq!(gallery["media"][1]["field"], "gallery/1");
    assert!(
        item("clean")["media"].as_array().unwrap().iter().all(|media| media["screening"]["state"] == "done")
    );
    // Their hits are in the log, with the item they are of.
    let hits = server.pages("/api/v1/hits");
    assert_eq!(hits.len(), 4);
    for hit in hits {
        let url = if hit["signal_type"] == "pdq" { &known } else { &film };
        assert!(hit["context"]["arrival"].is_u64() && hit["context"]["url"] == json!(url), "{hit}");
    }
}

#[test]
fn what_cannot_be_fetched_waits_in_sight_and_is_never_taken_for_clean() {
    let (platform, server) = (Platform::start(), with(Setup::default()));
    server.create_bank("KNOWN");
    assert_eq!(server.http.upload("/c/bank/KNOWN/content", "photo", &png(3)).0, 200);
    let url = platform.put("known", "image/png", &png(3));
    platform.fail("/media/known", &[503, 0]);
    let (gone, page) = (platform.url("media/gone"), platform.put("page", "text/html", b"<html>later</html>"));
    send(
        &server,
        &[
            post("late", "u", json!({ "cover": url })),
            post("gone", "u", json!({ "cover": gone })),
            post("page", "u", json!({ "cover": page })),
        ],
    );
    // The first comes by itself, after two failures; the others wait, and say why.
    let deadline = Instant::now() + Duration::from_secs(30);
    while server.jobs("default").is_empty() {
        assert!(Instant::now() < deadline, "{}", server.log());
        thread::sleep(Duration::from_millis(50));
    }
    let (_, waiting) = server.http.get("/api/v1/intake");
    let waiting = waiting["entries"].as_array().unwrap();
    assert_eq!(waiting.len(), 2, "{waiting:?}");
    for arrival in waiting {
        let trouble = arrival["trouble"].as_str().unwrap();
        let says = if arrival["item"]["id"] == "gone" { "404" } else { "gives a text, not a file" };
        assert!(trouble.contains(says) && arrival["tries"].as_u64() > Some(0), "{arrival}");
    }
    assert_eq!(server.http.get("/api/v1/items?typeId=post&id=gone").0, 404, "it is not settled");
    // An operator lets people decide: they get it as unknown, in triage.
    let numbers: Vec<&Value> = waiting.iter().map(|arrival| &arrival["number"]).collect();
    for number in numbers {
        let (status, answer) =
            server.http.post(&format!("/api/v1/intake/{number}"), &json!({ "action": "give_up" }));
        assert_eq!(status, 200, "{answer}");
    }
    settled(&server);
    let triage = server.jobs("triage");
    assert_eq!(triage.len(), 2);
    assert!(
        triage
            .iter()
            .all(|job| job["trouble"].as_str().unwrap().contains("could not be compared with the banks"))
    );
    let media = &server.http.get("/api/v1/items?typeId=post&id=gone").1["media"][0];
    assert_eq!(media["screening"]["state"], "unknown", "{media}");
}

#[test]
fn an_item_that_waits_survives_kill_9_and_is_matched_after() {
    let (platform, server) = (Platform::start(), with(Setup::default()));
    let url = platform.put("known", "image/png", &png(3));
    platform.fail("/media/known", &[503]);
    send(&server, &[post("1", "u", json!({ "cover": url }))]);
    let server = server.kill().restart_with(Setup::default().flag("--fetch-allow", "127.0.0.1/32"));
    server.create_bank("KNOWN");
    assert_eq!(server.http.upload("/c/bank/KNOWN/content", "photo", &png(3)).0, 200);
    settled(&server);
    let item = server.http.get("/api/v1/items?typeId=post&id=1").1;
    assert_eq!(item["media"][0]["screening"]["state"], "done", "{item}");
}

#[test]
fn one_bad_item_refuses_its_batch_by_name_and_the_good_ones_can_follow() {
    let server = with(Setup::default());
    let hash = random_hashes(31, 1)[0];
    let items = [
        post("1", "u", json!({})),
        json!({ "id": "2", "typeId": "post", "data": { "text": 7, "cover": "nowhere", "author": { "id": "u" } } }),
        json!({ "id": "3", "typeId": "nothing", "data": {} }),
        post("4", "u", json!({ "gallery": [hashed(&hash), { "signals": { "pdq": "00" } }] })),
        post("5", "", json!({ "parent": { "id": "5", "typeId": "post" } })),
        post("6", "", json!({ "likes": "x".repeat(1 << 20) })),
    ];
    let body = json!({ "items": items });
    let (status, answer) = server.http.post("/api/v1/items/async/", &body);
    assert_eq!(status, 400, "{answer}");
    let errors = answer["errors"].as_array().unwrap();
    let pointers: Vec<&str> = errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect();
    assert_eq!(
        pointers,
        [
            "/items/1/data/text",
            "/items/1/data/cover",
            "/items/1/data/author/typeId",
            "/items/2/typeId",
            "/items/3/data/gallery/1/signals/pdq",
            "/items/4/data/parent",
            "/items/5"
        ]
    );
    for error in errors {
        assert_eq!(error["status"], 400);
        assert!(
            error["type"][0].as_str().unwrap().starts_with("/errors/") && error["title"].is_string(),
            "{error}"
        );
    }
    assert_eq!((&answer["good"], &answer["bad"]), (&json!(1), &json!([1, 2, 3, 4, 5])));
    assert!(answer["resume"].as_str().unwrap().contains("?on_bad_item=skip"));
    assert_eq!(server.http.get("/api/v1/items?typeId=post&id=1").0, 404, "nothing was stored");
    assert_eq!(sound(&server)["waiting"], 0);

    let (status, answer) = server.http.post("/api/v1/items/async/?on_bad_item=skip", &body);
    assert_eq!(
        (status, &answer["taken"], answer["errors"].as_array().unwrap().len()),
        (202, &json!(1), 7),
        "{answer}"
    );
    assert_eq!(server.http.get("/api/v1/items?typeId=post&id=1").0, 200);
    for (body, says) in [("{", "not JSON"), ("{}", "is missing"), ("{\"items\": []}", "use 1 to")] {
        let (status, answer) = server.http.plain("POST", "/api/v1/items/async/", Some(body));
        assert!(status == 400 && answer.contains(says) && answer.contains("\"errors\""), "{body}: {answer}");
    }
    let (status, answer) = server.http.plain("POST", "/api/v1/items/async/", Some(&"x".repeat(33 << 20)));
    assert_eq!(status, 413, "{answer}");
}

#[test]
fn coops_key_opens_coops_routes_and_no_others() {
    let token = "0123456789abcdef0123456789abcdef";
    let server = Setup::default().env("HASHWARD_TOKEN", token).start();
    let body = json!({ "items": [{ "id": "1", "typeId": "x", "data": {} }] });
    let post = |path: &str, key: &str| server.http.post_with(path, &body, &[("x-api-key", key)]).0;
    assert_eq!(post("/api/v1/items/async/", token), 400);
    assert_eq!(post("/api/v1/report", token), 400);
    assert_eq!(post("/api/v1/items/async/", "wrong"), 401);
    let (_, answer) = server.http.post("/api/v1/report", &body);
    assert_eq!(
        (&answer["errors"][0]["status"], &answer["errors"][0]["type"]),
        (&json!(401), &json!(["/errors/unauthenticated"]))
    );
    assert_eq!(post("/api/v1/rules/replay", token), 401);
}

fn reported(item: Value, reason: Value) -> Value {
    json!({ "reporter": { "kind": "user", "typeId": "user", "id": "r" }, "reportedAt": "2026-01-01T00:00:00Z",
        "reportedItem": item, "reportedForReason": reason })
}

#[test]
fn a_report_of_child_abuse_is_with_ncmecs_reviewers_at_once_past_the_rules() {
    let (platform, server) = (Platform::start(), with(Setup::default()));
    rule(
        &server,
        "all",
        json!({ "queue": "elsewhere", "when": { "input": "source", "comparator": "EQUALS", "value": "report" } }),
    );
    // Its media cannot be fetched: nobody waits for that.
    let item = post("1", "u", json!({ "cover": platform.url("media/gone") }));
    let report = reported(item, json!({ "csam": true, "reason": "look at this" }));
    let (status, answer) = server.http.post("/api/v1/report", &report);
    assert_eq!(status, 201, "{answer}");
    let jobs = server.jobs("ncmec");
    assert_eq!(jobs.len(), 1);
    let job = &jobs[0];
    assert_eq!((&job["kind"], &job["subject"]), (&json!("ncmec"), &json!({ "id": "u", "typeId": "user" })));
    assert_eq!((&job["reports"][0], &job["priority"]), (&answer["reportId"], &json!(8)));
    assert!(job["reasons"][0]["words"].as_str().unwrap().contains("look at this"));
    let media = &server.http.get(&format!("/api/v1/jobs/{}/media", job["id"])).1["entries"][0];
    assert_eq!(
        (&media["reported"], &media["unscreened"]),
        (&json!(true), &json!("not yet compared with the banks"))
    );
    assert_eq!(server.jobs("elsewhere").len(), 0);
    // Another report of the same user joins the job; one without csam is routed.
    let other = reported(post("2", "u", json!({})), json!({ "csam": true }));
    assert_eq!(server.http.post("/api/v1/report", &other).0, 201);
    let plain = reported(post("3", "u", json!({})), json!({ "reason": "spam" }));
    assert_eq!(server.http.post("/api/v1/report", &plain).0, 201);
    let jobs = server.jobs("ncmec");
    assert_eq!(
        (jobs.len(), &jobs[0]["reasons_total"], jobs[0]["reports"].as_array().unwrap().len()),
        (1, &json!(2), 2)
    );
    assert_eq!(server.jobs("elsewhere").len(), 1);
    let (_, waiting) = server.http.get("/api/v1/intake");
    let number = &waiting["entries"][0]["number"];
    server.http.post(&format!("/api/v1/intake/{number}"), &json!({ "action": "give_up" }));
    settled(&server);
    assert_eq!(server.jobs("ncmec").len(), 1, "what was found out later makes no second job");
    assert_eq!(server.jobs("triage").len(), 0);
}

#[test]
fn bad_reports_are_pointed_at_and_leave_nothing() {
    let server = with(Setup::default());
    for (body, pointer) in [
        (json!({}), "/reporter"),
        (reported(json!({ "id": "1", "typeId": "nothing", "data": {} }), json!({})), "/reportedItem/typeId"),
        (reported(post("1", "u", json!({ "likes": "many" })), json!({})), "/reportedItem/data/likes"),
        (reported(post("1", "u", json!({})), json!({ "csam": "yes" })), "/reportedForReason/csam"),
    ] {
        let (status, answer) = server.http.post("/api/v1/report", &body);
        assert_eq!((status, &answer["errors"][0]["pointer"]), (400, &json!(pointer)), "{answer}");
    }
    let census = sound(&server);
    assert_eq!((&census["items"], &census["jobs"], &census["waiting"]), (&json!(0), &json!(0), &json!(0)));
}

#[test]
fn the_platform_is_asked_who_made_an_item_and_who_nobody_knows_is_triaged() {
    let platform = Platform::start();
    let setup = Setup::default().flag("--signing-key-file", Platform::key_file().display());
    let server = with(setup);
    server.create_bank("KNOWN");
    let hash = random_hashes(32, 1)[0];
    server.add_pdq("KNOWN", &hash);
    rule(&server, "csam", json!({ "banks": ["KNOWN"], "actions": [{ "enqueue_ncmec": {} }] }));
    let (status, answer) =
        server.http.put("/api/v1/settings", &json!({ "partial_items_url": platform.url("partial") }));
    assert_eq!(status, 200, "{answer}");
    platform.tell(post("1", "maker", json!({})));
    platform.fail("/partial", &[500]);
    send(&server, &[post("1", "", json!({ "gallery": [hashed(&hash)] }))]);
    settled(&server);
    let asked = platform.wait("/partial", 2);
    assert_eq!(asked[1].json(), json!({ "items": [{ "id": "1", "typeId": "post" }] }));
    asked.iter().for_each(signed);
    assert_eq!(server.jobs("ncmec")[0]["subject"]["id"], "maker");

    // Nobody knows who made this one, nor could a field of its type say.
    send(&server, &[json!({ "id": "9", "typeId": "nameless", "data": { "picture": hashed(&hash) } })]);
    settled(&server);
    let triage = server.jobs("triage");
    assert_eq!((triage.len(), &triage[0]["ncmec_wanted"], &triage[0]["hits"]), (1, &json!(true), &json!(1)));
    assert!(triage[0]["trouble"].as_str().unwrap().contains("no user is known behind it"));
    let escalate = format!("/api/v1/jobs/{}/ncmec", triage[0]["id"]);
    let (status, answer) = server.http.post(&escalate, &json!({ "reviewer": "anna" }));
    assert!(status == 400 && answer["fields"][0]["pointer"] == "/user", "{answer}");
    let user = json!({ "reviewer": "anna", "user": { "id": "found", "typeId": "user" } });
    let (status, job) = server.http.post(&escalate, &user);
    assert_eq!(
        (status, &job["kind"], &job["subject"]["id"], &job["media"]),
        (200, &json!("ncmec"), &json!("found"), &json!(1))
    );
    assert_eq!(server.jobs("triage").len(), 0);
    sound(&server);
}

#[test]
fn a_thread_and_an_item_without_a_maker_are_reported_without_being_lost() {
    let server = with(Setup::default());
    let report = |item: Value| {
        let (status, answer) = server.http.post("/api/v1/report", &reported(item, json!({ "csam": true })));
        assert_eq!(status, 201, "{answer}");
        answer
    };
    let opened = json!({ "opener": { "id": "opener", "typeId": "user" } });
    assert!(report(json!({ "id": "t1", "typeId": "thread", "data": opened }))["warning"].is_null());
    assert_eq!(server.jobs("ncmec")[0]["subject"]["id"], "opener");
    // Whoever sends what nobody can be found behind is told, and people have it.
    for (id, type_id) in [("t2", "thread"), ("1", "nameless")] {
        let answer = report(json!({ "id": id, "typeId": type_id, "data": {} }));
        assert!(answer["warning"].as_str().unwrap().contains("no user is known behind the item"), "{answer}");
        let triage = server.jobs("triage");
        let job = triage.iter().find(|job| job["subject"]["id"] == id).unwrap();
        assert_eq!((&job["ncmec_wanted"], &job["reports"][0]), (&json!(true), &answer["reportId"]));
        let (status, kept) =
            server.http.get(&format!("/api/v1/reports/{}", answer["reportId"].as_str().unwrap()));
        assert_eq!((status, &kept["csam"], &kept["item"]["id"]), (200, &json!(true), &json!(id)));
    }
    settled(&server);
}

#[test]
fn what_waits_is_counted_and_for_how_long() {
    let (platform, server) = (Platform::start(), with(Setup::default()));
    send(&server, &[post("1", "u", json!({ "cover": platform.url("media/gone") }))]);
    let report = reported(post("2", "u", json!({})), json!({}));
    assert_eq!(server.http.post("/api/v1/report", &report).0, 201);
    thread::sleep(Duration::from_millis(1200));
    let (_, metrics) = server.http.plain("GET", "/metrics", None);
    for line in [
        "hashward_queue_jobs{queue=\"default\"} 1.0",
        "hashward_intake_waiting{} 1.0",
        "hashward_items_taken_total{} 2.0",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(server.metric("hashward_intake_oldest_seconds") > 1.0);
}

#[test]
fn a_partial_item_changes_what_it_names_and_leaves_the_rest() {
    let server = with(Setup::default());
    let hash = random_hashes(38, 1)[0];
    send(&server, &[post("1", "u", json!({ "gallery": [hashed(&hash)], "likes": 3 }))]);
    let part = json!({ "id": "1", "typeId": "post", "typeSchemaVariant": "partial", "data": { "likes": 9 } });
    send(&server, &[part]);
    let item = server.http.get("/api/v1/items?typeId=post&id=1").1;
    assert_eq!(
        (&item["data"]["likes"], &item["data"]["text"], &item["creator"]["id"]),
        (&json!(9), &json!("words"), &json!("u"))
    );
    assert_eq!(item["media"].as_array().unwrap().len(), 1, "{item}");
    let of_user = server.http.get("/api/v1/users/items?typeId=user&id=u").1;
    assert_eq!(of_user["items"].as_array().unwrap().len(), 1, "{of_user}");
}

#[test]
fn on_a_full_disk_items_are_refused_whole_and_taken_when_there_is_room() {
    let server = with(Setup::default());
    let stopped = server.stop();
    let full = stopped.restart_with(Setup::default().flag("--disk-reserve-bytes", u64::MAX));
    let items = json!({ "items": [post("1", "u", json!({}))] });
    let (status, answer) = full.http.post("/api/v1/items/async/", &items);
    assert_eq!((status, &answer["errors"][0]["type"]), (507, &json!(["/errors/disk-full"])), "{answer}");
    assert_eq!(
        full.http.post("/api/v1/queues/default/next", &json!({ "reviewer": "anna" })).0,
        204,
        "what writes nothing goes on"
    );
    let server = full.stop().restart();
    assert_eq!(server.http.get("/api/v1/items?typeId=post&id=1").0, 404);
    send(&server, items["items"].as_array().unwrap());
    assert_eq!(server.http.get("/api/v1/items?typeId=post&id=1").0, 200);
}
