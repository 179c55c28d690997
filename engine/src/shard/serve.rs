//! The work on a frame: match, judge, answer. Bytes in, bytes out.
//!
//! Buffers are the shard's and are reused: nothing is allocated per hash. What a hit costs (its row, its
//! names) is paid only for hits of Submits.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use index::bank::{BankState, Banks};
use index::{BankId, Distance, Found, Hit, HitMatch, Nearest, Position, Scratch, Signal, SignalType, Tenant};
use ingest::wire::frame::{PREFIX, Split, split};
use ingest::wire::{
    ErrorCode, HitRef, Match, QueryView, Receipt as WireReceipt, Replies, RequestView, Rows, SubmitView,
    WireError, parse,
};
use reporter::access::Right;
use reporter::router::policy::Catalog;

use super::connection::Connection;
use super::gather::Gather;
use super::listed::{bank_name, names};
use super::views::Views;
use super::work::{Apart, Asked, Work};
use super::{ConnectionId, Step, gate};
use crate::access::Door;
use crate::clock;
use crate::config::Limits;
use crate::ledger::{Append, AppendError, Ledger, Receipt, Settled, Ticket};
use crate::metrics::ShardCounts;
use crate::recent::Recent;

/// When a refused client should come back.
const RETRY_AFTER: Duration = Duration::from_millis(5);

/// What a shard is made of.
pub struct ShardParts {
    /// Which shard this is.
    pub number: u16,
    /// Of how many.
    pub shards: u16,
    /// The banks.
    pub banks: Arc<Banks>,
    /// The rules that give verdicts, as they are at any moment.
    pub catalog: Arc<ArcSwap<Catalog>>,
    /// Where hits become durable.
    pub ledger: Ledger,
    /// Where Submits are kept for a while.
    pub recent: Recent,
    /// Where the ledger answers.
    pub inbox: async_channel::Sender<Settled>,
    /// Limits.
    pub limits: Limits,
    /// Who may connect.
    pub door: Door,
    /// What is counted.
    pub counts: Arc<ShardCounts>,
    /// Name of the distance kernel.
    pub kernel: &'static str,
    /// Name of the reactor.
    pub reactor: &'static str,
}

/// What an uploader told about a hash, as far as verdicts hang on it.
#[derive(Clone, Copy, Default)]
pub(super) struct Told<'q> {
    pub(super) item_id: Option<&'q str>,
    pub(super) item_type: Option<&'q str>,
    pub(super) author: Option<&'q str>,
}

/// The shard without its connections.
pub(super) struct Core {
    pub(super) parts: ShardParts,
    /// Small lookups that wait for the next search.
    pub(super) gather: Gather,
    pub(super) views: Views,
    /// No new work is taken.
    pub(super) draining: bool,
    /// The frame being served waited for longer than it may.
    late: bool,
    pub(super) replies: Replies,
    pub(super) scratch: Scratch,
    /// What the block searched last found.
    pub(super) nearest: Nearest<Found>,
    /// The frame being served.
    pub(super) work: Work,
}

impl Core {
    pub(super) fn new(parts: ShardParts) -> Self {
        Self {
            parts,
            gather: Gather::default(),
            views: Views::default(),
            draining: false,
            late: false,
            replies: Replies::default(),
            scratch: Scratch::default(),
            nearest: Nearest::default(),
            work: Work::default(),
        }
    }

    /// Serves the next frame of a connection, or a slice of it, if one is whole.
    pub(super) fn step(&mut self, id: ConnectionId, connection: &mut Connection, now: Instant) -> Step {
        let works = connection.work.is_some() || !connection.apart.is_empty();
        if connection.parting || connection.closing && self.draining && !works {
            return Step::Close;
        }
        if connection.work.is_none()
            && let Some(work) = connection.apart.pop_front()
        {
            self.work = *work;
            self.look_up_apart(connection);
            return Step::More;
        }
        let frame_max = connection.frame_bytes_max(&self.parts.limits);
        match split(&connection.input[connection.taken..], frame_max) {
            Split::Frame { end } => {
                let start = connection.taken;
                self.late = connection.work.is_none()
                    && connection.came(end).is_some_and(|came| {
                        now.saturating_duration_since(came) > self.parts.limits.queue_time_max
                    });
                connection.note_frame(false, now);
                // Taken out for the time of the work, so that the answer can be written beside it.
                let input = std::mem::take(&mut connection.input);
                self.serve(id, connection, &input[start + PREFIX..start + end]);
                connection.input = input;
                if connection.work.is_some() {
                    return Step::More;
                }
                connection.take(end);
                connection.last_frame = end;
                if connection.parting { Step::Close } else { Step::More }
            }
            Split::Incomplete => {
                connection.compact();
                connection.note_frame(!connection.input.is_empty(), now);
                if connection.closing { Step::Close } else { Step::Wait }
            }
            Split::TooLarge { length } => {
                let message = format!(
                    "a frame of {length} bytes was announced, {frame_max} are allowed here: split it"
                );
                self.refuse(connection, fault(0, ErrorCode::frame_too_large, "", message));
                connection.part();
                Step::Close
            }
        }
    }

