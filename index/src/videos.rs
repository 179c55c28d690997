//! Banked videos: their frames lie in tables of their own, and a video matches by the share of frames that do.
//!
//! In the tables a frame stands as a content with a number of its own; numbers grow, so a video's frames are neighbours.

use std::collections::BTreeMap;

use crate::Hash256;
use crate::mih::Scratch;
use crate::rows::{Row, Rows};
use crate::segment::Entry;
use crate::signal::{BankId, ContentId, Distance, Frame, SignalType};
use crate::snapshot::{MergeJob, Merged, PdqSnapshot};

/// When two videos are the same (HMA API, signal types: vpdq).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VideoRule {
    /// Frames of less quality do not count.
    pub quality_min: u8,
    /// Bits in which two frames may differ.
    pub distance: Distance,
    /// Share of the query's frames that must be found, in percent; more than 0.
    pub query_percent: f64,
    /// Share of the banked video's frames that must be found, in percent.
    pub banked_percent: f64,
}

impl Default for VideoRule {
    fn default() -> Self {
        let distance = SignalType::Vpdq.threshold();
        Self { quality_min: 50, distance, query_percent: 80.0, banked_percent: 0.0 }
    }
}

impl VideoRule {
    /// The share of its frames that each of two videos has in common with the other, in percent, and whether they are
    /// the same: if it is large enough of either.
    pub fn compare(&self, one: &[Frame], other: &[Frame]) -> (bool, f64, f64) {
        let one = Frame::hashes(one, self.quality_min);
        let other = Frame::hashes(other, self.quality_min);
        let share = |of: &[Hash256], among: &[Hash256]| {
            let near = |hash: &&Hash256| among.iter().any(|other| hash.distance(other) <= self.distance);
            of.iter().filter(near).count() as f64 * 100.0 / of.len().max(1) as f64
        };
        let (query_percent, banked_percent) = (share(&one, &other), share(&other, &one));
        let same = query_percent.max(banked_percent) >= self.query_percent;
        (same, query_percent, banked_percent)
    }
}

/// A banked video that a query is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FoundVideo {
    /// The content.
    pub content: ContentId,
    /// Its bank.
    pub bank: BankId,
    /// Share of the query's frames that it has, in percent.
    pub query_percent: f64,
    /// Share of its frames that the query has, in percent.
    pub banked_percent: f64,
}

/// Where a video's frames are.
#[derive(Clone, Copy, Debug)]
struct Place {
    first: u64,
    frames: u64,
}

/// What a banked video has in common with a query: a bit for each of its frames, however often it is met.
struct Common<'v> {
    row: &'v Row<Place>,
    /// How many of the query's frames it has, and which was the last.
    queried: u64,
    last: Option<usize>,
    banked: Vec<u64>,
}

impl<'v> Common<'v> {
    fn new(row: &'v Row<Place>) -> Self {
        let banked = vec![0; row.value.frames.div_ceil(64) as usize];
        Self { row, queried: 0, last: None, banked }
    }

    fn note(&mut self, queried: usize, number: u64) {
        if self.last != Some(queried) {
            self.last = Some(queried);
            self.queried += 1;
        }
        let frame = number - self.row.value.first;
        self.banked[(frame / 64) as usize] |= 1 << (frame % 64);
    }

