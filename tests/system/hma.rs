//! HMA's HTTP API: recorded exchanges are played against our server, and cases of our own.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageFormat, Luma, Rgba};
use index::Hash256;
use ingest::wire::Query;
use serde_json::json;
use tests::transcript::{Exchange, comparable, read};
use tests::{Files, Server, Setup, skipped};

/// What of HMA's behaviour we change on purpose: part of the command, HMA's status, ours, and why.
/// docs/hma.md says the same to users.
const DIFFERENCES: [(&str, u16, u16, &str); 23] = [
    ("5199/ ", 302, 302, "HMA's web UI is not here: / leads to /status"),
    ("/site-map", 200, 200, "it lists what is served"),
    ("-d \\[1\\]", 500, 400, "HMA fails on a list"),
    ("disable_until_ts\\\":null", 500, 400, "HMA fails on null"),
    ("c9b22%0A", 500, 400, "HMA takes a line end for part of a hash and then fails"),
    ("video_md5\\\":\\[\\\"d41d", 500, 200, "HMA cannot compare digests"),
    ("trunc.jpg", 500, 400, "HMA fails on a cut picture"),
    ("t.txt\\&content_type=photo", 500, 400, "HMA fails on what is no picture"),
    ("photo=@images/t.txt", 500, 400, "HMA fails on what is no picture"),
    ("missing.jpg", 400, 400, "the reason in words is the status's own"),
    ("127.0.0.1:1/x.jpg", 400, 400, "the words of another HTTP library"),
    ("p.gif", 200, 200, "HMA hashes palette indices; we hash the picture"),
    ("rgba.png", 200, 200, "the recording's picture is not at hand; the test's own has other pixels"),
    ("-X PUT -H Content-Type:", 500, 400, "HMA fails on every PUT of a signal type"),
    ("-X PUT http://127.0.0.1:5199/c/signal_type", 500, 400, "HMA fails on every PUT of a signal type"),
    ("credential_json", 500, 400, "HMA fails on fields a programme does not have"),
    ("-d \\{\\\"bank\\\":\\\"9BAD", 500, 400, "HMA fails on a name it allows for exchanges only"),
    ("-d \\{\\\"bank", 500, 403, "HMA fails on a bank that is there"),
    (
        "-X PUT -H Content-Type:\\ application/json -d \\{\\\"enabled\\\":false\\} http://127.0.0.1:5199/c/exchange/",
        200,
        200,
        "HMA answers the keys, run together",
    ),
    ("-d \\{\\} http://127.0.0.1:5199/c/exchange/", 200, 200, "HMA answers the keys, run together"),
    ("bypass_enabled_ratio=false", 200, 200, "a coin without a seed is nobody's to repeat"),
    ("ui/query_url", 400, 400, "HMA wraps the reason in others"),
    ("EDGE_DIS/status", 200, 200, "HMA notes a start of what it does not fetch"),
];

/// The pictures the recordings were made with, as far as they can be made again.
fn pictures(shared: &Path, folder: &Path) {
    let original = shared.join("data/pdq/bridge-mods/aaa-orig.jpg");
    let bytes = fs::read(&original).unwrap();
    fs::write(folder.join("aaa-orig.jpg"), &bytes).unwrap();
    fs::write(folder.join("trunc.jpg"), &bytes[..bytes.len() / 3]).unwrap();
    fs::write(folder.join("t.txt"), "hello\n").unwrap();
    let picture = image::load_from_memory(&bytes).unwrap();
    let save = |picture: &DynamicImage, name: &str, format| {
        let mut out = Cursor::new(Vec::new());
        picture.write_to(&mut out, format).unwrap();
        fs::write(folder.join(name), out.into_inner()).unwrap();
    };
    save(&picture, "orig.png", ImageFormat::Png);
    fs::copy(shared.join("data/pdq/misc-images/modes/L.png"), folder.join("l.png")).unwrap();
    save(&DynamicImage::from(picture.to_rgba8()), "rgba.png", ImageFormat::Png);
    save(&picture.thumbnail(400, 400), "p.gif", ImageFormat::Gif);
    let grey = image::ImageBuffer::from_pixel(200, 200, Luma([128u8]));
    save(&DynamicImage::from(grey), "gray.png", ImageFormat::Png);
}

