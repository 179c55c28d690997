//! The fields of a configuration or of credentials: a form can be drawn from them, and what is sent is checked by them.

use serde_json::{Map, Value, json};

/// One field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub help: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Its value where none is sent; `None` must be sent.
    pub default: Option<Default>,
}

/// What a field takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    Text,
    /// A whole number.
    Number,
    /// A number.
    Float,
    /// One of these texts; the second word is what they are called.
    Choice(&'static [&'static str], &'static str),
    /// Whole numbers, each once.
    Numbers,
    /// Texts, each once.
    Texts,
}

/// A value that is taken where none is sent.
#[derive(Clone, Copy, Debug)]
pub enum Default {
    /// Nothing.
    Null,
    /// A whole number.
    Number(i64),
    /// A number.
    Float(f64),
    /// An empty list.
    Empty,
}

impl Default {
    fn value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Number(number) => json!(number),
            Self::Float(number) => json!(number),
            Self::Empty => json!([]),
        }
    }
}

impl Field {
    const fn needed(name: &'static str, help: &'static str, kind: Kind) -> Self {
        Self { name, help, kind, default: None }
    }

    const fn or(name: &'static str, help: &'static str, kind: Kind, default: Default) -> Self {
        Self { name, help, kind, default: Some(default) }
    }

    /// The field as HMA describes it.
    pub fn shown(&self) -> Value {
        let (kind, choices) = match self.kind {
            Kind::Text => ("string", None),
            Kind::Number | Kind::Float => ("number", None),
            Kind::Choice(choices, _) => ("enum", Some(choices)),
            Kind::Numbers => ("set_of_number", None),
            Kind::Texts => ("set_of_string", None),
        };
        json!({
            "choices": choices,
            "default": self.default.map(Default::value),
            "help": self.help,
            "name": self.name,
            "required": self.default.is_none(),
            "type": kind,
        })
    }

    fn fault(&self, value: &Value) -> Option<String> {
        let wrong = |wanted: &str| {
            let (shown, kind) = match value {
                Value::String(text) => (text.chars().take(64).collect(), "str"),
                Value::Bool(_) => (value.to_string(), "bool"),
                Value::Number(number) if number.is_f64() => (value.to_string(), "float"),
                Value::Number(_) => (value.to_string(), "int"),
                Value::Array(_) => (value.to_string().chars().take(64).collect::<String>(), "list"),
                Value::Object(_) => (value.to_string().chars().take(64).collect(), "dict"),
                Value::Null => ("None".to_string(), "NoneType"),
            };
            Some(format!(
                "wrong value type for field \"{}\" - should be \"{wanted}\" instead of value \"{shown}\" of type \"{kind}\"",
                self.name
            ))
        };
        let items = |fits: fn(&Value) -> bool| value.as_array().is_some_and(|items| items.iter().all(fits));
        match self.kind {
            _ if matches!(self.default, Some(Default::Null)) && value.is_null() => None,
            Kind::Text if !value.is_string() => wrong("str"),
            Kind::Number if !value.is_i64() && !value.is_u64() => wrong("int"),
            Kind::Float if !value.is_number() => wrong("float"),
            Kind::Numbers if !items(|item| item.is_i64() || item.is_u64()) => wrong("typing.Set[int]"),
            Kind::Texts if !items(Value::is_string) => wrong("typing.Set[str]"),
            Kind::Choice(choices, called) if !value.as_str().is_some_and(|text| choices.contains(&text)) => {
                let shown = value.as_str().map_or(value.to_string(), |text| format!("'{text}'"));
                Some(format!("{} is not a valid {called}", shown.chars().take(80).collect::<String>()))
            }
            _ => None,
        }
    }
}

