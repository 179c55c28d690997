//! What the kernel says of this process's memory.

use std::fs;

use anyhow::{Context, Result};

/// A figure of `/proc/self/FILE`, in bytes: `VmRSS` and `VmHWM` of `status`, `AnonHugePages` of
/// `smaps_rollup`.
pub fn memory(file: &str, name: &str) -> Result<u64> {
    let path = format!("/proc/self/{file}");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let figure =
        line.and_then(|line| line.split_whitespace().next()).and_then(|word| word.parse::<u64>().ok());
    Ok(figure.with_context(|| format!("{path} has no {name}"))? * 1024)
}
