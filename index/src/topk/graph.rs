//! A graph of neighbours (HNSW, by `instant-distance`): finds most of the nearest points while looking at few.
//!
//! It is built once, of all points, and never changed. Building takes about a millisecond a point on one core,
//! so it is the caller's pool that builds, and never a shard's thread.

use std::collections::{BinaryHeap, HashSet};

pub use instant_distance::Point;
use instant_distance::{Builder, Hnsw, Search};
use rayon::ThreadPool;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use serde::{Deserialize, Serialize};

/// Candidates kept while a point finds its neighbours,
const EF_BUILD: usize = 100;
/// and while a query does: more than it asks for, so that it rarely ends beside the best.
pub const EF_SEARCH: usize = 100;
/// The same points make the same graph.
const SEED: u64 = 7400;
/// Recall is that of the so many nearest
pub const RECALL_AT: usize = 10;
/// for so many of the points.
const RECALL_QUERIES: usize = 200;

/// A point found: its place among those the graph was built of, and how far it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Near {
    /// Place among the points given to [`Graph::build`].
    pub place: u32,
    /// As [`Point::distance`] says.
    pub distance: f32,
}

/// Points with their neighbours. Immutable.
#[derive(Serialize, Deserialize)]
#[serde(bound(serialize = "P: Serialize", deserialize = "P: Deserialize<'de>"))]
pub struct Graph<P> {
    hnsw: Hnsw<P>,
    /// The place of each of the graph's points, which are in an order of its own.
    places: Vec<u32>,
    recall: f32,
}

impl<P: Point + Send> Graph<P> {
    /// Builds the graph on this pool, and measures what it finds. At most 2^32 − 1 points.
    pub fn build(points: Vec<P>, pool: &ThreadPool) -> Self {
        pool.install(|| {
            let builder = Builder::default().ef_construction(EF_BUILD).ef_search(EF_SEARCH).seed(SEED);
            let (hnsw, ids) = builder.build_hnsw(points);
            let mut places = vec![0; ids.len()];
            for (place, id) in ids.into_iter().enumerate() {
                places[id.into_inner() as usize] = place as u32;
            }
            let mut graph = Self { hnsw, places, recall: 1.0 };
            graph.recall = graph.measure();
            graph
        })
    }

    /// Points in it.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The share of the [`RECALL_AT`] nearest that it finds: measured with points of its own as queries, each
    /// against all others.
    pub fn recall(&self) -> f32 {
        self.recall
    }

    /// Most of the `count` points nearest to this one, nearest first; [`EF_SEARCH`] at most.
    pub fn nearest(&self, query: &P, count: usize) -> Vec<Near> {
        let mut search = Search::default();
        let found = self.hnsw.search(query, &mut search);
        let near = |id: u32, distance| Some(Near { place: *self.places.get(id as usize)?, distance });
        found.take(count).filter_map(|item| near(item.pid.into_inner(), item.distance)).collect()
    }

    /// The points, in the order they were given in.
    pub fn points(&self) -> Vec<P> {
        let mut points: Vec<(u32, &P)> = self.of_all().collect();
        points.sort_unstable_by_key(|(place, _)| *place);
        points.into_iter().map(|(_, point)| point.clone()).collect()
    }

    fn of_all(&self) -> impl Iterator<Item = (u32, &P)> {
        self.places.iter().zip(self.hnsw.iter()).map(|(place, (_, point))| (*place, point))
    }

    fn measure(&self) -> f32 {
        let step = self.len().div_ceil(RECALL_QUERIES).max(1);
        let queries: Vec<(u32, &P)> = self.of_all().step_by(step).collect();
        let share = |(own, query): (u32, &P)| {
            // One more than counts: a point finds itself.
            let others = |near: Vec<Near>| {
                near.into_iter().map(|near| near.place).filter(move |place| *place != own).take(RECALL_AT)
            };
            let truth: HashSet<u32> = others(exact(self.of_all(), query, RECALL_AT + 1)).collect();
            let found = others(self.nearest(query, RECALL_AT + 1)).filter(|place| truth.contains(place));
            (found.count(), truth.len())
        };
        let sum = |a: (usize, usize), b: (usize, usize)| (a.0 + b.0, a.1 + b.1);
        let (found, all) = queries.into_par_iter().map(share).reduce(|| (0, 0), sum);
        if all == 0 { 1.0 } else { found as f32 / all as f32 }
    }
}

/// The `count` points nearest to this one by distance, then by place, by looking at all of them.
pub fn exact<'a, P: Point + 'a>(
    points: impl Iterator<Item = (u32, &'a P)>,
    query: &P,
    count: usize,
) -> Vec<Near> {
    let mut best = BinaryHeap::with_capacity(count + 1);
    for (place, point) in points {
        best.push(Ranked(Near { place, distance: query.distance(point) }));
        if best.len() > count {
            best.pop();
        }
    }
    best.into_sorted_vec().into_iter().map(|Ranked(near)| near).collect()
}

/// Ordered by distance, then by place.
struct Ranked(Near);

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.distance.total_cmp(&other.0.distance).then(self.0.place.cmp(&other.0.place))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}
