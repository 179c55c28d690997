//! Immutable sets of signals, and what differs between Hamming and exact types.

mod exact;
mod pdq;

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, OnceLock};

use bytemuck::{Pod, Zeroable};

use crate::faults;
use crate::memory::Huge;
use crate::mih::Scratch;
use crate::signal::{BankId, ContentId, Distance};
use crate::slices::{Reached, Stretch, read_all};
use crate::store::StoreError;
use crate::store::segments::SegmentId;

/// A signal on its way into a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<H> {
    /// The signal.
    pub hash: H,
    /// The content it belongs to.
    pub content: ContentId,
    /// The bank that content lies in.
    pub bank: BankId,
}

/// Whose signal it is. Read only when it matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Owner {
    content: u64,
    bank: u32,
    unused: u32,
}

impl Owner {
    /// This content of this bank.
    pub fn new(content: ContentId, bank: BankId) -> Self {
        Self { content: content.0, bank: bank.0, unused: 0 }
    }

    /// The content.
    pub fn content(&self) -> ContentId {
        ContentId(self.content)
    }

    /// Its bank.
    pub fn bank(&self) -> BankId {
        BankId(self.bank)
    }
}

/// Fills an array with the bytes of the next part of a stored segment.
pub type ReadPart<'r> = &'r mut dyn FnMut(&mut [u8]) -> Result<(), StoreError>;

/// What a kind of signal knows of searching. The scan of a block must agree with the search of a segment.
pub trait Searchable: Pod + Ord + Send + Sync {
    /// What a segment keeps beside hashes and owners.
    type Tables: Send + Sync;

    /// What finds a hash among a few that are in no segment yet.
    type Young: Send + Sync;

    /// Signals of a segment at most.
    const SEGMENT_MAX: usize;

    /// Bytes that building a segment takes beside it, for each signal.
    const BUILD_BYTES: usize;

    /// Puts hashes, with their owners, into the order the tables want.
    fn arrange(hashes: &mut [Self], owners: &mut [Owner]);

    /// Builds tables; `None` where a scan is as good.
    fn build(hashes: &[Self]) -> io::Result<Option<Self::Tables>>;

    /// Looks over a few hashes.
    fn young(hashes: &[Self]) -> Self::Young;

    /// Bytes the tables hold.
    fn table_bytes(tables: &Self::Tables) -> usize;

    /// What tables are stored as: a few numbers that tell the arrays' lengths, and the arrays' bytes.
    fn parts(tables: &Self::Tables) -> (Vec<u64>, Vec<&[u8]>);

    /// Tables as they were stored; `read` fills the next array. `None` where these numbers are no tables of
    /// so many hashes.
    fn from_parts(
        count: usize,
        numbers: &[u64],
        read: ReadPart<'_>,
    ) -> Result<Option<Self::Tables>, StoreError>;

    /// Calls `found` with (query, place, distance) for every hash of a segment within the threshold. Returns how far it
    /// came: to the end, or less where it was told not to go on, and always further than it began.
    fn search(
        tables: &Self::Tables,
        hashes: &[Self],
        queries: &[Self],
        threshold: Distance,
        scratch: &mut Scratch,
        stretch: Stretch<'_>,
        found: impl FnMut(usize, u32, Distance),
    ) -> Reached;

    /// The same for a few hashes that were looked over.
    fn search_young(
        young: &Self::Young,
        block: &[Self],
        queries: &[Self],
        threshold: Distance,
        scratch: &mut Scratch,
        found: impl FnMut(usize, u32, Distance),
    );

    /// The same for a block without tables.
    fn scan(
        block: &[Self],
        queries: &[Self],
        threshold: Distance,
        scratch: &mut Scratch,
        found: impl FnMut(usize, u32, Distance),
    );
}

/// An immutable set of signals.
pub struct Segment<H: Searchable> {
    hashes: Huge<H>,
    owners: Huge<Owner>,
    tables: Option<H::Tables>,
    /// The least content in it.
    first: ContentId,
    /// The banks of its signals, each once, in order.
    banks: Vec<BankId>,
    /// Where it is stored, once it is.
    stored: OnceLock<SegmentId>,
}

