//! XML as a tree of elements, read strictly: what is checked against the schema, and what an answer is read from.
//!
//! Refused are a DTD, entities but XML's five, characters that XML 1.0 does not have, and elements nested too deep. So
//! what is read is never longer than what came, and nothing is ever looked up elsewhere. Namespaces are left to who reads.

use std::borrow::Cow;
use std::sync::LazyLock;

use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use regex::bytes::Regex;

use super::xml::is_legal;

/// Elements within elements, at most.
const DEPTH_MAX: usize = 64;

/// An element.
#[derive(Debug, Default)]
pub(super) struct Element {
    /// What it is called.
    pub name: String,
    /// Its attributes, as they stand.
    pub attributes: Vec<(String, String)>,
    /// Elements in it.
    pub children: Vec<Element>,
    /// Text in it, without that of its children.
    pub text: String,
}

impl Element {
    /// The elements in it that are called so.
    pub fn all<'e>(&'e self, name: &'e str) -> impl Iterator<Item = &'e Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The element at the end of this path, the first of each name.
    pub fn at(&self, path: &[&str]) -> Option<&Element> {
        path.iter().try_fold(self, |element, name| element.children.iter().find(|child| child.name == *name))
    }

    /// An attribute's value.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Why something is not XML that we read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {why}")]
pub(super) struct Malformed {
    /// Where.
    pub at: usize,
    /// Why.
    pub why: String,
}

/// Bytes as text: the charset is the one of the `Content-Type`, else of the declaration, else UTF-8. XML without other
/// characters than ASCII's reads the same in all that are known here.
pub(super) fn decode<'b>(bytes: &'b [u8], content_type: Option<&str>) -> Result<Cow<'b, str>, Malformed> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let charset = content_type.and_then(charset_of).or_else(|| declared(bytes));
    let charset = charset.unwrap_or_else(|| "utf-8".to_string());
    match charset.to_ascii_lowercase().as_str() {
        "utf-8" | "utf8" | "us-ascii" | "ascii" => std::str::from_utf8(bytes)
            .map(Cow::Borrowed)
            .map_err(|error| Malformed { at: error.valid_up_to(), why: "is not UTF-8".to_string() }),
        "iso-8859-1" | "iso8859-1" | "iso_8859-1" | "latin1" | "l1" => {
            Ok(Cow::Owned(bytes.iter().map(|byte| char::from(*byte)).collect()))
        }
        _ => {
            let charset: String = charset.chars().take(40).collect();
            Err(Malformed { at: 0, why: format!("is in charset '{charset}': UTF-8 and ISO-8859-1 are read") })
        }
    }
}

/// The charset of `text/xml; charset="utf-8"`.
fn charset_of(content_type: &str) -> Option<String> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        (name.trim().eq_ignore_ascii_case("charset") && !value.is_empty()).then(|| value.to_string())
    })
}

/// An XML declaration (XML 1.0's production 23); what it captures is the encoding's name.
static DECLARATION: LazyLock<Regex> = LazyLock::new(|| {
    let quoted = |value: &str| format!("(?:\"{value}\"|'{value}')");
    let part =
        |name: &str, value: &str| format!("[ \\t\\r\\n]+{name}[ \\t\\r\\n]*=[ \\t\\r\\n]*{}", quoted(value));
    let (version, encoding) = (part("version", r"1\.[0-9]+"), part("encoding", "([A-Za-z][A-Za-z0-9._-]*)"));
    let standalone = part("standalone", "(?:yes|no)");
    Regex::new(&format!(r"(?-u)\A<\?xml{version}(?:{encoding})?(?:{standalone})?[ \t\r\n]*\?>"))
        .expect("the pattern is one")
});

/// The encoding that `<?xml … encoding="…"?>` names.
fn declared(bytes: &[u8]) -> Option<String> {
    let found = DECLARATION.captures(bytes)?;
    let name = found.get(1).or_else(|| found.get(2))?;
    Some(String::from_utf8_lossy(name.as_bytes()).into_owned())
}

/// Reads a document: the element at its root.
pub(super) fn parse(text: &str) -> Result<Element, Malformed> {
    if let Some((at, c)) = text.char_indices().find(|(_, c)| !is_legal(*c)) {
        return Err(Malformed { at, why: format!("has U+{:04X}, which XML does not have", u32::from(c)) });
    }
    if text.starts_with("<?xml") && !DECLARATION.is_match(text.as_bytes()) {
        return Err(Malformed { at: 0, why: "its XML declaration is not as it must be".to_string() });
    }
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_comments = true;
    let mut growing = Growing::default();
    loop {
        let at = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
        let wrong = |why: String| Malformed { at, why };
        match reader.read_event().map_err(|error| wrong(error.to_string()))? {
            Event::Eof => return growing.end().map_err(|why| wrong(why.to_string())),
            event => growing.take(at, event).map_err(wrong)?,
        }
    }
}

/// A document as far as it is read.
#[derive(Default)]
struct Growing {
    open: Vec<Element>,
    root: Option<Element>,
}

