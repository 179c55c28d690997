//! How our time follows wall time: a state machine over readings of both clocks, without a clock of its own.

use serde::{Deserialize, Serialize};

/// How far wall time may be from where the boot clock says that it is: beyond it, the wall clock has jumped.
pub const TOLERANCE_MS: u64 = 60_000;
/// For how long both clocks must agree after a jump.
pub const SETTLED_MS: u64 = 3_600_000;
/// Differences within the tolerance are taken over by this share of the time that passes: our time never goes back.
const SLEW: i64 = 64;
/// A machine that was started anew may have been off for so long without the clock being in doubt.
const OFF_MAX_MS: u64 = 6 * 3_600_000;

/// Both clocks, read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Milliseconds since 1970 (UTC), as they are set.
    pub wall_ms: u64,
    /// Milliseconds since the machine was started.
    pub boot_ms: u64,
}

impl Reading {
    fn offset_ms(self) -> i64 {
        signed(self.wall_ms).saturating_sub(signed(self.boot_ms))
    }
}

/// Why the clock is in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// When it jumped first, by our time.
    pub since_ms: u64,
    /// By how much it jumped last: positive is forward.
    pub jumped_ms: i64,
    /// Whether the boot clock says where our time is. It does not where the machine was started anew since the last stamp:
    /// then our time follows the wall clock.
    pub is_steady: bool,
    /// Wall time less boot time since the last jump.
    wall_offset_ms: i64,
    /// Since when both clocks agree, by the boot clock.
    agree_since_ms: u64,
}

/// What a reading showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The wall clock is elsewhere than the boot clock says: it was set, or the machine was off for long.
    Jumped {
        /// By how much: positive is forward.
        by_ms: i64,
        /// By how much our time went with it.
        moved_ms: i64,
    },
    /// Both clocks agreed for long enough: our time is wall time again.
    Settled {
        /// By how much that moved our time.
        moved_ms: i64,
    },
}

/// Our time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// Our time less boot time, and the largest that it ever was.
    offset_ms: i64,
    newest_ms: i64,
    /// Boot time of the last reading.
    boot_ms: u64,
    doubt: Option<Doubt>,
}

impl Timeline {
    /// Our time is wall time.
    pub fn new(now: Reading) -> Self {
        let offset_ms = now.offset_ms();
        Self { offset_ms, newest_ms: offset_ms, boot_ms: now.boot_ms, doubt: None }
    }

    /// Our time is wall time, and nothing is known that it can be compared with.
    pub fn doubtful(now: Reading) -> (Self, Option<Event>) {
        let mut new = Self::new(now);
        new.begin_doubt(now, 0, false);
        (new, Some(Event::Jumped { by_ms: 0, moved_ms: 0 }))
    }

    /// Goes on after the machine was started anew, where this was our time before.
    pub fn after_boot(&self, stamped_ms: u64, now: Reading) -> (Self, Option<Event>) {
        let mut new = Self::new(now);
        // The latest that our time ever was does not go back, and neither does it grow while nobody counts.
        let ahead_ms = self.newest_ms.saturating_sub(self.offset_ms);
        new.newest_ms = signed(stamped_ms)
            .saturating_add(ahead_ms)
            .saturating_sub(signed(now.boot_ms))
            .max(new.offset_ms);
        let gap_ms = signed(now.wall_ms).saturating_sub(signed(stamped_ms));
        let is_plausible = gap_ms >= -signed(TOLERANCE_MS) && gap_ms <= signed(OFF_MAX_MS);
        if is_plausible && self.doubt.is_none() {
            return (new, None);
        }
        new.begin_doubt(now, gap_ms, false);
        (new, Some(Event::Jumped { by_ms: gap_ms, moved_ms: gap_ms }))
    }

    /// Our time less boot time.
    pub fn offset_ms(&self) -> i64 {
        self.offset_ms
    }

    /// The largest that [`Timeline::offset_ms`] ever was.
    pub fn newest_ms(&self) -> i64 {
        self.newest_ms
    }

    /// Our time at this boot time.
    pub fn at(&self, boot_ms: u64) -> u64 {
        boot_ms.saturating_add_signed(self.offset_ms)
    }

    /// Whether its last reading may be of before this one: boot time goes forward.
    pub fn is_before(&self, now: Reading) -> bool {
        self.boot_ms <= now.boot_ms
    }

    /// Why it is in doubt.
    pub fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    /// How long both clocks must still agree.
    pub fn settles_in_ms(&self, now: Reading) -> u64 {
        self.doubt.map_or(0, |doubt| (doubt.agree_since_ms + SETTLED_MS).saturating_sub(now.boot_ms))
    }

    /// Compares both clocks. Boot time never goes back.
    pub fn observe(&mut self, now: Reading) -> Option<Event> {
        let passed_ms = now.boot_ms.saturating_sub(self.boot_ms);
        self.boot_ms = now.boot_ms;
        let expected_ms = self.doubt.map_or(self.offset_ms, |doubt| doubt.wall_offset_ms);
        let by_ms = now.offset_ms().saturating_sub(expected_ms);
        if by_ms.unsigned_abs() > TOLERANCE_MS {
            let is_steady = self.doubt.is_none_or(|doubt| doubt.is_steady);
            let moved_ms = if is_steady { 0 } else { self.move_to(now) };
            self.begin_doubt(now, by_ms, is_steady);
            return Some(Event::Jumped { by_ms, moved_ms });
        }
        match self.doubt {
            None => {
                let share = signed(passed_ms) / SLEW;
                self.set(self.offset_ms.saturating_add(by_ms.clamp(-share, share)));
                None
            }
            Some(_) if self.settles_in_ms(now) > 0 => None,
            Some(_) => self.confirm(now).map(|moved_ms| Event::Settled { moved_ms }),
        }
    }

    /// Wall time is right, somebody says; gives by how much that moves our time. `None` if nobody doubted it.
    pub fn confirm(&mut self, now: Reading) -> Option<i64> {
        self.doubt.take()?;
        Some(self.move_to(now))
    }

    fn begin_doubt(&mut self, now: Reading, jumped_ms: i64, is_steady: bool) {
        let since_ms = self.doubt.map_or(self.at(now.boot_ms), |doubt| doubt.since_ms);
        let (wall_offset_ms, agree_since_ms) = (now.offset_ms(), now.boot_ms);
        self.doubt = Some(Doubt { since_ms, jumped_ms, is_steady, wall_offset_ms, agree_since_ms });
    }

    fn move_to(&mut self, now: Reading) -> i64 {
        let moved_ms = now.offset_ms().saturating_sub(self.offset_ms);
        self.set(now.offset_ms());
        moved_ms
    }

    fn set(&mut self, offset_ms: i64) {
        self.offset_ms = offset_ms;
        self.newest_ms = self.newest_ms.max(offset_ms);
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
