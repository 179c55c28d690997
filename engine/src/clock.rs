//! Wall-clock time, for stamps only. Deadlines use `Instant`.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970 (UTC). A clock set before 1970 reads as 0.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64) + ahead_ms()
}

/// How far a test has set the clock ahead.
#[cfg(feature = "failpoints")]
fn ahead_ms() -> u64 {
    use std::sync::LazyLock;

    static AHEAD: LazyLock<u64> =
        LazyLock::new(|| crate::failpoint::test_number("HASHWARD_CLOCK_DAYS").unwrap_or(0) * 86_400_000);
    *AHEAD
}

/// Not at all.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
fn ahead_ms() -> u64 {
    0
}

/// Seconds since 1970 (UTC).
pub fn now_s() -> u64 {
    now_ms() / 1000
}
