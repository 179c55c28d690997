//! `hashward hash`: a JSON line for each file.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use index::Signal;
use ingest::media::{Limits, MediaError, digest, hash_picture};
use serde_json::{Value, json};

use crate::cli::Hash;

/// Hashes each file; one that cannot be read is named, and the others go on.
pub fn run(args: Hash) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for file in &args.files {
        match line(file) {
            Ok(line) => println!("{line}"),
            Err(error) => {
                eprintln!("hashward: {error:#}");
                code = ExitCode::from(1);
            }
        }
    }
    Ok(code)
}

/// `pdq` and `quality` are null where the file is no picture; `pdq_error` then says why.
fn line(path: &Path) -> Result<Value> {
    let limits = Limits::default();
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let length = file.metadata().with_context(|| format!("cannot read {}", path.display()))?.len();
    let mut bytes = Vec::new();
    // A file too large for a picture is digested as it streams by.
    let (digests, picture) = if length > limits.bytes_max as u64 {
        let too_large = MediaError::Bytes { found: length as usize, max: limits.bytes_max };
        (digest::digest(&mut file), Err(too_large))
    } else {
        file.read_to_end(&mut bytes).with_context(|| format!("cannot read {}", path.display()))?;
        (digest::digest(&bytes[..]), hash_picture(&bytes, &limits))
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
        Ok(picture) => {
            line["pdq"] = json!(Signal::Pdq(picture.hash).to_string());
            line["quality"] = json!(picture.quality);
        }
        Err(error) => line["pdq_error"] = json!(error.to_string()),
    }
    Ok(line)
}
