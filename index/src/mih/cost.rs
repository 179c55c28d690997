//! What a search is expected to cost, in nanoseconds: how the planner chooses.
//!
//! The constants are measured by the kernels themselves ([`Costs::measure`], some 60 ms when a server starts);
//! before that, or where nobody measures, stored ones are used.

use std::hint::black_box;
use std::sync::OnceLock;
use std::time::Instant;

use super::{Cut, Plan, Shape, Tables};
use crate::kernel::{AHEAD_MAX, Group, HEAD_LANES, Kernel, LANES, Line, Probes, Scanned};
use crate::memory::Huge;
use crate::signal::{Distance, Hash256, SignalType};

/// Table sizes at which a probe is measured: second-level cache, third-level cache, memory.
const SIZES: [usize; 3] = [512 << 10, 8 << 20, 64 << 20];

/// Bytes of buckets that a hash is worth: half-empty ones are fast and wasteful.
const LINES_MAX: usize = 340;
/// Buckets of so many bytes are never too large.
const LINES_FREE: usize = 8 << 20;

/// Costs in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Costs {
    /// Which instructions they hold for.
    pub kernel: &'static str,
    /// Whether they were measured on this machine.
    pub measured: bool,
    /// A probe of a bucket of one line, in tables of 512 KiB, 8 MiB and 64 MiB or more.
    pub probe: [f32; 3],
    /// Each further line of a bucket.
    pub line: f32,
    /// A hash of a flat scan.
    pub flat: f32,
}

static CURRENT: OnceLock<Costs> = OnceLock::new();

impl Costs {
    /// Those measured, else those stored. What is used once stays: [`Costs::measure`] comes first or not at all.
    pub fn current() -> &'static Costs {
        CURRENT.get_or_init(|| Self::stored(Kernel::current()))
    }

    /// Measures this machine, once; later calls give the same.
    pub fn measure() -> &'static Costs {
        CURRENT.get_or_init(|| {
            Self::measured(Kernel::current()).unwrap_or_else(|| Self::stored(Kernel::current()))
        })
    }

    /// Of an EPYC Zen 5.
    fn stored(kernel: Kernel) -> Costs {
        let (probe, line, flat) = match kernel {
            Kernel::Avx512 => ([1.4, 2.6, 4.9], 1.0, 0.5),
            Kernel::Avx2 => ([4.0, 5.0, 7.0], 3.5, 1.4),
            Kernel::Scalar => ([25.0, 26.0, 28.0], 24.0, 2.5),
        };
        Costs { kernel: kernel.name(), measured: false, probe, line, flat }
    }

    /// `None` without the memory to measure in.
    fn measured(kernel: Kernel) -> Option<Costs> {
        const PROBES: usize = 16 * 1024;
        let mut lines = Huge::<Line>::zeroed(SIZES[2] / size_of::<Line>()).ok()?;
        lines.iter_mut().step_by(64).for_each(|line| line.0[LANES - 1] = 1); // a page that was never written is not there
        let groups = [Group { table: 0, limit: 0, count: PROBES as u16 }];
        let signatures = [u16::MAX; crate::kernel::CHUNKS_MAX];
        let time = |lines: &[Line], width: usize| {
            let buckets = lines.len() / width;
            let mut state = 1u64;
            let mut draw = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                ((u128::from(state) * buckets as u128) >> 64) as u32
            };
            // Others each time: lines that were just read lie in a cache.
            let list: Vec<u32> = (0..RUNS * PROBES + AHEAD_MAX).map(|_| draw()).collect();
            let mut scanned = Scanned::default();
            let run = |run: usize| {
                let probes =
                    Probes { buckets: &list[run * PROBES..], groups: &groups, signatures: &signatures };
                kernel.probe(black_box(lines), width, &probes, &mut scanned);
            };
            nanoseconds(run) / PROBES as f32
        };
        let probe = SIZES.map(|bytes| time(&lines[..bytes / size_of::<Line>()], 1));
        for bucket in lines.chunks_exact_mut(4) {
            bucket[0].set_head(0, (HEAD_LANES + 3 * LANES) as u16);
        }
        let line = (time(&lines, 4) - probe[2]) / 3.0;
        let hashes = vec![Hash256([0x55; 32]); 32 << 10];
        let (query, mut near) = (Hash256([0; 32]), Vec::new());
        let flat =
            nanoseconds(|_| kernel.flat(&query, black_box(&hashes), 31, &mut near)) / hashes.len() as f32;
        Some(Costs { kernel: kernel.name(), measured: true, probe, line: line.max(0.2), flat })
    }

    /// Reading so many hashes flat.
    pub fn flat(&self, hashes: usize) -> f32 {
        self.flat * hashes as f32
    }

    /// Reading a spilled bucket: two places to fetch, then a stream.
    pub fn spill(&self, signatures: usize) -> f32 {
        4.0 * self.probe[2] + self.line * signatures.div_ceil(LANES) as f32
    }

    /// Searching tables of this shape over so many hashes, for one query that meets no crowded bucket.
    pub fn probing(&self, shape: Shape, hashes: usize, plan: &Plan) -> f32 {
        let cut = plan.cut();
        let in_bucket = hashes as f32 / cut.buckets() as f32;
        let further = ((in_bucket - HEAD_LANES as f32) / LANES as f32).max(0.0);
        let bytes = lines_bytes(shape);
        // A near signature fetches its slot and its hash.
        let mut near = 0.0;
        for group in plan.groups() {
            near += f32::from(group.count) * in_bucket * share_within(group.limit);
        }
        plan.probes() as f32 * (self.probe_of(bytes) + further * self.line) + near * 3.0 * self.probe[2]
    }

    /// A probe of tables of so many bytes: between the sizes that were measured by their logarithm.
    fn probe_of(&self, bytes: usize) -> f32 {
        let at = (bytes.max(SIZES[0]) as f32).log2();
        let sizes = SIZES.map(|size| (size as f32).log2());
        let between = |from: usize, to: usize| {
            let share = ((at - sizes[from]) / (sizes[to] - sizes[from])).clamp(0.0, 1.0);
            self.probe[from] + share * (self.probe[to] - self.probe[from])
        };
        if at < sizes[1] { between(0, 1) } else { between(1, 2) }
    }

    /// The cut that is expected to be fastest for so many hashes at the usual threshold, of those that do not take
    /// too much memory for them; `None` is a flat scan.
    pub fn choose(&self, hashes: usize) -> Option<Cut> {
        let fits = |(cut, _): &(Option<Cut>, f32)| {
            let bytes = cut.map_or(0, |cut| lines_bytes(Tables::expected_shape(cut, hashes)));
            bytes <= LINES_FREE.max(hashes * LINES_MAX)
        };
        let options = self.options(hashes).into_iter().filter(fits);
        options.min_by(|(_, a), (_, b)| a.total_cmp(b)).and_then(|(cut, _)| cut)
    }

    /// What each way to search so many hashes is expected to cost a query; `None` is the flat scan.
    pub fn options(&self, hashes: usize) -> Vec<(Option<Cut>, f32)> {
        let threshold = SignalType::Pdq.threshold();
        let of_cut = |cut: Cut| {
            let (plan, shape) = (Plan::even(cut, threshold)?, Tables::expected_shape(cut, hashes));
            Some((Some(cut), self.probing(shape, hashes, &plan)))
        };
        [Some((None, self.flat(hashes)))].into_iter().chain(Cut::ALL.map(of_cut)).flatten().collect()
    }

    /// What a search of these tables is expected to cost a query at this threshold, and by which plan.
    pub fn expected(&self, tables: &Tables, hashes: usize, threshold: Distance) -> (Option<Plan>, f32) {
        let flat = self.flat(hashes);
        let plan = Plan::even(tables.shape.cut(), threshold);
        let probing = plan.map(|plan| (self.probing(tables.shape, hashes, &plan), plan));
        match probing {
            Some((cost, plan)) if cost < flat => (Some(plan), cost),
            _ => (None, flat),
        }
    }
}

