//! What it costs to ask the warden of a key: frames of 64 queries that hit nothing.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use engine::defence::{Alarms, Allowance, KeyNumber, Limits, Matched, Warden};
use index::{ContentId, Distance, Hash256};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const FRAME: usize = 64;
/// Contents a warden remembers, and queries around each.
const REGIONS: u64 = 256;
const MEMBERS: usize = 65;

fn hash(random: &mut ChaCha8Rng) -> Hash256 {
    let mut bytes = [0; 32];
    random.fill_bytes(&mut bytes);
    Hash256(bytes)
}

fn found(content: u64) -> Matched {
    Matched { query: 0, content: ContentId(content), distance: Distance::default() }
}

/// A warden who remembers as much as there is room for.
fn full(warden: &Warden, random: &mut ChaCha8Rng) {
    for content in 1..=REGIONS {
        let base = hash(random);
        for _ in 0..MEMBERS {
            let mut near = base;
            // Always the same few bytes, as with pictures: what is full is the table, not a region's patience.
            (0..12).for_each(|at| near.0[at] = random.random());
            let admitted = warden.admit(&[near], std::iter::once(found(content)), 0);
            assert!(admitted.is_ok(), "the benchmark's own queries are refused");
        }
    }
}

fn admit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("admit");
    group.throughput(Throughput::Elements(FRAME as u64));
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let frames: Vec<Vec<Hash256>> =
        (0..1024).map(|_| (0..FRAME).map(|_| hash(&mut random)).collect()).collect();
    let allowance = Allowance { lookups_per_hour: Some(1 << 34), lookups_per_day: Some(1 << 35) };
    for (name, allowance, filled) in [
        ("misses, nothing remembered", Allowance::default(), false),
        ("misses, nothing remembered, with budgets", allowance, false),
        ("misses, all remembered that can be", Allowance::default(), true),
    ] {
        let (alarms, _heard) = Alarms::new(16);
        let warden = Warden::new(KeyNumber(1), allowance, Limits::default(), alarms);
        if filled {
            full(&warden, &mut random);
        }
        let mut at = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                at = (at + 1) % frames.len();
                black_box(warden.admit(&frames[at], std::iter::empty(), at as u64)).is_ok()
            });
        });
    }
    let (alarms, _heard) = Alarms::new(16);
    let warden = Warden::new(KeyNumber(1), Allowance::default(), Limits::default(), alarms);
    full(&warden, &mut random);
    let mut at = 0;
    group.bench_function("one hit in a frame, the same again, all remembered that can be", |bencher| {
        let listed = frames[0][0];
        bencher.iter(|| {
            at = 1 + at % (frames.len() - 1);
            let mut frame = [listed; FRAME];
            frame[1..].copy_from_slice(&frames[at][1..]);
            black_box(warden.admit(&frame, std::iter::once(found(1)), at as u64)).is_ok()
        });
    });
    let mut content = REGIONS;
    group.bench_function(
        "one hit in a frame, each around another content, all remembered that can be",
        |bencher| {
            bencher.iter(|| {
                at = 1 + at % (frames.len() - 1);
                content += 1;
                let mut frame = [frames[at][0]; FRAME];
                frame[1..].copy_from_slice(&frames[at][1..]);
                frame[0].0[..8].copy_from_slice(&content.to_le_bytes());
                black_box(warden.admit(&frame, std::iter::once(found(content)), at as u64)).is_ok()
            });
        },
    );
    group.finish();
}

criterion_group!(benches, admit);
criterion_main!(benches);
