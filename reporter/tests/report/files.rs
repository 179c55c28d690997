//! The files of a report and their details.

use reporter::cyber_tipline::model::{EventName, FileRelevance, IndustryClassification, Labels};
use reporter::desk::decision::{Decider, SupplementalFile};
use reporter::desk::incident::{Annotation, Classification};
use reporter::desk::settings::{Settings, put_settings};
use reporter::tip::filing::{FileKind, Source};
use serde_json::{Value, json};

use crate::world::{World, kept, read};

fn user() -> Value {
    json!({ "id": "u", "typeId": "user" })
}

#[test]
fn a_file_has_what_is_known_of_it() {
    let mut world = World::new();
    let picture = json!([{ "url": "https://media.example/x/a.png?sig=1#top", "signals": { "pdq": "0f".repeat(32), "sha1": "ab".repeat(20) } }]);
    let post = world.post("1", &[], json!({ "pictures": picture }));
    world.report(&[&post]);
    world.words.media[0].annotations = vec![Annotation::PotentialMeme, Annotation::Viral];
    world.answered(
        user(),
        json!([{ "id": "1", "typeId": "post", "publiclyAvailable": true, "fileName": "holiday.png", "additionalInfo": ["seen by many"],
            "fileDetails": { "hash": "ABEE", "hashType": "phash" } }]),
    );
    let draft = world.draft();
    let file = &draft.files[0];
    assert_eq!((file.name.as_str(), file.content_type.as_str()), ("holiday.png", "image/png"));
    assert_eq!(file.kind, FileKind::Media { media: 1 });
    let kept = kept("blob of https://media.example/x/a.png?sig=1#top");
    assert_eq!(file.source, Source::Blob(kept.clone()));
    let details = &file.details;
    assert_eq!(details.original_file_name.as_deref(), Some("holiday.png"));
    assert_eq!(details.location_of_file.as_deref(), Some("https://media.example/x/a.png?sig=1#top"));
    assert_eq!(details.uploaded_to_esp_timestamp.as_deref(), Some("2025-06-01T10:00:00Z"));
    assert_eq!(details.file_relevance, Some(FileRelevance::Reported));
    assert_eq!((details.publicly_available, details.file_viewed_by_esp), (Some(true), Some(true)));
    assert_eq!(details.industry_classification, Some(IndustryClassification::A1));
    let Some(Labels::FileAnnotations(labels)) = &details.labels else { panic!() };
    assert!(labels.potential_meme && labels.viral && !labels.infant);
    let hashes: Vec<(&str, &str)> =
        details.original_file_hash.iter().map(|hash| (hash.hash_type.as_str(), hash.text.as_str())).collect();
    let (pdq, sha1) = ("0f".repeat(32), "ab".repeat(20));
    assert_eq!(
        hashes,
        [
            ("PHASH", "ABEE"),
            ("MD5", kept.md5.as_str()),
            ("SHA256", &kept.sha256),
            ("PDQ", &pdq),
            ("SHA1", &sha1)
        ]
    );
    assert_eq!(details.additional_info, ["seen by many"]);
    assert!(details.device_id.is_empty());
}

#[test]
fn a_meme_and_nothing_else_is_said_in_its_own_element() {
    let mut world = World::new();
    let post = world.post("1", &["https://media.example/a"], json!({}));
    world.report(&[&post]);
    world.words.media[0].annotations = vec![Annotation::PotentialMeme];
    assert_eq!(world.draft().files[0].details.labels, Some(Labels::PotentialMeme(true)));
}

#[test]
fn a_hash_of_the_platforms_that_is_not_the_files_is_told_beside_it() {
    let mut world = World::new();
    let post = world.post("1", &["https://media.example/a"], json!({}));
    world.report(&[&post]);
    world.answered(user(), json!([{ "id": "1", "typeId": "post", "fileDetails": { "hash": "0".repeat(32), "hashType": "md5" } }]));
    let details = &world.draft().files[0].details;
    let ours = kept("blob of https://media.example/a").md5;
    let md5s: Vec<&str> = details
        .original_file_hash
        .iter()
        .filter(|hash| hash.hash_type == "MD5")
        .map(|hash| hash.text.as_str())
        .collect();
    assert_eq!(md5s, ["0".repeat(32), ours.clone()]);
    assert!(details.additional_info[0].contains(&ours));
}

