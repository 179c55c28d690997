//! Changes of banks: checked one by one, committed together, published once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::history::What;
use super::outcome::{BankAnswer, BankError};
use super::paused::ENABLED;
use super::seen::{self, bank_name_fits};
use super::{
    Bank, BankRecord, BankState, Banks, Counters, Directory, Entries, NAME_MAX, NewContent, Paused, Writer,
};
use crate::hit::RequestId;
use crate::signal::{BankId, ContentId, Distance, Generation, Signal, SignalType};
use crate::store::keys::{
    About, GENERATION_KEY, LAST_BANK_KEY, LAST_CONTENT_KEY, RemovedContent, bank_key, content_key,
    encode_content, encode_removed, encode_u64, json_row, removed_key,
};
use crate::store::{Batch, Durability, KeptAnswer, Keyspace, Moment, Seen, StoreError};
use crate::tenant::{Tenant, is_name};

const PRUNE_EVERY_MS: u64 = 60_000;
/// What a further signal takes at most: in the delta, then in a segment and in the one merged from it.
pub(super) const SIGNAL_BYTES: usize = 600;

/// One change, with the id that makes it replayable.
#[derive(Clone, Debug)]
pub struct BankRequest {
    /// The client's id; without one the change cannot be replayed safely.
    pub id: Option<RequestId>,
    /// Tells the change from others under the same id ([`BankChange::digest`]); none where this program makes the ids.
    pub digest: Option<u64>,
    /// What to do.
    pub change: BankChange,
    /// For whom; without one the operator's hands are free.
    pub tenant: Option<Tenant>,
    /// Rows of the caller's own that become durable with the change, or not at all.
    pub beside: Batch,
}

impl From<BankChange> for BankRequest {
    fn from(change: BankChange) -> Self {
        Self { id: None, digest: None, change, tenant: None, beside: Batch::default() }
    }
}

/// What can be done to banks.
#[derive(Clone, Debug)]
pub enum BankChange {
    /// Make an empty bank.
    Create {
        /// `[A-Z_][A-Z0-9_]*`, behind `TENANT.` if it is a tenant's; at most [`NAME_MAX`] characters.
        name: String,
        /// See [`Bank::enabled_ratio`]; 1 is usual.
        enabled_ratio: f64,
    },
    /// Remove a bank with all its contents.
    Delete {
        /// Its name.
        name: String,
    },
    /// Add contents to a bank; their ids follow one another.
    Add {
        /// The bank's name.
        bank: String,
        /// In order.
        contents: Vec<NewContent>,
    },
    /// Rename a bank, or change how often or how widely it matches.
    Update {
        /// Its name so far.
        name: String,
        /// Its new name; the old one again changes nothing.
        new_name: Option<String>,
        /// See [`Bank::enabled_ratio`].
        enabled_ratio: Option<f64>,
        /// See [`Bank::threshold`]; `Some(None)` takes it away.
        threshold: Option<Option<Distance>>,
    },
    /// What an exchange has new, and no longer.
    Exchange {
        /// The bank's name.
        bank: String,
        /// Contents by the keys of their records: added, or put in the place of what the key stood for.
        put: Vec<(String, NewContent)>,
        /// Keys of records that are withdrawn.
        withdrawn: Vec<String>,
    },
    /// Change what is said about a content, or whether it matches.
    Edit {
        /// The bank's name.
        bank: String,
        /// Which.
        content: ContentId,
        /// The new note; empty removes it.
        note: Option<String>,
        /// See [`Paused`].
        disabled_until: Option<u64>,
    },
    /// Remove one content.
    Remove {
        /// The bank's name.
        bank: String,
        /// Which.
        content: ContentId,
    },
    /// Note that a bank's signals are given out.
    Exported {
        /// The bank's name.
        bank: String,
        /// Whether its source restricts that.
        restricted: bool,
    },
}

impl Banks {
    /// Makes changes durable in one batch, publishes them, and answers each in its place.
    ///
    /// A change that fails leaves no trace and does not disturb the others. If the commit fails all fail.
    pub fn apply(
        &self,
        requests: Vec<BankRequest>,
        now: impl Into<Moment>,
    ) -> Vec<Result<BankAnswer, BankError>> {
        let now = now.into();
        let mut writer = self.writer();
        let mut group = Group::new(&writer, &self.state.load(), self.durability, self.memory.for_banks());
        let outcomes: Vec<_> =
            requests.into_iter().map(|request| self.stage(&mut writer, &mut group, request, now)).collect();
        if group.batch.is_empty() {
            return outcomes;
        }
        let finished = self.finish(&mut writer, group, now);
        writer.requests.settle(finished.is_ok());
        match finished {
            Ok(()) => outcomes,
            Err(error) => {
                let error = Arc::new(error);
                // What was refused or replayed without touching the store stands as it is.
                outcomes
                    .into_iter()
                    .map(|outcome| match outcome {
                        Ok(answer) if !answer.replayed => Err(BankError::Store(error.clone())),
                        other => other,
                    })
                    .collect()
            }
        }
    }

