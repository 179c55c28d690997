//! The replay window: answers of mutating requests, kept so that a repeated request gives the first answer.
//!
//! Request ids sort by birth time, so the window is a range of keys: older ids are cut off by one range delete, and an
//! id below the cut is answered 'unknown, too old', never executed a second time. The cut (the *floor*) comes from the
//! newest id that was removed and never from a clock: where nothing was removed, a missing answer proves that the request
//! was not executed. The window is bounded by age, for as long as the owner trusts its clock, and always by number. An id
//! from the future is refused and not recorded: it would outlive the window and could raise the floor above the present.

use std::ops::ControlFlow;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::keys::{decode_u64, encode_u64, wrong};
use super::{Batch, Durability, Keyspace, Range, Store, StoreError, count_rows};
use crate::hit::RequestId;

const ROW_VERSION: u8 = 1;
/// Birth of the newest id that was removed, plus one.
const FLOOR_KEY: &[u8] = b"requests_removed_ms";
/// The floor as it was kept before: the clock at the time of a removal could raise it above every living id.
const CLOCK_FLOOR_KEY: &[u8] = b"requests_floor_ms";
/// Answers that one call of [`RequestWindow::prune`] removes at most (and what shares the last one's millisecond): some
/// milliseconds of the single writer's time.
const PRUNE_MAX: u64 = 20_000;
/// How far a client's clock may be ahead of ours. Beyond it one of the two is wrong.
pub const AHEAD_MAX: Duration = Duration::from_secs(300);

/// How far back replays are answered.
#[derive(Clone, Copy, Debug)]
pub struct WindowLimits {
    /// Age from which an answer is removed.
    pub age: Duration,
    /// Answers kept at most.
    pub answers_max: u64,
}

impl Default for WindowLimits {
    fn default() -> Self {
        Self { age: Duration::from_secs(24 * 3600), answers_max: 4_000_000 }
    }
}

/// The clock as the window's owner sees it.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Now, in milliseconds since 1970 (UTC).
    pub now_ms: u64,
    /// The latest time that may be right: an id is from the future only as seen from here.
    pub newest_ms: u64,
    /// Whether `now_ms` is in doubt: then no answer is old.
    pub in_doubt: bool,
}

impl From<u64> for Moment {
    /// A clock that nobody doubts.
    fn from(now_ms: u64) -> Self {
        Self { now_ms, newest_ms: now_ms, in_doubt: false }
    }
}

/// An answer as it is kept, with a digest of the request that it answers. Answers of older programs have none, and neither
/// have requests whose ids this program makes: those are taken for the same request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptAnswer<A> {
    /// The answer.
    #[serde(flatten)]
    pub answer: A,
    /// See [`request_digest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_digest: Option<u64>,
}

impl<A: Serialize + DeserializeOwned> KeptAnswer<A> {
    /// Reads what [`RequestWindow::record`] was given.
    pub fn read(space: Keyspace, row: &[u8]) -> Result<Self, StoreError> {
        serde_json::from_slice(row).map_err(|error| wrong(space, &error.to_string()))
    }

    /// The row.
    pub fn row(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an answer is a struct with string keys")
    }

    /// Whether it may answer a request with this digest.
    pub fn answers(&self, request_digest: Option<u64>) -> bool {
        self.request_digest.zip(request_digest).is_none_or(|(kept, asked)| kept == asked)
    }
}

/// Tells a request from others under the same id: the beginning of SHA-256 over its parts, each with its length. The same on
/// every machine and in every later program, since it is compared with what was stored.
pub fn request_digest<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> u64 {
    let mut sum = Sha256::new();
    for part in parts {
        sum.update((part.len() as u64).to_le_bytes());
        sum.update(part);
    }
    sum.finalize().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

/// What is known of a request id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Never executed: execute it.
    Fresh,
    /// Executed: this was the answer.
    Before(Vec<u8>),
    /// Born before the newest id that was removed: it may or may not have been executed.
    TooOld,
    /// Born so many milliseconds after the present: refuse it, record nothing.
    Future(u64),
}

/// The window of one database. Its owner is the database's single writer.
#[derive(Debug)]
pub struct RequestWindow {
    space: Keyspace,
    meta: Keyspace,
    limits: WindowLimits,
    kept: Kept,
    /// What `kept` becomes if the batch that is being filled is committed.
    staged: Kept,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    floor_ms: u64,
    answers: u64,
}

