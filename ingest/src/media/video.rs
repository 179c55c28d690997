//! vPDQ of a video, by the `ffmpeg` program: it gives frames as pictures on a pipe, we hash them.
//!
//! A video comes from strangers, and ffmpeg reads much: it gets the file as an open handle of memory (nothing is written
//! to a disk), only containers that name no other file or address, one thread, and the cage of [`super::cage`]: no
//! network, no file to write, an end to its memory and time. What it writes to its pipe is read as pixels by safe code
//! alone, whatever it is.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use index::Frame;
use rustix::fs::{MemfdFlags, memfd_create};

use super::cage::Launcher;
use super::pdq;

/// Containers that are read. Playlists (HLS, DASH, concat) are not among them: they name further files.
const CONTAINERS: &str = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,apng,ivf,nut,\
                          h264,hevc,rm,dv,mxf,swf";
/// Bytes kept of what ffmpeg says.
const SAID_MAX: u64 = 4096;

/// How videos are hashed, and what that may cost.
#[derive(Clone, Debug)]
pub struct VideoOptions {
    /// The program; looked for in `PATH` where it is no path.
    pub ffmpeg: PathBuf,
    /// Frames hashed of each second.
    pub frames_per_second: f64,
    /// Frames hashed at most: a longer video is refused, not cut.
    pub frames_max: usize,
    /// Pixels of a frame at most.
    pub pixels_max: u64,
    /// From start to end of ffmpeg.
    pub time_max: Duration,
    /// What confines ffmpeg before it begins.
    pub launcher: Launcher,
}

impl Default for VideoOptions {
    fn default() -> Self {
        Self {
            ffmpeg: "ffmpeg".into(),
            frames_per_second: 1.0,
            frames_max: index::signal::FRAMES_MAX,
            pixels_max: 8192 * 8192,
            time_max: Duration::from_secs(60),
            launcher: Launcher::default(),
        }
    }
}

