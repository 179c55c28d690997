//! Hash lists: one signal a line, CSV with a header, or NDJSON. Any length, in bounded memory.
//!
//! A bad line is a value with its number and reason, and stops nothing: whether one bad line spoils the
//! list is for the caller to decide. A read error ends the list.

use std::fmt;
use std::io::{self, BufRead, Read};
use std::str::FromStr;

use index::{Signal, SignalError, SignalType};
use serde::Deserialize;

/// A line longer than this is bad; it is skipped without being held. The longest video takes three quarters of it.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// How a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One hex signal a line.
    Lines,
    /// Comma-separated with a header that names at least `signal`.
    Csv,
    /// One JSON object a line with at least `signal`.
    Ndjson,
}

impl FromStr for Format {
    type Err = ImportError;

    fn from_str(name: &str) -> Result<Self, ImportError> {
        match name {
            "lines" => Ok(Format::Lines),
            "csv" => Ok(Format::Csv),
            "ndjson" => Ok(Format::Ndjson),
            other => Err(ImportError::Format { name: other.chars().take(32).collect() }),
        }
    }
}

impl Format {
    /// The format a list's first line suggests.
    pub fn sniff(first_line: &str) -> Self {
        let line = first_line.trim_start_matches('\u{feff}').trim();
        if line.starts_with('{') {
            Format::Ndjson
        } else if line.split(',').any(|column| column.trim().eq_ignore_ascii_case("signal")) {
            Format::Csv
        } else {
            Format::Lines
        }
    }
}

/// One signal of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its line, counted from 1.
    pub line: u64,
    /// The signal.
    pub signal: Signal,
    /// What the list says about it.
    pub note: Option<String>,
    /// The hash's quality, 0 to 100, where the list gives one.
    pub quality: Option<u8>,
}

/// What can be wrong with a list.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// No such format.
    #[error("unknown format '{name}': known are lines, csv, ndjson")]
    Format {
        /// What was asked for.
        name: String,
    },
    /// The CSV header does not name a `signal` column.
    #[error("the CSV header has no 'signal' column: name one, as in 'signal,quality,note'")]
    Header,
    /// One line is bad.
    #[error(transparent)]
    Line(#[from] BadLine),
    /// The list cannot be read on.
    #[error("the list broke off: {0}")]
    Read(#[from] io::Error),
}

/// A line that is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, counted from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

impl std::error::Error for BadLine {}

impl fmt::Display for BadLine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "line {}: {}", self.line, self.reason)
    }
}

/// The records of a list, read as they are asked for.
pub struct Records<R> {
    lines: Lines<R>,
    format: Format,
    kind: SignalType,
    /// A line that was read to learn the format.
    held: Option<(u64, String)>,
    columns: Columns,
    done: bool,
}

/// Where the CSV columns are.
#[derive(Clone, Copy, Debug, Default)]
struct Columns {
    signal: usize,
    note: Option<usize>,
    quality: Option<usize>,
}

impl<R: BufRead> Records<R> {
    /// Begins a list of signals of one type; without a format its first line tells.
    pub fn open(reader: R, format: Option<Format>, kind: SignalType) -> Result<Self, ImportError> {
        let mut lines = Lines { reader, number: 0 };
        let mut held = None;
        let format = match format {
            Some(format) => format,
            None => match lines.next_text() {
                Some(Ok((number, line))) => {
                    let format = Format::sniff(&line);
                    held = Some((number, line));
                    format
                }
                Some(Err(ImportError::Line(_))) | None => Format::Lines,
                Some(Err(error)) => return Err(error),
            },
        };
        let mut records = Self { lines, format, kind, held, columns: Columns::default(), done: false };
        if format == Format::Csv {
            records.columns = match records.next_line() {
                Some(Ok((_, header))) => columns(&header)?,
                Some(Err(error)) => return Err(error),
                None => return Err(ImportError::Header),
            };
        }
        Ok(records)
    }