impl<H: Searchable> Segment<H> {
    /// A segment of so many entries. Holds no copy of them while it is built. Without memory for tables it is
    /// read flat: slower, and as right; [`Faults`](crate::Faults) counts it.
    pub fn build(count: usize, entries: impl Iterator<Item = Entry<H>>) -> Self {
        Self::build_with(count, entries, H::build)
    }

    fn build_with(
        count: usize,
        entries: impl Iterator<Item = Entry<H>>,
        build: impl FnOnce(&[H]) -> io::Result<Option<H::Tables>>,
    ) -> Self {
        let (mut hashes, mut owners) = (Huge::of(count), Huge::of(count));
        let mut filled = 0;
        for (at, entry) in entries.take(count).enumerate() {
            (hashes[at], owners[at]) = (entry.hash, Owner::new(entry.content, entry.bank));
            filled += 1;
        }
        assert_eq!(filled, count, "a segment is made of as many entries as announced");
        H::arrange(&mut hashes, &mut owners);
        let tables = build(&hashes).unwrap_or_else(|_| {
            faults::tables();
            None
        });
        Self { first: least(&owners), banks: banks(&owners), hashes, owners, tables, stored: OnceLock::new() }
    }

    /// Segments of these entries, each of as many as the others and at most `max`, oldest contents first.
    pub fn build_all(mut entries: Vec<Entry<H>>, max: usize) -> Vec<Arc<Self>> {
        let parts = entries.len().div_ceil(max.clamp(1, H::SEGMENT_MAX));
        if parts > 1 {
            entries.sort_unstable_by_key(|entry| entry.content);
        }
        let count = entries.len();
        let mut segments = Vec::with_capacity(parts);
        // From the end, so that what is built gives its entries' room back.
        for part in (0..parts).rev() {
            let last = entries.split_off(count * part / parts);
            entries.shrink_to_fit();
            segments.push(Arc::new(Self::build(last.len(), last.into_iter())));
        }
        segments.reverse();
        segments
    }

    /// What it is stored as: numbers, and the bytes of its arrays.
    pub fn parts(&self) -> (Vec<u64>, Vec<&[u8]>) {
        let (numbers, tables) = self.tables.as_ref().map_or_else(Default::default, H::parts);
        let own = [bytemuck::cast_slice(&self.hashes), bytemuck::cast_slice(&self.owners)];
        (numbers, own.into_iter().chain(tables).collect())
    }

    /// A segment as it was stored. `None` where the numbers are none of a segment of so many signals.
    pub fn from_parts(
        id: SegmentId,
        count: usize,
        numbers: &[u64],
        read: ReadPart<'_>,
    ) -> Result<Option<Self>, StoreError> {
        let (Ok(mut hashes), Ok(mut owners)) = (Huge::zeroed(count), Huge::<Owner>::zeroed(count)) else {
            return Ok(None);
        };
        read(bytemuck::cast_slice_mut(&mut hashes))?;
        read(bytemuck::cast_slice_mut(&mut owners))?;
        let tables = match numbers {
            [] => None,
            _ => match H::from_parts(count, numbers, read)? {
                Some(tables) => Some(tables),
                None => return Ok(None),
            },
        };
        let (first, banks) = (least(&owners), banks(&owners));
        Ok(Some(Self { first, banks, hashes, owners, tables, stored: OnceLock::from(id) }))
    }

    /// Where it is stored, once it is.
    pub fn stored(&self) -> Option<SegmentId> {
        self.stored.get().copied()
    }

    /// Notes where it is stored.
    pub fn set_stored(&self, id: SegmentId) {
        self.stored.get_or_init(|| id);
    }

    /// The least content in it.
    pub fn first(&self) -> ContentId {
        self.first
    }

    /// The banks of its signals, each once, in order.
    pub fn banks(&self) -> &[BankId] {
        &self.banks
    }

    /// Whose its signals are.
    pub fn owners(&self) -> &[Owner] {
        &self.owners
    }

    /// The hashes, by slot.
    pub fn hashes(&self) -> &[H] {
        &self.hashes
    }

    /// Whose signal lies in a slot.
    pub fn owner(&self, slot: u32) -> Owner {
        self.owners[slot as usize]
    }

