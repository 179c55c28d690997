//! The questions, and what the answers must be. Truth is the generator's own; the server is never asked.

use index::Hash256;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::{ChaCha8Rng, ChaCha20Rng};

/// Bits within which the server must find a hash.
pub const THRESHOLD: usize = 31;
/// Planted misses lie at 32 to this many bits.
const NEAR_MISS_MAX: usize = 35;
/// Share of hits planted right at the threshold.
const AT_THRESHOLD: f64 = 0.25;
/// Share of misses planted just beyond it.
const NEAR_MISS: f64 = 0.25;

/// The hashes of a seeded bank, any of them at once: hash i is 32 bytes of ChaCha20 at position 32 i.
pub struct BankHashes(ChaCha20Rng);

impl BankHashes {
    /// The hashes of this seed.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha20Rng::seed_from_u64(seed))
    }

    /// Hash number `at`.
    pub fn get(&mut self, at: u64) -> Hash256 {
        self.0.set_word_pos(u128::from(at) * 8);
        let mut bytes = [0; 32];
        self.0.fill_bytes(&mut bytes);
        Hash256(bytes)
    }
}

/// A frame's hashes and what must be said of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The hashes.
    pub hashes: Vec<Hash256>,
    /// The planted hits, ascending: index of the hash, and the distance it must be found at.
    ///
    /// Any other match is false: two uniform random hashes lie within 31 bits of each other with
    /// probability 2^-119, so chance does not come into it.
    pub hits: Vec<(u32, u16)>,
}

/// What share is planted where.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Share of hashes planted within the threshold.
    pub hit_ratio: f64,
    /// Hashes in the bank; without any nothing is planted.
    pub bank_count: u64,
}

/// Draws a frame's worth of questions.
pub fn draw(size: usize, mix: Mix, bank: &mut BankHashes, random: &mut ChaCha8Rng) -> Batch {
    let mut batch = Batch::default();
    for at in 0..size {
        let planted = mix.bank_count > 0;
        let hash = if planted && random.random_bool(mix.hit_ratio) {
            let bits =
                if random.random_bool(AT_THRESHOLD) { THRESHOLD } else { random.random_range(0..=THRESHOLD) };
            batch.hits.push((at as u32, bits as u16));
            flip(&bank.get(random.random_range(0..mix.bank_count)), bits, random)
        } else if planted && random.random_bool(NEAR_MISS) {
            let bits = random.random_range(THRESHOLD + 1..=NEAR_MISS_MAX);
            flip(&bank.get(random.random_range(0..mix.bank_count)), bits, random)
        } else {
            let mut bytes = [0; 32];
            random.fill_bytes(&mut bytes);
            Hash256(bytes)
        };
        batch.hashes.push(hash);
    }
    batch
}

/// A hash with exactly so many bits flipped.
pub fn flip(hash: &Hash256, bits: usize, random: &mut ChaCha8Rng) -> Hash256 {
    let mut order: [u8; 256] = std::array::from_fn(|bit| bit as u8);
    let mut flipped = *hash;
    for at in 0..bits {
        order.swap(at, random.random_range(at..256));
        flipped.0[usize::from(order[at]) / 8] ^= 1 << (order[at] % 8);
    }
    flipped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bank_hash_is_the_same_whether_streamed_or_sought() {
        let mut stream = ChaCha20Rng::seed_from_u64(9);
        let mut bank = BankHashes::new(9);
        let streamed: Vec<Hash256> = (0..100)
            .map(|_| {
                let mut bytes = [0; 32];
                stream.fill_bytes(&mut bytes);
                Hash256(bytes)
            })
            .collect();
        for at in [99, 0, 50, 51, 1] {
            assert_eq!(bank.get(at), streamed[at as usize]);
        }
    }

    #[test]
    fn planted_hashes_lie_where_truth_says() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut bank = BankHashes::new(4);
        let banked: Vec<Hash256> = (0..50).map(|at| bank.get(at)).collect();
        let batch = draw(4000, Mix { hit_ratio: 0.3, bank_count: 50 }, &mut bank, &mut random);
        let nearest =
            |hash: &Hash256| banked.iter().map(|banked| hash.distance(banked).bits()).min().unwrap();
        let mut hits = batch.hits.iter().peekable();
        let (mut near_misses, mut at_threshold) = (0, 0);
        for (at, hash) in batch.hashes.iter().enumerate() {
            match hits.next_if(|(hit, _)| *hit as usize == at) {
                Some((_, distance)) => {
                    assert_eq!(nearest(hash), *distance);
                    at_threshold += usize::from(*distance == 31);
                }
                None => {
                    assert!(nearest(hash) > 31);
                    near_misses += usize::from(nearest(hash) <= 35);
                }
            }
        }
        assert!((1100..1300).contains(&batch.hits.len()), "{} hits", batch.hits.len());
        assert!((250..400).contains(&at_threshold), "{at_threshold} at the threshold");
        assert!((600..800).contains(&near_misses), "{near_misses} near misses");
    }
}
