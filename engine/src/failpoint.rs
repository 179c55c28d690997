//! Places where a test may kill the program, as a crash would. Builds for users have none: the feature `failpoints` is for
//! `make test` alone, and so are its variables.

/// Kills the process here, as kill -9 does, if `HASHWARD_KILL_AT` names this place and its count is reached: `name` or
/// `name:3` for the third time. Says so before, so that a test knows.
#[cfg(feature = "failpoints")]
pub fn failpoint(name: &str) {
    use std::collections::HashMap;
    use std::io::Write;
    use std::sync::{LazyLock, Mutex, PoisonError};

    static WANTED: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let wanted = std::env::var("HASHWARD_KILL_AT").ok()?;
        let (name, count) = wanted.split_once(':').unwrap_or((&wanted, "1"));
        Some((name.to_string(), count.parse().ok()?))
    });
    static PASSED: LazyLock<Mutex<HashMap<String, u64>>> = LazyLock::new(Mutex::default);

    let Some((wanted, count)) = &*WANTED else { return };
    if wanted != name {
        return;
    }
    let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
    let times = passed.entry(name.to_string()).or_default();
    *times += 1;
    if *times == *count {
        let _ = writeln!(std::io::stderr(), "failpoint {name} hit"); // nobody may be there to read it
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park(); // the signal is on its way
        }
    }
}

/// A number that a test sets in the environment.
#[cfg(feature = "failpoints")]
pub fn test_number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A text that a test sets in the environment.
#[cfg(feature = "failpoints")]
pub fn test_text(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// None: builds for users are not steered so.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn test_text(_name: &str) -> Option<String> {
    None
}

/// None: builds for users are not steered so.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn test_number(_name: &str) -> Option<u64> {
    None
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn failpoint(_name: &str) {}
