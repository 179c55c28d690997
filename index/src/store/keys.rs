//! Layouts of keys and values, in one place. Keys are big-endian, so that byte order is number order.
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | `bank_meta`, `case_meta` | ASCII name | u64 (counters, cursors) |
//! | `banks` | bank u32 | JSON row, version 1: `BankRecord` |
//! | `contents` | bank u32 ‖ content u64 | content row, version 1 or 2 (see [`encode_content`]) |
//! | `rebuilt` | bank u32 ‖ content u64 | nothing: the content has signals of a type that [`SignalType::is_rebuilt`] |
//! | `paused` | bank u32 ‖ content u64 | u64: the second since 1970 from which the content matches again, 0 for never |
//! | `imported` | bank u32 ‖ the record's key | content u64 |
//! | `exchanges`, `credentials` | owned by `engine` | owned by `engine` |
//! | `removed` | content u64 | removed row, version 1 (see [`encode_removed`]) |
//! | `history` | `a` ‖ first content u64, `c` ‖ content u64 ‖ generation u64, or `b` ‖ bank u32 ‖ generation u64 | JSON row, version 1: `Event` |
//! | `bank_requests`, `case_requests` | request id, 16 bytes | u8 version 1 ‖ answer bytes |
//! | `hits` | position u64 | JSON row, version 1: `Hit` |
//! | `queue_entries` | of format 1; emptied when it is found | |
//! | `items`, `intake`, `policy`, `evaluations`, `jobs`, `decisions`, `outbox`, `people`, `audit`, `evidence` | owned by `reporter` | owned by `reporter` |
//! | `recent` | owned by `engine` | owned by `engine` |
//!
//! A *JSON row* is one version byte, then JSON. Unknown fields are ignored and missing ones take their
//! default, so the version changes only when the meaning of a field does. A row whose version is newer
//! than the program's is an error, never a guess.
//!
//! These are the rows as their owners see them. `engine` seals most of them on their way to the disk, from format 3 on.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Keyspace, StoreError};
use crate::hit::{Hit, Position};
use crate::signal::{BankId, ContentId, Generation, Signal, SignalType};

/// Newest on-disk format this program writes and reads; the data directory's `FORMAT` file holds it.
pub const FORMAT: u32 = 4;
/// Oldest format whose rows this program reads as they are. The rows of older ones are not sealed.
pub const FORMAT_READ_MIN: u32 = 3;
/// Key of the bank generation in `bank_meta`.
pub const GENERATION_KEY: &[u8] = b"generation";
/// Key of the last bank id given out.
pub const LAST_BANK_KEY: &[u8] = b"last_bank";
/// Key of the list of stored segments in `bank_meta`: a JSON row owned by `bank::stored`.
pub const SEGMENTS_KEY: &[u8] = b"segments";
/// Key of the last content id given out.
pub const LAST_CONTENT_KEY: &[u8] = b"last_content";

const ROW_VERSION: u8 = 1;
/// A content row with metadata.
const WITH_METADATA: u8 = 2;

/// Key of a bank.
pub fn bank_key(bank: BankId) -> [u8; 4] {
    bank.0.to_be_bytes()
}

/// Reads [`bank_key`].
pub fn read_bank_key(key: &[u8]) -> Result<BankId, StoreError> {
    let bytes = key.try_into().map_err(|_| wrong(Keyspace::Banks, "a key is 4 bytes"))?;
    Ok(BankId(u32::from_be_bytes(bytes)))
}

/// Key of what an exchange's record became.
pub fn imported_key(bank: BankId, record: &[u8]) -> Vec<u8> {
    [&bank.0.to_be_bytes()[..], record].concat()
}

/// Key of a banked content. Contents of a bank are neighbours, so that a bank goes by one range.
pub fn content_key(bank: BankId, content: ContentId) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&bank.0.to_be_bytes());
    key[4..].copy_from_slice(&content.0.to_be_bytes());
    key
}

