//! The one who watches a key: shared by all shards and the admin port, asked before any answer is released.
//!
//! A frame of misses reads a flag, spends from the budget and reads traces; only a frame with a hit, or with a query
//! that may be near an earlier one, takes the key's lock. A key that never hit anything has no traces at all. Frames
//! that run on several shards at once are looked at one after another if they have hits; a frame of misses alone may
//! slip past a hit that is being noted at that very moment.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use index::{ContentId, Distance, Hash256, SignalType};

use super::alarm::{Alarm, AlarmKind, Alarms, KeyNumber};
use super::budget::{Allowance, Budget};
use super::region::{Limits, Noted, Trip};
use super::regions::{Hit, Regions};
use super::traces::Traces;

/// An alarm about the budget is raised this often at most.
const BUDGET_ALARM_MS: u64 = 3_600_000;

/// A query of a frame and a content it found. Several of a query stand together, in the order of the frame.
#[derive(Clone, Copy, Debug)]
pub struct Matched {
    /// Index of the query in its frame.
    pub query: u32,
    /// The content.
    pub content: ContentId,
    /// Bits that differ.
    pub distance: Distance,
}

/// Why nothing of a frame's answer may be released.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The key answers nothing until somebody thaws it.
    #[error("the key is frozen ({why}): ask the operator of this server")]
    Frozen {
        /// For whoever calls and whoever operates.
        why: Arc<str>,
    },
    /// The key asked more than it may.
    #[error("the key's budget of lookups is spent: try again in {} s", retry_after.as_secs().max(1))]
    Budget {
        /// When there will be room.
        retry_after: Duration,
    },
}

/// Watches one key.
pub struct Warden {
    key: KeyNumber,
    limits: Limits,
    budget: Budget,
    alarms: Alarms,
    frozen: AtomicBool,
    traces: OnceLock<Traces>,
    watched: Mutex<Watched>,
    budget_alarm_ms: AtomicU64,
}

#[derive(Default)]
struct Watched {
    regions: Regions,
    why: Option<Arc<str>>,
}

impl fmt::Debug for Warden {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What it remembers are hashes: they are never shown.
        out.debug_struct("Warden")
            .field("key", &self.key)
            .field("frozen", &self.is_frozen())
            .finish_non_exhaustive()
    }
}

impl Warden {
    /// A warden who has seen nothing yet.
    pub fn new(key: KeyNumber, allowance: Allowance, limits: Limits, alarms: Alarms) -> Self {
        Self {
            key,
            limits,
            budget: Budget::new(allowance),
            alarms,
            frozen: AtomicBool::new(false),
            traces: OnceLock::new(),
            watched: Mutex::default(),
            budget_alarm_ms: AtomicU64::new(0),
        }
    }

    /// The key's number.
    pub const fn key(&self) -> KeyNumber {
        self.key
    }

    /// Whether the answer to a frame may be released; called after its search, before anything of it goes out.
    /// `matched` is what the search found, by query. What is refused is refused whole, and costs no budget.
    pub fn admit<M>(&self, queries: &[Hash256], matched: M, now_ms: u64) -> Result<(), Refused>
    where
        M: Iterator<Item = Matched> + Clone,
    {
        self.admit_by_budget(queries.len() as u64, now_ms)?;
        if matched.clone().next().is_some() {
            return self.look(queries, matched, 0, now_ms);
        }
        let Some(traces) = self.traces.get() else { return Ok(()) };
        match queries.iter().position(|query| traces.may_be_near(query)) {
            Some(first) => self.look(queries, matched, first, now_ms),
            None => Ok(()),
        }
    }

    /// The same of lookups that tell nothing by neighbourhood: digests, texts, videos.
    pub fn admit_others(&self, lookups: usize, now_ms: u64) -> Result<(), Refused> {
        self.admit_by_budget(lookups as u64, now_ms)
    }

    fn admit_by_budget(&self, lookups: u64, now_ms: u64) -> Result<(), Refused> {
        if self.frozen.load(Ordering::Acquire) {
            return Err(self.refusal());
        }
        self.budget.spend(lookups, now_ms).map_err(|retry_after| {
            self.tell_budget(now_ms);
            Refused::Budget { retry_after }
        })
    }

