//! What an operator sets about queues, users and parties, each in a row of its own.
//!
//! Rows of keyspace `policy`, each a JSON row of version 1:
//!
//! | key | value |
//! |---|---|
//! | `s` | [`Settings`] |
//! | `q` ‖ name ‖ NUL | [`Queue`] |
//! | `w` ‖ name ‖ NUL | [`Webhook`] |
//! | `t` ‖ id ‖ NUL | [`ItemType`], the newest version |
//! | `T` ‖ id ‖ NUL ‖ version u64 BE | [`ItemType`], each version |
//! | `r` ‖ name ‖ NUL, `R` ‖ name ‖ NUL ‖ version u64 BE | rules likewise; owned by `router` |
//! | `M/table`, `M/file` | u64: the newest table; which text of the rules file |
//! | `v` ‖ table version u64 BE | which rules in which versions that table had; owned by `router` |
//! | `o` ‖ name ‖ NUL, `O` ‖ name ‖ NUL | an organisation's settings, its credentials; owned by `tip::organisation` |

use index::store::{Keyspace, StoreError};
use serde::{Deserialize, Serialize};

use super::kind::ItemType;
use super::queue::QueueName;
use crate::ids::OrgName;
use crate::read::{At, FieldError};
use crate::tx::{Tx, key, read_row};

/// Things of one sort at most.
const EACH_MAX: usize = 10_000;
/// What is reported is preserved for a year (18 U.S.C. 2258A(h)).
const YEAR_DAYS: u64 = 365;
const DAYS_MAX: u64 = 3650;
const LEASE_SECONDS: u64 = 600; // Coop's lock (specs/coop.md 2.3)
const URL_CHARS_MAX: usize = 2000;

/// Settings of the desk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Where goes what no routing rule takes.
    pub default_queue: QueueName,
    /// Where new NCMEC jobs wait.
    pub ncmec_queue: QueueName,
    /// Where goes what a person must set right first: no user is known, or a medium cannot be looked at.
    pub triage_queue: QueueName,
    /// Type of users that are named without one.
    pub user_type: String,
    /// Media that a reviewer must decide before a report.
    pub media_required: MediaRequired,
    /// Whether industry classifications are given: only who takes part in the hash sharing may (specs/cybertipline.md 1.7).
    pub industry_classification: bool,
    /// Days for which a job's contents are kept after its report is finished: a year at least, as the law asks.
    pub retention_reported_days: u64,
    /// The same after a decision that reports nothing.
    pub retention_dismissed_days: u64,
    /// The same of settled items that made no job, after they came.
    pub retention_unmatched_days: u64,
    /// Where the platform is asked for an item it sent without its maker.
    pub partial_items_url: Option<String>,
    /// The webhook that is told of attacks on the hash lists.
    pub alarm_webhook: Option<String>,
    /// Banks whose matches are decided without a person, where a rule says so. Nobody but an admin fills it.
    pub trusted_banks: Vec<String>,
    /// Who filled it last.
    pub trusted_by: Option<String>,
    /// When, in milliseconds since 1970 (UTC).
    pub trusted_ms: Option<u64>,
}

/// How many media a reviewer must decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaRequired {
    /// So many, or all if there are fewer.
    Minimum(u64),
    /// Each.
    All,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default_queue: QueueName::known("default"),
            ncmec_queue: QueueName::known("ncmec"),
            triage_queue: QueueName::known("triage"),
            user_type: "user".to_string(),
            media_required: MediaRequired::All,
            industry_classification: true,
            retention_reported_days: YEAR_DAYS,
            retention_dismissed_days: 30,
            retention_unmatched_days: 30,
            partial_items_url: None,
            alarm_webhook: None,
            trusted_banks: Vec::new(),
            trusted_by: None,
            trusted_ms: None,
        }
    }
}

