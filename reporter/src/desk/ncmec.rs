//! NCMEC jobs are about a user: one open job each, with all media known of them, those that matched or were reported
//! marked with why.
//!
//! What joins is never taken away: a medium that a newer version of its item lacks stays. Whoever cannot be found behind
//! an item does not make it disappear: it goes to triage, and says so.

use std::ops::ControlFlow;

use index::SignalType;
use index::store::keys::{decode_u64, encode_u64};
use index::store::{Batch, Durability, Keyspace, Range, Store, StoreError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::evidence::{self, MediumKey};
use super::item::{
    Found, Item, ItemKey, Media, MediaKind, Screening, UPLOAD_FIELD, item, item_alone, items_of,
};
use super::job::{Enqueue, Job, JobId, JobKind, Reason, enqueue, job_key, numbered, open_job, put_job};
use super::queue::QueueName;
use super::retention;
use super::settings::Settings;
use crate::tx::{Tx, read_row};

/// Media that a job lists; a user with more is said to have more.
pub const MEDIA_MAX: u64 = 2000;
/// Matches and reasons that a medium lists: one file uploaded again and again must not grow a row without end.
const MATCHES_MAX: usize = 500;
const REASONS_MAX: usize = 20;
/// Items of a user that are looked through for media.
const ITEMS_MAX: usize = 2000;
/// Before a job's number and what a medium is known by: its digest, and until format 3 its words.
const KNOWN: u8 = b'K';
const KNOWN_IN_WORDS: u8 = b'k';
/// Changes of a commit that moves such rows.
const RENEWED_AT_ONCE: usize = 4096;

/// A medium of a job: of an NCMEC job each, of a review job those that have a URL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobMedia {
    /// Its number in the job: 1, 2, 3 …
    pub number: u64,
    /// The item it belongs to.
    pub item: ItemKey,
    /// Where in the item.
    pub field: String,
    /// What it is.
    pub kind: MediaKind,
    /// Where it can be fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its signals in text form.
    #[serde(default)]
    pub signals: std::collections::BTreeMap<SignalType, String>,
    /// When the platform says it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_ms: Option<u64>,
    /// Whether it, or its item, is why there is a job.
    pub reported: bool,
    /// Why, in words.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// What it matched.
    #[serde(default)]
    pub matches: Vec<Found>,
    /// Why it could not be compared with the banks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unscreened: Option<String>,
}

impl JobMedia {
    /// The medium without its job.
    pub fn into_media(self) -> Media {
        let Self { field, kind, url, signals, matches, unscreened, .. } = self;
        let screening = match unscreened {
            Some(why) => Screening::Unknown { why },
            None => Screening::Done { matches },
        };
        Media { field, kind, url, signals, screening, kept: None }
    }
}

/// What makes or joins an NCMEC job.
pub struct Escalation<'a> {
    /// The item behind it.
    pub item: &'a Item,
    /// The user, where a person named one.
    pub user: Option<ItemKey>,
    /// Where a new job waits.
    pub queue: Option<&'a QueueName>,
    /// Why.
    pub reason: Reason,
    /// Where a new job stands in its queue.
    pub priority: u8,
    /// Now.
    pub now_ms: u64,
}

