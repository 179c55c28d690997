//! Preserved media: what is kept of each, which jobs it belongs to, and what must still be preserved, so that a URL that
//! dies loses nothing.
//!
//! A medium is wanted from the commit on in which a job gets it. It is fetched again and again, later and later, and given
//! up after a week, in sight of who reviews it. Whoever stores its bytes (a *blob*, kept elsewhere) has it named here; a
//! blob that nothing names is nobody's. What is kept is kept once, for however many jobs.
//!
//! Rows of keyspace `evidence` (numbers big-endian, media by their digests of 32 bytes):
//!
//! | key | value |
//! |---|---|
//! | `e` ‖ medium | JSON row, version 1: [`Piece`] |
//! | `w` ‖ due ms u64 ‖ medium | nothing: media that wait to be preserved |
//! | `j` ‖ job u64 ‖ number u64 | the medium that has this number in the job |
//! | `o` ‖ medium ‖ job u64 ‖ number u64 | nothing: the jobs it belongs to |
//! | `b` ‖ blob | `m` ‖ medium; `a` ‖ arrival u64, as long as that waits; or `t` ‖ job u64, for a further file of its report |
//! | `t` ‖ job u64 ‖ blob | nothing: further files of the job's report |
//! | `v` ‖ job u64 ‖ number u64 ‖ person | u64: when that person opened it first |

use std::fmt::Write as _;

use index::store::keys::{decode_u64, encode_u64, wrong};
use index::store::{Keyspace, StoreError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::due;
use super::intake;
use super::item::{Item, ItemKey, Media, Screening};
use super::job::{JobId, job_key};
use super::outbox::pause_ms;
use crate::tx::Tx;

const SPACE: Keyspace = Keyspace::Evidence;
/// Given up after so long: whoever has not given it out for a week will not.
const GIVEN_UP_MS: u64 = 7 * 24 * 3_600_000;
/// A medium that is being compared with the banks is on its way already: it is fetched anew only if that fails.
const HEAD_START_MS: u64 = 2000;
/// People that are listed of those who opened a medium.
const VIEWERS_MAX: usize = 100;
pub(crate) const MEDIUM: u8 = b'm';
const ARRIVAL: u8 = b'a';
pub(crate) const TIP: u8 = b't';

/// What a medium is known by: its place in its item, and its URL, or its signals where it has none. As a digest, because
/// keys are not sealed, and a URL is nobody's who finds the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediumKey([u8; 32]);

impl MediumKey {
    /// Of a medium of this item.
    pub fn of(item: &ItemKey, media: &Media) -> Self {
        let mut known = Vec::new();
        for part in [&item.type_id, &item.id, &media.field] {
            known.extend_from_slice(part.as_bytes());
            known.push(0);
        }
        let mut last = media.url.clone().unwrap_or_default();
        if media.url.is_none() {
            for (kind, signal) in &media.signals {
                let _ = write!(last, "{kind}:{signal} "); // a String takes everything
            }
        }
        known.extend_from_slice(last.as_bytes());
        Self(Sha256::digest(&known).into())
    }

    /// As it stands in keys.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn read(bytes: &[u8]) -> Result<Self, StoreError> {
        bytes.try_into().map(Self).map_err(|_| wrong(SPACE, "a medium is named by something else"))
    }
}

/// What is kept of a medium.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// What its bytes are found by.
    pub blob: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
    /// Its MD5, likewise.
    pub md5: String,
    /// What its host says it is.
    pub content_type: String,
    /// When it was fetched, in milliseconds since 1970 (UTC).
    pub at_ms: u64,
}

/// A medium that is, or should be, preserved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Where it is fetched.
    pub url: String,
    /// How far that is.
    #[serde(flatten)]
    pub state: State,
}

/// How far preserving a medium is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Not yet.
    Waiting {
        /// Since when.
        since_ms: u64,
        /// When it is tried next.
        due_ms: u64,
        /// Tries that failed.
        tries: u32,
        /// Why the last one failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trouble: Option<String>,
    },
    /// It is kept.
    Kept(Kept),
    /// It could not be, and is not tried again.
    GivenUp {
        /// When.
        at_ms: u64,
        /// Why.
        trouble: String,
    },
}

