//! Item types: what a platform's items look like, and which of their fields play which role (specs/coop.md 4.4).
//!
//! Data is checked against its type at intake, with a pointer to each field that is wrong. Fields that the type does
//! not know are kept as they came.

use std::collections::BTreeMap;
use std::net::IpAddr;

use chrono::DateTime;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::read::{At, FieldError};

/// Fields of a type, and its name, at most.
const FIELDS_MAX: usize = 500;
const NAME_CHARS_MAX: usize = 128;

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ItemKind {
    /// Something that somebody made.
    Content,
    /// Somebody.
    User,
    /// What contents belong to.
    Thread,
}

const KINDS: [(&str, ItemKind); 3] =
    [("CONTENT", ItemKind::Content), ("USER", ItemKind::User), ("THREAD", ItemKind::Thread)];

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Scalar {
    /// Id of a user.
    UserId,
    /// An id.
    Id,
    /// A text.
    String,
    /// True or false.
    Boolean,
    /// A number.
    Number,
    /// URL of a sound.
    Audio,
    /// URL of a picture.
    Image,
    /// URL of a video.
    Video,
    /// RFC 3339, or milliseconds since 1970.
    Datetime,
    /// A geohash.
    Geohash,
    /// Another item: `{id, typeId}`.
    RelatedItem,
    /// A URL.
    Url,
    /// Id of a policy.
    PolicyId,
    /// An IP address.
    IpAddress,
    /// An e-mail address.
    EmailAddress,
    /// URL of a picture, video or sound.
    Media,
}

const SCALARS: [(&str, Scalar); 16] = [
    ("USER_ID", Scalar::UserId),
    ("ID", Scalar::Id),
    ("STRING", Scalar::String),
    ("BOOLEAN", Scalar::Boolean),
    ("NUMBER", Scalar::Number),
    ("AUDIO", Scalar::Audio),
    ("IMAGE", Scalar::Image),
    ("VIDEO", Scalar::Video),
    ("DATETIME", Scalar::Datetime),
    ("GEOHASH", Scalar::Geohash),
    ("RELATED_ITEM", Scalar::RelatedItem),
    ("URL", Scalar::Url),
    ("POLICY_ID", Scalar::PolicyId),
    ("IP_ADDRESS", Scalar::IpAddress),
    ("EMAIL_ADDRESS", Scalar::EmailAddress),
    ("MEDIA", Scalar::Media),
];

/// How many values a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Container {
    /// A list.
    Array,
    /// Values by names.
    Map,
}

const CONTAINERS: [(&str, Container); 2] = [("ARRAY", Container::Array), ("MAP", Container::Map)];

/// What a field means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Who made it.
    CreatorId,
    /// The thread it belongs to.
    ThreadId,
    /// What it answers to.
    ParentId,
    /// When it was made.
    CreatedAt,
    /// What people call it.
    DisplayName,
    /// The address it came from.
    IpAddress,
    /// A user's e-mail address.
    Email,
    /// A user's picture.
    ProfileIcon,
    /// A user's other picture.
    BackgroundImage,
    /// Whether it is gone from the platform.
    IsDeleted,
}

/// Each role: its name, the kinds that have it, what its field may hold.
const ROLES: [(&str, Role, &[ItemKind], &[Scalar]); 10] = {
    use ItemKind::{Content, Thread, User};
    [
        ("creatorId", Role::CreatorId, &[Content, Thread], &[Scalar::RelatedItem]),
        ("threadId", Role::ThreadId, &[Content], &[Scalar::RelatedItem]),
        ("parentId", Role::ParentId, &[Content], &[Scalar::RelatedItem]),
        ("createdAt", Role::CreatedAt, &[Content, User, Thread], &[Scalar::Datetime]),
        ("displayName", Role::DisplayName, &[Content, User, Thread], &[Scalar::String]),
        ("ipAddress", Role::IpAddress, &[Content, User, Thread], &[Scalar::IpAddress]),
        ("email", Role::Email, &[User], &[Scalar::EmailAddress]),
        ("profileIcon", Role::ProfileIcon, &[User], &[Scalar::Image, Scalar::Media]),
        ("backgroundImage", Role::BackgroundImage, &[User], &[Scalar::Image, Scalar::Media]),
        ("isDeleted", Role::IsDeleted, &[Content, User, Thread], &[Scalar::Boolean]),
    ]
};

