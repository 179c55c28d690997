//! Portable distances: short enough to be obviously right, and the oracle of the other kernels.

use super::scan::{by_width, probe_with, spill_with, sweep_with};
use super::{Bucket, LANES, Line, Near, Probes, Scanned, Spill, Spilled, Survivor, Sweep};
use crate::signal::{Distance, Hash256};

pub(super) fn flat(query: &Hash256, block: &[Hash256], limit: u32, out: &mut Vec<(u32, Distance)>) {
    for (at, hash) in block.iter().enumerate() {
        let distance = query.distance(hash);
        if u32::from(distance.bits()) <= limit {
            out.push((at as u32, distance));
        }
    }
}

pub(super) fn probe(lines: &[Line], width: usize, probes: &Probes<'_>, out: &mut Scanned) {
    let spread = (|wanted| wanted, |limit| limit);
    by_width!(width, W => probe_with::<W, _, _>(lines, width, probes, out, spread, near));
}

pub(super) fn sweep(bucket: &Bucket<'_>, sweeps: &[Sweep], signatures: &[u16], out: &mut Vec<Near>) {
    sweep_with(bucket, sweeps, signatures, out, (|wanted| wanted, |limit| limit), near, closest);
}

pub(super) fn spill(lines: &[Line], spill: &Spill, wanted: u16, met: Spilled, out: &mut Vec<Survivor>) {
    spill_with(lines, spill, met, out, |line| near(line, wanted, met.limit));
}

fn near(line: &Line, wanted: u16, limit: u8) -> u32 {
    let lanes = line.0.iter().enumerate();
    lanes.fold(0, |near, (lane, found)| {
        near | u32::from((found ^ wanted).count_ones() <= u32::from(limit)) << lane
    })
}

fn closest(queries: &[u16; LANES], twice: &[[u32; 4]], limit: u8) -> u32 {
    // Without a way out of the loop the compiler makes vectors of it.
    let mut near = [false; LANES];
    for found in twice.as_flattened() {
        for (near, query) in near.iter_mut().zip(queries) {
            *near |= (*found as u16 ^ query).count_ones() as u8 <= limit;
        }
    }
    near.iter().enumerate().fold(0, |mask, (at, near)| mask | u32::from(*near) << at)
}
