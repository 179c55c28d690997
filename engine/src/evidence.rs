//! Storing media in the vault for rows that will name them, and sweeping out what no row names.
//!
//! A blob is stored before the commit that names it, so a crash between leaves one that nobody names. What this process
//! stores, until it is known whether a commit names it, is *in hand*, and stays. A sweep looks at what was in hand, and at a
//! bounded share of the folder, from where the sweep before it ended: however much there is, it costs the same. Ages are
//! counted by this process and not by any clock: what a former process left is swept out as long after the start. Media come
//! and go piece by piece: however long one is, little of it is in memory.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use futures_lite::{Stream, StreamExt, stream};
use index::store::{Store, StoreError};
use reporter::Tx;
use reporter::audit::Hex;
use reporter::desk::evidence::{Kept, is_named};
use tokio::sync::mpsc;

use crate::clock::now_ms;
use crate::disk::Disk;
use crate::secrets::Wrap;
use crate::vault::{self, BlobId, BlobReader, Listing, Vault, VaultError};

/// Pieces that are on their way to the disk, beside the one that is written.
const IN_FLIGHT: usize = 4;
/// What is read at once.
const CHUNK: u64 = 256 << 10;

/// Names of the folder that a sweep looks at.
const SHARE: usize = 5000;
/// Blobs that are remembered since they were in hand; beyond it the sweep finds them in the folder.
const REMEMBERED_MAX: usize = 65_536;

/// The vault, and what is in hand.
pub struct Evidence {
    vault: Vault,
    stored: Mutex<Stored>,
    listing: Mutex<Option<Listing>>,
    opened: Instant,
}

/// What this process stored.
#[derive(Default)]
struct Stored {
    in_hand: BTreeSet<BlobId>,
    /// What no longer is in hand, and since when; oldest first.
    let_go: VecDeque<(Instant, BlobId)>,
}

/// What is counted of preserving.
#[derive(Debug, Default)]
pub struct PreserveCounts {
    /// Media that were preserved, by the intake or here.
    pub kept: AtomicU64,
    /// Tries that failed.
    pub failed: AtomicU64,
    /// Media that were given up after a week.
    pub given_up: AtomicU64,
    /// Blobs that nothing named.
    pub swept: AtomicU64,
}

