//! The helper's side: confined first, then job by job until the server is gone.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::panic::PanicHookInfo;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::frame::{self, pack_frames, pack_hashes};
use super::sandbox::{Enforcement, confine_helper, confine_program};
use super::{Answer, Job, Picture, Task};
use crate::media::{self, MediaError, pdq};

/// Bytes of a file that a helper takes: the server has checked it before.
const FILE_MAX: usize = 1 << 30;

/// Confines this process, says so, and decodes what comes by stdin; answers go to stdout. Ends when the server is gone.
pub fn run_helper(enforcement: Enforcement) -> io::Result<()> {
    let (mut from, mut to) = (io::stdin().lock(), io::stdout());
    let (refused, missing) = match confine_helper(enforcement) {
        Ok(missing) => (None, missing),
        Err(words) => (Some(words), Vec::new()),
    };
    let stays_out = refused.is_some();
    frame::write(&mut to, &Answer::Hello { refused, missing }, &[])?;
    if stays_out {
        return Ok(());
    }
    std::panic::set_hook(Box::new(last_words));
    while let Some((job, file)) = frame::read::<Job>(&mut from, FILE_MAX)? {
        work(&job, &file, &mut to)?;
    }
    Ok(())
}

/// Tells the server what a decoder panicked with, and ends.
fn last_words(info: &PanicHookInfo<'_>) {
    let place = info.location().map(|place| {
        let file = place.file();
        // The crate and the file in it: the rest is a path of the machine that built it.
        let file = file.rsplit_once("/src/").map_or(file.to_string(), |(folder, name)| {
            format!("{}/{name}", folder.rsplit('/').next().unwrap_or_default())
        });
        format!(" at {file}:{}", place.line())
    });
    let words = info.payload_as_str().unwrap_or("it panicked");
    let words: String = words.chars().take(300).collect();
    let words = words + &place.unwrap_or_default();
    let _ = frame::write(&mut io::stdout(), &Answer::Panicked { words }, &[]);
    std::process::abort()
}

fn work(job: &Job, file: &[u8], to: &mut impl Write) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_millis(job.time_ms);
    let refused = |error: MediaError| Answer::Refused { words: error.to_string() };
    match job.task {
        Task::Shrink { pixels_max } => match media::shrink(file, &job.limits, pixels_max) {
            Ok(jpeg) => frame::write(to, &Answer::Jpeg, &jpeg),
            Err(error) => frame::write(to, &refused(error), &[]),
        },
        Task::Hash { dihedral, frames_max } => {
            match hash(file, job, dihedral) {
                Ok(Picture { hashes, quality }) => {
                    frame::write(to, &Answer::Picture { quality }, &pack_hashes(&hashes))?;
                }
                Err(error) => return frame::write(to, &refused(error), &[]),
            }
            let Some(most) = frames_max else { return Ok(()) };
            match media::hash_frames(file, &job.limits, most, deadline) {
                Ok(frames) => {
                    let head = Answer::Frames { animated: frames.is_some() };
                    frame::write(to, &head, &pack_frames(&frames.unwrap_or_default()))
                }
                Err(error) => frame::write(to, &refused(error), &[]),
            }
        }
    }
}

fn hash(file: &[u8], job: &Job, dihedral: bool) -> Result<Picture, MediaError> {
    let picture = media::decode(file, &job.limits)?;
    let (pixels, width, height) = (picture.as_raw(), picture.width() as usize, picture.height() as usize);
    if dihedral {
        let (hashes, quality) = pdq::dihedral(pixels, width, height);
        return Ok(Picture { hashes: hashes.to_vec(), quality });
    }
    let pdq::Pdq { hash, quality } = pdq::hash(pixels, width, height);
    Ok(Picture { hashes: vec![hash], quality })
}

/// Becomes another program, confined: it reads its input and its libraries, writes to the pipes it was given, has no
/// network, starts nothing, and takes so many seconds of a processor at most. Returns only if it cannot.
pub fn run_program(
    enforcement: Enforcement,
    cpu_seconds: u64,
    program: &Path,
    arguments: &[OsString],
) -> Result<Infallible, String> {
    confine_program(enforcement, cpu_seconds, program)?;
    let error = Command::new(program).args(arguments).exec();
    Err(format!("{} cannot be run: {error}", program.display()))
}
