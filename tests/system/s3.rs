//! Objects of S3: told of by events, fetched, hashed, matched, submitted.

use std::io::Cursor;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use image::ImageFormat;
use serde_json::{Value, json};
use tests::{S3, Server, Setup};

use crate::media::{gif, picture};

const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:uploads";
const EVENTS: &str = "/api/v1/s3/events";

fn with(s3: &S3) -> Setup {
    Setup::default()
        .flag("--s3-endpoint", format!("http://{}", s3.address))
        .flag("--s3-region", "eu-west-1")
        .flag("--s3-buckets", "uploads")
        .flag("--sns-topics", TOPIC)
        .env("HASHWARD_S3_ACCESS_KEY_ID", "AKIDTEST")
        .env("HASHWARD_S3_SECRET_ACCESS_KEY", "secret/of+the=test")
}

fn event(bucket: &str, key: &str, sequencer: &str) -> Value {
    // The same for every delivery.
    static MADE: OnceLock<String> = OnceLock::new();
    let time = MADE.get_or_init(|| humantime::format_rfc3339_millis(SystemTime::now()).to_string());
    json!({ "Records": [{ "eventName": "ObjectCreated:Put", "eventTime": time,
        "s3": { "bucket": { "name": bucket }, "object": { "key": key, "sequencer": sequencer } } }] })
}

fn png(seed: u32) -> Vec<u8> {
    let mut png = Cursor::new(Vec::new());
    picture(seed).write_to(&mut png, ImageFormat::Png).unwrap();
    png.into_inner()
}

fn logged(server: &Server) -> Vec<Value> {
    server.routed();
    server.pages("/api/v1/hits")
}

#[test]
fn an_object_that_matches_is_logged_once_however_often_s3_tells_of_it() {
    let s3 = S3::start();
    let server = with(&s3).start();
    server.create_bank("KNOWN");
    assert_eq!(server.http.upload("/c/bank/KNOWN/content", "photo", &png(3)).0, 200);
    s3.put("uploads", "a b/\u{e4}.png", &png(3));
    s3.put("uploads", "other.png", &png(4));
    s3.put("uploads", "moving.gif", &gif(&[1, 2, 3]));

    let told = event("uploads", "a+b/%C3%A4.png", "01");
    let by_sns = json!({ "Type": "Notification", "TopicArn": TOPIC, "Message": told.to_string() });
    for (at, body) in [&told, &by_sns, &told].into_iter().enumerate() {
        let (status, answer) = server.http.post(EVENTS, body);
        assert_eq!(status, 200, "{answer}");
        let object = &answer["objects"][0];
        assert_eq!((&object["key"], &object["hits"]), (&json!("a b/\u{e4}.png"), &json!(1)), "{answer}");
        assert_eq!(
            (&object["durability"], &object["replayed"]),
            (&json!("sync"), &json!(at > 0)),
            "{answer}"
        );
    }
    assert_eq!(server.http.post(EVENTS, &event("uploads", "other.png", "02")).1["objects"][0]["hits"], 0);
    let moving = server.http.post(EVENTS, &event("uploads", "moving.gif", "03")).1;
    assert_eq!(moving["objects"][0]["hits"], 1, "its third frame: {moving}");

    let hits = logged(&server);
    assert_eq!(hits.len(), 2, "{hits:?}");
    assert_eq!(hits[0]["context"]["url"], "s3://uploads/a b/\u{e4}.png");
    assert_eq!(hits[0]["matches"][0]["bank_name"], "KNOWN");
    // What was uploaded that way is found by looking back as well.
    let hash = hits[0]["signal"].as_str().unwrap();
    let path = format!("/api/v1/recent?signal_type=pdq&signal={hash}");
    let entries =
        || server.http.get(&path).1["results"][0]["submissions"]["entries"].as_array().unwrap().len();
    let deadline = Instant::now() + Duration::from_secs(20);
    while entries() < 2 {
        assert!(Instant::now() < deadline, "{}", server.http.get(&path).1);
        thread::sleep(Duration::from_millis(20));
    }
    // Killed and told again, it is still one hit.
    let killed = server.kill();
    let server = killed.restart_with(with(&s3));
    assert_eq!(server.http.post(EVENTS, &told).1["objects"][0]["replayed"], true);
    assert_eq!(logged(&server).len(), 2);
}

#[test]
fn what_fails_for_now_is_refused_and_what_fails_for_good_is_said() {
    let s3 = S3::start();
    let server = with(&s3).flag("--upload-bytes-max", 10_000).start();
    s3.put("uploads", "large.png", &vec![0; 20_000]);
    s3.put("uploads", "broken.png", &png(5)[..700]);
    s3.put("uploads", "fine.png", &png(5));
    let answer = |body: &Value| server.http.post(EVENTS, body);
    // The store stumbles: first it is asked again at once, then the sender is.
    s3.fail(&[503, 503]);
    assert_eq!(answer(&event("uploads", "fine.png", "1")).0, 200);
    s3.fail(&[503; 4]);
    assert_eq!(answer(&event("uploads", "fine.png", "1")).0, 502);
    s3.fail(&[403]);
    assert_eq!(answer(&event("uploads", "fine.png", "1")).0, 502);

    let object = |key: &str| answer(&event("uploads", key, "1")).1["objects"][0].clone();
    assert_eq!(object("gone.png")["gone"], true);
    assert!(object("large.png")["error"].as_str().unwrap().contains("10000 are allowed"));
    assert!(object("broken.png")["not_hashed"]["pdq"].is_string(), "its digests are matched all the same");
    assert_eq!(object("broken.png")["hits"], 0);

    let asked = s3.asked();
    assert_eq!(answer(&event("private", "fine.png", "1")).0, 403, "a bucket that is not named");
    let other =
        json!({ "Type": "Notification", "TopicArn": "arn:aws:sns:eu-west-1:1:other", "Message": "{}" });
    assert_eq!(answer(&other).0, 403);
    let elsewhere = json!({ "Type": "SubscriptionConfirmation", "TopicArn": TOPIC, "SubscribeURL": format!("http://{}/", s3.address) });
    assert_eq!(answer(&elsewhere).0, 400, "who sends the message does not choose where we go");
    assert_eq!(answer(&json!({ "hello": 1 })).0, 400);
    assert_eq!(
        answer(&json!({ "Service": "Amazon S3", "Event": "s3:TestEvent" })),
        (200, json!({ "objects": [] }))
    );
    assert_eq!(s3.asked(), asked, "nothing of this reached the store");

    // A wrong key reads nothing, and shows in no log.
    let wrong = with(&s3).env("HASHWARD_S3_SECRET_ACCESS_KEY", "another-secret").start();
    let (status, refused) = wrong.http.post(EVENTS, &event("uploads", "fine.png", "1"));
    assert_eq!(status, 502);
    assert!(refused["message"].as_str().unwrap().contains("refuses these credentials"), "{refused}");
    assert!(!wrong.log().contains("another-secret"));
    assert_eq!(Server::start().http.post(EVENTS, &event("uploads", "fine.png", "1")).0, 501);
}
