//! Who calls: what a request or a connection shows, compared with who may. One answer for both ports.
//!
//! As long as nobody was made (`hashward admin create`) and there is no token, whoever reaches loopback may do everything:
//! a machine that is being set up. From the first person on, everybody must say who they are.

pub mod logins;
pub mod password;
mod seen;
mod wardens;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use index::bank::{BankChange, BankRequest};
use index::{ContentId, Distance, Hash256, RequestId, SignalType, Tenant};
use reporter::access::{Digest, Directory, Right, Rights, Sight, digest};
use subtle::ConstantTimeEq;

pub use self::seen::Seen;
use self::wardens::Wardens;
use crate::clock::now_ms;
use crate::config::Secret;
use crate::defence::{Alarm, AlarmKind, Alarms, KeyNumber, Matched, Refused, Warden};
use crate::secrets::random;

/// What secrets of keys begin with, so that scanners of sources find them.
const KEY_MARK: &str = "hwk_";
/// Bytes of a secret.
const SECRET: usize = 32;

/// Who somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Nobody in particular; for what everybody may call.
    Nobody,
    /// Whoever sets the machine up: nobody was made yet.
    Setup,
    /// Whoever has the server's token.
    Token,
    /// An address that may call HMA's routes.
    Listed(IpAddr),
    /// A machine.
    Key {
        /// The key's number.
        number: u64,
        /// What it is for.
        name: String,
    },
    /// A person.
    Person(String),
}

/// Who calls, and what they may do.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub who: Who,
    /// What they may do.
    pub rights: Rights,
    /// Who watches what they ask, if they are a machine.
    pub warden: Option<Arc<Warden>>,
    /// Whose they are, if they are a tenant's: the others' banks do not exist for them.
    pub tenant: Option<Tenant>,
}

impl Caller {
    /// Somebody with these rights.
    pub fn new(who: Who, rights: Rights) -> Self {
        Self { who, rights, warden: None, tenant: None }
    }

    /// As records name them.
    pub fn name(&self) -> String {
        match &self.who {
            Who::Nobody => "nobody".to_string(),
            Who::Setup => "setup".to_string(),
            Who::Token => "token".to_string(),
            Who::Listed(address) => format!("address:{address}"),
            Who::Key { number, name } => format!("key:{number} ({name})"),
            Who::Person(name) => format!("person:{name}"),
        }
    }

    /// Why lookups are refused to them, if they are.
    pub fn frozen(&self) -> Option<Arc<str>> {
        self.warden.as_ref().filter(|warden| warden.is_frozen())?.frozen()
    }

    /// Why they may not ask at a threshold, if they may not: one rule for both ports. Whoever chooses the threshold learns
    /// the distance by trying; and beyond the type's own, questions need not lie as near each other to find a content, so
    /// whoever watches a key would see less.
    pub fn refused_threshold(&self, kind: SignalType, asked: Option<Distance>) -> Option<&'static str> {
        let asked = asked?;
        if self.warden.is_some() && asked > kind.threshold() {
            return Some("a key asks at the signal type's own threshold at most");
        }
        let sees = self.rights.has(Right::Distance);
        (!sees).then_some("without the right 'distance' one asks at the signal type's own threshold")
    }

    /// A change of banks that they ask for.
    pub fn asks(&self, id: Option<RequestId>, change: BankChange) -> BankRequest {
        let digest = id.map(|_| change.digest());
        BankRequest { id, digest, tenant: self.tenant.clone(), ..change.into() }
    }

    /// Their login name, if they are a person.
    pub fn person(&self) -> Option<&str> {
        match &self.who {
            Who::Person(name) => Some(name),
            _ => None,
        }
    }

    /// What they see of queues and jobs.
    pub fn sight(&self) -> Sight {
        Sight::new(self.rights, self.person())
    }
}

/// What somebody showed, so that it can be looked at again. Never a secret itself.
#[derive(Clone, Debug)]
pub enum Pass {
    /// Nothing, where nothing is asked for.
    Setup,
    /// The server's token.
    Token,
    /// A key: its number, and the digest of the secret.
    Key(u64, Digest),
}

/// Who may call.
#[derive(Clone)]
pub struct Door {
    token: Option<Secret>,
    directory: Arc<ArcSwap<Directory>>,
    wardens: Arc<Wardens>,
}

