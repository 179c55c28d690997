//! Saying that a test cannot run here, so that nothing passes silently.

use std::fs::OpenOptions;
use std::io::Write;

/// Says that a test cannot run here. `make test` counts these lines at its end.
pub fn skipped(test: &str, why: &str) {
    eprintln!("SKIPPED {test}: {why}");
    if let Some(log) = std::env::var_os("HASHWARD_SKIP_LOG") {
        let mut log =
            OpenOptions::new().create(true).append(true).open(log).expect("the skip log can be written");
        writeln!(log, "SKIPPED {test}: {why}").expect("the skip log can be written");
    }
}
