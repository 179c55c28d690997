//! Reading what NCMEC answers: bounded, in either charset, without DTD or entities; by names of children, not by root.
//!
//! The schema has two roots, and which of them a failed finish has is not documented (specs/cybertipline.md 1.3). What is
//! unknown is passed over; what is twice, or no number where a number must be, is refused: an answer is understood or
//! it is not.

use super::tree::{self, Element, Malformed, is_space};
use super::xml::clean;

/// Longer answers are not read. Those with many files have 60 bytes for each.
pub const REPLY_BYTES_MAX: usize = 1 << 20;

const BEGIN_CHARS: usize = 200;
/// NCMEC's ids of files have 32 characters.
const FILE_ID_CHARS_MAX: usize = 512;
const ROOTS: [&str; 2] = ["reportResponse", "reportDoneResponse"];

/// What NCMEC answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Its code: 0 is success, whatever HTTP says.
    pub code: i64,
    /// What it says about that.
    pub description: Option<String>,
    /// The report it is about.
    pub report_id: Option<i64>,
    /// The file it is about.
    pub file_id: Option<String>,
    /// The MD5 of the file it received.
    pub hash: Option<String>,
    /// The ids of a finished report's files; none where it has no list, which is something else than an empty one.
    pub files: Option<Vec<String>>,
}

/// Why an answer is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Too long.
    #[error("NCMEC's answer has {bytes} bytes, more than {REPLY_BYTES_MAX}; it begins: {begin}")]
    TooLong {
        /// How long it is.
        bytes: usize,
        /// How it begins.
        begin: String,
    },
    /// No bytes at all.
    #[error("NCMEC's answer is empty")]
    Empty,
    /// Not XML, or not such as we read.
    #[error("NCMEC's answer is not XML that is read here ({why}); it begins: {begin}")]
    NotXml {
        /// Why not.
        why: String,
        /// How it begins.
        begin: String,
    },
    /// XML, but not an answer.
    #[error("NCMEC's answer is XML, but {why}; it begins: {begin}")]
    NotAReply {
        /// Why it is none.
        why: String,
        /// How it begins.
        begin: String,
    },
}

/// Reads an answer.
pub fn parse(body: &[u8], content_type: Option<&str>) -> Result<Reply, ReplyError> {
    if body.len() > REPLY_BYTES_MAX {
        return Err(ReplyError::TooLong { bytes: body.len(), begin: begin(body) });
    }
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(ReplyError::Empty);
    }
    let not_xml =
        |malformed: Malformed| ReplyError::NotXml { why: fit(&malformed.to_string()), begin: begin(body) };
    let text = tree::decode(body, content_type).map_err(not_xml)?;
    let root = tree::parse(&text).map_err(not_xml)?;
    read(&root).map_err(|why| ReplyError::NotAReply { why: fit(&why), begin: begin(body) })
}

fn read(root: &Element) -> Result<Reply, String> {
    if !ROOTS.contains(&root.name.as_str()) {
        return Err(format!("its root is '{}'", root.name.chars().take(40).collect::<String>()));
    }
    let code = one(root, "responseCode")?.ok_or("it has no responseCode")?;
    let files = match the(root, "files")? {
        Some(files) => {
            let ids = files.all("fileId").map(|id| words(id).ok_or("a fileId in files is empty"));
            Some(ids.map(|id| id.map_err(str::to_string).and_then(file_id)).collect::<Result<Vec<_>, _>>()?)
        }
        None => None,
    };
    Ok(Reply {
        code: number("responseCode", &code)?,
        description: one(root, "responseDescription")?,
        report_id: one(root, "reportId")?.map(|id| number("reportId", &id)).transpose()?,
        file_id: one(root, "fileId")?.map(file_id).transpose()?,
        hash: one(root, "hash")?,
        files,
    })
}

/// The only child of this name.
fn the<'e>(root: &'e Element, name: &'e str) -> Result<Option<&'e Element>, String> {
    let mut found = root.all(name);
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(format!("it has {name} more than once")),
        (child, None) => Ok(child),
    }
}

/// The text of the only child of this name; none if it is not there or empty.
fn one(root: &Element, name: &str) -> Result<Option<String>, String> {
    Ok(the(root, name)?.and_then(words))
}

fn words(element: &Element) -> Option<String> {
    let text = element.text.trim_matches(is_space);
    (element.children.is_empty() && !text.is_empty()).then(|| text.to_string())
}

/// A whole number, exactly: ids are beyond what a float holds.
fn number(name: &str, text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("its {name} is no whole number of 64 bits"))
}

fn file_id(id: String) -> Result<String, String> {
    if id.chars().count() > FILE_ID_CHARS_MAX {
        return Err(format!("a fileId has more than {FILE_ID_CHARS_MAX} characters"));
    }
    Ok(id)
}

/// The beginning of what came, fit to be shown.
fn begin(body: &[u8]) -> String {
    fit(&String::from_utf8_lossy(&body[..body.len().min(BEGIN_CHARS * 4)]))
}

/// The beginning of a text that may quote what came.
fn fit(text: &str) -> String {
    let head: String = text.chars().take(BEGIN_CHARS).collect();
    // Control characters beyond those that XML forbids could speak to a terminal.
    clean(&head.replace(['\r', '\n', '\t'], " ")).replace(|c: char| c.is_control(), "\u{fffd}")
}