    /// Whether the key is frozen.
    pub fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::Acquire)
    }

    /// Why the key is frozen; `None` if it is not.
    pub fn frozen(&self) -> Option<Arc<str>> {
        self.watched().why.clone()
    }

    /// Freezes the key: by hand, or at the start because it was frozen before.
    pub fn freeze(&self, why: &str) {
        self.freeze_in(&mut self.watched(), why);
    }

    /// Lets the key ask again, and forgets what it asked: else its next question would freeze it again.
    pub fn thaw(&self) {
        let mut watched = self.watched();
        if let Some(traces) = self.traces.get() {
            watched.regions.clear(traces);
        }
        watched.why = None;
        self.frozen.store(false, Ordering::Release);
    }

    /// Looks at a frame closely: what hit first, so that misses around a hit are seen in whatever order they stand.
    /// Misses before `first` are known to be near nothing.
    #[cold]
    fn look<M>(&self, queries: &[Hash256], matched: M, first: usize, now_ms: u64) -> Result<(), Refused>
    where
        M: Iterator<Item = Matched> + Clone,
    {
        let traces = self.traces.get_or_init(Traces::default);
        let mut watched = self.watched();
        if watched.why.is_some() {
            drop(watched);
            return Err(self.refusal()); // by another shard, while this frame was searched
        }
        for (query, hit) in nearest(matched.clone()) {
            let Some(hash) = queries.get(query as usize) else { continue };
            let noted = watched.regions.note(hash, Some(hit), traces, &self.limits, now_ms);
            self.judge(&mut watched, noted, Some(hit.content), now_ms)?;
        }
        let mut hits = matched.map(|matched| matched.query).peekable();
        for (at, hash) in queries.iter().enumerate().skip(first) {
            let at = at as u32;
            while hits.next_if(|query| *query < at).is_some() {}
            if hits.peek() != Some(&at) && traces.may_be_near(hash) {
                let noted = watched.regions.note(hash, None, traces, &self.limits, now_ms);
                self.judge(&mut watched, noted, None, now_ms)?;
            }
        }
        Ok(())
    }

    fn judge(
        &self,
        watched: &mut Watched,
        noted: Noted,
        content: Option<ContentId>,
        now_ms: u64,
    ) -> Result<(), Refused> {
        if let Some(distinct) = noted.crowd {
            let words = format!(
                "key {} asked about {distinct} distinct hashes around one content today: a picture that spreads, or \
                 somebody patient",
                self.key
            );
            self.raise(AlarmKind::Crowd, words, now_ms);
        }
        let Some(trip) = noted.trip else { return Ok(()) };
        let why = match trip {
            Trip::Flips(flips) => format!("{flips} queries one bit apart around one content"),
            Trip::Steps(steps) => {
                format!("{steps} queries two bits apart, each at new bits, around one content")
            }
            Trip::Cover { positions, members } => {
                format!("{members} queries around one content vary {positions} of its 256 bits")
            }
        };
        let about = content.map(|content| format!(", content {}", content.0)).unwrap_or_default();
        let why = self.freeze_in(watched, &format!("looks like reading a hash out: {why}"));
        self.raise(AlarmKind::Walk, format!("key {} is frozen{about}: {why}", self.key), now_ms);
        Err(Refused::Frozen { why })
    }

    fn freeze_in(&self, watched: &mut Watched, why: &str) -> Arc<str> {
        let why: Arc<str> = why.into();
        watched.why = Some(why.clone());
        self.frozen.store(true, Ordering::Release);
        why
    }

    #[cold]
    fn refusal(&self) -> Refused {
        Refused::Frozen { why: self.frozen().unwrap_or_else(|| "it is being thawed".into()) }
    }

    #[cold]
    fn tell_budget(&self, now_ms: u64) {
        let last_ms = self.budget_alarm_ms.load(Ordering::Relaxed);
        let due = last_ms == 0 || now_ms >= last_ms.saturating_add(BUDGET_ALARM_MS);
        let mine = || {
            self.budget_alarm_ms
                .compare_exchange(last_ms, now_ms.max(1), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        };
        if due && mine() {
            let words = format!("key {} has spent its budget of lookups: frames are refused", self.key);
            self.raise(AlarmKind::Budget, words, now_ms);
        }
    }

    fn raise(&self, kind: AlarmKind, words: String, at_ms: u64) {
        self.alarms.raise(Alarm { key: self.key, kind, words, at_ms });
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        // Whoever panicked with the lock left counts behind, nothing that could be half done.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The regions, for tests that measure.
    #[cfg(test)]
    pub(super) fn figures(&self) -> Vec<[u32; 4]> {
        self.watched().regions.all().iter().map(super::region::Region::figures).collect()
    }
}

/// The nearest content of each query that hit.
fn nearest(matched: impl Iterator<Item = Matched>) -> impl Iterator<Item = (u32, Hit)> {
    let mut matched = matched.peekable();
    let usual = SignalType::Pdq.threshold();
    std::iter::from_fn(move || {
        let mut best = matched.next()?;
        while let Some(other) = matched.next_if(|other| other.query == best.query) {
            if (other.distance, other.content) < (best.distance, best.content) {
                best = other;
            }
        }
        Some((best.query, Hit { content: best.content, close: best.distance <= usual }))
    })
}
