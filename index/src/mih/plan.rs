//! Which buckets a threshold asks for.

use super::Cut;
use crate::kernel::{CHUNKS_MAX, Group};
use crate::signal::{Distance, Hash256};

/// Largest quota: differences up to 2 bits are probed, 1 + 16 + 120 buckets of a wide table.
const QUOTA_MAX: u8 = 3;

/// How a threshold is shared out among the chunks, and the probes that follow from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    cut: Cut,
    /// A match differs by less than this in some chunk. 0 leaves the chunk's table out.
    quotas: [u8; CHUNKS_MAX],
    groups: Vec<Group>,
    probes: usize,
}

impl Plan {
    /// The threshold shared out evenly; `None` where that asks for too many buckets to be worth it.
    pub fn even(cut: Cut, threshold: Distance) -> Option<Self> {
        let wanted = usize::from(threshold.bits()) + 1;
        let (each, more) = (wanted / cut.tables(), wanted % cut.tables());
        let quota = |table| if table < cut.tables() { each + usize::from(table < more) } else { 0 };
        let quotas: [usize; CHUNKS_MAX] = std::array::from_fn(quota);
        (quotas.iter().all(|quota| *quota <= usize::from(QUOTA_MAX)))
            .then(|| Self::new(cut, quotas.map(|quota| quota as u8)))
    }

    /// A plan of these quotas, each at most [`QUOTA_MAX`]. It finds everything within their sum less one.
    fn new(cut: Cut, quotas: [u8; CHUNKS_MAX]) -> Self {
        let mut plan = Self { cut, quotas, groups: Vec::new(), probes: 0 };
        for (table, quota) in quotas[..cut.tables()].iter().enumerate() {
            for differs in 0..usize::from(*quota) {
                let count = choose(cut.bits(), differs);
                plan.groups.push(Group {
                    table: table as u8,
                    limit: plan.limit(table, differs as u32) as u8,
                    count: count as u16,
                });
                plan.probes += count;
            }
        }
        plan
    }

    /// The same threshold without these tables, their quotas given to the others, those first of which
    /// `preferred` names first. `None` where the others cannot take them.
    pub fn without(&self, dropped: &[usize], preferred: &[usize]) -> Option<Self> {
        let mut quotas = self.quotas;
        let mut left: u8 = dropped.iter().map(|table| std::mem::take(&mut quotas[*table])).sum();
        for table in preferred.iter().filter(|table| !dropped.contains(table)) {
            let given = left.min(QUOTA_MAX - quotas[*table]);
            quotas[*table] += given;
            left -= given;
        }
        (left == 0).then(|| Self::new(self.cut, quotas))
    }

    /// How hashes are cut.
    pub fn cut(&self) -> Cut {
        self.cut
    }

    /// Buckets it asks for.
    pub fn probes(&self) -> usize {
        self.probes
    }

    /// The probes' tables and limits.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Bits each chunk may differ; -1 leaves it out.
    pub fn radii(&self) -> impl Iterator<Item = i8> + '_ {
        self.quotas[..self.cut.tables()].iter().map(|quota| *quota as i8 - 1)
    }

    /// What a table's probes flip of the query's bucket, each with its limit.
    pub fn flips(&self, table: usize) -> Vec<(u16, u8)> {
        let mut origin = Vec::new();
        self.buckets(&Hash256([0; 32]), &mut origin);
        let mut at = 0;
        let mut flips = Vec::new();
        for group in &self.groups {
            let buckets = &origin[at..at + usize::from(group.count)];
            at += buckets.len();
            if usize::from(group.table) == table {
                let within = (self.cut.buckets() - 1) as u32;
                flips.extend(buckets.iter().map(|bucket| ((bucket & within) as u16, group.limit)));
            }
        }
        flips
    }

    /// Bits a signature may differ in a bucket of `table` that differs by so many.
    fn limit(&self, table: usize, differs: u32) -> u32 {
        let followers = (0..=self.cut.followers()).map(|steps| self.quotas[self.cut.ring(table, steps)]);
        followers.map(u32::from).sum::<u32>() - 1 - differs
    }

    /// Appends the buckets a query probes, in the order of the groups.
    pub fn buckets(&self, query: &Hash256, out: &mut Vec<u32>) {
        match self.cut {
            Cut::Narrow => self.buckets_of::<8>(query, out),
            Cut::Wide => self.buckets_of::<16>(query, out),
        }
    }

    fn buckets_of<const BITS: usize>(&self, query: &Hash256, out: &mut Vec<u32>) {
        let flips: [u32; BITS] = std::array::from_fn(|bit| u32::from(self.cut.bucket(1 << bit)));
        for table in 0..self.cut.tables() {
            let own = (table << BITS) as u32 | u32::from(self.cut.bucket(self.cut.chunk(query, table)));
            let quota = self.quotas[table];
            if quota > 0 {
                out.push(own);
            }
            if quota > 1 {
                out.extend_from_slice(&flips.map(|flip| own ^ flip));
            }
            if quota > 2 {
                for first in 1..BITS {
                    out.extend(flips[..first].iter().map(|second| own ^ flips[first] ^ second));
                }
            }
        }
    }

    /// Whether a search of `table` shows this hash: the same condition as the probes'.
    fn shows(&self, table: usize, query: &Hash256, hash: &Hash256) -> bool {
        let cut = self.cut;
        let differs = (cut.chunk(query, table) ^ cut.chunk(hash, table)).count_ones();
        differs < u32::from(self.quotas[table])
            && (cut.signature(query, table) ^ cut.signature(hash, table)).count_ones()
                <= self.limit(table, differs)
    }

    /// Whether `table` is the first to show the hash: then it is reported from there, and nobody has to
    /// remember what other tables showed.
    pub fn shows_first(&self, table: usize, query: &Hash256, hash: &Hash256) -> bool {
        (0..table).all(|earlier| !self.shows(earlier, query, hash))
    }
}