/// Reads [`content_key`].
pub fn read_content_key(key: &[u8]) -> Result<(BankId, ContentId), StoreError> {
    let key: &[u8; 12] = key.try_into().map_err(|_| wrong(Keyspace::Contents, "a key is 12 bytes"))?;
    let (bank, content) = key.split_at(4);
    let (bank, content) = (bank.try_into(), content.try_into());
    match (bank, content) {
        (Ok(bank), Ok(content)) => {
            Ok((BankId(u32::from_be_bytes(bank)), ContentId(u64::from_be_bytes(content))))
        }
        _ => Err(wrong(Keyspace::Contents, "a key is 12 bytes")),
    }
}

/// Row of a banked content: version u8, number of signals u8, then per signal its type u8 and its bytes (where the
/// type does not say how many, their number u32 before them),
/// then the note (UTF-8, may be empty) to the end. 34 bytes for a PDQ hash without a note. With metadata it is
/// version 2, and the note's length u16 stands before the note, the metadata behind it.
pub fn encode_content(signals: &[Signal], about: &About<'_>) -> Vec<u8> {
    let About { note, metadata } = about;
    let mut row = Vec::with_capacity(4 + signals.len() * 33 + note.len() + metadata.len());
    row.push(if metadata.is_empty() { ROW_VERSION } else { WITH_METADATA });
    row.push(signals.len() as u8);
    for signal in signals {
        row.push(signal.kind() as u8);
        if signal.kind().bytes().is_some() {
            signal.write(&mut row);
        } else {
            let before = row.len();
            row.extend_from_slice(&[0; 4]);
            signal.write(&mut row);
            let length = (row.len() - before - 4) as u32;
            row[before..before + 4].copy_from_slice(&length.to_be_bytes());
        }
    }
    if !metadata.is_empty() {
        row.extend_from_slice(&(note.len() as u16).to_be_bytes());
    }
    row.extend_from_slice(note.as_bytes());
    row.extend_from_slice(metadata.as_bytes());
    row
}

/// What is said about a content besides its signals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct About<'a> {
    /// A note for people; may be empty.
    pub note: &'a str,
    /// A JSON object, or empty.
    pub metadata: &'a str,
}

/// Reads [`encode_content`]: the signals go to `signals` (cleared first), the rest is returned.
pub fn decode_content<'a>(row: &'a [u8], signals: &mut Vec<Signal>) -> Result<About<'a>, StoreError> {
    let bad = |reason: &str| wrong(Keyspace::Contents, reason);
    signals.clear();
    let (&[version, count], mut rest) =
        row.split_first_chunk::<2>().ok_or_else(|| bad("a row is 2 bytes or more"))?;
    if version != ROW_VERSION && version != WITH_METADATA {
        return Err(bad(&format!("version {version} is neither {ROW_VERSION} nor {WITH_METADATA}")));
    }
    for _ in 0..count {
        let (&kind, after) = rest.split_first().ok_or_else(|| bad("a signal is missing"))?;
        let kind =
            SignalType::from_number(kind).ok_or_else(|| bad(&format!("signal type {kind} is unknown")))?;
        let cut = || bad("a signal is cut");
        let (length, after) = match kind.bytes() {
            Some(length) => (length, after),
            None => {
                let (length, after) = after.split_first_chunk().ok_or_else(cut)?;
                (u32::from_be_bytes(*length) as usize, after)
            }
        };
        let (bytes, after) = after.split_at_checked(length).ok_or_else(cut)?;
        signals.push(Signal::from_bytes(kind, bytes).map_err(|error| bad(&error.to_string()))?);
        rest = after;
    }
    let (note, metadata) = if version == WITH_METADATA {
        let (length, rest) = rest.split_first_chunk().ok_or_else(|| bad("the note's length is cut"))?;
        let length = usize::from(u16::from_be_bytes(*length));
        rest.split_at_checked(length).ok_or_else(|| bad("the note is cut"))?
    } else {
        (rest, &[][..])
    };
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| bad("its note or metadata is not UTF-8"));
    Ok(About { note: text(note)?, metadata: text(metadata)? })
}