#[test]
fn check_29_a_file_has_one_address_and_no_other_is_lost() {
    let mut world = World::new();
    let post = world.post("1", &["https://media.example/a"], json!({ "ip": "198.51.100.1" }));
    world.report(&[&post]);
    let events = json!([
        { "ipAddress": "192.0.2.1", "eventName": "Login" },
        { "ipAddress": "192.0.2.2", "eventName": "Upload", "dateTime": "2025-06-01T10:00:00Z", "port": 8080 }
    ]);
    world.answered(user(), json!([{ "id": "1", "typeId": "post", "ipCaptureEvent": events }]));
    let draft = world.draft();
    let one = draft.files[0].details.ip_capture_event.as_ref().unwrap();
    assert_eq!((one.ip_address.as_str(), one.port), ("192.0.2.2", Some(8080)));
    let report = read(&draft);
    let of_user: Vec<(&str, Option<EventName>)> = report.person_or_user_reported[0]
        .ip_capture_event
        .iter()
        .map(|event| (event.ip_address.as_str(), event.event_name))
        .collect();
    assert_eq!(of_user, [("192.0.2.1", Some(EventName::Login)), ("198.51.100.1", Some(EventName::Upload))]);
    assert!(draft.files[0].details.additional_info.iter().any(|line| line.contains("198.51.100.1")));
    // Without an upload of the platform's, the item's own address; without that, the first one there is.
    let without = json!([{ "ipAddress": "192.0.2.1" }]);
    world.answered(user(), json!([{ "id": "1", "typeId": "post", "ipCaptureEvent": without }]));
    let event = world.draft().files[0].details.ip_capture_event.clone().unwrap();
    assert_eq!((event.ip_address.as_str(), event.event_name), ("198.51.100.1", Some(EventName::Upload)));
    assert_eq!(event.date_time.as_deref(), Some("2025-06-01T10:00:00Z"));
    let mut world = World::new();
    let post = world.post("1", &["https://media.example/a"], json!({}));
    world.report(&[&post]);
    world.answered(user(), json!([{ "id": "1", "typeId": "post", "ipCaptureEvent": without }]));
    let event = world.draft().files[0].details.ip_capture_event.clone().unwrap();
    assert_eq!((event.ip_address.as_str(), event.event_name, event.date_time), ("192.0.2.1", None, None));
}

#[test]
fn check_29_addresses_of_what_somebody_else_made_are_not_the_users() {
    let mut world = World::new();
    let post = world.post(
        "1",
        &["https://media.example/a"],
        json!({ "author": { "id": "x", "typeId": "user" }, "ip": "198.51.100.1" }),
    );
    world.report(&[&post]);
    let events = json!([{ "ipAddress": "192.0.2.2", "eventName": "Upload" }]);
    world.answered(user(), json!([{ "id": "1", "typeId": "post", "ipCaptureEvent": events }]));
    let draft = world.draft();
    assert!(read(&draft).person_or_user_reported[0].ip_capture_event.is_empty());
    assert!(draft.files[0].details.additional_info.iter().any(|line| line.contains("198.51.100.1")));
}

#[test]
fn check_33_long_names_and_places_of_files_are_said_in_full() {
    let mut world = World::new();
    let url = format!("https://media.example/{}", "p".repeat(3000));
    let post = world.post("1", &[&url], json!({}));
    world.report(&[&post]);
    let file = &world.draft().files[0];
    assert_eq!(
        (file.name.as_str(), &file.details.original_file_name, &file.details.location_of_file),
        ("medium-1", &None, &None)
    );
    assert_eq!(
        file.details.additional_info.iter().filter(|line| line.contains(&"p".repeat(3000))).count(),
        2
    );
}

#[test]
fn check_36_only_what_a_reviewer_opened_was_viewed() {
    let mut world = World::new();
    let post = world.post("1", &["https://media.example/a", "https://media.example/b"], json!({}));
    world.report(&[&post]);
    world.words.media[1].viewed = false;
    world.words.media[1].classification = Classification::Unclassified;
    let viewed: Vec<_> = world.draft().files.iter().map(|file| file.details.file_viewed_by_esp).collect();
    assert_eq!(viewed, [Some(true), Some(false)]);
    // Nor did anybody where nobody decided.
    let mut world = World::new();
    let post = world.post("1", &["https://media.example/a"], json!({}));
    world.report(&[&post]);
    world.by = Decider::Automatic { rule: "known".to_string(), rule_version: 1, bank: "ncmec".to_string() };
    world.words.media[0].viewed = false;
    let draft = world.draft();
    assert_eq!(draft.files[0].details.file_viewed_by_esp, Some(false));
    assert!(read(&draft).additional_info.unwrap().contains("Nobody at the company has viewed them"));
}

