//! What exchanges bring: a record's key stands for one content of a bank.

use std::sync::Arc;

use super::change::{BankAnswer, BankError, Group, clip};
use super::load::visit;
use super::{Banks, NewContent};
use crate::signal::{BankId, ContentId};
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
}

impl Group {
    /// A record that came before and has other signals now becomes a new content in place of the old one; one whose
    /// content a person removed stays removed until its signals change.
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
        let mut changed = 0;
        for key in withdrawn {
            let key = imported_key(bank, key.as_bytes());
            if let Some(row) = store.get(Keyspace::Imported, &key).map_err(Arc::new)? {
                let content = decode_u64(Keyspace::Imported, &row).map_err(Arc::new)?;
                changed += self.remove(store, name, ContentId(content))?.contents;
                self.batch.delete(Keyspace::Imported, key);
            }
        }
        let (mut keys, mut contents) = (Vec::new(), Vec::new());
        for (key, content) in put {
            let key = imported_key(bank, key.as_bytes());
            if let Some(row) = store.get(Keyspace::Imported, &key).map_err(Arc::new)? {
                let old = ContentId(decode_u64(Keyspace::Imported, &row).map_err(Arc::new)?);
                let row = store.get(Keyspace::Contents, &content_key(bank, old)).map_err(Arc::new)?;
                let mut signals = Vec::new();
                if let Some(row) = row {
                    decode_content(&row, &mut signals).map_err(Arc::new)?;
                }
                if signals.is_empty() || signals == content.signals {
                    continue;
                }
                self.remove(store, name, old)?;
            }
            keys.push(key);
            contents.push(content);
        }
        changed += contents.len() as u64;
        let added = self.add(name, contents)?;
        for (key, content) in keys.into_iter().zip(added.first_content.0..) {
            self.batch.put(Keyspace::Imported, key, encode_u64(content));
        }
        Ok(BankAnswer { contents: changed, ..added })
    }
}
