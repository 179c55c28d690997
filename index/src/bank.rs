//! Banks: a change becomes durable, then visible to every reader, then acknowledged. In that order.
//!
//! Readers load one [`BankState`] and see one generation, whole. Writers go through [`Banks::apply`], which
//! takes many changes, commits them in one batch and publishes once: group commit for whoever queues them.
//! Merges run beside both ([`Banks::merge_step`]).

mod ask;
mod budget;
mod change;
mod checkpoint;
mod content;
mod digest;
mod directory;
mod exchanged;
mod history;
mod load;
mod outcome;
mod paused;
mod seen;
mod stored;
mod tables;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, Guard};
use serde::{Deserialize, Serialize};

pub(crate) use ask::Filter;
pub use ask::{Ask, Interrupted, OnMatch, Slice};
pub use budget::MemoryBudget;
pub use change::{BankChange, BankRequest, name_fits};
pub use content::{NewContent, StoredContent};
pub use directory::Directory;
pub use history::{Event, What};
pub use load::{LoadProgress, LoadReport};
pub use outcome::{BankAnswer, BankError};
pub use paused::{ENABLED, Paused};
pub use stored::{Admit, Storing};
pub use tables::{Entries, Tables};

use crate::segment::Searchable;
use crate::signal::{BankId, ContentId, Distance, Generation, SignalType};
use crate::snapshot::{MergeJob, Snapshot};
use crate::store::{Durability, RequestWindow, Store, WindowLimits};
use crate::tenant::Tenant;

/// Longest bank name, as in HMA.
pub const NAME_MAX: usize = 255;

/// A bank as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BankRecord {
    /// Unique among living banks.
    pub name: String,
    /// When it was made, in milliseconds since 1970 (UTC).
    pub created_ms: u64,
    /// See [`Bank::enabled_ratio`].
    #[serde(default = "always")]
    pub enabled_ratio: f64,
    /// See [`Bank::threshold`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Distance>,
}

fn always() -> f64 {
    1.0
}

/// A living bank.
#[derive(Clone, Debug, PartialEq)]
pub struct Bank {
    /// Its id, never reused.
    pub id: BankId,
    /// Its name.
    pub name: Arc<str>,
    /// When it was made, in milliseconds since 1970 (UTC).
    pub created_ms: u64,
    /// Share of the lookups it takes part in where a caller samples: 0 for none, 1 (or more) for all.
    pub enabled_ratio: f64,
    /// Bits in which a PDQ hash may differ from one of its own; the type's threshold where it has none. A lookup that
    /// names a threshold uses that for all banks.
    pub threshold: Option<Distance>,
    /// Contents in it.
    pub contents: u64,
    /// Signals in it, by type.
    pub signals: [u64; SignalType::ALL.len()],
}

impl Bank {
    /// Whether it takes part in no lookup.
    pub fn is_off(&self) -> bool {
        self.enabled_ratio <= 0.0
    }
}

/// What a reader sees: all banks at one generation. Immutable.
#[derive(Clone)]
pub struct BankState {
    /// Counts the changes up to this state.
    pub generation: Generation,
    /// The youngest content it saw added.
    pub last_content: ContentId,
    /// The living banks.
    pub directory: Arc<Directory>,
    /// Contents that do not match for now.
    pub paused: Arc<Paused>,
    /// The signals.
    pub tables: Tables,
}

impl BankState {
    /// Bytes the tables hold.
    pub fn bytes(&self) -> usize {
        self.tables.bytes()
    }
}

/// How banks are kept.
#[derive(Clone, Default)]
pub struct BankOptions {
    /// Where built segments are stored; without, every start builds them anew.
    pub storing: Option<Storing>,
    /// What an acknowledged change is worth.
    pub durability: Durability,
    /// How long requests can be replayed.
    pub window: WindowLimits,
    /// When they are opened, in milliseconds since 1970 (UTC). A replay window's floor that lies beyond it, as a wrong
    /// clock left it in former versions, is lowered to it.
    pub opened_ms: Option<u64>,
    /// What the tables may take, merges included; contents beyond it are refused.
    pub memory: Arc<MemoryBudget>,
    /// Signals of a segment at most, for tests; each type's own limit holds in any case.
    pub segment_max: Option<usize>,
}

