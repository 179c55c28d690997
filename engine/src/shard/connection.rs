//! What a shard keeps of one connection: bytes in, bytes out, and since when it waits for what.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use index::Tenant;
use ingest::wire::frame::{Split, split};
use reporter::access::Right;

use super::drive::Bells;
use super::gate::Guest;
use super::schedule::Share;
use super::work::Work;
use crate::config::Limits;

/// Bytes read at a time before Hello: 64 KiB of strangers' memory must go a long way.
const STRANGER_BYTES: usize = 8 << 10;
/// Bytes read at a time after it, at most: hundreds of short frames.
pub(super) const PEER_BYTES: usize = 128 << 10;
/// Room that a silent connection keeps for the next frame and its answer, each.
const KEPT_BYTES: usize = 4 << 10;
/// Silence after which it gives back what is beyond that.
const SILENT: Duration = Duration::from_secs(1);
/// Bytes that came within this time of each other count as having come together.
const TOGETHER: Duration = Duration::from_millis(2);
/// Times of arrival that are remembered for each connection.
const ARRIVALS_MAX: usize = 64;
/// A frame that is read alone: copying and asking the kernel are little beside its search.
const LONG_FRAME: usize = 1 << 10;
/// Largest frame before Hello: a Hello with a long token.
const HELLO_BYTES_MAX: usize = 4 << 10;

/// Bytes of room that a connection's output keeps: a large answer is the exception.
const OUTPUT_KEPT: usize = 64 << 10;

/// A connection of one shard. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u64);

pub(super) struct Connection {
    pub(super) bells: Bells,
    /// Where it comes from.
    pub(super) peer: IpAddr,
    /// Its claim on the shard's time.
    pub(super) share: Share,
    /// Its reader waits until there is room for more.
    pub(super) paused: bool,
    /// Its frames wait until its peer takes answers.
    stalled: bool,
    /// Bytes received; `taken` of them are served.
    pub(super) input: Vec<u8>,
    pub(super) taken: usize,
    /// How many of the bytes that are not served came when, oldest first.
    arrivals: VecDeque<(usize, Instant)>,
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
    /// A frame that is searched in slices.
    pub(super) work: Option<Box<Work>>,
    /// Lookups that were set aside and take longer than a slice.
    pub(super) apart: VecDeque<Box<Work>>,
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
    pub(super) fn new(bells: Bells, peer: IpAddr, now: Instant) -> Self {
        Self {
            bells,
            peer,
            share: Share::new(now),
            paused: false,
            stalled: false,
            input: Vec::new(),
            taken: 0,
            arrivals: VecDeque::new(),
            output: Vec::new(),
            in_flight: 0,
            pending: 0,
            withheld: Vec::new(),
            gathered: 0,
            work: None,
            apart: VecDeque::new(),
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
        if self.taken > 0 && self.taken >= self.input.len() / 2 {
            self.compact();
        }
        self.input.extend_from_slice(bytes);
        let full = self.arrivals.len() >= ARRIVALS_MAX;
        match self.arrivals.back_mut() {
            Some((count, since)) if full || now.saturating_duration_since(*since) < TOGETHER => {
                *count += bytes.len();
            }
            _ => self.arrivals.push_back((bytes.len(), now)),
        }
    }

    /// When the last of the next so many bytes came, within [`TOGETHER`].
    pub(super) fn came(&self, bytes: usize) -> Option<Instant> {
        let mut left = bytes;
        let last = self.arrivals.iter().find(|(count, _)| {
            let is_last = *count >= left;
            left = left.saturating_sub(*count);
            is_last
        });
        last.map(|(_, since)| *since)
    }

    /// Marks so many bytes as served.
    pub(super) fn take(&mut self, bytes: usize) {
        self.taken += bytes;
        let mut left = bytes;
        while let Some((count, _)) = self.arrivals.front_mut() {
            if *count > left {
                *count -= left;
                return;
            }
            left -= *count;
            self.arrivals.pop_front();
        }
    }

    /// Bytes received that are not served.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.input.len() - self.taken
    }

