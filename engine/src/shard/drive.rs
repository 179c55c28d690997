//! One connection, driven by whichever reactor runs the shard: bytes in, bytes out, nothing decided here.
//!
//! Reading and writing are two futures raced in one task. The reader stops while the peer does not take its
//! answers; the writer ends the connection once nothing is owed any more.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use async_channel::{Receiver, Sender, bounded};
use futures_lite::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use futures_lite::{FutureExt, future};

use super::{ConnectionId, Shard, Step};

/// Hashes a connection has looked up before its neighbours get their turn: some 50 µs of work.
const TURN: usize = 64;

/// Wakes the two halves of a connection. Each holds one permit: many rings are one.
#[derive(Clone, Debug)]
pub struct Bells {
    output: Sender<()>,
    drained: Sender<()>,
    closed: Sender<()>,
}

/// The ends the connection's task waits on.
pub struct Waits {
    output: Receiver<()>,
    drained: Receiver<()>,
    closed: Receiver<()>,
}

impl Bells {
    /// Bells and the ends that hear them.
    pub fn new() -> (Self, Waits) {
        let ((output, a), (drained, b), (closed, c)) = (bounded(1), bounded(1), bounded(1));
        (Self { output, drained, closed }, Waits { output: a, drained: b, closed: c })
    }

    /// There is something to write, or the connection may be done.
    pub fn output(&self) {
        let _ = self.output.try_send(()); // full: rung already; closed: the task is gone
    }

    /// The peer took its answers.
    fn drained(&self) {
        let _ = self.drained.try_send(());
    }

    /// End the connection now.
    pub fn close(&self) {
        self.closed.close();
    }
}

/// Serves one connection to its end.
pub async fn drive<S>(shard: Rc<RefCell<Shard>>, id: ConnectionId, stream: S, bells: Bells, waits: Waits)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (input, output) = split(stream);
    let Waits { output: has_output, drained, closed } = waits;
    let reading = read(&shard, id, input, &bells, &drained);
    let writing = write(&shard, id, output, &bells, &has_output);
    let closing = async {
        let _ = closed.recv().await;
    };
    reading.or(writing).or(closing).await;
    shard.borrow_mut().close(id);
}

async fn read<R>(
    shard: &RefCell<Shard>,
    id: ConnectionId,
    mut input: R,
    bells: &Bells,
    drained: &Receiver<()>,
) where
    R: AsyncRead + Unpin,
{
    let mut buffer = vec![0; shard.borrow().read_bytes(id)];
    loop {
        let wanted = shard.borrow().read_bytes(id);
        if buffer.len() < wanted {
            buffer.resize(wanted, 0); // once or twice, after Hello
        }
        match input.read(&mut buffer[..wanted]).await {
            Ok(0) => shard.borrow_mut().end_of_input(id),
            Ok(count) => shard.borrow_mut().receive(id, &buffer[..count], Instant::now()),
            Err(_) => return, // the peer is gone; what it submitted is settled all the same
        }
        let mut served = 0;
        loop {
            let step = shard.borrow_mut().step(id, Instant::now());
            match step {
                // A turn is one large frame or several small ones, answered together; then neighbours on this
                // shard, and the writer, get theirs.
                Step::More { hashes } => {
                    served += hashes + 1;
                    if served >= TURN {
                        served = 0;
                        bells.output();
                        future::yield_now().await;
                    }
                }
                Step::Wait => break,
                Step::Close => {
                    bells.output();
                    future::pending().await // the writer sends what is owed, then ends it
                }
            }
        }
        if shard.borrow().has_output(id) {
            bells.output();
        }
        // More may have come meanwhile; the others come first.
        future::yield_now().await;
        while shard.borrow().is_backed_up(id) {
            if drained.recv().await.is_err() {
                return;
            }
        }
    }
}

async fn write<W>(
    shard: &RefCell<Shard>,
    id: ConnectionId,
    mut output: W,
    bells: &Bells,
    has_output: &Receiver<()>,
) where
    W: AsyncWrite + Unpin,
{
    let mut bytes = Vec::new();
    loop {
        if has_output.recv().await.is_err() {
            return;
        }
        loop {
            bytes.clear();
            shard.borrow_mut().take_output(id, &mut bytes, Instant::now());
            if bytes.is_empty() {
                break;
            }
            if output.write_all(&bytes).await.is_err() {
                return;
            }
            shard.borrow_mut().wrote(id, Instant::now());
            bells.drained();
        }
        if shard.borrow().owes_nothing(id) {
            let _ = output.close().await; // the peer may have closed first
            return;
        }
    }
}
