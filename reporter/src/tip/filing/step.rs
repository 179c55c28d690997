//! How a filing goes on. Every step is one commit, and only who has the filing may take one: a [`Ticket`] holds the epoch
//! it was taken in, and an older one opens nothing.
//!
//! What is about to be sent to NCMEC is on record, and the stage says so, before it is sent; so after a crash it is known
//! what may have happened. Opening a report twice leaves one that NCMEC deletes by itself; finishing one is only ever tried
//! again under the same number (specs/cybertipline.md 1.5).

use index::store::StoreError;
use serde_json::json;

use super::ended::conclude;
use super::pace::{ATTEMPTS_MAX, DECIDED_MS_MAX, INFO_FAILURES, LATE_MS, Pace};
use super::rows::{self, put, put_draft, put_informed, tip};
use super::{Cause, Draft, Filed, FormerReport, Held, Informed, OpenReport, Stage, Tip, TipFile};
use crate::audit;
use crate::cyber_tipline::Environment;
use crate::desk::alarm;
use crate::desk::decision::{Decider, decision};
use crate::desk::evidence::Kept;
use crate::desk::job::{JobId, job};
use crate::desk::outbox::{self, Filing};
use crate::desk::settings;
use crate::error::DeskError;
use crate::tip::record::{self, Entry};
use crate::tx::Tx;

/// Who the audit log names for what happens by itself.
const FILER: &str = "filer";
/// Decisions that one commit takes up.
const ADOPTED_AT_ONCE: usize = 64;

/// The right to take the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Of which filing.
    pub job: JobId,
    /// Since which taking.
    pub epoch: u64,
}

/// Why a step was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Not this report's fault: it is tried again, and nothing is spent.
    Free {
        /// Why.
        words: String,
        /// Not before so long.
        pause_ms: Option<u64>,
    },
    /// NCMEC answered about this very report: an attempt is spent.
    Spent {
        /// Why.
        words: String,
        /// Not before so long.
        pause_ms: Option<u64>,
    },
    /// NCMEC does not know a file: it is uploaded again, and an attempt is spent.
    NoFile {
        /// Which.
        file: usize,
    },
    /// NCMEC does not know the report, and it was never to be finished: another is opened, and an attempt is spent.
    NoReport,
    /// A person must look.
    Hold(Cause, String),
}

/// Takes up decisions that wait to be reported; says how many.
pub fn adopt(tx: &mut Tx<'_>, environment: Environment, now_ms: u64) -> Result<usize, DeskError> {
    let waiting = outbox::filings(tx, ADOPTED_AT_ONCE)?;
    for filing in &waiting {
        outbox::begin_filing(tx, filing);
        let Filing { job: id, user, decided_ms } = filing.clone();
        let of = job(tx, id)?.ok_or(DeskError::NoJob { job: id })?;
        let reviewer = match decision(tx, id)?.map(|decided| decided.by) {
            Some(Decider::Reviewer { name }) => name,
            Some(Decider::Automatic { rule, .. }) => format!("rule {rule}"),
            None => String::new(),
        };
        let queue = settings::queue(tx, &of.queue)?;
        let tip = Tip {
            job: id,
            organisation: queue.and_then(|queue| queue.organisation).unwrap_or_default(),
            environment,
            user,
            reviewer,
            decided_ms,
            stage: Stage::Decided,
            epoch: 0,
            taken: false,
            due_ms: now_ms,
            spent: 0,
            failures: 0,
            trouble: None,
            minimal: None,
            opening_ms: None,
            open: None,
            finishes: 0,
            files: Vec::new(),
            former: Vec::new(),
            filed: None,
            held: None,
        };
        put(tx, None, &tip);
    }
    Ok(waiting.len())
}

/// Takes a filing to work on, if it waits and is due. Nobody else may take a step until it is given back.
pub fn take(
    tx: &mut Tx<'_>,
    job: JobId,
    environment: Environment,
    now_ms: u64,
) -> Result<Option<(Ticket, Tip)>, DeskError> {
    let Some(before) = tip(tx, job)?.filter(|tip| tip.waits() && tip.due_ms <= now_ms) else {
        return Ok(None);
    };
    let mut taken = before.clone();
    taken.epoch += 1;
    if before.environment != environment {
        let words = format!(
            "it was begun for the {} CyberTipline, and this server now reports to the {} one: nothing more is sent until \
             somebody says what to do",
            before.environment.name(),
            environment.name()
        );
        hold(tx, &mut taken, Cause::EnvironmentChanged, words, now_ms)?;
        put(tx, Some(&before), &taken);
        return Ok(None);
    }
    taken.taken = true;
    put(tx, Some(&before), &taken);
    Ok(Some((Ticket { job, epoch: taken.epoch }, taken)))
}

