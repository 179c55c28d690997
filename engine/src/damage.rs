//! What is stored and does not read as it was written: where it was met, and what a pass over everything found.
//!
//! Damage stops only what needs the damaged row. So somebody has to hear of it: it is logged when it is met first,
//! counted for `/metrics`, shown by `/readyz`, and an alarm is raised for each keyspace. A thread reads all rows once a
//! day at a low rate, so that what nobody asks for is found while there are backups of it still.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use index::store::{
    Batch, Database, Durability, Keyspace, Lost, Range, Store, StoreError, Visit, VisitKey, salvage,
};
use reporter::Turn;
use reporter::desk::alarm;
use serde::Serialize;

use crate::clock::now_ms;
use crate::desk::Desk;
use crate::embeddings::Embeddings;
use crate::nice::give_way;

/// From the end of one pass to the begin of the next.
const PASS_EVERY: Duration = Duration::from_secs(24 * 3600);
/// A pass reads so many bytes of rows a second at least,
const RATE_MIN: u64 = 8 << 20;
/// and more where everything would otherwise take longer than this.
const PASS_SECONDS: u64 = 12 * 3600;
/// Bytes that are read between two looks at the clock.
const SLICE: usize = 1 << 20;
/// Damaged parts that are listed; all are counted.
const LISTED_MAX: usize = 100;
/// How often new damage is looked for, to raise an alarm.
const ALARM_EVERY: Duration = Duration::from_secs(2);

/// What is known of damage.
#[derive(Debug, Default)]
pub struct Damage {
    known: Mutex<Known>,
    /// Reads that met damage since start.
    pub met: AtomicU64,
    /// Passes over everything since start.
    pub passes: AtomicU64,
    /// When the last pass ended, in milliseconds since 1970 (UTC); 0 before the first.
    pub last_pass_ms: AtomicU64,
    /// Rows that the last pass read.
    pub rows: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    /// Keyspaces in which damage was met, with how often and the store's last words.
    met: BTreeMap<Keyspace, (u64, String)>,
    /// Of those, the ones that no alarm tells of yet.
    untold: BTreeSet<Keyspace>,
    /// What the last pass found.
    found: Vec<Part>,
    found_count: u64,
}

/// A part of a database that does not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Its keyspace.
    pub keyspace: &'static str,
    /// Whether it is one row, or a block of them.
    pub one_row: bool,
    /// The row's key, or the first place from which nothing reads, in hex.
    pub from: String,
    /// Where rows read again, in hex; none if none do up to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// What the store says.
    pub reason: String,
}

impl Part {
    /// A lost part of a keyspace.
    pub fn of(space: Keyspace, lost: Lost) -> Self {
        let Lost { from, to, one_row, reason } = lost;
        let to = to.filter(|_| !one_row).map(|to| hex(&to));
        Self { keyspace: space.name(), one_row, from: hex(&from), to, reason }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// How it stands, for `/readyz`.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// Keyspaces in which damage was met, or found by a pass.
    pub keyspaces: Vec<&'static str>,
    /// Reads that met damage since start.
    pub met: u64,
    /// Damaged parts that the last pass found.
    pub parts: u64,
}

impl Damage {
    /// Takes note of damage that a read met.
    fn note(&self, space: Keyspace, error: &StoreError) {
        if !error.is_damage() {
            return;
        }
        self.met.fetch_add(1, Ordering::Relaxed);
        let mut known = self.known();
        let (times, words) = known.met.entry(space).or_default();
        *times += 1;
        *words = error.to_string();
        if *times == 1 {
            known.untold.insert(space);
            tracing::error!(
                keyspace = space.name(),
                %error,
                "something stored does not read: what needs it cannot go on, everything else does; \
                 `hashward check --rows` names it"
            );
        }
    }

    /// How it stands; none where nothing is damaged.
    pub fn shown(&self) -> Option<Shown> {
        let known = self.known();
        let found = known.found.iter().map(|part| part.keyspace);
        let keyspaces: BTreeSet<&'static str> =
            known.met.keys().map(|space| space.name()).chain(found).collect();
        (!keyspaces.is_empty()).then(|| Shown {
            keyspaces: keyspaces.into_iter().collect(),
            met: self.met.load(Ordering::Relaxed),
            parts: known.found_count,
        })
    }

    /// Whether a read met damage, or a pass found some, that is not known to be mended.
    pub fn is_met(&self) -> bool {
        let known = self.known();
        !known.met.is_empty() || known.found_count > 0
    }

    /// Damaged parts that the last pass found.
    pub fn parts(&self) -> u64 {
        self.known().found_count
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store that takes note of the damage that is met in it.
pub struct Watched<'s> {
    inner: Arc<dyn Store + 's>,
    damage: Arc<Damage>,
}

impl<'s> Watched<'s> {
    /// Watches over a store.
    pub fn over(inner: Arc<dyn Store + 's>, damage: Arc<Damage>) -> Arc<dyn Store + 's> {
        Arc::new(Self { inner, damage })
    }

    fn noted<T>(&self, space: Keyspace, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        outcome.inspect_err(|error| self.damage.note(space, error))
    }
}

impl Store for Watched<'_> {
    fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.noted(space, self.inner.get(space, key))
    }

