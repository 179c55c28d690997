//! What a platform adds to a report when it is asked (specs/coop.md 2.6): an entry for every user and medium that is asked
//! for, with what a test has said of it, and wrong in the ways a test asks for.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use serde_json::{Map, Value, json};

const PIECE: [u8; 64] = [b' '; 64];

/// How an answer is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misinformed {
    /// It has no entry for this user or medium.
    Omits(String),
    /// The value of this field is a number in every entry.
    WrongType(&'static str),
    /// It is so long.
    Huge(u64),
    /// It never ends, and comes slowly.
    Endless,
    /// It is no JSON.
    Html,
    /// It ends in its middle.
    Cut,
}

/// What is answered.
#[derive(Debug, Default)]
pub struct Informant {
    /// By `users` or `media`, and id: further fields of its entry.
    pub told: BTreeMap<(&'static str, String), Value>,
    /// Further fields of the whole.
    pub more: Map<String, Value>,
    /// How the next answers are wrong.
    pub faults: VecDeque<Misinformed>,
}

impl Informant {
    /// The answer to a request, and how it is to be wrong beyond its content.
    pub fn answer(&mut self, request: &[u8]) -> (Vec<u8>, Option<Misinformed>) {
        let asked: Value = serde_json::from_slice(request).unwrap_or_default();
        let fault = self.faults.pop_front();
        let mut answer = self.more.clone();
        for kind in ["users", "media"] {
            let entries = asked[kind].as_array().into_iter().flatten();
            let entries = entries.filter(|key| match &fault {
                Some(Misinformed::Omits(id)) => key["id"] != id.as_str(),
                _ => true,
            });
            let entries = entries.map(|key| self.entry(kind, key, fault.as_ref()));
            answer.insert(kind.to_string(), Value::Array(entries.collect()));
        }
        (Value::Object(answer).to_string().into_bytes(), fault)
    }

    fn entry(&self, kind: &'static str, key: &Value, fault: Option<&Misinformed>) -> Value {
        let id = key["id"].as_str().unwrap_or_default().to_string();
        let mut entry = json!({ "id": key["id"], "typeId": key["typeId"] });
        match (self.told.get(&(kind, id.clone())), kind) {
            (Some(Value::Object(fields)), _) => {
                fields.iter().for_each(|(name, value)| entry[name] = value.clone());
            }
            (_, "users") => entry["screenName"] = json!(format!("screen-{id}")),
            _ => entry["fileName"] = json!(format!("{id}.png")),
        }
        if let Some(Misinformed::WrongType(field)) = fault {
            entry[*field] = json!(17);
        }
        entry
    }
}

/// Sends an answer that is wrong; gives nothing back that could go on.
pub fn send(stream: &mut TcpStream, answer: &[u8], fault: &Misinformed) -> io::Result<()> {
    let head = |framing: &str| {
        format!(
            "HTTP/1.1 200 Answer\r\ncontent-type: application/json\r\n{framing}\r\nconnection: close\r\n\r\n"
        )
    };
    match fault {
        Misinformed::Huge(bytes) => {
            stream.write_all(head(&format!("content-length: {}", answer.len() as u64 + bytes)).as_bytes())?;
            stream.write_all(&answer[..1])?;
            io::copy(&mut io::Read::take(io::repeat(b' '), *bytes), stream)?;
            stream.write_all(&answer[1..])
        }
        Misinformed::Endless => {
            stream.write_all(head("transfer-encoding: chunked").as_bytes())?;
            loop {
                stream.write_all(&[b"40\r\n", &PIECE[..], b"\r\n"].concat())?;
                thread::sleep(Duration::from_millis(100));
            }
        }
        Misinformed::Html => {
            let page = b"<!DOCTYPE html><html><body>Please log in</body></html>";
            stream.write_all(head(&format!("content-length: {}", page.len())).as_bytes())?;
            stream.write_all(page)
        }
        Misinformed::Cut => {
            stream.write_all(head(&format!("content-length: {}", answer.len())).as_bytes())?;
            stream.write_all(&answer[..answer.len() / 2])
        }
        Misinformed::Omits(_) | Misinformed::WrongType(_) => {
            stream.write_all(head(&format!("content-length: {}", answer.len())).as_bytes())?;
            stream.write_all(answer)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_asked_user_and_medium_is_answered_as_it_was_told_or_wrong_as_it_was_told() {
        let mut informant = Informant::default();
        informant
            .told
            .insert(("media", "m".to_string()), json!({ "missing": true, "publiclyAvailable": false }));
        informant.more.insert("additionalInfo".to_string(), json!("words"));
        informant.faults = [Misinformed::Omits("m".to_string()), Misinformed::WrongType("screenName")].into();
        let request =
            json!({ "users": [{ "id": "u", "typeId": "user" }], "media": [{ "id": "m", "typeId": "p" }] });
        let mut next = || {
            let (answer, fault) = informant.answer(request.to_string().as_bytes());
            (serde_json::from_slice::<Value>(&answer).unwrap(), fault)
        };
        let (answer, fault) = next();
        assert_eq!((&answer["media"], fault), (&json!([]), Some(Misinformed::Omits("m".to_string()))));
        assert_eq!(next().0["users"][0]["screenName"], 17);
        let sound = json!({ "users": [{ "id": "u", "typeId": "user", "screenName": "screen-u" }], "media": [{ "id": "m",
            "typeId": "p", "missing": true, "publiclyAvailable": false }], "additionalInfo": "words" });
        assert_eq!(next(), (sound, None));
    }
}
