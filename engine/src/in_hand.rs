//! What is being worked on, noted durably before the work begins, so that work which kills the program does not kill it
//! for ever.
//!
//! Each queue notes the numbers that it has in hand, and takes a note away once the outcome is written. What is noted
//! when the program starts was in hand when the one before it died. It is tried once more, alone in its queue; if the
//! program dies again, it is not tried until a person has acknowledged the alarm about it, and then alone. After an
//! orderly end nothing is suspected. A note survives the end of the process, not of the machine: a power cut is nobody's
//! fault.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use index::store::{Batch, Durability, Keyspace, Range, Store, StoreError};
use reporter::Tx;
use reporter::desk::alarm;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::clock::now_ms;
use crate::desk::Desk;
use crate::failpoint::test_number;
use crate::last_words::End;

/// How often the program may die while it works on something before a person must look.
const DEATHS_MAX: u64 = 2;
/// Rows: `t`, the queue, a number (u64, big-endian), with how often it was begun (u64) and whether it is told of (u8).
const SPACE: Keyspace = Keyspace::Intake;
const PREFIX: u8 = b't';
const ALARM: &str = "work.deadly";

/// Whose numbers they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Queue {
    /// Arrivals of the intake.
    Intake = b'i',
    /// Webhook deliveries.
    Deliveries = b'd',
    /// Media that rules add to banks.
    Additions = b'a',
    /// Filings with NCMEC, by their jobs.
    Filings = b'f',
}

impl Queue {
    fn about(self, number: u64) -> String {
        let name = match self {
            Queue::Intake => "arrival",
            Queue::Deliveries => "delivery",
            Queue::Additions => "bank addition",
            Queue::Filings => "filing of job",
        };
        format!("{name} {number}")
    }

    fn row(self, number: u64) -> Vec<u8> {
        [&[PREFIX, self as u8][..], &number.to_be_bytes()].concat()
    }
}

/// What was in hand when the program before this one died.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    deaths: u64,
    /// An alarm tells of it.
    told: bool,
}

/// What one queue has in hand.
pub struct InHand {
    store: Arc<dyn Store>,
    desk: Desk,
    queue: Queue,
    suspects: Mutex<BTreeMap<u64, Suspect>>,
    /// Held for writing by whoever must be alone.
    alone: Arc<RwLock<()>>,
}

/// Work under way. Dropped without [`InHand::done`], it counts as a death only if the program ends.
pub struct Work {
    number: u64,
    _others: Option<OwnedRwLockReadGuard<()>>,
    _alone: Option<OwnedRwLockWriteGuard<()>>,
}

impl InHand {
    /// Looks at what the program before this one had in hand.
    pub fn open(store: Arc<dyn Store>, desk: Desk, queue: Queue, last: End) -> Result<Self, StoreError> {
        // These ends have causes that are known, and it is not the work. A start that failed leaves notes as they are.
        let orderly = matches!(last, End::None | End::Stopped | End::NotDrained | End::Storage);
        let prefix = [PREFIX, queue as u8];
        let (mut suspects, mut forget) = (BTreeMap::new(), Batch::default());
        let rows = Range { from: &prefix, to: Some(&[PREFIX, queue as u8 + 1]), backwards: false };
        store.scan(SPACE, rows, &mut |key, row| {
            match read(key, row) {
                // What an alarm tells of waits on for a person, however the program ended.
                Some((number, suspect)) if !orderly || suspect.told => {
                    suspects.insert(number, suspect);
                }
                _ => forget.delete(SPACE, key.to_vec()),
            }
            ControlFlow::Continue(())
        })?;
        store.commit(forget, Durability::Wal)?;
        if !suspects.is_empty() {
            tracing::warn!(
                ?queue,
                count = suspects.len(),
                "the program died while it worked on these: each is tried once more, alone"
            );
        }
        Ok(Self { store, desk, queue, suspects: Mutex::new(suspects), alone: Arc::default() })
    }

