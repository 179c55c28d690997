//! Hash lists, exchanges and events of object stores.

use std::io::BufReader;

use index::{Signal, SignalType};
use ingest::import::{BadLine, Format, ImportError, Record, Records};
use ingest::{exchange, s3};
use serde_json::Value;

use super::{choose, is_short, json};

const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:uploads";

/// Reads a list in each format, whole and in pieces of seven bytes; both must give the same.
pub fn hash_list(bytes: &[u8]) {
    let Some((kind, list)) = choose(bytes, SignalType::ALL.len()) else { return };
    let kind = SignalType::ALL[kind];
    for format in [None, Some(Format::Lines), Some(Format::Csv), Some(Format::Ndjson)] {
        let whole = read(Records::open(list, format, kind), kind);
        let pieces = read(Records::open(BufReader::with_capacity(7, list), format, kind), kind);
        assert_eq!(whole, pieces, "a list depends on how it is cut");
    }
}

type Line = Result<Record, BadLine>;

fn read<R: std::io::BufRead>(records: Result<Records<R>, ImportError>, kind: SignalType) -> Vec<Line> {
    let Ok(records) = records else { return Vec::new() };
    let mut last = 0;
    let keep = |record: Result<Record, ImportError>| match record {
        Ok(record) => {
            assert!(record.line > last, "line {} follows line {last}", record.line);
            last = record.line;
            assert!(record.quality.is_none_or(|quality| quality <= 100));
            assert!(record.note.as_ref().is_none_or(|note| note.chars().count() <= 255));
            survives(&record.signal, kind);
            Some(Ok(record))
        }
        Err(ImportError::Line(bad)) => {
            is_short(&bad.reason);
            Some(Err(bad))
        }
        Err(_) => None,
    };
    records.filter_map(keep).collect()
}

/// A signal that was taken reads back from its text and from its stored form.
fn survives(signal: &Signal, kind: SignalType) {
    assert_eq!(signal.kind(), kind);
    assert_eq!(Signal::parse(kind, &signal.to_string()).as_ref(), Ok(signal), "its own text is refused");
    let mut stored = Vec::new();
    signal.write(&mut stored);
    assert_eq!(Signal::from_bytes(kind, &stored).as_ref(), Ok(signal), "its own bytes are refused");
}

/// Reads an exchange's file, and what an exchange is told.
pub fn exchange(bytes: &[u8]) {
    if let Some(Value::Object(sent)) = json(bytes) {
        for api in &exchange::APIS {
            let fields = api.credentials.into_iter().flatten().chain(api.config);
            let shown: Vec<Value> = fields.map(exchange::Field::shown).collect();
            assert!(shown.iter().all(Value::is_object));
            let checked = exchange::check(api.config, &sent);
            checked.as_ref().err().iter().for_each(is_short);
            if let Ok(checked) = checked {
                assert_eq!(exchange::check(api.config, &checked).as_ref(), Ok(&checked), "{}", api.name);
            }
        }
    }
    let Some((kind, list)) = choose(bytes, SignalType::ALL.len() + 1) else { return };
    let read = exchange::read_list(list, SignalType::ALL.get(kind).copied());
    read.as_ref().err().iter().for_each(is_short);
    if let Ok(records) = read {
        assert!(!records.is_empty());
        records.iter().flat_map(|record| &record.signals).for_each(|signal| survives(signal, signal.kind()));
    }
}

/// Reads what SNS, EventBridge or an S3 store sends.
pub fn s3_event(bytes: &[u8]) {
    let topics = [TOPIC.to_string()];
    match s3::read(bytes, &topics) {
        Ok(s3::Delivery::Objects(objects)) => {
            objects.iter().for_each(|object| assert!(!object.identity().is_empty()));
        }
        Ok(s3::Delivery::Confirm(confirmation)) => {
            assert_eq!(confirmation.topic, TOPIC);
            assert!(confirmation.url.starts_with("https://sns.eu-west-1.amazonaws.com/"));
        }
        Ok(s3::Delivery::Nothing) => {}
        Err(error) => is_short(&error),
    }
}
