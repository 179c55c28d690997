//! The desk's thread: the one writer of cases. It carries out what is asked of it, many commands in one commit, and
//! follows the hit log whenever that has grown; when it cannot, it says so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use index::Position;
use index::store::StoreError;
use reporter::desk::alarm;
use reporter::router::rule::RulesFile;
use reporter::router::settle::Routed;
use reporter::{Cases, Command, DeskError, Gate, RouterError, Turn, command};
use tokio::sync::oneshot;

use crate::clock::{self, now_ms};
use crate::disk::Disk;
use crate::failpoint::failpoint;
use crate::shutdown;

/// Commands waiting at most; beyond it they are refused, and senders come back.
pub const QUEUE_MAX: usize = 4096;
/// Commands of one commit.
const GROUP_MAX: usize = 256;
/// Hits a step of the router takes: one synced commit each. A step begins with few, and takes twice as many as the one
/// before it did as long as they take less than [`STEP_TIME_MAX`].
const STEP_HITS_MAX: usize = 1024;
const STEP_HITS_MIN: usize = 16;
/// Commands are carried out after so long, between two steps.
const STEP_TIME_MAX: Duration = Duration::from_millis(50);
/// The pause after a step that failed, and how long it becomes at most. Commands are carried out meanwhile.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_secs(1);

/// What the thread is woken for.
pub enum Work {
    /// Something to do.
    Command(Command),
    /// The hit log has grown.
    Ring,
    /// The rules file was read again.
    Rules(Box<RulesFile>),
}

/// Counts the desk's work.
#[derive(Debug, Default)]
pub struct DeskCounts {
    /// Hits routed since start.
    pub routed: AtomicU64,
    /// Position reached.
    pub cursor: AtomicU64,
    /// 1 while the hit log cannot be followed.
    pub failed: AtomicU64,
    /// Hits set aside since start, because something that routing them needs does not read.
    pub set_aside: AtomicU64,
    /// Commands carried out since start.
    pub commands: AtomicU64,
    /// Commits since start.
    pub commits: AtomicU64,
    /// Hits routed since start, by rule (empty for the default) and queue.
    pub ways: Mutex<BTreeMap<(String, String), u64>>,
}

/// What the intake's workers count.
#[derive(Debug, Default)]
pub struct IntakeCounts {
    /// Items that were taken in.
    pub taken: AtomicU64,
    /// Items that were refused.
    pub refused: AtomicU64,
    /// Arrivals that were settled after they had waited.
    pub settled: AtomicU64,
    /// Tries that failed, and are made again.
    pub postponed: AtomicU64,
    /// Arrivals that people decide, because something could not be found out.
    pub given_up: AtomicU64,
}

/// What the outbox's workers count.
#[derive(Debug, Default)]
pub struct OutboxCounts {
    /// Deliveries that were understood.
    pub delivered: AtomicU64,
    /// Tries that failed.
    pub failed: AtomicU64,
    /// Deliveries that were given up after a week.
    pub given_up: AtomicU64,
    /// Media that were added to banks by rules.
    pub added: AtomicU64,
}

impl DeskCounts {
    fn add(&self, routed: &[Routed]) {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        for way in routed.iter().filter(|way| way.hits > 0) {
            let key = (way.rule.clone().unwrap_or_default(), way.queue.as_str().to_string());
            *ways.entry(key).or_default() += way.hits;
        }
        let hits = routed.iter().map(|way| way.hits).sum();
        self.routed.fetch_add(hits, Ordering::Relaxed);
    }
}

/// Asks the desk. Dropping the last one, and the ledger's bell, ends the thread after what is queued.
#[derive(Clone)]
pub struct Desk(SyncSender<Work>);

/// Why the desk did not take a command.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Too many wait.
    #[error("the desk is busy; send it again")]
    Busy,
    /// It was refused, or failed.
    #[error(transparent)]
    Refused(#[from] DeskError),
}

impl Desk {
    /// Carries something out; returns when it is durable, or refused.
    pub async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Turn<'_>) -> Result<T, DeskError> + Send + 'static,
    ) -> Result<T, AskError> {
        let (tell, told) = oneshot::channel();
        let command = command(work, move |outcome| {
            let _ = tell.send(outcome); // who asked may be gone
        });
        match self.0.try_send(Work::Command(command)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(AskError::Busy),
            Err(TrySendError::Disconnected(_)) => return Err(DeskError::Stopped.into()),
        }
        Ok(told.await.unwrap_or(Err(DeskError::Stopped))?)
    }

    /// Brings in the rules of a file that was read again; what comes of it is logged.
    pub fn apply_rules(&self, file: RulesFile) -> Result<(), AskError> {
        self.0.try_send(Work::Rules(Box::new(file))).map_err(|error| match error {
            TrySendError::Full(_) => AskError::Busy,
            TrySendError::Disconnected(_) => DeskError::Stopped.into(),
        })
    }

    /// Says that the hit log has grown. A full queue needs no saying: the log is looked at after each group.
    pub fn ring(&self) {
        let _ = self.0.try_send(Work::Ring);
    }
}