/// Why a blob is not destroyed.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The vault does not let it.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Whether it is named cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Evidence {
    /// Opens the vault of a data directory.
    pub fn open(data_dir: &Path, wrap: Arc<dyn Wrap>, disk: Arc<Disk>) -> Result<Self, VaultError> {
        let vault = Vault::open(data_dir, wrap, disk)?;
        Ok(Self { vault, stored: Mutex::default(), listing: Mutex::default(), opened: Instant::now() })
    }

    /// Stores what was fetched; it is in hand until [`Evidence::let_go`].
    pub async fn keep(self: &Arc<Self>, bytes: Bytes, content_type: String) -> Result<Kept, VaultError> {
        let this = self.clone();
        let storing = tokio::task::spawn_blocking(move || this.store(&bytes[..], u64::MAX));
        Ok(kept(storing.await.map_err(ending)??, content_type))
    }

    /// Stores what comes, up to so many bytes; nothing of it is kept if it ends with an error, or is left off. It is in
    /// hand until [`Evidence::let_go`].
    pub async fn keep_stream(
        self: &Arc<Self>,
        chunks: impl Stream<Item = io::Result<Bytes>>,
        content_type: String,
        bytes_max: u64,
    ) -> Result<Kept, VaultError> {
        let (sender, receiver) = mpsc::channel(IN_FLIGHT);
        let (this, incoming) = (self.clone(), Incoming { receiver, piece: Bytes::new(), ended: false });
        let storing = tokio::task::spawn_blocking(move || this.store(incoming, bytes_max));
        let mut chunks = pin!(chunks);
        loop {
            let piece = chunks.next().await.transpose();
            let last = !matches!(piece, Ok(Some(_)));
            // Whoever stores takes no more when it has failed; its own words say why.
            if sender.send(piece).await.is_err() || last {
                break;
            }
        }
        Ok(kept(storing.await.map_err(ending)??, content_type))
    }

    fn store(&self, from: impl Read, bytes_max: u64) -> Result<vault::Kept, VaultError> {
        let id = self.vault.fresh_id()?;
        // Before it has a name in the vault, so that no sweep finds it there and not here.
        self.lock().in_hand.insert(id);
        let stored = self.vault.store(id, from, bytes_max);
        if stored.is_err() {
            self.lock().in_hand.remove(&id);
        }
        stored
    }

    /// Whether it is named is known now.
    pub fn let_go<'a>(&self, blobs: impl IntoIterator<Item = &'a str>) {
        let mut stored = self.lock();
        for id in blobs.into_iter().filter_map(|blob| blob.parse().ok()) {
            if stored.in_hand.remove(&id) {
                stored.let_go.push_back((Instant::now(), id));
            }
        }
        while stored.let_go.len() > REMEMBERED_MAX {
            stored.let_go.pop_front();
        }
    }

    /// Opens a blob.
    pub fn read(&self, blob: &str) -> Result<BlobReader, VaultError> {
        self.vault.open_blob(id_of(blob)?)
    }

    /// A blob's length, and all of it piece by piece.
    pub async fn stream(
        self: &Arc<Self>,
        blob: &str,
    ) -> Result<(u64, impl Stream<Item = io::Result<Bytes>> + Send + use<>), VaultError> {
        let (this, blob) = (self.clone(), blob.to_string());
        let opening = tokio::task::spawn_blocking(move || this.read(&blob));
        let reader = opening.await.map_err(ending)??;
        let length = reader.length();
        Ok((length, pieces(reader, (0, length))))
    }

    /// Destroys a blob, if anything of it is there.
    pub fn destroy(&self, blob: &str) -> Result<bool, VaultError> {
        self.vault.destroy(id_of(blob)?)
    }

    /// Destroys blobs that nothing names, of those that were in hand so long ago, and of a share of the folder once the
    /// process is so old; says how many.
    pub fn sweep(&self, store: &dyn Store, age: Duration) -> Result<u64, SweepError> {
        let mut destroyed = 0;
        while let Some(id) = self.next_let_go(age) {
            destroyed += u64::from(self.destroy_orphan(store, id)?);
        }
        if self.opened.elapsed() >= age {
            for id in self.next_share()? {
                destroyed += u64::from(self.destroy_orphan(store, id)?);
            }
        }
        Ok(destroyed)
    }

    fn next_let_go(&self, age: Duration) -> Option<BlobId> {
        let mut stored = self.lock();
        let (since, _) = stored.let_go.front()?;
        if since.elapsed() < age { None } else { stored.let_go.pop_front().map(|(_, id)| id) }
    }

    fn next_share(&self) -> Result<Vec<BlobId>, VaultError> {
        let mut listing = self.listing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut current = match listing.take() {
            Some(current) => current,
            None => self.vault.begin_listing()?,
        };
        let ids = self.vault.next_ids(&mut current, SHARE)?;
        // At its end the next sweep begins anew.
        *listing = ids.is_some().then_some(current);
        let mut ids = ids.unwrap_or_default();
        let stored = self.lock();
        let young: HashSet<BlobId> = stored.let_go.iter().map(|(_, id)| *id).collect();
        ids.retain(|id| !young.contains(id));
        Ok(ids)
    }

    /// In this order: what is not in hand has been named before, if it ever is.
    fn destroy_orphan(&self, store: &dyn Store, id: BlobId) -> Result<bool, SweepError> {
        let in_hand = self.lock().in_hand.contains(&id);
        if in_hand || is_named(&Tx::new(store), &id.to_string())? {
            return Ok(false);
        }
        Ok(self.vault.destroy(id)?)
    }

    fn lock(&self) -> MutexGuard<'_, Stored> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a range of a blob chunk by chunk: one is in memory, and no thread waits for who takes them.
pub fn pieces(
    reader: BlobReader,
    (from, to): (u64, u64),
) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    stream::try_unfold((reader, from), move |(mut reader, at)| async move {
        if at >= to {
            return Ok(None);
        }
        let reading = tokio::task::spawn_blocking(move || {
            let mut chunk = vec![0; (to - at).min(CHUNK) as usize];
            reader.seek(SeekFrom::Start(at))?;
            reader.read_exact(&mut chunk)?;
            Ok::<_, io::Error>((Bytes::from(chunk), reader))
        });
        let (chunk, reader) = reading.await.map_err(io::Error::other)??;
        let next = at + chunk.len() as u64;
        Ok(Some((chunk, (reader, next))))
    })
}

/// What comes from a task, for a thread that reads. Only `None` is its end: a task that is gone has not said so.
struct Incoming {
    receiver: mpsc::Receiver<io::Result<Option<Bytes>>>,
    piece: Bytes,
    ended: bool,
}

