//! The one writer of cases: every change of items, rules, jobs and decisions goes through here, many in one commit.
//!
//! A command works on a transaction that sees what the commands before it wrote; if it is refused, its own changes are
//! taken back and theirs stay. Nobody is answered before the commit. Since there is one writer, a command may read, think
//! and write: what it read stays true.

use std::collections::VecDeque;
use std::sync::Arc;

use arc_swap::ArcSwap;
use index::Position;
use index::store::{Batch, Durability, Keyspace, Store, StoreError};

use crate::access::Directory;
use crate::audit;
use crate::desk::intake::Arrival;
use crate::desk::lease::{self, Floors};
use crate::error::{DeskError, RouterError};
use crate::router::policy::{self, Catalog};
use crate::router::rule::RulesFile;
use crate::router::settle::{Askable, Routed, Terms};
use crate::router::{self, Followed, Gauges, evaluation};
use crate::tx::Tx;

/// A group ends with so many rows: a few megabytes of log.
const GROUP_WRITES: usize = 20_000;
/// Hits that were set aside and are tried again in one commit.
const RETRIES: usize = 256;
/// Evaluations are kept so long.
const EVALUATIONS_MS: u64 = 30 * 24 * 3_600_000;

/// One change, and how its outcome is told once the commit has happened or failed.
pub type Command = Box<dyn FnOnce(&mut Turn<'_>) -> Answer + Send>;
/// Tells the outcome.
pub type Answer = Box<dyn FnOnce(Result<(), Arc<StoreError>>) + Send>;

/// What a command works with.
pub struct Turn<'a> {
    /// Reads and writes.
    pub tx: Tx<'a>,
    /// Where lists of jobs begin.
    pub floors: &'a mut Floors,
    /// Rules, types and settings as they were committed last, and the time.
    pub terms: Terms<'a>,
    /// Cases that were placed.
    pub routed: Vec<Routed>,
    /// Set by whoever changes rules, types or settings.
    pub catalog_changed: bool,
    /// Set by whoever changes people, keys or sessions.
    pub people_changed: bool,
    /// Set by a command that takes away more than it writes: it is committed on a full disk, too.
    pub removes: bool,
}

impl Turn<'_> {
    /// Takes something new in: settles it, or lets it wait.
    pub fn take(&mut self, arrival: Arrival) -> Result<(), DeskError> {
        let routed = router::take(&mut self.tx, self.terms, arrival)?;
        self.routed.extend(routed);
        Ok(())
    }

    /// Goes on with something that waited.
    pub fn resume(&mut self, arrival: Arrival) -> Result<(), DeskError> {
        let routed = router::resume(&mut self.tx, self.terms, arrival)?;
        self.routed.extend(routed);
        Ok(())
    }

    /// Takes in a report by a user of the platform.
    pub fn take_report(&mut self, arrival: Arrival) -> Result<(), DeskError> {
        let routed = router::take_report(&mut self.tx, self.terms, arrival)?;
        self.routed.extend(routed);
        Ok(())
    }

    /// Lets something wait on after a failure.
    pub fn postpone(&mut self, arrival: Arrival, trouble: &str) -> Result<(), DeskError> {
        let routed = router::postpone(&mut self.tx, self.terms, arrival, trouble)?;
        self.routed.extend(routed);
        Ok(())
    }

    /// Remembers what this command does: in its commit, and not at all if it is refused.
    pub fn audit(&mut self, entry: audit::Entry) -> Result<(), DeskError> {
        audit::append(&mut self.tx, entry, self.terms.now_ms)?;
        Ok(())
    }
}

/// Stands at every commit.
pub trait Gate: Send {
    /// Whether it may be tried: not on a full disk.
    fn admit(&self) -> Result<(), StoreError>;
    /// Whether a commit may be tried that takes away more than it writes.
    fn admit_removal(&self) -> Result<(), StoreError> {
        self.admit()
    }
    /// It has happened, and nobody was told yet.
    fn passed(&self) {}
}

/// The cases of one store.
pub struct Cases {
    store: Arc<dyn Store>,
    durability: Durability,
    gate: Box<dyn Gate>,
    classifier: bool,
    floors: Floors,
    catalog: Arc<ArcSwap<Catalog>>,
    directory: Arc<ArcSwap<Directory>>,
}

