//! Conditions as an operator writes them: trees of AND, OR, XOR and NOT over leaves (specs/coop.md 4.1, whose words
//! they keep), read from JSON or TOML with a pointer to what is wrong.
//!
//! | leaf | asks |
//! |---|---|
//! | `{"field": "caption", "comparator": "CONTAINS", "values": ["…"]}` | the item's field; of a list or map any value |
//! | `{"input": "report_reason", "comparator": …, "values": …}` | what is known besides: see [`Input`] |
//! | `{"hash_match": {"banks"?, "signal_types"?, "distance_min"?, "distance_max"?, "matches_min"?}}` | the matches of the item's media |
//! | `{"content_safety": {"at_least": "HIGH"}}` | the classifier's review priority |
//! | `{"sample_percent": 5}` | five of a hundred items, always the same ones |
//!
//! `hash_match` and `content_safety` take `"comparator": "IS_UNAVAILABLE"`: whether that is unknown.

use index::{Distance, SignalType};
use regex::{Regex, RegexBuilder};
use serde_json::{Value, json};

use crate::desk::intake::{PRIORITIES, Priority};
use crate::desk::kind::{ItemType, Scalar};
use crate::read::{At, FieldError};

/// Leaves of one rule, and how deep they lie, at most.
const LEAVES_MAX: usize = 200;
const DEPTH_MAX: usize = 16;
const VALUES_MAX: usize = 1000;
const TEXT_CHARS_MAX: usize = 1000;
const BANK_CHARS_MAX: usize = 255;

/// What a rule may name, for its check.
pub trait Known {
    /// Whether there is a bank of this name.
    fn bank(&self, name: &str) -> bool;
    /// The item type of this id.
    fn item_type(&self, id: &str) -> Option<&ItemType>;
    /// Every item type.
    fn item_types(&self) -> Box<dyn Iterator<Item = &ItemType> + '_>;
    /// Whether there is a webhook of this name.
    fn webhook(&self, name: &str) -> bool;
}

/// A condition.
#[derive(Clone, Debug)]
pub enum Condition {
    /// Conditions that are joined.
    Set(Conjunction, Vec<Condition>),
    /// One question.
    Leaf(Leaf),
}

/// How conditions are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conjunction {
    /// All of them.
    And,
    /// At least one.
    Or,
    /// Exactly one.
    Xor,
    /// Not the one.
    Not,
}

/// One question.
#[derive(Clone, Debug)]
pub enum Leaf {
    /// About a value.
    Value(Input, Test),
    /// About matches.
    Hash(HashMatch),
    /// About the classifier's answer: at least this, or (`None`) whether there is none.
    ContentSafety(Option<Priority>),
    /// One item in so many: parts of 10 000.
    Sample(u32),
}

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A field of the item's data.
    Field(String),
    /// The item's id.
    ItemId,
    /// The item's type.
    ItemType,
    /// Who made it: the user's id.
    Author,
    /// All its texts, one by one.
    AllText,
    /// Where it comes from: `upload`, `items` or `report`.
    Source,
    /// The reporter's words.
    ReportReason,
    /// The policy named in the report.
    ReportPolicy,
    /// Whether it was reported as child abuse.
    ReportCsam,
}

const INPUTS: [(&str, Input); 8] = [
    ("item_id", Input::ItemId),
    ("item_type", Input::ItemType),
    ("author", Input::Author),
    ("all_text", Input::AllText),
    ("source", Input::Source),
    ("report_reason", Input::ReportReason),
    ("report_policy", Input::ReportPolicy),
    ("report_csam", Input::ReportCsam),
];

/// What a value must be.
#[derive(Clone, Debug)]
pub enum Test {
    /// One of these.
    Equals(Vec<Value>),
    /// None of these.
    NotEqualTo(Vec<Value>),
    /// Numbers and times: this far.
    Order(Order, f64),
    /// Fits one of these regular expressions; texts that it must contain, whatever their case, are such ones.
    Matches(Vec<Regex>),
    /// It is not there.
    IsNotProvided,
    /// It cannot be known.
    IsUnavailable,
}

