//! What a key has asked around one content, and whether somebody is reading its hash out.
//!
//! Members are the distinct queries that found the content, and those within two bits of a member. Three rules freeze:
//!
//! * *Flips*: a member one bit from another, at a position where neighbours never differed before. Every PDQ hash of a
//!   picture has as many ones as zeroes, so two of them differ in an even number of bits: no picture ever does this.
//! * *Steps*: the same with two bits. Pictures do that too, at the positions where they are undecided, and soon at no
//!   new ones; so every fourth member that is no step takes one back.
//! * *Cover*: the positions at which members that found the content differ at all. To learn a bit one must alter it;
//!   pictures that look alike share most of theirs.
//!
//! The numbers are measured: `docs/defence.md`.

use index::Hash256;

use super::traces::REACH;

/// Members remembered besides the first; the oldest gives way.
pub const REMEMBERED: usize = 64;
/// Parts of a step: what a member that is no step takes back.
const PARTS: u32 = 4;
/// Members from which on they are counted by a sketch.
const SKETCHED_FROM: u32 = 32;
/// Words of the sketch.
const SKETCH: usize = 64;
const DAY_MS: u64 = 86_400_000;
/// Bytes a sketch adds to a region.
#[cfg(test)]
pub const SKETCH_BYTES: usize = size_of::<Sketch>();

/// From where on it is no accident.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Flips around one content that freeze. Real pictures: none.
    pub flips: u32,
    /// Steps around one content that freeze, less what other members took back. Real pictures: 14 at most in any run.
    pub steps: u32,
    /// Positions covered around one content that freeze. Real pictures: 187 at most, in 1500 variants.
    pub cover: u32,
    /// Positions covered by the first [`Self::early`] members that freeze. Real pictures: 150 at most.
    pub cover_early: u32,
    /// Members that are early.
    pub early: u32,
    /// Distinct members around one content in a day that raise an alarm, and freeze nothing.
    pub crowd: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { flips: 24, steps: 32, cover: 216, cover_early: 176, early: 128, crowd: 512 }
    }
}

/// Why a key is frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trip {
    /// So many flips.
    Flips(u32),
    /// So many steps.
    Steps(u32),
    /// So many positions covered by so many members.
    Cover {
        /// Positions.
        positions: u32,
        /// Members.
        members: u32,
    },
}

/// What a query did to its region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// It is somebody reading out.
    pub trip: Option<Trip>,
    /// It is the one too many today: so many distinct.
    pub crowd: Option<u32>,
    /// A member was forgotten for it.
    pub displaced: bool,
}

/// A content and the queries around it.
#[derive(Debug)]
pub struct Region {
    /// When a member was last seen, in milliseconds.
    pub last_ms: u64,
    first: Hash256,
    /// The first member that found the content within the usual distance: covered is what differs from it.
    base: Option<Hash256>,
    recent: Vec<Hash256>,
    /// The one of `recent` that gives way next.
    oldest: usize,
    members: u32,
    /// Positions at which neighbours differ.
    touched: [u64; 4],
    covered: [u64; 4],
    flips: u32,
    /// Flips and steps ever.
    probes: u32,
    /// Steps, in parts.
    score: u32,
    sketch: Option<Box<Sketch>>,
}

impl Region {
    /// A region without members but the first.
    pub fn new(first: Hash256, close: bool, now_ms: u64) -> Self {
        Self {
            last_ms: now_ms,
            first,
            base: close.then_some(first),
            recent: Vec::new(),
            oldest: 0,
            members: 1,
            touched: [0; 4],
            covered: [0; 4],
            flips: 0,
            probes: 0,
            score: 0,
            sketch: None,
        }
    }

    /// How much would be lost by forgetting it. Halved by each day of silence, so that old crowds make room.
    pub fn weight(&self, now_ms: u64) -> u32 {
        let idle_days = now_ms.saturating_sub(self.last_ms) / DAY_MS;
        self.probes.checked_shr(idle_days.min(32) as u32).unwrap_or(0)
    }

    /// What it remembers.
    pub fn remembered(&self) -> impl Iterator<Item = &Hash256> {
        std::iter::once(&self.first).chain(&self.recent)
    }

    /// The nearest member and the bits between.
    pub fn nearest(&self, hash: &Hash256) -> (u32, Hash256) {
        let mut nearest = (bits(hash, &self.first), self.first);
        for member in &self.recent {
            let between = bits(hash, member);
            if between < nearest.0 {
                nearest = (between, *member);
            }
        }
        nearest
    }