    fn banked(&self) -> u64 {
        self.banked.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

/// A video on its way into the tables: the hashes it is matched by.
#[derive(Clone, Debug)]
pub struct NewVideo {
    /// The content.
    pub content: ContentId,
    /// Its bank.
    pub bank: BankId,
    /// See [`Frame::hashes`].
    pub hashes: Vec<Hash256>,
}

/// All banked videos at one moment.
#[derive(Clone, Default)]
pub struct Videos {
    frames: PdqSnapshot,
    rows: Rows<Place>,
    /// Number of the next frame.
    next: u64,
}

impl Videos {
    /// How many.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.frames.bytes() + self.rows.len() * size_of::<Row<Place>>()
    }

    /// The tables of the frames.
    pub fn frames(&self) -> &PdqSnapshot {
        &self.frames
    }

    /// Calls `found` with the banked videos that have enough frames in common with this one, in the order of their contents. A
    /// video without a frame of enough quality matches none.
    pub fn search(
        &self,
        frames: &[Frame],
        rule: &VideoRule,
        scratch: &mut Scratch,
        mut found: impl FnMut(FoundVideo),
    ) {
        let hashes = Frame::hashes(frames, rule.quality_min);
        if hashes.is_empty() || self.is_empty() {
            return;
        }
        let mut common: BTreeMap<ContentId, Common<'_>> = BTreeMap::new();
        for (at, hash) in hashes.iter().enumerate() {
            self.frames.visit(&[*hash], rule.distance, scratch, |frame| {
                let number = frame.content.0;
                let row = self.rows.last_where(|row| row.value.first <= number);
                if let Some(row) = row.filter(|row| number < row.value.first + row.value.frames) {
                    common.entry(row.content).or_insert_with(|| Common::new(row)).note(at, number);
                }
            });
        }
        for common in common.into_values() {
            let Row { content, bank, value } = *common.row;
            let share = |part: u64, of: u64| part as f64 * 100.0 / of as f64;
            let query_percent = share(common.queried, hashes.len() as u64);
            let banked_percent = share(common.banked(), value.frames);
            if query_percent >= rule.query_percent && banked_percent >= rule.banked_percent {
                found(FoundVideo { content, bank, query_percent, banked_percent });
            }
        }
    }

    /// With further videos, in order, younger than all there are.
    pub(crate) fn with(&self, videos: &[NewVideo]) -> Self {
        let mut next = self.next;
        let (mut rows, mut entries) = (Vec::with_capacity(videos.len()), Vec::new());
        for NewVideo { content, bank, hashes } in videos {
            let value = Place { first: next, frames: hashes.len() as u64 };
            rows.push(Row { content: *content, bank: *bank, value });
            let frame = |(number, hash): (u64, &Hash256)| Entry {
                hash: *hash,
                content: ContentId(number),
                bank: *bank,
            };
            entries.extend((next..).zip(hashes).map(frame));
            next += hashes.len() as u64;
        }
        Self { frames: self.frames.with_added(&entries), rows: self.rows.with(&rows), next }
    }

    pub(crate) fn without(&self, content: ContentId) -> Self {
        let (rows, gone) = self.rows.without(content);
        let Some(Row { value: Place { first, frames }, .. }) = gone else { return self.clone() };
        let numbers: Vec<ContentId> = (first..first + frames).map(ContentId).collect();
        let frames =
            if numbers.is_empty() { self.frames.clone() } else { self.frames.with_removed(&numbers) };
        Self { frames, rows, next: self.next }
    }

    pub(crate) fn without_bank(&self, bank: BankId) -> Self {
        let frames: u64 = self.rows.iter().filter(|row| row.bank == bank).map(|row| row.value.frames).sum();
        Self {
            frames: self.frames.with_bank_removed(bank, frames as usize),
            rows: self.rows.without_bank(bank),
            next: self.next,
        }
    }

    pub(crate) fn with_segment_max(self, segment_max: usize) -> Self {
        Self { frames: self.frames.with_segment_max(segment_max), ..self }
    }

    pub(crate) fn with_merged(&self, merged: Merged<Hash256>) -> Self {
        Self { frames: self.frames.with_merged(merged), ..self.clone() }
    }

    pub(crate) fn plan_merge(&self, idle: bool) -> Option<MergeJob<Hash256>> {
        self.frames.plan_merge().or_else(|| if idle { self.frames.plan_idle_merge() } else { None })
    }

    pub(crate) fn planned_bytes(&self, signal: usize) -> usize {
        self.frames.planned_bytes(signal) + self.rows.len() * size_of::<Row<Place>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A hash that differs from another shade's in 24 bits a step: neighbours match, others do not.
    fn frame((shade, quality): (u8, u8)) -> Frame {
        let mut hash = [0; 32];
        hash[..usize::from(shade) * 3].fill(0xff);
        Frame { hash: Hash256(hash), quality, time_ms: 0 }
    }

    fn frames() -> impl Strategy<Value = Vec<Frame>> {
        prop::collection::vec((0u8..10, prop_oneof![Just(49u8), Just(50), Just(100)]).prop_map(frame), 0..8)
    }

    proptest! {
        #[test]
        fn the_search_finds_what_comparing_frame_by_frame_finds(
            videos in prop::collection::vec(frames(), 0..8), query in frames(), gone in 0usize..8,
            query_percent in prop_oneof![Just(1.0), Just(50.0), Just(80.0), Just(100.0)],
            banked_percent in prop_oneof![Just(0.0), Just(40.0)],
        ) {
            let rule = VideoRule { query_percent, banked_percent, ..VideoRule::default() };
            let new = |(at, frames): (usize, &Vec<Frame>)| NewVideo {
                content: ContentId(at as u64), bank: BankId(1), hashes: Frame::hashes(frames, rule.quality_min),
            };
            let mut banked = Videos::default();
            for video in videos.iter().enumerate().map(new) {
                banked = banked.with(&[video]);
            }
            banked = banked.without(ContentId(gone as u64));
            let mut found = Vec::new();
            banked.search(&query, &rule, &mut Scratch::default(), |hit| found.push(hit));
            let queried = Frame::hashes(&query, 50);
            let expected: Vec<FoundVideo> = videos.iter().enumerate().filter(|(at, _)| *at != gone).filter_map(|(at, video)| {
                let video = Frame::hashes(video, 50);
                if queried.is_empty() || video.is_empty() {
                    return None;
                }
                let whole = |hashes: &[Hash256]| -> Vec<Frame> {
                    hashes.iter().map(|hash| Frame { hash: *hash, quality: 100, time_ms: 0 }).collect()
                };
                let (_, query_percent, banked_percent) = rule.compare(&whole(&queried), &whole(&video));
                let same = query_percent > 0.0 && query_percent >= rule.query_percent && banked_percent >= rule.banked_percent;
                same.then_some(FoundVideo { content: ContentId(at as u64), bank: BankId(1), query_percent, banked_percent })
            }).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
