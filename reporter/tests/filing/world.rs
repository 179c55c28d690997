//! A filing, its store, its clock, and a model of NCMEC that takes what is sent.

use index::store::{Durability, MemoryStore, Store};
use proptest::prelude::*;
use reporter::cyber_tipline::Environment;
use reporter::desk::decision::{Decider, Decision, DecisionKind};
use reporter::desk::item::ItemKey;
use reporter::desk::job::{Enqueue, JobKind, PRIORITY, Reason, close, enqueue, job_key, put_job};
use reporter::desk::outbox::{self, Filing};
use reporter::desk::queue::{QueueName, Verdict};
use reporter::tip::filing::pace::{Pace, is_expired};
use reporter::tip::filing::person::{self, Word};
use reporter::tip::filing::step::{self, Failure, Ticket};
use reporter::tip::filing::{Cause, Draft, FileKind, Filed, Informed, Stage, Tip, TipFile, rows};
use reporter::tip::record::{Body, Direction, Entry, first_broken};
use reporter::{DeskError, JobId, OrgName, Tx};
use std::collections::BTreeMap;

pub const NOW: u64 = 1_800_000_000_000;
pub const HOUR_MS: u64 = 3_600_000;
pub const TEST: Environment = Environment::Test;
const FILES: usize = 2;

/// What came of a call, by chance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Luck {
    Good,
    /// It is not carried out, and no answer comes.
    NotReached,
    /// It is carried out, and no answer comes.
    Lost,
    /// It is not carried out: try again.
    Again,
    /// We die before it is sent.
    DieBefore,
    /// It is carried out, and we die before its outcome is written.
    DieAfter,
}

/// What happens next.
#[derive(Clone, Debug)]
pub enum Event {
    Work(Luck),
    /// Somebody else takes the filing in the middle of a step, and goes on.
    Work2(Luck),
    Hours(u64),
    Retry,
    Resume,
    Asked,
}

/// NCMEC, as far as it matters here.
#[derive(Default)]
pub struct Ncmec {
    reports: BTreeMap<i64, Report>,
    files: usize,
}

pub struct Report {
    opened_ms: u64,
    changed_ms: u64,
    finished: bool,
    files: Vec<String>,
}

impl Ncmec {
    fn expire(&mut self, now_ms: u64) {
        let gone = |report: &Report| {
            !report.finished
                && now_ms >= report.opened_ms + 24 * HOUR_MS
                && now_ms >= report.changed_ms + HOUR_MS
        };
        self.reports.retain(|_, report| !gone(report));
    }

    fn finished(&self) -> Vec<i64> {
        self.reports.iter().filter(|(_, report)| report.finished).map(|(id, _)| *id).collect()
    }
}

/// What an answer says.
enum Answer {
    Number(i64),
    File(String),
    Done,
    NoReport,
    Finished,
    Again,
    Nothing,
}

pub struct World {
    pub store: MemoryStore,
    ncmec: Ncmec,
    pub now_ms: u64,
    last_id: i64,
}

fn entry(call: &str, direction: Direction) -> Entry {
    let (call, head) = (call.to_string(), String::new());
    Entry { call, direction, head, headers: Vec::new(), body: Body::of(b"bytes") }
}

impl World {
    pub fn new() -> Self {
        let mut world =
            Self { store: MemoryStore::default(), ncmec: Ncmec::default(), now_ms: NOW, last_id: 0 };
        world
            .commit(|tx, now_ms| {
                let user = ItemKey::new("user", "u");
                let reason = Reason {
                    at_ms: now_ms,
                    item: user.clone(),
                    words: "known".to_string(),
                    rule: None,
                    rule_version: None,
                    verdict: Verdict::Review,
                };
                let queue = QueueName::parse("ncmec").unwrap();
                let what = Enqueue {
                    kind: JobKind::Ncmec,
                    subject: &user,
                    queue: &queue,
                    priority: PRIORITY,
                    reason,
                    now_ms,
                };
                let mut job = enqueue(tx, what).unwrap();
                put_job(tx, &job);
                let decision = Decision {
                    job: job.id,
                    kind: DecisionKind::Report,
                    by: Decider::Reviewer { name: "anna".to_string() },
                    at_ms: now_ms,
                    revision: job.revision,
                    request: None,
                    reason: None,
                    webhooks: Vec::new(),
                    report: None,
                };
                tx.save(index::store::Keyspace::Decisions, job_key(b'd', job.id), &decision);
                outbox::put_filing(tx, &Filing { job: job.id, user, decided_ms: now_ms });
                close(tx, &mut job, "report", None, now_ms).unwrap();
                Ok(())
            })
            .unwrap();
        world
    }