/// Lets nothing through to a full disk.
pub struct DiskGate(pub Arc<Disk>);

impl Gate for DiskGate {
    fn admit(&self) -> Result<(), StoreError> {
        failpoint("desk-before-commit");
        self.0.admit()
    }

    fn admit_removal(&self) -> Result<(), StoreError> {
        failpoint("desk-before-commit");
        self.0.admit_removal()
    }

    fn passed(&self) {
        failpoint("desk-after-commit");
    }
}

/// The two ends of the desk's queue.
pub fn channel() -> (Desk, Receiver<Work>) {
    let (sender, receiver) = std::sync::mpsc::sync_channel(QUEUE_MAX);
    (Desk(sender), receiver)
}

/// Starts the thread.
pub fn start(
    mut cases: Cases,
    disk: Arc<Disk>,
    counts: Arc<DeskCounts>,
    queue: Receiver<Work>,
) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name("desk".into()).spawn(move || {
        retry_set_aside(&mut cases, &disk);
        let (mut ticked, mut pace) = (Instant::now(), Pace::default());
        let mut ended = false;
        while !ended {
            let mut commands = VecDeque::new();
            match queue.recv_timeout(TICK) {
                Ok(Work::Command(command)) => commands.push_back(command),
                Ok(Work::Rules(file)) => apply_rules(&mut cases, &disk, &file),
                Ok(Work::Ring) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => ended = true,
            }
            loop {
                while commands.len() < GROUP_MAX
                    && let Ok(work) = queue.try_recv()
                {
                    match work {
                        Work::Command(command) => commands.push_back(command),
                        Work::Rules(file) => apply_rules(&mut cases, &disk, &file),
                        Work::Ring => {}
                    }
                }
                if !commands.is_empty() {
                    carry_out(&mut cases, &disk, &counts, &mut commands);
                }
                let more = follow(&mut cases, &disk, &counts, &mut pace) || !commands.is_empty();
                if ticked.elapsed() >= TICK {
                    ticked = Instant::now();
                    if let Err(error) = cases.tick(now_ms(), clock::trusted_ms()) {
                        note(&disk, &error);
                    }
                }
                if !more {
                    break;
                }
            }
        }
    })
}

fn apply_rules(cases: &mut Cases, disk: &Disk, file: &RulesFile) {
    match cases.apply_file(Some(file), now_ms()) {
        Ok(changed) => {
            let table = cases.catalog().load().table.version;
            tracing::info!(changed, table, "the rules file was read again");
        }
        Err(error) => {
            tracing::error!(%error, "the rules file was read again and is not used; the rules stay as they were");
            if let DeskError::Store(error) = &error {
                note(disk, error);
            }
        }
    }
}

fn carry_out(cases: &mut Cases, disk: &Disk, counts: &DeskCounts, commands: &mut VecDeque<Command>) {
    let waiting = commands.len();
    // On a full disk each command is a commit of its own: one that removes something must not be refused with others.
    let mut alone: VecDeque<Command> = VecDeque::new();
    let outcome = if disk.is_full() {
        alone.extend(commands.pop_front());
        cases.group(&mut alone, now_ms())
    } else {
        cases.group(commands, now_ms())
    };
    counts.commands.fetch_add((waiting - commands.len()) as u64, Ordering::Relaxed);
    match outcome {
        Ok(done) => {
            counts.add(&done.routed);
            if done.written {
                counts.commits.fetch_add(1, Ordering::Relaxed);
                disk.written();
            }
        }
        Err(error) => note(disk, &error),
    }
}

fn note(disk: &Disk, error: &StoreError) {
    tracing::warn!(%error, "the desk could not write; who asked was told");
    disk.observe(Err(error));
    shutdown::stop_unless_curable(error);
}

/// Tries the hits again that were set aside: what they need may have been restored.
fn retry_set_aside(cases: &mut Cases, disk: &Disk) {
    let mut after = Position(0);
    loop {
        match cases.retry_set_aside(after, now_ms()) {
            Ok(Some(last)) => after = last,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "hits that were set aside are tried again at the next start");
                if let DeskError::Store(error) = &error {
                    disk.observe(Err(error));
                    shutdown::stop_unless_curable(error);
                }
                return;
            }
        }
    }
}

