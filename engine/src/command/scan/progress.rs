//! How far a scan is, kept beside its output.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use index::store::whole_file::{Readers, replace_file};
use serde::{Deserialize, Serialize};

/// The output and how far it is.
pub struct Progress {
    /// Hashes answered.
    pub hashes: u64,
    /// Of them, those that matched.
    pub hits: u64,
    /// Lines that are no hash.
    pub bad: u64,
    /// The last line answered.
    pub lines: u64,
    of: Input,
    out: File,
    beside: PathBuf,
}

/// What is scanned: another file or threshold is another scan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Input {
    file: PathBuf,
    size: u64,
    threshold: Option<u16>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    of: Input,
    hashes: u64,
    hits: u64,
    bad: u64,
    lines: u64,
    /// Bytes of output that belong to these lines; what is behind them was cut short.
    bytes: u64,
}

impl Progress {
    /// Begins a scan, or goes on with one that ended early.
    pub fn open(out: &Path, file: &Path, size: u64, threshold: Option<u16>) -> Result<Self> {
        let mut beside = out.as_os_str().to_owned();
        beside.push(".progress");
        let beside = PathBuf::from(beside);
        let of = Input { file: fs::canonicalize(file)?, size, threshold };
        let kept: Option<Kept> = match fs::read(&beside) {
            Ok(text) => Some(serde_json::from_slice(&text).with_context(|| {
                format!("{} does not read: remove it and {} to begin anew", beside.display(), out.display())
            })?),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", beside.display())),
        };
        let Some(kept) = kept else {
            let out = OpenOptions::new().write(true).create_new(true).open(out).with_context(|| {
                format!("cannot make {}: a finished scan is not written over, remove it first", out.display())
            })?;
            let mut progress = Self { hashes: 0, hits: 0, bad: 0, lines: 0, of, out, beside };
            progress.append(&[])?;
            return Ok(progress);
        };
        if kept.of != of {
            bail!(
                "{} is of another scan ({} at {:?}, {} bytes): finish that one, or remove it and {} to begin anew",
                beside.display(),
                kept.of.file.display(),
                kept.of.threshold,
                kept.of.size,
                out.display()
            );
        }
        let mut file = OpenOptions::new()
            .write(true)
            .open(out)
            .with_context(|| format!("cannot write {}", out.display()))?;
        file.set_len(kept.bytes)?;
        file.seek(SeekFrom::End(0))?;
        let Kept { hashes, hits, bad, lines, .. } = kept;
        Ok(Self { hashes, hits, bad, lines, of, out: file, beside })
    }

    /// Appends to the output, syncs it, and only then notes how far it is.
    pub fn append(&mut self, text: &[u8]) -> Result<()> {
        self.out.write_all(text).context("cannot write the output")?;
        self.out.sync_data().context("cannot sync the output")?;
        let kept = Kept {
            of: self.of.clone(),
            hashes: self.hashes,
            hits: self.hits,
            bad: self.bad,
            lines: self.lines,
            bytes: self.out.stream_position()?,
        };
        let kept = serde_json::to_vec(&kept)?;
        replace_file(&self.beside, &kept, Readers::Umask).context("cannot note the progress")
    }

    /// The scan is done.
    pub fn finish(self) -> Result<()> {
        self.out.sync_all()?;
        fs::remove_file(&self.beside).context("cannot remove the progress file")
    }
}
