//! A client's connection to the admin port, shared by what serves it and by what watches whether the client is still
//! there.
//!
//! A client that shuts down its sending half (`nc -N`, some proxies) still reads its answer; a client that closes its
//! socket does not. Both send the same FIN (EPOLLRDHUP), and only bytes that are sent to them tell them apart: a closed
//! socket answers bytes with a reset, which the system reports as an error of the connection (EPOLLERR). So a connection
//! ends on an error and not on a FIN. A client that sent a FIN and waits for an answer gets the interim response
//! `100 Continue` every few seconds, which HTTP/1.1 allows before every answer; where nothing can be sent (HTTP/1.0, or
//! in the middle of an answer), TCP's keep-alive finds the reset when the client's system has forgotten the socket.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rustix::net::{Shutdown, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How often a client that sent a FIN is asked whether it still reads, from twice as long at most after its request.
const PROBE_EVERY: Duration = Duration::from_secs(2);
const PROBE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Silence after which TCP asks whether the peer is there, and how often and how many times it asks. A closed socket
/// takes part in that for a minute under Linux (`tcp_fin_timeout`).
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMES: u32 = 3;

/// A client's connection.
pub struct Client {
    stream: TcpStream,
    /// Grows by one when a request comes whose client knows interim responses, and when its answer begins: odd in between.
    turn: AtomicU64,
    /// Whether everything that was written is with the system.
    flushed: AtomicBool,
}

impl Client {
    /// Takes a connection that was accepted.
    pub fn new(stream: TcpStream) -> Arc<Self> {
        // Slower, or noticed later, without these, and as right.
        let _ = stream.set_nodelay(true);
        let _ = sockopt::set_socket_keepalive(&stream, true);
        let _ = sockopt::set_tcp_keepidle(&stream, KEEPALIVE_AFTER);
        let _ = sockopt::set_tcp_keepintvl(&stream, KEEPALIVE_EVERY);
        let _ = sockopt::set_tcp_keepcnt(&stream, KEEPALIVE_TIMES);
        Arc::new(Self { stream, turn: AtomicU64::new(0), flushed: AtomicBool::new(true) })
    }

    /// Notes that a request of HTTP/1.1 came, or that its answer begins. Requests of a connection come one after another.
    pub fn next_turn(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends when the client is gone. Must be polled by the task that serves the connection, after it was served.
    pub async fn gone(&self) {
        let mut error = pin!(self.stream.ready(Interest::ERROR));
        let mut turn = 0;
        loop {
            if timeout(PROBE_EVERY, error.as_mut()).await.is_ok() {
                return;
            }
            let now = self.turn.load(Ordering::Relaxed);
            let waits_long = now % 2 == 1 && now == turn;
            if waits_long && self.sends_no_more() && self.probe().is_err() {
                return;
            }
            turn = now;
        }
    }

    /// Whether the client sent a FIN.
    fn sends_no_more(&self) -> bool {
        let readable = pin!(self.stream.ready(Interest::READABLE));
        let now = readable.poll(&mut Context::from_waker(Waker::noop()));
        matches!(now, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// Sends an interim response, unless the client has bytes to take already.
    fn probe(&self) -> io::Result<()> {
        if !self.flushed.load(Ordering::Relaxed) {
            return Ok(());
        }
        match self.stream.try_write(PROBE) {
            Ok(sent) if sent < PROBE.len() => Err(io::ErrorKind::WriteZero.into()),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    fn poll_write(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        self.flushed.store(false, Ordering::Relaxed);
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            match write(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

/// A client's connection, as it is read and written.
pub struct ClientStream(pub Arc<Client>);

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.stream.poll_read_ready(context))?;
            match self.0.stream.try_read_buf(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done.map(|_| ())),
            }
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(context, |stream| stream.try_write_vectored(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.flushed.store(true, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match rustix::net::shutdown(&self.0.stream, Shutdown::Write) {
            Ok(()) | Err(rustix::io::Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}
