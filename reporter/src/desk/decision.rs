//! Decisions on jobs: one durable record each, with who, when, and what was looked at. What a report to NCMEC must say is
//! in the reviewer's words; what must be filed enters the outbox in the same batch.
//!
//! Rows of keyspace `decisions`: `d` ‖ job u64 → JSON row, version 1: [`Decision`]; a job is decided once.
//!
//! What is required is checked here, whoever asks: Coop's own check is in the browser alone (specs/coop.md 2.3).

use std::collections::BTreeMap;

use index::store::{Keyspace, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::evidence;
use super::incident::{ANNOTATIONS, Annotation, CLASSES, Classification, IncidentType, incident_type};
use super::item::ItemKey;
use super::job::{Job, JobId, JobKind, close, job_key};
use super::lease::{held, open};
use super::ncmec::{JobMedia, media_of};
use super::outbox::{self, Filing};
use super::retention;
use super::settings::{MediaRequired, settings, webhook};
use crate::cyber_tipline::limits;
use crate::error::DeskError;
use crate::read::{At, FieldError};
use crate::tx::Tx;

const TEXT_CHARS_MAX: usize = 100_000;
const FILES_MAX: usize = 100;

/// A decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The job it ends.
    pub job: JobId,
    /// What is done.
    pub kind: DecisionKind,
    /// By whom.
    pub by: Decider,
    /// When, in milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// The job as it was then: what joined later joins another.
    pub revision: u64,
    /// The request that brought it, so that a repeated one gives the same answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Why, in the reviewer's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The webhooks that are told, where the platform acts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<String>,
    /// What a report says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<ReportWords>,
}

/// What is done with a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionKind {
    /// A report to NCMEC.
    Report,
    /// Nothing.
    Ignore,
    /// The platform acts on the item; its webhooks are told.
    Act,
    /// The user becomes an NCMEC job.
    EnqueueNcmec,
}

const KINDS: [(&str, DecisionKind); 3] =
    [("report", DecisionKind::Report), ("ignore", DecisionKind::Ignore), ("act", DecisionKind::Act)];

/// Who decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decider {
    /// A person.
    Reviewer {
        /// Who.
        name: String,
    },
    /// A rule, because a trusted bank matched: nobody looked.
    Automatic {
        /// Which rule.
        rule: String,
        /// In which version.
        rule_version: u64,
        /// Which bank.
        bank: String,
    },
}

/// What a report to NCMEC says, as far as a reviewer decides it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportWords {
    /// What happened.
    pub incident_type: IncidentType,
    /// Why it cannot wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalate: Option<String>,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_info: Option<String>,
    /// What was decided of each medium.
    pub media: Vec<MediaDecision>,
    /// Further files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supplemental_files: Vec<SupplementalFile>,
    /// Conversations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub threads: Vec<ItemKey>,
    /// Contents without media.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contents: Vec<ItemKey>,
}

/// What was decided of a medium.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaDecision {
    /// Its number in the job.
    pub media: u64,
    /// What it shows.
    pub classification: Classification,
    /// Labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<Annotation>,
    /// Whether the reviewer opened all of it.
    #[serde(default)]
    pub viewed: bool,
    /// Why it could not be looked at, and is left out all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unviewable: Option<String>,
}

/// A further file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupplementalFile {
    /// Where it is fetched.
    pub url: String,
    /// What it is called.
    pub file_name: String,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_info: Option<String>,
}

/// What a reviewer sends.
#[derive(Clone, Debug)]
pub struct Wanted {
    kind: DecisionKind,
    token: String,
    revision: u64,
    request: Option<String>,
    reason: Option<String>,
    webhooks: Vec<String>,
    report: Option<ReportWords>,
}