/// Gives back what a process that is gone had taken.
pub fn give_back(tx: &mut Tx<'_>, now_ms: u64) -> Result<usize, DeskError> {
    let taken = rows::taken(tx)?;
    for job in &taken {
        if let Some(before) = tip(tx, *job)? {
            let given = Tip { taken: false, due_ms: now_ms, epoch: before.epoch + 1, ..before.clone() };
            put(tx, Some(&before), &given);
        }
    }
    Ok(taken.len())
}

/// Gives a filing back until it is due.
pub fn release(tx: &mut Tx<'_>, ticket: Ticket, due_ms: u64) -> Result<(), DeskError> {
    change(tx, ticket, |tip| (tip.taken, tip.due_ms) = (false, due_ms))
}

/// The platform answered, or is not asked.
pub fn informed(
    tx: &mut Tx<'_>,
    ticket: Ticket,
    informed: &Informed,
    entries: Vec<Entry>,
    now_ms: u64,
) -> Result<(), DeskError> {
    change(tx, ticket, |tip| {
        tip.stage = Stage::Informed;
        (tip.failures, tip.trouble) = (0, None);
    })?;
    put_informed(tx, ticket.job, informed);
    append(tx, ticket, entries, now_ms)
}

/// A further file is here, or will not be: its place among them, and what became of it.
pub fn gathered(
    tx: &mut Tx<'_>,
    ticket: Ticket,
    at: usize,
    outcome: Result<Kept, String>,
) -> Result<(), DeskError> {
    mine(tx, ticket)?;
    let Some(mut informed) = rows::informed(tx, ticket.job)? else { return Ok(()) };
    if let Some(extra) = informed.extra.get_mut(at) {
        match outcome {
            Ok(kept) => extra.kept = Some(kept),
            Err(why) => extra.missing = Some(why),
        }
    }
    put_informed(tx, ticket.job, &informed);
    Ok(())
}

/// What it says is written.
pub fn built(tx: &mut Tx<'_>, ticket: Ticket, draft: &Draft, files: Vec<TipFile>) -> Result<(), DeskError> {
    change(tx, ticket, |tip| {
        (tip.stage, tip.files) = (Stage::Built, files);
        (tip.failures, tip.trouble) = (0, None);
    })?;
    put_draft(tx, ticket.job, draft);
    Ok(())
}

/// A report is about to be opened. If one was about to be before, its answer was lost: it is listed without its number.
pub fn opening(tx: &mut Tx<'_>, ticket: Ticket, sent: Entry, now_ms: u64) -> Result<(), DeskError> {
    change(tx, ticket, |tip| {
        if let Some(opened_ms) = tip.opening_ms.replace(now_ms) {
            let why = "whether it was opened is not known: no answer said so".to_string();
            tip.former.push(FormerReport { report_id: None, opened_ms, why });
        }
        tip.stage = Stage::Opening;
    })?;
    append(tx, ticket, vec![sent], now_ms)
}

/// NCMEC opened it, and gave this number.
pub fn opened(
    tx: &mut Tx<'_>,
    ticket: Ticket,
    report_id: i64,
    received: Entry,
    now_ms: u64,
) -> Result<(), DeskError> {
    change(tx, ticket, |tip| {
        (tip.stage, tip.opening_ms) = (Stage::Open, None);
        tip.open = Some(OpenReport { report_id, opened_ms: now_ms, changed_ms: now_ms });
        (tip.failures, tip.trouble) = (0, None);
    })?;
    let organisation = mine(tx, ticket)?.organisation;
    let details = json!({ "report_id": report_id, "organisation": organisation });
    audit(tx, ticket.job, "tip.opened", details, now_ms)?;
    append(tx, ticket, vec![received], now_ms)
}

/// Something is about to be sent for the open report.
pub fn sending(tx: &mut Tx<'_>, ticket: Ticket, sent: Entry, now_ms: u64) -> Result<(), DeskError> {
    mine(tx, ticket)?;
    append(tx, ticket, vec![sent], now_ms)
}

