//! Sending, on a schedule or in a loop, and timing what comes back.
//!
//! Open loop: frame k of a connection is due at a time fixed before the run, and its latency counts from
//! then, so a stalled server cannot hide behind a generator that waits for it (coordinated omission).
//! Closed loop: a connection keeps a few frames under way; latency counts from the send.

mod hma;
mod wire;

use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use ingest::wire::Connection;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use self::hma::Hma;
use crate::generator::{self, Watch};
use crate::plan::{Arrivals, Run};
use crate::tally::{Tally, Window};
use crate::workload::{BankHashes, Batch, Mix, draw};

/// Batches drawn before the run; asked in turn.
const POOL_HASHES: usize = 65_536;
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// A send is late if it is so much behind its schedule.
const LATE: Duration = Duration::from_millis(1);

/// What was measured.
pub struct Outcome {
    /// What the server said of itself: `cores`, `hashes`, `rss_bytes`, `reactor`, `kernel`; null what it does not say.
    pub server: Value,
    /// Seconds to measure, as planned: what was due in them counts.
    pub planned: f64,
    /// Seconds until the last answer to that came. Rates are by these.
    pub seconds: f64,
    /// The generator's threads.
    pub threads: usize,
    /// What was counted in that time.
    pub tally: Tally,
}

/// A connection to what is measured.
enum Link {
    Wire(Connection),
    Hma(Hma),
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
    let (links, server) = open(plan)?;
    let ways = if plan.rate.is_some() && plan.hma.is_none() { 2 } else { 1 };
    let threads = links.len() * ways;
    let pool = Arc::new(make_pool(plan));
    let started = Instant::now();
    let window = Window { from: started + plan.warmup(), to: started + plan.warmup() + plan.duration() };
    let start = |(number, link): (usize, Link)| {
        let job = Job { plan: plan.clone(), pool: pool.clone(), number, started, window };
        thread::spawn(move || match (link, job.plan.rate) {
            (Link::Hma(hma), _) => job.ask_hma(&hma),
            (Link::Wire(connection), Some(rate)) => job.open_loop(connection, rate),
            (Link::Wire(connection), None) => job.closed_loop(connection),
        })
    };
    let started: Vec<_> = links.into_iter().enumerate().map(start).collect();
    let mut tally = Tally::new();
    for thread in started {
        tally.add(thread.join().map_err(|_| anyhow!("a connection's thread panicked"))?)?;
    }
    let (planned, seconds) = (plan.duration().as_secs_f64(), tally.passed(&window).as_secs_f64());
    Ok(Outcome { server, planned, seconds, threads, tally })
}

/// Opens the connections, and asks what is at their end.
fn open(plan: &Run) -> Result<(Vec<Link>, Value)> {
    if let Some(url) = &plan.hma {
        let hashes = Hma::open(url).hashes()?;
        let links = (0..plan.connections).map(|_| Link::Hma(Hma::open(url))).collect();
        let server = json!({
            "cores": null, "hashes": hashes, "rss_bytes": null, "reactor": null, "kernel": null, "api": "hma",
        });
        return Ok((links, server));
    }
    let address = plan.addr.to_socket_addrs().ok().and_then(|mut all| all.next());
    let address = address.with_context(|| format!("--addr {} is not HOST:PORT", plan.addr))?;
    let connections = (0..plan.connections).map(|_| wire::open(address)).collect::<Result<Vec<_>>>()?;
    let welcome = &connections[0].welcome;
    if plan.batch > welcome.hashes_max as usize {
        bail!("--batch {}: this server takes {} hashes in a frame", plan.batch, welcome.hashes_max);
    }
    let server = json!({
        "cores": welcome.shards,
        "hashes": welcome.hashes,
        "rss_bytes": welcome.rss_bytes,
        "reactor": welcome.reactor,
        "kernel": welcome.kernel,
    });
    Ok((connections.into_iter().map(Link::Wire).collect(), server))
}

fn make_pool(plan: &Run) -> Vec<Batch> {
    let mut random = ChaCha8Rng::seed_from_u64(plan.query_seed);
    let mut bank = BankHashes::new(plan.bank_seed);
    let mix = Mix { hit_ratio: plan.hit_ratio, bank_count: plan.bank_count };
    (0..POOL_HASHES.div_ceil(plan.batch)).map(|_| draw(plan.batch, mix, &mut bank, &mut random)).collect()
}

/// One connection's share of the run.
struct Job {
    plan: Run,
    pool: Arc<Vec<Batch>>,
    number: usize,
    started: Instant,
    window: Window,
}

impl Job {
    /// The batch that frame `at` asks. Connections begin at different places of the pool.
    fn batch(&self, at: u64) -> &Batch {
        let offset = self.number * self.pool.len() / self.plan.connections;
        &self.pool[(at as usize + offset) % self.pool.len()]
    }

    /// The CPU time since, as much of it as fell into the window.
    fn busy(&self, watch: &Watch) -> Duration {
        let (cpu, passed) = watch.read();
        let window = self.window.to.saturating_duration_since(self.window.from);
        cpu.mul_f64((window.as_secs_f64() / passed.as_secs_f64().max(1e-9)).min(1.0))
    }

    /// When each frame is due, fixed before the first is sent.
    fn schedule(&self, rate: f64) -> Vec<Instant> {
        let interval = Duration::from_secs_f64(self.plan.batch as f64 * self.plan.connections as f64 / rate);
        let first = self.started + interval.mul_f64(self.number as f64 / self.plan.connections as f64);
        let span = self.window.to.saturating_duration_since(first);
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
}
