//! Reading the log in pages. Who may not see child safety matters gets such records sealed: that there is one, and its
//! place in the chain, and nothing of what it says.

use std::ops::ControlFlow;

use index::store::{Range, Store, StoreError};
use serde::Serialize;

use super::{RECORD, Record, RecordHash, SPACE, StoredRow, read_record_key, record_key};

/// Records that are looked at for one page: a filter that lets few through ends a page before it is full.
const LOOKED_AT_MAX: u64 = 100_000;

/// From where, and in which direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Those after this number, oldest first.
    After(u64),
    /// Those before this number, newest first; without one from the newest.
    Before(Option<u64>),
}

/// Which records; an absent condition lets all through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Its action is this one, or goes on behind it with a dot: `job` has `job.decide`.
    pub action: Option<String>,
    /// Who did it.
    pub who: Option<String>,
    /// What it concerns.
    pub about: Option<String>,
}

impl Filter {
    fn asks(&self) -> bool {
        self.action.is_some() || self.who.is_some() || self.about.is_some()
    }

    fn lets_through(&self, record: &Record) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        let action = self.action.as_ref().is_none_or(|wanted| {
            let rest = record.action.strip_prefix(wanted.trim_end_matches('.'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        action && is(&self.who, &record.who) && is(&self.about, &record.about)
    }
}

/// A record as a reader sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Shown {
    /// All of it.
    Open(Record),
    /// That it is there.
    Sealed {
        /// Its number.
        number: u64,
        /// When.
        at_ms: u64,
        /// The hash of the record before.
        previous: RecordHash,
        /// Its own.
        hash: RecordHash,
        /// True.
        sealed: bool,
    },
}

/// Some records. `next` continues in the same direction; absent at the end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Page {
    /// In the order that was asked for.
    pub entries: Vec<Shown>,
    /// The last number that was looked at, if there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// Some records of the log, at most so many. A sealed record passes no condition: it would tell what it says.
pub fn page(
    store: &dyn Store,
    side: Side,
    limit: usize,
    filter: &Filter,
    child_safety: bool,
) -> Result<Page, StoreError> {
    let (from, to, backwards) = match side {
        Side::After(number) => (record_key(number.saturating_add(1)), vec![RECORD + 1], false),
        Side::Before(Some(number)) => (record_key(0), record_key(number).to_vec(), true),
        Side::Before(None) => (record_key(0), vec![RECORD + 1], true),
    };
    let mut page = Page { entries: Vec::new(), next: None };
    let (mut looked_at, mut last, mut bad) = (0, None, None);
    store.scan(SPACE, Range { from: &from, to: Some(&to), backwards }, &mut |key, row| {
        let Some(number) = read_record_key(key) else { return ControlFlow::Continue(()) };
        if page.entries.len() >= limit || looked_at == LOOKED_AT_MAX {
            page.next = last;
            return ControlFlow::Break(());
        }
        (looked_at, last) = (looked_at + 1, Some(number));
        match StoredRow::read(row).and_then(|stored| stored.record(number)) {
            Ok(record) if record.child_safety && !child_safety => {
                if !filter.asks() {
                    let Record { number, at_ms, previous, hash, .. } = record;
                    page.entries.push(Shown::Sealed { number, at_ms, previous, hash, sealed: true });
                }
            }
            Ok(record) if filter.lets_through(&record) => page.entries.push(Shown::Open(record)),
            Ok(_) => {}
            Err(error) => {
                bad = Some(error);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    bad.map_or(Ok(page), Err)
}
