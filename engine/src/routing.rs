//! The router's thread: follows the hit log whenever it has grown, and says so when it cannot.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use reporter::{Routed, Router, RouterError};

use crate::clock::now_ms;
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
    /// Hits routed since start, by rule (empty for the default) and queue.
    pub ways: Mutex<BTreeMap<(String, String), u64>>,
}

impl RouterCounts {
    fn add(&self, routed: &[Routed]) {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        for way in routed {
            let key = (way.rule.clone().unwrap_or_default(), way.queue.as_str().to_string());
            *ways.entry(key).or_default() += way.hits;
        }
    }
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
        match router.step(STEP_HITS_MAX, now_ms()) {
            Ok(step) => {
                counts.routed.fetch_add(step.hits(), Ordering::Relaxed);
                counts.cursor.store(step.gauges.cursor.0, Ordering::Relaxed);
                counts.failed.store(0, Ordering::Relaxed);
                counts.add(&step.routed);
                if !step.more() {
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
