//! Reading JSON that others wrote: every refusal points at the field it means.

use serde_json::{Map, Value};

const LOGIN_CHARS_MAX: usize = 64;

/// What is wrong with a field, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {problem}")]
pub struct FieldError {
    /// JSON pointer (RFC 6901) into what was sent.
    pub pointer: String,
    /// What is wrong and what to write instead.
    pub problem: String,
}

/// A value and the way to it.
#[derive(Clone, Debug)]
pub struct At<'v> {
    value: &'v Value,
    pointer: String,
}

impl<'v> At<'v> {
    /// The value at this place.
    pub fn new(value: &'v Value, pointer: impl Into<String>) -> Self {
        Self { value, pointer: pointer.into() }
    }

    /// The value itself.
    pub fn value(&self) -> &'v Value {
        self.value
    }

    /// A refusal of it.
    pub fn wrong(&self, problem: impl Into<String>) -> FieldError {
        FieldError { pointer: self.pointer.clone(), problem: problem.into() }
    }

    /// Its fields.
    pub fn object(&self) -> Result<&'v Map<String, Value>, FieldError> {
        self.value.as_object().ok_or_else(|| self.wrong(format!("is {}, use an object", kind(self.value))))
    }

    /// Its fields, none of which may be called otherwise.
    pub fn only(&self, names: &[&str]) -> Result<(), FieldError> {
        match self.object()?.keys().find(|name| !names.contains(&name.as_str())) {
            Some(name) => Err(self
                .under(name, &Value::Null)
                .wrong(format!("is unknown: known are {}", names.join(", ")))),
            None => Ok(()),
        }
    }

    /// A field that may be absent; null counts as absent.
    pub fn field(&self, name: &str) -> Result<Option<At<'v>>, FieldError> {
        Ok(self.object()?.get(name).filter(|value| !value.is_null()).map(|value| self.under(name, value)))
    }

    /// A field that must be there.
    pub fn need(&self, name: &str) -> Result<At<'v>, FieldError> {
        self.field(name)?.ok_or_else(|| self.under(name, &Value::Null).wrong("is missing"))
    }

    /// What lies under it.
    pub fn under(&self, name: &str, value: &'v Value) -> At<'v> {
        At { value, pointer: format!("{}/{}", self.pointer, name.replace('~', "~0").replace('/', "~1")) }
    }

    /// Its elements.
    pub fn list(&self) -> Result<Vec<At<'v>>, FieldError> {
        let list = self.value.as_array();
        let list = list.ok_or_else(|| self.wrong(format!("is {}, use a list", kind(self.value))))?;
        Ok(list.iter().enumerate().map(|(at, value)| self.under(&at.to_string(), value)).collect())
    }

    /// As a text.
    pub fn text(&self) -> Result<&'v str, FieldError> {
        self.value.as_str().ok_or_else(|| self.wrong(format!("is {}, use a text", kind(self.value))))
    }

    /// As a text that is not empty and has so many characters at most.
    pub fn words(&self, max: usize) -> Result<&'v str, FieldError> {
        let text = self.text()?;
        if text.trim().is_empty() {
            return Err(self.wrong("is empty"));
        }
        self.at_most(text, max)
    }

    /// As a text of so many characters at most.
    pub fn text_to(&self, max: usize) -> Result<&'v str, FieldError> {
        self.at_most(self.text()?, max)
    }

    fn at_most(&self, text: &'v str, max: usize) -> Result<&'v str, FieldError> {
        match text.chars().count() {
            count if count > max => Err(self.wrong(format!("has {count} characters, {max} at most"))),
            _ => Ok(text),
        }
    }

    /// As what others know a thing by: one to 512 bytes without control characters.
    pub fn id(&self) -> Result<&'v str, FieldError> {
        let id = self.text()?;
        if id.is_empty() || id.len() > 512 || id.chars().any(char::is_control) {
            return Err(self.wrong("is not an id: use 1 to 512 bytes without control characters"));
        }
        Ok(id)
    }

    /// As what a person logs in by: `[a-z0-9][a-z0-9._@-]*`, at most 64 characters.
    pub fn login(&self) -> Result<String, FieldError> {
        let name = self.text()?;
        let first = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let good = name.starts_with(first)
            && name.chars().all(|c| first(c) || "._@-".contains(c))
            && name.len() <= LOGIN_CHARS_MAX;
        if good {
            return Ok(name.to_string());
        }
        Err(self.wrong(format!(
            "is no login name: use a-z, 0-9, and after the first character '.', '_', '@' and '-', at most {LOGIN_CHARS_MAX} characters"
        )))
    }

    /// As true or false.
    pub fn flag(&self) -> Result<bool, FieldError> {
        self.value.as_bool().ok_or_else(|| self.wrong(format!("is {}, use true or false", kind(self.value))))
    }

    /// As a number of this range.
    pub fn number(&self, low: f64, high: f64) -> Result<f64, FieldError> {
        let number = self.value.as_f64();
        let number = number.ok_or_else(|| self.wrong(format!("is {}, use a number", kind(self.value))))?;
        if !(low..=high).contains(&number) {
            return Err(self.wrong(format!("is {number}, use {low} to {high}")));
        }
        Ok(number)
    }

    /// As a whole number of this range.
    pub fn whole(&self, low: u64, high: u64) -> Result<u64, FieldError> {
        match self.value.as_u64() {
            Some(number) if (low..=high).contains(&number) => Ok(number),
            _ => {
                Err(self.wrong(format!("is {}, use a whole number from {low} to {high}", shown(self.value))))
            }
        }
    }

    /// As one of these words.
    pub fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, FieldError> {
        let text = self.text()?;
        words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.wrong(format!(
                "is '{}', use one of {}",
                text.chars().take(64).collect::<String>(),
                known.join(", ")
            ))
        })
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn shown(value: &Value) -> String {
    if value.is_number() { value.to_string() } else { kind(value).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn refusals_point_at_their_field() {
        let value = json!({ "a": { "b/c": [1, "x"] } });
        let root = At::new(&value, "");
        let list = root.need("a").unwrap().need("b/c").unwrap().list().unwrap();
        assert_eq!(list[1].number(0.0, 1.0).unwrap_err().to_string(), "/a/b~1c/1: is a text, use a number");
        assert_eq!(list[0].number(2.0, 3.0).unwrap_err().to_string(), "/a/b~1c/0: is 1, use 2 to 3");
        assert_eq!(root.need("z").unwrap_err().to_string(), "/z: is missing");
        assert_eq!(root.only(&["b"]).unwrap_err().to_string(), "/a: is unknown: known are b");
    }

    #[test]
    fn login_names_are_refused_that_could_blur_keys_or_logs() {
        for name in ["", "-a", "Anna", "a b", "a\0", "a\n", "é", &"a".repeat(65)] {
            assert!(At::new(&json!(name), "/name").login().is_err(), "{name:?}");
        }
        for name in ["a", "anna.b@example.org", "0-9", &"a".repeat(64)] {
            assert!(At::new(&json!(name), "/name").login().is_ok(), "{name:?}");
        }
    }
}
