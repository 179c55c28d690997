//! Which filings a request means, and which of them a caller sees.

use index::store::StoreError;
use reporter::Tx;
use reporter::access::{Right, Rights};
use reporter::cyber_tipline::Environment;
use reporter::desk::item::ItemKey;
use reporter::desk::job::JobId;
use reporter::tip::filing::{Stage, Tip, rows};
use serde::Deserialize;

use super::super::Refusal;
use super::super::jobs::PAGE_MAX;
use crate::access::Caller;

/// Filings that one request looks through: a page may end before it is full.
const LOOKED_AT_MAX: usize = 20_000;
const LOOKED_AT_ONCE: usize = 500;

/// A caller's eyes.
pub struct Seen {
    rights: Rights,
    person: Option<String>,
}

impl Seen {
    /// What this caller sees.
    pub fn by(caller: &Caller) -> Self {
        Self { rights: caller.rights, person: caller.person().map(str::to_string) }
    }

    /// Whether a filing is seen.
    pub fn sees(&self, tip: &Tip) -> bool {
        self.sees_of(tip.environment, Some(&tip.reviewer))
    }

    /// Whether one of this environment is seen that this reviewer decided, if that is known.
    pub fn sees_of(&self, environment: Environment, reviewer: Option<&str>) -> bool {
        let own = || self.person.as_deref().is_none_or(|person| Some(person) == reviewer);
        let may = self.rights.has(Right::Report) && self.rights.has(Right::ChildSafety);
        may && (environment == Environment::Production || own())
    }
}

/// Which filings, as a request says it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// How far they are.
    stage: Option<Stage>,
    /// Whether they are held for a person.
    held: Option<bool>,
    organisation: Option<String>,
    environment: Option<Environment>,
    /// About which user: its type and id.
    #[serde(rename = "typeId")]
    type_id: Option<String>,
    id: Option<String>,
    /// NCMEC's number.
    report_id: Option<i64>,
    /// Decided then or later, in milliseconds since 1970 (UTC).
    since_ms: Option<u64>,
    /// Decided before then.
    until_ms: Option<u64>,
    /// Those before this job.
    before: Option<u64>,
    /// At most; 100 if absent, 1000 at most.
    limit: Option<usize>,
}

/// The same, read.
pub struct Filter {
    stage: Option<Stage>,
    held: Option<bool>,
    organisation: Option<String>,
    environment: Option<Environment>,
    user: Option<ItemKey>,
    report_id: Option<i64>,
    since_ms: u64,
    until_ms: u64,
}

impl ListQuery {
    /// What is asked for, before which job, and how many.
    pub fn read(self) -> Result<(Filter, Option<JobId>, usize), Refusal> {
        let user = match (self.type_id, self.id) {
            (Some(type_id), Some(id)) => Some(ItemKey::new(type_id, id)),
            (None, None) => None,
            _ => return Err(Refusal::bad("a user is known by 'typeId' and 'id' together")),
        };
        let filter = Filter {
            stage: self.stage,
            held: self.held,
            organisation: self.organisation,
            environment: self.environment,
            user,
            report_id: self.report_id,
            since_ms: self.since_ms.unwrap_or(0),
            until_ms: self.until_ms.unwrap_or(u64::MAX),
        };
        Ok((filter, self.before.map(JobId), self.limit.unwrap_or(100).clamp(1, PAGE_MAX)))
    }
}

impl Filter {
    fn means(&self, tip: &Tip) -> bool {
        let is = |wanted: Option<bool>| wanted.unwrap_or(true);
        is(self.stage.map(|stage| stage == tip.stage))
            && is(self.held.map(|held| held == tip.held.is_some()))
            && is(self.organisation.as_ref().map(|name| name == tip.organisation.as_str()))
            && is(self.environment.map(|environment| environment == tip.environment))
            && is(self.user.as_ref().map(|user| *user == tip.user))
            && is(self.report_id.map(|number| has_number(tip, number)))
            && (self.since_ms..self.until_ms).contains(&tip.decided_ms)
    }
}

/// Whether a filing has NCMEC's number, or had it before.
fn has_number(tip: &Tip, number: i64) -> bool {
    tip.filed.as_ref().is_some_and(|filed| filed.report_id == number)
        || tip.open.as_ref().is_some_and(|open| open.report_id == number)
        || tip.former.iter().any(|former| former.report_id == Some(number))
}

/// Filings before a job, newest first; and before which the rest are, if there may be more.
pub fn find(
    tx: &Tx<'_>,
    filter: &Filter,
    eyes: &Seen,
    mut before: Option<JobId>,
    limit: usize,
) -> Result<(Vec<Tip>, Option<JobId>), StoreError> {
    // A finished report is found by its number without a search.
    if let Some(number) = filter.report_id {
        let mut found = Vec::new();
        for environment in [Environment::Production, Environment::Test] {
            if let Some(job) = rows::by_report(tx, environment, number)? {
                let early = before.is_none_or(|before| job < before);
                let tip = rows::tip(tx, job)?.filter(|tip| early && filter.means(tip) && eyes.sees(tip));
                found.extend(tip);
            }
        }
        if !found.is_empty() {
            return Ok((found, None));
        }
    }
    let (mut found, mut looked_at) = (Vec::new(), 0);
    loop {
        let tips = rows::tips(tx, before, LOOKED_AT_ONCE)?;
        let whole = tips.len() == LOOKED_AT_ONCE;
        looked_at += tips.len();
        for tip in tips {
            before = Some(tip.job);
            if filter.means(&tip) && eyes.sees(&tip) {
                found.push(tip);
                if found.len() == limit {
                    return Ok((found, before));
                }
            }
        }
        if !whole {
            return Ok((found, None));
        }
        if looked_at >= LOOKED_AT_MAX {
            return Ok((found, before));
        }
    }
}
