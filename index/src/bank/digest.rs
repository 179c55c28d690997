//! What tells a change from others under the same request id.

use super::change::{BankChange, clip};
use super::content::NewContent;
use super::directory::Directory;
use super::outcome::{BankAnswer, BankError};
use crate::hit::RequestId;
use crate::store::request_digest;

impl BankChange {
    /// Tells the change from others: over its kind and each of its fields, in an order that later programs keep, since the
    /// digest is compared with one that was stored.
    pub fn digest(&self) -> u64 {
        let mut parts = Parts::default();
        match self {
            Self::Create { name, enabled_ratio } => {
                parts.tell("create").tell(name).tell(enabled_ratio.to_bits().to_le_bytes());
            }
            Self::Delete { name } => {
                parts.tell("delete").tell(name);
            }
            Self::Add { bank, contents } => {
                parts.tell("add").tell(bank);
                contents.iter().for_each(|content| parts.content(content));
            }
            Self::Update { name, new_name, enabled_ratio, threshold } => {
                parts.tell("update").tell(name).perhaps(new_name.as_ref());
                parts.perhaps(enabled_ratio.map(|ratio| ratio.to_bits().to_le_bytes()));
                let threshold =
                    threshold.map(|given| given.map_or(-1, |distance| i32::from(distance.bits())));
                parts.perhaps(threshold.map(i32::to_le_bytes));
            }
            Self::Exchange { bank, put, withdrawn } => {
                parts.tell("exchange").tell(bank).count(put.len());
                for (key, content) in put {
                    parts.tell(key).content(content);
                }
                for key in withdrawn {
                    parts.tell(key);
                }
            }
            Self::Edit { bank, content, note, disabled_until } => {
                parts.tell("edit").tell(bank).tell(content.0.to_le_bytes()).perhaps(note.as_ref());
                parts.perhaps(disabled_until.map(u64::to_le_bytes));
            }
            Self::Remove { bank, content } => {
                parts.tell("remove").tell(bank).tell(content.0.to_le_bytes());
            }
            Self::Exported { bank, restricted } => {
                parts.tell("exported").tell(bank).tell([u8::from(*restricted)]);
            }
        }
        request_digest(parts.0.iter().map(Vec::as_slice))
    }
}

impl BankChange {
    /// An answer of before to this change, unless what it says was added went with its bank, whose name may be another's now.
    pub(super) fn still_stands(
        &self,
        answer: BankAnswer,
        directory: &Directory,
        id: RequestId,
    ) -> Result<BankAnswer, BankError> {
        let (Self::Add { bank, .. } | Self::Exchange { bank, .. }) = self else { return Ok(answer) };
        match directory.named(bank) {
            Some(found) if found.id == answer.bank => Ok(answer),
            Some(_) => Err(BankError::Reused { id }),
            None => Err(BankError::NotFound { name: clip(bank) }),
        }
    }
}

/// Fields, each told from the next by its length.
#[derive(Default)]
struct Parts(Vec<Vec<u8>>);

impl Parts {
    fn tell(&mut self, field: impl AsRef<[u8]>) -> &mut Self {
        self.0.push(field.as_ref().to_vec());
        self
    }

    fn count(&mut self, number: usize) -> &mut Self {
        self.tell((number as u64).to_le_bytes())
    }

    /// A field that may be absent, which is not the same as empty.
    fn perhaps(&mut self, field: Option<impl AsRef<[u8]>>) -> &mut Self {
        match field {
            None => self.count(0),
            Some(field) => self.count(1).tell(field),
        }
    }

    fn content(&mut self, content: &NewContent) {
        let NewContent { signals, note, metadata } = content;
        self.count(signals.len());
        for signal in signals {
            let mut row = vec![signal.kind() as u8];
            signal.write(&mut row);
            self.tell(row);
        }
        self.tell(note).tell(metadata);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::Hash256;
    use crate::signal::{ContentId, Distance, Signal};

    #[test]
    fn every_field_of_a_change_tells_it_from_others() {
        let content = |byte: u8, note: &str, metadata: &str| NewContent {
            signals: vec![Signal::Pdq(Hash256([byte; 32]))],
            note: note.into(),
            metadata: metadata.into(),
        };
        let add = |bank: &str, contents| BankChange::Add { bank: bank.into(), contents };
        let update = |new_name: Option<&str>, enabled_ratio, threshold| BankChange::Update {
            name: "A".into(),
            new_name: new_name.map(str::to_string),
            enabled_ratio,
            threshold,
        };
        let edit = |content, note: Option<&str>, disabled_until| BankChange::Edit {
            bank: "A".into(),
            content: ContentId(content),
            note: note.map(str::to_string),
            disabled_until,
        };
        let exchange = |put: &[&str], withdrawn: &[&str]| BankChange::Exchange {
            bank: "A".into(),
            put: put.iter().map(|key| (key.to_string(), content(1, "", ""))).collect(),
            withdrawn: withdrawn.iter().map(|key| key.to_string()).collect(),
        };
        let distance = |bits| Distance::new(bits).unwrap();
        let changes = [
            BankChange::Create { name: "A".into(), enabled_ratio: 1.0 },
            BankChange::Create { name: "A".into(), enabled_ratio: 0.5 },
            BankChange::Create { name: "B".into(), enabled_ratio: 1.0 },
            BankChange::Delete { name: "A".into() },
            add("A", vec![]),
            add("A", vec![content(1, "", "")]),
            add("A", vec![content(2, "", "")]),
            add("A", vec![content(1, "n", "")]),
            add("A", vec![content(1, "", "n")]),
            add("A", vec![content(1, "", ""), content(2, "", "")]),
            add("A", vec![content(2, "", ""), content(1, "", "")]),
            add("B", vec![content(1, "", "")]),
            update(None, None, None),
            update(Some("B"), None, None),
            update(Some(""), None, None),
            update(None, Some(0.5), None),
            update(None, None, Some(None)),
            update(None, None, Some(Some(distance(8)))),
            edit(1, None, None),
            edit(2, None, None),
            edit(1, Some(""), None),
            edit(1, None, Some(0)),
            exchange(&["a"], &[]),
            exchange(&["b"], &[]),
            exchange(&[], &["a"]),
            exchange(&["a"], &["b"]),
            BankChange::Remove { bank: "A".into(), content: ContentId(1) },
            BankChange::Remove { bank: "A".into(), content: ContentId(2) },
            BankChange::Exported { bank: "A".into(), restricted: false },
            BankChange::Exported { bank: "A".into(), restricted: true },
        ];
        let digests: HashSet<u64> = changes.iter().map(BankChange::digest).collect();
        assert_eq!(digests.len(), changes.len());
        let stored = add("A", vec![content(1, "n", "")]).digest();
        assert_eq!(stored, changes[7].clone().digest(), "equal changes have one digest");
    }
}
