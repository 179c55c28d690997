//! Fields of queries and bodies, checked as HMA's are: every fault is listed, in the order the fields are asked for.

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value, json};

use super::answer::{Fault, FieldFault};

/// Where faults are explained, as HMA says.
const EXPLAINED: &str = "https://errors.pydantic.dev/2.14/v/";

/// The fields of one request.
pub struct Fields {
    input: Map<String, Value>,
    faults: Vec<FieldFault>,
}

/// A query as it was sent: names may come twice, the first counts.
pub type Pairs = axum::extract::Query<Vec<(String, String)>>;

/// The first value of this name.
pub fn first<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

impl Fields {
    /// Of a query.
    pub fn of_query(pairs: &[(String, String)]) -> Self {
        let mut input = Map::new();
        for (name, value) in pairs {
            input.entry(name.clone()).or_insert_with(|| Value::String(value.clone()));
        }
        Self { input, faults: Vec::new() }
    }

    /// Of a JSON body; `model` is what it should have been, in HMA's words.
    pub fn of_body(headers: &HeaderMap, body: &Bytes, model: &'static str) -> Result<Self, Fault> {
        let value = if says_json(headers) {
            serde_json::from_slice(body).unwrap_or(Value::Null)
        } else {
            Value::Null
        };
        match value {
            Value::Object(input) => Ok(Self { input, faults: Vec::new() }),
            other => Err(Fault::Fields(vec![FieldFault {
                kind: "model_type",
                loc: Vec::new(),
                msg: format!("Input should be a valid dictionary or instance of {model}"),
                input: other,
                ctx: Some(json!({ "class_name": model })),
                url: format!("{EXPLAINED}model_type"),
            }])),
        }
    }

    fn fault(&mut self, kind: &'static str, name: &'static str, msg: &str, input: Value) {
        let url = format!("{EXPLAINED}{kind}");
        self.faults.push(FieldFault { kind, loc: vec![name], msg: msg.to_string(), input, ctx: None, url });
    }

    /// A text that must be there. Empty if it is not; [`Fields::done`] refuses then.
    pub fn text(&mut self, name: &'static str) -> String {
        if !self.input.contains_key(name) {
            let all = Value::Object(self.input.clone());
            self.fault("missing", name, "Field required", all);
        }
        self.optional_text(name).unwrap_or_default()
    }

    /// A text.
    pub fn optional_text(&mut self, name: &'static str) -> Option<String> {
        match self.input.get(name)?.clone() {
            Value::String(text) => Some(text),
            Value::Null => None,
            other => {
                self.fault("string_type", name, "Input should be a valid string", other);
                None
            }
        }
    }

    /// Yes or no, also as the words and numbers that mean it.
    pub fn truth(&mut self, name: &'static str) -> Option<bool> {
        let value = self.input.get(name)?.clone();
        let said = match &value {
            Value::Bool(truth) => Some(*truth),
            Value::String(word) => said(word),
            Value::Number(number) => match number.as_f64() {
                Some(0.0) => Some(false),
                Some(1.0) => Some(true),
                _ => None,
            },
            Value::Null => return None,
            other => {
                self.fault("bool_type", name, "Input should be a valid boolean", other.clone());
                return None;
            }
        };
        if said.is_none() {
            let says = "Input should be a valid boolean, unable to interpret input";
            self.fault("bool_parsing", name, says, value);
        }
        said
    }

    /// A number, also as text. `Some(None)` is a null that was sent.
    pub fn number(&mut self, name: &'static str) -> Option<Option<f64>> {
        let value = self.input.get(name)?.clone();
        let number = match &value {
            Value::Null => return Some(None),
            Value::Number(number) => number.as_f64(),
            Value::Bool(truth) => Some(f64::from(u8::from(*truth))),
            Value::String(text) => match text.trim().parse() {
                Ok(number) => Some(number),
                Err(_) => {
                    let says = "Input should be a valid number, unable to parse string as a number";
                    self.fault("float_parsing", name, says, value);
                    return None;
                }
            },
            _ => {
                self.fault("float_type", name, "Input should be a valid number", value);
                return None;
            }
        };
        match number.filter(|number| number.is_finite()) {
            Some(number) => Some(Some(number)),
            None => {
                self.fault("finite_number", name, "Input should be a finite number", value);
                None
            }
        }
    }

    /// All faults together, if there are any.
    pub fn done(self) -> Result<(), Fault> {
        if self.faults.is_empty() { Ok(()) } else { Err(Fault::Fields(self.faults)) }
    }
}

fn said(word: &str) -> Option<bool> {
    match word.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" | "t" | "y" => Some(true),
        "false" | "0" | "no" | "off" | "f" | "n" => Some(false),
        _ => None,
    }
}

fn says_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
        || (kind.len() > 5
            && kind.to_ascii_lowercase().starts_with("application/")
            && kind.ends_with("+json"))
}

/// A JSON body where HMA asks for one without naming its fields.
pub fn json_body(headers: &HeaderMap, body: &Bytes) -> Result<Value, Fault> {
    if !says_json(headers) {
        return Err(Fault::Message(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Did not attempt to load JSON data because the request Content-Type was not 'application/json'."
                .into(),
        ));
    }
    serde_json::from_slice(body).map_err(|_| {
        Fault::bad("The browser (or proxy) sent a request that this server could not understand.")
    })
}

/// What HMA's language calls the type of a JSON value.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}
