//! The files of a report: each with its own name, hashes, addresses and labels, and with what nobody viewed said to be so.

use std::collections::BTreeSet;

use super::BuildError;
use super::added::Added;
use super::contents::named;
use super::facts::Facts;
use super::said::{Said, fitting};
use crate::cyber_tipline::limits::{LOCATION_OF_FILE, ORIGINAL_FILE_NAME};
use crate::cyber_tipline::model::{
    EventName, FileAnnotations, FileDetails, FileRelevance, IndustryClassification, IpCaptureEvent, Labels,
    OriginalFileHash,
};
use crate::desk::decision::MediaDecision;
use crate::desk::evidence::{Kept, State, piece_of};
use crate::desk::incident::{Annotation, Classification};
use crate::desk::ncmec::JobMedia;
use crate::tip::fields::Told;
use crate::tip::filing::pace::EVIDENCE_MS_MAX;
use crate::tip::filing::{DraftFile, FileKind, Source};
use crate::tip::thread::{Conversation, GUARD_WORDS};
use crate::tip::time::date_time;

/// Longest name of an upload; what a file was called stands in its details.
const NAME_CHARS_MAX: usize = 200;

/// An address behind a file that has another one already.
pub struct Event {
    /// The address.
    pub event: IpCaptureEvent,
    /// Whether the reported user made what it is about.
    pub the_users: bool,
}

/// Names of uploads, each once.
#[derive(Default)]
pub struct Names(BTreeSet<String>);

impl Names {
    /// A name that no other file has and any system takes.
    fn take(&mut self, wanted: Option<&str>, otherwise: &str) -> String {
        let fine = |c: char| if c.is_control() || "\"\\/:*?<>|".contains(c) { '_' } else { c };
        let wanted: String = wanted.unwrap_or(otherwise).chars().map(fine).collect();
        let fits = !wanted.trim().is_empty() && wanted.chars().count() <= NAME_CHARS_MAX;
        let wanted = if fits { wanted } else { otherwise.to_string() };
        let mut name = wanted.clone();
        let mut number = 1;
        while !self.0.insert(name.to_lowercase()) {
            number += 1;
            name = format!("{number}-{wanted}");
        }
        name
    }
}