    fn scan(&self, space: Keyspace, range: Range<'_>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.noted(space, self.inner.scan(space, range, visit))
    }

    fn keys(&self, space: Keyspace, range: Range<'_>, visit: &mut VisitKey<'_>) -> Result<(), StoreError> {
        self.noted(space, self.inner.keys(space, range, visit))
    }

    fn last_key(&self, space: Keyspace) -> Result<Option<Vec<u8>>, StoreError> {
        self.noted(space, self.inner.last_key(space))
    }

    fn estimate(&self, space: Keyspace) -> Result<u64, StoreError> {
        self.noted(space, self.inner.estimate(space))
    }

    fn found_whole(&self, space: Keyspace) -> Result<(), StoreError> {
        self.inner.found_whole(space)
    }

    fn purge(&self) -> Result<(), StoreError> {
        self.inner.purge()
    }

    fn snapshot(&self) -> Arc<dyn Store + '_> {
        Watched::over(self.inner.snapshot(), self.damage.clone())
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        self.inner.commit(batch, durability)
    }
}

/// Raises an alarm for each keyspace in which damage is met, and for each set of embeddings that is lost, for as long as the
/// program runs.
pub async fn raise_alarms(damage: Arc<Damage>, embeddings: Arc<Embeddings>, desk: Desk) {
    let mut lost = BTreeSet::new();
    loop {
        tokio::time::sleep(ALARM_EVERY).await;
        lost = raise_lost_sets(&embeddings, lost, &desk).await;
        let untold = std::mem::take(&mut damage.known().untold);
        for space in untold {
            let words = damage.known().met.get(&space).map(|(_, words)| words.clone()).unwrap_or_default();
            let raised = desk
                .ask(move |turn| {
                    let words = format!(
                        "{words} What needs it cannot go on, everything else does. `hashward check --rows` on the \
                         stopped server, or on a copy of its data directory, names what is damaged."
                    );
                    let about = format!("keyspace '{}'", space.name());
                    Ok(alarm::raise(&mut turn.tx, "store.damaged", &about, &words, false, now_ms())?)
                })
                .await;
            if let Err(error) = raised {
                // Alarms lie in rows as well. The log and the metrics tell of it all the same.
                tracing::warn!(%error, keyspace = space.name(), "an alarm of damage could not be raised");
            }
        }
    }
}

/// Raises an alarm for each set of embeddings that cannot be used and was not `told` of; gives those that were.
async fn raise_lost_sets(embeddings: &Embeddings, told: BTreeSet<String>, desk: &Desk) -> BTreeSet<String> {
    let mut lost = BTreeSet::new();
    for (name, why) in embeddings.unusable() {
        if !told.contains(&name) {
            let about = format!("set '{name}'");
            let words = format!(
                "the set of embeddings '{name}' cannot be searched ({why}): import it again (PUT /api/v1/embeddings/{name}), \
                 or remove it (DELETE)"
            );
            let raise = move |turn: &mut Turn<'_>| {
                Ok(alarm::raise(&mut turn.tx, "embeddings.lost", &about, &words, false, now_ms())?)
            };
            if let Err(error) = desk.ask(raise).await {
                tracing::warn!(%error, set = name, "an alarm of a lost set could not be raised yet");
                continue;
            }
        }
        lost.insert(name);
    }
    lost
}

/// Keeps the thread going that reads everything; when it is dropped, the thread ends.
pub struct Scrubbing {
    _goes_on: SyncSender<()>,
}

/// Starts the thread that reads everything, the first time at once.
pub fn scrub(
    stores: [(Database, Arc<dyn Store>); 2],
    data_dir: &std::path::Path,
    damage: Arc<Damage>,
) -> std::io::Result<(Scrubbing, JoinHandle<()>)> {
    let (sender, ended) = sync_channel(1);
    let data_dir = data_dir.to_path_buf();
    let thread = thread::Builder::new().name("scrub".into()).spawn(move || {
        give_way();
        loop {
            let bytes: u64 =
                stores.iter().map(|(database, _)| size_of(&data_dir.join(database.name()))).sum();
            let pace = Pace { rate: RATE_MIN.max(bytes / PASS_SECONDS), ended: &ended };
            if !pass(&stores, &damage, &pace) {
                return;
            }
            if pace.has_ended(PASS_EVERY) {
                return;
            }
        }
    })?;
    Ok((Scrubbing { _goes_on: sender }, thread))
}

/// Bytes of the files in a folder.
fn size_of(folder: &std::path::Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

/// How fast a pass reads, and whether it goes on.
struct Pace<'e> {
    rate: u64,
    ended: &'e Receiver<()>,
}

impl Pace<'_> {
    /// Waits; whether the program ends.
    fn has_ended(&self, wait: Duration) -> bool {
        !matches!(self.ended.recv_timeout(wait), Err(RecvTimeoutError::Timeout))
    }

    /// Waits as long as so many bytes may take, less what they have taken.
    fn spend(&self, bytes: usize, since: Instant) -> bool {
        let due = Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        self.has_ended(due.saturating_sub(since.elapsed()))
    }
}

