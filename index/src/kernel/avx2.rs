//! AVX2: every x86-64 server since 2013.
//!
//! It has no instruction that counts bits, so each count is two table look-ups (`vpshufb`) of nibbles. `flat`
//! sums them by `vpsadbw`: port 5 bound, about 5 cycles a hash. `probe` adds the two bytes of each signature
//! (`vpmaddubsw`): about 20 instructions a line.

#![allow(unsafe_code)] // intrinsics

use std::arch::x86_64::{
    __m256i, _mm256_add_epi8, _mm256_and_si256, _mm256_cmpgt_epi16, _mm256_extract_epi64, _mm256_loadu_si256,
    _mm256_maddubs_epi16, _mm256_min_epi16, _mm256_movemask_epi8, _mm256_packs_epi16,
    _mm256_permute4x64_epi64, _mm256_sad_epu8, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_setr_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi16, _mm256_xor_si256,
};

use super::scan::{by_width, probe_with, spill_with, sweep_with};
use super::{Bucket, LANES, Line, Near, Probes, Scanned, Spill, Spilled, Survivor, Sweep};
use crate::signal::{Distance, Hash256};

pub(super) fn flat(query: &Hash256, block: &[Hash256], limit: u32, out: &mut Vec<(u32, Distance)>) {
    // SAFETY: `Kernel` names this kernel only after it saw AVX2 and POPCNT on this CPU.
    unsafe { flat_avx2(query, block, limit, out) }
}

pub(super) fn probe(lines: &[Line], width: usize, probes: &Probes<'_>, out: &mut Scanned) {
    // SAFETY: `Kernel` names this kernel only after it saw AVX2 and POPCNT on this CPU.
    by_width!(width, W => unsafe { probe_avx2::<W>(lines, width, probes, out) });
}

pub(super) fn sweep(bucket: &Bucket<'_>, sweeps: &[Sweep], signatures: &[u16], out: &mut Vec<Near>) {
    // SAFETY: `Kernel` names this kernel only after it saw AVX2 and POPCNT on this CPU.
    unsafe { sweep_avx2(bucket, sweeps, signatures, out) }
}

pub(super) fn spill(lines: &[Line], spill: &Spill, wanted: u16, met: Spilled, out: &mut Vec<Survivor>) {
    // SAFETY: `Kernel` names this kernel only after it saw AVX2 and POPCNT on this CPU.
    unsafe { spill_avx2(lines, spill, wanted, met, out) }
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

/// Bits set in each byte: nibbles look their count up.
#[inline]
#[target_feature(enable = "avx2")]
fn count_bytes(bits: __m256i) -> __m256i {
    let table = _mm256_setr_epi8(
        0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
    );
    let nibble = _mm256_set1_epi8(0x0f);
    let low = _mm256_shuffle_epi8(table, _mm256_and_si256(bits, nibble));
    let high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16::<4>(bits), nibble));
    _mm256_add_epi8(low, high)
}

/// Bits set in 256: `vpsadbw` sums the bytes of each quarter.
#[inline]
#[target_feature(enable = "avx2")]
fn count(bits: __m256i) -> u32 {
    let sums = _mm256_sad_epu8(count_bytes(bits), _mm256_setzero_si256());
    let quarters = [
        _mm256_extract_epi64::<0>(sums),
        _mm256_extract_epi64::<1>(sums),
        _mm256_extract_epi64::<2>(sums),
        _mm256_extract_epi64::<3>(sums),
    ];
    quarters.iter().sum::<i64>() as u32
}

#[target_feature(enable = "avx2,popcnt")]
fn probe_avx2<const WIDTH: usize>(lines: &[Line], width: usize, probes: &Probes<'_>, out: &mut Scanned) {
    let spread = (|wanted: u16| _mm256_set1_epi16(wanted as i16), |limit: u8| over(limit));
    probe_with::<WIDTH, _, _>(lines, width, probes, out, spread, |line, wanted, over| {
        near(line, wanted, over)
    });
}

#[target_feature(enable = "avx2,popcnt")]
fn sweep_avx2(bucket: &Bucket<'_>, sweeps: &[Sweep], signatures: &[u16], out: &mut Vec<Near>) {
    let spread = (|wanted: u16| _mm256_set1_epi16(wanted as i16), |limit: u8| over(limit));
    let near = |line: &Line, wanted, over| near(line, wanted, over);
    sweep_with(bucket, sweeps, signatures, out, spread, near, |queries, twice, over| {
        closest(queries, twice, over)
    });
}

#[target_feature(enable = "avx2,popcnt")]
fn spill_avx2(lines: &[Line], spill: &Spill, wanted: u16, met: Spilled, out: &mut Vec<Survivor>) {
    let (wanted, over) = (_mm256_set1_epi16(wanted as i16), over(met.limit));
    spill_with(lines, spill, met, out, |line| near(line, wanted, over));
}

/// One above the limit: there is a 'greater than', no 'at most'.
#[inline]
#[target_feature(enable = "avx2")]
fn over(limit: u8) -> __m256i {
    _mm256_set1_epi16(i16::from(limit) + 1)
}

/// Which lanes are under `over`.
#[inline]
#[target_feature(enable = "avx2")]
fn near(line: &Line, wanted: __m256i, over: __m256i) -> u32 {
    let (low, high) = halves(&line.0);
    let under = |lanes| _mm256_cmpgt_epi16(over, count_lanes(_mm256_xor_si256(lanes, wanted)));
    mask(under(low), under(high))
}

/// Which queries are under `over` from any of these signatures, each of which is given twice.
#[inline]
#[target_feature(enable = "avx2")]
fn closest(queries: &[u16; LANES], twice: &[[u32; 4]], over: __m256i) -> u32 {
    let (low, high) = halves(queries);
    let mut least = (_mm256_set1_epi16(i16::MAX), _mm256_set1_epi16(i16::MAX));
    for both in twice.as_flattened() {
        let found = _mm256_set1_epi32(*both as i32);
        least.0 = _mm256_min_epi16(least.0, count_lanes(_mm256_xor_si256(low, found)));
        least.1 = _mm256_min_epi16(least.1, count_lanes(_mm256_xor_si256(high, found)));
    }
    mask(_mm256_cmpgt_epi16(over, least.0), _mm256_cmpgt_epi16(over, least.1))
}

#[inline]
#[target_feature(enable = "avx2")]
fn halves(lanes: &[u16; LANES]) -> (__m256i, __m256i) {
    let (low, high) = lanes.split_at(16);
    // SAFETY: 16 lanes are 32 readable bytes.
    let low = unsafe { _mm256_loadu_si256(low.as_ptr().cast()) };
    // SAFETY: as above.
    let high = unsafe { _mm256_loadu_si256(high.as_ptr().cast()) };
    (low, high)
}

/// Bits set in each lane.
#[inline]
#[target_feature(enable = "avx2")]
fn count_lanes(bits: __m256i) -> __m256i {
    _mm256_maddubs_epi16(count_bytes(bits), _mm256_set1_epi8(1))
}

/// A bit for each lane of two halves. Packing interleaves their quarters; the permutation puts them in order.
#[inline]
#[target_feature(enable = "avx2")]
fn mask(low: __m256i, high: __m256i) -> u32 {
    let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi16(low, high));
    _mm256_movemask_epi8(packed) as u32
}