    fn stage(
        &self,
        writer: &mut Writer,
        group: &mut Group,
        request: BankRequest,
        now: Moment,
    ) -> Result<BankAnswer, BankError> {
        let now_ms = now.now_ms;
        let scoped = request.id.map(|id| id.said_by(request.tenant.as_ref()));
        if let (Some(id), Some(told)) = (scoped, request.id) {
            let directory = &group.directory;
            let replay = |kept: KeptAnswer<BankAnswer>| match kept.answers(request.digest) {
                true => request.change.still_stands(kept.answer, directory, told),
                false => Err(BankError::Reused { id: told }),
            };
            if let Some(kept) = group.answered.get(&id) {
                return replay(kept.clone()); // twice in one group: one effect, one fate
            }
            match writer.requests.seen(&*self.store, id, now).map_err(Arc::new)? {
                Seen::Fresh => {}
                Seen::TooOld => return Err(BankError::TooOld { id: told }),
                Seen::Future(ahead_ms) => return Err(BankError::Future { id: told, ahead_ms }),
                Seen::Before(row) => {
                    let answer = replay(KeptAnswer::read(Keyspace::BankRequests, &row).map_err(Arc::new)?)?;
                    return Ok(BankAnswer { replayed: true, ..answer });
                }
            }
        }
        if let Some(Err(refused)) = request.tenant.as_ref().map(|tenant| seen::check(tenant, &request.change))
        {
            // What is not there is deleted already, whosever it is.
            let deletes = matches!(request.change, BankChange::Delete { .. });
            return if deletes { Ok(group.still(BankId(0))) } else { Err(refused) };
        }
        let by_exchange = matches!(request.change, BankChange::Exchange { .. });
        group.cause = (now_ms, request.id, by_exchange);
        let checkpoint = group.checkpoint();
        let answer = match group.change(request.change, &*self.store, now_ms) {
            Ok(answer) => answer,
            Err(refused) => {
                group.roll_back(checkpoint);
                return Err(refused);
            }
        };
        group.batch.changes.extend(request.beside.changes);
        if let Some(id) = scoped {
            let kept = KeptAnswer { answer: answer.clone(), request_digest: request.digest };
            writer.requests.record(&mut group.batch, id, &kept.row());
            group.answered.insert(id, kept);
        }
        Ok(answer)
    }

    fn finish(&self, writer: &mut Writer, mut group: Group, now: Moment) -> Result<(), StoreError> {
        let counters = group.counters;
        group.batch.put(Keyspace::BankMeta, GENERATION_KEY, encode_u64(counters.generation.0));
        group.batch.put(Keyspace::BankMeta, LAST_BANK_KEY, encode_u64(u64::from(counters.last_bank.0)));
        group.batch.put(Keyspace::BankMeta, LAST_CONTENT_KEY, encode_u64(counters.last_content.0));
        if now.now_ms.abs_diff(writer.pruned_ms) >= PRUNE_EVERY_MS {
            let more = writer.requests.prune(&*self.store, &mut group.batch, now)?;
            writer.pruned_ms = if more { 0 } else { now.now_ms };
        }
        self.store.commit(group.batch, self.durability)?;
        writer.counters = counters;
        self.publish(|state| {
            state.generation = counters.generation;
            state.last_content = counters.last_content;
            state.directory = Arc::new(group.directory);
            state.paused = group.paused;
            for effect in group.effects {
                match effect {
                    Effect::Add(entries) => state.tables.add(&entries),
                    Effect::Remove(content, kinds) => state.tables.remove(content, &kinds),
                    Effect::RemoveBank(bank, signals) => state.tables.remove_bank(bank, &signals),
                }
            }
        });
        Ok(())
    }
}

/// What a commit will do to the tables.
pub(super) enum Effect {
    Add(Entries),
    Remove(ContentId, Vec<SignalType>),
    /// With how many signals of each type it has.
    RemoveBank(BankId, [u64; SignalType::ALL.len()]),
}

/// Changes on their way to one commit: they see each other, nobody else sees them.
pub(super) struct Group {
    durability: Durability,
    memory_max: Option<u64>,
    /// What tables and a merge of them all take with this group.
    pub(super) memory: u64,
    pub(super) batch: Batch,
    pub(super) counters: Counters,
    pub(super) directory: Directory,
    pub(super) paused: Arc<Paused>,
    pub(super) effects: Vec<Effect>,
    answered: HashMap<RequestId, KeptAnswer<BankAnswer>>,
    /// Of the change that is being made: when, by which request, and whether for an exchange.
    pub(super) cause: (u64, Option<RequestId>, bool),
    /// Contents added by this group, whether or not it removed them again.
    pub(super) added: HashMap<ContentId, (BankId, Vec<SignalType>)>,
    /// Contents removed by this group.
    pub(super) gone: HashSet<ContentId>,
}

