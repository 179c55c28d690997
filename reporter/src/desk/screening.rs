//! Finding out about an arrival what rules need: what its media match, who made it, what the classifier says.
//!
//! What is in the world is asked of [`World`], which the program hands in: there is one fetcher, and it is not here.
//! What was found out is kept when something else fails.

use std::collections::BTreeMap;
use std::future::Future;

use index::SignalType;
use serde_json::Value;

use super::evidence::Kept;
use super::intake::{Answered, Arrival, Needs};
use super::item::{Found, Item, ItemKey, Media, Screening};
use super::kind::ItemType;
use crate::read::At;

/// What can be asked of the world. Errors are said in words, and asked again later.
pub trait World: Sync {
    /// Fetches a medium, unless its signals are given, and compares it with the banks.
    fn screen(&self, media: &Media) -> impl Future<Output = Result<Screened, String>> + Send;
    /// What the platform says of an item that it sent without its maker; none if it knows nothing.
    fn item(&self, key: &ItemKey) -> impl Future<Output = Result<Option<Value>, String>> + Send;
    /// The highest priority that the classifier gives these pictures.
    fn priority(&self, urls: Vec<String>) -> impl Future<Output = Result<Answered, String>> + Send;
}

/// A medium that was compared with the banks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Screened {
    /// Its signals.
    pub signals: BTreeMap<SignalType, String>,
    /// What they matched, nearest first.
    pub matches: Vec<Found>,
    /// What was preserved of it.
    pub kept: Option<Kept>,
}

/// Finds out what an arrival waits for. After an error it keeps what was found out so far.
pub async fn find_out<W: World>(
    arrival: &mut Arrival,
    types: &BTreeMap<String, ItemType>,
    world: &W,
) -> Result<(), String> {
    let mut trouble = None;
    for media in &mut arrival.item.media {
        if media.screening != Screening::Waiting {
            continue;
        }
        match world.screen(media).await {
            Ok(Screened { signals, matches, kept }) => {
                media.signals.extend(signals);
                media.screening = Screening::Done { matches };
                media.kept = kept.or(media.kept.take());
            }
            Err(why) => {
                trouble.get_or_insert(format!("{}: {why}", media.field));
            }
        }
    }
    if arrival.needs.creator {
        match world.item(&arrival.item.key).await {
            Ok(told) => {
                if let Some(told) = told {
                    complete(&mut arrival.item, &told, types);
                }
                arrival.asked_for_creator = true;
                arrival.needs = Needs { creator: false, ..arrival.needs };
            }
            Err(why) => {
                trouble.get_or_insert(format!("the platform was asked for the item's maker: {why}"));
            }
        }
    }
    if arrival.needs.classification {
        let urls = arrival.item.media.iter().filter_map(|media| media.url.clone()).collect();
        match world.priority(urls).await {
            Ok(answer) => {
                arrival.classified = Some(answer);
                arrival.needs = Needs { classification: false, ..arrival.needs };
            }
            Err(why) => {
                trouble.get_or_insert(format!("the classifier was asked: {why}"));
            }
        }
    }
    trouble.map_or(Ok(()), Err)
}

/// Adds what the platform says of an item to what it said before; what was said before stays.
fn complete(item: &mut Item, told: &Value, types: &BTreeMap<String, ItemType>) {
    let Some(of) = types.get(&item.key.type_id) else { return };
    let Some(data) = told.get("data").and_then(Value::as_object) else { return };
    let mut all = data.clone();
    all.extend(item.data.clone());
    let value = Value::Object(all.clone());
    if !of.check(&At::new(&value, ""), true).is_empty() {
        return; // what does not fit the type is as good as nothing
    }
    let told = Item::new(item.key.clone(), of, all, item.received_ms);
    item.creator = item.creator.take().or(told.creator);
    item.thread = item.thread.take().or(told.thread);
    item.created_ms = item.created_ms.or(told.created_ms);
    item.kind = told.kind;
    item.data = told.data;
    // Media that it names besides wait to be compared like the others.
    for media in told.media {
        if !item.media.iter().any(|known| known.field == media.field) {
            item.media.push(media);
        }
    }
}
