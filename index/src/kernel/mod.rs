//! Distance on this CPU: which instructions are used is chosen once, when the program starts.
//!
//! Every kernel gives exactly what `scalar` gives; a test holds each to it. `HASHWARD_KERNEL` forces one.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod layout;
mod scalar;
mod scan;

use std::sync::OnceLock;

pub use layout::{
    AHEAD_MAX, Bucket, CHUNKS_MAX, Group, HEAD, HEAD_LANES, LANES, Line, Near, Probes, SPILLED, Scanned,
    Signatures, Spill, Spilled, Survivor, Sweep,
};
pub(crate) use scan::ahead;

use crate::signal::{Distance, Hash256};

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

    /// Appends every pair of a signature of a bucket and one of a query that are near enough. Behind the last
    /// signature that is swept there are 32 more, whatever they are.
    pub fn sweep(self, bucket: &Bucket<'_>, sweeps: &[Sweep], signatures: &[u16], out: &mut Vec<Near>) {
        match self {
            Kernel::Scalar => scalar::sweep(bucket, sweeps, signatures, out),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => avx2::sweep(bucket, sweeps, signatures, out),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => avx512::sweep(bucket, sweeps, signatures, out),
            #[cfg(not(target_arch = "x86_64"))]
            Kernel::Avx2 | Kernel::Avx512 => scalar::sweep(bucket, sweeps, signatures, out),
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
            let many: Vec<u16> = (0..160).map(|_| next() as u16 & 0x0f0f).collect();
            let probes = Probes { buckets: &buckets, groups: &groups, signatures: &signatures };
            let (mut expected, spill) = (Scanned::default(), Spill { line: 0, base: 7, count: (next() % (64 * width * LANES) as u64) as u32 });
            let met = Spilled { spill: 0, table: 3, limit: 4 };
            scalar::probe(&lines, width, &probes, &mut expected);
            scalar::spill(&lines, &spill, 0x0101, met, &mut expected.survivors);
            let sweeps = [Sweep { first: 0, end: 20, limit: 3 }, Sweep { first: 5, end: 100, limit: 2 }];
            let bucket = Bucket { lines: &lines, base: 9, count: 20 + (next() % 80) as u32, head: seed.is_multiple_of(2) };
            let mut pairs = Vec::new();
            scalar::sweep(&bucket, &sweeps, &many, &mut pairs);
            let mut expected_pairs = Vec::new();
            let lanes: Vec<u16> = lines.iter().flat_map(|line| line.0).skip(if bucket.head { HEAD } else { 0 }).collect();
            for (at, lane) in lanes.iter().take(bucket.count as usize).enumerate() {
                for sweep in &sweeps {
                    for query in sweep.first..sweep.end {
                        if (lane ^ many[query as usize]).count_ones() <= sweep.limit {
                            expected_pairs.push((query, bucket.base + at as u32));
                        }
                    }
                }
            }
            let sorted = |pairs: &[Near]| {
                let mut pairs: Vec<_> = pairs.iter().map(|near| (near.query, near.place)).collect();
                pairs.sort_unstable();
                pairs
            };
            expected_pairs.sort_unstable();
            prop_assert_eq!(sorted(&pairs), expected_pairs);
            for kernel in Kernel::available() {
                let mut found = Vec::new();
                kernel.sweep(&bucket, &sweeps, &many, &mut found);
                prop_assert_eq!(&found, &pairs, "{}", kernel.name());
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
