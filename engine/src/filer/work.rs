//! One filing, step by step, until it is filed, must wait, or a person must look. Each step looks at the filing as it is
//! stored, does one thing, and has the outcome written before the next.

use std::sync::atomic::Ordering;
use std::time::Instant;

use md5::{Digest, Md5};
use reporter::audit::Hex;
use reporter::cyber_tipline::schema;
use reporter::cyber_tipline::verdict::Verdict;
use reporter::cyber_tipline::xml::file_details_xml;
use reporter::desk::evidence::claim_for_tip;
use reporter::tip::build::{self, BuildError};
use reporter::tip::filing::pace::EVIDENCE_MS_MAX;
use reporter::tip::filing::step::{self, Failure, Ticket};
use reporter::tip::filing::{Cause, Draft, FileKind, Informed, Source, Stage, Tip, TipFile, rows};
use reporter::tip::info;
use reporter::tip::record::{Body, Direction, Entry};
use reporter::{DeskError, JobId, Turn};

use super::{Filer, Ready};
use crate::circuits::Part;
use crate::clock::now_ms;
use crate::desk::AskError;
use crate::failpoint::failpoint;
use crate::outbound::CallError;

/// Before a filing that killed the program is looked at again.
const DEADLY_PAUSE_MS: u64 = 3_600_000;

/// What comes after a step.
pub(super) enum Next {
    /// Another step.
    Step,
    /// Nothing now.
    Over,
}

/// Why a step could not be taken to its end.
pub(super) enum Stop {
    /// It failed, and that is written.
    Failed(Failure, Vec<Entry>),
    /// The desk did not take its outcome.
    Desk(AskError),
    /// The program ends, or the store does not read.
    Ends,
}

impl From<AskError> for Stop {
    fn from(error: AskError) -> Self {
        Stop::Desk(error)
    }
}

pub(super) type Stepped = Result<Next, Stop>;

impl Filer {
    /// Works on a filing until it rests.
    pub(super) async fn work(&self, job: JobId, ready: &Ready) {
        let environment = self.parts.environment;
        let take = move |turn: &mut Turn<'_>| step::take(&mut turn.tx, job, environment, turn.terms.now_ms);
        let ticket = match self.parts.desk.ask(take).await {
            Ok(Some((ticket, _))) => ticket,
            Ok(None) => return,
            Err(error) => return tracing::warn!(%job, %error, "a filing could not be taken; it stays due"),
        };
        failpoint("tip-taken");
        match self.parts.in_hand.begin(job.0).await {
            Ok(work) => {
                self.go_on(ticket, ready).await;
                self.parts.in_hand.done(work).await;
            }
            Err(words) => {
                let failure = Failure::Free { words, pause_ms: Some(DEADLY_PAUSE_MS) };
                self.fail(ticket, failure, Vec::new()).await;
            }
        }
    }

    /// Takes steps until the filing rests.
    async fn go_on(&self, ticket: Ticket, ready: &Ready) {
        let job = ticket.job;
        loop {
            match self.step(ticket, ready).await {
                Ok(Next::Step) => {}
                Ok(Next::Over) => return,
                Err(Stop::Failed(failure, entries)) => return self.fail(ticket, failure, entries).await,
                Err(Stop::Desk(AskError::Refused(DeskError::Conflict { problem }))) => {
                    return tracing::warn!(%job, problem, "a filing is somebody else's now");
                }
                Err(Stop::Desk(error)) => {
                    let words = format!("what became of a step could not be written: {error}");
                    return self.fail(ticket, Failure::Free { words, pause_ms: None }, Vec::new()).await;
                }
                Err(Stop::Ends) => {
                    let words = "what is stored of it does not read".to_string();
                    return self.fail(ticket, Failure::Free { words, pause_ms: None }, Vec::new()).await;
                }
            }
        }
    }

    async fn step(&self, ticket: Ticket, ready: &Ready) -> Stepped {
        let job = ticket.job;
        let found = self.read(move |tx| rows::tip(tx, job)).await.flatten();
        let tip = found.ok_or(Stop::Ends)?;
        match tip.stage {
            Stage::Decided => self.inform(ticket, &tip, ready).await,
            Stage::Informed => self.gather(ticket, &tip, ready).await,
            Stage::Built | Stage::Opening => self.open(ticket, &tip, ready).await,
            Stage::Open => self.fill(ticket, &tip, ready).await,
            Stage::Finishing => self.finish(ticket, &tip, ready).await,
            Stage::Filed | Stage::Cancelled => Ok(Next::Over),
        }
    }