/// Whether a row of contents holds nothing but hashes and digests: no note, no metadata, no text of anybody's.
pub fn is_bare_content(row: &[u8]) -> bool {
    let Some((&[ROW_VERSION, count], mut rest)) = row.split_first_chunk::<2>() else { return false };
    for _ in 0..count {
        let signal = rest.split_first().and_then(|(kind, after)| {
            after.get(SignalType::from_number(*kind)?.bytes()?..) // of a text no length is known
        });
        let Some(after) = signal else { return false };
        rest = after;
    }
    rest.is_empty()
}

/// A content that was removed: what must be subtracted from stored segments and counts older than that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedContent {
    /// Which.
    pub content: ContentId,
    /// The bank it lay in.
    pub bank: BankId,
    /// The state that first shows it gone.
    pub generation: Generation,
    /// Of which types it had signals.
    pub kinds: Vec<SignalType>,
}

/// Key of a removed content.
pub fn removed_key(content: ContentId) -> [u8; 8] {
    encode_u64(content.0)
}

/// Row of a removed content: version u8, bank u32, generation u64, then a u8 for each type it had a signal of.
pub fn encode_removed(removed: &RemovedContent) -> Vec<u8> {
    let mut row = vec![ROW_VERSION];
    row.extend_from_slice(&removed.bank.0.to_be_bytes());
    row.extend_from_slice(&removed.generation.0.to_be_bytes());
    row.extend(removed.kinds.iter().map(|kind| *kind as u8));
    row
}

/// Reads [`encode_removed`].
pub fn decode_removed(key: &[u8], row: &[u8]) -> Result<RemovedContent, StoreError> {
    let bad = |reason: &str| wrong(Keyspace::Removed, reason);
    let content = ContentId(decode_u64(Keyspace::Removed, key)?);
    let (&[version], row) = row.split_first_chunk().ok_or_else(|| bad("it is empty"))?;
    if version != ROW_VERSION {
        return Err(bad(&format!("version {version} is not {ROW_VERSION}")));
    }
    let (bank, row) = row.split_first_chunk().ok_or_else(|| bad("the bank is cut"))?;
    let (generation, kinds) = row.split_first_chunk().ok_or_else(|| bad("the generation is cut"))?;
    let kind = |number: &u8| SignalType::from_number(*number).ok_or_else(|| bad("a type is unknown"));
    Ok(RemovedContent {
        content,
        bank: BankId(u32::from_be_bytes(*bank)),
        generation: Generation(u64::from_be_bytes(*generation)),
        kinds: kinds.iter().map(kind).collect::<Result<_, _>>()?,
    })
}

/// Key of a hit.
pub fn hit_key(position: Position) -> [u8; 8] {
    encode_u64(position.0)
}

/// Row of a hit.
pub fn encode_hit(hit: &Hit) -> Vec<u8> {
    json_row(ROW_VERSION, hit)
}

/// Reads [`encode_hit`].
pub fn decode_hit(row: &[u8]) -> Result<Hit, StoreError> {
    read_json_row(Keyspace::Hits, ROW_VERSION, row)
}

/// Key of a stage's cursor in `case_meta`: what it has read of the log before it.
pub fn cursor_key(stage: &str) -> Vec<u8> {
    format!("cursor/{stage}").into_bytes()
}

