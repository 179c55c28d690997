//! Search against brute force, over random histories: adds, removals, merges that finish late.
#![allow(clippy::panic, clippy::unwrap_used)] // a test fails by panicking

use std::process::Command;

use index::{
    BankId, ContentId, Digest, Distance, Entry, ExactSnapshot, Found, Hash256, Kernel, MergeJob,
    NearestScratch, PdqSnapshot, Scratch,
};
use proptest::prelude::*;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What brute force finds.
fn oracle(entries: &[Entry<Hash256>], queries: &[Hash256], threshold: u16) -> Vec<Found> {
    let mut found = Vec::new();
    for (at, query) in queries.iter().enumerate() {
        for entry in entries {
            let distance = query.distance(&entry.hash);
            if distance.bits() <= threshold {
                found.push(Found { query: at as u32, content: entry.content, bank: entry.bank, distance });
            }
        }
    }
    found.sort_by_key(|hit| (hit.query, hit.distance, hit.content));
    found
}

fn search(snapshot: &PdqSnapshot, queries: &[Hash256], threshold: u16) -> Vec<Found> {
    let mut found = Vec::new();
    snapshot.search(queries, Distance::new(threshold).unwrap(), &mut Scratch::default(), &mut found);
    found
}

fn flip(hash: &Hash256, bits: usize, random: &mut ChaCha8Rng) -> Hash256 {
    let mut order: Vec<usize> = (0..256).collect();
    let mut flipped = *hash;
    for at in 0..bits {
        let other = random.random_range(at..256);
        order.swap(at, other);
        flipped.0[order[at] / 8] ^= 1 << (order[at] % 8);
    }
    flipped
}

fn digest(key: u8) -> Digest {
    Digest::new(&[key; 20]).unwrap()
}

/// How hashes are spread.
#[derive(Clone, Copy, Debug)]
enum Data {
    Uniform,
    /// Near-duplicates of a few hashes.
    Clustered,
    /// A few bits only: crowded buckets.
    LowEntropy,
}

fn draw(data: Data, random: &mut ChaCha8Rng) -> Hash256 {
    let mut bytes = [0; 32];
    match data {
        Data::Uniform => random.fill_bytes(&mut bytes),
        Data::Clustered => {
            let centre = Hash256([random.random_range(0..4u8) * 0x55; 32]);
            let bits = random.random_range(0..40);
            return flip(&centre, bits, random);
        }
        Data::LowEntropy => bytes[random.random_range(0..32)] = random.random_range(0..4),
    }
    Hash256(bytes)
}