    /// Writes down that a step failed. That it is written is worth every try: until then the filing is nobody else's.
    async fn fail(&self, ticket: Ticket, failure: Failure, entries: Vec<Entry>) {
        let (counts, pace, job) = (&self.parts.counts, self.pace, ticket.job);
        counts.failed.fetch_add(1, Ordering::Relaxed);
        if let Failure::Hold(cause, _) = &failure {
            counts.held.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%job, ?cause, "a filing is held for a person: see /api/v1/cybertips");
        }
        loop {
            let (failure, entries) = (failure.clone(), entries.clone());
            let write = move |turn: &mut Turn<'_>| {
                step::failed(&mut turn.tx, ticket, failure, entries, pace, turn.terms.now_ms)
            };
            match self.parts.desk.ask(write).await {
                Ok(()) | Err(AskError::Refused(DeskError::Conflict { .. } | DeskError::Stopped)) => break,
                Err(error) => {
                    tracing::error!(%job, %error, "what became of a filing cannot be written; it is tried on");
                    tokio::time::sleep(super::PAUSE).await;
                }
            }
        }
        failpoint("tip-failed-kept");
    }

    /// Asks the platform what it adds.
    async fn inform(&self, ticket: Ticket, tip: &Tip, ready: &Ready) -> Stepped {
        let url = ready.organisation.additional_info_url.clone().filter(|_| tip.minimal.is_none());
        let (info, entries) = match url {
            None => (None, Vec::new()),
            Some(url) => {
                let (info, entries) = self.ask_platform(tip, &url).await?;
                (Some(info), entries)
            }
        };
        failpoint("tip-informed-answered");
        let of = tip.clone();
        let informed = self.read(move |tx| {
            let extra = build::extras(tx, &of, info.as_ref());
            Ok(extra.map(|extra| Informed { info, at_ms: now_ms(), extra }))
        });
        let informed = informed.await.ok_or(Stop::Ends)?.map_err(refused)?;
        self.ask(move |turn| step::informed(&mut turn.tx, ticket, &informed, entries, turn.terms.now_ms))
            .await?;
        failpoint("tip-informed-kept");
        Ok(Next::Step)
    }

    async fn ask_platform(&self, tip: &Tip, url: &str) -> Result<(info::Info, Vec<Entry>), Stop> {
        let of = tip.clone();
        let asked = self.read(move |tx| Ok(build::asked(tx, &of))).await.ok_or(Stop::Ends)?;
        let (users, media) = asked.map_err(refused)?;
        let body = info::request(&users, &media).to_string();
        let entry = |direction, head: &str, bytes: &[u8]| Entry {
            call: "additional_info".to_string(),
            direction,
            head: head.to_string(),
            headers: Vec::new(),
            body: Body::of(bytes),
        };
        let mut entries = vec![entry(Direction::Sent, "POST", body.as_bytes())];
        let id = format!("additional-info-{}-{}", tip.job, tip.epoch);
        let called = self.parts.caller.post(url, &id, body.into_bytes(), info::INFO_BYTES_MAX);
        let silence = |error: &CallError| matches!(error, CallError::Broken(_));
        let free = |words: String, entries| Stop::Failed(Failure::Free { words, pause_ms: None }, entries);
        let answer = match self.hosts.ask(url, called, silence).await {
            Ok(answer) => answer,
            Err(why) => {
                entries.push(entry(Direction::Lost, "", why.as_bytes()));
                return Err(free(format!("the platform's additional info endpoint: {why}"), entries));
            }
        };
        entries.push(entry(Direction::Received, "200", &answer));
        match info::read(&answer, &users, &media) {
            Ok(info) => Ok((info, entries)),
            Err(why) => Err(free(format!("the platform's additional info endpoint: {why}"), entries)),
        }
    }

    /// Fetches further files; when all are here, or will not be, writes the report.
    async fn gather(&self, ticket: Ticket, tip: &Tip, ready: &Ready) -> Stepped {
        let job = ticket.job;
        let informed = self.read(move |tx| rows::informed(tx, job)).await.flatten().ok_or(Stop::Ends)?;
        let open = informed.extra.iter().position(|extra| extra.kept.is_none() && extra.missing.is_none());
        let Some(at) = open else { return self.build(ticket, tip, informed, ready).await };
        let evidence = &self.parts.evidence;
        match self.parts.sources.fetch_into_vault(evidence, &informed.extra[at].url).await {
            Ok(kept) => {
                let (blob, named) = (kept.blob.clone(), kept.clone());
                failpoint("tip-file-stored");
                let done = self.ask(move |turn| {
                    claim_for_tip(&mut turn.tx, job, &named);
                    step::gathered(&mut turn.tx, ticket, at, Ok(kept))
                });
                let done = done.await;
                evidence.let_go([blob.as_str()]);
                done?;
            }
            Err(why) if now_ms().saturating_sub(tip.decided_ms) > self.pace.of(EVIDENCE_MS_MAX) => {
                self.ask(move |turn| step::gathered(&mut turn.tx, ticket, at, Err(why))).await?;
            }
            Err(why) => {
                let words = format!("a further file: {why}");
                return Err(Stop::Failed(Failure::Free { words, pause_ms: None }, Vec::new()));
            }
        }
        failpoint("tip-file-kept");
        Ok(Next::Step)
    }

    async fn build(&self, ticket: Ticket, tip: &Tip, informed: Informed, ready: &Ready) -> Stepped {
        let (of, organisation) = (tip.clone(), ready.organisation.clone());
        let built = self.read(move |tx| {
            let prior = rows::prior(tx, &of.user)?;
            Ok(build::draft(tx, &of, &informed, &organisation, &prior, now_ms()))
        });
        let draft = match built.await.ok_or(Stop::Ends)? {
            Ok(draft) => draft,
            Err(BuildError::NotYet { words }) => {
                return Err(Stop::Failed(Failure::Free { words, pause_ms: None }, Vec::new()));
            }
            Err(BuildError::AllMediaMissing { words }) => {
                return Err(Stop::Failed(Failure::Hold(Cause::AllMediaMissing, words), Vec::new()));
            }
            Err(BuildError::Desk(error)) => return Err(refused(error)),
        };
        if let Some(problem) = unfit(&draft) {
            let words = format!("what would be sent is not what NCMEC takes: {problem}");
            return Err(Stop::Failed(Failure::Hold(Cause::Rejected, words), Vec::new()));
        }
        let files = files_of(&draft);
        self.ask(move |turn| step::built(&mut turn.tx, ticket, &draft, files)).await?;
        failpoint("tip-built-kept");
        Ok(Next::Step)
    }

    /// Has a step written.
    pub(super) async fn ask(
        &self,
        work: impl FnOnce(&mut Turn<'_>) -> Result<(), DeskError> + Send + 'static,
    ) -> Result<(), Stop> {
        Ok(self.parts.desk.ask(work).await?)
    }

    /// What a verdict that is not success means for the filing.
    pub(super) async fn setback(
        &self,
        verdict: Verdict,
        tip: &Tip,
        ready: &Ready,
        answered: Vec<Entry>,
    ) -> Stop {
        let hold = |cause, words: &str| Failure::Hold(cause, words.to_string());
        let failure = match verdict {
            Verdict::Host { words, retry_after_ms } => {
                self.parts.circuits.trip(Part::Host, &words, retry_after_ms, Instant::now());
                Failure::Free { words, pause_ms: retry_after_ms }
            }
            Verdict::Organisation { words } => {
                let name = &ready.organisation.name;
                if self.parts.circuits.trip(Part::Organisation(name.clone()), &words, None, Instant::now()) {
                    let told = format!(
                        "NCMEC does not know the organisation ({words}): its reports wait; check its credentials"
                    );
                    self.raise("ncmec.credentials", format!("organisation {name}"), told).await;
                }
                Failure::Free { words, pause_ms: None }
            }
            Verdict::Again { words, .. } => Failure::Spent { words, pause_ms: None },
            Verdict::Refused { words, .. } => Failure::Hold(Cause::Rejected, words),
            Verdict::NoReport if tip.finishes > 0 => hold(
                Cause::FinishUnknown,
                "the report was to be finished, no answer said that it was, and NCMEC does not know it any more: ask NCMEC \
                 whether it has it, then confirm_filed or open_new",
            ),
            Verdict::NoReport => Failure::NoReport,
            Verdict::NoFile => {
                Failure::Spent { words: "NCMEC does not have a file".to_string(), pause_ms: None }
            }
            Verdict::Retracted => {
                hold(Cause::Retracted, "the report was retracted at NCMEC, and not by this server")
            }
            Verdict::Finished => hold(
                Cause::FinishedElsewhere,
                "the report is finished at NCMEC, and this server did not finish it",
            ),
            Verdict::Done(_) => hold(Cause::WrongAnswer, "NCMEC's answer is not about this report"),
        };
        Stop::Failed(failure, answered)
    }
}

