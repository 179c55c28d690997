//! A hash list in a file of this machine: `<type> <signal>` a line, or `<signal>` alone where the type is configured.
//!
//! The file is the list: what is no longer in it is withdrawn. A line that is no signal stops the fetch, and so does a
//! file without any: somebody may be writing it.

use std::collections::BTreeMap;
use std::fs;

use index::{Signal, SignalType};
use serde_json::{Map, Value};

use super::{ExchangeError, Record};

pub(super) fn fetch(config: &Map<String, Value>) -> Result<Vec<Record>, ExchangeError> {
    let text = |name: &str| config.get(name).and_then(Value::as_str);
    let path = text("filename").unwrap_or_default().to_string();
    let fault = |reason: String| ExchangeError::File { path: path.clone(), reason };
    let default = text("signal_type").map(SignalType::from_name).transpose();
    let default = default.map_err(|error| fault(error.to_string()))?;
    let list = fs::read_to_string(&path).map_err(|error| fault(error.to_string()))?;
    let mut records = BTreeMap::new();
    for (number, line) in (1..).zip(list.lines()) {
        let line = line.trim();
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
        let signal = signal.map_err(|reason| fault(format!("line {number}: {reason}")))?;
        records.insert(format!("('{}', '{signal}')", signal.kind()), signal);
    }
    if records.is_empty() {
        return Err(fault("it has no line with a signal".to_string()));
    }
    Ok(records.into_iter().map(|(key, signal)| Record { key, signals: vec![signal] }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.txt");
        let config = |kind: Option<&str>| {
            let mut config = Map::from_iter([("filename".to_string(), path.display().to_string().into())]);
            config.extend(kind.map(|kind| ("signal_type".to_string(), kind.into())));
            config
        };
        let says = |list: &str, kind| {
            fs::write(&path, list).unwrap();
            fetch(&config(kind)).map(|records| records.len()).map_err(|error| error.to_string())
        };
        let pdq = "0f".repeat(32);
        assert_eq!(says(&format!("pdq {pdq}\n\nvideo_md5 {}\n", "5A".repeat(16)), None), Ok(2));
        assert_eq!(says(&format!("{pdq}\n{pdq}\n"), Some("pdq")), Ok(1));
        assert!(says(&pdq, None).unwrap_err().contains("line 1: it names no signal type"));
        assert!(says("pdq zz", None).unwrap_err().contains("line 1: a pdq signal is made of"));
        assert!(says("\n", Some("pdq")).unwrap_err().contains("no line with a signal"));
        fs::remove_file(&path).unwrap();
        assert!(fetch(&config(None)).is_err());
    }
}
