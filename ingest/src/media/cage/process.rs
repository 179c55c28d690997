//! A helper as the server sees it: a child and the socket that is its stdin and stdout.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::frame;
use super::{Answer, Launcher};

/// From the start of a helper to its first words. Only a machine without memory or processors takes so long.
const HELLO_MAX: Duration = Duration::from_secs(20);
/// How long a helper that closed its socket may take to end.
const END_MAX: Duration = Duration::from_millis(500);

/// A running helper. Killed when dropped.
pub struct Helper {
    child: Child,
    socket: UnixStream,
    /// Files that it was given.
    pub jobs: u32,
    /// How long it worked on them.
    pub busy: Duration,
}

impl Helper {
    /// Starts a helper and waits for its first words; gives what of its cage the system does not have. Its parent is
    /// the calling thread: the helper ends when that thread ends.
    pub fn start(launcher: &Launcher) -> Result<(Self, Vec<String>), String> {
        let (socket, child) = Self::spawn(launcher)
            .map_err(|error| format!("{} does not start: {error}", launcher.program.display()))?;
        let mut helper = Self { child, socket, jobs: 0, busy: Duration::ZERO };
        match helper.answer(Instant::now() + HELLO_MAX, 0) {
            Ok(Some((Answer::Hello { refused: None, missing }, _))) => Ok((helper, missing)),
            Ok(Some((Answer::Hello { refused: Some(words), .. }, _))) => Err(words),
            Ok(Some(_)) => Err("a helper began with the wrong words".to_string()),
            Ok(None) => Err(format!("a helper ended at its start ({})", helper.end())),
            Err(error) => Err(format!("a helper said nothing at its start: {error}")),
        }
    }

    fn spawn(launcher: &Launcher) -> io::Result<(UnixStream, Child)> {
        let (ours, theirs) = UnixStream::pair()?;
        let (stdin, stdout) = (OwnedFd::from(theirs.try_clone()?), OwnedFd::from(theirs));
        let child = launcher
            .command()
            .current_dir("/")
            .stdin(Stdio::from(stdin))
            .stdout(Stdio::from(stdout))
            .stderr(Stdio::null())
            .spawn()?;
        Ok((ours, child))
    }

    /// Whether it still runs, as far as is known.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Gives it a message.
    pub fn ask(&mut self, head: &impl Serialize, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        frame::write(&mut Timed { socket: &self.socket, deadline }, head, bytes)
    }

    /// Takes its next message; `None` if it has ended.
    pub fn answer(&mut self, deadline: Instant, bytes_max: usize) -> io::Result<Option<(Answer, Vec<u8>)>> {
        frame::read(&mut Timed { socket: &self.socket, deadline }, bytes_max)
    }

    /// Ends it, if it has not ended, and says how it did.
    pub fn end(&mut self) -> String {
        let deadline = Instant::now() + END_MAX;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(status)) => return shown(status),
                Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                Err(error) => return error.to_string(),
            }
        }
        let _ = self.child.kill();
        "it closed its socket and went on".to_string()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

fn shown(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("signal {signal}"),
        None => status.to_string(),
    }
}

/// A socket that is read and written until a deadline.
struct Timed<'s> {
    socket: &'s UnixStream,
    deadline: Instant,
}

impl Timed<'_> {
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(self.left()?))?;
        timely(self.socket.read(buffer))
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(self.left()?))?;
        timely(self.socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A time-out of a socket is said as 'would block'.
fn timely(outcome: io::Result<usize>) -> io::Result<usize> {
    outcome.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    })
}
