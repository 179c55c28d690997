//! The io_uring reactor: one glommio executor per shard, pinned, with a listener of its own.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use async_channel::Receiver;
use futures_lite::FutureExt;
use glommio::net::{TcpListener, TcpStream};
use glommio::timer::sleep;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement, spawn_local};

use super::drive::{Bells, drive};
use super::{Refused, Shard};
use crate::ledger::Settled;

/// Locked memory below which glommio's rings cannot be made (measured: 512 KiB works, 128 KiB does not).
pub const MEMLOCK_MIN: u64 = 512 << 10;

/// How often limits of time are looked at.
const SWEEP: Duration = Duration::from_millis(250);
/// How long a drain may take.
const DRAIN: Duration = Duration::from_secs(5);

/// What a shard's thread needs to start.
pub struct Start {
    /// The address all shards share.
    pub listen: SocketAddr,
    /// The CPU to stay on; `None` lets the kernel choose.
    pub cpu: Option<usize>,
    /// Told the bound address, or why not.
    pub bound: SyncSender<io::Result<SocketAddr>>,
    /// Closed when the shard shall drain.
    pub stop: Receiver<()>,
    /// Answers of the ledger.
    pub inbox: Receiver<Settled>,
}

/// Starts the shard on a thread of its own.
pub fn spawn(
    name: &str,
    start: Start,
    make: impl FnOnce() -> Shard + Send + 'static,
) -> io::Result<ExecutorJoinHandle<()>> {
    let placement = start.cpu.map_or(Placement::Unbound, Placement::Fixed);
    LocalExecutorBuilder::new(placement)
        .name(name)
        .spawn(move || run(start, make()))
        .map_err(|error| io::Error::other(error.to_string()))
}

async fn run(start: Start, shard: Shard) {
    let listener = match TcpListener::bind(start.listen) {
        Ok(listener) => listener,
        Err(error) => {
            let _ = start.bound.send(Err(error.into()));
            return;
        }
    };
    let _ = start.bound.send(listener.local_addr().map_err(io::Error::from));
    let shard = Rc::new(RefCell::new(shard));
    let settling = spawn_local(settle(shard.clone(), start.inbox));
    let sweeping = spawn_local(sweep(shard.clone()));
    let stopped = async {
        let _ = start.stop.recv().await;
    };
    accept(&shard, &listener).or(stopped).await;
    drop(listener);
    shard.borrow_mut().drain();
    let until = Instant::now() + DRAIN;
    while shard.borrow().connections() > 0 && Instant::now() < until {
        sleep(Duration::from_millis(10)).await;
    }
    sweeping.cancel().await;
    settling.cancel().await;
}

async fn accept(shard: &Rc<RefCell<Shard>>, listener: &TcpListener) {
    loop {
        match listener.accept().await {
            Ok(stream) => welcome(shard, stream),
            Err(error) => {
                // Out of descriptors, most likely: those who are connected go on.
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn welcome(shard: &Rc<RefCell<Shard>>, stream: TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    let (bells, waits) = Bells::new();
    let opened = shard.borrow_mut().open(bells.clone(), Instant::now());
    match opened {
        Ok(id) => spawn_local(drive(shard.clone(), id, stream, bells, waits)).detach(),
        Err(Refused) => return, // dropping the stream closes it; the client backs off and tries again
    };
}

async fn settle(shard: Rc<RefCell<Shard>>, inbox: Receiver<Settled>) {
    while let Ok(settled) = inbox.recv().await {
        shard.borrow_mut().settle(settled);
    }
}

async fn sweep(shard: Rc<RefCell<Shard>>) {
    loop {
        sleep(SWEEP).await;
        shard.borrow_mut().sweep(Instant::now());
    }
}