impl Group {
    fn new(writer: &Writer, state: &BankState, durability: Durability, memory_max: Option<u64>) -> Self {
        Self {
            memory_max,
            memory: state.tables.planned_bytes(SIGNAL_BYTES) as u64,
            durability,
            batch: Batch::default(),
            counters: writer.counters,
            directory: Directory::clone(&state.directory),
            paused: state.paused.clone(),
            effects: Vec::new(),
            answered: HashMap::new(),
            cause: (0, None, false),
            added: HashMap::new(),
            gone: HashSet::new(),
        }
    }

    fn change(
        &mut self,
        change: BankChange,
        store: &dyn crate::store::Store,
        now_ms: u64,
    ) -> Result<BankAnswer, BankError> {
        match change {
            BankChange::Create { name, enabled_ratio } => self.create(name, enabled_ratio, now_ms),
            BankChange::Delete { name } => Ok(self.delete(&name)),
            BankChange::Add { bank, contents } => self.add(&bank, contents),
            BankChange::Update { name, new_name, enabled_ratio, threshold } => {
                self.update(&name, new_name, enabled_ratio, threshold)
            }
            BankChange::Exchange { bank, put, withdrawn } => self.exchange(store, &bank, put, &withdrawn),
            BankChange::Edit { bank, content, note, disabled_until } => {
                self.edit(store, &bank, content, note, disabled_until)
            }
            BankChange::Remove { bank, content } => self.remove(store, &bank, content),
            BankChange::Exported { bank, restricted } => self.exported(&bank, restricted),
        }
    }

    fn exported(&mut self, name: &str, restricted: bool) -> Result<BankAnswer, BankError> {
        let Some(id) = self.directory.named(name).map(|bank| bank.id) else {
            return Err(BankError::NotFound { name: clip(name) });
        };
        let answer = self.answer(id, 0, ContentId(0));
        self.note_bank(id, What::BankExported { restricted });
        Ok(answer)
    }

    /// The newest generation there is with this group.
    pub(super) fn generation(&self) -> Generation {
        self.counters.generation
    }

    fn create(&mut self, name: String, enabled_ratio: f64, created_ms: u64) -> Result<BankAnswer, BankError> {
        if !bank_name_fits(&name) {
            return Err(BankError::Name { name: clip(&name) });
        }
        if self.directory.named(&name).is_some() {
            return Err(BankError::Exists { name });
        }
        self.counters.last_bank.0 += 1;
        let id = self.counters.last_bank;
        self.batch.put(
            Keyspace::Banks,
            bank_key(id),
            json_row(1, &BankRecord { name: name.clone(), created_ms, enabled_ratio, threshold: None }),
        );
        self.directory.insert(Bank {
            id,
            name: name.clone().into(),
            created_ms,
            enabled_ratio,
            threshold: None,
            contents: 0,
            signals: [0; SignalType::ALL.len()],
        });
        let answer = self.answer(id, 0, ContentId(0));
        self.note_bank(id, What::BankCreated { name });
        Ok(answer)
    }

    /// Deleting what is not there is done already (as HMA answers).
    fn delete(&mut self, name: &str) -> BankAnswer {
        let Some(id) = self.directory.named(name).map(|bank| bank.id) else {
            return self.still(BankId(0));
        };
        let (contents, signals) =
            self.directory.remove(id).map_or_else(Default::default, |bank| (bank.contents, bank.signals));
        self.batch.delete(Keyspace::Banks, bank_key(id));
        let (from, to) = (content_key(id, ContentId(0)), content_key(BankId(id.0 + 1), ContentId(0)));
        self.batch.delete_range(Keyspace::Contents, from, to);
        if SignalType::ALL.iter().any(|kind| kind.is_rebuilt() && signals[kind.place()] > 0) {
            self.batch.delete_range(Keyspace::Rebuilt, from, to);
        }
        self.batch.delete_range(Keyspace::Imported, bank_key(id), bank_key(BankId(id.0 + 1)));
        if self.paused.any_of(id) {
            self.batch.delete_range(Keyspace::Paused, from, to);
            Arc::make_mut(&mut self.paused).forget_bank(id);
        }
        self.effects.push(Effect::RemoveBank(id, signals));
        let answer = self.answer(id, contents, ContentId(0));
        self.note_bank(id, What::BankDeleted { name: name.to_string(), contents });
        answer
    }