/// Makes the job of the user behind an item, or adds to the open one. Where no user is known the item waits in triage.
/// The caller adds what else belongs to the job, and writes it.
pub fn escalate(tx: &mut Tx<'_>, settings: &Settings, what: Escalation<'_>) -> Result<Job, StoreError> {
    let Escalation { item: of, user, queue, reason, priority, now_ms } = what;
    let Some(user) = user.or_else(|| of.user().cloned()) else {
        let queue = &settings.triage_queue;
        let mut job = enqueue(
            tx,
            Enqueue { kind: JobKind::Review, subject: &of.key, queue, priority, reason, now_ms },
        )?;
        job.ncmec_wanted = true;
        job.trouble = Some(
            "it belongs to NCMEC, but no user is known behind it: its type has no creatorId, or the field is empty; \
             name the user to make the job"
                .to_string(),
        );
        job.add_content(&of.key);
        return Ok(job);
    };
    let queue = queue.unwrap_or(&settings.ncmec_queue);
    let words = reason.words.clone();
    let is_new = open_job(tx, JobKind::Ncmec, queue, &user)?.is_none();
    let mut job =
        enqueue(tx, Enqueue { kind: JobKind::Ncmec, subject: &user, queue, priority, reason, now_ms })?;
    // What was uploaded under its id before is looked at once: when the item comes to the job.
    if !job.contents.contains(&of.key)
        && !job.listed_truncated
        && let Some(known) = item(tx, &of.key)?
    {
        job.media_truncated |= known.uploads_not_kept > 0;
        let earlier = known.media.iter().filter(|media| media.field == UPLOAD_FIELD);
        add_media(tx, &mut job, of, earlier, Some(&words), now_ms)?;
    }
    add_media(tx, &mut job, of, &of.media, Some(&words), now_ms)?;
    job.add_content(&of.key);
    if let Some(thread) = &of.thread {
        job.add_thread(thread);
    }
    if is_new {
        let (mut known, more) = items_of(tx, &user, ITEMS_MAX)?;
        job.media_truncated |= more;
        known.extend(item(tx, &user)?);
        for other in known.iter().filter(|other| other.key != of.key) {
            job.media_truncated |= other.uploads_not_kept > 0;
            add_media(tx, &mut job, other, &other.media, None, now_ms)?;
        }
    }
    Ok(job)
}

/// Adds an item's media to its user's open job, if there is one: reviewers decide on all there is.
pub fn join(tx: &mut Tx<'_>, settings: &Settings, of: &Item, now_ms: u64) -> Result<(), StoreError> {
    let Some(user) = of.user() else { return Ok(()) };
    let Some(mut job) = open_job(tx, JobKind::Ncmec, &settings.ncmec_queue, user)? else { return Ok(()) };
    let before = (job.media, job.media_truncated);
    // What was uploaded before has joined then, unless it was not known to be this user's.
    if item_alone(tx, &of.key)?.is_some_and(|known| known.user() != Some(user))
        && let Some(known) = item(tx, &of.key)?
    {
        job.media_truncated |= known.uploads_not_kept > 0;
        add_media(tx, &mut job, of, &known.media, None, now_ms)?;
    }
    add_media(tx, &mut job, of, &of.media, None, now_ms)?;
    if (job.media, job.media_truncated) != before {
        job.revision += 1;
        put_job(tx, &job);
    }
    Ok(())
}

/// Adds media of an item, and has them preserved; with a reason they are marked as what the job is about.
pub fn add_media<'a>(
    tx: &mut Tx<'_>,
    job: &mut Job,
    of: &Item,
    media: impl IntoIterator<Item = &'a Media>,
    reason: Option<&str>,
    now_ms: u64,
) -> Result<(), StoreError> {
    retention::name(tx, job.id, &of.key);
    for media in media {
        let known = known_key(job.id, &of.key, media);
        let number = match tx.get(Keyspace::Jobs, &known)? {
            Some(row) => decode_u64(Keyspace::Jobs, &row)?,
            // What the job is about has a place always; the rest only while there is room.
            None if reason.is_none() && job.media >= MEDIA_MAX => {
                job.media_truncated = true;
                continue;
            }
            None => {
                job.media += 1;
                tx.put(Keyspace::Jobs, known, encode_u64(job.media));
                job.media
            }
        };
        let place = [&job_key(b'm', job.id)[..], &number.to_be_bytes()].concat();
        let mut listed = tx.read::<JobMedia>(Keyspace::Jobs, &place)?.unwrap_or_else(|| JobMedia {
            number,
            item: of.key.clone(),
            field: media.field.clone(),
            kind: media.kind,
            url: media.url.clone(),
            signals: media.signals.clone(),
            created_ms: of.created_ms,
            reported: false,
            reasons: Vec::new(),
            matches: Vec::new(),
            unscreened: None,
        });
        listed.signals.extend(media.signals.clone());
        for found in media.matches() {
            if listed.matches.len() < MATCHES_MAX && !listed.matches.contains(found) {
                listed.matches.push(found.clone());
            }
        }
        listed.unscreened = match &media.screening {
            Screening::Unknown { why } => Some(why.clone()),
            Screening::Waiting => Some("not yet compared with the banks".to_string()),
            Screening::Done { .. } => None,
        };
        if let Some(reason) = reason {
            listed.reported = true;
            if listed.reasons.len() < REASONS_MAX && !listed.reasons.iter().any(|known| known == reason) {
                listed.reasons.push(reason.to_string());
            }
        }
        tx.save(Keyspace::Jobs, place, &listed);
        evidence::want(tx, (job.id, number), (&of.key, media), now_ms)?;
    }
    Ok(())
}

