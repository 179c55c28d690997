//! Reports of whatever may be known are what NCMEC takes.

use proptest::prelude::*;
use serde_json::{Value, json};

use reporter::desk::incident::{ANNOTATIONS, CLASSES};

use crate::world::World;

/// A text of anything that Unicode has, often of what XML has not, sometimes very long.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => ".{0,20}",
        2 => proptest::collection::vec(any::<char>(), 0..20).prop_map(String::from_iter),
        1 => proptest::sample::select(vec!["\0", "\u{b}\u{fffe}", "]]>", "<!--", "  ", "=1"]).prop_map(str::to_string),
        1 => ("[a-zé]{1,9}", 1..500usize).prop_map(|(part, times)| part.repeat(times)),
    ]
}

fn maybe<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    proptest::option::of(strategy)
}

fn event() -> impl Strategy<Value = Value> {
    let names = vec!["Login", "Registration", "Purchase", "Upload", "Other", "Unknown"];
    (any::<[u8; 4]>(), maybe(proptest::sample::select(names)), maybe(0..4_000_000_000i64), maybe(any::<bool>()), maybe(1..=65_535u32))
        .prop_map(|(ip, name, at, proxy, port)| {
            let at = at.map(chrono_text);
            json!({ "ipAddress": ip.map(|part| part.to_string()).join("."), "eventName": name, "dateTime": at, "possibleProxy": proxy, "port": port })
        })
}

fn chrono_text(seconds: i64) -> String {
    format!(
        "{:04}-{:02}-{:02}T{:02}:00:00+05:30",
        1970 + seconds % 200,
        1 + seconds % 12,
        1 + seconds % 28,
        seconds % 24
    )
}

fn email() -> impl Strategy<Value = Value> {
    (text(), maybe(proptest::sample::select(vec!["Home", "Work", "Business"])), maybe(any::<bool>()))
        .prop_map(|(text, of, verified)| json!({ "email": format!("a@{text}"), "type": of, "verified": verified, "verificationDate": chrono_text(5) }))
}

proptest! {
    #[test]
    fn check_27_every_draft_is_what_ncmec_takes(
        posts in proptest::collection::vec((text(), proptest::collection::vec("[a-z/.?%]{0,12}", 0..4), maybe(any::<u64>())), 1..4),
        user in (maybe(text()), proptest::collection::vec(email(), 0..3), proptest::collection::vec(event(), 0..4), text()),
        media in (maybe(text()), maybe(any::<bool>()), proptest::collection::vec(text(), 0..3), proptest::collection::vec(event(), 0..4), maybe("[ -~]{1,40}")),
        decided in proptest::collection::vec((0..CLASSES.len() - 1, any::<bool>(), any::<u16>()), 12),
        (escalate, more, prior) in (maybe("[^ ].{0,40}"), maybe(text()), proptest::collection::vec(1..i64::MAX, 0..3)),
        detail in 0..8usize,
    ) {
        let mut world = World::new();
        let mut items = Vec::new();
        for (at, (words, urls, made)) in posts.iter().enumerate() {
            let urls: Vec<String> = urls.iter().map(|url| format!("https://media.example/{url}")).collect();
            let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
            items.push(world.post(&format!("p{at}"), &urls, json!({ "text": words, "made": made, "ip": "198.51.100.1" })));
        }
        world.item("user", "u", json!({ "name": user.3, "ip": "2001:db8::1" }));
        world.report(&items.iter().collect::<Vec<_>>());
        world.words.contents = items.iter().map(|item| item.key.clone()).collect();
        world.words.threads = vec![items[0].key.clone()];
        for (medium, (class, viewed, labels)) in world.words.media.iter_mut().zip(decided) {
            medium.classification = CLASSES[class].1;
            medium.viewed = viewed;
            medium.annotations = ANNOTATIONS.iter().enumerate().filter(|(at, _)| labels >> at & 1 == 1).map(|(_, one)| one.1).collect();
        }
        world.words.escalate = escalate.filter(|words| !words.trim().is_empty());
        world.words.additional_info = more.clone();
        world.prior = prior;
        let details = ["web_page", "email", "newsgroup", "chat_im", "online_gaming", "cell_phone", "non_internet", "peer_to_peer"];
        world.organisation.internet_detail = serde_json::from_value(json!(details[detail])).unwrap();
        let answers: Vec<Value> = items.iter().map(|item| json!({
            "id": item.key.id, "typeId": "post", "fileName": media.0, "publiclyAvailable": media.1, "additionalInfo": media.2,
            "ipCaptureEvent": media.3, "fileDetails": { "hash": media.4, "hashType": media.4.as_ref().filter(|hash| !hash.trim().is_empty()).map(|_| "MD5") }
        })).collect();
        world.answered(json!({ "id": "u", "typeId": "user", "screenName": user.0, "email": user.1, "ipCaptureEvent": user.2, "data": { "k": user.3 } }), json!(answers));
        world.draft(); // and `World` checks it
    }
}