    fn next_line(&mut self) -> Option<Result<(u64, String), ImportError>> {
        self.held.take().map(Ok).or_else(|| self.lines.next_text())
    }

    fn read(&self, line: u64, text: &str) -> Result<Record, BadLine> {
        let bad = |reason: String| BadLine { line, reason };
        let row = match self.format {
            Format::Lines => Row { signal: text.trim().to_string(), note: None, quality: None },
            Format::Csv => self.columns.read(text).map_err(bad)?,
            Format::Ndjson => serde_json::from_str(text).map_err(|error| bad(error.to_string()))?,
        };
        // Lists of hashes come in both cases; what is stored is the canonical form. In texts and URLs case matters.
        let text =
            if self.kind.bytes().is_some() { row.signal.trim().to_ascii_lowercase() } else { row.signal };
        let signal = Signal::parse(self.kind, &text).map_err(|error: SignalError| bad(error.to_string()))?;
        if row.quality.is_some_and(|quality| quality > 100) {
            return Err(bad("quality goes from 0 to 100".into()));
        }
        if row.note.as_ref().is_some_and(|note| note.chars().count() > 255) {
            return Err(bad("the note is longer than 255 characters".into()));
        }
        Ok(Record { line, signal, note: row.note.filter(|note| !note.is_empty()), quality: row.quality })
    }
}

impl<R: BufRead> Iterator for Records<R> {
    type Item = Result<Record, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        match self.next_line()? {
            Ok((line, text)) => Some(self.read(line, &text).map_err(ImportError::Line)),
            Err(error) => {
                self.done = !matches!(error, ImportError::Line(_));
                Some(Err(error))
            }
        }
    }
}

/// A record as lists write it. Other fields are ignored.
#[derive(Deserialize)]
struct Row {
    signal: String,
    #[serde(default)]
    note: Option<String>,
    #[serde(default)]
    quality: Option<u8>,
}

fn columns(header: &str) -> Result<Columns, ImportError> {
    let fields = csv_fields(header).map_err(|_| ImportError::Header)?;
    let place = |name: &str| fields.iter().position(|field| field.trim().eq_ignore_ascii_case(name));
    let signal = place("signal").ok_or(ImportError::Header)?;
    Ok(Columns { signal, note: place("note"), quality: place("quality") })
}

impl Columns {
    fn read(&self, text: &str) -> Result<Row, String> {
        let fields = csv_fields(text)?;
        let field = |at: usize| fields.get(at).map(|field| field.trim().to_string());
        let signal = field(self.signal).ok_or("it has fewer fields than the header")?;
        let quality = match self.quality.and_then(field).filter(|text| !text.is_empty()) {
            Some(text) => {
                Some(text.parse().map_err(|_| format!("quality '{text}' is not a number from 0 to 100"))?)
            }
            None => None,
        };
        Ok(Row { signal, note: self.note.and_then(field), quality })
    }
}

fn csv_fields(line: &str) -> Result<csv::StringRecord, String> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(line.as_bytes());
    let mut fields = csv::StringRecord::new();
    reader.read_record(&mut fields).map_err(|error| error.to_string())?;
    Ok(fields)
}

