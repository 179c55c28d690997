//! The nearest of all, at any distance: by looking at everything, and by a graph. What a graph saves, what it
//! misses, and what it takes to build one.

use std::time::Instant;

use anyhow::Result;
use index::embeddings::{EmbeddingBuilder, Metric, Strategy};
use index::graph::{Graph, Point};
use index::{BankId, ContentId, Entry, Hash256, Kernel, NearestScratch, PdqSnapshot};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde_json::{Value, json};

/// Neighbours asked for.
const COUNT: usize = 10;
const QUERIES: usize = 200;
/// Numbers of an embedding.
const DIMENSIONS: usize = 128;

/// A PDQ hash as a point of a graph.
#[derive(Clone)]
struct HashPoint(Hash256);

impl Point for HashPoint {
    fn distance(&self, other: &Self) -> f32 {
        f32::from(self.0.distance(&other.0).bits())
    }
}

/// One object a size and kind, given to `say` when it is measured.
pub fn measure(sizes: &[usize], say: impl Fn(Value)) -> Result<()> {
    let pool = ThreadPoolBuilder::new().num_threads(1).build()?;
    for n in sizes {
        say(hashes(*n, &pool));
        say(embeddings(*n, &pool)?);
    }
    Ok(())
}

/// Uniform hashes; half the questions lie 32 to 64 bits from a banked one, half are strangers.
fn hashes(n: usize, pool: &ThreadPool) -> Value {
    let mut random = ChaCha8Rng::seed_from_u64(n as u64);
    let mut bytes = [0; 32];
    let mut hash = |random: &mut ChaCha8Rng| {
        random.fill_bytes(&mut bytes);
        Hash256(bytes)
    };
    let banked: Vec<Hash256> = (0..n).map(|_| hash(&mut random)).collect();
    let queries: Vec<Hash256> = (0..QUERIES)
        .map(|at| {
            if at % 2 == 0 {
                return hash(&mut random);
            }
            let mut near = banked[random.random_range(0..n)];
            for _ in 0..random.random_range(32..64) {
                let bit = random.random_range(0..256usize);
                near.0[bit / 8] ^= 1 << (bit % 8);
            }
            near
        })
        .collect();
    let entry = |(hash, id): (&Hash256, u64)| Entry { hash: *hash, content: ContentId(id), bank: BankId(1) };
    let snapshot = PdqSnapshot::from_entries(banked.iter().zip(1..).map(entry).collect());
    let mut scratch = NearestScratch::default();
    let (exact_us, exact) = timed(&queries, |query| {
        let found = snapshot.nearest(query, COUNT, 256, |_| true, &mut scratch);
        found.iter().map(|hit| u32::from(hit.distance.bits())).collect::<Vec<u32>>()
    });
    let begun = Instant::now();
    let graph = Graph::build(banked.into_iter().map(HashPoint).collect(), pool);
    let build_s = begun.elapsed().as_secs_f64();
    let (graph_us, found) = timed(&queries, |query| {
        graph.nearest(&HashPoint(*query), COUNT).iter().map(|near| near.distance as u32).collect::<Vec<u32>>()
    });
    // By distance: of neighbours as far away as the last any may be named.
    let share = |near: usize| {
        let pairs = exact.iter().zip(&found).skip(near).step_by(2);
        let right = |(exact, found): (&Vec<u32>, &Vec<u32>)| {
            let last = exact.last().copied().unwrap_or(0);
            found.iter().filter(|distance| **distance <= last).count()
        };
        pairs.map(right).sum::<usize>() as f64 / (QUERIES / 2 * COUNT) as f64
    };
    json!({
        "kind": "pdq", "n": n, "kernel": Kernel::current().name(), "exact_us": exact_us, "graph_us": graph_us,
        "graph_build_s": build_s, "recall_near": share(1), "recall_strangers": share(0),
        "recall_said": graph.recall(),
    })
}

/// Made-up embeddings in groups of ten; questions are like them, and not among them.
fn embeddings(n: usize, pool: &ThreadPool) -> Result<Value> {
    let mut random = ChaCha8Rng::seed_from_u64(n as u64);
    let vector = |random: &mut ChaCha8Rng| -> Vec<f32> {
        (0..DIMENSIONS).map(|_| random.random::<f32>() - 0.5).collect()
    };
    let centres: Vec<Vec<f32>> = (0..n.div_ceil(10)).map(|_| vector(&mut random)).collect();
    let like = |random: &mut ChaCha8Rng| -> Vec<f32> {
        let centre = random.random_range(0..centres.len());
        vector(random).iter().zip(&centres[centre]).map(|(noise, number)| number + noise / 2.0).collect()
    };
    let mut builder = EmbeddingBuilder::new(Metric::Cosine, Strategy::Graph);
    for at in 0..n {
        builder.push(at.to_string(), like(&mut random))?;
    }
    let plain = builder.finish();
    let queries: Vec<Vec<f32>> = (0..QUERIES).map(|_| like(&mut random)).collect();
    let begun = Instant::now();
    let set = plain.with_graph(pool);
    let build_s = begun.elapsed().as_secs_f64();
    let ask = |query: &Vec<f32>, exact: bool| {
        let found = set.nearest(query.clone(), COUNT, exact);
        found
            .map_or_else(|_| Vec::new(), |found| found.matches.iter().map(|(id, _)| id.to_string()).collect())
    };
    let (exact_us, exact) = timed(&queries, |query| ask(query, true));
    let (graph_us, found) = timed(&queries, |query| ask(query, false));
    let right =
        exact.iter().zip(&found).map(|(exact, found)| found.iter().filter(|id| exact.contains(id)).count());
    Ok(json!({
        "kind": "embeddings", "n": n, "dimensions": DIMENSIONS, "exact_us": exact_us, "graph_us": graph_us,
        "graph_build_s": build_s, "recall": right.sum::<usize>() as f64 / (QUERIES * COUNT) as f64,
        "recall_said": set.recall(),
    }))
}

/// The median time of a question in microseconds, and all answers.
fn timed<Q, A>(queries: &[Q], mut ask: impl FnMut(&Q) -> A) -> (f64, Vec<A>) {
    let (mut times, mut answers) = (Vec::new(), Vec::new());
    for query in queries {
        let begun = Instant::now();
        answers.push(ask(query));
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], answers)
}
