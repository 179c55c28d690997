//! A platform with users, posts, messages and threads, and a job of them that is decided as a report.

use index::store::{Durability, MemoryStore, Store};
use reporter::cyber_tipline::model::{FileDetails, Report};
use reporter::desk::decision::{self, Decider, Decision, DecisionKind, MediaDecision, ReportWords};
use reporter::desk::evidence::{self, Kept, MediumKey};
use reporter::desk::incident::{Classification, IncidentType};
use reporter::desk::item::{Item, ItemKey, Media, put_item, put_report};
use reporter::desk::job::{JobId, Reason, job, put_job};
use reporter::desk::kind::ItemType;
use reporter::desk::ncmec::{Escalation, JobMedia, add_media, escalate, media_of};
use reporter::desk::queue::Verdict;
use reporter::desk::settings::{Settings, put_item_type, put_settings};
use reporter::tip::build::{BuildError, asked, draft, extras};
use reporter::tip::filing::{Draft, FileKind, Informed, Tip};
use reporter::tip::info;
use reporter::tip::organisation::Organisation;
use reporter::{At, Tx};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// 2025-06-01T12:00:00Z.
pub const NOW: u64 = 1_748_779_200_000;
pub const HOUR: u64 = 3_600_000;

pub struct World {
    pub store: MemoryStore,
    pub organisation: Organisation,
    pub job: JobId,
    pub words: ReportWords,
    pub by: Decider,
    pub prior: Vec<i64>,
    /// What the platform answers, if it is asked.
    pub answer: Option<Value>,
    /// The bytes of further files, by their URLs; where there are none they are missing.
    pub fetched: Vec<(String, Kept)>,
    pub now_ms: u64,
}

fn types() -> Vec<ItemType> {
    let read = |id: &str, value: Value| ItemType::read(id, &At::new(&value, "")).unwrap();
    let field = |name: &str, of: &str| json!({ "name": name, "type": of });
    let common = [field("author", "RELATED_ITEM"), field("made", "DATETIME"), field("ip", "IP_ADDRESS")];
    let content = |more: &[Value]| Value::Array([&common[..], more].concat());
    let list = |name: &str, of: &str| json!({ "name": name, "type": of, "container": "ARRAY" });
    let roles = json!({ "creatorId": "author", "createdAt": "made", "ipAddress": "ip" });
    let mut message = roles.clone();
    message["threadId"] = json!("thread");
    vec![
        read(
            "user",
            json!({ "kind": "USER",
                "fields": [field("name", "STRING"), field("mail", "EMAIL_ADDRESS"), field("ip", "IP_ADDRESS"), field("icon", "IMAGE")],
                "roles": { "displayName": "name", "email": "mail", "ipAddress": "ip", "profileIcon": "icon" } }),
        ),
        read(
            "post",
            json!({ "kind": "CONTENT", "roles": roles,
                "fields": content(&[field("text", "STRING"), field("page", "URL"), list("pictures", "IMAGE")]) }),
        ),
        read(
            "message",
            json!({ "kind": "CONTENT", "roles": message,
                "fields": content(&[field("text", "STRING"), field("thread", "RELATED_ITEM"), list("pictures", "IMAGE")]) }),
        ),
        read(
            "thread",
            json!({ "kind": "THREAD", "fields": [field("title", "STRING"), list("members", "RELATED_ITEM")] }),
        ),
    ]
}

impl World {
    pub fn new() -> Self {
        let organisation = json!({
            "company_name": "Example, Inc.", "contact_email": "reports@example.org", "legal_url": "https://example.org/terms",
            "terms_of_service": "No abuse.", "company_template": "Serve us by mail.", "esp_service": "Chat",
            "more_info_url": "https://example.org/ncmec",
            "contact_person": { "first_name": "Ada", "last_name": "Law", "email": "law@example.org", "phone": "+1 555 0100" }
        });
        let organisation = Organisation::read(Default::default(), &At::new(&organisation, "")).unwrap();
        let world = Self {
            store: MemoryStore::default(),
            organisation,
            job: JobId(0),
            words: ReportWords {
                incident_type: IncidentType::ChildPornography,
                escalate: None,
                additional_info: None,
                media: Vec::new(),
                supplemental_files: Vec::new(),
                threads: Vec::new(),
                contents: Vec::new(),
            },
            by: Decider::Reviewer { name: "anna".to_string() },
            prior: Vec::new(),
            answer: None,
            fetched: Vec::new(),
            now_ms: NOW,
        };
        world.write(|tx| {
            types().into_iter().for_each(|of| drop(put_item_type(tx, of).unwrap()));
            put_settings(tx, &Settings::default());
        });
        world
    }

