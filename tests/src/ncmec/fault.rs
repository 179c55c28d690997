//! What the stand-in does wrong when it is told to: for the next requests of an endpoint, or by chance from a seed.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::str::FromStr;

/// A call of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// `GET /status`
    Status,
    /// `GET /xsd`
    Xsd,
    /// `POST /submit`
    Submit,
    /// `POST /upload`
    Upload,
    /// `POST /fileinfo`
    FileInfo,
    /// `POST /finish`
    Finish,
    /// `POST /retract`
    Retract,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Status, Self::Xsd, Self::Submit, Self::Upload, Self::FileInfo, Self::Finish, Self::Retract];

    /// Its path below the base URL, without the slash.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Xsd => "xsd",
            Self::Submit => "submit",
            Self::Upload => "upload",
            Self::FileInfo => "fileinfo",
            Self::Finish => "finish",
            Self::Retract => "retract",
        }
    }

    /// The method it is called with.
    pub const fn method(self) -> &'static str {
        match self {
            Self::Status | Self::Xsd => "GET",
            _ => "POST",
        }
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|endpoint| endpoint.name() == name)
            .ok_or_else(|| format!("there is no endpoint '{name}': {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// What goes wrong. Written as its name, with a number behind a colon where it has one: `lost`, `too_many:30`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Nothing: to let requests pass before a fault.
    Healthy,
    /// Not processed; HTTP 200 with this code.
    Code(i64),
    /// Not processed; this HTTP status with a few words.
    Status(u16),
    /// Not processed; 429 with so many seconds in `Retry-After`.
    TooMany(u64),
    /// Not processed; 401 without a body.
    Unauthorized,
    /// Not processed; 401 with XML, code 1000, as in 2016.
    UnauthorizedXml,
    /// Not processed; the connection is reset.
    Reset,
    /// Not processed, and no answer at all until the client leaves.
    Stall,
    /// Not processed; HTTP 200 with a page in HTML.
    Html,
    /// Processed; the connection ends without an answer.
    Lost,
    /// Processed; HTTP 504 with a page in HTML.
    GatewayTimeout,
    /// Processed; the answer's body comes byte by byte, so many milliseconds apart.
    Slow(u64),
    /// Processed; the XML ends in its middle, and the HTTP body as well.
    Truncated,
    /// Processed; the connection ends in the middle of the body.
    Cut,
    /// Processed; the answer has so many bytes more, chunked.
    Oversized(u64),
    /// Processed; the answer is ISO-8859-1 and has such letters.
    Latin1,
    /// Processed; the MD5 in the answer is another file's.
    WrongMd5,
    /// Processed; the answer has no reportId.
    NoReportId,
    /// Processed; the answer has the fileId of the report's first file.
    DuplicateFileId,
}

/// Those with no number, by their names.
const NAMED: [(&str, Fault); 14] = [
    ("healthy", Fault::Healthy),
    ("unauthorized", Fault::Unauthorized),
    ("unauthorized_xml", Fault::UnauthorizedXml),
    ("reset", Fault::Reset),
    ("stall", Fault::Stall),
    ("html", Fault::Html),
    ("lost", Fault::Lost),
    ("gateway_timeout", Fault::GatewayTimeout),
    ("truncated", Fault::Truncated),
    ("cut", Fault::Cut),
    ("latin1", Fault::Latin1),
    ("wrong_md5", Fault::WrongMd5),
    ("no_report_id", Fault::NoReportId),
    ("duplicate_file_id", Fault::DuplicateFileId),
];

impl Fault {
    /// One of each.
    pub fn all() -> Vec<Self> {
        let numbered =
            [Self::Code(1000), Self::Status(503), Self::TooMany(1), Self::Slow(1), Self::Oversized(64 << 20)];
        NAMED.into_iter().map(|(_, fault)| fault).chain(numbered).collect()
    }

    /// Whether the request has its effect all the same.
    pub const fn processes(self) -> bool {
        !matches!(
            self,
            Self::Code(_)
                | Self::Status(_)
                | Self::TooMany(_)
                | Self::Unauthorized
                | Self::UnauthorizedXml
                | Self::Reset
                | Self::Stall
                | Self::Html
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "code:{code}"),
            Self::Status(status) => write!(f, "status:{status}"),
            Self::TooMany(seconds) => write!(f, "too_many:{seconds}"),
            Self::Slow(milliseconds) => write!(f, "slow:{milliseconds}"),
            Self::Oversized(bytes) => write!(f, "oversized:{bytes}"),
            named => {
                let (name, _) = NAMED.iter().find(|(_, fault)| fault == named).ok_or(fmt::Error)?;
                f.write_str(name)
            }
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, fault)) = NAMED.iter().find(|(name, _)| *name == text) {
            return Ok(*fault);
        }
        let (name, number) = text.split_once(':').unwrap_or((text, ""));
        let number: Option<u64> = number.parse().ok();
        let status = |number: u64| u16::try_from(number).ok().filter(|status| (200..600).contains(status));
        match (name, number) {
            ("code", number) => {
                number.unwrap_or(1000).try_into().map(Self::Code).map_err(|_| "a long code".into())
            }
            ("status", number) => status(number.unwrap_or(503))
                .map(Self::Status)
                .ok_or_else(|| format!("'{text}' is no status")),
            ("too_many", number) => Ok(Self::TooMany(number.unwrap_or(1))),
            ("slow", number) => Ok(Self::Slow(number.unwrap_or(1000))),
            ("oversized", number) => Ok(Self::Oversized(number.unwrap_or(64 << 20))),
            _ => {
                let names = NAMED.map(|(name, _)| name).join(", ");
                Err(format!(
                    "there is no fault '{text}': {names}, code:N, status:N, too_many:SECONDS, slow:MILLISECONDS, \
                     oversized:BYTES"
                ))
            }
        }
    }
}

