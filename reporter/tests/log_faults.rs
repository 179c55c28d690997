//! A hit log with something wrong in it: a hole stops the router there and says where; a hit that does not read is set
//! aside, and nothing is stepped over.

#![allow(clippy::unwrap_used)] // clippy takes this file's helpers for code outside tests

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use index::store::keys::{encode_hit, hit_key};
use index::store::{
    Batch, Change, Durability, Keyspace, MemoryStore, Range, Store, StoreError, Visit, VisitKey,
};
use index::{
    BankId, ContentId, Distance, Generation, Hit, HitMatch, Position, RequestId, SignalType, UploadContext,
};
use reporter::desk::alarm;
use reporter::router::{self, aside, gauges};
use reporter::{Cases, Gate, Tx, census};

struct Open;

impl Gate for Open {
    fn admit(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn cases(store: &Arc<MemoryStore>) -> Cases {
    Cases::open(store.clone(), Durability::Sync, Box::new(Open)).unwrap()
}

fn hit(position: u64) -> Hit {
    let found = HitMatch {
        bank: BankId(1),
        bank_name: "B".to_string(),
        content: ContentId(1),
        distance: Distance::new(3).unwrap(),
    };
    Hit {
        position: Position(position),
        request: RequestId::fresh(),
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
        batch.put(Keyspace::Hits, hit_key(Position(position)), encode_hit(&hit(position)));
    }
    store.commit(batch, Durability::Sync).unwrap();
}

fn put(store: &MemoryStore, position: u64, row: Vec<u8>) {
    let mut batch = Batch::default();
    batch.put(Keyspace::Hits, hit_key(Position(position)), row);
    store.commit(batch, Durability::Sync).unwrap();
}

#[test]
fn a_hole_stops_the_router_before_it_whatever_its_size() {
    for (positions, missing) in [(vec![1, 2, 4, 5], 3), (vec![2], 1), (vec![1, 2, 3, 900], 4)] {
        let store = Arc::new(MemoryStore::default());
        log(&store, positions.iter().copied());
        let mut cases = cases(&store);
        let mut routed = 0;
        let error = loop {
            match cases.step(10, 1) {
                Ok(done) => {
                    assert!(!done.routed.is_empty(), "it waits for a hit that never comes");
                    routed += done.routed.len() as u64;
                }
                Err(error) => break error.to_string(),
            }
        };
        assert_eq!(routed, missing - 1);
        assert!(error.contains(&format!("hit {missing} is missing")), "{error}");
        assert_eq!(gauges(&*store).unwrap().cursor, Position(missing - 1));
    }
}

#[test]
fn a_log_that_lost_its_end_is_told_not_waited_for() {
    let store = Arc::new(MemoryStore::default());
    log(&store, 1..=5);
    let mut cases = cases(&store);
    cases.step(100, 1).unwrap();
    for (from, log_end) in [(4, 3), (1, 0)] {
        let mut batch = Batch::default();
        batch.delete_range(Keyspace::Hits, hit_key(Position(from)), hit_key(Position(9)));
        store.commit(batch, Durability::Sync).unwrap();
        let error = cases.step(100, 1).unwrap_err().to_string();
        assert!(error.contains(&format!("cursor is at hit 5 but the hit log ends at {log_end}")), "{error}");
    }
}

#[test]
fn a_row_that_does_not_read_is_set_aside_and_routed_when_it_is_mended() {
    let good = encode_hit(&hit(3));
    let moved = encode_hit(&hit(7));
    let newer = [&[2], &good[1..]].concat();
    for (row, says) in [
        (good[..good.len() - 1].to_vec(), "EOF"),
        (newer, "version 2 is not 1"),
        (moved, "it says it is hit 7"),
        (Vec::new(), "it is empty"),
    ] {
        let store = Arc::new(MemoryStore::default());
        log(&store, 1..=5);
        put(&store, 3, row);
        let mut cases = cases(&store);
        assert_eq!(cases.step(100, 1).unwrap().routed.len(), 2);
        let done = cases.step(100, 1).unwrap();
        assert_eq!((done.set_aside, done.routed.len()), (1, 2), "those behind it are routed");
        let set_aside = || aside::list(&Tx::new(&*store), Position(0), 9).unwrap();
        assert_eq!(set_aside()[0].0, Position(3));
        assert!(set_aside()[0].1.reason.contains(says), "{:?}", set_aside());
        let alarms = alarm::open_alarms(&Tx::new(&*store), 9).unwrap();
        assert!(alarms.iter().any(|alarm| alarm.words.contains("hit 3 is not routed")), "{alarms:?}");
        let counted = census(&*store).unwrap();
        assert_eq!((counted.hits_in_jobs, counted.hits_set_aside, counted.faults), (4, 1, 0));
        // Tried again while it does not read, it stays aside.
        assert_eq!(cases.retry_set_aside(Position(0), 2).unwrap(), Some(Position(3)));
        assert_eq!(cases.retry_set_aside(Position(3), 2).unwrap(), None);
        assert_eq!(set_aside().len(), 1);
        put(&store, 3, good.clone());
        cases.retry_set_aside(Position(0), 3).unwrap();
        assert!(set_aside().is_empty());
        let counted = census(&*store).unwrap();
        assert_eq!((counted.hits_in_jobs, counted.hits_set_aside, counted.faults), (5, 0, 0));
    }
}

#[test]
fn a_hit_without_matches_still_reaches_people() {
    let store = Arc::new(MemoryStore::default());
    put(&store, 1, encode_hit(&Hit { matches: Vec::new(), ..hit(1) }));
    let done = cases(&store).step(1, 1).unwrap();
    assert_eq!((done.routed[0].queue.as_str(), done.routed[0].hits), ("default", 1));
    let census = census(&*store).unwrap();
    assert_eq!((census.hits_in_jobs, census.faults), (1, 0));
}

/// A store of which the rows of a keyspace do not read that were there at some moment.
#[derive(Default)]
struct Broken {
    rows: MemoryStore,
    keys: Mutex<BTreeSet<Vec<u8>>>,
}

impl Broken {
    fn breaks(&self) {
        let mut keys = self.keys.lock().unwrap();
        let visit = &mut |key: &[u8], _: &[u8]| {
            keys.insert(key.to_vec());
            ControlFlow::Continue(())
        };
        self.rows.scan(Keyspace::CaseMeta, Range::ALL, visit).unwrap();
    }

    fn check(&self, space: Keyspace, key: &[u8]) -> Result<(), StoreError> {
        let is_broken = space == Keyspace::CaseMeta && self.keys.lock().unwrap().contains(key);
        if is_broken {
            Err(StoreError::Row { keyspace: space.name(), reason: "broken".into() })
        } else {
            Ok(())
        }
    }
}

impl Store for Broken {
    fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.check(space, key)?;
        self.rows.get(space, key)
    }

    fn scan(&self, space: Keyspace, range: Range<'_>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let mut outcome = Ok(());
        self.rows.scan(space, range, &mut |key, row| match self.check(space, key) {
            Ok(()) => visit(key, row),
            Err(error) => {
                outcome = Err(error);
                ControlFlow::Break(())
            }
        })?;
        outcome
    }

    fn keys(&self, space: Keyspace, range: Range<'_>, visit: &mut VisitKey<'_>) -> Result<(), StoreError> {
        self.rows.keys(space, range, visit)
    }

    fn snapshot(&self) -> Arc<dyn Store + '_> {
        self.rows.snapshot()
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        for change in &batch.changes {
            if let Change::Put(Keyspace::CaseMeta, key, _) = change {
                self.keys.lock().unwrap().remove(key);
            }
        }
        self.rows.commit(batch, durability)
    }
}