#[derive(Clone, Debug)]
enum Step {
    Add(u16),
    Remove(u8),
    RemoveBank(u8),
    PlanMerge,
    FinishMerge,
    Search(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (1u16..3000).prop_map(Step::Add),
        4 => any::<u8>().prop_map(Step::Remove),
        1 => (0u8..4).prop_map(Step::RemoveBank),
        3 => Just(Step::PlanMerge),
        3 => Just(Step::FinishMerge),
        4 => (0u16..65).prop_map(Step::Search),
    ];
    prop::collection::vec(step, 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_search_finds_what_brute_force_finds_in_every_state(
        steps in steps(),
        data in prop_oneof![Just(Data::Uniform), Just(Data::Clustered), Just(Data::LowEntropy)],
        loaded in prop_oneof![Just(0u64), Just(33_000)], // so many that merges leave their segment alone
        seed: u64,
    ) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut banks = Vec::from([1, 2, 3, 4].map(BankId));
        let mut entries: Vec<Entry<Hash256>> = (1..=loaded).map(|content| {
            let bank = banks[random.random_range(0..banks.len())];
            Entry { hash: draw(data, &mut random), content: ContentId(content), bank }
        }).collect();
        let mut snapshot = PdqSnapshot::from_entries(entries.clone());
        let mut merge: Option<MergeJob<Hash256>> = None;
        let (mut last_content, mut last_bank) = (loaded, 4);
        for step in steps.into_iter().chain([Step::FinishMerge, Step::Search(31)]) {
            match step {
                Step::Add(count) => {
                    let added: Vec<_> = (0..count).map(|_| {
                        last_content += 1;
                        let bank = banks[random.random_range(0..banks.len())];
                        Entry { hash: draw(data, &mut random), content: ContentId(last_content), bank }
                    }).collect();
                    snapshot = snapshot.with_added(&added);
                    entries.extend(added);
                }
                Step::Remove(share) => {
                    let gone: Vec<ContentId> = entries.iter().filter(|_| random.random_range(0..256) < u32::from(share)).map(|entry| entry.content).collect();
                    if !gone.is_empty() {
                        snapshot = snapshot.with_removed(&gone);
                        entries.retain(|entry| gone.binary_search(&entry.content).is_err());
                    }
                }
                Step::RemoveBank(which) => {
                    let bank = banks[usize::from(which)];
                    let signals = entries.iter().filter(|entry| entry.bank == bank).count();
                    snapshot = snapshot.with_bank_removed(bank, signals);
                    entries.retain(|entry| entry.bank != bank);
                    last_bank += 1;
                    banks[usize::from(which)] = BankId(last_bank);
                }
                Step::PlanMerge if merge.is_none() => merge = snapshot.plan_merge(),
                Step::PlanMerge => {}
                Step::FinishMerge => if let Some(job) = merge.take() {
                    snapshot = snapshot.with_merged(job.run());
                },
                Step::Search(threshold) => {
                    let mut queries: Vec<Hash256> = (0..3).map(|_| draw(data, &mut random)).collect();
                    for bits in [0, usize::from(threshold), usize::from(threshold) + 1] {
                        if let Some(at) = entries.len().checked_sub(1) {
                            let near = entries[random.random_range(0..=at)].hash;
                            queries.push(flip(&near, bits, &mut random));
                        }
                    }
                    prop_assert_eq!(snapshot.len(), entries.len());
                    prop_assert_eq!(search(&snapshot, &queries, threshold), oracle(&entries, &queries, threshold));
                }
            }
        }
        prop_assert!(snapshot.stats().segments.len() < 12, "segments pile up: {:?}", snapshot.stats());
    }

