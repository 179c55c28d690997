//! How long a filing waits before it is tried again, how often, and for how long a report stays open at NCMEC.

use crate::ids::JobId;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Attempts at most that answers of NCMEC about the report may spend (specs: the seed, 'Retry behavior').
pub const ATTEMPTS_MAX: u32 = 10;
/// A decision older than this is not filed without a person.
pub const DECIDED_MS_MAX: u64 = 30 * DAY_MS;
/// How long the evidence of a decided report may still be on its way before the report is filed without it.
pub const EVIDENCE_MS_MAX: u64 = 6 * HOUR_MS;
/// A filing that is not done after so long raises an alarm.
pub const LATE_MS: u64 = HOUR_MS;
/// Failures of the platform's endpoint after which it raises an alarm, and a person may file without it.
pub const INFO_FAILURES: u32 = 5;
/// Pauses after the first, second, … attempt that was spent: a week and a half in all.
const SPENT_MS: [u64; 9] = [
    MINUTE_MS,
    5 * MINUTE_MS,
    15 * MINUTE_MS,
    HOUR_MS,
    4 * HOUR_MS,
    12 * HOUR_MS,
    DAY_MS,
    3 * DAY_MS,
    6 * DAY_MS,
];
/// Pauses after failures that spend nothing: doubled each time.
const FREE_MS_MIN: u64 = 5000;
const FREE_MS_MAX: u64 = HOUR_MS;
/// NCMEC deletes an unfinished report 24 h after it was opened or 1 h after its last change, whichever is later
/// (specs/cybertipline.md 1.5). Ten minutes less, because clocks differ.
const OPEN_MS: u64 = DAY_MS - 10 * MINUTE_MS;
const IDLE_MS: u64 = HOUR_MS - 10 * MINUTE_MS;

/// How fast time passes: tests let pauses be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Pauses are divided by this; 1 in every build for users.
    pub faster: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { faster: 1 }
    }
}

impl Pace {
    /// A pause at this pace.
    pub fn of(self, ms: u64) -> u64 {
        ms / self.faster.max(1)
    }

    /// How long to wait after so many spent attempts; up to a quarter more, by job and attempt, so that those that failed
    /// together do not come back together.
    pub fn after_spent(self, job: JobId, spent: u32) -> u64 {
        let at = (spent.max(1) as usize - 1).min(SPENT_MS.len() - 1);
        self.of(jittered(SPENT_MS[at], job, spent))
    }

    /// The same after so many failures in a row that spend nothing.
    pub fn after_failure(self, job: JobId, failures: u32) -> u64 {
        let ms = FREE_MS_MIN.saturating_mul(1 << failures.min(20)).min(FREE_MS_MAX);
        self.of(jittered(ms, job, failures))
    }
}

/// Whether NCMEC may have deleted a report that is not finished.
pub fn is_expired(opened_ms: u64, changed_ms: u64, now_ms: u64) -> bool {
    now_ms >= opened_ms.saturating_add(OPEN_MS) && now_ms >= changed_ms.saturating_add(IDLE_MS)
}

fn jittered(ms: u64, job: JobId, times: u32) -> u64 {
    // The finaliser of SplitMix64: neighbours come out far apart.
    let mut mixed = job.0.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(u64::from(times));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    ms + mixed % (ms / 4 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_13_attempts_are_spaced_from_a_minute_to_days_within_thirty() {
        for job in (0..500).map(JobId) {
            let pauses: Vec<u64> =
                (1..ATTEMPTS_MAX).map(|spent| Pace::default().after_spent(job, spent)).collect();
            assert!((MINUTE_MS..=MINUTE_MS * 5 / 4).contains(&pauses[0]));
            assert!(pauses.windows(2).all(|pair| pair[0] < pair[1]), "{pauses:?}");
            assert!(pauses.iter().sum::<u64>() < DECIDED_MS_MAX / 2, "{pauses:?}");
        }
    }

    #[test]
    fn check_18_those_that_failed_together_come_back_apart() {
        let mut due: Vec<u64> = (0..1000).map(|job| Pace::default().after_failure(JobId(job), 10)).collect();
        due.sort_unstable();
        due.dedup();
        assert!(due.len() > 900, "{} of 1000 differ", due.len());
        assert!(due.iter().all(|ms| (HOUR_MS..=HOUR_MS * 5 / 4).contains(ms)));
    }

    #[test]
    fn check_11_a_report_is_left_before_ncmec_may_have_deleted_it() {
        let (opened, hour, day) = (1_000_000, HOUR_MS, DAY_MS);
        assert!(!is_expired(opened, opened, opened + 23 * hour));
        assert!(is_expired(opened, opened, opened + day), "a day old, and idle");
        assert!(is_expired(opened, opened, opened + day - 9 * MINUTE_MS), "clocks differ");
        assert!(!is_expired(opened, opened + day, opened + day + 40 * MINUTE_MS), "changed lately");
        assert!(is_expired(opened, opened + day, opened + day + 55 * MINUTE_MS));
    }
}
