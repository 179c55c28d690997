//! Everything takes effect exactly once, whichever commit fails and whether or not it happened.
//!
//! The store's word for a failed commit is 'unknown', so commits fail before and after they took effect; then the work
//! goes on, or is begun anew, by the same rules or by others. What is there is counted, and compared with what came.

#![allow(clippy::unwrap_used)] // clippy takes this file's helpers for code outside tests

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use index::store::keys::{cursor_key, encode_hit, encode_u64, hit_key};
use index::store::{Batch, Durability, Keyspace, MemoryStore, Range, Store, StoreError, Visit};
use index::{
    BankId, ContentId, Distance, Generation, Hit, HitMatch, Position, RequestId, SignalType, UploadContext,
};
use proptest::prelude::*;
use reporter::desk::decision::Wanted;
use reporter::desk::intake::Arrival;
use reporter::desk::item::{Found, Item, ItemKey, Media, MediaKind, Screening};
use reporter::desk::job::{Job, JobId, job};
use reporter::desk::lease::{self, Asking};
use reporter::desk::queue::QueueName;
use reporter::desk::{decision, intake};
use reporter::router::rule::RulesFile;
use reporter::{At, Cases, DeskError, Gate, Turn, Tx, census, command};
use serde_json::json;

/// Fails chosen commits.
struct FailingStore {
    rows: MemoryStore,
    commits: AtomicUsize,
    fails: Mutex<Vec<usize>>,
    takes_effect: bool,
}

impl FailingStore {
    fn new(fails: Vec<usize>, takes_effect: bool) -> Arc<Self> {
        let rows = MemoryStore::default();
        Arc::new(Self { rows, commits: AtomicUsize::new(0), fails: Mutex::new(fails), takes_effect })
    }
}

impl Store for FailingStore {
    fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.rows.get(space, key)
    }

    fn scan(&self, space: Keyspace, range: Range<'_>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.rows.scan(space, range, visit)
    }

    fn snapshot(&self) -> Arc<dyn Store + '_> {
        self.rows.snapshot()
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        assert_eq!(durability, Durability::Sync);
        let number = self.commits.fetch_add(1, Ordering::Relaxed);
        if !self.fails.lock().unwrap().contains(&number) {
            return self.rows.commit(batch, durability);
        }
        if self.takes_effect {
            self.rows.commit(batch, durability)?;
        }
        Err(StoreError::DiskFull { path: "case".to_string() })
    }
}

fn found(bank: u64) -> HitMatch {
    HitMatch {
        bank: BankId(bank as u32),
        bank_name: format!("BANK_{bank}"),
        content: ContentId(1),
        distance: Distance::new(4).expect("4 bits is a distance"),
    }
}

/// A hit of one of five items by one of three users, or of none.
fn hit(position: u64, arrival: Option<u64>) -> Hit {
    let context = UploadContext {
        item_id: (!position.is_multiple_of(4)).then(|| format!("i{}", position % 5)),
        creator: (position % 5 < 3).then(|| format!("u{}", position % 5)),
        arrival,
        ..UploadContext::default()
    };
    Hit {
        position: Position(position),
        request: RequestId::from_bytes([0x70; 16]).expect("version 7"),
        index: 0,
        received_ms: position,
        generation: Generation(1),
        signal_type: SignalType::Pdq,
        signal: format!("{position:064x}"),
        matches: vec![found(position % 4)],
        matches_total: 1,
        upload_id: 0,
        context,
    }
}

fn log(store: &FailingStore, positions: impl IntoIterator<Item = u64>, arrival: Option<u64>) {
    let mut batch = Batch::default();
    for position in positions {
        batch.put(Keyspace::Hits, hit_key(Position(position)), encode_hit(&hit(position, arrival)));
    }
    store.rows.commit(batch, Durability::Sync).unwrap();
}

/// Rules that send to NCMEC, to a queue, and what is left to another.
fn rules(queue: &str) -> RulesFile {
    let text = format!(
        "default_queue = '{queue}-rest'
         [[rule]]\nname = 'ncmec'\nbanks = ['BANK_1']\nactions = [{{ enqueue_ncmec = {{}} }}]
         [[rule]]\nname = 'two'\nbanks = ['BANK_2']\nqueue = '{queue}'
         [[rule]]\nname = 'all'\nkind = 'proactive'\nstate = 'background'\nactions = [{{ enqueue = {{}} }}]\n"
    );
    RulesFile::parse(&text).unwrap()
}

/// Lets every commit through.
struct Open;

