//! The demo's programs: the server, which is this very program, and the stand-in for NCMEC, as child processes.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value;

/// A running program. Killed when dropped.
pub struct Child(process::Child);

/// Starts a program that says in a line of JSON when it is ready, and waits for that.
pub fn ready(command: &mut Command, what: &str) -> Result<(Child, Value)> {
    let process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = Child(process.with_context(|| format!("{what} cannot be started"))?);
    let mut line = String::new();
    if let Some(stdout) = child.0.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    let ready = serde_json::from_str(&line)
        .with_context(|| format!("{what} did not get ready; its words are above"))?;
    Ok((child, ready))
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill(); // ended already, mostly
        let _ = self.0.wait();
    }
}

/// A running `hashward serve`.
pub struct Server {
    child: Child,
    /// Binary port.
    pub listen: SocketAddr,
    /// Admin port.
    pub admin: SocketAddr,
    /// How long it took to get ready.
    pub seconds: f64,
}

impl Server {
    /// Starts it on free ports of loopback, with NCMEC at this URL, and waits until it takes traffic.
    pub fn start(data: &Path, rules: &Path, ncmec: &str) -> Result<Self> {
        let started = Instant::now();
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log", "warn"])
            .args(["--fetch-allow", "127.0.0.1/32"])
            .arg("--data-dir")
            .arg(data)
            .arg("--rules")
            .arg(rules)
            .env_remove("NCMEC_ENV") // a demo reports to nobody
            .env("HASHWARD_NCMEC_BASE_URL", ncmec);
        let (child, ready) = ready(&mut command, "the server")?;
        let address = |name: &str| -> Result<SocketAddr> {
            ready[name]
                .as_str()
                .unwrap_or("")
                .parse()
                .with_context(|| format!("the ready line has no {name}"))
        };
        let (listen, admin) = (address("listen")?, address("admin")?);
        Ok(Self { child, listen, admin, seconds: started.elapsed().as_secs_f64() })
    }

    /// Kills it as a crash would; says which process that was.
    pub fn kill(mut self) -> Result<String> {
        let name = format!("process {}", self.child.0.id());
        self.child.0.kill()?;
        self.child.0.wait()?;
        Ok(name)
    }
}