/// A medium that must be preserved now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Which.
    pub medium: MediumKey,
    /// Where it is fetched.
    pub url: String,
}

/// Notes that a job has a medium, and wants it preserved unless it is. One without a URL cannot be.
pub fn want(
    tx: &mut Tx<'_>,
    (job, number): (JobId, u64),
    (item, media): (&ItemKey, &Media),
    now_ms: u64,
) -> Result<(), StoreError> {
    let Some(url) = &media.url else { return Ok(()) };
    let medium = MediumKey::of(item, media);
    tx.put(SPACE, numbered(b'j', job, number), medium.0);
    tx.put(SPACE, owner_key(medium, job, number), []);
    match piece(tx, medium)?.map(|piece| piece.state) {
        Some(State::Kept(_) | State::Waiting { .. }) => Ok(()),
        // Who could not be reached for one job may be for another, later.
        Some(State::GivenUp { .. }) | None => {
            let head_start = if media.screening == Screening::Waiting { HEAD_START_MS } else { 0 };
            let due_ms = now_ms + head_start;
            let state = State::Waiting { since_ms: now_ms, due_ms, tries: 0, trouble: None };
            put(tx, medium, &Piece { url: url.clone(), state });
            Ok(())
        }
    }
}

/// Media that are due, at most so many.
pub fn due(tx: &Tx<'_>, now_ms: u64, max: usize) -> Result<Vec<Want>, StoreError> {
    let found = due::due(tx, SPACE, b"w", now_ms, max)?;
    let mut wants = Vec::with_capacity(found.len());
    for (key, _) in found {
        let medium = MediumKey::read(key.get(9..).unwrap_or_default())?;
        let piece = match piece(tx, medium) {
            Err(error) if error.is_damage() => continue, // it waits until it reads
            piece => piece?.ok_or_else(|| wrong(SPACE, "a medium is wanted and not there"))?,
        };
        wants.push(Want { medium, url: piece.url });
    }
    Ok(wants)
}

/// A medium was stored. False if nobody wants it, or it is kept already: then what was stored is nobody's.
pub fn keep(tx: &mut Tx<'_>, medium: MediumKey, kept: &Kept) -> Result<bool, StoreError> {
    let Some(before) = piece(tx, medium)? else { return Ok(false) };
    match before.state {
        State::Kept(_) => return Ok(false),
        State::Waiting { due_ms, .. } => tx.delete(SPACE, due_key(due_ms, medium)),
        State::GivenUp { .. } => {}
    }
    tx.put(SPACE, blob_key(&kept.blob), [&[MEDIUM], medium.bytes()].concat());
    put(tx, medium, &Piece { state: State::Kept(kept.clone()), ..before });
    Ok(true)
}

/// A medium could not be preserved: it is tried later, or given up where that has failed for a week. True if it was given
/// up.
pub fn fail(tx: &mut Tx<'_>, medium: MediumKey, why: &str, now_ms: u64) -> Result<bool, StoreError> {
    let Some(before) = piece(tx, medium)? else { return Ok(false) };
    let State::Waiting { since_ms, due_ms, tries, .. } = before.state else { return Ok(false) };
    tx.delete(SPACE, due_key(due_ms, medium));
    let given_up = now_ms.saturating_sub(since_ms) > GIVEN_UP_MS;
    let state = if given_up {
        State::GivenUp { at_ms: now_ms, trouble: format!("could not be preserved: {why}") }
    } else {
        let (due_ms, tries) = (now_ms + pause_ms(tries), tries.saturating_add(1));
        State::Waiting { since_ms, due_ms, tries, trouble: Some(why.to_string()) }
    };
    put(tx, medium, &Piece { state, ..before });
    Ok(given_up)
}

/// What is known of preserving a job's medium; none if it was never wanted: it has no URL.
pub fn piece_of(tx: &Tx<'_>, job: JobId, number: u64) -> Result<Option<Piece>, StoreError> {
    match tx.get(SPACE, &numbered(b'j', job, number))? {
        Some(row) => piece(tx, MediumKey::read(&row)?),
        None => Ok(None),
    }
}

/// Names the blobs that an arrival carries while it waits.
pub fn claim(tx: &mut Tx<'_>, arrival: u64, item: &Item) {
    for kept in item.media.iter().filter_map(|media| media.kept.as_ref()) {
        tx.put(SPACE, blob_key(&kept.blob), [&[ARRIVAL], &arrival.to_be_bytes()[..]].concat());
    }
}

