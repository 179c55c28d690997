//! Rules as they are read, and what they say: against the obvious evaluator, and every refusal with its place.

#![allow(clippy::unwrap_used)] // clippy takes this file's helpers for code outside tests

use std::collections::BTreeMap;

use index::{BankId, ContentId, Distance, HitMatch, SignalType};
use proptest::prelude::*;
use reporter::At;
use reporter::desk::intake::Priority;
use reporter::desk::item::{Item, ItemKey};
use reporter::desk::kind::ItemType;
use reporter::desk::queue::Verdict;
use reporter::router::policy::{Catalog, Names};
use reporter::router::rule::{Rule, RuleState, RulesFile};
use reporter::router::table::{
    Classified, Compiled, Facts, MatchFact, Outcome, RuleTable, Screened, Source, Subject,
};
use serde_json::{Value, json};

fn rule(value: Value) -> Rule {
    Rule::read("r", &At::new(&value, ""), None).unwrap()
}

fn compiled(when: Value) -> Compiled {
    Compiled::new(rule(json!({ "queue": "q", "when": when }))).unwrap()
}

/// Facts of an item of type post, with these fields and these matches.
struct Known {
    item: Item,
    matches: Vec<HitMatch>,
    screened: Screened,
    classified: Classified,
}

impl Known {
    fn new(data: Value, matches: &[(&str, u16)]) -> Self {
        let found = |(bank, bits): &(&str, u16)| HitMatch {
            bank: BankId(1),
            bank_name: bank.to_string(),
            content: ContentId(1),
            distance: Distance::new(*bits).unwrap(),
        };
        let item = Item {
            data: data.as_object().unwrap().clone(),
            creator: Some(ItemKey::new("user", "u7")),
            ..Item::bare(ItemKey::new("post", "1"), 0)
        };
        let screened = Screened::Whole;
        Self {
            item,
            matches: matches.iter().map(found).collect(),
            screened,
            classified: Classified::Inapplicable,
        }
    }

    fn facts(&self) -> Facts<'_, impl IntoIterator<Item = MatchFact<'_>> + Clone> {
        Facts {
            subject: Subject::Item("post", &self.item.key.id),
            item_type: Some("post"),
            author: Some("u7"),
            item: Some(&self.item),
            report: None,
            matches: self.matches.iter().map(|found| MatchFact::new(SignalType::Pdq, found)),
            screened: self.screened,
            classified: self.classified,
            source: Source::Items,
        }
    }

    fn says(&self, when: Value) -> Outcome {
        compiled(when).evaluate(&self.facts(), &mut |_, _| {})
    }
}

#[test]
fn values_are_compared_as_their_comparator_says() {
    let known = Known::new(
        json!({ "text": "Buy NOW", "tags": ["a", "b"], "likes": 5, "made": "2026-01-02T00:00:00Z",
            "author": { "id": "u7", "typeId": "user" }, "none": null }),
        &[],
    );
    let field = |name: &str, comparator: &str, value: Value| {
        known.says(json!({ "field": name, "comparator": comparator, "value": value }))
    };
    use Outcome::{Failed, Inapplicable, Passed};
    for (outcome, expected) in [
        (field("text", "EQUALS", json!("Buy NOW")), Passed),
        (field("text", "EQUALS", json!("buy now")), Failed),
        (field("text", "CONTAINS", json!("now")), Passed),
        (field("text", "CONTAINS", json!("n.w")), Failed),
        (field("text", "MATCHES", json!("n.w")), Failed),
        (field("text", "MATCHES", json!("(?i)n.w")), Passed),
        (field("tags", "EQUALS", json!("b")), Passed),
        (field("tags", "NOT_EQUAL_TO", json!("b")), Passed), // any of several values
        (field("author", "EQUALS", json!("u7")), Passed),
        (field("likes", "GREATER_THAN", json!(4)), Passed),
        (field("likes", "GREATER_THAN", json!(5)), Failed),
        (field("likes", "GREATER_THAN_OR_EQUALS", json!(5.0)), Passed),
        (field("likes", "LESS_THAN", json!(5)), Failed),
        (field("likes", "LESS_THAN_OR_EQUALS", json!(5)), Passed),
        (field("likes", "EQUALS", json!(5.0)), Passed),
        (field("made", "LESS_THAN", json!("2026-01-03T00:00:00+01:00")), Passed),
        (field("text", "GREATER_THAN", json!(4)), Inapplicable),
        (field("none", "EQUALS", json!(1)), Inapplicable),
        (known.says(json!({ "field": "none", "comparator": "IS_NOT_PROVIDED" })), Passed),
        (known.says(json!({ "field": "text", "comparator": "IS_NOT_PROVIDED" })), Failed),
        (known.says(json!({ "field": "text", "comparator": "IS_UNAVAILABLE" })), Failed),
        (known.says(json!({ "input": "author", "comparator": "EQUALS", "values": ["x", "u7"] })), Passed),
        (known.says(json!({ "input": "all_text", "comparator": "CONTAINS", "value": "buy" })), Passed),
        (known.says(json!({ "input": "source", "comparator": "EQUALS", "value": "items" })), Passed),
        (
            known.says(json!({ "input": "report_reason", "comparator": "CONTAINS", "value": "x" })),
            Inapplicable,
        ),
        (known.says(json!({ "input": "report_csam", "comparator": "EQUALS", "value": false })), Passed),
    ] {
        assert_eq!(outcome, expected);
    }
}

