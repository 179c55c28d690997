//! Search in memory, one core: uniform hashes, 90 % misses, batches of 64.
//!
//! `HASHWARD_KERNEL=scalar|avx2|avx512 cargo bench -p benches` measures one kernel.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use index::bench::{AHEAD_MAX, Group, Huge, Line, Probes, Scanned};
use index::{
    BankId, ContentId, Digest, Distance, Entry, ExactSnapshot, Hash256, Kernel, PdqSnapshot, Scratch,
};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const BATCH: usize = 64;

fn hash(random: &mut ChaCha8Rng) -> Hash256 {
    let mut bytes = [0; 32];
    random.fill_bytes(&mut bytes);
    Hash256(bytes)
}

fn pdq(criterion: &mut Criterion) {
    let threshold = Distance::new(31).expect("a threshold");
    let mut group = criterion.benchmark_group(format!("pdq/{}", Kernel::current().name()));
    group.throughput(Throughput::Elements(BATCH as u64));
    for count in [10_000, 100_000, 1_000_000u64] {
        let mut random = ChaCha8Rng::seed_from_u64(count);
        let entries: Vec<_> = (1..=count)
            .map(|content| Entry { hash: hash(&mut random), content: ContentId(content), bank: BankId(1) })
            .collect();
        let pool: Vec<Vec<Hash256>> = (0..256)
            .map(|_| {
                let mut query = || {
                    if random.random_bool(0.1) {
                        let mut near = entries[random.random_range(0..entries.len())].hash;
                        near.0[3] ^= 0xff;
                        return near;
                    }
                    hash(&mut random)
                };
                (0..BATCH).map(|_| query()).collect()
            })
            .collect();
        let snapshot = PdqSnapshot::from_entries(entries);
        let (mut scratch, mut found, mut at) = (Scratch::default(), Vec::new(), 0);
        group.bench_function(format!("{count}"), |bencher| {
            bencher.iter(|| {
                at = (at + 1) % pool.len();
                found.clear();
                snapshot.search(&pool[at], threshold, &mut scratch, &mut found);
                black_box(found.len())
            });
        });
    }
    group.finish();
}

/// The flat scan alone: a block that lies in the cache, and one that does not.
fn flat(criterion: &mut Criterion) {
    for kernel in Kernel::available() {
        let mut group = criterion.benchmark_group(format!("flat/{}", kernel.name()));
        for count in [1_000, 1_000_000u64] {
            let mut random = ChaCha8Rng::seed_from_u64(count);
            let block: Vec<Hash256> = (0..count).map(|_| hash(&mut random)).collect();
            let query = hash(&mut random);
            let mut out = Vec::new();
            group.throughput(Throughput::Elements(count));
            group.bench_function(format!("{count}"), |bencher| {
                bencher.iter(|| {
                    out.clear();
                    kernel.flat(black_box(&query), &block, 31, &mut out);
                    black_box(out.len())
                });
            });
        }
        group.finish();
    }
}

/// The probe loop alone: 272 buckets of one line, in tables that lie in the second-level cache and in ones that do
/// not.
fn probe(criterion: &mut Criterion) {
    const PROBES: usize = 272;
    for kernel in Kernel::available() {
        let mut group = criterion.benchmark_group(format!("probe/{}", kernel.name()));
        group.throughput(Throughput::Elements(PROBES as u64));
        for lines in [1 << 12, 1 << 21] {
            let mut random = ChaCha8Rng::seed_from_u64(lines as u64);
            let mut table: Huge<Line> = Huge::of(lines);
            for (at, line) in table.iter_mut().enumerate() {
                line.0 = std::array::from_fn(|_| random.next_u32() as u16);
                line.set_head(at as u32 * 16, 16);
            }
            let signatures = std::array::from_fn(|_| random.next_u32() as u16);
            let groups: Vec<Group> = (0..16).map(|table| Group { table, limit: 1, count: 17 }).collect();
            let mut scan =
                |_| (0..PROBES + AHEAD_MAX).map(|_| random.random_range(0..lines as u32)).collect();
            let scans: Vec<Vec<u32>> = (0..512).map(&mut scan).collect();
            let (mut out, mut at) = (Scanned::default(), 0);
            group.bench_function(format!("{lines} lines"), |bencher| {
                bencher.iter(|| {
                    at = (at + 1) % scans.len();
                    out.survivors.clear();
                    let probes = Probes { buckets: &scans[at], groups: &groups, signatures: &signatures };
                    kernel.probe(&table, 1, &probes, &mut out);
                    black_box(out.survivors.len())
                });
            });
        }
        group.finish();
    }
}

fn md5(criterion: &mut Criterion) {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut digest = || {
        let mut bytes = [0; 16];
        random.fill_bytes(&mut bytes);
        Digest::new(&bytes).expect("a digest")
    };
    let entries: Vec<_> = (1..=1_000_000u64)
        .map(|content| Entry { hash: digest(), content: ContentId(content), bank: BankId(1) })
        .collect();
    let pool: Vec<Vec<Digest>> = (0..256).map(|_| (0..BATCH).map(|_| digest()).collect()).collect();
    let snapshot = ExactSnapshot::from_entries(entries);
    let (mut scratch, mut found, mut at) = (Scratch::default(), Vec::new(), 0);
    let mut group = criterion.benchmark_group("md5");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("1000000", |bencher| {
        bencher.iter(|| {
            at = (at + 1) % pool.len();
            found.clear();
            snapshot.search(&pool[at], Distance::new(0).expect("a threshold"), &mut scratch, &mut found);
            black_box(found.len())
        });
    });
    group.finish();
}

criterion_group!(benches, pdq, flat, probe, md5);
criterion_main!(benches);
