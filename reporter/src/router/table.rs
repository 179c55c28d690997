//! Rules made ready to run, and the one function that evaluates them. Pure: a table and facts in, outcomes out, no
//! allocation, so that a shard can ask for the verdict of each hit inline.
//!
//! Logic has three values (specs/coop.md 4.1): what is not known is neither true nor false, and only what is true fires.
//! A `hash_match` asks about the nearest of the matches it considers and no other, so a rule for far matches never takes
//! a hit that is also near. A hit is never dropped: what no routing rule takes goes to the default queue.

use index::{Distance, HitMatch, SignalType};
use serde_json::Value;

use super::condition::{Condition, Conjunction, HashMatch, Input, Leaf, Order, Test};
use super::rule::{Action, Rule, RuleKind, RuleState};
use crate::desk::intake::Priority;
use crate::desk::item::{Item, Report};
use crate::desk::kind::time_ms;
use crate::desk::queue::Verdict;
use crate::read::FieldError;

/// What rules may ask about. `matches` is walked for each question, hence `Clone`.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a, M> {
    /// Whom it is about: what samples are taken of.
    pub subject: Subject<'a>,
    /// What the uploader said the item is.
    pub item_type: Option<&'a str>,
    /// Who made it.
    pub author: Option<&'a str>,
    /// The item, where the platform has told of it.
    pub item: Option<&'a Item>,
    /// The report, if it came by one.
    pub report: Option<&'a Report>,
    /// What it matched, in any order.
    pub matches: M,
    /// Whether that is all there is to know.
    pub screened: Screened,
    /// What the classifier said.
    pub classified: Classified,
    /// Where it comes from.
    pub source: Source,
}

/// Whom facts are about.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// An item: its type and id.
    Item(&'a str, &'a str),
    /// A signal of an upload without an id: its bytes.
    Signal(&'a [u8]),
}

/// Whether an item's media were compared with the banks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screened {
    /// All of them.
    Whole,
    /// There are none.
    NoMedia,
    /// Not all: what did not match may match.
    Unknown,
}

/// What the classifier said of an item's pictures: the highest of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Classified {
    /// Nobody asked it yet.
    NotAsked,
    /// There is nothing to ask about, or nobody to ask.
    Inapplicable,
    /// It could not say.
    Failed,
    /// This.
    As(Priority),
}

/// Where something comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A Submit.
    Upload,
    /// The items API.
    Items,
    /// The report API.
    Report,
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Source::Upload => "upload",
            Source::Items => "items",
            Source::Report => "report",
        }
    }
}

/// One match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatchFact<'a> {
    /// The bank's name.
    pub bank_name: &'a str,
    /// Type of the signal that matched.
    pub signal_type: SignalType,
    /// How far it lies.
    pub distance: Distance,
}

impl<'a> MatchFact<'a> {
    /// A match of a signal of this type.
    pub fn new(signal_type: SignalType, found: &'a HitMatch) -> Self {
        Self { bank_name: &found.bank_name, signal_type, distance: found.distance }
    }
}

/// What a condition came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Passed,
    /// It does not.
    Failed,
    /// The question does not apply.
    Inapplicable,
    /// It could not be answered.
    Errored,
    /// It hangs on the classifier, which was not asked yet.
    Needed,
}

impl Outcome {
    fn of(holds: bool) -> Self {
        if holds { Outcome::Passed } else { Outcome::Failed }
    }

    /// One letter, for the log.
    pub fn letter(self) -> char {
        match self {
            Outcome::Passed => 'p',
            Outcome::Failed => 'f',
            Outcome::Inapplicable => 'i',
            Outcome::Errored => 'e',
            Outcome::Needed => 'n',
        }
    }

    /// Of two unknown ones, the one that says more.
    fn or_unknown(self, other: Outcome) -> Outcome {
        let rank = |outcome| match outcome {
            Outcome::Needed => 3,
            Outcome::Errored => 2,
            Outcome::Inapplicable => 1,
            Outcome::Passed | Outcome::Failed => 0,
        };
        if rank(other) > rank(self) { other } else { self }
    }
}

/// Rules, ready to run. Changes make a new table.
#[derive(Clone, Debug, Default)]
pub struct RuleTable {
    /// Which table this is: goes up with every change of a rule.
    pub version: u64,
    tests: Vec<Compiled>,
}