/// Which side of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Below.
    Less,
    /// Below, or it.
    LessOrEqual,
    /// Above.
    Greater,
    /// Above, or it.
    GreaterOrEqual,
}

/// Which matches, and how many of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HashMatch {
    /// Of these banks; of any if absent.
    pub banks: Option<Vec<String>>,
    /// By these types of signals.
    pub signal_types: Option<Vec<SignalType>>,
    /// The nearest is at least this far.
    pub distance_min: Option<Distance>,
    /// The nearest is at most this far.
    pub distance_max: Option<Distance>,
    /// So many contents match within `distance_max`.
    pub matches_min: u32,
    /// Instead: whether it is unknown what matches.
    pub unavailable: bool,
}

#[derive(Clone, Copy)]
enum Comparator {
    Equals,
    NotEqualTo,
    Order(Order),
    Contains,
    Matches,
    IsNotProvided,
    IsUnavailable,
}

const COMPARATORS: [(&str, Comparator); 10] = [
    ("EQUALS", Comparator::Equals),
    ("NOT_EQUAL_TO", Comparator::NotEqualTo),
    ("LESS_THAN", Comparator::Order(Order::Less)),
    ("LESS_THAN_OR_EQUALS", Comparator::Order(Order::LessOrEqual)),
    ("GREATER_THAN", Comparator::Order(Order::Greater)),
    ("GREATER_THAN_OR_EQUALS", Comparator::Order(Order::GreaterOrEqual)),
    ("CONTAINS", Comparator::Contains),
    ("MATCHES", Comparator::Matches),
    ("IS_NOT_PROVIDED", Comparator::IsNotProvided),
    ("IS_UNAVAILABLE", Comparator::IsUnavailable),
];

impl Condition {
    /// Reads a condition. With `known`, what it names must be there.
    pub fn read(at: &At<'_>, known: Option<&dyn Known>) -> Result<Self, FieldError> {
        let mut leaves = 0;
        read(at, known, 0, &mut leaves)
    }

    /// Its leaves, in the order they are written.
    pub fn leaves(&self) -> usize {
        match self {
            Condition::Leaf(_) => 1,
            Condition::Set(_, parts) => parts.iter().map(Condition::leaves).sum(),
        }
    }
}

fn read(
    at: &At<'_>,
    known: Option<&dyn Known>,
    depth: usize,
    leaves: &mut usize,
) -> Result<Condition, FieldError> {
    if depth > DEPTH_MAX {
        return Err(at.wrong(format!("lies deeper than {DEPTH_MAX} sets: flatten the condition")));
    }
    if let Some(conjunction) = at.field("conjunction")? {
        at.only(&["conjunction", "conditions"])?;
        let conjunction = conjunction.one_of(&[
            ("AND", Conjunction::And),
            ("OR", Conjunction::Or),
            ("XOR", Conjunction::Xor),
            ("NOT", Conjunction::Not),
        ])?;
        let list = at.need("conditions")?;
        let parts: Vec<Condition> =
            list.list()?.iter().map(|part| read(part, known, depth + 1, leaves)).collect::<Result<_, _>>()?;
        if parts.is_empty() || (conjunction == Conjunction::Not && parts.len() != 1) {
            return Err(list.wrong("NOT has one condition, the others at least one"));
        }
        return Ok(Condition::Set(conjunction, parts));
    }
    *leaves += 1;
    if *leaves > LEAVES_MAX {
        return Err(at.wrong(format!("a rule asks {LEAVES_MAX} questions at most")));
    }
    Ok(Condition::Leaf(read_leaf(at, known)?))
}

