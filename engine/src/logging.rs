//! Writes the log to stderr, on a thread of its own.
//!
//! Threads that log put their lines into a bounded queue and never wait; only the thread `log` writes to stderr, so only
//! it waits for a reader that stalls. Lines that find the queue full, and lines that cannot be written, are dropped and
//! counted in `hashward_log_lines_dropped`. The process never ends because of its log, and waits for it at its end for
//! `FLUSH_MAX` at most.

mod filter;
mod one_line;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::failpoint::test_number;
use one_line::OneLine;

/// Crates whose lines of all levels are logged: they log no URL, no secret and no text of a user.
const OURS: [&str; 5] = ["engine", "hashward", "index", "ingest", "reporter"];
/// Bytes of lines that may wait to be written.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// How long the end of the process waits until the last lines are written.
const FLUSH_MAX: Duration = Duration::from_secs(1);
/// How often the log says at most that lines were dropped.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// How long the thread `log` waits before it tries again to write to a non-blocking stderr.
const FULL_WAIT: Duration = Duration::from_millis(20);

/// The lines of this process.
static LINES: Lines = Lines::new();
/// Whether the thread `log` runs.
static STARTED: AtomicBool = AtomicBool::new(false);

/// Starts the log. Crates of others log warnings and errors only, whatever the filter asks for: their lower levels hold
/// URLs and headers of requests.
pub fn start(filter: &str) -> Result<()> {
    let filter = filter::read(filter)?;
    let ansi = io::stderr().is_terminal();
    let ours = filter_fn(|of| {
        let module = of.target().split("::").next().unwrap_or_default();
        *of.level() <= tracing::Level::WARN || OURS.contains(&module)
    });
    let bytes_max =
        test_number("HASHWARD_LOG_BYTES").map_or(WAITING_BYTES_MAX, |number| number.try_into().unwrap_or(0));
    thread::Builder::new()
        .name("log".into())
        .spawn(|| LINES.write_out(Stderr, tell_dropped))
        .context("the thread that writes the log cannot be started")?;
    LINES.lock().bytes_max = bytes_max;
    STARTED.store(true, Ordering::Release);
    panic::set_hook(Box::new(log_panic));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(ansi)
        .fmt_fields(OneLine::default())
        .log_internal_errors(false)
        .with_writer(|| Queued)
        .finish()
        .with(ours)
        .init();
    Ok(())
}

/// Waits until all lines are written, but not longer than `FLUSH_MAX`.
pub fn flush() {
    LINES.wait_until_written(FLUSH_MAX);
}

/// Writes a last line to stderr. Does not wait for a reader longer than `FLUSH_MAX` once the log has started.
pub fn say(line: &str) {
    let line = format!("{line}\n");
    if STARTED.load(Ordering::Acquire) {
        LINES.push(line.into_bytes());
        flush();
    } else {
        let _ = io::stderr().write_all(line.as_bytes()); // there is nobody else to tell
    }
}

/// Lines dropped since start.
pub fn dropped() -> u64 {
    LINES.dropped.load(Ordering::Relaxed)
}

/// Logs a panic as the standard library prints it. The standard library's own hook would wait for the reader of stderr.
fn log_panic(info: &PanicHookInfo) {
    let thread = thread::current();
    let mut line = format!("thread '{}' {info}", thread.name().unwrap_or("<unnamed>"));
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        line.push_str(&format!("\nstack backtrace:\n{backtrace}"));
    }
    say(&line);
}

fn tell_dropped(lines: u64, error: Option<&io::Error>) {
    let reason = error.map_or("nobody read stderr fast enough".to_string(), ToString::to_string);
    tracing::warn!(lines, reason, "log lines were dropped");
}

/// Takes one line a `write`, as the `fmt` layer of tracing-subscriber writes.
struct Queued;