impl RequestWindow {
    /// Reads the window's state: its floor, and how many answers it holds. A floor that a wrong clock raised above
    /// `now_ms`, as programs before this one could, is lowered to it: what was removed was born before. So is one that does
    /// not read taken to be: ids born before are answered 'unknown'.
    pub fn open(
        store: &dyn Store,
        (space, meta): (Keyspace, Keyspace),
        limits: WindowLimits,
        now_ms: u64,
    ) -> Result<Self, StoreError> {
        let number = |key| store.get(meta, key)?.map(|row| decode_u64(meta, &row)).transpose();
        let read = |key| match number(key) {
            Err(error) if error.is_damage() => Ok(Some(Err(now_ms))), // what was removed was born before
            number => Ok::<_, StoreError>(number?.map(Ok)),
        };
        let floor_ms = match (read(FLOOR_KEY)?, read(CLOCK_FLOOR_KEY)?) {
            (Some(Ok(floor_ms)), _) => floor_ms,
            (None, None) => 0,
            (Some(Err(by_clock)), _) | (None, Some(Ok(by_clock) | Err(by_clock))) => {
                let floor_ms = by_clock.min(now_ms);
                let mut batch = Batch::default();
                batch.put(meta, FLOOR_KEY, encode_u64(floor_ms));
                store.commit(batch, Durability::Sync)?;
                floor_ms
            }
        };
        let answers = count_rows(store, space, limits.answers_max / 2)?;
        let kept = Kept { floor_ms, answers };
        Ok(Self { space, meta, limits, kept, staged: kept })
    }

    /// Looks a request up.
    pub fn seen(&self, store: &dyn Store, id: RequestId, now: Moment) -> Result<Seen, StoreError> {
        let born_ms = id.born_ms();
        if born_ms < self.staged.floor_ms {
            return Ok(Seen::TooOld);
        }
        match store.get(self.space, id.as_bytes())?.as_deref().map(<[u8]>::split_first) {
            Some(Some((&ROW_VERSION, answer))) => Ok(Seen::Before(answer.to_vec())),
            Some(_) => Err(wrong(self.space, "an answer's version is unknown")),
            None => match born_ms.saturating_sub(now.newest_ms) {
                ahead if u128::from(ahead) > AHEAD_MAX.as_millis() => Ok(Seen::Future(ahead)),
                _ => Ok(Seen::Fresh),
            },
        }
    }

    /// Adds an answer to the batch that carries the request's effect. [`RequestWindow::settle`] says what became of it.
    pub fn record(&mut self, batch: &mut Batch, id: RequestId, answer: &[u8]) {
        let mut row = Vec::with_capacity(1 + answer.len());
        row.push(ROW_VERSION);
        row.extend_from_slice(answer);
        batch.put(self.space, id.as_bytes(), row);
        self.staged.answers += 1;
    }

    /// Adds to the batch the removal of what left the window, a bounded share of it; true if there may be more, which the
    /// next batch should take. Cheap when there is nothing to remove; to be called now and then (once a minute), not for
    /// each request. [`RequestWindow::settle`] says what became of it.
    pub fn prune(&mut self, store: &dyn Store, batch: &mut Batch, now: Moment) -> Result<bool, StoreError> {
        let age_ms = u64::try_from(self.limits.age.as_millis()).unwrap_or(u64::MAX);
        let old_ms = if now.in_doubt { 0 } else { now.now_ms.saturating_sub(age_ms) };
        let surplus = self.staged.answers.saturating_sub(self.limits.answers_max);
        let (mut removed, mut cut_ms) = (0, 0);
        store.keys(self.space, Range::ALL, &mut |key| {
            let born_ms = key
                .first_chunk::<6>()
                .map_or(0, |b| u64::from_be_bytes([0, 0, b[0], b[1], b[2], b[3], b[4], b[5]]));
            let goes = removed < PRUNE_MAX && (born_ms < old_ms || removed < surplus);
            // A whole millisecond goes together, so the cut is exact.
            if !goes && born_ms >= cut_ms {
                return ControlFlow::Break(());
            }
            removed += 1;
            cut_ms = born_ms + 1;
            ControlFlow::Continue(())
        })?;
        if removed > 0 {
            let floor_ms = self.staged.floor_ms.max(cut_ms);
            batch.delete_range(self.space, [0; 16], RequestId::floor(cut_ms));
            batch.put(self.meta, FLOOR_KEY, encode_u64(floor_ms));
            self.staged = Kept { floor_ms, answers: self.staged.answers.saturating_sub(removed) };
        }
        Ok(removed >= PRUNE_MAX)
    }

