//! The io_uring reactor: one glommio executor per shard, pinned.

use async_channel::Receiver;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use glommio::net::{TcpListener, TcpStream};
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};

use super::Shard;
use super::reactor::{Reactor, Start, run};

/// Locked memory below which glommio's rings cannot be made (measured: 512 KiB works, 128 KiB does not).
const MEMLOCK_MIN: u64 = 512 << 10;

/// io_uring by glommio.
pub struct Glommio;

impl Reactor for Glommio {
    type Listener = TcpListener;
    type Stream = TcpStream;

    fn bind(address: SocketAddr) -> io::Result<TcpListener> {
        Ok(TcpListener::bind(address)?)
    }

    fn address(listener: &TcpListener) -> io::Result<SocketAddr> {
        Ok(listener.local_addr()?)
    }

    async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
        let stream = listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn sleep(time: Duration) {
        glommio::timer::sleep(time).await;
    }

    fn spawn(task: impl Future<Output = ()> + 'static) {
        glommio::spawn_local(task).detach();
    }
}

/// Starts the shard on a thread of its own.
pub fn spawn(
    name: &str,
    start: Start,
    make: impl FnOnce() -> (Shard, Receiver<()>) + Send + 'static,
) -> io::Result<ExecutorJoinHandle<()>> {
    let placement = start.cpu.map_or(Placement::Unbound, Placement::Fixed);
    LocalExecutorBuilder::new(placement)
        .name(name)
        .spawn(move || run::<Glommio>(start, make()))
        .map_err(|error| io::Error::other(error.to_string()))
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
