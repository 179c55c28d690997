//! HMA's HTTP API: one hash a request, one request at a time on each connection.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use index::{Hash256, Signal};
use serde_json::Value;

use super::{ANSWER_MAX, Job, LATE};
use crate::generator::{self, Watch};
use crate::seed::Api;
use crate::tally::Tally;
use crate::truth::check;

/// A connection.
pub struct Hma(Api);

impl Hma {
    /// HMA, or what speaks as it does, at this URL.
    pub fn open(url: &str) -> Self {
        Self(Api::with_timeout(url, ANSWER_MAX))
    }

    /// Hashes in its PDQ index, if it says so.
    pub fn hashes(&self) -> Result<Value> {
        let (status, answer) = self.0.get("/m/index/status?signal_type=pdq")?;
        if status != 200 {
            bail!("{}: {answer} (HTTP {status}): is it HMA's URL?", self.0.base());
        }
        Ok(answer["pdq"]["size"].clone())
    }

    /// The distances of everything that matches.
    fn lookup(&self, hash: &Hash256) -> Result<Vec<u16>> {
        let signal = Signal::Pdq(*hash);
        let path = format!("/m/raw_lookup?signal_type=pdq&include_distance=true&signal={signal}");
        let (status, answer) = self.0.get(&path)?;
        let matches = answer["matches"].as_array().filter(|_| status == 200);
        let matches = matches.with_context(|| format!("{answer} (HTTP {status})"))?;
        // A distance is text there; numbers are taken as well.
        let distance = |hit: &Value| match &hit["distance"] {
            Value::String(text) => text.parse().ok(),
            other => u16::try_from(other.as_u64()?).ok(),
        };
        matches.iter().map(|hit| distance(hit).with_context(|| format!("no distance in {hit}"))).collect()
    }
}

impl Job {
    /// Asks until the window closes: on the schedule, or at once after each answer.
    pub fn ask_hma(&self, hma: &Hma) -> Tally {
        let mut tally = Tally::new();
        let schedule = self.plan.rate.map(|rate| self.schedule(rate));
        let mut watch = None;
        generator::wake_on_time();
        for at in 0.. {
            let now = Instant::now();
            let due = match &schedule {
                Some(schedule) => match schedule.get(at) {
                    Some(due) => *due,
                    None => break,
                },
                None if now >= self.window.to => break,
                None => now,
            };
            let counts = due >= self.window.from;
            if let Some(wait) = due.checked_duration_since(now).filter(|wait| !wait.is_zero()) {
                thread::sleep(wait);
                // Late after a slow answer is the server's doing; late after a sleep is ours.
                tally.late += u64::from(counts && due.elapsed() > LATE);
            }
            if counts {
                watch.get_or_insert_with(Watch::start);
                tally.sent += 1;
            }
            let batch = self.batch(at as u64);
            match hma.lookup(&batch.hashes[0]) {
                Ok(found) if counts => {
                    let hit = (!found.is_empty()).then_some((0, found));
                    tally.answer(batch, check(batch, hit), due, &self.window);
                }
                Ok(_) => {}
                Err(error) => {
                    tally.error(format!("{error:#}"));
                    thread::sleep(Duration::from_millis(1)); // a server that is gone is not asked in a frenzy
                }
            }
        }
        tally.worked = watch.map_or(Duration::ZERO, |watch| self.busy(&watch));
        tally
    }
}
