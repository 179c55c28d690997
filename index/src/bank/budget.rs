//! How much memory there is for banks, and for what stands beside them.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that banks and what stands beside them may take together. Contents beyond it are refused.
#[derive(Debug, Default)]
pub struct MemoryBudget {
    max: Option<u64>,
    beside: AtomicU64,
}

impl MemoryBudget {
    /// A budget of so many bytes; `None`: nobody says how many there are.
    pub fn new(max: Option<u64>) -> Self {
        Self { max, beside: AtomicU64::new(0) }
    }

    /// All of it.
    pub fn max(&self) -> Option<u64> {
        self.max
    }

    /// Says how many bytes are taken beside the banks.
    pub fn take_beside(&self, bytes: u64) {
        self.beside.store(bytes, Ordering::Relaxed);
    }

    /// What is left for the banks' tables, merges included.
    pub fn for_banks(&self) -> Option<u64> {
        Some(self.max?.saturating_sub(self.beside.load(Ordering::Relaxed)))
    }
}