    pub fn commit<T>(
        &mut self,
        work: impl FnOnce(&mut Tx<'_>, u64) -> Result<T, DeskError>,
    ) -> Result<T, DeskError> {
        let mut tx = Tx::new(&self.store);
        let done = work(&mut tx, self.now_ms)?;
        let batch = tx.into_batch();
        self.store.commit(batch, Durability::Sync).unwrap();
        Ok(done)
    }

    pub fn tip(&self) -> Option<Tip> {
        rows::tip(&Tx::new(&self.store), JobId(1)).unwrap()
    }

    pub fn take(&mut self) -> Option<(Ticket, Tip)> {
        self.commit(|tx, now| step::adopt(tx, TEST, now)).unwrap();
        self.commit(|tx, now| step::take(tx, JobId(1), TEST, now)).unwrap()
    }

    /// A process that starts: what the one before had is nobody's.
    pub fn start_anew(&mut self) {
        self.commit(step::give_back).unwrap();
    }

    /// NCMEC does what is asked of it, unless luck is against it.
    fn call(&mut self, luck: Luck, act: impl FnOnce(&mut Ncmec, u64) -> Answer) -> Answer {
        match luck {
            Luck::NotReached | Luck::DieBefore => return Answer::Nothing,
            Luck::Again => return Answer::Again,
            _ => {}
        }
        self.ncmec.expire(self.now_ms);
        let answer = act(&mut self.ncmec, self.now_ms);
        if luck == Luck::Good { answer } else { Answer::Nothing }
    }

    fn fail(&mut self, ticket: Ticket, failure: Failure) -> Result<(), DeskError> {
        let entries = vec![entry("x", Direction::Lost)];
        self.commit(|tx, now| step::failed(tx, ticket, failure, entries, Pace::default(), now))
    }

    /// What an answer that is no success means; as the filer has it.
    fn set_back(&mut self, ticket: Ticket, tip: &Tip, answer: &Answer) -> Result<(), DeskError> {
        let words = "x".to_string();
        let failure = match answer {
            Answer::Again => Failure::Spent { words, pause_ms: None },
            Answer::NoReport if tip.finishes > 0 => Failure::Hold(Cause::FinishUnknown, words),
            Answer::NoReport => Failure::NoReport,
            Answer::Finished => Failure::Hold(Cause::FinishedElsewhere, words),
            _ => Failure::Free { words, pause_ms: None },
        };
        self.fail(ticket, failure)
    }

    /// Works on the filing until it rests, with this luck at its first call, and good luck after. False if it died.
    pub fn work(&mut self, luck: Luck) -> bool {
        let Some((ticket, _)) = self.take() else { return true };
        let mut luck = Some(luck);
        for _ in 0..30 {
            let tip = self.tip().unwrap();
            if !tip.taken {
                return true;
            }
            match self.step(ticket, &tip, &mut luck) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(DeskError::Conflict { .. }) => return true, // somebody else's now
                Err(error) => panic!("{error}"),
            }
        }
        panic!("a filing does not come to rest");
    }

    pub fn step(&mut self, ticket: Ticket, tip: &Tip, luck: &mut Option<Luck>) -> Result<bool, DeskError> {
        let id = tip.open.as_ref().map(|open| open.report_id);
        match tip.stage {
            Stage::Decided => {
                let informed = Informed { info: None, at_ms: self.now_ms, extra: Vec::new() };
                self.commit(|tx, now| step::informed(tx, ticket, &informed, Vec::new(), now))?;
                Ok(true)
            }
            Stage::Informed => {
                let draft = Draft { xml: String::new(), files: Vec::new(), notes: Vec::new(), at_ms: 0 };
                let file = |number| TipFile {
                    kind: FileKind::Media { media: number },
                    name: String::new(),
                    md5: String::new(),
                    bytes: 1,
                    file_id: None,
                    detailed: false,
                };
                let files = (1..=FILES as u64).map(file).collect();
                self.commit(|tx, _| step::built(tx, ticket, &draft, files))?;
                Ok(true)
            }
            Stage::Built | Stage::Opening => {
                self.commit(|tx, now| step::opening(tx, ticket, entry("submit", Direction::Sent), now))?;
                let luck = luck.take().unwrap_or(Luck::Good);
                let number = self.last_id + 1;
                self.last_id = number;
                let answer = self.call(luck, |ncmec, now| {
                    let report =
                        Report { opened_ms: now, changed_ms: now, finished: false, files: Vec::new() };
                    ncmec.reports.insert(number, report);
                    Answer::Number(number)
                });
                if dies(luck) {
                    return Ok(false);
                }
                match answer {
                    Answer::Number(number) => self.commit(|tx, now| {
                        step::opened(tx, ticket, number, entry("submit", Direction::Received), now)
                    })?,
                    other => self.set_back(ticket, tip, &other)?,
                }
                Ok(true)
            }
            Stage::Open => {
                let open = tip.open.clone().unwrap();
                if is_expired(open.opened_ms, open.changed_ms, self.now_ms) {
                    self.commit(|tx, _| step::expired(tx, ticket))?;
                    return Ok(true);
                }
                let Some(at) = tip.files.iter().position(|file| file.file_id.is_none()) else {
                    return self.finish(ticket, tip, id.unwrap(), luck);
                };
                self.commit(|tx, now| step::sending(tx, ticket, entry("upload", Direction::Sent), now))?;
                let luck = luck.take().unwrap_or(Luck::Good);
                let answer = self.call(luck, |ncmec, now| {
                    ncmec.files += 1;
                    let name = format!("file-{}", ncmec.files);
                    match ncmec.reports.get_mut(&id.unwrap()) {
                        None => Answer::NoReport,
                        Some(report) if report.finished => Answer::Finished,
                        Some(report) => {
                            report.files.push(name.clone());
                            report.changed_ms = now;
                            Answer::File(name)
                        }
                    }
                });
                if dies(luck) {
                    return Ok(false);
                }
                match answer {
                    Answer::File(name) => self.commit(|tx, now| {
                        step::uploaded(tx, ticket, at, name, entry("upload", Direction::Received), now)
                    })?,
                    other => self.set_back(ticket, tip, &other)?,
                }
                Ok(true)
            }
            Stage::Finishing => self.finish(ticket, tip, id.unwrap(), luck),
            Stage::Filed | Stage::Cancelled => Ok(true),
        }
    }

