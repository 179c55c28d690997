//! Sets of embeddings: kept as files, searchable at once, given their graphs by a thread of their own.
//!
//! `embeddings/NAME.set` is what was imported, whole, durable before it is acknowledged.
//! `embeddings/NAME.graph` can be made again and is, should it not read as written. A set answers exactly until
//! its graph is there. `embeddings/names` lists the sets, so that one whose file is lost is missed.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use index::bank::{Banks, MemoryBudget};
use index::embeddings::EmbeddingSet;
use index::store::StoreError;
use index::store::whole_file::{Readers, replace_file, sync_folder_of};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::disk::Disk;
use crate::merge::stay_on;
use crate::nice::give_way;

/// The file that lists the sets, one a line.
const NAMES: &str = "names";

/// A set as it stands.
#[derive(Clone)]
pub enum Standing {
    /// It is read from its file.
    Loading,
    /// Its file is not as it was written: it has to be imported again. Why.
    Damaged(String),
    /// Its file is gone: it has to be imported again, or removed.
    Missing,
    /// It can be searched.
    Ready(Arc<EmbeddingSet>),
}

/// Why a set was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// No room in memory.
    #[error(
        "the set needs {needed} bytes of memory with its graph, {left} are left: raise --memory-max-bytes, remove what is not needed, or use a larger machine"
    )]
    Memory {
        /// Bytes it needs.
        needed: u64,
        /// Bytes there are for it.
        left: u64,
    },
    /// No room on the disk.
    #[error(transparent)]
    Full(#[from] StoreError),
    /// The disk failed, or filled up.
    #[error("the set could not be kept and is not taken: {0}")]
    Disk(#[from] io::Error),
}

/// All sets.
pub struct Embeddings {
    folder: PathBuf,
    budget: Arc<MemoryBudget>,
    sets: Mutex<BTreeMap<String, Standing>>,
    /// One change at a time, files and map together.
    changing: Mutex<()>,
    building: Sender<String>,
}

impl Embeddings {
    /// Opens the sets in the data directory and starts the thread that reads them, and that builds graphs on a
    /// pool of one thread. Both stay on `cpus`.
    pub fn open(data_dir: &Path, budget: Arc<MemoryBudget>, cpus: Vec<usize>) -> io::Result<Arc<Self>> {
        let folder = data_dir.join("embeddings");
        fs::create_dir_all(&folder)?;
        sync_folder_of(&folder)?;
        let mut sets = listed(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "set")
                && let Some(name) = path.file_stem().and_then(|name| name.to_str())
            {
                sets.insert(name.to_string(), Standing::Loading);
            }
        }
        for name in sets.iter().filter(|(_, set)| matches!(set, Standing::Missing)).map(|(name, _)| name) {
            tracing::error!(
                set = name,
                "the file of a set of embeddings is gone: import it again, or remove the set"
            );
        }
        let names: Vec<String> = sets.keys().cloned().collect();
        let (building, work) = channel();
        let all =
            Arc::new(Self { folder, budget, sets: Mutex::new(sets), changing: Mutex::new(()), building });
        let pool = ThreadPoolBuilder::new()
            .num_threads(1)
            .thread_name(|_| "graph".into())
            .start_handler({
                let cpus = cpus.clone();
                move |_| {
                    stay_on(&cpus);
                    give_way();
                }
            })
            .build()
            .map_err(io::Error::other)?;
        // From before there was a list, or of a crash between a set and the list.
        if let Err(error) = all.write_names(|_| {}) {
            tracing::warn!(%error, "the list of sets of embeddings could not be written");
        }
        // It keeps nothing alive: when the program ends in the midst of a graph, the next start builds it.
        let weak = Arc::downgrade(&all);
        thread::Builder::new().name("embeddings".into()).spawn(move || {
            stay_on(&cpus);
            for name in names {
                let Some(all) = weak.upgrade() else { return };
                all.load(&name);
            }
            build(&work, &pool, || weak.upgrade());
        })?;
        Ok(all)
    }

    /// Every set by name.
    pub fn list(&self) -> BTreeMap<String, Standing> {
        lock(&self.sets).clone()
    }

    /// One set.
    pub fn get(&self, name: &str) -> Option<Standing> {
        lock(&self.sets).get(name).cloned()
    }

    /// Keeps a set, in place of the one with this name if there is one; durable and visible on return.
    pub fn put(&self, name: &str, set: EmbeddingSet, banks: &Banks, disk: &Disk) -> Result<(), PutError> {
        self.admit(name, set.bytes(), banks)?;
        disk.admit()?;
        let bytes = set.to_bytes();
        let _one_at_a_time = lock(&self.changing);
        // Before the new set: beside it, an old graph would only be in the way.
        remove_file(&self.path(name, "graph"))?;
        replace_file(&self.path(name, "set"), &bytes, Readers::Umask)?;
        self.write_names(|names| names.push(name.to_string()))?;
        self.insert(name, Standing::Ready(Arc::new(set)));
        let _ = self.building.send(name.to_string()); // the thread ends only with the program
        Ok(())
    }

    /// Whether so many bytes more may be taken.
    pub fn admit(&self, name: &str, bytes: usize, banks: &Banks) -> Result<(), PutError> {
        let Some(max) = self.budget.max() else { return Ok(()) };
        let taken = banks.state().bytes() as u64 + total(&lock(&self.sets), Some(name));
        let (needed, left) = (bytes as u64, max.saturating_sub(taken));
        if needed > left { Err(PutError::Memory { needed, left }) } else { Ok(()) }
    }

    /// Removes a set; says whether there was one.
    pub fn remove(&self, name: &str) -> io::Result<bool> {
        let _one_at_a_time = lock(&self.changing);
        if self.get(name).is_none() {
            return Ok(false); // and no file of any other name is touched
        }
        remove_file(&self.path(name, "set"))?;
        remove_file(&self.path(name, "graph"))?;
        sync_folder_of(&self.path(name, "set"))?;
        self.write_names(|names| names.retain(|one| one != name))?;
        let mut sets = lock(&self.sets);
        let there = sets.remove(name).is_some();
        self.budget.take_beside(total(&sets, None));
        Ok(there)
    }

    fn insert(&self, name: &str, standing: Standing) {
        let mut sets = lock(&self.sets);
        sets.insert(name.to_string(), standing);
        self.budget.take_beside(total(&sets, None));
    }

    /// Changes the list of sets, on the disk.
    fn write_names(&self, change: impl FnOnce(&mut Vec<String>)) -> io::Result<()> {
        let mut names: Vec<String> = lock(&self.sets).keys().cloned().collect();
        change(&mut names);
        names.sort_unstable();
        names.dedup();
        let list = self.folder.join(NAMES);
        if names.is_empty() {
            return remove_file(&list).and_then(|()| sync_folder_of(&list));
        }
        let text: String = names.iter().map(|name| format!("{name}\n")).collect();
        replace_file(&list, text.as_bytes(), Readers::Umask)
    }

    /// Sets that cannot be searched, with why.
    pub fn unusable(&self) -> Vec<(String, String)> {
        let why = |(name, standing): (&String, &Standing)| match standing {
            Standing::Damaged(reason) => Some((name.clone(), reason.clone())),
            Standing::Missing => Some((name.clone(), "its file is gone".to_string())),
            Standing::Loading | Standing::Ready(_) => None,
        };
        lock(&self.sets).iter().filter_map(why).collect()
    }

    fn path(&self, name: &str, extension: &str) -> PathBuf {
        self.folder.join(format!("{name}.{extension}"))
    }

    /// Reads a set, unless it has been replaced meanwhile.
    fn load(&self, name: &str) {
        let _one_at_a_time = lock(&self.changing);
        if !matches!(self.get(name), Some(Standing::Loading)) {
            return;
        }
        let read = fs::read(self.path(name, "set")).map_err(|error| error.to_string());
        let read = read.and_then(|bytes| {
            EmbeddingSet::from_bytes(&bytes).map(|set| (bytes, set)).map_err(|error| error.to_string())
        });
        let standing = match read {
            Ok((bytes, mut set)) => {
                if let Ok(graph) = fs::read(self.path(name, "graph"))
                    && let Err(error) = set.take_graph(&bytes, &graph)
                {
                    tracing::warn!(set = name, %error, "the stored graph cannot be used and is built anew");
                }
                let _ = self.building.send(name.to_string());
                Standing::Ready(Arc::new(set))
            }
            Err(reason) => {
                tracing::error!(set = name, %reason, "a set of embeddings cannot be used: import it again");
                Standing::Damaged(reason)
            }
        };
        self.insert(name, standing);
    }

    /// Puts the set's graph in, unless the set has been replaced meanwhile.
    fn give_graph(&self, name: &str, plain: &Arc<EmbeddingSet>, graph: EmbeddingSet) -> io::Result<()> {
        let _one_at_a_time = lock(&self.changing);
        match self.get(name) {
            Some(Standing::Ready(set)) if Arc::ptr_eq(&set, plain) => {}
            _ => return Ok(()),
        }
        let bytes = graph.graph_to_bytes(&plain.to_bytes());
        self.insert(name, Standing::Ready(Arc::new(graph)));
        match bytes {
            Some(bytes) => replace_file(&self.path(name, "graph"), &bytes, Readers::Umask),
            None => Ok(()),
        }
    }
}

