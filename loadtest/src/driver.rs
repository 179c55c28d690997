//! Sending, on a schedule or in a loop, and timing what comes back.
//!
//! Open loop: frame k of a connection is due at a time fixed before the run, and its latency counts from
//! then, so a stalled server cannot hide behind a generator that waits for it (coordinated omission).
//! Closed loop: a connection keeps a few frames under way; latency counts from the send.

use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use hdrhistogram::Histogram;
use index::RequestId;
use ingest::wire::{Answer, Connection, Query, Receiver, Reply, Request, Sender, Welcome};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::generator::{self, Watch};
use crate::plan::{Arrivals, Mode, Run, token};
use crate::truth::{Verdicts, check};
use crate::workload::{BankHashes, Batch, Mix, draw};

/// Batches drawn before the run; asked in turn.
const POOL_HASHES: usize = 65_536;
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// A send is late if it is so much behind its schedule.
const LATE: Duration = Duration::from_millis(1);

/// What was measured.
pub struct Outcome {
    /// What the server said of itself.
    pub welcome: Welcome,
    /// Time measured.
    pub seconds: f64,
    /// Hashes sent in that time, and answered.
    pub sent: u64,
    /// Hashes answered.
    pub answered: u64,
    /// Frames answered.
    pub frames: u64,
    /// Frames answered by an error, or not at all.
    pub errors: u64,
    /// Frames answered Busy (and sent again in a closed loop).
    pub busy: u64,
    /// Frames sent later than scheduled.
    pub late: u64,
    /// CPU seconds of the generator's threads while it measured.
    pub busy_seconds: f64,
    /// The generator's threads.
    pub threads: usize,
    /// The first error's words.
    pub first_error: Option<String>,
    /// What the answers were worth.
    pub verdicts: Verdicts,
    /// Nanoseconds from the intended send to the answer.
    pub latency: Histogram<u64>,
}

/// Runs the plan.
pub fn run(plan: &Run) -> Result<Outcome> {
    if plan.connections == 0 || plan.batch == 0 || plan.depth == 0 {
        bail!("--connections, --batch and --depth are 1 or more");
    }
    if !(0.0..=1.0).contains(&plan.hit_ratio) || plan.rate.is_some_and(|rate| rate.is_nan() || rate <= 0.0) {
        bail!("--hit-ratio goes from 0 to 1, --rate is above 0");
    }
    if let Some(cpu) = plan.pin {
        generator::pin(cpu)?;
    }
    let address = plan.addr.to_socket_addrs().ok().and_then(|mut all| all.next());
    let address = address.with_context(|| format!("--addr {} is not HOST:PORT", plan.addr))?;
    let pool = Arc::new(make_pool(plan));
    let connections = (0..plan.connections).map(|_| open(address)).collect::<Result<Vec<_>>>()?;
    let welcome = connections[0].welcome.clone();
    if plan.batch > welcome.hashes_max as usize {
        bail!("--batch {}: this server takes {} hashes in a frame", plan.batch, welcome.hashes_max);
    }
    let started = Instant::now();
    let window = Window { from: started + plan.warmup(), to: started + plan.warmup() + plan.duration() };
    let threads: Vec<_> = connections
        .into_iter()
        .enumerate()
        .map(|(number, connection)| {
            let job = Job { plan: plan.clone(), pool: pool.clone(), number, started, window };
            thread::spawn(move || match job.plan.rate {
                Some(rate) => job.open_loop(connection, rate),
                None => job.closed_loop(connection),
            })
        })
        .collect();
    let mut total = Tally::new()?;
    for thread in threads {
        let tally = thread.join().map_err(|_| anyhow!("a connection's thread panicked"))?;
        total.add(tally)?;
    }
    Ok(Outcome {
        welcome,
        seconds: plan.duration().as_secs_f64(),
        sent: total.sent,
        answered: total.answered,
        frames: total.frames,
        errors: total.errors,
        busy: total.busy,
        late: total.late,
        busy_seconds: total.worked.as_secs_f64(),
        threads: plan.connections * if plan.rate.is_some() { 2 } else { 1 },
        first_error: total.first_error,
        verdicts: total.verdicts,
        latency: total.latency,
    })
}

fn open(address: SocketAddr) -> Result<Connection> {
    Connection::open(address, token().as_deref(), ANSWER_MAX)
        .with_context(|| format!("no Hashward at {address}: is `hashward serve` running there (--addr)?"))
}

