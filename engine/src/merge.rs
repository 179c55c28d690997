//! The merge thread: turns the delta and small segments into bigger ones, away from the shards.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use index::bank::Banks;

/// Wakes the merge thread; dropping the last one ends it.
#[derive(Clone, Debug)]
pub struct MergeBell(SyncSender<()>);

impl MergeBell {
    /// Something was added or removed. Never blocks: one ring stands for many.
    pub fn ring(&self) {
        match self.0.try_send(()) {
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }
}

/// Starts the thread. It looks once a second even without a ring.
pub fn start(banks: Arc<Banks>) -> std::io::Result<(MergeBell, JoinHandle<()>)> {
    let (bell, rings) = sync_channel(1);
    let thread = thread::Builder::new().name("merge".into()).spawn(move || {
        loop {
            match rings.recv_timeout(Duration::from_secs(1)) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => while banks.merge_step() {},
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    })?;
    Ok((MergeBell(bell), thread))
}
