//! Warm helpers, and what becomes of a file that one of them does not survive.
//!
//! One thread starts all helpers, because a helper ends when the thread that started it does. A helper that crashed,
//! overran or has worked long enough is replaced. A crash is tried once more with a fresh helper, so that what killed
//! the helper from outside (no memory, an operator) is not taken for the file's fault. Calls block; the caller bounds how
//! many there are at once.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use index::signal::FRAMES_MAX;

use super::frame::{unpack_frames, unpack_hashes, wrong};
use super::process::Helper;
use super::{Answer, CageError, Decoded, Job, Launcher, Limits, Picture, Task};
use crate::media::MediaError;
use crate::media::pdq::TURNS;

/// Files that a helper decodes, and time that it works, before it is replaced: what leaked or was taken over ends so.
const JOBS_MAX: u32 = 1000;
const BUSY_MAX: Duration = Duration::from_secs(300);
/// Bytes beside an answer at most: frames of 37 bytes, or a small JPEG.
const ANSWER_MAX: usize = 16 << 20;

/// What is counted of helpers.
#[derive(Debug, Default)]
pub struct Counts {
    /// Files that were handed to helpers.
    pub files: AtomicU64,
    /// Files whose decoder crashed, twice.
    pub crashed: AtomicU64,
    /// Files whose decoder overran its time.
    pub overran: AtomicU64,
    /// Helpers that ended in mid-work without being asked to.
    pub helpers_lost: AtomicU64,
    /// Helpers that were started.
    pub helpers_started: AtomicU64,
    /// Helpers that could not be started.
    pub helpers_refused: AtomicU64,
}

/// Warm helpers.
pub struct Pool {
    shared: Arc<Shared>,
    asked: Sender<Asked>,
    missing: Vec<String>,
}

struct Shared {
    launcher: Launcher,
    size: usize,
    idle: Mutex<Vec<Helper>>,
    /// Why the last start of a helper failed; none if it did not.
    trouble: Mutex<Option<String>>,
    counts: Arc<Counts>,
}

enum Asked {
    /// A helper is needed now.
    Fresh(Sender<Result<Helper, String>>),
    /// One has gone: keep another warm.
    Refill,
}

impl Pool {
    /// Starts so many helpers. Fails if the first does not start, and says why.
    pub fn start(launcher: Launcher, size: usize, counts: Arc<Counts>) -> Result<Self, CageError> {
        let idle = Mutex::new(Vec::with_capacity(size));
        let shared =
            Arc::new(Shared { launcher, size: size.max(1), idle, trouble: Mutex::default(), counts });
        let (asked, asks) = channel();
        let (tell, told) = channel();
        let starter = shared.clone();
        thread::Builder::new()
            .name("decoders".into())
            .spawn(move || starter.serve(&asks, &tell))
            .map_err(|error| CageError::Unavailable(error.to_string()))?;
        let gone = || "the thread that starts them has ended".to_string();
        let missing = told.recv().map_err(|_| gone()).flatten().map_err(CageError::Unavailable)?;
        Ok(Self { shared, asked, missing })
    }

