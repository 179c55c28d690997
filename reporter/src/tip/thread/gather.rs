//! What is known of a conversation: everybody's messages in it, found by who takes part and by the reports about it.

use std::collections::BTreeMap;

use index::store::StoreError;

use super::Conversation;
use crate::desk::item::{Item, ItemKey, Report, item, items_of, report};
use crate::desk::job::Job;
use crate::desk::kind::ItemKind;
use crate::tip::fields::Told;
use crate::tx::Tx;

/// Messages of a conversation.
const MESSAGES_MAX: usize = 10_000;
/// People of a conversation whose messages are looked for, and items of each that are looked through.
const PEOPLE_MAX: usize = 20;
const ITEMS_MAX: usize = 2000;

/// The conversations that a job's keys name, each once: a thread is named by its own key, or by one of its messages.
pub fn conversations(tx: &Tx<'_>, job: &Job, named: &[ItemKey]) -> Result<Vec<Conversation>, StoreError> {
    let mut reports = Vec::new();
    for id in &job.reports {
        reports.extend(report(tx, id)?);
    }
    let mut found: Vec<Conversation> = Vec::new();
    for key in named {
        let (home, of) = home(tx, &reports, key)?;
        if !found.iter().any(|known| known.key == home) {
            found.push(gather(tx, job, &reports, (home, of))?);
        }
    }
    Ok(found)
}

/// Which conversation a key names; and the report it came by, where that is all that holds it together.
fn home<'r>(
    tx: &Tx<'_>,
    reports: &'r [Report],
    key: &ItemKey,
) -> Result<(ItemKey, Option<&'r Report>), StoreError> {
    let known = item(tx, key)?;
    if let Some(thread) = known.as_ref().and_then(|item| item.thread.clone()) {
        return Ok((thread, None));
    }
    if known.is_some_and(|item| item.kind == Some(ItemKind::Thread)) {
        return Ok((key.clone(), None));
    }
    let Some(of) = reports.iter().find(|report| report.item == *key || report.thread.contains(key)) else {
        return Ok((key.clone(), None));
    };
    let reported = item(tx, &of.item)?;
    let is_thread = reported.as_ref().is_some_and(|item| item.kind == Some(ItemKind::Thread));
    match reported.and_then(|item| item.thread) {
        Some(thread) => Ok((thread, None)),
        None if is_thread => Ok((of.item.clone(), None)),
        None => Ok((of.item.clone(), Some(of))),
    }
}

/// A conversation under way to be known.
struct Gathering {
    key: ItemKey,
    messages: BTreeMap<ItemKey, Item>,
    people: Vec<ItemKey>,
    truncated: bool,
}

impl Gathering {
    fn person(&mut self, key: &ItemKey) {
        if self.people.contains(key) {
            return;
        }
        if self.people.len() < PEOPLE_MAX {
            self.people.push(key.clone());
        } else {
            self.truncated = true;
        }
    }

    fn belongs(&self, item: &Item) -> bool {
        let is_message = !matches!(item.kind, Some(ItemKind::Thread | ItemKind::User));
        is_message && (item.thread.as_ref() == Some(&self.key) || item.key == self.key)
    }

    fn message(&mut self, tx: &Tx<'_>, item: Item) -> Result<(), StoreError> {
        if self.messages.contains_key(&item.key) {
            return Ok(());
        }
        if self.messages.len() >= MESSAGES_MAX {
            self.truncated = true;
            return Ok(());
        }
        if let Some(creator) = &item.creator {
            self.person(creator);
        }
        for user in Told::by(tx, &item)?.users(tx)? {
            self.person(&user);
        }
        self.messages.insert(item.key.clone(), item);
        Ok(())
    }
}

fn gather(
    tx: &Tx<'_>,
    job: &Job,
    reports: &[Report],
    (key, of): (ItemKey, Option<&Report>),
) -> Result<Conversation, StoreError> {
    let (messages, people) = (BTreeMap::new(), Vec::new());
    let mut known = Gathering { key, messages, people, truncated: false };
    if let Some(thread) = item(tx, &known.key)?.filter(|item| item.kind == Some(ItemKind::Thread)) {
        thread.creator.iter().for_each(|creator| known.person(creator));
        Told::by(tx, &thread)?.users(tx)?.iter().for_each(|user| known.person(user));
    }
    for report in reports {
        let mut items = Vec::new();
        for key in report.thread.iter().chain([&report.item]) {
            items.extend(item(tx, key)?);
        }
        let about = of.is_some_and(|of| of.id == report.id)
            || report.item == known.key
            || items.iter().any(|item| known.belongs(item));
        // What a report has around a message of a thread is of that thread, unless it says otherwise itself.
        items.retain(|item| {
            known.belongs(item)
                || (about && item.thread.is_none() && matches!(item.kind, None | Some(ItemKind::Content)))
        });
        for item in items {
            known.message(tx, item)?;
        }
    }
    for key in &job.contents {
        if let Some(item) = item(tx, key)?.filter(|item| known.belongs(item)) {
            known.message(tx, item)?;
        }
    }
    let mut looked = 0;
    let mut next = Some(job.subject.clone());
    while let Some(person) = next {
        let (items, more) = items_of(tx, &person, ITEMS_MAX)?;
        known.truncated |= more;
        for item in items {
            if known.belongs(&item) {
                known.message(tx, item)?;
            }
        }
        next = known.people.iter().filter(|one| **one != job.subject).nth(looked).cloned();
        looked += 1;
    }
    let Gathering { key, messages, people, truncated } = known;
    let mut messages: Vec<Item> = messages.into_values().collect();
    messages.sort_by_key(|message| (message.time_ms(), message.arrival));
    Ok(Conversation { key, messages, people, truncated })
}
