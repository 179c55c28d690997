//! Rules as an operator writes them, in TOML, read into types that can only hold what makes sense.
//!
//! Order is meaning: the first rule that takes a hit decides. Reading refuses what could silently never
//! match (an empty list, a distance no signal reaches) and what could be a slip of the pen (unknown keys,
//! a name used twice); each refusal names the rule, the field and the remedy. Evaluating is `compile`'s.

use std::collections::HashSet;

use index::{Distance, SignalType};
use serde::{Deserialize, Serialize};

use crate::error::{RouterError, clip};
use crate::queue::{QueueName, RulesVersion, Verdict};

/// Rules at most: a shard evaluates them inline for each hit.
const RULES_MAX: usize = 1000;
const NAME_CHARS_MAX: usize = 128;
const BANK_CHARS_MAX: usize = 255;
const DEFAULT_QUEUE: &str = "default";

/// A rules file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rules {
    /// Where a hit goes that no rule takes.
    pub default_queue: QueueName,
    /// In the order they are tried.
    #[serde(rename = "rule")]
    pub rules: Vec<Rule>,
    /// Of the text they were read from.
    #[serde(skip)]
    pub version: RulesVersion,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rule {
    /// Unique among the rules.
    pub name: String,
    /// Which hits it takes.
    #[serde(flatten)]
    pub condition: Condition,
    /// Where they go.
    pub queue: QueueName,
    /// What the uploader is told.
    pub verdict: Verdict,
    /// A rule that is not is passed over.
    pub enabled: bool,
}

/// Which hits a rule takes. What is absent is not asked for; all that is present must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Condition {
    /// Only matches in these banks are considered. A hit with none is not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub banks: Option<Vec<String>>,
    /// The signal's type is one of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal_types: Option<Vec<SignalType>>,
    /// The nearest considered match is at least this far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distance_min: Option<Distance>,
    /// The nearest considered match is at most this far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distance_max: Option<Distance>,
    /// The uploader's item type is one of these. A hit without one is not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item_types: Option<Vec<String>>,
}

impl Default for Rules {
    /// No rules: every hit goes to people.
    fn default() -> Self {
        Self {
            default_queue: QueueName::known(DEFAULT_QUEUE),
            rules: Vec::new(),
            version: RulesVersion::of(""),
        }
    }
}

impl Rules {
    /// Reads a rules file. An empty one is [`Rules::default`].
    pub fn parse(text: &str) -> Result<Self, RouterError> {
        let file: FileText =
            toml::from_str(text).map_err(|error| RouterError::RulesSyntax { reason: error.to_string() })?;
        if file.rule.len() > RULES_MAX {
            let problem = format!("{} rules are too many: {RULES_MAX} at most; join some", file.rule.len());
            return Err(RouterError::RulesField { rule: FILE.to_string(), field: "rule", problem });
        }
        let default_queue = file.default_queue.as_deref().unwrap_or(DEFAULT_QUEUE);
        let default_queue = queue(FILE, "default_queue", default_queue)?;
        let mut names = HashSet::new();
        let mut rules = Vec::with_capacity(file.rule.len());
        for (at, text) in file.rule.into_iter().enumerate() {
            let rule = read_rule(at + 1, text)?;
            if !names.insert(rule.name.clone()) {
                let problem = format!("'{}' is taken by a rule above: give each rule its own", rule.name);
                return Err(wrong(&format!("rule {}", at + 1), "name", problem));
            }
            rules.push(rule);
        }
        Ok(Self { default_queue, rules, version: RulesVersion::of(text) })
    }
}

const FILE: &str = "the rules file";

/// The file's shape, before its words are understood: what is missing or wrong is then told by rule name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    default_queue: Option<String>,
    #[serde(default)]
    rule: Vec<RuleText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    name: Option<String>,
    banks: Option<Vec<String>>,
    signal_types: Option<Vec<String>>,
    distance_min: Option<i64>,
    distance_max: Option<i64>,
    item_types: Option<Vec<String>>,
    queue: Option<String>,
    verdict: Option<String>,
    enabled: Option<bool>,
}

