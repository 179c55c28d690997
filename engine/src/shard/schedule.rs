//! Decides which connection of a shard is served next.
//!
//! Deficit round robin over connections that have whole frames waiting, paid in time on the core. A connection that had
//! nothing waiting goes before those that keep the shard busy (the flow queues of RFC 8290), so a client that asks little
//! waits for one turn and not for everybody's backlog. A connection that used more than its turn pays the rest back: by
//! later turns, or by staying away for as long as it took.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::ConnectionId;
use super::connection::Connection;

/// Time on the core that a connection gets in one round.
const QUANTUM: Duration = Duration::from_micros(100);

/// A connection's claim on its shard's time.
#[derive(Debug)]
pub(super) struct Share {
    place: Place,
    /// Nanoseconds it may still use in this round. Negative: it owes them.
    credit: i64,
    /// Since when it has had nothing waiting.
    away_since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In neither queue.
    Away,
    Fresh,
    Busy,
}

impl Share {
    pub(super) fn new(now: Instant) -> Self {
        Self { place: Place::Away, credit: QUANTUM.as_nanos() as i64, away_since: now }
    }

    /// Whether the connection waits for no turn.
    pub(super) fn is_away(&self) -> bool {
        self.place == Place::Away
    }

    /// Charges time that the connection's frames took.
    pub(super) fn spend(&mut self, time: Duration) {
        self.credit = self.credit.saturating_sub_unsigned(time.as_nanos() as u64);
    }
}

/// The connections that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    fresh: VecDeque<ConnectionId>,
    busy: VecDeque<ConnectionId>,
}

impl Schedule {
    /// Queues a connection that has something to serve. Does nothing if it is queued already.
    pub(super) fn enqueue(&mut self, id: ConnectionId, share: &mut Share, now: Instant) {
        if share.place != Place::Away {
            return;
        }
        let away = now.saturating_duration_since(share.away_since).as_nanos() as u64;
        share.credit = share.credit.saturating_add_unsigned(away).min(QUANTUM.as_nanos() as i64);
        if share.credit > 0 {
            share.place = Place::Fresh;
            self.fresh.push_back(id);
        } else {
            share.place = Place::Busy;
            self.busy.push_back(id);
        }
    }

    /// Returns the connection to serve. It stays at the head of its queue until its credit is used up or
    /// [`Self::emptied`] takes it out.
    pub(super) fn next(
        &mut self,
        connections: &mut HashMap<ConnectionId, Connection>,
    ) -> Option<ConnectionId> {
        loop {
            let queue = if self.fresh.is_empty() { &mut self.busy } else { &mut self.fresh };
            let id = *queue.front()?;
            let Some(connection) = connections.get_mut(&id) else {
                queue.pop_front();
                continue;
            };
            let share = &mut connection.share;
            if share.credit > 0 {
                return Some(id);
            }
            share.credit += QUANTUM.as_nanos() as i64;
            share.place = Place::Busy;
            queue.pop_front();
            self.busy.push_back(id);
        }
    }

    /// Whether the connection that [`Self::next`] returned last is one that had nothing waiting before.
    pub(super) fn is_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Takes out the connection that [`Self::next`] returned last, because it has no whole frame left. One that was fresh
    /// goes through the other queue once, so that sending single frames does not keep it ahead of everybody.
    pub(super) fn emptied(&mut self, id: ConnectionId, share: &mut Share, now: Instant) {
        let queue = if share.place == Place::Fresh { &mut self.fresh } else { &mut self.busy };
        debug_assert_eq!(queue.front(), Some(&id));
        queue.pop_front();
        if share.place == Place::Fresh && !self.busy.is_empty() {
            share.place = Place::Busy;
            self.busy.push_back(id);
        } else {
            share.place = Place::Away;
            share.away_since = now;
        }
    }

    /// Whether no connection waits.
    pub(super) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.busy.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::super::drive::Bells;
    use super::*;

