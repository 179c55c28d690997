//! Who may do what: people with roles, machines with keys, and what each of them sees.
//!
//! A right is something one may do; a role and a scope are sets of rights. Which route needs which right is the program's
//! (`engine::admin::access`); what a caller sees of queues and jobs is decided here, in [`Sight`], whatever route is taken.
//! Passwords come in hashed and secrets of keys and sessions as their digests: nothing here can give them away.
//!
//! Rows of keyspace `people`, each a JSON row of version 1:
//!
//! | key | value |
//! |---|---|
//! | `p` ‖ name ‖ NUL | [`Person`] |
//! | `k` ‖ number u64 BE | [`Key`] |
//! | `s` ‖ digest of the session's token | [`Session`] |
//! | `h` ‖ content u64 BE | the bank of a honeytoken |

mod key;
mod person;
mod role;
mod sight;

use std::collections::{BTreeMap, HashMap};

use index::ContentId;
use index::store::keys::decode_u64;
use index::store::{Keyspace, StoreError};

pub use key::{Budget, Digest, Frozen, Key, KeyWanted, digest};
pub use person::{Person, PersonWanted, Session};
pub use role::{Right, Rights, Role, Scope};
pub use sight::Sight;

pub use crate::desk::child_safety::{is_child_safety, is_child_safety_job};
use crate::error::DeskError;
use crate::tx::{Tx, key as row_key, read_row};

/// People, and keys, at most.
const EACH_MAX: usize = 100_000;
/// Sessions of a person at once.
const SESSIONS_MAX: usize = 16;
const LAST_KEY: &[u8] = b"last_key";

/// Everybody who may call, as it was committed last.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// By login name.
    pub people: BTreeMap<String, Person>,
    /// By number.
    pub keys: BTreeMap<u64, Key>,
    /// By the digest of their tokens.
    pub sessions: HashMap<Digest, Session>,
    /// Contents that are in no feed, and the banks they lie in: whoever finds one has a copy of the list.
    pub honeytokens: BTreeMap<ContentId, String>,
}

impl Directory {
    /// Reads everybody.
    pub fn load(tx: &Tx<'_>) -> Result<Self, StoreError> {
        let mut directory = Self::default();
        for (_, row) in tx.rows(Keyspace::People, b"p", EACH_MAX)? {
            let person: Person = read_row(Keyspace::People, &row)?;
            directory.people.insert(person.name.clone(), person);
        }
        for (_, row) in tx.rows(Keyspace::People, b"k", EACH_MAX)? {
            let key: Key = read_row(Keyspace::People, &row)?;
            directory.keys.insert(key.number, key);
        }
        for (_, row) in tx.rows(Keyspace::People, b"s", EACH_MAX)? {
            let session: Session = read_row(Keyspace::People, &row)?;
            directory.sessions.insert(session.digest, session);
        }
        for (place, row) in tx.rows(Keyspace::People, b"h", EACH_MAX)? {
            let content = place.get(1..).map(|number| decode_u64(Keyspace::People, number));
            let bank: String = read_row(Keyspace::People, &row)?;
            directory.honeytokens.insert(ContentId(content.unwrap_or(Ok(0))?), bank);
        }
        Ok(directory)
    }

    /// Whether nobody was made yet: then whoever reaches the port may do everything, as an operator who sets it up.
    pub fn is_empty(&self) -> bool {
        self.people.is_empty()
    }

    /// The person of a session that is not over.
    pub fn session(&self, digest: &Digest, now_ms: u64) -> Option<(&Session, &Person)> {
        let session = self.sessions.get(digest).filter(|session| now_ms < session.until_ms)?;
        let person = self.people.get(&session.person).filter(|person| !person.disabled)?;
        Some((session, person))
    }

    /// The key that has this number and secret.
    pub fn key(&self, number: u64, digest: &Digest, now_ms: u64) -> Option<&Key> {
        self.keys.get(&number).filter(|key| key.opens(digest, now_ms))
    }
}

/// A person.
pub fn person(tx: &Tx<'_>, name: &str) -> Result<Person, DeskError> {
    let found = tx.read(Keyspace::People, &row_key(b'p', &[name]))?;
    found.ok_or(DeskError::NotFound { what: "person", name: name.to_string() })
}

/// Makes a person.
pub fn add_person(tx: &mut Tx<'_>, person: &Person) -> Result<(), DeskError> {
    let place = row_key(b'p', &[&person.name]);
    if tx.get(Keyspace::People, &place)?.is_some() {
        return Err(DeskError::Conflict { problem: format!("there is a person '{}' already", person.name) });
    }
    tx.save(Keyspace::People, place, person);
    Ok(())
}

/// Changes a person; whoever may do less than before, or has a new password, must log in again.
pub fn change_person(tx: &mut Tx<'_>, name: &str, wanted: PersonWanted) -> Result<Person, DeskError> {
    let before = person(tx, name)?;
    let after = wanted.applied(before.clone());
    if before.is_admin() && !after.is_admin() && admins(tx)? < 2 {
        return Err(DeskError::Conflict {
            problem: format!("'{name}' is the last admin: make another one first"),
        });
    }
    if before.role != after.role || before.password != after.password || after.disabled {
        end_sessions_of(tx, name)?;
    }
    tx.save(Keyspace::People, row_key(b'p', &[name]), &after);
    Ok(after)
}

