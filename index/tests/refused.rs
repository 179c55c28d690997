//! A change that is refused leaves no trace, wherever in a group it stands and however far it came.
#![allow(clippy::panic, clippy::unwrap_used)] // a test fails by panicking

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use index::bank::{
    BankChange, BankError, BankOptions, BankRequest, Banks, LoadProgress, MemoryBudget, NewContent,
};
use index::store::{Batch, Database, Durability, Keyspace, MemoryStore, Range, Store, StoreError, Visit};
use index::{ContentId, Distance, Hash256, RequestId, Scratch, Signal, SignalType};
use proptest::prelude::*;

/// A store some of whose contents do not read.
#[derive(Default)]
struct Spotted {
    inner: MemoryStore,
    spots: Mutex<BTreeSet<u64>>,
}

impl Store for Spotted {
    fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if space == Keyspace::Contents
            && let Some(id) = key.last_chunk::<8>()
            && self.spots.lock().unwrap().contains(&u64::from_be_bytes(*id))
        {
            return Err(StoreError::Damaged { path: "here".into(), reason: "a test says so".into() });
        }
        self.inner.get(space, key)
    }

    fn scan(&self, space: Keyspace, range: Range<'_>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.inner.scan(space, range, visit)
    }

    fn snapshot(&self) -> Arc<dyn Store + '_> {
        self.inner.snapshot()
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        self.inner.commit(batch, durability)
    }
}

/// Banks with room for some dozens of signals.
fn open(store: &Arc<Spotted>) -> Banks {
    let memory = Arc::new(MemoryBudget::new(Some(60_000)));
    let options = BankOptions { memory, ..BankOptions::default() };
    Banks::load(store.clone(), options, &LoadProgress::default()).unwrap().0
}

fn content(byte: u8, note: usize) -> NewContent {
    NewContent {
        signals: vec![Signal::Pdq(Hash256([byte; 32])), md5(byte)],
        note: "n".repeat(note),
        metadata: String::new(),
    }
}

fn md5(byte: u8) -> Signal {
    Signal::parse(SignalType::VideoMd5, &format!("{byte:02x}").repeat(16)).unwrap()
}

/// Every row of the bank database.
fn rows(store: &Spotted) -> Vec<(Keyspace, Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    for space in Database::Bank.keyspaces() {
        store
            .inner
            .scan(space, Range::ALL, &mut |key, row| {
                rows.push((space, key.to_vec(), row.to_vec()));
                ControlFlow::Continue(())
            })
            .unwrap();
    }
    rows
}

/// What readers see: generation, banks with their counts, what is paused, and what each hash finds.
fn seen(banks: &Banks) -> String {
    let state = banks.state();
    let mut text = format!("{:?} {:?} {:?}", state.generation, state.last_content, state.directory.list());
    for byte in 0..8 {
        let (mut pdq, mut exact, mut scratch) = (Vec::new(), Vec::new(), Scratch::default());
        let whole = Distance::new(0).unwrap();
        state.tables.pdq.search(&[Hash256([byte; 32])], whole, &mut scratch, &mut pdq);
        let digest = md5(byte).digest().unwrap();
        let table = state.tables.exact(SignalType::VideoMd5).unwrap();
        table.search(&[digest], whole, &mut scratch, &mut exact);
        let until: Vec<u64> = pdq.iter().map(|hit| state.paused.until(hit.content)).collect();
        text += &format!("\n{byte}: {pdq:?} {exact:?} {until:?}");
    }
    text
}