impl Write for Queued {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        LINES.push(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard error without the lock of [`io::stderr`], which a stalled reader would let us hold.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(io::stderr(), bytes) {
                Err(rustix::io::Errno::AGAIN) => thread::sleep(FULL_WAIT),
                other => return Ok(other?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A bounded queue of lines between the threads that log and the thread that writes.
struct Lines {
    waiting: Mutex<Waiting>,
    /// Notified when a line comes.
    more: Condvar,
    /// Notified when the last line is written or dropped.
    done: Condvar,
    dropped: AtomicU64,
}

struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    bytes_max: usize,
    /// Whether a line that left the queue is being written.
    writing: bool,
}

impl Lines {
    const fn new() -> Self {
        let waiting =
            Waiting { lines: VecDeque::new(), bytes: 0, bytes_max: WAITING_BYTES_MAX, writing: false };
        Self {
            waiting: Mutex::new(waiting),
            more: Condvar::new(),
            done: Condvar::new(),
            dropped: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a line, or drops it when the queue is full.
    fn push(&self, line: Vec<u8>) {
        let mut waiting = self.lock();
        if waiting.bytes + line.len() > waiting.bytes_max {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.bytes += line.len();
        waiting.lines.push_back(line);
        self.more.notify_one();
    }

    /// Whether half of the queue is free, so that the line about dropped lines is not dropped itself.
    fn has_room(&self) -> bool {
        let waiting = self.lock();
        waiting.bytes <= waiting.bytes_max / 2
    }

    /// Takes the next line, when there is one.
    fn next(&self) -> Vec<u8> {
        let mut waiting = self.lock();
        waiting.writing = false;
        loop {
            if let Some(line) = waiting.lines.pop_front() {
                waiting.bytes -= line.len();
                waiting.writing = true;
                return line;
            }
            self.done.notify_all();
            waiting = self.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn wait_until_written(&self, limit: Duration) {
        let written = self
            .done
            .wait_timeout_while(self.lock(), limit, |waiting| waiting.writing || !waiting.lines.is_empty());
        drop(written); // what is not written by now stays unwritten
    }

    /// Writes lines as they come, for ever. After a line that could be written, `tell` is given the number of lines
    /// that were dropped, at most every [`TELL_EVERY`], and the last error.
    fn write_out(&self, mut out: impl Write, tell: impl Fn(u64, Option<&io::Error>)) {
        let (mut told, mut told_at) = (0, None::<Instant>);
        let mut failure = None;
        let mut torn = false;
        loop {
            let mut line = self.next();
            if torn {
                line.insert(0, b'\n');
            }
            match write_line(&mut out, &line) {
                Ok(()) => torn = false,
                Err((written, error)) => {
                    torn |= written > 0;
                    failure = Some(error);
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            }
            let dropped = self.dropped.load(Ordering::Relaxed);
            if dropped > told && self.has_room() && told_at.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
                tell(dropped - told, failure.take().as_ref());
                (told, told_at) = (dropped, Some(Instant::now()));
            }
        }
    }
}

/// Writes a whole line, or says how much of it was written.
fn write_line(out: &mut impl Write, line: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while written < line.len() {
        match out.write(&line[written..]) {
            Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A stderr whose every write waits for what the test lets it do: take some bytes, or fail.
    struct Slow {
        allowed: Receiver<Result<usize, ErrorKind>>,
        taken: Sender<Vec<u8>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let Ok(allowed) = self.allowed.recv() else {
                loop {
                    thread::park(); // the test is over
                }
            };
            let count = allowed?.min(bytes.len());
            let _ = self.taken.send(bytes[..count].to_vec());
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    type Allow = Sender<Result<usize, ErrorKind>>;
    type Told = Receiver<(u64, Option<ErrorKind>)>;

    fn slow() -> (&'static Lines, Allow, Receiver<Vec<u8>>, Told) {
        let lines: &'static Lines = Box::leak(Box::new(Lines::new()));
        lines.lock().bytes_max = 100;
        let ((allow, allowed), (taken, out), (say, told)) = (channel(), channel(), channel());
        thread::spawn(move || {
            lines.write_out(Slow { allowed, taken }, |count, error| {
                let _ = say.send((count, error.map(io::Error::kind)));
            })
        });
        (lines, allow, out, told)
    }

    fn next<T>(of: &Receiver<T>) -> T {
        of.recv_timeout(Duration::from_secs(10)).unwrap()
    }

    #[test]
    fn a_reader_that_stalls_costs_lines_and_no_time() {
        let (lines, allow, out, told) = slow();
        let begun = Instant::now();
        for _ in 0..1000 {
            lines.push(b"0123456789".to_vec());
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        let limit = Duration::from_millis(50);
        lines.wait_until_written(limit);
        assert!(begun.elapsed() < Duration::from_secs(2), "the end waits for {:?}", begun.elapsed());
        let dropped = lines.dropped.load(Ordering::Relaxed);
        assert!((989..=990).contains(&dropped), "{dropped}: ten wait, one may be in hand");
        for _ in dropped..1000 {
            allow.send(Ok(usize::MAX)).unwrap();
            assert_eq!(next(&out), b"0123456789");
        }
        assert_eq!(next(&told), (dropped, None));
        let begun = Instant::now();
        lines.wait_until_written(Duration::from_secs(10));
        assert!(begun.elapsed() < Duration::from_secs(5), "nothing waits any more");
    }

    #[test]
    fn lines_that_fail_are_counted_and_the_next_begins_a_line() {
        let (lines, allow, out, told) = slow();
        for line in ["first\n", "second\n", "third\n"] {
            lines.push(line.into());
        }
        allow.send(Ok(3)).unwrap();
        assert_eq!(next(&out), b"fir");
        allow.send(Err(ErrorKind::StorageFull)).unwrap(); // the rest of the first
        allow.send(Err(ErrorKind::BrokenPipe)).unwrap(); // all of the second
        allow.send(Err(ErrorKind::Interrupted)).unwrap();
        allow.send(Ok(usize::MAX)).unwrap();
        assert_eq!(next(&out), b"\nthird\n");
        assert_eq!(next(&told), (2, Some(ErrorKind::BrokenPipe)));
    }
}