    #[test]
    fn segments_keep_their_limit_and_a_search_over_several_is_exact(
        steps in steps(),
        data in prop_oneof![Just(Data::Uniform), Just(Data::Clustered)],
        segment_max in 300usize..4000,
        loaded in 0u64..9000,
        seed: u64,
    ) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut entries: Vec<Entry<Hash256>> = (1..=loaded).map(|content| {
            Entry { hash: draw(data, &mut random), content: ContentId(content), bank: BankId(1 + content as u32 % 4) }
        }).collect();
        entries.reverse(); // as they may come from a store with several banks
        let mut snapshot = PdqSnapshot::of(entries.clone(), segment_max);
        let (mut last_content, mut banks, mut last_bank) = (loaded, [1, 2, 3, 4].map(BankId), 4);
        for step in steps.into_iter().chain([Step::FinishMerge, Step::Search(31)]) {
            match step {
                Step::Add(count) => {
                    let added: Vec<_> = (0..count).map(|_| {
                        last_content += 1;
                        let bank = banks[last_content as usize % 4];
                        Entry { hash: draw(data, &mut random), content: ContentId(last_content), bank }
                    }).collect();
                    snapshot = snapshot.with_added(&added);
                    entries.extend(added);
                }
                Step::Remove(share) => {
                    let goes = |_: &&Entry<Hash256>| random.random_range(0..256) < u32::from(share);
                    let mut gone: Vec<ContentId> = entries.iter().filter(goes).map(|entry| entry.content).collect();
                    gone.sort_unstable();
                    if !gone.is_empty() {
                        snapshot = snapshot.with_removed(&gone);
                        entries.retain(|entry| gone.binary_search(&entry.content).is_err());
                    }
                }
                Step::RemoveBank(which) => {
                    let bank = banks[usize::from(which)];
                    let signals = entries.iter().filter(|entry| entry.bank == bank).count();
                    snapshot = snapshot.with_bank_removed(bank, signals);
                    entries.retain(|entry| entry.bank != bank);
                    last_bank += 1;
                    banks[usize::from(which)] = BankId(last_bank);
                }
                Step::PlanMerge => while let Some(job) = snapshot.plan_merge() {
                    snapshot = snapshot.with_merged(job.run());
                },
                Step::FinishMerge => {
                    while let Some(job) = snapshot.plan_merge().or_else(|| snapshot.plan_idle_merge()) {
                        snapshot = snapshot.with_merged(job.run());
                    }
                    let segments = snapshot.stats().segments;
                    let mut pairs = segments.windows(2);
                    prop_assert!(pairs.all(|pair| pair[0] + pair[1] > segment_max || pair.iter().min() < Some(&8)), "{segments:?}");
                }
                Step::Search(threshold) => {
                    let mut queries: Vec<Hash256> = (0..2).map(|_| draw(data, &mut random)).collect();
                    for bits in [0, usize::from(threshold), usize::from(threshold) + 1] {
                        if let Some(at) = entries.len().checked_sub(1) {
                            queries.push(flip(&entries[random.random_range(0..=at)].hash, bits, &mut random));
                        }
                    }
                    prop_assert_eq!(search(&snapshot, &queries, threshold), oracle(&entries, &queries, threshold));
                }
            }
            let stats = snapshot.stats();
            prop_assert!(stats.segments.iter().all(|signals| *signals <= segment_max), "{stats:?}");
            prop_assert_eq!(snapshot.len(), entries.len());
            let held = stats.segments.iter().sum::<usize>() + stats.delta;
            prop_assert_eq!(held - stats.dead, entries.len());
        }
    }

    #[test]
    fn exact_signals_match_exactly(
        keys in prop::collection::vec(0u8..40, 0..3000),
        removed in prop::collection::vec(any::<bool>(), 3000),
        merge: bool,
    ) {
        let entry = |(at, key): (usize, &u8)| Entry {
            hash: digest(*key), content: ContentId(at as u64 + 1), bank: BankId(1),
        };
        let mut entries: Vec<_> = keys.iter().enumerate().map(entry).collect();
        let half = entries.len() / 2;
        let mut snapshot = ExactSnapshot::from_entries(entries[..half].to_vec()).with_added(&entries[half..]);
        let gone: Vec<ContentId> = entries.iter().zip(&removed).filter(|(_, gone)| **gone).map(|(entry, _)| entry.content).collect();
        if !gone.is_empty() {
            snapshot = snapshot.with_removed(&gone);
        }
        entries.retain(|entry| gone.binary_search(&entry.content).is_err());
        if merge && let Some(job) = snapshot.plan_merge() {
            snapshot = snapshot.with_merged(job.run());
        }
        for key in 0..41 {
            let mut found = Vec::new();
            snapshot.search(&[digest(key)], Distance::new(0).unwrap(), &mut Scratch::default(), &mut found);
            let contents: Vec<_> = found.iter().map(|hit| hit.content).collect();
            let expected: Vec<_> = entries.iter().filter(|entry| entry.hash == digest(key)).map(|entry| entry.content).collect();
            prop_assert_eq!(contents, expected);
        }
    }
}

#[test]
fn planted_hashes_are_found_up_to_the_threshold_and_not_beyond() {
    let mut random = ChaCha8Rng::seed_from_u64(31);
    let entries: Vec<_> = (1..=100_000)
        .map(|content| Entry {
            hash: draw(Data::Uniform, &mut random),
            content: ContentId(content),
            bank: BankId(1),
        })
        .collect();
    let snapshot = PdqSnapshot::from_entries(entries.clone());
    for bits in [0, 1, 15, 16, 30, 31, 32, 33] {
        let planted: Vec<usize> = (0..500).map(|_| random.random_range(0..entries.len())).collect();
        let queries: Vec<Hash256> =
            planted.iter().map(|at| flip(&entries[*at].hash, bits, &mut random)).collect();
        let found = search(&snapshot, &queries, 31);
        if bits <= 31 {
            let contents: Vec<_> = found.iter().map(|hit| hit.content).collect();
            let expected: Vec<_> = planted.iter().map(|at| entries[*at].content).collect();
            assert_eq!(contents, expected, "at {bits} bits");
        } else {
            assert!(found.is_empty(), "at {bits} bits");
        }
    }
}