#[test]
fn an_upload_that_nobody_described_answers_what_is_known_and_no_more() {
    let known = Known::new(json!({}), &[("A", 3)]);
    let facts = Facts { item: None, source: Source::Upload, ..known.facts() };
    let says = |when: Value| compiled(when).evaluate(&facts, &mut |_, _| {});
    assert_eq!(says(json!({ "field": "text", "comparator": "EQUALS", "value": "x" })), Outcome::Inapplicable);
    assert_eq!(says(json!({ "field": "text", "comparator": "IS_NOT_PROVIDED" })), Outcome::Inapplicable);
    assert_eq!(says(json!({ "field": "text", "comparator": "IS_UNAVAILABLE" })), Outcome::Passed);
    assert_eq!(says(json!({ "hash_match": { "banks": ["A"] } })), Outcome::Passed);
}

#[test]
fn a_hash_match_asks_about_the_nearest_it_considers_and_how_many_there_are() {
    let known = Known::new(json!({}), &[("A", 3), ("A", 20), ("B", 12)]);
    let hash = |what: Value| known.says(json!({ "hash_match": what }));
    use Outcome::{Failed, Passed};
    for (outcome, expected) in [
        (hash(json!({})), Passed),
        (hash(json!({ "banks": ["B"] })), Passed),
        (hash(json!({ "banks": ["C"] })), Failed),
        (hash(json!({ "banks": ["B"], "distance_max": 11 })), Failed),
        (hash(json!({ "distance_min": 10 })), Failed), // never a hit that is also near
        (hash(json!({ "banks": ["B"], "distance_min": 10 })), Passed),
        (hash(json!({ "signal_types": ["md5"] })), Failed),
        (hash(json!({ "matches_min": 3 })), Passed),
        (hash(json!({ "matches_min": 3, "distance_max": 12 })), Failed),
        (hash(json!({ "matches_min": 2, "distance_max": 12 })), Passed),
    ] {
        assert_eq!(outcome, expected);
    }
}

#[test]
fn what_could_not_be_compared_is_neither_a_match_nor_none() {
    let mut known = Known::new(json!({}), &[("A", 3)]);
    known.screened = Screened::Unknown;
    assert_eq!(known.says(json!({ "hash_match": { "banks": ["A"] } })), Outcome::Passed);
    assert_eq!(known.says(json!({ "hash_match": { "banks": ["B"] } })), Outcome::Errored);
    let not = json!({ "conjunction": "NOT", "conditions": [{ "hash_match": { "banks": ["B"] } }] });
    assert_eq!(known.says(not), Outcome::Errored);
    assert_eq!(known.says(json!({ "hash_match": {}, "comparator": "IS_UNAVAILABLE" })), Outcome::Passed);
    let mut text = Known::new(json!({}), &[]);
    text.screened = Screened::NoMedia;
    assert_eq!(text.says(json!({ "hash_match": {} })), Outcome::Inapplicable);
}

#[test]
fn the_classifier_is_asked_only_where_something_hangs_on_it() {
    let mut known = Known::new(json!({}), &[("A", 3)]);
    let safety = json!({ "content_safety": { "at_least": "HIGH" } });
    let both = |conjunction: &str, bank: &str| json!({ "conjunction": conjunction, "conditions": [safety, { "hash_match": { "banks": [bank] } }] });
    known.classified = Classified::NotAsked;
    assert_eq!(known.says(safety.clone()), Outcome::Needed);
    assert_eq!(known.says(both("OR", "A")), Outcome::Passed);
    assert_eq!(known.says(both("AND", "B")), Outcome::Failed);
    assert_eq!(known.says(both("AND", "A")), Outcome::Needed);
    for (priority, expected) in [
        (Priority::VeryHigh, Outcome::Passed),
        (Priority::High, Outcome::Passed),
        (Priority::Medium, Outcome::Failed),
    ] {
        known.classified = Classified::As(priority);
        assert_eq!(known.says(safety.clone()), expected);
    }
    known.classified = Classified::Failed;
    assert_eq!(known.says(safety.clone()), Outcome::Errored);
    let unavailable = json!({ "content_safety": {}, "comparator": "IS_UNAVAILABLE" });
    assert_eq!(known.says(unavailable), Outcome::Passed);
}

