//! The snapshots of all signal types, and what is on its way into them.

use crate::segment::Entry;
use crate::signal::{BankId, ContentId, Digest, Hash256, Signal, SignalType};
use crate::snapshot::{ExactSnapshot, PdqSnapshot};

/// Exact types.
const EXACT: usize = SignalType::EXACT.len();

/// What can be searched: a snapshot for each type. Immutable.
#[derive(Clone, Default)]
pub struct Tables {
    /// PDQ signals.
    pub pdq: PdqSnapshot,
    /// Digests, in the order of [`SignalType::EXACT`].
    pub exact: [ExactSnapshot; EXACT],
}

/// Signals to be put into tables, by type.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    /// PDQ signals.
    pub pdq: Vec<Entry<Hash256>>,
    /// Digests, in the order of [`SignalType::EXACT`].
    pub exact: [Vec<Entry<Digest>>; EXACT],
}

/// Where an exact type stands among its like; `None` for PDQ.
pub(super) fn place(kind: SignalType) -> Option<usize> {
    SignalType::EXACT.iter().position(|exact| *exact == kind)
}

impl Entries {
    /// Adds a signal.
    pub fn push(&mut self, signal: &Signal, content: ContentId, bank: BankId) {
        match *signal {
            Signal::Pdq(hash) => self.pdq.push(Entry { hash, content, bank }),
            Signal::Exact(kind, hash) => {
                if let Some(place) = place(kind) {
                    self.exact[place].push(Entry { hash, content, bank });
                }
            }
        }
    }
}

impl Tables {
    /// Tables of these entries, one segment each.
    pub fn from_entries(entries: Entries) -> Self {
        Self {
            pdq: PdqSnapshot::from_entries(entries.pdq),
            exact: entries.exact.map(ExactSnapshot::from_entries),
        }
    }

    /// The digests of a type; `None` for PDQ.
    pub fn exact(&self, kind: SignalType) -> Option<&ExactSnapshot> {
        self.exact.get(place(kind)?)
    }

    /// Signals of a type that a search can find.
    pub fn len(&self, kind: SignalType) -> usize {
        self.exact(kind).map_or(self.pdq.len(), ExactSnapshot::len)
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.pdq.bytes() + self.exact.iter().map(ExactSnapshot::bytes).sum::<usize>()
    }

    /// Bytes that tables and a merge of everything take, at most; `signal` is what an unmerged signal takes then.
    pub(super) fn planned_bytes(&self, signal: usize) -> usize {
        let exact = self.exact.iter().map(|exact| exact.planned_bytes(signal));
        self.pdq.planned_bytes(signal) + exact.sum::<usize>()
    }

    /// Whether the content was removed and may still take room.
    pub(super) fn remembers_removal(&self, content: ContentId) -> bool {
        self.pdq.remembers_removal(content) || self.exact.iter().any(|exact| exact.remembers_removal(content))
    }

    pub(super) fn add(&mut self, entries: &Entries) {
        if !entries.pdq.is_empty() {
            self.pdq = self.pdq.with_added(&entries.pdq);
        }
        for (exact, entries) in self.exact.iter_mut().zip(&entries.exact) {
            if !entries.is_empty() {
                *exact = exact.with_added(entries);
            }
        }
    }

    pub(super) fn remove(&mut self, content: ContentId, kinds: &[SignalType]) {
        for kind in kinds {
            match place(*kind) {
                None => self.pdq = self.pdq.with_removed(&[content]),
                Some(place) => self.exact[place] = self.exact[place].with_removed(&[content]),
            }
        }
    }

    /// `signals` is how many the bank has, by type.
    pub(super) fn remove_bank(&mut self, bank: BankId, signals: &[u64; SignalType::ALL.len()]) {
        let count = |kind: SignalType| signals[kind.place()] as usize;
        self.pdq = self.pdq.with_bank_removed(bank, count(SignalType::Pdq));
        for (exact, kind) in self.exact.iter_mut().zip(SignalType::EXACT) {
            *exact = exact.with_bank_removed(bank, count(kind));
        }
    }
}
