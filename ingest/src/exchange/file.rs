//! A hash list in a file of this machine, beneath a directory that the operator named: `<type> <signal>` a line, or
//! `<signal>` alone where the type is configured.
//!
//! The file is the list: what is no longer in it is withdrawn. A line that is no signal stops the fetch, and so does a
//! file without any: somebody may be writing it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use index::{Signal, SignalType};
use serde_json::{Map, Value};

use super::lists::{LIST_BYTES_MAX, ListDirs};
use super::{ExchangeError, Record};

/// Bytes of a line at most: a signal of the longest type fits.
const LINE_BYTES_MAX: u64 = 4 << 20;

pub(super) fn fetch(config: &Map<String, Value>, lists: &ListDirs) -> Result<Vec<Record>, ExchangeError> {
    let text = |name: &str| config.get(name).and_then(Value::as_str);
    let path = text("filename").unwrap_or_default().to_string();
    let fault = |reason: String| ExchangeError::File { path: path.clone(), reason };
    let default = text("signal_type").map(SignalType::from_name).transpose();
    let default = default.map_err(|error| fault(error.to_string()))?;
    let list = lists.open(Path::new(&path)).map_err(|error| fault(error.to_string()))?;
    read(BufReader::new(list.take(LIST_BYTES_MAX)), default).map_err(fault)
}

/// Reads a list whole; the error says what is wrong with it.
pub fn read(mut list: impl BufRead, default: Option<SignalType>) -> Result<Vec<Record>, String> {
    let mut records = BTreeMap::new();
    let mut text = String::new();
    for number in 1u64.. {
        text.clear();
        let bytes = list.by_ref().take(LINE_BYTES_MAX).read_line(&mut text);
        let bytes = bytes.map_err(|error| format!("line {number}: {error}"))?;
        if bytes == 0 {
            break;
        }
        if bytes as u64 == LINE_BYTES_MAX {
            return Err(format!("line {number} has {LINE_BYTES_MAX} bytes or more"));
        }
        let line = text.trim();
        if line.is_empty() {
            continue;
        }
        let (kind, signal) = match line.split_once(char::is_whitespace) {
            Some((kind, signal)) => {
                (SignalType::from_name(kind).map_err(|error| error.to_string()), signal.trim())
            }
            None => (default.ok_or("it names no signal type, nor does the exchange".to_string()), line),
        };
        let signal = kind.and_then(|kind| Signal::parse(kind, signal).map_err(|error| error.to_string()));
        let signal = signal.map_err(|reason| format!("line {number}: {reason}"))?;
        records.insert(format!("('{}', '{signal}')", signal.kind()), signal);
    }
    if records.is_empty() {
        return Err("it has no line with a signal".to_string());
    }
    Ok(records.into_iter().map(|(key, signal)| Record { key, signals: vec![signal] }).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_list_is_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.txt");
        let lists = ListDirs::new(vec![folder.path().to_path_buf()]).unwrap();
        let config = |kind: Option<&str>| {
            let mut config = Map::from_iter([("filename".to_string(), path.display().to_string().into())]);
            config.extend(kind.map(|kind| ("signal_type".to_string(), kind.into())));
            config
        };
        let says = |list: &str, kind| {
            fs::write(&path, list).unwrap();
            fetch(&config(kind), &lists).map(|records| records.len()).map_err(|error| error.to_string())
        };
        let pdq = "0f".repeat(32);
        assert_eq!(says(&format!("pdq {pdq}\n\nvideo_md5 {}\n", "5A".repeat(16)), None), Ok(2));
        assert_eq!(says(&format!("{pdq}\n{pdq}\n"), Some("pdq")), Ok(1));
        assert!(says(&pdq, None).unwrap_err().contains("line 1: it names no signal type"));
        assert!(says("pdq zz", None).unwrap_err().contains("line 1: a pdq signal is made of"));
        assert!(says("\n", Some("pdq")).unwrap_err().contains("no line with a signal"));
        fs::remove_file(&path).unwrap();
        assert!(fetch(&config(None), &lists).is_err());
        fs::write(&path, format!("pdq {pdq}\n")).unwrap();
        let refused = fetch(&config(None), &ListDirs::default()).unwrap_err().to_string();
        assert!(refused.contains("--list-dir"), "{refused}");
    }
}