/// A report that cannot be read out of the store: it is tried again, in sight.
fn refused(error: DeskError) -> Stop {
    let words = format!("the report cannot be written: {error}");
    Stop::Failed(Failure::Free { words, pause_ms: None }, Vec::new())
}

/// What NCMEC would refuse of a report, by our table of its schema; none if nothing.
fn unfit(draft: &Draft) -> Option<String> {
    let details = draft.files.iter().map(|file| {
        let mut details = file.details.clone();
        (details.report_id, details.file_id) = (1, "1".to_string());
        file_details_xml(&details)
    });
    std::iter::once(draft.xml.clone()).chain(details).find_map(|xml| {
        let problems = schema::validate(xml.as_bytes()).err()?;
        problems.first().map(ToString::to_string)
    })
}

fn files_of(draft: &Draft) -> Vec<TipFile> {
    let of = |file: &reporter::tip::filing::DraftFile| {
        let (md5, bytes) = match &file.source {
            Source::Blob(kept) => (kept.md5.clone(), kept.bytes),
            Source::Text(text) => (Hex::<16>(Md5::digest(text).into()).to_string(), text.len() as u64),
        };
        let (kind, name): (FileKind, String) = (file.kind.clone(), file.name.clone());
        TipFile { kind, name, md5, bytes, file_id: None, detailed: false }
    };
    draft.files.iter().map(of).collect()
}
