//! What drives a shard: the seam between its work and whoever wakes it.
//!
//! A reactor brings a listener, streams, a timer and a way to start a task on its thread; everything else is the
//! same for all of them and stands here.
//!
//! Each operation that waits on the reactor has a task of its own, which only that operation wakes: glommio 0.9 keeps a
//! reference to the task for every poll of a pending accept, in a counter of 16 bits, and aborts the process when it
//! overflows. The tasks are: accept (with its pause), serve, settle, sweep (a timer), pace, the main task (stop, then the drain's
//! timer), and for each connection a reader and a writer. Two futures are joined in one place only: a connection's writer
//! with the bell that closes it, which rings once (`drive`).

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use async_channel::Receiver;
use futures_lite::{AsyncRead, AsyncWrite};

use super::drive::{Bells, drive};
use super::{ConnectionId, Shard, Turn};
use crate::failpoint;
use crate::ledger::Settled;
use crate::pace::{self, Round};

/// How often limits of time are looked at.
const SWEEP: Duration = Duration::from_millis(250);
/// How long clients have to take their answers when the server stops.
const DRAIN: Duration = Duration::from_secs(5);
/// How often a drain looks whether it is done.
const DRAIN_STEP: Duration = Duration::from_millis(10);
/// How long tasks that were ended may take to let go of the shard.
const END: Duration = Duration::from_secs(1);
/// After the system refused a connection: it is out of something.
const PAUSE: Duration = Duration::from_millis(50);

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
pub trait Reactor: 'static {
    /// Takes connections.
    type Listener: 'static;
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;
    /// A task of the shard's thread. Dropping it ends the task.
    type Task: 'static;

    /// Listens on an address that other shards listen on, too.
    fn bind(address: SocketAddr) -> io::Result<Self::Listener>;

    /// Where it listens.
    fn address(listener: &Self::Listener) -> io::Result<SocketAddr>;

    /// Waits for the next connection; returns it, without delay for small writes, and its peer's address.
    fn accept(listener: &Self::Listener) -> impl Future<Output = io::Result<(Self::Stream, IpAddr)>>;

    /// Waits.
    fn sleep(time: Duration) -> impl Future<Output = ()>;

    /// Lets the other tasks of this thread run; sockets are looked at often enough meanwhile.
    fn yield_now() -> impl Future<Output = ()>;

    /// Starts a task on this thread.
    fn spawn(task: impl Future<Output = ()> + 'static) -> Self::Task;
}

/// The tasks of all connections.
pub(super) type Tasks<R> = Rc<RefCell<HashMap<ConnectionId, <R as Reactor>::Task>>>;

/// Runs a shard until it is told to stop and has drained.
pub async fn run<R: Reactor>(start: Start, (shard, work): (Shard, Receiver<()>)) {
    let listener = match R::bind(start.listen) {
        Ok(listener) => listener,
        Err(error) => {
            let _ = start.bound.send(Err(error));
            return;
        }
    };
    let _ = start.bound.send(R::address(&listener));
    let shard = Rc::new(RefCell::new(shard));
    let connections: Tasks<R> = Rc::default();
    let (turns, ending) = pace::turns(); // a close costs the kernel as much as an answer
    let accepting = R::spawn(accept::<R>(shard.clone(), connections.clone(), listener, ending));
    let working = [
        R::spawn(pace::hand_out(turns, R::yield_now)),
        R::spawn(serve::<R>(shard.clone(), work)),
        R::spawn(settle(shard.clone(), start.inbox)),
        R::spawn(sweep::<R>(shard.clone())),
    ];
    let _ = start.stop.recv().await;
    drop(accepting);
    shard.borrow_mut().drain();
    if !wait::<R>(DRAIN, || shard.borrow().connections() == 0).await {
        let open = shard.borrow().connections();
        tracing::warn!(open, "connections are closed although their clients did not read all answers");
    }
    let ended = std::mem::take(&mut *connections.borrow_mut());
    drop((ended, working));
    // The shard holds the way into the ledger, whose thread ends when all shards have let go of it.
    if !wait::<R>(END, || Rc::strong_count(&shard) == 1).await {
        tracing::error!("a task of the shard did not end; the shard ends without it");
    }
}

/// Waits until something is so, at most so long; returns whether it came to be.
async fn wait<R: Reactor>(limit: Duration, done: impl Fn() -> bool) -> bool {
    let until = Instant::now() + limit;
    while !done() {
        if Instant::now() >= until {
            return false;
        }
        R::sleep(DRAIN_STEP).await;
    }
    true
}

pub(super) async fn accept<R: Reactor>(
    shard: Rc<RefCell<Shard>>,
    connections: Tasks<R>,
    listener: R::Listener,
    ending: Receiver<()>,
) {
    let (mut refused, mut round) = (0_u64, Round::default());
    loop {
        match R::accept(&listener).await {
            Ok((stream, peer)) => {
                refused = 0;
                welcome::<R>(&shard, &connections, stream, peer, ending.clone());
                if round.is_over() {
                    R::yield_now().await; // nothing of the reactor is pending here
                }
            }
            Err(error) => {
                // Out of descriptors, most likely: those who are connected go on.
                refused += 1;
                if refused.is_power_of_two() {
                    tracing::warn!(%error, refused, "connections cannot be accepted; those that are open go on");
                }
                R::sleep(PAUSE).await;
            }
        }
    }
}

fn welcome<R: Reactor>(
    shard: &Rc<RefCell<Shard>>,
    connections: &Tasks<R>,
    stream: R::Stream,
    peer: IpAddr,
    ending: Receiver<()>,
) {
    let (bells, waits) = Bells::new();
    let opened = shard.borrow_mut().open(bells.clone(), peer, Instant::now());
    // Refused, the stream is dropped, which closes it; the client backs off and tries again.
    let Ok(id) = opened else { return };
    let (shard, tasks) = (shard.clone(), connections.clone());
    let task = R::spawn(async move {
        drive::<R>(shard, id, stream, bells, waits, ending).await;
        tasks.borrow_mut().remove(&id);
    });
    connections.borrow_mut().insert(id, task);
}

/// Serves the connections that have whole frames waiting, turn by turn. Between turns readers and writers have theirs.
async fn serve<R: Reactor>(shard: Rc<RefCell<Shard>>, work: Receiver<()>) {
    while work.recv().await.is_ok() {
        loop {
            let turn = shard.borrow_mut().serve();
            match turn {
                Turn::More => R::yield_now().await,
                Turn::Done => break,
            }
        }
    }
}

async fn settle(shard: Rc<RefCell<Shard>>, inbox: Receiver<Settled>) {
    while let Ok(settled) = inbox.recv().await {
        shard.borrow_mut().settle(settled);
    }
}

async fn sweep<R: Reactor>(shard: Rc<RefCell<Shard>>) {
    // A test has a day's sweeps in a minute.
    let every = failpoint::test_number("HASHWARD_SWEEP_MICROS").map_or(SWEEP, Duration::from_micros);
    loop {
        R::sleep(every).await;
        shard.borrow_mut().sweep(Instant::now());
    }
}