/// Ways to choose `few` (at most 2) of `all`.
const fn choose(all: usize, few: usize) -> usize {
    match few {
        0 => 1,
        1 => all,
        _ => all * (all - 1) / 2,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quotas_add_up_to_the_threshold_and_one() {
        for cut in Cut::ALL {
            for bits in 0..=128 {
                let Some(plan) = Plan::even(cut, Distance::new(bits).unwrap()) else {
                    assert!(usize::from(bits) >= 3 * cut.tables(), "{bits} is probed");
                    continue;
                };
                assert_eq!(plan.quotas.iter().map(|quota| u16::from(*quota)).sum::<u16>(), bits + 1);
            }
        }
        let threshold = Distance::new(31).unwrap();
        assert_eq!(Plan::even(Cut::Wide, threshold).unwrap().probes(), 16 * 17);
        assert_eq!(Plan::even(Cut::Narrow, threshold).unwrap().probes(), 32);
    }

    #[test]
    fn buckets_are_all_within_the_quota_each_once_and_as_many_as_the_groups_say() {
        for cut in Cut::ALL {
            let mut quotas = [0; CHUNKS_MAX];
            [quotas[1], quotas[2], quotas[3]] = [1, 2, 3];
            let (plan, query) = (Plan::new(cut, quotas), Hash256(std::array::from_fn(|at| 7 * at as u8)));
            let mut buckets = Vec::new();
            plan.buckets(&query, &mut buckets);
            assert_eq!(buckets.len(), plan.probes());
            assert_eq!(buckets.iter().collect::<BTreeSet<_>>().len(), buckets.len());
            let mut at = 0;
            for group in plan.groups() {
                for bucket in &buckets[at..at + usize::from(group.count)] {
                    let (table, key) = (*bucket as usize / cut.buckets(), *bucket as usize % cut.buckets());
                    assert_eq!(table, usize::from(group.table));
                    let near = |flips: &u16| cut.bucket(cut.chunk(&query, table) ^ flips) == key as u16;
                    let differs = (0..=u16::MAX).find(near).unwrap().count_ones();
                    assert_eq!(u32::from(group.limit), plan.limit(table, differs));
                }
                at += usize::from(group.count);
            }
            assert_eq!(at, buckets.len());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// The cycle lemma, on which exactness rests: any hash within the threshold is shown by some table.
        #[test]
        fn every_hash_within_the_threshold_is_shown(
            query: [u8; 32],
            flips in prop::collection::vec((0usize..32, 0u8..8), 0..96),
            wide: bool,
            dropped in prop::collection::btree_set(0usize..16, 0..5),
        ) {
            let cut = if wide { Cut::Wide } else { Cut::Narrow };
            let mut hash = Hash256(query);
            flips.iter().for_each(|(byte, bit)| hash.0[*byte] ^= 1 << bit);
            let query = Hash256(query);
            let Some(even) = Distance::new(query.distance(&hash).bits()).and_then(|t| Plan::even(cut, t)) else {
                return Ok(());
            };
            let all: Vec<usize> = (0..cut.tables()).collect();
            let dropped: Vec<usize> = dropped.into_iter().collect();
            for plan in [Some(even.clone()), even.without(&dropped, &all)].into_iter().flatten() {
                prop_assert!((0..cut.tables()).any(|table| plan.shows(table, &query, &hash)), "{plan:?}");
            }
        }
    }
}
