//! Banked texts: all are looked at, most of them only by their length and letters.

use std::sync::Arc;

use crate::rows::{Row, Rows};
use crate::signal::text::{edits, normal};
use crate::signal::{BankId, ContentId};

/// Counters of a text's letters.
const LETTERS: usize = 32;

/// A banked text that a query is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundText {
    /// The content.
    pub content: ContentId,
    /// Its bank.
    pub bank: BankId,
    /// Edits between the normal forms.
    pub edits: u32,
    /// Letters of the banked normal form.
    pub letters: u32,
}

/// A text as it is searched.
#[derive(Clone, Debug)]
pub struct NormalText {
    letters: Arc<[char]>,
    /// How many letters fall on each counter: texts that differ much here differ much.
    counts: [u8; LETTERS],
}

impl NormalText {
    /// Of a text as it was banked or asked for.
    pub fn of(text: &str) -> Self {
        let letters = normal(text);
        let mut counts = [0u8; LETTERS];
        for letter in &letters {
            let counter = &mut counts[*letter as usize % LETTERS];
            *counter = counter.saturating_add(1);
        }
        Self { letters: letters.into(), counts }
    }

    /// Whether nothing is left of it to tell it by.
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// Fewer edits than this cannot make one text the other. A full counter says nothing.
    fn edits_min(&self, other: &Self) -> u32 {
        let (mut more, mut less) = (0u32, 0u32);
        for (one, other) in self.counts.iter().zip(&other.counts) {
            if *one < u8::MAX && *other < u8::MAX {
                more += u32::from(one.saturating_sub(*other));
                less += u32::from(other.saturating_sub(*one));
            }
        }
        more.max(less)
    }
}

/// All banked texts at one moment.
#[derive(Clone, Default)]
pub struct Texts {
    rows: Rows<NormalText>,
    /// Letters of all of them.
    letters: usize,
}

impl Texts {
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
        self.rows.len() * size_of::<Row<NormalText>>() + self.letters * size_of::<char>()
    }

    /// Calls `found` with the banked texts that differ from this one by at most so many percent of their own letters (as HMA
    /// counts; 5 is usual), in the order of their contents.
    pub fn search(&self, text: &NormalText, percent: u8, mut found: impl FnMut(FoundText)) {
        if text.is_empty() {
            return;
        }
        for row in self.rows.iter() {
            let banked = &row.value;
            let most = banked.letters.len() * usize::from(percent) / 100;
            if banked.letters.len().abs_diff(text.letters.len()) > most
                || banked.edits_min(text) as usize > most
            {
                continue;
            }
            if let Some(edits) = edits(&banked.letters, &text.letters, most) {
                let (edits, letters) = (edits as u32, banked.letters.len() as u32);
                found(FoundText { content: row.content, bank: row.bank, edits, letters });
            }
        }
    }

    pub(crate) fn with(&self, rows: &[Row<NormalText>]) -> Self {
        Self { rows: self.rows.with(rows), letters: self.letters + letters(rows.iter()) }
    }

    pub(crate) fn without(&self, content: ContentId) -> Self {
        let (rows, gone) = self.rows.without(content);
        Self { rows, letters: self.letters - letters(gone.iter()) }
    }

    pub(crate) fn without_bank(&self, bank: BankId) -> Self {
        let rows = self.rows.without_bank(bank);
        Self { letters: letters(rows.iter()), rows }
    }
}

fn letters<'r>(rows: impl Iterator<Item = &'r Row<NormalText>>) -> usize {
    rows.map(|row| row.value.letters.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn the_search_finds_what_comparing_with_each_finds(
            texts in proptest::collection::vec("[ab c!]{0,40}", 0..12), query in "[ab c]{0,40}", percent in 1u8..40,
        ) {
            let rows = texts.iter().enumerate().map(|(at, text)| Row {
                content: ContentId(at as u64), bank: BankId(1), value: NormalText::of(text),
            });
            let banked = Texts::default().with(&rows.collect::<Vec<_>>());
            let mut found = Vec::new();
            banked.search(&NormalText::of(&query), percent, |hit| found.push(hit));
            let query = normal(&query);
            let expected = texts.iter().enumerate().filter_map(|(at, text)| {
                let text = normal(text);
                let all = edits(&text, &query, usize::MAX / 2).unwrap_or_default();
                let alike = !query.is_empty() && all * 100 <= text.len() * usize::from(percent);
                alike.then_some((at as u64, all as u32))
            });
            let found: Vec<(u64, u32)> = found.iter().map(|hit| (hit.content.0, hit.edits)).collect();
            proptest::prop_assert_eq!(found, expected.collect::<Vec<_>>());
        }
    }
}