/// Why a video gives no frames.
#[derive(Debug, thiserror::Error)]
pub enum VideoError {
    /// There is no such program.
    #[error("videos are not hashed here: there is no {program}; install ffmpeg, or name it with --ffmpeg")]
    NoProgram {
        /// What was looked for.
        program: String,
    },
    /// ffmpeg cannot read it.
    #[error("the video is cut, damaged, or of a kind that is not read: {said}")]
    Unreadable {
        /// ffmpeg's words.
        said: String,
    },
    /// It took too long.
    #[error("the video was not read within {seconds} s")]
    Time {
        /// The limit.
        seconds: u64,
    },
    /// It has too many frames.
    #[error("the video is too long: more than {max} frames would be hashed; hash fewer of each second")]
    Frames {
        /// The limit.
        max: usize,
    },
    /// The system refused.
    #[error("ffmpeg cannot be run: {0}")]
    System(#[from] io::Error),
}

/// A video's frames.
#[derive(Clone, Debug)]
pub struct Video {
    /// Those that could be read, in order.
    pub frames: Vec<Frame>,
    /// What ffmpeg said of it if it did not read it whole. What there is may be matched; banked, it would be the hash of
    /// another video.
    pub damage: Option<String>,
}

/// Hashes frames of a video at even times from its beginning. Takes seconds: for a thread that may wait.
pub fn hash_video(bytes: &[u8], options: &VideoOptions) -> Result<Video, VideoError> {
    let mut file = File::from(memfd_create("video", MemfdFlags::CLOEXEC).map_err(io::Error::from)?);
    file.write_all(bytes)?;
    let mut ffmpeg = Running::start(file, options)?;
    let read = hash_pictures(&mut ffmpeg.pictures, options);
    let (status, said, late) = ffmpeg.end()?;
    if late {
        return Err(VideoError::Time { seconds: options.time_max.as_secs() });
    }
    let damage = (!status.success() || !said.is_empty()).then(|| first_line(&said));
    match read {
        Err(ReadFault::TooMany) => Err(VideoError::Frames { max: options.frames_max }),
        Err(ReadFault::Broken(error)) => match damage {
            Some(said) => Err(VideoError::Unreadable { said }),
            None => Err(error.into()),
        },
        Ok(frames) if frames.is_empty() => {
            Err(VideoError::Unreadable { said: damage.unwrap_or_else(|| "it has no picture".to_string()) })
        }
        Ok(frames) => Ok(Video { frames, damage }),
    }
}

fn first_line(said: &str) -> String {
    // Not the address of a decoder that ffmpeg puts before its words.
    let line = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
    line.rsplit_once("] ").map_or(line, |(_, words)| words).trim().chars().take(200).collect()
}

enum ReadFault {
    TooMany,
    Broken(io::Error),
}

impl From<io::Error> for ReadFault {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// An ffmpeg, and the thread that ends it in time.
struct Running {
    pictures: BufReader<std::process::ChildStdout>,
    said: JoinHandle<String>,
    watched: JoinHandle<io::Result<(ExitStatus, bool)>>,
    done: Sender<()>,
}

impl Running {
    fn start(file: File, options: &VideoOptions) -> Result<Self, VideoError> {
        let ffmpeg = found(&options.ffmpeg)?;
        let cpu_seconds = (options.time_max.as_secs() + 1).to_string();
        let mut command = options.launcher.command();
        command
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .args(["--cpu-seconds", &cpu_seconds, "--"])
            .arg(&ffmpeg)
            .args(["-nostdin", "-hide_banner", "-loglevel", "error", "-max_alloc", "536870912"])
            .args(["-threads", "1", "-filter_threads", "1"])
            .args(["-max_pixels", &options.pixels_max.to_string()])
            .args(["-protocol_whitelist", "file", "-format_whitelist", CONTAINERS])
            // Opened anew, memory can be read from any place, as a file and unlike a pipe.
            .args(["-i", "file:/dev/fd/0", "-map", "0:v:0", "-an", "-sn", "-dn"])
            .args(["-vf", &sampling(options.frames_per_second)])
            .args(["-frames:v", &(options.frames_max + 1).to_string()])
            .args(["-f", "image2pipe", "-c:v", "ppm", "pipe:1"])
            .stdin(Stdio::from(file))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (Some(pictures), Some(words)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(io::Error::other("ffmpeg has no pipes").into());
        };
        let (done, ended) = channel();
        let time_max = options.time_max;
        let watched = thread::spawn(move || {
            let deadline = Instant::now() + time_max;
            let _ = ended.recv_timeout(time_max); // read to its end, or out of time
            finish(child, deadline)
        });
        let said = thread::spawn(move || {
            let mut words = words;
            let mut said = Vec::new();
            let _ = (&mut words).take(SAID_MAX).read_to_end(&mut said);
            let _ = io::copy(&mut words, &mut io::sink()); // so that it never waits for us
            String::from_utf8_lossy(&said).into_owned()
        });
        Ok(Self { pictures: BufReader::new(pictures), said, watched, done })
    }

