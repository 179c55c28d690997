//! The submissions of the last hours, so that new content can be looked for in what came before it was known.
//!
//! A ring on disk: Submit frames as they came, by time; the oldest go when they are too old or too many. Shards hand
//! them over without waiting, so under more load than a disk takes frames are left out, and counted. Nothing here is
//! worth a sync: a hit is in the hit log. For the same reason a ring that is damaged is thrown away, at a start or while
//! the program runs, and begun anew.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::iter;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use index::store::keys::{decode_u64, encode_u64};
use index::store::{
    Batch, BlockCache, DataDir, Database, Durability, Keyspace, MemoryStore, Range, RocksStore, Store,
    StoreError, StoreOptions,
};
use index::{Digest, Distance, RequestId, Signal, UploadContext};
use ingest::wire::{RequestView, parse};
use serde::Serialize;

use crate::clock::{now_ms, trusted_ms};
use crate::disk::Disk;
use crate::sealed::{Seal, SealError};

/// Frames handed over and not written yet, and their bytes.
const QUEUE_FRAMES: usize = 4096;
const QUEUE_BYTES: usize = 64 << 20;
/// Frames of one commit.
const GROUP: usize = 256;
/// Frames by time and number, and the bytes written in a minute.
const FRAME: u8 = b'f';
const MINUTE: u8 = b'm';
const MINUTE_MS: u64 = 60_000;
/// How often the old ones go while nothing comes.
const IDLE: Duration = Duration::from_secs(5);

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct RecentOptions {
    /// For so long; zero keeps nothing.
    pub keep: Duration,
    /// At most so many bytes of frames.
    pub bytes_max: u64,
    /// Hashes of a frame, as the port allows.
    pub hashes_max: usize,
}

/// What became of the frames handed over.
#[derive(Debug, Default)]
pub struct RecentCounts {
    /// Written.
    pub kept: AtomicU64,
    /// Left out, because the disk was slow or full.
    pub left_out: AtomicU64,
    /// Times that all were thrown away, because they were damaged.
    pub lost: AtomicU64,
    queued_bytes: AtomicUsize,
}

/// Where shards hand over what was submitted, and where it is looked for.
#[derive(Clone)]
pub struct Recent {
    frames: Option<SyncSender<Box<[u8]>>>,
    ring: Option<Arc<Ring>>,
    hashes_max: usize,
    counts: Arc<RecentCounts>,
}

/// The database of the ring, which is replaced if it is damaged.
struct Ring {
    store: RwLock<Arc<dyn Store>>,
    damaged: AtomicBool,
}

impl Ring {
    /// Works on the database; damage that is met has the writer replace it.
    fn with<T>(&self, work: impl FnOnce(&dyn Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        work(&**store).inspect_err(|error| {
            if error.is_damage() {
                self.damaged.store(true, Ordering::Release);
            }
        })
    }
}

/// A submitted hash like the one that was looked for.
#[derive(Clone, Debug, Serialize)]
pub struct Submission {
    /// When it came, in milliseconds since 1970 (UTC).
    pub received_ms: u64,
    /// The Submit that carried it, and which of its hashes it is.
    pub request: RequestId,
    /// Zero-based index of the hash in that Submit.
    pub index: u32,
    /// The uploader's number for the content (0 when it gave none).
    pub upload_id: u64,
    /// Bits that differ.
    pub distance: Distance,
    /// What the uploader told about the content.
    pub context: UploadContext,
}

/// What was found, and where was looked.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Found {
    /// Newest first.
    pub entries: Vec<Submission>,
    /// Hashes that were compared.
    pub hashes: u64,
    /// Whether there is more than was asked for: the older ones are not listed.
    pub truncated: bool,
    /// The oldest submission that is kept, if any is.
    pub kept_since_ms: Option<u64>,
    /// Whether what is kept is damaged: what was found before the damage is listed, and all is thrown away.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub damaged: bool,
}

