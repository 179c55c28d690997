//! What happened, when and where, and who reports it.

use index::store::StoreError;

use super::facts::Facts;
use super::said::Said;
use crate::cyber_tipline::limits::{EMAIL, FIRST_NAME, LAST_NAME, LEGAL_URL, PHONE};
use crate::cyber_tipline::model::{
    CellPhoneIncident, ChatImIncident, ContactPerson, Email, EmailIncident, Incident, IncidentSummary,
    IncidentType, InternetDetails, NewsgroupIncident, NonInternetIncident, OnlineGamingIncident,
    Peer2PeerIncident, Person, Phone, Reporter, WebPageIncident,
};
use crate::desk::incident::IncidentType as Decided;
use crate::desk::item::Item;
use crate::tip::fields::Told;
use crate::tip::organisation::{InternetDetail, Organisation};
use crate::tip::time::date_time;

/// The latest moment that is in the past for NCMEC: a second ago.
const PAST_MS: u64 = 1000;

/// When it happened.
pub struct Moment {
    /// `xs:dateTime`.
    pub at: String,
    /// What that is.
    words: String,
}

/// The newest time of what is reported; it is said where that is not the platform's, and where it cannot be.
pub fn moment(facts: &Facts<'_>) -> Moment {
    let media = facts.media.iter().filter_map(|(medium, _)| medium.created_ms);
    let contents = facts.words.contents.iter().filter_map(|key| facts.items.get(key)?.created_ms);
    let messages = || facts.conversations.iter().flat_map(|thread| &thread.messages);
    let (made, words) = match (media.chain(contents).max(), messages().filter_map(|one| one.created_ms).max())
    {
        (Some(made), _) => {
            (Some(made), "When the newest of what is reported was made, as the platform says.")
        }
        (None, made) => {
            (made, "When the newest message of a reported conversation was sent, as the platform says.")
        }
    };
    let latest = facts.now_ms.saturating_sub(PAST_MS);
    let (ms, words) = match made {
        Some(made) if made <= latest => (made, words.to_string()),
        Some(made) => {
            let said = date_time(made).unwrap_or_else(|| format!("{made} ms after 1970"));
            let words = format!(
                "The platform says {said}, which was in the future when this report was written: its clock is ahead. \
                 The time of the report stands here instead."
            );
            (latest, words)
        }
        None => {
            let received = facts.items.values().chain(messages()).map(|item: &Item| item.received_ms).max();
            let words =
                "The platform gave no time: this is when it told the reporting system of what is reported.";
            (received.unwrap_or(facts.job.created_ms).min(latest), words.to_string())
        }
    };
    Moment { at: date_time(ms).unwrap_or_default(), words }
}

/// What happened.
pub fn summary(facts: &Facts<'_>, moment: &Moment) -> IncidentSummary {
    IncidentSummary {
        incident_type: incident_type(facts.words.incident_type),
        platform: None,
        escalate_to_high_priority: facts.words.escalate.clone(),
        report_annotations: None,
        incident_date_time: moment.at.clone(),
        incident_date_time_description: Some(moment.words.clone()),
    }
}

fn incident_type(decided: Decided) -> IncidentType {
    match decided {
        Decided::ChildPornography => IncidentType::ChildPornography,
        Decided::ChildSexTrafficking => IncidentType::ChildSexTrafficking,
        Decided::ChildSexTourism => IncidentType::ChildSexTourism,
        Decided::ChildSexualMolestation => IncidentType::ChildSexualMolestation,
        Decided::MisleadingDomainName => IncidentType::MisleadingDomainName,
        Decided::MisleadingWordsOrDigitalImages => IncidentType::MisleadingWordsOrDigitalImages,
        Decided::OnlineEnticement => IncidentType::OnlineEnticement,
        Decided::UnsolicitedObsceneMaterial => IncidentType::UnsolicitedObsceneMaterial,
    }
}

