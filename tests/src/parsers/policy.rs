//! What operators, platforms and NCMEC write in JSON, TOML and XML.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use index::{Distance, SignalType};
use reporter::access::{KeyWanted, PersonWanted};
use reporter::cyber_tipline::{reply, schema};
use reporter::desk::decision::Wanted;
use reporter::desk::item::ItemKey;
use reporter::desk::kind::ItemType;
use reporter::desk::queue::QueueName;
use reporter::desk::settings::{Queue, Webhook};
use reporter::desk::submission::{read_items, read_report};
use reporter::router::condition::Condition;
use reporter::router::rule::{Rule, RuleState, RulesFile};
use reporter::router::table::{Classified, Facts, MatchFact, RuleTable, Screened, Source, Subject};
use reporter::tip::info;
use reporter::tip::organisation::{Credentials, Organisation};
use reporter::{At, OrgName};
use serde_json::json;

use super::is_short;

const NOW_MS: u64 = 1_800_000_000_000;

/// Item types with a field of each scalar and each role.
fn types() -> &'static BTreeMap<String, ItemType> {
    static TYPES: OnceLock<BTreeMap<String, ItemType>> = OnceLock::new();
    TYPES.get_or_init(|| {
        let rules = RulesFile::parse(include_str!("types.toml")).expect("the types are right");
        rules.item_types.into_iter().map(|of| (of.id.clone(), of)).collect()
    })
}

/// Reads items and reports as a platform sends them.
pub fn items(bytes: &[u8]) {
    let Some(body) = super::json(bytes) else { return };
    if let Ok(read) = read_items(&body, types(), &|_| None, NOW_MS) {
        let sent = body["items"].as_array().map_or(0, Vec::len);
        assert_eq!(read.items.len() + read.refused.len(), sent, "an item is neither taken nor refused");
        for item in &read.items {
            let text = serde_json::to_string(item).expect("an item is a struct with string keys");
            assert_eq!(serde_json::from_str(&text).ok().as_ref(), Some(item), "an item does not survive");
        }
    }
    let _ = read_report(&body, types(), NOW_MS); // refused, mostly
}

/// Reads a rules file, and asks its rules about an upload and an item.
pub fn rules(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(file) = RulesFile::parse(text) else { return };
    evaluate(file.rules);
}

/// Reads a condition as it stands in a rule, and a rule that stands by itself.
pub fn condition(bytes: &[u8]) {
    let Some(body) = super::json(bytes) else { return };
    if let Ok(condition) = Condition::read(&At::new(&body, ""), None) {
        assert!(condition.leaves() > 0 || body.to_string().len() > 2);
        let rule = json!({ "queue": "q", "when": body });
        let rule = Rule::read("of a condition", &At::new(&rule, ""), None);
        rule.into_iter().for_each(|rule| evaluate(vec![rule]));
    }
    if let Ok(rule) = Rule::read("by itself", &At::new(&body, ""), None) {
        evaluate(vec![rule]);
    }
}

/// A rule that was taken compiles, survives being stored, and answers.
fn evaluate(rules: Vec<Rule>) {
    for rule in &rules {
        let text = serde_json::to_string(rule).expect("a rule is a struct with string keys");
        let back: Rule = serde_json::from_str(&text).expect("a stored rule reads back");
        assert!(back.says_what(rule), "a stored rule says something else");
    }
    let live = rules.into_iter().map(|rule| Rule { state: RuleState::Live, ..rule }).collect();
    let table = RuleTable::compile(1, live).expect("a rule that was taken compiles");
    let near = |bank_name, bits| MatchFact {
        bank_name,
        signal_type: SignalType::Pdq,
        distance: Distance::new(bits).expect("within 256"),
    };
    let matches = [near("ONE", 0), near("TWO", 31)];
    for subject in [Subject::Item("post", "1"), Subject::Signal(&[7; 32])] {
        let facts = Facts {
            subject,
            item_type: Some("post"),
            author: Some("u"),
            item: None,
            report: None,
            matches: matches.iter().copied(),
            screened: Screened::Whole,
            classified: Classified::NotAsked,
            source: Source::Items,
        };
        let _ = table.verdict(&facts, NOW_MS);
        for rule in table.rules() {
            let mut asked = 0;
            rule.evaluate(&facts, &mut |_, _| asked += 1);
            assert!(asked <= rule.leaves(), "{asked} of {} questions", rule.leaves());
        }
    }
}

/// Reads every other thing an operator sets.
pub fn settings(bytes: &[u8]) {
    let Some(body) = super::json(bytes) else { return };
    let at = At::new(&body, "");
    let queue = QueueName::parse("q").expect("a name");
    let organisation = OrgName::parse("o").expect("a name");
    if let Ok(of) = ItemType::read("t", &at) {
        let shown = serde_json::to_value(&of).expect("a type is a struct with string keys");
        let again = ItemType::read("t", &At::new(&shown, ""));
        assert_eq!(again.as_ref(), Ok(&of), "a type is refused as it is shown");
    }
    let _ = Queue::read(queue, &at);
    let _ = Webhook::read("w", &at);
    let _ = Organisation::read(organisation, &at);
    let _ = Credentials::read(&at);
    let _ = KeyWanted::read(&at);
    let _ = reporter::access::Key::read_grace(&at);
    let _ = PersonWanted::read(&at);
}

/// Reads a reviewer's decision.
pub fn decision(bytes: &[u8]) {
    let Some(body) = super::json(bytes) else { return };
    if let Err(error) = Wanted::read(&At::new(&body, "")) {
        assert!(
            error.to_string().len() <= bytes.len() * 2 + 4096,
            "a refusal is longer than what it refuses"
        );
    }
}

/// Reads a platform's answer about users and media.
pub fn platform_info(bytes: &[u8]) {
    let keys = |kind: &str, ids: &[&str]| -> Vec<ItemKey> {
        ids.iter().map(|id| ItemKey::new(kind, (*id).to_string())).collect()
    };
    let (users, media) = (keys("user", &["u"]), keys("post", &["1", "2"]));
    let read = info::read(bytes, &users, &media);
    read.as_ref().err().iter().for_each(is_short);
    if let Ok(read) = read {
        for key in &users {
            assert!(read.user(key).is_some(), "taken without a user that was asked for");
        }
        for key in &media {
            assert!(read.media_of(key).next().is_some(), "taken without a medium that was asked for");
            read.is_missing(key);
            read.message_addresses(key).for_each(drop);
        }
    }
    let _ = info::read(bytes, &[], &[]);
}

/// Reads what NCMEC, or something in its place, answers.
pub fn ncmec_reply(bytes: &[u8]) {
    for content_type in [None, Some("application/xml;charset=ISO-8859-1")] {
        reply::parse(bytes, content_type).err().iter().for_each(is_short);
    }
    let _ = schema::validate(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_types_have_every_kind() {
        let kinds: Vec<serde_json::Value> = types().values().map(|of| json!(of.kind)).collect();
        assert_eq!(kinds.len(), 3, "{kinds:?}");
    }
}
