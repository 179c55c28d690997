//! Threads that give way to the shards.

/// How much they give way, in the system's words ('nice').
const NICE: i32 = 10;

/// Lowers the priority of the calling thread, for good. Where the system refuses, the thread is only less polite.
pub fn give_way() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, thread = std::thread::current().name(), "a thread runs at full priority");
    }
}