/// The specifications and data beside the repository.
pub fn shared() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared").into();
    let folder = std::env::var_os("HASHWARD_SHARED").map_or(beside, PathBuf::from);
    folder.join("specs/hma-transcripts").is_dir().then_some(folder)
}

#[test]
fn recorded_exchanges_with_hma_give_the_same() {
    let Some(shared) = shared() else {
        return skipped("hma_transcripts", "HASHWARD_SHARED has no transcripts");
    };
    let folder = tempfile::tempdir().unwrap();
    pictures(&shared, folder.path());
    let files = Files::serve(folder.path());
    let server = Setup::default().env("HASHWARD_DEV", "true").start();
    let (mut played, mut wrong) = (0, Vec::new());
    for name in [
        "00_core",
        "01_banks",
        "02_content",
        "03_match",
        "04_hash",
        "05_exchange",
        "06_config",
        "07_ui",
        "09_exchange_edge",
    ] {
        let text = fs::read_to_string(shared.join(format!("specs/hma-transcripts/{name}.txt"))).unwrap();
        for exchange in read(&text) {
            // A clip that is not at hand.
            if exchange.command.contains("flat.mp4") {
                continue;
            }
            played += 1;
            let given = exchange.play(&server.admin, &files.address.to_string(), folder.path());
            wrong.extend(
                fault(name, &exchange, &given)
                    .map(|fault| format!("{name}: {}\n  {fault}", exchange.command)),
            );
        }
    }
    assert!(played > 200, "{played} exchanges played");
    assert!(wrong.is_empty(), "{} of {played} differ:\n{}", wrong.len(), wrong.join("\n"));
}

fn fault(name: &str, exchange: &Exchange, given: &tests::transcript::Answered) -> Option<String> {
    let command = format!("{} ({})", exchange.command, &name[..2]);
    let differs =
        |(part, theirs, ..): &&(&str, u16, u16, &str)| command.contains(part) && *theirs == exchange.status;
    if let Some((_, _, ours, _)) = DIFFERENCES.iter().find(differs) {
        return (given.status != *ours)
            .then(|| format!("{} instead of our {ours}: {}", given.status, given.body));
    }
    if given.status != exchange.status {
        return Some(format!("{} instead of {}: {}", given.status, exchange.status, given.body));
    }
    if given.allow != exchange.allow() {
        return Some(format!("Allow {:?} instead of {:?}", given.allow, exchange.allow()));
    }
    let (mut ours, mut theirs) = (comparable(&given.body), comparable(&exchange.body));
    // A bank at one half takes part or not as a coin falls; without a seed that cannot be repeated.
    if command.contains("/m/lookup") && !command.contains("seed=") {
        for answer in [&mut ours, &mut theirs] {
            for place in ["", "/pdq"] {
                answer.pointer_mut(place).and_then(|banks| banks.as_object_mut()?.remove("HALF"));
            }
        }
    }
    (ours != theirs && !exchange.command.contains("--head"))
        .then(|| format!("gave\n    {ours}\n  instead of\n    {theirs}"))
}

