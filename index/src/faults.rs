//! What went wrong and is lived with: searches stay exact and become slower. Counted, so that it can be told of.

use std::sync::atomic::{AtomicU64, Ordering};

static SMALL_PAGES: AtomicU64 = AtomicU64::new(0);
static TABLES: AtomicU64 = AtomicU64::new(0);

/// Counts since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Arrays for which the kernel refused huge pages: reading them at random costs up to twice as much.
    pub small_pages: u64,
    /// Segments whose tables could not be built: every search reads all of their hashes.
    pub tables: u64,
}

impl Faults {
    /// As of now.
    pub fn counted() -> Self {
        Self { small_pages: SMALL_PAGES.load(Ordering::Relaxed), tables: TABLES.load(Ordering::Relaxed) }
    }
}

pub(crate) fn small_pages() {
    SMALL_PAGES.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn tables() {
    TABLES.fetch_add(1, Ordering::Relaxed);
}
