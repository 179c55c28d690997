//! A query that meets crowded buckets: read them, share the threshold out anew for this query, or read flat.
//!
//! Banks hold clusters of near-duplicates and hashes of nearly blank pictures; they crowd a few buckets of a
//! table. A table whose crowded bucket would cost more to read than wider probing of the others is left out
//! for this query, its quota given to those which met the least.

use super::cost::Costs;
use super::probe::survivors_max;
use super::{Plan, Tables};
use crate::kernel::{
    AHEAD_MAX, CHUNKS_MAX, Kernel, LANES, Probes, Scanned, Signatures, Spill, Spilled, prefetch,
};
use crate::signal::Hash256;

/// Lines of a crowded bucket that are read before its survivors are counted.
const PART_LINES: usize = 512;

/// How the crowded buckets of a query were dealt with.
pub enum Settled {
    /// Their survivors are in.
    Read,
    /// Under another plan: what survived it replaced what had survived.
    Replanned(Plan),
    /// Not at all: read everything.
    Flat,
}

/// Deals with the buckets in `scanned.spilled`; the query's survivors begin at `before`.
pub fn settle(
    tables: &Tables,
    hashes: usize,
    query: &Hash256,
    signatures: &Signatures,
    plan: &Plan,
    scanned: &mut Scanned,
    before: usize,
) -> Settled {
    let costs = Costs::current();
    scanned.spilled.iter().for_each(|met| prefetch(&tables.spills, met.spill as usize));
    let cost = |met: &Spilled| costs.spill(tables.spills[met.spill as usize].count as usize);
    let all: f32 = scanned.spilled.iter().map(&cost).sum();
    let base = costs.probing(tables.shape, hashes, plan);
    if all > base {
        let mut load = [0.0; CHUNKS_MAX];
        scanned.spilled.iter().for_each(|met| load[usize::from(met.table)] += cost(met));
        let best = replan(tables, hashes, plan, &load[..plan.cut().tables()]);
        let flat = costs.flat(hashes);
        if let Some((other, expected)) = best.filter(|(_, expected)| *expected < all.min(flat)) {
            scanned.survivors.truncate(before);
            scanned.spilled.clear();
            probe_again(tables, query, signatures, &other, scanned);
            // What wider probing met was not known before: the last word is the flat scan's.
            let met: f32 = scanned.spilled.iter().map(&cost).sum();
            if met > flat.max(2.0 * expected) {
                return Settled::Flat;
            }
            let whole = read(tables, hashes, signatures, scanned, before);
            return if whole { Settled::Replanned(other) } else { Settled::Flat };
        }
        if all > flat {
            return Settled::Flat;
        }
    }
    if read(tables, hashes, signatures, scanned, before) { Settled::Read } else { Settled::Flat }
}

/// The best plan that leaves out some of the most crowded tables, with its expected cost.
fn replan(tables: &Tables, hashes: usize, plan: &Plan, load: &[f32]) -> Option<(Plan, f32)> {
    let costs = Costs::current();
    let mut order: Vec<usize> = (0..load.len()).collect();
    order.sort_by(|a, b| load[*b].total_cmp(&load[*a]));
    let lightest: Vec<usize> = order.iter().rev().copied().collect();
    let candidates = (1..load.len() / 2).filter_map(|dropped| {
        let other = plan.without(&order[..dropped], &lightest)?;
        let left: f32 = order[dropped..].iter().map(|table| load[*table]).sum();
        // Wider probing meets crowded buckets in proportion.
        let wider = left * other.probes() as f32 / plan.probes() as f32;
        let expected = costs.probing(tables.shape, hashes, &other) + wider;
        Some((other, expected))
    });
    candidates.min_by(|(_, a), (_, b)| a.total_cmp(b))
}

fn probe_again(
    tables: &Tables,
    query: &Hash256,
    signatures: &Signatures,
    plan: &Plan,
    scanned: &mut Scanned,
) {
    let mut buckets = Vec::with_capacity(plan.probes() + AHEAD_MAX);
    plan.buckets(query, &mut buckets);
    buckets.resize(plan.probes() + AHEAD_MAX, buckets.last().copied().unwrap_or(0));
    let probes = Probes { buckets: &buckets, groups: plan.groups(), signatures };
    Kernel::current().probe(&tables.lines, tables.shape.width(), &probes, scanned);
}

/// Reads the crowded buckets; `false` where more survives than is worth verifying, and the rest was not read.
fn read(
    tables: &Tables,
    hashes: usize,
    signatures: &Signatures,
    scanned: &mut Scanned,
    before: usize,
) -> bool {
    let kernel = Kernel::current();
    for met in &scanned.spilled {
        let spill = &tables.spills[met.spill as usize];
        let lines = spill.count.div_ceil(LANES as u32).min(4); // the hardware streams on from there
        (0..lines).for_each(|line| prefetch(&tables.spilled, (spill.line + line) as usize));
    }
    for met in &scanned.spilled {
        let spill = &tables.spills[met.spill as usize];
        let wanted = signatures[usize::from(met.table)];
        let lines = &tables.spilled[spill.line as usize..][..spill.count.div_ceil(LANES as u32) as usize];
        for (part, lines) in lines.chunks(PART_LINES).enumerate() {
            let read = (part * PART_LINES * LANES) as u32;
            let count = (spill.count - read).min((PART_LINES * LANES) as u32);
            let part = Spill { base: spill.base + read, count, ..*spill };
            kernel.spill(lines, &part, wanted, *met, &mut scanned.survivors);
            if scanned.survivors.len() - before > survivors_max(hashes) {
                return false;
            }
        }
    }
    true
}
