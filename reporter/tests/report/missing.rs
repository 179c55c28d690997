//! Media that are gone, or not there yet.

use reporter::Tx;
use reporter::desk::evidence;
use reporter::desk::incident::Classification;
use reporter::tip::build::{BuildError, asked};
use serde_json::{Value, json};

use crate::world::{HOUR, NOW, World, read};

fn user() -> Value {
    json!({ "id": "u", "typeId": "user" })
}

#[test]
fn check_46_a_medium_that_is_gone_is_named_and_the_other_is_filed() {
    let mut world = World::new();
    let (one, two) = (
        world.post("1", &["https://media.example/1?k=v"], json!({})),
        world.post("2", &["https://media.example/2"], json!({})),
    );
    world.report(&[&one, &two]);
    world.answered(
        user(),
        json!([{ "id": "1", "typeId": "post", "missing": true }, { "id": "2", "typeId": "post" }]),
    );
    let draft = world.draft();
    assert_eq!(draft.files.len(), 1);
    assert_eq!(draft.files[0].details.location_of_file.as_deref(), Some("https://media.example/2"));
    let said = read(&draft).additional_info.unwrap();
    assert!(said.contains("https://media.example/1?k=v") && said.contains("1 (type post)"), "{said}");
    assert_eq!(draft.notes.len(), 1);
}

#[test]
fn check_46_if_all_media_are_gone_nothing_is_filed_unless_there_is_something_else() {
    let mut world = World::new();
    let post = world.post("1", &["https://media.example/1"], json!({ "text": "words" }));
    world.report(&[&post]);
    world.answered(user(), json!([{ "id": "1", "typeId": "post", "missing": true }]));
    match world.try_draft() {
        Err(BuildError::AllMediaMissing { words }) => assert!(words.contains("medium 1"), "{words}"),
        other => panic!("{other:?}"),
    }
    let mut world = World::new();
    let post = world.post("1", &["https://media.example/1"], json!({ "text": "words" }));
    world.report(&[&post]);
    world.words.contents = vec![post.key.clone()];
    world.answered(user(), json!([{ "id": "1", "typeId": "post", "missing": true }]));
    assert!(world.draft().files.is_empty());
}

#[test]
fn check_46_a_profile_picture_alone_is_filed_although_no_medium_is_answered() {
    let mut world = World::new();
    let icon = world.item(
        "user",
        "u",
        json!({ "name": "Sunny", "icon": "https://media.example/icon.png", "ip": "198.51.100.9" }),
    );
    world.report(&[&icon]);
    let (users, media) = {
        world.decide();
        asked(&Tx::new(&world.store), &world.tip()).unwrap()
    };
    assert_eq!((users.len(), media.len()), (1, 0));
    world.answered(user(), json!([]));
    let draft = world.draft();
    assert_eq!(draft.files[0].name, "icon.png");
    assert_eq!(draft.files[0].details.ip_capture_event, None, "the user's address is no upload's");
    assert_eq!(read(&draft).person_or_user_reported[0].ip_capture_event[0].ip_address, "198.51.100.9");
}

#[test]
fn the_platform_is_asked_of_each_reported_item_once() {
    let mut world = World::new();
    let one = world.post("1", &["https://media.example/1", "https://media.example/2"], json!({}));
    let two = world.post("2", &["https://media.example/3"], json!({}));
    world.report(&[&one, &two]);
    world.words.media[2].classification = Classification::None;
    world.decide();
    let (users, media) = asked(&Tx::new(&world.store), &world.tip()).unwrap();
    assert_eq!((users[0].id.as_str(), media), ("u", vec![one.key]));
}

#[test]
fn a_medium_that_is_still_fetched_is_waited_for_and_then_named() {
    let mut world = World::new();
    let post = world.post("1", &["https://media.example/1", "https://media.example/2"], json!({}));
    world.report_but(&[&post], &["https://media.example/2"]);
    assert!(matches!(world.try_draft(), Err(BuildError::NotYet { .. })));
    world.now_ms = NOW + 6 * HOUR;
    let draft = world.draft();
    assert_eq!(draft.files.len(), 1);
    assert!(read(&draft).additional_info.unwrap().contains("https://media.example/2"));
}

#[test]
fn a_report_that_would_be_empty_waits_until_its_media_are_given_up() {
    let mut world = World::new();
    let post = world.post("1", &["https://media.example/1"], json!({}));
    world.report_but(&[&post], &["https://media.example/1"]);
    world.now_ms = NOW + 48 * HOUR;
    assert!(matches!(world.try_draft(), Err(BuildError::NotYet { .. })));
    world.write(|tx| {
        let want = evidence::due(tx, NOW + 200 * HOUR, 9).unwrap().remove(0);
        assert!(evidence::fail(tx, want.medium, "404", NOW + 200 * HOUR).unwrap());
    });
    match world.try_draft() {
        Err(BuildError::AllMediaMissing { words }) => assert!(words.contains("404"), "{words}"),
        other => panic!("{other:?}"),
    }
}
