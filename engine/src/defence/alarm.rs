//! Alarms: what a person must hear of. Never a hash in them, never lost without being counted.
//!
//! The channel is bounded, because whoever attacks decides how many alarms there are. What does not fit is counted,
//! and is in the log all the same.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_channel::{Receiver, Sender, bounded};

/// The number of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyNumber(pub u64);

impl fmt::Display for KeyNumber {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// What an alarm is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmKind {
    /// The queries read a listed hash out; the key is frozen.
    Walk,
    /// The key asked more than it may; those frames are refused.
    Budget,
    /// A content that is in no feed was found: somebody has a copy of the list.
    Honeytoken,
    /// Very many distinct queries around one content: a picture that spreads, or a patient reader. Nothing is refused.
    Crowd,
}

impl AlarmKind {
    /// Its name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Walk => "walk",
            Self::Budget => "budget",
            Self::Honeytoken => "honeytoken",
            Self::Crowd => "crowd",
        }
    }
}

/// Something a person must hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Whose queries.
    pub key: KeyNumber,
    /// About what.
    pub kind: AlarmKind,
    /// What happened, for people.
    pub words: String,
    /// When, in milliseconds since 1970 (UTC).
    pub at_ms: u64,
}

/// Where alarms are raised. All clones are one.
#[derive(Clone, Debug)]
pub struct Alarms {
    sender: Sender<Alarm>,
    lost: Arc<AtomicU64>,
}

impl Alarms {
    /// A channel in which so many alarms may wait.
    pub fn new(waiting_max: usize) -> (Self, Receiver<Alarm>) {
        let (sender, receiver) = bounded(waiting_max.max(1));
        (Self { sender, lost: Arc::default() }, receiver)
    }

    /// Raises an alarm. Never waits: a shard calls this.
    pub fn raise(&self, alarm: Alarm) {
        tracing::warn!(key = alarm.key.0, kind = alarm.kind.name(), "{}", alarm.words);
        if self.sender.try_send(alarm).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Alarms that found no room, or nobody listening. They are in the log.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_that_find_no_room_are_counted() {
        let (alarms, heard) = Alarms::new(2);
        let alarm = Alarm { key: KeyNumber(7), kind: AlarmKind::Crowd, words: "many".to_string(), at_ms: 1 };
        (0..5).for_each(|_| alarms.raise(alarm.clone()));
        assert_eq!((heard.len(), alarms.lost()), (2, 3));
        drop(heard);
        alarms.clone().raise(alarm);
        assert_eq!(alarms.lost(), 4);
    }
}