impl Settings {
    /// Settings with what a request changes of them; the trusted banks are switched elsewhere.
    pub fn changed(&self, at: &At<'_>) -> Result<Self, FieldError> {
        at.only(&[
            "default_queue",
            "ncmec_queue",
            "triage_queue",
            "user_type",
            "media_required",
            "industry_classification",
            "retention_reported_days",
            "retention_dismissed_days",
            "retention_unmatched_days",
            "partial_items_url",
            "alarm_webhook",
        ])?;
        let mut settings = self.clone();
        for (name, place) in [
            ("default_queue", &mut settings.default_queue),
            ("ncmec_queue", &mut settings.ncmec_queue),
            ("triage_queue", &mut settings.triage_queue),
        ] {
            if let Some(queue) = at.field(name)? {
                *place = QueueName::parse(queue.text()?).map_err(|error| queue.wrong(error.to_string()))?;
            }
        }
        if let Some(user_type) = at.field("user_type")? {
            settings.user_type = user_type.id()?.to_string();
        }
        if let Some(required) = at.field("media_required")? {
            settings.media_required = match required.value().as_str() {
                Some("all") => MediaRequired::All,
                _ => MediaRequired::Minimum(required.need("minimum")?.whole(1, 10_000)?),
            };
        }
        if let Some(given) = at.field("industry_classification")? {
            settings.industry_classification = given.flag()?;
        }
        for (name, least, place) in [
            ("retention_reported_days", YEAR_DAYS, &mut settings.retention_reported_days),
            ("retention_dismissed_days", 1, &mut settings.retention_dismissed_days),
            ("retention_unmatched_days", 1, &mut settings.retention_unmatched_days),
        ] {
            if let Some(days) = at.field(name)? {
                *place = days.whole(least, DAYS_MAX)?;
            }
        }
        if at.object()?.contains_key("partial_items_url") {
            let url = at.field("partial_items_url")?;
            settings.partial_items_url = url.map(|url| web_url(&url, URL_CHARS_MAX)).transpose()?;
        }
        if at.object()?.contains_key("alarm_webhook") {
            let name = at.field("alarm_webhook")?;
            settings.alarm_webhook = name.map(|name| name.words(64).map(str::to_string)).transpose()?;
        }
        Ok(settings)
    }

    /// How long a reviewer has a job.
    pub fn lease_ms(&self, queue: Option<&Queue>) -> u64 {
        queue.and_then(|queue| queue.lease_seconds).unwrap_or(LEASE_SECONDS) * 1000
    }
}

/// A review queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Its name.
    pub name: QueueName,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// How long a reviewer has a job of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_seconds: Option<u64>,
    /// Whether only who may see child safety data sees it; of the NCMEC and the triage queue it is so in any case.
    #[serde(default)]
    pub child_safety: bool,
    /// The people who work on it; everybody if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// For whom is reported what is decided here; for the organisation `default` if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<OrgName>,
}

impl Queue {
    /// A queue about which nothing was set.
    pub fn new(name: QueueName) -> Self {
        let (description, members) = (String::new(), Vec::new());
        Self { name, description, lease_seconds: None, child_safety: false, members, organisation: None }
    }

    /// Reads a queue as an operator writes it.
    pub fn read(name: QueueName, at: &At<'_>) -> Result<Self, FieldError> {
        at.only(&["name", "description", "lease_seconds", "child_safety", "members", "organisation"])?;
        let members = at.field("members")?.map_or(Ok(Vec::new()), |members| members.list())?;
        Ok(Self {
            name,
            description: at.field("description")?.map_or(Ok(""), |text| text.text_to(1000))?.to_string(),
            lease_seconds: at.field("lease_seconds")?.map(|seconds| seconds.whole(5, 86_400)).transpose()?,
            child_safety: at.field("child_safety")?.map_or(Ok(false), |flag| flag.flag())?,
            members: members.iter().map(At::login).collect::<Result<_, _>>()?,
            organisation: at.field("organisation")?.map(|name| organisation_name(&name)).transpose()?,
        })
    }
}

/// An organisation's name.
pub fn organisation_name(at: &At<'_>) -> Result<OrgName, FieldError> {
    OrgName::parse(at.text()?)
        .ok_or_else(|| at.wrong("is no organisation's name: use 1 to 64 letters, digits, '-' and '_'"))
}

/// A party that is told of things.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// What rules name it by.
    pub name: String,
    /// Where it is called.
    pub url: String,
    /// Whether it is called at all.
    #[serde(default = "on")]
    pub enabled: bool,
}

fn on() -> bool {
    true
}

impl Webhook {
    /// Reads a webhook as an operator writes it.
    pub fn read(name: &str, at: &At<'_>) -> Result<Self, FieldError> {
        at.only(&["name", "url", "enabled"])?;
        Ok(Self {
            name: name.to_string(),
            url: web_url(&at.need("url")?, URL_CHARS_MAX)?,
            enabled: at.field("enabled")?.map_or(Ok(true), |enabled| enabled.flag())?,
        })
    }
}