/// Faults by chance. The same seed gives the same faults to the same requests, counted by endpoint.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Where the chances come from.
    pub seed: u64,
    /// How likely which fault is, between 0 and 1, at an endpoint or at any.
    pub chances: Vec<(Option<Endpoint>, Fault, f64)>,
}

impl Plan {
    /// The fault of the `count`th request of an endpoint.
    fn draw(&self, endpoint: Endpoint, count: u64) -> Option<Fault> {
        let mut left = unit(self.seed, endpoint as u64, count);
        for (at, fault, chance) in &self.chances {
            if at.is_none_or(|at| at == endpoint) {
                if left < *chance {
                    return Some(*fault);
                }
                left -= chance;
            }
        }
        None
    }
}

/// What goes wrong next.
#[derive(Debug, Default)]
pub struct Faults {
    /// Told: which, and for how many requests.
    next: BTreeMap<Endpoint, VecDeque<(Fault, u64)>>,
    /// By chance, where nothing is told.
    pub plan: Plan,
    asked: BTreeMap<Endpoint, u64>,
}

impl Faults {
    /// The next so many requests of an endpoint go wrong like this, after those that were told before.
    pub fn tell(&mut self, endpoint: Endpoint, fault: Fault, times: u64) {
        self.next.entry(endpoint).or_default().push_back((fault, times));
    }

    /// Nothing goes wrong any more.
    pub fn clear(&mut self) {
        self.next.clear();
        self.plan = Plan::default();
    }

    /// What is told and has not happened.
    pub fn told(&self) -> impl Iterator<Item = (Endpoint, Fault, u64)> {
        self.next.iter().flat_map(|(at, next)| next.iter().map(|(fault, times)| (*at, *fault, *times)))
    }

    /// What goes wrong with a request that comes.
    pub fn take(&mut self, endpoint: Endpoint) -> Option<Fault> {
        let count = self.asked.entry(endpoint).or_default();
        *count += 1;
        let told = self.next.entry(endpoint).or_default();
        while told.front().is_some_and(|(_, times)| *times == 0) {
            told.pop_front();
        }
        let fault = match told.front_mut() {
            Some((fault, times)) => {
                *times = if *times == u64::MAX { u64::MAX } else { *times - 1 };
                Some(*fault)
            }
            None => self.plan.draw(endpoint, *count),
        };
        fault.filter(|fault| *fault != Fault::Healthy)
    }
}

/// A number from 0 up to 1 that only these three decide.
fn unit(seed: u64, endpoint: u64, count: u64) -> f64 {
    let mixed = mix(mix(mix(seed) ^ endpoint) ^ count);
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

/// SplitMix64's finish: different numbers become numbers that have nothing to do with each other.
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_as_they_are_written() {
        for fault in Fault::all() {
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
        assert!("nonsense".parse::<Fault>().is_err_and(|words| words.contains("gateway_timeout")));
        assert!("status:7".parse::<Fault>().is_err());
    }

    #[test]
    fn told_faults_come_in_order_and_chances_are_what_they_say() {
        let mut faults = Faults::default();
        faults.tell(Endpoint::Finish, Fault::Healthy, 1);
        faults.tell(Endpoint::Finish, Fault::Lost, 2);
        let taken: Vec<_> = (0..4).map(|_| faults.take(Endpoint::Finish)).collect();
        assert_eq!(taken, [None, Some(Fault::Lost), Some(Fault::Lost), None]);

        let chances = vec![(Some(Endpoint::Upload), Fault::Reset, 0.2), (None, Fault::Lost, 0.1)];
        let draw = |seed| -> Vec<Option<Fault>> {
            let mut faults = Faults { plan: Plan { seed, chances: chances.clone() }, ..Faults::default() };
            (0..10_000).map(|_| faults.take(Endpoint::Upload)).collect()
        };
        let drawn = draw(7);
        let count = |fault| drawn.iter().filter(|drawn| **drawn == Some(fault)).count();
        assert!((1_800..2_200).contains(&count(Fault::Reset)), "{}", count(Fault::Reset));
        assert!((850..1_150).contains(&count(Fault::Lost)), "{}", count(Fault::Lost));
        assert_eq!(drawn, draw(7));
        assert_ne!(drawn, draw(8));
    }
}
