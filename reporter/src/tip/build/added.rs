//! What the platform added about a medium: what is its own, and what is about all of its item.
//!
//! A name and a hash are one file's. Where an item has several, an answer is about one of them only if its hash says
//! which; otherwise they are told of each in words, and given to none.

use index::SignalType;
use index::store::StoreError;

use super::facts::Facts;
use super::file::kept_hashes;
use crate::cyber_tipline::model::{IpCaptureEvent, OriginalFileHash};
use crate::desk::evidence::{State, piece_of};
use crate::desk::ncmec::JobMedia;
use crate::tip::info::{FileHash, MediaInfo};

/// What was added about a medium.
pub struct Added<'i> {
    /// Whose name and hash are this medium's.
    own: Option<&'i MediaInfo>,
    /// What is about the item, and not about another of its media.
    about: Vec<&'i MediaInfo>,
    /// Of these, those with a name or a hash that may be any of its media's.
    nobodys: Vec<&'i MediaInfo>,
    /// What is known of this file's hashes.
    known: Vec<OriginalFileHash>,
}

impl<'i> Added<'i> {
    /// What was added about this medium.
    pub fn of(facts: &Facts<'i>, medium: &JobMedia) -> Result<Self, StoreError> {
        let entries: Vec<&MediaInfo> = match facts.info() {
            Some(info) => info.media.iter().filter(|entry| entry.key == medium.item).collect(),
            None => Vec::new(),
        };
        let known = hashes_of(facts, medium)?;
        let others =
            facts.all.iter().filter(|other| other.item == medium.item && other.number != medium.number);
        let siblings = others.map(|other| hashes_of(facts, other)).collect::<Result<Vec<_>, _>>()?;
        let is_of = |entry: &MediaInfo, known: &[OriginalFileHash]| {
            entry.hash.as_ref().is_some_and(|hash| known.iter().any(|other| same(hash, other)))
        };
        let is_siblings = |entry: &MediaInfo| siblings.iter().any(|known| is_of(entry, known));
        let own = match siblings.is_empty() {
            true => entries.first().copied(),
            false => entries.iter().copied().find(|entry| is_of(entry, &known)),
        };
        let not_siblings: Vec<&MediaInfo> =
            entries.iter().copied().filter(|entry| is_of(entry, &known) || !is_siblings(entry)).collect();
        let is_own = |entry: &MediaInfo| own.is_some_and(|own| std::ptr::eq(own, entry));
        let nobodys = not_siblings.iter().copied().filter(|entry| !is_own(entry)).collect();
        let about = if entries.len() == 1 { entries } else { not_siblings };
        Ok(Self { own, about, nobodys, known })
    }

    /// What the file was called.
    pub fn file_name(&self) -> Option<&'i str> {
        self.own?.file_name.as_deref()
    }

    /// Whether everybody could see it; none where answers differ.
    pub fn publicly_available(&self) -> Option<bool> {
        let mut said = self.about.iter().filter_map(|entry| entry.publicly_available);
        let first = said.next()?;
        said.all(|other| other == first).then_some(first)
    }

    /// What else was said of it; names and hashes of which nobody knows whose they are.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for entry in &self.about {
            lines.extend(entry.additional_info.iter().filter(|line| !line.trim().is_empty()).cloned());
        }
        for entry in &self.nobodys {
            if let Some(name) = &entry.file_name {
                lines.push(format!("One of the item's files was called, by the platform: {name}"));
            }
            if let Some(FileHash { hash, of }) = &entry.hash {
                lines.push(format!("One of the item's files had this {of}, by the platform: {hash}"));
            }
        }
        lines
    }

    /// Where it came from, each address once.
    pub fn events(&self) -> Vec<IpCaptureEvent> {
        let mut events: Vec<IpCaptureEvent> = Vec::new();
        let own =
            self.own.into_iter().filter(|own| self.about.iter().any(|entry| std::ptr::eq(*entry, *own)));
        for event in own.chain(self.about.iter().copied()).flat_map(|entry| &entry.ip_events) {
            if !events.contains(event) {
                events.push(event.clone());
            }
        }
        events
    }

    /// Hashes of it: the platform's own first, each once; and words where the platform's is not that of the file.
    pub fn hashes(&self) -> (Vec<OriginalFileHash>, Option<String>) {
        let Some(own) = self.own.and_then(|own| own.hash.as_ref()) else { return (once(&self.known), None) };
        let first = OriginalFileHash { hash_type: own.of.clone(), text: own.hash.clone() };
        let ours = self.known.iter().find(|known| known.hash_type == own.of);
        let differs = ours.is_some() && !self.known.iter().any(|known| same(own, known));
        let words = ours.filter(|_| differs).map(|ours| {
            format!("The platform's {} is not that of this file, which is {}.", own.of, ours.text)
        });
        (once(&[vec![first], self.known.clone()].concat()), words)
    }
}

/// What is known of a medium's hashes: of its bytes, and those that came with it or were made of it.
fn hashes_of(facts: &Facts<'_>, medium: &JobMedia) -> Result<Vec<OriginalFileHash>, StoreError> {
    let mut known = match piece_of(facts.tx, facts.tip.job, medium.number)?.map(|piece| piece.state) {
        Some(State::Kept(kept)) => kept_hashes(&kept),
        _ => Vec::new(),
    };
    let of = |kind: &SignalType| match kind {
        SignalType::Pdq => Some("PDQ"),
        SignalType::Md5 | SignalType::VideoMd5 => Some("MD5"),
        SignalType::Sha1 => Some("SHA1"),
        SignalType::Sha256 => Some("SHA256"),
        SignalType::Url | SignalType::UrlMd5 | SignalType::RawText | SignalType::Vpdq => None,
    };
    let hashes = medium.signals.iter().filter_map(|(kind, text)| Some((of(kind)?, text)));
    known.extend(hashes.map(|(of, text)| OriginalFileHash { hash_type: of.to_string(), text: text.clone() }));
    Ok(known)
}

fn same(one: &FileHash, other: &OriginalFileHash) -> bool {
    one.of == other.hash_type && one.hash.trim().eq_ignore_ascii_case(&other.text)
}

fn once(hashes: &[OriginalFileHash]) -> Vec<OriginalFileHash> {
    let mut each: Vec<OriginalFileHash> = Vec::new();
    for hash in hashes {
        let known = |known: &OriginalFileHash| {
            known.hash_type == hash.hash_type && known.text.eq_ignore_ascii_case(&hash.text)
        };
        if !each.iter().any(known) {
            each.push(hash.clone());
        }
    }
    each
}
