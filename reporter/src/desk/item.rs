//! Items as platforms tell of them: a content, a user or a thread, with its media and what these matched.
//!
//! Rows of keyspace `items` (ids hold no NUL):
//!
//! | key | value |
//! |---|---|
//! | `i` ‖ type ‖ NUL ‖ id ‖ NUL | JSON row, version 1: [`Item`], the newest that was settled |
//! | `u` ‖ user's type ‖ NUL ‖ user's id ‖ NUL ‖ u64 BE: all ones minus the item's time ‖ type ‖ NUL ‖ id ‖ NUL | nothing: the user's items, newest first |
//! | `m` ‖ type ‖ NUL ‖ id ‖ NUL ‖ digest of its signals | JSON row, version 1: a medium that was uploaded under the item's id |
//! | `t` ‖ received ms u64 BE ‖ type ‖ NUL ‖ id ‖ NUL | nothing: items that may go when they are old and in no job |
//! | `r` ‖ report id, 16 bytes | JSON row, version 1: [`Report`] |

mod age;
pub mod uploads;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use index::store::keys::wrong;
use index::store::{Keyspace, Range, StoreError};
use index::{HitMatch, SignalType};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::evidence::Kept;
use super::kind::{Container, ItemKind, ItemType, Role, Scalar, related, time_ms};
use crate::read::At;
use crate::tx::{Tx, after_prefix, key};

pub use self::age::forget_item;
use self::age::old_key;
pub(super) use self::age::{list_once, older};

/// The field of what was uploaded under an item's id.
pub const UPLOAD_FIELD: &str = "upload";

/// What an item is known by: its platform's id and type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ItemKey {
    /// The platform's id.
    pub id: String,
    /// Its type.
    #[serde(rename = "typeId")]
    pub type_id: String,
}

/// An item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// What it is known by.
    #[serde(flatten)]
    pub key: ItemKey,
    /// What it is; unknown for uploads whose type nobody described.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ItemKind>,
    /// Version of its type.
    #[serde(default)]
    pub type_version: u64,
    /// Its fields, as they came.
    #[serde(default)]
    pub data: Map<String, Value>,
    /// When it came, in milliseconds since 1970 (UTC).
    pub received_ms: u64,
    /// When the platform says it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_ms: Option<u64>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creator: Option<ItemKey>,
    /// The thread it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<ItemKey>,
    /// Its media, in the order of its fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<Media>,
    /// How many of its uploads are kept, in rows of their own.
    #[serde(default)]
    pub uploads: u64,
    /// How often one came that is not kept: a job that lists the item later says that there was more.
    #[serde(default)]
    pub uploads_not_kept: u64,
    /// Whether the platform sent a part of its fields: the others stay as they are known.
    #[serde(default)]
    pub partial: bool,
    /// The arrival it came by: the later one is the newer item.
    #[serde(default)]
    pub arrival: u64,
    /// What rules said of it last: time and number of the evaluation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluated: Option<(u64, u64)>,
}

/// What a medium is, by the type of its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaKind {
    /// A picture.
    Image,
    /// A video.
    Video,
    /// Either.
    Media,
}

/// A picture or video of an item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Media {
    /// Where in the item's data: the field's name, with the place or name inside it after a slash.
    pub field: String,
    /// What it is.
    pub kind: MediaKind,
    /// Where it can be fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its signals in text form.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub signals: BTreeMap<SignalType, String>,
    /// What was found out about it.
    #[serde(default)]
    pub screening: Screening,
    /// What was preserved of it while it was compared; taken by its job when the item is settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
}

/// Whether a medium was compared with the banks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Screening {
    /// Not yet: nobody may take it for clean.
    #[default]
    Waiting,
    /// It was.
    Done {
        /// What it matched, nearest first.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        matches: Vec<Found>,
    },
    /// It could not be, and people must look: nobody may take it for clean.
    Unknown {
        /// Why.
        why: String,
    },
}

/// One banked content that a medium matched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// By which type of signal.
    pub signal_type: SignalType,
    /// By which signal, where that is not the medium's own: a frame of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// The content, and how far it is.
    #[serde(flatten)]
    pub hit: HitMatch,
}