/// Where it happened: as the organisation's setting has it, with the URLs of what is reported.
pub fn internet(facts: &Facts<'_>, said: &mut Said) -> Result<InternetDetails, StoreError> {
    let urls = urls(facts)?;
    let organisation = facts.organisation;
    let listed = (!urls.is_empty()).then(|| format!("Where the content is: {}", urls.join("\n")));
    let service = facts.service.clone();
    let incident = match organisation.internet_detail {
        InternetDetail::WebPage => {
            let mut url: Vec<String> = urls;
            let more = organisation.more_info_url.as_deref();
            let additional_info = more.filter(|_| !url.is_empty()).map(|more| {
                format!("{more} is about how the company reports; the other URLs are of the content.")
            });
            url.extend(more.map(str::to_string));
            Incident::WebPage(WebPageIncident { third_party_hosted_content: None, url, additional_info })
        }
        InternetDetail::Email => {
            Incident::Email(EmailIncident { additional_info: listed, ..EmailIncident::default() })
        }
        InternetDetail::Newsgroup => {
            Incident::Newsgroup(NewsgroupIncident { additional_info: listed, ..NewsgroupIncident::default() })
        }
        InternetDetail::ChatIm => Incident::ChatIm(ChatImIncident {
            chat_client: service,
            chat_room_name: rooms(facts),
            content: None,
            additional_info: listed,
        }),
        InternetDetail::OnlineGaming => Incident::OnlineGaming(OnlineGamingIncident {
            game_name: service,
            additional_info: listed,
            ..OnlineGamingIncident::default()
        }),
        InternetDetail::CellPhone => {
            Incident::CellPhone(CellPhoneIncident { additional_info: listed, ..CellPhoneIncident::default() })
        }
        InternetDetail::NonInternet => Incident::NonInternet(NonInternetIncident {
            additional_info: listed,
            ..NonInternetIncident::default()
        }),
        InternetDetail::PeerToPeer => Incident::Peer2Peer(Peer2PeerIncident {
            client: service,
            additional_info: listed,
            ..Peer2PeerIncident::default()
        }),
    };
    if facts.job.media_truncated || facts.job.listed_truncated {
        said.note("the user has more than the job lists: what it does not list is not in the report");
    }
    Ok(InternetDetails { incident })
}

/// The conversations that are reported.
fn rooms(facts: &Facts<'_>) -> Option<String> {
    let rooms: Vec<&str> = facts.conversations.iter().map(|thread| thread.key.id.as_str()).collect();
    (!rooms.is_empty()).then(|| rooms.join(", "))
}

/// Where people see what is reported, and then where its files are: whole, because they are evidence.
fn urls(facts: &Facts<'_>) -> Result<Vec<String>, StoreError> {
    let mut urls: Vec<String> = Vec::new();
    let mut add = |url: &str| {
        if !url.trim().is_empty() && !urls.iter().any(|known| known == url) {
            urls.push(url.to_string());
        }
    };
    for item in facts.items.values() {
        Told::by(facts.tx, item)?.urls().into_iter().for_each(&mut add);
    }
    facts.media.iter().filter_map(|(medium, _)| medium.url.as_deref()).for_each(&mut add);
    Ok(urls)
}

/// Who reports.
pub fn reporter(organisation: &Organisation, said: &mut Said) -> Reporter {
    let mut fit =
        |what: &str, value: Option<&String>, max| said.fitting(what, value.map_or("", String::as_str), max);
    let email = |text: String| Email { text, ..Email::default() };
    let contact = organisation.contact_person.as_ref().map(|person| ContactPerson {
        first_name: fit("The contact's first name", person.first_name.as_ref(), FIRST_NAME),
        last_name: fit("The contact's last name", person.last_name.as_ref(), LAST_NAME),
        phone: fit("The contact's phone", person.phone.as_ref(), PHONE)
            .map(|text| Phone { text, ..Phone::default() })
            .into_iter()
            .collect(),
        email: fit("The contact's e-mail", person.email.as_ref(), EMAIL).map(email).into_iter().collect(),
        address: Vec::new(),
    });
    Reporter {
        reporting_person: Person {
            email: vec![email(organisation.contact_email.clone())],
            ..Person::default()
        },
        contact_person: contact,
        company_template: organisation.company_template.clone(),
        terms_of_service: organisation.terms_of_service.clone(),
        legal_url: fit("The company's terms", organisation.legal_url.as_ref(), LEGAL_URL),
    }
}