/// Counters that give out ids. Only moved by commits that succeeded.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    generation: Generation,
    last_bank: BankId,
    last_content: ContentId,
}

struct Writer {
    counters: Counters,
    requests: RequestWindow,
    pruned_ms: u64,
}

/// Tables that are merged by themselves.
#[derive(Clone, Copy)]
enum Kind {
    Pdq,
    Exact(usize),
    Videos,
}

/// The banks of one data directory.
pub struct Banks {
    store: Arc<dyn Store>,
    /// What an acknowledged change is worth.
    durability: Durability,
    memory: Arc<MemoryBudget>,
    state: ArcSwap<BankState>,
    /// One writer at a time, held over the commit.
    writer: Mutex<Writer>,
    /// Held only to swap the state: by the writer after its commit, by a merge when it is done.
    publish: Mutex<()>,
    merging: Mutex<()>,
    /// Where segments are stored; nowhere in some tests.
    storing: Option<Storing>,
    keeper: Mutex<stored::Keeper>,
}

impl Banks {
    /// The newest state. Cheap; take it once per batch of lookups.
    pub fn state(&self) -> Guard<Arc<BankState>> {
        self.state.load()
    }

    /// The newest state, to keep.
    pub fn state_owned(&self) -> Arc<BankState> {
        self.state.load_full()
    }

    /// The same as a tenant sees it, if it is for one.
    pub fn state_of(&self, tenant: Option<&Tenant>) -> Arc<BankState> {
        let state = self.state_owned();
        tenant.map_or_else(|| state.clone(), |tenant| Arc::new(state.seen_by(tenant)))
    }

    /// The store the banks live in, for reading.
    pub fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    /// Does one background merge if one is worth doing; says whether it did. Takes long: call it from a
    /// thread of its own. Lookups and changes go on meanwhile. `idle`: nothing has changed for a while, so that
    /// even small gains are worth it.
    pub fn merge_step(&self, idle: bool) -> bool {
        let _one_at_a_time = lock(&self.merging);
        let state = self.state_owned();
        let tables = &state.tables;
        // The longest delta first: what is imported fastest must not keep the others from being merged.
        let mut order: Vec<(usize, Kind)> = vec![(tables.pdq.unmerged(), Kind::Pdq)];
        order.extend(tables.exact.iter().zip(0..).map(|(exact, at)| (exact.unmerged(), Kind::Exact(at))));
        order.push((tables.videos.frames().unmerged(), Kind::Videos));
        order.sort_by_key(|(unmerged, _)| std::cmp::Reverse(*unmerged));
        order.into_iter().any(|(_, kind)| self.merge_kind(kind, &state, idle))
    }

    fn merge_kind(&self, kind: Kind, state: &BankState, idle: bool) -> bool {
        match kind {
            Kind::Pdq => self.plan(&state.tables.pdq, idle).is_some_and(|job| {
                let merged = job.run();
                self.publish(|state| state.tables.pdq = state.tables.pdq.with_merged(merged));
                true
            }),
            Kind::Exact(at) => self.plan(&state.tables.exact[at], idle).is_some_and(|job| {
                let merged = job.run();
                self.publish(|state| state.tables.exact[at] = state.tables.exact[at].with_merged(merged));
                true
            }),
            Kind::Videos => state.tables.videos.plan_merge(idle).is_some_and(|job| {
                let merged = job.run();
                self.publish(|state| state.tables.videos = state.tables.videos.with_merged(merged));
                true
            }),
        }
    }

    fn plan<H: Searchable>(&self, snapshot: &Snapshot<H>, idle: bool) -> Option<MergeJob<H>> {
        let last = self.state.load().last_content;
        let idly = || if idle { snapshot.plan_idle_merge() } else { None };
        let lagging = || match &self.storing {
            Some(storing) if storing.lags(snapshot, last) => snapshot.plan_storable_merge(),
            _ => None,
        };
        snapshot.plan_merge().or_else(idly).or_else(lagging)
    }

    fn publish(&self, change: impl FnOnce(&mut BankState)) -> Generation {
        let _guard = lock(&self.publish);
        let mut state = BankState::clone(&self.state.load());
        change(&mut state);
        let generation = state.generation;
        self.state.store(Arc::new(state));
        generation
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        lock(&self.writer)
    }
}

/// A poisoned lock means a panic elsewhere; what these locks guard is only replaced whole, so it is sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
