//! Standard output and standard error of the command-line programs.
//!
//! `println!` panics when the reader of a pipe is gone (`hashward check … | head -1`). A program that writes by [`out!`] ends
//! quietly then, with the status that shells give to programs that SIGPIPE ended. Any other failure to write is said on
//! stderr and ends the program as other errors do. What cannot be written to stderr is dropped: there is nobody else to tell.
//!
//! [`out!`]: crate::out

use std::fmt;
use std::io::{self, Write};
use std::process::{ExitCode, exit};

/// Status of a program whose reader is gone: 128 and the number of SIGPIPE.
const READER_GONE: u8 = 141;
/// Status of a program that could not do what it was asked.
const FAILED: u8 = 2;

/// Writes a line to stdout as `println!` does; ends the program if that fails.
#[macro_export]
macro_rules! out {
    ($($words:tt)*) => { $crate::stdout::line(::std::format_args!($($words)*)) };
}

/// Writes a line to stderr as `eprintln!` does; drops it if that fails.
#[macro_export]
macro_rules! note {
    ($($words:tt)*) => { $crate::stdout::note(::std::format_args!($($words)*)) };
}

/// Writes a line; ends the program if that fails.
pub fn line(words: fmt::Arguments<'_>) {
    text(format_args!("{words}\n"));
}

/// Writes a text; ends the program if that fails.
pub fn text(words: fmt::Arguments<'_>) {
    if let Err(error) = io::stdout().write_fmt(words) {
        exit(Unwritten(error).told().into());
    }
}

/// Writes a line, for programs that have something to end themselves before they end.
pub fn try_line(words: fmt::Arguments<'_>) -> Result<(), Unwritten> {
    io::stdout().write_fmt(format_args!("{words}\n")).map_err(Unwritten)
}

/// Writes a line to stderr; drops it if that fails.
pub fn note(words: fmt::Arguments<'_>) {
    let _ = io::stderr().write_fmt(format_args!("{words}\n"));
}

/// Stdout for streams; ends the program where a write fails.
#[derive(Debug, Default)]
pub struct Out;

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        ended_or(io::stdout().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        ended_or(io::stdout().flush())
    }
}

fn ended_or<T>(outcome: io::Result<T>) -> io::Result<T> {
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => exit(Unwritten(error).told().into()),
        other => other,
    }
}

/// Why stdout takes nothing.
#[derive(Debug, thiserror::Error)]
#[error("stdout cannot be written: {0}")]
pub struct Unwritten(io::Error);

impl Unwritten {
    /// Says it on stderr, unless the reader is gone; gives the status to end with.
    pub fn told(&self) -> Status {
        if self.0.kind() == io::ErrorKind::BrokenPipe {
            return Status(READER_GONE);
        }
        note(format_args!("{self}"));
        Status(FAILED)
    }
}

/// The status of a program that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(u8);

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status.0)
    }
}

impl From<Status> for i32 {
    fn from(status: Status) -> Self {
        status.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_is_gone_is_no_failure() {
        let told = |kind: io::ErrorKind| Unwritten(kind.into()).told();
        assert_eq!(told(io::ErrorKind::BrokenPipe), Status(141));
        assert_eq!(told(io::ErrorKind::StorageFull), Status(2));
    }
}