/// Bytes of all buckets.
fn lines_bytes(shape: Shape) -> usize {
    let cut = shape.cut();
    cut.tables() * cut.buckets() * shape.width() * size_of::<Line>()
}

/// The share of random signatures within so many of 16 bits.
fn share_within(limit: u8) -> f32 {
    let mut ways = 1.0;
    let mut sum = 0.0;
    for bits in 0..=f32::from(limit).min(16.0) as u32 {
        sum += ways;
        ways = ways * (16 - bits) as f32 / (bits + 1) as f32;
    }
    sum / 65_536.0
}

const RUNS: usize = 5;

/// The best of the runs, each of which is told its number.
fn nanoseconds(mut run: impl FnMut(usize)) -> f32 {
    let time = |number| {
        let begun = Instant::now();
        run(number);
        begun.elapsed().as_nanos() as f32
    };
    (0..RUNS).map(time).fold(f32::INFINITY, f32::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_banks_are_read_flat_middle_ones_cut_narrow_and_large_ones_wide() {
        for kernel in [Kernel::Avx512, Kernel::Avx2, Kernel::Scalar] {
            let costs = Costs::stored(kernel);
            assert_eq!(costs.choose(50), None, "{costs:?}");
            assert_eq!(costs.choose(20_000), Some(Cut::Narrow), "{costs:?}");
            assert_eq!(costs.choose(100_000), Some(Cut::Narrow), "{costs:?}");
            assert_eq!(costs.choose(1_000_000), Some(Cut::Wide), "{costs:?}");
        }
    }

    #[test]
    fn a_measurement_gives_costs_above_nothing() {
        for kernel in Kernel::available() {
            let costs = Costs::measured(kernel).unwrap();
            let all = [costs.probe[0], costs.probe[1], costs.probe[2], costs.line, costs.flat];
            assert!(all.iter().all(|cost| *cost > 0.0 && *cost < 10_000.0), "{costs:?}");
        }
    }

    #[test]
    fn shares_are_those_of_the_binomial_distribution() {
        assert_eq!(share_within(0), 1.0 / 65_536.0);
        assert_eq!(share_within(2), 137.0 / 65_536.0);
        assert!((share_within(16) - 1.0).abs() < 1e-5);
    }
}
