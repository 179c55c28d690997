//! The router: the stage between the hit log and the review queues.
//!
//! A step reads the hits after the cursor, decides each by the rules of the moment, and commits entries,
//! counts and the new cursor in one batch: either all of it happened or none. The cursor is read from the
//! store at every step, never remembered, so after a commit whose outcome is unknown the next step sees
//! what is true. Entries lie in the hits' own database and so behind them in one write-ahead log: no
//! crash leaves an entry without its hit.
//!
//! What is missing or does not read stops the router at that hit, with its position in the error; what
//! lies before it is routed. Nothing is skipped.
//! One router per store; it does not guard against a second one in another process (the store's lock does).

mod compile;
mod rule;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use index::store::keys::{cursor_key, decode_hit, decode_u64, encode_u64, hit_key, wrong};
use index::store::{Batch, Durability, Keyspace, Range, Store, StoreError};
use index::{Hit, Position};

pub use compile::{Decision, HitFacts, MatchFact, RuleTable};
pub use rule::{Condition, Rule, Rules};

use crate::error::RouterError;
use crate::queue::{self, HitSummary, QueueEntry, QueueName};

/// Hits a step routes at most: bounds its memory and the size of its commit.
const STEP_HITS_MAX: usize = 4096;
const STAGE: &str = "router";

/// Moves hits from the log to the queues.
pub struct Router {
    store: Arc<dyn Store>,
    rules: Mutex<Arc<RuleTable>>,
    /// Held for a whole step, so that two callers cannot route the same hits at once.
    stepping: Mutex<()>,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// How many hits took which way; the sum is what the step routed.
    pub routed: Vec<Routed>,
    /// Where the router and the log are after it.
    pub gauges: Gauges,
}

/// Hits that took the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed {
    /// The rule that took them; none for the default.
    pub rule: Option<String>,
    /// Where they went.
    pub queue: QueueName,
    /// How many.
    pub hits: u64,
}

/// How far the router is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauges {
    /// The last hit routed; 0 before the first.
    pub cursor: Position,
    /// The last hit of the log; 0 for an empty one.
    pub log_end: Position,
}

impl Gauges {
    /// Hits that wait for the router.
    pub fn lag(&self) -> u64 {
        self.log_end.0.saturating_sub(self.cursor.0)
    }
}

impl Step {
    /// How many hits it routed.
    pub fn hits(&self) -> u64 {
        self.routed.iter().map(|way| way.hits).sum()
    }

    /// Whether hits wait for the next step.
    pub fn more(&self) -> bool {
        self.gauges.lag() > 0
    }
}

impl Router {
    /// A router over the case database.
    pub fn new(store: Arc<dyn Store>, rules: Arc<RuleTable>) -> Self {
        Self { store, rules: Mutex::new(rules), stepping: Mutex::new(()) }
    }

