//! What the platform adds to a report when it is asked: the request, and its answer, checked whole.
//!
//! The answer is in the words of Coop's additional-info webhook. Every user and medium that was asked for must be answered;
//! what nobody asked for, and fields we do not know, are passed over. One field of a wrong type refuses all of it, with its
//! place, because a report that says half of what the platform knows would look whole. Nothing is asked or logged here.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::time::in_utc;
use crate::cyber_tipline::limits::{HASH_TYPE, over};
use crate::cyber_tipline::model::{Email, EmailKind, EventName, IpCaptureEvent};
use crate::desk::decision::read_key;
use crate::desk::item::ItemKey;
use crate::read::{At, FieldError};

/// Longest answer that is read.
pub const INFO_BYTES_MAX: usize = 8 << 20;
/// Users, media and messages of an answer: as many as a job has media, several times over.
const ENTRIES_MAX: usize = 10_000;
const EVENTS_MAX: usize = 10_000;
const EMAILS_MAX: usize = 1000;
const FILES_MAX: usize = 100;
const LINES_MAX: usize = 1000;
const TEXT_CHARS_MAX: usize = 100_000;
const URL_CHARS_MAX: usize = 4000;
const HASH_CHARS_MAX: usize = 1024;

/// What the platform answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Info {
    /// Of each user that was asked for.
    pub users: Vec<UserInfo>,
    /// Of each medium that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<MediaInfo>,
    /// Further files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional_files: Vec<AdditionalFile>,
    /// Where messages of conversations came from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<MessageInfo>,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_info: Option<String>,
}

/// What the platform knows of a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UserInfo {
    /// Whom.
    pub key: ItemKey,
    /// The name by which others know them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub screen_name: Option<String>,
    /// Their e-mail addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emails: Vec<Email>,
    /// Where they came from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_events: Vec<IpCaptureEvent>,
    /// The platform's own record of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

const EMAIL_KINDS: [(&str, EmailKind); 4] = [
    ("Home", EmailKind::Home),
    ("Work", EmailKind::Work),
    ("Business", EmailKind::Business),
    ("Recovery", EmailKind::Recovery),
];

const EVENTS: [(&str, EventName); 6] = [
    ("Login", EventName::Login),
    ("Registration", EventName::Registration),
    ("Purchase", EventName::Purchase),
    ("Upload", EventName::Upload),
    ("Other", EventName::Other),
    ("Unknown", EventName::Unknown),
];

/// What the platform knows of a medium, or of all media of one item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MediaInfo {
    /// The item.
    pub key: ItemKey,
    /// Whether it is gone from the platform.
    #[serde(default)]
    pub missing: bool,
    /// Whether everybody could see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publicly_available: Option<bool>,
    /// What it was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// What else there is to say of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional_info: Vec<String>,
    /// Where it came from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_events: Vec<IpCaptureEvent>,
    /// A hash of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<FileHash>,
}

/// A hash, and its type in the platform's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHash {
    /// The hash.
    pub hash: String,
    /// Its type, in capitals.
    pub of: String,
}

/// A further file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdditionalFile {
    /// Where it is fetched.
    pub url: String,
    /// What it is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional_info: Vec<String>,
}

/// Where a message came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageInfo {
    /// The message.
    pub key: ItemKey,
    /// The address.
    pub address: String,
}

/// Why an answer is not taken. Names users and items: for operators, not for logs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InfoError {
    /// It is too long.
    #[error("the answer has more than {INFO_BYTES_MAX} bytes")]
    TooLong,
    /// It is not JSON.
    #[error("the answer is not JSON (line {line}, column {column})")]
    NotJson {
        /// Line.
        line: usize,
        /// Column.
        column: usize,
    },
    /// A field is wrong; nothing of it is taken.
    #[error("the answer is wrong at {0}")]
    Field(#[from] FieldError),
    /// Something that was asked for is not in it.
    #[error("the answer says nothing of {what} {} of type {}{}", key.id, key.type_id, and_more(*more))]
    Missing {
        /// `user` or `medium`.
        what: &'static str,
        /// The first one.
        key: ItemKey,
        /// How many others are missing.
        more: usize,
    },
}

fn and_more(more: usize) -> String {
    if more == 0 { String::new() } else { format!(", and of {more} more") }
}

