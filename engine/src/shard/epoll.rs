//! The epoll reactor: one single-threaded tokio runtime per shard, pinned. For hosts that refuse io_uring.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::{Duration, Instant};

use async_channel::Receiver;
use futures_lite::{AsyncRead, AsyncWrite, future};
use rustix::net::Shutdown;
use tokio::io::ReadBuf;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, LocalSet};

use super::Shard;
use super::reactor::{Reactor, Start, run};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// How often a busy shard looks at its sockets.
const LOOK: Duration = Duration::from_micros(250);

thread_local! {
    /// When this thread's shard looked at its sockets last, while it was busy.
    static LOOKED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// epoll by tokio.
pub struct Epoll;

impl Reactor for Epoll {
    type Listener = TcpListener;
    type Stream = Stream;
    type Task = Task;

    fn bind(address: SocketAddr) -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    }

    fn address(listener: &TcpListener) -> io::Result<SocketAddr> {
        listener.local_addr()
    }

    async fn accept(listener: &TcpListener) -> io::Result<(Stream, IpAddr)> {
        loop {
            let (stream, peer) = listener.accept().await?;
            if stream.set_nodelay(true).is_ok() {
                return Ok((Stream(stream), peer.ip().to_canonical()));
            }
        }
    }

    async fn sleep(time: Duration) {
        tokio::time::sleep(time).await;
    }

    async fn yield_now() {
        let now = Instant::now();
        if LOOKED.get().is_some_and(|looked| now.saturating_duration_since(looked) < LOOK) {
            return future::yield_now().await;
        }
        LOOKED.set(Some(now));
        tokio::task::yield_now().await; // comes back after the sockets were looked at
    }

    fn spawn(task: impl Future<Output = ()> + 'static) -> Task {
        Task(tokio::task::spawn_local(task))
    }
}

/// A task that ends when this is dropped.
#[derive(Debug)]
pub struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A stream of tokio's under the traits that `drive` reads and writes by.
#[derive(Debug)]
pub struct Stream(TcpStream);

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        // A short read tells tokio that the socket is empty, which saves the call that would say so.
        let mut buffer = ReadBuf::new(buffer);
        ready!(tokio::io::AsyncRead::poll_read(Pin::new(&mut self.get_mut().0), context, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // nothing is held back
    }

    fn poll_close(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(rustix::net::shutdown(&self.0, Shutdown::Write).map_err(io::Error::from))
    }
}

/// Starts the shard on a thread of its own.
pub fn spawn(
    name: &str,
    start: Start,
    make: impl FnOnce() -> (Shard, Receiver<()>) + Send + 'static,
) -> io::Result<thread::JoinHandle<io::Result<()>>> {
    thread::Builder::new().name(name.to_string()).spawn(move || {
        if let Some(cpu) = start.cpu {
            let mut cpus = rustix::thread::CpuSet::new();
            cpus.set(cpu);
            rustix::thread::sched_setaffinity(None, &cpus)?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        LocalSet::new().block_on(&runtime, run::<Epoll>(start, make()));
        Ok(())
    })
}
