//! Videos, texts, URLs and animated pictures: hashed, banked and matched, over HMA's routes and our own.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use image::{ImageFormat, Rgb, RgbImage};
use index::{Hash256, Signal, SignalType};
use serde_json::{Value, json};
use tests::{Clips, Files, Server, Setup, hex, skipped};

use crate::hma::shared;

const ALL_TYPES: &str = "pdq,video_md5,url,url_md5,raw_text,vpdq";

fn with_all_types() -> Setup {
    Setup::default().flag("--hma-signal-types", ALL_TYPES)
}

fn lookup_file(server: &Server, video: &[u8]) -> Value {
    let (status, found) = server.http.upload("/m/lookup?types=vpdq", "video", video);
    assert_eq!(status, 200, "{found}");
    found["vpdq"].clone()
}

#[test]
fn videos_match_by_the_share_of_their_frames() {
    let Some(clips) = Clips::new("videos_match_by_the_share_of_their_frames") else { return };
    let server = with_all_types().start();
    server.create_bank("V");
    let known = clips.source("known.mp4", "testsrc2", 8);
    let smaller = clips.of("smaller.webm", "known.mp4", &["-vf", "scale=320:180", "-b:v", "300k"]);
    let other = clips.source("other.mp4", "mandelbrot", 8);
    clips.of("half.mp4", "known.mp4", &["-t", "4"]);
    clips.of("rest.mp4", "other.mp4", &["-t", "4"]);
    let mixed = clips.joined("mixed.mp4", &["half.mp4", "rest.mp4"]);

    let (status, added) = server.http.upload("/c/bank/V/content", "video", &known);
    assert_eq!(status, 200, "{added}");
    let frames: Vec<String> = serde_json::from_str(added["signals"]["vpdq"].as_str().unwrap()).unwrap();
    assert_eq!(frames.len(), 8, "one a second");
    assert!(frames[3].ends_with(",3.0"), "{}", frames[3]);
    // The very frames that the reference takes: the first, and every 25th from there.
    for (second, frame) in frames.iter().enumerate().take(3) {
        let one = format!("select=eq(n\\,{})", second * 25);
        let picture = clips.of(&format!("{second}.png"), "known.mp4", &["-vf", &one, "-frames:v", "1"]);
        let hashed = server.http.stream("/api/v1/hash", Cursor::new(picture)).1;
        assert!(frame.starts_with(hashed["signals"]["pdq"].as_str().unwrap()), "{second}: {frame}");
    }

    let id = added["id"].clone();
    let hit = |distance: &str| json!({ "V": [{ "bank_content_id": id, "distance": distance }] });
    assert_eq!(lookup_file(&server, &known), hit("100%[100%]"));
    assert_eq!(lookup_file(&server, &smaller), hit("100%[100%]"), "another size and codec");
    assert_eq!(lookup_file(&server, &other), json!({}));
    assert_eq!(lookup_file(&server, &mixed), json!({}), "half of its frames is too few");

    // The rule is the operator's.
    let folder1 = server.kill();
    let server = folder1.restart_with(with_all_types().flag("--video-query-percent", 40));
    let found = lookup_file(&server, &mixed);
    assert_eq!(found["V"][0]["bank_content_id"], id, "{found}");
    let share = found["V"][0]["distance"].as_str().unwrap();
    assert!(["50%[50%]", "50%[38%]", "44%[50%]"].contains(&share), "{share}");

    // Our own routes hash and match it in one call, with the digests.
    let web = Files::serve(clips.folder());
    let folder2 = server.kill();
    let server = folder2.restart_with(with_all_types().flag("--dev", true));
    let url = |name: &str| format!("http://{}/{name}", web.address);
    let items = json!([{ "id": 1, "url": url("smaller.webm") }, { "id": 2, "url": url("other.mp4") }, { "url": url("none") }]);
    let (status, answer) = server.http.post("/api/v1/match", &json!({ "items": items }));
    assert_eq!(status, 200, "{answer}");
    let matched = &answer["items"][0]["matches"][0];
    assert_eq!((&matched["content"], &matched["signal_type"]), (&id, &json!("vpdq")), "{answer}");
    assert_eq!((&matched["query_percent"], &matched["bank"]), (&json!(100.0), &json!("V")));
    assert_eq!(answer["items"][1]["matches_total"], 0);
    assert!(answer["items"][2]["error"].as_str().unwrap().contains("404"), "{answer}");
    assert_eq!(answer["incomplete"], 1, "an error is not 'no match'");
}