    /// Whether a whole frame waits, or one that is too large to be taken, or a lookup that is searched in slices.
    pub(super) fn has_frame(&self, limits: &Limits) -> bool {
        !self.apart.is_empty()
            || !matches!(split(&self.input[self.taken..], self.frame_bytes_max(limits)), Split::Incomplete)
    }

    /// Whether its next step may take a whole slice: one is under way, or more waits than a few short frames.
    pub(super) fn may_take_long(&self) -> bool {
        self.work.is_some() || !self.apart.is_empty() || self.waiting_bytes() > LONG_FRAME
    }

    /// Memory that it holds, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        self.input.capacity() + self.output.capacity() + self.in_flight
    }

    /// Gives back the memory of long frames and answers once it has been silent for a while.
    pub(super) fn shrink(&mut self, now: Instant) {
        if now.saturating_duration_since(self.last_input) > SILENT && self.owed_bytes() == 0 {
            if self.taken > 0 {
                self.compact();
            }
            self.input.shrink_to(KEPT_BYTES);
            self.output.shrink_to(KEPT_BYTES);
        }
    }

    /// Whether its peer lets answers pile up, or sends more than is served, so that nothing more is read from it. On a
    /// `crowded` shard one whole frame is enough.
    pub(super) fn is_backed_up(&self, limits: &Limits, crowded: bool) -> bool {
        let enough = if crowded { 0 } else { self.frame_bytes_max(limits) + PEER_BYTES };
        self.parting
            || self.owed_bytes() > limits.output_bytes_max
            || !self.share.is_away() && self.waiting_bytes() > enough
    }

    /// Whether its frames must wait because its answers pile up.
    pub(super) fn stalls(&mut self, limits: &Limits) -> bool {
        self.stalled = !self.parting && self.owed_bytes() > limits.output_bytes_max;
        self.stalled
    }

    /// Whether its frames go on being served, now that its peer took answers. They count as having come now: they waited
    /// for their own peer, not for others.
    pub(super) fn goes_on(&mut self, limits: &Limits, now: Instant) -> bool {
        let goes_on = self.stalled && self.owed_bytes() <= limits.output_bytes_max;
        if goes_on {
            self.stalled = false;
            self.arrivals.clear();
            self.arrivals.push_back((self.waiting_bytes(), now));
        }
        goes_on
    }

    /// Wakes its reader if that waits and may go on.
    pub(super) fn tell_room(&mut self, limits: &Limits, crowded: bool) {
        if self.paused && !self.is_backed_up(limits, crowded) {
            self.paused = false;
            self.bells.room();
        }
    }

    /// Whether there are answers to hand out, or the connection may be done.
    pub(super) fn has_output(&self) -> bool {
        self.owed_bytes() > 0 || self.closing
    }

    /// For how long it has done nothing and waited for nothing; before Hello, for how long it has been open.
    pub(super) fn silent_for(&self, now: Instant) -> Duration {
        if self.guest.is_none() {
            return now.saturating_duration_since(self.opened);
        }
        let works = self.gathered > 0 || !self.apart.is_empty();
        let busy = self.pending > 0 || works || self.owed_bytes() > 0 || self.waiting_bytes() > 0;
        if busy { Duration::ZERO } else { now.saturating_duration_since(self.last_input) }
    }

    /// For how long it has been at work, until it fell silent.
    pub(super) fn worked_for(&self) -> Duration {
        self.last_input.saturating_duration_since(self.opened)
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
        match self.last_frame.saturating_sub(self.waiting_bytes()) {
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
        self.output.shrink_to(OUTPUT_KEPT);
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
        self.work = None;
        self.apart.clear();
        self.bells.output();
    }

    pub(super) fn owes_nothing(&self) -> bool {
        let searches = self.gathered > 0 || self.work.is_some() || !self.apart.is_empty();
        let works = self.pending > 0 || searches;
        let waits = !self.share.is_away() || self.stalled;
        self.closing && !works && !waits && self.owed_bytes() == 0
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
        } else if self.pending == 0
            && self.work.is_none()
            && self.apart.is_empty()
            && self.owed_bytes() == 0
            && past(self.last_input, limits.idle)
        {
            Some("it was silent for too long")
        } else {
            None
        }
    }
}
