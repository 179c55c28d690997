//! Jobs and items from before media were preserved and contents had terms: given what all have since. A part of them in a commit,
//! with how far that is; whoever starts again goes on, and what is done is not looked at again.
//!
//! Rows of keyspace `case_meta`: `renewed_jobs` → u64, the last job that was looked at; the greatest when all were.
//! `renewed_items` → the key of the last item that was looked at; one byte 255 when all were.

use std::ops::ControlFlow;

use index::store::keys::{decode_u64, encode_u64};
use index::store::{Durability, Keyspace, Range, Store, StoreError};

use super::decision::{DecisionKind, decision};
use super::evidence;
use super::item::{Item, Media, Screening, list_once};
use super::job::{Job, JobId, JobKind, numbered};
use super::ncmec::{JobMedia, media_of};
use super::retention::{self, Ended};
use crate::tx::{Tx, read_row};

const DONE: &[u8] = b"renewed_jobs";
const ITEMS_DONE: &[u8] = b"renewed_items";
const ALL: &[u8] = &[u8::MAX];
/// Jobs of a commit, and media, whichever comes first.
const JOBS_AT_ONCE: usize = 256;
const MEDIA_AT_ONCE: usize = 4096;
const ITEMS_AT_ONCE: usize = 1024;

/// Has the media of jobs preserved, and gives terms to what was dismissed, where that never happened; says how many jobs
/// needed it. A term begins now, whenever the job was decided: nothing goes before an operator has seen that it will.
pub fn renew_jobs(store: &dyn Store, durability: Durability, now_ms: u64) -> Result<u64, StoreError> {
    let mut renewed = 0;
    loop {
        let mut tx = Tx::new(store);
        let after = match mark(&tx, DONE)? {
            Some(row) => decode_u64(Keyspace::CaseMeta, &row)?,
            None => 0,
        };
        if after == u64::MAX {
            return Ok(renewed);
        }
        let jobs = numbered(&tx, b"j", after, JOBS_AT_ONCE)?;
        let (mut last, mut media) = (u64::MAX, 0);
        for (at, (number, row)) in jobs.iter().enumerate() {
            let job: Job = read_row(Keyspace::Jobs, row)?;
            media += job.media as usize;
            renewed += u64::from(renew(&mut tx, &job, now_ms)?);
            if at + 1 == JOBS_AT_ONCE || media >= MEDIA_AT_ONCE {
                last = *number; // there may be more
                break;
            }
        }
        tx.put(Keyspace::CaseMeta, DONE, encode_u64(last));
        store.commit(tx.into_batch(), durability)?;
    }
}

/// Gives items a term that have none; says how many. It begins now, as those of jobs.
pub fn renew_items(store: &dyn Store, durability: Durability, now_ms: u64) -> Result<u64, StoreError> {
    let mut renewed = 0;
    loop {
        let mut tx = Tx::new(store);
        let after = mark(&tx, ITEMS_DONE)?.unwrap_or_else(|| b"i".to_vec());
        if after == ALL {
            return Ok(renewed);
        }
        // The key that follows this one, whatever it is.
        let (from, to) = ([&after[..], &[0]].concat(), [b'i' + 1]);
        let (range, mut rows) = (Range { from: &from, to: Some(&to), backwards: false }, Vec::new());
        tx.scan(Keyspace::Items, range, &mut |place, row| {
            rows.push((place.to_vec(), row.to_vec()));
            if rows.len() < ITEMS_AT_ONCE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        for (_, row) in &rows {
            let item: Item = read_row(Keyspace::Items, row)?;
            renewed += u64::from(list_once(&mut tx, &item, now_ms)?);
        }
        let last = rows.last().filter(|_| rows.len() == ITEMS_AT_ONCE);
        tx.put(Keyspace::CaseMeta, ITEMS_DONE, last.map_or(ALL, |(place, _)| place));
        store.commit(tx.into_batch(), durability)?;
    }
}

/// How far it is. A mark that does not read is as none: everything is looked at again, and what is there stays.
fn mark(tx: &Tx<'_>, name: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    match tx.get(Keyspace::CaseMeta, name) {
        Err(error) if error.is_damage() => Ok(None),
        row => row,
    }
}

/// Whether it needed it.
fn renew(tx: &mut Tx<'_>, job: &Job, now_ms: u64) -> Result<bool, StoreError> {
    if retention::deletion(tx, job.id)?.is_some() {
        return Ok(false); // what is missing of it has gone already
    }
    let decided = decision(tx, job.id)?.map(|decision| decision.kind);
    let dismissed = decided.is_some_and(|kind| kind != DecisionKind::Report);
    let needs_term = dismissed && retention::term(tx, job.id)?.is_none();
    if needs_term {
        retention::begin_term(tx, job.id, Ended::Dismissed, now_ms)?;
    }
    let mut unnamed = false;
    if job.kind == JobKind::Review {
        unnamed |= retention::name_once(tx, job.id, &job.subject)?;
    }
    for item in &job.contents {
        unnamed |= retention::name_once(tx, job.id, item)?;
    }
    let mut wanted = false;
    for media in media_of(tx, job.id, 0, usize::MAX)? {
        unnamed |= retention::name_once(tx, job.id, &media.item)?;
        // What was dismissed goes soon: it is not fetched for that.
        if !dismissed && evidence::piece_of(tx, job.id, media.number)?.is_none() {
            wanted |= want(tx, job.id, media, now_ms)?;
        }
    }
    Ok(needs_term || unnamed || wanted)
}

fn want(tx: &mut Tx<'_>, job: JobId, media: JobMedia, now_ms: u64) -> Result<bool, StoreError> {
    let known = Media {
        field: media.field,
        kind: media.kind,
        url: media.url,
        signals: media.signals,
        screening: Screening::Done { matches: Vec::new() },
        kept: None,
    };
    evidence::want(tx, (job, media.number), (&media.item, &known), now_ms)?;
    Ok(known.url.is_some())
}
