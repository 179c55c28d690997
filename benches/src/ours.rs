//! Our index, measured through its public face only: build, throughput, single lookups, and every answer
//! against the truth.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use index::{BankId, ContentId, Distance, Entry, Found, Hash256, Kernel, PdqSnapshot, Scratch};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::contender::Contender;
use crate::data::{Files, THRESHOLD};
use crate::process::memory;

/// Hashes asked in one call.
const BATCH: usize = 64;
/// How often each question is asked alone.
const PASSES: usize = 3;

/// Our index with its questions.
pub struct Ours {
    snapshot: PdqSnapshot,
    queries: Vec<Hash256>,
    misses: Vec<Hash256>,
    checked: usize,
    truth: Vec<[u32; 3]>,
    threshold: Distance,
    scratch: Scratch,
    found: Vec<Found>,
    at: usize,
    at_miss: usize,
    /// What the last `go` gave, questions a second.
    rate: f64,
}

impl Ours {
    /// Builds the index of this folder; beside it, what the build took.
    pub fn load(folder: &Path) -> Result<(Self, Value)> {
        let kernel = Kernel::choose()?;
        let files = Files::at(folder);
        let meta = files.meta()?;
        let Some(threshold) = Distance::new(THRESHOLD as u16) else { bail!("{THRESHOLD} is no threshold") };
        let before = memory("status", "VmRSS")?;
        let hashes = files.hashes("hashes.bin")?;
        ensure!(hashes.len() == meta.n, "{} has {} hashes, not {}", folder.display(), hashes.len(), meta.n);
        let entries = hashes
            .into_iter()
            .zip(1..)
            .map(|(hash, content)| Entry { hash, content: ContentId(content), bank: BankId(1) })
            .collect();
        let begun = Instant::now();
        let snapshot = PdqSnapshot::from_entries(entries);
        let build_s = begun.elapsed().as_secs_f64();
        let ready = json!({
            "kernel": kernel.name(),
            "n": meta.n,
            "build_s": build_s,
            "bytes": snapshot.stats().bytes,
            "rss_bytes": memory("status", "VmRSS")?.saturating_sub(before),
            "rss_bytes_max": memory("status", "VmHWM")?.saturating_sub(before),
            "huge_page_bytes": memory("smaps_rollup", "AnonHugePages")?,
        });
        let ours = Self {
            snapshot,
            queries: files.hashes("queries.bin")?,
            misses: files.hashes("misses.bin")?,
            checked: meta.checked,
            truth: files.truth()?,
            threshold,
            scratch: Scratch::default(),
            found: Vec::new(),
            at: 0,
            at_miss: 0,
            rate: 0.0,
        };
        Ok((ours, ready))
    }

    fn batches(&mut self, seconds: f64, misses: bool) -> Value {
        let (pool, at) =
            if misses { (&self.misses, &mut self.at_miss) } else { (&self.queries, &mut self.at) };
        let (mut asked, mut answered) = (0, 0);
        let begun = Instant::now();
        loop {
            let batch = &pool[*at..(*at + BATCH).min(pool.len())];
            *at = if *at + BATCH >= pool.len() { 0 } else { *at + BATCH };
            self.found.clear();
            self.snapshot.search(batch, self.threshold, &mut self.scratch, &mut self.found);
            asked += batch.len();
            answered += self.found.len();
            let took = begun.elapsed().as_secs_f64();
            if took >= seconds {
                return json!({ "queries": asked, "matches": answered, "seconds": took });
            }
        }
    }

