//! Routing a hit costs the same however many hits its item had before: else one upload under one id, with many banked
//! contents, keeps the one writer of cases from everybody else.

#![allow(clippy::unwrap_used)] // clippy takes this file's helpers for code outside tests

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use index::store::keys::{encode_hit, hit_key};
use index::store::{Batch, Change, Durability, Keyspace, MemoryStore, Range, Store, StoreError, Visit};
use index::{
    BankId, ContentId, Distance, Generation, Hit, HitMatch, Position, RequestId, SignalType, UploadContext,
};
use reporter::desk::decision::{self, Decider, Decision, DecisionKind};
use reporter::desk::item::uploads::UPLOADS_MAX;
use reporter::desk::item::{ItemKey, forget_item, item};
use reporter::desk::job::{JobId, job};
use reporter::desk::ncmec::media_of;
use reporter::router::effect::escalate_job;
use reporter::router::rule::RulesFile;
use reporter::{Cases, Gate, Tx, census};

/// Counts the bytes of rows that are read and written.
#[derive(Default)]
struct Counting {
    rows: MemoryStore,
    bytes: AtomicUsize,
}

impl Store for Counting {
    fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let row = self.rows.get(space, key)?;
        self.bytes.fetch_add(row.as_ref().map_or(0, Vec::len), Ordering::Relaxed);
        Ok(row)
    }

    fn scan(&self, space: Keyspace, range: Range<'_>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.rows.scan(space, range, &mut |key, row| {
            self.bytes.fetch_add(key.len() + row.len(), Ordering::Relaxed);
            visit(key, row)
        })
    }

    fn snapshot(&self) -> Arc<dyn Store + '_> {
        self.rows.snapshot()
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        for change in &batch.changes {
            if let Change::Put(_, _, row) = change {
                self.bytes.fetch_add(row.len(), Ordering::Relaxed);
            }
        }
        self.rows.commit(batch, durability)
    }
}

struct Open;

