//! Immutable sets of signals, and what differs between Hamming and exact types.

mod exact;
mod pdq;

use std::collections::HashSet;
use std::sync::OnceLock;

use bytemuck::{Pod, Zeroable};

use crate::memory::Huge;
use crate::mih::Scratch;
use crate::signal::{BankId, ContentId, Distance};
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

    /// Puts hashes, with their owners, into the order the tables want.
    fn arrange(hashes: &mut [Self], owners: &mut [Owner]);

    /// Builds tables; `None` where a scan is as good.
    fn build(hashes: &[Self]) -> Option<Self::Tables>;

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

    /// Calls `found` with (query, place, distance) for every hash of a segment within the threshold.
    fn search(
        tables: &Self::Tables,
        hashes: &[Self],
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
    /// Where it is stored, once it is.
    stored: OnceLock<SegmentId>,
}

impl<H: Searchable> Segment<H> {
    /// A segment of so many entries. Holds no copy of them while it is built. Without memory for tables it is
    /// read flat: slower, and as right.
    pub fn build(count: usize, entries: impl Iterator<Item = Entry<H>>) -> Self {
        let (mut hashes, mut owners) = (Huge::of(count), Huge::of(count));
        let mut filled = 0;
        for (at, entry) in entries.take(count).enumerate() {
            (hashes[at], owners[at]) = (entry.hash, Owner::new(entry.content, entry.bank));
            filled += 1;
        }
        assert_eq!(filled, count, "a segment is made of as many entries as announced");
        H::arrange(&mut hashes, &mut owners);
        let tables = H::build(&hashes);
        Self { first: least(&owners), hashes, owners, tables, stored: OnceLock::new() }
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
        Ok(Some(Self { first: least(&owners), hashes, owners, tables, stored: OnceLock::from(id) }))
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

    /// The banks of its signals, each once.
    pub fn banks(&self) -> HashSet<BankId> {
        let mut banks = HashSet::new();
        let mut last = None;
        for owner in self.owners.iter() {
            if last != Some(owner.bank) {
                last = Some(owner.bank);
                banks.insert(owner.bank());
            }
        }
        banks
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
        mut found: impl FnMut(usize, Owner, Distance),
    ) {
        let found = |query, place: u32, distance| found(query, self.owners[place as usize], distance);
        match &self.tables {
            Some(tables) => H::search(tables, &self.hashes, queries, threshold, scratch, found),
            None => H::scan(&self.hashes, queries, threshold, scratch, found),
        }
    }
}

fn least(owners: &[Owner]) -> ContentId {
    owners.iter().map(Owner::content).min().unwrap_or_default()
}
