//! Which queries may lie within two bits of a remembered one: read by every query, without a lock.
//!
//! A hash is cut into three parts. Two hashes that differ in two bits agree in one part at least, so each remembered
//! hash leaves a trace of each part: four bits in one word of the part's table. No trace, no neighbour; a trace may
//! be another's, and then the caller looks closely. Traces are added by one writer at a time.

use std::sync::atomic::{AtomicU64, Ordering};

use index::Hash256;

/// Bits that may differ without all three traces being lost.
pub const REACH: u32 = 2;

/// Words of a part's table: 384 KiB for the three, which a core's second-level cache holds. With all that a key may
/// have remembered in it, about one stranger in 1400 is looked at closely.
const WORDS: usize = 1 << 14;
const PARTS: usize = 3;
/// Bytes of the tables.
#[cfg(test)]
pub const BYTES: usize = PARTS * WORDS * size_of::<u64>();

/// The traces of what a key's regions remember.
#[derive(Debug)]
pub struct Traces([Box<[AtomicU64]>; PARTS]);

impl Default for Traces {
    fn default() -> Self {
        Self([(); PARTS].map(|()| (0..WORDS).map(|_| AtomicU64::new(0)).collect()))
    }
}

impl Traces {
    /// Whether a remembered hash may be within [`REACH`] bits.
    #[inline]
    pub fn may_be_near(&self, hash: &Hash256) -> bool {
        let parts = parts(hash);
        let near = |part: usize| {
            let (word, mask) = place(parts[part]);
            self.0[part][word].load(Ordering::Relaxed) & mask == mask
        };
        // All three, so that nothing waits for a guess about the first.
        near(0) | near(1) | near(2)
    }

    /// Leaves a hash's traces.
    pub fn add(&self, hash: &Hash256) {
        for (table, part) in self.0.iter().zip(parts(hash)) {
            let (word, mask) = place(part);
            table[word].fetch_or(mask, Ordering::Relaxed);
        }
    }

    /// Keeps the traces of these hashes alone. Whoever reads meanwhile finds theirs: a word goes from old to new at once.
    pub fn keep<'h>(&self, hashes: impl Iterator<Item = &'h Hash256>) {
        let mut fresh = vec![[0u64; PARTS]; WORDS];
        for hash in hashes {
            for (at, part) in parts(hash).into_iter().enumerate() {
                let (word, mask) = place(part);
                fresh[word][at] |= mask;
            }
        }
        for (word, masks) in fresh.iter().enumerate() {
            for (table, mask) in self.0.iter().zip(masks) {
                table[word].store(*mask, Ordering::Relaxed);
            }
        }
    }
}

/// Three parts of 86, 85 and 85 bits, each mixed to one number.
#[inline]
fn parts(hash: &Hash256) -> [u64; PARTS] {
    let [a, b, c, d] = hash.words();
    let mix = |whole: u64, rest: u64| {
        let product = u128::from(whole ^ 0x9e37_79b9_7f4a_7c15) * u128::from(rest ^ 0xd6e8_feb8_6659_fd93);
        (product >> 64) as u64 ^ product as u64
    };
    [mix(a, b & 0x3f_ffff), mix(d, b >> 22 & 0x1f_ffff), mix(c, b >> 43)]
}

/// A word and four bits of it.
#[inline]
fn place(part: u64) -> (usize, u64) {
    let bit = |at: u32| 1 << (part >> at & 63);
    ((part >> 50) as usize % WORDS, bit(44) | bit(38) | bit(32) | bit(26))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defence::tests::{flipped, random, some_hash};
    use rand::RngExt;

    #[test]
    fn whatever_is_within_two_bits_is_found_also_after_forgetting_others() {
        let (traces, random) = (Traces::default(), &mut random(1));
        let kept: Vec<Hash256> = (0..200).map(|_| some_hash(random)).collect();
        let gone: Vec<Hash256> = (0..2000).map(|_| some_hash(random)).collect();
        kept.iter().chain(&gone).for_each(|hash| traces.add(hash));
        for round in 0..2 {
            for hash in &kept {
                for _ in 0..100 {
                    let (a, b) = (random.random_range(0..256), random.random_range(0..256));
                    assert!(traces.may_be_near(&flipped(hash, &[a, b])), "round {round}: {a} {b}");
                }
            }
            traces.keep(kept.iter());
        }
        assert!(gone.iter().filter(|hash| traces.may_be_near(hash)).count() < 20);
    }

    #[test]
    fn few_strangers_leave_the_fast_path_when_all_is_full() {
        let (traces, random) = (Traces::default(), &mut random(2));
        (0..16_384).for_each(|_| traces.add(&some_hash(random)));
        let looked_at = (0..20_000).filter(|_| traces.may_be_near(&some_hash(random))).count();
        println!("{looked_at} of 20 000 strangers are looked at closely");
        assert!(looked_at < 60, "{looked_at} of 20 000");
    }
}
