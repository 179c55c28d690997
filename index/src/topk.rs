//! The nearest known contents, beyond any threshold: for people who look into a match, not for the upload path.
//!
//! * [`hashes`]: of PDQ hashes, by reading everything. Exact at every size, since reading is fast enough.
//! * [`embeddings`]: of float vectors, exact up to a size, by a [`graph`] beyond it. What a graph answers is
//!   approximate; it says so, with the recall that was measured when it was built.

#[cfg(feature = "embeddings")]
pub mod embeddings;
#[cfg(feature = "embeddings")]
pub mod graph;
mod hashes;

pub use hashes::NearestScratch;
