//! Submits whose hits the server said are durable, and whether the hit log has them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use index::RequestId;

use crate::Http;

/// Entries of a page of the hit log.
const PAGE: u64 = 1000;
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Lost hits whose words are kept.
const WORDS_MAX: usize = 10;

/// Acknowledged Submits by the position of their first hit.
#[derive(Default)]
pub struct Acknowledged {
    submits: Mutex<BTreeMap<u64, (u64, RequestId)>>,
    checked: Mutex<u64>,
}

impl Acknowledged {
    /// Remembers a Submit with so many hits.
    pub fn add(&self, first: u64, hits: u64, request: RequestId) {
        if hits > 0 {
            self.submits.lock().expect("no client panics").insert(first, (hits, request));
        }
    }

    /// Hits in all.
    pub fn hits(&self) -> u64 {
        self.submits.lock().expect("no client panics").values().map(|(hits, _)| hits).sum()
    }

    /// Reads the hit log, all of it or what was acknowledged since the last check; gives words for what is missing.
    pub fn check(&self, admin: &str, all: bool) -> Vec<String> {
        let submits = self.submits.lock().expect("no client panics").clone();
        let mut checked = self.checked.lock().expect("no client panics");
        let from = if all { 0 } else { *checked };
        let mut expected = BTreeMap::new();
        for (first, (hits, request)) in submits.range(from..) {
            (*first..first + hits).for_each(|position| drop(expected.insert(position, request.to_string())));
        }
        let Some(last) = expected.keys().next_back().copied() else { return Vec::new() };
        let http = Http::with_timeout(admin, ANSWER_MAX);
        let (mut after, mut words) =
            (expected.keys().next().map_or(0, |first| first.saturating_sub(1)), Vec::new());
        while after < last {
            let path = format!("/api/v1/hits?after={after}&limit={PAGE}");
            let page = match http.try_plain("GET", &path, None) {
                Ok((200, page)) => page,
                other => return vec![format!("the hit log cannot be read after {after}: {other:?}")],
            };
            let Some(entries) = page["entries"].as_array().filter(|entries| !entries.is_empty()) else {
                break;
            };
            for entry in entries {
                let position = entry["position"].as_u64().unwrap_or(0);
                after = after.max(position);
                match expected.remove(&position) {
                    Some(request) if entry["request"] != request.as_str() && words.len() < WORDS_MAX => {
                        words.push(format!(
                            "hit {position} is of {}, acknowledged was {request}",
                            entry["request"]
                        ));
                    }
                    _ => {}
                }
            }
        }
        let lost = expected.len();
        if let Some((position, request)) = expected.into_iter().next() {
            words.push(format!("{lost} acknowledged hits are gone, the first is {position} of {request}"));
        }
        *checked = last;
        words
    }
}
