//! Why a hit is not routed, a rules file not taken, or a request on a case refused. Each message says what to do.
//!
//! The router never steps over what it cannot read: a skipped hit would be a lost one.

use std::sync::Arc;

use index::Position;
use index::store::StoreError;

use crate::ids::JobId;
use crate::read::FieldError;

/// What can go wrong between the hit log and the queues.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    /// The rules file is not TOML, or has keys or types that rules do not have.
    #[error("the rules file does not read: {reason}")]
    RulesSyntax {
        /// The parser's words, with the line.
        reason: String,
    },
    /// A field of the rules file holds what it must not.
    #[error("{rule}, field '{field}': {problem}")]
    RulesField {
        /// `rule 'name'`, `rule 3` where the name itself is the fault, or `the rules file`.
        rule: String,
        /// The key as it is written in the file.
        field: String,
        /// What is wrong and what to write instead.
        problem: String,
    },
    /// A queue name that cannot be one.
    #[error(
        "'{name}' is not a queue name: use a-z, 0-9, and after the first character '-' and '_', at most {max} characters"
    )]
    QueueName {
        /// What was asked for, cut to a printable length.
        name: String,
        /// Most characters a name has.
        max: usize,
    },
    /// A position of the hit log is missing.
    #[error(
        "the hit log has a hole: hit {missing} is missing although the log reaches {log_end}; nothing after \
         it is routed: restore a backup that holds it"
    )]
    Hole {
        /// The first missing position.
        missing: Position,
        /// The last position of the log.
        log_end: Position,
    },
    /// The router has read more than the log holds.
    #[error(
        "the router's cursor is at hit {cursor} but the hit log ends at {log_end}: the log lost its end or \
         was restored without its cursor; restore both from one backup"
    )]
    CursorBeyondLog {
        /// The last hit routed.
        cursor: Position,
        /// The last position of the log.
        log_end: Position,
    },
    /// A row of the hit log does not read.
    #[error("hit {position} of the log does not read; it and what follows stay unrouted: {source}")]
    Hit {
        /// Its place in the log.
        position: Position,
        /// What is wrong with the row.
        source: StoreError,
    },
    /// A stored rule does not read.
    #[error("a stored rule does not read ({0}): restore a backup")]
    StoredRule(FieldError),
    /// The store failed. After a failed commit the batch may or may not be there; the next step looks.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a request on a case is refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DeskError {
    /// Fields of what was sent are wrong; nothing of it was taken.
    #[error("{}", listed(.0))]
    Fields(Vec<FieldError>),
    /// There is no such job.
    #[error("there is no job {job}")]
    NoJob {
        /// Its number.
        job: JobId,
    },
    /// There is no such thing.
    #[error("there is no {what} '{name}'")]
    NotFound {
        /// What.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Somebody else has the job, or nobody.
    #[error("job {job} is not yours, or no longer: ask for the next one")]
    NotHeld {
        /// The job.
        job: JobId,
    },
    /// The job is decided.
    #[error("job {job} is decided already ({decision})")]
    Closed {
        /// The job.
        job: JobId,
        /// How.
        decision: String,
        /// The job that took its place.
        became: Option<JobId>,
    },
    /// More joined the job than the reviewer has seen.
    #[error("job {job} has changed since you saw it: look at what joined, and decide on revision {revision}")]
    Changed {
        /// The job.
        job: JobId,
        /// How it is now.
        revision: u64,
    },
    /// It does not go with what is there.
    #[error("{problem}")]
    Conflict {
        /// Why, and what to do.
        problem: String,
    },
    /// The server ends before it answered.
    #[error("the server is shutting down; the outcome is unknown, send it again")]
    Stopped,
    /// The store failed.
    #[error("{0}")]
    Store(Arc<StoreError>),
}

impl DeskError {
    /// A refusal of one field.
    pub fn field(pointer: impl Into<String>, problem: impl Into<String>) -> Self {
        DeskError::Fields(vec![FieldError { pointer: pointer.into(), problem: problem.into() }])
    }
}

impl From<FieldError> for DeskError {
    fn from(error: FieldError) -> Self {
        DeskError::Fields(vec![error])
    }
}

impl From<StoreError> for DeskError {
    fn from(error: StoreError) -> Self {
        DeskError::Store(Arc::new(error))
    }
}

fn listed(errors: &[FieldError]) -> String {
    let shown: Vec<String> = errors.iter().take(10).map(ToString::to_string).collect();
    shown.join("; ")
}

/// A text from outside, short enough to print.
pub(crate) fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}