#[test]
fn a_video_that_is_cut_or_no_video_is_refused_and_never_taken_for_another() {
    let test = "a_video_that_is_cut_or_no_video_is_refused_and_never_taken_for_another";
    let Some(clips) = Clips::new(test) else { return };
    let server = with_all_types().flag("--dev", true).start();
    clips.source("whole.mp4", "testsrc2", 6);
    let whole = clips.of("fast.mp4", "whole.mp4", &["-c", "copy", "-movflags", "+faststart"]);
    let silent = clips.run_sound("sound.mp4");
    let list = format!("#EXTM3U\n#EXTINF:6,\n{}\n", clips.folder().join("fast.mp4").display());
    for (what, bytes) in [
        ("cut", &whole[..whole.len() / 2]),
        ("only its head", &whole[..2000]),
        ("sound", &silent),
        ("a list that names a file", list.as_bytes()),
        ("junk", b"junk"),
        ("nothing", b""),
    ] {
        let (status, answer) = server.http.upload("/h/hash?types=vpdq", "video", bytes);
        assert_eq!(status, 400, "{what}: {answer}");
        let says = answer["message"].as_str().unwrap();
        assert!(says.starts_with("the video cannot be hashed: "), "{what}: {says}");
    }
    // Half a video may still be matched, and the answer says what it is.
    std::fs::write(clips.folder().join("cut.mp4"), &whole[..whole.len() / 2]).unwrap();
    let web = Files::serve(clips.folder());
    let item = json!({ "items": [{ "url": format!("http://{}/cut.mp4", web.address) }] });
    let answer = server.http.post("/api/v1/match", &item).1;
    assert!(answer["items"][0]["damage"].is_string(), "{answer}");
    assert_eq!(answer["incomplete"], 1);

    // Without the program the answer says so, and what does not need it goes on.
    let folder3 = server.kill();
    let server =
        folder3.restart_with(with_all_types().flag("--ffmpeg", "/nowhere/ffmpeg").flag("--dev", true));
    let (status, answer) = server.http.upload("/h/hash?types=vpdq", "video", &whole);
    assert_eq!(status, 501, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("install ffmpeg"), "{answer}");
    assert_eq!(server.http.upload("/h/hash?types=video_md5", "video", &whole).0, 200);
    let answer = server.http.post("/api/v1/match", &item).1;
    assert!(answer["items"][0]["not_hashed"]["vpdq"].is_string(), "{answer}");
    assert!(answer["items"][0]["signals"]["md5"].is_string(), "{answer}");
}