impl Read for Incoming {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Ok(Some(piece))) => self.piece = piece,
                Some(Ok(None)) => self.ended = true,
                Some(Err(error)) => return Err(error),
                None => return Err(io::Error::other("it was left off")),
            }
        }
        let count = self.piece.len().min(into.len());
        into[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

fn kept(stored: vault::Kept, content_type: String) -> Kept {
    Kept {
        blob: stored.id.to_string(),
        bytes: stored.bytes,
        sha256: Hex(stored.sha256).to_string(),
        md5: Hex(stored.md5).to_string(),
        content_type,
        at_ms: now_ms(),
    }
}

fn ending<E>(_: E) -> VaultError {
    VaultError::Source(io::Error::other("the server is shutting down"))
}

fn id_of(blob: &str) -> Result<BlobId, VaultError> {
    blob.parse().map_err(|_| VaultError::NoId(blob.chars().take(64).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::KeyFile;
    use index::store::MemoryStore;

    fn evidence(folder: &Path) -> Arc<Evidence> {
        let wrap = Arc::new(KeyFile::open(&folder.join("kek"), None).unwrap());
        Arc::new(Evidence::open(folder, wrap, Arc::new(Disk::new(folder, Some(0)))).unwrap())
    }

    fn names(folder: &Path) -> usize {
        std::fs::read_dir(folder.join("evidence")).unwrap().count()
    }

    fn pieces_of(count: u8) -> impl Stream<Item = io::Result<Bytes>> {
        stream::iter(0..count).map(|at| Ok(Bytes::from(vec![at; 100_000])))
    }

    #[tokio::test]
    async fn what_comes_in_pieces_goes_in_pieces_and_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let evidence = evidence(folder.path());
        let kept = evidence.keep_stream(pieces_of(9), "video/mp4".to_string(), 900_000).await.unwrap();
        let whole: Vec<u8> = (0..9).flat_map(|at| vec![at; 100_000]).collect();
        assert_eq!((kept.bytes, kept.content_type.as_str()), (900_000, "video/mp4"));
        let (length, mut out) =
            evidence.stream(&kept.blob).await.map(|(length, out)| (length, Box::pin(out))).unwrap();
        let mut read = Vec::new();
        while let Some(piece) = out.next().await {
            let piece = piece.unwrap();
            assert!(piece.len() as u64 <= CHUNK);
            read.extend_from_slice(&piece);
        }
        assert!(length == 900_000 && read == whole);
    }

    #[tokio::test]
    async fn what_does_not_come_to_its_end_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let evidence = evidence(folder.path());
        let broken = pieces_of(3).chain(stream::once(Err(io::Error::other("the host hung up"))));
        let error = evidence.keep_stream(broken, String::new(), u64::MAX).await.unwrap_err();
        assert!(matches!(error, VaultError::Source(_)) && error.to_string().contains("hung up"), "{error}");
        let error = evidence.keep_stream(pieces_of(9), String::new(), 899_999).await.unwrap_err();
        assert!(matches!(error, VaultError::TooLong { max: 899_999 }), "{error}");
        // Who waits for it goes away: what has come is no whole medium.
        let endless = pieces_of(3).chain(stream::pending());
        let storing = evidence.keep_stream(endless, String::new(), u64::MAX);
        assert!(tokio::time::timeout(Duration::from_millis(200), storing).await.is_err());
        while names(folder.path()) > 0 || !evidence.lock().in_hand.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_sweep_leaves_what_is_in_hand_and_takes_what_nothing_names() {
        let folder = tempfile::tempdir().unwrap();
        let (evidence, store) = (evidence(folder.path()), MemoryStore::default());
        let kept = evidence.keep_stream(pieces_of(1), String::new(), u64::MAX).await.unwrap();
        assert_eq!(evidence.sweep(&store, Duration::ZERO).unwrap(), 0);
        evidence.let_go([kept.blob.as_str()]);
        assert_eq!(evidence.sweep(&store, Duration::ZERO).unwrap(), 1);
        assert_eq!(names(folder.path()), 0);
    }

    #[tokio::test]
    async fn a_sweep_looks_at_a_bounded_share_and_in_the_end_at_everything() {
        let folder = tempfile::tempdir().unwrap();
        let (first, store) = (evidence(folder.path()), MemoryStore::default());
        drop(first.keep_stream(pieces_of(1), String::new(), u64::MAX).await.unwrap());
        // What a process before this one left, and more than one sweep looks at.
        for at in 0..SHARE {
            std::fs::write(folder.path().join(format!("evidence/{at:032x}.blob")), b"").unwrap();
        }
        let second = evidence(folder.path());
        assert_eq!(second.sweep(&store, Duration::from_secs(3600)).unwrap(), 0, "nothing is that old");
        let kept = second.keep_stream(pieces_of(1), String::new(), u64::MAX).await.unwrap();
        let mut sweeps = Vec::new();
        while names(folder.path()) > 2 {
            sweeps.push(second.sweep(&store, Duration::ZERO).unwrap());
            assert!(*sweeps.last().unwrap() <= SHARE as u64 && sweeps.len() < 9, "{sweeps:?}");
        }
        assert!(sweeps.len() > 1 && sweeps.iter().sum::<u64>() == SHARE as u64 + 1, "{sweeps:?}");
        // Young, and known not to be named: it goes when it is as old.
        second.let_go([kept.blob.as_str()]);
        assert_eq!(second.sweep(&store, Duration::from_secs(3600)).unwrap(), 0);
        assert_eq!((second.sweep(&store, Duration::ZERO).unwrap(), names(folder.path())), (1, 0));
    }
}
