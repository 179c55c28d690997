//! What is child safety data: whoever may not see it is told nothing of it, not even that it is there.

use index::store::StoreError;

use super::job::{Job, JobKind};
use super::queue::QueueName;
use super::settings::{self, Queue, Settings};
use crate::tx::Tx;

/// Whether a job is child safety data: of its kind, by its queue, or because it became a report to NCMEC.
pub fn is_child_safety_job(tx: &Tx<'_>, job: &Job) -> Result<bool, StoreError> {
    let became = || job.closed.as_ref().is_some_and(|closed| closed.became.is_some());
    if job.kind == JobKind::Ncmec || job.ncmec_wanted || became() {
        return Ok(true);
    }
    let own = settings::queue(tx, &job.queue)?;
    Ok(is_child_safety(&settings::settings(tx)?, &job.queue, own.as_ref()))
}

/// Whether what lies in a queue is child safety data.
pub fn is_child_safety(settings: &Settings, name: &QueueName, own: Option<&Queue>) -> bool {
    *name == settings.ncmec_queue
        || *name == settings.triage_queue
        || own.is_some_and(|queue| queue.child_safety)
}