fn read_leaf(at: &At<'_>, known: Option<&dyn Known>) -> Result<Leaf, FieldError> {
    let unavailable = |at: &At<'_>| -> Result<bool, FieldError> {
        match at.field("comparator")? {
            None => Ok(false),
            Some(word) => word.one_of(&[("IS_UNAVAILABLE", true)]),
        }
    };
    if let Some(hash) = at.field("hash_match")? {
        at.only(&["hash_match", "comparator"])?;
        return Ok(Leaf::Hash(read_hash(&hash, known, unavailable(at)?)?));
    }
    if let Some(asked) = at.field("content_safety")? {
        at.only(&["content_safety", "comparator"])?;
        asked.only(&["at_least"])?;
        if unavailable(at)? {
            return Ok(Leaf::ContentSafety(None));
        }
        return Ok(Leaf::ContentSafety(Some(asked.need("at_least")?.one_of(&PRIORITIES)?)));
    }
    if let Some(percent) = at.field("sample_percent")? {
        at.only(&["sample_percent"])?;
        return Ok(Leaf::Sample((percent.number(0.0, 100.0)? * 100.0).round() as u32));
    }
    at.only(&["field", "input", "comparator", "value", "values"])?;
    let (input, scalar) = match (at.field("field")?, at.field("input")?) {
        (Some(field), None) => {
            let name = field.words(TEXT_CHARS_MAX)?;
            let scalar = known.map(|known| field_scalar(&field, name, known)).transpose()?;
            (Input::Field(name.to_string()), scalar)
        }
        (None, Some(input)) => {
            let words: Vec<(&str, usize)> =
                INPUTS.iter().enumerate().map(|(at, (name, _))| (*name, at)).collect();
            (INPUTS[input.one_of(&words)?].1.clone(), None)
        }
        _ => {
            return Err(
                at.wrong("asks nothing: use field, input, hash_match, content_safety or sample_percent")
            );
        }
    };
    Ok(Leaf::Value(input, read_test(at, scalar)?))
}

/// The type of a field that some item type has.
fn field_scalar(at: &At<'_>, name: &str, known: &dyn Known) -> Result<Scalar, FieldError> {
    let found = known.item_types().find_map(|of| of.field(name));
    found.map(|field| field.scalar).ok_or_else(|| at.wrong(format!("no item type has a field '{name}'")))
}

fn read_test(at: &At<'_>, scalar: Option<Scalar>) -> Result<Test, FieldError> {
    let comparator_at = at.need("comparator")?;
    let comparator = comparator_at.one_of(&COMPARATORS)?;
    if matches!(comparator, Comparator::IsNotProvided | Comparator::IsUnavailable) {
        at.only(&["field", "input", "comparator"])?;
        return Ok(if matches!(comparator, Comparator::IsNotProvided) {
            Test::IsNotProvided
        } else {
            Test::IsUnavailable
        });
    }
    let values = match (at.field("value")?, at.field("values")?) {
        (Some(value), None) => vec![value],
        (None, Some(values)) => {
            let list = values.list()?;
            if list.is_empty() || list.len() > VALUES_MAX {
                return Err(values.wrong(format!("has {} values, use 1 to {VALUES_MAX}", list.len())));
            }
            list
        }
        _ => return Err(at.wrong("needs value or values")),
    };
    let numeric = scalar.is_none_or(|scalar| matches!(scalar, Scalar::Number | Scalar::Datetime));
    Ok(match comparator {
        Comparator::Equals => Test::Equals(values.iter().map(|value| value.value().clone()).collect()),
        Comparator::NotEqualTo => {
            Test::NotEqualTo(values.iter().map(|value| value.value().clone()).collect())
        }
        Comparator::Order(_) if !numeric => {
            return Err(comparator_at.wrong("compares numbers and times, and the field holds neither"));
        }
        Comparator::Order(order) => match values.as_slice() {
            [value] => match crate::desk::kind::time_ms(value.value()).map(|ms| ms as f64) {
                Some(ms) => Test::Order(order, ms),
                None => Test::Order(order, value.number(f64::MIN, f64::MAX)?),
            },
            _ => return Err(at.wrong("compares with one value")),
        },
        Comparator::Contains | Comparator::Matches => {
            let exact = matches!(comparator, Comparator::Matches);
            let regexes = values.iter().map(|value| {
                let text = value.words(TEXT_CHARS_MAX)?;
                let pattern = if exact { text.to_string() } else { regex::escape(text) };
                let built = RegexBuilder::new(&pattern).case_insensitive(!exact).size_limit(1 << 20).build();
                // The library's message has a drawing over several lines; its last line says what is wrong.
                built.map_err(|error| {
                    let said = error.to_string();
                    let last = said.lines().last().unwrap_or_default().trim();
                    value.wrong(format!("is no regular expression: {last}"))
                })
            });
            Test::Matches(regexes.collect::<Result<_, _>>()?)
        }
        Comparator::IsNotProvided | Comparator::IsUnavailable => Test::IsUnavailable,
    })
}

