//! The right answers, by comparing every question with every hash. No table, no kernel of ours: what is
//! measured must not vouch for itself.

use std::thread;

use index::Hash256;

/// Hashes compared in one go: their first halves fit the first-level cache.
const BLOCK: usize = 1024;

/// Every (query, hash, distance) within `limit` bits, ascending.
pub fn brute_force(bank: &[Hash256], queries: &[Hash256], limit: u32) -> Vec<[u32; 3]> {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let share = queries.len().div_ceil(workers).max(1);
    let mut truth: Vec<[u32; 3]> = thread::scope(|scope| {
        let threads: Vec<_> = queries
            .chunks(share)
            .enumerate()
            .map(|(at, part)| scope.spawn(move || compare(bank, part, at * share, limit)))
            .collect();
        // A worker that panicked has said why; a truth without its part would be a lie.
        threads
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|_| std::process::abort()))
            .collect()
    });
    truth.sort_unstable();
    truth
}

fn compare(bank: &[Hash256], queries: &[Hash256], first_query: usize, limit: u32) -> Vec<[u32; 3]> {
    let mut truth = Vec::new();
    let (mut low, mut high) = ([0u64; BLOCK], [0u64; BLOCK]);
    for (block, hashes) in bank.chunks(BLOCK).enumerate() {
        for (at, hash) in hashes.iter().enumerate() {
            [low[at], high[at], ..] = hash.words();
        }
        for (query, wanted) in queries.iter().enumerate() {
            let [a, b, ..] = wanted.words();
            // Half of the bits rule out nearly every hash, eight at a time.
            for (eight, (low, high)) in low.as_chunks::<8>().0.iter().zip(high.as_chunks::<8>().0).enumerate()
            {
                let near: [u64; 8] = std::array::from_fn(|at| ones(low[at] ^ a) + ones(high[at] ^ b));
                if near.iter().all(|bits| *bits > u64::from(limit)) {
                    continue;
                }
                // The last eight of a short block hold what an earlier block left; no hash stands for it.
                for (at, hash) in hashes.iter().enumerate().skip(eight * 8).take(8) {
                    let distance = u32::from(wanted.distance(hash).bits());
                    if distance <= limit {
                        truth.push([(first_query + query) as u32, (block * BLOCK + at) as u32, distance]);
                    }
                }
            }
        }
    }
    truth
}

/// Bits set. Written out so that the compiler turns eight of them into vector instructions of any x86-64.
fn ones(bits: u64) -> u64 {
    let bits = bits - ((bits >> 1) & 0x5555_5555_5555_5555);
    let bits = (bits & 0x3333_3333_3333_3333) + ((bits >> 2) & 0x3333_3333_3333_3333);
    let bits = (bits + (bits >> 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    let bits = bits + (bits >> 8);
    let bits = bits + (bits >> 16);
    (bits + (bits >> 32)) & 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_within_the_limit_is_there_and_no_other() {
        let hash = |seed: u8, far: usize| {
            let mut bytes = [seed.wrapping_mul(89); 32];
            (0..far).for_each(|bit| bytes[bit / 8] ^= 1 << (bit % 8));
            Hash256(bytes)
        };
        let bank: Vec<_> = (0..1500usize).map(|at| hash((at % 3) as u8, at % 64)).collect();
        let queries: Vec<_> = (0..7).map(|at| hash(at % 3, 3)).collect();
        let mut expected = Vec::new();
        for (query, wanted) in queries.iter().enumerate() {
            for (place, hash) in bank.iter().enumerate() {
                let bits = u32::from(wanted.distance(hash).bits());
                if bits <= 31 {
                    expected.push([query as u32, place as u32, bits]);
                }
            }
        }
        assert!(expected.len() > 1000);
        assert_eq!(brute_force(&bank, &queries, 31), expected);
    }
}
