//! What matches one signal of any type, and how near it is.

use crate::bank::BankState;
use crate::mih::Scratch;
use crate::signal::text::{edits, normal};
use crate::signal::{BankId, ContentId, Distance, Signal, SignalType};
use crate::snapshot::Found;
use crate::texts::NormalText;
use crate::videos::VideoRule;

/// Percent of a banked text's letters that may differ, as in HMA.
const TEXT_PERCENT: u8 = 5;

/// A banked content that a signal matches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Match {
    /// The content.
    pub content: ContentId,
    /// Its bank.
    pub bank: BankId,
    /// How near it is.
    pub nearness: Nearness,
}

/// How near two signals are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Nearness {
    /// Bits that differ.
    Bits(Distance),
    /// They are the same.
    Same,
    /// Edits between two texts, and the letters of the banked one.
    Edits {
        /// Letters inserted, removed or replaced.
        edits: u32,
        /// Letters of the banked text.
        letters: u32,
    },
    /// Frames two videos have in common, in percent of each.
    Frames {
        /// Of the query's frames.
        query_percent: f64,
        /// Of the banked video's frames.
        banked_percent: f64,
    },
}

impl Nearness {
    /// As HMA prints it: bits, `-`, the share of a text that is the same, or `80%[12%]`.
    pub fn text(&self) -> String {
        match self {
            Nearness::Bits(distance) => distance.to_string(),
            Nearness::Same => "-".to_string(),
            Nearness::Edits { edits, letters } => {
                format!("{:.0}%", 100.0 - f64::from(*edits) * 100.0 / f64::from((*letters).max(1)))
            }
            Nearness::Frames { query_percent, banked_percent } => {
                format!("{query_percent:.0}%[{banked_percent:.0}%]")
            }
        }
    }

    /// Sorts: the less, the nearer.
    pub fn rank(&self) -> u32 {
        match self {
            Nearness::Bits(distance) => u32::from(distance.bits()),
            Nearness::Same => 0,
            Nearness::Edits { edits, .. } => *edits,
            Nearness::Frames { query_percent, banked_percent } => {
                (100_000.0 - (query_percent * 999.0 + banked_percent)) as u32
            }
        }
    }
}

impl Nearness {
    /// How near two signals of one type are, and whether that is near enough.
    pub fn between(one: &Signal, other: &Signal, rule: &FindRule) -> (bool, Self) {
        match (one, other) {
            (Signal::Pdq(one), Signal::Pdq(other)) => {
                let distance = one.distance(other);
                let threshold = rule.threshold.unwrap_or(SignalType::Pdq.threshold());
                (distance <= threshold, Nearness::Bits(distance))
            }
            (Signal::Text(SignalType::RawText, one), Signal::Text(SignalType::RawText, other)) => {
                let (one, other) = (normal(one), normal(other));
                let edits = edits(&one, &other, one.len().max(other.len())).unwrap_or_default();
                let near = edits * 100 <= one.len() * usize::from(TEXT_PERCENT);
                (near, Nearness::Edits { edits: edits as u32, letters: one.len() as u32 })
            }
            (Signal::Video(one), Signal::Video(other)) => {
                let (near, query_percent, banked_percent) = rule.video.compare(one, other);
                (near, Nearness::Frames { query_percent, banked_percent })
            }
            _ => (one == other, Nearness::Same),
        }
    }
}

/// Room a search needs, used again by the next one.
#[derive(Default)]
pub struct FindScratch {
    scratch: Scratch,
    found: Vec<Found>,
}

/// What counts as a match where the request says so.
#[derive(Clone, Copy, Debug, Default)]
pub struct FindRule {
    /// Bits that may differ; without, each bank's own threshold, or the type's. Of PDQ only.
    pub threshold: Option<Distance>,
    /// When two videos are the same.
    pub video: VideoRule,
}

impl BankState {
    /// Appends what each of these signals matches, with the signal's place: by place, then nearest first. PDQ signals
    /// are searched for together, which is faster than one by one.
    pub fn find_all(
        &self,
        signals: &[Signal],
        rule: &FindRule,
        room: &mut FindScratch,
        matches: &mut Vec<(u32, Match)>,
    ) {
        let before = matches.len();
        let (mut hashes, mut places, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for (place, signal) in (0u32..).zip(signals) {
            if let Signal::Pdq(hash) = signal {
                hashes.push(*hash);
                places.push(place);
                continue;
            }
            others.clear();
            self.find(signal, rule, room, &mut others);
            matches.extend(others.iter().map(|found| (place, *found)));
        }
        let FindScratch { scratch, found } = room;
        found.clear();
        self.search_pdq(&hashes, rule.threshold, scratch, found);
        matches.extend(found.iter().map(|hit| {
            let nearness = Nearness::Bits(hit.distance);
            (places[hit.query as usize], Match { content: hit.content, bank: hit.bank, nearness })
        }));
        matches[before..].sort_by_key(|(place, found)| (*place, found.nearness.rank(), found.content));
    }

    /// Appends every banked content that this signal matches, nearest first, whether it is enabled or not.
    pub fn find(&self, signal: &Signal, rule: &FindRule, room: &mut FindScratch, matches: &mut Vec<Match>) {
        let before = matches.len();
        let FindScratch { scratch, found } = room;
        found.clear();
        match signal {
            Signal::Pdq(hash) => self.search_pdq(&[*hash], rule.threshold, scratch, found),
            Signal::Exact(..) | Signal::Text(SignalType::Url, _) => {
                if let (Some(exact), Some(digest)) = (self.tables.exact(signal.kind()), signal.digest()) {
                    exact.search(&[digest], Distance::default(), scratch, found);
                }
            }
            Signal::Text(_, text) => {
                let mut found = Vec::new();
                self.tables.texts.search(&NormalText::of(text), TEXT_PERCENT, &mut found);
                matches.extend(found.iter().map(|hit| Match {
                    content: hit.content,
                    bank: hit.bank,
                    nearness: Nearness::Edits { edits: hit.edits, letters: hit.letters },
                }));
            }
            Signal::Video(frames) => {
                let mut found = Vec::new();
                self.tables.videos.search(frames, &rule.video, scratch, &mut found);
                matches.extend(found.iter().map(|hit| Match {
                    content: hit.content,
                    bank: hit.bank,
                    nearness: Nearness::Frames {
                        query_percent: hit.query_percent,
                        banked_percent: hit.banked_percent,
                    },
                }));
            }
        }
        let bits =
            |distance| if let Signal::Pdq(_) = signal { Nearness::Bits(distance) } else { Nearness::Same };
        matches.extend(found.iter().map(|hit| Match {
            content: hit.content,
            bank: hit.bank,
            nearness: bits(hit.distance),
        }));
        self.keep_seen(matches, before, |found| found.bank);
        matches[before..].sort_by_key(|found| (found.nearness.rank(), found.content));
    }
}
