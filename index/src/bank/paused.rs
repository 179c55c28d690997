//! Contents that are banked and do not match for now.

use std::collections::{BTreeMap, HashMap};

use super::load::visit;
use crate::signal::{BankId, ContentId};
use crate::store::keys::{decode_u64, read_content_key};
use crate::store::{Keyspace, Range, Store, StoreError};

/// The `disabled_until` of a content that matches, as HMA numbers it: 0 never, 1 always, else from that second on.
pub const ENABLED: u64 = 1;

/// Which contents do not match, and until when. Few, so one map for all banks.
#[derive(Clone, Debug, Default)]
pub struct Paused(HashMap<ContentId, (BankId, u64)>);

impl Paused {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The second since 1970 from which a content matches: 0 never, [`ENABLED`] if nobody paused it.
    pub fn until(&self, content: ContentId) -> u64 {
        self.0.get(&content).map_or(ENABLED, |(_, until)| *until)
    }

    /// Whether a content matches at this second.
    pub fn matches(&self, content: ContentId, now_s: u64) -> bool {
        match self.until(content) {
            0 => false,
            until => until <= now_s,
        }
    }

    /// How many there are in each bank that has any.
    pub fn by_bank(&self) -> BTreeMap<BankId, u64> {
        let mut counts = BTreeMap::new();
        self.0.values().for_each(|(bank, _)| *counts.entry(*bank).or_default() += 1);
        counts
    }

    pub(super) fn read(store: &dyn Store) -> Result<Self, StoreError> {
        let mut paused = Self::default();
        visit(store, Keyspace::Paused, Range::ALL, |key, row| {
            let (bank, content) = read_content_key(key)?;
            paused.set(bank, content, decode_u64(Keyspace::Paused, row)?);
            Ok(())
        })?;
        Ok(paused)
    }

    pub(super) fn set(&mut self, bank: BankId, content: ContentId, until: u64) {
        if until == ENABLED {
            self.0.remove(&content);
        } else {
            self.0.insert(content, (bank, until));
        }
    }

    pub(super) fn any_of(&self, bank: BankId) -> bool {
        self.0.values().any(|(owner, _)| *owner == bank)
    }

    pub(super) fn forget_bank(&mut self, bank: BankId) {
        self.0.retain(|_, (owner, _)| *owner != bank);
    }
}