fn read_hash(at: &At<'_>, known: Option<&dyn Known>, unavailable: bool) -> Result<HashMatch, FieldError> {
    at.only(&["banks", "signal_types", "distance_min", "distance_max", "matches_min"])?;
    let listed = |name: &str| -> Result<Option<Vec<At<'_>>>, FieldError> {
        let Some(list) = at.field(name)? else { return Ok(None) };
        match list.list()? {
            empty if empty.is_empty() => {
                Err(list.wrong("is empty, so it would never match: take it out to mean any"))
            }
            list => Ok(Some(list)),
        }
    };
    let banks = listed("banks")?.map(|banks| banks.iter().map(|bank| read_bank(bank, known)).collect());
    let types = listed("signal_types")?.map(|types| {
        let read = |name: &At<'_>| {
            SignalType::from_name(name.text()?).map_err(|error| name.wrong(error.to_string()))
        };
        types.iter().map(read).collect()
    });
    let distance = |name: &str| -> Result<Option<Distance>, FieldError> {
        let Some(bits) = at.field(name)? else { return Ok(None) };
        let number = bits.value().as_u64().and_then(|bits| u16::try_from(bits).ok()).and_then(Distance::new);
        number.map(Some).ok_or_else(|| {
            bits.wrong(format!("{} is not a distance: use 0 to {}", bits.value(), Distance::MAX))
        })
    };
    let hash = HashMatch {
        banks: banks.transpose()?,
        signal_types: types.transpose()?,
        distance_min: distance("distance_min")?,
        distance_max: distance("distance_max")?,
        matches_min: at.field("matches_min")?.map_or(Ok(1), |least| least.whole(1, 1_000_000))? as u32,
        unavailable,
    };
    check_reach(at, &hash)?;
    Ok(hash)
}

fn read_bank(at: &At<'_>, known: Option<&dyn Known>) -> Result<String, FieldError> {
    let name = at.text()?;
    let first = |c: char| c.is_ascii_uppercase() || c == '_';
    let good = name.starts_with(first)
        && name.chars().all(|c| first(c) || c.is_ascii_digit())
        && name.len() <= BANK_CHARS_MAX;
    if !good {
        return Err(at.wrong(format!(
            "'{}' is not a bank's name: use A-Z, _ and, after the first character, 0-9, at most {BANK_CHARS_MAX} characters",
            crate::error::clip(name)
        )));
    }
    if known.is_some_and(|known| !known.bank(name)) {
        return Err(at.wrong(format!("there is no bank '{name}': make it first")));
    }
    Ok(name.to_string())
}

/// Refuses distances that no hit could have.
fn check_reach(at: &At<'_>, hash: &HashMatch) -> Result<(), FieldError> {
    let Some(min) = hash.distance_min else { return Ok(()) };
    let place = at.need("distance_min")?;
    if let Some(max) = hash.distance_max.filter(|max| *max < min) {
        return Err(
            place.wrong(format!("{min} is above distance_max = {max}, so it would never match: swap them"))
        );
    }
    let types = hash.signal_types.as_deref().unwrap_or(&SignalType::ALL);
    if types.iter().all(|kind| kind.threshold_max() < min) {
        return Err(
            place.wrong(format!("{min} is beyond what these signal types match at: lower it or take it out"))
        );
    }
    Ok(())
}

/// A condition that holds for every hit there is.
pub fn any_match() -> Value {
    json!({ "hash_match": {} })
}
