//! Why the program ended, kept where the next start and an operator find it: `last-run.json` in the data directory.
//!
//! The file says that a run began when it begins, and why it ended when it ends. A run that could not say why was killed
//! or lost its power. The next start logs it and counts it in `hashward_last_end`.

use std::panic;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use index::store::whole_file::{Readers, replace_file};
use serde::{Deserialize, Serialize};

use crate::clock::now_ms;

const FILE: &str = "last-run.json";
/// Bytes of a reason that are kept.
const WORDS_MAX: usize = 4 << 10;

/// Where this run leaves its reason.
static RUN: OnceLock<(PathBuf, Run)> = OnceLock::new();

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// There was no run before this one.
    None,
    /// It was told to stop, and drained.
    Stopped,
    /// It was told to stop, and ended before it had drained.
    NotDrained,
    /// It could not start, or a part of it failed, and it ended by itself.
    Failed,
    /// Storage failed.
    Storage,
    /// A thread panicked.
    Panicked,
    /// It left no word: killed (SIGKILL, out of memory, an abort), or the machine lost its power.
    Killed,
}

impl End {
    /// The name that metrics and the file use.
    pub fn name(self) -> &'static str {
        match self {
            End::None => "none",
            End::Stopped => "stopped",
            End::NotDrained => "not_drained",
            End::Failed => "failed",
            End::Storage => "storage",
            End::Panicked => "panicked",
            End::Killed => "killed",
        }
    }
}

/// One run of the program, as the file has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Run {
    pid: u32,
    version: String,
    began_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<End>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    words: String,
}

/// Reads how the run before this one ended, logs it, and begins the record of this one. Panics of any thread are recorded
/// from here on.
pub fn begin(data_dir: &Path) -> End {
    let path = data_dir.join(FILE);
    let end = match read(&path) {
        None => End::None,
        Some(Run { end: Some(end), words, pid, ended_ms, .. }) => {
            if end != End::Stopped {
                tracing::warn!(
                    end = end.name(),
                    reason = words,
                    pid,
                    ended_ms,
                    "the run before this one ended early"
                );
            }
            end
        }
        Some(Run { pid, began_ms, .. }) => {
            tracing::warn!(
                pid,
                began_ms,
                "the run before this one left no reason: it was killed (SIGKILL, out of memory, an abort), or the power failed"
            );
            End::Killed
        }
    };
    let run = Run {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        began_ms: now_ms(),
        ended_ms: None,
        end: None,
        words: String::new(),
    };
    write(&path, &run);
    if RUN.set((path, run)).is_ok() {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            usual(info); // first, in case the disk does not answer
            say(End::Panicked, &info.to_string());
        }));
    }
    end
}

/// Records why this run ends. Does nothing before [`begin`].
pub fn say(end: End, words: &str) {
    let Some((path, run)) = RUN.get() else { return };
    let mut words = words.to_string();
    words.truncate(words.floor_char_boundary(WORDS_MAX));
    write(path, &Run { end: Some(end), ended_ms: Some(now_ms()), words, ..run.clone() });
}

fn read(path: &Path) -> Option<Run> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Replaces the file whole. That it cannot be written must not keep the program from starting or ending.
fn write(path: &Path, run: &Run) {
    let written = serde_json::to_vec(run)
        .map_err(std::io::Error::other)
        .and_then(|bytes| replace_file(path, &bytes, Readers::Umask));
    if let Err(error) = written {
        tracing::warn!(%error, file = %path.display(), "why this run ends cannot be recorded");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_run_learns_how_this_one_ended() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(begin(folder.path()), End::None);
        assert_eq!(begin(folder.path()), End::Killed, "no word was left");
        let panicked = std::thread::spawn(|| panic!("for the record")).join();
        assert!(panicked.is_err());
        let run = read(&folder.path().join(FILE)).unwrap();
        assert_eq!(run.end, Some(End::Panicked));
        assert!(run.words.contains("for the record"), "{}", run.words);
        say(End::Stopped, "");
        assert_eq!(begin(folder.path()), End::Stopped);
    }
}
