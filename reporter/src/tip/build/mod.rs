//! What a report says, built of the decision, the settings, the items and what the platform added. A pure function.
//!
//! Nothing is made up and nothing is lost: a field is filled with what is known or left out, and what NCMEC has no field
//! for, or takes only shorter, stands whole in the report's `additionalInfo`. No value is cut. What was moved, left out or
//! changed is noted for people as well. Whether a file is what is reported is said of each: media are `Reported`, further
//! files `Supplemental Reported`; conversations are `Reported` where there is no medium, and else supplemental.

mod added;
mod contents;
mod facts;
mod file;
mod incident;
mod person;
mod said;

use index::store::StoreError;

use self::facts::{Facts, reported, words_of};
use self::said::Said;
use super::filing::{Draft, DraftFile, Extra, Informed, Tip};
use super::info::Info;
use super::organisation::Organisation;
use crate::cyber_tipline::model::Report;
use crate::cyber_tipline::xml::report_xml;
use crate::desk::item::ItemKey;
use crate::error::DeskError;
use crate::tx::Tx;

/// Why there is no report yet, or none at all.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BuildError {
    /// A file of it is still being preserved: later. Files are waited for six hours, and longer if nothing else is there
    /// to report.
    #[error("{words}")]
    NotYet {
        /// Which.
        words: String,
    },
    /// No reported medium is left, and there is nothing else to report.
    #[error("{words}")]
    AllMediaMissing {
        /// Which.
        words: String,
    },
    /// What it is built of does not read.
    #[error(transparent)]
    Desk(#[from] DeskError),
}

impl From<StoreError> for BuildError {
    fn from(error: StoreError) -> Self {
        BuildError::Desk(error.into())
    }
}

/// What the platform is asked about: the user, and the items of reported media, each once. The user's own pictures are
/// the user's.
pub fn asked(tx: &Tx<'_>, tip: &Tip) -> Result<(Vec<ItemKey>, Vec<ItemKey>), DeskError> {
    let words = words_of(tx, tip)?.1;
    let mut media = Vec::new();
    for (medium, _) in reported(tx, tip, &words)? {
        if medium.item != tip.user && !media.contains(&medium.item) {
            media.push(medium.item);
        }
    }
    Ok((vec![tip.user.clone()], media))
}

/// Further files that must be fetched: the reviewer's, then the platform's.
pub fn extras(tx: &Tx<'_>, tip: &Tip, info: Option<&Info>) -> Result<Vec<Extra>, DeskError> {
    let words = words_of(tx, tip)?.1;
    let mut extras: Vec<Extra> = Vec::new();
    for file in words.supplemental_files {
        let additional_info = file.additional_info.into_iter().collect();
        extras.push(Extra {
            url: file.url,
            name: file.file_name,
            additional_info,
            kept: None,
            missing: None,
        });
    }
    for file in info.iter().flat_map(|info| &info.additional_files) {
        let name = file.name.as_deref().or_else(|| file::last_segment(&file.url));
        extras.push(Extra {
            url: file.url.clone(),
            name: name.unwrap_or("file").to_string(),
            additional_info: file.additional_info.clone(),
            kept: None,
            missing: None,
        });
    }
    Ok(extras)
}

/// The report of a decided job, with its files. `prior` are earlier production reports on the user, newest first.
pub fn draft(
    tx: &Tx<'_>,
    tip: &Tip,
    informed: &Informed,
    organisation: &Organisation,
    prior: &[i64],
    now_ms: u64,
) -> Result<Draft, BuildError> {
    let facts = Facts::gather(tx, tip, informed, organisation, prior, now_ms)?;
    let mut said = Said::default();
    contents::say_who_decided(&facts, &mut said);
    contents::say_what_was_added(&facts, &mut said);
    contents::say_contents(&facts, &mut said)?;
    let (files, events) = files(&facts, &mut said)?;
    let moment = incident::moment(&facts);
    let report = Report {
        batched_report: None,
        incident_summary: incident::summary(&facts, &moment),
        internet_details: vec![incident::internet(&facts, &mut said)?],
        law_enforcement: None,
        reporter: incident::reporter(organisation, &mut said),
        person_or_user_reported: vec![person::reported(&facts, &moment, events, &mut said)?],
        intended_recipient: person::recipients(&facts, &mut said)?,
        victim: Vec::new(),
        // Last: whatever had to be moved stands in it.
        additional_info: said.text(),
    };
    Ok(Draft { xml: report_xml(&report), files, notes: said.notes, at_ms: now_ms })
}

/// Media, further files and conversations; and the addresses behind them that files have no room for.
fn files(facts: &Facts<'_>, said: &mut Said) -> Result<(Vec<DraftFile>, Vec<file::Event>), BuildError> {
    let mut names = file::Names::default();
    let (mut files, events) = file::media(facts, &mut names, said)?;
    let has_media = !files.is_empty();
    file::extras(facts, &mut names, &mut files, said)?;
    file::threads(facts, !has_media, &mut names, &mut files, said)?;
    Ok((files, events))
}
