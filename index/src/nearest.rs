//! The matches of a block of queries as far as they are told: of each query the nearest, the nearest of every further
//! bank, and how many there are.
//!
//! Matches come one by one, in any order, and most of those that are not told are dropped at once. So memory is bounded
//! by the queries of a block, the limit and the banks, and never by how many signals match. What must not count (contents
//! that are removed or paused, banks that are off or not seen) is left out before it comes here: a cut made earlier could
//! lose a match.

use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

use crate::signal::{BankId, ContentId};

/// Matches whose room a query keeps for the next block.
const KEPT_MATCHES: usize = 256;
/// Entries whose room the buffers of all queries keep together.
const KEPT_ENTRIES: usize = 16 * 1024;

/// A match that can be sorted.
pub trait Ranked: Copy {
    /// Sorts: the less, the nearer; of equally near matches the one with the smaller content comes first.
    fn rank(&self) -> (u32, ContentId);
    /// Its bank.
    fn bank(&self) -> BankId;
}

/// What one query matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Index of the query in its block.
    pub query: u32,
    /// Its listed matches, see [`Nearest::listed`].
    pub listed: Range<usize>,
    /// How many matches there are, listed or not.
    pub total: u32,
    /// Rank and content of the nearest match that was noted.
    pub noted: Option<(u32, ContentId)>,
    /// The nearest noted match that is watched for.
    pub watched: Option<ContentId>,
}

/// Matches of a block of queries. Reused: ordinary blocks allocate nothing.
#[derive(Debug)]
pub struct Nearest<M> {
    limit: usize,
    every_bank: bool,
    queries: Vec<OfQuery<M>>,
    /// Queries that matched something.
    touched: Vec<u32>,
    /// Of each query and bank the nearest match that the limit cut off.
    cut: HashMap<(u32, BankId), M, BuildHasherDefault<Mix>>,
    rows: Vec<Row>,
    listed: Vec<M>,
    further: Vec<(u32, M)>,
    banks: Vec<BankId>,
}

/// What a query matched so far, where its search was interrupted. Bounded as the list is: by the limit and the banks.
#[derive(Debug)]
pub struct Partial<M> {
    of: OfQuery<M>,
    /// Of each bank the nearest match that the limit cut off.
    cut: Vec<M>,
}

#[derive(Debug)]
struct OfQuery<M> {
    total: u32,
    /// The nearest so far, the farthest of them on top.
    nearest: BinaryHeap<Farthest<M>>,
    /// The bank of the match that was cut off last, and the rank of its nearest one.
    last_cut: Option<(BankId, (u32, ContentId))>,
    noted: Option<(u32, ContentId)>,
    watched: Option<(u32, ContentId)>,
}

impl<M: Ranked> Default for OfQuery<M> {
    fn default() -> Self {
        Self { total: 0, nearest: BinaryHeap::new(), last_cut: None, noted: None, watched: None }
    }
}

impl<M: Ranked> Default for Nearest<M> {
    fn default() -> Self {
        Self {
            limit: 1,
            every_bank: true,
            queries: Vec::new(),
            touched: Vec::new(),
            cut: HashMap::default(),
            rows: Vec::new(),
            listed: Vec::new(),
            further: Vec::new(),
            banks: Vec::new(),
        }
    }
}

impl<M: Ranked> Nearest<M> {
    /// Begins a block of so many queries, of each of which `limit` matches are listed; with `every_bank` also the nearest
    /// of every bank that is not among them.
    pub fn begin(&mut self, queries: usize, limit: usize, every_bank: bool) {
        self.forget();
        (self.limit, self.every_bank) = (limit.max(1), every_bank);
        if self.queries.len() < queries {
            self.queries.resize_with(queries, OfQuery::default);
        }
    }

    /// Takes a match that counts.
    #[inline]
    pub fn take(&mut self, query: usize, found: M) {
        let of = self.of(query);
        of.total = of.total.saturating_add(1);
        self.keep(query, found);
    }

    /// Notes a match, whether it counts or not, for those who judge the question and not the answer.
    #[inline]
    pub fn note(&mut self, query: usize, found: &M, is_watched: bool) {
        let rank = found.rank();
        let of = self.of(query);
        of.noted = Some(of.noted.map_or(rank, |noted| noted.min(rank)));
        if is_watched {
            of.watched = Some(of.watched.map_or(rank, |watched| watched.min(rank)));
        }
    }

    /// Takes out what a query matched so far, for a later block to go on with.
    pub fn interrupt(&mut self, query: usize) -> Partial<M> {
        let cut = self.cut.extract_if(|(of, _), _| *of as usize == query).map(|(_, found)| found).collect();
        Partial { of: std::mem::take(&mut self.queries[query]), cut }
    }