/// One field of a type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name in an item's data.
    pub name: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub scalar: Scalar,
    /// How many of it; one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// Whether an item must have it.
    #[serde(default)]
    pub required: bool,
}

/// A type of items.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemType {
    /// What items name it by.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What its items are.
    pub kind: ItemKind,
    /// Their fields.
    pub fields: Vec<Field>,
    /// Which field plays which role.
    #[serde(default)]
    pub roles: BTreeMap<Role, String>,
    /// 1 for the first; one more each time it is changed.
    #[serde(default)]
    pub version: u64,
}

impl ItemType {
    /// Reads a type as an operator writes it. `id` is what it is stored under.
    pub fn read(id: &str, at: &At<'_>) -> Result<Self, FieldError> {
        at.only(&["id", "name", "kind", "fields", "roles", "version"])?;
        if let Some(given) = at.field("id")?
            && given.id()? != id
        {
            return Err(given.wrong(format!("is not '{id}': leave it out, or write the same")));
        }
        let kind = at.need("kind")?.one_of(&KINDS)?;
        let mut fields: Vec<Field> = Vec::new();
        for field in at.need("fields")?.list()? {
            let read = read_field(&field)?;
            if fields.iter().any(|other| other.name == read.name) {
                return Err(field.wrong(format!("'{}' is there already", read.name)));
            }
            fields.push(read);
            if fields.len() > FIELDS_MAX {
                return Err(field.wrong(format!("a type has {FIELDS_MAX} fields at most")));
            }
        }
        let mut roles = BTreeMap::new();
        if let Some(given) = at.field("roles")? {
            for (name, field) in given.object()? {
                let field = given.under(name, field);
                let known = ROLES.iter().find(|(known, _, kinds, _)| known == name && kinds.contains(&kind));
                let Some((_, role, _, scalars)) = known else {
                    let of_kind: Vec<&str> =
                        ROLES.iter().filter(|role| role.2.contains(&kind)).map(|role| role.0).collect();
                    return Err(field.wrong(format!("is no role of this kind: use {}", of_kind.join(", "))));
                };
                let played =
                    fields.iter().find(|known| known.name == field.value().as_str().unwrap_or_default());
                let Some(played) = played else { return Err(field.wrong("names no field of this type")) };
                if !scalars.contains(&played.scalar) || played.container.is_some() {
                    return Err(field
                        .wrong(format!("'{}' cannot play this role: its type does not fit", played.name)));
                }
                roles.insert(*role, played.name.clone());
            }
        }
        if roles.contains_key(&Role::ThreadId) && !roles.contains_key(&Role::CreatedAt) {
            return Err(at.need("roles")?.wrong("threadId needs createdAt beside it"));
        }
        let name = match at.field("name")? {
            Some(name) => name.words(NAME_CHARS_MAX)?.to_string(),
            None => id.to_string(),
        };
        Ok(Self { id: id.to_string(), name, kind, fields, roles, version: 0 })
    }

    /// A field by its name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// What plays a role in an item.
    pub fn role<'d>(&self, role: Role, data: &'d Map<String, Value>) -> Option<&'d Value> {
        data.get(self.roles.get(&role)?).filter(|value| !value.is_null())
    }

    /// Checks an item's data; gives every field that is wrong.
    pub fn check(&self, at: &At<'_>, partial: bool) -> Vec<FieldError> {
        let mut wrong = Vec::new();
        if let Err(error) = at.object() {
            return vec![error];
        }
        for field in &self.fields {
            match at.field(&field.name) {
                Ok(Some(value)) => check_field(field, &value, &mut wrong),
                Ok(None) if field.required && !partial => {
                    let problem = format!("is missing, and items of type '{}' need it", self.id);
                    wrong.push(at.under(&field.name, &Value::Null).wrong(problem));
                }
                Ok(None) | Err(_) => {}
            }
        }
        wrong
    }
}