    /// How it ended, what it said, and whether it was ended by us for its time.
    fn end(self) -> io::Result<(ExitStatus, String, bool)> {
        drop(self.pictures); // who writes on gets an error
        drop(self.done);
        let broken = |_| io::Error::other("a thread of ours ended");
        let (status, late) = self.watched.join().map_err(broken)??;
        Ok((status, self.said.join().map_err(broken)?, late))
    }
}

/// Hashes every picture that comes.
fn hash_pictures(pictures: &mut impl BufRead, options: &VideoOptions) -> Result<Vec<Frame>, ReadFault> {
    let mut frames = Vec::new();
    let mut pixels = Vec::new();
    while let Some((width, height)) = header(pictures, options.pixels_max)? {
        if frames.len() == options.frames_max {
            return Err(ReadFault::TooMany);
        }
        pixels.resize(width * height * 3, 0);
        pictures.read_exact(&mut pixels)?;
        let pdq::Pdq { hash, quality } = pdq::hash(&pixels, width, height);
        let time_ms = (frames.len() as f64 * 1000.0 / options.frames_per_second).round() as u32;
        frames.push(Frame { hash, quality, time_ms });
    }
    Ok(frames)
}

/// The size of the next picture: `P6`, width and height, 255, each line ended. `None` at the end.
fn header(pictures: &mut impl BufRead, pixels_max: u64) -> io::Result<Option<(usize, usize)>> {
    let mut line = || -> io::Result<String> {
        let mut line = Vec::new();
        pictures.by_ref().take(64).read_until(b'\n', &mut line)?;
        Ok(String::from_utf8_lossy(&line).trim_end().to_string())
    };
    let kind = line()?;
    if kind.is_empty() {
        return Ok(None);
    }
    let (size, depth) = (line()?, line()?);
    let size = size.split_once(' ').and_then(|(width, height)| {
        let (width, height): (usize, usize) = (width.parse().ok()?, height.parse().ok()?);
        let fits = (width as u64).checked_mul(height as u64).is_some_and(|pixels| pixels <= pixels_max);
        fits.then_some((width, height))
    });
    match size {
        Some(size) if kind == "P6" && depth == "255" => Ok(Some(size)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "ffmpeg gave no picture")),
    }
}

/// The program's file: ffmpeg is confined to it and its libraries before it begins.
fn found(program: &Path) -> Result<PathBuf, VideoError> {
    let runs = |path: &Path| {
        path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let places = match program.components().count() {
        1 => std::env::split_paths(&folders).map(|folder| folder.join(program)).collect(),
        _ => vec![program.to_path_buf()],
    };
    let found = places.into_iter().find(|path| runs(path));
    found.ok_or_else(|| VideoError::NoProgram { program: program.display().to_string() })
}

/// Takes the very frames that the reference takes: the first, and from there every n-th, n being the frame rate over the
/// frames wanted of a second, rounded down. Where the rate is not known, frames by their times.
fn sampling(wanted: f64) -> String {
    let every = format!("max(1,floor(FR/{wanted}))");
    format!("setpts='if(gt(FR,0),N/{every}/{wanted},T)/TB',fps={wanted}:round=up")
}

/// Waits for the end, and makes it at the deadline.
fn finish(mut child: Child, deadline: Instant) -> io::Result<(ExitStatus, bool)> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, false));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            return Ok((child.wait()?, true));
        }
        thread::sleep(Duration::from_millis(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn picture(width: usize, height: usize, pixels: &[u8]) -> Vec<u8> {
        let mut bytes = format!("P6\n{width} {height}\n255\n").into_bytes();
        let all = pixels.iter().copied().cycle().take(if pixels.is_empty() { 0 } else { width * height * 3 });
        bytes.extend(all);
        bytes
    }

    #[test]
    fn pictures_of_any_shape_are_hashed_or_refused() {
        let options = VideoOptions { pixels_max: 1 << 20, ..VideoOptions::default() };
        let read = |bytes: Vec<u8>| hash_pictures(&mut &bytes[..], &options).map_err(|_| ());
        for (width, height) in
            [(0, 0), (0, 9), (1, 1), (4, 4), (5, 5), (5, 200_000), (200_000, 5), (64, 64), (1, 1 << 20)]
        {
            let frames = read(picture(width, height, &[7, 200, 30, 90])).unwrap();
            assert_eq!(frames.len(), 1, "{width} x {height}");
        }
        assert!(read(picture(1 << 10, 1 << 11, &[])).is_err(), "too many pixels");
        assert!(read(format!("P6\n{} 2\n255\n", u64::MAX).into_bytes()).is_err());
        assert!(read(b"P6\n9 9\n255\nshort".to_vec()).is_err());
        assert!(read(b"P5\n1 1\n255\nxxx".to_vec()).is_err());
        assert!(read(Vec::new()).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn whatever_ffmpeg_writes_is_frames_or_an_error(
            sizes in prop::collection::vec((0usize..40, 0usize..40), 0..4),
            at in 0usize..4000, value: u8, cut in 0usize..4000,
        ) {
            let options = VideoOptions { pixels_max: 1 << 12, frames_max: 3, ..VideoOptions::default() };
            let mut bytes: Vec<u8> =
                sizes.iter().flat_map(|(width, height)| picture(*width, *height, &[1, 90, 200])).collect();
            if !bytes.is_empty() {
                let length = bytes.len();
                bytes[at % length] = value;
                bytes.truncate(length - cut % length);
            }
            if let Ok(frames) = hash_pictures(&mut &bytes[..], &options) {
                prop_assert!(frames.len() <= 3);
            }
        }
    }
}
