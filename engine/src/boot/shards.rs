//! Starting and draining the shards.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use arc_swap::ArcSwap;
use async_channel::{Sender, bounded, unbounded};
use index::bank::Banks;
use reporter::router::policy::Catalog;

use crate::admin::Admin;
use crate::config::{Config, Reactor};
use crate::ledger::Ledger;
use crate::recent::Recent;
use crate::shard::reactor::Start;
use crate::shard::{Shard, ShardParts, epoll, glommio};

/// The running shards.
pub struct Shards {
    /// The address they share.
    pub listen: SocketAddr,
    threads: Vec<Thread>,
    stop: Sender<()>,
}

/// A shard's thread.
enum Thread {
    Glommio(::glommio::ExecutorJoinHandle<()>),
    Epoll(JoinHandle<io::Result<()>>),
}

impl Thread {
    fn join(self) -> Result<()> {
        match self {
            Thread::Glommio(thread) => thread.join().map_err(|error| anyhow!("{error}")),
            Thread::Epoll(thread) => Ok(thread.join().map_err(|_| anyhow!("it panicked"))??),
        }
    }
}

impl Shards {
    /// Closes the port, settles what was taken, and ends the threads.
    pub fn drain(self) {
        self.stop.close();
        for thread in self.threads {
            if let Err(error) = thread.join() {
                tracing::error!(%error, "a shard did not end cleanly");
            }
        }
    }
}

/// Starts one shard per configured core, all on one port.
pub fn start(
    admin: &Admin,
    banks: &Arc<Banks>,
    catalog: &Arc<ArcSwap<Catalog>>,
    ledger: Ledger,
    recent: Recent,
) -> Result<Shards> {
    let config = &admin.config;
    let reactor = choose_reactor(config.reactor)?;
    admin.metrics.set_reactor(reactor);
    let cpus = place(config);
    let (stop, stopped) = bounded(1);
    let mut listen = config.listen;
    let mut threads = Vec::new();
    for number in 0..config.cores {
        let (bound, binding) = sync_channel(1);
        // As large as all windows of all connections together; the windows are its bound.
        let (inbox_sender, inbox) = unbounded();
        let parts = ShardParts {
            number: number as u16,
            shards: config.cores as u16,
            banks: banks.clone(),
            catalog: catalog.clone(),
            ledger: ledger.clone(),
            recent: recent.clone(),
            inbox: inbox_sender,
            limits: config.limits,
            door: admin.door.clone(),
            counts: admin.metrics.shards[number].clone(),
            kernel: admin.metrics.kernel(),
            reactor: admin.metrics.reactor(),
        };
        let start = Start { listen, cpu: cpus.get(number).copied(), bound, stop: stopped.clone(), inbox };
        let (name, make) = (format!("shard-{number}"), move || Shard::new(parts, Instant::now()));
        let thread = match reactor {
            GLOMMIO => glommio::spawn(&name, start, make).map(Thread::Glommio),
            _ => epoll::spawn(&name, start, make).map(Thread::Epoll),
        };
        threads.push(thread.with_context(|| format!("shard {number} cannot start"))?);
        // The first shard may pick the port; the others join it there.
        listen = binding
            .recv()
            .with_context(|| format!("shard {number} ended before it listened"))?
            .with_context(|| {
                format!("cannot listen on --listen {listen}: stop what uses the port, or give another")
            })?;
    }
    Ok(Shards { listen, threads, stop })
}

const GLOMMIO: &str = "glommio";
const EPOLL: &str = "epoll";

/// The reactor to use, by name. `auto` is epoll: glommio 0.9 can miss a wake-up (`shard/glommio.rs`), and is no faster
/// (README, 'Measured').
fn choose_reactor(wanted: Reactor) -> Result<&'static str> {
    if wanted != Reactor::Glommio {
        return Ok(EPOLL);
    }
    match glommio::refused() {
        None => Ok(GLOMMIO),
        Some(reason) => bail!("--reactor glommio: {reason}"),
    }
}

/// The CPUs to pin shards to: the last of those this process may use, so that the first is left to the
/// control plane. None when there are more shards than CPUs, or where a quota gives time on any of them (and to others of the
/// same machine, who might be pinned to the same): then the kernel places them.
fn place(config: &Config) -> Vec<usize> {
    let (cores, cpus) = (config.cores, allowed());
    let pinned = cores <= cpus.len() && config.allowance.cpus.is_none();
    if pinned { cpus[cpus.len() - cores..].to_vec() } else { Vec::new() }
}

/// The CPUs that shards leave to others; none where they need all.
pub fn others(cores: usize) -> Vec<usize> {
    let mut cpus = allowed();
    cpus.truncate(cpus.len().saturating_sub(cores));
    cpus
}

fn allowed() -> Vec<usize> {
    let Ok(allowed) = rustix::thread::sched_getaffinity(None) else { return Vec::new() };
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect()
}
