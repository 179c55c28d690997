//! How tables lie in memory, and what kernels are asked about them.

use bytemuck::{Pod, Zeroable};

/// Signatures that the first line of a bucket holds beside its head.
pub const HEAD_LANES: usize = 29;
/// Lanes the head takes: where the bucket's slots begin (two lanes), and how many signatures there are.
pub const HEAD: usize = 3;
/// Lanes of a line.
pub const LANES: usize = 32;
/// Count of a bucket that outgrew its lines; its head then names a [`Spill`].
pub const SPILLED: u16 = u16::MAX;

/// A cache line of a table. A bucket's first line is head and 29 signatures, its others 32 signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct Line(pub [u16; LANES]);

impl Line {
    /// Where the bucket's slots begin, or which `Spill` it is, and how many signatures it holds.
    #[inline(always)]
    pub fn head(&self) -> (u32, u16) {
        (u32::from(self.0[0]) | u32::from(self.0[1]) << 16, self.0[2])
    }

    /// Writes the head.
    pub fn set_head(&mut self, base: u32, count: u16) {
        [self.0[0], self.0[1], self.0[2]] = [base as u16, (base >> 16) as u16, count];
    }
}

/// A bucket that outgrew its lines: its signatures lie by themselves, in whole lines without a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Spill {
    /// First line among the spilled ones.
    pub line: u32,
    /// Where its slots begin.
    pub base: u32,
    /// How many signatures.
    pub count: u32,
}

/// Chunks a hash is cut into at most.
pub const CHUNKS_MAX: usize = 32;

/// What each table compares a bucket's signatures with.
pub type Signatures = [u16; CHUNKS_MAX];

/// Consecutive probes of one table with one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The table.
    pub table: u8,
    /// Bits a signature may differ.
    pub limit: u8,
    /// How many probes.
    pub count: u16,
}

/// A signature near enough: its hash is to be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survivor {
    /// Place in the tables' slots.
    pub place: u32,
    /// The table it was found in.
    pub table: u8,
}

/// A probe that met a bucket which outgrew its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spilled {
    /// Which [`Spill`].
    pub spill: u32,
    /// The table.
    pub table: u8,
    /// Bits a signature may differ.
    pub limit: u8,
}

/// One query's probes, and those after it to be fetched meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Probes<'p> {
    /// Buckets, in the order of the groups; at least [`AHEAD_MAX`] more follow than the groups count.
    pub buckets: &'p [u32],
    /// What is asked of them.
    pub groups: &'p [Group],
    /// The query's signatures.
    pub signatures: &'p Signatures,
}

/// Queries whose signatures are compared with a bucket in a bulk search: those from `first` to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// First signature.
    pub first: u32,
    /// Behind the last.
    pub end: u32,
    /// Bits a signature may differ.
    pub limit: u32,
}

/// A query's signature near one of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Near {
    /// Place of the query's signature.
    pub query: u32,
    /// Place in the tables' slots.
    pub place: u32,
}

/// What a scan appends to.
#[derive(Debug, Default)]
pub struct Scanned {
    /// Signatures near enough.
    pub survivors: Vec<Survivor>,
    /// Buckets to be read elsewhere.
    pub spilled: Vec<Spilled>,
}

/// Most probes that are fetched ahead. 48 single lines keep this many fetches of a core busy and fit its
/// first-level cache fifteen times over (measured: 48 ahead 700 000 queries/s, 24 ahead 530 000).
pub const AHEAD_MAX: usize = 48;

/// A bucket, wherever its lines are.
#[derive(Clone, Copy, Debug)]
pub struct Bucket<'l> {
    /// Its lines.
    pub lines: &'l [Line],
    /// Where its slots begin.
    pub base: u32,
    /// How many signatures it holds.
    pub count: u32,
    /// Whether the first line begins with a head.
    pub head: bool,
}
