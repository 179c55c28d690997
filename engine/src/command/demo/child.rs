//! The demo's server: this very program as a child process.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value;

/// A running `hashward serve`. Killed when dropped.
pub struct Child {
    process: process::Child,
    /// Binary port.
    pub listen: SocketAddr,
    /// Admin port.
    pub admin: SocketAddr,
    /// How long it took to get ready.
    pub seconds: f64,
}

impl Child {
    /// Starts it on free ports of loopback and waits until it takes traffic.
    pub fn start(data: &Path, rules: &Path) -> Result<Self> {
        let started = Instant::now();
        let mut process = Command::new(std::env::current_exe()?)
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log", "warn"])
            .arg("--data-dir")
            .arg(data)
            .arg("--rules")
            .arg(rules)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("the server cannot be started")?;
        let mut line = String::new();
        if let Some(stdout) = process.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let ready: Value =
            serde_json::from_str(&line).context("the server did not get ready; its words are above")?;
        let address = |name: &str| -> Result<SocketAddr> {
            ready[name]
                .as_str()
                .unwrap_or("")
                .parse()
                .with_context(|| format!("the ready line has no {name}"))
        };
        Ok(Self {
            listen: address("listen")?,
            admin: address("admin")?,
            process,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Kills it as a crash would; says which process that was.
    pub fn kill(mut self) -> Result<String> {
        let name = format!("process {}", self.process.id());
        self.process.kill()?;
        self.process.wait()?;
        Ok(name)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill(); // ended already, mostly
        let _ = self.process.wait();
    }
}