    /// Takes note of what became of the batch: of one that was not committed, nothing was recorded or removed.
    pub fn settle(&mut self, committed: bool) {
        if committed {
            self.kept = self.staged;
        } else {
            self.staged = self.kept;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    const SPACES: (Keyspace, Keyspace) = (Keyspace::CaseRequests, Keyspace::CaseMeta);
    const DAY_MS: u64 = 24 * 3_600_000;

    fn born(ms: u64, tail: u8) -> RequestId {
        let mut bytes = RequestId::floor(ms);
        bytes[6] = 0x70;
        bytes[8] = 0x80;
        bytes[15] = tail;
        RequestId::from_bytes(bytes).unwrap()
    }

    fn window(store: &dyn Store, answers_max: u64) -> RequestWindow {
        let limits = WindowLimits { age: Duration::from_secs(10), answers_max };
        RequestWindow::open(store, SPACES, limits, u64::MAX).unwrap()
    }

    fn record(store: &dyn Store, requests: &mut RequestWindow, id: RequestId) {
        let mut batch = Batch::default();
        requests.record(&mut batch, id, b"yes");
        store.commit(batch, Durability::Sync).unwrap();
        requests.settle(true);
    }

    fn prune(store: &dyn Store, requests: &mut RequestWindow, now: Moment) {
        let mut batch = Batch::default();
        requests.prune(store, &mut batch, now).unwrap();
        store.commit(batch, Durability::Sync).unwrap();
        requests.settle(true);
    }

    #[test]
    fn a_kept_answer_is_told_from_one_of_another_request_and_older_rows_answer_any() {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        struct Answer {
            position: u64,
        }
        let [a, b] = [&[&b"a"[..], b"bc"], &[&b"ab"[..], b"c"]].map(|parts| request_digest(parts.to_vec()));
        assert_ne!(a, b, "parts do not run into each other");
        assert_eq!(a, 0xbec0_c6b6_a1cc_8a9a, "stored digests are compared with those of later programs");
        let kept = KeptAnswer { answer: Answer { position: 7 }, request_digest: Some(a) };
        let read = KeptAnswer::<Answer>::read(SPACES.0, &kept.row()).unwrap();
        assert_eq!(read.answer, kept.answer);
        assert_eq!([Some(a), Some(b), None].map(|of| read.answers(of)), [true, false, true]);
        let older = KeptAnswer::<Answer>::read(SPACES.0, br#"{"position": 7}"#).unwrap();
        assert!(older.answers(Some(a)) && older.answer == kept.answer);
        let by_older: Answer = serde_json::from_slice(&kept.row()).unwrap();
        assert_eq!(by_older, kept.answer, "an older program reads it as well");
    }

    #[test]
    fn a_replay_gives_the_first_answer_until_it_was_removed() {
        let store = MemoryStore::default();
        let mut requests = window(&store, 100);
        let id = born(5_000, 1);
        assert_eq!(requests.seen(&store, id, 6_000.into()).unwrap(), Seen::Fresh);
        record(&store, &mut requests, id);
        let yes = Seen::Before(b"yes".to_vec());
        assert_eq!(requests.seen(&store, id, 14_999.into()).unwrap(), yes);
        assert_eq!(requests.seen(&store, id, 15_001.into()).unwrap(), yes, "it is still there");
        assert_eq!(requests.seen(&store, born(4_000, 1), 15_001.into()).unwrap(), Seen::Fresh);

        // Pruned, reopened, and the clock set back: too old, never fresh again. What was born after it is not.
        prune(&store, &mut requests, 20_000.into());
        for requests in [requests, window(&store, 100)] {
            assert_eq!(requests.seen(&store, id, 6_000.into()).unwrap(), Seen::TooOld);
            assert_eq!(requests.seen(&store, born(5_001, 1), 20_000.into()).unwrap(), Seen::Fresh);
        }
    }

    #[test]
    fn a_clock_days_ahead_removes_nothing_and_refuses_nothing() {
        let store = MemoryStore::default();
        let mut requests = window(&store, 100);
        let (first, now_ms) = (born(9 * DAY_MS, 1), 9 * DAY_MS + 1000);
        record(&store, &mut requests, first);
        let jumped = Moment { now_ms: now_ms + 3 * DAY_MS, newest_ms: now_ms + 3 * DAY_MS, in_doubt: true };
        prune(&store, &mut requests, jumped);
        assert_eq!(requests.seen(&store, first, jumped).unwrap(), Seen::Before(b"yes".to_vec()));
        assert_eq!(requests.seen(&store, born(now_ms, 1), jumped).unwrap(), Seen::Fresh);

        // Where somebody vouched for it, what it removed is the floor, and not the clock.
        prune(&store, &mut requests, (now_ms + 3 * DAY_MS).into());
        let requests = window(&store, 100);
        assert_eq!(requests.seen(&store, first, now_ms.into()).unwrap(), Seen::TooOld);
        assert_eq!(requests.seen(&store, born(now_ms, 1), now_ms.into()).unwrap(), Seen::Fresh);
    }

    #[test]
    fn an_id_from_the_future_is_refused_unless_it_was_executed() {
        let store = MemoryStore::default();
        let mut requests = window(&store, 100);
        let ahead_max = AHEAD_MAX.as_millis() as u64;
        let near = born(50_000 + ahead_max, 1);
        assert_eq!(requests.seen(&store, near, 50_000.into()).unwrap(), Seen::Fresh);
        let far = born(50_000 + ahead_max + 1, 1);
        assert_eq!(requests.seen(&store, far, 50_000.into()).unwrap(), Seen::Future(ahead_max + 1));
        // As of programs before this one.
        record(&store, &mut requests, far);
        assert_eq!(requests.seen(&store, far, 50_000.into()).unwrap(), Seen::Before(b"yes".to_vec()));
    }

    #[test]
    fn a_floor_that_a_clock_raised_heals_once() {
        let store = MemoryStore::default();
        let mut batch = Batch::default();
        batch.put(SPACES.1, CLOCK_FLOOR_KEY, encode_u64(80 * DAY_MS));
        store.commit(batch, Durability::Sync).unwrap();
        let open = |now_ms| RequestWindow::open(&store, SPACES, WindowLimits::default(), now_ms).unwrap();
        let now_ms = 78 * DAY_MS;
        let requests = open(now_ms);
        assert_eq!(requests.seen(&store, born(now_ms - 1, 1), now_ms.into()).unwrap(), Seen::TooOld);
        assert_eq!(requests.seen(&store, born(now_ms, 1), now_ms.into()).unwrap(), Seen::Fresh);
        // A clock that is set back lowers it no further.
        let requests = open(now_ms - DAY_MS);
        assert_eq!(requests.seen(&store, born(now_ms - 1, 1), now_ms.into()).unwrap(), Seen::TooOld);
    }

    #[test]
    fn a_floor_that_does_not_read_is_taken_to_be_now() {
        let store = MemoryStore::default();
        let mut batch = Batch::default();
        batch.put(SPACES.1, FLOOR_KEY, b"soup");
        store.commit(batch, Durability::Sync).unwrap();
        for _ in 0..2 {
            let requests = RequestWindow::open(&store, SPACES, WindowLimits::default(), 5_000).unwrap();
            assert_eq!(requests.seen(&store, born(4_999, 1), 6_000.into()).unwrap(), Seen::TooOld);
            assert_eq!(requests.seen(&store, born(5_000, 1), 6_000.into()).unwrap(), Seen::Fresh);
        }
    }

    #[test]
    fn of_a_batch_that_was_not_committed_nothing_was_counted() {
        let store = MemoryStore::default();
        let mut requests = window(&store, 100);
        for tail in 0..5 {
            record(&store, &mut requests, born(1_000, tail));
        }
        for _ in 0..3 {
            let mut batch = Batch::default();
            requests.prune(&store, &mut batch, 20_000.into()).unwrap();
            requests.record(&mut batch, born(19_000, 1), b"no");
            requests.settle(false);
        }
        assert_eq!(requests.kept.answers, 5);
        assert!(matches!(requests.seen(&store, born(1_000, 1), 20_000.into()).unwrap(), Seen::Before(_)));
        prune(&store, &mut requests, 20_000.into());
        assert_eq!((requests.kept.answers, window(&store, 100).kept.answers), (0, 0));
    }

    #[test]
    fn a_backlog_is_removed_share_by_share() {
        let store = MemoryStore::default();
        let mut requests = window(&store, 100_000);
        let mut batch = Batch::default();
        (0..=2 * PRUNE_MAX).for_each(|at| requests.record(&mut batch, born(at, 1), b"yes"));
        store.commit(batch, Durability::Sync).unwrap();
        requests.settle(true);
        let mut left = Vec::new();
        loop {
            let mut batch = Batch::default();
            let more = requests.prune(&store, &mut batch, 9_000_000.into()).unwrap();
            store.commit(batch, Durability::Sync).unwrap();
            requests.settle(true);
            left.push(requests.kept.answers);
            if !more {
                break;
            }
        }
        assert_eq!(left, [PRUNE_MAX + 1, 1, 0]);
    }

    #[test]
    fn the_window_is_bounded_by_number_and_the_cut_forgets_nothing_above_it() {
        let store = MemoryStore::default();
        let mut requests = window(&store, 3);
        let doubtful = Moment { in_doubt: true, ..2_000.into() };
        for n in 0..8 {
            record(&store, &mut requests, born(1_000 + n / 2, n as u8));
            prune(&store, &mut requests, doubtful);
        }
        for n in 0..8 {
            let seen = requests.seen(&store, born(1_000 + n / 2, n as u8), 2_000.into()).unwrap();
            assert!(seen != Seen::Fresh, "request {n} would be executed twice");
        }
        let last = requests.seen(&store, born(1_003, 7), 2_000.into()).unwrap();
        assert_eq!(last, Seen::Before(b"yes".to_vec()));
        assert!(window(&store, 3).kept.answers <= 4);
    }
}
