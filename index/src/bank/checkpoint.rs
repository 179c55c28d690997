//! Taking back what a refused change has staged, so that it leaves no trace in its group.

use std::sync::Arc;

use super::change::{Effect, Group};
use super::{Counters, Directory, Paused};
use crate::signal::ContentId;

/// A group as it was before a change: a change that is refused goes back to it.
pub(super) struct Checkpoint {
    memory: u64,
    changes: usize,
    counters: Counters,
    directory: Directory,
    paused: Arc<Paused>,
    effects: usize,
}

impl Group {
    pub(super) fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            memory: self.memory,
            changes: self.batch.changes.len(),
            counters: self.counters,
            directory: self.directory.clone(),
            paused: self.paused.clone(),
            effects: self.effects.len(),
        }
    }

    /// Takes back everything that came after a checkpoint. Answers are remembered only for changes that took effect, so
    /// none came.
    pub(super) fn roll_back(&mut self, to: Checkpoint) {
        let Checkpoint { memory, changes, counters, directory, paused, effects } = to;
        self.batch.changes.truncate(changes);
        for effect in self.effects.drain(effects..) {
            if let Effect::Remove(content, _) = effect {
                self.gone.remove(&content);
            }
        }
        for content in counters.last_content.0 + 1..=self.counters.last_content.0 {
            self.added.remove(&ContentId(content));
        }
        (self.memory, self.counters, self.directory, self.paused) = (memory, counters, directory, paused);
    }
}
