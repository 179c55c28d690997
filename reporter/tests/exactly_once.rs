//! Every hit is routed exactly once in effect, whichever commit fails and whether or not it happened.
//!
//! The store's word for a failed commit is 'unknown', so each commit is failed once before and once after
//! it took effect; then the router goes on or is started anew, by the same rules or by others.

#![allow(clippy::unwrap_used)] // clippy takes this file's helpers for code outside tests

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use index::store::keys::{encode_hit, hit_key};
use index::store::{Batch, Durability, Keyspace, MemoryStore, Range, Store, StoreError, Visit};
use index::{
    BankId, ContentId, Distance, Generation, Hit, HitMatch, Position, RequestId, SignalType, UploadContext,
};
use proptest::prelude::*;
use reporter::{Router, RuleTable, Rules, entries, queues};

/// Fails one commit of the router's.
struct FailingStore {
    rows: MemoryStore,
    commits: AtomicUsize,
    fails: usize,
    takes_effect: bool,
}

impl Store for FailingStore {
    fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.rows.get(space, key)
    }

    fn scan(&self, space: Keyspace, range: Range<'_>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.rows.scan(space, range, visit)
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        assert_eq!(durability, Durability::Sync);
        if self.commits.fetch_add(1, Ordering::Relaxed) != self.fails {
            return self.rows.commit(batch, durability);
        }
        if self.takes_effect {
            self.rows.commit(batch, durability)?;
        }
        Err(StoreError::DiskFull { path: "case".to_string() })
    }
}

fn hit(position: u64, bank: usize) -> Hit {
    let found = HitMatch {
        bank: BankId(bank as u32),
        bank_name: format!("BANK_{bank}"),
        content: ContentId(1),
        distance: Distance::new(4).expect("4 bits is a distance"),
    };
    Hit {
        position: Position(position),
        request: RequestId::from_bytes([0x70; 16]).expect("version 7"),
        index: 0,
        received_ms: position,
        generation: Generation(1),
        signal_type: SignalType::Pdq,
        signal: "00".repeat(32),
        matches: vec![found],
        matches_total: 1,
        upload_id: 0,
        context: UploadContext::default(),
    }
}

fn log(store: &MemoryStore, positions: impl IntoIterator<Item = u64>) {
    let mut batch = Batch::default();
    for position in positions {
        let row = encode_hit(&hit(position, position as usize % 3));
        batch.put(Keyspace::Hits, hit_key(Position(position)), row);
    }
    store.commit(batch, Durability::Sync).unwrap();
}

/// Two rules lead to one queue, what is left to another.
fn rules(queue: &str) -> Arc<RuleTable> {
    let rule = |n: u8| format!("[[rule]]\nname = 'r{n}'\nbanks = ['BANK_{n}']\nqueue = '{queue}'\n");
    let text = format!("default_queue = '{queue}-rest'\n{}{}", rule(1), rule(2));
    Arc::new(RuleTable::compile(Rules::parse(&text).unwrap()))
}

/// Every entry by position, from a walk through all pages of all queues; counts compared on the way.
fn routed(store: &dyn Store) -> BTreeMap<u64, Vec<String>> {
    let mut found: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for queue in queues(store).unwrap() {
        let (mut after, mut count) = (None, 0);
        loop {
            let page = entries(store, &queue.name, after, 3).unwrap();
            count += page.entries.len() as u64;
            for entry in page.entries {
                assert_eq!(entry.queue, queue.name);
                found.entry(entry.position.0).or_default().push(entry.queue.to_string());
            }
            assert!(page.next.is_none() || page.next > after, "queue {}: pages go on", queue.name);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(queue.entries, count, "queue {} counts what it holds", queue.name);
    }
    found
}

#[test]
fn whichever_commit_fails_each_hit_has_one_entry_and_counts_agree() {
    const HITS: u64 = 20;
    const STEP: usize = 3;
    let steps = (HITS as usize).div_ceil(STEP);
    for fails in 0..steps {
        for takes_effect in [false, true] {
            for restart in [false, true] {
                for other_rules in [false, true] {
                    let case = format!("{fails} {takes_effect} {restart} {other_rules}");
                    let rows = MemoryStore::default();
                    log(&rows, 1..=HITS);
                    let store =
                        Arc::new(FailingStore { rows, commits: AtomicUsize::new(0), fails, takes_effect });
                    let mut router = Router::new(store.clone(), rules("a"));
                    let mut failures = 0;
                    loop {
                        match router.step(STEP, 7) {
                            Ok(step) if !step.more() => break,
                            Ok(_) => {}
                            Err(_) => {
                                failures += 1;
                                let next = rules(if other_rules { "b" } else { "a" });
                                if restart {
                                    router = Router::new(store.clone(), next);
                                } else {
                                    router.set_rules(next);
                                }
                            }
                        }
                    }
                    assert_eq!(failures, 1, "{case}");
                    let found = routed(&*store);
                    assert!(found.keys().copied().eq(1..=HITS), "{case}: {found:?}");
                    assert!(found.values().all(|queues| queues.len() == 1), "{case}: {found:?}");
                }
            }
        }
    }
}

#[test]
fn two_threads_that_step_at_once_route_each_hit_once() {
    let store = Arc::new(MemoryStore::default());
    log(&store, 1..=200);
    let router = Router::new(store.clone(), rules("a"));
    let run = || {
        let mut hits = 0;
        loop {
            let step = router.step(7, 1).unwrap();
            hits += step.hits();
            if !step.more() {
                return hits;
            }
        }
    };
    let hits = std::thread::scope(|scope| {
        let other = scope.spawn(run);
        run() + other.join().unwrap()
    });
    assert_eq!(hits, 200);
    assert!(routed(&*store).values().all(|queues| queues.len() == 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The log grows, routers come and go, rules change, commits fail: the entries are the log.
    #[test]
    fn whatever_happens_the_entries_are_the_log(
        acts in proptest::collection::vec((0..5u8, 1..9usize), 1..40),
        fails in 0..20usize,
        takes_effect in any::<bool>(),
    ) {
        let rows = MemoryStore::default();
        let store = Arc::new(FailingStore { rows, commits: AtomicUsize::new(0), fails, takes_effect });
        let mut router = Router::new(store.clone(), rules("a"));
        let mut end = 0;
        for (act, size) in acts {
            match act {
                0 | 1 => {
                    log(&store.rows, end + 1..=end + size as u64);
                    end += size as u64;
                }
                2 => drop(router.step(size, 1)),
                3 => router.set_rules(rules(["a", "b", "c"][size % 3])),
                _ => router = Router::new(store.clone(), rules("d")),
            }
            let found = routed(&*store);
            let cursor = router.gauges().unwrap().cursor.0;
            prop_assert!(found.keys().copied().eq(1..=cursor));
            prop_assert!(found.values().all(|queues| queues.len() == 1));
        }
        while router.step(50, 1).map_or(true, |step| step.more()) {}
        prop_assert!(routed(&*store).keys().copied().eq(1..=end));
    }
}
