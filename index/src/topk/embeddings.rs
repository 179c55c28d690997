//! Sets of float embeddings, and the ones nearest to a vector.
//!
//! A set is immutable: it is imported whole and replaced whole. Small ones are read through, so their answers
//! are exact; for larger ones a [`Graph`] is built, and answers say that they are approximate.

use std::collections::HashSet;
use std::sync::Arc;

use instant_distance::Point;
use rayon::ThreadPool;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::graph::{EF_SEARCH, Graph, Near, exact};

/// Numbers of a vector.
pub const DIMENSIONS_MAX: usize = 8192;
/// Bytes of an id.
pub const ID_MAX: usize = 255;
/// Numbers read for an exact answer without a graph: some 10 ms on one core. At a third of it a graph is no faster
/// (`hashward-peers nearest`), and below it nobody who looks into a match would notice.
pub const EXACT_NUMBERS: usize = 32 << 20;
/// Bytes of a point in a graph beside its numbers: 64 neighbours, its share of the layers above, its id.
const POINT_BYTES: usize = 400;
/// First bytes of a stored set, and of a stored graph. The last one counts their layouts: that of a graph is
/// `instant-distance` 0.6's.
const SET_MAGIC: [u8; 8] = *b"hwpoint\x01";
const GRAPH_MAGIC: [u8; 8] = *b"hwgraph\x01";
/// Length of magic, checksum and count of bytes.
const HEAD: usize = 20;

/// How far apart two vectors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// 1 − the cosine of their angle: 0 to 2.
    Cosine,
    /// The length of their difference.
    Euclidean,
}

/// How the nearest are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// By looking at all of them up to [`EXACT_NUMBERS`], by a graph beyond.
    #[default]
    Auto,
    /// By looking at all of them, however many.
    Exact,
    /// By a graph, however few.
    Graph,
}

/// Why a vector is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmbeddingError {
    /// Its length differs from the others'.
    #[error("the vector has {got} numbers, those of this set have {expected}")]
    Dimensions {
        /// Numbers it has.
        got: usize,
        /// Numbers it must have.
        expected: usize,
    },
    /// No numbers, or more than [`DIMENSIONS_MAX`].
    #[error("a vector has 1 to {DIMENSIONS_MAX} numbers, this one has {0}")]
    Length(usize),
    /// Infinite, not a number, or so large that distances were.
    #[error("a number of the vector is not finite or too large to measure distances with")]
    Number,
    /// Nothing has an angle to it.
    #[error("all numbers of the vector are zero: it has no direction, which the cosine needs")]
    Zero,
    /// The id is taken, empty or too long.
    #[error("id '{0}' is there twice, empty, or longer than {ID_MAX} bytes")]
    Id(String),
}

/// A stored set or graph that is not as it was written.
#[derive(Debug, thiserror::Error)]
#[error("it is not as it was written ({0})")]
pub struct Damaged(&'static str);

/// A vector; those compared by their angle have length 1.
#[derive(Clone)]
struct Embedding(Arc<[f32]>);

impl Point for Embedding {
    /// The square of the difference's length, from which both metrics follow.
    fn distance(&self, other: &Self) -> f32 {
        // Sixteen sums side by side are vector instructions on every CPU.
        let (mine, my_rest) = self.0.as_chunks::<16>();
        let (others, other_rest) = other.0.as_chunks::<16>();
        let mut sums = [0f32; 16];
        for (a, b) in mine.iter().zip(others) {
            for lane in 0..16 {
                let difference = a[lane] - b[lane];
                sums[lane] += difference * difference;
            }
        }
        let rest = my_rest.iter().zip(other_rest).map(|(a, b)| (a - b) * (a - b));
        sums.iter().sum::<f32>() + rest.sum::<f32>()
    }
}

impl Serialize for Embedding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_ref().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Embedding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(|numbers| Self(numbers.into()))
    }
}

/// The ones found, nearest first.
#[derive(Clone, Debug, PartialEq)]
pub struct NearestEmbeddings<'a> {
    /// Ids and distances.
    pub matches: Vec<(&'a str, f32)>,
    /// The recall measured for the graph that answered; `None`: the answer is exact.
    pub recall: Option<f32>,
}