    fn serve(&mut self, id: ConnectionId, connection: &mut Connection, message: &[u8]) {
        self.work.clear();
        let is_under_way = connection.work.take().map(|work| self.work = *work).is_some();
        if !is_under_way {
            self.parts.counts.frames.fetch_add(1, Ordering::Relaxed);
        }
        let (correlation, request) = match parse(message, self.parts.limits.hashes_max) {
            Ok(parsed) => parsed,
            Err(error) => {
                let fatal = error.code == ErrorCode::bad_frame || connection.guest.is_none();
                self.refuse(connection, error);
                if fatal {
                    connection.part(); // whoever sends garbage is not understood any further
                }
                return;
            }
        };
        match request {
            RequestView::Hello { version, token } => self.greet(connection, correlation, version, token),
            _ if connection.guest.is_none() => {
                let message = "send Hello first".to_string();
                self.refuse(connection, fault(correlation, ErrorCode::hello_expected, "body", message));
                connection.part();
            }
            RequestView::Lookup(query) if is_under_way => self.look_up(connection, correlation, &query),
            RequestView::Submit(submit) if is_under_way => self.submit(id, connection, correlation, &submit),
            _ if self.draining => {
                let message = "the server is shutting down: connect again".to_string();
                self.refuse(connection, fault(correlation, ErrorCode::shutting_down, "", message));
            }
            // Better a client that comes back than one that waits behind a backlog it cannot see.
            _ if self.late => {
                self.parts.counts.shed.fetch_add(1, Ordering::Relaxed);
                self.busy(connection, correlation);
            }
            RequestView::Lookup(query) if self.is_refused(connection, correlation, Right::Match, &query) => {}
            RequestView::Submit(submit)
                if self.is_refused(connection, correlation, Right::Items, &submit.query) => {}
            RequestView::Lookup(query) if self.gather.take(id, correlation, connection.tenant(), &query) => {
                connection.gathered += 1;
            }
            RequestView::Lookup(query) => self.look_up(connection, correlation, &query),
            RequestView::Submit(submit) => {
                self.parts.recent.note(message);
                if connection.pending >= self.parts.limits.window_frames {
                    return self.busy(connection, correlation);
                }
                self.submit(id, connection, correlation, &submit);
            }
        }
    }

    fn is_refused(
        &mut self,
        connection: &mut Connection,
        correlation: u64,
        right: Right,
        query: &QueryView<'_>,
    ) -> bool {
        let Some(guest) = &connection.guest else { return true };
        let refusal = gate::refusal(&guest.caller, correlation, right, query);
        refusal.map(|refusal| self.refuse(connection, refusal)).is_some()
    }

    /// Looks up the frame in work for a slice; at its end answers.
    fn look_up(&mut self, connection: &mut Connection, correlation: u64, query: &QueryView<'_>) {
        let state = self.state_of_work(connection.tenant());
        self.begin(query);
        if !self.advance(&state, Asked::of(query), connection.tenant(), |_| Told::default()) {
            return self.set_aside(connection, state);
        }
        self.tell_lookup(&state, connection, correlation, query.signal_type, query.len());
    }

    /// The same of a lookup whose frame is served already.
    fn look_up_apart(&mut self, connection: &mut Connection) {
        let Some(Apart { correlation, threshold }) = self.work.apart.take() else { return };
        let state = self.state_of_work(connection.tenant());
        let asked = Asked { kind: SignalType::Pdq, hashes: self.work.pdq.len(), threshold };
        if self.advance(&state, asked, connection.tenant(), |_| Told::default()) {
            return self.tell_lookup(&state, connection, correlation, asked.kind, asked.hashes);
        }
        self.work.apart = Some(Apart { correlation, threshold });
        self.keep_apart(connection, state.into_owned());
    }

