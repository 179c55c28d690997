//! Exchanges of this installation: what is configured, and the thread that fetches.
//!
//! An exchange fills the bank of its name. A page of contents and the keys of their records are one batch: a page that
//! comes again after a crash changes nothing. A failed fetch changes nothing but the status.
//!
//! What an exchange is, whether it is switched off, and how its last fetch went are rows of their own: who writes one
//! does not write the others, so a fetch that ends can neither switch an exchange on again nor bring a deleted one back.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use index::bank::{BankChange, BankError, BankRequest, Banks, NewContent};
use index::store::keys::{json_row, read_json_row};
use index::store::{Batch, Durability, Keyspace, Range, Store, StoreError};
use ingest::exchange::{ListDirs, Record, api};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::clock::now_s;
use crate::curator::{self, Curator};
use crate::failpoint::failpoint;
use crate::secrets::Wrap;

/// How often all exchanges are fetched, as in HMA's reference.
const EVERY: Duration = Duration::from_secs(240);
/// Records of one batch.
const PAGE: usize = 5000;
const VERSION: u8 = 1;

/// Before the names of those that are switched off, and of those that were fetched; names begin with a letter or `_`.
const OFF: &str = "~off/";
const STATUS: &str = "~status/";
/// Before the names of those whose fetch was begun and has not ended; the row counts how often (one byte).
const BEGUN: &str = "~begun/";
/// How often the program may die while it fetches an exchange before that is switched off.
const DEATHS_MAX: u8 = 2;

/// What an exchange is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exchange {
    /// Its programme.
    pub api: String,
    /// The programme's own fields.
    pub config: Map<String, Value>,
    /// Whether it is fetched.
    #[serde(skip)]
    pub enabled: bool,
    /// How the last fetch went.
    #[serde(skip)]
    pub status: Status,
}

/// How the last fetch of an exchange went. Times in seconds since 1970.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Up to when the programme's changes were taken; programmes that give whole lists have none.
    pub checkpoint_ts: Option<u64>,
    /// Records that are banked now.
    pub fetched_items: u64,
    /// When the last fetch ended, well or not.
    pub last_fetch_complete_ts: Option<u64>,
    /// Whether it went well.
    pub last_fetch_succeeded: Option<bool>,
    /// Since when a fetch is under way.
    pub running_fetch_start_ts: Option<u64>,
    /// Whether everything there was has been taken.
    pub up_to_date: bool,
}

/// The exchanges, for whoever configures them and asks how they are.
#[derive(Clone)]
pub struct Exchanges {
    store: Arc<dyn Store>,
    durability: Durability,
    wrap: Arc<dyn Wrap>,
    wake: SyncSender<SyncSender<()>>,
}

impl Exchanges {
    /// All names.
    pub fn names(&self) -> Result<Vec<String>, StoreError> {
        names(&*self.store)
    }

    /// The exchange with this name.
    pub fn get(&self, name: &str) -> Result<Option<Exchange>, StoreError> {
        read(&*self.store, name)
    }

    /// The rows that make an exchange what it is; a new one's are committed with its bank.
    pub fn row(name: &str, exchange: &Exchange) -> Batch {
        let mut batch = Batch::default();
        batch.put(Keyspace::Exchanges, name.as_bytes(), json_row(VERSION, exchange));
        switch(&mut batch, name, exchange.enabled);
        batch.delete(Keyspace::Exchanges, key(STATUS, name)); // of an earlier one of this name
        batch
    }

    /// The rows that end one.
    pub fn deletion(name: &str) -> Batch {
        let mut batch = Batch::default();
        batch.delete(Keyspace::Exchanges, name.as_bytes());
        batch.delete(Keyspace::Exchanges, key(OFF, name));
        batch.delete(Keyspace::Exchanges, key(STATUS, name));
        batch.delete(Keyspace::Exchanges, key(BEGUN, name));
        batch
    }

    /// Changes whether an exchange is fetched.
    pub fn enable(&self, name: &str, enabled: bool) -> Result<Option<Exchange>, StoreError> {
        if self.get(name)?.is_none() {
            return Ok(None);
        }
        let mut batch = Batch::default();
        switch(&mut batch, name, enabled);
        self.store.commit(batch, self.durability)?;
        self.get(name)
    }

