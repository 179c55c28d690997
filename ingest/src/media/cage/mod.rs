//! Decoding in helper processes that can do nothing else.
//!
//! A decoder reads what strangers made, and a fault in one must end neither the server nor anything beside the file.
//! [`Pool`] keeps warm helpers of the same binary and hands them files; [`run_helper`] is what a helper does;
//! [`run_program`] starts another program (ffmpeg) under the same limits. A crash, a hang and an overrun are answers
//! about the file. This module does not decide how many files may wait, and does not retry beyond one fresh helper.

mod check;
mod frame;
mod helper;
mod pool;
mod process;
mod sandbox;

use std::path::{Path, PathBuf};
use std::process::Command;

use index::{Frame, Hash256};
use serde::{Deserialize, Serialize};

use super::Limits;

pub use check::{Probe, probe};
pub use helper::{run_helper, run_program};
pub use pool::{Counts, Pool};
pub use sandbox::Enforcement;

/// The hidden subcommand of the binary that is a helper.
pub const SUBCOMMAND: &str = "decode-helper";

/// How helpers are started.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// The program that understands [`SUBCOMMAND`].
    pub program: PathBuf,
    /// Whether helpers may run where the system refuses the system call filter.
    pub enforcement: Enforcement,
}

impl Default for Launcher {
    /// This very binary, also after its file was replaced by an upgrade.
    fn default() -> Self {
        let own = Path::new("/proc/self/exe");
        let program = if own.exists() { own.into() } else { std::env::current_exe().unwrap_or(own.into()) };
        Self { program, enforcement: Enforcement::Full }
    }
}

impl Launcher {
    /// A command that runs the helper, with an empty environment.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().arg(SUBCOMMAND);
        if self.enforcement == Enforcement::Partial {
            command.arg("--partial");
        }
        command
    }
}

/// Why a helper gave no answer, or the answer was no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CageError {
    /// The decoder refuses the file.
    #[error("{0}")]
    Refused(String),
    /// The decoder ended instead of answering, twice.
    #[error("cannot be decoded: the decoder crashed ({how})")]
    Crashed {
        /// Its last words, or how it ended.
        how: String,
    },
    /// The decoder did not end in time.
    #[error("cannot be decoded: the decoder did not end within {seconds} s and was stopped")]
    Overran {
        /// The limit.
        seconds: u64,
    },
    /// There is no helper. The file is not at fault.
    #[error("decoders cannot be started: {0}")]
    Unavailable(String),
}

impl CageError {
    /// Whether another try may go better: the fault lies here and not with the file.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// A picture's PDQ hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Its hash; with those of the picture turned and mirrored behind it, in the order of [`super::pdq::TURNS`], where
    /// they were asked for.
    pub hashes: Vec<Hash256>,
    /// How much there was to hash.
    pub quality: u8,
}

/// What was made of a picture file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Its hashes.
    pub picture: Picture,
    /// The frames of an animated picture, if they were asked for; `Ok(None)` if the picture is not animated.
    pub frames: Result<Option<Vec<Frame>>, CageError>,
}

/// What a helper is asked.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Job {
    task: Task,
    limits: Limits,
    /// From the job's begin.
    time_ms: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Task {
    /// PDQ hashes of a picture: turned and mirrored as well, and at most so many frames.
    Hash { dihedral: bool, frames_max: Option<usize> },
    /// A smaller JPEG.
    Shrink { pixels_max: u32 },
}

/// What a helper says. Bytes beside it are hashes, frames or a JPEG.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Answer {
    /// The first words: it is confined and waits for a job, or why it is not.
    Hello { refused: Option<String>, missing: Vec<String> },
    /// A picture's hashes.
    Picture { quality: u8 },
    /// The frames, where the picture is animated.
    Frames { animated: bool },
    /// A smaller picture.
    Jpeg,
    /// The decoder refuses the file.
    Refused { words: String },
    /// The decoder panicked: its last words.
    Panicked { words: String },
}