impl Door {
    /// A door that opens to the token, and to everybody of the directory.
    pub fn new(token: Option<Secret>, directory: Arc<ArcSwap<Directory>>, alarms: Alarms) -> Self {
        Self { token, directory, wardens: Arc::new(Wardens::new(alarms)) }
    }

    /// Lets a frozen key ask again.
    pub fn thaw(&self, number: u64) {
        self.wardens.thaw(number);
    }

    /// Alarms that were lost.
    pub fn alarms_lost(&self) -> u64 {
        self.wardens.alarms().lost()
    }

    /// Everybody, where there are honeytokens to be looked for; most servers have none.
    pub fn honeytokens(&self) -> Option<Arc<Directory>> {
        let directory = self.directory.load();
        (!directory.honeytokens.is_empty()).then(|| Guard::into_inner(directory))
    }

    /// Whether what a frame found may be told to who asked: the nearest match of each query, and a honeytoken. Called after
    /// its search, before anything of it goes out.
    pub fn judge<M>(
        &self,
        caller: &Caller,
        queries: &[Hash256],
        nearest: M,
        honeytoken: Option<ContentId>,
    ) -> Result<(), Refused>
    where
        M: Iterator<Item = Matched> + Clone,
    {
        self.tell_honeytoken(caller, honeytoken);
        admit(caller, queries, nearest)
    }

    /// The same of signals of other types.
    pub fn judge_others(
        &self,
        caller: &Caller,
        lookups: usize,
        honeytoken: Option<ContentId>,
    ) -> Result<(), Refused> {
        self.tell_honeytoken(caller, honeytoken);
        admit_others(caller, lookups)
    }

    /// The same of a request of many signals.
    pub fn judge_all(&self, caller: &Caller, seen: Seen) -> Result<(), Refused> {
        self.tell_honeytoken(caller, seen.honeytoken);
        if !seen.hashes.is_empty() {
            admit(caller, &seen.hashes, seen.nearest.iter().copied())?;
        }
        if seen.others == 0 { Ok(()) } else { admit_others(caller, seen.others) }
    }

    fn tell_honeytoken(&self, caller: &Caller, found: Option<ContentId>) {
        if let Some(content) = found {
            self.honeytoken(caller, &format!("found honeytoken content {}", content.0));
        }
    }

    /// Somebody takes a bank's list out: honeytokens in it are told of.
    pub fn exports(&self, caller: &Caller, bank: &str) {
        if self.directory.load().honeytokens.values().any(|of| of == bank) {
            self.honeytoken(caller, &format!("exports bank '{bank}', in which honeytokens lie"));
        }
    }

    fn honeytoken(&self, caller: &Caller, what: &str) {
        let key = KeyNumber(if let Who::Key { number, .. } = caller.who { number } else { 0 });
        let words = format!("{} {what}: the list may be known outside", caller.name());
        self.wardens.alarms().raise(Alarm { key, kind: AlarmKind::Honeytoken, words, at_ms: now_ms() });
    }

    /// Everybody, as of now.
    pub fn directory(&self) -> Arc<Directory> {
        self.directory.load_full()
    }

    /// Whether nobody needs to say who they are.
    pub fn is_open(&self) -> bool {
        self.token.is_none() && self.directory.load().is_empty()
    }

    /// Who has this token or key.
    pub fn bearer(&self, given: &str) -> Option<Caller> {
        self.again(&self.pass(given)?)
    }

    /// Who says Hello on the binary port, with a token, a key, or nothing.
    pub fn hello(&self, given: &str) -> Option<(Caller, Pass)> {
        let pass = match self.pass(given) {
            // Whoever shows a token where none is asked for is not worse off than who shows none.
            None if self.is_open() && !is_key(given) => Pass::Setup,
            pass => pass?,
        };
        Some((self.again(&pass)?, pass))
    }

    fn pass(&self, given: &str) -> Option<Pass> {
        let ours = self.token.as_ref().map(Secret::reveal);
        if ours.is_some_and(|token| bool::from(given.as_bytes().ct_eq(token.as_bytes()))) {
            return Some(Pass::Token);
        }
        let (number, _) = given.strip_prefix(KEY_MARK)?.split_once('_')?;
        Some(Pass::Key(number.parse().ok()?, digest(given)))
    }

