//! The io_uring reactor: one glommio executor per shard, pinned.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use async_channel::{Receiver, TrySendError, bounded};

use glommio::net::{TcpListener, TcpStream};
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};

use super::Shard;
use super::reactor::{Reactor, Start, run};

/// Locked memory below which glommio's rings cannot be made (measured: 512 KiB works, 128 KiB does not).
const MEMLOCK_MIN: u64 = 512 << 10;

/// How often a busy executor looks at its sockets. glommio's own 100 ms are how long a newcomer would wait to be heard
/// while others keep the shard busy.
const LOOK: Duration = Duration::from_millis(1);

/// How often a sleeping executor is woken from outside. glommio 0.9.0 can fall asleep over a wake-up that has just come
/// (seen twice in 233 000 Submits with a timer every 50 µs; `one_connection_submits_more_hits_than_a_counter_of_16_bits_holds`
/// has it): this bounds how long it then sleeps.
const PULSE: Duration = Duration::from_millis(50);

/// io_uring by glommio.
pub struct Glommio;

impl Reactor for Glommio {
    type Listener = TcpListener;
    type Stream = TcpStream;
    type Task = glommio::Task<()>;

    fn bind(address: SocketAddr) -> io::Result<TcpListener> {
        Ok(TcpListener::bind(address)?)
    }

    fn address(listener: &TcpListener) -> io::Result<SocketAddr> {
        Ok(listener.local_addr()?)
    }

    async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, IpAddr)> {
        loop {
            let stream = listener.accept().await?;
            // A peer that reset the connection meanwhile has no address, and is nobody.
            let (Ok(()), Ok(peer)) = (stream.set_nodelay(true), stream.peer_addr()) else { continue };
            return Ok((stream, peer.ip().to_canonical()));
        }
    }

    async fn sleep(time: Duration) {
        glommio::timer::sleep(time).await;
    }

    async fn yield_now() {
        futures_lite::future::yield_now().await;
    }

    fn spawn(task: impl Future<Output = ()> + 'static) -> glommio::Task<()> {
        glommio::spawn_local(task)
    }
}

/// Starts the shard on a thread of its own.
pub fn spawn(
    name: &str,
    start: Start,
    make: impl FnOnce() -> (Shard, Receiver<()>) + Send + 'static,
) -> io::Result<ExecutorJoinHandle<()>> {
    let placement = start.cpu.map_or(Placement::Unbound, Placement::Fixed);
    let (pulse, pulses) = bounded(1);
    let executor = LocalExecutorBuilder::new(placement)
        .name(name)
        .preempt_timer(LOOK)
        .spawn(move || async move {
            let pulsing = Glommio::spawn(async move { while pulses.recv().await.is_ok() {} });
            run::<Glommio>(start, make()).await;
            drop(pulsing);
        })
        .map_err(|error| io::Error::other(error.to_string()))?;
    thread::Builder::new().name("pulse".into()).spawn(move || {
        while !matches!(pulse.try_send(()), Err(TrySendError::Closed(()))) {
            thread::sleep(PULSE);
        }
    })?;
    Ok(executor)
}

/// Why io_uring cannot be had here, with what to do; `None` if it can.
pub fn refused() -> Option<String> {
    let memlock = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    if let Some(bytes) = memlock.filter(|bytes| *bytes < MEMLOCK_MIN) {
        return Some(format!(
            "only {bytes} bytes may be locked in memory, io_uring needs {MEMLOCK_MIN}: set `ulimit -l 512`, \
             LimitMEMLOCK=512K (systemd) or --ulimit memlock=524288 (containers)"
        ));
    }
    // Tried for real: a seccomp filter cannot be asked what it lets pass.
    let tried = LocalExecutorBuilder::new(Placement::Unbound).name("io-uring-probe").spawn(|| async {});
    let error = tried.and_then(ExecutorJoinHandle::join).err()?;
    Some(format!(
        "the kernel refuses io_uring ({error}): allow io_uring_setup, io_uring_enter and io_uring_register in \
         the container's seccomp profile, and set the sysctl kernel.io_uring_disabled to 0"
    ))
}
