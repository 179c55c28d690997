//! The regions a key has asked in: found by content or by neighbourhood, bounded, and forgotten in an order that an
//! attacker cannot use cheaply.
//!
//! There are [`REGIONS_MAX`]. The half that was asked in last stays, whatever it holds. Of the others the one with the
//! fewest probes goes. So to have a fresh region forgotten takes hits on 128 other contents between any two questions
//! in it, and to have one with n probes forgotten takes 255 other contents with as many probes each.

use index::{ContentId, Hash256};

use super::region::{Limits, Noted, REMEMBERED, Region, bits};
use super::traces::{REACH, Traces};

/// Contents of which what was asked around them is remembered.
pub const REGIONS_MAX: usize = 256;
/// Regions that stay because they were asked in last.
const RECENT: usize = REGIONS_MAX / 2;
/// Traces of forgotten members before all are made anew.
const STALE_MAX: usize = REGIONS_MAX * REMEMBERED / 4;

/// What a query found: the content, and whether within the usual distance.
#[derive(Clone, Copy, Debug)]
pub struct Hit {
    /// The nearest content.
    pub content: ContentId,
    /// Within the distance that pictures which look alike have.
    pub close: bool,
}

/// The regions of a key. What is looked for among all of them stands by itself, in little memory: a frame with a hit reads
/// the regions that it is about, and no others.
#[derive(Debug, Default)]
pub struct Regions {
    regions: Vec<Region>,
    /// Each one's content.
    contents: Vec<ContentId>,
    /// How far each of them reaches: every query that may be near one is held against all.
    reaches: Vec<Reach>,
    /// Their places in the order in which they were asked in, the longest ago first.
    order: Vec<u8>,
    stale: usize,
}

const _: () = assert!(REGIONS_MAX <= 1 << 8, "a place is a byte");

/// A region's first member, and the bits within which all others lie.
#[derive(Clone, Copy, Debug)]
struct Reach {
    first: Hash256,
    radius: u32,
}

impl Regions {
    /// Takes a query in that found a content, or is perhaps near one that did.
    pub fn note(
        &mut self,
        hash: &Hash256,
        hit: Option<Hit>,
        traces: &Traces,
        limits: &Limits,
        now_ms: u64,
    ) -> Noted {
        let own = hit.and_then(|hit| self.contents.iter().position(|content| *content == hit.content));
        let mut place = own.map(|at| (at, self.regions[at].nearest(hash)));
        let within_reach = place.is_some_and(|(_, (between, _))| between <= REACH);
        if !within_reach && traces.may_be_near(hash) {
            place = self.neighbour(hash).or(place);
        }
        match (place, hit) {
            (Some((at, nearest)), _) => {
                self.asked_in(at);
                let region = &mut self.regions[at];
                let close = hit.is_some_and(|hit| hit.close && hit.content == self.contents[at]);
                region.last_ms = now_ms;
                let noted = region.note(hash, nearest, close, limits, now_ms);
                if nearest.0 > 0 {
                    let reach = &mut self.reaches[at];
                    reach.radius = reach.radius.max(bits(hash, &reach.first));
                    traces.add(hash);
                }
                self.forget(usize::from(noted.displaced), traces);
                noted
            }
            (None, Some(hit)) => {
                let region = Region::new(*hash, hit.close, now_ms);
                self.put(region, hit.content, Reach { first: *hash, radius: 0 }, traces, now_ms);
                traces.add(hash);
                Noted::default()
            }
            (None, None) => Noted::default(), // the trace was another's
        }
    }

    /// A region with a member within reach.
    fn neighbour(&self, hash: &Hash256) -> Option<(usize, (u32, Hash256))> {
        let reaches = self.reaches.iter().enumerate();
        reaches
            .filter(|(_, reach)| bits(hash, &reach.first) <= reach.radius + REACH)
            .map(|(at, _)| (at, self.regions[at].nearest(hash)))
            .filter(|(_, (between, _))| *between <= REACH)
            .min_by_key(|(_, (between, _))| *between)
    }

    /// Somebody asks in it: it is the last now.
    fn asked_in(&mut self, at: usize) {
        if let Some(place) = self.order.iter().position(|other| usize::from(*other) == at) {
            self.order[place..].rotate_left(1);
        }
    }

