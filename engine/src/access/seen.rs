//! What a request of many signals asked and found, as much of it as is judged before anything is told: the nearest match of
//! each hash, and a honeytoken. A bank full of duplicates adds nothing to it.

use std::sync::Arc;

use index::{ContentId, Hash256, Match, Nearness, Signal};
use reporter::access::Directory;

use super::Door;
use crate::defence::Matched;

/// Grows with the signals asked, not with what they match.
pub struct Seen {
    directory: Arc<Directory>,
    pub(super) hashes: Vec<Hash256>,
    /// By query: the nearest content of each that matched.
    pub(super) nearest: Vec<Matched>,
    /// Signals of other types.
    pub(super) others: usize,
    pub(super) honeytoken: Option<ContentId>,
}

impl Seen {
    /// Nothing yet.
    pub fn new(door: &Door) -> Self {
        let (hashes, nearest) = (Vec::new(), Vec::new());
        Self { directory: door.directory(), hashes, nearest, others: 0, honeytoken: None }
    }

    /// Takes in what these signals matched; `found` names the place of its signal among them.
    pub fn note(&mut self, signals: &[Signal], found: &[(u32, Match)]) {
        let honeytokens = &self.directory.honeytokens;
        if self.honeytoken.is_none() && !honeytokens.is_empty() {
            let is_one = |(_, hit): &&(u32, Match)| honeytokens.contains_key(&hit.content);
            self.honeytoken = found.iter().find(is_one).map(|(_, hit)| hit.content);
        }
        let mut best: Vec<Option<Matched>> = vec![None; signals.len()];
        for (place, hit) in found {
            let (Some(best), Nearness::Bits(distance)) = (best.get_mut(*place as usize), hit.nearness) else {
                continue;
            };
            let other = Matched { query: 0, content: hit.content, distance };
            if best.is_none_or(|best| (distance, hit.content) < (best.distance, best.content)) {
                *best = Some(other);
            }
        }
        for (signal, best) in signals.iter().zip(best) {
            let Signal::Pdq(hash) = signal else {
                self.others += 1;
                continue;
            };
            self.nearest.extend(best.map(|best| Matched { query: self.hashes.len() as u32, ..best }));
            self.hashes.push(*hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arc_swap::ArcSwap;
    use index::{BankId, Distance, SignalType};

    use super::*;
    use crate::defence::Alarms;

    #[test]
    fn of_many_matches_the_nearest_and_the_honeytoken_are_left() {
        let mut directory = Directory::default();
        directory.honeytokens.insert(ContentId(900), "TRAP".to_string());
        let door = Door::new(None, Arc::new(ArcSwap::from_pointee(directory)), Alarms::new(4).0);
        let mut seen = Seen::new(&door);
        let hit = |place: u32, content: u64, bits: u16| {
            let nearness = Nearness::Bits(Distance::new(bits).unwrap());
            (place, Match { content: ContentId(content), bank: BankId(1), nearness })
        };
        let pdq = |byte: u8| Signal::Pdq(Hash256([byte; 32]));
        let text = Signal::parse(SignalType::RawText, "some words").unwrap();
        let matched: Vec<_> = (1..=1000).map(|content| hit(2, content, 30 - (content % 30) as u16)).collect();
        for _ in 0..2 {
            seen.note(&[pdq(1), text.clone(), pdq(2)], &matched);
        }
        assert_eq!((seen.hashes.len(), seen.others, seen.honeytoken), (4, 2, Some(ContentId(900))));
        let left: Vec<_> =
            seen.nearest.iter().map(|near| (near.query, near.content.0, near.distance.bits())).collect();
        assert_eq!(left, [(1, 29, 1), (3, 29, 1)]);
    }
}
