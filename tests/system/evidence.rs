//! Media of jobs are preserved: once, whatever URL dies and wherever the program is killed; and shown to who may see them,
//! with who opened what on record.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tests::{Http, Platform, Server, Setup, film};

use crate::access::{bearing, key, person, with_admin};
use crate::items::{describe, png, post, rule, send, settled, sound};

/// With blobs that nothing names destroyed at once.
pub fn setup() -> Setup {
    Setup::default().flag("--fetch-allow", "127.0.0.1/32").env("HASHWARD_ORPHAN_MS", 0)
}

/// Knows one picture, whose users go to NCMEC; whatever says so is reviewed.
pub fn set_up(server: &Server) {
    describe(server);
    server.create_bank("KNOWN");
    assert_eq!(server.http.upload("/c/bank/KNOWN/content", "photo", &png(3)).0, 200);
    rule(server, "csam", json!({ "banks": ["KNOWN"], "actions": [{ "enqueue_ncmec": {} }] }));
    let says = json!({ "field": "text", "comparator": "CONTAINS", "value": "review" });
    rule(
        server,
        "says",
        json!({ "kind": "proactive", "when": says, "actions": [{ "enqueue": { "queue": "default" } }] }),
    );
}

/// An item that is reviewed for its words.
fn reviewed(id: &str, data: Value) -> Value {
    let mut item = post(id, "u", data);
    item["data"]["text"] = json!("review");
    item
}

fn media(server: &Server, job: &Value) -> Vec<Value> {
    server.pages(&format!("/api/v1/jobs/{}/media", job["id"]))
}

/// Waits until every medium of every queue's jobs is preserved; gives them.
pub fn preserved(server: &Server) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let jobs = server.queues().into_iter().flat_map(|(_, jobs)| jobs);
        let all: Vec<Value> = jobs.flat_map(|job| media(server, &job)).collect();
        if all.iter().all(|medium| medium["evidence"]["state"] == "kept") {
            return all;
        }
        assert!(Instant::now() < deadline, "{all:#?}\n{}", server.log());
        thread::sleep(Duration::from_millis(50));
    }
}

pub fn content(http: &Http, job: &Value, number: u64) -> (u16, Vec<u8>) {
    let (status, _, bytes) = http.bytes(&format!("/api/v1/jobs/{}/media/{number}/content", job["id"]), &[]);
    (status, bytes)
}

/// Names in the vault, without their endings.
fn blobs(data: &Path) -> Vec<String> {
    let names = fs::read_dir(data.join("evidence")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(".blob").map(str::to_string)).collect()
}

/// Every file of a folder, with those below.
fn files(folder: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let all = entries.flat_map(|path| match path.is_dir() {
        true => files(&path),
        false => vec![fs::read(path).unwrap_or_default()],
    });
    all.collect()
}

#[test]
fn a_url_that_dies_when_the_job_is_made_loses_nothing() {
    let (platform, server) = (Platform::start(), setup().start());
    set_up(&server);
    // The clean one comes first in its item: it is not known yet that it will be needed.
    let (known, other) = ([&png(3)[..], b"planted words"].concat(), png(4));
    let urls = [platform.put("other", "image/png", &other), platform.put("known", "image/png", &known)];
    send(&server, &[post("1", "u", json!({ "gallery": urls }))]);
    let deadline = Instant::now() + Duration::from_secs(30);
    let job = loop {
        if let Some(job) = server.jobs("ncmec").pop() {
            break job;
        }
        assert!(Instant::now() < deadline, "{}", server.log());
    };
    platform.lose_all();
    assert_eq!(preserved(&server).len(), 2);
    assert_eq!(content(&server.http, &job, 1), (200, other));
    assert_eq!(content(&server.http, &job, 2), (200, known.clone()));
    assert_eq!(platform.asked("/media").len(), 2, "each was fetched once");
    let stopped = server.stop();
    let server = stopped.restart();
    assert_eq!(content(&server.http, &job, 2), (200, known));
    let raw = files(server.data());
    assert!(!raw.iter().any(|file| file.windows(13).any(|window| window == b"planted words")));
    sound(&server);
}

