//! Why a hit is not routed, or a rules file not taken. Each message says what to do.
//!
//! The router never steps over what it cannot read: a skipped hit would be a lost one.

use index::Position;
use index::store::StoreError;

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
        field: &'static str,
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
    /// The store failed. After a failed commit the batch may or may not be there; the next step looks.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A text from outside, short enough to print.
pub(crate) fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}
