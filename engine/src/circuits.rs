//! What is not asked for a while: NCMEC's host when it does not work, an organisation when NCMEC does not know it. Neither
//! costs a report anything; each closes by itself when `/status` answers well.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reporter::OrgName;

/// Pauses before `/status` is asked, doubled by each failure.
const PAUSE_MIN: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// What is not asked.
#[derive(Debug, Default)]
pub struct Circuits {
    /// Pauses are divided by this.
    pub faster: u64,
    open: Mutex<HashMap<Part, Open>>,
}

/// Whose trouble it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Everybody's.
    Host,
    /// One organisation's.
    Organisation(OrgName),
}

/// An open circuit.
#[derive(Clone, Debug)]
pub struct Open {
    /// Why.
    pub words: String,
    /// Since when.
    pub since: Instant,
    failures: u32,
    until: Instant,
}

/// Whether something may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum May {
    /// It may.
    Ask,
    /// Only whether it works again.
    Probe,
    /// Not yet.
    Wait,
}

impl Circuits {
    /// None open.
    pub fn new(faster: u64) -> Self {
        Self { faster, open: Mutex::default() }
    }

    /// It failed: it is left alone, for at least so long. True if it was not open before.
    pub fn trip(&self, part: Part, words: &str, at_least_ms: Option<u64>, now: Instant) -> bool {
        let mut open = self.lock();
        let is_new = !open.contains_key(&part);
        let entry = open.entry(part).or_insert(Open {
            words: words.to_string(),
            since: now,
            failures: 0,
            until: now,
        });
        // What was under way when it failed fails as well: that is one failure, not many.
        if is_new || entry.until <= now {
            let pause = (PAUSE_MIN * (1 << entry.failures.min(10))).min(PAUSE_MAX);
            let pause = pause.max(Duration::from_millis(at_least_ms.unwrap_or(0)));
            entry.until = now + pause / u32::try_from(self.faster.max(1)).unwrap_or(u32::MAX);
            entry.failures = entry.failures.saturating_add(1);
            entry.words = words.to_string();
        }
        is_new
    }

    /// It works. True if it was open.
    pub fn close(&self, part: &Part) -> bool {
        self.lock().remove(part).is_some()
    }

    /// Whether it may be asked now.
    pub fn may(&self, part: &Part, now: Instant) -> May {
        match self.lock().get(part) {
            None => May::Ask,
            Some(open) if open.until <= now => May::Probe,
            Some(_) => May::Wait,
        }
    }

    /// The sooner, the better: whoever changed something does not wait.
    pub fn hurry(&self, part: &Part, now: Instant) {
        if let Some(open) = self.lock().get_mut(part) {
            open.until = now;
        }
    }

    /// How a part is open, if it is.
    pub fn open(&self, part: &Part) -> Option<Open> {
        self.lock().get(part).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Part, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is counted of filing.
#[derive(Debug, Default)]
pub struct FilerCounts {
    /// Reports filed since start.
    pub filed: AtomicU64,
    /// Calls to NCMEC since start.
    pub calls: AtomicU64,
    /// Steps that failed since start.
    pub failed: AtomicU64,
    /// Filings that were held since start.
    pub held: AtomicU64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_15_18_a_circuit_opens_once_is_probed_later_and_later_and_closes() {
        let (circuits, now) = (Circuits::new(1), Instant::now());
        assert_eq!(circuits.may(&Part::Host, now), May::Ask);
        assert!(circuits.trip(Part::Host, "no answer", None, now));
        for _ in 0..50 {
            assert!(!circuits.trip(Part::Host, "no answer", None, now), "one storm is one failure");
        }
        assert_eq!(circuits.may(&Part::Host, now + Duration::from_secs(4)), May::Wait);
        let mut at = now + PAUSE_MIN;
        for pause in [10, 20, 40, 80, 160, 320, 600, 600] {
            assert_eq!(circuits.may(&Part::Host, at), May::Probe);
            assert!(!circuits.trip(Part::Host, "no answer", None, at));
            assert_eq!(circuits.may(&Part::Host, at + Duration::from_secs(pause - 1)), May::Wait);
            at += Duration::from_secs(pause);
        }
        let other = Part::Organisation(OrgName::default());
        assert_eq!(circuits.may(&other, at), May::Ask, "whose trouble it is not goes on");
        assert!(circuits.close(&Part::Host) && !circuits.close(&Part::Host));
        assert_eq!(circuits.may(&Part::Host, at), May::Ask);
    }

    #[test]
    fn check_13_retry_after_is_honoured() {
        let (circuits, now) = (Circuits::new(1), Instant::now());
        circuits.trip(Part::Host, "429", Some(90_000), now);
        assert_eq!(circuits.may(&Part::Host, now + Duration::from_secs(89)), May::Wait);
        assert_eq!(circuits.may(&Part::Host, now + Duration::from_secs(90)), May::Probe);
    }
}