impl Wanted {
    /// Reads what a reviewer sends.
    pub fn read(at: &At<'_>) -> Result<Self, FieldError> {
        at.only(&[
            "decision",
            "lease",
            "revision",
            "request",
            "reason",
            "incident_type",
            "escalate",
            "additional_info",
            "media",
            "supplemental_files",
            "threads",
            "contents",
            "webhooks",
        ])?;
        let kind = at.need("decision")?.one_of(&KINDS)?;
        let text =
            |name: &str, max| at.field(name)?.map(|text| text.words(max).map(str::to_string)).transpose();
        let report = match kind {
            DecisionKind::Report => Some(ReportWords {
                incident_type: incident_type(&at.need("incident_type")?)?,
                // Ticked and left blank is refused: the words are what escalates (specs/cybertipline.md 7.34).
                escalate: at
                    .field("escalate")?
                    .map(|why| limits::within(&why, limits::ESCALATE).map(str::to_string))
                    .transpose()?,
                additional_info: text("additional_info", TEXT_CHARS_MAX)?,
                media: list(at, "media", read_media)?,
                supplemental_files: list(at, "supplemental_files", read_file)?,
                threads: list(at, "threads", read_key)?,
                contents: list(at, "contents", read_key)?,
            }),
            _ => {
                at.only(&["decision", "lease", "revision", "request", "reason", "webhooks"])?;
                None
            }
        };
        let webhooks = list(at, "webhooks", |name| Ok(name.words(128)?.to_string()))?;
        if (kind == DecisionKind::Act) == webhooks.is_empty() {
            return Err(at
                .under("webhooks", &Value::Null)
                .wrong("names who is told, where the platform acts and only there"));
        }
        Ok(Self {
            kind,
            token: at.need("lease")?.text()?.to_string(),
            revision: at.need("revision")?.whole(0, u64::MAX)?,
            request: at.field("request")?.map(|id| id.id().map(str::to_string)).transpose()?,
            reason: text("reason", TEXT_CHARS_MAX)?,
            webhooks,
            report,
        })
    }
}