/// What a group of commands, or a step of the router, did.
#[derive(Debug, Default)]
pub struct Done {
    /// What was placed where.
    pub routed: Vec<Routed>,
    /// Whether something was written.
    pub written: bool,
    /// Hits that a step has set aside, because something that routing them needs does not read.
    pub set_aside: u64,
    /// How far the router is, after a step.
    pub gauges: Gauges,
}

impl Cases {
    /// Opens the cases of a store; what an older format left is turned into today's.
    pub fn open(
        store: Arc<dyn Store>,
        durability: Durability,
        gate: Box<dyn Gate>,
    ) -> Result<Self, RouterError> {
        if let Some(batch) = router::renew_format_1(&*store)? {
            store.commit(batch, durability)?;
        }
        let catalog = Catalog::load(&Tx::new(&*store))?;
        let directory = Directory::load(&Tx::new(&*store))?;
        Ok(Self {
            store,
            durability,
            gate,
            classifier: false,
            floors: Floors::default(),
            catalog: Arc::new(ArcSwap::from_pointee(catalog)),
            directory: Arc::new(ArcSwap::from_pointee(directory)),
        })
    }

    /// Says whether the classifier can be asked.
    pub fn set_classifier(&mut self, is_there: bool) {
        self.classifier = is_there;
    }

    fn askable(&self, catalog: &Catalog) -> Askable {
        Askable { classifier: self.classifier, creator: catalog.settings.partial_items_url.is_some() }
    }

    /// Rules, types and settings, as they are at any moment.
    pub fn catalog(&self) -> Arc<ArcSwap<Catalog>> {
        self.catalog.clone()
    }

    /// People, keys and sessions, as they are at any moment.
    pub fn directory(&self) -> Arc<ArcSwap<Directory>> {
        self.directory.clone()
    }

    /// Brings the rules of a file in, or those of a former file into people's hands.
    pub fn apply_file(&mut self, file: Option<&RulesFile>, now_ms: u64) -> Result<bool, DeskError> {
        let mut tx = Tx::new(&*self.store);
        let changed = match file {
            Some(file) => policy::apply_file(&mut tx, file, now_ms)?,
            None => policy::leave_file(&mut tx, now_ms)?,
        };
        if changed {
            let batch = tx.into_batch();
            self.store.commit(batch, self.durability)?;
            self.publish(true, false).map_err(|error| DeskError::Store(Arc::new(unreadable(&error))))?;
        }
        Ok(changed)
    }

    /// Carries out commands in order and commits them as one; then each is told. Takes as many from the front as make a
    /// commit of a decent size. A failed commit is told to all, and returned.
    pub fn group(&mut self, commands: &mut VecDeque<Command>, now_ms: u64) -> Result<Done, Arc<StoreError>> {
        let catalog = self.catalog.load_full();
        let terms = Terms { catalog: &catalog, askable: self.askable(&catalog), now_ms };
        let mut turn = Turn {
            tx: Tx::new(&*self.store),
            floors: &mut self.floors,
            terms,
            routed: Vec::new(),
            catalog_changed: false,
            people_changed: false,
            removes: false,
        };
        let mut removals = 0;
        let mut answers: Vec<Answer> = Vec::new();
        while turn.tx.writes() < GROUP_WRITES
            && let Some(command) = commands.pop_front()
        {
            answers.push(command(&mut turn));
            removals += usize::from(std::mem::take(&mut turn.removes));
        }
        let only_removals = removals == answers.len();
        let Turn { tx, routed, catalog_changed, people_changed, .. } = turn;
        let batch = tx.into_batch();
        let written = !batch.is_empty();
        let committed = self.commit_as(batch, only_removals).map_err(Arc::new);
        if committed.is_ok()
            && let Err(error) = self.publish(catalog_changed, people_changed)
        {
            // What was just written does not read: a fault of ours, and nobody may go on by old rules unawares.
            let fault = Arc::new(unreadable(&error));
            answers.into_iter().for_each(|answer| answer(Err(fault.clone())));
            return Err(fault);
        }
        answers.into_iter().for_each(|answer| answer(committed.clone()));
        committed.map(|()| Done { routed, written, ..Done::default() })
    }

    /// Routes the next hits of the log, durably. After an error nothing of the step happened, except that a failed commit
    /// may have happened, whole: call again.
    pub fn step(&mut self, limit: usize, now_ms: u64) -> Result<Done, RouterError> {
        self.step_until(limit, now_ms, &|| false)
    }

