//! Feeds bytes to each parser that reads from outside: what the fuzzers in `tests/fuzz` run, and `tests/corpus.rs` replays.
//!
//! A parser may refuse anything. It must not panic, and what it takes must keep to the bounds it documents and survive
//! being written and read again. A probe reads no clock, network or disk.

mod lists;
mod pictures;
mod policy;
mod rows;

use std::fmt;

use serde_json::Value;

/// A parser under test: the name of its fuzz target and of its corpus folder, and the function that feeds it.
pub type Target = (&'static str, fn(&[u8]));

/// Every target, in the order `make fuzz` runs them.
pub static TARGETS: [Target; 19] = [
    ("request", ingest::wire::probe::requests),
    ("reply", ingest::wire::probe::replies),
    ("hash_list", lists::hash_list),
    ("exchange", lists::exchange),
    ("s3_event", lists::s3_event),
    ("items", policy::items),
    ("rules", policy::rules),
    ("condition", policy::condition),
    ("settings", policy::settings),
    ("decision", policy::decision),
    ("platform_info", policy::platform_info),
    ("ncmec_reply", policy::ncmec_reply),
    ("rows", rows::rows),
    ("picture_jpeg", pictures::jpeg),
    ("picture_png", pictures::png),
    ("picture_webp", pictures::webp),
    ("picture_gif", pictures::gif),
    ("picture_bmp", pictures::bmp),
    ("picture_tiff", pictures::tiff),
];

/// Feeds bytes to the target of this name.
pub fn feed(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    target.unwrap_or_else(|| panic!("there is no fuzz target '{name}'")).1(bytes);
}

/// Splits off the first byte as a choice among `count` ways to read the rest.
fn choose(bytes: &[u8], count: usize) -> Option<(usize, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    Some((usize::from(first.wrapping_sub(b'0')) % count, rest))
}

/// Whether an error may stand in a log and an answer, however long the input is that it tells of.
fn is_short(error: &impl fmt::Display) {
    let error = error.to_string();
    assert!(error.chars().count() < 1000, "{} characters: {error}", error.chars().count());
}

fn json(bytes: &[u8]) -> Option<Value> {
    serde_json::from_slice(bytes).ok()
}
