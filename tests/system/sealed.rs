//! What lies on the disk and what is logged: no URL, no secret, no word and no byte of media, however the program ends.
//!
//! Everything that is planted begins with the same letters, so one search finds whatever came through, also what nobody
//! thought of. Two of them are known to lie in the clear; without them the search would prove nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use index::{RequestId, UploadContext};
use ingest::wire::Query;
use serde_json::{Value, json};
use tests::{Platform, Server, Setup, Stopped, flipped, hex, refusal};

use crate::banks::random_hashes;
use crate::items::{describe, hashed, png, post, rule, send, settled, sound};

const PLANTED: &[u8] = b"PLANTED-";
/// Ids are in the clear: docs/evidence.md says so.
const ITEM: &str = "PLANTED-clear-item";
const QUEUE: &str = "planted-clear-queue";
const SECRET: &str = "PLANTED-env-secret-0123456789abcdef";

/// Every planted word in these bytes.
fn planted(bytes: &[u8]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for at in 0..bytes.len().saturating_sub(PLANTED.len()) {
        if bytes[at] == PLANTED[0] && bytes[at..].starts_with(PLANTED) {
            let word = bytes[at..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'-');
            found.insert(word.map(|byte| char::from(*byte)).collect());
        }
    }
    found
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files
}

/// Every planted word in the files of a folder, with the files that have it.
fn lying_in(folder: &Path) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in files(folder) {
        for word in planted(&fs::read(&path).unwrap()) {
            found.entry(word).or_default().push(path.strip_prefix(folder).unwrap().display().to_string());
        }
    }
    found
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// With all secrets that an installation can have, and all that can be logged.
fn setup(platform: &Platform, lists: &Path) -> Setup {
    Setup::default()
        .flag("--log", "trace")
        .flag("--dev", true)
        .flag("--list-dir", lists.display())
        .flag("--fetch-allow", "127.0.0.1/32")
        .flag("--signing-key-file", Platform::key_file().display())
        .flag("--content-safety-url", platform.url(""))
        .env("HASHWARD_CONTENT_SAFETY_KEY", SECRET)
        .flag("--s3-endpoint", platform.url("PLANTED-s3-endpoint"))
        .flag("--s3-buckets", "uploads")
        .env("HASHWARD_S3_ACCESS_KEY_ID", "PLANTED-s3-id")
        .env("HASHWARD_S3_SECRET_ACCESS_KEY", SECRET)
}

/// A picture with a word of its own in it.
fn picture(seed: u32, word: &str) -> Vec<u8> {
    [&png(seed)[..], word.as_bytes()].concat()
}

