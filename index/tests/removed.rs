//! Rows of removed contents go when no stored segment holds them any more.
#![allow(clippy::panic, clippy::unwrap_used)] // a test fails by panicking

use std::ops::ControlFlow;
use std::sync::Arc;

use index::bank::{BankChange, BankOptions, Banks, LoadProgress, NewContent, Storing};
use index::store::segments::MemorySegments;
use index::store::{Keyspace, MemoryStore, Range, Store};
use index::{ContentId, Hash256, Signal, SignalType};

fn load(store: &Arc<MemoryStore>, segments: &Arc<MemorySegments>) -> Banks {
    let storing = Storing { worth: 1, ..Storing::into(segments.clone()) };
    let options = BankOptions { storing: Some(storing), ..BankOptions::default() };
    Banks::load(store.clone(), options, &LoadProgress::default()).unwrap().0
}

fn pdq(number: u32) -> Signal {
    let mut hash = [0; 32];
    hash[..4].copy_from_slice(&number.wrapping_mul(0x9E37_79B9).to_be_bytes());
    Signal::Pdq(Hash256(hash))
}

fn md5(number: u32) -> Signal {
    Signal::parse(SignalType::VideoMd5, &format!("{number:032x}")).unwrap()
}

fn apply(banks: &Banks, change: BankChange) {
    banks.apply(vec![change.into()], 1).remove(0).unwrap();
}

/// Enough contents of these signals for a merge, then everything merged and stored.
fn add(banks: &Banks, signals: impl Fn(u32) -> Vec<Signal>) {
    let contents = (0..600).map(|at| NewContent { signals: signals(at), ..NewContent::default() }).collect();
    apply(banks, BankChange::Add { bank: "B".into(), contents });
    while banks.merge_step(false) {}
    while banks.store_step().unwrap() {}
}

#[test]
fn the_row_of_a_removed_content_with_two_types_goes_when_both_have_forgotten_it() {
    let (store, segments) = (Arc::new(MemoryStore::default()), Arc::new(MemorySegments::default()));
    let rows = || {
        let mut rows = 0;
        let visit = &mut |_: &[u8], _: &[u8]| {
            rows += 1;
            ControlFlow::Continue(())
        };
        store.scan(Keyspace::Removed, Range::ALL, visit).unwrap();
        rows
    };
    let banks = load(&store, &segments);
    apply(&banks, BankChange::Create { name: "B".into(), enabled_ratio: 1.0 });
    add(&banks, |at| vec![pdq(at), md5(at)]);
    apply(&banks, BankChange::Remove { bank: "B".into(), content: ContentId(1) });
    // The PDQ table forgets it in a merge, the other still holds it; then the program starts again.
    add(&banks, |at| vec![pdq(10_000 + at)]);
    assert_eq!(rows(), 1);
    let banks = load(&store, &segments);
    add(&banks, |at| vec![md5(10_000 + at)]);
    assert_eq!(rows(), 0, "neither table holds it");
    let banks = load(&store, &segments);
    assert_eq!(banks.state().tables.pdq.len(), 1199);
}