    /// Replaces the rules: the next step decides by these. What is routed stays where it is.
    pub fn set_rules(&self, rules: Arc<RuleTable>) {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// Routes the next hits, at most `limit` and at most 4096, durably. After an error nothing of the step
    /// happened, except that a failed commit may have happened, whole: call again.
    pub fn step(&self, limit: usize, now_ms: u64) -> Result<Step, RouterError> {
        // Neither lock guards anything a panic could leave half done.
        let _stepping = self.stepping.lock().unwrap_or_else(PoisonError::into_inner);
        let rules = Arc::clone(&self.rules.lock().unwrap_or_else(PoisonError::into_inner));
        let Gauges { cursor, log_end } = self.gauges()?;
        let hits = self.hits_after(cursor, log_end, limit.clamp(1, STEP_HITS_MAX))?;
        let Some(last) = hits.last().map(|hit| hit.position) else {
            return Ok(Step { routed: Vec::new(), gauges: Gauges { cursor, log_end } });
        };
        let mut batch = Batch::default();
        let mut ways: BTreeMap<(QueueName, Option<String>), u64> = BTreeMap::new();
        for hit in hits {
            let entry = route(&rules, hit, now_ms);
            queue::put_entry(&mut batch, &entry);
            *ways.entry((entry.queue, entry.rule)).or_default() += 1;
        }
        let mut added: BTreeMap<&QueueName, u64> = BTreeMap::new();
        for ((queue, _), hits) in &ways {
            *added.entry(queue).or_default() += hits;
        }
        for (queue, hits) in added {
            queue::add_to_count(&*self.store, &mut batch, queue, hits)?;
        }
        batch.put(Keyspace::CaseMeta, cursor_key(STAGE), encode_u64(last.0));
        self.store.commit(batch, Durability::Sync)?;
        let routed = ways.into_iter().map(|((queue, rule), hits)| Routed { rule, queue, hits }).collect();
        Ok(Step { routed, gauges: Gauges { cursor: last, log_end } })
    }

    /// How far the router is, read from the store: true even while steps fail.
    pub fn gauges(&self) -> Result<Gauges, RouterError> {
        let cursor = match self.store.get(Keyspace::CaseMeta, &cursor_key(STAGE))? {
            Some(row) => Position(decode_u64(Keyspace::CaseMeta, &row)?),
            None => Position(0),
        };
        // Nearly always found at or after the cursor; only a log that lost its end needs the second look.
        let log_end = match self.last_hit(Range::starting(&hit_key(cursor)))? {
            Some(position) => position,
            None => self.last_hit(Range::ALL)?.unwrap_or_default(),
        };
        if log_end < cursor {
            return Err(RouterError::CursorBeyondLog { cursor, log_end });
        }
        Ok(Gauges { cursor, log_end })
    }

    fn last_hit(&self, range: Range<'_>) -> Result<Option<Position>, StoreError> {
        let mut last = Ok(None);
        self.store.scan(Keyspace::Hits, range.reversed(), &mut |key, _| {
            last = decode_u64(Keyspace::Hits, key).map(|number| Some(Position(number)));
            ControlFlow::Break(())
        })?;
        last
    }

    /// The hits from the one after `cursor` on, each there and each at its place. What precedes a fault is
    /// returned without it: routed first, it leaves the fault to be met, and told, at the cursor.
    fn hits_after(&self, cursor: Position, log_end: Position, limit: usize) -> Result<Vec<Hit>, RouterError> {
        let last = log_end.0.min(cursor.0.saturating_add(limit as u64));
        let (from, to) = (Position(cursor.0.saturating_add(1)), Position(last.saturating_add(1)));
        let mut hits = Vec::new();
        let mut expected = from;
        let mut fault = None;
        self.store.scan(Keyspace::Hits, Range::between(&hit_key(from), &hit_key(to)), &mut |key, row| {
            if key != hit_key(expected) {
                return ControlFlow::Break(());
            }
            match read_hit(expected, row) {
                Ok(hit) => hits.push(hit),
                Err(error) => {
                    fault = Some(error);
                    return ControlFlow::Break(());
                }
            }
            expected.0 += 1;
            ControlFlow::Continue(())
        })?;
        if hits.is_empty() && expected < to {
            return Err(fault.unwrap_or(RouterError::Hole { missing: expected, log_end }));
        }
        Ok(hits)
    }
}

fn read_hit(position: Position, row: &[u8]) -> Result<Hit, RouterError> {
    let hit = decode_hit(row).map_err(|source| RouterError::Hit { position, source })?;
    if hit.position != position {
        let source = wrong(Keyspace::Hits, &format!("it says it is hit {}", hit.position));
        return Err(RouterError::Hit { position, source });
    }
    Ok(hit)
}

fn route(rules: &RuleTable, hit: Hit, now_ms: u64) -> QueueEntry {
    let decision = rules.decide_hit(&hit);
    QueueEntry {
        position: hit.position,
        queue: decision.queue.clone(),
        rule: decision.rule.map(str::to_string),
        rules_version: rules.version(),
        verdict: decision.verdict,
        matched: decision.matched,
        enqueued_ms: now_ms,
        hit: HitSummary::of(hit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use index::store::MemoryStore;
    use index::store::keys::encode_hit;
    use index::{BankId, ContentId, Distance, Generation, HitMatch, RequestId, SignalType, UploadContext};

    use crate::queue::{Verdict, entries, entry, queues};

    fn hit(position: u64, bank: &str, bits: u16) -> Hit {
        Hit {
            position: Position(position),
            request: RequestId::fresh(),
            index: 0,
            received_ms: 500 + position,
            generation: Generation(1),
            signal_type: SignalType::Pdq,
            signal: "00".repeat(32),
            matches: vec![HitMatch {
                bank: BankId(1),
                bank_name: bank.to_string(),
                content: ContentId(position),
                distance: Distance::new(bits).unwrap(),
            }],
            matches_total: 1,
            upload_id: 0,
            context: UploadContext { creator: Some("u".to_string()), ..UploadContext::default() },
        }
    }

    fn log(store: &dyn Store, positions: impl IntoIterator<Item = u64>) {
        let mut batch = Batch::default();
        for position in positions {
            let row = encode_hit(&hit(position, if position % 2 == 0 { "EVEN" } else { "ODD" }, 3));
            batch.put(Keyspace::Hits, hit_key(Position(position)), row);
        }
        store.commit(batch, Durability::Sync).unwrap();
    }

    fn table(text: &str) -> Arc<RuleTable> {
        Arc::new(RuleTable::compile(Rules::parse(text).unwrap()))
    }

    fn name(queue: &str) -> QueueName {
        QueueName::parse(queue).unwrap()
    }

    const EVENS: &str = "[[rule]]\nname = 'evens'\nbanks = ['EVEN']\nqueue = 'even'\nverdict = 'block'";

    #[test]
    fn hits_go_to_their_queues_step_by_step_and_a_restart_goes_on() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        log(&*store, 1..=5);
        let router = Router::new(store.clone(), table(EVENS));
        assert_eq!(router.gauges().unwrap().lag(), 5);
        let step = router.step(3, 1_000).unwrap();
        assert_eq!(
            step.routed,
            [
                Routed { rule: None, queue: name("default"), hits: 2 },
                Routed { rule: Some("evens".to_string()), queue: name("even"), hits: 1 },
            ]
        );
        assert_eq!((step.hits(), step.more(), step.gauges.lag()), (3, true, 2));

        let router = Router::new(store.clone(), table(EVENS));
        let step = router.step(100, 2_000).unwrap();
        assert_eq!((step.hits(), step.more(), step.gauges.cursor), (2, false, Position(5)));
        assert_eq!(router.step(100, 3_000).unwrap().hits(), 0);

        let found = queues(&*store).unwrap();
        let counts: Vec<_> = found.iter().map(|q| (q.name.as_str(), q.entries, q.oldest_ms)).collect();
        assert_eq!(counts, [("default", 3, Some(1_000)), ("even", 2, Some(1_000))]);
        let four = entry(&*store, Position(4)).unwrap().unwrap();
        assert_eq!(
            (four.rule.as_deref(), four.verdict, four.matched),
            (Some("evens"), Verdict::Block, Some(0))
        );
        assert_eq!(
            (four.enqueued_ms, four.hit.received_ms, four.hit.banks),
            (2_000, 504, vec!["EVEN".to_string()])
        );
        assert_eq!(four.rules_version, table(EVENS).version());
        assert_eq!(entry(&*store, Position(6)).unwrap(), None);
    }

    #[test]
    fn pages_join_to_the_whole_queue_and_names_with_a_common_beginning_stay_apart() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        log(&*store, 1..=9);
        let rules = "default_queue = 'even-not'\n".to_string() + EVENS;
        Router::new(store.clone(), table(&rules)).step(100, 1).unwrap();
        for (queue, wanted) in
            [("even", vec![2, 4, 6, 8]), ("even-not", vec![1, 3, 5, 7, 9]), ("eve", vec![])]
        {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = entries(&*store, &name(queue), after, 2).unwrap();
                found.extend(page.entries.iter().map(|entry| entry.position.0));
                assert!(page.next.is_none() || page.next > after, "{queue}: pages go on");
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(found, wanted, "{queue}");
        }
    }

    #[test]
    fn new_rules_decide_from_the_next_step_on() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        log(&*store, 1..=4);
        let router = Router::new(store.clone(), table(EVENS));
        router.step(2, 1).unwrap();
        router.set_rules(Arc::default());
        router.step(2, 1).unwrap();
        let queue_of = |position| entry(&*store, Position(position)).unwrap().unwrap().queue.to_string();
        assert_eq!((queue_of(2), queue_of(4)), ("even".to_string(), "default".to_string()));
    }

