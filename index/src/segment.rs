//! Immutable sets of signals, and what differs between Hamming and exact types.

mod exact;
mod pdq;

use bytemuck::{Pod, Zeroable};

use crate::memory::Huge;
use crate::mih::Scratch;
use crate::signal::{BankId, ContentId, Distance};

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
    pub(crate) hashes: Huge<H>,
    pub(crate) owners: Huge<Owner>,
    pub(crate) tables: Option<H::Tables>,
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
        Self { hashes, owners, tables }
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
