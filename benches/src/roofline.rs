//! What the machine's memory gives, whatever the index: random runs of four cache lines, and a stream.
//!
//! The starts are random and independent of what was read, so the processor may have as many reads under
//! way as it can. Several prefetch depths are tried each time; the driver takes the best by its median.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use index::bench::{Huge, prefetch};
use serde_json::{Value, json};

use crate::contender::Contender;
use crate::process::memory;

/// Bytes read from: eight times the biggest cache of one core's share.
const BYTES: usize = 256 << 20;
/// Words of a cache line.
const LINE: usize = 8;
/// Lines of a run.
const RUN: usize = 4;
/// Runs fetched ahead; 0 leaves it to the processor.
const DEPTHS: [usize; 10] = [0, 4, 8, 16, 24, 32, 48, 64, 96, 128];
/// Lines fetched ahead of a stream.
const STREAM_AHEAD: usize = 128;
/// Runs between two looks at the clock.
const STEP: u64 = 20_000;

/// Memory to read.
pub struct Roofline {
    words: Huge<u64>,
    counter: u64,
}

impl Roofline {
    /// Maps and fills it; says what pages it got.
    pub fn load() -> Result<(Self, Value)> {
        let mut words = Huge::<u64>::zeroed(BYTES / 8).context("256 MiB for the roofline")?;
        for (at, word) in words.iter_mut().enumerate() {
            *word = at as u64;
        }
        let huge = memory("smaps_rollup", "AnonHugePages")?;
        Ok((Self { words, counter: 0 }, json!({ "bytes": BYTES, "huge_page_bytes": huge })))
    }

    /// Nanoseconds of one random run at this depth.
    fn runs(&mut self, depth: usize, seconds: f64) -> f64 {
        let starts = (self.words.len() / LINE - RUN) as u64;
        let start = |run: u64| (((mix(run) >> 32) * starts) >> 32) as usize * LINE;
        let (begun, first, mut sum) = (Instant::now(), self.counter, 0u64);
        loop {
            for run in self.counter..self.counter + STEP {
                if depth > 0 {
                    let later = start(run + depth as u64);
                    for line in 0..RUN {
                        prefetch(&self.words, later + line * LINE);
                    }
                }
                let at = start(run);
                let lines = &self.words[at..at + RUN * LINE];
                sum = (0..RUN).fold(sum, |sum, line| sum.wrapping_add(lines[line * LINE]));
            }
            self.counter += STEP;
            let took = begun.elapsed().as_secs_f64();
            if took >= seconds {
                black_box(sum);
                return took * 1e9 / (self.counter - first) as f64;
            }
        }
    }

    /// Gigabytes a second, read from first to last; `ahead` lines are fetched early, 0 leaves it to the processor.
    fn stream(&self, ahead: usize) -> f64 {
        let begun = Instant::now();
        let mut sums = [0u64; LINE];
        for (at, line) in self.words.as_chunks::<LINE>().0.iter().enumerate() {
            if ahead > 0 {
                prefetch(&self.words, (at + ahead) * LINE);
            }
            for (sum, word) in sums.iter_mut().zip(line) {
                *sum = sum.wrapping_add(*word);
            }
        }
        black_box(sums);
        BYTES as f64 / begun.elapsed().as_secs_f64() / 1e9
    }
}

impl Contender for Roofline {
    fn go(&mut self, seconds: f64) -> Result<Value> {
        let share = seconds / DEPTHS.len() as f64;
        let runs: Vec<Value> =
            DEPTHS.iter().map(|depth| json!({ "depth": depth, "ns": self.runs(*depth, share) })).collect();
        Ok(json!({ "runs": runs, "stream_gb_s": self.stream(0).max(self.stream(STREAM_AHEAD)) }))
    }

    fn other(&mut self, command: &str, _seconds: f64) -> Result<Value> {
        bail!("{command:?} is no command: go")
    }
}

/// A number's random companion (SplitMix64).
fn mix(counter: u64) -> u64 {
    let mut value = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