/// What a user of the platform reported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Its id, which the platform was told.
    pub id: String,
    /// Who reported it.
    pub reporter: ItemKey,
    /// When, in milliseconds since 1970 (UTC).
    pub reported_ms: u64,
    /// When it came here.
    pub received_ms: u64,
    /// The item that is reported.
    pub item: ItemKey,
    /// The policy that it is against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_id: Option<String>,
    /// Why, in the reporter's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether it is reported as child abuse.
    #[serde(default)]
    pub csam: bool,
    /// The conversation around it, as items.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thread: Vec<ItemKey>,
}

impl Item {
    /// An item of a known type, checked before: what its roles say is taken from its data.
    pub fn new(key: ItemKey, of: &ItemType, data: Map<String, Value>, received_ms: u64) -> Self {
        let related_in = |role: Role| {
            let value = of.role(role, &data)?;
            let (type_id, id) = related(&At::new(value, "")).ok()?;
            Some(ItemKey { id, type_id })
        };
        Self {
            kind: Some(of.kind),
            type_version: of.version,
            received_ms,
            created_ms: of.role(Role::CreatedAt, &data).and_then(time_ms),
            creator: related_in(Role::CreatorId),
            thread: related_in(Role::ThreadId),
            media: media_of(of, &data),
            uploads: 0,
            uploads_not_kept: 0,
            partial: false,
            arrival: 0,
            evaluated: None,
            key,
            data,
        }
    }

    /// An item of which nothing else is known.
    pub fn bare(key: ItemKey, received_ms: u64) -> Self {
        Self {
            key,
            kind: None,
            type_version: 0,
            data: Map::new(),
            received_ms,
            created_ms: None,
            creator: None,
            thread: None,
            media: Vec::new(),
            uploads: 0,
            uploads_not_kept: 0,
            partial: false,
            arrival: 0,
            evaluated: None,
        }
    }

    /// The user behind it, as far as the item itself says: its maker, or itself.
    pub fn user(&self) -> Option<&ItemKey> {
        match self.kind {
            Some(ItemKind::User) => Some(&self.key),
            _ => self.creator.as_ref(),
        }
    }

    /// When it was made, or came.
    pub fn time_ms(&self) -> u64 {
        self.created_ms.unwrap_or(self.received_ms)
    }

    /// Whether a medium still waits to be compared with the banks.
    pub fn waits(&self) -> bool {
        self.media.iter().any(|media| media.screening == Screening::Waiting)
    }

    /// Everything its media matched.
    pub fn matches(&self) -> impl Iterator<Item = &Found> + Clone {
        self.media.iter().flat_map(Media::matches)
    }
}

impl Media {
    /// What it matched.
    pub fn matches(&self) -> impl Iterator<Item = &Found> + Clone {
        let matches: &[Found] = match &self.screening {
            Screening::Done { matches } => matches,
            Screening::Waiting | Screening::Unknown { .. } => &[],
        };
        matches.iter()
    }
}

/// The pictures and videos in an item's data, whatever their fields are called and however many they hold.
fn media_of(of: &ItemType, data: &Map<String, Value>) -> Vec<Media> {
    let mut found = Vec::new();
    for field in &of.fields {
        let kind = match field.scalar {
            Scalar::Image => MediaKind::Image,
            Scalar::Video => MediaKind::Video,
            Scalar::Media => MediaKind::Media,
            _ => continue,
        };
        let Some(value) = data.get(&field.name).filter(|value| !value.is_null()) else { continue };
        let mut take = |place: String, value: &Value| {
            let url = value.as_str().or_else(|| value.get("url")?.as_str()).map(str::to_string);
            let signals = value.get("signals").and_then(Value::as_object).into_iter().flatten();
            let signals = signals.filter_map(|(name, signal)| {
                Some((SignalType::from_name(name).ok()?, signal.as_str()?.to_string()))
            });
            let signals = signals.collect();
            let screening = Screening::Waiting;
            found.push(Media { field: place, kind, url, signals, screening, kept: None });
        };
        match (field.container, value) {
            (Some(Container::Array), Value::Array(values)) => {
                values.iter().enumerate().for_each(|(at, value)| take(format!("{}/{at}", field.name), value));
            }
            (Some(Container::Map), Value::Object(values)) => {
                values.iter().for_each(|(name, value)| take(format!("{}/{name}", field.name), value));
            }
            _ => take(field.name.clone(), value),
        }
    }
    found
}