/// What was sent, with what is taken where nothing was; or what is wrong with it.
pub fn check(fields: &[Field], sent: &Map<String, Value>) -> Result<Map<String, Value>, String> {
    let mut checked = Map::new();
    for field in fields {
        let value = match (sent.get(field.name), field.default) {
            (Some(value), _) => value.clone(),
            (None, Some(default)) => default.value(),
            (None, None) => return Err(format!("missing value for field \"{}\"", field.name)),
        };
        if let Some(fault) = field.fault(&value) {
            return Err(fault);
        }
        checked.insert(field.name.to_string(), value);
    }
    Ok(checked)
}

pub(super) static THREATEXCHANGE: [Field; 1] =
    [Field::needed("privacy_group", "ThreatPrivacyGroup ID for this collaboration", Kind::Number)];

pub(super) static META: [Field; 1] = [Field::needed(
    "api_token",
    "Meta app access token. Create one at https://developers.facebook.com/tools/accesstoken/ for your ThreatExchange app.",
    Kind::Text,
)];

pub(super) static NCMEC: [Field; 2] = [
    Field::needed(
        "environment",
        "which database to connect to",
        Kind::Choice(&ENVIRONMENTS, "NCMECEnvironment"),
    ),
    Field::or(
        "only_esp_ids",
        "Only take entries from these eletronic service provider (ESP) ids",
        Kind::Numbers,
        Default::Empty,
    ),
];

/// Where NCMEC's lists are (specs/exchanges.md 3.4).
static ENVIRONMENTS: [&str; 14] = [
    "https://report.cybertip.org/hashsharing",
    "https://report.cybertip.org/exploitative-hashsharing",
    "https://lesp.ncmec.org/csam-hashsharing",
    "https://hashsharing.ncmec.org/npo",
    "https://hashsharing.ncmec.org/exploitative",
    "https://hashsharing.ncmec.org/generative-ai-csam",
    "https://hashsharing.ncmec.org/generative-ai-exploitative",
    "https://exttest.cybertip.org/hashsharing",
    "https://exttest.cybertip.org/exploitative-hashsharing",
    "https://betalesp.ncmec.org/csam-hashsharing",
    "https://hashsharing-test.ncmec.org/npo",
    "https://hashsharing-test.ncmec.org/exploitative",
    "https://hashsharing-test.ncmec.org/generative-ai-csam",
    "https://hashsharing-test.ncmec.org/generative-ai-exploitative",
];

pub(super) static NCMEC_LOGIN: [Field; 2] = [
    Field::needed("user", "NCMEC hash sharing API username.", Kind::Text),
    Field::needed("password", "NCMEC hash sharing API password.", Kind::Text),
];

pub(super) static STOPNCII_KEYS: [Field; 3] = [
    Field::needed(
        "fetch_function_key",
        "API key for the Fetch Hashes endpoint. Used when downloading hashes from StopNCII.",
        Kind::Text,
    ),
    Field::needed(
        "subscription_key",
        "Azure API Management subscription key. Sent as Ocp-Apim-Subscription-Key on all requests.",
        Kind::Text,
    ),
    Field::or(
        "base_url_override",
        "Optional. Override the API base URL (e.g. for testing). Leave blank to use https://api.stopncii.org/v1",
        Kind::Text,
        Default::Null,
    ),
];

pub(super) static RANDOM: [Field; 7] = [
    Field::or("new_items_per_fetch_iter", "", Kind::Number, Default::Number(500)),
    Field::or("new_items_per_fetch", "", Kind::Number, Default::Number(-1)),
    Field::or("total_item_limit", "", Kind::Number, Default::Number(1_000_000)),
    Field::or("updates_per_fetch_iter", "", Kind::Number, Default::Number(0)),
    Field::or("deletes_per_fetch_iter", "", Kind::Number, Default::Number(0)),
    Field::or("sleep_per_iter", "", Kind::Float, Default::Float(0.0)),
    Field::or("only_signal_types", "", Kind::Texts, Default::Empty),
];

pub(super) static FILE: [Field; 2] = [
    Field::needed(
        "filename",
        "A file on the server's machine: '<type> <signal>' or '<signal>' a line",
        Kind::Text,
    ),
    Field::or("signal_type", "The type of lines that name none", Kind::Text, Default::Null),
];
