//! Entries that are in no segment yet: chunks that snapshots share. Only the last, unfilled one is copied
//! when entries are added.

use std::sync::Arc;

use crate::mih::Scratch;
use crate::segment::{Entry, Owner, Searchable};
use crate::signal::{BankId, ContentId, Distance};
use crate::slices::{Reached, Stretch};

/// Entries of a chunk: what an addition copies at most (24 KiB of PDQ).
const CHUNK: usize = 512;
/// Queries that are searched together: they share what is read of a chunk.
const BLOCK: usize = 4;
/// Chunks that a block of queries reads before it asks whether it goes on: some hundred microseconds where all match.
const CHUNKS_UNASKED: usize = 8;

struct Chunk<H: Searchable> {
    hashes: Vec<H>,
    owners: Vec<Owner>,
    young: H::Young,
}

/// The chunks, all but the last one full.
pub(super) struct Delta<H: Searchable> {
    chunks: Vec<Arc<Chunk<H>>>,
    len: usize,
}

impl<H: Searchable> Clone for Delta<H> {
    fn clone(&self) -> Self {
        Self { chunks: self.chunks.clone(), len: self.len }
    }
}

impl<H: Searchable> Default for Delta<H> {
    fn default() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }
}

impl<H: Searchable> Delta<H> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The content that was added first.
    pub(super) fn first(&self) -> Option<ContentId> {
        self.entries().next().map(|entry| entry.content)
    }

    pub(super) fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK * (size_of::<H>() + size_of::<Owner>())
    }

    pub(super) fn with(&self, entries: &[Entry<H>]) -> Self {
        let mut chunks = self.chunks.clone();
        let mut rest = entries;
        if !self.len.is_multiple_of(CHUNK)
            && let Some(last) = chunks.pop()
        {
            let (fits, after) = rest.split_at(rest.len().min(CHUNK - last.hashes.len()));
            chunks.push(Arc::new(last.with(fits)));
            rest = after;
        }
        let empty = Chunk { hashes: Vec::new(), owners: Vec::new(), young: H::young(&[]) };
        chunks.extend(rest.chunks(CHUNK).map(|part| Arc::new(empty.with(part))));
        Self { chunks, len: self.len + entries.len() }
    }

    /// Without its first entries.
    pub(super) fn without_first(&self, count: usize) -> Self {
        let rest: Vec<Entry<H>> = self.entries().skip(count).collect();
        Self::default().with(&rest)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<H>> + '_ {
        self.chunks.iter().flat_map(|chunk| {
            chunk.hashes.iter().zip(&chunk.owners).map(|(hash, owner)| Entry {
                hash: *hash,
                content: owner.content(),
                bank: owner.bank(),
            })
        })
    }

    /// Calls `visit` with each chunk's hashes, and a way to tell whose a hash is.
    pub(super) fn blocks(&self, visit: &mut impl FnMut(&[H], &dyn Fn(u32) -> (ContentId, BankId))) {
        for chunk in &self.chunks {
            visit(&chunk.hashes, &|place| {
                let owner = chunk.owners[place as usize];
                (owner.content(), owner.bank())
            });
        }
    }

    pub(super) fn search(
        &self,
        queries: &[H],
        threshold: Distance,
        scratch: &mut Scratch,
        found: impl FnMut(usize, Owner, Distance),
    ) {
        self.search_while(queries, threshold, scratch, Stretch { from: 0, goes_on: &|| true }, found);
    }

    /// The same for a part of the search. A query that is interrupted goes on with the chunk of this number.
    pub(super) fn search_while(
        &self,
        queries: &[H],
        threshold: Distance,
        scratch: &mut Scratch,
        stretch: Stretch<'_>,
        mut found: impl FnMut(usize, Owner, Distance),
    ) -> Reached {
        if self.chunks.is_empty() {
            return Reached::whole(queries.len()); // nothing to read, so no reason to look at the time
        }
        let (goes_on, mut from) = (stretch.goes_on, stretch.from);
        for (block, queries) in queries.chunks(BLOCK).enumerate() {
            let first = block * BLOCK;
            for (number, chunk) in self.chunks.iter().enumerate().skip(from) {
                if number > from && (number - from).is_multiple_of(CHUNKS_UNASKED) && !goes_on() {
                    return Reached::within(first, number); // the others of the block start over
                }
                let found =
                    |at, place: u32, distance| found(first + at, chunk.owners[place as usize], distance);
                H::search_young(&chunk.young, &chunk.hashes, queries, threshold, scratch, found);
            }
            from = 0;
            if !goes_on() {
                return Reached::whole(first + queries.len());
            }
        }
        Reached::whole(queries.len())
    }
}

impl<H: Searchable> Chunk<H> {
    fn with(&self, entries: &[Entry<H>]) -> Self {
        let mut hashes = Vec::with_capacity(CHUNK);
        hashes.extend_from_slice(&self.hashes);
        hashes.extend(entries.iter().map(|entry| entry.hash));
        let mut owners = Vec::with_capacity(CHUNK);
        owners.extend_from_slice(&self.owners);
        owners.extend(entries.iter().map(|entry| Owner::new(entry.content, entry.bank)));
        Self { young: H::young(&hashes), hashes, owners }
    }
}
