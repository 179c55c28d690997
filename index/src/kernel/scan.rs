//! Reading buckets: what all kernels share. Each brings its way to compare a line, inlined.

use super::layout::{
    Bucket, CHUNKS_MAX, Group, HEAD, HEAD_LANES, LANES, Line, Near, Probes, SPILLED, Scanned, Spill, Spilled,
    Survivor, Sweep,
};
use super::{AHEAD_MAX, prefetch};

/// How many probes ahead a bucket's lines are fetched: about as many lines for every size of bucket.
#[inline(always)]
pub(crate) const fn ahead(lines: usize) -> usize {
    match lines {
        1 => AHEAD_MAX,
        2 => 32,
        3 | 4 => 20,
        5..=8 => 12,
        _ => 4,
    }
}

/// Lines of a bucket that are fetched ahead; the hardware streams on from there.
const FETCHED: usize = 8;

/// Widest buckets read without a loop.
const UNROLLED: usize = 6;

/// Calls with the width as a constant: each of the narrow ones has code of its own.
macro_rules! by_width {
    ($width:expr, $constant:ident => $call:expr) => {
        by_width!(@ $width, $constant, $call, 1 2 3 4 5 6)
    };
    (@ $width:expr, $constant:ident, $call:expr, $($width_of:literal)+) => {
        match $width {
            $($width_of => {
                const $constant: usize = $width_of;
                $call
            })+
            _ => {
                const $constant: usize = 0;
                $call
            }
        }
    };
}
pub(super) use by_width;

/// Reads one query's buckets. Inlined into each kernel, where `near` is its way to compare a line: which of
/// its lanes are within the limit. `WIDTH` lines a bucket, or 0 for more than [`UNROLLED`].
///
/// All lines of a narrow bucket are compared, filled or not: a branch that depends on how full a bucket is goes
/// wrong too often.
#[inline(always)]
pub(super) fn probe_with<const WIDTH: usize, W: Copy, L: Copy>(
    lines: &[Line],
    width: usize,
    probes: &Probes<'_>,
    out: &mut Scanned,
    spread: (impl Fn(u16) -> W, impl Fn(u8) -> L),
    near: impl Fn(&Line, W, L) -> u32,
) {
    let width = if WIDTH > 0 { WIDTH } else { width };
    let mut buckets = probes.buckets;
    let mut later = &probes.buckets[ahead(width)..];
    for group in probes.groups {
        let wanted = spread.0(probes.signatures[group.table as usize % CHUNKS_MAX]);
        let limit = spread.1(group.limit);
        let count = usize::from(group.count);
        for (bucket, later) in buckets[..count].iter().zip(&later[..count]) {
            let later = *later as usize * width;
            (later..later + width.min(FETCHED)).for_each(|line| prefetch(lines, line));
            let bucket = *bucket as usize * width;
            let bucket = &lines[bucket..bucket + width];
            let (base, count) = bucket[0].head();
            let count = usize::from(count);
            let lanes = ((1u64 << (HEAD + count.min(HEAD_LANES))) - (1 << HEAD)) as u32;
            let mut hits = [0; UNROLLED];
            hits[0] = near(&bucket[0], wanted, limit) & lanes;
            let mut any = hits[0];
            for (at, line) in bucket.iter().enumerate().take(WIDTH).skip(1) {
                hits[at] = near(line, wanted, limit) & first_lanes(lanes_left(count, at));
                any |= hits[at];
            }
            if any != 0 || count == usize::from(SPILLED) {
                take_all(&hits[..WIDTH.max(1)], &bucket[0], group, out);
            }
            if WIDTH > 0 || count == usize::from(SPILLED) {
                continue;
            }
            let rest = count.saturating_sub(HEAD_LANES).div_ceil(LANES);
            for (at, line) in bucket.iter().enumerate().take(1 + rest).skip(1) {
                let hit = near(line, wanted, limit) & first_lanes(lanes_left(count, at));
                if hit != 0 {
                    take(hit, base + line_start(at), group.table, &mut out.survivors);
                }
            }
        }
        (buckets, later) = (&buckets[count..], &later[count..]);
    }
}

/// Signatures of a bucket in its line `at` (not the first) and those after it.
#[inline(always)]
fn lanes_left(count: usize, at: usize) -> usize {
    count.saturating_sub(HEAD_LANES + LANES * (at - 1))
}

