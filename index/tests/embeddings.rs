//! Sets of embeddings: exact answers against plain arithmetic, graphs against exact answers, stored bytes
//! against what was stored.
#![allow(clippy::panic, clippy::unwrap_used)] // a test fails by panicking

use index::embeddings::{EmbeddingBuilder, EmbeddingError, EmbeddingSet, Metric, Strategy};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::ThreadPool;

fn pool() -> ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap()
}

fn number(random: &mut ChaCha8Rng) -> f32 {
    random.next_u32() as f32 / u32::MAX as f32 - 0.5
}

fn vector(random: &mut ChaCha8Rng, dimensions: usize) -> Vec<f32> {
    (0..dimensions).map(|_| number(random)).collect()
}

fn set(metric: Metric, vectors: &[Vec<f32>]) -> EmbeddingSet {
    let mut builder = EmbeddingBuilder::new(metric, Strategy::Auto);
    for (number, vector) in vectors.iter().enumerate() {
        builder.push(format!("id-{number}"), vector.clone()).unwrap();
    }
    builder.finish()
}

/// In double precision, with the definitions.
fn distance(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let sum =
        |f: fn(f64, f64) -> f64| a.iter().zip(b).map(|(a, b)| f(f64::from(*a), f64::from(*b))).sum::<f64>();
    match metric {
        Metric::Euclidean => sum(|a, b| (a - b) * (a - b)).sqrt(),
        Metric::Cosine => 1.0 - sum(|a, b| a * b) / (sum(|a, _| a * a) * sum(|_, b| b * b)).sqrt(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn an_exact_answer_is_what_the_definition_gives(
        seed: u64, dimensions in 1usize..70, points in 1usize..200, count in 1usize..20, cosine: bool,
    ) {
        let metric = if cosine { Metric::Cosine } else { Metric::Euclidean };
        let random = &mut ChaCha8Rng::seed_from_u64(seed);
        let vectors: Vec<_> = (0..points).map(|_| vector(random, dimensions)).collect();
        let query = vector(random, dimensions);
        let set = set(metric, &vectors);
        let found = set.nearest(query.clone(), count, false).unwrap();
        prop_assert_eq!(found.recall, None);
        prop_assert_eq!(found.matches.len(), count.min(points));
        let mut truth: Vec<f64> = vectors.iter().map(|vector| distance(metric, &query, vector)).collect();
        for (id, got) in &found.matches {
            let place: usize = id.strip_prefix("id-").unwrap().parse().unwrap();
            prop_assert!((distance(metric, &query, &vectors[place]) - f64::from(*got)).abs() < 1e-5);
        }
        truth.sort_by(f64::total_cmp);
        for ((_, got), want) in found.matches.iter().zip(&truth) {
            prop_assert!((f64::from(*got) - want).abs() < 1e-5, "{got} is not {want}");
        }
    }
}

/// Vectors around a thousand centres: neighbours that a graph can find, as in real embeddings.
fn grouped(count: usize, dimensions: usize) -> Vec<Vec<f32>> {
    let random = &mut ChaCha8Rng::seed_from_u64(1);
    let centres: Vec<_> = (0..count / 10).map(|_| vector(random, dimensions)).collect();
    let near = |place: usize, random: &mut ChaCha8Rng| {
        centres[place % centres.len()].iter().map(|n| n + number(random) / 4.0).collect()
    };
    (0..count).map(|place| near(place, random)).collect()
}

#[test]
fn a_graph_says_what_it_finds_and_is_the_same_when_read_back() {
    let vectors = grouped(3000, 48);
    let plain = set(Metric::Cosine, &vectors);
    let stored = plain.to_bytes();
    assert!(plain.graph_to_bytes(&stored).is_none());
    let graph = plain.with_graph(&pool());
    let recall = graph.recall().unwrap();
    assert!(recall > 0.9, "{recall}");

    let random = &mut ChaCha8Rng::seed_from_u64(2);
    let queries: Vec<Vec<f32>> =
        (0..200).map(|at| vectors[at * 7].iter().map(|n| n + number(random) / 4.0).collect()).collect();
    let (mut found, mut all) = (0, 0);
    for query in &queries {
        let exact = graph.nearest(query.clone(), 10, true).unwrap();
        assert_eq!(exact, plain.nearest(query.clone(), 10, false).unwrap());
        let approximate = graph.nearest(query.clone(), 10, false).unwrap();
        assert_eq!(approximate.recall, Some(recall), "an approximate answer says so");
        assert!(approximate.matches.is_sorted_by(|a, b| a.1 <= b.1));
        found += approximate.matches.iter().filter(|hit| exact.matches.contains(hit)).count();
        all += exact.matches.len();
    }
    let seen = found as f32 / all as f32;
    assert!((seen - recall).abs() < 0.1, "recall {recall} is promised, {seen} is what strangers get");

    let kept = graph.graph_to_bytes(&stored).unwrap();
    let mut read = EmbeddingSet::from_bytes(&stored).unwrap();
    read.take_graph(&stored, &kept).unwrap();
    assert_eq!((read.len(), read.dimensions(), read.recall()), (3000, 48, Some(recall)));
    for query in &queries {
        for exact in [false, true] {
            let answer = |set: &EmbeddingSet| format!("{:?}", set.nearest(query.clone(), 10, exact).unwrap());
            assert_eq!(answer(&read), answer(&graph));
        }
    }
}

#[test]
fn a_flipped_bit_a_cut_end_and_another_sets_graph_are_damage() {
    let vectors = grouped(300, 5);
    let plain = set(Metric::Euclidean, &vectors);
    let stored = plain.to_bytes();
    let kept = plain.with_graph(&pool()).graph_to_bytes(&stored).unwrap();
    let read = |set: &[u8], graph: &[u8]| {
        let mut read = EmbeddingSet::from_bytes(set).map_err(|error| error.to_string())?;
        read.take_graph(&stored, graph).map_err(|error| error.to_string())
    };
    read(&stored, &kept).unwrap();
    let random = &mut ChaCha8Rng::seed_from_u64(3);
    for whole in [&stored, &kept] {
        for _ in 0..300 {
            let mut spoilt = whole.clone();
            let at = random.next_u32() as usize % spoilt.len();
            spoilt[at] ^= 1 << (random.next_u32() % 8);
            let (set, graph) =
                if std::ptr::eq(whole, &stored) { (&spoilt, &kept) } else { (&stored, &spoilt) };
            read(set, graph).unwrap_err();
            spoilt.truncate(at);
            let (set, graph) =
                if std::ptr::eq(whole, &stored) { (&spoilt, &kept) } else { (&stored, &spoilt) };
            read(set, graph).unwrap_err();
        }
    }
    let other = set(Metric::Euclidean, &grouped(300, 6));
    let foreign = other.with_graph(&pool()).graph_to_bytes(&other.to_bytes()).unwrap();
    assert!(read(&stored, &foreign).unwrap_err().contains("another set"));
}

#[test]
fn what_cannot_be_compared_is_refused_and_the_rest_stays() {
    let mut builder = EmbeddingBuilder::new(Metric::Cosine, Strategy::Auto);
    let mut push = |id: &str, numbers: &[f32]| builder.push(id.into(), numbers.to_vec());
    assert_eq!(push("a", &[]), Err(EmbeddingError::Length(0)));
    assert_eq!(push("a", &[1.0; 8193]), Err(EmbeddingError::Length(8193)));
    assert_eq!(push("a", &[0.0, 0.0]), Err(EmbeddingError::Zero));
    assert_eq!(push("a", &[f32::NAN, 0.0]), Err(EmbeddingError::Number));
    assert_eq!(push("a", &[f32::INFINITY, 0.0]), Err(EmbeddingError::Number));
    assert_eq!(push("a", &[3e38, 3e38]), Ok(()), "its direction is all that counts");
    assert_eq!(push("b", &[1.0]), Err(EmbeddingError::Dimensions { got: 1, expected: 2 }));
    assert_eq!(push("a", &[1.0, 0.0]), Err(EmbeddingError::Id("a".into())));
    assert_eq!(push("", &[1.0, 0.0]), Err(EmbeddingError::Id("".into())));
    assert_eq!(push("b", &[1.0, 0.0]), Ok(()));
    let set = builder.finish();
    assert_eq!(set.nearest(vec![1.0, 0.1], 5, false).unwrap().matches.len(), 2);
    assert_eq!(set.nearest(vec![1.0], 5, false), Err(EmbeddingError::Dimensions { got: 1, expected: 2 }));
    let mut builder = EmbeddingBuilder::new(Metric::Euclidean, Strategy::Auto);
    assert_eq!(builder.push("a".into(), vec![1e19]), Err(EmbeddingError::Number));
    assert_eq!(builder.push("a".into(), vec![0.0]), Ok(()));
    assert!(EmbeddingBuilder::new(Metric::Cosine, Strategy::Auto).finish().is_empty());
}
