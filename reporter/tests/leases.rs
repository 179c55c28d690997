//! Leases while the clock is set, and over restarts.

#![allow(clippy::unwrap_used)] // clippy takes this file's helpers for code outside tests

use index::store::MemoryStore;
use reporter::Tx;
use reporter::desk::item::{Item, ItemKey, put_item};
use reporter::desk::job::{Reason, job, put_job};
use reporter::desk::lease::{self, Asking, Floors};
use reporter::desk::ncmec::{Escalation, escalate};
use reporter::desk::queue::Verdict;
use reporter::desk::settings::Settings;

const DAY_MS: u64 = 24 * 3_600_000;
const NOW_MS: u64 = 20_000 * DAY_MS;

#[test]
fn a_lease_keeps_its_length_when_the_clock_is_set_and_gets_no_longer_by_a_restart() {
    let store = MemoryStore::default();
    let mut tx = Tx::new(&store);
    let item = Item::bare(ItemKey::new("post", "1"), NOW_MS);
    put_item(&mut tx, item.clone()).unwrap();
    let settings = Settings::default();
    let reason = Reason {
        at_ms: NOW_MS,
        item: item.key.clone(),
        words: "a rule".to_string(),
        rule: None,
        rule_version: None,
        verdict: Verdict::Review,
    };
    let what = Escalation { item: &item, user: None, queue: None, reason, priority: 5, now_ms: NOW_MS };
    let escalated = escalate(&mut tx, &settings, what).unwrap();
    put_job(&mut tx, &escalated);
    let (mut floors, length_ms) = (Floors::default(), settings.lease_ms(None));
    let asking = Asking { reviewer: "anna", token: "t", now_ms: NOW_MS };
    let lent = lease::next(&mut tx, &mut floors, &escalated.queue, asking).unwrap().unwrap();
    let until_ms = |tx: &Tx<'_>| job(tx, lent.id).unwrap().unwrap().lease.unwrap().until_ms;
    assert_eq!(until_ms(&tx), NOW_MS + length_ms);

    // Nine days forward, then a year back: what is left of it stays the same.
    let forward = NOW_MS + 9 * DAY_MS + 1000;
    assert_eq!(lease::moved(&mut tx, 9 * DAY_MS as i64, forward).unwrap(), 1);
    assert_eq!(until_ms(&tx), forward - 1000 + length_ms);
    assert!(lease::held(&tx, lent.id, "t", forward).is_ok());
    let back = forward - 365 * DAY_MS;
    assert_eq!(lease::moved(&mut tx, -(365 * DAY_MS as i64), back).unwrap(), 1);
    assert_eq!(until_ms(&tx), back - 1000 + length_ms);
    assert_eq!(lease::moved(&mut tx, 0, back).unwrap(), 0);

    // A restart a day before: it ends after its length at most, and then others have the job.
    let restarted = back - DAY_MS;
    assert_eq!(lease::moved(&mut tx, 0, restarted).unwrap(), 1);
    assert_eq!(until_ms(&tx), restarted + length_ms);
    let asking = Asking { reviewer: "ben", token: "u", now_ms: restarted + length_ms };
    assert_eq!(lease::next(&mut tx, &mut floors, &escalated.queue, asking).unwrap().unwrap().id, lent.id);
}