/// NCMEC has a file, under this id.
pub fn uploaded(
    tx: &mut Tx<'_>,
    ticket: Ticket,
    file: usize,
    file_id: String,
    received: Entry,
    now_ms: u64,
) -> Result<(), DeskError> {
    touch(tx, ticket, file, received, now_ms, |file| file.file_id = Some(file_id))
}

/// NCMEC has a file's details.
pub fn detailed(
    tx: &mut Tx<'_>,
    ticket: Ticket,
    file: usize,
    received: Entry,
    now_ms: u64,
) -> Result<(), DeskError> {
    touch(tx, ticket, file, received, now_ms, |file| file.detailed = true)
}

fn touch(
    tx: &mut Tx<'_>,
    ticket: Ticket,
    file: usize,
    received: Entry,
    now_ms: u64,
    with: impl FnOnce(&mut TipFile),
) -> Result<(), DeskError> {
    change(tx, ticket, |tip| {
        tip.files.get_mut(file).map(with);
        if let Some(open) = &mut tip.open {
            open.changed_ms = now_ms;
        }
        (tip.failures, tip.trouble) = (0, None);
    })?;
    append(tx, ticket, vec![received], now_ms)
}

/// The report is about to be finished. From here on it is never opened anew without a person.
pub fn finishing(tx: &mut Tx<'_>, ticket: Ticket, sent: Entry, now_ms: u64) -> Result<(), DeskError> {
    change(tx, ticket, |tip| {
        tip.stage = Stage::Finishing;
        tip.finishes += 1;
    })?;
    append(tx, ticket, vec![sent], now_ms)
}

/// NCMEC may have deleted the open report by our clock: it is left, and another opened.
pub fn expired(tx: &mut Tx<'_>, ticket: Ticket) -> Result<(), DeskError> {
    change(tx, ticket, |tip| {
        leave(tip, "it was open for so long that NCMEC may have deleted it");
    })
}

/// The report is filed. What follows of it is in the same commit: it waits no more, its time to be kept begins, and in
/// production the platform is told.
pub fn filed(
    tx: &mut Tx<'_>,
    ticket: Ticket,
    filed: Filed,
    received: Option<Entry>,
    now_ms: u64,
) -> Result<(), DeskError> {
    let before = mine(tx, ticket)?;
    let mut done = before.clone();
    (done.taken, done.trouble) = (false, None);
    append(tx, ticket, received.into_iter().collect(), now_ms)?;
    conclude(tx, &before, done, filed, FILER, now_ms)
}

/// A step failed: it is tried again when it is due, or a person must look.
pub fn failed(
    tx: &mut Tx<'_>,
    ticket: Ticket,
    failure: Failure,
    entries: Vec<Entry>,
    pace: Pace,
    now_ms: u64,
) -> Result<(), DeskError> {
    let before = mine(tx, ticket)?;
    let mut tip = before.clone();
    tip.taken = false;
    let spend = |tip: &mut Tip, words: String, pause_ms: Option<u64>| {
        tip.spent += 1;
        tip.failures = 0;
        tip.due_ms = now_ms + pace.after_spent(tip.job, tip.spent).max(pause_ms.unwrap_or(0));
        tip.trouble = Some(words);
    };
    match failure {
        Failure::Free { words, pause_ms } => {
            tip.due_ms = now_ms + pace.after_failure(tip.job, tip.failures).max(pause_ms.unwrap_or(0));
            tip.failures += 1;
            tip.trouble = Some(words);
        }
        Failure::Spent { words, pause_ms } => spend(&mut tip, words, pause_ms),
        Failure::NoFile { file } => {
            if let Some(file) = tip.files.get_mut(file) {
                (file.file_id, file.detailed) = (None, false);
            }
            spend(&mut tip, "NCMEC does not have a file that it had: it is uploaded again".to_string(), None);
        }
        Failure::NoReport => {
            leave(&mut tip, "NCMEC did not know it any more");
            spend(&mut tip, "NCMEC does not have the report any more: another is opened".to_string(), None);
        }
        Failure::Hold(cause, words) => {
            if cause == Cause::Rejected {
                refused(&mut tip);
            }
            hold(tx, &mut tip, cause, words, now_ms)?;
        }
    }
    let trouble = tip.trouble.clone().unwrap_or_default();
    if tip.held.is_none() && tip.spent >= ATTEMPTS_MAX {
        let words = format!("NCMEC took none of {ATTEMPTS_MAX} attempts; the last time: {trouble}");
        hold(tx, &mut tip, Cause::AttemptsSpent, words, now_ms)?;
    }
    if tip.held.is_none() && now_ms.saturating_sub(tip.decided_ms) > DECIDED_MS_MAX {
        let words = format!("it was decided more than thirty days ago; the last time: {trouble}");
        hold(tx, &mut tip, Cause::TooOld, words, now_ms)?;
    }
    put(tx, Some(&before), &tip);
    if tip.held.is_none() {
        warn(tx, &tip, &trouble, pace, now_ms)?;
    }
    append(tx, ticket, entries, now_ms)
}

