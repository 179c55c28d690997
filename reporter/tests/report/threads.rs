//! Conversations: as CSV, and as reports of their own.

use reporter::cyber_tipline::model::FileRelevance;
use reporter::desk::item::{Item, ItemKey};
use reporter::tip::filing::{FileKind, Source};
use reporter::tip::thread::HEADER;
use serde_json::{Value, json};

use crate::world::{World, read};

/// Reads CSV as RFC 4180 has it, every cell in quotes, and refuses all else.
fn strict(csv: &str) -> Vec<Vec<String>> {
    let (header, mut rest) = csv.split_once('\n').unwrap();
    assert_eq!(header, "content,src,target,thread,type,contentId,chat_type,ip");
    let mut rows = vec![Vec::new()];
    while !rest.is_empty() {
        rest = rest.strip_prefix('"').expect("a cell in quotes");
        let mut cell = String::new();
        loop {
            let (part, after) = rest.split_once('"').expect("the cell's end");
            cell.push_str(part);
            rest = after;
            match after.strip_prefix('"') {
                Some(after) => {
                    cell.push('"');
                    rest = after;
                }
                None => break,
            }
        }
        rows.last_mut().unwrap().push(cell);
        if let Some(after) = rest.strip_prefix(',') {
            rest = after;
        } else {
            rest = rest.strip_prefix('\n').expect("a comma or the line's end");
            rows.push(Vec::new());
        }
    }
    assert_eq!(rows.pop(), Some(Vec::new()), "it ends with its last line");
    assert!(rows.iter().all(|row| row.len() == 8));
    rows
}

fn message(world: &World, id: &str, by: &str, minute: u32, more: Value) -> Item {
    let mut data = json!({
        "author": { "id": by, "typeId": "user" }, "made": format!("2025-06-01T09:{minute:02}:00Z"),
        "thread": { "id": "t", "typeId": "thread" }
    });
    data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.item("message", id, data)
}

fn csv(world: &World) -> (Vec<Vec<String>>, Option<FileRelevance>) {
    let draft = world.draft();
    let file = draft.files.iter().find(|file| matches!(file.kind, FileKind::Thread { .. })).unwrap();
    let Source::Text(text) = &file.source else { panic!() };
    (strict(text), file.details.file_relevance)
}

#[test]
fn check_49_a_conversation_is_a_csv_with_coops_columns() {
    assert_eq!(HEADER, "content,src,target,thread,type,contentId,chat_type,ip");
    let mut world = World::new();
    let texts = ["=cmd|' /C calc'!A0", "two\r\nlines, \"quoted\"", "'-1", "plain"];
    let mut sent = Vec::new();
    for (at, text) in (0u32..).zip(texts) {
        let by = if at % 2 == 0 { "u" } else { "v" };
        sent.push(message(
            &world,
            &format!("m{at}"),
            by,
            10 - at,
            json!({ "text": text, "ip": "198.51.100.4" }),
        ));
    }
    let picture = message(&world, "m9", "v", 30, json!({ "pictures": ["https://media.example/p"] }));
    world.item(
        "thread",
        "t",
        json!({ "members": [{ "id": "u", "typeId": "user" }, { "id": "v", "typeId": "user" }] }),
    );
    world.report(&[&sent[0]]);
    world.words.threads = vec![ItemKey::new("thread", "t")];
    world.answer = Some(json!({
        "users": [{ "id": "u", "typeId": "user" }],
        "messages": [{ "id": "m1", "typeId": "message", "ipAddress": "192.0.2.1" }]
    }));
    let (rows, relevance) = csv(&world);
    assert_eq!(relevance, Some(FileRelevance::Reported), "there is no medium");
    let cells = |at: usize| rows[at].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(cells(0), ["plain", "v", "u", "t", "text", "", "private", "198.51.100.4"], "the oldest first");
    assert_eq!(cells(1), ["''-1", "u", "v", "t", "text", "", "private", "198.51.100.4"]);
    assert_eq!(cells(2), ["two\r\nlines, \"quoted\"", "v", "u", "t", "text", "", "private", "192.0.2.1"]);
    assert_eq!(cells(3), ["'=cmd|' /C calc'!A0", "u", "v", "t", "text", "", "private", "198.51.100.4"]);
    assert_eq!(
        cells(4),
        [picture.media[0].url.as_deref().unwrap(), "v", "u", "t", "image", "m9", "private", ""]
    );
    assert_eq!(rows.len(), 5);
    let draft = world.draft();
    assert_eq!((draft.files[0].name.as_str(), draft.files[0].content_type.as_str()), ("t.csv", "text/csv"));
    let lines = &draft.files[0].details.additional_info;
    assert!(
        lines[0].contains("private message conversation") && lines[0].contains("2025-06-01T09:07:00Z"),
        "{lines:?}"
    );
    let recipients = read(&draft).intended_recipient;
    assert_eq!(recipients[0].esp_identifier.as_deref(), Some("v"));
}

