//! A validator for what goes to NCMEC and comes back: by a table of its schema in our own words, made from
//! specs/cybertipline.md 1.6 and 1.7, and by what it documents beyond. The XSD itself is NCMEC's and not here; where it is
//! at hand, tests compare the two.
//!
//! `xsi:type` and `xsi:nil`, which the schema has no use for, are refused.

mod rules;
mod simple;
mod table;

use std::fmt;

use table::{Child, Content, Part, TABLE, Type};

use super::tree::{self, Element, is_space};

/// Whoever reads them all has seen enough.
const PROBLEMS_MAX: usize = 100;
const SHOWN_CHARS_MAX: usize = 80;
const ROOTS: [&str; 4] = ["report", "fileDetails", "reportResponse", "reportDoneResponse"];
const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// Which kind of rule is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// XML's own.
    WellFormed,
    /// The schema's.
    Schema,
    /// One that NCMEC documents and its schema does not have.
    Documented,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// With which element, or attribute: `/report/victim[2]/@type`.
    pub path: String,
    /// By which kind of rule.
    pub rule: Rule,
    /// What, in the words of NCMEC's validator where it has any.
    pub words: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}: {}", self.path, self.words)
    }
}

/// Checks a document with one of the four roots, but not whether its incident is in the past.
pub fn validate(xml: &[u8]) -> Result<(), Vec<Problem>> {
    check(xml, None)
}

/// Checks a document that is sent now, in milliseconds since 1970 (UTC).
pub fn validate_at(xml: &[u8], now_ms: u64) -> Result<(), Vec<Problem>> {
    check(xml, Some(now_ms))
}

fn check(xml: &[u8], now_ms: Option<u64>) -> Result<(), Vec<Problem>> {
    let root = tree::decode(xml, None).and_then(|text| tree::parse(&text)).map_err(|malformed| {
        vec![Problem { path: "/".to_string(), rule: Rule::WellFormed, words: malformed.to_string() }]
    })?;
    let mut checked = Checked::default();
    let path = format!("/{}", root.name);
    if ROOTS.contains(&root.name.as_str()) {
        checked.element(&root, &root.name, &path, true);
        rules::check(&root, now_ms, &mut checked.problems);
    } else {
        checked.schema(
            &path,
            format!("cvc-elt.1.a: Cannot find the declaration of element '{}'.", shown(&root.name)),
        );
    }
    if checked.problems.is_empty() { Ok(()) } else { Err(checked.problems) }
}

#[derive(Default)]
struct Checked {
    problems: Vec<Problem>,
    /// The prefixes of the schema instance's namespace; the root declares them, if any does.
    instance: Vec<String>,
}

impl Checked {
    fn schema(&mut self, path: &str, words: String) {
        self.wrong(path, Rule::Schema, words);
    }