impl ItemKey {
    /// A key of these words.
    pub fn new(type_id: impl Into<String>, id: impl Into<String>) -> Self {
        Self { id: id.into(), type_id: type_id.into() }
    }
}

/// The item of this key, as it was settled last, with all that was uploaded under its id.
pub fn item(tx: &Tx<'_>, of: &ItemKey) -> Result<Option<Item>, StoreError> {
    let mut found = item_alone(tx, of)?;
    if let Some(item) = &mut found {
        uploads::add_all(tx, item)?;
    }
    Ok(found)
}

/// The item of this key without its uploads. Rows of older versions hold these, too, until the item is written again.
pub fn item_alone(tx: &Tx<'_>, of: &ItemKey) -> Result<Option<Item>, StoreError> {
    tx.read(Keyspace::Items, &key(b'i', &[&of.type_id, &of.id]))
}

/// Keeps a settled item, unless a newer one is there.
pub fn put_item(tx: &mut Tx<'_>, mut new: Item) -> Result<(), StoreError> {
    let mut further = uploads::take(&mut new);
    (new.uploads, new.uploads_not_kept) = (0, 0);
    if let Some(mut old) = item_alone(tx, &new.key)? {
        if old.arrival > new.arrival {
            return Ok(());
        }
        unlist(tx, &old);
        (new.uploads, new.uploads_not_kept) = (old.uploads, old.uploads_not_kept);
        further.splice(0..0, uploads::take(&mut old));
    }
    for media in further {
        uploads::put(tx, &mut new, media)?;
    }
    if let Some(listed) = listed_under(&new) {
        tx.put(Keyspace::Items, listed, []);
    }
    tx.put(Keyspace::Items, old_key(&new), []);
    tx.save(Keyspace::Items, key(b'i', &[&new.key.type_id, &new.key.id]), &new);
    Ok(())
}

fn unlist(tx: &mut Tx<'_>, item: &Item) {
    if let Some(listed) = listed_under(item) {
        tx.delete(Keyspace::Items, listed);
    }
    tx.delete(Keyspace::Items, old_key(item));
}

/// Fills what the platform left out of a partial item with what is known of it.
pub fn complete(tx: &Tx<'_>, part: &mut Item) -> Result<(), StoreError> {
    if !std::mem::take(&mut part.partial) {
        return Ok(());
    }
    let Some(known) = item(tx, &part.key)? else { return Ok(()) };
    part.creator = part.creator.take().or(known.creator);
    part.thread = part.thread.take().or(known.thread);
    part.created_ms = part.created_ms.or(known.created_ms);
    let sent = |field: &str| field.split('/').next().is_some_and(|name| part.data.contains_key(name));
    let kept: Vec<Media> = known.media.into_iter().filter(|media| !sent(&media.field)).collect();
    part.media.extend(kept);
    for (name, value) in known.data {
        part.data.entry(name).or_insert(value);
    }
    Ok(())
}

/// A user's items, newest first, with a bound; and whether there are more.
pub fn items_of(tx: &Tx<'_>, user: &ItemKey, max: usize) -> Result<(Vec<Item>, bool), StoreError> {
    let prefix = key(b'u', &[&user.type_id, &user.id]);
    let end = after_prefix(&prefix);
    let (mut keys, mut more) = (Vec::new(), false);
    let range = Range { from: &prefix, to: end.as_deref(), backwards: false };
    tx.scan(Keyspace::Items, range, &mut |found, _| {
        more = keys.len() == max;
        if more {
            return ControlFlow::Break(());
        }
        keys.push(read_listed(&found[prefix.len()..]));
        ControlFlow::Continue(())
    })?;
    let mut items = Vec::with_capacity(keys.len());
    for key in keys {
        let key = key.ok_or_else(|| wrong(Keyspace::Items, "a user's item is listed under no key"))?;
        items.extend(item(tx, &key)?);
    }
    Ok((items, more))
}

/// Where a user's list has the item.
fn listed_under(item: &Item) -> Option<Vec<u8>> {
    let user = item.user()?;
    let mut listed = key(b'u', &[&user.type_id, &user.id]);
    listed.extend_from_slice(&(u64::MAX - item.time_ms()).to_be_bytes());
    listed.extend_from_slice(&key(b'i', &[&item.key.type_id, &item.key.id])[1..]);
    Some(listed)
}