fn list<T>(
    at: &At<'_>,
    name: &str,
    read: fn(&At<'_>) -> Result<T, FieldError>,
) -> Result<Vec<T>, FieldError> {
    let Some(list) = at.field(name)? else { return Ok(Vec::new()) };
    list.list()?.iter().map(read).collect()
}

fn read_media(at: &At<'_>) -> Result<MediaDecision, FieldError> {
    at.only(&["media", "classification", "annotations", "viewed", "unviewable"])?;
    let unviewable = at.field("unviewable")?.map(|why| why.words(1000).map(str::to_string)).transpose()?;
    let mut annotations: Vec<Annotation> = list(at, "annotations", |at| at.one_of(&ANNOTATIONS))?;
    annotations.sort_unstable();
    annotations.dedup();
    let classification = match at.field("classification")? {
        Some(class) => class.one_of(&CLASSES)?,
        None if unviewable.is_some() => Classification::None,
        None => return Err(at.need("classification").err().unwrap_or_else(|| at.wrong("is missing"))),
    };
    let viewed = at.field("viewed")?.map_or(Ok(false), |viewed| viewed.flag())?;
    if unviewable.is_some() && (viewed || classification != Classification::None) {
        return Err(at.wrong("cannot be looked at, so it was not viewed and is not classified"));
    }
    if classification == Classification::None && !annotations.is_empty() {
        return Err(at
            .need("annotations")?
            .wrong("label a file that is not reported: classify it, or take them out"));
    }
    Ok(MediaDecision {
        media: at.need("media")?.whole(1, u64::MAX)?,
        classification,
        annotations,
        viewed,
        unviewable,
    })
}

fn read_file(at: &At<'_>) -> Result<SupplementalFile, FieldError> {
    at.only(&["url", "file_name", "additional_info"])?;
    let url = at.need("url")?;
    let text = url.words(4000)?;
    if !["http://", "https://"].iter().any(|scheme| text.starts_with(scheme)) {
        return Err(url.wrong("is not a URL that can be fetched"));
    }
    Ok(SupplementalFile {
        url: text.to_string(),
        file_name: limits::within(&at.need("file_name")?, limits::ORIGINAL_FILE_NAME)?.to_string(),
        additional_info: at
            .field("additional_info")?
            .map(|text| text.words(TEXT_CHARS_MAX).map(str::to_string))
            .transpose()?,
    })
}

/// Reads a reference to an item.
pub fn read_key(at: &At<'_>) -> Result<ItemKey, FieldError> {
    let (type_id, id) = super::kind::related(at)?;
    Ok(ItemKey { id, type_id })
}

/// The decision on a job.
pub fn decision(tx: &Tx<'_>, job: JobId) -> Result<Option<Decision>, StoreError> {
    tx.read(Keyspace::Decisions, &job_key(b'd', job))
}

/// Decides a job. The same request again gives the same decision again; another one under its id is refused. A `person`
/// has opened here what they say they viewed; a machine speaks for people who looked elsewhere.
pub fn decide(
    tx: &mut Tx<'_>,
    id: JobId,
    wanted: Wanted,
    person: Option<&str>,
    now_ms: u64,
) -> Result<Decision, DeskError> {
    if let Some(before) = decision(tx, id)? {
        let is_same_id = before.request.is_some() && before.request == wanted.request;
        let says_the_same = (before.kind, before.revision, &before.reason, &before.webhooks, &before.report)
            == (wanted.kind, wanted.revision, &wanted.reason, &wanted.webhooks, &wanted.report);
        return match is_same_id && says_the_same {
            true => Ok(before),
            false => Err(DeskError::Closed {
                job: id,
                decision: format!("{:?}", before.kind).to_lowercase(),
                became: None,
            }),
        };
    }
    open(tx, id)?;
    let mut job = held(tx, id, &wanted.token, now_ms)?;
    if job.revision != wanted.revision {
        return Err(DeskError::Changed { job: id, revision: job.revision });
    }
    match (job.kind, wanted.kind) {
        (JobKind::Review, DecisionKind::Report) => {
            return Err(DeskError::field(
                "/decision",
                "only an NCMEC job is reported: enqueue its user to NCMEC first",
            ));
        }
        (JobKind::Ncmec, DecisionKind::Act) => {
            return Err(DeskError::field("/decision", "an NCMEC job is reported or ignored"));
        }
        _ => {}
    }
    if let Some(words) = &wanted.report {
        check(tx, &job, words)?;
        check_viewed(tx, &job, words, person)?;
    }
    for (at, name) in wanted.webhooks.iter().enumerate() {
        if webhook(tx, name)?.is_none() {
            return Err(DeskError::field(format!("/webhooks/{at}"), format!("there is no webhook '{name}'")));
        }
    }
    let name = job.lease.as_ref().map(|lease| lease.reviewer.clone()).unwrap_or_default();
    let decided = Decision {
        job: id,
        kind: wanted.kind,
        by: Decider::Reviewer { name },
        at_ms: now_ms,
        revision: job.revision,
        request: wanted.request,
        reason: wanted.reason,
        webhooks: wanted.webhooks,
        report: wanted.report,
    };
    record(tx, &mut job, &decided, now_ms)?;
    Ok(decided)
}

/// Writes a decision, ends its job, and puts into the outbox what must be done.
pub fn record(tx: &mut Tx<'_>, job: &mut Job, decided: &Decision, now_ms: u64) -> Result<(), DeskError> {
    tx.save(Keyspace::Decisions, job_key(b'd', job.id), decided);
    if decided.kind == DecisionKind::Report {
        outbox::put_filing(tx, &Filing { job: job.id, user: job.subject.clone(), decided_ms: now_ms });
    }
    for name in &decided.webhooks {
        let told = json!({
            "item": { "id": job.subject.id, "typeId": job.subject.type_id },
            "action": { "id": name },
            "policies": [], "rules": [], "custom": {},
            "decisionReason": decided.reason,
            "job": job.id,
        });
        outbox::put_delivery(tx, name, told, now_ms)?;
    }
    let word = serde_json::to_value(decided.kind).ok().and_then(|kind| kind.as_str().map(str::to_string));
    close(tx, job, &word.unwrap_or_default(), None, now_ms)?;
    retention::closed(tx, job.id, decided.kind, now_ms)?;
    Ok(())
}

/// What a report must have (specs/coop.md 2.3): enough media decided, and something to report.
fn check(tx: &Tx<'_>, job: &Job, words: &ReportWords) -> Result<(), DeskError> {
    let settings = settings(tx)?;
    let media: BTreeMap<u64, JobMedia> =
        media_of(tx, job.id, 0, usize::MAX)?.into_iter().map(|media| (media.number, media)).collect();
    let mut decided = BTreeMap::new();
    for (at, medium) in words.media.iter().enumerate() {
        let place = |name: &str| format!("/media/{at}/{name}");
        if !media.contains_key(&medium.media) {
            return Err(DeskError::field(place("media"), format!("the job has no medium {}", medium.media)));
        }
        if decided.insert(medium.media, medium).is_some() {
            return Err(DeskError::field(
                place("media"),
                format!("medium {} is decided twice", medium.media),
            ));
        }
        let industry = !matches!(medium.classification, Classification::Unclassified | Classification::None);
        if industry && !settings.industry_classification {
            let problem =
                "is off: industry classifications are for members of the hash sharing; use Unclassified";
            return Err(DeskError::field(place("classification"), problem));
        }
        // Who classifies has looked (specs/reliability.md D3): what was not opened is reported without a class.
        if industry && !medium.viewed {
            let problem = "classifies what was not viewed: open it, or report it as Unclassified";
            return Err(DeskError::field(place("classification"), problem));
        }
    }
    if words.supplemental_files.len() > FILES_MAX {
        return Err(DeskError::field("/supplemental_files", format!("{FILES_MAX} files at most")));
    }
    for (name, listed, given) in
        [("threads", &job.threads, &words.threads), ("contents", &job.contents, &words.contents)]
    {
        if let Some(at) = given.iter().position(|key| !listed.contains(key)) {
            return Err(DeskError::field(format!("/{name}/{at}"), "does not belong to the job"));
        }
    }
    let total = media.len() as u64;
    let required = match settings.media_required {
        MediaRequired::All => total,
        MediaRequired::Minimum(least) => least.min(total),
    };
    if (decided.len() as u64) < required {
        let open: Vec<String> = media
            .keys()
            .filter(|number| !decided.contains_key(number))
            .take(20)
            .map(u64::to_string)
            .collect();
        let problem = format!(
            "{} of {total} media are decided, {required} must be: not yet {}; say unviewable and why of what cannot be opened",
            decided.len(),
            open.join(", ")
        );
        return Err(DeskError::field("/media", problem));
    }
    let reports = words.media.iter().any(|medium| medium.classification != Classification::None);
    if !reports && words.threads.is_empty() && words.contents.is_empty() {
        return Err(DeskError::field(
            "/media",
            "nothing is reported: classify a medium, or name contents or threads",
        ));
    }
    Ok(())
}

/// That a person opened what they say they viewed.
fn check_viewed(tx: &Tx<'_>, job: &Job, words: &ReportWords, person: Option<&str>) -> Result<(), DeskError> {
    let Some(person) = person else { return Ok(()) };
    for (at, medium) in words.media.iter().enumerate() {
        if medium.viewed && !evidence::has_viewed(tx, (job.id, medium.media), person)? {
            let problem = format!(
                "you have not opened medium {} of this job here: open it first, or do not say that you viewed it",
                medium.media
            );
            return Err(DeskError::field(format!("/media/{at}/viewed"), problem));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(more: Value) -> Result<ReportWords, String> {
        let mut sent = json!({ "decision": "report", "lease": "l", "revision": 1,
            "incident_type": "Child Sex Trafficking" });
        sent.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let wanted = Wanted::read(&At::new(&sent, "")).map_err(|error| error.to_string())?;
        Ok(wanted.report.unwrap())
    }

    #[test]
    fn check_33_what_ncmec_would_refuse_as_too_long_is_told_at_review() {
        let file = |name: &str| {
            read(json!({ "supplemental_files": [{ "url": "https://a.example/1", "file_name": name }] }))
        };
        assert!(read(json!({ "escalate": "x".repeat(3000) })).is_ok());
        let too_long = "/escalate: has 3001 characters, 3000 at most";
        assert_eq!(read(json!({ "escalate": "x".repeat(3001) })).unwrap_err(), too_long);
        // As it is sent: what XML does not have becomes longer.
        assert_eq!(read(json!({ "escalate": "x".repeat(2993) + "\u{ffff}" })).unwrap_err(), too_long);
        assert!(file(&"x".repeat(2056)).is_ok());
        let too_long = "/supplemental_files/0/file_name: has 2057 characters, 2056 at most";
        assert_eq!(file(&"x".repeat(2057)).unwrap_err(), too_long);
        // What NCMEC has no limit for is not held to one of theirs.
        assert!(read(json!({ "additional_info": "x".repeat(50_000) })).is_ok());
    }

    #[test]
    fn check_34_a_blank_reason_to_escalate_is_refused_and_another_is_kept_as_it_is() {
        assert_eq!(read(json!({})).unwrap().escalate, None);
        assert_eq!(read(json!({ "escalate": null })).unwrap().escalate, None);
        for blank in ["", " ", "\n\t\u{a0}"] {
            assert_eq!(read(json!({ "escalate": blank })).unwrap_err(), "/escalate: is empty");
        }
        let why = " Seen <today> & \"tomorrow\"\n— 子供 😀 ";
        assert_eq!(read(json!({ "escalate": why })).unwrap().escalate.as_deref(), Some(why));
    }
}
