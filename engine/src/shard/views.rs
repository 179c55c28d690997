//! The banks as each tenant sees them, made once for each state of the banks and not for each frame.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use arc_swap::Guard;
use index::Tenant;
use index::bank::{BankState, Banks};

/// Tenants whose view is kept; beyond that all are made anew.
const KEPT_MAX: usize = 1024;

/// The banks at one moment, as somebody sees them.
pub(super) enum View {
    /// All of them.
    Whole(Guard<Arc<BankState>>),
    /// A tenant's, and everybody's.
    Tenants(Arc<BankState>),
}

impl View {
    /// The state itself, to be kept.
    pub(super) fn into_owned(self) -> Arc<BankState> {
        match self {
            View::Whole(state) => Guard::into_inner(state),
            View::Tenants(state) => state,
        }
    }

    /// The state itself, to be kept beside this.
    pub(super) fn share(&self) -> Arc<BankState> {
        match self {
            View::Whole(state) => Arc::clone(state),
            View::Tenants(state) => state.clone(),
        }
    }
}

impl Deref for View {
    type Target = BankState;

    fn deref(&self) -> &BankState {
        match self {
            View::Whole(state) => state,
            View::Tenants(state) => state,
        }
    }
}

/// Tenants' views of one state.
#[derive(Default)]
pub(super) struct Views {
    /// The state they are of.
    of: Option<Arc<BankState>>,
    views: HashMap<Tenant, Arc<BankState>>,
}

impl Views {
    /// The newest state as a caller sees it. What was acknowledged before is in it: no view of an older state is given.
    pub(super) fn newest(&mut self, banks: &Banks, tenant: Option<&Tenant>) -> View {
        let newest = banks.state();
        let Some(tenant) = tenant else { return View::Whole(newest) };
        let known = self.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, &newest));
        if !known || self.views.len() >= KEPT_MAX {
            self.views.clear();
            self.of = Some(newest.clone());
        }
        let view = self.views.entry(tenant.clone()).or_insert_with(|| Arc::new(newest.seen_by(tenant)));
        View::Tenants(view.clone())
    }

    /// Lets go of views of an older state: they would keep its tables in memory until a tenant asks again.
    pub(super) fn forget_older(&mut self, banks: &Banks) {
        if self.of.as_ref().is_some_and(|of| !Arc::ptr_eq(of, &banks.state())) {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use index::bank::{BankChange, BankOptions, LoadProgress};
    use index::store::MemoryStore;

    #[test]
    fn a_view_is_of_the_newest_state_and_keeps_no_older_one() {
        let store = Arc::new(MemoryStore::default());
        let (banks, _) = Banks::load(store, BankOptions::default(), &LoadProgress::default()).unwrap();
        let make = |name: &str| {
            let change = BankChange::Create { name: name.to_string(), enabled_ratio: 1.0 };
            banks.apply(vec![change.into()], 0).remove(0).unwrap();
        };
        let acme = Tenant::try_from("ACME".to_string()).unwrap();
        let mut views = Views::default();
        make("ACME.ONE");
        make("BETA.ONE");
        let names =
            |view: &View| view.directory.list().iter().map(|bank| bank.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(&views.newest(&banks, Some(&acme))), ["ACME.ONE"]);
        views.forget_older(&banks);
        let known = Arc::downgrade(views.of.as_ref().unwrap());
        make("ACME.TWO");
        views.forget_older(&banks);
        assert!(known.upgrade().is_none() && views.views.is_empty(), "nothing of before is held");
        assert_eq!(names(&views.newest(&banks, Some(&acme))), ["ACME.ONE", "ACME.TWO"]);
        assert_eq!(names(&views.newest(&banks, None)).len(), 3);
    }
}