/// A rule with its condition made ready.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The rule.
    pub rule: Rule,
    node: Node,
    leaves: usize,
    salt: u64,
}

#[derive(Clone, Debug)]
enum Node {
    /// A question, and its place among the rule's questions as they are written.
    Leaf(usize, Leaf),
    /// Cheap ones first.
    Set(Conjunction, Vec<Node>),
}

impl RuleTable {
    /// Makes rules ready: those that are live or in the background, routing rules in their order.
    pub fn compile(version: u64, mut rules: Vec<Rule>) -> Result<Self, FieldError> {
        rules.retain(|rule| matches!(rule.state, RuleState::Live | RuleState::Background));
        rules.sort_by(|one, other| (one.order, &one.name).cmp(&(other.order, &other.name)));
        let tests = rules.into_iter().map(Compiled::new).collect::<Result<_, _>>()?;
        Ok(Self { version, tests })
    }

    /// Its rules, in order.
    pub fn rules(&self) -> &[Compiled] {
        &self.tests
    }

    /// What the uploader of something with these facts is told: the verdict of the first live routing rule that holds.
    pub fn verdict<'a, M>(&self, facts: &Facts<'a, M>, now_ms: u64) -> Verdict
    where
        M: IntoIterator<Item = MatchFact<'a>> + Clone,
    {
        let mut routing = self.tests.iter().filter(|test| {
            test.rule.kind == RuleKind::Routing && test.rule.state_at(now_ms) == RuleState::Live
        });
        let taken = routing.find(|test| test.evaluate(facts, &mut |_, _| {}) == Outcome::Passed);
        taken.map_or(Verdict::Review, |test| test.rule.verdict)
    }
}

impl Compiled {
    /// A rule made ready.
    pub fn new(rule: Rule) -> Result<Self, FieldError> {
        let condition = rule.condition()?;
        let leaves = condition.leaves();
        let mut next = 0;
        let node = compile(condition, &mut next);
        let salt = mix(0, rule.name.as_bytes());
        Ok(Self { rule, node, leaves, salt })
    }

    /// How many questions it asks.
    pub fn leaves(&self) -> usize {
        self.leaves
    }

    /// Whether it may do something, apart from where it is placed.
    pub fn acts(&self, action: impl Fn(&Action) -> bool) -> bool {
        self.rule.actions.iter().any(action)
    }

    /// What it comes to; `log` is told of each question that was asked, by its place.
    pub fn evaluate<'a, M>(&self, facts: &Facts<'a, M>, log: &mut impl FnMut(usize, Outcome)) -> Outcome
    where
        M: IntoIterator<Item = MatchFact<'a>> + Clone,
    {
        if let Some(wanted) = &self.rule.item_types
            && !facts.item_type.is_some_and(|found| wanted.iter().any(|wanted| wanted == found))
        {
            return Outcome::Failed;
        }
        run(&self.node, facts, self.salt, log)
    }
}

fn compile(condition: Condition, next: &mut usize) -> Node {
    match condition {
        Condition::Leaf(leaf) => {
            *next += 1;
            Node::Leaf(*next - 1, leaf)
        }
        Condition::Set(conjunction, parts) => {
            let mut parts: Vec<Node> = parts.into_iter().map(|part| compile(part, next)).collect();
            parts.sort_by_key(cost);
            Node::Set(conjunction, parts)
        }
    }
}

fn cost(node: &Node) -> u32 {
    match node {
        Node::Leaf(_, Leaf::Sample(_)) => 0,
        Node::Leaf(_, Leaf::Value(_, Test::Matches(_))) => 3,
        Node::Leaf(_, Leaf::Value(..)) => 1,
        Node::Leaf(_, Leaf::Hash(_)) => 2,
        Node::Leaf(_, Leaf::ContentSafety(_)) => 100,
        Node::Set(_, parts) => parts.iter().map(cost).max().unwrap_or(0),
    }
}

