//! What a shard keeps of one connection: bytes in, bytes out, and since when it waits for what.

use std::time::{Duration, Instant};

use index::Tenant;
use reporter::access::Right;

use super::drive::Bells;
use super::gate::Guest;
use crate::config::Limits;

/// Bytes read at a time before Hello: 64 KiB of strangers' memory must go a long way.
const STRANGER_BYTES: usize = 8 << 10;
/// Bytes read at a time after it, at most: hundreds of short frames.
const PEER_BYTES: usize = 128 << 10;
/// A frame that is read alone: copying and asking the kernel are little beside its search.
const LONG_FRAME: usize = 1 << 10;
/// Largest frame before Hello: a Hello with a long token.
const HELLO_BYTES_MAX: usize = 4 << 10;

/// A connection of one shard. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u64);

pub(super) struct Connection {
    pub(super) bells: Bells,
    /// Bytes received; `taken` of them are served.
    pub(super) input: Vec<u8>,
    pub(super) taken: usize,
    /// Answers not yet handed to the reactor.
    pub(super) output: Vec<u8>,
    /// Bytes handed to the reactor that the peer has not taken.
    in_flight: usize,
    /// Submits that wait for the ledger.
    pub(super) pending: u32,
    /// Those of them whose sender was told already that they hear nothing.
    pub(super) withheld: Vec<u64>,
    /// Lookups that wait for the next search.
    pub(super) gathered: u32,
    /// Who said Hello, and was let in.
    pub(super) guest: Option<Guest>,
    /// No more will come, or be taken; what is owed is still sent.
    pub(super) closing: bool,
    /// What has come is not served either.
    pub(super) parting: bool,
    /// Bytes of the last frame with its prefix, likely those of the next.
    pub(super) last_frame: usize,
    opened: Instant,
    last_input: Instant,
    frame_since: Option<Instant>,
    output_since: Option<Instant>,
}

impl Connection {
    pub(super) fn new(bells: Bells, now: Instant) -> Self {
        Self {
            bells,
            input: Vec::new(),
            taken: 0,
            output: Vec::new(),
            in_flight: 0,
            pending: 0,
            withheld: Vec::new(),
            gathered: 0,
            guest: None,
            closing: false,
            parting: false,
            last_frame: 0,
            opened: now,
            last_input: now,
            frame_since: None,
            output_since: None,
        }
    }

    /// Whether who is there may see how near matches are.
    pub(super) fn sees_distances(&self) -> bool {
        self.guest.as_ref().is_some_and(|guest| guest.caller.rights.has(Right::Distance))
    }

    /// Whose banks and names its frames are about, if they are a tenant's.
    pub(super) fn tenant(&self) -> Option<&Tenant> {
        self.guest.as_ref()?.caller.tenant.as_ref()
    }

    pub(super) fn receive(&mut self, bytes: &[u8], now: Instant) {
        self.last_input = now;
        self.input.extend_from_slice(bytes);
    }

    /// Largest frame this peer may send.
    pub(super) fn frame_bytes_max(&self, limits: &Limits) -> usize {
        if self.guest.is_some() { limits.frame_bytes_max } else { HELLO_BYTES_MAX }
    }

    /// Bytes to read at a time. From a peer that sends long frames what is missing of the next one: a read that fills
    /// its buffer is followed by another at once, one that does not by a round trip through the rings (glommio waits
    /// for readiness first). Short frames come many at a time.
    pub(super) fn read_bytes(&self) -> usize {
        if self.guest.is_none() {
            return STRANGER_BYTES;
        }
        match self.last_frame.saturating_sub(self.input.len()) {
            short if short < LONG_FRAME => PEER_BYTES,
            long => long.min(PEER_BYTES),
        }
    }

    /// Drops what is served, once it is worth moving the rest.
    pub(super) fn compact(&mut self) {
        self.input.drain(..self.taken);
        self.taken = 0;
    }

    /// Notes whether the beginning of a frame waits for its end.
    pub(super) fn note_frame(&mut self, begun: bool, now: Instant) {
        self.frame_since = if begun { self.frame_since.or(Some(now)) } else { None };
    }

    pub(super) fn take_output(&mut self, out: &mut Vec<u8>, now: Instant) {
        std::mem::swap(&mut self.output, out);
        self.in_flight = out.len();
        if self.in_flight > 0 {
            self.output_since.get_or_insert(now);
        }
    }

    pub(super) fn wrote(&mut self, now: Instant) {
        self.in_flight = 0;
        self.output_since = if self.output.is_empty() { None } else { Some(now) };
    }

    pub(super) fn owed_bytes(&self) -> usize {
        self.output.len() + self.in_flight
    }

    /// Serves nothing more; ends once what is owed is out.
    pub(super) fn part(&mut self) {
        self.closing = true;
        self.parting = true;
        self.bells.output();
    }

    pub(super) fn owes_nothing(&self) -> bool {
        self.closing && self.pending == 0 && self.gathered == 0 && self.owed_bytes() == 0
    }

    /// Which limit of time the connection has overstayed.
    pub(super) fn overdue(&self, limits: &Limits, now: Instant) -> Option<&'static str> {
        let past = |since: Instant, limit: Duration| now.saturating_duration_since(since) > limit;
        if self.output_since.is_some_and(|since| past(since, limits.stalled)) {
            Some("it does not read its answers")
        } else if self.guest.is_none() && past(self.opened, limits.hello) {
            Some("no Hello came in time")
        } else if self.frame_since.is_some_and(|since| past(since, limits.frame)) {
            Some("a frame was begun and not finished in time")
        } else if self.pending == 0 && self.owed_bytes() == 0 && past(self.last_input, limits.idle) {
            Some("it was silent for too long")
        } else {
            None
        }
    }
}