/// Does everything that brings words of others in, each time with a planted one.
fn live(platform: &Platform, server: &Server, lists: &Path) {
    let http = &server.http;
    let ok = |(status, answer): (u16, Value)| {
        assert!((200..300).contains(&status), "{status} {answer}");
        answer
    };
    describe(server);
    let url =
        platform.put("PLANTED-url-known?sig=PLANTED-url-secret", "image/png", &picture(3, "PLANTED-media-1"));
    let video = [&b"\0\0\0\x18ftypmp42"[..], &b"PLANTED-media-2 ".repeat(300)].concat();
    let film = platform.put("PLANTED-url-film", "video/mp4", &video);
    let hook = platform.url("hook/PLANTED-url-hook");
    let hash = random_hashes(91, 1)[0];

    // Banks: notes, metadata, texts, credentials.
    server.create_bank("KNOWN");
    ok(http.post("/c/bank/KNOWN/signal", &json!({ "pdq": hex(&hash), "note": "https://x/PLANTED-note" })));
    let metadata = json!({ "metadata": { "content_uri": "https://x/PLANTED-content-uri" } });
    ok(http.post(&format!("/c/bank/KNOWN/content?url={url}"), &metadata));
    ok(http.upload("/c/bank/KNOWN/content", "video", &video));
    let text =
        json!({ "signals": { "raw_text": "words of PLANTED-banked-text that are somebody's" }, "note": "n" });
    ok(http.post("/api/v1/banks/KNOWN/contents", &text));
    let login = json!({ "credential_json": { "user": "PLANTED-user", "password": "PLANTED-password" } });
    ok(http.post("/c/exchanges/api/ncmec", &login));
    let list = lists.join("PLANTED-list");
    fs::write(&list, "raw_text some words of PLANTED-listed-text by a partner\n").unwrap();
    let exchange = json!({ "api": "local_file", "bank": "LIST",
        "api_json": { "filename": list, "signal_type": "pdq" } });
    ok(http.post("/c/exchanges", &exchange));
    assert_eq!(http.post("/dev/run_fetch", &json!({})).0, 302);
    assert_eq!(http.get("/c/exchange/LIST/status").1["fetched_items"], 1);

    // Rules and whom they tell.
    ok(http.put("/api/v1/webhooks/platform", &json!({ "url": hook })));
    ok(http.put(
        "/api/v1/settings",
        &json!({ "partial_items_url": platform.url("partial?PLANTED-url-partial") }),
    ));
    let told = json!([{ "webhook": { "name": "platform" } }, { "enqueue": { "queue": QUEUE } }]);
    rule(server, "tell", json!({ "kind": "proactive", "banks": ["KNOWN"], "actions": told }));
    let words = json!({ "field": "text", "comparator": "CONTAINS", "value": "PLANTED-rule" });
    rule(
        server,
        "words",
        json!({ "kind": "proactive", "when": words, "actions": [{ "enqueue": { "queue": QUEUE } }] }),
    );
    rule(server, "ncmec", json!({ "banks": ["KNOWN"], "actions": [{ "enqueue_ncmec": {} }] }));
    let safety = json!({ "content_safety": { "at_least": "HIGH" } });
    rule(
        server,
        "novel",
        json!({ "kind": "proactive", "when": safety, "actions": [{ "enqueue": { "queue": QUEUE } }] }),
    );
    platform.classify_as("VERY_HIGH");
    platform.fail("/hook", &[500, 0]);

    // What a platform tells, and what is asked of us.
    let mut item =
        post(ITEM, "u", json!({ "cover": url, "gallery": [{ "url": film }, hashed(&flipped(&hash, 3, 1))] }));
    item["data"]["text"] = json!("mail me at PLANTED-text");
    send(server, &[item]);
    let report = json!({ "reporter": { "kind": "user", "typeId": "user", "id": "r" },
        "reportedAt": "2026-01-01T00:00:00Z", "reportedItem": post("2", "v", json!({ "cover": url })),
        "reportedForReason": { "csam": true, "reason": "see https://x/PLANTED-report" } });
    ok(http.post("/api/v1/report", &report));
    let context = |item: &str| UploadContext {
        item_id: Some(item.into()),
        creator: Some("w".into()),
        url: Some("https://x/PLANTED-url-upload".into()),
        ..UploadContext::default()
    };
    for at in 0..3u64 {
        let query = Query::pdq(vec![flipped(&hash, 2, at), random_hashes(at + 500, 1)[0]]);
        let contexts = vec![(0, context(&format!("upload-{at}"))), (1, context("clean"))];
        server.client().submit(RequestId::fresh(), query, contexts).unwrap();
    }
    ok(http.get(&format!("/m/lookup?url={url}")));
    ok(http.get(&format!("/h/hash?url={url}")));
    http.get(&format!("/h/hash?url={}", platform.url("media/PLANTED-url-gone")));
    http.get("/m/lookup?signal_type=raw_text&signal=PLANTED-asked-text");
    let object = json!({ "Records": [{ "eventName": "ObjectCreated:Put", "eventTime": "2026-11-20T10:00:00.000Z",
        "s3": { "bucket": { "name": "uploads" }, "object": { "key": "PLANTED-s3-key", "sequencer": "1" } } }] });
    http.post("/api/v1/s3/events", &object);
    settled(server);
    platform.wait("/hook", 3);

    // What people write.
    let job = ok(http.post(&format!("/api/v1/queues/{QUEUE}/next"), &json!({ "reviewer": "anna" })));
    let comment = json!({ "reviewer": "anna", "text": "PLANTED-comment" });
    ok(http.post(&format!("/api/v1/jobs/{}/comments", job["id"]), &comment));
    let decision = json!({ "decision": "ignore", "lease": job["lease"]["token"], "revision": job["revision"],
        "reason": "PLANTED-reason" });
    ok(http.post(&format!("/api/v1/jobs/{}/decision", job["id"]), &decision));

    // And what stays: an item that waits, and says why.
    send(server, &[post("late", "u", json!({ "cover": platform.url("media/PLANTED-url-gone") }))]);
    let deadline = Instant::now() + Duration::from_secs(30);
    while http.get("/api/v1/intake").1["entries"][0]["tries"].as_u64() == Some(0) {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(20));
    }
    sound(server);
    thread::sleep(Duration::from_millis(300)); // the ring of Submits is written when there is time
}