/// NCMEC refused the last call, so that was not carried out: nothing is in doubt that was not before.
fn refused(tip: &mut Tip) {
    match tip.stage {
        Stage::Opening => (tip.stage, tip.opening_ms) = (Stage::Built, None),
        Stage::Finishing => {
            tip.finishes = tip.finishes.saturating_sub(1);
            if tip.finishes == 0 {
                tip.stage = Stage::Open;
            }
        }
        _ => {}
    }
}

/// What is late, or cannot go on, is never silent.
fn warn(tx: &mut Tx<'_>, tip: &Tip, trouble: &str, pace: Pace, now_ms: u64) -> Result<(), StoreError> {
    let about = format!("job {}", tip.job);
    if tip.stage == Stage::Decided && tip.failures == INFO_FAILURES {
        let words = format!(
            "the platform's additional info endpoint fails: {trouble}; it is asked on, and a person may file without it"
        );
        alarm::raise(tx, "tip.additional_info", &about, &words, true, now_ms)?;
    }
    if now_ms.saturating_sub(tip.decided_ms) > pace.of(LATE_MS) {
        let about = format!("organisation {}", tip.organisation);
        let words =
            format!("reports are not filed within an hour of their decision; job {}: {trouble}", tip.job);
        alarm::raise(tx, "tip.late", &about, &words, true, now_ms)?;
    }
    Ok(())
}

/// Holds a filing for a person, in sight.
fn hold(tx: &mut Tx<'_>, tip: &mut Tip, cause: Cause, words: String, now_ms: u64) -> Result<(), StoreError> {
    alarm::raise(tx, "tip.held", &format!("job {}", tip.job), &words, true, now_ms)?;
    audit(tx, tip.job, "tip.held", json!({ "cause": cause }), now_ms)?;
    tip.taken = false;
    tip.trouble = Some(words.clone());
    tip.held = Some(Held { cause, words, since_ms: now_ms });
    Ok(())
}

/// Leaves the open report, whose number stays listed; the next begins with the same words.
pub(super) fn leave(tip: &mut Tip, why: &str) {
    if let Some(open) = tip.open.take() {
        let (report_id, opened_ms) = (Some(open.report_id), open.opened_ms);
        tip.former.push(FormerReport { report_id, opened_ms, why: why.to_string() });
    }
    for file in &mut tip.files {
        (file.file_id, file.detailed) = (None, false);
    }
    (tip.stage, tip.finishes) = (Stage::Built, 0);
}

fn audit(
    tx: &mut Tx<'_>,
    job: JobId,
    action: &str,
    details: serde_json::Value,
    now_ms: u64,
) -> Result<(), StoreError> {
    let (who, action, about) = (FILER.to_string(), action.to_string(), format!("job {job}"));
    audit::append(tx, audit::Entry { who, action, about, details, child_safety: true }, now_ms)?;
    Ok(())
}

fn append(tx: &mut Tx<'_>, ticket: Ticket, entries: Vec<Entry>, now_ms: u64) -> Result<(), DeskError> {
    for entry in entries {
        record::append(tx, ticket.job, entry, now_ms)?;
    }
    Ok(())
}

/// The filing, if the ticket is the newest and it was not given back.
fn mine(tx: &Tx<'_>, ticket: Ticket) -> Result<Tip, DeskError> {
    let found = tip(tx, ticket.job)?.ok_or(DeskError::NoJob { job: ticket.job })?;
    if found.taken && found.epoch == ticket.epoch {
        return Ok(found);
    }
    let problem = format!("the filing of job {} was taken by another", ticket.job);
    Err(DeskError::Conflict { problem })
}

fn change(tx: &mut Tx<'_>, ticket: Ticket, with: impl FnOnce(&mut Tip)) -> Result<(), DeskError> {
    let before = mine(tx, ticket)?;
    let mut tip = before.clone();
    with(&mut tip);
    put(tx, Some(&before), &tip);
    Ok(())
}
