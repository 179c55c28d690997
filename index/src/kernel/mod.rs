//! Distance on this CPU: which instructions are used is chosen once, when the program starts.
//!
//! Every kernel gives exactly what `scalar` gives; a test holds each to it. `HASHWARD_KERNEL` forces one.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;

use std::sync::OnceLock;

use bytemuck::{Pod, Zeroable};

use crate::signal::{Distance, Hash256};

/// Signatures that the first line of a bucket holds beside its head.
pub const HEAD_LANES: usize = 29;
/// Lanes the head takes: where the bucket's slots begin (two lanes), and how many signatures there are.
pub const HEAD: usize = 3;
/// Lanes of a line.
pub const LANES: usize = 32;
/// Count of a bucket that outgrew its lines; its head then names a [`Spill`].
pub const SPILLED: u16 = u16::MAX;

/// A cache line of a table. A bucket's first line is head and 29 signatures, its others 32 signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct Line(pub [u16; LANES]);

impl Line {
    /// Where the bucket's slots begin, or which [`Spill`] it is, and how many signatures it holds.
    #[inline(always)]
    pub fn head(&self) -> (u32, u16) {
        (u32::from(self.0[0]) | u32::from(self.0[1]) << 16, self.0[2])
    }

    /// Writes the head.
    pub fn set_head(&mut self, base: u32, count: u16) {
        [self.0[0], self.0[1], self.0[2]] = [base as u16, (base >> 16) as u16, count];
    }
}

/// A bucket that outgrew its lines: its signatures lie by themselves, in whole lines without a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Spill {
    /// First line among the spilled ones.
    pub line: u32,
    /// Where its slots begin.
    pub base: u32,
    /// How many signatures.
    pub count: u32,
}

/// Chunks a hash is cut into at most.
pub const CHUNKS_MAX: usize = 32;

/// What each table compares a bucket's signatures with.
pub type Signatures = [u16; CHUNKS_MAX];

/// Consecutive probes of one table with one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The table.
    pub table: u8,
    /// Bits a signature may differ.
    pub limit: u8,
    /// How many probes.
    pub count: u16,
}

/// A signature near enough: its hash is to be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survivor {
    /// Place in the tables' slots.
    pub place: u32,
    /// The table it was found in.
    pub table: u8,
}

/// A probe that met a bucket which outgrew its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spilled {
    /// Which [`Spill`].
    pub spill: u32,
    /// The table.
    pub table: u8,
    /// Bits a signature may differ.
    pub limit: u8,
}

/// One query's probes, and those after it to be fetched meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Probes<'p> {
    /// Buckets, in the order of the groups; at least [`AHEAD_MAX`] more follow than the groups count.
    pub buckets: &'p [u32],
    /// What is asked of them.
    pub groups: &'p [Group],
    /// The query's signatures.
    pub signatures: &'p Signatures,
}

/// What a scan appends to.
#[derive(Debug, Default)]
pub struct Scanned {
    /// Signatures near enough.
    pub survivors: Vec<Survivor>,
    /// Buckets to be read elsewhere.
    pub spilled: Vec<Spilled>,
}

/// Most probes that are fetched ahead. 48 single lines keep this many fetches of a core busy and fit its
/// first-level cache fifteen times over (measured: 48 ahead 700 000 queries/s, 24 ahead 530 000).
pub const AHEAD_MAX: usize = 48;

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

/// A set of instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Portable Rust: the oracle.
    Scalar,
    /// AVX2 and POPCNT.
    Avx2,
    /// AVX-512 with VPOPCNTDQ and BITALG.
    Avx512,
}

/// `HASHWARD_KERNEL` names no kernel of this CPU.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("HASHWARD_KERNEL={wanted}: this CPU has {available}; unset it to let the best be chosen")]
pub struct KernelError {
    wanted: String,
    available: String,
}