impl Gate for Open {
    fn admit(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A hit of one user's item with a content that no other hit has matched.
fn hit(position: u64) -> Hit {
    let found = HitMatch {
        bank: BankId(1),
        bank_name: "BANK_1".to_string(),
        content: ContentId(position),
        distance: Distance::new(4).unwrap(),
    };
    let context = UploadContext {
        item_id: Some("a".to_string()),
        creator: Some("u".to_string()),
        url: Some(format!("https://media.example/{position}")),
        ..UploadContext::default()
    };
    Hit {
        position: Position(position),
        request: RequestId::from_bytes([0x70; 16]).unwrap(),
        index: 0,
        received_ms: 1,
        generation: Generation(1),
        signal_type: SignalType::Pdq,
        signal: format!("{position:064x}"),
        matches: vec![found],
        matches_total: 1,
        upload_id: 0,
        context,
    }
}

fn log(store: &Counting, hits: RangeInclusive<u64>) {
    let mut batch = Batch::default();
    for position in hits {
        batch.put(Keyspace::Hits, hit_key(Position(position)), encode_hit(&hit(position)));
    }
    store.rows.commit(batch, Durability::Sync).unwrap();
}

fn routed(rules: &str, hits: u64) -> (Arc<Counting>, Cases) {
    let store = Arc::new(Counting::default());
    log(&store, 1..=hits);
    let mut cases = Cases::open(store.clone(), Durability::Sync, Box::new(Open)).unwrap();
    cases.apply_file(Some(&RulesFile::parse(rules).unwrap()), 1).unwrap();
    (store, cases)
}

const REVIEW: &str = "default_queue = 'review'";
const NCMEC: &str = "default_queue = 'review'
    [[rule]]\nname = 'ncmec'\nbanks = ['BANK_1']\nactions = [{ enqueue_ncmec = {} }]";

#[test]
fn a_hit_costs_the_same_however_many_contents_its_item_has_matched() {
    for rules in [REVIEW, NCMEC] {
        let (store, mut cases) = routed(rules, 900);
        let mut costs = Vec::new();
        for at in 0..900 {
            let before = store.bytes.load(Ordering::Relaxed);
            cases.step(1, 1000 + at).unwrap();
            costs.push(store.bytes.load(Ordering::Relaxed) - before);
        }
        let (early, late) = (costs[299], costs[899]);
        assert!(late < early + early / 10, "{rules}: hit 300 moves {early} bytes, hit 900 {late}");
        let counted = census(&store.rows).unwrap();
        assert_eq!((counted.hits, counted.hits_in_jobs), (900, 900));
    }
}

#[test]
fn every_upload_of_an_item_is_found_and_goes_with_it() {
    let (store, mut cases) = routed(NCMEC, UPLOADS_MAX + 100);
    while cases.step(64, 1000).unwrap().gauges.lag() > 0 {}
    let key = ItemKey::new("upload", "a");
    let found = item(&Tx::new(&store.rows), &key).unwrap().unwrap();
    let signals: Vec<&String> = found.media.iter().flat_map(|media| media.signals.values()).collect();
    let expected: Vec<String> = (1..=UPLOADS_MAX).map(|position| format!("{position:064x}")).collect();
    assert!(signals.into_iter().eq(&expected), "those that came first, in their order");
    assert_eq!(found.uploads_not_kept, 100);
    let listed = media_of(&Tx::new(&store.rows), JobId(1), 0, usize::MAX).unwrap();
    assert!(listed.iter().all(|media| media.reported && media.matches.len() == 1));
    let distinct: BTreeSet<_> = listed.iter().map(|media| media.url.clone()).collect();
    let all = UPLOADS_MAX as usize + 100;
    assert_eq!((listed.len(), distinct.len()), (all, all), "a job lists what it is about");
    let mut tx = Tx::new(&store.rows);
    assert!(forget_item(&mut tx, &key, usize::MAX).unwrap());
    store.rows.commit(tx.into_batch(), Durability::Sync).unwrap();
    let mut left = 0;
    let mut count = |_: &[u8], _: &[u8]| {
        left += 1;
        std::ops::ControlFlow::Continue(())
    };
    store.rows.scan(Keyspace::Items, Range::ALL, &mut count).unwrap();
    assert_eq!(left, 0);
}

/// The URLs of the media that a job lists.
fn urls(store: &Counting, id: u64) -> BTreeSet<String> {
    let listed = media_of(&Tx::new(&store.rows), JobId(id), 0, usize::MAX).unwrap();
    listed.into_iter().filter_map(|media| media.url).collect()
}

fn url(position: u64) -> String {
    format!("https://media.example/{position}")
}

#[test]
fn a_later_job_lists_what_came_after_the_first_one_and_says_that_there_was_more() {
    let (store, mut cases) = routed(NCMEC, UPLOADS_MAX + 100);
    while cases.step(64, 1000).unwrap().gauges.lag() > 0 {}
    let mut tx = Tx::new(&store.rows);
    let mut first = job(&tx, JobId(1)).unwrap().unwrap();
    assert_eq!((first.media, first.media_truncated), (UPLOADS_MAX + 100, false));
    let decided = Decision {
        job: first.id,
        kind: DecisionKind::Ignore,
        by: Decider::Reviewer { name: "anna".to_string() },
        at_ms: 1001,
        revision: first.revision,
        request: None,
        reason: None,
        webhooks: Vec::new(),
        report: None,
    };
    decision::record(&mut tx, &mut first, &decided, 1001).unwrap();
    store.rows.commit(tx.into_batch(), Durability::Sync).unwrap();
    let new = UPLOADS_MAX + 101..=UPLOADS_MAX + 300;
    log(&store, new.clone());
    while cases.step(64, 1002).unwrap().gauges.lag() > 0 {}
    let listed = urls(&store, 2);
    assert!(new.map(url).all(|url| listed.contains(&url)), "{} media", listed.len());
    assert!(job(&Tx::new(&store.rows), JobId(2)).unwrap().unwrap().media_truncated);
    assert_eq!(census(&store.rows).unwrap().faults, 0);
}

#[test]
fn what_a_reviewer_saw_comes_along_to_the_report() {
    let (store, mut cases) = routed(REVIEW, UPLOADS_MAX + 100);
    while cases.step(64, 1000).unwrap().gauges.lag() > 0 {}
    let mut tx = Tx::new(&store.rows);
    let mut review = job(&tx, JobId(1)).unwrap().unwrap();
    let catalog = cases.catalog().load_full();
    escalate_job(&mut tx, &catalog, &mut review, None, "anna", 1001).unwrap();
    store.rows.commit(tx.into_batch(), Durability::Sync).unwrap();
    assert_eq!(urls(&store, 2), (1..=UPLOADS_MAX + 100).map(url).collect());
    assert_eq!(census(&store.rows).unwrap().faults, 0);
}

#[test]
fn a_step_that_has_enough_ends_with_the_hit_at_hand_and_the_next_goes_on_behind_it() {
    let (_, mut cases) = routed(REVIEW, 10);
    for cursor in 1..=10 {
        let done = cases.step_until(1024, 1000, &|| true).unwrap();
        assert_eq!((done.gauges.cursor, done.routed.len()), (Position(cursor), 1));
    }
    let done = cases.step_until(1024, 1000, &|| true).unwrap();
    assert_eq!((done.gauges.lag(), done.written), (0, false));
}
