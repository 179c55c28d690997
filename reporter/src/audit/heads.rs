//! Signed heads: where the log ended at some time, with a signature, a line of JSON each, in a file that lies elsewhere.
//!
//! How a signature is made and seen to be genuine comes in from who has keys. A line has one form only: one byte that
//! differs makes it a bad line, or one whose signature is not genuine.

use std::io::{BufRead, Read};

use serde::{Deserialize, Serialize};

use super::tree::TreeHash;
use super::{Hex, RecordHash};

/// Whether a signature of these bytes is genuine.
pub type Genuine<'a> = dyn Fn(&[u8], &Hex<64>) -> bool + 'a;

const DOMAIN: &[u8] = b"hashward audit log 1: head\0";
/// Of a head with a tree.
const DOMAIN_TREE: &[u8] = b"hashward audit log 2: head with tree\0";
/// A line has half of it.
const LINE_BYTES_MAX: u64 = 1024;

/// Where the log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its last record then.
    pub number: u64,
    /// That record's hash.
    pub hash: RecordHash,
    /// The Merkle tree of all records up to it; none in heads from before there were trees.
    pub root: Option<TreeHash>,
    /// When it was signed, in milliseconds since 1970 (UTC).
    pub at_ms: u64,
}

/// A head that the holder of the key has signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedHead {
    /// See [`Head::number`]; so the others of the same name.
    pub number: u64,
    /// That record's hash.
    pub hash: RecordHash,
    /// See [`Head::root`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<TreeHash>,
    /// When it was signed.
    pub at_ms: u64,
    /// Of [`Head::signed_bytes`].
    pub signature: Hex<64>,
}

impl Head {
    /// What is signed: all of it has a fixed length.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let (number, at_ms) = (self.number.to_be_bytes(), self.at_ms.to_be_bytes());
        match &self.root {
            Some(root) => [DOMAIN_TREE, &number, &self.hash.0, &root.0, &at_ms].concat(),
            None => [DOMAIN, &number, &self.hash.0, &at_ms].concat(),
        }
    }

    /// This head with its signature.
    pub fn signed(self, sign: impl FnOnce(&[u8]) -> Hex<64>) -> SignedHead {
        let signature = sign(&self.signed_bytes());
        let Head { number, hash, root, at_ms } = self;
        SignedHead { number, hash, root, at_ms, signature }
    }
}

impl SignedHead {
    /// What it says, whether it is true or not.
    pub fn head(&self) -> Head {
        Head { number: self.number, hash: self.hash, root: self.root, at_ms: self.at_ms }
    }

    /// Its line, with the end of line.
    pub fn line(&self) -> String {
        let Self { number, hash, root, at_ms, signature } = self;
        let root = root.map(|root| format!(r#""root":"{root}","#)).unwrap_or_default();
        format!(r#"{{"number":{number},"hash":"{hash}",{root}"at_ms":{at_ms},"signature":"{signature}"}}"#)
            + "\n"
    }
}

/// A head and its place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// From 1.
    pub line: u64,
    /// What it says.
    pub head: SignedHead,
}

impl Line {
    /// Its head, if that is signed with the key.
    pub(super) fn genuine(self, genuine: &Genuine<'_>) -> Result<SignedHead, BadLine> {
        let Self { line, head } = self;
        if genuine(&head.head().signed_bytes(), &head.signature) {
            return Ok(head);
        }
        let reason = "is not signed with this key: the line was changed, or it is another key".to_string();
        Err(BadLine { line, reason })
    }
}

/// A line that is no head.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the heads file {reason}")]
pub struct BadLine {
    /// From 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads a file of heads, a line at a time.
#[derive(Debug)]
pub struct Heads<R> {
    from: R,
    line: u64,
    ended: bool,
    torn: bool,
}

impl<R: BufRead> Heads<R> {
    /// Reads from its beginning.
    pub fn new(from: R) -> Self {
        Self { from, line: 0, ended: false, torn: false }
    }

    /// Whether the last line, now that it is read, was cut short: a crash while it was written does that. It counts as not
    /// there.
    pub fn torn(&self) -> bool {
        self.torn
    }

    fn bad<T>(&mut self, reason: impl Into<String>) -> Option<Result<T, BadLine>> {
        Some(Err(BadLine { line: self.line, reason: reason.into() }))
    }
}

impl<R: BufRead> Iterator for Heads<R> {
    type Item = Result<Line, BadLine>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let mut bytes = Vec::new();
        let read = self.from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes);
        if let Err(error) = read {
            (self.ended, self.line) = (true, self.line + 1);
            return self.bad(format!("cannot be read: {error}"));
        }
        if bytes.is_empty() {
            self.ended = true;
            return None;
        }
        self.line += 1;
        let whole = bytes.pop_if(|last| *last == b'\n').is_some();
        self.ended = !whole;
        if !whole && bytes.len() as u64 == LINE_BYTES_MAX {
            return self.bad("is too long for one");
        }
        let given = serde_json::Deserializer::from_slice(&bytes).into_iter::<SignedHead>().next();
        let head = match given {
            Some(Ok(head)) => head,
            // What a crash leaves is the beginning of a line, and nothing besides.
            Some(Err(error)) if !whole && error.is_eof() => {
                self.torn = true;
                return None;
            }
            Some(Err(error)) => return self.bad(format!("is no signed head: {error}")),
            None => return self.bad("is empty"),
        };
        // The same head in other bytes was not written here.
        if head.line().as_bytes().strip_suffix(b"\n") != Some(&bytes[..]) {
            return self.bad("is not as it was written");
        }
        Some(Ok(Line { line: self.line, head }))
    }
}