#[test]
fn check_37_further_files_are_supplemental_and_bear_no_class() {
    let mut world = World::new();
    let post = world.post("1", &["https://media.example/a.png"], json!({}));
    world.report(&[&post]);
    world.words.supplemental_files = vec![SupplementalFile {
        url: "https://p.example/shot".to_string(),
        file_name: "a.png".to_string(),
        additional_info: Some("a screenshot".to_string()),
    }];
    world.answer =
        Some(json!({ "users": [user()], "media": [{ "id": "1", "typeId": "post" }], "additionalFiles": [
        { "fileUrl": "https://p.example/e.pdf?x", "additionalInfo": ["evidence"] },
        { "fileUrl": "https://p.example/gone", "fileName": "gone.txt", "additionalInfo": ["what is gone"] }
    ] }));
    for url in ["https://p.example/shot", "https://p.example/e.pdf?x"] {
        world.fetched.push((url.to_string(), kept(url)));
    }
    let draft = world.draft();
    let files: Vec<(&str, Option<FileRelevance>)> =
        draft.files.iter().map(|file| (file.name.as_str(), file.details.file_relevance)).collect();
    let (reported, supplemental) = (Some(FileRelevance::Reported), Some(FileRelevance::Supplemental));
    assert_eq!(files, [("a.png", reported), ("2-a.png", supplemental), ("e.pdf", supplemental)]);
    assert_eq!(draft.files[1].details.original_file_name.as_deref(), Some("a.png"));
    assert_eq!(draft.files[1].details.additional_info, ["a screenshot"]);
    let said = read(&draft).additional_info.unwrap();
    for words in ["gone.txt", "https://p.example/gone", "what is gone", "404"] {
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn check_38_classes_are_given_only_where_both_settings_allow_it() {
    let mut world = World::new();
    let post = world.post("1", &["https://media.example/a"], json!({}));
    world.report(&[&post]);
    let class = |world: &World| world.draft().files[0].details.industry_classification;
    assert_eq!(class(&world), Some(IndustryClassification::A1));
    world.organisation.industry_classification = false;
    assert_eq!(class(&world), None);
    world.organisation.industry_classification = true;
    world.write(|tx| put_settings(tx, &Settings { industry_classification: false, ..Settings::default() }));
    assert_eq!(class(&world), None);
}

#[test]
fn check_45_each_of_an_items_pictures_has_its_own_name_and_hash() {
    let mut world = World::new();
    let urls = [
        "https://media.example/1/image.jpg",
        "https://media.example/2/image.jpg",
        "https://media.example/three.png",
    ];
    let post = world.post("1", &urls, json!({}));
    world.report(&[&post]);
    world.words.media[1].classification = Classification::B2;
    world.words.media[2].annotations = vec![Annotation::Infant];
    // One answer for all three is nobody's name and nobody's hash.
    let one = json!({ "id": "1", "typeId": "post", "fileName": "IMG_1.jpg", "publiclyAvailable": true, "fileDetails": { "hash": "abee", "hashType": "PDQ" } });
    world.answered(user(), json!([one]));
    let draft = world.draft();
    let names: Vec<&str> = draft.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["image.jpg", "2-image.jpg", "three.png"]);
    for (file, url) in draft.files.iter().zip(urls) {
        let details = &file.details;
        assert!(!details.original_file_hash.iter().any(|hash| hash.text == "abee"));
        assert_eq!(details.original_file_hash[0].text, kept(&format!("blob of {url}")).md5);
        assert_ne!(details.original_file_name.as_deref(), Some("IMG_1.jpg"));
        assert!(details.additional_info.iter().any(|line| line.contains("IMG_1.jpg")), "and it is not lost");
        assert!(details.additional_info.iter().any(|line| line.contains("abee")));
        assert_eq!(details.publicly_available, Some(true));
    }
    assert_eq!(draft.files[1].details.industry_classification, Some(IndustryClassification::B2));
    assert!(draft.files[1].details.labels.is_none() && draft.files[2].details.labels.is_some());
    // A hash says whose the answer is.
    let two = json!({ "id": "1", "typeId": "post", "fileName": "second.jpg", "fileDetails": { "hash": kept(&format!("blob of {}", urls[1])).sha256.to_uppercase(), "hashType": "sha256" } });
    world.answered(user(), json!([two, { "id": "1", "typeId": "post", "fileName": "any.jpg" }]));
    let draft = world.draft();
    let names: Vec<_> =
        draft.files.iter().map(|file| file.details.original_file_name.as_deref().unwrap()).collect();
    assert_eq!(names, ["image.jpg", "second.jpg", "three.png"]);
    assert!(draft.files[0].details.additional_info.iter().all(|line| !line.contains("second.jpg")));
    assert!(draft.files[0].details.additional_info.iter().any(|line| line.contains("any.jpg")));
}