    /// Answers a lookup with what the frame in work found, unless its sender may not be told.
    pub(super) fn tell_lookup(
        &mut self,
        state: &BankState,
        connection: &mut Connection,
        correlation: u64,
        kind: SignalType,
        hashes: usize,
    ) {
        match self.is_told(connection, kind, hashes) {
            Ok(()) => self.answer_lookup(state, connection, correlation),
            Err(why) => self.refuse(connection, gate::refused(correlation, &why)),
        }
    }

    /// Answers a lookup with the hits and matches of the frame in work.
    fn answer_lookup(&mut self, state: &BankState, connection: &mut Connection, correlation: u64) {
        self.parts.counts.hits.fetch_add(self.work.hits.len() as u64, Ordering::Relaxed);
        if !connection.sees_distances() {
            gate::veil(&mut self.work.hits, &mut self.work.matches);
        }
        let Work { hits, matches, .. } = &self.work;
        let banks = names(matches, |bank| bank_name(state, bank));
        let rows = Rows { generation: state.generation, hits, matches, banks: &banks };
        self.replies.lookup(correlation, rows, &mut connection.output);
    }

    fn submit(
        &mut self,
        id: ConnectionId,
        connection: &mut Connection,
        correlation: u64,
        submit: &SubmitView<'_>,
    ) {
        let state = self.state_of_work(connection.tenant());
        self.begin(&submit.query);
        let is_whole = self.advance(&state, Asked::of(&submit.query), connection.tenant(), |hash| Told {
            item_id: submit.item_id(hash),
            item_type: submit.item_type(hash),
            author: submit.creator(hash),
        });
        if !is_whole {
            return self.set_aside(connection, state);
        }
        let told = self.is_told(connection, submit.query.signal_type, submit.query.len());
        self.parts.counts.hits.fetch_add(self.work.hits.len() as u64, Ordering::Relaxed);
        if let Err(why) = &told {
            self.refuse(connection, gate::refused(correlation, why));
            if self.work.hits.is_empty() {
                return;
            }
        } else if self.work.hits.is_empty() && !submit.retry {
            if clock::is_future(submit.request.born_ms()) {
                // As the ledger says of one with hits: a wrong clock shows at once, and not with the first hit.
                let ahead_ms = submit.request.born_ms().saturating_sub(clock::newest_ms());
                let words = AppendError::Future(submit.request, ahead_ms).to_string();
                self.refuse(connection, fault(correlation, ErrorCode::bad_request_id, "request", words));
                return;
            }
            // Nothing to make durable: a miss costs no disk write.
            let receipt = WireReceipt { durability: None, first_position: Position(0), replayed: false };
            let rows = Rows { generation: state.generation, hits: &[], matches: &[], banks: &[] };
            self.replies.submit(correlation, rows, receipt, &mut connection.output);
            return;
        }
        let tenant = connection.tenant();
        let hits = self.work.hits.iter().map(|hit| self.hit(&state, submit, tenant, hit)).collect();
        let append = Append {
            request: submit.request.said_by(tenant),
            digest: Some(submit.digest()),
            generation: state.generation,
            hits,
            verdicts: self.work.hits.iter().map(HitRef::verdict).collect(),
            ticket: Ticket { inbox: self.parts.inbox.clone(), connection: id.0, correlation },
        };
        match (self.parts.ledger.append(append), told) {
            (Ok(()), told) => {
                connection.pending += 1; // answered when the ledger says so
                if told.is_err() {
                    connection.withheld.push(correlation); // no hit is lost because somebody may not hear of it
                }
            }
            (Err(_), Ok(())) => self.busy(connection, correlation),
            (Err(_), Err(_)) => {} // answered
        }
    }