#[test]
fn a_sample_is_always_the_same_and_of_about_its_size() {
    let test = compiled(json!({ "sample_percent": 10 }));
    let taken = |rule: &Compiled, id: &str| {
        let known = Known::new(json!({}), &[]);
        rule.evaluate(&Facts { subject: Subject::Item("post", id), ..known.facts() }, &mut |_, _| {})
    };
    let ids: Vec<String> = (0..10_000).map(|id| format!("item {id}")).collect();
    let first: Vec<bool> = ids.iter().map(|id| taken(&test, id) == Outcome::Passed).collect();
    let count = first.iter().filter(|taken| **taken).count();
    assert!((850..1150).contains(&count), "{count} of 10000");
    assert!(ids.iter().zip(&first).all(|(id, before)| (taken(&test, id) == Outcome::Passed) == *before));
    // Another rule takes another sample.
    let value = json!({ "queue": "q", "when": { "sample_percent": 10 } });
    let other = Compiled::new(Rule::read("other", &At::new(&value, ""), None).unwrap()).unwrap();
    let both =
        ids.iter().zip(&first).filter(|(id, first)| **first && taken(&other, id) == Outcome::Passed).count();
    assert!(both < 200, "{both} of 10000 are in both samples");
}

/// A condition over three questions whose answers are given: fields `a`, `b`, `c` that are 1, 0, or not there.
#[derive(Clone, Debug)]
enum Tree {
    Leaf(usize),
    Set(&'static str, Vec<Tree>),
}

impl Tree {
    fn written(&self) -> Value {
        match self {
            Tree::Leaf(at) => json!({ "field": (["a", "b", "c"][*at]), "comparator": "EQUALS", "value": 1 }),
            Tree::Set(conjunction, parts) => {
                json!({ "conjunction": conjunction, "conditions": parts.iter().map(Tree::written).collect::<Vec<_>>() })
            }
        }
    }