impl Info {
    /// What it says of a user.
    pub fn user(&self, key: &ItemKey) -> Option<&UserInfo> {
        self.users.iter().find(|user| user.key == *key)
    }

    /// What it says of an item's media: one entry for all, or one for each.
    pub fn media_of<'i>(&'i self, key: &'i ItemKey) -> impl Iterator<Item = &'i MediaInfo> {
        self.media.iter().filter(move |medium| medium.key == *key)
    }

    /// Whether all there was of an item is gone from the platform.
    pub fn is_missing(&self, key: &ItemKey) -> bool {
        self.media_of(key).next().is_some() && self.media_of(key).all(|medium| medium.missing)
    }

    /// Where a message came from: one address, or several if the platform names several.
    pub fn message_addresses<'i>(&'i self, key: &'i ItemKey) -> impl Iterator<Item = &'i str> {
        self.messages
            .iter()
            .filter(move |message| message.key == *key)
            .map(|message| message.address.as_str())
    }
}

/// What the platform is asked.
pub fn request(users: &[ItemKey], media: &[ItemKey]) -> Value {
    json!({ "users": users, "media": media })
}

/// Reads the answer to that.
pub fn read(body: &[u8], users: &[ItemKey], media: &[ItemKey]) -> Result<Info, InfoError> {
    if body.len() > INFO_BYTES_MAX {
        return Err(InfoError::TooLong);
    }
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| InfoError::NotJson { line: error.line(), column: error.column() })?;
    let root = At::new(&value, "");
    root.object()?;
    let info = Info {
        users: entries(&root, "users", users, read_user)?,
        media: entries(&root, "media", media, read_medium)?,
        additional_files: list(&root, "additionalFiles", FILES_MAX, read_file)?,
        messages: list(&root, "messages", ENTRIES_MAX, read_message)?.into_iter().flatten().collect(),
        additional_info: words(&root, "additionalInfo", TEXT_CHARS_MAX)?,
    };
    all_there("user", users, |key| info.user(key).is_some())?;
    all_there("medium", media, |key| info.media_of(key).next().is_some())?;
    Ok(info)
}

fn all_there(
    what: &'static str,
    asked: &[ItemKey],
    there: impl Fn(&ItemKey) -> bool,
) -> Result<(), InfoError> {
    let missing: Vec<&ItemKey> = asked.iter().filter(|key| !there(key)).collect();
    match missing.first() {
        Some(key) => Err(InfoError::Missing { what, key: (*key).clone(), more: missing.len() - 1 }),
        None => Ok(()),
    }
}

/// Entries of those that were asked for. What else is there is not looked into.
fn entries<T>(
    root: &At<'_>,
    name: &str,
    asked: &[ItemKey],
    read: fn(&At<'_>, ItemKey) -> Result<T, FieldError>,
) -> Result<Vec<T>, FieldError> {
    let mut found = Vec::new();
    let Some(entries) = root.field(name)? else { return Ok(found) };
    for entry in bounded(&entries, ENTRIES_MAX)? {
        let key = read_key(&entry)?;
        if asked.contains(&key) {
            found.push(read(&entry, key)?);
        }
    }
    Ok(found)
}

fn bounded<'v>(at: &At<'v>, max: usize) -> Result<Vec<At<'v>>, FieldError> {
    match at.list()? {
        list if list.len() > max => Err(at.wrong(format!("has {} entries, {max} at most", list.len()))),
        list => Ok(list),
    }
}