#[test]
fn processes_with_fewer_roles_answer_as_recorded() {
    let Some(shared) = shared() else {
        return skipped("hma_roles", "HASHWARD_SHARED has no transcripts");
    };
    let folder = tempfile::tempdir().unwrap();
    pictures(&shared, folder.path());
    let files = Files::serve(folder.path());
    let without = |setup: Setup, roles: &[&str]| {
        roles.iter().fold(setup, |setup, role| setup.flag(&format!("--role-{role}"), false)).start()
    };
    let matcher = without(Setup::default(), &["hasher", "curator"]);
    let none = without(Setup::default(), &["hasher", "matcher", "curator"]);
    let text = fs::read_to_string(shared.join("specs/hma-transcripts/08_roles_and_notready.txt")).unwrap();
    let (mut played, mut wrong) = (0, Vec::new());
    for exchange in read(&text) {
        // What is said while nothing is loaded has a test of its own; paths and sizes are ours.
        if exchange.status == 503
            || ["/site-map", "/index/status"].iter().any(|own| exchange.command.contains(own))
        {
            continue;
        }
        played += 1;
        let server = if exchange.command.contains(":5120") { &matcher } else { &none };
        let given = exchange.play(&server.admin, &files.address.to_string(), folder.path());
        wrong.extend(fault("08", &exchange, &given).map(|fault| format!("{}\n  {fault}", exchange.command)));
    }
    assert!(played > 7, "{played} exchanges played");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn exchanges_of_our_own_are_answered_byte_by_byte() {
    let cases = include_str!("../replay/hma.txt");
    let server = Server::start();
    let mut played = 0;
    for case in cases.split("\n\n").filter(|case| !case.starts_with('#')) {
        let (request, expected) = case.trim().split_once('\n').unwrap();
        let mut words = request.splitn(3, ' ');
        let (method, path, body) = (words.next().unwrap(), words.next().unwrap(), words.next());
        let (status, answer) = server.http.plain(method, path, body);
        // Lines end with the body, but for those lists.
        let end = if status == 422 || path.starts_with("/status") { "" } else { "\n" };
        assert_eq!(format!("{status} {answer}"), format!("{expected}{end}"), "{request}");
        played += 1;
    }
    assert!(played > 60, "{played} exchanges played");
}

#[test]
fn a_content_that_was_added_is_found_by_the_next_lookup() {
    let server = Setup::default().start();
    let (one, other) = ("0".repeat(64), "f".repeat(64));
    assert_eq!(server.http.post("/c/banks", &json!({ "name": "A", "enabled_ratio": "1" })).0, 201);
    assert_eq!(server.http.post("//c//banks", &json!({ "name": "OFF", "enabled_ratio": 0 })).0, 201);
    let added = server.http.post("/c/bank/A/signal", &json!({ "pdq": one, "note": "first" }));
    assert_eq!(added, (200, json!({ "id": 1, "signals": { "pdq": one } })));
    assert_eq!(server.http.post("/c/bank/OFF/signal", &json!({ "pdq": one })).0, 200);
    let lookup =
        |signal: &str| server.http.get(&format!("/m/lookup?signal_type=pdq&signal={signal}&seed=1")).1;
    assert_eq!(lookup(&one), json!({ "A": [{ "bank_content_id": 1, "distance": "0" }] }));
    assert_eq!(lookup(&other), json!({}));
    let raw = server.http.get(&format!("/m/raw_lookup?signal_type=pdq&signal={one}")).1;
    assert_eq!(raw["matches"].as_array().unwrap().len(), 2, "{raw}");

    // Disabled, a content is banked and does not match; so it stays over a restart.
    let (status, shown) = server.http.put("/c/bank/A/content/1", &json!({ "disable_until_ts": 0 }));
    assert_eq!((status, &shown["disable_until_ts"]), (200, &json!(0)));
    assert_eq!(lookup(&one), json!({}));
    // Nor does it over the binary port or our own API, nor do banks that are off.
    assert!(server.client().lookup(Query::pdq(vec![Hash256([0; 32])])).unwrap().hits.is_empty());
    let own = server.http.post("/api/v1/lookup", &json!({ "signal_type": "pdq", "signals": [one] })).1;
    assert_eq!(own["results"][0]["matches_total"], 0, "{own}");
    assert_eq!(server.http.put("/c/bank/OFF", &json!({ "name": "ON", "enabled": true })).1["name"], "ON");
    let server = server.stop().restart();
    let lookup =
        |signal: &str| server.http.get(&format!("/m/lookup?signal_type=pdq&signal={signal}&seed=1")).1;
    assert_eq!(lookup(&one), json!({ "ON": [{ "bank_content_id": 2, "distance": "0" }] }));
    let (_, shown) = server.http.get("/c/bank/A/content/1?include_signals=true");
    assert_eq!(
        (&shown["disable_until_ts"], &shown["note"], &shown["signals"]["pdq"]),
        (&json!(0), &json!("first"), &json!(one))
    );
    assert_eq!(server.http.put("/c/bank/A/content/1", &json!({ "disable_until_ts": 1 })).0, 200);
    assert_eq!(server.http.delete("/c/bank/A/content/1").1, json!({ "deleted": 1 }));
    assert_eq!(server.http.delete("/c/bank/A/content/1").1, json!({ "deleted": 0 }));
}

#[test]
fn a_url_does_not_lead_into_the_private_network() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.mp4"), "a film").unwrap();
    let files = Files::serve(folder.path());
    let port = files.address.port();
    let server = Setup::default().start();
    let ask = |url: &str| server.http.get(&format!("/h/hash?url={url}"));
    for url in [
        format!("http://127.0.0.1:{port}/a.mp4"),
        format!("http://localhost:{port}/a.mp4"),
        format!("http://[::ffff:127.0.0.1]:{port}/a.mp4"),
        format!("http://2130706433:{port}/a.mp4"),
        "http://169.254.169.254/latest/meta-data".to_string(),
    ] {
        let (status, said) = ask(&url);
        let text = said["message"].as_str().unwrap_or_default().to_string();
        assert!(status == 400 && text.contains("not a public address"), "{url}: {status} {said}");
    }
    assert_eq!(ask("file:///etc/passwd").1, json!({ "message": "Invalid or unsafe URL provided" }));
    // Named ranges are reached; a redirect out of them is not.
    let server = Setup::default().flag("--fetch-allow", "127.0.0.1/32").start();
    let ask = |url: &str| server.http.get(&format!("/h/hash?url={url}"));
    let md5 = "38f8f4a4ee51cb6ef1ecbe1cd0a7b3ba";
    let (status, said) = ask(&format!("http://127.0.0.1:{port}/a.mp4"));
    assert_eq!((status, said["video_md5"].as_str().map(str::len)), (200, Some(md5.len())), "{said}");
    let (status, said) = ask(&format!("http://127.0.0.1:{port}/redirect/http://10.0.0.1/"));
    assert!(status == 400 && said["message"].as_str().unwrap().contains("not a public address"), "{said}");
    let (status, said) = ask(&format!("http://127.0.0.1:{port}/redirect/file:///etc/passwd"));
    assert!(status == 400, "{said}");
}