    pub fn write<T>(&self, change: impl FnOnce(&mut Tx<'_>) -> T) -> T {
        let mut tx = Tx::new(&self.store);
        let made = change(&mut tx);
        self.store.commit(tx.into_batch(), Durability::Sync).unwrap();
        made
    }

    /// An item as the platform sent it.
    pub fn item(&self, of: &str, id: &str, data: Value) -> Item {
        let types = types();
        let kind = types.iter().find(|kind| kind.id == of).unwrap();
        let item = Item::new(ItemKey::new(of, id), kind, data.as_object().unwrap().clone(), NOW - HOUR);
        self.write(|tx| put_item(tx, item.clone()).unwrap());
        item
    }

    /// A post of user `u` with these pictures.
    pub fn post(&self, id: &str, pictures: &[&str], more: Value) -> Item {
        let mut data: Map<String, Value> = json!({
            "author": { "id": "u", "typeId": "user" }, "made": "2025-06-01T10:00:00Z", "pictures": pictures
        })
        .as_object()
        .unwrap()
        .clone();
        data.extend(more.as_object().unwrap().clone());
        data.retain(|_, value| !value.is_null());
        self.item("post", id, Value::Object(data))
    }

    /// Makes these items the job of user `u`, with all their media preserved and reported.
    pub fn report(&mut self, items: &[&Item]) {
        self.report_but(items, &[]);
    }

    /// The same, with these URLs not preserved yet.
    pub fn report_but(&mut self, items: &[&Item], waiting: &[&str]) {
        self.job = self.write(|tx| {
            let first = items[0];
            let words = "a rule".to_string();
            let reason = Reason {
                at_ms: NOW - HOUR,
                item: first.key.clone(),
                words,
                rule: None,
                rule_version: None,
                verdict: Verdict::Review,
            };
            let user = Some(ItemKey::new("user", "u"));
            let now_ms = NOW - HOUR;
            let what = Escalation { item: first, user, queue: None, reason, priority: 5, now_ms };
            let mut job = escalate(tx, &Settings::default(), what).unwrap();
            for item in items {
                add_media(tx, &mut job, item, &item.media, Some("a rule"), NOW - HOUR).unwrap();
                job.add_content(&item.key);
                item.thread.iter().for_each(|thread| job.add_thread(thread));
            }
            put_job(tx, &job);
            for item in items {
                let there = |media: &&Media| !waiting.iter().any(|url| media.url.as_deref() == Some(url));
                item.media.iter().filter(there).for_each(|media| keep(tx, &item.key, media));
            }
            job.id
        });
        self.words.media = self.media().iter().map(|medium| decided(medium.number)).collect();
    }

    pub fn media(&self) -> Vec<JobMedia> {
        media_of(&Tx::new(&self.store), self.job, 0, usize::MAX).unwrap()
    }

    /// A report by a user of the platform, about the first of these items.
    pub fn told(&self, items: &[&Item]) {
        self.write(|tx| {
            let report = reporter::desk::item::Report {
                id: "r1".to_string(),
                reporter: ItemKey::new("user", "v"),
                reported_ms: NOW,
                received_ms: NOW,
                item: items[0].key.clone(),
                policy_id: None,
                reason: None,
                csam: true,
                thread: items[1..].iter().map(|item| item.key.clone()).collect(),
            };
            put_report(tx, &report);
            let mut job = job(tx, self.job).unwrap().unwrap();
            job.add_report(&report.id);
            put_job(tx, &job);
        });
    }

    pub fn tip(&self) -> Tip {
        serde_json::from_value(json!({
            "job": self.job, "organisation": "default", "environment": "test",
            "user": { "id": "u", "typeId": "user" }, "reviewer": "anna", "decided_ms": NOW - 60_000, "stage": "decided",
            "epoch": 1, "taken": true, "due_ms": NOW, "spent": 0, "failures": 0
        }))
        .unwrap()
    }

    /// Writes the decision as it is now.
    pub fn decide(&self) {
        self.write(|tx| {
            let mut job = job(tx, self.job).unwrap().unwrap();
            let decided = Decision {
                job: self.job,
                kind: DecisionKind::Report,
                by: self.by.clone(),
                at_ms: NOW - 60_000,
                revision: job.revision,
                request: None,
                reason: None,
                webhooks: Vec::new(),
                report: Some(self.words.clone()),
            };
            if job.is_open() {
                decision::record(tx, &mut job, &decided, NOW - 60_000).unwrap();
            }
        });
    }

    pub fn try_draft(&self) -> Result<Draft, BuildError> {
        self.decide();
        let tx = Tx::new(&self.store);
        let tip = self.tip();
        let (users, media) = asked(&tx, &tip).unwrap();
        let info = self
            .answer
            .as_ref()
            .map(|answer| info::read(answer.to_string().as_bytes(), &users, &media).unwrap());
        let mut extra = extras(&tx, &tip, info.as_ref()).unwrap();
        for extra in &mut extra {
            extra.kept = self.fetched.iter().find(|(url, _)| *url == extra.url).map(|(_, kept)| kept.clone());
            extra.missing = extra.kept.is_none().then(|| "404".to_string());
        }
        let informed = Informed { info, at_ms: NOW, extra };
        let draft = draft(&tx, &tip, &informed, &self.organisation, &self.prior, self.now_ms)?;
        check(&draft);
        Ok(draft)
    }

    pub fn draft(&self) -> Draft {
        self.try_draft().unwrap()
    }

    /// The report, read back from its bytes.
    pub fn read(&self) -> Report {
        read(&self.draft())
    }

    /// What the platform answers of the user and of media.
    pub fn answered(&mut self, users: Value, media: Value) {
        self.answer = Some(json!({ "users": [users], "media": media }));
    }
}

pub fn read(draft: &Draft) -> Report {
    quick_xml::de::from_str(&draft.xml).unwrap()
}

/// What must hold of every draft: it is what NCMEC takes, and goes through the store as it is.
pub fn check(draft: &Draft) {
    valid(draft.xml.as_bytes());
    for file in &draft.files {
        let details = FileDetails { report_id: 7, file_id: "f".repeat(32), ..file.details.clone() };
        valid(reporter::cyber_tipline::xml::file_details_xml(&details).as_bytes());
        assert!(file.details.file_relevance.is_some(), "check 37");
        assert_eq!(file.details.exif_viewed_by_esp, Some(false), "check 36");
        let is_media = matches!(file.kind, FileKind::Media { .. });
        assert!(is_media || file.details.file_viewed_by_esp == Some(false), "check 36");
        assert!(
            is_media || (file.details.industry_classification.is_none() && file.details.labels.is_none()),
            "check 37"
        );
    }
    let mut names: Vec<String> = draft.files.iter().map(|file| file.name.to_lowercase()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), draft.files.len(), "each upload has a name of its own");
    let stored: Draft = serde_json::from_str(&serde_json::to_string(draft).unwrap()).unwrap();
    assert_eq!(stored, *draft);
}

fn valid(xml: &[u8]) {
    if let Err(problems) = reporter::cyber_tipline::schema::validate_at(xml, NOW) {
        panic!("{problems:?}\n{}", String::from_utf8_lossy(xml));
    }
}

pub fn keep(tx: &mut Tx<'_>, item: &ItemKey, media: &Media) {
    let url = media.url.clone().unwrap_or_default();
    let kept = kept(&format!("blob of {url}"));
    evidence::keep(tx, MediumKey::of(item, media), &kept).unwrap();
}

pub fn kept(blob: &str) -> Kept {
    let digits: String = Sha256::digest(blob).iter().map(|byte| format!("{byte:02x}")).collect();
    Kept {
        blob: blob.to_string(),
        bytes: 3,
        md5: digits[..32].to_string(),
        sha256: digits,
        content_type: "image/png".to_string(),
        at_ms: NOW,
    }
}

pub fn decided(media: u64) -> MediaDecision {
    MediaDecision {
        media,
        classification: Classification::A1,
        annotations: Vec::new(),
        viewed: true,
        unviewable: None,
    }
}
