//! How the program ends: drained on a signal, or at once when the disk can no longer be trusted.

use index::store::StoreError;

use crate::last_words::{self, End};
use crate::logging;

/// Exit status when storage failed: a supervisor should start the program again, and page someone.
pub const STORAGE_FAILED: i32 = 74; // EX_IOERR of sysexits

/// Ends the process after a write or sync that failed for another reason than space. Nobody knows what reached the disk,
/// and trying again could acknowledge what is not there: a restart reads what is. What does not read as it was written is
/// no reason to end: whatever needs it cannot go on, everything else can, and a restart would meet it again.
pub fn stop_unless_curable(error: &StoreError) {
    match error {
        StoreError::Failed { .. } | StoreError::LostWrites { .. } => {}
        _ => return,
    }
    last_words::say(End::Storage, &error.to_string());
    tracing::error!(%error, "storage failed: stopping at once; nothing unacknowledged is lost that was promised");
    logging::say(&format!("hashward: {error}"));
    std::process::exit(STORAGE_FAILED);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_that_cannot_be_stored_ends_nothing() {
        let failed = || StoreError::Failed { path: "segments".into(), reason: "Too many open files".into() };
        assert!(matches!(failed().of_derived(), StoreError::NotStored { .. }));
        stop_unless_curable(&failed().of_derived()); // would end the test
        let full = StoreError::DiskFull { path: "segments".into() };
        assert!(full.of_derived().is_disk_full());
    }
}