/// Names the blob of a further file of a job's report. It goes with the job.
pub fn claim_for_tip(tx: &mut Tx<'_>, job: JobId, kept: &Kept) {
    tx.put(SPACE, blob_key(&kept.blob), [&[TIP], &job.0.to_be_bytes()[..]].concat());
    tx.put(SPACE, [&job_key(TIP, job)[..], kept.blob.as_bytes()].concat(), []);
}

/// Takes what a settled item carries: what a job wants is its evidence, the rest is nobody's.
pub fn take(tx: &mut Tx<'_>, item: &mut Item) -> Result<(), StoreError> {
    for media in &mut item.media {
        let Some(kept) = media.kept.take() else { continue };
        let medium = MediumKey::of(&item.key, media);
        let named = [&[MEDIUM], medium.bytes()].concat();
        if !keep(tx, medium, &kept)? && tx.get(SPACE, &blob_key(&kept.blob))? != Some(named) {
            tx.delete(SPACE, blob_key(&kept.blob));
        }
    }
    Ok(())
}

/// Takes a job's media, and further files of its report, out of the rows; gives the blobs that no other job needs. From
/// then on nothing names them.
pub fn release(tx: &mut Tx<'_>, job: JobId) -> Result<Vec<String>, StoreError> {
    let mut blobs = Vec::new();
    let prefix = job_key(TIP, job);
    for (place, _) in tx.rows(SPACE, &prefix, usize::MAX)? {
        let blob = String::from_utf8_lossy(&place[prefix.len()..]).into_owned();
        tx.delete(SPACE, blob_key(&blob));
        tx.delete(SPACE, place);
        blobs.push(blob);
    }
    let prefix = job_key(b'j', job);
    for (place, row) in tx.rows(SPACE, &prefix, usize::MAX)? {
        let medium = MediumKey::read(&row)?;
        tx.delete(SPACE, owner_key(medium, job, decode_u64(SPACE, &place[prefix.len()..])?));
        tx.delete(SPACE, place);
        if !tx.rows(SPACE, &[b"o", medium.bytes()].concat(), 1)?.is_empty() {
            continue;
        }
        match piece(tx, medium)?.map(|piece| piece.state) {
            Some(State::Waiting { due_ms, .. }) => tx.delete(SPACE, due_key(due_ms, medium)),
            Some(State::Kept(kept)) => {
                tx.delete(SPACE, blob_key(&kept.blob));
                blobs.push(kept.blob);
            }
            Some(State::GivenUp { .. }) | None => {}
        }
        tx.delete(SPACE, piece_key(medium));
    }
    Ok(blobs)
}

/// Whether anything names a blob.
pub fn is_named(tx: &Tx<'_>, blob: &str) -> Result<bool, StoreError> {
    let Some(row) = tx.get(SPACE, &blob_key(blob))? else { return Ok(false) };
    match row.split_first() {
        Some((&ARRIVAL, number)) => {
            let waits = intake::arrival(tx, decode_u64(SPACE, number)?)?.is_some();
            // It may have been settled between the two looks, and its blob named by its medium.
            Ok(waits || tx.get(SPACE, &blob_key(blob))?.is_some_and(|now| now != row))
        }
        _ => Ok(true),
    }
}

/// Notes that a person opened a job's medium.
pub fn view(
    tx: &mut Tx<'_>,
    (job, number): (JobId, u64),
    person: &str,
    now_ms: u64,
) -> Result<(), StoreError> {
    let place = view_key(job, number, person);
    if tx.get(SPACE, &place)?.is_none() {
        tx.put(SPACE, place, encode_u64(now_ms));
    }
    Ok(())
}

/// Whether a person opened a job's medium.
pub fn has_viewed(tx: &Tx<'_>, (job, number): (JobId, u64), person: &str) -> Result<bool, StoreError> {
    Ok(tx.get(SPACE, &view_key(job, number, person))?.is_some())
}