#[test]
fn a_file_that_takes_too_long_is_given_up_and_its_reader_ended() {
    let folder = tempfile::tempdir().unwrap();
    let slow = folder.path().join("ffmpeg");
    // Reads nothing, says nothing, and does not end. It may write no file, so it is known by how long it sleeps.
    let sleeps = format!("299.{}", std::process::id());
    std::fs::write(&slow, format!("#!/bin/sh\nexec sleep {sleeps}\n")).unwrap();
    std::fs::set_permissions(&slow, std::fs::Permissions::from_mode(0o755)).unwrap();
    let server = with_all_types().flag("--ffmpeg", slow.display()).flag("--hash-seconds", 1).start();
    let started = Instant::now();
    let (status, answer) = server.http.upload("/h/hash?types=vpdq", "video", b"anything");
    assert_eq!(status, 400, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("within 1 s"), "{answer}");
    assert!(started.elapsed() < Duration::from_secs(20));
    let gone = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let commands = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
        !commands.into_iter().any(|command| String::from_utf8_lossy(&command).contains(&sleeps))
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !gone() {
        assert!(Instant::now() < deadline, "sleep {sleeps} goes on");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(server.http.upload("/h/hash?types=video_md5", "video", b"anything").0, 200);
}

/// The frames of a list as the reference tool writes it: number, quality, hash, seconds.
fn frames_of(path: &Path) -> Vec<(Hash256, u8, String)> {
    let text = std::fs::read_to_string(path).unwrap();
    let frame = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let Ok(Signal::Pdq(hash)) = Signal::parse(SignalType::Pdq, fields[2]) else { panic!("{line}") };
        (hash, fields[1].parse().unwrap(), fields[3].to_string())
    };
    text.lines().map(frame).collect()
}

#[test]
fn the_references_videos_match_as_comparing_every_frame_says() {
    let test = "the_references_videos_match_as_comparing_every_frame_says";
    let Some(shared) = shared() else { return skipped(test, "no HASHWARD_SHARED") };
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(shared.join("data/vpdq")).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert!(names.len() > 20, "{names:?}");
    let videos: Vec<Vec<(Hash256, u8, String)>> = names.iter().map(|path| frames_of(path)).collect();
    let text = |video: &[(Hash256, u8, String)]| {
        let rows: Vec<String> =
            video.iter().map(|(hash, quality, time)| format!("{},{quality},{time}", hex(hash))).collect();
        json!(rows).to_string()
    };
    let server = with_all_types().start();
    server.create_bank("R");
    for video in &videos {
        let body = json!({ "signals": { "vpdq": text(video) } });
        assert_eq!(server.http.post("/api/v1/banks/R/contents", &body).0, 201);
    }
    // As the reference counts: frames of quality 50 or more, each hash once.
    let good = |video: &[(Hash256, u8, String)]| {
        let hashes = video.iter().filter(|(_, quality, _)| *quality >= 50).map(|(hash, ..)| *hash);
        hashes.collect::<BTreeSet<Hash256>>()
    };
    let good: Vec<BTreeSet<Hash256>> = videos.iter().map(|video| good(video)).collect();
    let share = |of: &BTreeSet<Hash256>, among: &BTreeSet<Hash256>| {
        let near = |hash: &&Hash256| among.iter().any(|other| hash.distance(other).bits() <= 31);
        of.iter().filter(near).count() as f64 * 100.0 / of.len() as f64
    };
    let mut pairs = 0;
    for (query, hashes) in videos.iter().zip(&good).step_by(3) {
        let body = json!({ "signal_type": "vpdq", "signals": [text(query)] });
        let (status, answer) = server.http.post("/api/v1/lookup", &body);
        assert_eq!(status, 200, "{answer}");
        let mut found: Vec<(u64, f64, f64)> = answer["results"][0]["matches"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                let percent = |name: &str| row[name].as_f64().unwrap();
                (row["content"].as_u64().unwrap(), percent("query_percent"), percent("banked_percent"))
            })
            .collect();
        found.sort_by_key(|(content, ..)| *content);
        let expected: Vec<(u64, f64, f64)> = (1..)
            .zip(&good)
            .map(|(content, banked)| (content, share(hashes, banked), share(banked, hashes)))
            .filter(|(_, of_query, _)| *of_query >= 80.0)
            .collect();
        // But for what JSON does to the last digit.
        let close = |(a, b): (&(u64, f64, f64), &(u64, f64, f64))| {
            a.0 == b.0 && (a.1 - b.1).abs() < 1e-9 && (a.2 - b.2).abs() < 1e-9
        };
        let same = found.len() == expected.len() && found.iter().zip(&expected).all(close);
        assert!(same, "{found:?} {expected:?}");
        pairs += found.len();
    }
    assert!(pairs > 30, "{pairs} pairs match");
}