#[test]
fn a_url_that_fails_first_is_preserved_later_and_says_why_until_then() {
    let (platform, server) = (Platform::start(), setup().start());
    set_up(&server);
    let url = platform.put("late", "image/png", &png(5));
    // The platform has hashed it itself, so it is fetched for its job alone.
    let hash = json!({ "pdq": "0".repeat(64) });
    platform.fail("/media/late", &[503, 404]);
    let cover = json!({ "url": url, "signals": hash });
    send(&server, &[reviewed("1", json!({ "cover": cover, "gallery": [{ "signals": hash }] }))]);
    settled(&server);
    let job = server.jobs("default").pop().unwrap();
    assert_eq!(job["media"], 1, "of a review job those with a URL: {job}");
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let evidence = media(&server, &job)[0]["evidence"].clone();
        if evidence["trouble"].as_str().is_some_and(|why| why.contains("503") || why.contains("404")) {
            assert_eq!(evidence["state"], "waiting");
            break;
        }
        assert!(Instant::now() < deadline, "{evidence}");
        thread::sleep(Duration::from_millis(20));
    }
    let (status, answer) = server.http.get(&format!("/api/v1/jobs/{}/media/1/content", job["id"]));
    let says = answer["message"].as_str().unwrap();
    assert!(status == 404 && says.contains("not preserved yet") && says.contains("Error"), "{answer}");
    let kept = preserved(&server);
    assert_eq!(kept[0]["evidence"]["bytes"], png(5).len());
    assert_eq!(content(&server.http, &job, 1), (200, png(5)));
    assert_eq!(content(&server.http, &job, 2).0, 404);
    assert_eq!(content(&server.http, &json!({ "id": 99 }), 1).0, 404);
    sound(&server);
}