/// Lines with something on them, numbered.
struct Lines<R> {
    reader: R,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    fn next_text(&mut self) -> Option<Result<(u64, String), ImportError>> {
        loop {
            let mut bytes = Vec::new();
            // One byte more than allowed tells a long line from a full one.
            let limit = LINE_BYTES_MAX as u64 + 1;
            match (&mut self.reader).take(limit).read_until(b'\n', &mut bytes) {
                Ok(0) => return None,
                Ok(_) => self.number += 1,
                Err(error) => return Some(Err(error.into())),
            }
            let line = self.number;
            let bad = |reason: &str| Some(Err(BadLine { line, reason: reason.into() }.into()));
            if bytes.len() > LINE_BYTES_MAX && bytes.last() != Some(&b'\n') {
                if let Err(error) = self.skip_line() {
                    return Some(Err(error.into()));
                }
                return bad("it is longer than 1 MiB");
            }
            let Ok(text) = std::str::from_utf8(&bytes) else { return bad("it is not UTF-8") };
            let text = text.trim_start_matches('\u{feff}').trim_end_matches(['\n', '\r']);
            if !text.trim().is_empty() && !text.starts_with('#') {
                return Some(Ok((self.number, text.to_string())));
            }
        }
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let held = self.reader.fill_buf()?;
            let end = held.iter().position(|byte| *byte == b'\n');
            let count = end.map_or(held.len(), |end| end + 1);
            let done = end.is_some() || held.is_empty();
            self.reader.consume(count);
            if done {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22";
    const B: &str = "30a10efd71c83f429013d48d0ffffc52e34e0e17ada952a9d29685211ea9e5af";

    fn read(text: &[u8], format: Option<Format>) -> Vec<Result<Record, ImportError>> {
        Records::open(text, format, SignalType::Pdq).unwrap().collect()
    }

    fn signals(text: &str) -> Vec<String> {
        read(text.as_bytes(), None).into_iter().map(|record| record.unwrap().signal.to_string()).collect()
    }

    #[test]
    fn the_three_formats_say_the_same() {
        let upper = A.to_uppercase();
        for list in [
            format!("{A}\n{B}\n"),
            format!("\u{feff}# a comment\r\n{upper}\r\n\r\n{B}"),
            format!("signal,quality,note\n{A},100,\"two, three\"\n{B},,\n"),
            format!("note, Signal\nx,{A}\n,{B}\n"),
            format!(
                "{{\"signal\":\"{A}\",\"quality\":90,\"extra\":1}}\n{{\"note\":\"n\",\"signal\":\"{B}\"}}\n"
            ),
        ] {
            assert_eq!(signals(&list), [A, B], "{list}");
        }
        let with_note = format!("signal,quality,note\n{A},100,\"two, three\"\n");
        let record = read(with_note.as_bytes(), None).remove(0).unwrap();
        assert_eq!((record.line, record.quality, record.note.as_deref()), (2, Some(100), Some("two, three")));
    }

    #[test]
    fn a_bad_line_names_its_number_and_stops_nothing() {
        let long = "f".repeat(3 * LINE_BYTES_MAX);
        let list = format!("{A}\nxyz\n{long}\n{}\n{B}\n", &A[1..]);
        let mut bytes = list.into_bytes();
        bytes.extend_from_slice(b"\xff\xfe\n");
        let outcomes: Vec<String> = read(&bytes, None)
            .into_iter()
            .map(|record| record.map_or_else(|error| error.to_string(), |record| record.signal.to_string()))
            .collect();
        assert_eq!(outcomes.len(), 6, "{outcomes:?}");
        assert!(
            outcomes[1].starts_with("line 2: ") && outcomes[1].contains("character 1 is 'x'"),
            "{outcomes:?}"
        );
        assert_eq!(outcomes[2], "line 3: it is longer than 1 MiB");
        assert!(outcomes[3].starts_with("line 4: ") && outcomes[3].contains("this has 63"));
        assert_eq!(outcomes[4], B);
        assert_eq!(outcomes[5], "line 6: it is not UTF-8");
    }

    #[test]
    fn a_header_without_signal_is_named() {
        let error =
            Records::open("hash,note\n".as_bytes(), Some(Format::Csv), SignalType::Pdq).err().unwrap();
        assert!(error.to_string().contains("no 'signal' column"), "{error}");
        assert!("yaml".parse::<Format>().unwrap_err().to_string().contains("lines, csv, ndjson"));
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_never_a_panic(bytes: Vec<u8>, kind in 0..3usize) {
            let format = [Format::Lines, Format::Csv, Format::Ndjson][kind];
            if let Ok(records) = Records::open(&bytes[..], Some(format), SignalType::VideoMd5) {
                let _ = records.count();
            }
        }
    }
}
