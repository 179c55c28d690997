//! The specifications and data beside the repository: found through `HASHWARD_SHARED`, never assumed.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

/// The folder with specifications and data, or `None` after saying that the test is skipped.
pub fn shared_or_skip(test: &str) -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let folder = std::env::var_os("HASHWARD_SHARED").map_or(beside, PathBuf::from);
    if folder.join("specs").is_dir() {
        return Some(folder);
    }
    skipped(test, &format!("{} is not there", folder.display()));
    None
}

/// Says that a test cannot run here. `make test` counts these lines at its end.
pub fn skipped(test: &str, why: &str) {
    eprintln!("SKIPPED {test}: {why}");
    if let Some(log) = std::env::var_os("HASHWARD_SKIP_LOG") {
        let mut log =
            OpenOptions::new().create(true).append(true).open(log).expect("the skip log can be written");
        writeln!(log, "SKIPPED {test}: {why}").expect("the skip log can be written");
    }
}
