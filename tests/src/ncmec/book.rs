//! What the stand-in knows of reports: their states, their files, and what each call answers. No sockets; time comes in as
//! an argument.
//!
//! Codes and rules are those of specs/cybertipline.md 1.2 to 1.5. A report belongs to who opened it: to others it does
//! not exist.

use std::collections::BTreeMap;

use reporter::cyber_tipline::Environment;

use super::fault::mix;
use super::form::Sent;
use super::schema;

const OPEN_MS: u64 = 24 * 60 * 60 * 1000;
const CHANGED_MS: u64 = 60 * 60 * 1000;
/// Beyond so many, the oldest that are not open are forgotten.
const REPORTS_MAX: usize = 100_000;

/// How far a report is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It takes files and details.
    Open,
    /// It is filed.
    Finished,
    /// It was withdrawn before it was filed.
    Retracted,
    /// It was left open for too long, and does not exist any more.
    Expired,
}

impl State {
    /// Its name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Finished => "finished",
            Self::Retracted => "retracted",
            Self::Expired => "expired",
        }
    }
}

/// A report.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its number, unique in its environment.
    pub id: i64,
    /// At which CyberTipline.
    pub environment: Environment,
    /// Who opened it.
    pub user: String,
    /// How far it is.
    pub state: State,
    /// When it was opened, in milliseconds since 1970 by the stand-in's clock.
    pub opened_ms: u64,
    /// When something was last taken for it.
    pub modified_ms: u64,
    /// Its XML as it came.
    pub xml: String,
    /// Its files, in the order of their coming.
    pub files: Vec<File>,
}

/// A file of a report.
#[derive(Clone, Debug)]
pub struct File {
    /// Its id.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// What it is said to be.
    pub content_type: Option<String>,
    /// Its length.
    pub bytes: u64,
    /// Of the bytes that came.
    pub md5: String,
    /// Its bytes, if they are few.
    pub kept: Option<Vec<u8>>,
    /// Its details as they last came.
    pub details: Option<String>,
}

/// What a call answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// 0 for success.
    pub code: i64,
    /// In words.
    pub words: String,
    /// Which report.
    pub report_id: Option<i64>,
    /// Which file.
    pub file_id: Option<String>,
    /// MD5 of the file that came.
    pub hash: Option<String>,
    /// The files of a finished report; there, the root is another one.
    pub files: Option<Vec<String>>,
}

impl Reply {
    /// A refusal.
    pub fn refused(code: i64, words: impl Into<String>) -> Self {
        Self { code, words: words.into(), ..Self::default() }
    }

    fn of(report_id: i64) -> Self {
        Self { words: "Success".to_string(), report_id: Some(report_id), ..Self::default() }
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Where.
    pub environment: Environment,
    /// Under which name.
    pub user: String,
}

/// All reports.
#[derive(Debug)]
pub struct Book {
    reports: BTreeMap<(Environment, i64), Report>,
    first_id: i64,
    files: u64,
    /// Bytes of files that are kept.
    kept_bytes: usize,
    kept_bytes_max: usize,
}

impl Book {
    /// An empty one whose reports are numbered from here, in each environment.
    pub fn new(first_id: i64, kept_bytes_max: usize) -> Self {
        Self { reports: BTreeMap::new(), first_id, files: 0, kept_bytes: 0, kept_bytes_max }
    }

    /// All reports, with their states of now.
    pub fn reports(&self, now_ms: u64) -> impl Iterator<Item = (&Report, State)> {
        self.reports.values().map(move |report| (report, report.state_at(now_ms)))
    }

    /// One report as it is now.
    pub fn report(&self, environment: Environment, id: i64, now_ms: u64) -> Option<Report> {
        let report = self.reports.get(&(environment, id))?;
        Some(Report { state: report.state_at(now_ms), ..report.clone() })
    }

    /// Opens a report.
    pub fn submit(&mut self, caller: &Caller, xml: &[u8], now_ms: u64) -> Reply {
        if let Err(refused) = schema::check(xml, "report", now_ms) {
            return refused;
        }
        let environment = caller.environment;
        let last = self.reports.range((environment, i64::MIN)..=(environment, i64::MAX)).next_back();
        let id = last.map_or(self.first_id, |((_, id), _)| id + 1);
        if self.reports.len() >= REPORTS_MAX {
            let oldest = self.reports.values().filter(|report| report.state_at(now_ms) != State::Open);
            let oldest =
                oldest.min_by_key(|report| report.opened_ms).map(|report| (report.environment, report.id));
            oldest.and_then(|oldest| self.reports.remove(&oldest));
        }
        let report = Report {
            id,
            environment,
            user: caller.user.clone(),
            state: State::Open,
            opened_ms: now_ms,
            modified_ms: now_ms,
            xml: String::from_utf8_lossy(xml).into_owned(),
            files: Vec::new(),
        };
        self.reports.insert((environment, id), report);
        Reply::of(id)
    }

