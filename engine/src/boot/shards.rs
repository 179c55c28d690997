//! Starting and draining the shards.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use anyhow::{Context, Result, bail};
use async_channel::{Sender, bounded, unbounded};
use index::bank::Banks;
use reporter::RuleTable;

use crate::admin::Admin;
use crate::config::Reactor;
use crate::ledger::Ledger;
use crate::shard::glommio::{MEMLOCK_MIN, Start, spawn};
use crate::shard::{Shard, ShardParts};

/// The running shards.
pub struct Shards {
    /// The address they share.
    pub listen: SocketAddr,
    threads: Vec<glommio::ExecutorJoinHandle<()>>,
    stop: Sender<()>,
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
pub fn start(admin: &Admin, banks: &Arc<Banks>, rules: &Arc<RuleTable>, ledger: Ledger) -> Result<Shards> {
    let config = &admin.config;
    choose_reactor(config.reactor)?;
    admin.metrics.set_reactor("glommio");
    let cpus = place(config.cores);
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
            rules: rules.clone(),
            ledger: ledger.clone(),
            inbox: inbox_sender,
            limits: config.limits,
            token: config.token.clone(),
            counts: admin.metrics.shards[number].clone(),
            kernel: admin.metrics.kernel(),
            reactor: admin.metrics.reactor(),
        };
        let start = Start { listen, cpu: cpus.get(number).copied(), bound, stop: stopped.clone(), inbox };
        threads.push(
            spawn(&format!("shard-{number}"), start, move || Shard::new(parts))
                .with_context(|| format!("shard {number} cannot start"))?,
        );
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

fn choose_reactor(wanted: Reactor) -> Result<()> {
    if wanted == Reactor::Epoll {
        bail!("--reactor epoll is not in this version: use auto or glommio");
    }
    let memlock = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    if let Some(bytes) = memlock.filter(|bytes| *bytes < MEMLOCK_MIN) {
        bail!(
            "only {bytes} bytes may be locked in memory, io_uring needs {MEMLOCK_MIN}: \
             set `ulimit -l 512`, LimitMEMLOCK=512K (systemd) or --ulimit memlock=524288 (containers)"
        );
    }
    Ok(())
}

/// The CPUs to pin shards to: the last of those this process may use, so that the first is left to the
/// control plane. None when there are more shards than CPUs: then the kernel places them.
fn place(cores: usize) -> Vec<usize> {
    let cpus = allowed();
    if cores > cpus.len() { Vec::new() } else { cpus[cpus.len() - cores..].to_vec() }
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
