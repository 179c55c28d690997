//! A sealed file that is read from anywhere: a head, then chunks of 64 KiB, each sealed for its place.
//!
//! AES-256-GCM under a key that no other file has. A chunk's nonce is its number and whether it is the last, and its
//! additional data the file's id: so a chunk that is changed, moved, left out or of another file does not open, and a
//! file that was cut at a chunk ends with one that is not the last. Only an empty file has an empty last chunk, so there
//! is one way to write each.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::BlobId;
use crate::secrets::KEY;

/// Bytes of a chunk before it is sealed; it is what a reader holds.
pub const CHUNK: usize = 64 << 10;
const TAG: usize = 16;
const SEALED: usize = CHUNK + TAG;
/// Chunks that are written before they are brought to the disk: a long film that is synced at its end alone would keep
/// everybody else's syncs waiting.
const SYNCED: u64 = 1024;
/// The last byte is the version.
const HEAD: &[u8; 8] = b"hwevid\0\x01";

fn cipher(key: &[u8; KEY]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("a key of this length"))
}

fn nonce(number: u64, last: bool) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[0] = u8::from(last);
    nonce[NONCE_LEN - 8..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// Seals what is written.
pub struct BlobWriter {
    file: File,
    id: BlobId,
    cipher: LessSafeKey,
    /// What is not written yet: it is the last chunk, unless more comes.
    held: Vec<u8>,
    number: u64,
}

impl BlobWriter {
    /// Writes into a fresh file, under a key that nothing else was sealed with.
    pub fn new(mut file: File, id: BlobId, key: &[u8; KEY]) -> io::Result<Self> {
        file.write_all(HEAD)?;
        Ok(Self { file, id, cipher: cipher(key), held: Vec::with_capacity(SEALED), number: 0 })
    }

    /// Takes more.
    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.held.len() == CHUNK {
                self.flush(false)?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - self.held.len()));
            self.held.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Writes the last chunk, and all of it to the disk.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush(true)?;
        self.file.sync_all()
    }

    fn flush(&mut self, last: bool) -> io::Result<()> {
        self.cipher
            .seal_in_place_append_tag(nonce(self.number, last), Aad::from(self.id.0), &mut self.held)
            .map_err(|_| io::Error::other("sealing failed"))?;
        self.file.write_all(&self.held)?;
        self.held.clear();
        self.number += 1;
        if self.number.is_multiple_of(SYNCED) { self.file.sync_data() } else { Ok(()) }
    }
}

/// Reads a sealed file; errors of kind `InvalidData` say that it is not as it was written.
pub struct BlobReader {
    file: File,
    id: BlobId,
    cipher: LessSafeKey,
    bytes: u64,
    /// Where the next byte is read.
    at: u64,
    /// The chunk that was opened last, and its number.
    open: Vec<u8>,
    number: Option<u64>,
}

impl BlobReader {
    /// Opens a file, and its last chunk: from then on its length is known for sure.
    pub fn open(file: File, id: BlobId, key: &[u8; KEY]) -> io::Result<Self> {
        let stored = file.metadata()?.len();
        let mut head = [0; HEAD.len()];
        if stored < (HEAD.len() + TAG) as u64 {
            return Err(damaged("it is cut"));
        }
        file.read_exact_at(&mut head, 0)?;
        if &head != HEAD {
            return Err(damaged("its head is not as it was written"));
        }
        let stored = stored - HEAD.len() as u64;
        let chunks = stored.div_ceil(SEALED as u64);
        let rest = stored - (chunks - 1) * SEALED as u64;
        if rest < TAG as u64 || (rest == TAG as u64 && chunks > 1) {
            return Err(damaged("it is cut"));
        }
        let bytes = stored - chunks * TAG as u64;
        let (open, number) = (Vec::with_capacity(SEALED), None);
        let mut reader = Self { file, id, cipher: cipher(key), bytes, at: 0, open, number };
        reader.load(chunks - 1)?;
        Ok(reader)
    }

    /// Its length.
    pub fn length(&self) -> u64 {
        self.bytes
    }

    fn load(&mut self, number: u64) -> io::Result<()> {
        if self.number == Some(number) {
            return Ok(());
        }
        self.number = None;
        let begin = number * CHUNK as u64;
        let length = (self.bytes - begin).min(CHUNK as u64);
        self.open.resize(length as usize + TAG, 0);
        self.file.read_exact_at(&mut self.open, HEAD.len() as u64 + number * SEALED as u64)?;
        let last = begin + length == self.bytes;
        let opened =
            self.cipher.open_in_place(nonce(number, last), Aad::from(self.id.0), &mut self.open).is_ok();
        if !opened {
            self.open.clear(); // what did not open must not be read
            return Err(damaged(&format!("its chunk {number} does not open")));
        }
        self.open.truncate(length as usize);
        self.number = Some(number);
        Ok(())
    }
}

impl Read for BlobReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.bytes || into.is_empty() {
            return Ok(0);
        }
        self.load(self.at / CHUNK as u64)?;
        let from = &self.open[(self.at % CHUNK as u64) as usize..];
        let count = from.len().min(into.len());
        into[..count].copy_from_slice(&from[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for BlobReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.bytes.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "before the beginning"))?;
        Ok(self.at)
    }
}

fn damaged(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_string())
}
