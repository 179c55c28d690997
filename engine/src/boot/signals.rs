//! Handles signals, on a thread of its own that outlives everything else, so that the program can be ended at any moment.
//!
//! SIGTERM, SIGINT or SIGQUIT drains; a second one, or a drain that takes too long, ends the process at once. That loses
//! nothing that was acknowledged: it is what kill -9 does, with a reason. SIGHUP reads the rules file again. Other signals
//! that would end the process without a drain are logged and ignored.

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use crate::last_words::{self, End};
use crate::logging;

/// How long a drain may take: longer than its parts together (5 s for the shards' clients, 5 s for requests of the admin
/// port, and what is queued for the disk).
const DRAIN_MAX: Duration = Duration::from_secs(30);
/// Signals to stop that come within this time of the first count as the same: `timeout` sends one to its child, and one
/// to the group that its child is in.
const SAME_REQUEST: Duration = Duration::from_millis(200);
/// How long a process that ends at once waits for the disk to take the reason.
const REASON_MAX: Duration = Duration::from_secs(2);
/// Exit status of a server that ended before it had drained.
pub const NOT_DRAINED: u8 = 75; // EX_TEMPFAIL of sysexits

/// Signals to ignore whose default is to end the process. Log rotators send SIGUSR1. With SIGXFSZ ignored, a write beyond
/// the limit of a file's size is an error of that write; the hard limit of CPU time behind SIGXCPU ends the process as kill -9 does.
const IGNORED: [(&str, Number); 10] = [
    ("SIGUSR1", Number::USR1),
    ("SIGUSR2", Number::USR2),
    ("SIGALRM", Number::ALARM),
    ("SIGVTALRM", Number::VTALARM),
    ("SIGPROF", Number::PROF),
    ("SIGIO", Number::IO),
    ("SIGPWR", Number::POWER),
    ("SIGSTKFLT", Number::STKFLT),
    ("SIGXFSZ", Number::XFSZ),
    ("SIGXCPU", Number::XCPU),
];
/// Signals of the real-time range, which some supervisors send: ignored as well. The C library keeps the two before them.
const REAL_TIME: RangeInclusive<i32> = 34..=64;

/// The signals of this process.
pub struct Signals {
    stop: Receiver<()>,
    /// Rung by SIGHUP.
    pub reload: Arc<Notify>,
}

impl Signals {
    /// Waits for a signal to stop.
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
    let (mut stops, mut hangup) = {
        let _inside = runtime.enter();
        for (name, number) in IGNORED {
            runtime.spawn(ignore(name, signal(SignalKind::from_raw(number.as_raw()))?));
        }
        for number in REAL_TIME {
            runtime.spawn(ignore("of the real-time range", signal(SignalKind::from_raw(number))?));
        }
        (Stops::new()?, signal(SignalKind::hangup())?)
    };
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            first(&mut stops, &mut hangup, &reload).await;
            if !accepting.load(Ordering::Acquire) {
                // Still loading: nothing was taken that must be settled here.
                end(End::Stopped, "while loading", 0);
            }
            let _ = sender.try_send(()); // the receiver lives as long as the program
            let same = async {
                loop {
                    stops.recv().await;
                }
            };
            let _ = tokio::time::timeout(SAME_REQUEST, same).await;
            let reason = tokio::select! {
                () = stops.recv() => "a second signal came before the drain was done",
                () = tokio::time::sleep(DRAIN_MAX) => "the drain took too long",
            };
            tracing::warn!(reason, "ending at once; nothing that was acknowledged is lost");
            end(End::NotDrained, reason, NOT_DRAINED);
        });
    })?;
    Ok(signals)
}

/// The signals to stop.
struct Stops([Signal; 3]);

impl Stops {
    fn new() -> io::Result<Self> {
        let [terminate, interrupt, quit] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::quit()].map(signal);
        Ok(Self([terminate?, interrupt?, quit?]))
    }

    /// Waits for any of them.
    async fn recv(&mut self) {
        let [terminate, interrupt, quit] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = quit.recv() => {}
        }
    }
}

/// Waits for the signal to stop, and passes on those to reload meanwhile.
async fn first(stops: &mut Stops, hangup: &mut Signal, reload: &Notify) {
    loop {
        tokio::select! {
            () = stops.recv() => return,
            _ = hangup.recv() => reload.notify_one(),
        }
    }
}

/// Logs a signal whenever it comes, and does nothing else.
async fn ignore(name: &'static str, mut signal: Signal) {
    while signal.recv().await.is_some() {
        tracing::info!(signal = name, "ignored: SIGTERM stops the server, SIGHUP reads the rules file again");
    }
}

/// Ends the process, although neither the disk may take the reason nor anybody read the log.
fn end(how: End, reason: &'static str, status: u8) -> ! {
    let (done, said) = sync_channel(1);
    let saying = thread::Builder::new().name("reason".into()).spawn(move || {
        last_words::say(how, reason);
        let _ = done.send(()); // nobody waits any more if the disk was slow
    });
    if saying.is_ok() {
        let _ = said.recv_timeout(REASON_MAX);
    }
    logging::flush();
    std::process::exit(status.into());
}
