//! Signals, on a thread of their own that outlives everything else, so that the program can be ended at any moment.
//!
//! SIGTERM or SIGINT drains; the second one, or a drain that takes too long, ends the process at once. That loses nothing
//! that was acknowledged: it is what kill -9 does, with a reason. SIGHUP reads again what can change.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use crate::last_words::{self, End};

/// How long a drain may take: longer than its parts together (5 s for the shards' clients, 5 s for requests of the admin
/// port, and what is queued for the disk).
const DRAIN_MAX: Duration = Duration::from_secs(30);
/// Exit status of a server that ended before it had drained.
pub const NOT_DRAINED: u8 = 75; // EX_TEMPFAIL of sysexits

/// The signals of this process.
pub struct Signals {
    stop: Receiver<()>,
    /// Rung by SIGHUP.
    pub reload: Arc<Notify>,
}

impl Signals {
    /// Waits for SIGTERM or SIGINT.
    pub fn wait_for_stop(&self) {
        // An error means that the thread ended, which is a reason to stop as well.
        let _ = self.stop.recv();
    }
}

/// Starts the thread. `accepting` says whether the server has taken anything that a drain would settle.
pub fn start(accepting: Arc<AtomicBool>) -> io::Result<Signals> {
    let (sender, stop) = sync_channel(1);
    let reload = Arc::new(Notify::new());
    let signals = Signals { stop, reload: reload.clone() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handlers = {
        let _inside = runtime.enter();
        [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal)
    };
    let [terminate, interrupt, hangup] = handlers;
    let (mut terminate, mut interrupt, mut hangup) = (terminate?, interrupt?, hangup?);
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            first(&mut terminate, &mut interrupt, &mut hangup, &reload).await;
            if !accepting.load(Ordering::Acquire) {
                // Still loading: nothing was taken that must be settled here.
                last_words::say(End::Stopped, "while loading");
                std::process::exit(0);
            }
            let _ = sender.try_send(()); // the receiver lives as long as the program
            let again = async {
                tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
                "a second signal came before the drain was done"
            };
            let late = async {
                tokio::time::sleep(DRAIN_MAX).await;
                "the drain took too long"
            };
            let reason = tokio::select! { reason = again => reason, reason = late => reason };
            tracing::warn!(reason, "ending at once; nothing that was acknowledged is lost");
            last_words::say(End::NotDrained, reason);
            std::process::exit(NOT_DRAINED.into());
        });
    })?;
    Ok(signals)
}

/// Waits for the signal to stop, and passes on those to reload meanwhile.
async fn first(terminate: &mut Signal, interrupt: &mut Signal, hangup: &mut Signal, reload: &Notify) {
    loop {
        tokio::select! {
            _ = terminate.recv() => return,
            _ = interrupt.recv() => return,
            _ = hangup.recv() => reload.notify_one(),
        }
    }
}