    fn finish(
        &mut self,
        ticket: Ticket,
        tip: &Tip,
        id: i64,
        luck: &mut Option<Luck>,
    ) -> Result<bool, DeskError> {
        self.commit(|tx, now| step::finishing(tx, ticket, entry("finish", Direction::Sent), now))?;
        let luck = luck.take().unwrap_or(Luck::Good);
        let answer = self.call(luck, |ncmec, _| match ncmec.reports.get_mut(&id) {
            None => Answer::NoReport,
            Some(report) if report.finished => Answer::Finished,
            Some(report) => {
                report.finished = true;
                Answer::Done
            }
        });
        if dies(luck) {
            return Ok(false);
        }
        let verified = match &answer {
            Answer::Done => true,
            Answer::Finished if tip.finishes > 0 => false,
            other => {
                self.set_back(ticket, tip, other)?;
                return Ok(true);
            }
        };
        let filed = Filed {
            report_id: id,
            at_ms: self.now_ms,
            verified,
            missing: Vec::new(),
            unknown: Vec::new(),
            said_by: None,
        };
        let received = Some(entry("finish", Direction::Received));
        self.commit(|tx, now| step::filed(tx, ticket, filed, received, now))?;
        Ok(true)
    }

    pub fn say(&mut self, word: &Word) {
        match self.commit(|tx, now| person::say(tx, JobId(1), word, "ben", TEST, now)) {
            Ok(_) | Err(DeskError::Conflict { .. } | DeskError::NotFound { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// A person asks NCMEC whether it has the report, and says what it says.
    pub fn ask_ncmec(&mut self) {
        let Some(tip) = self.tip().filter(|tip| tip.held.is_some()) else { return };
        let Some(open) = tip.open else { return self.say(&Word::Retry) };
        match self.ncmec.finished().contains(&open.report_id) {
            true => self.say(&Word::ConfirmFiled(open.report_id)),
            false => {
                self.say(&Word::OpenNew);
                self.say(&Word::Retry);
            }
        }
    }

    pub fn check(&self) {
        let finished = self.ncmec.finished();
        assert!(finished.len() <= 1, "filed twice: {finished:?}");
        let Some(tip) = self.tip() else { return };
        if tip.stage == Stage::Filed {
            assert_eq!(finished, [tip.filed.clone().unwrap().report_id], "said to be filed, and is not");
        }
        assert_eq!(first_broken(&Tx::new(&self.store), JobId(1)).unwrap(), None);
        assert_eq!(rows::taken(&Tx::new(&self.store)).unwrap().len(), usize::from(tip.taken));
        let due = rows::due(&Tx::new(&self.store), &OrgName::default(), u64::MAX - 1, 9).unwrap();
        assert_eq!(due.len(), usize::from(tip.waits()));
    }
}

fn dies(luck: Luck) -> bool {
    matches!(luck, Luck::DieBefore | Luck::DieAfter)
}

fn luck() -> impl Strategy<Value = Luck> {
    prop_oneof![
        Just(Luck::Good),
        Just(Luck::NotReached),
        Just(Luck::Lost),
        Just(Luck::Again),
        Just(Luck::DieBefore),
        Just(Luck::DieAfter),
    ]
}

pub fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => luck().prop_map(Event::Work),
        1 => luck().prop_map(Event::Work2),
        3 => (0..30u64).prop_map(Event::Hours),
        1 => Just(Event::Retry),
        1 => Just(Event::Resume),
        1 => Just(Event::Asked),
    ]
}
