//! The living banks, by id and by name.
//!
//! A change of one bank makes the next directory from the last: banks lie in pages that the two share, and only the page
//! of the changed bank is copied. The names are copied only when a name comes or goes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Bank;
use crate::signal::{BankId, Distance};
use crate::tenant::Tenant;

/// Banks whose ids differ in these low bits alone share a page.
const PAGE_BITS: u32 = 6;

/// The living banks, by id and by name. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// By the high bits of the id; each page in the order of ids, none empty.
    pages: BTreeMap<u32, Arc<Vec<Bank>>>,
    by_name: Arc<HashMap<Arc<str>, BankId>>,
    /// Banks that are switched off.
    off: usize,
    /// How many banks have each threshold of their own.
    own_thresholds: BTreeMap<Distance, usize>,
    /// The tenant whose view it is; none for the operator's.
    tenant: Option<Tenant>,
}

impl Directory {
    /// The bank with this id.
    pub fn get(&self, id: BankId) -> Option<&Bank> {
        let page = self.pages.get(&(id.0 >> PAGE_BITS))?;
        page.binary_search_by_key(&id, |bank| bank.id).ok().map(|place| &page[place])
    }

    /// The bank with this name.
    pub fn named(&self, name: &str) -> Option<&Bank> {
        self.by_name.get(name).and_then(|id| self.get(*id))
    }

    /// Every bank, in the order they were made.
    pub fn list(&self) -> Vec<&Bank> {
        self.banks().collect()
    }

    /// Every bank, in the order they were made.
    pub(super) fn banks(&self) -> impl Iterator<Item = &Bank> {
        self.pages.values().flat_map(|page| page.iter())
    }

    /// An empty view for a tenant.
    pub(super) fn narrowed_to(tenant: &Tenant) -> Self {
        Self { tenant: Some(tenant.clone()), ..Self::default() }
    }

    /// The tenant whose view it is; none for the operator's.
    pub(super) fn tenant(&self) -> Option<&Tenant> {
        self.tenant.as_ref()
    }

    /// Whether any bank is switched off.
    pub(super) fn has_off(&self) -> bool {
        self.off > 0
    }

    /// Whether it holds only what a tenant sees.
    pub(super) fn is_narrowed(&self) -> bool {
        self.tenant.is_some()
    }

    /// The widest of the banks' own thresholds, if any bank has one.
    pub(super) fn widest_threshold(&self) -> Option<Distance> {
        self.own_thresholds.last_key_value().map(|(widest, _)| *widest)
    }

    /// A bank's counts, to change: how many contents it has, and how many signals of each type.
    pub(super) fn counts(&mut self, id: BankId) -> Option<Counts<'_>> {
        let page = self.pages.get_mut(&(id.0 >> PAGE_BITS))?;
        let place = page.binary_search_by_key(&id, |bank| bank.id).ok()?;
        let bank = &mut Arc::make_mut(page)[place];
        Some(Counts { contents: &mut bank.contents, signals: &mut bank.signals })
    }

    /// Adds a bank, or puts it in the place of the one with its id.
    pub(super) fn insert(&mut self, bank: Bank) {
        let page = Arc::make_mut(self.pages.entry(bank.id.0 >> PAGE_BITS).or_default());
        let place = page.binary_search_by_key(&bank.id, |bank| bank.id);
        let before = match place {
            Ok(place) => Some(std::mem::replace(&mut page[place], bank.clone())),
            Err(place) => {
                page.insert(place, bank.clone());
                None
            }
        };
        self.off += usize::from(bank.is_off());
        if let Some(threshold) = bank.threshold {
            *self.own_thresholds.entry(threshold).or_default() += 1;
        }
        if let Some(before) = &before {
            self.forget_settings(before);
        }
        if before.as_ref().is_some_and(|before| before.name == bank.name) {
            return;
        }
        let names = Arc::make_mut(&mut self.by_name);
        before.map(|before| names.remove(&before.name));
        names.insert(bank.name, bank.id);
    }

    /// Takes a bank out.
    pub(super) fn remove(&mut self, id: BankId) -> Option<Bank> {
        let number = id.0 >> PAGE_BITS;
        let page = self.pages.get_mut(&number)?;
        let place = page.binary_search_by_key(&id, |bank| bank.id).ok()?;
        let bank = Arc::make_mut(page).remove(place);
        if page.is_empty() {
            self.pages.remove(&number);
        }
        self.forget_settings(&bank);
        Arc::make_mut(&mut self.by_name).remove(&bank.name);
        Some(bank)
    }

    fn forget_settings(&mut self, bank: &Bank) {
        self.off -= usize::from(bank.is_off());
        if let Some(threshold) = bank.threshold
            && let Some(count) = self.own_thresholds.get_mut(&threshold)
        {
            *count -= 1;
            if *count == 0 {
                self.own_thresholds.remove(&threshold);
            }
        }
    }
}

/// What is counted of a bank.
pub(super) struct Counts<'d> {
    /// Contents in it.
    pub(super) contents: &'d mut u64,
    /// Signals in it, by type.
    pub(super) signals: &'d mut [u64; crate::signal::SignalType::ALL.len()],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::SignalType;

    fn bank(id: u32, name: &str, ratio: f64, threshold: Option<u16>) -> Bank {
        Bank {
            id: BankId(id),
            name: name.into(),
            created_ms: 0,
            enabled_ratio: ratio,
            threshold: threshold.and_then(Distance::new),
            contents: 0,
            signals: [0; SignalType::ALL.len()],
        }
    }

    #[test]
    fn a_changed_directory_shares_what_was_not_changed_and_leaves_the_old_one_as_it_was() {
        let mut old = Directory::default();
        (1..=200).for_each(|id| old.insert(bank(id, &format!("B{id}"), 1.0, None)));
        let mut new = old.clone();
        *new.counts(BankId(70)).unwrap().contents += 5;
        assert_eq!(old.get(BankId(70)).unwrap().contents, 0);
        assert_eq!(new.get(BankId(70)).unwrap().contents, 5);
        let copied = old.pages.iter().filter(|(number, page)| !Arc::ptr_eq(page, &new.pages[number])).count();
        assert_eq!(copied, 1, "one page of 64 banks");
        assert!(Arc::ptr_eq(&old.by_name, &new.by_name));
        assert_eq!(new.list().len(), 200);
    }

    #[test]
    fn names_and_settings_follow_their_banks() {
        let mut banks = Directory::default();
        banks.insert(bank(1, "A", 0.0, Some(40)));
        banks.insert(bank(2, "B", 1.0, Some(40)));
        banks.insert(bank(3, "C", 1.0, Some(10)));
        assert!(banks.has_off() && banks.widest_threshold() == Distance::new(40));
        banks.insert(bank(1, "Z", 1.0, None));
        assert!(!banks.has_off() && banks.named("A").is_none() && banks.named("Z").is_some());
        assert_eq!(banks.widest_threshold(), Distance::new(40), "another bank still has it");
        assert_eq!(banks.remove(BankId(2)).unwrap().name.as_ref(), "B");
        assert_eq!(banks.widest_threshold(), Distance::new(10));
        assert!(banks.remove(BankId(2)).is_none() && banks.named("B").is_none());
    }
}