    /// Takes a query in. `close`: it found this region's own content, within the usual distance.
    pub fn note(
        &mut self,
        hash: &Hash256,
        (between, nearest): (u32, Hash256),
        close: bool,
        limits: &Limits,
        now_ms: u64,
    ) -> Noted {
        if between == 0 {
            return Noted::default(); // asked again, and answered the same
        }
        let displaced = self.remember(*hash);
        self.weigh(between, difference(hash, &nearest));
        if close {
            let base = *self.base.get_or_insert(*hash);
            join(&mut self.covered, difference(hash, &base));
        }
        Noted { trip: self.trip(limits), crowd: self.crowd(hash, limits.crowd, now_ms), displaced }
    }

    fn remember(&mut self, hash: Hash256) -> bool {
        self.members = self.members.saturating_add(1);
        if self.recent.len() < REMEMBERED {
            self.recent.push(hash);
            return false;
        }
        self.recent[self.oldest] = hash;
        self.oldest = (self.oldest + 1) % REMEMBERED;
        true
    }

    fn weigh(&mut self, between: u32, difference: [u64; 4]) {
        if between > REACH || !is_new(&self.touched, difference) {
            self.score = self.score.saturating_sub(1);
            return;
        }
        join(&mut self.touched, difference);
        self.probes += 1;
        self.score += PARTS;
        self.flips += u32::from(between % 2 == 1);
    }

    fn trip(&self, limits: &Limits) -> Option<Trip> {
        let (positions, members) = (ones(&self.covered), self.members);
        if self.flips >= limits.flips {
            Some(Trip::Flips(self.flips))
        } else if self.score >= limits.steps * PARTS {
            Some(Trip::Steps(self.probes))
        } else if positions >= limits.cover || (members <= limits.early && positions >= limits.cover_early) {
            Some(Trip::Cover { positions, members })
        } else {
            None
        }
    }

    /// Counts a distinct query; says so when it is the first above the limit of its day.
    fn crowd(&mut self, hash: &Hash256, most: u32, now_ms: u64) -> Option<u32> {
        if self.members < SKETCHED_FROM {
            return None;
        }
        let day = now_ms / DAY_MS;
        if self.sketch.as_ref().is_none_or(|sketch| sketch.day != day) {
            // Those before the sketch are in it as well; of an older day, none.
            let mut fresh = Sketch { day, ..Sketch::default() };
            if self.sketch.is_none() {
                self.remembered().for_each(|member| fresh.count(member));
            }
            self.sketch = Some(Box::new(fresh));
        }
        let sketch = self.sketch.as_mut()?;
        sketch.count(hash);
        let distinct = sketch.distinct();
        (distinct > most && !std::mem::replace(&mut sketch.told, distinct > most)).then_some(distinct)
    }

    /// Members so far, flips, steps at this moment, positions covered: for tests that measure.
    #[cfg(test)]
    pub fn figures(&self) -> [u32; 4] {
        [self.members, self.flips, self.score / PARTS, ones(&self.covered)]
    }
}

/// Counts distinct hashes by the bits they set (linear counting): repeats count once, however long ago.
#[derive(Debug)]
struct Sketch {
    day: u64,
    told: bool,
    set: u32,
    words: [u64; SKETCH],
}

impl Default for Sketch {
    fn default() -> Self {
        Self { day: 0, told: false, set: 0, words: [0; SKETCH] }
    }
}

impl Sketch {
    fn count(&mut self, hash: &Hash256) {
        let mixed = hash
            .words()
            .iter()
            .fold(0u64, |sum, word| (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ sum >> 29);
        let (word, bit) = ((mixed >> 58) as usize % SKETCH, 1u64 << (mixed >> 52 & 63));
        self.set += u32::from(self.words[word] & bit == 0);
        self.words[word] |= bit;
    }

    fn distinct(&self) -> u32 {
        let all = (SKETCH * 64) as f64;
        let free = (all - f64::from(self.set)).max(1.0);
        (all * (all / free).ln()).round() as u32
    }
}

/// Bits between two hashes.
pub fn bits(a: &Hash256, b: &Hash256) -> u32 {
    u32::from(a.distance(b).bits())
}

fn difference(a: &Hash256, b: &Hash256) -> [u64; 4] {
    let (a, b) = (a.words(), b.words());
    [a[0] ^ b[0], a[1] ^ b[1], a[2] ^ b[2], a[3] ^ b[3]]
}

fn join(set: &mut [u64; 4], more: [u64; 4]) {
    set.iter_mut().zip(more).for_each(|(word, more)| *word |= more);
}

fn is_new(set: &[u64; 4], positions: [u64; 4]) -> bool {
    set.iter().zip(positions).any(|(word, positions)| positions & !word != 0)
}

fn ones(set: &[u64; 4]) -> u32 {
    set.iter().map(|word| word.count_ones()).sum()
}