/// All of it is there still, for who asks the program.
fn all_is_there(server: &Server) {
    let http = &server.http;
    let item = http.get(&format!("/api/v1/items?typeId=post&id={ITEM}")).1;
    let hits = json!(server.pages("/api/v1/hits"));
    let jobs = json!(server.jobs("ncmec"));
    let media = json!(server.pages(&format!("/api/v1/jobs/{}/media", server.jobs("ncmec")[0]["id"])));
    let contents = http.get("/api/v1/banks/KNOWN/contents").1;
    let all =
        [item, hits, jobs, media, contents, http.get("/api/v1/webhooks").1, http.get("/api/v1/intake").1];
    let words: BTreeSet<String> = all.iter().flat_map(|one| planted(one.to_string().as_bytes())).collect();
    for word in [
        "text",
        "url-known",
        "url-upload",
        "report",
        "note",
        "content-uri",
        "banked-text",
        "url-hook",
        "url-gone",
    ] {
        assert!(words.contains(&format!("PLANTED-{word}")), "PLANTED-{word} is not among {words:?}");
    }
    assert_eq!(http.get("/c/exchanges/api/ncmec").1["has_set_authentification"], true);
    sound(server);
}

fn nothing_lies_open(stopped: &Stopped, log: &str) {
    let found = lying_in(stopped.data());
    let clear: Vec<&String> = found.keys().collect();
    assert_eq!(clear, [ITEM], "in the clear: {found:?}");
    let rows: Vec<PathBuf> = files(stopped.data());
    let has = |needle: &[u8]| rows.iter().any(|path| contains(&fs::read(path).unwrap(), needle));
    assert!(has(QUEUE.as_bytes()), "the names of queues are in the clear");
    let pem = fs::read_to_string(Platform::key_file()).unwrap();
    let line = pem.lines().nth(3).unwrap();
    for (what, needle) in [("the picture", &png(3)[200..232]), ("the signing key", line.as_bytes())] {
        assert!(!has(needle) && !contains(log.as_bytes(), needle), "{what} lies open");
    }
    // The item that waits for a URL is told of at `debug`, without it.
    assert!(log.contains("ready") && log.contains("an item waits"), "{log}");
    assert_eq!(planted(log.as_bytes()), BTreeSet::new(), "in the log: {log}");
    assert!(!planted(b"a PLANTED-word, found").is_empty());
}

#[test]
fn after_a_stop_nothing_planted_lies_in_the_data_directory_or_the_log() {
    let platform = Platform::start();
    let lists = tempfile::tempdir().unwrap();
    let server = setup(&platform, lists.path()).start();
    live(&platform, &server, lists.path());
    all_is_there(&server);
    let mut server = server;
    server.signal(rustix::process::Signal::TERM);
    assert!(server.wait().success(), "{}", server.log());
    thread::sleep(Duration::from_millis(100)); // its last words are still being collected
    let log = server.log();
    let stopped = server.kill();
    nothing_lies_open(&stopped, &log);
    let server = stopped.restart_with(setup(&platform, lists.path()));
    all_is_there(&server);
}

