//! The words of a report.

use reporter::desk::item::ItemKey;
use serde_json::json;

use crate::world::World;

#[test]
fn check_32_whatever_texts_hold_the_report_is_well_formed_and_says_it() {
    let mut world = World::new();
    let evil = "a\u{1}b ]]> <x> & \" \u{202e}rtl\u{202c} \u{1f9d2} \u{fffe} \r\n\t end";
    let post = world.post("1", &["https://media.example/a?x=<&>"], json!({ "text": evil }));
    world.item("user", "u", json!({ "name": evil }));
    world.report(&[&post]);
    world.words.contents = vec![post.key];
    world.words.additional_info = Some(evil.to_string());
    world.words.escalate = Some(evil.to_string());
    world.answered(
        json!({ "id": "u", "typeId": "user", "screenName": evil, "data": { "k": evil } }),
        json!([{ "id": "1", "typeId": "post", "fileName": evil, "additionalInfo": [evil] }]),
    );
    let report = world.read();
    let meant = evil.replace('\u{1}', "\u{2401}").replace('\u{fffe}', "[U+FFFE]");
    assert_eq!(report.person_or_user_reported[0].screen_name.as_ref(), Some(&meant));
    assert_eq!(report.incident_summary.escalate_to_high_priority.as_ref(), Some(&meant));
    assert!(report.additional_info.unwrap().contains(&meant));
}

#[test]
fn everything_the_platform_says_is_used() {
    let mut world = World::new();
    let post =
        world.post("1", &["https://media.example/a"], json!({ "text": "words", "ip": "198.51.100.1" }));
    let quiet = world.post("2", &[], json!({ "text": "only words", "ip": "198.51.100.2" }));
    world.report(&[&post, &quiet]);
    world.words.contents = vec![post.key.clone(), quiet.key.clone(), ItemKey::new("post", "forgotten")];
    world.answer = Some(json!({
        "users": [{ "id": "u", "typeId": "user" }], "media": [{ "id": "1", "typeId": "post" }],
        "messages": [
            { "id": "2", "typeId": "post", "ipAddress": "192.0.2.5" },
            { "id": "elsewhere", "typeId": "message", "ipAddress": "192.0.2.6" }
        ],
        "additionalInfo": "the platform's words"
    }));
    let report = world.read();
    let said = report.additional_info.unwrap();
    for words in [
        "the platform's words",
        "elsewhere (type message) from 192.0.2.6",
        "only words",
        "2 (type post), of 2025-06-01T10:00:00Z, from 192.0.2.5",
        "forgotten (type post)",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let seen: Vec<&str> = report.person_or_user_reported[0]
        .ip_capture_event
        .iter()
        .map(|event| event.ip_address.as_str())
        .collect();
    assert_eq!(seen, ["192.0.2.5"], "the address of what has a file is the file's");
}
