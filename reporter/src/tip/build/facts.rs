//! What a report is built of, gathered before anything is written.

use std::collections::BTreeMap;

use index::store::StoreError;

use crate::cyber_tipline::limits::{ESP_SERVICE, over};
use crate::desk::decision::{Decider, Decision, MediaDecision, ReportWords, decision};
use crate::desk::incident::Classification;
use crate::desk::item::{Item, ItemKey, item};
use crate::desk::job::{Job, job};
use crate::desk::ncmec::{JobMedia, media_of};
use crate::desk::settings::settings;
use crate::error::DeskError;
use crate::tip::filing::{Informed, Tip};
use crate::tip::info::Info;
use crate::tip::organisation::Organisation;
use crate::tip::thread::{Conversation, conversations};
use crate::tx::Tx;

/// What a report is built of.
pub struct Facts<'a> {
    /// Where the rest is looked up.
    pub tx: &'a Tx<'a>,
    /// The filing.
    pub tip: &'a Tip,
    /// Who decided.
    pub by: Decider,
    /// What was decided.
    pub words: ReportWords,
    /// The decided job.
    pub job: Job,
    /// All media of the job.
    pub all: Vec<JobMedia>,
    /// Those that are reported.
    pub media: Vec<(JobMedia, MediaDecision)>,
    /// Items of reported media, and reported contents, as far as they are known.
    pub items: BTreeMap<ItemKey, Item>,
    /// The user.
    pub user: Option<Item>,
    /// Reported conversations.
    pub conversations: Vec<Conversation>,
    /// Further files, and the time when they were asked for.
    pub informed: &'a Informed,
    /// For whom is reported.
    pub organisation: &'a Organisation,
    /// The service of which users are, if its name fits where it goes.
    pub service: Option<String>,
    /// Whether files are classified.
    pub classifies: bool,
    /// Earlier reports.
    pub prior: &'a [i64],
    /// Now.
    pub now_ms: u64,
}

impl<'a> Facts<'a> {
    /// Gathers them.
    pub fn gather(
        tx: &'a Tx<'a>,
        tip: &'a Tip,
        informed: &'a Informed,
        organisation: &'a Organisation,
        prior: &'a [i64],
        now_ms: u64,
    ) -> Result<Self, DeskError> {
        let (by, words) = words_of(tx, tip)?;
        let job = job(tx, tip.job)?.ok_or(DeskError::NoJob { job: tip.job })?;
        let media = reported(tx, tip, &words)?;
        let service = organisation.service().filter(|name| over(name, ESP_SERVICE).is_none());
        let mut items = BTreeMap::new();
        for key in media.iter().map(|(medium, _)| &medium.item).chain(&words.contents) {
            if let Some(item) = item(tx, key)? {
                items.insert(key.clone(), item);
            }
        }
        Ok(Self {
            tx,
            tip,
            by,
            all: media_of(tx, tip.job, 0, usize::MAX)?,
            media,
            items,
            user: item(tx, &tip.user)?,
            conversations: conversations(tx, &job, &words.threads)?,
            words,
            job,
            informed,
            organisation,
            service: service.map(str::to_string),
            classifies: organisation.industry_classification && settings(tx)?.industry_classification,
            prior,
            now_ms,
        })
    }

    /// What the platform added.
    pub fn info(&self) -> Option<&'a Info> {
        self.informed.info.as_ref()
    }

    /// Whether the reported user made an item, or is it.
    pub fn is_the_users(&self, key: &ItemKey) -> bool {
        *key == self.tip.user
            || self.items.get(key).is_some_and(|item| item.creator.as_ref() == Some(&self.tip.user))
    }

    /// An item, if it is known here.
    pub fn known(&self, key: &ItemKey) -> Result<Option<Item>, StoreError> {
        match self.items.get(key) {
            Some(item) => Ok(Some(item.clone())),
            None => item(self.tx, key),
        }
    }
}

/// What was decided, and by whom.
pub fn words_of(tx: &Tx<'_>, tip: &Tip) -> Result<(Decider, ReportWords), DeskError> {
    match decision(tx, tip.job)? {
        Some(Decision { by, report: Some(words), .. }) => Ok((by, words)),
        _ => Err(DeskError::Conflict { problem: format!("job {} was not decided as a report", tip.job) }),
    }
}

/// The media that are reported, with what was decided of each.
pub fn reported(
    tx: &Tx<'_>,
    tip: &Tip,
    words: &ReportWords,
) -> Result<Vec<(JobMedia, MediaDecision)>, DeskError> {
    let mut all: BTreeMap<u64, JobMedia> =
        media_of(tx, tip.job, 0, usize::MAX)?.into_iter().map(|medium| (medium.number, medium)).collect();
    let decided = words.media.iter().filter(|decided| decided.classification != Classification::None);
    let mut reported = Vec::new();
    for decided in decided {
        let Some(medium) = all.remove(&decided.media) else {
            let problem =
                format!("medium {} of job {} was reported and is not there", decided.media, tip.job);
            return Err(DeskError::Conflict { problem });
        };
        reported.push((medium, decided.clone()));
    }
    Ok(reported)
}
