//! Where built segments lie: arrays in chunks, each with a checksum of its own.
//!
//! Segments are made from contents and can be made again, so they have a database of their own: damage to it
//! never stops the banks from opening, and nothing in it is trusted unread. A segment's chunks are written
//! once, all together, and removed all together.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::StoreError;

/// Bytes of a chunk without its checksum.
pub const CHUNK_BYTES: usize = 8 << 20;

/// A stored segment. Never reused within a data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SegmentId(pub u64);

/// Key of a chunk: segment u64 ‖ part u16 ‖ number u32, big-endian.
pub type ChunkKey = [u8; 14];

/// A chunk on its way to the store.
pub type Chunk = (ChunkKey, Vec<u8>);

/// Keeps chunks.
pub trait SegmentStore: Send + Sync {
    /// Makes a segment's chunks durable, all or none. Their keys ascend.
    fn write(&self, segment: SegmentId, chunks: &mut dyn Iterator<Item = Chunk>) -> Result<(), StoreError>;

    /// Calls `visit` with a chunk, if it is there.
    fn read(&self, key: &ChunkKey, visit: &mut dyn FnMut(&[u8])) -> Result<(), StoreError>;

    /// Every segment of which something is there.
    fn list(&self) -> Result<Vec<SegmentId>, StoreError>;

    /// Gives a segment's room back.
    fn remove(&self, segment: SegmentId) -> Result<(), StoreError>;
}

/// Key of a chunk.
pub fn chunk_key(segment: SegmentId, part: u16, number: u32) -> ChunkKey {
    let mut key = [0; 14];
    key[..8].copy_from_slice(&segment.0.to_be_bytes());
    key[8..10].copy_from_slice(&part.to_be_bytes());
    key[10..].copy_from_slice(&number.to_be_bytes());
    key
}

/// The segment a key is of.
pub fn segment_of(key: &[u8]) -> Option<SegmentId> {
    key.first_chunk::<8>().map(|bytes| SegmentId(u64::from_be_bytes(*bytes)))
}

/// Writes a segment's arrays.
pub fn write_parts(store: &dyn SegmentStore, segment: SegmentId, parts: &[&[u8]]) -> Result<(), StoreError> {
    let chunks = parts.iter().enumerate().flat_map(|(part, bytes)| {
        bytes.chunks(CHUNK_BYTES).enumerate().map(move |(number, bytes)| {
            let key = chunk_key(segment, part as u16, number as u32);
            let mut chunk = Vec::with_capacity(bytes.len() + 4);
            chunk.extend_from_slice(bytes);
            chunk.extend_from_slice(&checksum(&key, bytes).to_le_bytes());
            (key, chunk)
        })
    });
    store.write(segment, &mut { chunks })
}

/// Fills an array with what was written as the segment's `part`. An error if a byte of it is not as written.
pub fn read_part(
    store: &dyn SegmentStore,
    segment: SegmentId,
    part: u16,
    into: &mut [u8],
) -> Result<(), StoreError> {
    for (number, room) in into.chunks_mut(CHUNK_BYTES).enumerate() {
        let key = chunk_key(segment, part, number as u32);
        let mut whole = false;
        store.read(&key, &mut |chunk| {
            let Some((bytes, sum)) = chunk.split_last_chunk::<4>() else { return };
            if bytes.len() == room.len() && checksum(&key, bytes).to_le_bytes() == *sum {
                room.copy_from_slice(bytes);
                whole = true;
            }
        })?;
        if !whole {
            return Err(StoreError::Damaged {
                path: format!("stored segment {}", segment.0),
                reason: format!("chunk {number} of part {part} is missing or not as it was written"),
            });
        }
    }
    Ok(())
}

/// CRC-32 over key and bytes, so that a chunk in another one's place does not pass.
fn checksum(key: &ChunkKey, bytes: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(key);
    sum.update(bytes);
    sum.finalize()
}

/// Chunks in memory, for tests.
#[derive(Debug, Default)]
pub struct MemorySegments {
    chunks: Mutex<BTreeMap<ChunkKey, Vec<u8>>>,
}

impl MemorySegments {
    /// Lets a test do damage.
    pub fn change(&self, change: impl FnOnce(&mut BTreeMap<ChunkKey, Vec<u8>>)) {
        change(&mut self.chunks.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl SegmentStore for MemorySegments {
    fn write(&self, _segment: SegmentId, chunks: &mut dyn Iterator<Item = Chunk>) -> Result<(), StoreError> {
        self.change(|rows| rows.extend(chunks));
        Ok(())
    }

    fn read(&self, key: &ChunkKey, visit: &mut dyn FnMut(&[u8])) -> Result<(), StoreError> {
        self.change(|rows| rows.get(key).map(Vec::as_slice).into_iter().for_each(visit));
        Ok(())
    }

    fn list(&self) -> Result<Vec<SegmentId>, StoreError> {
        let mut found = Vec::new();
        self.change(|rows| found.extend(rows.keys().filter_map(|key| segment_of(key))));
        found.dedup();
        Ok(found)
    }

    fn remove(&self, segment: SegmentId) -> Result<(), StoreError> {
        self.change(|rows| rows.retain(|key, _| segment_of(key) != Some(segment)));
        Ok(())
    }
}