fn make_pool(plan: &Run) -> Vec<Batch> {
    let mut random = ChaCha8Rng::seed_from_u64(plan.query_seed);
    let mut bank = BankHashes::new(plan.bank_seed);
    let mix = Mix { hit_ratio: plan.hit_ratio, bank_count: plan.bank_count };
    (0..POOL_HASHES.div_ceil(plan.batch)).map(|_| draw(plan.batch, mix, &mut bank, &mut random)).collect()
}

/// The time that counts.
#[derive(Clone, Copy)]
struct Window {
    from: Instant,
    to: Instant,
}

/// One connection's share of the run.
struct Job {
    plan: Run,
    pool: Arc<Vec<Batch>>,
    number: usize,
    started: Instant,
    window: Window,
}

struct Tally {
    sent: u64,
    answered: u64,
    frames: u64,
    errors: u64,
    busy: u64,
    late: u64,
    /// CPU time within the window.
    worked: Duration,
    first_error: Option<String>,
    verdicts: Verdicts,
    latency: Histogram<u64>,
}

impl Tally {
    fn new() -> Result<Self> {
        Ok(Self {
            sent: 0,
            answered: 0,
            frames: 0,
            errors: 0,
            busy: 0,
            late: 0,
            worked: Duration::ZERO,
            first_error: None,
            verdicts: Verdicts::default(),
            latency: Histogram::new_with_bounds(1, 60_000_000_000, 3)?,
        })
    }

    fn add(&mut self, other: Tally) -> Result<()> {
        self.sent += other.sent;
        self.answered += other.answered;
        self.frames += other.frames;
        self.errors += other.errors;
        self.busy += other.busy;
        self.late += other.late;
        self.worked += other.worked;
        self.first_error = self.first_error.take().or(other.first_error);
        self.verdicts.add(other.verdicts);
        self.latency.add(other.latency)?;
        Ok(())
    }

    fn error(&mut self, words: String) {
        self.errors += 1;
        self.first_error.get_or_insert(words);
    }

    fn answer(&mut self, batch: &Batch, answer: &Answer, due: Instant, now: Instant) {
        self.answered += batch.hashes.len() as u64;
        self.frames += 1;
        self.verdicts.add(check(batch, answer));
        self.latency.saturating_record(now.saturating_duration_since(due).as_nanos() as u64);
    }
}

impl Job {
    /// The batch that frame `at` asks. Connections begin at different places of the pool.
    fn batch(&self, at: u64) -> &Batch {
        let offset = self.number * self.pool.len() / self.plan.connections;
        &self.pool[(at as usize + offset) % self.pool.len()]
    }

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

    fn closed_loop(&self, mut connection: Connection) -> Tally {
        let mut tally = Tally::new().expect("the bounds are right");
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
            let (now, due) = (Instant::now(), sent_at.get(&at).copied().unwrap_or(self.started));
            match reply {
                Reply::Lookup(answer) | Reply::Submit(answer, _) => {
                    if due >= self.window.from {
                        tally.answer(self.batch(at), &answer, due, now);
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

    /// The CPU time since, as much of it as fell into the window.
    fn busy(&self, watch: &Watch) -> Duration {
        let (cpu, passed) = watch.read();
        let window = self.window.to.saturating_duration_since(self.window.from);
        cpu.mul_f64((window.as_secs_f64() / passed.as_secs_f64().max(1e-9)).min(1.0))
    }

    fn open_loop(&self, connection: Connection, rate: f64) -> Tally {
        let interval = Duration::from_secs_f64(self.plan.batch as f64 * self.plan.connections as f64 / rate);
        let first = self.started + interval.mul_f64(self.number as f64 / self.plan.connections as f64);
        let span = self.window.to.saturating_duration_since(first);
        let schedule = self.schedule(first, interval, span);
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

    /// When each frame is due, fixed before the first is sent.
    fn schedule(&self, first: Instant, interval: Duration, span: Duration) -> Vec<Instant> {
        let mut random = ChaCha8Rng::seed_from_u64(self.plan.query_seed ^ self.number as u64);
        let mut at = Duration::ZERO;
        let mut schedule = Vec::new();
        while at < span {
            schedule.push(first + at);
            at += match self.plan.arrivals {
                Arrivals::Constant => interval,
                Arrivals::Poisson => interval.mul_f64(-(1.0 - random.random::<f64>()).ln()),
            };
        }
        schedule
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
        let mut tally = Tally::new().expect("the bounds are right");
        let mut watch = None;
        for received in 0..frames {
            if watch.is_none() && Instant::now() >= self.window.from {
                watch = Some(Watch::start());
            }
            match receiver.receive() {
                Ok((at, Reply::Lookup(answer) | Reply::Submit(answer, _))) => {
                    if due(at) >= self.window.from {
                        tally.answer(self.batch(at), &answer, due(at), Instant::now());
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