/// The reported media that are there, and the addresses for which they have no room. Those that are not there are named.
pub fn media(
    facts: &Facts<'_>,
    names: &mut Names,
    said: &mut Said,
) -> Result<(Vec<DraftFile>, Vec<Event>), BuildError> {
    let (mut files, mut events, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    let mut waiting: Option<u64> = None;
    for (medium, decided) in &facts.media {
        let gone =
            medium.item != facts.tip.user && facts.info().is_some_and(|info| info.is_missing(&medium.item));
        let piece = piece_of(facts.tx, facts.tip.job, medium.number)?;
        let why = match piece.map(|piece| piece.state) {
            _ if gone => "the platform says that it is gone from there".to_string(),
            Some(State::Kept(kept)) => {
                files.push(medium_file(facts, (medium, decided), kept, names, &mut events)?);
                continue;
            }
            Some(State::Waiting { trouble, .. }) => {
                waiting.get_or_insert(medium.number);
                format!("it could not be fetched: {}", trouble.as_deref().unwrap_or("not yet tried"))
            }
            Some(State::GivenUp { trouble, .. }) => trouble,
            None => "it came without a URL".to_string(),
        };
        left_out.push((medium, why));
    }
    let empty = files.is_empty() && facts.words.contents.is_empty() && facts.words.threads.is_empty();
    let early = facts.now_ms < facts.tip.decided_ms.saturating_add(EVIDENCE_MS_MAX);
    if let Some(number) = waiting.filter(|_| early || empty) {
        let words = format!("medium {number} of the job is still being preserved");
        return Err(BuildError::NotYet { words });
    }
    if empty {
        let numbers: Vec<String> =
            left_out.iter().map(|(medium, why)| format!("medium {}: {why}", medium.number)).collect();
        let words =
            format!("no reported medium is left, and nothing else is reported: {}", numbers.join("; "));
        return Err(BuildError::AllMediaMissing { words });
    }
    for (medium, why) in left_out {
        said.note(format!("medium {} is left out: {why}", medium.number));
        said.say(without_file(medium, &why));
    }
    Ok((files, events))
}

/// A reported medium whose file is not there.
fn without_file(medium: &JobMedia, why: &str) -> String {
    let mut words = format!("Reported, and not among the files because {why}: {}", named(&medium.item));
    if let Some(url) = &medium.url {
        words.push_str(&format!(", at {url}"));
    }
    if let Some(at) = medium.created_ms.and_then(date_time) {
        words.push_str(&format!(", of {at}"));
    }
    for (kind, signal) in &medium.signals {
        words.push_str(&format!(", {} {signal}", kind.name()));
    }
    words
}

fn medium_file(
    facts: &Facts<'_>,
    (medium, decided): (&JobMedia, &MediaDecision),
    kept: Kept,
    names: &mut Names,
    events: &mut Vec<Event>,
) -> Result<DraftFile, BuildError> {
    let added = Added::of(facts, medium)?;
    let mut lines = added.lines();
    let called = added.file_name().or_else(|| last_segment(medium.url.as_deref()?));
    let mut fit = |what, value: Option<&str>, max| {
        let (fits, words) = fitting(what, value.unwrap_or_default(), max);
        lines.extend(words);
        fits
    };
    let original_file_name = fit("The file's name", called, ORIGINAL_FILE_NAME);
    let location_of_file = fit("Where the file was", medium.url.as_deref(), LOCATION_OF_FILE);
    let made = medium.created_ms.filter(|made| *made <= facts.now_ms);
    if let Some(ahead) = medium.created_ms.filter(|_| made.is_none()) {
        let at = date_time(ahead).unwrap_or_else(|| format!("{ahead} ms after 1970"));
        lines.push(format!("The platform says it was uploaded at {at}, which was in the future."));
    }
    let (event, others) = one_event(facts, medium, &added)?;
    for other in others {
        lines.push(format!("A further address: {}", in_words(&other)));
        events.push(Event { event: other, the_users: facts.is_the_users(&medium.item) });
    }
    let (original_file_hash, differing) = added.hashes();
    lines.extend(differing);
    let name = names.take(called, &format!("medium-{}", medium.number));
    let details = FileDetails {
        original_file_name,
        uploaded_to_esp_timestamp: made.and_then(date_time),
        location_of_file,
        file_viewed_by_esp: Some(decided.viewed),
        exif_viewed_by_esp: Some(false), // nobody is shown it
        publicly_available: added.publicly_available(),
        file_relevance: Some(FileRelevance::Reported),
        labels: labels(&decided.annotations),
        industry_classification: industry(decided.classification).filter(|_| facts.classifies),
        original_file_hash,
        ip_capture_event: event,
        additional_info: lines,
        ..FileDetails::default()
    };
    let kind = FileKind::Media { media: medium.number };
    Ok(DraftFile { kind, name, content_type: content_type(&kept), source: Source::Blob(kept), details })
}

/// The one address a file has room for: of its upload as the platform added it, or else as the item has it, or else the
/// first one. And the others.
fn one_event(
    facts: &Facts<'_>,
    medium: &JobMedia,
    added: &Added<'_>,
) -> Result<(Option<IpCaptureEvent>, Vec<IpCaptureEvent>), BuildError> {
    let mut events = added.events();
    // Of the user's own pictures the item is the user: its address is no upload's.
    let item = facts.items.get(&medium.item).filter(|_| medium.item != facts.tip.user);
    let told = item.map(|item| Told::by(facts.tx, item)).transpose()?;
    let role = told.and_then(|told| told.address()).map(|address| IpCaptureEvent {
        ip_address: address.to_string(),
        event_name: Some(EventName::Upload),
        date_time: medium.created_ms.and_then(date_time),
        ..IpCaptureEvent::default()
    });
    let known = role.as_ref().is_some_and(|role| events.contains(role));
    events.extend(role.filter(|_| !known));
    let is_upload = |event: &IpCaptureEvent| event.event_name == Some(EventName::Upload);
    let Some(at) = events.iter().position(is_upload).or((!events.is_empty()).then_some(0)) else {
        return Ok((None, events));
    };
    Ok((Some(events.remove(at)), events))
}

fn in_words(event: &IpCaptureEvent) -> String {
    let mut words = event.ip_address.clone();
    if let Some(port) = event.port {
        words.push_str(&format!(", port {port}"));
    }
    if let Some(name) = event.event_name {
        words.push_str(&format!(", {name:?}"));
    }
    if let Some(at) = &event.date_time {
        words.push_str(&format!(", {at}"));
    }
    if event.possible_proxy == Some(true) {
        words.push_str(", possibly a proxy");
    }
    words
}

/// Further files that were fetched; of the others it is said where they were.
pub fn extras(
    facts: &Facts<'_>,
    names: &mut Names,
    files: &mut Vec<DraftFile>,
    said: &mut Said,
) -> Result<(), BuildError> {
    for extra in &facts.informed.extra {
        let Some(kept) = &extra.kept else {
            let early = facts.now_ms < facts.tip.decided_ms.saturating_add(EVIDENCE_MS_MAX);
            if extra.missing.is_none() && early {
                return Err(BuildError::NotYet {
                    words: "a further file is still being fetched".to_string(),
                });
            }
            let why = extra.missing.as_deref().unwrap_or("it could not be fetched");
            said.note(format!("a further file is left out: {why}"));
            let mut words = format!("A further file is not there ({why}): {}, at {}", extra.name, extra.url);
            extra.additional_info.iter().for_each(|line| words.push_str(&format!(". {line}")));
            said.say(words);
            continue;
        };
        let mut lines = extra.additional_info.clone();
        let (original_file_name, words) = fitting("The file's name", &extra.name, ORIGINAL_FILE_NAME);
        lines.extend(words);
        let (location_of_file, words) = fitting("Where the file was", &extra.url, LOCATION_OF_FILE);
        lines.extend(words);
        files.push(DraftFile {
            kind: FileKind::Supplemental { url: extra.url.clone() },
            name: names.take(Some(&extra.name), "file"),
            content_type: content_type(kept),
            source: Source::Blob(kept.clone()),
            details: FileDetails {
                original_file_name,
                location_of_file,
                original_file_hash: kept_hashes(kept),
                additional_info: lines,
                ..unviewed(FileRelevance::Supplemental)
            },
        });
    }
    Ok(())
}

/// Reported conversations. They are what is reported where there is no medium.
pub fn threads(
    facts: &Facts<'_>,
    reported: bool,
    names: &mut Names,
    files: &mut Vec<DraftFile>,
    said: &mut Said,
) -> Result<(), BuildError> {
    let relevance = if reported { FileRelevance::Reported } else { FileRelevance::Supplemental };
    for thread in &facts.conversations {
        if thread.messages.is_empty() {
            said.note("a reported conversation is left out: none of its messages is known");
            said.say(format!("Reported conversation, of which no message is known: {}", named(&thread.key)));
            continue;
        }
        let transcript = thread.transcript(facts.tx, facts.info())?;
        let left_out = thread.messages.len() - transcript.messages;
        let lines = thread_lines(thread, left_out);
        if left_out > 0 || thread.truncated {
            said.note("a reported conversation is longer than its file");
        }
        files.push(DraftFile {
            kind: FileKind::Thread { thread: thread.key.clone() },
            name: names.take(Some(&format!("{}.csv", thread.key.id)), "conversation.csv"),
            content_type: "text/csv".to_string(),
            source: Source::Text(transcript.csv),
            details: FileDetails { additional_info: lines, ..unviewed(relevance) },
        });
    }
    Ok(())
}

fn thread_lines(thread: &Conversation, left_out: usize) -> Vec<String> {
    let chat = thread.chat_type().map_or(String::new(), |chat| format!("{chat} "));
    let mut lines = vec![format!(
        "File contains transcript of a {chat}message conversation involving suspect: thread {}, {} messages{}.",
        named(&thread.key),
        thread.messages.len() - left_out,
        match (thread.messages.get(left_out), thread.messages.last()) {
            (Some(first), Some(last)) => match (date_time(first.time_ms()), date_time(last.time_ms())) {
                (Some(first), Some(last)) => format!(" from {first} to {last}"),
                _ => String::new(),
            },
            _ => String::new(),
        }
    )];
    lines.push(GUARD_WORDS.to_string());
    if left_out > 0 {
        lines.push(format!(
            "{left_out} older messages are left out for the file's length and can be asked for."
        ));
    }
    if thread.truncated {
        lines.push("There may be more messages than are known here.".to_string());
    }
    lines
}

/// Details of a file that nobody viewed.
fn unviewed(relevance: FileRelevance) -> FileDetails {
    FileDetails {
        file_viewed_by_esp: Some(false),
        exif_viewed_by_esp: Some(false),
        file_relevance: Some(relevance),
        ..FileDetails::default()
    }
}

/// Hashes of the bytes themselves.
pub fn kept_hashes(kept: &Kept) -> Vec<OriginalFileHash> {
    let hash =
        |(of, text): (&str, &String)| OriginalFileHash { hash_type: of.to_string(), text: text.clone() };
    [("MD5", &kept.md5), ("SHA256", &kept.sha256)]
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(hash)
        .collect()
}

fn content_type(kept: &Kept) -> String {
    let given = kept.content_type.trim();
    let fine = !given.is_empty() && given.contains('/') && !given.contains(char::is_control);
    (if fine { given } else { "application/octet-stream" }).to_string()
}

fn labels(annotations: &[Annotation]) -> Option<Labels> {
    let has = |annotation| annotations.contains(&annotation);
    match annotations {
        [] => None,
        [Annotation::PotentialMeme] => Some(Labels::PotentialMeme(true)),
        _ => Some(Labels::FileAnnotations(FileAnnotations {
            anime_drawing_virtual_hentai: has(Annotation::AnimeDrawingVirtualHentai),
            potential_meme: has(Annotation::PotentialMeme),
            viral: has(Annotation::Viral),
            possible_self_production: has(Annotation::PossibleSelfProduction),
            physical_harm: has(Annotation::PhysicalHarm),
            violence_gore: has(Annotation::ViolenceGore),
            bestiality: has(Annotation::Bestiality),
            live_streaming: has(Annotation::LiveStreaming),
            infant: has(Annotation::Infant),
            generative_ai: has(Annotation::GenerativeAi),
        })),
    }
}

fn industry(classification: Classification) -> Option<IndustryClassification> {
    match classification {
        Classification::A1 => Some(IndustryClassification::A1),
        Classification::A2 => Some(IndustryClassification::A2),
        Classification::B1 => Some(IndustryClassification::B1),
        Classification::B2 => Some(IndustryClassification::B2),
        Classification::Unclassified | Classification::None => None,
    }
}

/// The last part of a URL's path, as it is written; none if that is empty.
pub fn last_segment(url: &str) -> Option<&str> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.split(['?', '#']).next()?.split_once('/')?.1;
    path.trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty())
}
