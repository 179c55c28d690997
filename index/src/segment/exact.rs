//! Digests: sorted, with a table that says where each prefix begins.
//!
//! A digest is uniform, so a bucket of its first bits is nearly the place: one read for the bucket, one for the
//! digests in it. However many contents share one digest, only whoever asks for it reads them.

use std::io;

use super::{Owner, ReadPart, Searchable};
use crate::memory::Huge;
use crate::mih::Scratch;
use crate::signal::{ContentId, Digest, Distance};
use crate::slices::{Reached, Stretch};
use crate::store::StoreError;

/// Matches after which a search asks whether it goes on: tens of microseconds.
const MATCHES_UNASKED: usize = 1024;

/// Where each prefix begins.
pub struct Sorted {
    /// First place of every prefix, and one more for the end.
    starts: Huge<u32>,
}

impl Sorted {
    /// How far a digest's first eight bytes are shifted to give its prefix.
    fn shift(&self) -> u32 {
        u64::BITS - (self.starts.len() - 1).ilog2()
    }
}

impl Searchable for Digest {
    type Tables = Sorted;
    /// The digests' first bytes in order, with their places.
    type Young = Vec<(u64, u32)>;

    /// Places have 32 bits.
    const SEGMENT_MAX: usize = u32::MAX as usize;

    /// Where each bucket begins and how far it is filled, while the digests are sorted.
    const BUILD_BYTES: usize = 2 * size_of::<u32>();

    fn arrange(hashes: &mut [Self], owners: &mut [Owner]) {
        arrange(hashes, owners);
    }

    fn build(hashes: &[Self]) -> io::Result<Option<Sorted>> {
        let mut starts = Huge::<u32>::zeroed((1 << prefix_bits(hashes.len())) + 1)?;
        count(hashes, &mut starts);
        Ok(Some(Sorted { starts }))
    }

    fn young(hashes: &[Self]) -> Self::Young {
        let mut young: Vec<(u64, u32)> = hashes.iter().map(prefix).zip(0..).collect();
        young.sort_unstable();
        young
    }

    fn search_young(
        young: &Self::Young,
        block: &[Self],
        queries: &[Self],
        _threshold: Distance,
        _scratch: &mut Scratch,
        mut found: impl FnMut(usize, u32, Distance),
    ) {
        for (at, query) in queries.iter().enumerate() {
            let wanted = prefix(query);
            let first = young.partition_point(|(prefix, _)| *prefix < wanted);
            for (_, place) in young[first..].iter().take_while(|(prefix, _)| *prefix == wanted) {
                if block[*place as usize] == *query {
                    found(at, *place, Distance::counted(0));
                }
            }
        }
    }

    fn table_bytes(tables: &Sorted) -> usize {
        tables.starts.bytes()
    }

    fn parts(tables: &Sorted) -> (Vec<u64>, Vec<&[u8]>) {
        (vec![tables.starts.len() as u64], vec![bytemuck::cast_slice(&tables.starts)])
    }

    fn from_parts(_count: usize, numbers: &[u64], read: ReadPart<'_>) -> Result<Option<Sorted>, StoreError> {
        let [starts] = numbers else { return Ok(None) };
        let Ok(mut starts) = Huge::zeroed(*starts as usize) else { return Ok(None) };
        read(bytemuck::cast_slice_mut(&mut starts))?;
        Ok(Some(Sorted { starts }))
    }

