//! Signs where the audit log ends, from time to time and when the program ends, and writes it into a file that may lie on
//! another disk: what was signed cannot be changed or cut unseen, by whoever can write the database.
//!
//! Nothing is signed over a log that does not bear out the last signed head: that would hide what happened to it. A torn
//! last line of the file, which a crash leaves, is taken away before the next is written; other lines are never touched.

mod key;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use index::store::whole_file::{Readers, sync_folder_of};
use index::store::{Store, StoreError};
use reporter::Tx;
use reporter::audit::{self, BadLine, Head, Heads, SignedHead, TreeHash};

use crate::clock::now_ms;

pub use key::{AuditKey, is_genuine, public_file, read_public};

/// Name of the heads file in the data directory.
pub const HEADS_FILE: &str = "audit-heads.ndjson";
/// Name of the key file in the data directory.
pub const KEY_FILE: &str = "audit.key";

/// How far the log is signed.
#[derive(Debug, Default)]
pub struct AuditCounts {
    last: Mutex<Option<SignedHead>>,
    /// Times that a head could not be signed or written, since start.
    pub failures: AtomicU64,
}

impl AuditCounts {
    /// The last signed head.
    pub fn last(&self) -> Option<SignedHead> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, head: Option<SignedHead>) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = head;
    }
}

/// Why nothing is signed. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The log cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file cannot be written or read.
    #[error(
        "the heads file {path} cannot be written or read ({reason}): mend it, or give another by --audit-heads"
    )]
    File {
        /// Where.
        path: String,
        /// The system's words.
        reason: io::Error,
    },
    /// A line of the file is no head.
    #[error("{0}: run `hashward check --audit`, find out who changed it, then move the file away")]
    Line(#[from] BadLine),
    /// The last head was signed with another key.
    #[error(
        "the last head was not signed with this key: restore the key file, or move the heads file away and keep it with \
         the old public key"
    )]
    OtherKey,
    /// The log does not hold what was signed.
    #[error(
        "the audit log does not hold record {number} as it was signed: it was cut, rewritten or restored from a backup; \
         run `hashward check --audit`, and when you know why, move the heads file away"
    )]
    NotBorneOut {
        /// The signed record.
        number: u64,
    },
}

/// What signs.
pub struct AuditSigner {
    /// The case database.
    pub store: Arc<dyn Store>,
    /// The key.
    pub key: AuditKey,
    /// The heads file.
    pub file: PathBuf,
    /// Who may read it.
    pub readers: Readers,
    /// How often it is looked whether the log has grown.
    pub every: Duration,
    /// Told of each head.
    pub counts: Arc<AuditCounts>,
}

/// Keeps the thread going; when it is dropped, what came since is signed and the thread ends.
pub struct Signing {
    _goes_on: SyncSender<()>,
}

impl AuditSigner {
    /// Starts the thread.
    pub fn start(self) -> io::Result<(Signing, JoinHandle<()>)> {
        let (sender, ended) = sync_channel(1);
        let thread = thread::Builder::new().name("audit".into()).spawn(move || self.run(&ended))?;
        Ok((Signing { _goes_on: sender }, thread))
    }

    fn run(self, ended: &Receiver<()>) {
        self.tell_if_heads_are_gone();
        let (mut known, mut failing) = (None, false);
        loop {
            match self.round(&mut known) {
                Ok(()) if failing => {
                    failing = false;
                    tracing::info!("the audit log is signed again");
                }
                Ok(()) => {}
                Err(error) => {
                    known = None;
                    self.counts.failures.fetch_add(1, Ordering::Relaxed);
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(%error, "the audit log is not signed");
                    }
                }
            }
            match ended.recv_timeout(self.every) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Err(error) = self.round(&mut known) {
            tracing::error!(%error, "the end of the audit log is not signed");
        }
    }