/// Finds the router's place in the hit log again, if it was lost; true if it was found.
fn find_place(cases: &mut Cases, disk: &Disk, counts: &DeskCounts) -> bool {
    match cases.find_place(now_ms()) {
        Ok(None) => false,
        Ok(Some(hits)) => {
            counts.set_aside.fetch_add(hits, Ordering::Relaxed);
            tracing::error!(hits, "the router's place was lost and is found again from the jobs");
            retry_set_aside(cases, disk);
            true
        }
        Err(error) => {
            note(disk, &error);
            false
        }
    }
}

/// Raises an alarm that hits are not routed.
fn raise_stopped(cases: &mut Cases, error: &RouterError) {
    let words = format!(
        "hits are logged and not routed: {error}. They are routed once this is mended. `hashward check --rows` on the \
         stopped server names what is damaged; restore a backup that has it"
    );
    let raise = move |turn: &mut Turn<'_>| {
        Ok(alarm::raise(&mut turn.tx, "routing.stopped", "the hit log", &words, false, now_ms())?)
    };
    let told = |outcome: Result<u64, DeskError>| {
        if let Err(error) = outcome {
            tracing::warn!(%error, "an alarm of the stopped router could not be raised");
        }
    };
    // What it is told of is in the log and the metrics all the same.
    let _ = cases.group(&mut VecDeque::from([command(raise, told)]), now_ms());
}

/// How many hits a step of the router takes, and when it may be tried again after one that failed.
struct Pace {
    hits: usize,
    pause: Duration,
    until: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { hits: STEP_HITS_MIN, pause: PAUSE_MIN, until: None }
    }
}

impl Pace {
    /// A step has routed so many hits.
    fn routed(&mut self, hits: u64) {
        let hits = usize::try_from(hits).unwrap_or(STEP_HITS_MAX);
        *self = Self { hits: (hits * 2).clamp(STEP_HITS_MIN, STEP_HITS_MAX), ..Self::default() };
    }

    /// A step has failed: it is tried again after a pause, each twice as long as the one before.
    fn failed(&mut self, now: Instant) {
        self.until = Some(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    /// Whether no step may be tried yet. A pause ends early when the disk it was made for has room again.
    fn waits(&self, now: Instant, has_room: impl FnOnce() -> bool) -> bool {
        self.until.is_some_and(|until| now < until) && !has_room()
    }
}

/// Routes some hits, if any wait; true if more do.
fn follow(cases: &mut Cases, disk: &Disk, counts: &DeskCounts, pace: &mut Pace) -> bool {
    let began = Instant::now();
    // Whether the disk has room is asked only where that is what ended the last step.
    if pace.waits(began, || disk.is_full() && disk.has_room()) {
        return false;
    }
    let reached = counts.cursor.load(Ordering::Relaxed);
    match cases.step_until(pace.hits, now_ms(), &|| began.elapsed() >= STEP_TIME_MAX) {
        Ok(done) => {
            pace.routed(done.gauges.cursor.0.saturating_sub(reached));
            counts.cursor.store(done.gauges.cursor.0, Ordering::Relaxed);
            counts.failed.store(0, Ordering::Relaxed);
            counts.set_aside.fetch_add(done.set_aside, Ordering::Relaxed);
            if done.set_aside > 0 {
                tracing::error!(
                    hits = done.set_aside,
                    "hits are set aside: something that routing them needs does not read"
                );
            }
            counts.add(&done.routed);
            done.gauges.lag() > 0
        }
        Err(error) => {
            let is_full = matches!(&error, RouterError::Store(error) if error.is_disk_full());
            if counts.failed.swap(1, Ordering::Relaxed) == 0 {
                tracing::error!(%error, "hits are not routed; they stay in the log and are routed when this is mended");
                if !is_full && find_place(cases, disk, counts) {
                    *pace = Pace::default();
                    return true;
                }
                if !is_full {
                    raise_stopped(cases, &error);
                }
            }
            if let RouterError::Store(error) = &error {
                disk.observe(Err(error));
                shutdown::stop_unless_curable(error);
            }
            pace.failed(Instant::now());
            false // tried again at the next ring or second behind the pause
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_steps_are_tried_again_later_and_later_and_at_once_when_there_is_room() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert!(!pace.waits(start, || false));
        let mut pauses = Vec::new();
        for _ in 0..7 {
            pace.failed(start);
            let waits = |ms| pace.waits(start + Duration::from_millis(ms), || false);
            pauses.push((1..=2000).find(|ms| !waits(*ms)).unwrap());
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000]);
        assert!(!pace.waits(start, || true));
        pace.routed(1);
        assert!(!pace.waits(start, || false));
    }

    #[test]
    fn a_step_takes_at_most_twice_as_many_hits_as_the_one_before_it() {
        let mut pace = Pace::default();
        let mut taken = Vec::new();
        for routed in [16, 32, 700, 1024, 3, 0] {
            pace.routed(routed);
            taken.push(pace.hits);
        }
        assert_eq!(taken, [32, 64, 1024, 1024, 16, 16]);
    }
}
