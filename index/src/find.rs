//! What matches one signal of any type, and how near it is.

use crate::bank::{Ask, BankState, Filter};
use crate::mih::Scratch;
use crate::nearest::{Nearest, Ranked};
use crate::signal::text::{edits, normal};
use crate::signal::{BankId, ContentId, Distance, Signal, SignalType};
use crate::snapshot::Found;
use crate::texts::NormalText;
use crate::videos::{FoundVideo, VideoRule};

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
}

impl Ranked for Match {
    fn rank(&self) -> (u32, ContentId) {
        (self.nearness.rank(), self.content)
    }

    fn bank(&self) -> BankId {
        self.bank
    }
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
    /// What each of these signals matches, by its place, nearest first. PDQ signals are searched for together, which is
    /// faster than one by one.
    pub fn find_all(
        &self,
        signals: &[Signal],
        rule: &FindRule,
        ask: &Ask<'_>,
        room: &mut FindScratch,
        nearest: &mut Nearest<Match>,
    ) {
        nearest.begin(signals.len(), ask.limit, ask.every_bank);
        let (mut hashes, mut places) = (Vec::new(), Vec::new());
        let mut filter = Filter::new(self, ask, None);
        for (place, signal) in signals.iter().enumerate() {
            if let Signal::Pdq(hash) = signal {
                hashes.push(*hash);
                places.push(place);
            } else {
                self.find_other(signal, rule, &mut room.scratch, |found| {
                    filter.take(nearest, place, found, Distance::default());
                });
            }
        }
        let (widest, own) = self.reach(rule.threshold);
        let mut filter = Filter::new(self, ask, own);
        self.tables.pdq.visit(
            &hashes,
            widest,
            &mut room.scratch,
            |Found { query, content, bank, distance }| {
                let found = Match { content, bank, nearness: Nearness::Bits(distance) };
                filter.take(nearest, places[query as usize], found, distance);
            },
        );
        nearest.finish();
    }

    /// Calls `found` with every banked content that a signal of another type than PDQ matches.
    fn find_other(
        &self,
        signal: &Signal,
        rule: &FindRule,
        scratch: &mut Scratch,
        mut found: impl FnMut(Match),
    ) {
        match signal {
            Signal::Pdq(_) => {}
            Signal::Exact(..) | Signal::Text(SignalType::Url, _) => {
                if let (Some(exact), Some(digest)) = (self.tables.exact(signal.kind()), signal.digest()) {
                    exact.visit(
                        &[digest],
                        Distance::default(),
                        scratch,
                        |Found { content, bank, .. }| {
                            found(Match { content, bank, nearness: Nearness::Same });
                        },
                    );
                }
            }
            Signal::Text(_, text) => self.tables.texts.search(&NormalText::of(text), TEXT_PERCENT, |hit| {
                let nearness = Nearness::Edits { edits: hit.edits, letters: hit.letters };
                found(Match { content: hit.content, bank: hit.bank, nearness });
            }),
            Signal::Video(frames) => self.tables.videos.search(frames, &rule.video, scratch, |hit| {
                let FoundVideo { content, bank, query_percent, banked_percent } = hit;
                found(Match { content, bank, nearness: Nearness::Frames { query_percent, banked_percent } });
            }),
        }
    }
}
