//! Failed logins: after some in a row a name is locked for a while, and an address may try so often a minute. Names that
//! nobody has are locked like others, so that nothing tells them apart. Forgotten at a restart.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row before a name is locked.
const FAILURES: u32 = 5;
/// For how long, doubled by each further failure.
const LOCK_MIN: Duration = Duration::from_secs(30);
const LOCK_MAX: Duration = Duration::from_secs(900);
/// A name that fails no more for so long begins anew.
const FORGOTTEN: Duration = Duration::from_secs(3600);
/// Tries of an address in a minute.
const TRIES: u32 = 30;
const MINUTE: Duration = Duration::from_secs(60);
/// Names, and addresses, that are remembered; with more the stalest go.
const REMEMBERED_MAX: usize = 10_000;

/// What failed.
#[derive(Default)]
pub struct Logins(Mutex<State>);

#[derive(Default)]
struct State {
    names: HashMap<String, Failed>,
    addresses: HashMap<IpAddr, (Instant, u32)>,
}

struct Failed {
    times: u32,
    last: Instant,
    until: Option<Instant>,
}

impl Logins {
    /// Lets a try through, or says for how long there is to wait. A try counts before it is judged, so that many at once
    /// are not all let through.
    pub fn admit(&self, name: &str, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut state = self.lock();
        if state.addresses.len() >= REMEMBERED_MAX {
            state.addresses.retain(|_, (since, _)| now.duration_since(*since) < MINUTE);
        }
        let (since, tries) = state.addresses.entry(address).or_insert((now, 0));
        if now.duration_since(*since) >= MINUTE {
            (*since, *tries) = (now, 0);
        }
        *tries += 1;
        if *tries > TRIES {
            return Err(MINUTE.saturating_sub(now.duration_since(*since)));
        }
        if state.names.len() >= REMEMBERED_MAX {
            state.names.retain(|_, failed| failed.until.is_some_and(|until| until > now));
        }
        let failed =
            state.names.entry(name.to_string()).or_insert(Failed { times: 0, last: now, until: None });
        if now.duration_since(failed.last) >= FORGOTTEN {
            failed.times = 0;
        }
        let left = failed.until.and_then(|until| until.checked_duration_since(now));
        if let Some(left) = left.filter(|left| !left.is_zero()) {
            return Err(left);
        }
        (failed.times, failed.last) = (failed.times.saturating_add(1), now);
        if let Some(beyond) = failed.times.checked_sub(FAILURES) {
            failed.until = Some(now + (LOCK_MIN * (1 << beyond.min(10))).min(LOCK_MAX));
        }
        Ok(())
    }

    /// A try was right: the name begins anew.
    pub fn succeeded(&self, name: &str) {
        self.lock().names.remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_locked_after_failures_in_a_row_and_longer_each_time() {
        let (logins, start) = (Logins::default(), Instant::now());
        let from = |host: u8| IpAddr::from([10, 0, 0, host]);
        for _ in 0..FAILURES {
            logins.admit("anna", from(1), start).unwrap();
        }
        let wait = logins.admit("anna", from(2), start).unwrap_err();
        assert_eq!(wait, LOCK_MIN, "from wherever");
        logins.admit("ben", from(1), start).unwrap();
        let later = start + LOCK_MIN;
        logins.admit("anna", from(3), later).unwrap();
        assert_eq!(logins.admit("anna", from(3), later).unwrap_err(), LOCK_MIN * 2);
        logins.succeeded("anna");
        logins.admit("anna", from(4), later).unwrap();
        for _ in 0..FAILURES - 1 {
            logins.admit("anna", from(4), later).unwrap();
        }
        assert!(logins.admit("anna", from(4), later).is_err());
        logins.admit("anna", from(5), later + FORGOTTEN).unwrap();
        logins.admit("anna", from(5), later + FORGOTTEN).unwrap();
    }

    #[test]
    fn an_address_tries_so_often_a_minute_whatever_the_name() {
        let (logins, start) = (Logins::default(), Instant::now());
        let address = IpAddr::from([10, 0, 0, 1]);
        for at in 0..TRIES {
            logins.admit(&format!("name{at}"), address, start).unwrap();
        }
        assert!(logins.admit("another", address, start).is_err());
        logins.admit("another", IpAddr::from([10, 0, 0, 2]), start).unwrap();
        logins.admit("another", address, start + MINUTE).unwrap();
    }
}
