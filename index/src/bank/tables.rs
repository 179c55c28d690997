//! The snapshots of all signal types, and what is on its way into them.

use crate::rows::Row;
use crate::segment::Entry;
use crate::signal::{BankId, ContentId, Digest, Frame, Hash256, Signal, SignalType};
use crate::snapshot::{ExactSnapshot, PdqSnapshot};
use crate::texts::{NormalText, Texts};
use crate::videos::{NewVideo, VideoRule, Videos};

/// Exact types.
const EXACT: usize = SignalType::EXACT.len();

/// What can be searched: a snapshot for each type. Immutable.
#[derive(Clone, Default)]
pub struct Tables {
    /// PDQ signals.
    pub pdq: PdqSnapshot,
    /// Digests, in the order of [`SignalType::EXACT`].
    pub exact: [ExactSnapshot; EXACT],
    /// Texts.
    pub texts: Texts,
    /// Videos.
    pub videos: Videos,
}

/// Signals to be put into tables, by type.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    /// PDQ signals.
    pub pdq: Vec<Entry<Hash256>>,
    /// Digests, in the order of [`SignalType::EXACT`].
    pub exact: [Vec<Entry<Digest>>; EXACT],
    texts: Vec<Row<NormalText>>,
    videos: Vec<NewVideo>,
}

/// Where an exact type stands among its like; `None` for the others.
fn place(kind: SignalType) -> Option<usize> {
    SignalType::EXACT.iter().position(|exact| *exact == kind)
}

impl Entries {
    /// Adds a signal.
    pub fn push(&mut self, signal: &Signal, content: ContentId, bank: BankId) {
        match (signal, place(signal.kind()), signal.digest()) {
            (_, Some(place), Some(hash)) => self.exact[place].push(Entry { hash, content, bank }),
            (Signal::Pdq(hash), ..) => self.pdq.push(Entry { hash: *hash, content, bank }),
            (Signal::Text(_, text), ..) => {
                self.texts.push(Row { content, bank, value: NormalText::of(text) });
            }
            (Signal::Video(frames), ..) => {
                let hashes = Frame::hashes(frames, VideoRule::default().quality_min);
                self.videos.push(NewVideo { content, bank, hashes });
            }
            (Signal::Exact(..), ..) => {}
        }
    }

    /// Brings what is kept by content into the order of contents.
    pub(super) fn sort_rebuilt(&mut self) {
        self.texts.sort_unstable_by_key(|row| row.content);
        self.videos.sort_unstable_by_key(|video| video.content);
    }
}

impl Tables {
    /// Tables of these entries, in segments of at most so many signals.
    pub fn from_entries(entries: Entries, segment_max: usize) -> Self {
        Self {
            pdq: PdqSnapshot::of(entries.pdq, segment_max),
            exact: entries.exact.map(|exact| ExactSnapshot::of(exact, segment_max)),
            texts: Texts::default().with(&entries.texts),
            videos: Videos::default().with(&entries.videos),
        }
    }

    /// The same tables, whose segments hold at most so many signals from the next merge on.
    pub(super) fn with_segment_max(self, segment_max: usize) -> Self {
        Self {
            pdq: self.pdq.with_segment_max(segment_max),
            exact: self.exact.map(|exact| exact.with_segment_max(segment_max)),
            videos: self.videos.with_segment_max(segment_max),
            ..self
        }
    }

    /// Signals of the type that has most of them not in a segment yet: what slows searches down.
    pub fn unmerged(&self) -> usize {
        let exact = self.exact.iter().map(ExactSnapshot::unmerged);
        exact.chain([self.pdq.unmerged(), self.videos.frames().unmerged()]).max().unwrap_or(0)
    }

    /// The digests of a type that is compared whole.
    pub fn exact(&self, kind: SignalType) -> Option<&ExactSnapshot> {
        self.exact.get(place(kind)?)
    }

    /// Signals of a type that a search can find.
    pub fn len(&self, kind: SignalType) -> usize {
        match kind {
            SignalType::Pdq => self.pdq.len(),
            SignalType::RawText => self.texts.len(),
            SignalType::Vpdq => self.videos.len(),
            kind => self.exact(kind).map_or(0, ExactSnapshot::len),
        }
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.pdq.bytes()
            + self.exact.iter().map(ExactSnapshot::bytes).sum::<usize>()
            + self.texts.bytes()
            + self.videos.bytes()
    }

    /// Bytes that tables and a merge of everything take, at most; `signal` is what an unmerged signal takes then.
    pub(super) fn planned_bytes(&self, signal: usize) -> usize {
        let exact = self.exact.iter().map(|exact| exact.planned_bytes(signal));
        self.pdq.planned_bytes(signal)
            + exact.sum::<usize>()
            + self.texts.bytes()
            + self.videos.planned_bytes(signal)
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
        if !entries.texts.is_empty() {
            self.texts = self.texts.with(&entries.texts);
        }
        if !entries.videos.is_empty() {
            self.videos = self.videos.with(&entries.videos);
        }
    }

    pub(super) fn remove(&mut self, content: ContentId, kinds: &[SignalType]) {
        for kind in kinds {
            match (kind, place(*kind)) {
                (SignalType::RawText, _) => self.texts = self.texts.without(content),
                (SignalType::Vpdq, _) => self.videos = self.videos.without(content),
                (_, Some(place)) => self.exact[place] = self.exact[place].with_removed(&[content]),
                (_, None) => self.pdq = self.pdq.with_removed(&[content]),
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
        if count(SignalType::RawText) > 0 {
            self.texts = self.texts.without_bank(bank);
        }
        if count(SignalType::Vpdq) > 0 {
            self.videos = self.videos.without_bank(bank);
        }
    }
}
