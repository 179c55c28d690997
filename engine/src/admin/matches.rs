//! Matches as our own routes show them.

use index::bank::BankState;
use index::{ContentId, Match, Nearness};
use serde::Serialize;

/// A banked content that a signal matches.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MatchShown {
    /// The bank's name.
    pub bank: String,
    /// The content's id; not told to who may not see how near it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<ContentId>,
    /// Bits, or edits of a text; 0 where signals are compared whole. Of videos absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    distance: Option<u32>,
    /// Share of the query's frames that the banked video has.
    #[serde(skip_serializing_if = "Option::is_none")]
    query_percent: Option<f64>,
    /// Share of the banked video's frames that the query has.
    #[serde(skip_serializing_if = "Option::is_none")]
    banked_percent: Option<f64>,
}

impl MatchShown {
    /// As of this state.
    pub fn new(state: &BankState, hit: &Match) -> Self {
        let bank = state.directory.get(hit.bank).map_or_else(String::new, |bank| bank.name.to_string());
        let (distance, frames) = match hit.nearness {
            Nearness::Bits(distance) => (Some(u32::from(distance.bits())), None),
            Nearness::Same => (Some(0), None),
            Nearness::Edits { edits, .. } => (Some(edits), None),
            Nearness::Frames { query_percent, banked_percent } => {
                (None, Some((query_percent, banked_percent)))
            }
        };
        let (query_percent, banked_percent) = frames.unzip();
        Self { bank, content: Some(hit.content), distance, query_percent, banked_percent }
    }
}

/// What matched one signal, nearest first, up to a limit.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Matches {
    matches: Vec<MatchShown>,
    /// How many there are, listed or not.
    matches_total: usize,
    /// Whether some are not listed.
    truncated: bool,
}

impl Matches {
    /// Leaves of each match its bank, each bank once, in the order of their names.
    pub fn veil(&mut self) {
        for row in &mut self.matches {
            let bank = std::mem::take(&mut row.bank);
            *row =
                MatchShown { bank, content: None, distance: None, query_percent: None, banked_percent: None };
        }
        self.matches.sort_by(|one, other| one.bank.cmp(&other.bank));
        self.matches.dedup();
        (self.matches_total, self.truncated) = (self.matches.len(), false);
    }

    /// What is listed of so many matches.
    pub fn of(state: &BankState, listed: &[Match], total: u32) -> Self {
        let matches = listed.iter().map(|hit| MatchShown::new(state, hit)).collect();
        Self { matches, matches_total: total as usize, truncated: listed.len() < total as usize }
    }
}