fn read_field(at: &At<'_>) -> Result<Field, FieldError> {
    at.only(&["name", "type", "container", "required"])?;
    Ok(Field {
        name: at.need("name")?.words(NAME_CHARS_MAX)?.to_string(),
        scalar: at.need("type")?.one_of(&SCALARS)?,
        container: at.field("container")?.map(|container| container.one_of(&CONTAINERS)).transpose()?,
        required: at.field("required")?.map_or(Ok(false), |required| required.flag())?,
    })
}

fn check_field(field: &Field, at: &At<'_>, wrong: &mut Vec<FieldError>) {
    let values = match field.container {
        None => Ok(vec![at.clone()]),
        Some(Container::Array) => at.list(),
        Some(Container::Map) => {
            at.object().map(|map| map.iter().map(|(name, value)| at.under(name, value)).collect())
        }
    };
    match values {
        Ok(values) => {
            wrong.extend(values.iter().filter_map(|value| check_scalar(field.scalar, value).err()));
        }
        Err(error) => wrong.push(error),
    }
}

fn check_scalar(scalar: Scalar, at: &At<'_>) -> Result<(), FieldError> {
    let value = at.value();
    match scalar {
        Scalar::String | Scalar::Geohash | Scalar::PolicyId => at.text().map(drop),
        Scalar::Id | Scalar::UserId => at.id().map(drop),
        Scalar::Boolean => at.flag().map(drop),
        Scalar::Number => at.number(f64::MIN, f64::MAX).map(drop),
        Scalar::Audio | Scalar::Image | Scalar::Video | Scalar::Media => check_media(at),
        Scalar::Datetime => match time_ms(value) {
            Some(_) => Ok(()),
            None => Err(at.wrong("is not a time: use 2026-01-31T12:00:00Z, or milliseconds since 1970")),
        },
        Scalar::RelatedItem => related(at).map(drop),
        Scalar::Url => check_url(at, at.text()?),
        Scalar::IpAddress => match at.text()?.parse::<IpAddr>() {
            Ok(_) => Ok(()),
            Err(_) => Err(at.wrong("is not an IP address")),
        },
        Scalar::EmailAddress => match at.text()?.split_once('@') {
            Some((user, host)) if !user.is_empty() && !host.is_empty() => Ok(()),
            _ => Err(at.wrong("is not an e-mail address")),
        },
    }
}

/// Media is a URL, or an object with one; an uploader who has hashed it already gives the signals as well.
fn check_media(at: &At<'_>) -> Result<(), FieldError> {
    if let Value::String(url) = at.value() {
        return check_url(at, url);
    }
    at.object().map_err(|_| at.wrong("is not media: use its URL, or {\"url\": …}"))?;
    if let Some(signals) = at.field("signals")? {
        for (name, signal) in signals.object()? {
            let signal = signals.under(name, signal);
            let kind = index::SignalType::from_name(name).map_err(|error| signal.wrong(error.to_string()))?;
            index::Signal::parse(kind, signal.text()?).map_err(|error| signal.wrong(error.to_string()))?;
        }
    } else {
        at.need("url")?;
    }
    match at.field("url")? {
        Some(url) => check_url(&url, url.text()?),
        None => Ok(()),
    }
}

fn check_url(at: &At<'_>, url: &str) -> Result<(), FieldError> {
    let good = url.split_once("://").is_some_and(|(scheme, rest)| {
        !scheme.is_empty()
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
            && !rest.is_empty()
    });
    if good && !url.chars().any(|c| c.is_control() || c == ' ') {
        Ok(())
    } else {
        Err(at.wrong("is not a URL"))
    }
}

