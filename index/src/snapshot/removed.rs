//! Contents that were removed while their signals are still in a segment or the delta.
//!
//! Sorted runs, each more than twice as long as the next: a removal costs O(log n) on average, a look-up a
//! few binary searches, and only for signals that matched.

use std::sync::Arc;

use crate::signal::ContentId;

/// A set of contents; snapshots share its runs.
#[derive(Clone, Default)]
pub(super) struct Removed {
    runs: Vec<Arc<Vec<ContentId>>>,
}

impl Removed {
    pub(super) fn contains(&self, content: ContentId) -> bool {
        self.runs.iter().any(|run| run.binary_search(&content).is_ok())
    }

    pub(super) fn with(&self, contents: &[ContentId]) -> Self {
        let mut runs = self.runs.clone();
        let mut newest = contents.to_vec();
        while let Some(last) = runs.pop_if(|last| last.len() <= 2 * newest.len()) {
            newest.extend_from_slice(&last);
        }
        newest.sort_unstable();
        newest.dedup();
        runs.push(Arc::new(newest));
        Self { runs }
    }

    /// Without those a merge has left out for good; `gone` is sorted.
    pub(super) fn without(&self, gone: &[ContentId]) -> Self {
        if gone.is_empty() {
            return self.clone();
        }
        let all = self.runs.iter().flat_map(|run| run.iter().copied());
        let rest: Vec<ContentId> = all.filter(|content| gone.binary_search(content).is_err()).collect();
        if rest.is_empty() { Self::default() } else { Self::default().with(&rest) }
    }
}
