//! Small videos, made with the `ffmpeg` program.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::skipped;

/// A folder of videos.
pub struct Clips(tempfile::TempDir);

impl Clips {
    /// An empty folder; `None`, said aloud, where there is no ffmpeg.
    pub fn new(test: &str) -> Option<Self> {
        let there =
            Command::new("ffmpeg").arg("-version").output().is_ok_and(|output| output.status.success());
        if !there {
            skipped(test, "no ffmpeg");
            return None;
        }
        Some(Self(tempfile::tempdir().expect("a temporary folder")))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    /// A source of ffmpeg's own (`testsrc2`, `mandelbrot`, …), so many seconds of it.
    pub fn source(&self, name: &str, source: &str, seconds: u32) -> Vec<u8> {
        let source = format!("{source}=size=640x360:rate=25");
        self.run(name, &["-f", "lavfi", "-i", &source, "-t", &seconds.to_string(), "-pix_fmt", "yuv420p"])
    }

    /// Another video, put through further options.
    pub fn of(&self, name: &str, from: &str, options: &[&str]) -> Vec<u8> {
        let from = self.path(from).display().to_string();
        self.run(name, &[&["-i", &from], options].concat())
    }

    /// Videos one after another.
    pub fn joined(&self, name: &str, parts: &[&str]) -> Vec<u8> {
        let list: String =
            parts.iter().map(|part| format!("file '{}'\n", self.path(part).display())).collect();
        std::fs::write(self.path("list"), list).expect("the list can be written");
        let list = self.path("list").display().to_string();
        self.run(name, &["-f", "concat", "-safe", "0", "-i", &list, "-pix_fmt", "yuv420p"])
    }

    /// Three seconds of sound without a picture.
    pub fn run_sound(&self, name: &str) -> Vec<u8> {
        self.run(name, &["-f", "lavfi", "-i", "sine=duration=3"])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    fn run(&self, name: &str, options: &[&str]) -> Vec<u8> {
        let output = Command::new("ffmpeg")
            .args(["-nostdin", "-hide_banner", "-loglevel", "error", "-y"])
            .args(options)
            .arg(self.path(name))
            .output()
            .expect("ffmpeg runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::read(self.path(name)).expect("ffmpeg wrote it")
    }
}
