//! What people may do to a filing that waits or is held. While somebody works on it nobody may: that takes seconds, and
//! two hands on one report are how it is filed twice.

use serde_json::json;

use super::ended::conclude;
use super::pace::INFO_FAILURES;
use super::rows::{put, tip};
use super::step::leave;
use super::{Cause, Filed, OpenReport, Stage, Tip};
use crate::audit;
use crate::cyber_tipline::Environment;
use crate::desk::job::JobId;
use crate::desk::{outbox, retention};
use crate::error::DeskError;
use crate::tx::Tx;

/// What a person says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Begin anew: ask the platform, write the report, open another. What was wrong is mended, outside or in the settings.
    Retry,
    /// The same, without asking the platform: it has failed often enough.
    FileMinimal,
    /// Go on where it stopped, with the same words.
    Resume,
    /// NCMEC has it: somebody there said so, under this number.
    ConfirmFiled(i64),
    /// NCMEC does not have it: somebody there said so. Another is opened.
    OpenNew,
    /// It is not reported; why.
    Cancel(String),
}

impl Word {
    /// The name people and the audit log use.
    pub const fn name(&self) -> &'static str {
        match self {
            Word::Retry => "retry",
            Word::FileMinimal => "file_minimal",
            Word::Resume => "resume",
            Word::ConfirmFiled(_) => "confirm_filed",
            Word::OpenNew => "open_new",
            Word::Cancel(_) => "cancel",
        }
    }
}

/// Does what a person says; refused, with what else to do, where it could file twice or lose a report.
pub fn say(
    tx: &mut Tx<'_>,
    job: JobId,
    word: &Word,
    who: &str,
    environment: Environment,
    now_ms: u64,
) -> Result<Tip, DeskError> {
    let before =
        tip(tx, job)?.ok_or_else(|| DeskError::NotFound { what: "filing of job", name: job.to_string() })?;
    let refuse = |problem: String| Err(DeskError::Conflict { problem });
    if before.taken {
        return refuse(format!("the filing of job {job} is in progress: look again in a minute"));
    }
    if before.stage >= Stage::Filed {
        return refuse(format!("the filing of job {job} is over"));
    }
    let may_be_finished = before.finishes > 0;
    let mut after = before.clone();
    (after.due_ms, after.failures, after.held) = (now_ms, 0, None);
    match word {
        Word::Retry | Word::FileMinimal if may_be_finished => {
            return refuse(format!(
                "the report of job {job} may be filed already: ask NCMEC about its number, then confirm_filed or open_new"
            ));
        }
        Word::Retry => {
            renew(&mut after, environment);
            after.minimal = None;
        }
        Word::FileMinimal => {
            if before.stage > Stage::Decided || before.failures < INFO_FAILURES {
                let problem = format!(
                    "the platform has not failed to answer for job {job} {INFO_FAILURES} times: it is asked again"
                );
                return refuse(problem);
            }
            renew(&mut after, environment);
            after.minimal = Some(who.to_string());
        }
        Word::Resume => {
            let changed = before.held.as_ref().is_some_and(|held| held.cause == Cause::EnvironmentChanged);
            if changed && before.environment != environment {
                let problem = format!(
                    "job {job} was begun for the {} CyberTipline: start the server for that one, or retry",
                    before.environment.name()
                );
                return refuse(problem);
            }
            after.spent = 0;
        }
        Word::ConfirmFiled(report_id) => {
            if before.held.is_none() || before.stage < Stage::Opening {
                return refuse(format!(
                    "job {job} is not held after something was sent: nothing is in doubt"
                ));
            }
            let known = before.open.as_ref().is_none_or(|open| open.report_id == *report_id);
            let former = before.former.iter().any(|former| former.report_id == Some(*report_id));
            if !known && !former {
                return refuse(format!("job {job} was never opened under {report_id}"));
            }
            let filed = Filed {
                report_id: *report_id,
                at_ms: now_ms,
                verified: false,
                missing: Vec::new(),
                unknown: Vec::new(),
                said_by: Some(who.to_string()),
            };
            conclude(tx, &before, after, filed, who, now_ms)?;
            return Ok(tip(tx, job)?.unwrap_or(before));
        }
        Word::OpenNew => {
            if before.held.is_none() || before.open.is_none() {
                return refuse(format!("job {job} has no report that is held"));
            }
            leave(&mut after, &format!("{who} said that NCMEC does not have it"));
            after.spent = 0;
        }
        Word::Cancel(reason) => {
            if may_be_finished && before.held.is_none() {
                return refuse(format!("the report of job {job} is being finished"));
            }
            leave(&mut after, "it was cancelled");
            // Why is with the filing, sealed: the audit log is not.
            (after.stage, after.trouble) = (Stage::Cancelled, Some(reason.clone()));
            outbox::end_filing(tx, job, before.decided_ms);
        }
    }
    put(tx, Some(&before), &after);
    if after.stage == Stage::Cancelled {
        retention::finished(tx, job, now_ms)?;
    }
    let entry = audit::Entry {
        who: who.to_string(),
        action: format!("tip.{}", word.name()),
        about: format!("job {job}"),
        details: json!({ "stage": before.stage, "cause": before.held.map(|held| held.cause) }),
        child_safety: true,
    };
    audit::append(tx, entry, now_ms)?;
    Ok(after)
}

/// Begins anew. What was opened is left; where nothing ever was, the environment is today's.
fn renew(tip: &mut Tip, environment: Environment) {
    let reached: Option<OpenReport> = tip.open.clone();
    if reached.is_none() && tip.former.is_empty() && tip.stage < Stage::Opening {
        tip.environment = environment;
    }
    leave(tip, "it was begun anew");
    (tip.stage, tip.spent) = (Stage::Decided, 0);
    tip.files.clear();
}
