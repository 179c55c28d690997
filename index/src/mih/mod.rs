//! Multi-index hashing: exact search in an immutable segment of PDQ hashes.
//!
//! A hash is cut into chunks, and each chunk has a table of buckets ([`Cut`]). Each chunk i gets a quota t_i
//! with Σ t_i = threshold + 1, so that a match differs from the query by less than its quotas in all. Put the
//! chunks on a ring: by the cycle lemma there is a chunk from which on *every* partial sum of differences stays
//! below the partial sum of quotas. (With the ring's partial sums of `difference - quota` drawn as a path that
//! falls by one or more a round, it is the chunk after the path's last peak.) So some chunk i differs by less
//! than t_i, **and** it and those behind it on the ring by less than their quotas together. The first names the
//! buckets to probe, the second rejects all but 1 in 400 of what lies in them by 16 bits, the bucket's
//! *signature*: the chunk or two that follow on the ring. A plain pigeonhole argument would have to compare 96
//! bits to reject as much, and so read six times the memory. (The idea is that of Qin and Xiao, "Pigeonring",
//! VLDB 2018.)
//!
//! The search is exact whatever the data. Where probing would cost more than reading everything (wide
//! thresholds, small segments, crowded buckets) the segment is read flat instead.
//!
//! Layout: a bucket is one or more whole cache lines at a place its key tells, so nothing is looked up to find
//! it. Its first line begins with a head (where its slots are, how many signatures), then come the signatures.
//! A bucket that outgrows its lines lies by itself (a [`Spill`]). A signature's slot, in an array of its own,
//! is read only when the signature is near, the hash only then, its owner only when it matched.

mod build;
pub mod bulk;
pub mod cost;
mod plan;
mod probe;
mod skew;

use crate::kernel::{CHUNKS_MAX, Line, Signatures, Spill};
use crate::memory::Huge;
use crate::signal::Hash256;

pub use plan::Plan;
pub use probe::{Scratch, flat};

/// How a hash is cut into chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// 32 chunks of 8 bits: few long buckets, for up to some 200 000 hashes.
    Narrow,
    /// 16 chunks of 16 bits: many short buckets.
    Wide,
}

impl Cut {
    /// Every cut.
    pub const ALL: [Cut; 2] = [Cut::Narrow, Cut::Wide];

    /// Chunks, and so tables.
    pub const fn tables(self) -> usize {
        match self {
            Cut::Narrow => 32,
            Cut::Wide => 16,
        }
    }

    /// Bits of a chunk.
    pub const fn bits(self) -> usize {
        256 / self.tables()
    }

    /// Buckets of a table.
    pub const fn buckets(self) -> usize {
        1 << self.bits()
    }

    /// Chunks in a signature: 16 bits.
    const fn followers(self) -> usize {
        match self {
            Cut::Narrow => 2,
            Cut::Wide => 1,
        }
    }

    /// The chunk so many steps on along the ring. Neighbouring chunks are five apart in the hash, since
    /// neighbouring bits of a PDQ hash are alike; 5 is prime to both numbers of chunks.
    const fn ring(self, chunk: usize, steps: usize) -> usize {
        (chunk + 5 * steps) % self.tables()
    }

    /// Which bucket of its table a chunk names. The keys that a wide table probes together differ in one bit;
    /// laid out by number, most of their buckets would compete for one set of the first-level cache and
    /// push each other out before they are read (measured: 13 ns a probe instead of 6 where a bucket has two
    /// lines). So the high bits are folded onto the low ones. Linear: flipping bits of the chunk flips the
    /// same bits of the bucket, whatever the chunk.
    #[inline(always)]
    const fn bucket(self, chunk: u16) -> u16 {
        match self {
            Cut::Narrow => chunk,
            Cut::Wide => chunk ^ (chunk >> 5) ^ (chunk >> 10),
        }
    }

    /// A chunk of a hash.
    #[inline(always)]
    fn chunk(self, hash: &Hash256, at: usize) -> u16 {
        match self {
            Cut::Narrow => u16::from(hash.0[at]),
            Cut::Wide => u16::from_le_bytes([hash.0[2 * at], hash.0[2 * at + 1]]),
        }
    }