fn read_listed(rest: &[u8]) -> Option<ItemKey> {
    read_key(rest.get(8..)?)
}

/// Reads type and id, each ended by NUL.
pub fn read_key(rest: &[u8]) -> Option<ItemKey> {
    let mut parts = rest.split(|byte| *byte == 0);
    let mut next = || std::str::from_utf8(parts.next()?).ok();
    let type_id = next()?;
    Some(ItemKey::new(type_id, next()?))
}

/// The report of this id.
pub fn report(tx: &Tx<'_>, id: &str) -> Result<Option<Report>, StoreError> {
    tx.read(Keyspace::Items, &key(b'r', &[id]))
}

/// Forgets a report.
pub fn forget_report(tx: &mut Tx<'_>, id: &str) {
    tx.delete(Keyspace::Items, key(b'r', &[id]));
}

/// Keeps a report.
pub fn put_report(tx: &mut Tx<'_>, report: &Report) {
    tx.save(Keyspace::Items, key(b'r', &[&report.id]), report);
}

#[cfg(test)]
mod tests {
    use super::*;
    use index::store::MemoryStore;
    use serde_json::json;

    fn post(id: &str, creator: Option<&str>, made: u64, arrival: u64) -> Item {
        Item {
            kind: Some(ItemKind::Content),
            created_ms: Some(made),
            creator: creator.map(|id| ItemKey::new("user", id)),
            arrival,
            ..Item::bare(ItemKey::new("post", id), 9)
        }
    }

    #[test]
    fn media_is_found_under_any_name_and_in_any_number() {
        let of = json!({ "kind": "CONTENT", "fields": [
            { "name": "cover", "type": "IMAGE" },
            { "name": "gallery", "type": "IMAGE", "container": "ARRAY" },
            { "name": "takes", "type": "VIDEO", "container": "MAP" },
            { "name": "text", "type": "STRING" }
        ] });
        let of = ItemType::read("post", &At::new(&of, "")).unwrap();
        let data = json!({
            "cover": "https://a/1", "gallery": [{ "url": "https://a/2" }, "https://a/3"],
            "takes": { "long": { "signals": { "video_md5": "0".repeat(32) } } }, "text": "https://a/4"
        });
        let item = Item::new(ItemKey::new("post", "1"), &of, data.as_object().unwrap().clone(), 1);
        let found: Vec<_> =
            item.media.iter().map(|m| (m.field.as_str(), m.url.as_deref(), m.signals.len())).collect();
        assert_eq!(
            found,
            [
                ("cover", Some("https://a/1"), 0),
                ("gallery/0", Some("https://a/2"), 0),
                ("gallery/1", Some("https://a/3"), 0),
                ("takes/long", None, 1)
            ]
        );
        assert!(item.waits());
    }

    #[test]
    fn a_users_items_are_listed_newest_first_and_follow_their_item() {
        let store = MemoryStore::default();
        let mut tx = Tx::new(&store);
        let user = ItemKey::new("user", "u");
        for (id, made) in [("a", 5), ("b", 7), ("c", 6)] {
            put_item(&mut tx, post(id, Some("u"), made, made)).unwrap();
        }
        let ids = |tx: &Tx<'_>, user: &ItemKey, max| {
            let (items, more) = items_of(tx, user, max).unwrap();
            (items.iter().map(|item| item.key.id.clone()).collect::<Vec<_>>().concat(), more)
        };
        assert_eq!(ids(&tx, &user, 9), ("bca".to_string(), false));
        assert_eq!(ids(&tx, &user, 2), ("bc".to_string(), true));
        // An older arrival that ends later changes nothing; a newer one moves the item to its other maker.
        put_item(&mut tx, post("b", None, 1, 3)).unwrap();
        assert_eq!(ids(&tx, &user, 9).0, "bca");
        put_item(&mut tx, post("b", Some("v"), 1, 8)).unwrap();
        assert_eq!(
            (ids(&tx, &user, 9).0, ids(&tx, &ItemKey::new("user", "v"), 9).0),
            ("ca".into(), "b".into())
        );
        assert_eq!(item(&tx, &ItemKey::new("post", "b")).unwrap().unwrap().arrival, 8);
    }
}