    /// Ends an exchange whose bank has gone already.
    pub fn forget(&self, name: &str) -> Result<(), StoreError> {
        self.store.commit(Self::deletion(name), self.durability)
    }

    /// Whether a programme's credentials are stored, and open.
    pub fn has_credentials(&self, api: &str) -> Result<bool, StoreError> {
        let Some(sealed) = self.store.get(Keyspace::Credentials, api.as_bytes())? else { return Ok(false) };
        let opened = self.wrap.unwrap(api, &sealed);
        if let Err(error) = &opened {
            tracing::warn!(api, %error, "stored credentials cannot be used: store them again");
        }
        Ok(opened.is_ok())
    }

    /// Stores a programme's credentials, sealed; none removes them.
    pub fn set_credentials(
        &self,
        api: &str,
        credentials: Option<&Map<String, Value>>,
    ) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        match credentials {
            None => batch.delete(Keyspace::Credentials, api.as_bytes()),
            Some(credentials) => {
                let text = Value::Object(credentials.clone()).to_string();
                let sealed = self.wrap.wrap(api, text.as_bytes()).map_err(|error| StoreError::Failed {
                    path: "the key file".to_string(),
                    reason: error.to_string(),
                })?;
                batch.put(Keyspace::Credentials, api.as_bytes(), sealed);
            }
        }
        self.store.commit(batch, self.durability)
    }

    /// Fetches all exchanges now; returns when it is done. For a thread that may wait.
    pub fn fetch_now(&self) {
        let (done, wait) = sync_channel(1);
        if self.wake.send(done).is_ok() {
            let _ = wait.recv(); // an error means that the thread has ended
        }
    }
}

