//! AVX-512 with VPOPCNTDQ and BITALG: Intel Ice Lake and AMD Zen 4 and later.
//!
//! `flat` compares two hashes a vector. `probe` compares the 32 lanes of a line with four instructions: load,
//! xor, count the bits of each lane (`vpopcntw`), compare. What bounds it is how many lines the core can have
//! on their way from memory.

#![allow(unsafe_code)] // intrinsics

use std::arch::x86_64::{
    __m512i, _mm256_loadu_si256, _mm512_add_epi64, _mm512_broadcast_i64x4, _mm512_cmple_epu16_mask,
    _mm512_cmple_epu64_mask, _mm512_load_si512, _mm512_loadu_si512, _mm512_min_epu16, _mm512_permutex_epi64,
    _mm512_popcnt_epi16, _mm512_popcnt_epi64, _mm512_set1_epi16, _mm512_set1_epi32, _mm512_set1_epi64,
    _mm512_xor_si512,
};

use super::scan::{by_width, probe_with, spill_with, sweep_with};
use super::{Bucket, LANES, Line, Near, Probes, Scanned, Spill, Spilled, Survivor, Sweep};
use crate::signal::{Distance, Hash256};

pub(super) fn flat(query: &Hash256, block: &[Hash256], limit: u32, out: &mut Vec<(u32, Distance)>) {
    // SAFETY: `Kernel` names this kernel only after it saw these four parts of AVX-512 on this CPU.
    unsafe { flat_avx512(query, block, limit, out) }
}

pub(super) fn probe(lines: &[Line], width: usize, probes: &Probes<'_>, out: &mut Scanned) {
    // SAFETY: `Kernel` names this kernel only after it saw these four parts of AVX-512 on this CPU.
    by_width!(width, W => unsafe { probe_avx512::<W>(lines, width, probes, out) });
}

pub(super) fn sweep(bucket: &Bucket<'_>, sweeps: &[Sweep], signatures: &[u16], out: &mut Vec<Near>) {
    // SAFETY: `Kernel` names this kernel only after it saw these four parts of AVX-512 on this CPU.
    unsafe { sweep_avx512(bucket, sweeps, signatures, out) }
}

pub(super) fn spill(lines: &[Line], spill: &Spill, wanted: u16, met: Spilled, out: &mut Vec<Survivor>) {
    // SAFETY: `Kernel` names this kernel only after it saw these four parts of AVX-512 on this CPU.
    unsafe { spill_avx512(lines, spill, wanted, met, out) }
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

#[target_feature(enable = "avx512f,avx512bw,avx512bitalg")]
fn probe_avx512<const WIDTH: usize>(lines: &[Line], width: usize, probes: &Probes<'_>, out: &mut Scanned) {
    let spread =
        (|wanted: u16| _mm512_set1_epi16(wanted as i16), |limit: u8| _mm512_set1_epi16(i16::from(limit)));
    probe_with::<WIDTH, _, _>(lines, width, probes, out, spread, |line, wanted, limit| {
        near(line, wanted, limit)
    });
}

#[target_feature(enable = "avx512f,avx512bw,avx512bitalg")]
fn sweep_avx512(bucket: &Bucket<'_>, sweeps: &[Sweep], signatures: &[u16], out: &mut Vec<Near>) {
    let spread =
        (|wanted: u16| _mm512_set1_epi16(wanted as i16), |limit: u8| _mm512_set1_epi16(i16::from(limit)));
    let near = |line: &Line, wanted, limit| near(line, wanted, limit);
    sweep_with(bucket, sweeps, signatures, out, spread, near, |queries, twice, limit| {
        closest(queries, twice, limit)
    });
}

#[target_feature(enable = "avx512f,avx512bw,avx512bitalg")]
fn spill_avx512(lines: &[Line], spill: &Spill, wanted: u16, met: Spilled, out: &mut Vec<Survivor>) {
    let (wanted, limit) = (_mm512_set1_epi16(wanted as i16), _mm512_set1_epi16(i16::from(met.limit)));
    spill_with(lines, spill, met, out, |line| near(line, wanted, limit));
}

/// Which lanes are within the limit.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bitalg")]
fn near(line: &Line, wanted: __m512i, limit: __m512i) -> u32 {
    // SAFETY: a line is 64 readable bytes, aligned to as many.
    let lanes = unsafe { _mm512_load_si512(std::ptr::from_ref(line).cast()) };
    _mm512_cmple_epu16_mask(_mm512_popcnt_epi16(_mm512_xor_si512(lanes, wanted)), limit)
}

/// Which queries are within the limit of any of these signatures, each of which is given twice.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bitalg")]
fn closest(queries: &[u16; LANES], twice: &[[u32; 4]], limit: __m512i) -> u32 {
    // SAFETY: 32 signatures are 64 readable bytes.
    let queries = unsafe { _mm512_loadu_si512(queries.as_ptr().cast()) };
    let differs = |both: u32| _mm512_popcnt_epi16(_mm512_xor_si512(queries, _mm512_set1_epi32(both as i32)));
    let mut least = _mm512_set1_epi16(i16::MAX);
    for [a, b, c, d] in twice {
        let (ab, cd) =
            (_mm512_min_epu16(differs(*a), differs(*b)), _mm512_min_epu16(differs(*c), differs(*d)));
        least = _mm512_min_epu16(least, _mm512_min_epu16(ab, cd));
    }
    _mm512_cmple_epu16_mask(least, limit)
}