fn admins(tx: &Tx<'_>) -> Result<usize, StoreError> {
    let people = tx.rows(Keyspace::People, b"p", EACH_MAX)?;
    let read = people.iter().map(|(_, row)| read_row::<Person>(Keyspace::People, row));
    Ok(read.collect::<Result<Vec<_>, _>>()?.iter().filter(|person| person.is_admin()).count())
}

/// Begins a session; those that are over are forgotten on the way, and a person's oldest beyond a number.
pub fn begin_session(tx: &mut Tx<'_>, session: &Session, now_ms: u64) -> Result<(), StoreError> {
    let mut theirs = Vec::new();
    for (place, row) in tx.rows(Keyspace::People, b"s", EACH_MAX)? {
        let other: Session = read_row(Keyspace::People, &row)?;
        if other.until_ms <= now_ms {
            tx.delete(Keyspace::People, place);
        } else if other.person == session.person {
            theirs.push((other.since_ms, place));
        }
    }
    theirs.sort_unstable();
    let beyond = (theirs.len() + 1).saturating_sub(SESSIONS_MAX);
    theirs.drain(..beyond).for_each(|(_, place)| tx.delete(Keyspace::People, place));
    tx.save(Keyspace::People, session_key(&session.digest), session);
    Ok(())
}

/// Ends a session.
pub fn end_session(tx: &mut Tx<'_>, digest: &Digest) {
    tx.delete(Keyspace::People, session_key(digest));
}

fn end_sessions_of(tx: &mut Tx<'_>, name: &str) -> Result<(), StoreError> {
    for (place, row) in tx.rows(Keyspace::People, b"s", EACH_MAX)? {
        if read_row::<Session>(Keyspace::People, &row)?.person == name {
            tx.delete(Keyspace::People, place);
        }
    }
    Ok(())
}

fn session_key(digest: &Digest) -> Vec<u8> {
    [b"s", &digest.0[..]].concat()
}

/// The number of the next key.
pub fn next_key(tx: &mut Tx<'_>) -> Result<u64, StoreError> {
    crate::desk::job::counter(tx, LAST_KEY)
}

/// A key.
pub fn key(tx: &Tx<'_>, number: u64) -> Result<Key, DeskError> {
    let found = tx.read(Keyspace::People, &key_key(number))?;
    found.ok_or(DeskError::NotFound { what: "key", name: number.to_string() })
}

/// Writes a key.
pub fn put_key(tx: &mut Tx<'_>, key: &Key) {
    tx.save(Keyspace::People, key_key(key.number), key);
}

/// Forgets a key: nothing it opened opens any more.
pub fn forget_key(tx: &mut Tx<'_>, number: u64) {
    tx.delete(Keyspace::People, key_key(number));
}

/// Writes that a content is a honeytoken.
pub fn put_honeytoken(tx: &mut Tx<'_>, content: ContentId, bank: &String) {
    tx.save(Keyspace::People, [b"h", &content.0.to_be_bytes()[..]].concat(), bank);
}

fn key_key(number: u64) -> Vec<u8> {
    [b"k", &number.to_be_bytes()[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use index::store::MemoryStore;
    use serde_json::json;

    fn somebody(name: &str, role: Role) -> Person {
        Person {
            name: name.to_string(),
            display_name: String::new(),
            role,
            password: "hash".to_string(),
            created_ms: 1,
            disabled: false,
        }
    }

    fn wanted(value: serde_json::Value) -> PersonWanted {
        PersonWanted::read(&crate::At::new(&value, "")).unwrap()
    }

    fn session(name: &str, number: u8) -> Session {
        let digest = Digest([number; 32]);
        Session { digest, person: name.to_string(), since_ms: 1, until_ms: 100, csrf: "c".to_string() }
    }

    #[test]
    fn whoever_may_do_less_must_log_in_again_and_there_is_always_an_admin() {
        let store = MemoryStore::default();
        let mut tx = Tx::new(&store);
        add_person(&mut tx, &somebody("anna", Role::Admin)).unwrap();
        add_person(&mut tx, &somebody("ben", Role::Moderator)).unwrap();
        assert!(add_person(&mut tx, &somebody("ben", Role::Admin)).is_err());
        for (name, number) in [("anna", 1), ("ben", 2)] {
            begin_session(&mut tx, &session(name, number), 2).unwrap();
        }
        let of = |tx: &Tx<'_>, number: u8, now_ms: u64| {
            let directory = Directory::load(tx).unwrap();
            directory.session(&Digest([number; 32]), now_ms).map(|(_, person)| person.name.clone())
        };
        assert_eq!((of(&tx, 1, 99).as_deref(), of(&tx, 2, 99).as_deref()), (Some("anna"), Some("ben")));
        assert_eq!(of(&tx, 1, 100), None, "a session ends");
        change_person(&mut tx, "ben", wanted(json!({ "display_name": "Ben" }))).unwrap();
        assert!(of(&tx, 2, 99).is_some(), "a name changes nothing about rights");
        change_person(&mut tx, "ben", wanted(json!({ "role": "analyst" }))).unwrap();
        assert_eq!((of(&tx, 1, 99).is_some(), of(&tx, 2, 99)), (true, None));
        for last in [json!({ "disabled": true }), json!({ "role": "moderator" })] {
            assert!(change_person(&mut tx, "anna", wanted(last)).is_err(), "the last admin stays");
        }
        change_person(&mut tx, "ben", wanted(json!({ "role": "admin" }))).unwrap();
        change_person(&mut tx, "anna", wanted(json!({ "disabled": true }))).unwrap();
        assert_eq!(of(&tx, 1, 99), None);
    }
}