#[test]
fn a_process_serves_the_roles_it_has() {
    let server = Setup::default().flag("--role-hasher", "false").flag("--role-curator", "false").start();
    assert_eq!(server.http.get("/h/hash?url=x").0, 404);
    assert_eq!(server.http.get("/c/banks").0, 404);
    let refused = (403, json!({ "message": "Hashing is disabled, missing role" }));
    assert_eq!(server.http.get("/m/lookup?url=http://127.0.0.1/a.jpg"), refused);
    assert_eq!(
        server.http.get(&format!("/m/lookup?signal_type=pdq&signal={}", "0".repeat(64))),
        (200, json!({}))
    );
}

#[test]
fn transparency_is_dropped_not_blended() {
    let opaque = image::ImageBuffer::from_fn(120, 90, |x, y| {
        Rgba([(x * 2) as u8, (y * 2) as u8, (x * y) as u8, 255u8])
    });
    let mut clear = opaque.clone();
    clear.pixels_mut().for_each(|pixel| pixel.0[3] = (pixel.0[0] / 2) + 1);
    let server = Setup::default().start();
    let hash = |picture: image::RgbaImage| {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
        server.http.upload("/h/hash", "photo", bytes.get_ref())
    };
    let (status, hashed) = hash(opaque);
    assert_eq!(status, 200, "{hashed}");
    assert_eq!(hash(clear), (200, hashed));
}

