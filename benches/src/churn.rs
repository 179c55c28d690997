//! Lookups while the bank changes: a shard's work on one core, additions and merges on another, no network.
//!
//! A million signals are banked; then signals are added at a rate, one change a millisecond, as the curator would,
//! and merged as the merge thread would. Every change is looked up right after its acknowledgement.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use index::bank::{BankChange, BankOptions, BankRequest, Banks, LoadProgress, NewContent};
use index::store::MemoryStore;
use index::{Distance, Hash256, Scratch, Signal};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};

const BATCH: usize = 64;
const QUERIES: usize = 16_384;
/// Time between two changes.
const STEP: Duration = Duration::from_millis(1);

/// Measures for so many seconds each: idle, then while `per_second` signals are added.
pub fn measure(signals: usize, per_second: usize, seconds: f64) -> Result<Value> {
    let cpus = allowed()?;
    let shard = cpus.last().copied().context("no CPU")?;
    let others: Vec<usize> = cpus.iter().copied().filter(|cpu| *cpu != shard).collect();
    ensure!(!others.is_empty(), "it takes two CPUs: the shard's, and one for additions and merges");
    stay_on(&others)?;
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let banks = Arc::new(bank(signals, &mut random)?);
    let queries: Vec<Hash256> = (0..QUERIES).map(|_| hash(&mut random)).collect();
    let (done, unseen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let looking = |time: f64| {
        let (banks, queries) = (banks.clone(), queries.clone());
        thread::spawn(move || {
            stay_on(&[shard])?;
            Ok::<_, anyhow::Error>(look(&banks, &queries, time))
        })
    };
    let join = |thread: thread::JoinHandle<Result<(f64, f64)>>| {
        thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?
    };
    let idle = join(looking(seconds))?;
    let merging = {
        let (banks, done) = (banks.clone(), done.clone());
        thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                if !banks.merge_step(false) {
                    thread::sleep(STEP);
                }
            }
        })
    };
    let busy = looking(seconds);
    let added = add(&banks, per_second, seconds, &mut random, &unseen)?;
    let busy = join(busy)?;
    done.store(true, Ordering::Relaxed);
    merging.join().map_err(|_| anyhow::anyhow!("the merging thread panicked"))?;
    Ok(json!({
        "n": signals,
        "added_per_s": added as f64 / seconds,
        "not_visible_at_once": unseen.load(Ordering::Relaxed),
        "idle_qps": idle.0,
        "busy_qps": busy.0,
        "busy_share": busy.0 / idle.0,
        "idle_p99_us": idle.1,
        "busy_p99_us": busy.1,
        "p99_ratio": busy.1 / idle.1,
        "segments": banks.state().tables.pdq.stats().segments,
    }))
}

fn bank(signals: usize, random: &mut ChaCha8Rng) -> Result<Banks> {
    let (banks, _) =
        Banks::load(Arc::new(MemoryStore::default()), BankOptions::default(), &LoadProgress::default())?;
    change(&banks, BankChange::Create { name: "B".into(), enabled_ratio: 1.0 })?;
    for first in (0..signals).step_by(50_000) {
        let contents = (first..signals.min(first + 50_000)).map(|_| content(hash(random))).collect();
        change(&banks, BankChange::Add { bank: "B".into(), contents })?;
    }
    while banks.merge_step(true) {}
    Ok(banks)
}

/// Adds signals on a schedule; counts those that the next lookup does not see.
fn add(
    banks: &Banks,
    per_second: usize,
    seconds: f64,
    random: &mut ChaCha8Rng,
    unseen: &AtomicU64,
) -> Result<u64> {
    let begun = Instant::now();
    let (mut added, mut scratch, mut found) = (0, Scratch::default(), Vec::new());
    while begun.elapsed().as_secs_f64() < seconds {
        let due = (begun.elapsed().as_secs_f64() * per_second as f64) as u64;
        let some: Vec<Hash256> = (added..due).map(|_| hash(random)).collect();
        added = due;
        if let Some(first) = some.first().copied() {
            let contents = some.into_iter().map(content).collect();
            change(banks, BankChange::Add { bank: "B".into(), contents })?;
            found.clear();
            let exactly = Distance::new(0).context("a threshold")?;
            banks.state().tables.pdq.search(&[first], exactly, &mut scratch, &mut found);
            unseen.fetch_add(u64::from(found.is_empty()), Ordering::Relaxed);
        }
        thread::sleep(STEP);
    }
    Ok(added)
}

/// Lookups a second, and the 99th percentile of a batch in microseconds.
fn look(banks: &Banks, queries: &[Hash256], seconds: f64) -> (f64, f64) {
    let Some(threshold) = Distance::new(31) else { return (0.0, 0.0) };
    let (mut scratch, mut found, mut times) = (Scratch::default(), Vec::new(), Vec::new());
    let begun = Instant::now();
    for batch in queries.chunks(BATCH).cycle() {
        let started = Instant::now();
        found.clear();
        banks.state().tables.pdq.search(batch, threshold, &mut scratch, &mut found);
        times.push(started.elapsed().as_secs_f64() * 1e6);
        if begun.elapsed().as_secs_f64() >= seconds {
            break;
        }
    }
    let rate = (times.len() * BATCH) as f64 / begun.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    (rate, times[times.len() * 99 / 100])
}

fn change(banks: &Banks, change: BankChange) -> Result<()> {
    for answer in banks.apply(vec![BankRequest::from(change)], 0) {
        answer?;
    }
    Ok(())
}

fn content(hash: Hash256) -> NewContent {
    NewContent { signals: vec![Signal::Pdq(hash)], ..NewContent::default() }
}

fn hash(random: &mut ChaCha8Rng) -> Hash256 {
    let mut bytes = [0; 32];
    random.fill_bytes(&mut bytes);
    Hash256(bytes)
}

fn allowed() -> Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

fn stay_on(cpus: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    Ok(sched_setaffinity(None, &set)?)
}