    fn wrong(&mut self, path: &str, rule: Rule, words: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem { path: path.to_string(), rule, words });
        }
    }

    /// An element of this type.
    fn element(&mut self, element: &Element, kind: &str, path: &str, is_root: bool) {
        let found = TABLE.types.get(kind);
        self.attributes(element, found, path, is_root);
        let text = match found.map(|found| &found.content) {
            Some(Content::Sequence(parts)) => {
                self.no_text(element, parts.is_empty(), path);
                return self.sequence(element, parts, path);
            }
            Some(Content::All(children)) => {
                self.no_text(element, false, path);
                return self.all(element, children, path);
            }
            Some(Content::Text(text)) => text,
            None => kind,
        };
        if !element.children.is_empty() {
            let words = format!(
                "cvc-type.3.1.2: Element '{}' is a simple type, so it must have no element information item [children].",
                element.name
            );
            self.schema(path, words);
        }
        self.text(text, &element.text, path);
    }

    fn text(&mut self, kind: &str, text: &str, path: &str) {
        if let Err((rule, words)) = simple::check(&TABLE, kind, text) {
            self.wrong(path, rule, words);
        }
    }

    fn no_text(&mut self, element: &Element, is_empty: bool, path: &str) {
        if !element.text.chars().all(is_space) || (is_empty && !element.text.is_empty()) {
            let words = format!(
                "cvc-complex-type.2.3: Element '{}' cannot have character [children], because the type's content type is element-only.",
                element.name
            );
            self.schema(path, words);
        }
    }

    fn attributes(&mut self, element: &Element, kind: Option<&Type>, path: &str, is_root: bool) {
        let known = kind.map_or(&[][..], |kind| &kind.attributes[..]);
        if is_root {
            let declared = element.attributes.iter().filter(|(_, value)| value == XSI);
            self.instance =
                declared.filter_map(|(name, _)| name.strip_prefix("xmlns:").map(str::to_string)).collect();
        }
        for (name, value) in &element.attributes {
            let instance =
                name.split_once(':').filter(|(prefix, _)| self.instance.iter().any(|known| known == prefix));
            let stands_beside = name.starts_with("xmlns:")
                || (name == "xmlns" && value.is_empty())
                || matches!(instance, Some((_, "schemaLocation" | "noNamespaceSchemaLocation")));
            match known.iter().find(|attribute| attribute.of.name == *name) {
                Some(attribute) => self.text(&attribute.of.kind, value, &format!("{path}/@{name}")),
                None if stands_beside => {}
                None => {
                    let words = format!(
                        "cvc-complex-type.3.2.2: Attribute '{}' is not allowed to appear in element '{}'.",
                        shown(name),
                        element.name
                    );
                    self.schema(path, words);
                }
            }
        }
        for attribute in known.iter().filter(|attribute| attribute.needed) {
            let name = &attribute.of.name;
            if element.attribute(name).is_none() {
                let words = format!(
                    "cvc-complex-type.4: Attribute '{name}' must appear on element '{}'.",
                    element.name
                );
                self.schema(path, words);
            }
        }
    }

    /// Elements in order. What may stand at a place never stands at the next as well, so that the first place that takes
    /// an element is the right one (XML Schema calls it Unique Particle Attribution).
    fn sequence(&mut self, element: &Element, parts: &[Part], path: &str) {
        let mut place = Place { parts, at: 0, taken: 0 };
        for child in &element.children {
            let Some(choice) = place.take(child) else {
                return self.not_expected(child, place.expected(), path);
            };
            let path = match place.taken {
                1 => format!("{path}/{}", child.name),
                taken => format!("{path}/{}[{taken}]", child.name),
            };
            self.element(child, &choice.kind, &path, false);
        }
        let expected = place.expected();
        if expected.last().is_some_and(|_| !place.may_skip(place.from() + expected.len() - 1)) {
            let words = format!(
                "cvc-complex-type.2.4.b: The content of element '{}' is not complete. One of '{{{}}}' is expected.",
                element.name,
                names(expected)
            );
            self.schema(path, words);
        }
    }

    fn not_expected(&mut self, child: &Element, expected: &[Part], path: &str) {
        let name = shown(&child.name);
        let words = if expected.is_empty() {
            format!(
                "cvc-complex-type.2.4.d: Invalid content was found starting with element '{name}'. No child element is expected at this point."
            )
        } else {
            format!(
                "cvc-complex-type.2.4.a: Invalid content was found starting with element '{name}'. One of '{{{}}}' is expected.",
                names(expected)
            )
        };
        self.schema(path, words);
    }

    fn all(&mut self, element: &Element, children: &[Child], path: &str) {
        for (number, child) in element.children.iter().enumerate() {
            let before = element.children[..number].iter().any(|other| other.name == child.name);
            match children.iter().find(|known| known.name == child.name && !before) {
                Some(known) => self.element(child, &known.kind, &format!("{path}/{}", child.name), false),
                None => return self.not_expected(child, &[], path),
            }
        }
    }
}

/// How far a sequence is read.
struct Place<'t> {
    parts: &'t [Part],
    /// The part that was read last.
    at: usize,
    /// How many elements it took.
    taken: usize,
}

impl<'t> Place<'t> {
    /// The first part that may take the next element.
    fn from(&self) -> usize {
        let is_full = self.taken > 0 && !self.parts.get(self.at).is_some_and(|part| part.many);
        self.at + usize::from(is_full)
    }

    fn may_skip(&self, number: usize) -> bool {
        self.parts[number].optional || (number == self.at && self.taken > 0)
    }

    /// The parts that may take the next element: up to the first that must.
    fn expected(&self) -> &'t [Part] {
        let from = self.from();
        let needed = (from..self.parts.len()).find(|number| !self.may_skip(*number));
        &self.parts[from..needed.map_or(self.parts.len(), |needed| needed + 1)]
    }

    /// What an element is as the next one; none if it may not stand here.
    fn take(&mut self, element: &Element) -> Option<&'t Child> {
        let from = self.from();
        let fits = |part: &'t Part| part.choices.iter().find(|choice| choice.name == element.name);
        let (skipped, choice) =
            self.expected().iter().enumerate().find_map(|(skipped, part)| Some((skipped, fits(part)?)))?;
        self.taken = if from + skipped == self.at { self.taken + 1 } else { 1 };
        self.at = from + skipped;
        Some(choice)
    }
}

fn names(parts: &[Part]) -> String {
    let names: Vec<&str> =
        parts.iter().flat_map(|part| &part.choices).map(|child| child.name.as_str()).collect();
    names.join(", ")
}

/// What is shown of a text: its beginning.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests;
