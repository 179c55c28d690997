//! What all clients of a soak share: where the server is, which phase it is, and what was counted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use super::acknowledged::Acknowledged;
use super::hostile::Kind;
use super::priority;
use super::report::Report;
use crate::Server;

/// Wrong answers whose words are kept; all are counted.
const WORDS_MAX: usize = 20;
const NAP: Duration = Duration::from_millis(50);

/// Where a running server is.
#[derive(Clone, Debug)]
pub struct Place {
    /// Binary port.
    pub listen: SocketAddr,
    /// Admin port, `host:port`.
    pub admin: String,
    /// Which life of the server it is.
    pub life: usize,
}

/// A phase of the soak.
#[derive(Clone, Debug)]
pub struct Phase {
    /// `quiet`, or the kinds of hostile client that work in it.
    pub label: String,
    /// From here on a quiet phase is measured.
    pub settled: Instant,
    /// Whether well-behaved clients open no new connection to the binary port: a kind may need that.
    pub closed: bool,
}

impl Phase {
    /// A phase with these hostile clients.
    pub fn new(kinds: &[Kind], settled: Instant) -> Self {
        let label = match kinds {
            [] => "quiet".to_string(),
            [kind] => kind.name().to_string(),
            _ => "all".to_string(),
        };
        Self { label, settled, closed: kinds == [Kind::Submits] }
    }
}

/// The shared state.
pub struct Stage {
    place: RwLock<Option<Place>>,
    phase: RwLock<Arc<Phase>>,
    lives: Mutex<usize>,
    settled: RwLock<Instant>,
    ended: AtomicBool,
    counted: Mutex<Counted>,
    /// Counted by measured clients and by the others: those give way to the server, also while they hold a lock.
    counts: [Mutex<BTreeMap<&'static str, u64>>; 2],
    /// Submits whose hits the server said are durable.
    pub acknowledged: Acknowledged,
    /// Seed of every client's choices.
    pub seed: u64,
}

#[derive(Default)]
struct Counted {
    wrong: u64,
    words: Vec<String>,
    waits: BTreeMap<(String, &'static str), Vec<u32>>,
}

impl Stage {
    /// An empty stage.
    pub fn new(seed: u64) -> Self {
        let now = Instant::now();
        Self {
            place: RwLock::new(None),
            phase: RwLock::new(Arc::new(Phase::new(&[], now))),
            lives: Mutex::new(0),
            settled: RwLock::new(now),
            ended: AtomicBool::new(false),
            counted: Mutex::default(),
            counts: Default::default(),
            acknowledged: Acknowledged::default(),
            seed,
        }
    }

    /// Shows a server to all clients.
    pub fn enter(&self, server: &Server, settled: Instant) {
        let mut lives = self.lives.lock().expect("no client panics");
        *lives += 1;
        *self.settled.write().expect("no client panics") = settled;
        let place = Place { listen: server.listen, admin: server.admin.clone(), life: *lives };
        *self.place.write().expect("no client panics") = Some(place);
    }

    /// Says that there is no server for now.
    pub fn leave(&self) {
        *self.place.write().expect("no client panics") = None;
    }

    /// Begins a phase.
    pub fn begin(&self, phase: Phase) -> Arc<Phase> {
        let phase = Arc::new(phase);
        *self.phase.write().expect("no client panics") = phase.clone();
        phase
    }

    /// The phase.
    pub fn phase(&self) -> Arc<Phase> {
        self.phase.read().expect("no client panics").clone()
    }

    /// Ends every client.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Whether clients end.
    pub fn over(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Where the server is; waits for one, until the end.
    pub fn place(&self) -> Option<Place> {
        loop {
            if self.over() {
                return None;
            }
            if let Some(place) = self.now() {
                return Some(place);
            }
            thread::sleep(NAP);
        }
    }

    /// Where the server is, if there is one.
    pub fn now(&self) -> Option<Place> {
        self.place.read().expect("no client panics").clone()
    }

    /// Whether the server at this place is still the one.
    pub fn lives(&self, place: &Place) -> bool {
        self.now().is_some_and(|now| now.life == place.life)
    }

    /// Sleeps until then, or until the end.
    pub fn sleep_until(&self, then: Instant) {
        while !self.over() {
            let left = then.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(NAP));
        }
    }

    /// Counts an answer that is not what it must be.
    pub fn wrong(&self, words: String) {
        let mut counted = self.counted.lock().expect("no client panics");
        counted.wrong += 1;
        if counted.words.len() < WORDS_MAX {
            counted.words.push(words);
        }
    }

    /// Counts something.
    pub fn count(&self, what: &'static str, by: u64) {
        let counts = &self.counts[usize::from(priority::is_first())];
        *counts.lock().expect("no client panics").entry(what).or_default() += by;
    }

    /// How often something was counted.
    pub fn counted(&self, what: &'static str) -> u64 {
        let of = |counts: &Mutex<BTreeMap<&'static str, u64>>| {
            counts.lock().expect("no client panics").get(what).copied().unwrap_or(0)
        };
        self.counts.iter().map(of).sum()
    }

    /// Records how long a measured client waited for an answer that was due then, in this phase.
    pub fn waited(&self, client: &'static str, phase: &Phase, place: &Place, due: Instant, wait: Duration) {
        let settled = phase.settled.max(*self.settled.read().expect("no client panics"));
        let quiet = phase.label == "quiet";
        if !self.lives(place) || (quiet && due < settled) {
            return; // it met a kill, or what a hostile phase left behind
        }
        let micros = u32::try_from(wait.as_micros()).unwrap_or(u32::MAX);
        let mut counted = self.counted.lock().expect("no client panics");
        counted.waits.entry((phase.label.clone(), client)).or_default().push(micros);
    }

    /// Moves everything that was counted to a report.
    pub fn tell(&self, report: &mut Report) {
        let counted = std::mem::take(&mut *self.counted.lock().expect("no client panics"));
        report.wrong = counted.wrong;
        report.wrong_words = counted.words;
        for counts in &self.counts {
            for (what, by) in std::mem::take(&mut *counts.lock().expect("no client panics")) {
                *report.counts.entry(what).or_default() += by;
            }
        }
        report.waits = counted.waits;
        report.acknowledged = self.acknowledged.hits();
    }
}
