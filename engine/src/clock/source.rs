//! Reading the machine's clocks. Tests move them: `HASHWARD_CLOCK_DAYS` lets days pass before the start, and the file that
//! `HASHWARD_CLOCK_FILE` names moves a running server's: milliseconds by which wall time and boot time are ahead.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use super::timeline::Reading;

/// Both clocks, read together.
pub fn read() -> Reading {
    let (wall_ahead_ms, boot_ahead_ms) = moved::ahead_ms();
    Reading {
        wall_ms: machine_wall_ms().saturating_add_signed(wall_ahead_ms),
        boot_ms: machine_boot_ms().saturating_add_signed(boot_ahead_ms),
    }
}

/// Milliseconds since the machine was started, those it slept included. Nothing sets this clock.
pub fn boot_ms() -> u64 {
    machine_boot_ms().saturating_add_signed(moved::ahead_ms().1)
}

/// Wall time, in milliseconds since 1970 (UTC). A clock set before 1970 reads as 0.
fn machine_wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn machine_boot_ms() -> u64 {
    let since = clock_gettime(ClockId::Boottime);
    since.tv_sec.unsigned_abs() * 1000 + since.tv_nsec.unsigned_abs() / 1_000_000
}

/// Which start of the machine this is: boot times of two can be compared only if it is the same.
pub fn boot_id() -> String {
    static ID: LazyLock<String> = LazyLock::new(|| {
        let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        read.map(|id| id.trim().to_string()).unwrap_or_default() // an unknown one equals none
    });
    ID.clone()
}

#[cfg(feature = "failpoints")]
mod moved {
    use std::sync::{LazyLock, Mutex, PoisonError};
    use std::time::{Duration, Instant};

    use crate::failpoint::{test_number, test_text};

    const DAY_MS: i64 = 86_400_000;
    /// How often the file is read.
    const EVERY: Duration = Duration::from_millis(20);

    struct Moved {
        file: Option<String>,
        read: Option<Instant>,
        wall_ms: i64,
        boot_ms: i64,
    }

    static DAYS_MS: LazyLock<i64> =
        LazyLock::new(|| test_number("HASHWARD_CLOCK_DAYS").unwrap_or(0) as i64 * DAY_MS);
    static MOVED: LazyLock<Mutex<Moved>> = LazyLock::new(|| {
        Mutex::new(Moved { file: test_text("HASHWARD_CLOCK_FILE"), read: None, wall_ms: 0, boot_ms: 0 })
    });

    /// By how much wall time and boot time are ahead.
    pub fn ahead_ms() -> (i64, i64) {
        let mut moved = MOVED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &moved.file
            && moved.read.is_none_or(|read| read.elapsed() >= EVERY)
        {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let mut numbers = text.split_whitespace().map(str::parse);
            moved.read = Some(Instant::now());
            if let (Some(Ok(wall_ms)), Some(Ok(boot_ms))) = (numbers.next(), numbers.next()) {
                (moved.wall_ms, moved.boot_ms) = (wall_ms, boot_ms);
            }
        }
        (*DAYS_MS + moved.wall_ms, *DAYS_MS + moved.boot_ms)
    }
}

#[cfg(not(feature = "failpoints"))]
mod moved {
    #[inline(always)]
    pub fn ahead_ms() -> (i64, i64) {
        (0, 0)
    }
}
