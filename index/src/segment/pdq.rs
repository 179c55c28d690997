//! PDQ hashes: multi-index tables, or a flat scan.

use std::io;

use super::{Owner, ReadPart, Searchable};
use crate::mih::cost::Costs;
use crate::mih::{Scratch, Tables, flat};
use crate::signal::{Distance, Hash256};
use crate::slices::{Reached, Stretch};
use crate::store::StoreError;

impl Searchable for Hash256 {
    type Tables = Tables;
    type Young = ();

    /// Measured on one core: 16.7 million in one segment 22 µs a query, 100 million in six 181 µs. Larger segments would cost
    /// a query less, and double what a merge moves and holds; from 34 million on, buckets are so long that it is cheaper
    /// to let all of them spill, and every query takes the way around crowded ones (by the costs of `mih/cost.rs`).
    const SEGMENT_MAX: usize = 1 << 24;

    /// Counts of buckets are 5 MiB at most.
    const BUILD_BYTES: usize = 0;

    fn arrange(_hashes: &mut [Self], _owners: &mut [Owner]) {}

    fn build(hashes: &[Self]) -> io::Result<Option<Tables>> {
        Costs::current().choose(hashes.len()).map(|cut| Tables::build(cut, hashes)).transpose()
    }

    fn young(_hashes: &[Self]) {}

    fn search_young(
        (): &(),
        block: &[Self],
        queries: &[Self],
        threshold: Distance,
        scratch: &mut Scratch,
        found: impl FnMut(usize, u32, Distance),
    ) {
        Self::scan(block, queries, threshold, scratch, found);
    }

    fn table_bytes(tables: &Tables) -> usize {
        tables.bytes()
    }

    fn parts(tables: &Tables) -> (Vec<u64>, Vec<&[u8]>) {
        tables.parts()
    }

    fn from_parts(count: usize, numbers: &[u64], read: ReadPart<'_>) -> Result<Option<Tables>, StoreError> {
        let Some(mut tables) = Tables::of_numbers(count, numbers) else { return Ok(None) };
        tables.arrays_mut().into_iter().try_for_each(read)?;
        Ok(Some(tables))
    }

    fn search(
        tables: &Tables,
        hashes: &[Self],
        queries: &[Self],
        threshold: Distance,
        scratch: &mut Scratch,
        stretch: Stretch<'_>,
        found: impl FnMut(usize, u32, Distance),
    ) -> Reached {
        tables.search(hashes, queries, threshold, scratch, stretch, found)
    }

    fn scan(
        block: &[Self],
        queries: &[Self],
        threshold: Distance,
        scratch: &mut Scratch,
        found: impl FnMut(usize, u32, Distance),
    ) {
        flat(block, queries, threshold, scratch, found);
    }
}
