//! The words of a report: the reviewer's, the platform's, and those of reported contents.

use std::collections::BTreeSet;

use index::store::StoreError;

use super::facts::Facts;
use super::said::Said;
use crate::desk::decision::Decider;
use crate::desk::item::ItemKey;
use crate::tip::fields::Told;
use crate::tip::time::date_time;

/// Texts of contents that a report holds together: more than people read. What is beyond is named.
const CONTENTS_BYTES_MAX: usize = 4 << 20;

/// The reviewer's words; that nobody looked, where nobody did.
pub fn say_who_decided(facts: &Facts<'_>, said: &mut Said) {
    said.say(facts.words.additional_info.clone().unwrap_or_default());
    if let Decider::Automatic { rule, bank, .. } = &facts.by {
        said.say(format!(
            "This report was made without a person: media matched the hash list '{bank}', and rule '{rule}' reports \
             such matches. Nobody at the company has viewed them."
        ));
    }
    if facts.service.is_none() {
        said.say(format!("The service is that of {}.", facts.organisation.company_name));
    }
    if let Some(by) = &facts.tip.minimal {
        said.note(format!("filed without what the platform adds, by the word of {by}"));
    }
}

/// What the platform said of the report and of the user in words of its own.
pub fn say_what_was_added(facts: &Facts<'_>, said: &mut Said) {
    let Some(info) = facts.info() else { return };
    said.say(info.additional_info.clone().unwrap_or_default());
    let data = info.user(&facts.tip.user).and_then(|user| user.data.as_ref());
    if let Some(data) = data.filter(|data| data.as_object().is_some_and(|data| !data.is_empty())) {
        said.say(format!("The platform's record of the reported user, as JSON: {data}"));
    }
    // Those of reported conversations are in their files, those of reported contents with the user.
    let shown: BTreeSet<&ItemKey> = facts
        .conversations
        .iter()
        .flat_map(|thread| thread.messages.iter().map(|message| &message.key))
        .chain(&facts.words.contents)
        .collect();
    let others: Vec<String> = info
        .messages
        .iter()
        .filter(|message| !shown.contains(&message.key))
        .map(|message| format!("{} from {}", named(&message.key), message.address))
        .collect();
    if !others.is_empty() {
        said.say(format!("Addresses of further messages: {}", others.join("; ")));
    }
}

/// Reported contents with their texts.
pub fn say_contents(facts: &Facts<'_>, said: &mut Said) -> Result<(), StoreError> {
    let mut bytes = 0;
    for key in &facts.words.contents {
        let Some(item) = facts.items.get(key) else {
            said.say(format!("Reported content, of which only this is known: {}", named(key)));
            continue;
        };
        let told = Told::by(facts.tx, item)?;
        let texts = told.texts().join("\n");
        let mut line = format!("Reported content, {}", named(key));
        if let Some(creator) = item.creator.as_ref().filter(|creator| **creator != facts.tip.user) {
            line.push_str(&format!(", by {}", named(creator)));
        }
        if let Some(at) = item.created_ms.and_then(date_time) {
            line.push_str(&format!(", of {at}"));
        }
        let from = addresses(facts, &told, key);
        if !from.is_empty() {
            line.push_str(&format!(", from {}", from.join(", ")));
        }
        bytes += texts.len();
        if bytes > CONTENTS_BYTES_MAX {
            said.note(format!("the text of {} is left out: the report is very long", named(key)));
            said.say(format!(
                "{line}: its text is left out of this report for its length and can be asked for"
            ));
        } else if texts.is_empty() {
            said.say(format!("{line}: without text"));
        } else {
            said.say(format!("{line}: {texts}"));
        }
    }
    Ok(())
}

/// Where a content came from: what the platform added, or else what its item says.
pub fn addresses<'f>(facts: &Facts<'f>, told: &Told<'f>, key: &'f ItemKey) -> Vec<&'f str> {
    let added: Vec<&str> = facts.info().iter().flat_map(|info| info.message_addresses(key)).collect();
    if added.is_empty() { told.address().into_iter().collect() } else { added }
}

/// An item, for people.
pub fn named(key: &ItemKey) -> String {
    format!("{} (type {})", key.id, key.type_id)
}
