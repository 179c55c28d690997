//! Whatever is sent, readers answer: with what it means, or with what is wrong and where. And what they take can be used.

#![allow(clippy::unwrap_used)] // clippy takes this file's helpers for code outside tests

use std::collections::BTreeMap;

use proptest::prelude::*;
use reporter::At;
use reporter::desk::decision::Wanted;
use reporter::desk::item::{Item, ItemKey};
use reporter::desk::kind::ItemType;
use reporter::desk::queue::QueueName;
use reporter::desk::settings::{Queue, Settings, Webhook};
use reporter::desk::submission::{read_items, read_report};
use reporter::router::rule::{Rule, RulesFile};
use reporter::router::table::{Classified, Compiled, Facts, MatchFact, Screened, Source, Subject};
use serde_json::{Map, Value, json};

/// Words that readers look for, so that chance gets past the first door.
const WORDS: [&str; 56] = [
    "items",
    "id",
    "typeId",
    "type",
    "data",
    "text",
    "cover",
    "gallery",
    "takes",
    "author",
    "parent",
    "url",
    "signals",
    "pdq",
    "reporter",
    "reportedItem",
    "reportedForReason",
    "csam",
    "reason",
    "kind",
    "state",
    "queue",
    "when",
    "conjunction",
    "conditions",
    "hash_match",
    "banks",
    "distance_max",
    "distance_min",
    "field",
    "input",
    "comparator",
    "value",
    "values",
    "actions",
    "enqueue",
    "enqueue_ncmec",
    "webhook",
    "name",
    "decide",
    "incident_type",
    "decision",
    "lease",
    "revision",
    "media",
    "classification",
    "annotations",
    "viewed",
    "unviewable",
    "threads",
    "fields",
    "roles",
    "creatorId",
    "container",
    "sample_percent",
    "content_safety",
];
const TEXTS: [&str; 26] = [
    "post",
    "user",
    "CONTENT",
    "USER",
    "STRING",
    "IMAGE",
    "RELATED_ITEM",
    "ARRAY",
    "routing",
    "proactive",
    "live",
    "AND",
    "OR",
    "NOT",
    "XOR",
    "EQUALS",
    "CONTAINS",
    "MATCHES",
    "GREATER_THAN",
    "A1",
    "report",
    "ignore",
    "q",
    "https://a/b",
    "(",
    "A",
];

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..40u64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop::sample::select(TEXTS.as_slice()).prop_map(Value::from),
        prop::sample::select(WORDS.as_slice()).prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        let key =
            prop_oneof![4 => prop::sample::select(WORDS.as_slice()).prop_map(str::to_string), 1 => ".{0,6}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn types() -> BTreeMap<String, ItemType> {
    let post = json!({ "kind": "CONTENT", "fields": [
        { "name": "text", "type": "STRING" }, { "name": "cover", "type": "IMAGE" }, { "name": "author", "type": "RELATED_ITEM" },
        { "name": "gallery", "type": "MEDIA", "container": "ARRAY" }, { "name": "takes", "type": "VIDEO", "container": "MAP" },
        { "name": "parent", "type": "RELATED_ITEM" }
    ], "roles": { "creatorId": "author", "parentId": "parent" } });
    [("post".to_string(), ItemType::read("post", &At::new(&post, "")).unwrap())].into()
}

/// Every error's pointer leads to something that was sent, or to a field that is not there of something that was.
fn leads(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).is_some()
        || pointer.rsplit_once('/').is_some_and(|(parent, _)| value.pointer(parent).is_some())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_is_sent_is_read_or_refused_with_its_place(value in json_value(), data in json_value()) {
        let (at, types) = (At::new(&value, ""), types());
        if let Err(error) = read_items(&value, &types, &|_| None, 1) {
            prop_assert!(leads(&value, &error.pointer), "{}", error.pointer);
        }
        let body = json!({ "items": [{ "id": "1", "typeId": "post", "data": data }, value] });
        let read = read_items(&body, &types, &|_| None, 1).unwrap();
        for error in read.refused.iter().flat_map(|refused| &refused.errors) {
            prop_assert!(leads(&body, &error.pointer), "{} of {body}", error.pointer);
        }
        prop_assert_eq!(read.items.len() + read.refused.len(), 2);
        for refused in [read_report(&value, &types, 1).err()].into_iter().flatten() {
            prop_assert!(refused.1.iter().all(|error| leads(&value, &error.pointer)));
        }
        for error in [
            Wanted::read(&at).err(),
            ItemType::read("x", &at).err(),
            Queue::read(QueueName::parse("q").unwrap(), &at).err(),
            Webhook::read("w", &at).err(),
            Settings::default().changed(&at).err(),
        ].into_iter().flatten() {
            prop_assert!(leads(&value, &error.pointer), "{} of {value}", error.pointer);
        }
    }

    /// A rule that is taken runs, whatever it is asked about.
    #[test]
    fn a_rule_that_is_taken_can_be_asked(when in json_value(), data in json_value()) {
        let value = json!({ "queue": "q", "when": when });
        match Rule::read("r", &At::new(&value, ""), None) {
            Err(error) => prop_assert!(leads(&value, &error.pointer), "{} of {value}", error.pointer),
            Ok(rule) => {
                let compiled = Compiled::new(rule).unwrap();
                let mut item = Item::bare(ItemKey::new("post", "1"), 0);
                item.data = data.as_object().cloned().unwrap_or_default();
                let facts = Facts {
                    subject: Subject::Item("post", "1"),
                    item_type: Some("post"),
                    author: None,
                    item: Some(&item),
                    report: None,
                    matches: std::iter::empty::<MatchFact<'_>>(),
                    screened: Screened::Unknown,
                    classified: Classified::Failed,
                    source: Source::Items,
                };
                let mut asked = 0;
                compiled.evaluate(&facts, &mut |place, _| {
                    assert!(place < compiled.leaves());
                    asked += 1;
                });
                prop_assert!(asked <= compiled.leaves());
            }
        }
    }

    #[test]
    fn whatever_a_rules_file_says_it_is_read_or_refused(text in ".{0,200}", value in json_value()) {
        let _ = RulesFile::parse(&text);
        if let Ok(text) = toml::to_string(&json!({ "rule": [value] })) {
            let _ = RulesFile::parse(&text);
        }
    }
}
