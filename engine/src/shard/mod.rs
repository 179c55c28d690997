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
mod schedule;
mod serve;
mod slots;
#[cfg(test)]
mod tests;
mod views;
mod work;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender, bounded};
pub use connection::ConnectionId;
use connection::{Connection, PEER_BYTES};
use drive::Bells;
use reporter::access::Directory;
use schedule::Schedule;
use serve::Core;
pub use serve::ShardParts;

use crate::config::Limits;
use crate::ledger::Settled;
use crate::metrics::ShardCounts;

/// Connections' guests are looked at again so often, whether or not anybody was changed.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Time that a shard serves frames before its readers and writers have their turn.
const TURN: Duration = Duration::from_micros(100);

/// The shard takes no more connections.
#[derive(Debug)]
pub struct Refused;

/// What is to be done with a connection after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A frame, or a slice of one, was served; there may be another.
    More,
    /// Nothing to do until more bytes come.
    Wait,
    /// No more is read; the connection ends once its answers are out.
    Close,
}

/// Whether a shard has more to serve after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Connections wait; let readers and writers run first.
    More,
    /// Nothing waits until more bytes come.
    Done,
}

/// One core's connections and tables.
pub struct Shard {
    core: Core,
    limits: Limits,
    counts: Arc<ShardCounts>,
    connections: HashMap<ConnectionId, Connection>,
    schedule: Schedule,
    /// What all connections read into: none keeps a buffer while it waits.
    buffer: Box<[u8]>,
    /// Bytes received that are not served yet, of all connections.
    waiting_bytes: usize,
    last_id: u64,
    /// Who might call when connections were looked at last, and when that was.
    directory: Arc<Directory>,
    looked: Instant,
    /// Wakes [`Self::serve`]'s caller.
    work: Sender<()>,
}

impl Shard {
    /// Makes a shard without connections; returns it, and what says that frames wait to be served.
    pub fn new(parts: ShardParts, now: Instant) -> (Self, Receiver<()>) {
        let (work, working) = bounded(1);
        let shard = Self {
            limits: parts.limits,
            counts: parts.counts.clone(),
            directory: parts.door.directory(),
            core: Core::new(parts),
            connections: HashMap::new(),
            schedule: Schedule::default(),
            buffer: vec![0; PEER_BYTES].into(),
            waiting_bytes: 0,
            last_id: 0,
            looked: now,
            work,
        };
        (shard, working)
    }

    /// Returns how many connections are open.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Takes a new connection. Where all places are taken, one that is silent gives up its own.
    pub fn open(&mut self, bells: Bells, peer: IpAddr, now: Instant) -> Result<ConnectionId, Refused> {
        if let Err(refused) = self.make_place(peer, now) {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            return Err(refused);
        }
        self.last_id += 1;
        let id = ConnectionId(self.last_id);
        self.connections.insert(id, Connection::new(bells, peer, now));
        self.counts.connections.store(self.connections.len() as u64, Ordering::Relaxed);
        Ok(id)
    }

    /// Forgets a connection. What it submitted is settled all the same.
    pub fn close(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.remove(&id) {
            self.waiting_bytes -= connection.waiting_bytes();
        }
        self.counts.connections.store(self.connections.len() as u64, Ordering::Relaxed);
    }

    /// Reads bytes of the peer with `read`, which is given the shard's buffer, and queues the connection for service.
    pub fn poll_receive(
        &mut self,
        id: ConnectionId,
        read: impl FnOnce(&mut [u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let wanted = connection.read_bytes();
        let received = read(&mut self.buffer[..wanted]);
        if let Poll::Ready(Ok(count)) = received
            && count > 0
        {
            let now = Instant::now();
            connection.receive(&self.buffer[..count], now);
            self.waiting_bytes += count;
            if self.waiting_bytes > self.limits.waiting_bytes_max && !connection.closing {
                self.core.overfull(connection);
            }
            self.enqueue(id, now);
        }
        received
    }

    /// Notes that the peer sends no more; it may still read.
    pub fn end_of_input(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.closing = true;
            self.enqueue(id, Instant::now());
        }
    }

    /// Whether more may be read of a connection. If not, its bell for room rings when that changes.
    pub fn has_room(&mut self, id: ConnectionId) -> bool {
        let crowded = self.is_crowded();
        let Some(connection) = self.connections.get_mut(&id) else { return true };
        connection.paused = connection.is_backed_up(&self.limits, crowded);
        !connection.paused
    }

    /// Whether so many bytes wait that no connection is read ahead.
    fn is_crowded(&self) -> bool {
        self.waiting_bytes > self.limits.waiting_bytes_max / 2
    }

    fn enqueue(&mut self, id: ConnectionId, now: Instant) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let none_waited = self.schedule.is_empty();
        self.schedule.enqueue(id, &mut connection.share, now);
        if none_waited {
            let _ = self.work.try_send(()); // full: rung already; closed: the shard has ended
        }
    }