impl Kernel {
    /// Best first.
    const ALL: [Kernel; 3] = [Kernel::Avx512, Kernel::Avx2, Kernel::Scalar];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Kernel::Scalar => "scalar",
            Kernel::Avx2 => "avx2",
            Kernel::Avx512 => "avx512",
        }
    }

    /// The kernels this CPU has, best first.
    pub fn available() -> impl Iterator<Item = Kernel> {
        Self::ALL.into_iter().filter(|kernel| kernel.is_available())
    }

    fn is_available(self) -> bool {
        match self {
            Kernel::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt"),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vpopcntdq")
                    && is_x86_feature_detected!("avx512bitalg")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Kernel::Avx2 | Kernel::Avx512 => false,
        }
    }

    /// The kernel `HASHWARD_KERNEL` names, else the best this CPU has.
    pub fn choose() -> Result<Kernel, KernelError> {
        match std::env::var("HASHWARD_KERNEL") {
            Ok(wanted) => Self::available().find(|kernel| kernel.name() == wanted).ok_or_else(|| {
                let available: Vec<_> = Self::available().map(Kernel::name).collect();
                KernelError { wanted: wanted.chars().take(64).collect(), available: available.join(", ") }
            }),
            Err(_) => Ok(Self::available().next().unwrap_or(Kernel::Scalar)),
        }
    }

    /// The kernel of this process. A wrong `HASHWARD_KERNEL` is for [`Kernel::choose`]'s caller to report.
    pub fn current() -> Kernel {
        static CURRENT: OnceLock<Kernel> = OnceLock::new();
        *CURRENT.get_or_init(|| Self::choose().unwrap_or(Kernel::Scalar))
    }

    /// Appends place and distance of every hash of `block` within `limit` bits of `query`.
    pub fn flat(self, query: &Hash256, block: &[Hash256], limit: u32, out: &mut Vec<(u32, Distance)>) {
        match self {
            Kernel::Scalar => scalar::flat(query, block, limit, out),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => avx2::flat(query, block, limit, out),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => avx512::flat(query, block, limit, out),
            #[cfg(not(target_arch = "x86_64"))]
            Kernel::Avx2 | Kernel::Avx512 => scalar::flat(query, block, limit, out),
        }
    }

    /// Appends every signature near enough in the buckets that a query probes; `width` lines a bucket.
    pub fn probe(self, lines: &[Line], width: usize, probes: &Probes<'_>, out: &mut Scanned) {
        match self {
            Kernel::Scalar => scalar::probe(lines, width, probes, out),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => avx2::probe(lines, width, probes, out),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => avx512::probe(lines, width, probes, out),
            #[cfg(not(target_arch = "x86_64"))]
            Kernel::Avx2 | Kernel::Avx512 => scalar::probe(lines, width, probes, out),
        }
    }

    /// Appends every signature near enough of one spilled bucket, given its lines.
    pub fn spill(self, lines: &[Line], spill: &Spill, wanted: u16, met: Spilled, out: &mut Vec<Survivor>) {
        match self {
            Kernel::Scalar => scalar::spill(lines, spill, wanted, met, out),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => avx2::spill(lines, spill, wanted, met, out),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => avx512::spill(lines, spill, wanted, met, out),
            #[cfg(not(target_arch = "x86_64"))]
            Kernel::Avx2 | Kernel::Avx512 => scalar::spill(lines, spill, wanted, met, out),
        }
    }
}

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
pub(crate) use by_width;