    /// Takes in a region, in the place of the lightest of the older half if there is no other.
    fn put(&mut self, region: Region, content: ContentId, reach: Reach, traces: &Traces, now_ms: u64) {
        if self.regions.len() < REGIONS_MAX {
            self.order.push(self.regions.len() as u8);
            self.regions.push(region);
            self.contents.push(content);
            self.reaches.push(reach);
            return;
        }
        let (mut lightest, mut weight) = (0, u32::MAX);
        for (place, at) in self.order[..REGIONS_MAX - RECENT].iter().enumerate() {
            let other = self.regions[usize::from(*at)].weight(now_ms);
            if other < weight {
                (lightest, weight) = (place, other);
            }
            if weight == 0 {
                break; // none is lighter, and of those this is the oldest
            }
        }
        let at = usize::from(self.order[lightest]);
        self.order[lightest..].rotate_left(1);
        (self.contents[at], self.reaches[at]) = (content, reach);
        let gone = std::mem::replace(&mut self.regions[at], region);
        self.forget(gone.remembered().count(), traces);
    }

    fn forget(&mut self, members: usize, traces: &Traces) {
        self.stale += members;
        if self.stale > STALE_MAX {
            self.stale = 0;
            traces.keep(self.regions.iter().flat_map(Region::remembered));
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self, traces: &Traces) {
        *self = Self::default();
        traces.keep(std::iter::empty());
    }

    #[cfg(test)]
    pub fn all(&self) -> &[Region] {
        &self.regions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defence::tests::{flipped, random, some_hash};

    fn hit(content: u64) -> Option<Hit> {
        Some(Hit { content: ContentId(content), close: true })
    }

    #[test]
    fn a_fresh_region_outlives_hits_on_127_other_contents() {
        let (mut regions, traces, random) = (Regions::default(), Traces::default(), &mut random(1));
        // Crowds that are older and weigh more fill the table.
        for content in 1000..1256 {
            let base = some_hash(random);
            for position in 0..4 {
                regions.note(&flipped(&base, &[position]), hit(content), &traces, &Limits::default(), 0);
            }
        }
        let base = some_hash(random);
        let mut trip = None;
        regions.note(&base, hit(1), &traces, &Limits::default(), 0);
        for position in 0..24 {
            for other in 0..127 {
                regions.note(
                    &some_hash(random),
                    hit(10_000 + position * 127 + other),
                    &traces,
                    &Limits::default(),
                    0,
                );
            }
            let noted =
                regions.note(&flipped(&base, &[position as usize]), hit(1), &traces, &Limits::default(), 0);
            trip = trip.or(noted.trip);
        }
        assert!(trip.is_some());
    }

    #[test]
    fn a_region_with_probes_outlives_any_number_of_single_hits() {
        let (mut regions, traces, random) = (Regions::default(), Traces::default(), &mut random(2));
        let base = some_hash(random);
        let mut noted = regions.note(&base, hit(1), &traces, &Limits::default(), 0);
        for position in 0..24 {
            assert_eq!(noted.trip, None);
            noted = regions.note(&flipped(&base, &[position]), hit(1), &traces, &Limits::default(), 0);
            for other in 0..2000 {
                let content = hit(10 + other + position as u64 * 2000);
                regions.note(&some_hash(random), content, &traces, &Limits::default(), 0);
            }
        }
        assert!(noted.trip.is_some());
        assert!(regions.all().len() <= REGIONS_MAX);
    }

    #[test]
    fn a_days_crowd_is_told_once_and_repeats_are_no_crowd() {
        let (mut regions, traces, random) = (Regions::default(), Traces::default(), &mut random(3));
        let lenient = Limits { steps: 9999, cover: 999, cover_early: 999, flips: 9999, ..Limits::default() };
        let base = some_hash(random);
        let mut told = Vec::new();
        for round in 0..3 {
            for (at, position) in (0..256).flat_map(|a| [(a, 0), (a, 100), (a, 200)]).enumerate() {
                let query = flipped(&base, &[position.0, (position.0 + 1 + position.1) % 256]);
                let noted = regions.note(&query, hit(1), &traces, &lenient, 5);
                told.extend(noted.crowd.map(|distinct| (round, at, distinct)));
            }
        }
        assert_eq!(told.len(), 1, "{told:?}");
        assert!((450..580).contains(&told[0].1), "{told:?}");
    }
}
