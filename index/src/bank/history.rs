//! What happened to banks and contents, written in the batch that made it happen.
//!
//! An addition is one row however many contents it brought, so a bulk load costs nothing more; it is found by the ids
//! it gave out. Rows outlive what they tell of: who removed a content, and when, is asked when it is gone.

use serde::{Deserialize, Serialize};

use super::Banks;
use super::change::Group;
use super::load::visit;
use crate::hit::RequestId;
use crate::signal::{BankId, ContentId, Distance, Generation};
use crate::store::keys::{json_row, read_json_row};
use crate::store::{Keyspace, Range, StoreError};

const VERSION: u8 = 1;
/// First bytes of keys: additions by first content, contents by id, banks by id; then the generation.
const ADDITION: u8 = b'a';
const CONTENT: u8 = b'c';
const BANK: u8 = b'b';

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When, in milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// The state that first shows it.
    pub generation: Generation,
    /// The bank.
    pub bank: BankId,
    /// The request that made it, if it said who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// Whether an exchange brought it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_exchange: bool,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// A bank was made.
    BankCreated {
        /// Its name.
        name: String,
    },
    /// A bank was changed; these are its settings since.
    BankUpdated {
        /// Its name.
        name: String,
        /// See [`Bank::enabled_ratio`](super::Bank::enabled_ratio).
        enabled_ratio: f64,
        /// See [`Bank::threshold`](super::Bank::threshold).
        threshold: Option<Distance>,
    },
    /// A bank was removed with its contents.
    BankDeleted {
        /// Its name.
        name: String,
        /// How many it held.
        contents: u64,
    },
    /// A bank's signals were given out.
    BankExported {
        /// Whether its source restricts passing them on, and the request insisted.
        restricted: bool,
    },
    /// Contents were added; their ids follow one another.
    Added {
        /// The first.
        first: ContentId,
        /// How many.
        contents: u64,
    },
    /// What is said about a content was changed.
    Edited {
        /// Its new note, if that was changed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        /// From when on it matches, if that was changed; see [`Paused`](super::Paused).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        disabled_until: Option<u64>,
    },
    /// A content was removed.
    Removed,
}

impl Banks {
    /// What happened to a content, oldest first: its addition, its changes, its end, or that of its bank. Empty for one
    /// that never was, or was before there was a history.
    pub fn content_history(&self, content: ContentId) -> Result<Vec<Event>, StoreError> {
        let mut events = Vec::new();
        let (from, to) =
            (key(ADDITION, &0u64.to_be_bytes()), key(ADDITION, &content.0.saturating_add(1).to_be_bytes()));
        self.store.scan(Keyspace::History, Range::between(&from, &to).reversed(), &mut |_, row| {
            events.push(read_json_row::<Event>(Keyspace::History, VERSION, row));
            std::ops::ControlFlow::Break(())
        })?;
        let added = events.pop().transpose()?.filter(
            |event| matches!(event.what, What::Added { first, contents } if content.0 - first.0 < contents),
        );
        let mut events: Vec<Event> = added.into_iter().collect();
        let from = key(CONTENT, &content.0.to_be_bytes());
        self.events(&from, &key(CONTENT, &content.0.saturating_add(1).to_be_bytes()), &mut events)?;
        if let Some(bank) = events.first().map(|event| event.bank)
            && !events.iter().any(|event| event.what == What::Removed)
        {
            let ends = self.bank_history(bank)?.into_iter();
            events.extend(ends.filter(|event| matches!(event.what, What::BankDeleted { .. })));
        }
        Ok(events)
    }

    /// What happened to a bank itself, oldest first.
    pub fn bank_history(&self, bank: BankId) -> Result<Vec<Event>, StoreError> {
        let mut events = Vec::new();
        let from = key(BANK, &bank.0.to_be_bytes());
        self.events(&from, &key(BANK, &(bank.0 + 1).to_be_bytes()), &mut events)?;
        Ok(events)
    }

    fn events(&self, from: &[u8], to: &[u8], events: &mut Vec<Event>) -> Result<(), StoreError> {
        visit(&*self.store, Keyspace::History, Range::between(from, to), |_, row| {
            events.push(read_json_row(Keyspace::History, VERSION, row)?);
            Ok(())
        })
    }
}

impl Group {
    /// Writes what the change that made the newest generation did to a bank.
    pub(super) fn note_bank(&mut self, bank: BankId, what: What) {
        let generation = self.generation();
        let key = [&key(BANK, &bank.0.to_be_bytes())[..], &generation.0.to_be_bytes()].concat();
        self.note(key, bank, what);
    }

    /// The same of a content.
    pub(super) fn note_content(&mut self, bank: BankId, content: ContentId, what: What) {
        let generation = self.generation();
        let key = match what {
            What::Added { .. } => key(ADDITION, &content.0.to_be_bytes()),
            _ => [&key(CONTENT, &content.0.to_be_bytes())[..], &generation.0.to_be_bytes()].concat(),
        };
        self.note(key, bank, what);
    }

    fn note(&mut self, key: Vec<u8>, bank: BankId, what: What) {
        let (at_ms, request, by_exchange) = self.cause;
        let event = Event { at_ms, generation: self.generation(), bank, request, by_exchange, what };
        self.batch.put(Keyspace::History, key, json_row(VERSION, &event));
    }
}

fn key(kind: u8, id: &[u8]) -> Vec<u8> {
    [&[kind], id].concat()
}
