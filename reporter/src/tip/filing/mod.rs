//! A report on its way to NCMEC: each step durable before the next, so that no crash loses one or files it twice.
//!
//! What is here is what a filing *is*. `rows` says where it lies, `step` how it goes on, `ended` what follows when it is filed, `person` what people may do to
//! it, `pace` how long it waits.

pub mod ended;
pub mod pace;
pub mod person;
pub mod rows;
pub mod step;

use serde::{Deserialize, Serialize};

use super::info::Info;
use crate::cyber_tipline::Environment;
use crate::cyber_tipline::model::FileDetails;
use crate::desk::evidence::Kept;
use crate::desk::item::ItemKey;
use crate::ids::{JobId, OrgName};

/// A filing: one for each job that was decided as a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tip {
    /// The decided job.
    pub job: JobId,
    /// For whom is reported.
    pub organisation: OrgName,
    /// Where: chosen before anything was sent, never changed after.
    pub environment: Environment,
    /// The user it is about.
    pub user: ItemKey,
    /// Who decided; a rule's name where nobody did.
    pub reviewer: String,
    /// When, in milliseconds since 1970 (UTC).
    pub decided_ms: u64,
    /// How far it is.
    pub stage: Stage,
    /// Goes up whenever somebody takes it to work on: who holds an older one may write nothing more.
    pub epoch: u64,
    /// Whether somebody works on it now.
    pub taken: bool,
    /// When it is worked on next.
    pub due_ms: u64,
    /// How many of its attempts were spent: by answers of NCMEC about this very report, and nothing else.
    pub spent: u32,
    /// Failures in a row that spend none.
    pub failures: u32,
    /// What the last failure was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Who said that it is filed without what the platform adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimal: Option<String>,
    /// Since when it is not known whether a report was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opening_ms: Option<u64>,
    /// The report that is open at NCMEC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<OpenReport>,
    /// How often it was to be finished without NCMEC having refused that. Above 0 it may be filed, and is never opened anew
    /// without a person.
    #[serde(default)]
    pub finishes: u32,
    /// Its files, once it is built.
    #[serde(default)]
    pub files: Vec<TipFile>,
    /// Reports that were opened for it before, and never finished.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<FormerReport>,
    /// Its end, if it was filed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filed: Option<Filed>,
    /// Why a person must look at it; nothing happens until one has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
}

/// How far a filing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nothing was done.
    Decided,
    /// What the platform adds is known; further files are being fetched.
    Informed,
    /// What it says is written: a [`Draft`].
    Built,
    /// A report is about to be opened at NCMEC, or was and its number is not known.
    Opening,
    /// It is open there, and has its number.
    Open,
    /// It is about to be finished, or was and that is not known.
    Finishing,
    /// NCMEC has it.
    Filed,
    /// A person said that it is not filed.
    Cancelled,
}

/// A report that is open at NCMEC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenReport {
    /// NCMEC's number.
    pub report_id: i64,
    /// When it was opened, in milliseconds since 1970 (UTC).
    pub opened_ms: u64,
    /// When NCMEC last took something for it.
    pub changed_ms: u64,
}

/// A report that was opened and left: NCMEC deletes it by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerReport {
    /// Its number; none where the answer was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report_id: Option<i64>,
    /// When it was opened, or was to be.
    pub opened_ms: u64,
    /// Why it was left.
    pub why: String,
}

/// A file of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TipFile {
    /// What it is.
    pub kind: FileKind,
    /// What it is called.
    pub name: String,
    /// Its MD5, in hexadecimal digits: what NCMEC must have received.
    pub md5: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// NCMEC's id of it in the open report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_id: Option<String>,
    /// Whether NCMEC has its details.
    #[serde(default)]
    pub detailed: bool,
}

/// Where a file comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A medium of the job.
    Media {
        /// Its number in the job.
        media: u64,
    },
    /// A further file, of the reviewer's or the platform's.
    Supplemental {
        /// Where it was fetched.
        url: String,
    },
    /// A conversation, as CSV.
    Thread {
        /// Which.
        thread: ItemKey,
    },
}

/// How a filing ended at NCMEC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filed {
    /// NCMEC's number.
    pub report_id: i64,
    /// When it was known here, in milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// Whether NCMEC's list of files is the one we know. False if its answer was lost, and it only said that the report is
    /// finished already.
    pub verified: bool,
    /// Our files that NCMEC did not list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Files that NCMEC listed and we do not know: uploads whose answer was lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
    /// Who said so, where no answer of NCMEC did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said_by: Option<String>,
}

/// Why a person must look at a filing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The cause.
    pub cause: Cause,
    /// In words.
    pub words: String,
    /// Since when, in milliseconds since 1970 (UTC).
    pub since_ms: u64,
}

/// The causes for which a filing is held, all of them (docs/reporting.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// NCMEC refuses what is sent: the same again would be refused again.
    Rejected,
    /// No medium of it is left, and there is nothing else to report.
    AllMediaMissing,
    /// NCMEC took none of ten attempts.
    AttemptsSpent,
    /// It was decided more than thirty days ago.
    TooOld,
    /// It was, or was not, finished: NCMEC does not know the number any more.
    FinishUnknown,
    /// Somebody else retracted it at NCMEC.
    Retracted,
    /// Somebody else finished it at NCMEC.
    FinishedElsewhere,
    /// NCMEC answered about another report.
    WrongAnswer,
    /// It was begun for the other environment.
    EnvironmentChanged,
    /// A file is not what the reviewer saw.
    FileChanged,
}

/// What the platform added, and further files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Informed {
    /// What the platform answered; none where it is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<Info>,
    /// When, in milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// Further files: the reviewer's, then the platform's.
    pub extra: Vec<Extra>,
}

/// A further file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Extra {
    /// Where it is fetched.
    pub url: String,
    /// What it is called.
    pub name: String,
    /// What it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional_info: Vec<String>,
    /// Its bytes, once they are here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
    /// Why they are not; filled when it is not tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// What a report says, as it is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Draft {
    /// The report's XML, the exact bytes.
    pub xml: String,
    /// Its files, in order.
    pub files: Vec<DraftFile>,
    /// What was moved, left out or changed so that NCMEC takes it; for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// When it was built, in milliseconds since 1970 (UTC).
    pub at_ms: u64,
}

/// A file as it is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DraftFile {
    /// What it is.
    pub kind: FileKind,
    /// What it is called.
    pub name: String,
    /// What its bytes are: `image/png`, `text/csv`.
    pub content_type: String,
    /// Where its bytes are.
    pub source: Source,
    /// Its details; `report_id` and `file_id` are filled in when they are known.
    pub details: FileDetails,
}

/// Where a file's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Preserved media.
    Blob(Kept),
    /// Here.
    Text(String),
}