/// Embeddings with ids. Immutable.
pub struct EmbeddingSet {
    metric: Metric,
    strategy: Strategy,
    dimensions: usize,
    ids: Vec<String>,
    /// In the order of the ids.
    points: Vec<Embedding>,
    /// Shares the points.
    graph: Option<Graph<Embedding>>,
}

/// A set on its way.
pub struct EmbeddingBuilder {
    metric: Metric,
    strategy: Strategy,
    dimensions: Option<usize>,
    ids: Vec<String>,
    known: HashSet<String>,
    points: Vec<Embedding>,
}

impl EmbeddingBuilder {
    /// An empty set.
    pub fn new(metric: Metric, strategy: Strategy) -> Self {
        Self {
            metric,
            strategy,
            dimensions: None,
            ids: Vec::new(),
            known: HashSet::new(),
            points: Vec::new(),
        }
    }

    /// Adds an embedding, or says why not; the others stay.
    pub fn push(&mut self, id: String, numbers: Vec<f32>) -> Result<(), EmbeddingError> {
        let point = embedding(self.metric, self.dimensions.unwrap_or(numbers.len()), numbers)?;
        if id.is_empty() || id.len() > ID_MAX || !self.known.insert(id.clone()) {
            return Err(EmbeddingError::Id(id.chars().take(ID_MAX).collect()));
        }
        self.dimensions = Some(point.0.len());
        self.ids.push(id);
        self.points.push(point);
        Ok(())
    }

    /// Bytes of memory the set and a graph of it will take.
    pub fn bytes(&self) -> usize {
        planned_bytes(self.ids.len(), self.dimensions.unwrap_or(0))
    }

    /// The set.
    pub fn finish(self) -> EmbeddingSet {
        EmbeddingSet {
            metric: self.metric,
            strategy: self.strategy,
            dimensions: self.dimensions.unwrap_or(0),
            ids: self.ids,
            points: self.points,
            graph: None,
        }
    }
}

impl EmbeddingSet {
    /// Its metric.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// How the nearest are found.
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// Numbers of each vector; 0 while there is none.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Embeddings in it.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Bytes of memory it takes, the graph included that it has or will have.
    pub fn bytes(&self) -> usize {
        planned_bytes(self.len(), self.dimensions)
    }

    /// The recall of its graph, if it has one.
    pub fn recall(&self) -> Option<f32> {
        self.graph.as_ref().map(Graph::recall)
    }

    /// Whether a graph is to be built: there is none yet, and reading everything takes long.
    pub fn wants_graph(&self) -> bool {
        self.graph.is_none()
            && match self.strategy {
                Strategy::Auto => self.len() * self.dimensions > EXACT_NUMBERS,
                Strategy::Exact => false,
                Strategy::Graph => !self.is_empty(),
            }
    }

    /// The same set with a graph, built on this pool: about a millisecond a point and core.
    pub fn with_graph(&self, pool: &ThreadPool) -> Self {
        let graph = Some(Graph::build(self.points.clone(), pool));
        Self { ids: self.ids.clone(), points: self.points.clone(), graph, ..*self }
    }

