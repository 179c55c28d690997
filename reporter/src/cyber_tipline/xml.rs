//! Writing reports and file details as XML: escaped, illegal characters replaced visibly.
//!
//! Whatever the texts hold, what is written is well-formed, and reads as what was meant: a strict parser gives back each
//! text but for the characters that XML 1.0 does not have at all.

use std::borrow::Cow;

use serde::Serialize;

use super::model::{FileDetails, Report};

const DECLARATION: &str = r#"<?xml version="1.0" encoding="UTF-8"?>"#;
/// What the roots of NCMEC's own samples carry (specs/cybertipline.md 1.1).
const SCHEMA: &str = r#" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="https://report.cybertip.org/ispws/xsd""#;

/// A report as XML.
pub fn report_xml(report: &Report) -> String {
    document("report", report)
}

/// A file's details as XML.
pub fn file_details_xml(details: &FileDetails) -> String {
    document("fileDetails", details)
}

/// A text without the characters that XML 1.0 forbids, even as references: a control character becomes its picture
/// (U+0001 is ␁), U+FFFE and U+FFFF become their numbers in brackets.
pub fn clean(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_legal) {
        return Cow::Borrowed(text);
    }
    let mut cleaned = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            _ if is_legal(c) => cleaned.push(c),
            '\0'..='\x1f' => cleaned.push(char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{2400}')),
            _ => cleaned.push_str(&format!("[U+{:04X}]", u32::from(c))),
        }
    }
    Cow::Owned(cleaned)
}

/// Whether XML 1.0 has the character (its production 2; Rust's characters leave out surrogates).
pub(super) fn is_legal(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

fn document<T: Serialize>(root: &str, value: &T) -> String {
    let element =
        quick_xml::se::to_string_with_root(root, value).expect("the model has only what XML can say");
    let begin = root.len() + 1; // '<' and the name: the attributes of the root come behind
    let (name, rest) = element.split_at(begin);
    // Markup is legal and has no carriage return, so whatever is replaced here is text. A bare carriage return would be
    // read as a line feed.
    clean(&format!("{DECLARATION}\n{name}{SCHEMA}{rest}")).replace('\r', "&#xD;")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::cyber_tipline::random;
    use crate::cyber_tipline::tree::{self, Element};

    #[test]
    fn check_32_illegal_characters_are_replaced_visibly_and_nothing_else_is_touched() {
        assert!(matches!(clean("]]> \u{202e}😀\t\r\n\u{7f}\u{fffd}\u{1fffe}"), Cow::Borrowed(_)));
        assert_eq!(clean("a\0b\u{1}c\u{1f}d\u{fffe}e\u{ffff}"), "a␀b␁c␟d[U+FFFE]e[U+FFFF]");
        // Half of a pair is no character of Rust's, and what reads JSON makes it U+FFFD or an error before we see it.
        assert_eq!(String::from_utf16_lossy(&[0xd800, 0x61]), "\u{fffd}a");
    }

    #[test]
    fn what_stands_before_and_at_the_root_is_what_ncmecs_samples_have() {
        let xml =
            file_details_xml(&FileDetails { report_id: 1, file_id: "f".into(), ..FileDetails::default() });
        assert_eq!(
            xml,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<fileDetails xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
             xsi:noNamespaceSchemaLocation=\"https://report.cybertip.org/ispws/xsd\"><reportId>1</reportId><fileId>f</fileId>\
             </fileDetails>"
        );
    }

    /// All values of a model, as they must be read from its XML.
    fn values(of: &Value, found: &mut Vec<String>) {
        match of {
            Value::Object(fields) => fields.values().for_each(|value| values(value, found)),
            Value::Array(list) => list.iter().for_each(|value| values(value, found)),
            Value::String(text) if text.is_empty() => {}
            Value::String(text) => found.push(clean(text).into_owned()),
            other => found.push(other.to_string()),
        }
    }

    fn texts(of: &Element, found: &mut Vec<String>) {
        let attributes = of.attributes.iter().filter(|(name, _)| !name.contains(':')).map(|(_, value)| value);
        found.extend(attributes.chain([&of.text]).filter(|text| !text.is_empty()).cloned());
        of.children.iter().for_each(|child| texts(child, found));
    }

    fn assert_said(model: &impl Serialize, xml: &str) {
        let (mut meant, mut said) = (Vec::new(), Vec::new());
        values(&serde_json::to_value(model).unwrap(), &mut meant);
        texts(&tree::parse(xml).unwrap(), &mut said);
        meant.sort();
        said.sort();
        assert_eq!(meant, said);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn check_32_every_text_of_a_report_is_read_as_it_was_meant(seed: u64) {
            let (report, details) = (random::report(seed), random::file_details(seed));
            assert_said(&report, &report_xml(&report));
            assert_said(&details, &file_details_xml(&details));
        }

        #[test]
        fn check_32_any_text_is_read_as_it_was_meant(text in any::<String>(), more in "[\0-\u{10ffff}]{0,40}") {
            let details = FileDetails { additional_info: vec![format!("{text}|{more}")], ..random::file_details(0) };
            assert_said(&details, &file_details_xml(&details));
        }

        #[test]
        fn a_model_says_the_same_after_json(seed: u64) {
            let (report, details) = (random::report(seed), random::file_details(seed));
            let again: Report = serde_json::from_value(serde_json::to_value(&report).unwrap()).unwrap();
            prop_assert_eq!(report_xml(&report), report_xml(&again));
            let again: FileDetails = serde_json::from_value(serde_json::to_value(&details).unwrap()).unwrap();
            prop_assert_eq!(file_details_xml(&details), file_details_xml(&again));
        }
    }
}
