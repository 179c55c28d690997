//! One blocking connection: handshake, frames out, frames in. Pipelining is the caller's: send many, then
//! receive; or split it and do both at once.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::frame::{PREFIX, Split, split};
use super::{Refusal, Reply, ReplyError, Welcome, hello};

/// Largest answer taken. The server's answers are bounded by its limits; this bounds a server gone wrong.
const REPLY_BYTES_MAX: usize = 256 << 20;

/// Why a connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The socket failed or timed out.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The server answered the Hello with 'no'.
    #[error("the server refused: {0}")]
    Refused(Refusal),
    /// What came is not the protocol.
    #[error(transparent)]
    Garbage(#[from] ReplyError),
}

/// A connection that said Hello.
#[derive(Debug)]
pub struct Connection {
    /// What the server said of itself.
    pub welcome: Welcome,
    sender: Sender,
    receiver: Receiver,
}

impl Connection {
    /// Connects and says Hello. `timeout` bounds the connect and each read and write.
    pub fn open(
        address: SocketAddr,
        token: Option<&str>,
        timeout: Duration,
    ) -> Result<Self, ConnectionError> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        let mut sender = Sender { stream: stream.try_clone()? };
        let mut receiver = Receiver { stream, buffer: Vec::new(), taken: 0 };
        let mut bytes = Vec::new();
        hello(0, token, &mut bytes);
        sender.send(&bytes)?;
        match receiver.receive()? {
            (_, Reply::Welcome(welcome)) => Ok(Self { welcome, sender, receiver }),
            (_, Reply::Error(refusal)) => Err(ConnectionError::Refused(refusal)),
            (_, other) => Err(ReplyError(format!("Hello was answered by {other:?}")).into()),
        }
    }

    /// Sends bytes that hold whole frames.
    pub fn send(&mut self, frames: &[u8]) -> Result<(), ConnectionError> {
        self.sender.send(frames)
    }

    /// Waits for the next answer.
    pub fn receive(&mut self) -> Result<(u64, Reply), ConnectionError> {
        self.receiver.receive()
    }

    /// The two directions, for a thread each.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }
}

/// The direction to the server.
#[derive(Debug)]
pub struct Sender {
    stream: TcpStream,
}

impl Sender {
    /// Sends bytes that hold whole frames.
    pub fn send(&mut self, frames: &[u8]) -> Result<(), ConnectionError> {
        Ok(self.stream.write_all(frames)?)
    }

    /// Says that no more will be sent; answers still come.
    pub fn finish(&self) -> Result<(), ConnectionError> {
        Ok(self.stream.shutdown(std::net::Shutdown::Write)?)
    }
}

/// The direction from the server.
#[derive(Debug)]
pub struct Receiver {
    stream: TcpStream,
    buffer: Vec<u8>,
    taken: usize,
}

impl Receiver {
    /// Waits for the next answer.
    pub fn receive(&mut self) -> Result<(u64, Reply), ConnectionError> {
        loop {
            match split(&self.buffer[self.taken..], REPLY_BYTES_MAX) {
                Split::Frame { end } => {
                    let message = &self.buffer[self.taken + PREFIX..self.taken + end];
                    let reply = Reply::decode(message);
                    self.taken += end;
                    return Ok(reply?);
                }
                Split::TooLarge { length } => {
                    return Err(ReplyError(format!("a frame of {length} bytes was announced")).into());
                }
                Split::Incomplete => self.fill()?,
            }
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let held = self.buffer.len();
        self.buffer.resize(held + (64 << 10), 0);
        let outcome = self.stream.read(&mut self.buffer[held..]);
        self.buffer.truncate(held + outcome.as_ref().map_or(0, |count| *count));
        match outcome? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")),
            _ => Ok(()),
        }
    }
}