    /// Serves frames by the schedule; each connection has a number of frames of a cost waiting.
    struct Model {
        schedule: Schedule,
        connections: HashMap<ConnectionId, Connection>,
        waiting: HashMap<ConnectionId, (u32, Duration)>,
        now: Instant,
    }

    impl Model {
        fn new() -> Self {
            let schedule = Schedule::default();
            Self { schedule, connections: HashMap::new(), waiting: HashMap::new(), now: Instant::now() }
        }

        fn send(&mut self, id: u64, frames: u32, cost: Duration) {
            let (id, now) = (ConnectionId(id), self.now);
            let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
            let connection =
                self.connections.entry(id).or_insert_with(|| Connection::new(Bells::new().0, peer, now));
            self.waiting.insert(id, (self.waiting.get(&id).map_or(0, |(left, _)| *left) + frames, cost));
            self.schedule.enqueue(id, &mut connection.share, now);
        }

        /// Serves one frame; returns whose, or none if nothing waits.
        fn serve(&mut self) -> Option<u64> {
            loop {
                let id = self.schedule.next(&mut self.connections)?;
                let share = &mut self.connections.get_mut(&id).unwrap().share;
                let (left, cost) = self.waiting.get_mut(&id).unwrap();
                let served = *left > 0;
                if served {
                    *left -= 1;
                    self.now += *cost;
                    share.spend(*cost);
                }
                if *left == 0 {
                    self.schedule.emptied(id, share, self.now);
                }
                if served {
                    return Some(id.0);
                }
            }
        }
    }

    #[test]
    fn a_client_that_asks_little_goes_before_a_backlog() {
        let mut model = Model::new();
        for greedy in 1..=100 {
            model.send(greedy, 1_000, Duration::from_micros(450));
        }
        for _ in 0..300 {
            model.serve();
        }
        model.send(1_000, 1, Duration::from_micros(10));
        assert_eq!(model.serve(), Some(1_000));
        // Having been fresh, it is queued behind the busy ones for one round, and is fresh again after being away.
        for _ in 0..300 {
            model.serve();
        }
        model.send(1_000, 1, Duration::from_micros(10));
        assert_eq!(model.serve(), Some(1_000));
    }

    #[test]
    fn busy_connections_share_time_and_not_frames() {
        let mut model = Model::new();
        model.send(1, 100_000, Duration::from_micros(10));
        model.send(2, 100_000, Duration::from_millis(30));
        let mut time = HashMap::from([(1, Duration::ZERO), (2, Duration::ZERO)]);
        for _ in 0..50_000 {
            let id = model.serve().unwrap();
            *time.get_mut(&id).unwrap() += model.waiting[&ConnectionId(id)].1;
        }
        let ratio = time[&1].as_secs_f64() / time[&2].as_secs_f64();
        assert!((0.8..1.25).contains(&ratio), "{time:?}");
    }

    #[test]
    fn a_connection_that_is_away_for_less_than_it_used_is_not_fresh() {
        let mut model = Model::new();
        model.send(1, 1, Duration::from_millis(30));
        assert_eq!((model.serve(), model.serve()), (Some(1), None));
        model.send(2, 10, Duration::from_micros(60));
        model.send(1, 1, Duration::from_millis(30));
        let first: Vec<_> = std::iter::from_fn(|| model.serve()).take(10).collect();
        assert!(!first.contains(&1), "{first:?}");
    }

    #[test]
    fn everything_that_waits_is_served() {
        let mut model = Model::new();
        for id in 0..50 {
            model.send(id, id as u32 % 7 + 1, Duration::from_micros(id * 37 % 500));
        }
        let expected: u32 = (0..50).map(|id| id % 7 + 1).sum();
        let served = std::iter::from_fn(|| model.serve()).count();
        assert_eq!(served as u32, expected);
        assert!(model.schedule.is_empty());
    }
}
