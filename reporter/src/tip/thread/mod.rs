//! A conversation as a CSV file, with the columns of Coop (specs/coop.md 2.7): a line for each message's text and one for
//! each picture or video of it, oldest first.
//!
//! What belongs to a conversation is what is known here: the messages of everybody in it that the platform sent as items,
//! and those that came with reports. The columns have no times; who builds a report says from when to when it goes.
//!
//! A cell that a spreadsheet would take for a formula gets a `'` before it, and so does one that begins with `'` already:
//! whoever takes one `'` off the beginning of each cell that has one has the words as they were written.

mod gather;

use std::borrow::Cow;

use index::store::StoreError;

pub use gather::conversations;

use super::fields::Told;
use super::info::Info;
use crate::desk::item::{Item, ItemKey, MediaKind};
use crate::tx::Tx;

/// The first line of the file, to the byte.
pub const HEADER: &str = "content,src,target,thread,type,contentId,chat_type,ip";
/// What the guard means, for who reads the file.
pub const GUARD_WORDS: &str =
    "A cell that begins with ' has one ' more than was written: it keeps spreadsheets from running it.";
/// Longest file: years of talk. Older messages are left out, and said to be.
const CSV_BYTES_MAX: usize = 8 << 20;

/// What is known of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// The thread; the reported item where a conversation has no thread of its own.
    pub key: ItemKey,
    /// Its messages, oldest first.
    pub messages: Vec<Item>,
    /// Who takes part.
    pub people: Vec<ItemKey>,
    /// Whether there may be more than is known.
    pub truncated: bool,
}

/// A conversation as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// The file.
    pub csv: String,
    /// Messages in it: the newest ones.
    pub messages: usize,
}

impl Conversation {
    /// Whether it is between two, or more; none where only one is known.
    pub fn chat_type(&self) -> Option<&'static str> {
        match self.people.len() {
            0 | 1 => None,
            2 => Some("private"),
            _ => Some("group"),
        }
    }

    /// The one whom a user talks to, if there is one other.
    pub fn other(&self, user: &ItemKey) -> Option<&ItemKey> {
        let mut others = self.people.iter().filter(|one| *one != user);
        others.next().filter(|_| self.people.len() == 2)
    }

    /// The file, with where its messages came from.
    pub fn transcript(&self, tx: &Tx<'_>, info: Option<&Info>) -> Result<Transcript, StoreError> {
        let mut newest_first = Vec::new();
        let mut bytes = HEADER.len() + 1;
        for message in self.messages.iter().rev() {
            let lines = self.lines(tx, message, info)?;
            bytes += lines.len();
            if bytes > CSV_BYTES_MAX && !newest_first.is_empty() {
                break;
            }
            newest_first.push(lines);
        }
        let messages = newest_first.len();
        newest_first.reverse();
        Ok(Transcript { csv: format!("{HEADER}\n{}", newest_first.concat()), messages })
    }

    /// A message's lines.
    fn lines(&self, tx: &Tx<'_>, message: &Item, info: Option<&Info>) -> Result<String, StoreError> {
        let told = Told::by(tx, message)?;
        let from = message.creator.as_ref();
        let named = told.users(tx)?;
        let to: Vec<&str> = match from.and_then(|from| self.other(from)) {
            _ if !named.is_empty() => named.iter().map(|user| user.id.as_str()).collect(),
            Some(other) => vec![&other.id],
            None => Vec::new(),
        };
        let mut ip: Vec<&str> = info.iter().flat_map(|info| info.message_addresses(&message.key)).collect();
        if ip.is_empty() {
            ip.extend(told.address());
        }
        let row = |content: &str, of: &str, id: &str| {
            let cells = [
                content,
                from.map_or("", |from| &from.id),
                &to.join(" "),
                &self.key.id,
                of,
                id,
                self.chat_type().unwrap_or_default(),
                &ip.join(" "),
            ];
            let cells: Vec<String> = cells.iter().map(|text| cell(text)).collect();
            format!("{}\n", cells.join(","))
        };
        let texts = told.texts().join("\n");
        let mut lines = String::new();
        if !texts.is_empty() || message.media.is_empty() {
            lines.push_str(&row(&texts, "text", "")); // as Coop does, a text has no id
        }
        for media in &message.media {
            let of = match media.kind {
                MediaKind::Image => "image",
                MediaKind::Video => "video",
                MediaKind::Media => "media",
            };
            lines.push_str(&row(media.url.as_deref().unwrap_or_default(), of, &message.key.id));
        }
        Ok(lines)
    }
}

/// A cell as it stands in the file.
fn cell(text: &str) -> String {
    format!("\"{}\"", guarded(text).replace('"', "\"\""))
}

/// A text that no spreadsheet takes for a formula.
fn guarded(text: &str) -> Cow<'_, str> {
    let blank = text.starts_with(['\'', '\t', '\r', '\n']);
    // Some take the wide forms of East Asian typing for the same.
    let formula = text.trim_start().starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']);
    if blank || formula { Cow::Owned(format!("'{text}")) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests;
