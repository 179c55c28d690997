//! One content: reading it, and changing what is said about it.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::change::{Group, SIGNAL_BYTES, clip};
use super::history::What;
use super::outcome::{BankAnswer, BankError};
use super::seen::bank_name_fits;
use super::{BankRecord, BankState, Banks};
use crate::signal::{BankId, ContentId, Distance, Frame, Signal, SignalType};
use crate::store::keys::{
    About, bank_key, content_key, decode_content, encode_content, encode_u64, json_row, read_content_key,
};
use crate::store::{Change, Keyspace, Range, Store, StoreError};
use crate::texts::NormalText;
use crate::videos::VideoRule;

/// Characters of a note, as in HMA.
const NOTE_MAX: usize = 255;
const METADATA_MAX: usize = 64 << 10;
/// Bytes of rows after which a page ends: a video takes hundreds of thousands.
const PAGE_BYTES_MAX: usize = 16 << 20;

/// A content to bank: at most one signal of each type.
#[derive(Clone, Debug, Default)]
pub struct NewContent {
    /// Its signals, at least one.
    pub signals: Vec<Signal>,
    /// A note of at most 255 characters; may be empty.
    pub note: String,
    /// A JSON object of at most 64 KiB that is kept and shown as it is; may be empty.
    pub metadata: String,
}

impl NewContent {
    /// Why it cannot be banked.
    pub(super) fn fault(&self) -> Option<&'static str> {
        let kinds = |kind| self.signals.iter().filter(|signal| signal.kind() == kind).count();
        if self.signals.is_empty() {
            Some("it has no signal")
        } else if SignalType::ALL.into_iter().any(|kind| kinds(kind) > 1) {
            Some("it has two signals of one type")
        } else if self.note.chars().count() > NOTE_MAX {
            Some("its note is longer than 255 characters")
        } else if self.metadata.len() > METADATA_MAX {
            Some("its metadata is longer than 64 KiB")
        } else {
            self.signals.iter().find_map(tells_nothing)
        }
    }

    /// Bytes that it takes in the tables at most.
    pub(super) fn room(&self) -> usize {
        let of = |signal: &Signal| match signal {
            Signal::Text(_, text) => SIGNAL_BYTES + text.len() * size_of::<char>(),
            Signal::Video(frames) => SIGNAL_BYTES * (1 + frames.len()),
            _ => SIGNAL_BYTES,
        };
        self.signals.iter().map(of).sum()
    }
}

/// Why a signal would match everything of its kind that tells nothing, or nothing at all.
fn tells_nothing(signal: &Signal) -> Option<&'static str> {
    match signal {
        Signal::Text(SignalType::RawText, text) if NormalText::of(text).is_empty() => {
            Some("its raw_text has neither letter nor digit to match by")
        }
        Signal::Video(frames) if Frame::hashes(frames, VideoRule::default().quality_min).is_empty() => {
            Some("its vpdq has no frame of quality 50 or more to match by")
        }
        _ => None,
    }
}

/// A banked content as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredContent {
    /// The bank it lies in.
    pub bank: BankId,
    /// Which it is.
    pub content: ContentId,
    /// Its signals, at most one a type.
    pub signals: Vec<Signal>,
    /// A note for people; may be empty.
    pub note: String,
    /// A JSON object, or empty.
    pub metadata: String,
    /// See [`Paused`](super::Paused).
    pub disabled_until: u64,
}

impl StoredContent {
    fn read(state: &BankState, bank: BankId, content: ContentId, row: &[u8]) -> Result<Self, StoreError> {
        let mut signals = Vec::new();
        let About { note, metadata } = decode_content(row, &mut signals)?;
        Ok(Self {
            bank,
            content,
            note: note.to_string(),
            metadata: metadata.to_string(),
            signals,
            disabled_until: state.paused.until(content),
        })
    }
}

impl Banks {
    /// The content with this id, whichever bank it lies in. A read of the store for each bank: not for the hot path.
    pub fn content(&self, content: ContentId) -> Result<Option<StoredContent>, StoreError> {
        let state = self.state_owned();
        for bank in state.directory.list() {
            if let Some(row) = self.store.get(Keyspace::Contents, &content_key(bank.id, content))? {
                return Ok(Some(StoredContent::read(&state, bank.id, content, &row)?));
            }
        }
        Ok(None)
    }

    /// The content with this id in this bank.
    pub fn content_of(&self, bank: BankId, content: ContentId) -> Result<Option<StoredContent>, StoreError> {
        let row = self.store.get(Keyspace::Contents, &content_key(bank, content))?;
        row.map(|row| StoredContent::read(&self.state(), bank, content, &row)).transpose()
    }

