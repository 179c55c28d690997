//! Mutated real files through the decoders' cage: whatever a file does to its decoder, this side gets an answer in time,
//! and the next file is decoded as if nothing had been.
//!
//! Some seconds for each format; with `FULL=1` an hour, or `HASHWARD_FUZZ_SECONDS`. Seeds are printed; `HASHWARD_SEED`
//! plays one again. Crashes of decoders are listed, and are no failure: they are what the cage is for.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ingest::media::cage::{CageError, Counts, Launcher, Pool};
use ingest::media::video::{VideoError, VideoOptions, hash_video};
use ingest::media::{Limits, hash_picture};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tests::{Clips, program};

use crate::hma::shared;
use crate::items::png;

/// What one file may take, and what its answer may take beyond that: a helper is killed and another started.
const TIME_MAX: Duration = Duration::from_secs(2);
const GRACE: Duration = Duration::from_secs(8);
/// Small enough that a file costs milliseconds.
const LIMITS: Limits = Limits { bytes_max: 4 << 20, pixels_max: 1 << 22, memory_max: 64 << 20 };

fn seconds() -> Duration {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    let full = std::env::var("FULL").is_ok_and(|full| full == "1");
    Duration::from_secs(number("HASHWARD_FUZZ_SECONDS").unwrap_or(if full { 3600 } else { 2 }))
}

fn seed() -> u64 {
    let given = std::env::var("HASHWARD_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| index::RequestId::fresh().born_ms());
    println!("seed {seed}");
    seed
}

fn launcher() -> Launcher {
    Launcher { program: program("hashward"), ..Launcher::default() }
}

/// The corpus of the fuzzer for a format, and the real files of that ending beside the checkout.
fn files(format: &str, endings: &[&str]) -> Vec<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(format!("picture_{format}"));
    let mut paths: Vec<PathBuf> = fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    if let Some(shared) = shared() {
        let real = fs::read_dir(shared.join("data/cases")).unwrap().map(|entry| entry.unwrap().path());
        paths.extend(real.filter(|path| {
            path.extension()
                .and_then(|ending| ending.to_str())
                .is_some_and(|ending| endings.contains(&ending))
        }));
    }
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).filter(|file| file.len() < 1 << 20).collect()
}

/// Changes some bytes, most of them near the beginning, where the headers are.
fn mutate(file: &mut Vec<u8>, others: &[Vec<u8>], rng: &mut ChaCha8Rng) {
    for _ in 0..rng.random_range(1..=6) {
        if file.is_empty() {
            return;
        }
        let end = if rng.random_bool(0.6) { file.len().min(256) } else { file.len() };
        let at = rng.random_range(0..end);
        match rng.random_range(0..7) {
            0 => file[at] ^= 1 << rng.random_range(0..8),
            1 => file[at] = rng.random(),
            2 => file[at] = *[0, 1, 0x7f, 0x80, 0xff].choose(rng).unwrap(),
            3 => file.truncate(at.max(12)),
            4 => {
                let length = rng.random_range(1..=64).min(file.len() - at);
                let piece = file[at..at + length].to_vec();
                let to = rng.random_range(0..=file.len());
                file.splice(to..to, piece);
            }
            5 => drop(file.drain(at..(at + rng.random_range(1..=16)).min(file.len()))),
            _ => {
                let other = others.choose(rng).unwrap();
                if other.len() > at {
                    file.truncate(at);
                    file.extend_from_slice(&other[at..]);
                }
            }
        }
    }
}

fn fuzz(format: &str, endings: &[&str]) {
    let (mut rng, files) = (ChaCha8Rng::seed_from_u64(seed()), files(format, endings));
    let counts = Arc::new(Counts::default());
    let pool = Pool::start(launcher(), 1, counts.clone()).unwrap();
    let good = png(3);
    let expected = hash_picture(&good, &LIMITS).unwrap().hash;
    let (mut answers, mut crashes) = (BTreeMap::<&str, u64>::new(), BTreeMap::<String, u64>::new());
    let end = Instant::now() + seconds();
    while Instant::now() < end {
        let mut file = files.choose(&mut rng).unwrap().clone();
        mutate(&mut file, &files, &mut rng);
        let started = Instant::now();
        let (dihedral, frames) = (rng.random_bool(0.1), rng.random_bool(0.5).then_some(8));
        let answer = pool.hash(&file, &LIMITS, dihedral, frames, TIME_MAX);
        assert!(started.elapsed() < TIME_MAX + GRACE, "{format}: no answer within {:?}", started.elapsed());
        let fault = answer.as_ref().err().or(answer.as_ref().ok().and_then(|of| of.frames.as_ref().err()));
        let kind = match fault {
            None => "hashed",
            Some(CageError::Refused(_)) => "refused",
            Some(CageError::Overran { .. }) => "overran",
            Some(CageError::Crashed { how }) => {
                *crashes
                    .entry(how.rsplit_once(" at ").map_or(how.clone(), |(_, at)| at.to_string()))
                    .or_default() += 1;
                "crashed"
            }
            Some(CageError::Unavailable(why)) => panic!("{format}: {why}"),
        };
        *answers.entry(kind).or_default() += 1;
        if kind == "crashed" || kind == "overran" {
            let after = pool.hash(&good, &Limits::default(), false, None, Duration::from_secs(30)).unwrap();
            assert_eq!(after.picture.hashes, [expected], "{format}: the next file");
        }
    }
    println!("{format}: {answers:?}; crashes at {crashes:?}; {counts:?}");
    assert!(answers.values().sum::<u64>() > 10, "{format}: {answers:?}");
}

#[test]
fn mutated_jpegs_are_answered() {
    fuzz("jpeg", &["jpg"]);
}

#[test]
fn mutated_pngs_are_answered() {
    fuzz("png", &["png"]);
}

#[test]
fn mutated_webps_are_answered() {
    fuzz("webp", &["webp"]);
}

#[test]
fn mutated_gifs_are_answered() {
    fuzz("gif", &["gif"]);
}

#[test]
fn mutated_bmps_are_answered() {
    fuzz("bmp", &["bmp"]);
}

#[test]
fn mutated_tiffs_are_answered() {
    fuzz("tiff", &["tiff"]);
}

#[test]
fn mutated_films_are_answered() {
    let Some(clips) = Clips::new("mutated_films_are_answered") else { return };
    let files: Vec<Vec<u8>> =
        ["a.mp4", "b.webm", "c.avi"].iter().map(|name| clips.source(name, "testsrc2", 2)).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed());
    let options = VideoOptions {
        launcher: launcher(),
        time_max: TIME_MAX,
        pixels_max: 1 << 22,
        ..VideoOptions::default()
    };
    let mut answers = BTreeMap::<&str, u64>::new();
    let end = Instant::now() + seconds();
    while Instant::now() < end {
        let mut file = files.choose(&mut rng).unwrap().clone();
        mutate(&mut file, &files, &mut rng);
        let started = Instant::now();
        let kind = match hash_video(&file, &options) {
            Ok(video) if video.damage.is_none() => "hashed",
            Ok(_) => "damaged",
            Err(VideoError::Unreadable { .. } | VideoError::Frames { .. }) => "refused",
            Err(VideoError::Time { .. }) => "overran",
            Err(error) => panic!("{error}"),
        };
        assert!(started.elapsed() < TIME_MAX + GRACE, "no answer within {:?}", started.elapsed());
        *answers.entry(kind).or_default() += 1;
    }
    println!("films: {answers:?}");
}
