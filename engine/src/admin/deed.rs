//! What callers do, and its record: a change of cases and its record in the audit log are one commit. What is changed
//! elsewhere (banks, exchanges, embeddings) is on record before it is done, and its outcome after.

use axum::extract::Request;
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use reporter::access::{Right, is_child_safety_job};
use reporter::audit::Entry;
use reporter::desk::job::{JobId, job};
use reporter::{DeskError, Turn};
use serde_json::{Value, json};

use super::{Loaded, Refusal};
use crate::access::Caller;
use crate::desk::AskError;

/// Something that is done.
pub struct Deed {
    entry: Entry,
    /// The job it is done to: what is told of it is seen by who sees the job.
    job: Option<JobId>,
}

impl Deed {
    /// Somebody does something: `action` in dotted words, about what.
    pub fn new(caller: &Caller, action: &str, about: impl Into<String>) -> Self {
        Self::by(caller.name(), action, about)
    }

    /// The same of somebody who is no caller yet.
    pub fn by(who: String, action: &str, about: impl Into<String>) -> Self {
        let (action, about) = (action.to_string(), about.into());
        Self { entry: Entry { who, action, about, details: Value::Null, child_safety: false }, job: None }
    }

    /// Somebody does something to a job.
    pub fn to_job(caller: &Caller, action: &str, id: JobId) -> Self {
        Self { job: Some(id), ..Self::new(caller, action, format!("job {}", id.0)) }
    }

    /// What else is to be remembered. Never a secret, a medium, or a URL.
    pub fn with(mut self, details: Value) -> Self {
        self.entry.details = details;
        self
    }

    /// Sets what is known only after it was done.
    pub fn tell(&mut self, details: Value) {
        self.entry.details = details;
    }

    /// Only who may see child safety data may read of it.
    pub fn about_child_safety(mut self, is: bool) -> Self {
        self.entry.child_safety = is;
        self
    }

    /// Writes it into the log, in the turn's commit.
    pub fn record(mut self, turn: &mut Turn<'_>) -> Result<(), DeskError> {
        if let Some(id) = self.job
            && let Some(job) = job(&turn.tx, id)?
        {
            self.entry.child_safety |= is_child_safety_job(&turn.tx, &job)?;
        }
        turn.audit(self.entry)
    }
}

impl Loaded {
    /// Does something to cases; returns when that and its record are durable, or it was refused.
    pub async fn act<T: Send + 'static>(
        &self,
        deed: Deed,
        work: impl FnOnce(&mut Turn<'_>, &mut Deed) -> Result<T, DeskError> + Send + 'static,
    ) -> Result<T, AskError> {
        let asked = self.desk.ask(move |turn| {
            let mut deed = deed;
            let done = work(turn, &mut deed)?;
            deed.record(turn)?;
            Ok(done)
        });
        asked.await
    }
}

/// Whether a request changes what is not cases, or takes a list out: those are recorded around what they do.
pub fn is_recorded_around(method: &Method, path: &str, rights: &[Right]) -> bool {
    let reads = [Method::GET, Method::HEAD].contains(method);
    (rights.contains(&Right::Curate) && !reads) || path.ends_with("/export") || path.starts_with("/dev/")
}

/// Does a request with a record before it and one of its outcome after it. What cannot be recorded is not done.
pub async fn recorded(
    loaded: &Loaded,
    caller: &Caller,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let about = format!("{} {}", request.method(), request.uri().path());
    let asked = Deed::new(caller, "request.begun", about.clone());
    // The record of a removal is part of it: on a full disk both are written.
    let removes = *request.method() == Method::DELETE;
    let number = loaded.desk.ask(move |turn| {
        turn.removes = removes;
        asked.record(turn)?;
        Ok(reporter::audit::tip(&turn.tx)?.number)
    });
    let number = number.await?;
    let answer = next.run(request).await;
    let details = json!({ "begun": number, "status": answer.status().as_u16() });
    let outcome = Deed::new(caller, "request.done", about).with(details);
    let told = loaded.desk.ask(move |turn| {
        turn.removes = removes;
        outcome.record(turn)
    });
    let told = told.await;
    if let Err(error) = told {
        // What was done is done; that its outcome is unknown is what the log says by its silence.
        tracing::warn!(%error, number, "the outcome of a recorded request could not be recorded");
    }
    Ok(answer)
}