/// What Coop's client sends, as its source has it (specs/coop.md 3): a slash too many, ratios as text.
#[test]
fn coops_calls_succeed() {
    let folder = tempfile::tempdir().unwrap();
    let picture = image::ImageBuffer::from_fn(160, 120, |x, y| {
        image::Rgb([(x * y) as u8, (x * 3) as u8, (y * 5) as u8])
    });
    picture.save_with_format(folder.path().join("a.png"), ImageFormat::Png).unwrap();
    let files = Files::serve(folder.path());
    let server = Setup::default().env("HASHWARD_DEV", "true").start();
    let (http, bank) = (&server.http, "COOP_ORG_MINE");
    let url = format!("http%3A%2F%2F{}%2Fa.png", files.address.to_string().replace(':', "%3A"));
    let (status, hashes) = http.get(&format!("//h/hash?url={url}"));
    let hash = hashes["pdq"].as_str().unwrap_or_default().to_string();
    assert_eq!((status, hash.len()), (200, 64), "{hashes}");
    let made = http.post("//c/banks", &json!({ "name": bank, "enabled_ratio": "1" }));
    assert_eq!(made, (201, json!({ "name": bank, "matching_enabled_ratio": 1.0 })));
    assert_eq!(http.post(&format!("//c/bank/{bank}/content?url={url}"), &json!({})).0, 200);
    let (status, found) = http.get(&format!("//m/lookup?signal={hash}&signal_type=pdq"));
    assert_eq!((status, &found[bank][0]["distance"]), (200, &json!("0")), "{found}");
    assert_eq!(http.get(&format!("//c/bank/{bank}")).0, 200);
    assert_eq!(http.get("//c/bank/COOP_ORG_NONE").0, 404);
    assert_eq!(
        http.put(&format!("//c/bank/{bank}"), &json!({ "enabled_ratio": 0.5 })).1["matching_enabled_ratio"],
        0.5
    );
    let exchange = json!({ "bank": "COOP_ORG_X", "api": "sample", "api_json": {} });
    assert_eq!(http.post("//c/exchanges", &exchange).0, 201);
    assert!(http.get("//c/exchanges/apis").1.as_array().unwrap().contains(&json!("ncmec")));
    let login = json!({ "credential_json": { "user": "u", "password": "p" } });
    assert_eq!(http.post("//c/exchanges/api/ncmec", &login).0, 200);
    let known = json!({ "supports_authentification": true, "has_set_authentification": true });
    assert_eq!(http.get("//c/exchanges/api/ncmec"), (200, known));
    assert!(http.get("//c/exchanges/api/ncmec/schema").1["credentials_schema"]["fields"].is_array());
    assert_eq!(http.get("//c/exchange/COOP_ORG_X").1["api"], "sample");
    assert_eq!(http.get("//c/exchange/COOP_ORG_X/status").1["up_to_date"], false);
    assert_eq!(http.delete(&format!("//c/bank/{bank}")).0, 200);
}

#[test]
fn a_local_list_is_followed_and_its_failure_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.txt");
    let (one, other) = ("1".repeat(64), "7".repeat(64));
    fs::write(&list, format!("pdq {one}\n{other}\n")).unwrap();
    let setup = || Setup::default().env("HASHWARD_DEV", "true").flag("--list-dir", folder.path().display());
    let server = setup().start();
    let http = server.http.clone();
    let config = json!({ "filename": list, "signal_type": "pdq" });
    let made = http.post("/c/exchanges", &json!({ "bank": "LIST", "api": "local_file", "api_json": config }));
    assert_eq!(made.0, 201, "{}", made.1);
    let fetch = |http: &tests::Http| {
        assert_eq!(http.post("/dev/run_fetch", &json!({})).0, 302);
        http.get("/c/exchange/LIST/status").1
    };
    let found = |http: &tests::Http, signal: &str| {
        http.get(&format!("/m/raw_lookup?signal_type=pdq&signal={signal}")).1["matches"]
            .as_array()
            .unwrap()
            .len()
    };
    let status = fetch(&http);
    assert_eq!(
        (&status["last_fetch_succeeded"], &status["fetched_items"]),
        (&json!(true), &json!(2)),
        "{status}"
    );
    assert_eq!((found(&http, &one), found(&http, &other)), (1, 1));
    let content =
        http.get(&format!("/m/raw_lookup?signal_type=pdq&signal={one}")).1["matches"][0].as_u64().unwrap();
    let shown = http.get(&format!("/c/bank/LIST/content/{content}")).1;
    assert_eq!(shown["metadata"]["collab"], json!({ "LIST": [format!("('pdq', '{one}')")] }), "{shown}");
    // The same list again changes nothing; a damaged one neither; a shorter one withdraws.
    let generation = |http: &tests::Http| http.get("/api/v1/index").1["generation"].clone();
    let before = generation(&http);
    fetch(&http);
    assert_eq!(generation(&http), before);
    for damaged in ["", "pdq zz", &format!("{one}\nwhat is this\n")] {
        fs::write(&list, damaged).unwrap();
        assert_eq!(fetch(&http)["last_fetch_succeeded"], false, "{damaged:?}");
        assert_eq!((found(&http, &one), found(&http, &other)), (1, 1), "{damaged:?}");
    }
    fs::write(&list, &other).unwrap();
    assert_eq!(fetch(&http)["fetched_items"], 1);
    assert_eq!((found(&http, &one), found(&http, &other)), (0, 1));
    // What it knows survives a crash, and what a person removed stays removed.
    let killed = server.kill();
    let server = setup().data(killed.data()).start();
    let http = server.http.clone();
    let content =
        http.get(&format!("/m/raw_lookup?signal_type=pdq&signal={other}")).1["matches"][0].as_u64().unwrap();
    assert_eq!(http.delete(&format!("/c/bank/LIST/content/{content}")).1["deleted"], 1);
    fetch(&http);
    assert_eq!(found(&http, &other), 0);
}

