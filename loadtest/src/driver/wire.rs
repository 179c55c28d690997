//! The binary port: a closed loop that keeps frames under way, an open loop with a thread each way.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use index::RequestId;
use ingest::wire::{Answer, Connection, Query, Receiver, Reply, Request, Sender};

use super::{ANSWER_MAX, Job, LATE};
use crate::generator::{self, Watch};
use crate::plan::{Mode, token};
use crate::tally::Tally;
use crate::truth::check;

/// Opens a connection.
pub fn open(address: SocketAddr) -> Result<Connection> {
    Connection::open(address, token().as_deref(), ANSWER_MAX)
        .with_context(|| format!("no Hashward at {address}: is `hashward serve` running there (--addr)?"))
}

impl Job {
    fn encode(&self, at: u64, out: &mut Vec<u8>) {
        let query = Query::pdq(self.batch(at).hashes.clone());
        let request = match self.plan.mode {
            Mode::Lookup => Request::Lookup(query),
            Mode::Submit => {
                Request::Submit { request: RequestId::fresh(), retry: false, query, contexts: Vec::new() }
            }
        };
        request.encode(at, out);
    }

    /// Compares an answer with the truth, and counts it.
    fn judge(&self, tally: &mut Tally, at: u64, answer: &Answer, due: Instant) {
        let batch = self.batch(at);
        let hits =
            answer.hits.iter().map(|hit| (hit.hash, hit.matches.iter().map(|found| found.distance.bits())));
        tally.answer(batch, check(batch, hits), due, &self.window);
    }

    /// Keeps so many frames under way.
    pub fn closed_loop(&self, mut connection: Connection) -> Tally {
        let mut tally = Tally::new();
        let depth = self.plan.depth as u64;
        let mut sent_at = HashMap::new(); // answers to Submits do not come in order
        let (mut next, mut under_way, mut frame) = (0u64, 0u64, Vec::new());
        let mut watch = None;
        loop {
            if watch.is_none() && Instant::now() >= self.window.from {
                watch = Some(Watch::start());
            }
            while under_way < depth && Instant::now() < self.window.to {
                frame.clear();
                self.encode(next, &mut frame);
                let now = Instant::now();
                sent_at.insert(next, now);
                if let Err(error) = connection.send(&frame) {
                    tally.error(error.to_string());
                    return tally;
                }
                if now >= self.window.from {
                    tally.sent += self.plan.batch as u64;
                }
                next += 1;
                under_way += 1;
            }
            if under_way == 0 {
                tally.worked = watch.map_or(Duration::ZERO, |watch| self.busy(&watch));
                return tally;
            }
            let (at, reply) = match connection.receive() {
                Ok(answer) => answer,
                Err(error) => {
                    tally.error(error.to_string());
                    tally.errors += under_way - 1; // the others under way are unanswered as well
                    return tally;
                }
            };
            let due = sent_at.get(&at).copied().unwrap_or(self.started);
            match reply {
                Reply::Lookup(answer) | Reply::Submit(answer, _) => {
                    if due >= self.window.from {
                        self.judge(&mut tally, at, &answer, due);
                    }
                }
                Reply::Busy { retry_after } => {
                    tally.busy += 1;
                    thread::sleep(retry_after);
                    frame.clear();
                    self.encode(at, &mut frame);
                    if let Err(error) = connection.send(&frame) {
                        tally.error(error.to_string());
                        return tally;
                    }
                    continue;
                }
                Reply::Error(refusal) => tally.error(refusal.to_string()),
                Reply::Welcome(_) => tally.error("an unexpected Welcome".into()),
            }
            sent_at.remove(&at);
            under_way -= 1;
        }
    }

    /// Sends on the schedule, whatever comes back.
    pub fn open_loop(&self, connection: Connection, rate: f64) -> Tally {
        let schedule = self.schedule(rate);
        let (frames, due) = (schedule.len() as u64, |at: u64| schedule[at as usize]);
        let (sender, receiver) = connection.split();
        thread::scope(|scope| {
            let sending = scope.spawn(|| self.send_on_schedule(sender, frames, &due));
            let mut tally = self.receive_all(receiver, frames, &due);
            match sending.join() {
                Ok((sent, late, worked, error)) => {
                    tally.sent = sent;
                    tally.late = late;
                    tally.worked += worked;
                    if let Some(error) = error {
                        tally.error(error);
                    }
                }
                Err(_) => tally.error("the sending thread panicked".into()),
            }
            tally
        })
    }

    fn send_on_schedule(
        &self,
        mut sender: Sender,
        frames: u64,
        due: &impl Fn(u64) -> Instant,
    ) -> (u64, u64, Duration, Option<String>) {
        let (mut sent, mut late, mut frame) = (0, 0, Vec::new());
        let mut watch = None;
        generator::wake_on_time();
        for at in 0..frames {
            frame.clear();
            self.encode(at, &mut frame);
            let wait = due(at).saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                thread::sleep(wait);
            }
            if due(at) >= self.window.from {
                watch.get_or_insert_with(Watch::start);
                late += u64::from(due(at).elapsed() > LATE);
                sent += self.plan.batch as u64;
            }
            if let Err(error) = sender.send(&frame) {
                return (sent, late, Duration::ZERO, Some(error.to_string()));
            }
        }
        let busy = watch.map_or(Duration::ZERO, |watch| self.busy(&watch));
        (sent, late, busy, sender.finish().err().map(|error| error.to_string()))
    }

    fn receive_all(&self, mut receiver: Receiver, frames: u64, due: &impl Fn(u64) -> Instant) -> Tally {
        let mut tally = Tally::new();
        let mut watch = None;
        for received in 0..frames {
            if watch.is_none() && Instant::now() >= self.window.from {
                watch = Some(Watch::start());
            }
            match receiver.receive() {
                Ok((at, Reply::Lookup(answer) | Reply::Submit(answer, _))) => {
                    if due(at) >= self.window.from {
                        self.judge(&mut tally, at, &answer, due(at));
                    }
                }
                Ok((_, Reply::Busy { .. })) => {
                    tally.busy += 1;
                    tally.error("the server was busy: the rate is above what it admits".into());
                }
                Ok((_, Reply::Error(refusal))) => tally.error(refusal.to_string()),
                Ok((_, Reply::Welcome(_))) => tally.error("an unexpected Welcome".into()),
                Err(error) => {
                    tally.error(error.to_string());
                    tally.errors += frames - received - 1;
                    return tally;
                }
            }
        }
        tally.worked = watch.map_or(Duration::ZERO, |watch| self.busy(&watch));
        tally
    }
}