    fn search(
        tables: &Sorted,
        hashes: &[Self],
        queries: &[Self],
        _threshold: Distance,
        _scratch: &mut Scratch,
        stretch: Stretch<'_>,
        mut found: impl FnMut(usize, u32, Distance),
    ) -> Reached {
        let shift = tables.shift();
        let (mut unasked, mut from) = (0, stretch.from);
        for (at, query) in queries.iter().enumerate() {
            let bucket = (prefix(query) >> shift) as usize;
            let (first, end) = (tables.starts[bucket] as usize, tables.starts[bucket + 1] as usize);
            let first = first + hashes[first..end].partition_point(|hash| hash < query);
            // Of each query the matches are neighbours: what was read of an interrupted one are the first of them.
            for place in (first + from..end).take_while(|place| hashes[*place] == *query) {
                found(at, place as u32, Distance::counted(0));
                unasked += 1;
                if unasked >= MATCHES_UNASKED {
                    unasked = 0;
                    if !(stretch.goes_on)() {
                        return Reached::within(at, place + 1 - first);
                    }
                }
            }
            from = 0;
        }
        Reached::whole(queries.len())
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

/// Bits of the prefix that names a bucket of so many digests: one or two of them fall on each.
fn prefix_bits(count: usize) -> u32 {
    count.max(2).ilog2().clamp(1, 28)
}

/// Fills in where each bucket begins.
fn count(hashes: &[Digest], starts: &mut [u32]) {
    let shift = u64::BITS - prefix_bits(hashes.len());
    hashes.iter().for_each(|hash| starts[(prefix(hash) >> shift) as usize + 1] += 1);
    for bucket in 1..starts.len() {
        starts[bucket] += starts[bucket - 1];
    }
}

/// Sorts digests, of equal ones those of older contents first, in place: each is moved to its bucket, and the few of a
/// bucket are sorted there. A sorted copy would double what a merge holds.
fn arrange(hashes: &mut [Digest], owners: &mut [Owner]) {
    let bits = prefix_bits(hashes.len());
    let mut starts = vec![0; (1 << bits) + 1];
    count(hashes, &mut starts);
    let mut next = starts.clone();
    for bucket in 0..1usize << bits {
        while next[bucket] < starts[bucket + 1] {
            let at = next[bucket] as usize;
            let own = (prefix(&hashes[at]) >> (u64::BITS - bits)) as usize;
            let place = next[own] as usize;
            next[own] += 1;
            hashes.swap(at, place);
            owners.swap(at, place);
        }
    }
    for bucket in 0..1usize << bits {
        let (first, end) = (starts[bucket] as usize, starts[bucket + 1] as usize);
        sort(&mut hashes[first..end], &mut owners[first..end]);
    }
}

/// Sorts digests with their owners by a heap: in place, and as fast where all are alike.
fn sort(hashes: &mut [Digest], owners: &mut [Owner]) {
    if (1..hashes.len()).all(|at| key(hashes, owners, at - 1) <= key(hashes, owners, at)) {
        return;
    }
    for root in (0..hashes.len() / 2).rev() {
        sift(hashes, owners, root);
    }
    for end in (1..hashes.len()).rev() {
        hashes.swap(0, end);
        owners.swap(0, end);
        sift(&mut hashes[..end], &mut owners[..end], 0);
    }
}

/// Lets an entry sink until none below it in the heap is greater.
fn sift(hashes: &mut [Digest], owners: &mut [Owner], mut root: usize) {
    loop {
        let below = (2 * root + 1..hashes.len().min(2 * root + 3)).max_by_key(|at| key(hashes, owners, *at));
        let Some(below) = below.filter(|below| key(hashes, owners, *below) > key(hashes, owners, root))
        else {
            return;
        };
        hashes.swap(root, below);
        owners.swap(root, below);
        root = below;
    }
}

fn key(hashes: &[Digest], owners: &[Owner], at: usize) -> (Digest, ContentId) {
    (hashes[at], owners[at].content())
}

fn prefix(hash: &Digest) -> u64 {
    hash.bytes().first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::BankId;

    #[test]
    fn digests_are_sorted_in_place_however_many_are_alike() {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        for (count, kinds) in
            [(0, 1), (1, 1), (2, 2), (3, 1), (1000, 1), (1000, 7), (5000, 1 << 31), (70_000, 300)]
        {
            let entries: Vec<(Digest, Owner)> = (0..count)
                .map(|content| {
                    let word = (next() % kinds).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    let digest = Digest::new(&[word.to_be_bytes(), [3; 8]].concat()).unwrap();
                    (digest, Owner::new(ContentId(content ^ 0x55), BankId(1)))
                })
                .collect();
            let (mut hashes, mut owners): (Vec<_>, Vec<_>) = entries.iter().copied().unzip();
            arrange(&mut hashes, &mut owners);
            let mut expected = entries;
            expected.sort_by_key(|(hash, owner)| (*hash, owner.content()));
            assert!(hashes.into_iter().zip(owners).eq(expected), "{count} of {kinds}");
        }
    }
}