fn read_rule(number: usize, text: RuleText) -> Result<Rule, RouterError> {
    let nameless = format!("rule {number}");
    let Some(name) = text.name else {
        return Err(wrong(&nameless, "name", "is missing: give the rule a name of its own"));
    };
    let length = name.chars().count();
    if length == 0 || length > NAME_CHARS_MAX || name.trim() != name || name.chars().any(char::is_control) {
        let problem = format!(
            "{:?} is not a name: use 1 to {NAME_CHARS_MAX} printable characters without blanks around them",
            clip(&name)
        );
        return Err(wrong(&nameless, "name", problem));
    }
    let rule = format!("rule '{name}'");
    let Some(queue_name) = text.queue else {
        return Err(wrong(&rule, "queue", "is missing: name the queue its hits go to"));
    };
    let banks = list(&rule, "banks", text.banks, read_bank)?;
    let signal_types = list(&rule, "signal_types", text.signal_types, |name| {
        SignalType::from_name(name).map_err(|error| error.to_string())
    })?;
    let item_types = list(&rule, "item_types", text.item_types, |name| match name {
        "" => Err("an item type is never empty: take it out".to_string()),
        _ => Ok(name.to_string()),
    })?;
    let distance_min = distance(&rule, "distance_min", text.distance_min)?;
    let distance_max = distance(&rule, "distance_max", text.distance_max)?;
    let condition = Condition { banks, signal_types, distance_min, distance_max, item_types };
    check_reach(&rule, &condition)?;
    let verdict = match text.verdict {
        None => Verdict::Review,
        Some(name) => Verdict::ALL.into_iter().find(|verdict| verdict.name() == name).ok_or_else(|| {
            wrong(&rule, "verdict", format!("'{}' is none of none, log, review, block", clip(&name)))
        })?,
    };
    let queue = queue(&rule, "queue", &queue_name)?;
    Ok(Rule { name, condition, queue, verdict, enabled: text.enabled.unwrap_or(true) })
}

/// Refuses distances that no hit could have.
fn check_reach(rule: &str, condition: &Condition) -> Result<(), RouterError> {
    let Some(min) = condition.distance_min else { return Ok(()) };
    if let Some(max) = condition.distance_max.filter(|max| *max < min) {
        let problem = format!("{min} is above distance_max = {max}, so it would never match: swap them");
        return Err(wrong(rule, "distance_min", problem));
    }
    let types = condition.signal_types.as_deref().unwrap_or(&SignalType::ALL);
    if types.iter().all(|kind| kind.threshold_max() < min) {
        let problem = format!("{min} is beyond what these signal types match at: lower it or take it out");
        return Err(wrong(rule, "distance_min", problem));
    }
    Ok(())
}

fn read_bank(name: &str) -> Result<String, String> {
    let first = |c: char| c.is_ascii_uppercase() || c == '_';
    let good = name.starts_with(first)
        && name.chars().all(|c| first(c) || c.is_ascii_digit())
        && name.len() <= BANK_CHARS_MAX;
    if good {
        return Ok(name.to_string());
    }
    Err(format!(
        "'{}' is not a bank's name: use A-Z, _ and, after the first character, 0-9, at most {BANK_CHARS_MAX} characters",
        clip(name)
    ))
}