fn run<'a, M>(node: &Node, facts: &Facts<'a, M>, salt: u64, log: &mut impl FnMut(usize, Outcome)) -> Outcome
where
    M: IntoIterator<Item = MatchFact<'a>> + Clone,
{
    let (conjunction, parts) = match node {
        Node::Leaf(at, leaf) => {
            let outcome = ask(leaf, facts, salt);
            log(*at, outcome);
            return outcome;
        }
        Node::Set(conjunction, parts) => (*conjunction, parts),
    };
    let mut unknown: Option<Outcome> = None;
    let mut passed = 0;
    for part in parts {
        match run(part, facts, salt, log) {
            Outcome::Passed if conjunction == Conjunction::Or => return Outcome::Passed,
            Outcome::Passed if conjunction == Conjunction::Xor && passed == 1 => return Outcome::Failed,
            Outcome::Passed => passed += 1,
            Outcome::Failed if conjunction == Conjunction::And => return Outcome::Failed,
            Outcome::Failed => {}
            other => unknown = Some(unknown.map_or(other, |known| known.or_unknown(other))),
        }
    }
    match (conjunction, unknown) {
        (_, Some(unknown)) => unknown,
        (Conjunction::And, None) => Outcome::Passed,
        (Conjunction::Or, None) => Outcome::Failed,
        (Conjunction::Xor, None) => Outcome::of(passed == 1),
        (Conjunction::Not, None) => Outcome::of(passed == 0),
    }
}

fn ask<'a, M>(leaf: &Leaf, facts: &Facts<'a, M>, salt: u64) -> Outcome
where
    M: IntoIterator<Item = MatchFact<'a>> + Clone,
{
    match leaf {
        Leaf::Value(input, test) => ask_value(input, test, facts),
        Leaf::Hash(hash) => ask_hash(hash, facts),
        Leaf::Sample(share) => Outcome::of(lot(facts.subject, salt) < u64::from(*share)),
        Leaf::ContentSafety(least) => match (least, facts.classified) {
            (Some(least), Classified::As(priority)) => Outcome::of(priority >= *least),
            (None, Classified::As(_)) => Outcome::Failed,
            (_, Classified::NotAsked) => Outcome::Needed,
            (None, Classified::Inapplicable | Classified::Failed) => Outcome::Passed,
            (Some(_), Classified::Inapplicable) => Outcome::Inapplicable,
            (Some(_), Classified::Failed) => Outcome::Errored,
        },
    }
}

fn ask_hash<'a, M>(hash: &HashMatch, facts: &Facts<'a, M>) -> Outcome
where
    M: IntoIterator<Item = MatchFact<'a>> + Clone,
{
    if hash.unavailable {
        return Outcome::of(facts.screened == Screened::Unknown);
    }
    let (mut nearest, mut within) = (None, 0u32);
    for found in facts.matches.clone() {
        let considered =
            hash.banks.as_ref().is_none_or(|banks| banks.iter().any(|bank| bank == found.bank_name))
                && hash.signal_types.as_ref().is_none_or(|types| types.contains(&found.signal_type));
        if considered {
            nearest = Some(nearest.map_or(found.distance, |nearest: Distance| nearest.min(found.distance)));
            within += u32::from(hash.distance_max.is_none_or(|max| found.distance <= max));
        }
    }
    let far_enough = |nearest: Distance| hash.distance_min.is_none_or(|min| nearest >= min);
    match (nearest, facts.screened) {
        (Some(nearest), _) if within >= hash.matches_min.max(1) && far_enough(nearest) => Outcome::Passed,
        (_, Screened::Unknown) => Outcome::Errored,
        (None, Screened::NoMedia) => Outcome::Inapplicable,
        _ => Outcome::Failed,
    }
}

fn ask_value<M>(input: &Input, test: &Test, facts: &Facts<'_, M>) -> Outcome {
    // Any value of several is enough; of none, the question does not apply.
    let mut outcome = None;
    let known = each_value(input, facts, &mut |value| {
        let one = compare(value, test);
        outcome = Some(match outcome {
            Some(Outcome::Passed) => Outcome::Passed,
            None | Some(_) if one == Outcome::Passed => Outcome::Passed,
            None => one,
            Some(before) => before,
        });
    });
    match (test, outcome) {
        (Test::IsUnavailable, _) => Outcome::of(!known),
        (Test::IsNotProvided, _) if !known => Outcome::Inapplicable,
        (Test::IsNotProvided, found) => Outcome::of(found.is_none()),
        (_, None) => Outcome::Inapplicable,
        (_, Some(outcome)) => outcome,
    }
}