#[test]
fn stored_credentials_are_sealed() {
    let server = Setup::default().start();
    let planted = "planted-secret-5f2c";
    let login = json!({ "credential_json": { "user": "u", "password": planted } });
    assert_eq!(server.http.post("/c/exchanges/api/ncmec", &login).1["has_set_authentification"], true);
    let refused =
        server.http.post("/c/exchanges/api/ncmec", &json!({ "credential_json": { "password": [planted] } }));
    assert!(refused.0 == 400 && !refused.1.to_string().contains(planted), "{}", refused.1);
    let stopped = server.stop();
    let mut looked_at = 0;
    let mut folders = vec![stopped.data().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            let found = bytes.windows(planted.len()).any(|window| window == planted.as_bytes());
            assert!(!found, "{} holds the password", path.display());
            looked_at += 1;
        }
    }
    assert!(looked_at > 5, "{looked_at} files");
    let server = stopped.restart();
    assert_eq!(server.http.get("/c/exchanges/api/ncmec").1["has_set_authentification"], true);
}

#[test]
fn hmas_routes_may_be_open_to_listed_addresses_alone() {
    let token = "0123456789abcdef0123456789abcdef";
    let server = Setup::default().env("HASHWARD_TOKEN", token).flag("--hma-allow", "127.0.0.0/8").start();
    assert_eq!(server.http.get("/c/banks"), (200, json!([])));
    assert_eq!(server.http.get("/api/v1/banks").0, 401);
    assert_eq!(server.http.get("//api/v1/banks").0, 401);
    assert_eq!(server.http.get("/c/../api/v1/banks").0, 404);
    let server = Setup::default().env("HASHWARD_TOKEN", token).flag("--hma-allow", "10.1.0.0/16").start();
    assert_eq!(server.http.get("/c/banks").0, 401);
    assert_eq!(server.http.get_with("/c/banks", &[("authorization", &format!("Bearer {token}"))]).0, 200);
}

#[test]
fn hostile_uploads_are_refused_in_bounded_memory() {
    let server = Setup::default().flag("--upload-bytes-max", 8 << 20).start();
    let at_rest = server.peak();
    let refused = |name: &str, (status, said): (u16, serde_json::Value), wanted: u16| {
        let words = said["message"].as_str().unwrap_or_default().to_string();
        assert!(status == wanted && !words.is_empty(), "{name}: {status} {said}");
        words
    };
    // A header that promises 2.5 gigapixels, with nothing behind it.
    let mut bomb = Cursor::new(Vec::new());
    image::RgbImage::new(8, 8).write_to(&mut bomb, ImageFormat::Bmp).unwrap();
    let mut bomb = bomb.into_inner();
    bomb[18..22].copy_from_slice(&50_000u32.to_le_bytes());
    bomb[22..26].copy_from_slice(&50_000u32.to_le_bytes());
    let words = refused("bomb", server.http.upload("/h/hash", "photo", &bomb), 400);
    assert!(words.contains("50000 x 50000"), "{words}");
    refused("empty", server.http.upload("/h/hash", "photo", b""), 400);
    refused("no picture", server.http.upload("/h/hash", "photo", b"GIF89a but not really"), 400);
    refused("too large", server.http.upload("/h/hash", "video", &vec![7; 9 << 20]), 413);
    let (status, said) = server.http.upload("/h/hash", "video", &vec![7; 7 << 20]);
    assert_eq!(status, 200, "{said}");
    // A gigabyte that is only announced is refused before it is read.
    let mut socket = std::net::TcpStream::connect(&server.admin).unwrap();
    let head = "POST /h/hash HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=b\r\n\
                content-length: 1073741824\r\nconnection: close\r\n\r\n";
    std::io::Write::write_all(&mut socket, head.as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut socket, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("Content too large"), "{answer}");
    let more = server.peak() - at_rest;
    assert!(more < 64 << 20, "{more} bytes more than at rest");
}