    /// Who has this pass, as of now.
    pub fn again(&self, pass: &Pass) -> Option<Caller> {
        match pass {
            Pass::Setup => self.is_open().then(|| Caller::new(Who::Setup, Rights::ALL)),
            Pass::Token => Some(Caller::new(Who::Token, Rights::ALL)),
            Pass::Key(number, digest) => {
                let directory = self.directory.load();
                let key = directory.key(*number, digest, now_ms())?;
                let who = Who::Key { number: key.number, name: key.name.clone() };
                let (warden, tenant) = (Some(self.wardens.of(key)), key.tenant.clone());
                Some(Caller { warden, tenant, ..Caller::new(who, key.rights()) })
            }
        }
    }

    /// The person of a session, and what a change of theirs must carry.
    pub fn session(&self, token: &str) -> Option<(Caller, String)> {
        let directory = self.directory.load();
        let (session, person) = directory.session(&digest(token), now_ms())?;
        Some((Caller::new(Who::Person(person.name.clone()), person.role.rights()), session.csrf.clone()))
    }
}

fn admit<M>(caller: &Caller, queries: &[Hash256], matched: M) -> Result<(), Refused>
where
    M: Iterator<Item = Matched> + Clone,
{
    caller.warden.as_ref().map_or(Ok(()), |warden| warden.admit(queries, matched, now_ms()))
}

fn admit_others(caller: &Caller, lookups: usize) -> Result<(), Refused> {
    caller.warden.as_ref().map_or(Ok(()), |warden| warden.admit_others(lookups, now_ms()))
}

/// Whether a text is meant as a key's secret.
pub fn is_key(given: &str) -> bool {
    given.starts_with(KEY_MARK)
}

/// Rights of an address on `--hma-allow`.
pub const LISTED: Rights = Rights::of(&[Right::Match, Right::Distance, Right::Curate]);

/// A secret nobody has seen.
pub fn fresh_secret() -> io::Result<String> {
    let mut bytes = [0; SECRET];
    random(&mut bytes)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// The secret of a new key of this number.
pub fn fresh_key(number: u64) -> io::Result<String> {
    Ok(format!("{KEY_MARK}{number}_{}", fresh_secret()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reporter::access::{Budget, Frozen, Key, Scope};

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn door(token: Option<&str>, key: Option<Key>) -> Door {
        let keys = key.into_iter().map(|key| (key.number, key)).collect();
        let directory = Directory { keys, ..Directory::default() };
        let directory = Arc::new(ArcSwap::from_pointee(directory));
        Door::new(token.map(Secret::new), directory, Alarms::new(1).0)
    }

    #[test]
    fn a_key_is_known_by_number_and_secret_and_by_nothing_less() {
        let secret = fresh_key(7).unwrap();
        assert_ne!(secret, fresh_key(7).unwrap());
        let mut key = Key {
            number: 7,
            name: "uploads".to_string(),
            scopes: vec![Scope::Match],
            budget: Budget::default(),
            digest: digest(&secret),
            tenant: None,
            before: None,
            created_ms: 0,
            created_by: String::new(),
            rotated_ms: 0,
            expires_ms: None,
            disabled: false,
            frozen: None,
        };
        let caller = door(None, Some(key.clone())).bearer(&secret).unwrap();
        assert_eq!(caller.name(), "key:7 (uploads)");
        assert!(caller.rights.has(Right::Match) && !caller.rights.has(Right::Distance));
        let tail = secret.rsplit('_').next().unwrap();
        for wrong in [&secret[..secret.len() - 1], &format!("hwk_8_{tail}"), "hwk_7_", "hwk_", "", tail] {
            assert!(door(Some(TOKEN), Some(key.clone())).bearer(wrong).is_none(), "{wrong}");
        }
        key.frozen = Some(Frozen { at_ms: 1, why: "a walk".to_string() });
        assert_eq!(door(None, Some(key)).bearer(&secret).unwrap().frozen().as_deref(), Some("a walk"));
    }

    #[test]
    fn the_token_opens_everything_and_nobody_is_asked_while_there_is_nobody() {
        let open = door(None, None);
        assert!(open.is_open() && open.bearer("").is_none());
        let shut = door(Some(TOKEN), None);
        assert!(!shut.is_open() && shut.bearer(&TOKEN[1..]).is_none());
        assert_eq!(shut.bearer(TOKEN).unwrap().rights, Rights::ALL);
    }
}
