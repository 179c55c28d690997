//! What the cage costs: pictures hashed by a helper process, beside the same in this process.
//!
//! Both ways take turns, picture by picture, so that a disturbance meets both. A helper is warm, as the server's are.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ingest::media::cage::{Counts, Launcher, Pool};
use ingest::media::{Limits, hash_picture};
use serde_json::{Value, json};

const TIME_MAX: Duration = Duration::from_secs(60);

/// Hashes a picture so many times each way: the medians and the least times, with their ratios. The least ones are what
/// it takes when nothing else runs.
pub fn measure(picture: &Path, rounds: usize) -> Result<Value> {
    let file = fs::read(picture).with_context(|| format!("reading {}", picture.display()))?;
    let limits = Limits::default();
    let pool = Pool::start(Launcher::default(), 1, Arc::<Counts>::default())?;
    let expected = hash_picture(&file, &limits)?;
    let (mut here, mut caged) = (Vec::with_capacity(rounds), Vec::with_capacity(rounds));
    for round in 0..rounds + 10 {
        let time = |caged: bool| -> Result<Duration> {
            let started = Instant::now();
            let hash = if caged {
                pool.hash(&file, &limits, false, None, TIME_MAX)?.picture.hashes.first().copied()
            } else {
                Some(hash_picture(&file, &limits)?.hash)
            };
            let took = started.elapsed();
            ensure!(hash == Some(expected.hash), "the hashes differ");
            Ok(took)
        };
        // Who is first has a colder cache: they take turns at that as well.
        let first_caged = round % 2 == 0;
        let (first, second) = (time(first_caged)?, time(!first_caged)?);
        let (of_cage, of_here) = if first_caged { (first, second) } else { (second, first) };
        if round >= 10 {
            caged.push(of_cage);
            here.push(of_here);
        }
    }
    caged.sort();
    here.sort();
    let ms =
        |times: &[Duration], at: usize| times.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0);
    let (caged_ms, here_ms) = (ms(&caged, rounds / 2), ms(&here, rounds / 2));
    Ok(json!({
        "bytes": file.len(),
        "rounds": rounds,
        "in_process_ms": here_ms,
        "caged_ms": caged_ms,
        "ratio": caged_ms / here_ms,
        "ratio_of_least": ms(&caged, 0) / ms(&here, 0),
    }))
}
