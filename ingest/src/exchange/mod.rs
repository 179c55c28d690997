//! Exchanges: programmes that share hash lists. What each is called, what it must be told, and how its records are
//! fetched.
//!
//! Names, fields and their words are HMA's, so that its clients' forms work (specs/hma-api.md 1.5).

mod fields;
mod file;
mod lists;
mod sample;

use index::Signal;
use serde_json::{Map, Value};

pub use fields::{Field, Kind, check};
pub use file::read as read_list;
pub use lists::{LIST_BYTES_MAX, ListDirs, ListError};

/// A programme.
#[derive(Debug)]
pub struct Api {
    /// What it is called.
    pub name: &'static str,
    /// What an exchange of it must be told.
    pub config: &'static [Field],
    /// What it asks of whoever fetches; `None` if it asks nothing.
    pub credentials: Option<&'static [Field]>,
    /// Whether it shares with its members only, so that what it gives must not simply be passed on.
    pub restricted: bool,
    /// Whether it reads files of this machine: only where the operator named directories, and only an administrator makes
    /// such an exchange.
    pub reads_files: bool,
    fetch: Option<FetchFn>,
}

type FetchFn = fn(&Map<String, Value>, &ListDirs) -> Result<Vec<Record>, ExchangeError>;

/// What a programme says about one content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Stands for it in this exchange.
    pub key: String,
    /// Its signals.
    pub signals: Vec<Signal>,
}

/// Why nothing was fetched. What was fetched before stays.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The programme is known by name only.
    #[error("this version of hashward cannot fetch from {api}: the exchange keeps what it has")]
    NotFetched {
        /// The programme.
        api: &'static str,
    },
    /// A file cannot be read.
    #[error("cannot read {path}: {reason}")]
    File {
        /// Which.
        path: String,
        /// The system's words, or the line that is no signal.
        reason: String,
    },
}

/// Every programme, in HMA's order; ours behind them.
pub static APIS: [Api; 6] = [
    Api {
        name: "sample",
        config: &[],
        credentials: None,
        restricted: false,
        reads_files: false,
        fetch: Some(|config, _| sample::fetch(config)),
    },
    Api {
        name: "infinite_random",
        config: &fields::RANDOM,
        credentials: None,
        restricted: false,
        reads_files: false,
        fetch: None,
    },
    Api {
        name: "fb_threatexchange",
        config: &fields::THREATEXCHANGE,
        credentials: Some(&fields::META),
        restricted: true,
        reads_files: false,
        fetch: None,
    },
    Api {
        name: "ncmec",
        config: &fields::NCMEC,
        credentials: Some(&fields::NCMEC_LOGIN),
        restricted: true,
        reads_files: false,
        fetch: None,
    },
    Api {
        name: "stop_ncii",
        config: &[],
        credentials: Some(&fields::STOPNCII_KEYS),
        restricted: true,
        reads_files: false,
        fetch: None,
    },
    Api {
        name: "local_file",
        config: &fields::FILE,
        credentials: None,
        restricted: false,
        reads_files: true,
        fetch: Some(file::fetch),
    },
];

/// The programme with this name.
pub fn api(name: &str) -> Option<&'static Api> {
    APIS.iter().find(|api| api.name == name)
}

impl Api {
    /// Everything the programme has at present. Takes as long as it takes.
    pub fn fetch(&self, config: &Map<String, Value>, lists: &ListDirs) -> Result<Vec<Record>, ExchangeError> {
        match self.fetch {
            Some(fetch) => fetch(config, lists),
            None => Err(ExchangeError::NotFetched { api: self.name }),
        }
    }
}