fn list<T>(
    at: &At<'_>,
    name: &str,
    max: usize,
    read: fn(&At<'_>) -> Result<T, FieldError>,
) -> Result<Vec<T>, FieldError> {
    let Some(list) = at.field(name)? else { return Ok(Vec::new()) };
    bounded(&list, max)?.iter().map(read).collect()
}

/// A text; an empty one says nothing.
fn words(at: &At<'_>, name: &str, max: usize) -> Result<Option<String>, FieldError> {
    let Some(text) = at.field(name)? else { return Ok(None) };
    Ok(Some(text.text_to(max)?).filter(|text| !text.trim().is_empty()).map(str::to_string))
}

fn flag(at: &At<'_>, name: &str) -> Result<Option<bool>, FieldError> {
    at.field(name)?.map(|flag| flag.flag()).transpose()
}

/// A time, as NCMEC has it.
fn time(at: &At<'_>, name: &str) -> Result<Option<String>, FieldError> {
    let Some(time) = at.field(name)? else { return Ok(None) };
    in_utc(time.text()?).map(Some).ok_or_else(|| time.wrong("is not a time: use 2026-01-31T12:00:00Z"))
}

fn line(at: &At<'_>) -> Result<String, FieldError> {
    Ok(at.text_to(TEXT_CHARS_MAX)?.to_string())
}

fn address(at: &At<'_>) -> Result<String, FieldError> {
    let address = at.text()?;
    address.parse::<IpAddr>().map_err(|_| at.wrong("is not an IP address"))?;
    Ok(address.to_string())
}

fn read_user(at: &At<'_>, key: ItemKey) -> Result<UserInfo, FieldError> {
    if let Some(data) = at.field("data")? {
        data.object()?;
    }
    Ok(UserInfo {
        key,
        screen_name: words(at, "screenName", TEXT_CHARS_MAX)?,
        emails: list(at, "email", EMAILS_MAX, read_email)?,
        ip_events: list(at, "ipCaptureEvent", EVENTS_MAX, read_event)?,
        data: at.field("data")?.map(|data| data.value().clone()),
    })
}

fn read_email(at: &At<'_>) -> Result<Email, FieldError> {
    Ok(Email {
        text: at.need("email")?.words(TEXT_CHARS_MAX)?.to_string(),
        kind: at.field("type")?.map(|kind| kind.one_of(&EMAIL_KINDS)).transpose()?,
        verified: flag(at, "verified")?,
        verification_date: time(at, "verificationDate")?,
    })
}

fn read_event(at: &At<'_>) -> Result<IpCaptureEvent, FieldError> {
    let port = at.field("port")?.map(|port| port.whole(1, 65_535)).transpose()?;
    Ok(IpCaptureEvent {
        ip_address: address(&at.need("ipAddress")?)?,
        event_name: at.field("eventName")?.map(|event| event.one_of(&EVENTS)).transpose()?,
        date_time: time(at, "dateTime")?,
        possible_proxy: flag(at, "possibleProxy")?,
        port: port.and_then(|port| port.try_into().ok()),
    })
}

fn read_medium(at: &At<'_>, key: ItemKey) -> Result<MediaInfo, FieldError> {
    let hash = match at.field("fileDetails")? {
        Some(details) => read_hash(&details)?,
        None => None,
    };
    Ok(MediaInfo {
        key,
        missing: flag(at, "missing")?.unwrap_or(false),
        publicly_available: flag(at, "publiclyAvailable")?,
        file_name: words(at, "fileName", TEXT_CHARS_MAX)?,
        additional_info: list(at, "additionalInfo", LINES_MAX, line)?,
        ip_events: list(at, "ipCaptureEvent", EVENTS_MAX, read_event)?,
        hash,
    })
}

/// A hash with its type, or neither.
fn read_hash(at: &At<'_>) -> Result<Option<FileHash>, FieldError> {
    match (words(at, "hash", HASH_CHARS_MAX)?, words(at, "hashType", TEXT_CHARS_MAX)?) {
        (Some(hash), Some(of)) => {
            let of = of.trim().to_uppercase();
            match over(&of, HASH_TYPE) {
                Some(_) => Err(at.need("hashType")?.wrong(format!("has more than {HASH_TYPE} characters"))),
                None => Ok(Some(FileHash { hash, of })),
            }
        }
        (None, None) => Ok(None),
        _ => Err(at.wrong("needs both hash and hashType")),
    }
}

fn read_file(at: &At<'_>) -> Result<AdditionalFile, FieldError> {
    let url = at.need("fileUrl")?;
    let text = url.words(URL_CHARS_MAX)?;
    if !["http://", "https://"].iter().any(|scheme| text.starts_with(scheme)) {
        return Err(url.wrong("is not a URL that can be fetched"));
    }
    Ok(AdditionalFile {
        url: text.to_string(),
        name: words(at, "fileName", TEXT_CHARS_MAX)?,
        additional_info: list(at, "additionalInfo", LINES_MAX, line)?,
    })
}

fn read_message(at: &At<'_>) -> Result<Option<MessageInfo>, FieldError> {
    let key = read_key(at)?;
    let Some(from) = at.field("ipAddress")? else { return Ok(None) };
    Ok(Some(MessageInfo { key, address: address(&from)? }))
}

#[cfg(test)]
mod tests;
