//! The steps that talk to NCMEC: open, upload, tell of files, finish. Each is written down before it is sent, and what came
//! of it before anything else is.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use futures_lite::StreamExt as _;
use reporter::audit::Hex;
use reporter::cyber_tipline::reply::Reply;
use reporter::cyber_tipline::verdict::{Verdict, judge};
use reporter::cyber_tipline::xml::file_details_xml;
use reporter::tip::filing::pace::is_expired;
use reporter::tip::filing::step::{self, Failure, Ticket};
use reporter::tip::filing::{Cause, Draft, DraftFile, Filed, OpenReport, Source, Tip, rows};
use reporter::tip::record::Entry;
use sha2::{Digest, Sha256};

use super::client::{Answered, Call, Chunks};
use super::work::{Next, Stepped, Stop};
use super::{Filer, Ready};
use crate::clock::{now_ms, trusted_ms};
use crate::failpoint::failpoint;
use crate::vault::VaultError;

/// Pieces of a text that is uploaded.
const PIECE: usize = 64 << 10;

impl Filer {
    /// Opens a report.
    pub(super) async fn open(&self, ticket: Ticket, tip: &Tip, ready: &Ready) -> Stepped {
        let draft = self.draft(ticket).await?;
        let call = Call::submit(&draft.xml);
        let sent = call.sent();
        self.ask(move |turn| step::opening(&mut turn.tx, ticket, sent, turn.terms.now_ms)).await?;
        failpoint("tip-submit-intended");
        let (verdict, received) = self.call(&call, ready, None).await;
        failpoint("tip-submit-answered");
        let report_id = match &verdict {
            Verdict::Done(reply) => reply.report_id.filter(|id| *id > 0),
            // Of a report that is not open nothing else can be said than that it is not.
            Verdict::NoReport | Verdict::NoFile | Verdict::Retracted | Verdict::Finished => {
                let words = "NCMEC answered to a new report as to an old one".to_string();
                let failure = Failure::Spent { words, pause_ms: None };
                return Err(Stop::Failed(failure, vec![received]));
            }
            _ => return Err(self.setback(verdict, tip, ready, vec![received]).await),
        };
        let Some(report_id) = report_id else {
            let words = "NCMEC took the report and gave it no number: another is opened".to_string();
            return Err(Stop::Failed(Failure::Spent { words, pause_ms: None }, vec![received]));
        };
        let opened = move |turn: &mut reporter::Turn<'_>| {
            step::opened(&mut turn.tx, ticket, report_id, received, turn.terms.now_ms)
        };
        self.ask(opened).await?;
        failpoint("tip-submit-kept");
        Ok(Next::Step)
    }

    /// Uploads the next file, or tells of it; when all are there, finishes.
    pub(super) async fn fill(&self, ticket: Ticket, tip: &Tip, ready: &Ready) -> Stepped {
        let Some(open) = &tip.open else { return Err(Stop::Ends) };
        // While the clock is in doubt NCMEC knows better.
        if trusted_ms().is_some_and(|now_ms| is_expired(open.opened_ms, open.changed_ms, now_ms)) {
            self.ask(move |turn| step::expired(&mut turn.tx, ticket)).await?;
            return Ok(Next::Step);
        }
        let next = tip.files.iter().position(|file| file.file_id.is_none() || !file.detailed);
        let Some(at) = next else { return self.finish(ticket, tip, ready).await };
        let draft = self.draft(ticket).await?;
        let file = draft.files.get(at).ok_or(Stop::Ends)?;
        match tip.files[at].file_id.clone() {
            None => self.upload(ticket, (tip, open), ready, (at, file)).await,
            Some(file_id) => self.tell(ticket, (tip, open), ready, (at, file), file_id).await,
        }
    }

    async fn upload(
        &self,
        ticket: Ticket,
        (tip, open): (&Tip, &OpenReport),
        ready: &Ready,
        (at, file): (usize, &DraftFile),
    ) -> Stepped {
        let known = &tip.files[at];
        let (chunks, sha256) = self.bytes_of(file).await?;
        let boundary = format!("hashward-{}-{}-{}", ticket.job, ticket.epoch, &sha256[..24]);
        let content_type = file.content_type.as_str();
        let call =
            Call::upload(open.report_id, (&file.name, content_type), (known.bytes, &sha256), &boundary);
        let sent = call.sent();
        self.ask(move |turn| step::sending(&mut turn.tx, ticket, sent, turn.terms.now_ms)).await?;
        failpoint("tip-upload-intended");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (verdict, received) = self.call(&call, ready, Some(watched(chunks, seen.clone()))).await;
        failpoint("tip-upload-answered");
        let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(why) = seen.differs(&sha256, known.bytes, matches!(verdict, Verdict::Done(_))) {
            let words = format!("'{}' is not what the reviewer saw: {why}", file.name);
            return Err(Stop::Failed(Failure::Hold(Cause::FileChanged, words), vec![received]));
        }
        let reply = self.about(verdict, (tip, open), ready, &received).await?;
        let Some(file_id) = reply.file_id.filter(|id| !id.is_empty()) else {
            let words = "NCMEC took a file and gave it no id: it is uploaded again".to_string();
            return Err(Stop::Failed(Failure::Spent { words, pause_ms: None }, vec![received]));
        };
        let is_new = !tip.files.iter().any(|other| other.file_id.as_deref() == Some(&file_id));
        let is_whole = reply.hash.is_some_and(|hash| hash.eq_ignore_ascii_case(&known.md5));
        if !is_new || !is_whole {
            let what = if is_new { "other bytes than were sent" } else { "a file under another's id" };
            let words = format!("NCMEC received {what}: it is uploaded again");
            return Err(Stop::Failed(Failure::Spent { words, pause_ms: None }, vec![received]));
        }
        let done = move |turn: &mut reporter::Turn<'_>| {
            step::uploaded(&mut turn.tx, ticket, at, file_id, received, turn.terms.now_ms)
        };
        self.ask(done).await?;
        failpoint("tip-upload-kept");
        Ok(Next::Step)
    }

    async fn tell(
        &self,
        ticket: Ticket,
        (tip, open): (&Tip, &OpenReport),
        ready: &Ready,
        (at, file): (usize, &DraftFile),
        file_id: String,
    ) -> Stepped {
        let mut details = file.details.clone();
        (details.report_id, details.file_id) = (open.report_id, file_id);
        let call = Call::file_info(file_details_xml(&details));
        let sent = call.sent();
        self.ask(move |turn| step::sending(&mut turn.tx, ticket, sent, turn.terms.now_ms)).await?;
        failpoint("tip-fileinfo-intended");
        let (verdict, received) = self.call(&call, ready, None).await;
        failpoint("tip-fileinfo-answered");
        if verdict == Verdict::NoFile {
            return Err(Stop::Failed(Failure::NoFile { file: at }, vec![received]));
        }
        self.about(verdict, (tip, open), ready, &received).await?;
        let done = move |turn: &mut reporter::Turn<'_>| {
            step::detailed(&mut turn.tx, ticket, at, received, turn.terms.now_ms)
        };
        self.ask(done).await?;
        failpoint("tip-fileinfo-kept");
        Ok(Next::Step)
    }

    /// Finishes the report. Tried again under the same number only, whatever happened: what is finished already says so.
    pub(super) async fn finish(&self, ticket: Ticket, tip: &Tip, ready: &Ready) -> Stepped {
        let Some(open) = &tip.open else { return Err(Stop::Ends) };
        let call = Call::finish(open.report_id);
        let sent = call.sent();
        self.ask(move |turn| step::finishing(&mut turn.tx, ticket, sent, turn.terms.now_ms)).await?;
        failpoint("tip-finish-intended");
        let (verdict, received) = self.call(&call, ready, None).await;
        failpoint("tip-finish-answered");
        let ours = || tip.files.iter().filter_map(|file| file.file_id.clone());
        let mut filed = Filed {
            report_id: open.report_id,
            at_ms: now_ms(),
            verified: false,
            missing: Vec::new(),
            unknown: Vec::new(),
            said_by: None,
        };
        match verdict {
            // Nobody else has its number: the finish before this one was carried out. Its list of files was lost.
            Verdict::Finished if tip.finishes > 0 => {}
            verdict => {
                if let Some(listed) = self.about(verdict, (tip, open), ready, &received).await?.files {
                    filed.verified = true;
                    filed.missing = ours().filter(|id| !listed.contains(id)).collect();
                    filed.unknown = listed.into_iter().filter(|id| !ours().any(|own| own == *id)).collect();
                }
            }
        }
        let done = move |turn: &mut reporter::Turn<'_>| {
            step::filed(&mut turn.tx, ticket, filed, Some(received), turn.terms.now_ms)
        };
        self.ask(done).await?;
        self.parts.counts.filed.fetch_add(1, Ordering::Relaxed);
        failpoint("tip-finish-kept");
        Ok(Next::Over)
    }

    /// A success about this very report, or what else it means.
    async fn about(
        &self,
        verdict: Verdict,
        (tip, open): (&Tip, &OpenReport),
        ready: &Ready,
        received: &Entry,
    ) -> Result<Reply, Stop> {
        match verdict {
            Verdict::Done(reply) if reply.report_id.is_none_or(|id| id == open.report_id) => Ok(reply),
            other => Err(self.setback(other, tip, ready, vec![received.clone()]).await),
        }
    }

    async fn call(&self, call: &Call, ready: &Ready, file: Option<Chunks>) -> (Verdict, Entry) {
        self.parts.counts.calls.fetch_add(1, Ordering::Relaxed);
        let Answered { heard, received } = self.ncmec.make(call, &ready.credentials, file).await;
        (judge(heard), received)
    }

    async fn draft(&self, ticket: Ticket) -> Result<Draft, Stop> {
        let job = ticket.job;
        self.read(move |tx| rows::draft(tx, job)).await.flatten().ok_or(Stop::Ends)
    }

    /// A file's bytes, and the SHA-256 they must have.
    async fn bytes_of(&self, file: &DraftFile) -> Result<(Chunks, String), Stop> {
        match &file.source {
            Source::Text(text) => {
                let bytes = Bytes::copy_from_slice(text.as_bytes());
                let sha256 = Hex::<32>(Sha256::digest(&bytes).into()).to_string();
                let pieces = (0..bytes.len()).step_by(PIECE);
                let pieces: Vec<Bytes> =
                    pieces.map(|at| bytes.slice(at..bytes.len().min(at + PIECE))).collect();
                Ok((Box::pin(futures_lite::stream::iter(pieces).map(Ok)), sha256))
            }
            Source::Blob(kept) => match self.parts.evidence.stream(&kept.blob).await {
                Ok((_, chunks)) => Ok((Box::pin(chunks), kept.sha256.clone())),
                Err(error @ (VaultError::Gone(_) | VaultError::Damaged { .. })) => {
                    let words = format!("'{}' cannot be sent: {error}", file.name);
                    Err(Stop::Failed(Failure::Hold(Cause::FileChanged, words), Vec::new()))
                }
                Err(error) => {
                    let words = format!("a file cannot be read: {error}");
                    Err(Stop::Failed(Failure::Free { words, pause_ms: None }, Vec::new()))
                }
            },
        }
    }
}

/// What went out.
#[derive(Default)]
struct Seen {
    hash: Sha256,
    bytes: u64,
    trouble: Option<String>,
}

impl Seen {
    /// Why this is not the file that was meant; none if it is, or was not sent whole.
    fn differs(self, sha256: &str, bytes: u64, is_done: bool) -> Option<String> {
        if let Some(trouble) = self.trouble {
            return Some(trouble);
        }
        let whole = self.bytes == bytes;
        let same = Hex::<32>(self.hash.finalize().into()).to_string() == sha256;
        ((whole && !same) || self.bytes > bytes || (is_done && !whole))
            .then(|| "its bytes have another SHA-256, or another length".to_string())
    }
}

fn watched(chunks: Chunks, seen: Arc<Mutex<Seen>>) -> Chunks {
    Box::pin(chunks.map(move |chunk| {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match &chunk {
            Ok(chunk) => {
                seen.hash.update(chunk);
                seen.bytes += chunk.len() as u64;
            }
            Err(error) => seen.trouble = Some(error.to_string()),
        }
        chunk
    }))
}