impl Gate for Open {
    fn admit(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn open(store: &Arc<FailingStore>) -> Cases {
    Cases::open(store.clone(), Durability::Sync, Box::new(Open)).unwrap()
}

/// Asks, and gives what was answered.
fn ask<T: Send + 'static>(
    cases: &mut Cases,
    now_ms: u64,
    work: impl FnOnce(&mut Turn<'_>) -> Result<T, DeskError> + Send + 'static,
) -> Result<T, DeskError> {
    let (tell, told) = channel();
    let _ = cases.group(&mut [command(work, move |outcome| tell.send(outcome).unwrap())].into(), now_ms);
    told.recv().unwrap()
}

fn item(id: u64, waits: bool) -> Item {
    let screening = if waits { Screening::Waiting } else { Screening::Done { matches: Vec::new() } };
    Item {
        creator: Some(ItemKey::new("user", format!("u{}", id % 3))),
        media: vec![Media {
            field: "picture".into(),
            kind: MediaKind::Image,
            url: Some(format!("https://a.example/{id}")),
            signals: [].into(),
            screening,
            kept: None,
        }],
        ..Item::bare(ItemKey::new("post", format!("p{id}")), 1)
    }
}

#[test]
fn whichever_commit_fails_each_hit_is_in_one_job_and_counts_agree() {
    const HITS: u64 = 20;
    const STEP: usize = 3;
    let steps = (HITS as usize).div_ceil(STEP);
    for fails in 1..=steps {
        for takes_effect in [false, true] {
            for restart in [false, true] {
                let case = format!("{fails} {takes_effect} {restart}");
                let store = FailingStore::new(vec![fails], takes_effect);
                log(&store, 1..=HITS, None);
                let mut cases = open(&store);
                cases.apply_file(Some(&rules("a")), 1).unwrap();
                let mut failures = 0;
                loop {
                    match cases.step(STEP, 7) {
                        Ok(done) if done.gauges.lag() == 0 => break,
                        Ok(_) => {}
                        Err(_) => {
                            failures += 1;
                            if restart {
                                cases = open(&store);
                                cases.apply_file(Some(&rules("b")), 2).unwrap();
                            }
                        }
                    }
                }
                assert_eq!(failures, 1, "{case}");
                let census = census(&*store).unwrap();
                assert_eq!((census.hits_in_jobs, &census.listed), (HITS, &Vec::new()), "{case}");
            }
        }
    }
}

#[test]
fn a_command_that_is_refused_leaves_no_trace_of_itself_and_all_of_its_neighbours() {
    let store = FailingStore::new(Vec::new(), false);
    let mut cases = open(&store);
    let (tell, told) = channel();
    let commands = (0..3).map(|number| {
        let tell = tell.clone();
        command(
            move |turn: &mut Turn<'_>| {
                turn.take(Arrival::of(item(number, true), None))?;
                if number == 1 { Err(DeskError::field("/x", "no")) } else { Ok(number) }
            },
            move |outcome| tell.send(outcome.is_ok()).unwrap(),
        )
    });
    cases.group(&mut commands.collect(), 5).unwrap();
    drop(tell);
    assert_eq!(told.iter().collect::<Vec<_>>(), [true, false, true]);
    let waiting = intake::waiting(&Tx::new(&*store), None, 9).unwrap();
    let ids: Vec<&str> = waiting.iter().map(|arrival| arrival.item.key.id.as_str()).collect();
    assert_eq!(ids, ["p0", "p2"]);
    assert_eq!(census(&*store).unwrap().listed, Vec::<String>::new());
}

#[test]
fn what_the_first_format_had_in_queues_is_routed_anew() {
    let store = FailingStore::new(Vec::new(), false);
    log(&store, 1..=5, None);
    let mut batch = Batch::default();
    for position in 1..=3u64 {
        let key = [&b"equeue\0"[..], &position.to_be_bytes()].concat();
        batch.put(Keyspace::QueueEntries, key, b"an entry of format 1".to_vec());
    }
    batch.put(Keyspace::CaseMeta, cursor_key("router"), encode_u64(3));
    store.rows.commit(batch, Durability::Sync).unwrap();
    let mut cases = open(&store);
    while cases.step(50, 1).unwrap().gauges.lag() > 0 {}
    let mut cases = open(&store); // once
    assert_eq!(cases.step(50, 1).unwrap().gauges.lag(), 0);
    let census = census(&*store).unwrap();
    assert_eq!((census.hits_in_jobs, &census.listed), (5, &Vec::new()));
}

fn lend(cases: &mut Cases, queue: &'static str, reviewer: String, now_ms: u64) -> Option<Job> {
    let name = QueueName::parse(queue).unwrap();
    let lent = ask(cases, now_ms, move |turn| {
        let token = format!("token of {reviewer} at {now_ms}");
        let asking = Asking { reviewer: &reviewer, token: &token, now_ms };
        lease::next(&mut turn.tx, turn.floors, &name, asking)
    });
    lent.ok().flatten()
}

fn decide(cases: &mut Cases, store: &FailingStore, id: JobId, now_ms: u64) {
    let Some(held) = job(&Tx::new(store), id).unwrap() else { return };
    let Some(lease) = &held.lease else { return };
    let media: Vec<_> =
        (1..=held.media).map(|number| json!({ "media": number, "classification": "Unclassified" })).collect();
    let report = held.kind == reporter::desk::job::JobKind::Ncmec && held.media > 0;
    let wanted = if report {
        json!({ "decision": "report", "lease": lease.token, "revision": held.revision, "media": media,
            "incident_type": "Child Sex Tourism", "request": format!("r{id}") })
    } else {
        json!({ "decision": "ignore", "lease": lease.token, "revision": held.revision, "request": format!("r{id}") })
    };
    let wanted = Wanted::read(&At::new(&wanted, "")).unwrap();
    let _ = ask(cases, now_ms, move |turn| decision::decide(&mut turn.tx, id, wanted, None, now_ms));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Hits are logged, items come, are screened, fail or are given up, jobs are lent and decided, rules change, the
    /// program is started anew, commits fail with and without effect: everything is in exactly one place, always, and in
    /// the end nothing waits.
    #[test]
    fn whatever_happens_everything_is_in_one_place(
        acts in proptest::collection::vec((0..10u8, 1..9u64), 1..60),
        fails in proptest::collection::vec(1..60usize, 0..6),
        takes_effect in any::<bool>(),
    ) {
        let store = FailingStore::new(fails, takes_effect);
        let mut cases = open(&store);
        let (mut end, mut next, mut now_ms) = (0, 0, 1_000);
        for (act, size) in acts {
            now_ms += 500 * size;
            let first = intake::waiting(&Tx::new(&*store), None, 1).unwrap().pop();
            match (act, first) {
                (0, _) => {
                    log(&store, end + 1..=end + size, None);
                    end += size;
                }
                (1, _) => drop(cases.step(size as usize, now_ms)),
                (2, _) => {
                    let new: Vec<u64> = (next..next + size).collect();
                    next += size;
                    let _ = ask(&mut cases, now_ms, move |turn| {
                        new.iter().try_for_each(|id| turn.take(Arrival::of(item(*id, id % 2 == 0), None)))
                    });
                }
                // What matches is in the log before it is settled, as the intake does; or the program died between.
                (3 | 4, Some(mut arrival)) => {
                    let bank = size % 4;
                    let hits = end + 1..=end + 1;
                    let media = &mut arrival.item.media[0];
                    media.screening = Screening::Done {
                        matches: vec![Found { signal_type: SignalType::Pdq, signal: None, hit: found(bank) }],
                    };
                    log(&store, hits, Some(arrival.number));
                    end += 1;
                    if act == 3 {
                        arrival.hits = vec![Position(end)];
                        let _ = ask(&mut cases, now_ms, move |turn| turn.resume(arrival));
                    }
                }
                (5, Some(mut arrival)) => {
                    arrival.item.media[0].screening = Screening::Done { matches: Vec::new() };
                    let _ = ask(&mut cases, now_ms, move |turn| turn.resume(arrival));
                }
                (6, Some(mut arrival)) => {
                    if size > 4 {
                        arrival.give_up("unknown");
                        let _ = ask(&mut cases, now_ms, move |turn| turn.resume(arrival));
                    } else {
                        let _ = ask(&mut cases, now_ms, move |turn| turn.postpone(arrival, "no"));
                    }
                }
                (7, _) => {
                    let queue = ["ncmec", "a", "a-rest", "triage", "default"][size as usize % 5];
                    if let Some(lent) = lend(&mut cases, queue, format!("r{size}"), now_ms)
                        && size % 3 > 0
                    {
                        decide(&mut cases, &store, lent.id, now_ms);
                    }
                }
                (8, _) => {
                    let _ = cases.apply_file(Some(&rules(["a", "b"][size as usize % 2])), now_ms);
                    now_ms += 700_000 * (size % 2); // leases end
                    let _ = cases.tick(now_ms, Some(now_ms));
                }
                (9, _) => cases = open(&store),
                _ => {}
            }
            let census = census(&*store).unwrap();
            prop_assert_eq!(&census.listed, &Vec::<String>::new());
        }
        store.fails.lock().unwrap().clear();
        while cases.step(50, now_ms).unwrap().gauges.lag() > 0 {}
        for mut arrival in intake::waiting(&Tx::new(&*store), None, usize::MAX).unwrap() {
            arrival.give_up("the end");
            ask(&mut cases, now_ms, move |turn| turn.resume(arrival)).unwrap();
        }
        let census = census(&*store).unwrap();
        prop_assert_eq!(&census.listed, &Vec::<String>::new());
        prop_assert_eq!((census.hits_in_jobs, census.waiting), (end, 0));
    }
}