/// Signatures before those of line `at` (not the first).
#[inline(always)]
fn line_start(at: usize) -> u32 {
    (HEAD_LANES + LANES * (at - 1)) as u32
}

/// Notes what was near in a bucket, unless it is a spilled one: then its lines mean nothing.
#[cold]
#[inline(never)]
fn take_all(hits: &[u32], first: &Line, group: &Group, out: &mut Scanned) {
    let (base, count) = first.head();
    if count == SPILLED {
        return out.spilled.push(Spilled { spill: base, table: group.table, limit: group.limit });
    }
    for (at, hit) in hits.iter().enumerate() {
        let before = if at == 0 { base.wrapping_sub(HEAD as u32) } else { base + line_start(at) };
        take(*hit, before, group.table, &mut out.survivors);
    }
}

/// The same for the lines of a spilled bucket.
#[inline(always)]
pub(super) fn spill_with(
    lines: &[Line],
    spill: &Spill,
    met: Spilled,
    out: &mut Vec<Survivor>,
    near: impl Fn(&Line) -> u32,
) {
    let count = spill.count as usize;
    for (at, line) in lines[..count.div_ceil(LANES)].iter().enumerate() {
        let hit = near(line) & first_lanes(count - at * LANES);
        if hit != 0 {
            take(hit, spill.base + (at * LANES) as u32, met.table, out);
        }
    }
}

/// Compares a bucket with the signatures of many queries. Inlined into each kernel, as [`probe_with`].
///
/// 32 queries' signatures fill a vector; `closest` is the kernel's way to tell which of them are within the
/// limit of any of a line's, at three instructions for each of these. Only for those few is it asked which.
#[inline(always)]
pub(super) fn sweep_with<W: Copy, L: Copy>(
    bucket: &Bucket<'_>,
    sweeps: &[Sweep],
    signatures: &[u16],
    out: &mut Vec<Near>,
    spread: (impl Fn(u16) -> W, impl Fn(u8) -> L),
    near: impl Fn(&Line, W, L) -> u32,
    closest: impl Fn(&[u16; LANES], &[[u32; 4]], L) -> u32,
) {
    let skipped = if bucket.head { HEAD } else { 0 };
    let (mut from, mut left) = (skipped, bucket.count as usize + skipped);
    let mut place = bucket.base.wrapping_sub(skipped as u32);
    for line in bucket.lines {
        let end = left.min(LANES);
        if end <= from {
            return;
        }
        let lanes = first_lanes(end) & !first_lanes(from);
        // Each twice in a word, which is what can be spread without a further instruction; the last one fills up.
        let mut twice = [u32::from(line.0[end - 1]) * 0x1_0001; LANES];
        for (twice, lane) in twice.iter_mut().zip(&line.0[from..end]) {
            *twice = u32::from(*lane) * 0x1_0001;
        }
        let twice = &twice.as_chunks().0[..(end - from).div_ceil(4)];
        for sweep in sweeps {
            let limit = spread.1(sweep.limit as u8);
            let mut first = sweep.first as usize;
            while first < sweep.end as usize {
                let Some(queries) = signatures[first..].first_chunk::<LANES>() else { return };
                let mut hits = closest(queries, twice, limit) & first_lanes(sweep.end as usize - first);
                while hits != 0 {
                    let query = hits.trailing_zeros() as usize;
                    hits &= hits - 1;
                    let mut lanes = near(line, spread.0(queries[query]), limit) & lanes;
                    while lanes != 0 {
                        let place = place.wrapping_add(lanes.trailing_zeros());
                        out.push(Near { query: (first + query) as u32, place });
                        lanes &= lanes - 1;
                    }
                }
                first += LANES;
            }
        }
        place = place.wrapping_add(LANES as u32);
        left -= end;
        from = 0;
    }
}

/// A bit for each of the first lanes.
#[inline(always)]
fn first_lanes(count: usize) -> u32 {
    if count >= LANES { u32::MAX } else { (1 << count) - 1 }
}

/// Notes the lanes that were near. Rare: 1 signature in 400.
#[cold]
fn take(mut hit: u32, base: u32, table: u8, out: &mut Vec<Survivor>) {
    while hit != 0 {
        out.push(Survivor { place: base.wrapping_add(hit.trailing_zeros()), table });
        hit &= hit - 1;
    }
}
