//! Hashes of no picture: banked, in no feed, and so found only by somebody who has a copy of the list.
//!
//! The set holds their contents' ids and is looked at for what matched only. Whoever banks the hashes publishes it.

use std::collections::HashSet;

use arc_swap::ArcSwap;
use index::{ContentId, Hash256};
use ring::rand::{SecureRandom, SystemRandom};

/// The contents that are honeytokens, as they are at any moment.
#[derive(Debug, Default)]
pub struct Honeytokens(ArcSwap<HashSet<u64>>);

/// The system gave no randomness.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no randomness; no honeytoken was made")]
pub struct NoRandomness;

impl Honeytokens {
    /// Replaces the set.
    pub fn publish(&self, contents: impl IntoIterator<Item = ContentId>) {
        self.0.store(std::sync::Arc::new(contents.into_iter().map(|content| content.0).collect()));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.load().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first of these contents that is one.
    pub fn first_in(&self, contents: impl Iterator<Item = ContentId>) -> Option<ContentId> {
        let mut contents = contents.peekable();
        contents.peek()?; // most frames match nothing
        let set = self.0.load();
        if set.is_empty() {
            return None;
        }
        contents.find(|content| set.contains(&content.0))
    }
}

/// A hash that no picture has, but that looks as if: half of its bits set, as PDQ's median does. About 128 bits from
/// any other.
pub fn random_hash() -> Result<Hash256, NoRandomness> {
    let random = SystemRandom::new();
    let mut positions: [u8; 256] = std::array::from_fn(|at| at as u8);
    for left in (1..=256usize).rev() {
        let chosen = below(left as u16, &random)?;
        positions.swap(left - 1, chosen);
    }
    let mut bytes = [0; 32];
    for position in &positions[..128] {
        bytes[usize::from(position / 8)] |= 1 << (position % 8);
    }
    Ok(Hash256(bytes))
}

/// An even choice of a number below `end`.
fn below(end: u16, random: &SystemRandom) -> Result<usize, NoRandomness> {
    let fair = u16::MAX - u16::MAX % end;
    loop {
        let mut bytes = [0; 2];
        random.fill(&mut bytes).map_err(|_| NoRandomness)?;
        let number = u16::from_le_bytes(bytes);
        if number < fair {
            return Ok(usize::from(number % end));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defence::region::bits;

    #[test]
    fn honeytokens_look_like_hashes_of_pictures_and_are_near_nothing() {
        let made: Vec<Hash256> = (0..200).map(|_| random_hash().unwrap()).collect();
        let mut set = [0u32; 256];
        for (at, hash) in made.iter().enumerate() {
            assert_eq!(bits(hash, &Hash256([0; 32])), 128);
            assert!(made[..at].iter().all(|other| bits(hash, other) > 62));
            (0..256).filter(|bit| hash.0[bit / 8] >> (bit % 8) & 1 == 1).for_each(|bit| set[bit] += 1);
        }
        assert!(set.iter().all(|count| (55..=145).contains(count)), "{set:?}");
    }

    #[test]
    fn only_published_contents_are_honeytokens() {
        let honeytokens = Honeytokens::default();
        let found = || honeytokens.first_in([1, 7, 9].into_iter().map(ContentId));
        assert_eq!(found(), None);
        honeytokens.publish([9, 7].map(ContentId));
        assert_eq!((found(), honeytokens.len()), (Some(ContentId(7)), 2));
        honeytokens.publish([8].map(ContentId));
        assert_eq!(found(), None);
    }
}
