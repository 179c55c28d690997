//! How many lookups a key may ask in an hour and in a day, both rolling.
//!
//! A window is a ring of slots; those that are too old count no more. It is a slot longer than its name says, so that
//! never more than allowed fits any true hour. Atomics only: shards spend at the same time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const MINUTE_MS: u64 = 60_000;
/// Slots of an hour, a minute each.
const HOUR_SLOTS: usize = 61;
/// Slots of a day, a quarter of an hour each.
const DAY_SLOTS: usize = 97;
/// Bits of a slot that count; those above say which slot of time it is.
const COUNT_BITS: u32 = 36;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

/// What a key may ask. `None` is as much as it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Lookups in any hour.
    pub lookups_per_hour: Option<u64>,
    /// Lookups in any day.
    pub lookups_per_day: Option<u64>,
}

/// What is left of an [`Allowance`].
#[derive(Debug)]
pub struct Budget {
    hour: Option<Window>,
    day: Option<Window>,
}

impl Budget {
    /// A budget of which nothing is spent.
    pub fn new(allowance: Allowance) -> Self {
        let window = |most: Option<u64>, slots, slot_ms| most.map(|most| Window::new(most, slots, slot_ms));
        Self {
            hour: window(allowance.lookups_per_hour, HOUR_SLOTS, MINUTE_MS),
            day: window(allowance.lookups_per_day, DAY_SLOTS, 15 * MINUTE_MS),
        }
    }

    /// Spends on so many lookups, all or none; or says when there will be room.
    pub fn spend(&self, lookups: u64, now_ms: u64) -> Result<(), Duration> {
        if let Some(hour) = &self.hour {
            hour.spend(lookups, now_ms)?;
        }
        if let Some(day) = &self.day
            && let Err(retry_after) = day.spend(lookups, now_ms)
        {
            if let Some(hour) = &self.hour {
                hour.give_back(lookups, now_ms);
            }
            return Err(retry_after);
        }
        Ok(())
    }
}

/// A ring of counts.
#[derive(Debug)]
struct Window {
    most: u64,
    slot_ms: u64,
    slots: Box<[AtomicU64]>,
}

impl Window {
    fn new(most: u64, slots: usize, slot_ms: u64) -> Self {
        Self { most, slot_ms, slots: (0..slots).map(|_| AtomicU64::new(0)).collect() }
    }

    fn spend(&self, lookups: u64, now_ms: u64) -> Result<(), Duration> {
        let now = now_ms / self.slot_ms;
        let lookups = lookups.min(COUNT_MAX / 2);
        // Counted first and looked at then: of two that spend the last at once both may be refused, never both let in.
        self.change(now, |count| count.saturating_add(lookups).min(COUNT_MAX));
        let spent = self.spent(now);
        if spent <= self.most {
            return Ok(());
        }
        self.give_back(lookups, now_ms);
        Err(self.room_after(spent - self.most, now_ms))
    }

    fn give_back(&self, lookups: u64, now_ms: u64) {
        self.change(now_ms / self.slot_ms, |count| count.saturating_sub(lookups));
    }

    fn change(&self, now: u64, change: impl Fn(u64) -> u64) {
        let slot = &self.slots[(now % self.slots.len() as u64) as usize];
        let step = |word: u64| {
            // A clock that went back counts where it was.
            let (since, count) = (word >> COUNT_BITS, word & COUNT_MAX);
            let (since, count) = if since < now { (now, 0) } else { (since, count) };
            Some(since << COUNT_BITS | change(count))
        };
        // `step` never gives up, so neither does this.
        let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
    }

    /// What counts, and since when, by slot.
    fn live(&self, now: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let words = self.slots.iter().map(|slot| slot.load(Ordering::Relaxed));
        words
            .map(|word| (word >> COUNT_BITS, word & COUNT_MAX))
            .filter(move |(since, _)| since + self.slots.len() as u64 > now)
    }

