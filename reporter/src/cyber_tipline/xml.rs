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
