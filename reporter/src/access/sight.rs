//! What a caller sees of queues and jobs. What one does not see answers like what is not there: same status, same words.

use index::store::StoreError;

use super::role::{Right, Rights};
use crate::desk::child_safety::{is_child_safety, is_child_safety_job};
use crate::desk::job::{Job, JobId, job};
use crate::desk::queue::QueueName;
use crate::desk::settings::{self, Queue, Settings};
use crate::error::DeskError;
use crate::tx::Tx;

/// A caller's eyes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Whether child safety data is seen.
    pub child_safety: bool,
    /// Whether queues are seen whose members they are not.
    every_queue: bool,
    /// Who looks, if it is a person.
    pub person: Option<String>,
}

impl Sight {
    /// The sight of a caller with these rights.
    pub fn new(rights: Rights, person: Option<&str>) -> Self {
        Self {
            child_safety: rights.has(Right::ChildSafety),
            every_queue: person.is_none() || rights.has(Right::Configure),
            person: person.map(str::to_string),
        }
    }

    /// Whether every queue is seen.
    pub fn is_whole(&self) -> bool {
        self.child_safety && self.every_queue
    }

    /// Whether a queue is seen; `own` is what was set about it.
    pub fn sees_queue(&self, settings: &Settings, name: &QueueName, own: Option<&Queue>) -> bool {
        let member = |queue: &Queue| {
            queue.members.is_empty()
                || self.person.as_ref().is_some_and(|person| queue.members.contains(person))
        };
        (self.child_safety || !is_child_safety(settings, name, own))
            && (self.every_queue || own.is_none_or(member))
    }

    /// Whether a job is seen.
    pub fn sees(&self, tx: &Tx<'_>, job: &Job) -> Result<bool, StoreError> {
        if !self.child_safety && is_child_safety_job(tx, job)? {
            return Ok(false);
        }
        let own = settings::queue(tx, &job.queue)?;
        Ok(self.sees_queue(&settings::settings(tx)?, &job.queue, own.as_ref()))
    }

    /// The job of this number, if it is seen.
    pub fn job(&self, tx: &Tx<'_>, id: JobId) -> Result<Job, DeskError> {
        match job(tx, id)? {
            Some(job) if self.sees(tx, &job)? => Ok(job),
            _ => Err(DeskError::NoJob { job: id }),
        }
    }

    /// The same of a job that a person changes: one that a reviewer has is theirs, or nobody's business.
    pub fn own_job(&self, tx: &Tx<'_>, id: JobId, now_ms: u64) -> Result<Job, DeskError> {
        let job = self.job(tx, id)?;
        match (&job.lease, &self.person) {
            (Some(lease), Some(person)) if lease.until_ms > now_ms && lease.reviewer != *person => {
                Err(DeskError::NotHeld { job: id })
            }
            _ => Ok(job),
        }
    }
}