/// The people who opened a job's medium, the first ones by name.
pub fn viewers(tx: &Tx<'_>, job: JobId, number: u64) -> Result<Vec<String>, StoreError> {
    let prefix = numbered(b'v', job, number);
    let rows = tx.rows(SPACE, &prefix, VIEWERS_MAX)?;
    Ok(rows.iter().map(|(key, _)| String::from_utf8_lossy(&key[prefix.len()..]).into_owned()).collect())
}

fn piece(tx: &Tx<'_>, medium: MediumKey) -> Result<Option<Piece>, StoreError> {
    tx.read(SPACE, &piece_key(medium))
}

/// Writes a piece, and when it is due if it waits.
fn put(tx: &mut Tx<'_>, medium: MediumKey, piece: &Piece) {
    if let State::Waiting { due_ms, .. } = piece.state {
        tx.put(SPACE, due_key(due_ms, medium), []);
    }
    tx.save(SPACE, piece_key(medium), piece);
}

fn piece_key(medium: MediumKey) -> Vec<u8> {
    [b"e", medium.bytes()].concat()
}

fn due_key(due_ms: u64, medium: MediumKey) -> Vec<u8> {
    [b"w", &due_ms.to_be_bytes()[..], medium.bytes()].concat()
}

fn owner_key(medium: MediumKey, job: JobId, number: u64) -> Vec<u8> {
    [b"o", medium.bytes(), &job.0.to_be_bytes(), &number.to_be_bytes()].concat()
}

fn blob_key(blob: &str) -> Vec<u8> {
    [b"b", blob.as_bytes()].concat()
}

fn numbered(kind: u8, job: JobId, number: u64) -> Vec<u8> {
    [&job_key(kind, job)[..], &number.to_be_bytes()].concat()
}

