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

/// What a bucket keeps of a hash: enough to reject nearly every stranger without touching the hash itself.
/// 96 bits let 1 in 3 000 random hashes through at threshold 31.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(16))]
pub struct Record {
    /// 96 bits of the hash that the bucket's key does not say.
    pub signature: [u32; 3],
    /// Which hash of the segment.
    pub slot: u32,
}

/// A bucket to be read: `count` records from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its first record in the segment's array.
    pub first: u32,
    /// Its records.
    pub count: u32,
    /// The table it lies in.
    pub table: u32,
}

/// A record whose signature is near enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survivor {
    /// Which hash of the segment.
    pub slot: u32,
    /// The table it was found in.
    pub table: u32,
}

/// Tables a segment has at most.
pub const TABLES_MAX: usize = 16;

/// A query's signatures, one for each table.
pub type Signatures = [[u32; 3]; TABLES_MAX];

/// How many runs ahead their records are fetched. 24 of about 300 bytes fit the first-level cache several
/// times over; a whole query ahead does not.
const AHEAD: usize = 24;

/// A set of instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Portable Rust: the oracle.
    Scalar,
    /// AVX2 and POPCNT.
    Avx2,
    /// AVX-512 with VPOPCNTDQ.
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
                is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vpopcntdq")
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

    /// Appends every record of the first `count` runs whose signature lies within `limit` bits of the
    /// query's signature for that table. Runs after them are only fetched.
    pub fn runs(
        self,
        signatures: &Signatures,
        records: &[Record],
        runs: &[Run],
        count: usize,
        limit: u32,
        out: &mut Vec<Survivor>,
    ) {
        match self {
            Kernel::Scalar => scalar::runs(signatures, records, runs, count, limit, out),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => avx2::runs(signatures, records, runs, count, limit, out),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => avx512::runs(signatures, records, runs, count, limit, out),
            #[cfg(not(target_arch = "x86_64"))]
            Kernel::Avx2 | Kernel::Avx512 => scalar::runs(signatures, records, runs, count, limit, out),
        }
    }
}

/// The records of a run.
#[inline(always)]
fn records_of<'a>(records: &'a [Record], run: &Run) -> &'a [Record] {
    &records[run.first as usize..run.first as usize + run.count as usize]
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

/// Fetches a run's records, up to eight lines; the hardware streams on from there.
#[inline(always)]
fn prefetch_run(records: &[Record], run: &Run) {
    const PER_LINE: usize = 64 / size_of::<Record>();
    let first = run.first as usize;
    let last = first + (run.count as usize).min(8 * PER_LINE);
    let mut at = first;
    while at < last {
        prefetch(records, at);
        at += PER_LINE;
    }
    if last > first {
        prefetch(records, last - 1); // a run seldom begins at a line
    }
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
        fn every_kernel_reads_runs_as_scalar_does(
            raw in prop::collection::vec(any::<([u32; 3], u32)>(), 0..200),
            cuts in prop::collection::vec((0usize..200, 0usize..40, 0u32..16), 0..60),
            near in any::<bool>(),
            start in 0usize..4,
            count in 0usize..60,
            limit in 0u32..97,
        ) {
            let mut records: Vec<Record> = raw.iter().map(|(signature, slot)| Record { signature: *signature, slot: *slot }).collect();
            if near {
                for record in &mut records {
                    record.signature = [record.signature[0] & 0xff, 0, 0];
                }
            }
            let records = &records[start.min(records.len())..];
            let runs: Vec<Run> = cuts.iter().map(|(first, length, table)| {
                let first = (*first).min(records.len());
                Run { first: first as u32, count: (*length).min(records.len() - first) as u32, table: *table }
            }).collect();
            let signatures: Signatures = std::array::from_fn(|table| [table as u32, 0, 0]);
            let count = count.min(runs.len());
            let mut expected = Vec::new();
            scalar::runs(&signatures, records, &runs, count, limit, &mut expected);
            for kernel in Kernel::available() {
                let mut found = Vec::new();
                kernel.runs(&signatures, records, &runs, count, limit, &mut found);
                prop_assert_eq!(&found, &expected, "{}", kernel.name());
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
