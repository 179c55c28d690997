//! PDQ hashes that come from pictures: drawn ones in any number, and the few real ones beside the checkout.
//!
//! A drawn picture is a slope of light with shapes on it, hashed by the product's own hasher in its eight
//! turns. Its hashes are no random bits: half of each is set, and neighbouring frequencies are related.

use std::f32::consts::TAU;
use std::fs;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result};
use index::{Hash256, Signal, SignalType};
use ingest::media::pdq;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

/// PDQ samples a picture 64 × 64; a bigger one would only cost time.
const SIDE: usize = 64;
/// Shapes on a picture.
const SHAPES: usize = 14;

/// Appends the hashes of `count` / 8 drawn pictures in eight turns each.
pub fn drawn(count: usize, seed: u64, out: &mut Vec<Hash256>) {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let share = count.div_ceil(workers);
    let parts: Vec<Vec<Hash256>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|worker| {
                let count = share.min(count.saturating_sub(worker * share));
                scope.spawn(move || draw_part(count, seed.wrapping_add(worker as u64)))
            })
            .collect();
        threads.into_iter().map(|worker| worker.join().unwrap_or_else(|_| std::process::abort())).collect()
    });
    out.extend(parts.into_iter().flatten());
}

fn draw_part(count: usize, seed: u64) -> Vec<Hash256> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut hashes = Vec::with_capacity(count + 8);
    while hashes.len() < count {
        let (turns, quality) = pdq::dihedral(&picture(&mut random), SIDE, SIDE);
        if quality >= pdq::QUALITY_MIN {
            hashes.extend(turns);
        }
    }
    hashes.truncate(count);
    hashes
}

/// RGB pixels of a slope of light with rectangles and ellipses on it.
fn picture(random: &mut ChaCha8Rng) -> Vec<u8> {
    let turn = random.random_range(0.0..TAU);
    let (across, down) = (turn.cos() * 1.5, turn.sin() * 1.5);
    let mut light: Vec<f32> = (0..SIDE * SIDE)
        .map(|at| 128.0 + across * ((at % SIDE) as f32 - 32.0) + down * ((at / SIDE) as f32 - 32.0))
        .collect();
    for _ in 0..SHAPES {
        let (x, y) = (random.random_range(0.0..64.0f32), random.random_range(0.0..64.0f32));
        let (wide, high) = (random.random_range(2.0..20.0f32), random.random_range(2.0..20.0f32));
        let (bright, round) = (random.random_range(0.0..255.0f32), random.random_bool(0.5));
        let rows = (y - high).max(0.0) as usize..((y + high) as usize + 1).min(SIDE);
        for row in rows {
            for column in (x - wide).max(0.0) as usize..((x + wide) as usize + 1).min(SIDE) {
                let (dx, dy) = ((column as f32 - x) / wide, (row as f32 - y) / high);
                if !round || dx * dx + dy * dy <= 1.0 {
                    light[row * SIDE + column] = bright;
                }
            }
        }
    }
    light.iter().flat_map(|value| [value.clamp(0.0, 255.0) as u8; 3]).collect()
}

/// Every PDQ hash named in `data/pdq` below the shared folder: those of real pictures and of the hash list.
pub fn real_hashes(shared: &Path) -> Result<Vec<Hash256>> {
    let folder = shared.join("data/pdq");
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut hashes = Vec::new();
    let path = folder.join("vectors.json");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    collect(&serde_json::from_str(&text).with_context(|| format!("in {}", path.display()))?, &mut hashes);
    let path = folder.join("reg-test-input/haystack.txt");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    hashes.extend(text.split(|c: char| !c.is_ascii_hexdigit()).filter_map(parse));
    Ok(hashes)
}

fn collect(value: &Value, hashes: &mut Vec<Hash256>) {
    match value {
        Value::String(text) => hashes.extend(parse(text)),
        Value::Array(values) => values.iter().for_each(|value| collect(value, hashes)),
        Value::Object(fields) => fields.values().for_each(|value| collect(value, hashes)),
        _ => {}
    }
}

fn parse(text: &str) -> Option<Hash256> {
    match Signal::parse(SignalType::Pdq, text) {
        Ok(Signal::Pdq(hash)) => Some(hash),
        _ => None,
    }
}