    /// Serves frames for one turn, and answers the small lookups among them together.
    pub fn serve(&mut self) -> Turn {
        let began = Instant::now();
        let (mut now, mut served_fresh) = (began, false);
        while !self.core.gather.is_full()
            && now.saturating_duration_since(began) < TURN
            && let Some(id) = self.schedule.next(&mut self.connections)
        {
            let is_fresh = self.schedule.is_fresh();
            // What those that ask little are answered does not wait for a slice of somebody's backlog.
            if served_fresh && !is_fresh && self.connections.get(&id).is_some_and(Connection::may_take_long) {
                break;
            }
            served_fresh |= is_fresh;
            now = self.step(id, now);
        }
        if !self.core.gather.is_empty() {
            for id in self.core.answer_gathered(&mut self.connections) {
                self.enqueue(id, began); // the search was its own time, and not time away
            }
        }
        let is_done = self.schedule.is_empty() && self.core.gather.is_empty();
        if is_done { Turn::Done } else { Turn::More }
    }

    /// Serves one frame of a connection; returns when that was done.
    fn step(&mut self, id: ConnectionId, now: Instant) -> Instant {
        let crowded = self.is_crowded();
        let Some(connection) = self.connections.get_mut(&id) else { return now };
        if connection.stalls(&self.limits) {
            self.schedule.emptied(id, &mut connection.share, now);
            return now; // until its peer takes its answers
        }
        let waited = connection.waiting_bytes();
        let mut step = self.core.step(id, connection, now);
        if matches!(step, Step::More) && !connection.has_frame(&self.limits) {
            step = self.core.step(id, connection, now); // notes what is left, and that it waits
        }
        self.waiting_bytes -= waited - connection.waiting_bytes();
        let after = Instant::now();
        connection.share.spend(after.saturating_duration_since(now));
        if !matches!(step, Step::More) {
            self.schedule.emptied(id, &mut connection.share, after);
        }
        if connection.has_output() {
            connection.bells.output();
        }
        connection.tell_room(&self.limits, crowded);
        after
    }

    /// Moves a connection's answers to `out`.
    pub fn take_output(&mut self, id: ConnectionId, out: &mut Vec<u8>, now: Instant) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.take_output(out, now);
        }
    }

    /// Notes that the peer took what was moved out last.
    pub fn wrote(&mut self, id: ConnectionId, now: Instant) {
        let crowded = self.is_crowded();
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.wrote(now);
            connection.tell_room(&self.limits, crowded);
            if connection.goes_on(&self.limits, now) {
                self.enqueue(id, now);
            }
        }
    }

    /// Whether the connection is to end, and all its answers are out.
    pub fn owes_nothing(&self, id: ConnectionId) -> bool {
        self.connections.get(&id).is_none_or(Connection::owes_nothing)
    }

    /// Answers a Submit as the ledger says.
    pub fn settle(&mut self, settled: Settled) {
        let id = ConnectionId(settled.connection);
        if let Some(connection) = self.connections.get_mut(&id) {
            self.core.settle(connection, settled);
            connection.bells.output();
        }
    }

    /// Ends connections that overstay a limit, and takes back memory that silent ones do not use.
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
        let mut held = 0;
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
            connection.shrink(now);
            held += connection.held_bytes();
        }
        self.counts.buffer_bytes.store(held as u64, Ordering::Relaxed);
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
