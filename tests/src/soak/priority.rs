//! Decides who runs first on a machine that the clients share with the server.
//!
//! Measured clients run before everything else: they need little, and time that they wait for a core is no wait for the
//! server. Hostile clients run after the server, because elsewhere they have machines of their own.

use std::cell::Cell;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// Priority of a measured client among real-time threads: any is above all ordinary ones.
const FIRST: &str = "10";
/// How much a hostile client gives way, in the system's words ('nice').
const GIVES_WAY: i32 = 10;

thread_local! {
    static IS_FIRST: Cell<bool> = const { Cell::new(false) };
}

static REFUSED: AtomicBool = AtomicBool::new(false);

/// Lets the calling thread run as soon as it is woken. Without the right to that it stays an ordinary thread, and
/// [`refused`] tells.
pub fn first() {
    IS_FIRST.set(true);
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    // A program of its own, since the call has no safe form here.
    let outcome = Command::new("chrt")
        .args(["-f", "-p", FIRST, &thread])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .status();
    if !outcome.is_ok_and(|status| status.success()) {
        REFUSED.store(true, Ordering::Relaxed);
    }
}

/// Whether the calling thread is a measured client.
pub fn is_first() -> bool {
    IS_FIRST.get()
}

/// Lets the calling thread, and those it starts, run where the server leaves time.
pub fn last() {
    let _ = rustix::process::nice(GIVES_WAY); // giving way is always allowed
}

/// Whether a measured client had to stay an ordinary thread.
pub fn refused() -> bool {
    REFUSED.load(Ordering::Relaxed)
}