/// Reads every row of the databases; false if the program ended meanwhile.
fn pass(stores: &[(Database, Arc<dyn Store>)], damage: &Damage, pace: &Pace<'_>) -> bool {
    let (mut rows, mut parts, mut count) = (0, Vec::new(), 0);
    for (database, store) in stores {
        for space in database.keyspaces() {
            let mut lost = Vec::new();
            match read_all(&**store, space, pace, &mut lost) {
                Ok(Some(read)) => rows += read,
                Ok(None) => return false,
                Err(error) => {
                    tracing::warn!(%error, keyspace = space.name(), "a keyspace could not be read through");
                    continue;
                }
            }
            count += lost.len() as u64;
            if lost.is_empty() {
                damage.known().met.remove(&space);
                if let Err(error) = store.found_whole(space) {
                    tracing::warn!(%error, keyspace = space.name(), "a keyspace is whole, and still not compacted");
                }
            }
            let room = LISTED_MAX.saturating_sub(parts.len());
            parts.extend(lost.into_iter().take(room).map(|lost| Part::of(space, lost)));
        }
    }
    if count > 0 {
        tracing::error!(
            parts = count,
            rows,
            "parts of the databases do not read: `hashward check --rows` names them"
        );
    } else {
        tracing::info!(rows, "every row of the databases was read and is as it was written");
    }
    let mut known = damage.known();
    (known.found, known.found_count) = (parts, count);
    drop(known);
    damage.rows.store(rows, Ordering::Relaxed);
    damage.last_pass_ms.store(now_ms(), Ordering::Relaxed);
    damage.passes.fetch_add(1, Ordering::Relaxed);
    true
}

/// Reads a keyspace at a pace; gives the number of rows, none if the program ended meanwhile.
fn read_all(
    store: &dyn Store,
    space: Keyspace,
    pace: &Pace<'_>,
    lost: &mut Vec<Lost>,
) -> Result<Option<u64>, StoreError> {
    let (mut from, mut rows) = (Vec::new(), 0);
    loop {
        let (begun, mut bytes, mut last) = (Instant::now(), 0, None);
        salvage(
            store,
            space,
            Range::starting(&from),
            &mut |key, row| {
                rows += 1;
                bytes += key.len() + row.len();
                if bytes < SLICE {
                    return ControlFlow::Continue(());
                }
                last = Some(key.to_vec());
                ControlFlow::Break(())
            },
            &mut |part| lost.push(part),
        )?;
        let Some(last) = last else { return Ok(Some(rows)) };
        if pace.spend(bytes, begun) {
            return Ok(None);
        }
        from = last;
        from.push(0); // the first key after it
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use index::store::MemoryStore;
    use index::store::keys::wrong;

    /// A store in which one job does not read.
    struct Spotted(MemoryStore);

    impl Store for Spotted {
        fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            if key == [7] { Err(wrong(space, "a test says so")) } else { self.0.get(space, key) }
        }

        fn scan(&self, space: Keyspace, range: Range<'_>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
            let mut outcome = Ok(());
            self.0.scan(space, range, &mut |key, row| {
                if key == [7] {
                    outcome = Err(wrong(space, "a test says so"));
                    return ControlFlow::Break(());
                }
                visit(key, row)
            })?;
            outcome
        }

        fn keys(
            &self,
            space: Keyspace,
            range: Range<'_>,
            visit: &mut VisitKey<'_>,
        ) -> Result<(), StoreError> {
            self.0.keys(space, range, visit)
        }

        fn snapshot(&self) -> Arc<dyn Store + '_> {
            self.0.snapshot()
        }

        fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
            self.0.commit(batch, durability)
        }
    }

    #[test]
    fn a_pass_reads_everything_and_names_the_one_row_that_does_not_read() {
        let store = Spotted(MemoryStore::default());
        let mut batch = Batch::default();
        (0..20u8).for_each(|key| batch.put(Keyspace::Jobs, [key], [1]));
        batch.put(Keyspace::Hits, [1], vec![1; SLICE + 1]);
        batch.put(Keyspace::Hits, [2], [1]);
        store.commit(batch, Durability::Sync).unwrap();
        let damage = Arc::new(Damage::default());
        let watched = Watched::over(Arc::new(store), damage.clone());
        let (_goes_on, ended) = sync_channel(1);
        let pace = Pace { rate: u64::MAX, ended: &ended };
        assert!(damage.shown().is_none());
        assert!(pass(&[(Database::Case, watched)], &damage, &pace));
        assert_eq!((damage.parts(), damage.rows.load(Ordering::Relaxed)), (1, 21));
        let part = damage.known().found[0].clone();
        assert_eq!((part.keyspace, part.one_row, part.from.as_str()), ("jobs", true, "07"));
        assert_eq!(damage.shown().unwrap().keyspaces, ["jobs"]);
        assert!(damage.known().untold.contains(&Keyspace::Jobs), "an alarm will be raised");
    }
}