fn list<T>(
    rule: &str,
    field: &'static str,
    texts: Option<Vec<String>>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<Vec<T>>, RouterError> {
    let Some(texts) = texts else { return Ok(None) };
    if texts.is_empty() {
        return Err(wrong(rule, field, "is empty, so it would never match: take the line out to mean any"));
    }
    let values: Result<Vec<T>, String> = texts.iter().map(|text| read(text)).collect();
    values.map(Some).map_err(|problem| wrong(rule, field, problem))
}

fn distance(rule: &str, field: &'static str, bits: Option<i64>) -> Result<Option<Distance>, RouterError> {
    let Some(bits) = bits else { return Ok(None) };
    match u16::try_from(bits).ok().and_then(Distance::new) {
        Some(distance) => Ok(Some(distance)),
        None => Err(wrong(rule, field, format!("{bits} is not a distance: use 0 to {}", Distance::MAX))),
    }
}

fn queue(rule: &str, field: &'static str, name: &str) -> Result<QueueName, RouterError> {
    QueueName::parse(name).map_err(|error| wrong(rule, field, error.to_string()))
}

fn wrong(rule: &str, field: &'static str, problem: impl Into<String>) -> RouterError {
    RouterError::RulesField { rule: rule.to_string(), field, problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"
default_queue = "triage"

[[rule]]
name = "known-csam"
banks = ["NCMEC_A1", "_LOCAL"]
signal_types = ["pdq"]
distance_min = 0
distance_max = 15
item_types = ["photo", "avatar"]
queue = "ncmec-review"
verdict = "block"

[[rule]]
name = "the rest of it"
queue = "slow_lane"
enabled = false
"#;

    #[test]
    fn a_file_reads_as_it_is_written() {
        let rules = Rules::parse(FULL).unwrap();
        assert_eq!(rules.default_queue.as_str(), "triage");
        let [known, rest] = rules.rules.as_slice() else { panic!("two rules") };
        assert_eq!(known.name, "known-csam");
        assert_eq!(
            known.condition,
            Condition {
                banks: Some(vec!["NCMEC_A1".to_string(), "_LOCAL".to_string()]),
                signal_types: Some(vec![SignalType::Pdq]),
                distance_min: Distance::new(0),
                distance_max: Distance::new(15),
                item_types: Some(vec!["photo".to_string(), "avatar".to_string()]),
            }
        );
        assert_eq!(
            (known.queue.as_str(), known.verdict, known.enabled),
            ("ncmec-review", Verdict::Block, true)
        );
        assert_eq!(rest.condition, Condition::default());
        assert_eq!((rest.queue.as_str(), rest.verdict, rest.enabled), ("slow_lane", Verdict::Review, false));
    }

    #[test]
    fn rules_written_out_read_back() {
        let rules = Rules::parse(FULL).unwrap();
        let again = Rules::parse(&toml::to_string(&rules).unwrap()).unwrap();
        assert_eq!(Rules { version: rules.version, ..again }, rules);
    }

    #[test]
    fn an_empty_file_means_no_rules() {
        assert_eq!(Rules::parse("").unwrap(), Rules::default());
        assert_eq!(Rules::default().default_queue.as_str(), "default");
    }

    #[test]
    fn every_text_has_its_own_version_and_it_survives_json() {
        let (one, other) = (RulesVersion::of(FULL), RulesVersion::of(&FULL.replace("15", "16")));
        assert_ne!(one, other);
        let json = serde_json::to_string(&one).unwrap();
        assert_eq!(json, format!("\"{one}\""));
        assert_eq!(serde_json::from_str::<RulesVersion>(&json).unwrap(), one);
        assert!(serde_json::from_str::<RulesVersion>("\"12\"").is_err());
    }

    #[test]
    fn every_refusal_names_the_rule_the_field_and_the_remedy() {
        let rule = |lines: &str| format!("[[rule]]\nname = \"r\"\nqueue = \"q\"\n{lines}\n");
        for (text, says) in [
            (
                rule("banks = []"),
                "rule 'r', field 'banks': is empty, so it would never match: take the line out",
            ),
            (rule("banks = ['ncmec']"), "rule 'r', field 'banks': 'ncmec' is not a bank's name: use A-Z"),
            (rule("banks = ['1A']"), "'1A' is not a bank's name"),
            (rule(&format!("banks = ['{}']", "A".repeat(256))), "at most 255"),
            (
                rule("signal_types = ['photodna']"),
                "field 'signal_types': unknown signal type 'photodna': known are pdq",
            ),
            (rule("item_types = ['']"), "rule 'r', field 'item_types': an item type is never empty"),
            (
                rule("distance_max = 129"),
                "rule 'r', field 'distance_max': 129 is not a distance: use 0 to 128",
            ),
            (rule("distance_min = -1"), "rule 'r', field 'distance_min': -1 is not a distance"),
            (
                rule("distance_min = 9\ndistance_max = 8"),
                "9 is above distance_max = 8, so it would never match",
            ),
            (
                rule("signal_types = ['video_md5']\ndistance_min = 1"),
                "beyond what these signal types match at",
            ),
            (rule("verdict = 'ban'"), "rule 'r', field 'verdict': 'ban' is none of none, log, review, block"),
            ("[[rule]]\nname = 'r'\n".to_string(), "rule 'r', field 'queue': is missing"),
            (
                "[[rule]]\nname = 'r'\nqueue = 'Q'\n".to_string(),
                "rule 'r', field 'queue': 'Q' is not a queue name: use a-z",
            ),
            ("[[rule]]\nqueue = 'q'\n".to_string(), "rule 1, field 'name': is missing"),
            (
                "[[rule]]\nname = ' r'\nqueue = 'q'\n".to_string(),
                "rule 1, field 'name': \" r\" is not a name",
            ),
            (rule("") + &rule(""), "rule 2, field 'name': 'r' is taken by a rule above"),
            (
                "default_queue = ''".to_string(),
                "the rules file, field 'default_queue': '' is not a queue name",
            ),
            ((0..1001).map(|_| rule("")).collect(), "1001 rules are too many: 1000 at most"),
        ] {
            let error = Rules::parse(&text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}\nsays: {error}\nnot: {says}");
        }
    }

    #[test]
    fn unknown_keys_and_wrong_types_are_refused_with_their_line() {
        for (text, line, says) in [
            (FULL.replace("distance_max", "max_distance"), "line 9", "unknown field `max_distance`"),
            (FULL.replace("default_queue", "queue"), "line 2", "unknown field `queue`"),
            (FULL.replace("\"NCMEC_A1\", ", "7, "), "line 6", "invalid type: integer `7`"),
            (FULL.replace("[[rule]]\nname = \"k", "[[rule]\nname = \"k"), "line 4", ""),
        ] {
            let error = Rules::parse(&text).unwrap_err().to_string();
            assert!(error.contains(line) && error.contains(says), "{error}");
        }
    }
}