    #[test]
    fn a_hole_stops_the_router_before_it_whatever_its_size() {
        for (positions, missing) in [(vec![1, 2, 4, 5], 3), (vec![2], 1), (vec![1, 2, 3, 900], 4)] {
            let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
            log(&*store, positions.iter().copied());
            let router = Router::new(store.clone(), Arc::default());
            let mut routed = 0;
            let error = loop {
                match router.step(10, 1) {
                    Ok(step) => {
                        assert!(step.hits() > 0, "it waits for a hit that never comes");
                        routed += step.hits();
                    }
                    Err(error) => break error.to_string(),
                }
            };
            assert_eq!(routed, missing - 1);
            assert!(error.contains(&format!("hit {missing} is missing")), "{error}");
            assert_eq!(router.gauges().unwrap().cursor, Position(missing - 1));
        }
    }

    #[test]
    fn a_log_that_lost_its_end_is_told_not_waited_for() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        log(&*store, 1..=5);
        let router = Router::new(store.clone(), Arc::default());
        router.step(100, 1).unwrap();
        for (from, log_end) in [(4, 3), (1, 0)] {
            let mut batch = Batch::default();
            batch.delete_range(Keyspace::Hits, hit_key(Position(from)), hit_key(Position(9)));
            store.commit(batch, Durability::Sync).unwrap();
            let error = router.step(100, 1).unwrap_err().to_string();
            assert!(
                error.contains(&format!("cursor is at hit 5 but the hit log ends at {log_end}")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_row_that_does_not_read_stops_the_router_at_its_position() {
        let good = encode_hit(&hit(3, "ODD", 3));
        let moved = encode_hit(&hit(7, "ODD", 3));
        let newer = [&[2], &good[1..]].concat();
        for (row, says) in [
            (good[..good.len() - 1].to_vec(), "EOF"),
            (newer, "version 2 is not 1"),
            (moved, "it says it is hit 7"),
            (Vec::new(), "it is empty"),
        ] {
            let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
            log(&*store, 1..=5);
            let put = |row: Vec<u8>| {
                let mut batch = Batch::default();
                batch.put(Keyspace::Hits, hit_key(Position(3)), row);
                store.commit(batch, Durability::Sync).unwrap();
            };
            put(row);
            let router = Router::new(store.clone(), Arc::default());
            assert_eq!(router.step(100, 1).unwrap().hits(), 2);
            for _ in 0..2 {
                let error = router.step(100, 1).unwrap_err().to_string();
                assert!(error.contains("hit 3 of the log") && error.contains(says), "{error}");
            }
            put(good.clone());
            assert_eq!(router.step(100, 1).unwrap().hits(), 3, "mended, it goes on");
        }
    }

    #[test]
    fn a_hit_without_matches_still_reaches_people() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let bare = Hit { matches: Vec::new(), ..hit(1, "ODD", 0) };
        let mut batch = Batch::default();
        batch.put(Keyspace::Hits, hit_key(Position(1)), encode_hit(&bare));
        store.commit(batch, Durability::Sync).unwrap();
        let rules = table("[[rule]]\nname = 'all'\nqueue = 'q'\nverdict = 'none'");
        Router::new(store.clone(), rules).step(1, 1).unwrap();
        let entry = entry(&*store, Position(1)).unwrap().unwrap();
        assert_eq!(
            (entry.queue.as_str(), entry.verdict, entry.hit.nearest),
            ("default", Verdict::Review, None)
        );
    }
}
