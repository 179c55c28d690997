//! Hashes of no picture: banked, in no feed, and so found only by somebody who has a copy of the list.
//!
//! Their contents' ids are in the directory of who may call, which is looked at for what matched only.

use index::Hash256;
use ring::rand::{SecureRandom, SystemRandom};

/// The system gave no randomness.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no randomness; no honeytoken was made")]
pub struct NoRandomness;

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
}
