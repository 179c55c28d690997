//! Filling the tables: a counting sort for each chunk, straight into its final place.

use std::io;

use super::{BUCKETS, OFFSETS, TABLES, Tables, chunks, signature};
use crate::kernel::Record;
use crate::memory::Huge;
use crate::signal::Hash256;

impl Tables {
    /// Builds the tables of a segment. Needs no memory beyond the tables and 256 KiB. Fails only when there
    /// is no memory for them, or more than 2^28 hashes.
    pub fn build(hashes: &[Hash256]) -> io::Result<Self> {
        let total = TABLES * hashes.len();
        if u32::try_from(total).is_err() {
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, "a segment holds at most 2^28 hashes"));
        }
        let mut offsets = Huge::<u32>::zeroed(TABLES * OFFSETS)?;
        let mut records = Huge::<Record>::zeroed(total)?;
        for table in 0..TABLES {
            let offsets = &mut offsets[table * OFFSETS..(table + 1) * OFFSETS];
            fill(table, hashes, offsets, &mut records);
        }
        Ok(Self { offsets, records })
    }
}

fn fill(table: usize, hashes: &[Hash256], offsets: &mut [u32], records: &mut [Record]) {
    for hash in hashes {
        offsets[usize::from(chunks(hash)[table]) + 1] += 1;
    }
    offsets[0] = (table * hashes.len()) as u32;
    for bucket in 0..BUCKETS {
        offsets[bucket + 1] += offsets[bucket];
    }
    let mut next = offsets[..BUCKETS].to_vec();
    for (slot, hash) in hashes.iter().enumerate() {
        let chunks = chunks(hash);
        let place = &mut next[usize::from(chunks[table])];
        records[*place as usize] = Record { signature: signature(&chunks, table), slot: slot as u32 };
        *place += 1;
    }
}
