//! What a connection counted, and all of them together.

use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;

use crate::truth::Verdicts;
use crate::workload::Batch;

/// Parts of a run that are counted by themselves, for the plots over time.
pub const SLOTS: usize = 60;

/// The time that counts.
#[derive(Clone, Copy)]
pub struct Window {
    /// From here on,
    pub from: Instant,
    /// up to here.
    pub to: Instant,
}

impl Window {
    fn slot(&self, at: Instant) -> usize {
        let share = at.saturating_duration_since(self.from).as_secs_f64()
            / self.to.saturating_duration_since(self.from).as_secs_f64().max(1e-9);
        ((share * SLOTS as f64) as usize).min(SLOTS - 1)
    }
}

/// A sixtieth of the run.
#[derive(Clone)]
pub struct Slot {
    /// Hashes answered that were due in it.
    pub answered: u64,
    /// Microseconds from the intended send to the answer, to a tenth of themselves.
    pub latency: Histogram<u32>,
}

/// Counts.
pub struct Tally {
    /// Hashes sent in the window.
    pub sent: u64,
    /// Of those, answered.
    pub answered: u64,
    /// Frames answered.
    pub frames: u64,
    /// Frames answered by an error, or not at all.
    pub errors: u64,
    /// Frames answered Busy (and sent again in a closed loop).
    pub busy: u64,
    /// Frames sent later than scheduled by the generator's own fault.
    pub late: u64,
    /// CPU time within the window.
    pub worked: Duration,
    /// When the last of the answers came.
    pub last_answer: Option<Instant>,
    /// The first error's words.
    pub first_error: Option<String>,
    /// What the answers were worth.
    pub verdicts: Verdicts,
    /// Nanoseconds from the intended send to the answer.
    pub latency: Histogram<u64>,
    /// The run in parts.
    pub slots: Vec<Slot>,
}

impl Tally {
    /// Nothing yet.
    pub fn new() -> Self {
        let latency = || Histogram::new_with_bounds(1, 60_000_000, 1).expect("the bounds are right");
        Self {
            sent: 0,
            answered: 0,
            frames: 0,
            errors: 0,
            busy: 0,
            late: 0,
            worked: Duration::ZERO,
            last_answer: None,
            first_error: None,
            verdicts: Verdicts::default(),
            latency: Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are right"),
            slots: (0..SLOTS).map(|_| Slot { answered: 0, latency: latency() }).collect(),
        }
    }

    /// Adds another connection's.
    pub fn add(&mut self, other: Tally) -> Result<()> {
        self.sent += other.sent;
        self.answered += other.answered;
        self.frames += other.frames;
        self.errors += other.errors;
        self.busy += other.busy;
        self.late += other.late;
        self.worked += other.worked;
        self.last_answer = self.last_answer.max(other.last_answer);
        self.first_error = self.first_error.take().or(other.first_error);
        self.verdicts.add(other.verdicts);
        self.latency.add(other.latency)?;
        for (slot, other) in self.slots.iter_mut().zip(other.slots) {
            slot.answered += other.answered;
            slot.latency.add(other.latency)?;
        }
        Ok(())
    }

    /// How long it took until the last answer came: the window's length, or longer where answers came after it.
    pub fn passed(&self, window: &Window) -> Duration {
        self.last_answer.map_or(window.to, |last| last.max(window.to)).saturating_duration_since(window.from)
    }

    /// Counts an error.
    pub fn error(&mut self, words: String) {
        self.errors += 1;
        self.first_error.get_or_insert(words);
    }

    /// Counts the answer to a batch that was due within the window.
    pub fn answer(&mut self, batch: &Batch, verdicts: Verdicts, due: Instant, window: &Window) {
        let now = Instant::now();
        let latency = now.saturating_duration_since(due);
        self.last_answer = self.last_answer.max(Some(now));
        let slot = &mut self.slots[window.slot(due)];
        self.answered += batch.hashes.len() as u64;
        slot.answered += batch.hashes.len() as u64;
        self.frames += 1;
        self.verdicts.add(verdicts);
        self.latency.saturating_record(latency.as_nanos() as u64);
        slot.latency.saturating_record(latency.as_micros() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_until_the_last_answer_came() {
        let from = Instant::now();
        let window = Window { from, to: from + Duration::from_secs(6) };
        let mut tally = Tally::new();
        assert_eq!(tally.passed(&window), Duration::from_secs(6));
        tally.last_answer = Some(from + Duration::from_secs(2));
        assert_eq!(tally.passed(&window), Duration::from_secs(6));
        let late = Tally { last_answer: Some(from + Duration::from_secs(33)), ..Tally::new() };
        tally.add(late).unwrap();
        assert_eq!(tally.passed(&window), Duration::from_secs(33));
    }
}