impl Recent {
    /// Hands over a Submit's message. Never waits.
    pub fn note(&self, message: &[u8]) {
        let Some(frames) = &self.frames else { return };
        let queued = self.counts.queued_bytes.fetch_add(message.len(), Ordering::Relaxed);
        if queued > QUEUE_BYTES || frames.try_send(message.into()).is_err() {
            self.counts.queued_bytes.fetch_sub(message.len(), Ordering::Relaxed);
            self.counts.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether anything is kept.
    pub fn is_on(&self) -> bool {
        self.ring.is_some()
    }

    /// Submissions since then that are within the threshold of this signal, newest first, at most so many. Reads all
    /// of them: for a thread that may wait.
    pub fn search(
        &self,
        signal: &Signal,
        threshold: Distance,
        since_ms: u64,
        limit: usize,
    ) -> Result<Found, StoreError> {
        let mut found = Found::default();
        let Some(ring) = &self.ring else { return Ok(found) };
        let searched =
            ring.with(|store| self.search_in(store, &mut found, signal, threshold, (since_ms, limit)));
        match searched {
            Err(error) if error.is_damage() => found.damaged = true,
            other => other?,
        }
        Ok(found)
    }

    fn search_in(
        &self,
        store: &dyn Store,
        found: &mut Found,
        signal: &Signal,
        threshold: Distance,
        (since_ms, limit): (u64, usize),
    ) -> Result<(), StoreError> {
        let first = [&[FRAME][..], &encode_u64(0)].concat();
        store.scan(Keyspace::Recent, Range::between(&first, &[FRAME + 1]), &mut |key, _| {
            found.kept_since_ms = read_time(key);
            ControlFlow::Break(())
        })?;
        let from = [&[FRAME][..], &encode_u64(since_ms)].concat();
        // A Submit that was sent again is one submission.
        let mut seen = HashSet::new();
        let range = Range::between(&from, &[FRAME + 1]).reversed();
        store.scan(Keyspace::Recent, range, &mut |key, message| {
            let Ok((_, RequestView::Submit(submit))) = parse(message, self.hashes_max) else {
                return ControlFlow::Continue(()); // of a protocol this program does not speak any more
            };
            if submit.query.signal_type != signal.kind() {
                return ControlFlow::Continue(());
            }
            found.hashes += submit.query.len() as u64;
            for (index, distance) in near(&submit.query, signal, threshold) {
                if !seen.insert((submit.request, index)) {
                    continue;
                }
                if found.entries.len() == limit {
                    found.truncated = true;
                    return ControlFlow::Break(());
                }
                found.entries.push(Submission {
                    received_ms: read_time(key).unwrap_or_default(),
                    request: submit.request,
                    index,
                    upload_id: submit.query.upload_id(index as usize),
                    distance,
                    context: submit.context(index),
                });
            }
            ControlFlow::Continue(())
        })
    }
}

/// The hashes of a frame that are near enough, and how near.
fn near(query: &ingest::wire::QueryView<'_>, signal: &Signal, threshold: Distance) -> Vec<(u32, Distance)> {
    match signal {
        Signal::Pdq(wanted) => {
            let mut hashes = Vec::with_capacity(query.len());
            query.append_pdq(&mut hashes);
            let near = |(index, hash): (u32, &index::Hash256)| {
                let distance = hash.distance(wanted);
                (distance <= threshold).then_some((index, distance))
            };
            (0..).zip(&hashes).filter_map(near).collect()
        }
        _ => {
            let mut digests: Vec<Digest> = Vec::new();
            query.copy_digests(&mut digests);
            let wanted = signal.digest();
            let same = |(index, digest): (u32, &Digest)| {
                (Some(*digest) == wanted).then_some((index, Distance::default()))
            };
            (0..).zip(&digests).filter_map(same).collect()
        }
    }
}

fn read_time(key: &[u8]) -> Option<u64> {
    let time = key.get(1..9)?;
    decode_u64(Keyspace::Recent, time).ok()
}

#[cfg(test)]
impl Recent {
    /// Keeps nothing.
    pub fn none() -> Self {
        Self { frames: None, ring: None, hashes_max: 4096, counts: Arc::default() }
    }
}

/// Opens the ring and starts the thread that writes it; it ends when the last [`Recent`] is dropped. What is
/// damaged is thrown away: it holds nothing that is not elsewhere or soon too old.
pub fn start(
    data_dir: &DataDir,
    (seal, cache): (&Seal, &BlockCache),
    disk: Arc<Disk>,
    options: RecentOptions,
    counts: Arc<RecentCounts>,
) -> io::Result<(Recent, Option<JoinHandle<()>>)> {
    let off = Recent { frames: None, ring: None, hashes_max: options.hashes_max, counts: counts.clone() };
    if options.keep.is_zero() {
        return Ok((off, None));
    }
    let place = Place { folder: data_dir.path().to_path_buf(), seal: seal.clone(), cache: cache.clone() };
    let store = match place.open() {
        Ok(store) => store,
        Err(error) => {
            tracing::warn!(%error, "the submissions of the last hours are lost; new ones are kept");
            counts.lost.fetch_add(1, Ordering::Relaxed);
            match place.throw_away().map_err(unusable).and_then(|()| place.open()) {
                Ok(store) => store,
                Err(error) => {
                    tracing::error!(%error, "no submissions are kept");
                    return Ok((off, None));
                }
            }
        }
    };
    let (sender, frames) = sync_channel(QUEUE_FRAMES);
    let ring = Arc::new(Ring { store: RwLock::new(store), damaged: AtomicBool::new(false) });
    let recent = Recent { frames: Some(sender), ring: Some(ring.clone()), ..off };
    let writer = Writer { ring, place, disk, options, counts, minutes: BTreeMap::new(), bytes: 0, number: 0 };
    let thread = thread::Builder::new().name("recent".into()).spawn(move || writer.run(&frames))?;
    Ok((recent, Some(thread)))
}

/// Where the ring lies, and how it is opened.
struct Place {
    folder: PathBuf,
    seal: Seal,
    cache: BlockCache,
}

impl Place {
    fn open(&self) -> Result<Arc<dyn Store>, SealError> {
        let options = StoreOptions { durability: Durability::Wal, cache: self.cache.clone() };
        let store = RocksStore::open(&self.folder, Database::Recent, options)?;
        self.seal.open(Arc::new(store), Database::Recent, |_| Ok(()))
    }

    /// Removes the database and what lies beside it.
    fn throw_away(&self) -> io::Result<()> {
        let name = Database::Recent.name();
        std::fs::remove_dir_all(self.folder.join(name)).or_else(ignore_missing)?;
        ["high-water", "damaged"].iter().try_for_each(|ending| {
            std::fs::remove_file(self.folder.join(format!("{name}.{ending}"))).or_else(ignore_missing)
        })
    }
}

fn unusable(error: io::Error) -> SealError {
    StoreError::Unreadable { path: Database::Recent.name().to_string(), reason: error.to_string() }.into()
}

fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

struct Writer {
    ring: Arc<Ring>,
    place: Place,
    disk: Arc<Disk>,
    options: RecentOptions,
    counts: Arc<RecentCounts>,
    /// Minutes that have frames, with their bytes.
    minutes: BTreeMap<u64, u64>,
    bytes: u64,
    /// Tells frames of one millisecond apart.
    number: u32,
}

impl Writer {
    fn run(mut self, frames: &Receiver<Box<[u8]>>) {
        if let Err(error) = self.read_minutes() {
            tracing::error!(%error, "the submissions of the last hours cannot be read");
        }
        loop {
            if self.ring.damaged.load(Ordering::Acquire) {
                self.begin_anew();
            }
            match frames.recv_timeout(IDLE) {
                Ok(first) => self.write(first, frames),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if let Err(error) = self.prune() {
                tracing::warn!(%error, "old submissions stay for now");
            }
        }
    }

    /// Throws away what is damaged. Searches wait meanwhile; if no database can be made, the damaged one stays.
    fn begin_anew(&mut self) {
        let mut store = self.ring.store.write().unwrap_or_else(PoisonError::into_inner);
        // The damaged database must be closed before its files go: only this lock still has it.
        *store = Arc::new(MemoryStore::default());
        match self.place.throw_away().map_err(unusable).and_then(|()| self.place.open()) {
            Ok(new) => {
                *store = new;
                tracing::warn!(
                    "the submissions of the last hours were damaged and are thrown away; new ones are kept"
                );
            }
            Err(error) => {
                tracing::error!(%error, "submissions are kept in memory alone until the next start");
            }
        }
        self.minutes.clear();
        self.bytes = 0;
        self.counts.lost.fetch_add(1, Ordering::Relaxed);
        self.ring.damaged.store(false, Ordering::Release);
    }

    fn read_minutes(&mut self) -> Result<(), StoreError> {
        let mut found = Vec::new();
        self.ring.with(|store| {
            let mut outcome = Ok(());
            let range = Range::between(&[MINUTE], &[MINUTE + 1]);
            store.scan(Keyspace::Recent, range, &mut |key, row| {
                match (read_time(key), decode_u64(Keyspace::Recent, row)) {
                    (Some(minute), Ok(bytes)) => found.push((minute, bytes)),
                    (_, Err(error)) => {
                        outcome = Err(error);
                        return ControlFlow::Break(());
                    }
                    (None, _) => {}
                }
                ControlFlow::Continue(())
            })?;
            outcome
        })?;
        self.bytes = found.iter().map(|(_, bytes)| bytes).sum();
        self.minutes = found.into_iter().collect();
        Ok(())
    }

    /// Writes a frame, and those that wait behind it.
    fn write(&mut self, first: Box<[u8]>, frames: &Receiver<Box<[u8]>>) {
        let now = now_ms();
        let (mut batch, mut count, mut bytes) = (Batch::default(), 0, 0);
        for message in iter::once(first).chain(frames.try_iter()).take(GROUP) {
            self.number = self.number.wrapping_add(1);
            count += 1;
            bytes += message.len();
            let key = [&[FRAME][..], &encode_u64(now), &self.number.to_be_bytes()].concat();
            batch.put(Keyspace::Recent, key, message);
        }
        self.counts.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let minute = now - now % MINUTE_MS;
        let of_minute = self.minutes.get(&minute).copied().unwrap_or(0) + bytes as u64;
        batch.put(Keyspace::Recent, minute_key(minute), encode_u64(of_minute));
        let written =
            self.disk.admit().and_then(|()| self.ring.with(|store| store.commit(batch, Durability::Wal)));
        if let Err(error) = written {
            tracing::debug!(%error, "submissions are left out of reverse lookup");
            self.counts.left_out.fetch_add(count, Ordering::Relaxed);
            return;
        }
        self.counts.kept.fetch_add(count, Ordering::Relaxed);
        self.bytes += bytes as u64;
        self.minutes.insert(minute, of_minute);
    }

    /// Takes away the oldest minutes, while they are too old or there is too much. None is too old while the clock is in doubt.
    fn prune(&mut self) -> Result<(), StoreError> {
        let oldest = trusted_ms().map_or(0, |now| now.saturating_sub(self.options.keep.as_millis() as u64));
        let goes = |minute: u64, bytes: u64| minute + MINUTE_MS <= oldest || bytes > self.options.bytes_max;
        let mut upto = None;
        while let Some(first) = self.minutes.first_entry()
            && goes(*first.key(), self.bytes)
        {
            let (minute, bytes) = first.remove_entry();
            self.bytes -= bytes;
            upto = Some(minute + MINUTE_MS);
        }
        let Some(upto) = upto else { return Ok(()) };
        let mut batch = Batch::default();
        batch.delete_range(Keyspace::Recent, [FRAME], [&[FRAME][..], &encode_u64(upto)].concat());
        batch.delete_range(Keyspace::Recent, [MINUTE], minute_key(upto));
        self.ring.with(|store| store.commit(batch, Durability::Wal))
    }
}

fn minute_key(minute: u64) -> Vec<u8> {
    [&[MINUTE][..], &encode_u64(minute)].concat()
}
