//! The defence against readers and among honest uploaders: what both ask, and of whom.

mod honest;
mod pictures;
mod reader;
mod wardens;

use std::sync::Arc;

use index::{BankId, ContentId, Distance, Entry, Found, Hash256, PdqSnapshot, Scratch};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Alarms, Allowance, KeyNumber, Limits, Matched, Refused, Warden};

/// When everything begins.
const START_MS: u64 = 1_700_000_000_000;

pub fn random(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// A hash with as many ones as zeroes, as pictures have.
pub fn some_hash(random: &mut ChaCha8Rng) -> Hash256 {
    let mut positions: Vec<usize> = (0..256).collect();
    positions.shuffle(random);
    flipped(&Hash256([0; 32]), &positions[..128])
}

/// The hash with these bits altered.
pub fn flipped(hash: &Hash256, positions: &[usize]) -> Hash256 {
    let mut bytes = hash.0;
    positions.iter().for_each(|position| bytes[position / 8] ^= 1 << (position % 8));
    Hash256(bytes)
}

fn bit(hash: &Hash256, position: usize) -> bool {
    hash.0[position / 8] >> (position % 8) & 1 == 1
}

fn warden() -> Arc<Warden> {
    let (alarms, _) = Alarms::new(16);
    Arc::new(Warden::new(KeyNumber(1), Allowance::default(), Limits::default(), alarms))
}

/// A server with a bank: what a key that is watched sees of it.
struct Server {
    bank: PdqSnapshot,
    scratch: Scratch,
    found: Vec<Found>,
}

fn matched(found: &Found) -> Matched {
    Matched { query: found.query, content: found.content, distance: found.distance }
}

impl Server {
    fn new(banked: &[Hash256]) -> Self {
        let entry = |(at, hash): (usize, &Hash256)| Entry {
            hash: *hash,
            content: ContentId(at as u64 + 1),
            bank: BankId(1),
        };
        let bank = PdqSnapshot::from_entries(banked.iter().enumerate().map(entry).collect::<Vec<_>>());
        Self { bank, scratch: Scratch::default(), found: Vec::new() }
    }

    /// The least distance for each query that hit; nothing if the warden refuses.
    fn ask(
        &mut self,
        warden: &Warden,
        queries: &[Hash256],
        now_ms: u64,
    ) -> Result<Vec<Option<u16>>, Refused> {
        let usual = Distance::new(31).unwrap();
        self.found.clear();
        self.bank.search(queries, usual, &mut self.scratch, &mut self.found);
        warden.admit(queries, self.found.iter().map(matched), now_ms)?;
        let mut answer = vec![None; queries.len()];
        for found in &self.found {
            let place: &mut Option<u16> = &mut answer[found.query as usize];
            let bits = found.distance.bits();
            *place = Some(place.map_or(bits, |nearest| nearest.min(bits)));
        }
        Ok(answer)
    }
}

/// What a key asks besides: pictures nobody listed, listed ones again and again, and variants of some.
struct Ordinary {
    random: ChaCha8Rng,
    listed: Vec<Hash256>,
}

impl Ordinary {
    fn frame(&mut self, length: usize) -> Vec<Hash256> {
        (0..length).map(|_| self.query()).collect()
    }

    fn query(&mut self) -> Hash256 {
        match self.random.random_range(0..20) {
            0 => self.listed[self.random.random_range(0..self.listed.len())],
            1 => {
                let at = self.random.random_range(0..self.listed.len());
                let few = self.random.random_range(3..8);
                // Of each picture always the same bits are undecided.
                let weak: Vec<usize> =
                    (0..few).map(|_| (at * 31 + self.random.random_range(0..12) * 7) % 256).collect();
                flipped(&self.listed[at], &weak)
            }
            _ => some_hash(&mut self.random),
        }
    }
}
