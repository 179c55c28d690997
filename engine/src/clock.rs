//! The one owner of time.
//!
//! *Our time* ([`now_ms`]) is wall time for as long as the wall clock keeps step with the boot clock, which nothing sets. When
//! the wall clock jumps, our time goes on with the boot clock: it does not jump, so leases, pauses and terms keep their
//! length. From then on the clock is *in doubt*, and nothing is deleted because of its age ([`trusted_ms`]), until a person
//! confirms it ([`Clock::confirm`]) or both clocks have agreed for an hour; then our time is wall time again. A stamp in the
//! data directory carries all that over restarts. Deadlines within the process use `Instant`.

mod source;
mod stamp;
mod timeline;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use index::store::{AHEAD_MAX, Moment};

use self::stamp::Stamp;
pub use self::timeline::{Doubt, Event};
use self::timeline::{Reading, Timeline};

static CLOCK: Clock = Clock {
    offset_ms: AtomicI64::new(i64::MIN),
    newest_ms: AtomicI64::new(i64::MIN),
    in_doubt: AtomicBool::new(false),
    jumps: AtomicU64::new(0),
    kept: Mutex::new(None),
};

/// The clock of this process.
pub struct Clock {
    /// Our time less boot time; `i64::MIN` until it is read for the first time.
    offset_ms: AtomicI64,
    /// The same of the latest that our time ever was.
    newest_ms: AtomicI64,
    in_doubt: AtomicBool,
    jumps: AtomicU64,
    kept: Mutex<Option<Kept>>,
}

/// What is kept in a data directory.
struct Kept {
    timeline: Timeline,
    folder: PathBuf,
    /// When it was stamped last, by the boot clock.
    stamped_ms: u64,
}

/// What is shown of the clock.
#[derive(Clone, Copy, Debug)]
pub struct ClockState {
    /// Our time.
    pub now_ms: u64,
    /// Wall time.
    pub wall_ms: u64,
    /// Why and since when it is in doubt.
    pub doubt: Option<Doubt>,
    /// How long both clocks must still agree until it is not.
    pub settles_in_ms: u64,
}

/// Milliseconds since 1970 (UTC), our time.
pub fn now_ms() -> u64 {
    CLOCK.at(&CLOCK.offset_ms, source::boot_ms())
}

/// The same in seconds.
pub fn now_s() -> u64 {
    now_ms() / 1000
}

/// The latest time that may be right: wall time, our time, or the latest that our time ever was, going on since. Ids made
/// here are stamped with it, and ids of others are from the future only as seen from here.
pub fn newest_ms() -> u64 {
    let Reading { wall_ms, boot_ms } = source::read();
    wall_ms.max(CLOCK.at(&CLOCK.offset_ms, boot_ms)).max(CLOCK.at(&CLOCK.newest_ms, boot_ms))
}

/// Our time, for what deletes by age; `None` while the clock is in doubt.
pub fn trusted_ms() -> Option<u64> {
    (!CLOCK.in_doubt.load(Ordering::Acquire)).then(now_ms)
}

/// Whether something that others made is stamped with a time so far ahead that their clock or ours is wrong.
pub fn is_future(ms: u64) -> bool {
    ms > newest_ms().saturating_add(AHEAD_MAX.as_millis() as u64)
}

/// All three, for a replay window.
pub fn moment() -> Moment {
    Moment { now_ms: now_ms(), newest_ms: newest_ms(), in_doubt: CLOCK.in_doubt.load(Ordering::Acquire) }
}

/// The clock of this process.
pub fn clock() -> &'static Clock {
    &CLOCK
}

impl Clock {
    /// Goes on where the stamp of a data directory says; to be called before anything there is read. A stamp that does not
    /// read leaves the clock in doubt.
    pub fn open(&self, data_dir: &Path) -> Option<Event> {
        let (now, boot) = (source::read(), source::boot_id());
        let (timeline, event) = match Stamp::read(data_dir) {
            Ok(None) => (Timeline::new(now), None),
            Ok(Some(stamp)) => stamp.resume(now, &boot),
            Err(error) => {
                tracing::warn!(%error, "the clock's stamp does not read: the clock is in doubt");
                Timeline::doubtful(now)
            }
        };
        if event.is_some() {
            self.jumps.fetch_add(1, Ordering::Relaxed);
        }
        self.publish(&timeline);
        let mut kept = Kept { timeline, folder: data_dir.to_path_buf(), stamped_ms: 0 };
        kept.stamp_or_say(now);
        *self.lock() = Some(kept);
        event
    }

    /// Compares both clocks; says what happened, if something did.
    pub fn observe(&self) -> Option<Event> {
        let mut kept = self.lock();
        let kept = kept.as_mut()?;
        let now = source::read();
        let event = kept.timeline.observe(now);
        if matches!(event, Some(Event::Jumped { .. })) {
            self.jumps.fetch_add(1, Ordering::Relaxed);
        }
        self.publish(&kept.timeline);
        if event.is_some() || now.boot_ms.abs_diff(kept.stamped_ms) >= stamp::EVERY_MS {
            kept.stamp_or_say(now);
        }
        event
    }

    /// A person says that wall time is right: our time is wall time from now on. Gives by how much that moved it; `None` if
    /// the clock was not in doubt.
    pub fn confirm(&self) -> Option<i64> {
        let mut kept = self.lock();
        let kept = kept.as_mut()?;
        let now = source::read();
        let moved = kept.timeline.confirm(now)?;
        self.publish(&kept.timeline);
        kept.stamp_or_say(now);
        Some(moved)
    }

    /// What is shown of it.
    pub fn state(&self) -> ClockState {
        let now = source::read();
        let kept = self.lock();
        let timeline = kept.as_ref().map(|kept| &kept.timeline);
        ClockState {
            now_ms: self.at(&self.offset_ms, now.boot_ms),
            wall_ms: now.wall_ms,
            doubt: timeline.and_then(Timeline::doubt),
            settles_in_ms: timeline.map_or(0, |timeline| timeline.settles_in_ms(now)),
        }
    }

    /// Jumps since the start, one that was found at the start included.
    pub fn jumps(&self) -> u64 {
        self.jumps.load(Ordering::Relaxed)
    }

    fn at(&self, offset: &AtomicI64, boot_ms: u64) -> u64 {
        let mut offset_ms = offset.load(Ordering::Acquire);
        if offset_ms == i64::MIN {
            // No data directory is open (yet): wall time as it is now.
            let timeline = Timeline::new(source::read());
            let first =
                offset.compare_exchange(i64::MIN, timeline.offset_ms(), Ordering::AcqRel, Ordering::Acquire);
            offset_ms = first.map_or_else(|found| found, |_| timeline.offset_ms());
        }
        boot_ms.saturating_add_signed(offset_ms)
    }

    fn publish(&self, timeline: &Timeline) {
        self.in_doubt.store(timeline.doubt().is_some(), Ordering::Release);
        self.newest_ms.store(timeline.newest_ms(), Ordering::Release);
        self.offset_ms.store(timeline.offset_ms(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn stamp(&mut self, now: Reading) -> io::Result<()> {
        self.stamped_ms = now.boot_ms; // tried again in a minute, also after an error
        Stamp::of(&self.timeline, now, source::boot_id()).write(&self.folder)
    }

    /// An older stamp only makes the next start more careful.
    fn stamp_or_say(&mut self, now: Reading) {
        if let Err(error) = self.stamp(now) {
            tracing::warn!(%error, "the clock's stamp was not written; it is tried again in a minute");
        }
    }
}