/// A number as a row, or as a key that sorts.
pub fn encode_u64(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// Reads [`encode_u64`].
pub fn decode_u64(space: Keyspace, row: &[u8]) -> Result<u64, StoreError> {
    let bytes = row.try_into().map_err(|_| wrong(space, "a number is 8 bytes"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// A value as a JSON row.
pub fn json_row(version: u8, value: &impl Serialize) -> Vec<u8> {
    let mut row = vec![version];
    // Rows are structs with string keys, written to memory: neither of serde_json's errors can occur.
    serde_json::to_writer(&mut row, value).expect("a row is a struct with string keys");
    row
}

/// Reads [`json_row`].
pub fn read_json_row<T: DeserializeOwned>(space: Keyspace, version: u8, row: &[u8]) -> Result<T, StoreError> {
    match row.split_first() {
        Some((&found, json)) if found == version => {
            serde_json::from_slice(json).map_err(|error| wrong(space, &error.to_string()))
        }
        Some((found, _)) => Err(wrong(space, &format!("version {found} is not {version}"))),
        None => Err(wrong(space, "it is empty")),
    }
}

/// A row that does not read as its layout says.
pub fn wrong(space: Keyspace, reason: &str) -> StoreError {
    StoreError::Row { keyspace: space.name(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::{Digest, Hash256};

    #[test]
    fn a_content_row_reads_back() {
        let signals = [
            Signal::Pdq(Hash256([7; 32])),
            Signal::Exact(SignalType::VideoMd5, Digest::new(&[9; 16]).unwrap()),
            Signal::parse(SignalType::RawText, "some words").unwrap(),
        ];
        let mut back = Vec::new();
        for (note, metadata) in
            [("from a partner", ""), ("from a partner", r#"{"content_id":"1"}"#), ("", "{}")]
        {
            let about = About { note, metadata };
            let row = encode_content(&signals, &about);
            assert_eq!(decode_content(&row, &mut back).unwrap(), about);
            assert_eq!(back, signals);
            for cut in 0..row.len() - note.len() - metadata.len() {
                assert!(decode_content(&row[..cut], &mut back).is_err(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_content_of_hashes_alone_is_told_from_one_with_words() {
        let hash = Signal::Pdq(Hash256([7; 32]));
        let digest = Signal::Exact(SignalType::VideoMd5, Digest::new(&[9; 16]).unwrap());
        let text = Signal::parse(SignalType::RawText, "some words").unwrap();
        let row = |signals: &[Signal], note, metadata| encode_content(signals, &About { note, metadata });
        assert!(is_bare_content(&row(&[hash.clone(), digest.clone()], "", "")));
        assert!(!is_bare_content(&row(&[hash.clone(), text], "", "")));
        let both = [hash, digest];
        assert!(!is_bare_content(&row(&both[..1], "n", "")));
        assert!(!is_bare_content(&row(&both[..1], "", "{}")));
        let whole = row(&both, "", "");
        (0..whole.len()).for_each(|cut| assert!(!is_bare_content(&whole[..cut]), "cut at {cut}"));
    }

    #[test]
    fn a_removed_row_reads_back() {
        let removed = RemovedContent {
            content: ContentId(5),
            bank: BankId(6),
            generation: Generation(7),
            kinds: vec![SignalType::VideoMd5, SignalType::Pdq],
        };
        let row = encode_removed(&removed);
        assert_eq!(decode_removed(&removed_key(ContentId(5)), &row).unwrap(), removed);
        (0..13).for_each(|cut| assert!(decode_removed(&removed_key(ContentId(5)), &row[..cut]).is_err()));
    }

    #[test]
    fn keys_sort_as_their_numbers_do() {
        assert!(content_key(BankId(1), ContentId(u64::MAX)) < content_key(BankId(2), ContentId(0)));
        assert!(hit_key(Position(255)) < hit_key(Position(256)));
        assert_eq!(
            read_content_key(&content_key(BankId(3), ContentId(4))).unwrap(),
            (BankId(3), ContentId(4))
        );
    }

    #[test]
    fn a_newer_row_is_refused_not_guessed() {
        let error = read_json_row::<u64>(Keyspace::Hits, 1, &json_row(2, &5u64)).unwrap_err();
        assert!(error.to_string().contains("version 2 is not 1"), "{error}");
    }
}
