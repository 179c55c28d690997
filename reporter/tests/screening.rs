//! What is found out about an arrival, and what happens when the world does not answer.

#![allow(clippy::unwrap_used)] // clippy takes this file's helpers for code outside tests

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use index::{BankId, ContentId, Distance, HitMatch, SignalType};
use reporter::At;
use reporter::desk::intake::{Answered, Arrival, Needs, Priority};
use reporter::desk::item::{Found, Item, ItemKey, Media, Screening};
use reporter::desk::kind::ItemType;
use reporter::desk::screening::{Screened, World, find_out};
use serde_json::{Map, Value, json};

/// A world that answers as it is told, and remembers what it was asked.
#[derive(Default)]
struct Told {
    broken: bool,
    maker: Option<Value>,
    asked: Mutex<Vec<String>>,
}

impl World for Told {
    async fn screen(&self, media: &Media) -> Result<Screened, String> {
        self.asked.lock().unwrap().push(media.field.clone());
        if self.broken || media.field.ends_with("bad") {
            return Err("no answer".to_string());
        }
        let hit = HitMatch {
            bank: BankId(1),
            bank_name: "A".into(),
            content: ContentId(1),
            distance: Distance::new(0).unwrap(),
        };
        let found = Found { signal_type: SignalType::Pdq, signal: None, hit };
        let signals = [(SignalType::Pdq, "00".repeat(32))].into();
        Ok(Screened { signals, matches: vec![found], kept: None })
    }

    async fn item(&self, key: &ItemKey) -> Result<Option<Value>, String> {
        self.asked.lock().unwrap().push(key.id.clone());
        if self.broken { Err("no answer".to_string()) } else { Ok(self.maker.clone()) }
    }

    async fn priority(&self, urls: Vec<String>) -> Result<Answered, String> {
        if self.broken {
            Err("no answer".to_string())
        } else {
            Ok(Answered::As([Priority::Low, Priority::High][urls.len() % 2]))
        }
    }
}

/// Nothing here waits, so one look is enough.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("the told world answers at once"),
    }
}

fn types() -> BTreeMap<String, ItemType> {
    let post = json!({ "kind": "CONTENT", "fields": [
        { "name": "author", "type": "RELATED_ITEM" }, { "name": "good", "type": "IMAGE" }, { "name": "bad", "type": "IMAGE" }
    ], "roles": { "creatorId": "author" } });
    [("post".to_string(), ItemType::read("post", &At::new(&post, "")).unwrap())].into()
}

fn arrival(data: Value) -> Arrival {
    let data: Map<String, Value> = data.as_object().unwrap().clone();
    Arrival::of(Item::new(ItemKey::new("post", "1"), &types()["post"], data, 1), None)
}

#[test]
fn what_was_found_out_is_kept_when_something_else_fails() {
    let world = Told::default();
    let mut arrival = arrival(json!({ "good": "https://a/1", "bad": "https://a/2" }));
    assert_eq!(now(find_out(&mut arrival, &types(), &world)), Err("bad: no answer".to_string()));
    let states: Vec<bool> =
        arrival.item.media.iter().map(|media| media.screening == Screening::Waiting).collect();
    assert_eq!((states, arrival.waits()), (vec![false, true], true));
    let _ = now(find_out(&mut arrival, &types(), &world));
    assert_eq!(*world.asked.lock().unwrap(), ["good", "bad", "bad"], "what is known is not asked again");
    arrival.give_up("no answer");
    assert!(!arrival.waits());
    assert_eq!(arrival.item.media[1].screening, Screening::Unknown { why: "no answer".into() });
    assert_eq!(arrival.item.matches().count(), 1);
}

#[test]
fn the_platform_completes_an_item_and_never_changes_what_it_said_before() {
    let maker = json!({ "id": "1", "typeId": "post", "data": { "author": { "id": "u", "typeId": "user" }, "bad": "https://a/9", "good": "https://a/8" } });
    let world = Told { maker: Some(maker), ..Told::default() };
    let mut one = arrival(json!({ "good": "https://a/1" }));
    one.needs = Needs { creator: true, classification: true };
    now(find_out(&mut one, &types(), &world)).unwrap();
    assert_eq!((one.item.creator.clone(), one.asked_for_creator), (Some(ItemKey::new("user", "u")), true));
    assert_eq!(one.item.media[0].url.as_deref(), Some("https://a/1"));
    // A medium that the platform names besides is screened like the others.
    assert!(one.waits() && one.item.media[1].screening == Screening::Waiting);
    assert_eq!(one.classified, Some(Answered::As(Priority::Low)), "of two pictures");

    // An answer that does not fit the type is as good as none, and asked for only once.
    let world = Told { maker: Some(json!({ "data": { "author": "nobody" } })), ..Told::default() };
    let mut other = arrival(json!({}));
    other.needs.creator = true;
    now(find_out(&mut other, &types(), &world)).unwrap();
    assert_eq!((other.item.creator, other.asked_for_creator, other.needs.creator), (None, true, false));

    let world = Told { broken: true, ..Told::default() };
    let mut third = arrival(json!({}));
    third.needs = Needs { creator: true, classification: true };
    assert!(now(find_out(&mut third, &types(), &world)).unwrap_err().contains("asked for the item's maker"));
    assert!(third.needs.creator && third.needs.classification && !third.asked_for_creator);
}
