//! A look from inside the cage: what a helper that obeys whoever made a file could still do.

use std::fs::File;
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;

use rustix::process::{getppid, test_kill_process};

use super::sandbox::{Enforcement, confine_helper};

/// What was tried, and what came of it.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The deed.
    pub tried: &'static str,
    /// The system's refusal; `None` if it was allowed.
    pub refused: Option<String>,
}

/// Confines this process as a helper and tries what it must not do; also says what of the cage the system does not have.
pub fn probe(enforcement: Enforcement) -> Result<(Vec<String>, Vec<Probe>), String> {
    // Made before, as a descriptor that was left open by mistake would be.
    let left_open = UnixStream::pair();
    let parent = getppid();
    let missing = confine_helper(enforcement)?;
    let mut probes = Vec::new();
    let mut tried = |tried, outcome: Result<(), String>| {
        probes.push(Probe { tried, refused: outcome.err() });
    };
    let words = |error: std::io::Error| error.to_string();
    tried("read a file", File::open("/etc/passwd").map(drop).map_err(words));
    tried("read its own environment", std::fs::read("/proc/self/environ").map(drop).map_err(words));
    tried("list a folder", std::fs::read_dir("/").map(drop).map_err(words));
    tried("write a file", std::fs::write("/tmp/hashward-probe", "x").map_err(words));
    tried("remove a file", std::fs::remove_file("/tmp/hashward-probe").map_err(words));
    tried("open a UDP socket", UdpSocket::bind("127.0.0.1:0").map(drop).map_err(words));
    tried("connect by TCP", TcpStream::connect(("127.0.0.1", 9)).map(drop).map_err(words));
    tried("open a Unix socket", UnixStream::pair().map(drop).map_err(words));
    tried("start a program", start("/bin/true").map_err(words));
    tried("start a thread", thread::Builder::new().spawn(|| {}).map(drop).map_err(words));
    let signalled = parent.map_or(Ok(()), test_kill_process).map_err(|error| error.to_string());
    tried("signal its parent", signalled);
    if let Ok((ours, _)) = &left_open {
        tried(
            "use a descriptor that was left open",
            std::io::Write::write(&mut &*ours, b"x").map(drop).map_err(words),
        );
    }
    Ok((missing, probes))
}

fn start(program: &str) -> std::io::Result<()> {
    let null = Stdio::inherit;
    Command::new(program).stdin(null()).stdout(null()).stderr(null()).spawn().map(drop)
}
