//! PDQ hashes: multi-index tables, or a flat scan.

use super::{Owner, ReadPart, Searchable};
use crate::mih::cost::Costs;
use crate::mih::{Scratch, Tables, flat};
use crate::signal::{Distance, Hash256};
use crate::store::StoreError;

impl Searchable for Hash256 {
    type Tables = Tables;

    fn arrange(_hashes: &mut [Self], _owners: &mut [Owner]) {}

    fn build(hashes: &[Self]) -> Option<Tables> {
        Tables::build(Costs::current().choose(hashes.len())?, hashes).ok()
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
        found: impl FnMut(usize, u32, Distance),
    ) {
        tables.search(hashes, queries, threshold, scratch, found);
    }

    fn scan(
        block: &[Self],
        queries: &[Self],
        threshold: Distance,
        scratch: &mut Scratch,
        found: impl FnMut(usize, u32, Distance),
    ) {
        flat(block, queries, 0, threshold, scratch, found);
    }
}
