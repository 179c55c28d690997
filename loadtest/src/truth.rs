//! Comparing an answer with what it must be.

use crate::workload::Batch;

/// Counts of comparisons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Hits that were planted.
    pub expected: u64,
    /// Of those, found at their distance.
    pub found: u64,
    /// Matches that must not be there.
    pub false_hits: u64,
}

impl Verdicts {
    /// Adds another count.
    pub fn add(&mut self, other: Verdicts) {
        self.expected += other.expected;
        self.found += other.found;
        self.false_hits += other.false_hits;
    }
}

/// Compares an answer with the truth of its batch: for each hash that matched, its index and the distances.
pub fn check<D: IntoIterator<Item = u16>>(
    batch: &Batch,
    hits: impl IntoIterator<Item = (u32, D)>,
) -> Verdicts {
    let mut verdicts = Verdicts { expected: batch.hits.len() as u64, ..Verdicts::default() };
    for (hash, distances) in hits {
        let planted = batch.hits.binary_search_by_key(&hash, |(hash, _)| *hash).ok();
        let distance = planted.map(|at| batch.hits[at].1);
        let (mut right, mut wrong) = (false, 0);
        for found in distances {
            if Some(found) == distance { right = true } else { wrong += 1 }
        }
        verdicts.found += u64::from(right);
        // A bank that was seeded twice shows a hash twice, at the same distance; anything else is false.
        verdicts.false_hits += wrong;
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use index::Hash256;

    use super::*;

    #[test]
    fn a_lie_in_either_direction_is_seen() {
        let batch = Batch { hashes: vec![Hash256([0; 32]); 8], hits: vec![(2, 31), (5, 0)] };
        let verdicts = |hits: &[(u32, u16)]| {
            let verdicts = check(&batch, hits.iter().map(|(hash, bits)| (*hash, [*bits])));
            (verdicts.expected, verdicts.found, verdicts.false_hits)
        };
        assert_eq!(verdicts(&[(2, 31), (5, 0)]), (2, 2, 0));
        assert_eq!(verdicts(&[(2, 31)]), (2, 1, 0), "a hit is missing");
        assert_eq!(verdicts(&[(2, 31), (3, 9), (5, 0)]), (2, 2, 1), "a miss is called a hit");
        assert_eq!(verdicts(&[(2, 30), (5, 0)]), (2, 1, 1), "a distance is wrong");
    }
}