    /// An open loop at half of what the last `go` gave, without any network: what queueing and the machine alone do
    /// to a batch's latency. Between two arrivals it does not sleep.
    fn open(&mut self, seconds: f64, poisson: bool) -> Result<Value> {
        ensure!(self.rate > 0.0, "the rate is not known yet: say go first");
        let service = BATCH as f64 / self.rate;
        let mut random = ChaCha8Rng::seed_from_u64(6);
        let (mut due, mut latencies) = (0.0, Vec::new());
        let begun = Instant::now();
        while due < seconds {
            while begun.elapsed().as_secs_f64() < due {
                std::hint::spin_loop();
            }
            let first = self.at.min(self.queries.len().saturating_sub(BATCH));
            let batch = &self.queries[first..(first + BATCH).min(self.queries.len())];
            self.at = if first + 2 * BATCH > self.queries.len() { 0 } else { first + BATCH };
            self.found.clear();
            self.snapshot.search(batch, self.threshold, &mut self.scratch, &mut self.found);
            latencies.push(begun.elapsed().as_secs_f64() - due);
            let unit = (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
            due += 2.0 * service * if poisson { -(1.0 - unit).ln() } else { 1.0 };
        }
        latencies.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| latencies[(latencies.len() as f64 * share) as usize] * 1e6;
        Ok(json!({ "p50_us": at(0.5), "p99_us": at(0.99), "service_us": service * 1e6 }))
    }

    /// A re-scan of a million strangers and all questions, in one request.
    fn bulk(&mut self) -> Value {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let mut stranger = || {
            let mut bytes = [0; 32];
            random.fill_bytes(&mut bytes);
            Hash256(bytes)
        };
        let mut many: Vec<Hash256> = std::iter::repeat_with(&mut stranger).take(1 << 20).collect();
        many.extend_from_slice(&self.queries);
        let search = || {
            let mut matches = 0;
            self.snapshot.search_bulk(&many, self.threshold, usize::MAX, |row| matches += row.listed.len());
            matches
        };
        search(); // once unmeasured
        let begun = Instant::now();
        let matches = search();
        json!({ "queries": many.len(), "matches": matches, "seconds": begun.elapsed().as_secs_f64() })
    }

    /// Compares every answer with the truth.
    fn check(&mut self) -> Value {
        let mut answers = Vec::with_capacity(self.truth.len());
        for (batch, queries) in self.queries[..self.checked].chunks(BATCH).enumerate() {
            self.found.clear();
            self.snapshot.search(queries, self.threshold, &mut self.scratch, &mut self.found);
            answers.extend(self.found.iter().map(|hit| {
                let query = (batch * BATCH) as u32 + hit.query;
                [query, (hit.content.0 - 1) as u32, u32::from(hit.distance.bits())]
            }));
        }
        answers.sort_unstable();
        let right = answers.iter().filter(|hit| self.truth.binary_search(hit).is_ok()).count();
        let mut once = answers.clone();
        once.dedup();
        let recall = once.iter().filter(|hit| self.truth.binary_search(hit).is_ok()).count();
        json!({
            "checked": self.checked,
            "matches": self.truth.len(),
            "recall": if self.truth.is_empty() { 1.0 } else { recall as f64 / self.truth.len() as f64 },
            // Not in the truth, at a wrong distance, or said twice.
            "false_hits": answers.len() - right + (answers.len() - once.len()),
        })
    }

    /// Every question alone, all of them several times over: a question's best time counts, because what the
    /// machine did to one of them is not ours. Between two times lie all the others, so no cache remembers.
    fn singles(&mut self) -> Value {
        let (mut best, mut raw_ms) = (vec![f64::MAX; self.queries.len()], 0.0f64);
        for _ in 0..PASSES {
            for (at, best) in best.iter_mut().enumerate() {
                let ms = self.single(at);
                (*best, raw_ms) = (best.min(ms), raw_ms.max(ms));
            }
        }
        best.sort_unstable_by(f64::total_cmp);
        json!({ "worst_ms": best[best.len() - 1], "worst_raw_ms": raw_ms, "p50_ms": best[best.len() / 2] })
    }

    /// Milliseconds of one question.
    fn single(&mut self, at: usize) -> f64 {
        self.found.clear();
        let begun = Instant::now();
        self.snapshot.search(&self.queries[at..=at], self.threshold, &mut self.scratch, &mut self.found);
        begun.elapsed().as_secs_f64() * 1e3
    }
}

impl Contender for Ours {
    fn go(&mut self, seconds: f64) -> Result<Value> {
        let done = self.batches(seconds, false);
        self.rate = done["queries"].as_f64().unwrap_or_default() / done["seconds"].as_f64().unwrap_or(1.0);
        Ok(done)
    }

    fn other(&mut self, command: &str, seconds: f64) -> Result<Value> {
        match command {
            "misses" => Ok(self.batches(seconds, true)),
            "poisson" | "constant" => self.open(seconds, command == "poisson"),
            "bulk" => Ok(self.bulk()),
            "check" => Ok(self.check()),
            "singles" => Ok(self.singles()),
            other => bail!("{other:?} is no command: go, misses, poisson, constant, bulk, check, singles"),
        }
    }
}