    /// What of the cage the system does not have.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Why helpers do not start now; `None` if they do.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.shared.trouble).clone()
    }

    /// Helpers that wait for work.
    pub fn idle(&self) -> usize {
        lock(&self.shared.idle).len()
    }

    /// PDQ hashes of a picture: turned and mirrored as well if so asked, and of at most so many frames if it is animated.
    pub fn hash(
        &self,
        file: &[u8],
        limits: &Limits,
        dihedral: bool,
        frames_max: Option<usize>,
        time_max: Duration,
    ) -> Result<Decoded, CageError> {
        let frames_max = frames_max.map(|most| most.min(FRAMES_MAX));
        let task = Task::Hash { dihedral, frames_max };
        self.run(file, limits, task, time_max, |helper, deadline| {
            let expected = if dihedral { TURNS.len() } else { 1 };
            let picture = match take(helper, deadline)? {
                (Answer::Picture { quality }, bytes) => {
                    let hashes = unpack_hashes(&bytes)?;
                    if hashes.len() != expected {
                        return Err(wrong("a helper gave other hashes than were asked for").into());
                    }
                    Picture { hashes, quality: quality.min(100) }
                }
                other => return Err(refusal(other)),
            };
            if frames_max.is_none() {
                return Ok(Taken::Whole(Decoded { picture, frames: Ok(None) }));
            }
            // What is known of the picture stays known, whatever becomes of its frames.
            Ok(match take(helper, deadline) {
                Ok((Answer::Frames { animated }, bytes)) => {
                    let frames = unpack_frames(&bytes)?;
                    Taken::Whole(Decoded { picture, frames: Ok(animated.then_some(frames)) })
                }
                Ok(other) => match refusal(other) {
                    Fault::Refused(words) => {
                        Taken::Whole(Decoded { picture, frames: Err(CageError::Refused(words)) })
                    }
                    fault => Taken::Part(Decoded { picture, frames: Ok(None) }, fault),
                },
                Err(fault) => Taken::Part(Decoded { picture, frames: Ok(None) }, fault),
            })
        })
        .map(|(mut decoded, fault)| {
            if let Some(error) = fault {
                decoded.frames = Err(error);
            }
            decoded
        })
    }

    /// A picture as a JPEG with so many pixels at most.
    pub fn shrink(
        &self,
        file: &[u8],
        limits: &Limits,
        pixels_max: u32,
        time_max: Duration,
    ) -> Result<Vec<u8>, CageError> {
        let task = Task::Shrink { pixels_max };
        let taken =
            self.run(file, limits, task, time_max, |helper, deadline| match take(helper, deadline)? {
                (Answer::Jpeg, bytes) => Ok(Taken::Whole(bytes)),
                other => Err(refusal(other)),
            });
        taken.map(|(jpeg, _)| jpeg)
    }

    /// Hands a file to a helper, and to a fresh one if the first is lost; gives what was taken, and why it is not all.
    fn run<T>(
        &self,
        file: &[u8],
        limits: &Limits,
        task: Task,
        time_max: Duration,
        take: impl Fn(&mut Helper, Instant) -> Result<Taken<T>, Fault>,
    ) -> Result<(T, Option<CageError>), CageError> {
        if file.len() > limits.bytes_max {
            let too_large = MediaError::Bytes { found: file.len(), max: limits.bytes_max };
            return Err(CageError::Refused(too_large.to_string()));
        }
        self.shared.counts.files.fetch_add(1, Ordering::Relaxed);
        let deadline = Instant::now() + time_max;
        let mut fresh = false;
        loop {
            let mut helper = self.helper(fresh)?;
            let started = Instant::now();
            let left = deadline.saturating_duration_since(started);
            let job = Job { task, limits: *limits, time_ms: left.as_millis() as u64 };
            // A helper that cannot be written to may have said why before it ended.
            let asked = helper.ask(&job, file, deadline).map_err(Fault::from);
            let outcome = match asked {
                Err(Fault::Late) => Err(Fault::Late),
                _ => take(&mut helper, deadline),
            };
            let (part, fault) = match outcome {
                Ok(Taken::Whole(whole)) => {
                    self.give_back(helper, started.elapsed());
                    return Ok((whole, None));
                }
                Err(Fault::Refused(words)) => {
                    self.give_back(helper, started.elapsed());
                    return Err(CageError::Refused(words));
                }
                Ok(Taken::Part(part, fault)) => (Some(part), fault),
                Err(fault) => (None, fault),
            };
            match (self.lost(helper, fault, time_max), part) {
                (CageError::Crashed { .. }, _) if !fresh => fresh = true,
                (error, part) => {
                    self.count(&error);
                    return part.map(|part| (part, Some(error.clone()))).ok_or(error);
                }
            }
        }
    }

    /// Ends a helper that gave no answer, and says why it gave none.
    fn lost(&self, mut helper: Helper, fault: Fault, time_max: Duration) -> CageError {
        let how = match fault {
            Fault::Late => {
                drop(helper); // killed
                let _ = self.asked.send(Asked::Refill);
                return CageError::Overran { seconds: time_max.as_secs() };
            }
            Fault::Panicked(words) | Fault::Refused(words) => words,
            Fault::Gone => helper.end(),
            Fault::Broken(error) => error.to_string(),
        };
        drop(helper);
        self.shared.counts.helpers_lost.fetch_add(1, Ordering::Relaxed);
        let _ = self.asked.send(Asked::Refill);
        CageError::Crashed { how }
    }

    fn count(&self, error: &CageError) {
        let counts = &self.shared.counts;
        match error {
            CageError::Crashed { .. } => counts.crashed.fetch_add(1, Ordering::Relaxed),
            CageError::Overran { .. } => counts.overran.fetch_add(1, Ordering::Relaxed),
            CageError::Refused(_) | CageError::Unavailable(_) => 0,
        };
    }

    /// A helper that runs: a warm one, or one that has decoded nothing yet.
    fn helper(&self, fresh: bool) -> Result<Helper, CageError> {
        loop {
            let mut idle = lock(&self.shared.idle);
            let found = if fresh {
                idle.iter().position(|helper| helper.jobs == 0)
            } else {
                idle.len().checked_sub(1)
            };
            let Some(at) = found else { break };
            let mut helper = idle.swap_remove(at);
            drop(idle);
            if helper.runs() {
                return Ok(helper);
            }
        }
        let (tell, told) = channel();
        let gone = || CageError::Unavailable("the thread that starts them has ended".to_string());
        self.asked.send(Asked::Fresh(tell)).map_err(|_| gone())?;
        told.recv().map_err(|_| gone())?.map_err(CageError::Unavailable)
    }

    fn give_back(&self, mut helper: Helper, worked: Duration) {
        helper.jobs += 1;
        helper.busy += worked;
        if helper.jobs >= JOBS_MAX || helper.busy >= BUSY_MAX {
            drop(helper);
            let _ = self.asked.send(Asked::Refill);
            return;
        }
        let mut idle = lock(&self.shared.idle);
        if idle.len() < self.shared.size {
            idle.push(helper);
        }
    }
}