/// Reads one query's buckets. Inlined into each kernel, where `near` is its way to compare a line: which of
/// its lanes are within the limit. `WIDTH` lines a bucket, or 0 for more than [`UNROLLED`].
///
/// All lines of a narrow bucket are compared, filled or not: a branch that depends on how full a bucket is goes
/// wrong too often.
#[inline(always)]
fn probe_with<const WIDTH: usize, W: Copy, L: Copy>(
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
fn spill_with(
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

/// Asks for the cache line at `at` of `values`; beyond the end it does nothing.
#[inline(always)]
#[allow(unsafe_code)]
pub fn prefetch<T>(values: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if at < values.len() {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let value = &raw const values[at];
        // SAFETY: SSE is part of x86-64, and a prefetch of any address has no effect but on caches.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(value.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, at);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hashes() -> impl Strategy<Value = Vec<Hash256>> {
        prop::collection::vec(any::<[u8; 32]>().prop_map(Hash256), 0..70)
    }

    proptest! {
        #[test]
        fn every_kernel_scans_as_scalar_does(block in hashes(), query: [u8; 32], start in 0usize..5, limit in 0u32..257) {
            let block = &block[start.min(block.len())..];
            let mut expected = Vec::new();
            scalar::flat(&Hash256(query), block, limit, &mut expected);
            for kernel in Kernel::available() {
                let mut found = Vec::new();
                kernel.flat(&Hash256(query), block, limit, &mut found);
                prop_assert_eq!(&found, &expected, "{}", kernel.name());
            }
        }

        #[test]
        fn every_kernel_reads_buckets_as_scalar_does(
            seed: u64,
            width in 1usize..9,
            groups in prop::collection::vec((0u8..32, 0u8..17, 1u16..20), 0..20),
            near in any::<bool>(),
        ) {
            let mut state = seed;
            let mut next = || { state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407); state >> 33 };
            let room = (HEAD_LANES + LANES * (width - 1)) as u64;
            let mut lines = vec![Line([0; LANES]); 64 * width];
            for line in &mut lines {
                line.0 = std::array::from_fn(|_| if near { next() as u16 & 0x0101 } else { next() as u16 });
            }
            for bucket in 0..64 {
                let count = if next() % 9 == 0 { SPILLED } else { (next() % (room + 1)) as u16 };
                lines[bucket * width].set_head(next() as u32, count);
            }
            let total: usize = groups.iter().map(|(_, _, count)| usize::from(*count)).sum();
            let buckets: Vec<u32> = (0..total + AHEAD_MAX).map(|_| (next() % 64) as u32).collect();
            let groups: Vec<Group> = groups.iter().map(|(table, limit, count)| Group { table: *table, limit: *limit, count: *count }).collect();
            let signatures: Signatures = std::array::from_fn(|_| next() as u16 & 0x0f0f);
            let probes = Probes { buckets: &buckets, groups: &groups, signatures: &signatures };
            let (mut expected, spill) = (Scanned::default(), Spill { line: 0, base: 7, count: (next() % (64 * width * LANES) as u64) as u32 });
            let met = Spilled { spill: 0, table: 3, limit: 4 };
            scalar::probe(&lines, width, &probes, &mut expected);
            scalar::spill(&lines, &spill, 0x0101, met, &mut expected.survivors);
            for kernel in Kernel::available() {
                let mut found = Scanned::default();
                kernel.probe(&lines, width, &probes, &mut found);
                kernel.spill(&lines, &spill, 0x0101, met, &mut found.survivors);
                prop_assert_eq!(&found.survivors, &expected.survivors, "{}", kernel.name());
                prop_assert_eq!(&found.spilled, &expected.spilled, "{}", kernel.name());
            }
        }
    }

    #[test]
    fn the_edges_of_a_distance_are_exact() {
        let query = Hash256([0; 32]);
        let block: Vec<Hash256> = (0..=256usize)
            .map(|bits| {
                Hash256(std::array::from_fn(|at| {
                    (0..8).filter(|bit| at * 8 + bit < bits).map(|bit| 1 << bit).sum()
                }))
            })
            .collect();
        for kernel in Kernel::available() {
            for limit in [0, 1, 15, 31, 32, 255, 256] {
                let mut found = Vec::new();
                kernel.flat(&query, &block, limit, &mut found);
                assert_eq!(found.len() as u32, limit + 1, "{} at {limit}", kernel.name());
            }
        }
    }
}
