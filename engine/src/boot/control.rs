//! The control plane's thread: one tokio runtime for admin HTTP and the workers.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::access::password;
use crate::admin::{self, Admin};

/// Tasks that run before the sockets, and newcomers, are looked at again. tokio's own 61 are a millisecond of connections
/// that end.
const LOOK: u32 = 8;
/// How long requests under way may take when the program stops.
const STOP_MAX: Duration = Duration::from_secs(5);

/// The running control plane.
pub struct Control {
    runtime: Handle,
    thread: JoinHandle<io::Result<()>>,
    stop: oneshot::Sender<()>,
}

impl Control {
    /// Where tasks of the control plane run.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
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
    let (stop, stopped) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().event_interval(LOOK).build()?;
    let handle = runtime.handle().clone();
    let thread = thread::Builder::new().name("control".into()).spawn(move || {
        let outcome = runtime.block_on(async move {
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
    Ok(Control { runtime: handle, thread, stop })
}