#[test]
fn a_router_whose_place_does_not_read_finds_it_from_the_jobs_and_routes_every_hit_once() {
    let store = Arc::new(Broken::default());
    let cases = || Cases::open(store.clone(), Durability::Sync, Box::new(Open)).unwrap();
    let mut desk = cases();
    log(&store.rows, [1, 2]);
    put(&store.rows, 3, b"soup".to_vec());
    log(&store.rows, [4, 5]);
    while desk.step(10, 1).unwrap().gauges.lag() > 0 {}
    assert_eq!(desk.find_place(2).unwrap(), None, "it reads");
    log(&store.rows, [3, 6]); // what was set aside is mended, and one is new

    store.breaks();
    let mut desk = {
        drop(desk);
        cases()
    };
    assert!(desk.step(10, 3).is_err());
    assert_eq!(desk.find_place(3).unwrap(), Some(1), "hit 3 is in no job");
    assert_eq!(desk.retry_set_aside(Position(0), 3).unwrap(), Some(Position(3)));
    assert_eq!(
        desk.step(10, 3).unwrap().gauges,
        router::Gauges { cursor: Position(6), log_end: Position(6) }
    );
    let counted = census(&*store).unwrap();
    assert_eq!((counted.hits_in_jobs, counted.hits_set_aside, &counted.listed), (6, 0, &Vec::new()));
    let alarms = alarm::open_alarms(&Tx::new(&*store), 9).unwrap();
    let kinds: Vec<&str> = alarms.iter().map(|alarm| alarm.kind.as_str()).collect();
    assert_eq!(kinds, ["routing.set_aside", "routing.place_found"]);
}

/// A store that another writes to whenever somebody begins to read.
struct Written {
    rows: Arc<MemoryStore>,
    desk: Mutex<Cases>,
}

impl Written {
    /// A hit is logged, and routed.
    fn go_on(&self) {
        let mut desk = self.desk.lock().unwrap();
        log(&self.rows, [gauges(&*self.rows).unwrap().log_end.0 + 1]);
        assert_eq!(desk.step(10, 1).unwrap().routed.len(), 1);
    }
}

impl Store for Written {
    fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.go_on();
        self.rows.get(space, key)
    }

    fn scan(&self, space: Keyspace, range: Range<'_>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.go_on();
        self.rows.scan(space, range, visit)
    }

    fn snapshot(&self) -> Arc<dyn Store + '_> {
        self.rows.snapshot()
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        self.rows.commit(batch, durability)
    }
}

#[test]
fn a_census_counts_one_moment_while_hits_are_logged_and_routed() {
    let rows = Arc::new(MemoryStore::default());
    let written = Written { desk: Mutex::new(cases(&rows)), rows };
    (0..5).for_each(|_| written.go_on());
    let counted = census(&written).unwrap();
    assert_eq!((counted.hits, counted.hits_in_jobs, &counted.listed), (5, 5, &Vec::new()));
}
