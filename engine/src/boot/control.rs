//! The control plane's thread: one tokio runtime for admin HTTP and signals.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::access::password;
use crate::admin::{self, Admin};

/// How long requests under way may take when the program stops.
const STOP_MAX: Duration = Duration::from_secs(5);

/// The running control plane.
pub struct Control {
    runtime: Handle,
    thread: JoinHandle<io::Result<()>>,
    signalled: Receiver<()>,
    stop: oneshot::Sender<()>,
}

impl Control {
    /// Where tasks of the control plane run.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Waits for SIGTERM or SIGINT.
    pub fn wait_for_signal(&self) {
        // An error means the thread ended, which is a reason to stop as well.
        let _ = self.signalled.recv();
    }

    /// Answers what is under way, then ends.
    pub fn stop(self) -> Result<()> {
        let _ = self.stop.send(()); // a thread that is gone needs no telling
        self.thread.join().map_err(|_| anyhow!("the control thread panicked; see the log"))??;
        Ok(())
    }
}

/// Starts the thread; admin HTTP answers from here on.
pub fn start(admin: Arc<Admin>, port: TcpListener) -> io::Result<Control> {
    let (signal_sender, signalled) = sync_channel(1);
    let (stop, stopped) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let thread = thread::Builder::new().name("control".into()).spawn(move || {
        let outcome = runtime.block_on(async move {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let waiting = admin.clone();
            tokio::spawn(async move {
                tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
                if !waiting.accepting.load(Ordering::Acquire) {
                    // Still loading, or draining already: nothing was taken that must be settled here.
                    std::process::exit(0);
                }
                let _ = signal_sender.try_send(()); // the receiver lives as long as the program
                let _ = (terminate.recv().await, interrupt.recv().await);
            });
            tokio::task::spawn_blocking(password::nobodys);
            let port = tokio::net::TcpListener::from_std(port)?;
            let (ended, end) = oneshot::channel();
            let serving = admin::routes(admin).serve(port, async move {
                let _ = stopped.await;
                let _ = ended.send(());
            });
            tokio::select! {
                () = serving => {}
                () = async { let _ = end.await; tokio::time::sleep(STOP_MAX).await } => {}
            }
            Ok(())
        });
        runtime.shutdown_timeout(STOP_MAX);
        outcome
    })?;
    Ok(Control { runtime: handle, thread, signalled, stop })
}
