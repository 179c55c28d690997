//! A client that survives: it reconnects with backoff, and sends a Submit again under its own id until it
//! knows the outcome.
//!
//! A lost answer is 'unknown', never 'no'. Because the server remembers request ids, asking again is safe.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use index::{RequestId, UploadContext};

use super::connection::{Connection, ConnectionError};
use super::{Answer, Query, Receipt, Refusal, Reply, Request, Welcome};

/// How patient a client is.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The server's token, where it has one.
    pub token: Option<String>,
    /// Bounds the connect, and each read and write.
    pub timeout: Duration,
    /// First wait before trying again; doubles up to `backoff_max`, each wait shortened at random by up to half.
    pub backoff: Duration,
    /// Longest wait before trying again.
    pub backoff_max: Duration,
    /// When to give up on a request.
    pub patience: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            token: None,
            timeout: Duration::from_secs(10),
            backoff: Duration::from_millis(20),
            backoff_max: Duration::from_secs(2),
            patience: Duration::from_secs(30),
        }
    }
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No answer within the patience; whether a Submit was logged is unknown: send it again with its id.
    #[error("no answer from {address} within {waited:?} (last: {last}); the outcome is unknown")]
    Unknown {
        /// The server.
        address: SocketAddr,
        /// How long it was tried.
        waited: Duration,
        /// The last thing that went wrong.
        last: String,
    },
}

/// A client of one server. One request at a time; for pipelining use [`Connection`].
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    options: ClientOptions,
    connection: Option<Connection>,
    correlation: u64,
    jitter: u64,
}

impl Client {
    /// Connects when first used.
    pub fn new(address: SocketAddr, options: ClientOptions) -> Self {
        let jitter = u64::from(std::process::id()) << 32 | u64::from(address.port());
        Self { address, options, connection: None, correlation: 0, jitter }
    }

    /// What the server says of itself.
    pub fn welcome(&mut self) -> Result<Welcome, ClientError> {
        let started = Instant::now();
        let mut backoff = self.options.backoff;
        loop {
            match self.connected() {
                Ok(connection) => return Ok(connection.welcome.clone()),
                Err(error) => self.wait(error, started, &mut backoff)?,
            }
        }
    }

    /// Asks which banked contents match.
    pub fn lookup(&mut self, query: Query) -> Result<Answer, ClientError> {
        match self.ask(Request::Lookup(query))? {
            Reply::Lookup(answer) => Ok(answer),
            other => Err(mismatch(self.address, &other)),
        }
    }

    /// Asks, and has hits logged; returns when they are durable.
    pub fn submit(
        &mut self,
        request: RequestId,
        query: Query,
        contexts: Vec<(u32, UploadContext)>,
    ) -> Result<(Answer, Receipt), ClientError> {
        match self.ask(Request::Submit { request, retry: false, query, contexts })? {
            Reply::Submit(answer, receipt) => Ok((answer, receipt)),
            other => Err(mismatch(self.address, &other)),
        }
    }

    fn ask(&mut self, mut request: Request) -> Result<Reply, ClientError> {
        let started = Instant::now();
        let mut backoff = self.options.backoff;
        loop {
            match self.try_once(&request) {
                Ok(Reply::Error(refusal)) if !refusal.retryable => return Err(refusal.into()),
                Ok(Reply::Error(refusal)) => {
                    self.wait(ConnectionError::Refused(refusal), started, &mut backoff)?
                }
                Ok(Reply::Busy { retry_after }) => {
                    backoff = backoff.max(retry_after);
                    self.wait(std::io::Error::other("the server is busy").into(), started, &mut backoff)?;
                }
                Ok(reply) => return Ok(reply),
                Err(error) => {
                    self.connection = None;
                    self.wait(error, started, &mut backoff)?;
                }
            }
            // From here on the server may have seen the id.
            if let Request::Submit { retry, .. } = &mut request {
                *retry = true;
            }
        }
    }

    fn try_once(&mut self, request: &Request) -> Result<Reply, ConnectionError> {
        self.correlation += 1;
        let correlation = self.correlation;
        let mut frame = Vec::new();
        request.encode(correlation, &mut frame);
        let connection = self.connected()?;
        connection.send(&frame)?;
        loop {
            let (answered, reply) = connection.receive()?;
            // An answer that is not ours belongs to a request given up on; an error without a number to all.
            if answered == correlation || (answered == 0 && matches!(reply, Reply::Error(_))) {
                return Ok(reply);
            }
        }
    }

    fn connected(&mut self) -> Result<&mut Connection, ConnectionError> {
        match &mut self.connection {
            Some(connection) => Ok(connection),
            empty => {
                let fresh =
                    Connection::open(self.address, self.options.token.as_deref(), self.options.timeout)?;
                Ok(empty.insert(fresh))
            }
        }
    }

    /// Waits before the next try, or gives up.
    fn wait(
        &mut self,
        error: ConnectionError,
        started: Instant,
        backoff: &mut Duration,
    ) -> Result<(), ClientError> {
        if let ConnectionError::Refused(refusal) = &error
            && !refusal.retryable
        {
            return Err(refusal.clone().into());
        }
        // Half of the wait is random, so that a thousand clients do not come back together.
        self.jitter =
            self.jitter.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let share = 0.5 + (self.jitter >> 40) as f64 / (1u64 << 25) as f64;
        let pause = backoff.mul_f64(share);
        if started.elapsed() + pause > self.options.patience {
            let waited = started.elapsed();
            return Err(ClientError::Unknown { address: self.address, waited, last: error.to_string() });
        }
        thread::sleep(pause);
        *backoff = (*backoff * 2).min(self.options.backoff_max);
        Ok(())
    }
}

fn mismatch(address: SocketAddr, reply: &Reply) -> ClientError {
    ClientError::Unknown {
        address,
        waited: Duration::ZERO,
        last: format!("an answer of another kind: {reply:?}"),
    }
}