    /// Goes on with what the first query of this block matched in an earlier one, of the same limit.
    pub fn resume(&mut self, partial: Partial<M>) {
        let Partial { of, cut } = partial;
        if of.total > 0 || of.noted.is_some() {
            self.touched.push(0);
            self.queries[0] = of;
            self.cut.extend(cut.into_iter().map(|found| ((0, found.bank()), found)));
        }
    }

    /// Ends the block: from here on [`Nearest::rows`] and [`Nearest::listed`] tell.
    pub fn finish(&mut self) {
        self.touched.sort_unstable();
        self.further.extend(self.cut.drain().map(|((query, _), found)| (query, found)));
        self.further.sort_unstable_by_key(|(query, found)| (*query, found.rank()));
        let mut further = self.further.iter().peekable();
        for query in &self.touched {
            let of = &mut self.queries[*query as usize];
            let first = self.listed.len();
            self.listed.extend(of.nearest.drain().map(|Farthest(found)| found));
            self.listed[first..].sort_unstable_by_key(Ranked::rank);
            self.banks.clear();
            if further.peek().is_some_and(|(of, _)| of == query) {
                self.banks.extend(self.listed[first..].iter().map(Ranked::bank));
                self.banks.sort_unstable();
            }
            while let Some((_, found)) = further.next_if(|(of, _)| of == query) {
                if self.banks.binary_search(&found.bank()).is_err() {
                    self.listed.push(*found);
                }
            }
            self.rows.push(Row {
                query: *query,
                listed: first..self.listed.len(),
                total: of.total,
                noted: of.noted,
                watched: of.watched.map(|(_, content)| content),
            });
        }
    }

    /// Drops what was found of queries from this one on, once the block has ended.
    pub fn keep_first(&mut self, queries: usize) {
        let kept = self.rows.partition_point(|row| (row.query as usize) < queries);
        self.rows.truncate(kept);
    }

    /// What was found, by query. A query that matched nothing has no row.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// A row's matches, nearest first: at most the limit, then the nearest of every further bank.
    pub fn listed(&self, row: &Row) -> &[M] {
        &self.listed[row.listed.clone()]
    }

    fn of(&mut self, query: usize) -> &mut OfQuery<M> {
        let of = &mut self.queries[query];
        if of.total == 0 && of.noted.is_none() {
            self.touched.push(query as u32);
        }
        of
    }

    #[inline]
    fn keep(&mut self, query: usize, found: M) {
        let of = &mut self.queries[query];
        if of.nearest.len() < self.limit {
            return of.nearest.push(Farthest(found));
        }
        let is_nearer = of.nearest.peek().is_some_and(|farthest| found.rank() < farthest.0.rank());
        let cut = match of.nearest.peek_mut().filter(|_| is_nearer) {
            Some(mut farthest) => std::mem::replace(&mut *farthest, Farthest(found)).0,
            None => found,
        };
        if !self.every_bank {
            return;
        }
        let rank = cut.rank();
        if of.last_cut.is_some_and(|(bank, nearest)| bank == cut.bank() && nearest <= rank) {
            return; // as nearly always where one bank is full of duplicates
        }
        let nearest = match self.cut.entry((query as u32, cut.bank())) {
            Entry::Vacant(entry) => *entry.insert(cut),
            Entry::Occupied(mut entry) => {
                if rank < entry.get().rank() {
                    entry.insert(cut);
                }
                *entry.get()
            }
        };
        of.last_cut = Some((cut.bank(), nearest.rank()));
    }

    /// Forgets the last block, and gives back what an unusual one took.
    fn forget(&mut self) {
        for query in self.touched.drain(..) {
            let of = &mut self.queries[query as usize];
            let mut nearest = std::mem::take(&mut of.nearest);
            nearest.clear();
            nearest.shrink_to(KEPT_MATCHES);
            *of = OfQuery { nearest, ..OfQuery::default() };
        }
        self.cut.clear();
        self.rows.clear();
        self.listed.clear();
        self.further.clear();
        self.cut.shrink_to(KEPT_ENTRIES);
        self.rows.shrink_to(KEPT_ENTRIES);
        self.listed.shrink_to(KEPT_ENTRIES);
        self.further.shrink_to(KEPT_ENTRIES);
        if self.queries.len() > KEPT_ENTRIES {
            self.queries = Vec::new();
        }
    }
}

/// Ordered by rank, so that a heap has the farthest match on top.
#[derive(Clone, Copy, Debug)]
struct Farthest<M>(M);

impl<M: Ranked> Ord for Farthest<M> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.rank().cmp(&other.0.rank())
    }
}

impl<M: Ranked> PartialOrd for Farthest<M> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<M: Ranked> PartialEq for Farthest<M> {
    fn eq(&self, other: &Self) -> bool {
        self.0.rank() == other.0.rank()
    }
}

impl<M: Ranked> Eq for Farthest<M> {}