/// A process has one kernel, so each gets a process: this test program again, with the kernel forced.
#[test]
fn every_kernel_searches_as_brute_force_does() {
    for kernel in Kernel::available() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_search_finds_what_brute_force_finds_in_every_state"])
            .arg("planted_hashes_are_found_up_to_the_threshold_and_not_beyond")
            .env("HASHWARD_KERNEL", kernel.name())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("2 passed"), "{}: {said}", kernel.name());
    }
}

#[test]
fn a_bulk_import_keeps_segments_few_and_removals_free_their_room() {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let mut snapshot = PdqSnapshot::default();
    let mut content = 0;
    for _ in 0..50 {
        let batch: Vec<_> = (0..2048)
            .map(|_| {
                content += 1;
                Entry { hash: draw(Data::Uniform, &mut random), content: ContentId(content), bank: BankId(1) }
            })
            .collect();
        snapshot = snapshot.with_added(&batch);
        while let Some(job) = snapshot.plan_merge() {
            snapshot = snapshot.with_merged(job.run());
        }
    }
    assert!(snapshot.stats().segments.len() <= 6, "{:?}", snapshot.stats());
    let gone: Vec<ContentId> = (1..=60_000).map(ContentId).collect();
    snapshot = snapshot.with_removed(&gone);
    while let Some(job) = snapshot.plan_merge() {
        snapshot = snapshot.with_merged(job.run());
    }
    let stats = snapshot.stats();
    assert_eq!((snapshot.len(), stats.dead), (50 * 2048 - 60_000, 0), "{stats:?}");
}

#[test]
fn what_was_removed_stays_removed_when_a_merge_leaves_its_segment_alone() {
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let all: Vec<_> = (0..40_600u64)
        .map(|at| Entry {
            hash: draw(Data::Uniform, &mut random),
            content: ContentId(at + 1),
            bank: BankId(1 + u32::from(at % 10 == 3)),
        })
        .collect();
    let (loaded, added) = all.split_at(40_000);
    // A fifth goes: from a quarter on everything would be merged.
    let gone: Vec<ContentId> = all.iter().step_by(10).map(|entry| entry.content).collect();
    let mut left = all.clone();
    left.retain(|entry| gone.binary_search(&entry.content).is_err());
    let snapshot = PdqSnapshot::from_entries(loaded.to_vec()).with_added(added).with_removed(&gone);
    let of_bank = left.iter().filter(|entry| entry.bank == BankId(2)).count();
    let snapshot = snapshot.with_bank_removed(BankId(2), of_bank);
    left.retain(|entry| entry.bank != BankId(2));

    let snapshot = snapshot.with_merged(snapshot.plan_merge().unwrap().run());

    let stats = snapshot.stats();
    assert!(stats.segments[0] == 40_000 && stats.segments.len() == 2, "all was merged: {stats:?}");
    let queries: Vec<Hash256> = all.iter().rev().step_by(7).map(|entry| entry.hash).collect();
    let found: Vec<ContentId> = search(&snapshot, &queries, 0).iter().map(|hit| hit.content).collect();
    let alive = |query: &Hash256| left.iter().find(|entry| entry.hash == *query).map(|entry| entry.content);
    assert_eq!(found, queries.iter().filter_map(alive).collect::<Vec<_>>());
    assert_eq!(snapshot.len(), left.len());
}

