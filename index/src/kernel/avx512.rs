//! AVX-512 with VPOPCNTDQ: Intel Ice Lake and AMD Zen 4 and later.
//!
//! `vpopcntq` counts eight words at once. `flat`: two hashes a vector. `runs`: four records a vector, six
//! instructions: load, xor that also blanks the slot, count, fold, compare, test; loads bound it, not counting.
//!
//! `runs` reads whole cache lines, neighbours' records included, and drops those when something is near, which
//! is rare. A vector that began at the run's first record would reach into a line that nobody fetched ahead:
//! at 100 000 hashes (1.5 records a run) that made it half as slow again as AVX2 (EPYC Zen 5).

#![allow(unsafe_code)] // intrinsics

use std::arch::x86_64::{
    __m512i, _mm_loadu_si128, _mm256_loadu_si256, _mm512_add_epi64, _mm512_broadcast_i32x4,
    _mm512_broadcast_i64x4, _mm512_cmple_epu64_mask, _mm512_loadu_si512, _mm512_maskz_loadu_epi32,
    _mm512_maskz_xor_epi32, _mm512_permutex_epi64, _mm512_popcnt_epi64, _mm512_set1_epi64,
    _mm512_shuffle_epi32, _mm512_xor_si512,
};

use super::{AHEAD, Record, Run, Signatures, Survivor, prefetch_run};
use crate::signal::{Distance, Hash256};

/// Lanes of a vector of four records that hold signatures, not slots.
const SIGNATURE_LANES: u16 = 0x7777;

pub(super) fn flat(query: &Hash256, block: &[Hash256], limit: u32, out: &mut Vec<(u32, Distance)>) {
    // SAFETY: `Kernel` names this kernel only after it saw AVX-512 F and VPOPCNTDQ on this CPU.
    unsafe { flat_avx512(query, block, limit, out) }
}

pub(super) fn runs(
    signatures: &Signatures,
    records: &[Record],
    runs: &[Run],
    count: usize,
    limit: u32,
    out: &mut Vec<Survivor>,
) {
    // SAFETY: `Kernel` names this kernel only after it saw AVX-512 F and VPOPCNTDQ on this CPU.
    unsafe { runs_avx512(signatures, records, runs, count, limit, out) }
}

#[target_feature(enable = "avx512f,avx512vpopcntdq")]
fn flat_avx512(query: &Hash256, block: &[Hash256], limit: u32, out: &mut Vec<(u32, Distance)>) {
    // SAFETY: 32 bytes are readable behind a `&Hash256`.
    let wanted = _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(std::ptr::from_ref(query).cast()) });
    let limits = _mm512_set1_epi64(i64::from(limit));
    let mut push = |at: usize| out.push((at as u32, query.distance(&block[at])));
    let (pairs, rest) = block.as_chunks::<2>();
    for (pair, hashes) in pairs.iter().enumerate() {
        // SAFETY: two hashes are 64 readable bytes.
        let two = unsafe { _mm512_loadu_si512(std::ptr::from_ref(hashes).cast()) };
        let words = _mm512_popcnt_epi64(_mm512_xor_si512(two, wanted));
        // Each hash's four words are summed within its half of the vector.
        let folded = _mm512_add_epi64(words, _mm512_permutex_epi64::<0b01_00_11_10>(words));
        let sums = _mm512_add_epi64(folded, _mm512_permutex_epi64::<0b10_11_00_01>(folded));
        let near = _mm512_cmple_epu64_mask(sums, limits);
        if near != 0 {
            if near & 0x0f != 0 {
                push(2 * pair);
            }
            if near & 0xf0 != 0 {
                push(2 * pair + 1);
            }
        }
    }
    if let [last] = rest
        && u32::from(query.distance(last).bits()) <= limit
    {
        push(block.len() - 1);
    }
}

#[target_feature(enable = "avx512f,avx512vpopcntdq")]
fn runs_avx512(
    signatures: &Signatures,
    records: &[Record],
    runs: &[Run],
    count: usize,
    limit: u32,
    out: &mut Vec<Survivor>,
) {
    let limits = _mm512_set1_epi64(i64::from(limit));
    // Spread out once a query: built anew for each run, the load would wait for its three narrow stores.
    let wanted = signatures.map(|[a, b, c]| four_times([a, b, c, 0]));
    let (lines, last) = records.as_chunks::<4>();
    for (at, run) in runs[..count].iter().enumerate() {
        if let Some(later) = runs.get(at + AHEAD) {
            prefetch_run(records, later);
        }
        let wanted = wanted[run.table as usize];
        let (first, end) = (run.first as usize, run.first as usize + run.count as usize);
        debug_assert!(end <= records.len(), "a run ends behind the records");
        let (line_first, line_end) = (first / 4, end.div_ceil(4));
        for (line, four) in lines[line_first..line_end.min(lines.len())].iter().enumerate() {
            // SAFETY: four records are 64 readable bytes.
            let near = within(unsafe { _mm512_loadu_si512(std::ptr::from_ref(four).cast()) }, wanted, limits);
            if near != 0 {
                take(near, four, line_first + line, run, out);
            }
        }
        if line_end > lines.len() {
            let lanes = (1u32 << (4 * last.len())) - 1;
            // SAFETY: masked lanes are not read; the others are the bytes of `last`.
            let some = unsafe { _mm512_maskz_loadu_epi32(lanes as u16, last.as_ptr().cast()) };
            take(within(some, wanted, limits), last, lines.len(), run, out);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn four_times(record: [u32; 4]) -> __m512i {
    // SAFETY: 16 bytes are readable behind `record`.
    _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(record.as_ptr().cast()) })
}

/// Which of four records are within the limit: two equal bits for each.
#[inline]
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
fn within(four: __m512i, wanted: __m512i, limits: __m512i) -> u8 {
    let words = _mm512_popcnt_epi64(_mm512_maskz_xor_epi32(SIGNATURE_LANES, four, wanted));
    let sums = _mm512_add_epi64(words, _mm512_shuffle_epi32::<0b01_00_11_10>(words));
    _mm512_cmple_epu64_mask(sums, limits)
}

/// Takes what is near among the records of a line, if it lies in the run.
#[cold]
fn take(near: u8, records: &[Record], line: usize, run: &Run, out: &mut Vec<Survivor>) {
    for (at, record) in records.iter().enumerate() {
        let inside = (4 * line + at).wrapping_sub(run.first as usize) < run.count as usize;
        if inside && near >> (2 * at) & 1 == 1 {
            out.push(Survivor { slot: record.slot, table: run.table });
        }
    }
}
