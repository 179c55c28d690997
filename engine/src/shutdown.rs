//! How the program ends: drained on a signal, or at once when the disk can no longer be trusted.

use index::store::StoreError;

use crate::last_words::{self, End};

/// Exit status when storage failed: a supervisor should start the program again, and page someone.
pub const STORAGE_FAILED: i32 = 74; // EX_IOERR of sysexits

/// Ends the process unless waiting cures the error. After a failed write or sync nobody knows what reached
/// the disk, and trying again could acknowledge what is not there: a restart reads what is.
pub fn stop_unless_curable(error: &StoreError) {
    match error {
        StoreError::Failed { .. } | StoreError::Damaged { .. } | StoreError::LostWrites { .. } => {}
        _ => return,
    }
    last_words::say(End::Storage, &error.to_string());
    tracing::error!(%error, "storage failed: stopping at once; nothing unacknowledged is lost that was promised");
    eprintln!("hashward: {error}");
    std::process::exit(STORAGE_FAILED);
}