#[test]
fn check_49_beside_media_a_conversation_is_supplemental() {
    let mut world = World::new();
    let sent = message(&world, "m", "u", 1, json!({ "text": "hi", "pictures": ["https://media.example/p"] }));
    world.report(&[&sent]);
    world.words.threads = vec![sent.key.clone()];
    let (rows, relevance) = csv(&world);
    assert_eq!(relevance, Some(FileRelevance::Supplemental));
    assert_eq!((rows.len(), rows[0][4].as_str(), rows[1][4].as_str()), (2, "text", "image"));
    assert_eq!(rows[0][6], "", "who else takes part is not known");
}

#[test]
fn a_conversation_of_more_than_two_is_a_group_and_names_no_target() {
    let mut world = World::new();
    let sent = message(&world, "m1", "u", 1, json!({ "text": "hi" }));
    message(&world, "m2", "v", 2, json!({ "text": "hello" }));
    message(&world, "m3", "w", 3, json!({ "text": "hey" }));
    world.report(&[&sent]);
    // The others are known by a report about it.
    let others = [ItemKey::new("message", "m2"), ItemKey::new("message", "m3")];
    let others: Vec<Item> = others.into_iter().map(|key| Item::bare(key, 1)).collect();
    world.told(&[&sent, &others[0], &others[1]]);
    world.words.threads = vec![ItemKey::new("thread", "t"), ItemKey::new("message", "m2")];
    let (rows, _) = csv(&world);
    assert_eq!(rows.len(), 3, "both keys name one conversation");
    assert!(rows.iter().all(|row| row[2].is_empty() && row[6] == "group"));
    let draft = world.draft();
    assert_eq!(draft.files.len(), 1);
    assert!(read(&draft).intended_recipient.is_empty());
}

#[test]
fn a_conversation_without_a_thread_is_what_came_with_its_report() {
    let mut world = World::new();
    let one = world.post("1", &[], json!({ "text": "come" }));
    let answer =
        json!({ "author": { "id": "v", "typeId": "user" }, "made": "2025-06-01T10:01:00Z", "text": "no" });
    let two = world.item("post", "2", answer);
    world.report(&[&one]);
    world.told(&[&one, &two]);
    world.words.threads = vec![two.key.clone()];
    let (rows, _) = csv(&world);
    let said: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(said, ["come", "no"]);
    assert_eq!(rows[0][3], "1", "it is named by what was reported");
}

#[test]
fn check_50_a_report_of_words_alone_is_a_report() {
    let mut world = World::new();
    let post = world.post("1", &[], json!({ "text": "meet me" }));
    world.report(&[&post]);
    world.words.contents = vec![post.key.clone()];
    let draft = world.draft();
    assert!(draft.files.is_empty());
    let report = read(&draft);
    assert!(report.additional_info.unwrap().contains("meet me"));
    assert_eq!(report.incident_summary.incident_date_time, "2025-06-01T10:00:00Z");
    // One thread, of which nothing is known, is still said.
    let mut world = World::new();
    let post = world.post("1", &[], json!({ "text": "meet me", "made": null }));
    world.report(&[&post]);
    world.words.threads = vec![ItemKey::new("thread", "unseen")];
    let draft = world.draft();
    assert!(draft.files.is_empty() && draft.notes.len() == 1);
    assert!(read(&draft).additional_info.unwrap().contains("unseen (type thread)"));
}
