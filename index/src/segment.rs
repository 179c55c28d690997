//! Immutable sets of signals, and what differs between Hamming and exact types.

use bytemuck::Pod;

use crate::kernel::Kernel;
use crate::mih::{FLAT_MAX, Plan, Scratch, Tables};
use crate::signal::{BankId, ContentId, Distance, Hash128, Hash256};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The content.
    pub content: ContentId,
    /// Its bank.
    pub bank: BankId,
}

/// What a kind of signal knows of searching. The scan of a block must agree with the search of a segment.
pub trait Searchable: Pod + Ord + Send + Sync {
    /// What a segment keeps beside hashes and owners.
    type Tables: Send + Sync;

    /// Prepares entries (it may reorder them) and builds their tables; `None` where a scan is as good.
    fn build(entries: &mut Vec<Entry<Self>>) -> Option<Self::Tables>;

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
    hashes: Vec<H>,
    owners: Vec<Owner>,
    tables: Option<H::Tables>,
}

impl<H: Searchable> Segment<H> {
    /// A segment of these entries.
    pub fn build(mut entries: Vec<Entry<H>>) -> Self {
        let tables = H::build(&mut entries);
        let owners = entries.iter().map(|entry| Owner { content: entry.content, bank: entry.bank }).collect();
        let hashes = entries.into_iter().map(|entry| entry.hash).collect();
        Self { hashes, owners, tables }
    }

    /// How many signals.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        let tables = self.tables.as_ref().map_or(0, H::table_bytes);
        tables + self.hashes.capacity() * size_of::<H>() + self.owners.capacity() * size_of::<Owner>()
    }

    /// The entries, in the segment's order.
    pub fn entries(&self) -> impl Iterator<Item = Entry<H>> + '_ {
        self.hashes.iter().zip(&self.owners).map(|(hash, owner)| Entry {
            hash: *hash,
            content: owner.content,
            bank: owner.bank,
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

impl Searchable for Hash256 {
    type Tables = Tables;

    fn build(entries: &mut Vec<Entry<Self>>) -> Option<Tables> {
        if entries.len() < FLAT_MAX {
            return None;
        }
        let hashes: Vec<Hash256> = entries.iter().map(|entry| entry.hash).collect();
        // Without memory for tables the segment is read flat: slower, and as right.
        Tables::build(&hashes).ok()
    }

    fn table_bytes(tables: &Tables) -> usize {
        tables.bytes()
    }

    fn search(
        tables: &Tables,
        hashes: &[Self],
        queries: &[Self],
        threshold: Distance,
        scratch: &mut Scratch,
        found: impl FnMut(usize, u32, Distance),
    ) {
        match Plan::new(threshold) {
            Some(plan) => tables.search(hashes, queries, threshold, &plan, scratch, found),
            None => Self::scan(hashes, queries, threshold, scratch, found),
        }
    }

    fn scan(
        block: &[Self],
        queries: &[Self],
        threshold: Distance,
        scratch: &mut Scratch,
        mut found: impl FnMut(usize, u32, Distance),
    ) {
        let kernel = Kernel::current();
        for (at, query) in queries.iter().enumerate() {
            scratch.near.clear();
            kernel.flat(query, block, u32::from(threshold.bits()), &mut scratch.near);
            scratch.near.iter().for_each(|(place, distance)| found(at, *place, *distance));
        }
    }
}

/// Exact signals are sorted; a digest is uniform, so a bucket of its first bits is nearly the place.
pub struct Sorted {
    /// First place of every prefix; `shift` bits of the first eight bytes are not in it.
    starts: Vec<u32>,
    shift: u32,
}

impl Searchable for Hash128 {
    type Tables = Sorted;

    fn build(entries: &mut Vec<Entry<Self>>) -> Option<Sorted> {
        if u32::try_from(entries.len()).is_err() {
            return None;
        }
        entries.sort_unstable_by_key(|entry| (entry.hash, entry.content));
        let bits = entries.len().max(1).ilog2().clamp(1, 28);
        let shift = 64 - bits;
        let mut starts = vec![0u32; (1 << bits) + 1];
        entries.iter().for_each(|entry| starts[(prefix(&entry.hash) >> shift) as usize + 1] += 1);
        for bucket in 1..starts.len() {
            starts[bucket] += starts[bucket - 1];
        }
        Some(Sorted { starts, shift })
    }

    fn table_bytes(tables: &Sorted) -> usize {
        tables.starts.capacity() * size_of::<u32>()
    }

    fn search(
        tables: &Sorted,
        hashes: &[Self],
        queries: &[Self],
        _threshold: Distance,
        _scratch: &mut Scratch,
        mut found: impl FnMut(usize, u32, Distance),
    ) {
        for (at, query) in queries.iter().enumerate() {
            let bucket = (prefix(query) >> tables.shift) as usize;
            for place in tables.starts[bucket]..tables.starts[bucket + 1] {
                if hashes[place as usize] == *query {
                    found(at, place, Distance::counted(0));
                }
            }
        }
    }

    fn scan(
        block: &[Self],
        queries: &[Self],
        _threshold: Distance,
        _scratch: &mut Scratch,
        mut found: impl FnMut(usize, u32, Distance),
    ) {
        for (at, query) in queries.iter().enumerate() {
            for (place, hash) in block.iter().enumerate() {
                if hash == query {
                    found(at, place as u32, Distance::counted(0));
                }
            }
        }
    }
}

fn prefix(hash: &Hash128) -> u64 {
    hash.0.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