/// A job's media after one of them, at most so many.
pub fn media_of(tx: &Tx<'_>, job: JobId, after: u64, max: usize) -> Result<Vec<JobMedia>, StoreError> {
    let rows = numbered(tx, &job_key(b'm', job), after, max)?;
    rows.iter().map(|(_, row)| read_row(Keyspace::Jobs, row)).collect()
}

/// Where a job lists the number of a medium by what that is known by.
fn known_key(job: JobId, of: &ItemKey, media: &Media) -> Vec<u8> {
    [&job_key(KNOWN, job)[..], MediumKey::of(of, media).bytes()].concat()
}

/// Until format 3 a medium was known by the words themselves, under another letter. Moves what is of that kind.
pub fn renew_media_keys(store: &dyn Store, durability: Durability) -> Result<(), StoreError> {
    loop {
        let mut batch = Batch::default();
        store.scan(
            Keyspace::Jobs,
            Range::between(&[KNOWN_IN_WORDS], &[KNOWN_IN_WORDS + 1]),
            &mut |key, row| {
                let (job, words) = key.split_at_checked(9).unwrap_or((key, &[]));
                let moved = [&[KNOWN], job.get(1..).unwrap_or_default(), &Sha256::digest(words)[..]].concat();
                batch.put(Keyspace::Jobs, moved, row);
                batch.delete(Keyspace::Jobs, key);
                if batch.changes.len() < RENEWED_AT_ONCE {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            },
        )?;
        if batch.is_empty() {
            return Ok(());
        }
        store.commit(batch, durability)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use index::store::MemoryStore;
    use std::collections::BTreeMap;

    #[test]
    fn a_medium_known_in_words_is_known_by_their_digest_and_no_url_is_left() {
        let store = MemoryStore::default();
        let mut item = Item::bare(ItemKey::new("post", "1"), 9);
        for url in ["https://media.example/a", "https://media.example/b"] {
            item.media.push(Media {
                field: "cover".to_string(),
                kind: MediaKind::Image,
                url: Some(url.to_string()),
                signals: BTreeMap::new(),
                screening: Screening::Waiting,
                kept: None,
            });
        }
        // As format 2 had them.
        let mut batch = Batch::default();
        for (number, media) in (1u64..).zip(&item.media) {
            let words = format!("post\0{}\0cover\0{}", 1, media.url.as_deref().unwrap());
            let key = [&job_key(KNOWN_IN_WORDS, JobId(7))[..], words.as_bytes()].concat();
            batch.put(Keyspace::Jobs, key, encode_u64(number));
        }
        store.commit(batch, Durability::Sync).unwrap();
        renew_media_keys(&store, Durability::Sync).unwrap();
        renew_media_keys(&store, Durability::Sync).unwrap();
        for (number, media) in (1u64..).zip(&item.media) {
            let row = store.get(Keyspace::Jobs, &known_key(JobId(7), &item.key, media)).unwrap();
            assert_eq!(row, Some(encode_u64(number).to_vec()));
        }
        let mut keys = 0;
        store
            .scan(Keyspace::Jobs, Range::ALL, &mut |key, _| {
                keys += 1;
                assert!(!key.windows(5).any(|window| window == b"media"), "{key:?}");
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(keys, 2);
    }
}