    /// The tables, for those who explain them.
    pub fn tables(&self) -> Option<&H::Tables> {
        self.tables.as_ref()
    }

    /// How many signals.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        let tables = self.tables.as_ref().map_or(0, H::table_bytes);
        tables + self.hashes.bytes() + self.owners.bytes()
    }

    /// The entries, in the segment's order.
    pub fn entries(&self) -> impl Iterator<Item = Entry<H>> + '_ {
        self.hashes.iter().zip(self.owners.iter()).map(|(hash, owner)| Entry {
            hash: *hash,
            content: owner.content(),
            bank: owner.bank(),
        })
    }

    /// Calls `found` with (query, owner, distance) for every signal within the threshold.
    pub fn search(
        &self,
        queries: &[H],
        threshold: Distance,
        scratch: &mut Scratch,
        found: impl FnMut(usize, Owner, Distance),
    ) {
        self.search_while(queries, threshold, scratch, Stretch { from: 0, goes_on: &|| true }, found);
    }

    /// The same for a part of the search, see [`Searchable::search`].
    pub fn search_while(
        &self,
        queries: &[H],
        threshold: Distance,
        scratch: &mut Scratch,
        stretch: Stretch<'_>,
        mut found: impl FnMut(usize, Owner, Distance),
    ) -> Reached {
        let mut found = |query, place: u32, distance| found(query, self.owners[place as usize], distance);
        let Some(tables) = &self.tables else {
            return read_all(&self.hashes, queries.len(), stretch, |at, first, hashes| {
                H::scan(hashes, &queries[at..=at], threshold, scratch, |_, place, distance| {
                    found(at, first as u32 + place, distance)
                });
            });
        };
        H::search(tables, &self.hashes, queries, threshold, scratch, stretch, found)
    }
}

fn banks(owners: &[Owner]) -> Vec<BankId> {
    let (mut banks, mut last) = (HashSet::new(), None);
    for owner in owners {
        if last != Some(owner.bank) {
            last = Some(owner.bank);
            banks.insert(owner.bank());
        }
    }
    let mut banks: Vec<BankId> = banks.into_iter().collect();
    banks.sort_unstable();
    banks
}

fn least(owners: &[Owner]) -> ContentId {
    owners.iter().map(Owner::content).min().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Faults;
    use crate::signal::{Digest, Hash256};

    #[test]
    fn a_segment_without_memory_for_tables_finds_the_same_and_is_counted() {
        fn found<H: Searchable>(hashes: &[H], queries: &[H]) -> [Vec<(usize, ContentId, Distance)>; 2] {
            let entry = |(at, hash): (usize, &H)| {
                let bank = BankId(at as u32 % 3);
                Entry { hash: *hash, content: ContentId(at as u64), bank }
            };
            let entries = || hashes.iter().enumerate().map(entry);
            let before = Faults::counted().tables;
            let poor =
                Segment::build_with(hashes.len(), entries(), |_| Err(io::ErrorKind::OutOfMemory.into()));
            assert!(Faults::counted().tables > before && poor.tables().is_none());
            [poor, Segment::build(hashes.len(), entries())].map(|segment| {
                let mut found = Vec::new();
                let threshold = Distance::new(31).unwrap();
                segment.search(queries, threshold, &mut Scratch::default(), |query, owner, distance| {
                    found.push((query, owner.content(), distance));
                });
                found.sort_unstable();
                found
            })
        }
        let hashes: Vec<Hash256> = (0..9000u32)
            .map(|at| {
                Hash256(std::array::from_fn(|byte| (at.wrapping_mul(2_654_435_761) >> (byte % 4 * 8)) as u8))
            })
            .collect();
        let [poor, rich] = found(&hashes, &hashes[..50]);
        assert!(poor.len() >= 50 && poor == rich);
        let digests: Vec<Digest> =
            (0..900u32).map(|at| Digest::new(&(at / 3).to_be_bytes()).unwrap()).collect();
        let [poor, rich] = found(&digests, &digests[..50]);
        assert!(poor.len() == 150 && poor == rich, "{}", poor.len());
    }
}