impl Growing {
    fn take(&mut self, at: usize, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::Start(tag) => self.begin(&tag),
            Event::Empty(tag) => {
                self.begin(&tag)?;
                self.close();
                Ok(())
            }
            Event::End(_) => {
                self.close();
                Ok(())
            }
            Event::Text(text) => {
                let text = text.xml10_content().map_err(|error| error.to_string())?;
                if text.contains("]]>") {
                    return Err("']]>' stands in a text".to_string());
                }
                self.text(&text)
            }
            Event::CData(text) if !self.open.is_empty() => {
                let text = text.xml10_content().map_err(|error| error.to_string())?;
                self.text(&text)
            }
            Event::CData(_) => Err("CDATA stands outside of the root".to_string()),
            Event::GeneralRef(reference) => {
                let c = referred(&reference)?;
                if self.open.is_empty() {
                    return Err("a reference stands outside of the root".to_string());
                }
                self.text(c.encode_utf8(&mut [0; 4]))
            }
            Event::DocType(_) => Err("a DTD is refused".to_string()),
            Event::Decl(_) if at == 0 => Ok(()),
            Event::Decl(_) => Err("an XML declaration stands behind the beginning".to_string()),
            Event::PI(instruction) => {
                let target = String::from_utf8_lossy(instruction.target()).into_owned();
                if target.eq_ignore_ascii_case("xml") || !is_name(&target) {
                    return Err("a processing instruction has no name".to_string());
                }
                Ok(())
            }
            Event::Comment(_) | Event::Eof => Ok(()),
        }
    }

    fn begin(&mut self, tag: &BytesStart<'_>) -> Result<(), String> {
        if self.open.is_empty() && self.root.is_some() {
            return Err("there is more than one root".to_string());
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(format!("elements are nested more than {DEPTH_MAX} deep"));
        }
        let name = String::from_utf8_lossy(tag.name().as_ref()).into_owned();
        if !is_name(&name) {
            return Err("an element has no name".to_string());
        }
        self.open.push(Element { attributes: attributes(tag)?, name, ..Element::default() });
        Ok(())
    }

    fn close(&mut self) {
        let Some(closed) = self.open.pop() else { return };
        match self.open.last_mut() {
            Some(parent) => parent.children.push(closed),
            None => self.root = Some(closed),
        }
    }

    fn text(&mut self, text: &str) -> Result<(), String> {
        match self.open.last_mut() {
            Some(element) => element.text.push_str(text),
            None if text.chars().all(is_space) => {}
            None => return Err("text stands outside of the root".to_string()),
        }
        Ok(())
    }

    fn end(&mut self) -> Result<Element, &'static str> {
        match (self.open.is_empty(), self.root.take()) {
            (true, Some(root)) => Ok(root),
            (true, None) => Err("there is no element"),
            (false, _) => Err("it ends within an element"),
        }
    }
}

/// The character a reference means.
fn referred(reference: &BytesRef<'_>) -> Result<char, String> {
    match reference.resolve_char_ref().map_err(|error| error.to_string())? {
        Some(c) if is_legal(c) => Ok(c),
        Some(c) => Err(format!("refers to U+{:04X}, which XML does not have", u32::from(c))),
        None => match &**reference {
            b"lt" => Ok('<'),
            b"gt" => Ok('>'),
            b"amp" => Ok('&'),
            b"apos" => Ok('\''),
            b"quot" => Ok('"'),
            _ => Err("an entity is none of XML's five".to_string()),
        },
    }
}

fn attributes(tag: &BytesStart<'_>) -> Result<Vec<(String, String)>, String> {
    let mut quote = None;
    let mut closed = false;
    for byte in tag.attributes_raw() {
        if closed && !byte.is_ascii_whitespace() {
            return Err("attributes are not apart".to_string());
        }
        closed = quote == Some(*byte);
        quote = match quote {
            _ if closed => None,
            None if matches!(byte, b'"' | b'\'') => Some(*byte),
            open => open,
        };
    }
    let mut found = Vec::new();
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let name = String::from_utf8_lossy(attribute.key.as_ref()).into_owned();
        if !is_name(&name) {
            return Err("an attribute has no name".to_string());
        }
        if attribute.value.contains(&b'<') {
            return Err(format!("'<' stands in the value of attribute {name}"));
        }
        let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| error.to_string())?;
        if !value.chars().all(is_legal) {
            return Err(format!("attribute {name} refers to a character which XML does not have"));
        }
        found.push((name, value.into_owned()));
    }
    Ok(found)
}

/// What XML calls white space.
pub(super) const fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// A name with one colon at most, and that within (XML 1.0's production 5, and Namespaces in XML).
fn is_name(name: &str) -> bool {
    let begins = |c: char| {
        matches!(c, 'A'..='Z' | 'a'..='z' | '_' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
            | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}'
            | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}'
            | '\u{10000}'..='\u{effff}')
    };
    let goes_on = |c: char| {
        begins(c)
            || matches!(c, '-' | '.' | '0'..='9' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
    };
    let whole = |part: &str| part.chars().next().is_some_and(begins) && part.chars().all(goes_on);
    name.split_once(':').map_or_else(|| whole(name), |(prefix, local)| whole(prefix) && whole(local))
}