    /// Routes as [`Cases::step`] does; once `enough` says so, the hit at hand is the step's last.
    pub fn step_until(
        &mut self,
        limit: usize,
        now_ms: u64,
        enough: &dyn Fn() -> bool,
    ) -> Result<Done, RouterError> {
        let catalog = self.catalog.load_full();
        let mut tx = Tx::new(&*self.store);
        let terms = Terms { catalog: &catalog, askable: self.askable(&catalog), now_ms };
        let Followed { routed, set_aside, gauges } =
            router::follow(&mut tx, &*self.store, terms, limit, enough)?;
        let batch = tx.into_batch();
        let written = !batch.is_empty();
        self.commit(batch)?;
        Ok(Done { routed, written, set_aside, gauges })
    }

    /// Tries the hits behind this one again that were set aside; gives the last that was tried, if there were any. To be
    /// called once after a start, until there are none.
    pub fn retry_set_aside(&mut self, after: Position, now_ms: u64) -> Result<Option<Position>, DeskError> {
        let catalog = self.catalog.load_full();
        let mut tx = Tx::new(&*self.store);
        let terms = Terms { catalog: &catalog, askable: self.askable(&catalog), now_ms };
        let (_, last) = router::aside::retry(&mut tx, terms, after, RETRIES)?;
        let batch = tx.into_batch();
        self.commit(batch)?;
        Ok(last)
    }

    /// Finds the router's place in the hit log again where its row does not read; gives the number of hits that were set
    /// aside for it, or none if nothing was done.
    pub fn find_place(&mut self, now_ms: u64) -> Result<Option<u64>, StoreError> {
        let mut tx = Tx::new(&*self.store);
        let found = router::find_place(&mut tx, &*self.store, now_ms)?;
        self.commit(tx.into_batch())?;
        Ok(found)
    }

    /// Does what time brings: takes back leases that ended, removes evaluations that nobody needs any more, as seen from
    /// `trusted_ms`; none of these while the clock is in doubt.
    pub fn tick(&mut self, now_ms: u64, trusted_ms: Option<u64>) -> Result<(), StoreError> {
        let mut tx = Tx::new(&*self.store);
        lease::take_back(&mut tx, &mut self.floors, now_ms)?;
        let mut batch = tx.into_batch();
        let Some(trusted_ms) = trusted_ms else { return self.commit(batch) };
        let (from, to) = evaluation::older(trusted_ms.saturating_sub(EVALUATIONS_MS));
        let mut any = false;
        self.store
            .scan(Keyspace::Evaluations, index::store::Range::between(&from, &to), &mut |_, _| {
                any = true;
                std::ops::ControlFlow::Break(())
            })
            .or_else(|error| if error.is_damage() { Ok(()) } else { Err(error) })?; // told of where it was met
        if any {
            batch.delete_range(Keyspace::Evaluations, from, to);
        }
        self.commit(batch)
    }

    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.commit_as(batch, false)
    }

    fn commit_as(&mut self, batch: Batch, removal: bool) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        if removal { self.gate.admit_removal() } else { self.gate.admit() }?;
        let floors = &mut self.floors;
        floors.observe(&batch);
        let committed = self.store.commit(batch, self.durability);
        match &committed {
            Ok(()) => self.gate.passed(),
            Err(_) => floors.forget(),
        }
        committed
    }

    fn publish(&self, catalog: bool, people: bool) -> Result<(), RouterError> {
        let tx = Tx::new(&*self.store);
        if catalog {
            self.catalog.store(Arc::new(Catalog::load(&tx)?));
        }
        if people {
            self.directory.store(Arc::new(Directory::load(&tx)?));
        }
        Ok(())
    }
}

fn unreadable(error: &RouterError) -> StoreError {
    StoreError::Row { keyspace: Keyspace::Policy.name(), reason: error.to_string() }
}

/// Makes a command of work that can be refused; `tell` gets its outcome.
pub fn command<T: Send + 'static>(
    work: impl FnOnce(&mut Turn<'_>) -> Result<T, DeskError> + Send + 'static,
    tell: impl FnOnce(Result<T, DeskError>) + Send + 'static,
) -> Command {
    Box::new(move |turn| {
        let (savepoint, routed) = (turn.tx.savepoint(), turn.routed.len());
        let outcome = work(turn);
        if outcome.is_err() {
            turn.tx.rollback(savepoint);
            turn.routed.truncate(routed);
        }
        Box::new(move |committed| {
            tell(match committed {
                Ok(()) => outcome,
                // What was refused stays refused, whatever became of the others.
                Err(error) => outcome.and(Err(DeskError::Store(error))),
            });
        })
    })
}
