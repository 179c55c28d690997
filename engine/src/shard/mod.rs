//! A shard: the connections of one core and the work on them. Knows no reactor and no clock.
//!
//! A reactor (`glommio`, or `epoll` where io_uring is refused) feeds it bytes and takes bytes; `reactor` and
//! `drive` are the part both share. The work on a frame is in `serve`. Everything is bounded: frames, connections, Submits in flight, unread answers, and
//! the time each may take.

mod connection;
mod drive;
pub mod epoll;
mod gate;
mod gather;
pub mod glommio;
mod listed;
pub mod reactor;
mod serve;
mod views;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender, bounded};
use connection::Connection;
pub use connection::ConnectionId;
use drive::Bells;
use reporter::access::Directory;
use serve::Core;
pub use serve::ShardParts;

use crate::config::Limits;
use crate::ledger::Settled;
use crate::metrics::ShardCounts;

/// Connections' guests are looked at again so often, whether or not anybody was changed.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// The shard takes no more connections.
#[derive(Debug)]
pub struct Refused;

/// What is to be done with a connection after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A frame with so many hashes was served; there may be another.
    More {
        /// How many.
        hashes: usize,
    },
    /// Nothing to do until more bytes come.
    Wait,
    /// No more is read; the connection ends once its answers are out.
    Close,
}

/// One core's connections and tables.
pub struct Shard {
    core: Core,
    limits: Limits,
    counts: Arc<ShardCounts>,
    connections: HashMap<ConnectionId, Connection>,
    last_id: u64,
    /// Who might call when connections were looked at last, and when that was.
    directory: Arc<Directory>,
    looked: Instant,
    /// Wakes [`Self::answer_gathered`]'s caller.
    gathered: Sender<()>,
}

impl Shard {
    /// A shard without connections, and what says that small lookups are waiting to be searched together.
    pub fn new(parts: ShardParts, now: Instant) -> (Self, Receiver<()>) {
        let (limits, counts, directory) = (parts.limits, parts.counts.clone(), parts.door.directory());
        let (gathered, waiting) = bounded(1);
        let connections = HashMap::new();
        let core = Core::new(parts);
        (Self { core, limits, counts, connections, last_id: 0, directory, looked: now, gathered }, waiting)
    }

    /// Searches the small lookups of all connections together, and answers them.
    pub fn answer_gathered(&mut self) {
        self.core.answer_gathered(&mut self.connections);
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Takes a new connection.
    pub fn open(&mut self, bells: Bells, now: Instant) -> Result<ConnectionId, Refused> {
        if self.connections.len() >= self.limits.connections_max {
            self.counts.closed.fetch_add(1, Ordering::Relaxed);
            return Err(Refused);
        }
        self.last_id += 1;
        let id = ConnectionId(self.last_id);
        self.connections.insert(id, Connection::new(bells, now));
        self.counts.connections.store(self.connections.len() as u64, Ordering::Relaxed);
        Ok(id)
    }

    /// Forgets a connection. What it submitted is settled all the same.
    pub fn close(&mut self, id: ConnectionId) {
        self.connections.remove(&id);
        self.counts.connections.store(self.connections.len() as u64, Ordering::Relaxed);
    }

    /// Bytes from the peer.
    pub fn receive(&mut self, id: ConnectionId, bytes: &[u8], now: Instant) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.receive(bytes, now);
        }
    }

    /// The peer sends no more, but may still read.
    pub fn end_of_input(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.closing = true;
        }
    }

    /// Serves one frame of a connection.
    pub fn step(&mut self, id: ConnectionId, now: Instant) -> Step {
        let Some(connection) = self.connections.get_mut(&id) else { return Step::Close };
        let none_waited = self.core.gather.is_empty();
        let step = self.core.step(id, connection, now);
        if self.core.gather.is_full() {
            self.answer_gathered();
        } else if none_waited && !self.core.gather.is_empty() {
            let _ = self.gathered.try_send(()); // full: rung already; closed: the shard has ended
        }
        step
    }

    /// Moves a connection's answers to `out`.
    pub fn take_output(&mut self, id: ConnectionId, out: &mut Vec<u8>, now: Instant) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.take_output(out, now);
        }
    }

    /// The peer took what was moved out last.
    pub fn wrote(&mut self, id: ConnectionId, now: Instant) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.wrote(now);
        }
    }

    /// Whether there are answers to hand out, or the connection may be done.
    pub fn has_output(&self, id: ConnectionId) -> bool {
        self.connections.get(&id).is_none_or(|connection| connection.owed_bytes() > 0 || connection.closing)
    }

    /// Whether the peer lets its answers pile up, so that nothing more is read from it.
    pub fn is_backed_up(&self, id: ConnectionId) -> bool {
        self.connections
            .get(&id)
            .is_some_and(|connection| connection.owed_bytes() > self.limits.output_bytes_max)
    }

    /// Whether the connection is to end, and all its answers are out.
    pub fn owes_nothing(&self, id: ConnectionId) -> bool {
        self.connections.get(&id).is_none_or(Connection::owes_nothing)
    }

    /// Bytes to read at a time: few until the peer has said who it is.
    pub fn read_bytes(&self, id: ConnectionId) -> usize {
        self.connections.get(&id).map_or(0, Connection::read_bytes)
    }

    /// The ledger's answer to a Submit.
    pub fn settle(&mut self, settled: Settled) {
        let id = ConnectionId(settled.connection);
        if let Some(connection) = self.connections.get_mut(&id) {
            self.core.settle(connection, settled);
            connection.bells.output();
        }
    }

    /// Ends connections that overstay a limit.
    pub fn sweep(&mut self, now: Instant) {
        let directory = self.core.parts.door.directory();
        let changed = !Arc::ptr_eq(&directory, &self.directory);
        self.directory = directory;
        self.core.views.forget_older(&self.core.parts.banks);
        // Keys end by themselves, too.
        let look = changed || now.saturating_duration_since(self.looked) > LOOK_AGAIN;
        if look {
            self.looked = now;
        }
        for connection in self.connections.values_mut() {
            if look {
                self.core.look_again(connection);
            }
            if let Some(reason) = connection.overdue(&self.limits, now) {
                tracing::debug!(reason, "connection closed");
                self.counts.closed.fetch_add(1, Ordering::Relaxed);
                if connection.parting {
                    connection.bells.close(); // it was told already, and does not read
                } else {
                    self.core.timed_out(connection, reason);
                }
            }
        }
    }

    /// Takes no more requests; connections end when what they wait for is answered.
    pub fn drain(&mut self) {
        self.core.draining = true;
        for connection in self.connections.values_mut() {
            connection.closing = true;
            connection.bells.output();
        }
    }
}