fn build(work: &Receiver<String>, pool: &ThreadPool, all: impl Fn() -> Option<Arc<Embeddings>>) {
    while let Ok(name) = work.recv() {
        let Some(Standing::Ready(plain)) = all().and_then(|all| all.get(&name)) else { continue };
        if !plain.wants_graph() {
            continue;
        }
        let started = Instant::now();
        let graph = plain.with_graph(pool);
        let seconds = started.elapsed().as_secs_f32();
        tracing::info!(
            set = name,
            points = graph.len(),
            recall = graph.recall(),
            seconds,
            "a graph is built"
        );
        let Some(all) = all() else { return };
        if let Err(error) = all.give_graph(&name, &plain, graph) {
            tracing::warn!(set = name, %error, "the graph is used, but could not be kept: the next start builds it again");
        }
    }
}

/// Bytes of all sets but `except`.
fn total(sets: &BTreeMap<String, Standing>, except: Option<&str>) -> u64 {
    let bytes = |(name, standing): (&String, &Standing)| match standing {
        Standing::Ready(set) if Some(name.as_str()) != except => set.bytes() as u64,
        _ => 0,
    };
    sets.iter().map(bytes).sum()
}

/// The sets that the list names, all of them missing until their files are seen. A list that is not there yet names none.
fn listed(folder: &Path) -> io::Result<BTreeMap<String, Standing>> {
    match fs::read_to_string(folder.join(NAMES)) {
        Ok(names) => Ok(names.lines().map(|name| (name.to_string(), Standing::Missing)).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            tracing::warn!(
                "the list of sets of embeddings does not read: a set whose file is gone is not missed"
            );
            Ok(BTreeMap::new())
        }
        Err(error) => Err(error),
    }
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What the locks guard is replaced whole, so a panic elsewhere leaves it sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
