//! Filling a bank: a stream of hex lines to the admin port.

use std::io::{self, IsTerminal, Read};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ingest::out;
use serde_json::{Value, json};
use ureq::{Agent, SendBody};

use crate::plan::{Seed, token};
use crate::workload::BankHashes;

/// How long HMA's index may take to be built.
const INDEX_MAX: Duration = Duration::from_secs(30 * 60);

/// Makes the bank if need be, and adds the hashes.
pub fn run(args: &Seed) -> Result<()> {
    if let Some(url) = &args.hma {
        return fill_hma(url, args);
    }
    let api = Api::new(&args.admin);
    let (status, answer) = api.post_json("/api/v1/banks", &json!({ "name": args.bank }))?;
    if status != 201 && status != 409 {
        bail!("bank {} cannot be made: {answer} (HTTP {status})", args.bank);
    }
    let started = Instant::now();
    let bar = progress(args.count);
    let lines = Lines {
        hashes: BankHashes::new(args.seed),
        next: 0,
        count: args.count,
        held: Vec::new(),
        taken: 0,
        bar: bar.clone(),
    };
    let path = format!("/api/v1/banks/{}/import?signal_type=pdq&format=lines&strict=true", args.bank);
    let (status, answer) = api.post(&path, SendBody::from_owned_reader(lines))?;
    bar.finish_and_clear();
    let imported = answer["imported"].as_u64();
    if status != 200 || imported != Some(args.count) {
        bail!("{} of {} hashes were added: {answer} (HTTP {status})", imported.unwrap_or(0), args.count);
    }
    say_done(args, started);
    Ok(())
}

fn say_done(args: &Seed, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    out!(
        "{} hashes in bank {} in {seconds:.1} s ({:.0} a second)",
        args.count,
        args.bank,
        args.count as f64 / seconds
    );
}

/// HMA takes a signal a request, and shows it when its index has been built anew.
fn fill_hma(url: &str, args: &Seed) -> Result<()> {
    let api = Api::new(url);
    let size = || -> Result<u64> {
        let (status, answer) = api.get("/m/index/status?signal_type=pdq")?;
        let size = answer["pdq"]["size"].as_u64().filter(|_| status == 200);
        size.with_context(|| format!("{url} does not tell its index's size: {answer} (HTTP {status})"))
    };
    let before = size()?;
    let (status, answer) = api.post_json("/c/banks", &json!({ "name": args.bank }))?;
    if status != 201 && status != 403 {
        bail!("bank {} cannot be made: {answer} (HTTP {status})", args.bank);
    }
    let (started, bar, mut hashes) = (Instant::now(), progress(args.count), BankHashes::new(args.seed));
    for at in 0..args.count {
        let signal = index::Signal::Pdq(hashes.get(at)).to_string();
        let (status, answer) =
            api.post_json(&format!("/c/bank/{}/signal", args.bank), &json!({ "pdq": signal }))?;
        if status != 200 {
            bail!("{at} of {} hashes were added: {answer} (HTTP {status})", args.count);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    say_done(args, started);
    let asked = Instant::now();
    while size()? < before + args.count {
        if asked.elapsed() > INDEX_MAX {
            bail!("the index does not have them after {} minutes", INDEX_MAX.as_secs() / 60);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    out!("in the index {:.1} s later", asked.elapsed().as_secs_f64());
    Ok(())
}

fn progress(count: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(Some(count), ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{human_pos} of {human_len} {wide_bar} {per_sec} {eta}");
    ProgressBar::new(count).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// The hashes as hex lines, made as they are read.
struct Lines {
    hashes: BankHashes,
    next: u64,
    count: u64,
    held: Vec<u8>,
    taken: usize,
    bar: ProgressBar,
}

impl Read for Lines {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.held.len() {
            self.held.clear();
            self.taken = 0;
            let until = self.count.min(self.next + 512);
            while self.next < until {
                let signal = index::Signal::Pdq(self.hashes.get(self.next));
                self.held.extend_from_slice(format!("{signal}\n").as_bytes());
                self.next += 1;
            }
            self.bar.set_position(self.next);
        }
        let count = into.len().min(self.held.len() - self.taken);
        into[..count].copy_from_slice(&self.held[self.taken..self.taken + count]);
        self.taken += count;
        Ok(count)
    }
}

/// The admin port.
pub struct Api {
    agent: Agent,
    base: String,
}

impl Api {
    /// The server at this URL.
    pub fn new(base: &str) -> Self {
        Self::make(base, None)
    }

    /// The server at this URL; each answer may take so long.
    pub fn with_timeout(base: &str, answer: Duration) -> Self {
        Self::make(base, Some(answer))
    }

    fn make(base: &str, answer: Option<Duration>) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(answer)
            .build();
        Self { agent: config.into(), base: base.trim_end_matches('/').to_string() }
    }

    /// The URL.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// POST of JSON.
    pub fn post_json(&self, path: &str, body: &Value) -> Result<(u16, Value)> {
        self.post(path, SendBody::from_owned_reader(io::Cursor::new(body.to_string())))
    }

    /// The same of JSON that is a text already.
    pub fn post_text(&self, path: &str, body: &str) -> Result<(u16, Value)> {
        self.post(path, SendBody::from_owned_reader(io::Cursor::new(body.to_string())))
    }

    /// PUT of JSON.
    pub fn put_json(&self, path: &str, body: &Value) -> Result<(u16, Value)> {
        let mut request =
            self.agent.put(format!("{}{path}", self.base)).header("content-type", "application/json");
        if let Some(token) = token() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut response =
            request.send(body.to_string()).with_context(|| format!("no answer from {}", self.base))?;
        let text = response.body_mut().read_to_string()?;
        Ok((response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    fn post(&self, path: &str, body: SendBody<'static>) -> Result<(u16, Value)> {
        let mut request =
            self.agent.post(format!("{}{path}", self.base)).header("content-type", "application/json");
        if let Some(token) = token() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut response = request.send(body).with_context(|| format!("no answer from {}", self.base))?;
        let text = response.body_mut().read_to_string()?;
        Ok((response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// Status and body, as JSON where it is JSON.
    pub fn get(&self, path: &str) -> Result<(u16, Value)> {
        let (status, text) = self.text(path)?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// The metrics as text.
    pub fn metrics(&self) -> Result<String> {
        Ok(self.text("/metrics")?.1)
    }

    fn text(&self, path: &str) -> Result<(u16, String)> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some(token) = token() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut response = request.call().with_context(|| format!("no answer from {}", self.base))?;
        Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
    }
}
