//! The ten nearest of a bank, at any distance: one core, uniform hashes.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use index::{BankId, ContentId, Entry, Hash256, NearestScratch, PdqSnapshot};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn hash(random: &mut ChaCha8Rng) -> Hash256 {
    let mut bytes = [0; 32];
    random.fill_bytes(&mut bytes);
    Hash256(bytes)
}

fn nearest(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("nearest");
    for count in [10_000, 100_000, 1_000_000u64] {
        let mut random = ChaCha8Rng::seed_from_u64(count);
        let entries: Vec<_> = (1..=count)
            .map(|content| Entry { hash: hash(&mut random), content: ContentId(content), bank: BankId(1) })
            .collect();
        let queries: Vec<Hash256> = (0..64).map(|_| hash(&mut random)).collect();
        let (snapshot, mut scratch, mut at) =
            (PdqSnapshot::from_entries(entries), NearestScratch::default(), 0);
        group.bench_function(format!("{count}"), |bencher| {
            bencher.iter(|| {
                at = (at + 1) % queries.len();
                black_box(snapshot.nearest(&queries[at], 10, 256, |_| true, &mut scratch).len())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, nearest);
criterion_main!(benches);