/// Each medium is kept once, and nothing else is in the vault.
fn each_is_kept_once(server: &Server, media: &[Value]) {
    let census = sound(server);
    let digests: BTreeSet<String> =
        media.iter().map(|medium| format!("{} {}", medium["item"], medium["field"])).collect();
    assert_eq!(
        (census["media_kept"].as_u64(), &census["media_waiting"]),
        (Some(digests.len() as u64), &json!(0))
    );
    let deadline = Instant::now() + Duration::from_secs(30);
    while blobs(server.data()).len() != digests.len() {
        assert!(Instant::now() < deadline, "{} blobs of {} media", blobs(server.data()).len(), digests.len());
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn wherever_the_program_is_killed_each_medium_is_kept_once_and_no_blob_is_left() {
    let (platform, folder) = (Platform::start(), tempfile::tempdir().unwrap());
    let data = folder.path().join("data");
    let server = setup().data(&data).start();
    set_up(&server);
    drop(server.stop());
    let points = [
        "evidence-content-written",
        "evidence-key-written",
        "evidence-written",
        "intake-preserved",
        "intake-found-out",
        "preserve-stored",
        "preserve-linked",
        "desk-before-commit",
        "desk-after-commit",
        "intake-logged",
    ];
    for (round, point) in points.into_iter().enumerate() {
        let kill = format!("{point}:{}", 1 + round % 2);
        let started = setup().data(&data).killed_often().env("HASHWARD_KILL_AT", kill.clone()).try_start();
        // What matches goes by the intake; what is hashed already by the worker.
        let urls: Vec<String> = (0..2u32)
            .map(|at| {
                let bytes = [png(3), vec![round as u8, at as u8]].concat();
                platform.put(&format!("{round}-{at}"), "image/png", &bytes)
            })
            .collect();
        let hashed = |at: usize| json!({ "url": urls[at], "signals": { "pdq": "0".repeat(64) } });
        let items = json!({ "items": [
            post(&format!("m{round}"), &format!("u{round}"), json!({ "gallery": urls })),
            reviewed(&format!("r{round}"), json!({ "gallery": [hashed(0), hashed(1)] })),
        ] });
        let deadline = Instant::now() + Duration::from_secs(60);
        match started {
            // Sent until the program is gone: sending again is harmless.
            Ok(mut server) => {
                while server.runs() {
                    assert!(Instant::now() < deadline, "it is never killed at {kill}: {}", server.log());
                    let _ = server.http.try_post("/api/v1/items/async", &items);
                    thread::sleep(Duration::from_millis(300));
                }
                server.wait();
            }
            // Before it said that it was ready.
            Err(words) => assert!(words.contains(&format!("failpoint {point} hit")), "{kill}: {words}"),
        }
        let server = setup().data(&data).start();
        assert_eq!(server.http.post("/api/v1/items/async", &items).0, 202);
        settled(&server);
        let media = preserved(&server);
        each_is_kept_once(&server, &media);
        drop(server.stop());
    }
    let server = setup().data(&data).start();
    let media = preserved(&server);
    assert_eq!(media.len(), points.len() * 4);
    for job in server.jobs("ncmec") {
        for number in 1..=2 {
            let (status, bytes) = content(&server.http, &job, number);
            assert!(status == 200 && bytes.starts_with(&png(3)), "{job}");
        }
    }
}

#[test]
fn content_streams_whole_and_in_ranges_and_nothing_lets_a_browser_keep_it() {
    let (platform, server) = (Platform::start(), setup().start());
    set_up(&server);
    let film: Vec<u8> = (0..700_000u32).flat_map(|at| at.to_le_bytes()).collect();
    let film = [&b"\0\0\0\x18ftypmp42"[..], &film].concat();
    let url = platform.put("film", "video/mp4", &film);
    let page = platform.put("page", "image/svg+xml", b"<svg onload='alert(1)'/>");
    let hashed = |url: &str| json!({ "url": url, "signals": { "video_md5": "0".repeat(32) } });
    send(&server, &[reviewed("1", json!({ "takes": { "a": hashed(&url), "b": hashed(&page) } }))]);
    settled(&server);
    preserved(&server);
    let job = server.jobs("default").pop().unwrap();
    let get = |number: u64, headers: &[(&str, &str)]| {
        server.http.bytes(&format!("/api/v1/jobs/{}/media/{number}/content", job["id"]), headers)
    };
    let (status, headers, bytes) = get(1, &[]);
    assert_eq!((status, bytes == film), (200, true));
    for (name, value) in [
        ("content-type", "video/mp4"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "sandbox"),
        ("accept-ranges", "bytes"),
        ("content-length", &film.len().to_string()),
    ] {
        assert_eq!(headers[name], value);
    }
    assert!(headers["content-disposition"].starts_with("attachment"));
    let end = film.len();
    for (range, from, to) in [
        ("bytes=0-0".to_string(), 0, 1),
        ("bytes=65530-200000".to_string(), 65_530, 200_001),
        (format!("bytes={}-", end - 5), end - 5, end),
        ("bytes=-70000".to_string(), end - 70_000, end),
    ] {
        let (status, headers, bytes) = get(1, &[("range", &range)]);
        assert_eq!((status, bytes == film[from..to]), (206, true), "{range}");
        assert_eq!(headers["content-range"], format!("bytes {from}-{}/{end}", to - 1));
    }
    let (status, headers, _) = get(1, &[("range", &format!("bytes={end}-"))]);
    assert_eq!((status, headers["content-range"].as_str()), (416, format!("bytes */{end}").as_str()));
    assert_eq!(get(2, &[]).1["content-type"], "application/octet-stream", "a browser would run it");
}

/// Records of an action in the audit log: who, and about which medium.
fn records(http: &Http, action: &str) -> Vec<(String, Value)> {
    let (status, page) = http.get(&format!("/api/v1/audit?after=0&limit=1000&action={action}"));
    assert_eq!(status, 200, "{page}");
    let entries = page["entries"].as_array().unwrap();
    entries
        .iter()
        .map(|entry| (entry["who"].as_str().unwrap().to_string(), entry["details"]["media"].clone()))
        .collect()
}

#[test]
fn who_opens_a_medium_is_on_record_and_nobody_says_viewed_of_what_they_did_not_open() {
    let platform = Platform::start();
    let (mut server, admin) = with_admin(setup());
    server.http = admin.clone();
    set_up(&server);
    let urls = [platform.put("a", "image/png", &png(3)), platform.put("b", "image/png", &png(4))];
    send(&server, &[post("1", "u", json!({ "gallery": urls }))]);
    settled(&server);
    preserved(&server);
    let job = server.jobs("ncmec").pop().unwrap();
    let place = format!("/api/v1/jobs/{}/media/1", job["id"]);

    // Nobody without the right gets a byte, or learns that there is something.
    let (ben, dora) =
        (person(&server, &admin, "ben", "moderator"), person(&server, &admin, "dora", "analyst"));
    let matching = bearing(&server, &key(&admin, &["match", "items"]).1);
    let stranger = Http::new(&server.admin);
    for (http, expected) in [(&ben, 404), (&dora, 403), (&matching, 403), (&stranger, 401)] {
        let (status, bytes) = content(http, &job, 1);
        assert!(status == expected && !bytes.starts_with(b"\x89PNG"), "{status}");
        assert_eq!(http.plain("POST", &format!("{place}/unblur"), None).0, expected);
    }
    assert_eq!(
        ben.get(&format!("{place}/content")).1["message"],
        format!("there is no job {}", job["id"]),
        "as if it were not there"
    );
    assert_eq!(records(&admin, "media"), []);

    let anna = person(&server, &admin, "anna", "child_safety_moderator");
    let (status, lent) = anna.post("/api/v1/queues/ncmec/next", &json!({}));
    assert_eq!(status, 200, "{lent}");
    let decision = |viewed: [bool; 2]| {
        let media: Vec<Value> = (1..)
            .zip(viewed)
            .map(|(number, viewed)| {
                let class = if viewed { "A1" } else { "Unclassified" };
                json!({ "media": number, "classification": class, "viewed": viewed })
            })
            .collect();
        json!({ "decision": "report", "lease": lent["lease"]["token"], "revision": lent["revision"],
            "incident_type": "Child Sex Tourism", "media": media })
    };
    let decide = |viewed| anna.post(&format!("/api/v1/jobs/{}/decision", job["id"]), &decision(viewed));
    assert_eq!(content(&anna, &job, 1), (200, png(3)));
    assert_eq!(anna.plain("POST", &format!("{place}/unblur"), None).0, 204);
    assert_eq!(content(&admin, &job, 2), (200, png(4)));
    assert_eq!(anna.plain("POST", &format!("/api/v1/jobs/{}/media/9/unblur", job["id"]), None).0, 404);
    let (status, refused) = decide([true, true]);
    assert_eq!((status, &refused["fields"][0]["pointer"]), (400, &json!("/media/1/viewed")), "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("not opened medium 2"), "{refused}");
    let shown = media(&server, &job);
    assert_eq!((&shown[0]["viewed_by"], &shown[1]["viewed_by"]), (&json!(["anna"]), &json!(["root"])));
    let (anna_is, root_is) = ("person:anna".to_string(), "person:root".to_string());
    assert_eq!(records(&admin, "media.view"), [(anna_is.clone(), json!(1)), (root_is, json!(2))]);
    assert_eq!(records(&admin, "media.unblur"), [(anna_is, json!(1))]);
    let (status, answer) = decide([true, false]);
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn what_a_machine_says_was_viewed_stays_what_it_says() {
    let platform = Platform::start();
    let (mut server, admin) = with_admin(setup());
    server.http = admin.clone();
    set_up(&server);
    let url = platform.put("a", "image/png", &png(3));
    send(&server, &[post("1", "u", json!({ "cover": url }))]);
    settled(&server);
    let tool = bearing(&server, &key(&admin, &["review", "report"]).1);
    let (status, lent) = tool.post("/api/v1/queues/ncmec/next", &json!({ "reviewer": "anna" }));
    assert_eq!(status, 200, "{lent}");
    let medium = json!([{ "media": 1, "classification": "A1", "viewed": true }]);
    let decision = json!({ "decision": "report", "lease": lent["lease"]["token"], "revision": lent["revision"],
        "incident_type": "Child Sex Tourism", "media": medium });
    let (status, answer) = tool.post(&format!("/api/v1/jobs/{}/decision", lent["id"]), &decision);
    assert_eq!(status, 200, "{answer}");
}

/// Sends an item with a film that its platform has hashed, so that it is fetched for its job alone.
fn send_film(server: &Server, url: &str) {
    let cover = json!({ "url": url, "signals": { "video_md5": "0".repeat(32) } });
    send(server, &[reviewed("1", json!({ "cover": cover }))]);
    settled(server);
}

fn hex_digest(bytes: u64) -> String {
    let digest = film(bytes).fold(Sha256::new(), |digest, piece| digest.chain_update(piece)).finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is left in the folder of evidence, whole or not.
fn evidence_names(data: &Path) -> Vec<String> {
    let names = fs::read_dir(data.join("evidence")).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_long_film_is_preserved_in_little_memory() {
    // 5 GB where there is time and room for it.
    let full = std::env::var_os("FULL").is_some();
    let bytes: u64 = if full { 5_000_000_000 } else { 200_000_000 };
    let (platform, server) = (Platform::start(), setup().start());
    set_up(&server);
    let url = platform.put_film("film", "video/mp4", bytes);
    server.forget_peak();
    let before = server.peak();
    send_film(&server, &url);
    let begun = Instant::now();
    let kept = loop {
        let evidence = media(&server, &server.jobs("default").pop().unwrap())[0]["evidence"].clone();
        if evidence["state"] == "kept" {
            break evidence;
        }
        assert!(begun.elapsed() < Duration::from_secs(1200) && evidence["trouble"].is_null(), "{evidence}");
        thread::sleep(Duration::from_millis(100));
    };
    let grown = server.peak() - before;
    println!("{bytes} bytes in {:?}, {grown} bytes more memory than {before}", begun.elapsed());
    assert!(grown < 16 << 20, "it took {grown} bytes more than {before}");
    assert_eq!((&kept["bytes"], &kept["sha256"]), (&json!(bytes), &json!(hex_digest(bytes))));
    assert_eq!(platform.asked("/media").len(), 1);
    sound(&server);
}

#[test]
fn a_film_whose_preserving_is_killed_in_its_midst_leaves_no_half_and_is_preserved_anew() {
    let (platform, server) = (Platform::start(), setup().start());
    set_up(&server);
    let bytes = 20_000_000;
    let url = platform.put_film("film", "video/mp4", bytes);
    platform.stall("film", bytes / 2);
    send_film(&server, &url);
    let deadline = Instant::now() + Duration::from_secs(30);
    let written = |data: &Path| {
        let half =
            |name: &String| fs::metadata(data.join("evidence").join(name)).map_or(0, |file| file.len());
        evidence_names(data).iter().map(half).sum::<u64>()
    };
    while written(server.data()) < bytes / 2 - (1 << 20) {
        assert!(Instant::now() < deadline, "{} bytes: {}", written(server.data()), server.log());
        thread::sleep(Duration::from_millis(20));
    }
    assert!(blobs(server.data()).is_empty(), "what is not whole has no name");
    let stopped = server.kill();
    platform.fail("/media", &[503]);
    let server = stopped.restart_with(setup());
    assert!(written(server.data()) < bytes / 2, "the half was removed");
    let media = preserved(&server);
    assert_eq!(media[0]["evidence"]["sha256"], hex_digest(bytes));
    each_is_kept_once(&server, &media);
    assert_eq!(evidence_names(server.data()).len(), 2);
}

#[test]
fn a_film_that_is_too_long_or_breaks_off_is_no_evidence_and_says_why() {
    let (platform, server) = (Platform::start(), setup().flag("--evidence-bytes-max", 1_000_000).start());
    set_up(&server);
    let url = platform.put_film("film", "video/mp4", 1_000_001);
    send_film(&server, &url);
    let trouble = |wanted: &str| {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let evidence = media(&server, &server.jobs("default").pop().unwrap())[0]["evidence"].clone();
            if evidence["trouble"].as_str().is_some_and(|why| why.contains(wanted)) {
                break;
            }
            assert!(Instant::now() < deadline, "{evidence}");
            thread::sleep(Duration::from_millis(20));
        }
        assert!(evidence_names(server.data()).is_empty());
    };
    trouble("longer than 1000000 bytes");
    platform.put_film("film", "text/html", 1_000_000);
    trouble("gives a text");
    platform.put_film("film", "video/mp4", 1_000_000);
    assert_eq!(preserved(&server).len(), 1);
}