#[test]
fn texts_match_by_their_edits_and_urls_whole() {
    let server = with_all_types().start();
    server.create_bank("T");
    let text = "We the People of the United States, in Order to form a more perfect Union";
    let signals = json!({ "raw_text": text, "url": " https://Example.com/a ", "url_md5": "0".repeat(32) });
    let (status, added) = server.http.post("/c/bank/T/signal", &signals);
    assert_eq!(status, 200, "{added}");
    assert_eq!(added["signals"]["url"], "https://Example.com/a", "trimmed");
    let id = added["id"].clone();
    let found = |server: &Server, kind: &str, signal: &str| {
        let body = json!({ "signal_type": kind, "signals": [signal] });
        let (status, answer) = server.http.post("/api/v1/lookup", &body);
        assert_eq!(status, 200, "{answer}");
        answer["results"][0]["matches"].clone()
    };
    // 59 letters count, so two edits are near enough and three are not; spelling and accents do not count.
    let check = |server: &Server| {
        for (query, edits) in [
            (text.to_string(), Some(0)),
            (text.to_uppercase().replace('e', "\u{e9}").replace(' ', "_"), Some(0)),
            (text.replace("perfect", "perfekt").replace("Union", "Onion"), Some(2)),
            (text.replace("perfect", "perfekt").replace("Union", "Oniom"), None),
            ("something else".to_string(), None),
            ("!?".to_string(), None),
        ] {
            let expected = edits.map(|edits| json!([{ "bank": "T", "content": id, "distance": edits }]));
            assert_eq!(found(server, "raw_text", &query), expected.unwrap_or(json!([])), "{query}");
        }
        let exactly = json!([{ "bank": "T", "content": id, "distance": 0 }]);
        assert_eq!(found(server, "url", "https://Example.com/a"), exactly);
        assert_eq!(found(server, "url", "https://example.com/a"), json!([]), "compared whole");
        assert_eq!(found(server, "url_md5", &"0".repeat(32)), exactly);
    };
    check(&server);
    let hit = server.http.get("/m/raw_lookup?signal_type=raw_text&include_distance=true&signal=We%20the%20People%20of%20the%20United%20States%20in%20Order%20to%20form%20a%20more%20perfect%20union").1;
    assert_eq!(hit, json!({ "matches": [{ "bank_content_id": id, "distance": "100%" }] }));
    // A URL's hash is of its normal form.
    let hash = |url: &str| server.http.upload("/h/hash", "url", url.as_bytes()).1["url_md5"].clone();
    assert_eq!(hash("HTTPS://Example.com/A"), hash("example.com/a"));
    let types = server.http.get("/c/content_type").1;
    assert_eq!(types.as_array().unwrap().len(), 4, "{types}");
    assert_eq!(server.http.post("/c/bank/T/signal", &json!({ "raw_text": "?!" })).0, 400);

    let folder4 = server.kill();
    let server = folder4.restart_with(with_all_types());
    check(&server);
    assert_eq!(server.http.delete(&format!("/c/bank/T/content/{id}")).1, json!({ "deleted": 1 }));
    assert_eq!(found(&server, "raw_text", text), json!([]));
    let folder5 = server.kill();
    let server = folder5.restart();
    assert_eq!(found(&server, "raw_text", text), json!([]), "gone for good");
}

/// A picture with enough in it to be matched by.
pub fn picture(seed: u32) -> RgbImage {
    RgbImage::from_fn(160, 120, |x, y| {
        let mixed = (x / 16 * 7919 + y / 12 * 104_729 + seed * 31_337).wrapping_mul(2_654_435_761);
        let shade = (mixed >> 24) as u8;
        Rgb([shade, shade.wrapping_mul(3), 255 - shade])
    })
}

