//! Who is reported, and with whom they talked: what is known of them, and nothing in place of what is not.

use index::store::StoreError;

use super::contents::addresses;
use super::facts::Facts;
use super::file::Event;
use super::incident::Moment;
use super::said::Said;
use crate::cyber_tipline::limits::{EMAIL, ESP_IDENTIFIER, SCREEN_NAME};
use crate::cyber_tipline::model::{
    Email, EventName, IntendedRecipient, IpCaptureEvent, Person, PersonOrUserReported,
};
use crate::desk::item::ItemKey;
use crate::desk::kind::Role;
use crate::tip::fields::Told;
use crate::tip::time::date_time;

/// The reported user. `events` are those of files that had no room for them.
pub fn reported(
    facts: &Facts<'_>,
    moment: &Moment,
    events: Vec<Event>,
    said: &mut Said,
) -> Result<PersonOrUserReported, StoreError> {
    let key = &facts.tip.user;
    let added = facts.info().and_then(|info| info.user(key));
    let told = facts.user.as_ref().map(|item| Told::by(facts.tx, item)).transpose()?;
    let role = |role| told.as_ref().and_then(|told| told.role(role));
    let mut emails = Emails::default();
    added.iter().flat_map(|user| &user.emails).for_each(|email| emails.add(email.clone(), said));
    role(Role::Email)
        .into_iter()
        .for_each(|text| emails.add(Email { text: text.to_string(), ..Email::default() }, said));
    let mut seen = Vec::new();
    added.iter().flat_map(|user| &user.ip_events).for_each(|event| add(&mut seen, event.clone()));
    if let Some(address) = told.as_ref().and_then(Told::address) {
        let (event_name, date_time) = (Some(EventName::Unknown), Some(moment.at.clone()));
        add(
            &mut seen,
            IpCaptureEvent { ip_address: address.to_string(), event_name, date_time, ..Default::default() },
        );
    }
    for event in events.into_iter().filter(|event| event.the_users) {
        add(&mut seen, event.event);
    }
    of_contents(facts, &mut seen)?;
    let screen_name = added.and_then(|user| user.screen_name.as_deref());
    Ok(PersonOrUserReported {
        person_or_user_reported_person: emails.person(),
        esp_identifier: said.fitting("The reported user's id on the platform", &key.id, ESP_IDENTIFIER),
        esp_service: facts.service.clone(),
        screen_name: screen_name
            .and_then(|name| said.fitting("The reported user's screen name", name, SCREEN_NAME)),
        display_name: role(Role::DisplayName).map(str::to_string).into_iter().collect(),
        ip_capture_event: seen,
        prior_ct_reports: facts.prior.to_vec(),
        ..PersonOrUserReported::default()
    })
}

/// Where the user's reported contents came from that have no file of their own in the report.
fn of_contents(facts: &Facts<'_>, seen: &mut Vec<IpCaptureEvent>) -> Result<(), StoreError> {
    for key in &facts.words.contents {
        let has_file = facts.media.iter().any(|(medium, _)| medium.item == *key);
        let Some(item) = facts.items.get(key).filter(|_| !has_file && facts.is_the_users(key)) else {
            continue;
        };
        let told = Told::by(facts.tx, item)?;
        for address in addresses(facts, &told, key) {
            let date_time = item.created_ms.and_then(date_time);
            let event_name = Some(EventName::Other);
            add(
                seen,
                IpCaptureEvent {
                    ip_address: address.to_string(),
                    event_name,
                    date_time,
                    ..Default::default()
                },
            );
        }
    }
    Ok(())
}

/// Those with whom the user talked alone in a reported conversation: whoever they are, it was meant for them.
pub fn recipients(facts: &Facts<'_>, said: &mut Said) -> Result<Vec<IntendedRecipient>, StoreError> {
    let mut keys: Vec<&ItemKey> = Vec::new();
    for other in facts.conversations.iter().filter_map(|thread| thread.other(&facts.tip.user)) {
        if !keys.contains(&other) {
            keys.push(other);
        }
    }
    keys.into_iter().map(|key| recipient(facts, key, said)).collect()
}

fn recipient(facts: &Facts<'_>, key: &ItemKey, said: &mut Said) -> Result<IntendedRecipient, StoreError> {
    let item = facts.known(key)?;
    let told = item.as_ref().map(|item| Told::by(facts.tx, item)).transpose()?;
    let role = |role| told.as_ref().and_then(|told| told.role(role));
    let mut seen = Vec::new();
    if let Some(address) = told.as_ref().and_then(Told::address) {
        let event_name = Some(EventName::Unknown);
        add(&mut seen, IpCaptureEvent { ip_address: address.to_string(), event_name, ..Default::default() });
    }
    let mut emails = Emails::default();
    role(Role::Email)
        .into_iter()
        .for_each(|text| emails.add(Email { text: text.to_string(), ..Email::default() }, said));
    Ok(IntendedRecipient {
        intended_recipient_person: emails.person(),
        esp_identifier: said.fitting("A recipient's id on the platform", &key.id, ESP_IDENTIFIER),
        esp_service: facts.service.clone(),
        display_name: role(Role::DisplayName).map(str::to_string).into_iter().collect(),
        ip_capture_event: seen,
        ..IntendedRecipient::default()
    })
}

/// E-mail addresses, each once.
#[derive(Default)]
struct Emails(Vec<Email>);

impl Emails {
    fn add(&mut self, email: Email, said: &mut Said) {
        let known = self.0.iter().any(|known| known.text.eq_ignore_ascii_case(&email.text));
        if known {
            return;
        }
        if let Some(text) = said.fitting("An e-mail address of the user", &email.text, EMAIL) {
            self.0.push(Email { text, ..email });
        }
    }

    fn person(self) -> Option<Person> {
        (!self.0.is_empty()).then(|| Person { email: self.0, ..Person::default() })
    }
}

fn add(seen: &mut Vec<IpCaptureEvent>, event: IpCaptureEvent) {
    if !seen.contains(&event) {
        seen.push(event);
    }
}