    /// Notes that work on something begins; or says why it must not.
    pub async fn begin(&self, number: u64) -> Result<Work, String> {
        let suspect = self.suspects().get(&number).copied();
        let deaths_max = test_number("HASHWARD_DEATHS_MAX").unwrap_or(DEATHS_MAX);
        let deaths = match suspect {
            Some(Suspect { deaths, told }) if deaths >= deaths_max => {
                if !(told && self.is_acknowledged(number).await?) {
                    self.tell(number, deaths).await;
                    return Err(format!(
                        "the server died {deaths} times while it worked on this: it waits until somebody acknowledges \
                         the alarm '{ALARM}' about {}",
                        self.queue.about(number)
                    ));
                }
                deaths_max - 1 // once more
            }
            Some(Suspect { deaths, .. }) => deaths,
            None => 0,
        };
        let lock = self.alone.clone();
        let (others, alone) = match suspect {
            None => (Some(lock.read_owned().await), None),
            Some(_) => (None, Some(lock.write_owned().await)),
        };
        self.note(number, Some(Suspect { deaths: deaths + 1, told: false })).await?;
        Ok(Work { number, _others: others, _alone: alone })
    }

    /// The outcome of the work is written.
    pub async fn done(&self, work: Work) {
        if let Err(error) = self.note(work.number, None).await {
            tracing::warn!(error, "what is in hand could not be noted");
        }
        self.suspects().remove(&work.number);
    }

    /// Raises the alarm, once.
    async fn tell(&self, number: u64, deaths: u64) {
        if self.suspects().get(&number).is_some_and(|suspect| suspect.told) {
            return;
        }
        let about = self.queue.about(number);
        let words = format!(
            "The server died {deaths} times while it worked on this, the last time on this alone. It is not tried any \
             more. Find out what is in it. To have it tried once more, acknowledge this alarm."
        );
        tracing::error!(
            about,
            "the server died again and again while it worked on this: it waits for a person"
        );
        let raised = self
            .desk
            .ask(move |turn| Ok(alarm::raise(&mut turn.tx, ALARM, &about, &words, false, now_ms())?));
        let told = Suspect { deaths, told: true };
        match raised.await {
            Ok(_) => match self.note(number, Some(told)).await {
                Ok(()) => drop(self.suspects().insert(number, told)),
                Err(error) => tracing::warn!(error, "that an alarm is raised could not be noted"),
            },
            Err(error) => tracing::warn!(%error, "an alarm could not be raised; it is tried again"),
        }
    }

    async fn is_acknowledged(&self, number: u64) -> Result<bool, String> {
        let (store, about) = (self.store.clone(), self.queue.about(number));
        let read = move || alarm::is_open(&Tx::new(&*store), ALARM, &about);
        let open = tokio::task::spawn_blocking(read).await.map_err(|_| "the server is shutting down")?;
        open.map(|open| !open).map_err(|error| error.to_string())
    }

    /// Writes a note, or takes it away.
    async fn note(&self, number: u64, suspect: Option<Suspect>) -> Result<(), String> {
        let (store, key) = (self.store.clone(), self.queue.row(number));
        let mut batch = Batch::default();
        match suspect {
            Some(Suspect { deaths, told }) => {
                let row = [&deaths.to_be_bytes()[..], &[u8::from(told)]].concat();
                batch.put(SPACE, key, row);
            }
            None => batch.delete(SPACE, key),
        }
        let write = move || store.commit(batch, Durability::Wal);
        let written = tokio::task::spawn_blocking(write).await.map_err(|_| "the server is shutting down")?;
        written.map_err(|error| error.to_string())
    }

    fn suspects(&self) -> MutexGuard<'_, BTreeMap<u64, Suspect>> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A row as it was written; none if it does not read, which suspects nobody.
fn read(key: &[u8], row: &[u8]) -> Option<(u64, Suspect)> {
    let number = u64::from_be_bytes(key.get(2..)?.try_into().ok()?);
    let (deaths, told) = row.split_at_checked(8)?;
    let deaths = u64::from_be_bytes(deaths.try_into().ok()?);
    Some((number, Suspect { deaths, told: told == [1] }))
}