    pub(super) fn add(&mut self, name: &str, contents: Vec<NewContent>) -> Result<BankAnswer, BankError> {
        let Some(id) = self.directory.named(name).map(|bank| bank.id) else {
            return Err(BankError::NotFound { name: clip(name) });
        };
        if let Some((index, reason)) =
            contents.iter().enumerate().find_map(|(index, content)| Some((index, content.fault()?)))
        {
            return Err(BankError::Content { index, reason });
        }
        if contents.is_empty() {
            return Ok(self.still(id));
        }
        let memory = self.memory + contents.iter().map(NewContent::room).sum::<usize>() as u64;
        if let Some(allowed) = self.memory_max.filter(|allowed| memory > *allowed) {
            return Err(BankError::Memory { needed: memory, allowed });
        }
        self.memory = memory;
        let first = ContentId(self.counters.last_content.0 + 1);
        let mut entries = Entries::default();
        let mut signals = [0; SignalType::ALL.len()];
        for content in &contents {
            self.counters.last_content.0 += 1;
            let number = self.counters.last_content;
            self.batch.put(
                Keyspace::Contents,
                content_key(id, number),
                encode_content(&content.signals, &About { note: &content.note, metadata: &content.metadata }),
            );
            for signal in &content.signals {
                signals[signal.kind().place()] += 1;
                entries.push(signal, number, id);
            }
            if content.signals.iter().any(|signal| signal.kind().is_rebuilt()) {
                self.batch.put(Keyspace::Rebuilt, content_key(id, number), []);
            }
            self.added.insert(number, (id, content.signals.iter().map(Signal::kind).collect()));
        }
        if let Some(bank) = self.directory.counts(id) {
            *bank.contents += contents.len() as u64;
            bank.signals.iter_mut().zip(signals).for_each(|(sum, more)| *sum += more);
        }
        self.effects.push(Effect::Add(entries));
        let contents = contents.len() as u64;
        let answer = self.answer(id, contents, first);
        self.note_content(id, first, What::Added { first, contents });
        Ok(answer)
    }

    pub(super) fn remove(
        &mut self,
        store: &dyn crate::store::Store,
        name: &str,
        content: ContentId,
    ) -> Result<BankAnswer, BankError> {
        let Some(id) = self.directory.named(name).map(|bank| bank.id) else {
            return Err(BankError::NotFound { name: clip(name) });
        };
        if self.gone.contains(&content) {
            return Ok(self.still(id)); // removed earlier in this group, whatever the store still says
        }
        let kinds = match self.added.get(&content) {
            Some((bank, kinds)) if *bank == id => kinds.clone(),
            _ => match store.get(Keyspace::Contents, &content_key(id, content)).map_err(Arc::new)? {
                Some(row) => {
                    let mut signals = Vec::new();
                    crate::store::keys::decode_content(&row, &mut signals).map_err(Arc::new)?;
                    signals.iter().map(Signal::kind).collect()
                }
                None => return Ok(self.still(id)),
            },
        };
        self.gone.insert(content);
        self.batch.delete(Keyspace::Contents, content_key(id, content));
        if kinds.iter().any(|kind| kind.is_rebuilt()) {
            self.batch.delete(Keyspace::Rebuilt, content_key(id, content));
        }
        self.pause(id, content, ENABLED);
        let generation = Generation(self.counters.generation.0 + 1); // what `answer` will make it
        let removed = RemovedContent { content, bank: id, generation, kinds: kinds.clone() };
        self.batch.put(Keyspace::Removed, removed_key(content), encode_removed(&removed));
        if let Some(bank) = self.directory.counts(id) {
            *bank.contents -= 1;
            kinds.iter().for_each(|kind| bank.signals[kind.place()] -= 1);
        }
        self.effects.push(Effect::Remove(content, kinds));
        let answer = self.answer(id, 1, ContentId(0));
        self.note_content(id, content, What::Removed);
        Ok(answer)
    }

    /// The answer of a change that took effect: it makes the next generation.
    pub(super) fn answer(&mut self, bank: BankId, contents: u64, first_content: ContentId) -> BankAnswer {
        self.counters.generation.0 += 1;
        BankAnswer { contents, first_content, ..self.still(bank) }
    }

    /// The answer of a change that had nothing to do.
    pub(super) fn still(&self, bank: BankId) -> BankAnswer {
        BankAnswer {
            generation: self.counters.generation,
            durability: self.durability,
            bank,
            contents: 0,
            first_content: ContentId(0),
            replayed: false,
        }
    }
}

/// Whether what is named as banks are may have this name: `[A-Z_][A-Z0-9_]*`.
pub fn name_fits(name: &str) -> bool {
    name.len() <= NAME_MAX && is_name(name)
}

pub(super) fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}