/// Reads a reference to an item.
pub fn related(at: &At<'_>) -> Result<(String, String), FieldError> {
    let (type_id, id) = (at.need("typeId")?, at.need("id")?);
    Ok((type_id.id()?.to_string(), id.id()?.to_string()))
}

/// A time in milliseconds since 1970, however it is written.
pub fn time_ms(value: &Value) -> Option<u64> {
    if let Some(ms) = value.as_u64() {
        return Some(ms);
    }
    let text = value.as_str()?;
    let parsed = DateTime::parse_from_rfc3339(text).ok()?;
    u64::try_from(parsed.timestamp_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn post() -> ItemType {
        let value = json!({
            "kind": "CONTENT",
            "fields": [
                { "name": "text", "type": "STRING", "required": true },
                { "name": "pictures", "type": "IMAGE", "container": "ARRAY" },
                { "name": "clips", "type": "VIDEO", "container": "MAP" },
                { "name": "author", "type": "RELATED_ITEM" },
                { "name": "made", "type": "DATETIME" },
                { "name": "ip", "type": "IP_ADDRESS" }
            ],
            "roles": { "creatorId": "author", "createdAt": "made", "ipAddress": "ip" }
        });
        ItemType::read("post", &At::new(&value, "")).unwrap()
    }

    #[test]
    fn every_wrong_field_is_pointed_at() {
        let data = json!({
            "pictures": ["https://a.example/1", 7, { "url": "nowhere" }, { "signals": { "pdq": "00" } }],
            "clips": { "a": { "url": "https://a.example/v" }, "b": [] },
            "author": { "id": "u" }, "made": "yesterday", "ip": "1.2.3", "more": [1]
        });
        let wrong = post().check(&At::new(&data, "/items/0/data"), false);
        let pointers: Vec<&str> =
            wrong.iter().map(|error| error.pointer.trim_start_matches("/items/0/data")).collect();
        assert_eq!(
            pointers,
            [
                "/text",
                "/pictures/1",
                "/pictures/2/url",
                "/pictures/3/signals/pdq",
                "/clips/b",
                "/author/typeId",
                "/made",
                "/ip"
            ]
        );
        assert!(
            post().check(&At::new(&json!({ "text": null }), ""), true).is_empty(),
            "a partial item may lack fields"
        );
        let good = json!({ "text": "a", "made": 5, "author": { "id": "u", "typeId": "user", "name": "n" } });
        assert!(post().check(&At::new(&good, ""), false).is_empty());
    }

    #[test]
    fn types_that_make_no_sense_are_refused_where_they_do_not() {
        let says = |change: fn(&mut Value)| {
            let mut value = serde_json::to_value(post()).unwrap();
            change(&mut value);
            ItemType::read("post", &At::new(&value, "")).unwrap_err().to_string()
        };
        assert!(says(|v| v["kind"] = json!("POST")).starts_with("/kind: is 'POST', use one of CONTENT"));
        assert!(says(|v| v["fields"][1]["type"] = json!("PHOTO")).starts_with("/fields/1/type: "));
        assert!(says(|v| v["fields"][1]["name"] = json!("text")).contains("'text' is there already"));
        assert!(
            says(|v| v["roles"]["creatorId"] = json!("nobody"))
                .starts_with("/roles/creatorId: names no field")
        );
        assert!(says(|v| v["roles"]["creatorId"] = json!("text")).contains("its type does not fit"));
        assert!(says(|v| v["roles"]["email"] = json!("text")).contains("is no role of this kind"));
        assert!(says(|v| v["roles"] = json!({ "threadId": "author" })).contains("threadId needs createdAt"));
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        assert_eq!(time_ms(&json!("1970-01-01T00:00:01.500Z")), Some(1500));
        assert_eq!(time_ms(&json!("1970-01-01T01:00:00+01:00")), Some(0));
        assert_eq!(time_ms(&json!(42)), Some(42));
        assert_eq!(time_ms(&json!("1970")), None);
    }
}