    /// Contents of a bank after this one that are wanted, at most `limit`, of at most `look_at` that are looked at;
    /// beside them after which content to go on, if there may be more.
    pub fn contents(
        &self,
        bank: BankId,
        after: ContentId,
        limit: usize,
        look_at: usize,
        wanted: impl Fn(&StoredContent) -> bool,
    ) -> Result<(Vec<StoredContent>, Option<ContentId>), StoreError> {
        let state = self.state_owned();
        let from = content_key(bank, ContentId(after.0.saturating_add(1)));
        let to = content_key(BankId(bank.0 + 1), ContentId(0));
        let (mut contents, mut looked_at, mut last, mut more) = (Vec::new(), 0, after, false);
        let mut bytes = 0;
        let mut fault = None;
        self.store.scan(Keyspace::Contents, Range::between(&from, &to), &mut |key, row| {
            if contents.len() == limit || looked_at == look_at || bytes > PAGE_BYTES_MAX {
                more = true;
                return ControlFlow::Break(());
            }
            looked_at += 1;
            let read = read_content_key(key)
                .and_then(|(_, content)| StoredContent::read(&state, bank, content, row));
            match read {
                Ok(content) => {
                    last = content.content;
                    bytes += row.len();
                    contents.extend(Some(content).filter(&wanted));
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    fault = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        fault.map_or(Ok((contents, more.then_some(last))), Err)
    }
}

impl Group {
    pub(super) fn update(
        &mut self,
        name: &str,
        new_name: Option<String>,
        enabled_ratio: Option<f64>,
        threshold: Option<Option<Distance>>,
    ) -> Result<BankAnswer, BankError> {
        let Some(bank) = self.directory.named(name) else {
            return Err(BankError::NotFound { name: clip(name) });
        };
        let mut bank = bank.clone();
        if let Some(new_name) = new_name.filter(|new| *new != *bank.name) {
            if !bank_name_fits(&new_name) {
                return Err(BankError::Name { name: clip(&new_name) });
            }
            if self.directory.named(&new_name).is_some() {
                return Err(BankError::Exists { name: new_name });
            }
            bank.name = new_name.into();
        }
        bank.enabled_ratio = enabled_ratio.unwrap_or(bank.enabled_ratio);
        bank.threshold = threshold.unwrap_or(bank.threshold);
        let record = BankRecord {
            name: bank.name.to_string(),
            created_ms: bank.created_ms,
            enabled_ratio: bank.enabled_ratio,
            threshold: bank.threshold,
        };
        self.batch.put(Keyspace::Banks, bank_key(bank.id), json_row(1, &record));
        let what = What::BankUpdated {
            name: record.name,
            enabled_ratio: record.enabled_ratio,
            threshold: record.threshold,
        };
        let id = bank.id;
        self.directory.insert(bank);
        let answer = self.answer(id, 0, ContentId(0));
        self.note_bank(id, what);
        Ok(answer)
    }

    pub(super) fn edit(
        &mut self,
        store: &dyn Store,
        name: &str,
        content: ContentId,
        note: Option<String>,
        disabled_until: Option<u64>,
    ) -> Result<BankAnswer, BankError> {
        let Some(id) = self.directory.named(name).map(|bank| bank.id) else {
            return Err(BankError::NotFound { name: clip(name) });
        };
        let key = content_key(id, content);
        let row = self.row(store, Keyspace::Contents, &key, self.batch.changes.len())?;
        let Some(row) = row else { return Ok(self.still(id)) };
        let what = What::Edited { note: note.clone(), disabled_until };
        if let Some(note) = note {
            if note.chars().count() > NOTE_MAX {
                return Err(BankError::Content {
                    index: 0,
                    reason: "its note is longer than 255 characters",
                });
            }
            let mut signals = Vec::new();
            let About { metadata, .. } = decode_content(&row, &mut signals).map_err(Arc::new)?;
            self.batch.put(
                Keyspace::Contents,
                key,
                encode_content(&signals, &About { note: &note, metadata }),
            );
        }
        if let Some(until) = disabled_until {
            self.pause(id, content, until);
        }
        let answer = self.answer(id, 1, content);
        self.note_content(id, content, what);
        Ok(answer)
    }

    /// Notes from when on a content matches, for good and for readers.
    pub(super) fn pause(&mut self, bank: BankId, content: ContentId, until: u64) {
        if self.paused.until(content) == until {
            return;
        }
        let key = content_key(bank, content);
        if until == super::ENABLED {
            self.batch.delete(Keyspace::Paused, key);
        } else {
            self.batch.put(Keyspace::Paused, key, encode_u64(until));
        }
        Arc::make_mut(&mut self.paused).set(bank, content, until);
    }

    /// A row as the first `upto` changes of this group leave it, which are not in the store yet.
    pub(super) fn row(
        &self,
        store: &dyn Store,
        space: Keyspace,
        key: &[u8],
        upto: usize,
    ) -> Result<Option<Vec<u8>>, BankError> {
        for change in self.batch.changes[..upto].iter().rev() {
            match change {
                Change::Put(of, put, row) if *of == space && put == key => return Ok(Some(row.clone())),
                Change::Delete(of, gone) if *of == space && gone == key => return Ok(None),
                Change::DeleteRange(of, from, to) if *of == space && from[..] <= *key && *key < to[..] => {
                    return Ok(None);
                }
                _ => {}
            }
        }
        Ok(store.get(space, key).map_err(Arc::new)?)
    }
}
