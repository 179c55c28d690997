//! What exchanges bring: a record's key stands for one content of a bank.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::change::{Group, clip};
use super::load::visit;
use super::outcome::{BankAnswer, BankError};
use super::{Banks, NewContent};
use crate::signal::{BankId, ContentId, Signal};
use crate::store::keys::{content_key, decode_content, decode_u64, encode_u64, imported_key};
use crate::store::{Keyspace, Range, Store, StoreError};

impl Banks {
    /// Keys of the records a bank's contents came from.
    pub fn imported(&self, bank: BankId) -> Result<Vec<String>, StoreError> {
        let (from, to) = (imported_key(bank, &[]), imported_key(BankId(bank.0 + 1), &[]));
        let mut keys = Vec::new();
        visit(&*self.store, Keyspace::Imported, Range::between(&from, &to), |key, _| {
            keys.push(String::from_utf8_lossy(&key[4..]).into_owned());
            Ok(())
        })?;
        Ok(keys)
    }

    /// Whether a record needs no change: its content has these signals, or a person removed it. Two reads of the store,
    /// without the writer.
    pub fn is_imported(&self, bank: BankId, record: &str, signals: &[Signal]) -> Result<bool, StoreError> {
        let key = imported_key(bank, record.as_bytes());
        let Some(content) = self.store.get(Keyspace::Imported, &key)? else { return Ok(false) };
        let content = ContentId(decode_u64(Keyspace::Imported, &content)?);
        stands(self.store.get(Keyspace::Contents, &content_key(bank, content))?, signals)
    }
}

/// Whether a record's content is as the record says: it has these signals, or a person removed it.
fn stands(row: Option<Vec<u8>>, signals: &[Signal]) -> Result<bool, StoreError> {
    let Some(row) = row else { return Ok(true) };
    let mut held = Vec::new();
    decode_content(&row, &mut held)?;
    Ok(held == signals)
}

impl Group {
    /// A record that came before and has other signals now becomes a new content in place of the old one; one whose
    /// content a person removed stays removed until it is withdrawn. A key that is put is not withdrawn.
    pub(super) fn exchange(
        &mut self,
        store: &dyn Store,
        name: &str,
        put: Vec<(String, NewContent)>,
        withdrawn: &[String],
    ) -> Result<BankAnswer, BankError> {
        let Some(bank) = self.directory.named(name).map(|bank| bank.id) else {
            return Err(BankError::NotFound { name: clip(name) });
        };
        let put = last_of_each(put);
        // Refused as a whole before anything is changed.
        let fault = put
            .iter()
            .map(|(_, content)| content)
            .enumerate()
            .find_map(|(index, content)| Some((index, content.fault()?)));
        if let Some((index, reason)) = fault {
            return Err(BankError::Content { index, reason });
        }
        let before = self.batch.changes.len();
        let stood_for = |group: &Self, key: &[u8]| -> Result<Option<ContentId>, BankError> {
            let row = group.row(store, Keyspace::Imported, key, before)?;
            Ok(row
                .map(|row| decode_u64(Keyspace::Imported, &row))
                .transpose()
                .map_err(Arc::new)?
                .map(ContentId))
        };
        let mut old = Vec::new();
        let here: HashSet<&String> = put.iter().map(|(key, _)| key).collect();
        for key in withdrawn.iter().filter(|key| !here.contains(key)) {
            let key = imported_key(bank, key.as_bytes());
            if let Some(content) = stood_for(self, &key)? {
                old.push(content);
                self.batch.delete(Keyspace::Imported, key);
            }
        }
        let (mut keys, mut contents) = (Vec::new(), Vec::new());
        for (key, content) in put {
            let key = imported_key(bank, key.as_bytes());
            if let Some(known) = stood_for(self, &key)? {
                let row = self.row(store, Keyspace::Contents, &content_key(bank, known), before)?;
                if stands(row, &content.signals).map_err(Arc::new)? {
                    continue;
                }
                old.push(known);
            }
            keys.push(key);
            contents.push(content);
        }
        let added = self.add(name, contents)?;
        for (key, content) in keys.into_iter().zip(added.first_content.0..) {
            self.batch.put(Keyspace::Imported, key, encode_u64(content));
        }
        let mut removed = 0;
        for content in old {
            removed += self.remove(store, name, content)?.contents;
        }
        Ok(BankAnswer {
            contents: added.contents + removed,
            first_content: added.first_content,
            ..self.still(bank)
        })
    }
}

/// The records in their order; of a key that comes twice the last content counts.
fn last_of_each(put: Vec<(String, NewContent)>) -> Vec<(String, NewContent)> {
    let mut places: HashMap<String, usize> = HashMap::with_capacity(put.len());
    let mut kept: Vec<(String, NewContent)> = Vec::with_capacity(put.len());
    for (key, content) in put {
        match places.get(&key) {
            Some(&place) => kept[place].1 = content,
            None => {
                places.insert(key.clone(), kept.len());
                kept.push((key, content));
            }
        }
    }
    kept
}
