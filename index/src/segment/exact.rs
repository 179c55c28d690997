//! Digests: sorted, with a table that says where each prefix begins.
//!
//! A digest is uniform, so a bucket of its first bits is nearly the place: one read for the bucket, one for the
//! digests in it. However many contents share one digest, only whoever asks for it reads them.

use super::{Owner, ReadPart, Searchable};
use crate::memory::Huge;
use crate::mih::Scratch;
use crate::signal::{Digest, Distance};
use crate::store::StoreError;

/// Where each prefix begins.
pub struct Sorted {
    /// First place of every prefix, and one more for the end.
    starts: Huge<u32>,
}

impl Sorted {
    /// How far a digest's first eight bytes are shifted to give its prefix.
    fn shift(&self) -> u32 {
        u64::BITS - (self.starts.len() - 1).ilog2()
    }
}

impl Searchable for Digest {
    type Tables = Sorted;

    fn arrange(hashes: &mut [Self], owners: &mut [Owner]) {
        let mut order: Vec<(Self, Owner)> = hashes.iter().copied().zip(owners.iter().copied()).collect();
        order.sort_unstable_by_key(|(hash, owner)| (*hash, owner.content()));
        for (at, (hash, owner)) in order.into_iter().enumerate() {
            (hashes[at], owners[at]) = (hash, owner);
        }
    }

    fn build(hashes: &[Self]) -> Option<Sorted> {
        if u32::try_from(hashes.len()).is_err() {
            return None;
        }
        let bits = hashes.len().max(2).ilog2().clamp(1, 28);
        let mut starts = Huge::<u32>::zeroed((1 << bits) + 1).ok()?;
        let shift = u64::BITS - bits;
        hashes.iter().for_each(|hash| starts[(prefix(hash) >> shift) as usize + 1] += 1);
        for bucket in 1..starts.len() {
            starts[bucket] += starts[bucket - 1];
        }
        Some(Sorted { starts })
    }

    fn table_bytes(tables: &Sorted) -> usize {
        tables.starts.bytes()
    }

    fn parts(tables: &Sorted) -> (Vec<u64>, Vec<&[u8]>) {
        (vec![tables.starts.len() as u64], vec![bytemuck::cast_slice(&tables.starts)])
    }

    fn from_parts(_count: usize, numbers: &[u64], read: ReadPart<'_>) -> Result<Option<Sorted>, StoreError> {
        let [starts] = numbers else { return Ok(None) };
        let Ok(mut starts) = Huge::zeroed(*starts as usize) else { return Ok(None) };
        read(bytemuck::cast_slice_mut(&mut starts))?;
        Ok(Some(Sorted { starts }))
    }

    fn search(
        tables: &Sorted,
        hashes: &[Self],
        queries: &[Self],
        _threshold: Distance,
        _scratch: &mut Scratch,
        mut found: impl FnMut(usize, u32, Distance),
    ) {
        let shift = tables.shift();
        for (at, query) in queries.iter().enumerate() {
            let bucket = (prefix(query) >> shift) as usize;
            let (first, end) = (tables.starts[bucket] as usize, tables.starts[bucket + 1] as usize);
            let first = first + hashes[first..end].partition_point(|hash| hash < query);
            for (place, _) in (first..end).zip(hashes[first..end].iter().take_while(|hash| *hash == query)) {
                found(at, place as u32, Distance::counted(0));
            }
        }
    }

    fn scan(
        block: &[Self],
        queries: &[Self],
        _threshold: Distance,
        _scratch: &mut Scratch,
        mut found: impl FnMut(usize, u32, Distance),
    ) {
        for (at, query) in queries.iter().enumerate() {
            for (place, hash) in block.iter().enumerate() {
                if hash == query {
                    found(at, place as u32, Distance::counted(0));
                }
            }
        }
    }
}

fn prefix(hash: &Digest) -> u64 {
    hash.bytes().first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