fn change() -> impl Strategy<Value = BankChange> {
    let bank = || (0u8..3).prop_map(|bank| format!("BANK_{bank}"));
    // A note of 256 characters is refused; 60 contents have no room.
    let note = || prop_oneof![6 => Just(0usize), 1 => Just(256)];
    let some = || prop_oneof![6 => 0usize..4, 1 => Just(60)];
    let contents =
        || (some(), 0u8..8, note()).prop_map(|(count, byte, note)| vec![content(byte, note); count]);
    let id = || (1u64..40).prop_map(ContentId);
    let keys = || prop::collection::vec((0u8..6).prop_map(|key| key.to_string()), 0..4);
    prop_oneof![
        2 => bank().prop_map(|name| BankChange::Create { name, enabled_ratio: 1.0 }),
        1 => bank().prop_map(|name| BankChange::Delete { name }),
        3 => (bank(), contents()).prop_map(|(bank, contents)| BankChange::Add { bank, contents }),
        2 => (bank(), id()).prop_map(|(bank, content)| BankChange::Remove { bank, content }),
        2 => (bank(), id(), note(), 0u64..3).prop_map(|(bank, content, note, until)| BankChange::Edit {
            bank,
            content,
            note: Some("n".repeat(note)),
            disabled_until: Some(until),
        }),
        1 => (bank(), bank()).prop_map(|(name, to)| BankChange::Update {
            name,
            new_name: Some(to),
            enabled_ratio: Some(0.5),
            threshold: Some(Distance::new(20)),
        }),
        5 => (bank(), keys(), contents(), keys()).prop_map(|(bank, keys, contents, withdrawn)| {
            // The key of a record that has no room is new, so what is withdrawn was taken back before.
            let many = contents.len() > keys.len();
            let key = |at: usize| keys.get(at).cloned().unwrap_or(format!("k{at}"));
            let put = contents.into_iter().enumerate().map(|(at, content)| (key(at), content));
            let put = if many { put.collect() } else { put.take(keys.len()).collect() };
            BankChange::Exchange { bank, put, withdrawn }
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn groups_with_refused_changes_are_as_if_these_had_never_been_asked_for(
        groups in prop::collection::vec(prop::collection::vec(change(), 1..8), 1..8),
        spots in prop::collection::btree_set(1u64..40, 0..6),
    ) {
        let (all, some) = (Arc::new(Spotted::default()), Arc::new(Spotted::default()));
        let (asked, without) = (open(&all), open(&some));
        for (at, group) in groups.into_iter().enumerate() {
            if at == 2 {
                // From here on some contents do not read, so a change may fail after it has staged much.
                *all.spots.lock().unwrap() = spots.clone();
                *some.spots.lock().unwrap() = spots.clone();
            }
            let group: Vec<BankRequest> = group
                .into_iter()
                .map(|change| BankRequest { id: Some(RequestId::fresh()), ..change.into() })
                .collect();
            let outcomes = asked.apply(group.clone(), 1_000_000);
            let made = group.into_iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok());
            let again = without.apply(made.map(|(request, _)| request).collect(), 1_000_000);
            prop_assert!(again.iter().all(Result::is_ok));
            prop_assert_eq!(rows(&all), rows(&some));
            prop_assert_eq!(seen(&asked), seen(&without));
        }
        let (asked, without) = (open(&all), open(&some));
        prop_assert_eq!(seen(&asked), seen(&without));
    }
}

#[test]
fn a_refused_addition_does_not_keep_a_withdrawn_record_for_ever() {
    let store = Arc::new(Spotted::default());
    let banks = open(&store);
    let apply = |change: BankChange| banks.apply(vec![change.into()], 1).remove(0);
    apply(BankChange::Create { name: "X".into(), enabled_ratio: 1.0 }).unwrap();
    let put = vec![("old".to_string(), content(1, 0))];
    apply(BankChange::Exchange { bank: "X".into(), put, withdrawn: vec![] }).unwrap();
    // The next page withdraws it and brings more than there is room for; beside it a change goes through.
    let put = (0..100).map(|at| (format!("new{at}"), content(2, 0))).collect();
    let withdraw = BankChange::Exchange { bank: "X".into(), put, withdrawn: vec!["old".into()] };
    let other = BankChange::Create { name: "Y".into(), enabled_ratio: 1.0 };
    let outcomes = banks.apply(vec![withdraw.into(), other.into()], 2);
    assert!(matches!(outcomes[0], Err(BankError::Memory { .. })) && outcomes[1].is_ok());
    let bank = banks.state().directory.named("X").unwrap().id;
    assert_eq!(banks.imported(bank).unwrap(), ["old"], "still known, so it can be withdrawn");
    apply(BankChange::Exchange { bank: "X".into(), put: vec![], withdrawn: vec!["old".into()] }).unwrap();
    assert!(banks.state().tables.pdq.is_empty(), "and then it matches no more");
}
