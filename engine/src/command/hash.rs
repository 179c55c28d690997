//! `hashward hash`: a JSON line for each file.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use index::Signal;
use ingest::media::cage::{CageError, Counts, Launcher, Picture, Pool};
use ingest::media::{Limits, MediaError, digest};
use ingest::{note, out};
use serde_json::{Value, json};

use crate::cli::Hash;

/// How long one picture may take.
const DECODE_MAX: Duration = Duration::from_secs(60);

/// Hashes each file; one that cannot be read is named, and the others go on.
pub fn run(args: Hash) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    let decoders = Pool::start(Launcher::default(), 1, Arc::<Counts>::default())?;
    for file in &args.files {
        match line(file, &decoders) {
            Ok(line) => out!("{line}"),
            Err(error) => {
                note!("hashward: {error:#}");
                code = ExitCode::from(1);
            }
        }
    }
    Ok(code)
}

fn hash(decoders: &Pool, bytes: &[u8], limits: &Limits) -> Result<Picture, CageError> {
    decoders.hash(bytes, limits, false, None, DECODE_MAX).map(|decoded| decoded.picture)
}

/// `pdq` and `quality` are null where the file is no picture; `pdq_error` then says why.
fn line(path: &Path, decoders: &Pool) -> Result<Value> {
    let limits = Limits::default();
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let length = file.metadata().with_context(|| format!("cannot read {}", path.display()))?.len();
    let mut bytes = Vec::new();
    // A file too large for a picture is digested as it streams by.
    let (digests, picture) = if length > limits.bytes_max as u64 {
        let too_large = MediaError::Bytes { found: length as usize, max: limits.bytes_max };
        (digest::digest(&mut file), Err(CageError::Refused(too_large.to_string())))
    } else {
        file.read_to_end(&mut bytes).with_context(|| format!("cannot read {}", path.display()))?;
        (digest::digest(&bytes[..]), hash(decoders, &bytes, &limits))
    };
    let digests = digests.with_context(|| format!("cannot read {}", path.display()))?;
    let mut line = json!({
        "file": path.display().to_string(),
        "pdq": null,
        "quality": null,
        "md5": digests.md5,
        "sha1": digests.sha1,
        "sha256": digests.sha256,
    });
    match picture {
        Ok(Picture { hashes, quality }) => {
            line["pdq"] = json!(hashes.first().map(|hash| Signal::Pdq(*hash).to_string()));
            line["quality"] = json!(quality);
        }
        Err(error) => line["pdq_error"] = json!(error.to_string()),
    }
    Ok(line)
}
