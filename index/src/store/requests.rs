//! The replay window: answers of mutating requests, kept so that a repeated request gives the first answer.
//!
//! Request ids sort by birth time, so the window is a range of keys: older ids are cut off by one range
//! delete, and an id below the cut is answered 'unknown, too old', never executed a second time. The window
//! is bounded by age and by number; what is cut early for number raises the cut for age.

use std::ops::ControlFlow;
use std::time::Duration;

use super::keys::{decode_u64, encode_u64, wrong};
use super::{Batch, Keyspace, Range, Store, StoreError};
use crate::hit::RequestId;

const ROW_VERSION: u8 = 1;
const FLOOR_KEY: &[u8] = b"requests_floor_ms";

/// How far back replays are answered.
#[derive(Clone, Copy, Debug)]
pub struct WindowLimits {
    /// Age of the oldest id that is still known.
    pub age: Duration,
    /// Answers kept at most.
    pub answers_max: u64,
}

impl Default for WindowLimits {
    fn default() -> Self {
        Self { age: Duration::from_secs(24 * 3600), answers_max: 4_000_000 }
    }
}

/// What is known of a request id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Never executed within the window: execute it.
    Fresh,
    /// Executed: this was the answer.
    Before(Vec<u8>),
    /// Born before the window: it may or may not have been executed.
    TooOld,
}

/// The window of one database. Its owner is the database's single writer.
#[derive(Debug)]
pub struct RequestWindow {
    space: Keyspace,
    meta: Keyspace,
    limits: WindowLimits,
    floor_ms: u64,
    answers: u64,
}

impl RequestWindow {
    /// Reads the window's state: its cut, and how many answers it holds.
    pub fn open(
        store: &dyn Store,
        space: Keyspace,
        meta: Keyspace,
        limits: WindowLimits,
    ) -> Result<Self, StoreError> {
        let floor_ms = store.get(meta, FLOOR_KEY)?.map_or(Ok(0), |row| decode_u64(meta, &row))?;
        let mut answers = 0;
        store.keys(space, Range::ALL, &mut |_| {
            answers += 1;
            ControlFlow::Continue(())
        })?;
        Ok(Self { space, meta, limits, floor_ms, answers })
    }

    /// Looks a request up.
    pub fn seen(&self, store: &dyn Store, id: RequestId, now_ms: u64) -> Result<Seen, StoreError> {
        if id.born_ms() < self.floor_at(now_ms) {
            return Ok(Seen::TooOld);
        }
        let Some(row) = store.get(self.space, id.as_bytes())? else { return Ok(Seen::Fresh) };
        match row.split_first() {
            Some((&ROW_VERSION, answer)) => Ok(Seen::Before(answer.to_vec())),
            _ => Err(wrong(self.space, "an answer's version is unknown")),
        }
    }

    /// Adds an answer to the batch that carries the request's effect.
    pub fn record(&mut self, batch: &mut Batch, id: RequestId, answer: &[u8]) {
        let mut row = Vec::with_capacity(1 + answer.len());
        row.push(ROW_VERSION);
        row.extend_from_slice(answer);
        batch.put(self.space, id.as_bytes(), row);
        self.answers += 1;
    }

    /// Adds to the batch the removal of what left the window. Cheap when there is nothing to remove; to be
    /// called now and then (once a minute), not for each request.
    pub fn prune(&mut self, store: &dyn Store, batch: &mut Batch, now_ms: u64) -> Result<(), StoreError> {
        let by_age = RequestId::floor(self.floor_at(now_ms));
        let surplus = self.answers.saturating_sub(self.limits.answers_max);
        let mut removed = 0;
        let mut cut_ms = self.floor_at(now_ms);
        store.keys(self.space, Range::ALL, &mut |key| {
            let born_ms = key
                .first_chunk::<6>()
                .map_or(0, |b| u64::from_be_bytes([0, 0, b[0], b[1], b[2], b[3], b[4], b[5]]));
            if key >= &by_age[..] && (removed >= surplus && born_ms >= cut_ms) {
                return ControlFlow::Break(());
            }
            removed += 1;
            cut_ms = cut_ms.max(born_ms + 1); // a whole millisecond goes together, so the cut is exact
            ControlFlow::Continue(())
        })?;
        if removed > 0 {
            batch.delete_range(self.space, [0; 16], RequestId::floor(cut_ms));
            batch.put(self.meta, FLOOR_KEY, encode_u64(cut_ms));
            self.floor_ms = cut_ms;
            self.answers -= removed;
        }
        Ok(())
    }

    fn floor_at(&self, now_ms: u64) -> u64 {
        self.floor_ms.max(now_ms.saturating_sub(self.limits.age.as_millis() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Durability, MemoryStore};

    fn born(ms: u64, tail: u8) -> RequestId {
        let mut bytes = RequestId::floor(ms);
        bytes[6] = 0x70;
        bytes[8] = 0x80;
        bytes[15] = tail;
        RequestId::from_bytes(bytes).unwrap()
    }

    fn window(store: &dyn Store, answers_max: u64) -> RequestWindow {
        let limits = WindowLimits { age: Duration::from_secs(10), answers_max };
        RequestWindow::open(store, Keyspace::CaseRequests, Keyspace::CaseMeta, limits).unwrap()
    }

    #[test]
    fn a_replay_gives_the_first_answer_until_it_is_too_old() {
        let store = MemoryStore::default();
        let mut requests = window(&store, 100);
        let id = born(5_000, 1);
        assert_eq!(requests.seen(&store, id, 6_000).unwrap(), Seen::Fresh);
        let mut batch = Batch::default();
        requests.record(&mut batch, id, b"yes");
        store.commit(batch, Durability::Sync).unwrap();
        assert_eq!(requests.seen(&store, id, 14_999).unwrap(), Seen::Before(b"yes".to_vec()));
        assert_eq!(requests.seen(&store, id, 15_001).unwrap(), Seen::TooOld);

        // Pruned, reopened, and the clock set back: still too old, never fresh again.
        let mut batch = Batch::default();
        requests.prune(&store, &mut batch, 20_000).unwrap();
        store.commit(batch, Durability::Sync).unwrap();
        assert_eq!(window(&store, 100).seen(&store, id, 6_000).unwrap(), Seen::TooOld);
    }

    #[test]
    fn the_window_is_bounded_by_number_and_the_cut_forgets_nothing_above_it() {
        let store = MemoryStore::default();
        let mut requests = window(&store, 3);
        for n in 0..8 {
            let mut batch = Batch::default();
            requests.record(&mut batch, born(1_000 + n / 2, n as u8), b"done");
            requests.prune(&store, &mut batch, 2_000).unwrap();
            store.commit(batch, Durability::Sync).unwrap();
        }
        for n in 0..8 {
            let seen = requests.seen(&store, born(1_000 + n / 2, n as u8), 2_000).unwrap();
            assert!(seen != Seen::Fresh, "request {n} would be executed twice");
        }
        assert_eq!(requests.seen(&store, born(1_003, 7), 2_000).unwrap(), Seen::Before(b"done".to_vec()));
        assert!(window(&store, 3).answers <= 4);
    }
}
