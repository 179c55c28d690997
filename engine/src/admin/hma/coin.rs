//! The coin that decides which banks take part in a lookup. With a seed it falls as HMA's does, bit by bit, so that a
//! caller who seeds with an upload's id gets the same answer from either.

use std::hash::{BuildHasher, Hasher, RandomState};

use rand_mt::Mt;
use sha2::{Digest, Sha512};

/// From 0 to 1, 1 excluded.
pub fn flip(seed: Option<&str>) -> f64 {
    match seed {
        Some(seed) => seeded(seed),
        // A fresh state is keyed by the system's randomness: enough for a sample.
        None => (RandomState::new().build_hasher().finish() >> 11) as f64 / (1u64 << 53) as f64,
    }
}

/// CPython's `random.Random(seed).random()`: the seed's bytes and their SHA-512 are one big number, which is the key
/// of a Mersenne twister; two of its words make 53 bits.
fn seeded(seed: &str) -> f64 {
    let mut number = seed.as_bytes().to_vec();
    number.extend_from_slice(&Sha512::digest(seed.as_bytes()));
    number.reverse();
    let mut key: Vec<u32> = number
        .chunks(4)
        .map(|bytes| bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte)))
        .collect();
    while key.len() > 1 && key.last() == Some(&0) {
        key.pop();
    }
    let mut twister = Mt::new_with_key(key);
    let (high, low) = (twister.next_u32() >> 5, twister.next_u32() >> 6);
    (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::float_cmp)] // bit by bit is the point
    fn a_seeded_coin_falls_as_hmas_does() {
        for (seed, value) in [
            ("1", 0.4782479962566343),
            ("2", 0.5558450440322502),
            ("abc", 0.7720246314157545),
            ("", 0.9602256525641875),
        ] {
            assert_eq!(seeded(seed), value, "{seed:?}");
        }
        assert!((0.0..1.0).contains(&flip(None)));
    }
}