    /// A hit as it will be logged.
    fn hit(&self, state: &BankState, submit: &SubmitView<'_>, tenant: Option<&Tenant>, hit: &HitRef) -> Hit {
        let hash = hit.hash() as usize;
        let signal = match submit.query.signal_type {
            SignalType::Pdq => Signal::Pdq(self.work.pdq[hash]),
            kind => Signal::Exact(kind, self.work.digests[hash]),
        };
        let matches = self.work.matches[matches_of(hit)].iter().map(|row| HitMatch {
            bank: BankId(row.bank()),
            bank_name: bank_name(state, BankId(row.bank())).to_string(),
            content: index::ContentId(row.content()),
            distance: Distance::new(row.distance()).unwrap_or(Distance::MAX),
        });
        Hit {
            position: Position(0),
            request: submit.request,
            index: hit.hash(),
            received_ms: 0,
            generation: state.generation,
            signal_type: submit.query.signal_type,
            signal: signal.to_string(),
            matches: matches.collect(),
            matches_total: hit.matches_total(),
            upload_id: submit.query.upload_id(hash),
            context: submit.context(hit.hash()).of(tenant),
        }
    }

    /// Answers a Submit as the ledger says.
    pub(super) fn settle(&mut self, connection: &mut Connection, settled: Settled) {
        connection.pending = connection.pending.saturating_sub(1);
        let withheld = connection.withheld.iter().position(|withheld| *withheld == settled.correlation);
        if let Some(at) = withheld {
            connection.withheld.swap_remove(at);
            return; // answered when it came
        }
        let error = match settled.outcome {
            Ok(receipt) => return self.answer_submit(connection, settled.correlation, &receipt),
            Err(error) => error,
        };
        let (code, retryable) = match &error {
            AppendError::DiskFull(_) => (ErrorCode::disk_full, true),
            AppendError::TooOld(_) => (ErrorCode::request_too_old, false),
            AppendError::Future(..) | AppendError::Reused(_) => (ErrorCode::bad_request_id, false),
            AppendError::Store(_) => (ErrorCode::internal, true),
        };
        self.parts.counts.errors.fetch_add(1, Ordering::Relaxed);
        let field = if code == ErrorCode::bad_request_id { "request" } else { "" };
        let refusal = fault(settled.correlation, code, field, error.to_string());
        self.replies.error(&refusal, retryable, &mut connection.output);
    }

    fn answer_submit(&mut self, connection: &mut Connection, correlation: u64, receipt: &Receipt) {
        self.work.clear();
        let Work { hits, matches, .. } = &mut self.work;
        let mut banks: Vec<(BankId, &str)> = Vec::new();
        let mut known = HashSet::new();
        for outcome in &receipt.outcomes {
            let first = matches.len() as u32;
            for found in &outcome.matches {
                matches.push(Match::new(found.content.0, found.bank.0, found.distance.bits()));
                if known.insert(found.bank) {
                    banks.push((found.bank, &found.bank_name));
                }
            }
            let listed = outcome.matches.len() as u32;
            hits.push(HitRef::new(outcome.hash, first, listed, outcome.total, outcome.verdict));
        }
        if !connection.sees_distances() {
            gate::veil(hits, matches);
        }
        let said = WireReceipt {
            durability: receipt.durability,
            first_position: receipt.first_position,
            replayed: receipt.replayed,
        };
        let rows = Rows { generation: receipt.generation, hits, matches, banks: &banks };
        self.replies.submit(correlation, rows, said, &mut connection.output);
    }

    /// Says why, then ends the connection once that is out.
    pub(super) fn timed_out(&mut self, connection: &mut Connection, reason: &'static str) {
        let refusal = fault(0, ErrorCode::timed_out, "", format!("closed: {reason}"));
        self.replies.error(&refusal, true, &mut connection.output);
        connection.part();
    }

    /// Tells a peer that the shard holds more unserved bytes than it may, then ends the connection.
    pub(super) fn overfull(&mut self, connection: &mut Connection) {
        self.busy(connection, 0);
        connection.part();
    }

    fn busy(&mut self, connection: &mut Connection, correlation: u64) {
        self.parts.counts.busy.fetch_add(1, Ordering::Relaxed);
        self.replies.busy(correlation, RETRY_AFTER, &mut connection.output);
    }

    pub(super) fn refuse(&mut self, connection: &mut Connection, error: WireError) {
        self.parts.counts.errors.fetch_add(1, Ordering::Relaxed);
        let retryable = [ErrorCode::shutting_down, ErrorCode::over_budget].contains(&error.code);
        self.replies.error(&error, retryable, &mut connection.output);
    }
}

pub(super) fn fault(correlation: u64, code: ErrorCode, field: &'static str, message: String) -> WireError {
    WireError { correlation, code, field, message }
}

pub(super) fn matches_of(hit: &HitRef) -> Range<usize> {
    let first = hit.first_match() as usize;
    first..first + hit.match_count() as usize
}
