//! Which buckets a threshold asks for, and whether that is worth it.

use super::{CHUNK_BITS, TABLES};
use crate::signal::Distance;

/// Widest radius probed in a chunk: 1 + 16 + 120 buckets.
const RADIUS_MAX: i8 = 2;

/// Radii of the chunks for one threshold. -1 leaves a chunk out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Bits a chunk may differ from the query's.
    pub radii: [i8; TABLES],
}

impl Plan {
    /// The smallest radii for which Σ(r_i + 1) > threshold; `None` where they would be too wide to probe.
    pub fn new(threshold: Distance) -> Option<Self> {
        let wanted = usize::from(threshold.bits()) + 1;
        let (each, more) = (wanted / TABLES, wanted % TABLES);
        let radii = std::array::from_fn(|table| (each + usize::from(table < more)) as i8 - 1);
        (radii.iter().all(|radius| *radius <= RADIUS_MAX)).then_some(Self { radii })
    }

    /// Buckets it asks for.
    pub fn probes(&self) -> usize {
        self.radii.iter().map(|radius| Self::buckets(*radius)).sum()
    }

    fn buckets(radius: i8) -> usize {
        match radius {
            ..=-1 => 0,
            0 => 1,
            1 => 1 + CHUNK_BITS,
            _ => 1 + CHUNK_BITS + CHUNK_BITS * (CHUNK_BITS - 1) / 2,
        }
    }

    /// Calls `visit` with every key within the radius of `chunk`.
    #[inline]
    pub fn keys(radius: i8, chunk: u16, mut visit: impl FnMut(u16)) {
        if radius < 0 {
            return;
        }
        visit(chunk);
        if radius < 1 {
            return;
        }
        for first in 0..CHUNK_BITS {
            visit(chunk ^ 1 << first);
        }
        if radius < 2 {
            return;
        }
        for first in 1..CHUNK_BITS {
            for second in 0..first {
                visit(chunk ^ 1 << first ^ 1 << second);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn radii_satisfy_the_pigeonhole_principle_and_no_more() {
        for bits in 0..=128 {
            let Some(plan) = Plan::new(Distance::new(bits).unwrap()) else {
                assert!(bits >= 48, "{bits} is probed");
                continue;
            };
            let sum: i32 = plan.radii.iter().map(|radius| i32::from(*radius) + 1).sum();
            assert_eq!(sum, i32::from(bits) + 1);
        }
        assert_eq!(Plan::new(Distance::new(31).unwrap()).unwrap().probes(), 16 * 17);
    }

    #[test]
    fn keys_are_all_within_the_radius_each_once() {
        for (radius, within) in [(-1i8, 0), (0, 1), (1, 17), (2, 137)] {
            let mut keys = Vec::new();
            Plan::keys(radius, 0xbeef, |key| keys.push(key));
            assert_eq!(keys.len(), within);
            assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), within);
            assert!(keys.iter().all(|key| (key ^ 0xbeef).count_ones() as i8 <= radius));
            assert_eq!(Plan::buckets(radius), within);
        }
    }
}