impl Shared {
    /// Starts helpers for as long as the pool is there.
    fn serve(&self, asks: &Receiver<Asked>, tell: &Sender<Result<Vec<String>, String>>) {
        let first = self.start().map(|(helper, missing)| {
            lock(&self.idle).push(helper);
            missing
        });
        let failed = first.is_err();
        if tell.send(first).is_err() || failed {
            return;
        }
        self.fill();
        while let Ok(asked) = asks.recv() {
            match asked {
                Asked::Fresh(tell) => drop(tell.send(self.start().map(|(helper, _)| helper))),
                Asked::Refill => self.fill(),
            }
        }
        lock(&self.idle).clear();
    }

    /// Keeps as many warm as there may be. Who works is not counted: one too many ends when it is given back.
    fn fill(&self) {
        while lock(&self.idle).len() < self.size {
            match self.start() {
                Ok((helper, _)) => lock(&self.idle).push(helper),
                Err(_) => return, // said by `trouble`; whoever needs one tries again
            }
        }
    }

    fn start(&self) -> Result<(Helper, Vec<String>), String> {
        let started = Helper::start(&self.launcher);
        let count = match &started {
            Ok(_) => &self.counts.helpers_started,
            Err(_) => &self.counts.helpers_refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
        *lock(&self.trouble) = started.as_ref().err().cloned();
        started
    }
}

/// What was taken from a helper: everything, or what it gave before it was lost.
enum Taken<T> {
    Whole(T),
    Part(T, Fault),
}

/// Why there is no answer.
enum Fault {
    /// The decoder refuses the file.
    Refused(String),
    /// The decoder panicked.
    Panicked(String),
    /// The helper has ended.
    Gone,
    /// It did not answer in time.
    Late,
    /// It sent something else.
    Broken(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::Late,
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                Self::Gone
            }
            _ => Self::Broken(error),
        }
    }
}

fn take(helper: &mut Helper, deadline: Instant) -> Result<(Answer, Vec<u8>), Fault> {
    helper.answer(deadline, ANSWER_MAX)?.ok_or(Fault::Gone)
}

fn refusal((answer, _): (Answer, Vec<u8>)) -> Fault {
    match answer {
        Answer::Refused { words } => Fault::Refused(clean(&words)),
        Answer::Panicked { words } => Fault::Panicked(clean(&words)),
        _ => Fault::Broken(wrong("a helper answered something else")),
    }
}

/// A helper's words for a log and an answer: one line, not long.
fn clean(words: &str) -> String {
    words.chars().filter(|character| !character.is_control()).take(400).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