fn names(store: &dyn Store) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    store.scan(Keyspace::Exchanges, Range::between(&[], b"~"), &mut |key, _| {
        names.push(String::from_utf8_lossy(key).into_owned());
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(names)
}

fn read(store: &dyn Store, name: &str) -> Result<Option<Exchange>, StoreError> {
    let Some(row) = store.get(Keyspace::Exchanges, name.as_bytes())? else { return Ok(None) };
    let exchange: Exchange = read_json_row(Keyspace::Exchanges, VERSION, &row)?;
    let enabled = store.get(Keyspace::Exchanges, &key(OFF, name))?.is_none();
    let status = store.get(Keyspace::Exchanges, &key(STATUS, name))?;
    let status = status.map(|row| read_json_row(Keyspace::Exchanges, VERSION, &row)).transpose()?;
    Ok(Some(Exchange { enabled, status: status.unwrap_or_default(), ..exchange }))
}

fn key(kind: &str, name: &str) -> Vec<u8> {
    [kind.as_bytes(), name.as_bytes()].concat()
}

/// Switches an exchange on or off.
fn switch(batch: &mut Batch, name: &str, on: bool) {
    if on {
        batch.delete(Keyspace::Exchanges, key(OFF, name));
    } else {
        batch.put(Keyspace::Exchanges, key(OFF, name), []);
    }
}

/// Starts the thread that fetches. It ends when the last [`Exchanges`] is dropped.
pub fn start(
    banks: Arc<Banks>,
    curator: Curator,
    wrap: Arc<dyn Wrap>,
    lists: ListDirs,
    durability: Durability,
) -> io::Result<(Exchanges, JoinHandle<()>)> {
    let (wake, woken) = sync_channel(8);
    let store = banks.store();
    let fetcher = Fetcher { banks, curator, lists, store: store.clone() };
    let thread = thread::Builder::new().name("exchanges".into()).spawn(move || fetcher.run(&woken))?;
    Ok((Exchanges { store, durability, wrap, wake }, thread))
}

struct Fetcher {
    banks: Arc<Banks>,
    curator: Curator,
    lists: ListDirs,
    store: Arc<dyn Store>,
}

impl Fetcher {
    fn run(&self, woken: &Receiver<SyncSender<()>>) {
        loop {
            let done = match woken.recv_timeout(EVERY) {
                Ok(done) => Some(done),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            match names(&*self.store) {
                Ok(names) => names.iter().for_each(|name| self.fetch(name)),
                Err(error) => tracing::error!(%error, "the exchanges cannot be read"),
            }
            done.map(|done| done.try_send(())); // whoever asked may have gone
        }
    }

    fn fetch(&self, name: &str) {
        if let Err(error) = self.try_fetch(name) {
            tracing::warn!(exchange = name, error = %format!("{error:#}"), "an exchange was not fetched");
        }
    }

    fn try_fetch(&self, name: &str) -> anyhow::Result<()> {
        let Some(mut exchange) = read(&*self.store, name)?.filter(|exchange| exchange.enabled) else {
            return Ok(());
        };
        self.begin(name)?;
        failpoint("exchange-begun");
        let started = now_s();
        let fetched = api(&exchange.api)
            .ok_or_else(|| anyhow::anyhow!("there is no programme {}", exchange.api))
            .and_then(|api| Ok(api.fetch(&exchange.config, &self.lists)?))
            .and_then(|records| self.take(name, records));
        let status = &mut exchange.status;
        status.last_fetch_complete_ts = Some(now_s().max(started));
        status.last_fetch_succeeded = Some(fetched.is_ok());
        status.up_to_date = fetched.is_ok();
        if let Ok(items) = &fetched {
            status.fetched_items = *items;
        }
        let mut batch = Batch::default();
        batch.delete(Keyspace::Exchanges, key(BEGUN, name));
        batch.put(Keyspace::Exchanges, key(STATUS, name), json_row(VERSION, status));
        self.store.commit(batch, Durability::Wal)?;
        fetched.map(|_| ())
    }

    /// Notes that a fetch begins, so that the next start knows of it; switches an exchange off that the program died of
    /// twice. Fetches are made one at a time, so each is alone.
    fn begin(&self, name: &str) -> anyhow::Result<()> {
        let place = key(BEGUN, name);
        let row = self.store.get(Keyspace::Exchanges, &place)?;
        let deaths = row.and_then(|row| row.first().copied()).unwrap_or(0);
        let mut batch = Batch::default();
        if deaths >= DEATHS_MAX {
            batch.delete(Keyspace::Exchanges, place);
            switch(&mut batch, name, false);
            self.store.commit(batch, Durability::Sync)?;
            anyhow::bail!(
                "the server died {deaths} times while it fetched this exchange: it is switched off. Find out what is in its \
                 list, then switch it on again"
            );
        }
        batch.put(Keyspace::Exchanges, place, [deaths + 1]);
        Ok(self.store.commit(batch, Durability::Wal)?)
    }

    /// Makes the bank hold exactly these records; gives their number.
    fn take(&self, name: &str, records: Vec<Record>) -> anyhow::Result<u64> {
        let bank = self.banks.state().directory.named(name).map(|bank| bank.id);
        let bank = bank.ok_or_else(|| BankError::NotFound { name: name.to_string() })?;
        let here: BTreeSet<String> = records.iter().map(stored_key).collect();
        let mut withdrawn = self.banks.imported(bank)?;
        withdrawn.retain(|key| !here.contains(key));
        let items = records.len() as u64;
        // Most are as they were: looked up here, the writer goes on for others.
        let mut changed = Vec::new();
        for record in records {
            let key = stored_key(&record);
            if !self.banks.is_imported(bank, &key, &record.signals)? {
                let metadata = serde_json::json!({ "collab": { name: [record.key] } }).to_string();
                changed.push((key, NewContent { signals: record.signals, note: String::new(), metadata }));
            }
        }
        let mut records = changed.into_iter().peekable();
        while records.peek().is_some() || !withdrawn.is_empty() {
            let change = BankChange::Exchange {
                bank: name.to_string(),
                put: records.by_ref().take(PAGE).collect(),
                withdrawn: withdrawn.split_off(withdrawn.len().saturating_sub(PAGE)),
            };
            curator::wait_for_merge(&self.banks);
            self.curator.change_blocking(BankRequest::from(change))?;
        }
        Ok(items)
    }
}

/// What a record is stored under. Keys of rows are not sealed: where signals are texts and URLs, and so the record's key
/// is made of them, it is a digest.
fn stored_key(record: &Record) -> String {
    if record.signals.iter().all(|signal| signal.kind().bytes().is_some()) {
        return record.key.clone();
    }
    let digest = Sha256::digest(&record.key);
    digest.iter().fold("sha256:".to_string(), |text, byte| text + &format!("{byte:02x}"))
}