    /// Coop's semantics, spelled out (specs/coop.md 4.1): true, false or unknown.
    fn obvious(&self, answers: &[Option<bool>; 3]) -> Option<bool> {
        let Tree::Set(conjunction, parts) = self else {
            let Tree::Leaf(at) = self else { return None };
            return answers[*at];
        };
        let parts: Vec<Option<bool>> = parts.iter().map(|part| part.obvious(answers)).collect();
        let count = |wanted| parts.iter().filter(|part| **part == wanted).count();
        let (yes, no, unknown) = (count(Some(true)), count(Some(false)), count(None));
        match *conjunction {
            "AND" if no > 0 => Some(false),
            "OR" if yes > 0 => Some(true),
            "XOR" if yes > 1 => Some(false),
            _ if unknown > 0 => None,
            "AND" => Some(true),
            "OR" => Some(false),
            "XOR" => Some(yes == 1),
            _ => Some(yes == 0),
        }
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    (0..3usize).prop_map(Tree::Leaf).prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            (prop::sample::select(vec!["AND", "OR", "XOR"]), prop::collection::vec(inner.clone(), 1..4))
                .prop_map(|(conjunction, parts)| Tree::Set(conjunction, parts)),
            inner.prop_map(|part| Tree::Set("NOT", vec![part])),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn trees_agree_with_the_obvious_evaluator(
        tree in tree(),
        answers in prop::array::uniform3(prop::option::of(any::<bool>())),
    ) {
        let mut data = json!({});
        for (name, answer) in ["a", "b", "c"].iter().zip(answers) {
            if let Some(answer) = answer {
                data[*name] = json!(u8::from(answer));
            }
        }
        let outcome = Known::new(data, &[]).says(tree.written());
        let found = match outcome {
            Outcome::Passed => Some(true),
            Outcome::Failed => Some(false),
            _ => None,
        };
        prop_assert_eq!(found, tree.obvious(&answers), "{:?} of {:?}", outcome, tree);
    }

    /// The first live routing rule that holds gives the verdict; the obvious evaluator goes rule by rule.
    #[test]
    fn the_first_rule_that_takes_a_hit_decides(
        listed in prop::collection::vec(
            (prop::option::of(prop::sample::subsequence(vec!["A", "B", "C"], 1..3)),
             prop::option::of(0..40u16), prop::option::of(0..40u16), 0..4usize, 0..4usize), 0..8),
        matches in prop::collection::vec((prop::sample::select(vec!["A", "B", "C"]), 0..40u16), 0..6),
    ) {
        let mut rules = Vec::new();
        for (at, (banks, low, high, verdict, state)) in listed.iter().enumerate() {
            let mut value = json!({ "queue": "q", "order": at, "verdict": Verdict::ALL[*verdict].name(),
                "state": (["live", "live", "background", "draft"][*state]) });
            if let Some(banks) = banks { value["banks"] = json!(banks); }
            if let Some(low) = low { value["distance_min"] = json!(low.min(high.as_ref().unwrap_or(&40))); }
            if let Some(high) = high { value["distance_max"] = json!(high); }
            rules.push(Rule::read(&format!("r{at}"), &At::new(&value, ""), None).unwrap());
        }
        let table = RuleTable::compile(1, rules).unwrap();
        let known = Known::new(json!({}), &matches);
        let naive = listed.iter().find(|(banks, low, high, _, state)| {
            let considered = matches.iter().filter(|(bank, _)| banks.as_ref().is_none_or(|banks| banks.contains(bank)));
            let Some(nearest) = considered.map(|(_, bits)| *bits).min() else { return false };
            let low = low.map(|low| low.min(high.unwrap_or(40)));
            *state < 2 && low.is_none_or(|low| nearest >= low) && high.is_none_or(|high| nearest <= high)
        });
        let expected = naive.map_or(Verdict::Review, |(.., verdict, _)| Verdict::ALL[*verdict]);
        prop_assert_eq!(table.verdict(&known.facts(), 0), expected);
    }
}

#[test]
fn a_rule_expires_when_its_time_is_over() {
    let rule = rule(json!({ "queue": "q", "state": "live", "expires": "1970-01-01T00:00:02Z" }));
    assert_eq!((rule.state_at(1_999), rule.state_at(2_000)), (RuleState::Live, RuleState::Expired));
}

fn catalog() -> Catalog {
    let post = json!({ "kind": "CONTENT", "fields": [{ "name": "text", "type": "STRING" }, { "name": "likes", "type": "NUMBER" }] });
    let post = ItemType::read("post", &At::new(&post, "")).unwrap();
    Catalog {
        types: BTreeMap::from([("post".to_string(), post)]),
        webhooks: ["told".to_string()].into(),
        ..Catalog::default()
    }
}

#[test]
fn every_refusal_points_at_its_field_and_says_what_to_do() {
    let catalog = catalog();
    let names = Names { catalog: &catalog, bank: &|name| name == "A" };
    let says = |value: &Value| Rule::read("r", &At::new(value, ""), Some(&names)).unwrap_err().to_string();
    let leaf = |leaf: Value| json!({ "queue": "q", "when": leaf });
    for (value, expected) in [
        (leaf(json!({ "hash_match": { "banks": ["B"] } })), "/when/hash_match/banks/0: there is no bank 'B'"),
        (json!({ "queue": "q", "banks": ["B"] }), "/banks/0: there is no bank 'B'"),
        (json!({ "queue": "q", "banks": [] }), "/banks: is empty, so it would never match"),
        (json!({ "queue": "q", "banks": ["a"] }), "/banks/0: 'a' is not a bank's name: use A-Z"),
        (json!({ "queue": "q", "distance_max": 129 }), "/distance_max: 129 is not a distance: use 0 to 128"),
        (
            json!({ "queue": "q", "distance_min": 9, "distance_max": 8 }),
            "/distance_min: 9 is above distance_max = 8",
        ),
        (
            json!({ "queue": "q", "signal_types": ["md5"], "distance_min": 1 }),
            "/distance_min: 1 is beyond what these signal types match at",
        ),
        (json!({ "queue": "q", "item_types": ["x"] }), "/item_types/0: there is no item type 'x'"),
        (json!({ "queue": "Q" }), "/queue: 'Q' is not a queue name"),
        (
            json!({ "queue": "q", "verdict": "ban" }),
            "/verdict: is 'ban', use one of none, log, review, block",
        ),
        (json!({ "queue": "q", "state": "on" }), "/state: is 'on', use one of draft, background, live"),
        (json!({}), "/queue: is missing: name the queue it sends to"),
        (json!({ "queue": "q", "actions": [{ "enqueue_ncmec": {} }] }), "sends to one place"),
        (
            json!({ "kind": "proactive" }),
            "/actions: is missing: a proactive rule without actions does nothing",
        ),
        (json!({ "actions": [{ "enqueue": {} }] }), "/actions: a routing rule is what chooses the queue"),
        (
            json!({ "queue": "q", "actions": [{ "webhook": { "name": "x" } }] }),
            "/actions/0/webhook/name: there is no webhook",
        ),
        (
            json!({ "queue": "q", "actions": [{ "add_to_bank": { "bank": "B" } }] }),
            "/actions/0/add_to_bank/bank: there is no bank",
        ),
        (json!({ "queue": "q", "actions": [{ "ban": {} }] }), "/actions/0/ban: is unknown"),
        (
            json!({ "actions": [{ "decide": { "incident_type": "bad" } }] }),
            "/actions/0/decide/incident_type: is 'bad', use one of Child Pornography",
        ),
        (
            leaf(json!({ "field": "x", "comparator": "EQUALS", "value": 1 })),
            "/when/field: no item type has a field 'x'",
        ),
        (
            leaf(json!({ "field": "text", "comparator": "IS", "value": 1 })),
            "/when/comparator: is 'IS', use one of EQUALS",
        ),
        (
            leaf(json!({ "field": "text", "comparator": "GREATER_THAN", "value": 1 })),
            "/when/comparator: compares numbers",
        ),
        (
            leaf(json!({ "field": "text", "comparator": "MATCHES", "value": "(" })),
            "/when/value: is no regular expression",
        ),
        (leaf(json!({ "field": "text", "comparator": "EQUALS" })), "/when: needs value or values"),
        (leaf(json!({ "conjunction": "AND", "conditions": [] })), "/when/conditions: NOT has one condition"),
        (
            leaf(json!({ "conjunction": "AND", "conditions": [{ "hash_match": { "bank": "A" } }] })),
            "/when/conditions/0/hash_match/bank: is unknown",
        ),
        (leaf(json!({ "sample_percent": 101 })), "/when/sample_percent: is 101, use 0 to 100"),
        (
            leaf(json!({ "content_safety": { "at_least": "HUGE" } })),
            "/when/content_safety/at_least: is 'HUGE'",
        ),
        (leaf(json!({})), "/when: asks nothing"),
    ] {
        let error = says(&value);
        assert!(error.contains(expected), "{value}\nsays: {error}\nnot:  {expected}");
    }
    let good = json!({ "queue": "q", "banks": ["A"], "item_types": ["post"], "actions": [{ "webhook": { "name": "told" } }] });
    assert!(Rule::read("r", &At::new(&good, ""), Some(&names)).is_ok());
    let mut deep = json!({ "hash_match": {} });
    for _ in 0..18 {
        deep = json!({ "conjunction": "AND", "conditions": [deep] });
    }
    assert!(says(&leaf(deep)).contains("lies deeper than 16 sets"));
}

#[test]
fn a_file_says_rules_types_and_the_default_queue() {
    let text = r#"
default_queue = "triage"
[[item_type]]
id = "post"
kind = "CONTENT"
fields = [{ name = "author", type = "RELATED_ITEM" }]
roles = { creatorId = "author" }
[[rule]]
name = "known"
banks = ["NCMEC_A1", "_LOCAL"]
signal_types = ["pdq"]
distance_max = 15
item_types = ["photo"]
queue = "urgent"
verdict = "block"
[[rule]]
name = "report"
kind = "proactive"
state = "background"
when = { conjunction = "OR", conditions = [{ hash_match = {} }, { sample_percent = 1 }] }
actions = [{ enqueue_ncmec = {} }]
"#;
    let file = RulesFile::parse(text).unwrap();
    assert_eq!(file.default_queue.unwrap().as_str(), "triage");
    assert_eq!(file.item_types[0].roles.len(), 1);
    let [known, report] = file.rules.as_slice() else { panic!("two rules") };
    assert!(known.from_file && known.state == RuleState::Live && known.verdict == Verdict::Block);
    assert_eq!((known.order, report.order, report.state), (0, 1, RuleState::Background));
    for (change, says) in [
        (("distance_max", "max_distance"), "rule 'known', field 'max_distance': is unknown"),
        (("name = \"report\"", "name = \"known\""), "rule 2, field 'name': 'known' is taken by a rule above"),
        (("name = \"report\"", "name = \" x\""), "rule 2, field 'name': \" x\" is not a name"),
        (("[[rule]]\nname = \"k", "[[rule]\nname = \"k"), "line 8"),
        (("RELATED_ITEM", "RELATED"), "item type 'post', field 'fields/0/type': is 'RELATED'"),
    ] {
        let error = RulesFile::parse(&text.replace(change.0, change.1)).unwrap_err().to_string();
        assert!(error.contains(says), "{error}\nnot: {says}");
    }
}
