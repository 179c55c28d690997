//! Multi-index hashing: exact search in an immutable segment of PDQ hashes.
//!
//! A hash is cut into [`TABLES`] chunks of [`CHUNK_BITS`] bits; each chunk has a table of buckets. By the
//! pigeonhole principle, if the chunks' radii r_i satisfy Σ(r_i + 1) > threshold, every hash within the
//! threshold agrees with the query within r_i bits in some chunk. So the buckets within these radii hold
//! every match: the search is exact, whatever the data. Where reading them would cost more than reading
//! everything (crowded buckets, wide thresholds, small segments) the segment is read flat instead.
//!
//! Memory per hash: 16 records of 16 bytes, 32 for the hash and 16 for its owner, 304 in all, plus 4 MiB of
//! offsets per segment.

mod build;
mod plan;
mod probe;

use crate::kernel::{Record, Signatures, TABLES_MAX};
use crate::memory::Huge;
use crate::signal::Hash256;

pub use plan::Plan;
pub use probe::Scratch;

/// Chunks, and tables.
pub const TABLES: usize = TABLES_MAX;
/// Bits of a chunk.
pub const CHUNK_BITS: usize = 256 / TABLES;
const BUCKETS: usize = 1 << CHUNK_BITS;
/// Offsets of one table: a bucket's records lie between its offset and the next.
const OFFSETS: usize = BUCKETS + 1;
/// Below this many hashes a flat scan is as fast as probing 272 buckets.
pub const FLAT_MAX: usize = 4096;

/// The buckets of all tables, one table after the other.
pub struct Tables {
    /// `TABLES × OFFSETS` places in `records`, absolute.
    offsets: Huge<u32>,
    /// `TABLES × n` records.
    records: Huge<Record>,
}

impl Tables {
    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.offsets.bytes() + self.records.bytes()
    }
}

/// The sixteen chunks of a hash, each in the order of its bytes.
#[inline]
fn chunks(hash: &Hash256) -> [u16; TABLES] {
    bytemuck::must_cast(hash.0)
}

/// The 96 bits a record of `table` keeps: six chunks that are not the table's own, spread over the hash,
/// since neighbouring bits of a PDQ hash are alike.
#[inline]
fn signature(chunks: &[u16; TABLES], table: usize) -> [u32; 3] {
    let at = |step: usize| u32::from(chunks[(table + step) % TABLES]);
    [at(2) | at(5) << 16, at(7) | at(10) << 16, at(12) | at(15) << 16]
}

fn signatures(chunks: &[u16; TABLES]) -> Signatures {
    std::array::from_fn(|table| signature(chunks, table))
}