/// Hashes small numbers that this program gives out itself: nobody chooses them to collide.
#[derive(Debug, Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0.rotate_left(32) ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Hit {
        query: u32,
        content: ContentId,
        bank: BankId,
        bits: u32,
    }

    impl Ranked for Hit {
        fn rank(&self) -> (u32, ContentId) {
            (self.bits, self.content)
        }

        fn bank(&self) -> BankId {
            self.bank
        }
    }

    fn found(query: u32, content: u64, bank: u32, bits: u32) -> Hit {
        Hit { query, content: ContentId(content), bank: BankId(bank), bits }
    }

    proptest! {
        #[test]
        fn a_list_is_what_sorting_all_matches_and_cutting_them_gives(
            hits in prop::collection::vec((0u32..3, 0u32..6, 0u32..4, any::<bool>(), any::<bool>()), 0..120),
            limit in 1usize..8, every_bank: bool, order: u64, pause in 0usize..120,
        ) {
            let hits: Vec<(Hit, bool, bool)> = hits.into_iter().enumerate().map(|(at, (query, bank, bits, counts, watched))| {
                // Contents come in some order, each once.
                let content = (at as u64).wrapping_mul(order | 1) % 4096 * 128 + at as u64;
                (found(query, content, bank, bits), counts, watched)
            }).collect();
            let mut nearest = Nearest::default();
            for _ in 0..2 { // the second time with used buffers
                nearest.begin(3, limit, every_bank);
                for (hit, counts, watched) in &hits {
                    nearest.note(hit.query as usize, hit, *watched);
                    if *counts {
                        nearest.take(hit.query as usize, *hit);
                    }
                }
                nearest.finish();
            }
            let mut rows = nearest.rows().iter();
            for query in 0..3 {
                let mut noted: Vec<&(Hit, bool, bool)> = hits.iter().filter(|(hit, ..)| hit.query == query).collect();
                if noted.is_empty() {
                    continue;
                }
                noted.sort_by_key(|(hit, ..)| hit.rank());
                let row = rows.next().unwrap();
                prop_assert_eq!(row.query, query);
                prop_assert_eq!(row.noted, Some(noted[0].0.rank()));
                prop_assert_eq!(row.watched, noted.iter().find(|(.., watched)| *watched).map(|(hit, ..)| hit.content));
                let mut expected: Vec<Hit> = Vec::new();
                let counted: Vec<Hit> = noted.iter().filter(|(_, counts, _)| *counts).map(|(hit, ..)| *hit).collect();
                for (at, hit) in counted.iter().enumerate() {
                    if at < limit || every_bank && !expected.iter().any(|row| row.bank == hit.bank) {
                        expected.push(*hit);
                    }
                }
                prop_assert_eq!(row.total as usize, counted.len());
                prop_assert_eq!(nearest.listed(row), &expected[..]);
            }
            prop_assert_eq!(rows.next(), None);

            // The last query again, in two blocks.
            let (before, after) = hits.split_at(pause.min(hits.len()));
            let mut parts = Nearest::default();
            let take = |parts: &mut Nearest<Hit>, of: &[(Hit, bool, bool)], query: usize| {
                for (hit, counts, watched) in of.iter().filter(|(hit, ..)| hit.query == 2) {
                    parts.note(query, hit, *watched);
                    if *counts {
                        parts.take(query, *hit);
                    }
                }
            };
            parts.begin(3, limit, every_bank);
            take(&mut parts, before, 2);
            let partial = parts.interrupt(2);
            parts.finish();
            parts.keep_first(2);
            prop_assert_eq!(parts.rows(), &[]);
            parts.begin(1, limit, every_bank);
            parts.resume(partial);
            take(&mut parts, after, 0);
            parts.finish();
            let whole = nearest.rows().iter().find(|row| row.query == 2);
            prop_assert_eq!(parts.rows().len(), usize::from(whole.is_some()));
            if let (Some(whole), [row]) = (whole, parts.rows()) {
                prop_assert_eq!(parts.listed(row), nearest.listed(whole));
                prop_assert_eq!((row.total, row.noted, row.watched), (whole.total, whole.noted, whole.watched));
            }
        }
    }

    #[test]
    fn a_large_block_leaves_little_behind() {
        let mut nearest = Nearest::default();
        nearest.begin(64, 4096, true);
        for at in 0..64 * 20_000u64 {
            nearest.take(at as usize % 64, found(at as u32 % 64, at, (at % 977) as u32, (at % 100) as u32));
        }
        nearest.finish();
        assert_eq!((nearest.rows().len(), nearest.rows()[5].total), (64, 20_000));
        nearest.begin(64, 256, true);
        nearest.finish();
        let heaps: usize = nearest.queries.iter().map(|of| of.nearest.capacity()).sum();
        assert!(heaps <= 64 * KEPT_MATCHES, "{heaps} matches");
        assert!(nearest.listed.capacity() <= KEPT_ENTRIES && nearest.further.capacity() <= KEPT_ENTRIES);
        assert!(nearest.cut.capacity() <= 2 * KEPT_ENTRIES);
    }
}