    fn spent(&self, now: u64) -> u64 {
        self.live(now).map(|(_, count)| count).sum()
    }

    /// How long until so many lookups count no more.
    fn room_after(&self, missing: u64, now_ms: u64) -> Duration {
        let mut live: Vec<_> = self.live(now_ms / self.slot_ms).collect();
        live.sort_unstable();
        let mut freed = 0;
        let last = live.iter().find(|(_, count)| {
            freed += count;
            freed >= missing
        });
        let slots = self.slots.len() as u64;
        // A frame larger than the whole allowance never fits; it may try again when all is free.
        let since = last.map_or(now_ms / self.slot_ms, |(since, _)| *since);
        Duration::from_millis(((since + slots) * self.slot_ms).saturating_sub(now_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 60 * MINUTE_MS;
    const START_MS: u64 = 1_700_000_000_000;

    fn budget(hour: Option<u64>, day: Option<u64>) -> Budget {
        Budget::new(Allowance { lookups_per_hour: hour, lookups_per_day: day })
    }

    #[test]
    fn no_true_hour_or_day_holds_more_than_allowed() {
        let budget = budget(Some(100), Some(1000));
        let mut spent: Vec<(u64, u64)> = Vec::new();
        for step in 0..20_000u64 {
            let now = START_MS + step * 17_077;
            let lookups = 1 + step % 7;
            if budget.spend(lookups, now).is_ok() {
                spent.push((now, lookups));
            }
            for (window, most) in [(HOUR_MS, 100), (24 * HOUR_MS, 1000)] {
                let recent = spent.iter().rev().take_while(|(at, _)| at + window > now);
                assert!(recent.map(|(_, lookups)| lookups).sum::<u64>() <= most);
            }
        }
        let total: u64 = spent.iter().map(|(_, lookups)| lookups).sum();
        let days = 20_000 * 17_077 / (24 * HOUR_MS);
        assert!(total > (days - 1) * 950, "{total} of {days} days' 1000: it is used up, too");
    }

    #[test]
    fn a_refusal_says_when_it_will_fit_and_spends_nothing() {
        let budget = budget(Some(10), None);
        assert_eq!(budget.spend(10, START_MS), Ok(()));
        let wait = budget.spend(1, START_MS + 5).unwrap_err();
        assert!(wait.as_millis() as u64 <= 61 * MINUTE_MS && wait.as_millis() as u64 > 59 * MINUTE_MS);
        let then = START_MS + 5 + wait.as_millis() as u64;
        assert!(budget.spend(1, then - 1).is_err());
        assert_eq!(budget.spend(10, then), Ok(()));
        assert!(budget.spend(11, then + 2 * HOUR_MS).is_err(), "more than is ever allowed");
        assert_eq!(budget.spend(10, then + 2 * HOUR_MS), Ok(()));
    }

    #[test]
    fn what_the_day_refuses_the_hour_gets_back() {
        let budget = budget(Some(10), Some(12));
        assert_eq!(budget.spend(8, START_MS), Ok(()));
        let later = START_MS + 2 * HOUR_MS;
        assert!(budget.spend(8, later).is_err());
        assert_eq!(budget.spend(4, later), Ok(()));
        assert!(budget.spend(1, later - HOUR_MS / 2).is_err(), "a clock that goes back frees nothing");
    }

    #[test]
    fn shards_that_spend_at_once_do_not_overspend() {
        let budget = budget(Some(1000), Some(5000));
        let spend = || (0..1000).filter(|at| budget.spend(1, START_MS + at).is_ok()).count();
        let taken: usize = std::thread::scope(|scope| {
            let shards: Vec<_> = (0..4).map(|_| scope.spawn(spend)).collect();
            shards.into_iter().map(|shard| shard.join().unwrap()).sum()
        });
        assert!(taken <= 1000, "{taken}");
    }

    #[test]
    fn without_an_allowance_nothing_is_refused() {
        assert_eq!(budget(None, None).spend(u64::MAX, START_MS), Ok(()));
    }
}
