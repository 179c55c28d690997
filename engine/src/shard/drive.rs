//! One connection, driven by whichever reactor runs the shard: bytes in, bytes out, nothing decided here.
//!
//! Reading and writing are a task each. The reader stops while the peer does not take its answers or has sent more than
//! is served; the writer ends the connection once nothing is owed any more.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

use async_channel::{Receiver, Sender, bounded};
use futures_lite::io::{AsyncRead, AsyncWrite, AsyncWriteExt, split};
use futures_lite::{FutureExt, future};

use super::reactor::Reactor;
use super::{ConnectionId, Shard};

/// Wakes the two halves of a connection. Each holds one permit: many rings are one.
#[derive(Clone, Debug)]
pub struct Bells {
    output: Sender<()>,
    room: Sender<()>,
    closed: Sender<()>,
}

/// The ends the connection's tasks wait on.
pub struct Waits {
    output: Receiver<()>,
    room: Receiver<()>,
    closed: Receiver<()>,
}

impl Bells {
    /// Bells and the ends that hear them.
    pub fn new() -> (Self, Waits) {
        let ((output, a), (room, b), (closed, c)) = (bounded(1), bounded(1), bounded(1));
        (Self { output, room, closed }, Waits { output: a, room: b, closed: c })
    }

    /// Says that there is something to write, or that the connection may be done.
    pub fn output(&self) {
        let _ = self.output.try_send(()); // full: rung already; closed: the task is gone
    }

    /// Says that more may be read.
    pub fn room(&self) {
        let _ = self.room.try_send(());
    }

    /// Ends the connection now.
    pub fn close(&self) {
        self.closed.close();
    }
}

/// Serves one connection to its end.
pub async fn drive<R: Reactor>(
    shard: Rc<RefCell<Shard>>,
    id: ConnectionId,
    stream: R::Stream,
    bells: Bells,
    waits: Waits,
    ending: Receiver<()>,
) {
    let (input, mut output) = split(stream);
    let Waits { output: has_output, room, closed } = waits;
    let reading = R::spawn(read(shard.clone(), id, input, bells.clone(), room));
    let closing = async {
        let _ = closed.recv().await;
        Outcome::Broken
    };
    let outcome = write(&shard, id, &mut output, &has_output).or(closing).await;
    shard.borrow_mut().close(id);
    let _ = ending.recv().await; // closed: the shard ends, and with it all connections
    if outcome == Outcome::Done {
        let _ = output.close().await; // the peer may have closed first
    }
    drop(reading);
}

async fn read<I>(shard: Rc<RefCell<Shard>>, id: ConnectionId, mut input: I, bells: Bells, room: Receiver<()>)
where
    I: AsyncRead + Unpin,
{
    loop {
        let received = future::poll_fn(|context| {
            let input = Pin::new(&mut input);
            shard.borrow_mut().poll_receive(id, |buffer| input.poll_read(context, buffer))
        });
        match received.await {
            Ok(0) => return shard.borrow_mut().end_of_input(id),
            Ok(_) => {}
            Err(_) => return bells.close(), // the peer is gone; what it submitted is settled all the same
        }
        // More may have come meanwhile; the others come first.
        future::yield_now().await;
        while !shard.borrow_mut().has_room(id) {
            if room.recv().await.is_err() {
                return;
            }
        }
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Everything that was owed is written.
    Done,
    /// The peer is gone, or the connection had to end.
    Broken,
}

async fn write<O>(
    shard: &RefCell<Shard>,
    id: ConnectionId,
    output: &mut O,
    has_output: &Receiver<()>,
) -> Outcome
where
    O: AsyncWrite + Unpin,
{
    let mut bytes = Vec::new();
    loop {
        if has_output.recv().await.is_err() {
            return Outcome::Broken;
        }
        loop {
            bytes.clear();
            shard.borrow_mut().take_output(id, &mut bytes, Instant::now());
            if bytes.is_empty() {
                break;
            }
            if output.write_all(&bytes).await.is_err() {
                return Outcome::Broken;
            }
            shard.borrow_mut().wrote(id, Instant::now());
        }
        if shard.borrow().owes_nothing(id) {
            return Outcome::Done;
        }
    }
}
