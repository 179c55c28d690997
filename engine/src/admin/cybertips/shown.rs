//! A filing as it is shown.

use std::collections::BTreeMap;

use reporter::Tx;
use reporter::cyber_tipline::Environment;
use reporter::cyber_tipline::xml::file_details_xml;
use reporter::desk::decision::decision;
use reporter::desk::ncmec::media_of;
use reporter::tip::filing::{DraftFile, FileKind, Informed, Source, Tip, TipFile, rows};
use reporter::{DeskError, JobId};
use serde_json::{Value, json};

/// NCMEC's number, if it has one now.
fn report_id(tip: &Tip) -> Option<i64> {
    let filed = tip.filed.as_ref().map(|filed| filed.report_id);
    filed.or_else(|| tip.open.as_ref().map(|open| open.report_id))
}

/// How far it is, for a list.
pub fn summary(tip: &Tip) -> Value {
    let mut shown = json!(tip);
    if let Some(shown) = shown.as_object_mut() {
        let files = shown.remove("files").and_then(|files| files.as_array().map(Vec::len));
        shown.remove("epoch");
        let taken = shown.remove("taken");
        shown.insert("in_progress".to_string(), taken.unwrap_or_default());
        shown.insert("is_test".to_string(), json!(tip.environment == Environment::Test));
        shown.insert("file_count".to_string(), json!(files.unwrap_or(0)));
        if !tip.waits() {
            shown.remove("due_ms");
        }
        if let Some(number) = report_id(tip) {
            shown.insert("report_id".to_string(), json!(number));
        }
    }
    shown
}

/// All of it but the records.
pub fn detail(tx: &Tx<'_>, tip: &Tip) -> Result<Value, DeskError> {
    let mut shown = summary(tip);
    let decided = decision(tx, tip.job)?.and_then(|decided| decided.report);
    let draft = rows::draft(tx, tip.job)?;
    let informed = rows::informed(tx, tip.job)?;
    let files = draft.as_ref().map_or(&[][..], |draft| &draft.files);
    let mut media = BTreeMap::new();
    for said in decided.iter().flat_map(|words| &words.media) {
        media.insert(said.media, json!(said));
    }
    let (mut supplemental, mut threads) = (Vec::new(), Vec::new());
    for file in files {
        let at = tip.files.iter().find(|at| at.kind == file.kind && at.name == file.name);
        let about = of_file(tip, file, at);
        match &file.kind {
            FileKind::Media { media: number } => {
                let place = media.entry(*number).or_insert_with(|| json!({ "media": number }));
                merge(place, about);
            }
            FileKind::Supplemental { url } => {
                supplemental.push(merged(json!({ "url": url }), about));
            }
            FileKind::Thread { thread } => {
                let csv = match &file.source {
                    Source::Text(csv) => Some(csv),
                    Source::Blob(_) => None,
                };
                threads.push(merged(json!({ "thread": thread, "csv": csv }), about));
            }
        }
    }
    for (number, place) in &mut media {
        merge(place, of_medium(tx, tip.job, *number)?);
    }
    supplemental.extend(missing(informed.as_ref()));
    let more = json!({
        "decision": decided,
        "media": media.into_values().collect::<Vec<_>>(),
        "supplemental_files": supplemental,
        "threads": threads,
        "xml": draft.as_ref().map(|draft| &draft.xml),
        "built_ms": draft.as_ref().map(|draft| draft.at_ms),
        "notes": draft.as_ref().map_or(&[][..], |draft| &draft.notes),
        "informed_ms": informed.as_ref().map(|informed| informed.at_ms),
    });
    merge(&mut shown, more);
    Ok(shown)
}

/// A file as it is, or will be, sent.
fn of_file(tip: &Tip, file: &DraftFile, at: Option<&TipFile>) -> Value {
    let mut details = file.details.clone();
    let file_id = at.and_then(|at| at.file_id.clone());
    if let Some(number) = report_id(tip) {
        details.report_id = number;
    }
    details.file_id = file_id.clone().unwrap_or_default();
    json!({
        "name": file.name,
        "content_type": file.content_type,
        "md5": at.map(|at| &at.md5),
        "bytes": at.map(|at| at.bytes),
        "file_id": file_id,
        "detailed": at.is_some_and(|at| at.detailed),
        "details_xml": file_details_xml(&details),
    })
}

/// Where a medium of the job comes from.
fn of_medium(tx: &Tx<'_>, job: JobId, number: u64) -> Result<Value, DeskError> {
    let listed = media_of(tx, job, number.saturating_sub(1), 1)?;
    let found = listed.into_iter().find(|listed| listed.number == number);
    Ok(found.map_or(
        json!({}),
        |found| json!({ "item": found.item, "field": found.field, "kind": found.kind, "url": found.url }),
    ))
}

/// Further files that could not be had.
fn missing(informed: Option<&Informed>) -> Vec<Value> {
    let extra = informed.map_or(&[][..], |informed| &informed.extra);
    let gone = extra.iter().filter(|extra| extra.missing.is_some());
    gone.map(|extra| json!({ "url": extra.url, "name": extra.name, "missing": extra.missing })).collect()
}

/// Adds what is there; absent things are not shown.
fn merge(place: &mut Value, more: Value) {
    if let (Some(place), Value::Object(more)) = (place.as_object_mut(), more) {
        place.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
    }
}

fn merged(mut place: Value, more: Value) -> Value {
    merge(&mut place, more);
    place
}
