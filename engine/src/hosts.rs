//! Hosts that do not answer. Ten thousand items whose media lie on one dead host must not keep the others waiting: after
//! some failures in a row a host is not asked for a while, and what would ask it is told so at once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row before a host is left alone.
const FAILURES: u32 = 3;
/// For how long, doubled by each further failure.
const PAUSE_MIN: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Hosts that are remembered; with more, all are forgotten, and found out again.
const HOSTS_MAX: usize = 10_000;

/// What is known of hosts.
#[derive(Debug, Default)]
pub struct Hosts(Mutex<HashMap<String, Silence>>);

#[derive(Debug)]
struct Silence {
    failures: u32,
    until: Option<Instant>,
}

impl Hosts {
    /// Asks a URL's host, unless it is left alone now. `silence` says which errors mean that no answer came.
    pub async fn ask<T, E: ToString>(
        &self,
        url: &str,
        question: impl Future<Output = Result<T, E>>,
        silence: impl FnOnce(&E) -> bool,
    ) -> Result<T, String> {
        if let Some(why) = self.silent(url, Instant::now()) {
            return Err(why);
        }
        let answer = question.await;
        match &answer {
            Err(error) if silence(error) => self.failed(url, Instant::now()),
            _ => self.answered(url),
        }
        answer.map_err(|error| error.to_string())
    }

    /// Why a URL's host is not asked now; `None` if it may be.
    fn silent(&self, url: &str, now: Instant) -> Option<String> {
        let known = self.lock();
        let silence = known.get(host(url))?;
        let left = silence.until?.checked_duration_since(now).filter(|left| !left.is_zero())?;
        let (failures, seconds) = (silence.failures, left.as_secs() + 1);
        Some(format!(
            "{} did not answer {failures} times in a row; it is asked again in {seconds} s",
            host(url)
        ))
    }

    /// It answered, whatever it said.
    fn answered(&self, url: &str) {
        self.lock().remove(host(url));
    }

    /// It did not.
    fn failed(&self, url: &str, now: Instant) {
        let mut known = self.lock();
        if known.len() >= HOSTS_MAX {
            known.clear();
        }
        let silence = known.entry(host(url).to_string()).or_insert(Silence { failures: 0, until: None });
        silence.failures = silence.failures.saturating_add(1);
        if let Some(beyond) = silence.failures.checked_sub(FAILURES) {
            silence.until = Some(now + (PAUSE_MIN * (1 << beyond.min(10))).min(PAUSE_MAX));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Silence>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Host and port of a URL, without user and password.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_left_alone_after_failures_in_a_row_and_asked_again_later() {
        let (hosts, now) = (Hosts::default(), Instant::now());
        let (dead, other) = ("http://user:pw@dead.example:80/a?b", "https://dead.example/");
        for _ in 0..2 {
            hosts.failed(dead, now);
            assert_eq!(hosts.silent(dead, now), None);
        }
        hosts.failed(dead, now);
        let why = hosts.silent("http://dead.example:80/other", now).unwrap();
        assert!(why.starts_with("dead.example:80 did not answer 3 times") && !why.contains("pw"), "{why}");
        assert_eq!(hosts.silent(other, now), None, "another port is another host");
        let later = now + PAUSE_MIN + Duration::from_millis(1);
        assert_eq!(hosts.silent(dead, later), None, "it is asked again");
        hosts.failed(dead, later);
        assert!(
            hosts.silent(dead, later + PAUSE_MIN * 2 - Duration::from_secs(1)).is_some(),
            "and left alone for longer"
        );
        hosts.answered(dead);
        assert_eq!(hosts.silent(dead, later), None);
        for _ in 0..100 {
            hosts.failed(dead, now);
        }
        assert_eq!(hosts.silent(dead, now + PAUSE_MAX), None, "never for longer than a minute");
    }
}