#[test]
fn the_nearest_are_those_that_brute_force_ranks_first() {
    let mut random = ChaCha8Rng::seed_from_u64(31);
    for data in [Data::Uniform, Data::Clustered, Data::LowEntropy] {
        let entry = |content: u64, random: &mut ChaCha8Rng| Entry {
            hash: draw(if content.is_multiple_of(3) { data } else { Data::Uniform }, random),
            content: ContentId(content),
            bank: BankId(1 + (content % 5) as u32),
        };
        let loaded: Vec<_> = (1..=9000).map(|content| entry(content, &mut random)).collect();
        let added: Vec<_> = (9001..=9700).map(|content| entry(content, &mut random)).collect();
        let gone: Vec<ContentId> =
            loaded.iter().chain(&added).step_by(4).map(|entry| entry.content).collect();
        let mut left = [loaded.clone(), added.clone()].concat();
        left.retain(|entry| gone.binary_search(&entry.content).is_err());
        let of_bank = left.iter().filter(|entry| entry.bank == BankId(2)).count();
        left.retain(|entry| entry.bank != BankId(2));
        let snapshot = PdqSnapshot::from_entries(loaded).with_added(&added).with_removed(&gone);
        let snapshot = snapshot.with_bank_removed(BankId(2), of_bank);
        let mut scratch = NearestScratch::default();
        for (round, farthest) in [0, 5, 31, 60, 120, 256].into_iter().cycle().take(60).enumerate() {
            let query = match round % 3 {
                0 => draw(Data::Uniform, &mut random),
                1 => draw(data, &mut random),
                _ => flip(&left[round * 7].hash, round % 40, &mut random),
            };
            let wanted = |bank: BankId| round % 2 == 0 || bank != BankId(3);
            let count = [1, 3, 10, 500][round % 4];
            let kept: Vec<_> = left.iter().filter(|entry| wanted(entry.bank)).copied().collect();
            let mut expected = oracle(&kept, &[query], farthest);
            expected.truncate(count);
            let found = snapshot.nearest(&query, count, farthest, wanted, &mut scratch);
            assert!(found == expected, "{data:?}, {count} within {farthest}");
        }
    }
}

#[test]
fn a_bulk_search_finds_what_single_searches_find() {
    for data in [Data::Uniform, Data::Clustered, Data::LowEntropy] {
        let mut random = ChaCha8Rng::seed_from_u64(21);
        for count in [300u64, 20_000, 60_000] {
            let entry = |content, random: &mut ChaCha8Rng| {
                // Skewed data is a part of a bank, as in life: all of it would be answers without end.
                let data = if content % 50 == 0 { data } else { Data::Uniform };
                Entry { hash: draw(data, random), content: ContentId(content), bank: BankId(1) }
            };
            let loaded: Vec<_> = (1..=count).map(|content| entry(content, &mut random)).collect();
            let added: Vec<_> = (count + 1..count + 300).map(|content| entry(content, &mut random)).collect();
            let gone: Vec<ContentId> = loaded.iter().step_by(9).map(|entry| entry.content).collect();
            let snapshot = PdqSnapshot::from_entries(loaded.clone()).with_added(&added).with_removed(&gone);
            let queries: Vec<Hash256> = (0..20_000)
                .map(|at| match at % 4 {
                    0 => flip(&loaded[random.random_range(0..loaded.len())].hash, at % 40, &mut random),
                    1 if at % 20 == 1 => draw(data, &mut random),
                    _ => draw(Data::Uniform, &mut random),
                })
                .collect();
            for threshold in [0, 15, 31, 40] {
                let (mut found, mut told) = (Vec::new(), vec![0; queries.len()]);
                let (bits, limit) = (Distance::new(threshold).unwrap(), 3);
                snapshot.search_bulk(&queries, bits, limit, |row| {
                    found.extend_from_slice(row.listed);
                    told[row.query as usize] = row.total;
                });
                let all = search(&snapshot, &queries, threshold);
                let mut totals = vec![0; queries.len()];
                let listed = all.into_iter().filter(|hit| {
                    totals[hit.query as usize] += 1;
                    totals[hit.query as usize] <= limit as u32
                });
                let listed: Vec<Found> = listed.collect();
                // Rows name the query of their block; the list is in the order of queries.
                let plain = |found: &[Found]| -> Vec<_> {
                    found.iter().map(|hit| (hit.content, hit.bank, hit.distance)).collect()
                };
                assert!(plain(&found) == plain(&listed), "{data:?} {count} at {threshold}");
                assert!(told == totals, "{data:?} {count} at {threshold}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "two merges were planned at once")]
fn two_merges_at_once_are_refused_even_where_no_segment_is_replaced() {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let entries: Vec<_> = (1..=5000)
        .map(|content| Entry {
            hash: draw(Data::Uniform, &mut random),
            content: ContentId(content),
            bank: BankId(1),
        })
        .collect();
    let snapshot = PdqSnapshot::default().with_added(&entries);
    let (first, second) = (snapshot.plan_merge().unwrap(), snapshot.plan_merge().unwrap());
    let merged = snapshot.with_merged(first.run());
    let _ = merged.with_merged(second.run());
}
