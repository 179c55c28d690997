//! The router's thread: follows the hit log whenever it has grown, and says so when it cannot.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use reporter::{Router, RouterError};

use crate::disk::Disk;
use crate::shutdown;

/// Hits a step takes: one synced commit each.
const STEP_HITS_MAX: usize = 1024;

/// Counts the router's work.
#[derive(Debug, Default)]
pub struct RouterCounts {
    /// Hits routed since start.
    pub routed: AtomicU64,
    /// Position reached.
    pub cursor: AtomicU64,
    /// 1 while it cannot go on.
    pub failed: AtomicU64,
}

/// Starts the thread; it ends when the ledger drops its end of the bell.
pub fn start(
    router: Router,
    disk: Arc<Disk>,
    counts: Arc<RouterCounts>,
    bell: Receiver<()>,
) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name("router".into()).spawn(move || {
        loop {
            follow(&router, &disk, &counts);
            match bell.recv_timeout(Duration::from_secs(1)) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    follow(&router, &disk, &counts); // what the ledger wrote last
                    return;
                }
            }
        }
    })
}

/// Routes until nothing waits, or something is wrong.
fn follow(router: &Router, disk: &Disk, counts: &RouterCounts) {
    loop {
        match router.step(STEP_HITS_MAX) {
            Ok(step) => {
                counts.routed.fetch_add(step.routed, Ordering::Relaxed);
                counts.cursor.store(step.cursor.0, Ordering::Relaxed);
                counts.failed.store(0, Ordering::Relaxed);
                if !step.more {
                    return;
                }
            }
            Err(error) => {
                if counts.failed.swap(1, Ordering::Relaxed) == 0 {
                    tracing::error!(%error, "the router stopped; hits stay in the log and are routed when this is mended");
                }
                if let RouterError::Store(error) = &error {
                    disk.observe(Err(error));
                    shutdown::stop_unless_curable(error);
                }
                return; // tried again at the next ring or second
            }
        }
    }
}