#[test]
fn after_kill_9_nothing_planted_lies_in_the_logs_of_the_databases_either() {
    let platform = Platform::start();
    let lists = tempfile::tempdir().unwrap();
    let server = setup(&platform, lists.path()).start();
    live(&platform, &server, lists.path());
    let log = server.log();
    let stopped = server.kill();
    let logs =
        files(stopped.data()).into_iter().filter(|path| path.extension().is_some_and(|of| of == "log"));
    assert!(
        logs.map(|path| fs::metadata(path).unwrap().len()).sum::<u64>() > 10_000,
        "the WALs hold the rows"
    );
    nothing_lies_open(&stopped, &log);
    let server = stopped.restart_with(setup(&platform, lists.path()));
    all_is_there(&server);
}

#[test]
fn a_token_is_neither_stored_nor_logged() {
    let token = "PLANTED-token-0123456789abcdef0123456789";
    let server = Setup::default().flag("--log", "trace").env("HASHWARD_TOKEN", token).start();
    let bearer = format!("Bearer {token}");
    for (header, value) in
        [("authorization", bearer.as_str()), ("x-api-key", token), ("authorization", "Bearer PLANTED-wrong")]
    {
        server.http.get_with("/api/v1/banks", &[(header, value)]);
        server.http.post_with("/api/v1/items/async/", &json!({ "items": [] }), &[(header, value)]);
    }
    assert_eq!(server.http.get_with("/api/v1/banks", &[("authorization", &bearer)]).0, 200);
    let log = server.log();
    let stopped = server.kill();
    assert_eq!(planted(log.as_bytes()), BTreeSet::new(), "{log}");
    assert!(lying_in(stopped.data()).is_empty());
}

/// Starting must fail with these words, and change nothing.
fn refused(stopped: &Stopped, setup: Setup, says: &str) {
    let keys =
        || files(stopped.data()).iter().filter(|path| path.extension().is_some_and(|of| of == "key")).count();
    let before = keys();
    let (status, words) = refusal(setup.data(stopped.data()));
    assert!(
        status.code() == Some(2) && words.contains(says) && !words.contains("panicked"),
        "{says}: {words}"
    );
    assert_eq!(keys(), before, "a key was made");
}

#[test]
fn without_its_keys_a_data_directory_is_refused_and_no_key_is_made_over_it() {
    let elsewhere = tempfile::tempdir().unwrap();
    let key_file = elsewhere.path().join("kek");
    let with = |path: &Path| Setup::default().flag("--key-file", path.display());
    let server = with(&key_file).start();
    server.create_bank("B");
    server.add_pdq("B", &random_hashes(92, 1)[0]);
    let stopped = server.stop();
    let data_key = stopped.data().join("data.key");
    assert!(data_key.exists() && !stopped.data().join("secrets.key").exists());

    refused(&stopped, with(&elsewhere.path().join("gone")), "is missing, and");
    refused(&stopped, Setup::default(), "is missing, and");
    let other = elsewhere.path().join("other");
    fs::write(&other, [7; 32]).unwrap();
    refused(&stopped, with(&other), "does not open with this key file");
    let kept = fs::read(&data_key).unwrap();
    fs::remove_file(&data_key).unwrap();
    refused(
        &stopped,
        with(&key_file),
        "data.key is missing, and the bank database's 'banks' was sealed with it",
    );
    refused(&stopped, with(&elsewhere.path().join("gone")), "is missing, and the bank database's 'banks'");
    fs::write(&data_key, kept).unwrap();
    let server = stopped.restart_with(with(&key_file));
    assert_eq!(server.http.get("/api/v1/banks/B").1["contents"], 1);
}