fn view_key(job: JobId, number: u64, person: &str) -> Vec<u8> {
    [&numbered(b'v', job, number)[..], person.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::item::MediaKind;
    use index::store::MemoryStore;
    use std::collections::BTreeMap;

    const NOW: u64 = 1_000_000;

    fn medium(url: Option<&str>) -> Media {
        Media {
            field: "cover".to_string(),
            kind: MediaKind::Image,
            url: url.map(str::to_string),
            signals: BTreeMap::new(),
            screening: Screening::Done { matches: Vec::new() },
            kept: None,
        }
    }

    fn kept(blob: &str) -> Kept {
        Kept {
            blob: blob.to_string(),
            bytes: 3,
            sha256: "aa".to_string(),
            md5: "bb".to_string(),
            content_type: "image/png".to_string(),
            at_ms: NOW,
        }
    }

    fn state(tx: &Tx<'_>, job: u64) -> Option<State> {
        piece_of(tx, JobId(job), 1).unwrap().map(|piece| piece.state)
    }

    #[test]
    fn a_further_file_of_a_report_is_named_until_its_job_goes() {
        let store = MemoryStore::default();
        let mut tx = Tx::new(&store);
        for (job, blob) in [(7, "x"), (7, "y"), (8, "z")] {
            claim_for_tip(&mut tx, JobId(job), &kept(blob));
        }
        assert!(is_named(&tx, "x").unwrap() && !is_named(&tx, "other").unwrap());
        assert_eq!(release(&mut tx, JobId(7)).unwrap(), ["x", "y"]);
        assert!(!is_named(&tx, "x").unwrap() && !is_named(&tx, "y").unwrap());
        assert!(is_named(&tx, "z").unwrap());
        assert!(release(&mut tx, JobId(7)).unwrap().is_empty());
    }

    #[test]
    fn a_medium_is_wanted_once_kept_once_and_known_to_every_job_that_has_it() {
        let store = MemoryStore::default();
        let mut tx = Tx::new(&store);
        let (item, media) = (ItemKey::new("post", "1"), medium(Some("https://a/1")));
        for job in [7, 8] {
            want(&mut tx, (JobId(job), 1), (&item, &media), NOW).unwrap();
        }
        want(&mut tx, (JobId(7), 2), (&item, &medium(None)), NOW).unwrap();
        let due = due(&tx, NOW, 9).unwrap();
        assert_eq!((due.len(), due[0].url.as_str()), (1, "https://a/1"));
        assert!(keep(&mut tx, due[0].medium, &kept("one")).unwrap());
        assert!(!keep(&mut tx, due[0].medium, &kept("other")).unwrap(), "it is kept already");
        assert!(is_named(&tx, "one").unwrap() && !is_named(&tx, "other").unwrap());
        assert_eq!(state(&tx, 7), Some(State::Kept(kept("one"))));
        assert_eq!(state(&tx, 8), state(&tx, 7));
        assert_eq!(piece_of(&tx, JobId(7), 2).unwrap(), None, "without a URL nothing is wanted");
        want(&mut tx, (JobId(9), 1), (&item, &media), NOW).unwrap();
        assert_eq!(state(&tx, 9), state(&tx, 7));
        assert!(super::due(&tx, u64::MAX - 1, 9).unwrap().is_empty());
    }

    #[test]
    fn what_fails_is_tried_later_and_later_and_given_up_after_a_week_until_another_job_has_it() {
        let store = MemoryStore::default();
        let mut tx = Tx::new(&store);
        let (item, media) = (ItemKey::new("post", "1"), medium(Some("https://a/1")));
        want(&mut tx, (JobId(7), 1), (&item, &media), NOW).unwrap();
        let (mut now, mut tries) = (NOW, 0u32);
        loop {
            let wants = due(&tx, now, 9).unwrap();
            let Some(want) = wants.first() else { break };
            if fail(&mut tx, want.medium, "no such thing", now).unwrap() {
                break;
            }
            let Some(State::Waiting { due_ms, trouble, .. }) = state(&tx, 7) else { panic!() };
            assert_eq!((due_ms - now, trouble.as_deref()), (pause_ms(tries), Some("no such thing")));
            assert!(due(&tx, due_ms - 1, 9).unwrap().is_empty());
            (now, tries) = (due_ms, tries + 1);
        }
        assert!(now - NOW > GIVEN_UP_MS && tries > 150, "{tries}");
        let Some(State::GivenUp { trouble, .. }) = state(&tx, 7) else { panic!() };
        assert_eq!(trouble, "could not be preserved: no such thing");
        assert!(due(&tx, u64::MAX - 1, 9).unwrap().is_empty());
        want(&mut tx, (JobId(8), 1), (&item, &media), now).unwrap();
        assert_eq!(due(&tx, now, 9).unwrap().len(), 1);
    }

    #[test]
    fn what_an_item_carries_is_a_jobs_or_nobodys() {
        let store = MemoryStore::default();
        let mut tx = Tx::new(&store);
        let mut item = Item::bare(ItemKey::new("post", "1"), NOW);
        for (at, field) in ["cover", "other"].into_iter().enumerate() {
            let carried = Media { field: field.to_string(), ..medium(Some("https://a/1")) };
            item.media.push(Media { kept: Some(kept(&format!("blob-{at}"))), ..carried });
        }
        claim(&mut tx, 5, &item);
        assert!(!is_named(&tx, "blob-0").unwrap(), "no such arrival waits");
        let mut arrival = intake::Arrival::of(item.clone(), None);
        arrival.number = 5;
        intake::put(&mut tx, &arrival);
        assert!(is_named(&tx, "blob-0").unwrap() && is_named(&tx, "blob-1").unwrap());
        want(&mut tx, (JobId(7), 1), (&item.key, &item.media[0]), NOW).unwrap();
        intake::remove(&mut tx, &arrival);
        take(&mut tx, &mut item).unwrap();
        assert_eq!(state(&tx, 7), Some(State::Kept(kept("blob-0"))));
        assert!(is_named(&tx, "blob-0").unwrap() && !is_named(&tx, "blob-1").unwrap());
        assert!(item.media.iter().all(|media| media.kept.is_none()));
    }

    #[test]
    fn who_opened_a_medium_is_known_by_job_medium_and_person() {
        let store = MemoryStore::default();
        let mut tx = Tx::new(&store);
        for person in ["anna", "ben", "anna"] {
            view(&mut tx, (JobId(7), 1), person, NOW).unwrap();
        }
        assert_eq!(viewers(&tx, JobId(7), 1).unwrap(), ["anna", "ben"]);
        assert!(has_viewed(&tx, (JobId(7), 1), "ben").unwrap());
        assert!(!has_viewed(&tx, (JobId(7), 2), "ben").unwrap());
        assert!(!has_viewed(&tx, (JobId(7), 1), "be").unwrap());
    }
}
