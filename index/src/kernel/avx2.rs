//! AVX2 and POPCNT: every x86-64 server since 2013.
//!
//! `flat` counts bits by two table look-ups (`vpshufb`, port 5) and one sum (`vpsadbw`) per hash: port 5
//! bound, about 5 cycles a hash. `runs` uses `popcnt` (one a cycle on Intel, more on AMD) twice a record.

#![allow(unsafe_code)] // intrinsics

use std::arch::x86_64::{
    __m256i, _mm256_add_epi8, _mm256_and_si256, _mm256_extract_epi64, _mm256_loadu_si256, _mm256_sad_epu8,
    _mm256_set1_epi8, _mm256_setr_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi16,
    _mm256_xor_si256,
};

use super::{AHEAD, Record, Run, Signatures, Survivor, prefetch_run, records_of};
use crate::signal::{Distance, Hash256};

pub(super) fn flat(query: &Hash256, block: &[Hash256], limit: u32, out: &mut Vec<(u32, Distance)>) {
    // SAFETY: `Kernel` names this kernel only after it saw AVX2 and POPCNT on this CPU.
    unsafe { flat_avx2(query, block, limit, out) }
}

pub(super) fn runs(
    signatures: &Signatures,
    records: &[Record],
    runs: &[Run],
    count: usize,
    limit: u32,
    out: &mut Vec<Survivor>,
) {
    // SAFETY: `Kernel` names this kernel only after it saw AVX2 and POPCNT on this CPU.
    unsafe { runs_popcnt(signatures, records, runs, count, limit, out) }
}

#[target_feature(enable = "avx2,popcnt")]
fn flat_avx2(query: &Hash256, block: &[Hash256], limit: u32, out: &mut Vec<(u32, Distance)>) {
    let wanted = load(query);
    for (at, hash) in block.iter().enumerate() {
        let bits = count(_mm256_xor_si256(wanted, load(hash)));
        if bits <= limit {
            out.push((at as u32, Distance::counted(bits as u16)));
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(hash: &Hash256) -> __m256i {
    // SAFETY: 32 bytes are readable behind a `&Hash256`.
    unsafe { _mm256_loadu_si256(std::ptr::from_ref(hash).cast()) }
}

/// Bits set in 256: nibbles look their count up, `vpsadbw` sums the bytes of each quarter.
#[inline]
#[target_feature(enable = "avx2")]
fn count(bits: __m256i) -> u32 {
    let table = _mm256_setr_epi8(
        0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
    );
    let nibble = _mm256_set1_epi8(0x0f);
    let low = _mm256_shuffle_epi8(table, _mm256_and_si256(bits, nibble));
    let high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16::<4>(bits), nibble));
    let sums = _mm256_sad_epu8(_mm256_add_epi8(low, high), _mm256_setzero_si256());
    let quarters = [
        _mm256_extract_epi64::<0>(sums),
        _mm256_extract_epi64::<1>(sums),
        _mm256_extract_epi64::<2>(sums),
        _mm256_extract_epi64::<3>(sums),
    ];
    quarters.iter().sum::<i64>() as u32
}

#[target_feature(enable = "avx2,popcnt")]
fn runs_popcnt(
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
        let [a, b, c] = signatures[run.table as usize];
        let (wanted_low, wanted_high) = (u64::from(a) | u64::from(b) << 32, c);
        for record in records_of(records, run) {
            let [a, b, c] = record.signature;
            let low = wanted_low ^ (u64::from(a) | u64::from(b) << 32);
            let bits = low.count_ones() + (wanted_high ^ c).count_ones();
            if bits <= limit {
                out.push(Survivor { slot: record.slot, table: run.table });
            }
        }
    }
}