/// A URL of so many characters at most: http or https, without user and password, which would be seen in logs.
pub fn web_url(at: &At<'_>, max: usize) -> Result<String, FieldError> {
    let url = at.words(max)?;
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    match host {
        Some(host)
            if !host.is_empty()
                && !host.contains('@')
                && !url.chars().any(|c| c.is_control() || c == ' ') =>
        {
            Ok(url.to_string())
        }
        _ => Err(at.wrong("is not a URL: use http:// or https://, a host, and no password in it")),
    }
}

/// The settings, or what they are before anybody sets them.
pub fn settings(tx: &Tx<'_>) -> Result<Settings, StoreError> {
    Ok(tx.read(Keyspace::Policy, b"s")?.unwrap_or_default())
}

/// Writes the settings.
pub fn put_settings(tx: &mut Tx<'_>, settings: &Settings) {
    tx.save(Keyspace::Policy, b"s", settings);
}

/// Every queue that was set up.
pub fn queues(tx: &Tx<'_>) -> Result<Vec<Queue>, StoreError> {
    all(tx, b"q")
}

/// A queue that was set up.
pub fn queue(tx: &Tx<'_>, name: &QueueName) -> Result<Option<Queue>, StoreError> {
    tx.read(Keyspace::Policy, &key(b'q', &[name.as_str()]))
}

/// Writes a queue.
pub fn put_queue(tx: &mut Tx<'_>, queue: &Queue) {
    tx.save(Keyspace::Policy, key(b'q', &[queue.name.as_str()]), queue);
}

/// Forgets a queue's own settings.
pub fn forget_queue(tx: &mut Tx<'_>, name: &QueueName) {
    tx.delete(Keyspace::Policy, key(b'q', &[name.as_str()]));
}

/// Every webhook.
pub fn webhooks(tx: &Tx<'_>) -> Result<Vec<Webhook>, StoreError> {
    all(tx, b"w")
}

/// A webhook.
pub fn webhook(tx: &Tx<'_>, name: &str) -> Result<Option<Webhook>, StoreError> {
    tx.read(Keyspace::Policy, &key(b'w', &[name]))
}

/// Writes a webhook.
pub fn put_webhook(tx: &mut Tx<'_>, webhook: &Webhook) {
    tx.save(Keyspace::Policy, key(b'w', &[&webhook.name]), webhook);
}

/// Forgets a webhook.
pub fn forget_webhook(tx: &mut Tx<'_>, name: &str) {
    tx.delete(Keyspace::Policy, key(b'w', &[name]));
}

/// Every item type, in its newest version.
pub fn item_types(tx: &Tx<'_>) -> Result<Vec<ItemType>, StoreError> {
    all(tx, b"t")
}

/// An item type in one of its versions; in the newest if there is none of that number.
pub fn item_type(tx: &Tx<'_>, id: &str, version: u64) -> Result<Option<ItemType>, StoreError> {
    let place = key(b't', &[id]);
    let each = [&key(b'T', &[id])[..], &version.to_be_bytes()].concat();
    let that = tx.read(Keyspace::Policy, &each)?;
    if that.is_some() { Ok(that) } else { tx.read(Keyspace::Policy, &place) }
}

/// Writes an item type as its next version, unless it says the same.
pub fn put_item_type(tx: &mut Tx<'_>, new: ItemType) -> Result<ItemType, StoreError> {
    let place = key(b't', &[&new.id]);
    let before: Option<ItemType> = tx.read(Keyspace::Policy, &place)?;
    if let Some(before) = &before
        && (ItemType { version: before.version, ..new.clone() }) == *before
    {
        return Ok(before.clone());
    }
    let new = ItemType { version: before.map_or(0, |before| before.version) + 1, ..new };
    let each = [&key(b'T', &[&new.id])[..], &new.version.to_be_bytes()].concat();
    tx.save(Keyspace::Policy, place, &new);
    tx.save(Keyspace::Policy, each, &new);
    Ok(new)
}

/// Forgets an item type; its versions stay.
pub fn forget_item_type(tx: &mut Tx<'_>, id: &str) {
    tx.delete(Keyspace::Policy, key(b't', &[id]));
}

/// Every row of a kind.
pub fn all<T: serde::de::DeserializeOwned>(tx: &Tx<'_>, prefix: &[u8]) -> Result<Vec<T>, StoreError> {
    let rows = tx.rows(Keyspace::Policy, prefix, EACH_MAX)?;
    rows.iter().map(|(_, row)| read_row(Keyspace::Policy, row)).collect()
}