/// An animated picture of these.
pub fn gif(seeds: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
    for seed in seeds {
        let frame = image::DynamicImage::from(picture(*seed)).into_rgba8();
        let delay = image::Delay::from_numer_denom_ms(200, 1);
        encoder.encode_frame(image::Frame::from_parts(frame, 0, 0, delay)).unwrap();
    }
    drop(encoder);
    bytes
}

#[test]
fn a_match_in_any_frame_of_an_animated_picture_counts() {
    let server = Setup::default().flag("--dev", true).start();
    server.create_bank("G");
    let mut png = Cursor::new(Vec::new());
    picture(3).write_to(&mut png, ImageFormat::Png).unwrap();
    let (status, added) = server.http.upload("/c/bank/G/content", "photo", png.get_ref());
    assert_eq!(status, 200, "{added}");

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("with.gif"), gif(&[1, 2, 3, 4])).unwrap();
    std::fs::write(folder.path().join("without.gif"), gif(&[1, 2, 4])).unwrap();
    let web = Files::serve(folder.path());
    let url = |name: &str| format!("http://{}/{name}", web.address);
    let items = json!([{ "url": url("with.gif") }, { "url": url("without.gif") }]);
    let answer = server.http.post("/api/v1/match", &json!({ "items": items })).1;
    assert_eq!(answer["items"][0]["matches"][0]["content"], added["id"], "{answer}");
    assert_eq!(answer["items"][0]["matches"][0]["time_ms"], 400);
    assert_eq!(
        (&answer["items"][1]["matches_total"], &answer["incomplete"]),
        (&json!(0), &json!(0)),
        "{answer}"
    );

    let hashed = server.http.get(&format!("/api/v1/hash?url={}", url("with.gif"))).1;
    assert_eq!(hashed["frames"].as_array().unwrap().len(), 4, "{hashed}");
    assert_eq!(hashed["frames"][0]["pdq"], hashed["signals"]["pdq"], "HMA hashes the first");
}

#[test]
fn a_file_is_hashed_in_every_way_that_is_asked_for() {
    let server = Server::start();
    let mut png = Cursor::new(Vec::new());
    let turned = picture(9);
    turned.write_to(&mut png, ImageFormat::Png).unwrap();
    let hash = |query: &str, bytes: &[u8]| {
        server.http.stream(&format!("/api/v1/hash{query}"), Cursor::new(bytes.to_vec()))
    };
    let (status, hashed) = hash("?dihedral=true", png.get_ref());
    assert_eq!(status, 200, "{hashed}");
    let kinds: Vec<&String> = hashed["signals"].as_object().unwrap().keys().collect();
    assert_eq!(kinds, ["md5", "pdq", "sha1", "sha256"]);
    assert_eq!(hashed["dihedral"]["original"], hashed["signals"]["pdq"]);
    assert_eq!(hashed["dihedral"].as_object().unwrap().len(), 8);
    assert!(hashed["quality"].as_u64().unwrap() >= 50);

    let abc = hash("?types=md5,sha1,sha256,video_md5", b"abc").1;
    assert_eq!(abc["signals"]["sha1"], "a9993e364706816aba3e25717850c26c9cd0d89d");
    assert_eq!(abc["signals"]["md5"], abc["signals"]["video_md5"]);
    assert_eq!(hash("?types=pdq", b"abc").0, 400);
    assert_eq!(hash("?types=photodna", b"abc").0, 400);
    let (status, answer) = hash("", &png.get_ref()[..900]);
    assert_eq!((status, answer["not_hashed"]["pdq"].is_string()), (200, true), "{answer}");

    let body = json!({ "items": [{ "signals": { "pdq": "zz" } }, { "signals": {} }, {}, { "url": "file:///etc/passwd" }] });
    let (status, answer) = server.http.post("/api/v1/match", &body);
    assert_eq!((status, &answer["incomplete"]), (200, &json!(4)), "{answer}");
    assert_eq!(server.http.post("/api/v1/match", &json!({ "items": [], "banks": ["NONE"] })).0, 404);
}
