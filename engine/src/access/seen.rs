//! What a request of many signals asked and found, as much of it as is judged before anything is told: the nearest match of
//! each hash, and a honeytoken. A bank full of duplicates adds nothing to it.

use std::sync::Arc;

use index::{ContentId, Distance, Hash256, Row, Signal};
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

    /// Whether a content is a honeytoken.
    pub fn is_honeytoken(&self, content: ContentId) -> bool {
        self.directory.honeytokens.contains_key(&content)
    }

    /// Takes in what these signals matched: rows by the place of the signal among them, with what was noted.
    pub fn note(&mut self, signals: &[Signal], rows: &[Row]) {
        let mut rows = rows.iter().peekable();
        for (place, signal) in signals.iter().enumerate() {
            let row = rows.next_if(|row| row.query as usize == place);
            self.honeytoken = self.honeytoken.or(row.and_then(|row| row.watched));
            let Signal::Pdq(hash) = signal else {
                self.others += 1;
                continue;
            };
            if let Some((bits, content)) = row.and_then(|row| row.noted)
                && let Some(distance) = u16::try_from(bits).ok().and_then(Distance::new)
            {
                self.nearest.push(Matched { query: self.hashes.len() as u32, content, distance });
            }
            self.hashes.push(*hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arc_swap::ArcSwap;
    use index::{BankId, Match, Nearest, Nearness, SignalType};

    use super::*;
    use crate::defence::Alarms;

    #[test]
    fn of_many_matches_the_nearest_and_the_honeytoken_are_left() {
        let mut directory = Directory::default();
        directory.honeytokens.insert(ContentId(900), "TRAP".to_string());
        let door = Door::new(None, Arc::new(ArcSwap::from_pointee(directory)), Alarms::new(4).0);
        let mut seen = Seen::new(&door);
        let pdq = |byte: u8| Signal::Pdq(Hash256([byte; 32]));
        let text = Signal::parse(SignalType::RawText, "some words").unwrap();
        let mut nearest = Nearest::default();
        nearest.begin(3, 2, true);
        for content in 1..=1000 {
            let nearness = Nearness::Bits(Distance::new(30 - (content % 30) as u16).unwrap());
            let hit = Match { content: ContentId(content), bank: BankId(1), nearness };
            nearest.note(2, &hit, seen.is_honeytoken(hit.content));
        }
        nearest.finish();
        for _ in 0..2 {
            seen.note(&[pdq(1), text.clone(), pdq(2)], nearest.rows());
        }
        assert_eq!((seen.hashes.len(), seen.others, seen.honeytoken), (4, 2, Some(ContentId(900))));
        let left: Vec<_> =
            seen.nearest.iter().map(|near| (near.query, near.content.0, near.distance.bits())).collect();
        assert_eq!(left, [(1, 29, 1), (3, 29, 1)]);
    }
}