    /// The `count` embeddings nearest to this vector: by the graph if there is one and it can tell so many,
    /// unless `only_exact`.
    pub fn nearest(
        &self,
        vector: Vec<f32>,
        count: usize,
        only_exact: bool,
    ) -> Result<NearestEmbeddings<'_>, EmbeddingError> {
        let query = embedding(self.metric, self.dimensions, vector)?;
        let graph = self.graph.as_ref().filter(|_| !only_exact && count <= EF_SEARCH / 2);
        let (found, recall) = match graph {
            Some(graph) => (graph.nearest(&query, count), Some(graph.recall())),
            None => (exact((0..).zip(&self.points), &query, count), None),
        };
        let distance = |squared: f32| match self.metric {
            Metric::Cosine => squared / 2.0,
            Metric::Euclidean => squared.sqrt(),
        };
        let shown =
            |near: &Near| Some((self.ids.get(near.place as usize)?.as_str(), distance(near.distance)));
        Ok(NearestEmbeddings { matches: found.iter().filter_map(shown).collect(), recall })
    }

    /// The set as bytes to keep, without its graph. They begin with a version and a checksum.
    pub fn to_bytes(&self) -> Vec<u8> {
        frame(SET_MAGIC, &(self.metric, self.strategy, self.dimensions, &self.ids, &self.points))
    }

    /// The set that was written as these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Damaged> {
        type Row = (Metric, Strategy, usize, Vec<String>, Vec<Embedding>);
        let (metric, strategy, dimensions, ids, points): Row = unframe(SET_MAGIC, bytes)?;
        if ids.len() != points.len() || points.iter().any(|point| point.0.len() != dimensions) {
            return Err(Damaged("its parts do not fit together"));
        }
        Ok(Self { metric, strategy, dimensions, ids, points, graph: None })
    }

    /// The graph as bytes to keep beside `set`, what [`Self::to_bytes`] gave; `None` without a graph.
    pub fn graph_to_bytes(&self, set: &[u8]) -> Option<Vec<u8>> {
        let graph = self.graph.as_ref()?;
        Some(frame(GRAPH_MAGIC, &(checksum(set), graph)))
    }

    /// Takes the graph that was written as these bytes, if it is one of the set written as `set`.
    pub fn take_graph(&mut self, set: &[u8], bytes: &[u8]) -> Result<(), Damaged> {
        let (of, graph): (u32, Graph<Embedding>) = unframe(GRAPH_MAGIC, bytes)?;
        if of != checksum(set) || graph.len() != self.len() {
            return Err(Damaged("it is the graph of another set"));
        }
        self.points = graph.points(); // the same, shared with the graph
        self.graph = Some(graph);
        Ok(())
    }
}

fn planned_bytes(count: usize, dimensions: usize) -> usize {
    count * (dimensions * size_of::<f32>() + POINT_BYTES)
}

/// A vector of so many numbers, brought to length 1 where only its direction counts.
fn embedding(metric: Metric, dimensions: usize, mut numbers: Vec<f32>) -> Result<Embedding, EmbeddingError> {
    if !(1..=DIMENSIONS_MAX).contains(&numbers.len()) {
        return Err(EmbeddingError::Length(numbers.len()));
    }
    if numbers.len() != dimensions {
        return Err(EmbeddingError::Dimensions { got: numbers.len(), expected: dimensions });
    }
    let length = numbers.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt();
    match metric {
        _ if !length.is_finite() => return Err(EmbeddingError::Number),
        // Distances are squared in between: their squares must be numbers, too.
        Metric::Euclidean if length > 1e18 => return Err(EmbeddingError::Number),
        Metric::Euclidean => {}
        Metric::Cosine if length == 0.0 => return Err(EmbeddingError::Zero),
        Metric::Cosine => {
            numbers.iter_mut().for_each(|number| *number = (f64::from(*number) / length) as f32);
        }
    }
    Ok(Embedding(numbers.into()))
}

fn frame(magic: [u8; 8], row: &impl Serialize) -> Vec<u8> {
    let mut bytes = vec![0; HEAD];
    bytes = postcard::to_extend(row, bytes).expect("memory takes any row that serde can describe");
    let count = (bytes.len() - HEAD) as u64;
    bytes[..8].copy_from_slice(&magic);
    bytes[8..16].copy_from_slice(&count.to_le_bytes());
    let sum = checksum(&bytes[HEAD..]);
    bytes[16..HEAD].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn unframe<'a, T: Deserialize<'a>>(magic: [u8; 8], bytes: &'a [u8]) -> Result<T, Damaged> {
    let (head, row) = bytes.split_at_checked(HEAD).ok_or(Damaged("it is too short"))?;
    if head[..8] != magic {
        return Err(Damaged("it begins otherwise, or is of another version"));
    }
    if head[8..16] != (row.len() as u64).to_le_bytes() || head[16..] != checksum(row).to_le_bytes() {
        return Err(Damaged("its checksum differs"));
    }
    postcard::from_bytes(row).map_err(|_| Damaged("its checksum is right, its layout is not"))
}

fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}
