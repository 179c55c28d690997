//! Portable distances: short enough to be obviously right, and the oracle of the other kernels.

use super::{AHEAD, Record, Run, Signatures, Survivor, prefetch_run, records_of};
use crate::signal::{Distance, Hash256};

pub(super) fn flat(query: &Hash256, block: &[Hash256], limit: u32, out: &mut Vec<(u32, Distance)>) {
    for (at, hash) in block.iter().enumerate() {
        let distance = query.distance(hash);
        if u32::from(distance.bits()) <= limit {
            out.push((at as u32, distance));
        }
    }
}

pub(super) fn runs(
    signatures: &Signatures,
    records: &[Record],
    runs: &[Run],
    count: usize,
    limit: u32,
    out: &mut Vec<Survivor>,
) {
    for (at, run) in runs[..count].iter().enumerate() {
        if let Some(later) = runs.get(at + AHEAD) {
            prefetch_run(records, later);
        }
        let signature = &signatures[run.table as usize];
        for record in records_of(records, run) {
            let bits: u32 = (0..3).map(|word| (signature[word] ^ record.signature[word]).count_ones()).sum();
            if bits <= limit {
                out.push(Survivor { slot: record.slot, table: run.table });
            }
        }
    }
}