    /// Takes a file.
    pub fn upload(&mut self, caller: &Caller, id: Option<&str>, file: Option<Sent>, now_ms: u64) -> Reply {
        let report = match open(&mut self.reports, caller, id, now_ms) {
            Ok(report) => report,
            Err(refused) => return refused,
        };
        let Some(file) = file else {
            return Reply::refused(4200, "Malformed file submittal: there is no part 'file' with a filename");
        };
        self.files += 1;
        let file_id = format!("{:016x}{:016x}", mix(self.files), mix(!self.files));
        let length = file.kept.as_ref().map_or(0, Vec::len);
        let kept = file.kept.filter(|_| self.kept_bytes + length <= self.kept_bytes_max);
        self.kept_bytes += kept.as_ref().map_or(0, Vec::len);
        report.modified_ms = now_ms;
        report.files.push(File {
            id: file_id.clone(),
            name: file.name,
            content_type: file.content_type,
            bytes: file.bytes,
            md5: file.md5.clone(),
            kept,
            details: None,
        });
        Reply { file_id: Some(file_id), hash: Some(file.md5), ..Reply::of(report.id) }
    }

    /// Takes a file's details.
    pub fn file_info(&mut self, caller: &Caller, xml: &[u8], now_ms: u64) -> Reply {
        if let Err(refused) = schema::check(xml, "fileDetails", now_ms) {
            return refused;
        }
        let text = String::from_utf8_lossy(xml);
        let report = match open(&mut self.reports, caller, element(&text, "reportId"), now_ms) {
            Ok(report) => report,
            Err(refused) => return refused,
        };
        let file_id = element(&text, "fileId").unwrap_or_default();
        let Some(file) = report.files.iter_mut().find(|file| file.id == file_id) else {
            return Reply::refused(5002, "File does not exist");
        };
        file.details = Some(text.to_string());
        report.modified_ms = now_ms;
        Reply { file_id: Some(file.id.clone()), ..Reply::of(report.id) }
    }

    /// Files a report.
    pub fn finish(&mut self, caller: &Caller, id: Option<&str>, now_ms: u64) -> Reply {
        match open(&mut self.reports, caller, id, now_ms) {
            Ok(report) => {
                report.state = State::Finished;
                report.modified_ms = now_ms;
                let files = report.files.iter().map(|file| file.id.clone()).collect();
                Reply { files: Some(files), ..Reply::of(report.id) }
            }
            Err(refused) => refused,
        }
    }

    /// Withdraws a report.
    pub fn retract(&mut self, caller: &Caller, id: Option<&str>, now_ms: u64) -> Reply {
        match open(&mut self.reports, caller, id, now_ms) {
            Ok(report) => {
                report.state = State::Retracted;
                report.modified_ms = now_ms;
                Reply::of(report.id)
            }
            Err(refused) => refused,
        }
    }

    /// The number of files that a report's answer may name instead of its own: for the fault that does so.
    pub fn first_file(&self, caller: &Caller, id: i64) -> Option<&str> {
        let report = self.reports.get(&(caller.environment, id))?;
        report.files.first().map(|file| file.id.as_str())
    }
}

impl Report {
    /// When it is deleted if nothing comes: 24 hours after it was opened or one after it was changed, whichever is later.
    pub fn expires_ms(&self) -> u64 {
        (self.opened_ms + OPEN_MS).max(self.modified_ms + CHANGED_MS)
    }

    fn state_at(&self, now_ms: u64) -> State {
        let expired = self.state == State::Open && now_ms > self.expires_ms();
        if expired { State::Expired } else { self.state }
    }

    /// The reported user's id at the platform: what tells the reports of different jobs apart.
    pub fn esp_identifier(&self) -> Option<String> {
        let (_, user) = self.xml.split_once("<personOrUserReported")?;
        element(user, "espIdentifier").map(unescaped)
    }
}

/// The report that a call is about, if it is open.
fn open<'r>(
    reports: &'r mut BTreeMap<(Environment, i64), Report>,
    caller: &Caller,
    id: Option<&str>,
    now_ms: u64,
) -> Result<&'r mut Report, Reply> {
    let id: i64 = id
        .and_then(|id| id.trim().parse().ok())
        .ok_or_else(|| Reply::refused(4000, "Invalid request: there is no id that is a number"))?;
    let missing = || Reply::refused(5001, "Report does not exist");
    let report = reports
        .get_mut(&(caller.environment, id))
        .filter(|report| report.user == caller.user)
        .ok_or_else(missing)?;
    let about = |code, words: &str| Reply { report_id: Some(id), ..Reply::refused(code, words) };
    match report.state {
        State::Finished => Err(about(5102, "Report already finished")),
        State::Retracted => Err(about(5101, "Report already retracted")),
        _ if now_ms > report.expires_ms() => Err(missing()),
        _ => Ok(report),
    }
}

/// The text of the first element of this name. The XML was checked before.
fn element<'x>(xml: &'x str, name: &str) -> Option<&'x str> {
    let (_, from) = xml.split_once(&format!("<{name}>"))?;
    from.split_once("</").map(|(text, _)| text)
}

fn unescaped(text: &str) -> String {
    let plain = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
    plain.replace("&amp;", "&")
}