    /// Warns when heads were signed and the file has none: from here on a new file begins, and what was cut from the log
    /// before is found only by a copy of the old one.
    fn tell_if_heads_are_gone(&self) {
        let is_empty = match fs::metadata(&self.file) {
            Ok(file) => file.len() == 0,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if is_empty && let Ok(records @ 1..) = audit::signing_reached(&*self.store) {
            tracing::warn!(
                records,
                file = %self.file.display(),
                "the audit log was signed before, and its heads file is missing or empty: put it back, or check the log \
                 by your copy of it (`hashward check --audit --heads COPY`); a new file is begun"
            );
        }
    }

    /// Signs the log's end if it is not signed yet. `known` is the file's last head, once it is known that the file ends
    /// with it.
    fn round(&self, known: &mut Option<Option<SignedHead>>) -> Result<(), SignError> {
        let tx = Tx::new(&*self.store);
        let last = match *known {
            Some(last) => last,
            None => self.read_last()?,
        };
        if let Some(head) = last {
            let found = audit::record(&tx, head.number)?;
            if found.is_none_or(|record| record.hash != head.hash) {
                return Err(SignError::NotBorneOut { number: head.number });
            }
        }
        *known = Some(last);
        self.counts.set(last);
        let tip = audit::tip(&tx)?;
        if tip.number <= last.map_or(0, |head| head.number) {
            return Ok(());
        }
        let root = self.root(last, tip.number)?;
        let head = Head { number: tip.number, hash: tip.hash, root: Some(root), at_ms: now_ms() };
        let head = head.signed(|bytes| self.key.sign(bytes));
        *known = None; // a write that fails may leave anything
        self.in_file(append(&self.file, self.readers, head.line().as_bytes()))?;
        *known = Some(Some(head));
        self.counts.set(Some(head));
        Ok(())
    }

    /// The tree of the log up to this record. What is stored of it is derived from the records: if it does not give what was
    /// signed, it is made anew, and if they do not either, they were changed.
    fn root(&self, last: Option<SignedHead>, number: u64) -> Result<TreeHash, SignError> {
        let store = &*self.store;
        if let Some((signed, root)) = last.and_then(|head| Some((head.number, head.root?)))
            && !audit::root_at(store, signed).is_ok_and(|found| found == root)
        {
            tracing::warn!(
                records = signed,
                "the tree over the audit log is not what was signed: it is made anew"
            );
            audit::forget_tree(store)?;
            if audit::root_at(store, signed)? != root {
                return Err(SignError::NotBorneOut { number: signed });
            }
        }
        Ok(audit::root_at(store, number)?)
    }

    /// The file's last head; its end is whole after this.
    fn read_last(&self) -> Result<Option<SignedHead>, SignError> {
        let file = match File::open(&self.file) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return self.in_file(Err(error)),
        };
        let mut last = None;
        let mut heads = Heads::new(BufReader::new(file));
        for line in &mut heads {
            last = Some(line?.head);
        }
        if last
            .is_some_and(|head| !is_genuine(&self.key.public(), &head.head().signed_bytes(), &head.signature))
        {
            return Err(SignError::OtherKey);
        }
        if heads.torn() {
            tracing::warn!(file = %self.file.display(), "the last line of the audit heads was cut by a crash: it is taken away");
        }
        self.in_file(mend_end(&self.file, heads.torn()))?;
        Ok(last)
    }

    fn in_file<T>(&self, outcome: io::Result<T>) -> Result<T, SignError> {
        outcome.map_err(|reason| SignError::File { path: self.file.display().to_string(), reason })
    }
}

/// Takes a torn last line away; ends one that lacks its end alone.
fn mend_end(path: &Path, torn: bool) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).open(path)?;
    let length = file.metadata()?.len();
    // A line is far shorter than this.
    let from = length.saturating_sub(4096);
    let mut end = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    file.read_to_end(&mut end)?;
    let whole = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at as u64 + 1);
    if torn {
        file.set_len(from + whole)?;
    } else if from + whole < length {
        file.write_all(b"\n")?;
    }
    file.sync_all()
}

/// Durable when it returns.
fn append(path: &Path, readers: Readers, line: &[u8]) -> io::Result<()> {
    let is_new = !path.exists();
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    if is_new {
        readers.admit(&file)?;
    }
    file.write_all(line)?;
    file.sync_all()?;
    if is_new { sync_folder_of(path) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
