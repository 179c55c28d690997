//! Filling the tables: count, choose the width of a bucket, put every signature into its final place.

use std::io;

use super::{Cut, Shape, Tables};
use crate::kernel::{HEAD, HEAD_LANES, LANES, SPILLED, Spill};
use crate::memory::Huge;
use crate::signal::Hash256;

/// What another line of its bucket costs a probe, and what a spilled bucket costs it, in tenths of a
/// nanosecond (EPYC Zen 5, tables in memory).
const LINE_COST: usize = 35;
const SPILL_COST: usize = 600;
/// Widest bucket: a count has 16 bits, and the widest must not read as [`SPILLED`].
const WIDTH_MAX: usize = 2000;

impl Tables {
    /// Builds the tables of a segment. Needs 5 MiB beyond them. Fails only when there is no memory for them,
    /// or more than 2^30 signatures (64 million hashes cut wide).
    pub fn build(cut: Cut, hashes: &[Hash256]) -> io::Result<Self> {
        if cut.tables() * hashes.len() > SIGNATURES_MAX {
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, "too many hashes for one segment"));
        }
        let counts = count(cut, hashes);
        let width = choose_width(&counts);
        let room = capacity(width);
        let crowded: Vec<&u32> = counts.iter().filter(|count| **count as usize > room).collect();
        let spilled = crowded.iter().map(|count| (**count as usize).div_ceil(LANES)).sum();
        let mut tables = Self {
            shape: Shape { tables: cut.tables() as u32, width: width as u32 },
            lines: Huge::zeroed(cut.tables() * cut.buckets() * width)?,
            slots: Huge::zeroed(cut.tables() * hashes.len())?,
            spills: Huge::zeroed(crowded.len())?,
            spilled: Huge::zeroed(spilled)?,
        };
        tables.write_heads(&counts, room);
        for table in 0..cut.tables() {
            tables.fill(table, hashes, &counts[table * cut.buckets()..]);
        }
        Ok(tables)
    }

    /// The shape tables of so many uniform hashes would get.
    pub(super) fn expected_shape(cut: Cut, hashes: usize) -> Shape {
        let mean = hashes as f32 / cut.buckets() as f32;
        let most = mean + 1.65 * mean.sqrt(); // five buckets in a hundred hold more
        let width = 1 + (most as usize).saturating_sub(HEAD_LANES).div_ceil(LANES);
        Shape { tables: cut.tables() as u32, width: width.min(WIDTH_MAX) as u32 }
    }

    fn write_heads(&mut self, counts: &[u32], room: usize) {
        let width = self.shape.width();
        let (mut base, mut spill, mut line) = (0, 0, 0);
        for (bucket, count) in counts.iter().copied().enumerate() {
            let head = &mut self.lines[bucket * width];
            if count as usize > room {
                self.spills[spill as usize] = Spill { line, base, count };
                head.set_head(spill, SPILLED);
                spill += 1;
                line += count.div_ceil(LANES as u32);
            } else {
                head.set_head(base, count as u16);
            }
            base += count;
        }
    }

    /// Puts the signatures of one table into their buckets.
    fn fill(&mut self, table: usize, hashes: &[Hash256], counts: &[u32]) {
        let (cut, width) = (self.shape.cut(), self.shape.width());
        let first = table * cut.buckets();
        let counts = &counts[..cut.buckets()];
        let mut place = (table * hashes.len()) as u32;
        // What is put next into each bucket: (its lane among the table's lanes or the spilled ones, its place).
        let mut next: Vec<(u32, u32)> = Vec::with_capacity(counts.len());
        for (bucket, count) in counts.iter().enumerate() {
            let line = (first + bucket) * width;
            let lane = match self.lines[line].head() {
                (spill, SPILLED) => (self.spills[spill as usize].line * LANES as u32) | SPILLED_LANE,
                _ => (bucket * width * LANES + HEAD) as u32,
            };
            next.push((lane, place));
            place += count;
        }
        let lanes: &mut [u16] =
            bytemuck::cast_slice_mut(&mut self.lines[first * width..(first + cut.buckets()) * width]);
        let spilled: &mut [u16] = bytemuck::cast_slice_mut(&mut self.spilled[..]);
        for (slot, hash) in hashes.iter().enumerate() {
            let (lane, place) = &mut next[usize::from(cut.bucket(cut.chunk(hash, table)))];
            let signature = cut.signature(hash, table);
            if *lane & SPILLED_LANE == 0 {
                lanes[*lane as usize] = signature;
            } else {
                spilled[(*lane & !SPILLED_LANE) as usize] = signature;
            }
            self.slots[*place as usize] = slot as u32;
            *lane += 1;
            *place += 1;
        }
    }
}

/// Signatures in all tables: lanes are counted in 31 bits, and spilled buckets leave some empty.
const SIGNATURES_MAX: usize = 1 << 30;
/// Marks a lane among the spilled ones.
const SPILLED_LANE: u32 = 1 << 31;

/// Signatures that fit a bucket of so many lines.
fn capacity(width: usize) -> usize {
    HEAD_LANES + LANES * (width - 1)
}

/// How many hashes each bucket of each table has.
fn count(cut: Cut, hashes: &[Hash256]) -> Vec<u32> {
    let mut counts = vec![0; cut.tables() * cut.buckets()];
    for hash in hashes {
        for table in 0..cut.tables() {
            counts[table * cut.buckets() + usize::from(cut.bucket(cut.chunk(hash, table)))] += 1;
        }
    }
    counts
}

/// The width that makes an average probe cheapest. Crowded buckets of skewed data are left to spill: lines for
/// all of them would be lines for everyone.
fn choose_width(counts: &[u32]) -> usize {
    let mut needing = vec![0; WIDTH_MAX + 2]; // buckets by the width they need
    for count in counts {
        let width = 1 + (*count as usize).saturating_sub(HEAD_LANES).div_ceil(LANES);
        needing[width.min(WIDTH_MAX + 1)] += 1;
    }
    let mut spilling = counts.len();
    let costs = (1..=WIDTH_MAX).map(|width| {
        spilling -= needing[width];
        (width * LINE_COST * counts.len() + spilling * SPILL_COST, width)
    });
    costs.min().map_or(1, |(_, width)| width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_as_wide_as_ordinary_ones_need() {
        assert_eq!(choose_width(&[15; 1000]), 1);
        assert_eq!(choose_width(&[30; 1000]), 2);
        assert_eq!(choose_width(&[153; 1000]), 5);
        assert_eq!(choose_width(&[0; 8]), 1);
        let mut skewed = vec![15; 10_000];
        skewed[7..300].fill(5000);
        assert_eq!(choose_width(&skewed), 1, "a few crowded buckets do not widen the others");
    }
}