/// A value of an item or a word of ours.
#[derive(Clone, Copy)]
enum Asked<'a> {
    Json(&'a Value),
    Text(&'a str),
    Flag(bool),
}

/// Calls `take` with each value; false where nobody can know them.
fn each_value<M>(input: &Input, facts: &Facts<'_, M>, take: &mut impl FnMut(Asked<'_>)) -> bool {
    let mut text = |text: Option<&str>| {
        if let Some(text) = text {
            take(Asked::Text(text));
        }
    };
    match input {
        Input::ItemId => {
            if let Subject::Item(_, id) = facts.subject {
                take(Asked::Text(id));
            }
        }
        Input::ItemType => text(facts.item_type),
        Input::Author => text(facts.author),
        Input::Source => take(Asked::Text(facts.source.name())),
        Input::ReportReason => text(facts.report.and_then(|report| report.reason.as_deref())),
        Input::ReportPolicy => text(facts.report.and_then(|report| report.policy_id.as_deref())),
        Input::ReportCsam => take(Asked::Flag(facts.report.is_some_and(|report| report.csam))),
        Input::Field(name) => {
            let Some(item) = facts.item else { return false };
            each_of(item.data.get(name), take);
        }
        Input::AllText => {
            let Some(item) = facts.item else { return false };
            for value in item.data.values() {
                each_of(Some(value), &mut |value| {
                    if matches!(value, Asked::Json(Value::String(_))) {
                        take(value);
                    }
                });
            }
        }
    }
    true
}

fn each_of(value: Option<&Value>, take: &mut impl FnMut(Asked<'_>)) {
    match value {
        None | Some(Value::Null) => {}
        Some(Value::Array(values)) => values.iter().for_each(|value| take(Asked::Json(value))),
        // What another item or a medium is known by stands for it; other objects hold values by names.
        Some(Value::Object(map)) => {
            match map.get("id").filter(|_| map.contains_key("typeId")).or(map.get("url")) {
                Some(id) => take(Asked::Json(id)),
                None => map.values().for_each(|value| take(Asked::Json(value))),
            }
        }
        Some(value) => take(Asked::Json(value)),
    }
}

fn compare(asked: Asked<'_>, test: &Test) -> Outcome {
    let text = match asked {
        Asked::Text(text) => Some(text),
        Asked::Json(value) => value.as_str(),
        Asked::Flag(_) => None,
    };
    let same = |value: &Value| match asked {
        Asked::Json(own) => {
            own == value || matches!((own.as_f64(), value.as_f64()), (Some(one), Some(other)) if one == other)
        }
        Asked::Text(text) => value.as_str() == Some(text),
        Asked::Flag(flag) => value.as_bool() == Some(flag),
    };
    match test {
        Test::Equals(values) => Outcome::of(values.iter().any(same)),
        Test::NotEqualTo(values) => Outcome::of(!values.iter().any(same)),
        Test::Order(order, limit) => {
            let number = match asked {
                Asked::Json(value) => value.as_f64().or_else(|| time_ms(value).map(|ms| ms as f64)),
                Asked::Text(_) | Asked::Flag(_) => None,
            };
            let Some(number) = number else { return Outcome::Inapplicable };
            Outcome::of(match order {
                Order::Less => number < *limit,
                Order::LessOrEqual => number <= *limit,
                Order::Greater => number > *limit,
                Order::GreaterOrEqual => number >= *limit,
            })
        }
        Test::Matches(expressions) => text.map_or(Outcome::Inapplicable, |text| {
            Outcome::of(expressions.iter().any(|expression| expression.is_match(text)))
        }),
        // That there is a value at all is what these ask.
        Test::IsNotProvided | Test::IsUnavailable => Outcome::Failed,
    }
}

/// A number from 0 to 9999 that is the same for the same rule and subject, always.
fn lot(subject: Subject<'_>, salt: u64) -> u64 {
    let sum = match subject {
        Subject::Item(type_id, id) => mix(mix(salt, type_id.as_bytes()), id.as_bytes()),
        Subject::Signal(bytes) => mix(salt, bytes),
    };
    // The last step of SplitMix64 spreads what FNV leaves close together.
    let sum = (sum ^ (sum >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let sum = (sum ^ (sum >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (sum ^ (sum >> 31)) % 10_000
}

fn mix(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start ^ 0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