    /// What a table keeps of a hash.
    #[inline(always)]
    fn signature(self, hash: &Hash256, table: usize) -> u16 {
        self.signature_of(self.chunk(hash, self.ring(table, 1)), self.chunk(hash, self.ring(table, 2)))
    }

    /// The signature of the two chunks that follow a table's own.
    #[inline(always)]
    const fn signature_of(self, next: u16, next_but_one: u16) -> u16 {
        match self {
            Cut::Narrow => next | next_but_one << 8,
            Cut::Wide => next,
        }
    }

    fn signatures(self, hash: &Hash256) -> Signatures {
        let mut signatures = [0; CHUNKS_MAX];
        (0..self.tables()).for_each(|table| signatures[table] = self.signature(hash, table));
        signatures
    }
}

/// What tables are made of, apart from their arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Chunks: 16 or 32.
    tables: u32,
    /// Lines of a bucket.
    width: u32,
}

impl Shape {
    /// How hashes are cut.
    pub const fn cut(self) -> Cut {
        if self.tables == 32 { Cut::Narrow } else { Cut::Wide }
    }

    /// Lines of a bucket.
    pub const fn width(self) -> usize {
        self.width as usize
    }
}

/// The buckets of all tables, one table after the other.
pub struct Tables {
    shape: Shape,
    /// `tables × buckets × width` lines.
    lines: Huge<Line>,
    /// `tables × n`: which hash a signature is of, in the order of the buckets.
    slots: Huge<u32>,
    /// Buckets that outgrew their lines.
    spills: Huge<Spill>,
    /// Their signatures.
    spilled: Huge<Line>,
}

impl Tables {
    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.lines.bytes() + self.slots.bytes() + self.spills.bytes() + self.spilled.bytes()
    }

    /// What the tables are stored as: numbers that tell the arrays' lengths, and the arrays' bytes.
    pub fn parts(&self) -> (Vec<u64>, Vec<&[u8]>) {
        let lengths = [self.spills.len(), self.spilled.len()].map(|length| length as u64);
        let numbers = [u64::from(self.shape.tables), u64::from(self.shape.width), lengths[0], lengths[1]];
        let arrays = vec![
            bytemuck::cast_slice(&self.lines[..]),
            bytemuck::cast_slice(&self.slots[..]),
            bytemuck::cast_slice(&self.spills[..]),
            bytemuck::cast_slice(&self.spilled[..]),
        ];
        (numbers.to_vec(), arrays)
    }

    /// Empty tables of so many hashes with arrays as these numbers tell; `None` where they cannot be.
    pub fn of_numbers(count: usize, numbers: &[u64]) -> Option<Self> {
        let &[tables @ (16 | 32), width, spills, spilled] = numbers else { return None };
        let shape = Shape { tables: tables as u32, width: u32::try_from(width).ok()? };
        let cut = shape.cut();
        Some(Self {
            shape,
            lines: Huge::zeroed(cut.tables() * cut.buckets() * shape.width()).ok()?,
            slots: Huge::zeroed(cut.tables() * count).ok()?,
            spills: Huge::zeroed(usize::try_from(spills).ok()?).ok()?,
            spilled: Huge::zeroed(usize::try_from(spilled).ok()?).ok()?,
        })
    }

    /// The arrays, in the order of [`Tables::parts`].
    pub fn arrays_mut(&mut self) -> [&mut [u8]; 4] {
        [
            bytemuck::cast_slice_mut(&mut self.lines),
            bytemuck::cast_slice_mut(&mut self.slots),
            bytemuck::cast_slice_mut(&mut self.spills),
            bytemuck::cast_slice_mut(&mut self.spilled),
        ]
    }

    /// Buckets that outgrew their lines.
    pub fn crowded(&self) -> usize {
        self.spills.len()
    }

    /// How they are cut, and how wide a bucket is.
    pub fn shape(&self) -> Shape {
        self.shape
    }
}
