//! What drives a shard: the seam between its work and whoever wakes it.
//!
//! A reactor brings a listener, streams, a timer and a way to start a task on its thread; everything else is the
//! same for all of them and stands here.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use async_channel::Receiver;
use futures_lite::{AsyncRead, AsyncWrite, FutureExt};

use super::Shard;
use super::drive::{Bells, drive};
use crate::ledger::Settled;

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

/// What differs from one reactor to the next.
pub trait Reactor {
    /// Takes connections.
    type Listener;
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;

    /// Listens on an address that other shards listen on, too.
    fn bind(address: SocketAddr) -> io::Result<Self::Listener>;

    /// Where it listens.
    fn address(listener: &Self::Listener) -> io::Result<SocketAddr>;

    /// The next connection, without delay for small writes.
    fn accept(listener: &Self::Listener) -> impl Future<Output = io::Result<Self::Stream>>;

    /// Waits.
    fn sleep(time: Duration) -> impl Future<Output = ()>;

    /// Starts a task on this thread.
    fn spawn(task: impl Future<Output = ()> + 'static);
}

/// Runs a shard until it is told to stop and has drained.
pub async fn run<R: Reactor>(start: Start, (shard, gathered): (Shard, Receiver<()>)) {
    let listener = match R::bind(start.listen) {
        Ok(listener) => listener,
        Err(error) => {
            let _ = start.bound.send(Err(error));
            return;
        }
    };
    let _ = start.bound.send(R::address(&listener));
    let shard = Rc::new(RefCell::new(shard));
    let stopped = async {
        let _ = start.stop.recv().await;
    };
    let working = async {
        accept::<R>(&shard, &listener).or(stopped).await;
        drop(listener);
        shard.borrow_mut().drain();
        let until = Instant::now() + DRAIN;
        while shard.borrow().connections() > 0 && Instant::now() < until {
            R::sleep(Duration::from_millis(10)).await;
        }
    };
    R::spawn(answer_gathered(Rc::downgrade(&shard), gathered));
    working.or(settle(&shard, &start.inbox)).or(sweep::<R>(&shard)).await;
}

async fn accept<R: Reactor>(shard: &Rc<RefCell<Shard>>, listener: &R::Listener) {
    loop {
        match R::accept(listener).await {
            Ok(stream) => welcome::<R>(shard, stream),
            Err(error) => {
                // Out of descriptors, most likely: those who are connected go on.
                tracing::warn!(%error, "a connection could not be accepted");
                R::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn welcome<R: Reactor>(shard: &Rc<RefCell<Shard>>, stream: R::Stream) {
    let (bells, waits) = Bells::new();
    let opened = shard.borrow_mut().open(bells.clone(), Instant::now());
    // Refused, the stream is dropped, which closes it; the client backs off and tries again.
    if let Ok(id) = opened {
        R::spawn(drive(shard.clone(), id, stream, bells, waits));
    }
}

/// A task of its own, so that it takes its turn behind the readers that have bytes already. It keeps the shard only
/// while it works.
async fn answer_gathered(shard: Weak<RefCell<Shard>>, gathered: Receiver<()>) {
    while gathered.recv().await.is_ok()
        && let Some(shard) = shard.upgrade()
    {
        shard.borrow_mut().answer_gathered();
    }
}

async fn settle(shard: &RefCell<Shard>, inbox: &Receiver<Settled>) {
    while let Ok(settled) = inbox.recv().await {
        shard.borrow_mut().settle(settled);
    }
    futures_lite::future::pending().await // nobody settles any more, but the shard may still work
}

async fn sweep<R: Reactor>(shard: &RefCell<Shard>) {
    loop {
        R::sleep(SWEEP).await;
        shard.borrow_mut().sweep(Instant::now());
    }
}
