//! What the driver says to whoever is measured: one command a line in, one JSON object a line out. Between
//! two commands a contender sleeps, so that on the one pinned core only the one that is asked runs.

use std::io::{BufRead, Write};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Somebody who can be measured.
pub trait Contender {
    /// Runs for at least so many seconds and says what was done.
    fn go(&mut self, seconds: f64) -> Result<Value>;

    /// Any other command.
    fn other(&mut self, command: &str, seconds: f64) -> Result<Value>;
}

/// Says `ready`, then answers commands until the driver hangs up.
pub fn follow(ready: Value, contender: &mut impl Contender) -> Result<()> {
    say(&ready)?;
    for line in std::io::stdin().lock().lines() {
        let line = line.context("reading commands")?;
        let mut words = line.split_whitespace();
        let Some(command) = words.next() else { bail!("an empty command line") };
        let seconds = match words.next() {
            Some(text) => text.parse().with_context(|| format!("{text:?} is no number of seconds"))?,
            None => 0.0,
        };
        let answer = match command {
            "go" => contender.go(seconds)?,
            other => contender.other(other, seconds)?,
        };
        say(&answer)?;
    }
    Ok(())
}

fn say(value: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}").and_then(|()| out.flush()).context("the driver has gone")
}
