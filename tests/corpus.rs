//! Replays the fuzzers' corpora: what they once found, and one good input of each kind, does no harm.
#![allow(clippy::panic, clippy::unwrap_used)] // a test fails by panicking

use std::fs;
use std::path::{Path, PathBuf};

use tests::parsers::TARGETS;

/// A corpus stays small enough for the tree.
const FILES_MAX: usize = 60;
const FILE_BYTES_MAX: u64 = 64 << 10;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn inputs(target: &str) -> Vec<PathBuf> {
    let folder = corpus().join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut inputs: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    inputs
}

#[test]
fn every_corpus_does_no_harm() {
    for (target, probe) in TARGETS {
        let inputs = inputs(target);
        assert!(inputs.len() >= 3, "{target} has {} inputs", inputs.len());
        for input in inputs {
            let bytes = fs::read(&input).unwrap();
            let harm = std::panic::catch_unwind(|| probe(&bytes));
            assert!(harm.is_ok(), "{} makes {target} panic", input.display());
        }
    }
}

#[test]
fn inputs_that_are_cut_or_have_a_bit_flipped_do_no_harm() {
    for (target, probe) in TARGETS {
        // The decoders of pictures are known to panic; the fuzzer looks for that, not every run of the tests.
        if target.starts_with("picture_") {
            continue;
        }
        for input in inputs(target) {
            let bytes = fs::read(&input).unwrap();
            let step = bytes.len() / 64 + 1;
            for at in (0..bytes.len()).step_by(step) {
                probe(&bytes[..at]);
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << (at % 8);
                probe(&flipped);
            }
        }
    }
}

#[test]
fn every_corpus_has_a_target_and_stays_small() {
    for folder in fs::read_dir(corpus()).unwrap() {
        let folder = folder.unwrap().file_name().into_string().unwrap();
        assert!(TARGETS.iter().any(|(target, _)| *target == folder), "no target reads corpus/{folder}");
        let inputs = inputs(&folder);
        assert!(inputs.len() <= FILES_MAX, "corpus/{folder} has {} files", inputs.len());
        for input in inputs {
            let bytes = fs::metadata(&input).unwrap().len();
            assert!(bytes <= FILE_BYTES_MAX, "{} has {bytes} bytes", input.display());
        }
    }
}

#[test]
fn every_target_is_built_and_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
    for (target, _) in TARGETS {
        let program = fs::read_to_string(root.join(format!("fuzz/fuzz_targets/{target}.rs")));
        let program = program.unwrap_or_else(|error| panic!("fuzz_targets/{target}.rs: {error}"));
        assert!(program.contains(&format!("\"{target}\"")), "fuzz_targets/{target}.rs runs another target");
        assert!(
            manifest.contains(&format!("name = \"{target}\"")),
            "fuzz/Cargo.toml does not build {target}"
        );
    }
}
