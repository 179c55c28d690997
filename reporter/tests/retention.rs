//! What is kept for how long, and that a deletion takes all of a job and nothing of another.

#![allow(clippy::unwrap_used)] // clippy takes this file's helpers for code outside tests

use index::SignalType;
use index::store::{Durability, Keyspace, MemoryStore, Store};
use reporter::cyber_tipline::Environment;
use reporter::desk::decision::{self, Decider, Decision, DecisionKind};
use reporter::desk::evidence::{self, Kept, MediumKey};
use reporter::desk::item::{Item, ItemKey, Media, MediaKind, Screening, item, put_item};
use reporter::desk::job::{Job, JobId, Reason, job, put_job};
use reporter::desk::ncmec::{Escalation, escalate};
use reporter::desk::queue::Verdict;
use reporter::desk::retention::{self, Hold, Reported, Swept};
use reporter::desk::settings::{Settings, put_settings};
use reporter::tip::filing::{Draft, Filed, Informed, rows, step};
use reporter::tip::record;
use reporter::{Tx, audit, census};
use serde_json::json;

const DAY: u64 = 24 * 3_600_000;

/// Jobs and items that a sweep took.
fn counts(swept: Swept) -> (u64, u64) {
    (swept.jobs, swept.items)
}

fn post(id: &str, user: &str) -> Item {
    let medium = Media {
        field: "cover".to_string(),
        kind: MediaKind::Image,
        url: Some(format!("https://a.example/{id}")),
        signals: [].into(),
        screening: Screening::Done { matches: Vec::new() },
        kept: None,
    };
    Item {
        creator: Some(ItemKey::new("user", user)),
        media: vec![medium],
        ..Item::bare(ItemKey::new("post", id), 1)
    }
}

/// An NCMEC job of an item, whose medium is kept.
fn escalated(tx: &mut Tx<'_>, of: &Item, blob: &str) -> Job {
    let words = "a rule".to_string();
    let (rule, rule_version, verdict) = (None, None, Verdict::Review);
    let reason = Reason { at_ms: 1, item: of.key.clone(), words, rule, rule_version, verdict };
    let what = Escalation { item: of, user: None, queue: None, reason, priority: 5, now_ms: 1 };
    put_item(tx, of.clone()).unwrap();
    let job = escalate(tx, &Settings::default(), what).unwrap();
    put_job(tx, &job);
    let kept = Kept {
        blob: blob.to_string(),
        bytes: 1,
        sha256: String::new(),
        md5: String::new(),
        content_type: String::new(),
        at_ms: 1,
    };
    evidence::keep(tx, MediumKey::of(&of.key, &of.media[0]), &kept).unwrap();
    job
}

fn decide(tx: &mut Tx<'_>, job: &mut Job, kind: DecisionKind, now_ms: u64) {
    let by = Decider::Reviewer { name: "anna".to_string() };
    let decided = Decision {
        job: job.id,
        kind,
        by,
        at_ms: now_ms,
        revision: job.revision,
        request: None,
        reason: None,
        webhooks: Vec::new(),
        report: None,
    };
    decision::record(tx, job, &decided, now_ms).unwrap();
}

fn commit(store: &MemoryStore, tx: Tx<'_>) {
    store.commit(tx.into_batch(), Durability::Sync).unwrap();
    let census = census(store).unwrap();
    assert_eq!(census.faults, 0, "{census:?}");
}

/// A report is filed and finished under NCMEC's number 7.
fn file(tx: &mut Tx<'_>, id: JobId, now_ms: u64) {
    assert!(retention::finished(tx, id, now_ms).is_err(), "it waits to be reported");
    assert_eq!(step::adopt(tx, Environment::Production, now_ms).unwrap(), 1);
    assert!(retention::finished(tx, id, now_ms).is_err(), "it is being reported");
    let (ticket, _) = step::take(tx, id, Environment::Production, now_ms).unwrap().unwrap();
    let informed = Informed { info: None, at_ms: now_ms, extra: Vec::new() };
    let sent = record::Entry {
        call: "additional_info".to_string(),
        direction: record::Direction::Sent,
        head: "POST /".to_string(),
        headers: Vec::new(),
        body: record::Body::of(b"{}"),
    };
    step::informed(tx, ticket, &informed, vec![sent], now_ms).unwrap();
    let draft = Draft { xml: "<report/>".to_string(), files: Vec::new(), notes: Vec::new(), at_ms: now_ms };
    step::built(tx, ticket, &draft, Vec::new()).unwrap();
    let filed = Filed {
        report_id: 7,
        at_ms: now_ms,
        verified: true,
        missing: Vec::new(),
        unknown: Vec::new(),
        said_by: None,
    };
    step::filed(tx, ticket, filed, None, now_ms).unwrap();
}

#[test]
fn a_report_is_kept_for_a_year_after_it_is_finished_and_not_a_day_less() {
    let store = MemoryStore::default();
    let mut tx = Tx::new(&store);
    let mut job = escalated(&mut tx, &post("1", "u"), "blob");
    assert!(retention::begin(&mut tx, job.id, "root", 9_999 * DAY).is_err(), "it is open");
    decide(&mut tx, &mut job, DecisionKind::Report, 10 * DAY);
    assert_eq!(counts(retention::sweep(&mut tx, 9_999 * DAY).unwrap()), (0, 0), "nobody has filed it");
    assert!(retention::begin(&mut tx, job.id, "root", 9_999 * DAY).is_err());
    file(&mut tx, job.id, 20 * DAY);
    let early = (20 + 364) * DAY;
    assert_eq!(retention::sweep(&mut tx, early).unwrap().jobs, 0);
    let refused = retention::begin(&mut tx, job.id, "root", early).unwrap_err().to_string();
    assert!(refused.contains("for 1 more days"), "{refused}");
    assert_eq!(retention::sweep(&mut tx, early + 2 * DAY).unwrap().jobs, 1);
    commit(&store, tx);
    assert_eq!(retention::under_way(&Tx::new(&store), 9).unwrap()[0].blobs, ["blob"]);
}

#[test]
fn of_a_report_that_is_deleted_nothing_stays_but_that_it_was_filed() {
    let store = MemoryStore::default();
    let mut tx = Tx::new(&store);
    let user = ItemKey::new("user", "u");
    let mut jobs = Vec::new();
    for (at, id) in (0u64..).zip(["1", "2"]) {
        let mut job = escalated(&mut tx, &post(id, "u"), &format!("blob-{id}"));
        decide(&mut tx, &mut job, DecisionKind::Report, at * 100 * DAY);
        file(&mut tx, job.id, at * 100 * DAY);
        jobs.push(job.id);
    }
    commit(&store, tx);
    let all = |tx: &Tx<'_>| tx.rows(Keyspace::Tips, b"", 999).unwrap();
    let mut tx = Tx::new(&store);
    assert_eq!(rows::prior(&tx, &user).unwrap(), [7, 7]);
    let before = all(&tx).len();
    assert_eq!(retention::sweep(&mut tx, 366 * DAY).unwrap().jobs, 1);
    assert!(retention::go_on(&mut tx, jobs[0], 366 * DAY).unwrap());
    let report = Some(Reported { environment: Environment::Production, report_id: 7, filed_ms: 0 });
    let left = retention::tombstone(&tx, jobs[0]).unwrap().unwrap();
    assert_eq!((left.report, left.deleted_ms), (report, 366 * DAY));
    assert_eq!(rows::tip(&tx, jobs[0]).unwrap(), None);
    assert!(rows::draft(&tx, jobs[0]).unwrap().is_none() && rows::informed(&tx, jobs[0]).unwrap().is_none());
    assert!(record::records(&tx, jobs[0], 0, 9).unwrap().is_empty());
    // The other one is whole.
    assert_eq!(rows::prior(&tx, &user).unwrap(), [7]);
    assert_eq!(
        all(&tx).len(),
        before - 5,
        "its filing, what was added, its words, what was sent, its user's"
    );
    assert_eq!(record::records(&tx, jobs[1], 0, 9).unwrap().len(), 1);
    commit(&store, tx);
}

#[test]
fn a_longer_time_lengthens_what_is_there_and_a_shorter_one_breaks_no_promise() {
    let store = MemoryStore::default();
    let mut tx = Tx::new(&store);
    let mut job = escalated(&mut tx, &post("1", "u"), "blob");
    decide(&mut tx, &mut job, DecisionKind::Ignore, DAY);
    put_settings(&mut tx, &Settings { retention_dismissed_days: 5, ..Settings::default() });
    assert_eq!(retention::sweep(&mut tx, 7 * DAY).unwrap().jobs, 0, "30 days were promised");
    put_settings(&mut tx, &Settings { retention_dismissed_days: 60, ..Settings::default() });
    assert_eq!(retention::sweep(&mut tx, 40 * DAY).unwrap().jobs, 0, "it is longer now");
    assert_eq!(retention::sweep(&mut tx, 60 * DAY).unwrap().jobs, 0);
    assert_eq!(retention::sweep(&mut tx, 61 * DAY).unwrap().jobs, 1);
    commit(&store, tx);
}

#[test]
fn what_is_held_stays_until_it_is_let_go() {
    let store = MemoryStore::default();
    let mut tx = Tx::new(&store);
    let mut job = escalated(&mut tx, &post("1", "u"), "blob");
    let hold = Hold { by: "person:anna".to_string(), reason: "a letter".to_string(), at_ms: 1 };
    retention::hold(&mut tx, job.id, &hold).unwrap();
    decide(&mut tx, &mut job, DecisionKind::Ignore, DAY);
    assert_eq!(retention::sweep(&mut tx, 99 * DAY).unwrap().jobs, 0);
    let refused = retention::begin(&mut tx, job.id, "root", 99 * DAY).unwrap_err().to_string();
    assert!(refused.contains("held by person:anna: a letter"), "{refused}");
    assert_eq!(retention::let_go(&mut tx, job.id).unwrap(), hold);
    assert_eq!(retention::sweep(&mut tx, 99 * DAY).unwrap().jobs, 1);
    assert!(retention::hold(&mut tx, job.id, &hold).is_err(), "its evidence is gone");
    commit(&store, tx);
}

#[test]
fn a_deletion_takes_all_of_a_job_and_nothing_that_another_needs() {
    let store = MemoryStore::default();
    let mut tx = Tx::new(&store);
    // The second job of the user has the first one's item, too.
    let (one, two) = (post("1", "u"), post("2", "u"));
    let mut first = escalated(&mut tx, &one, "blob-1");
    decide(&mut tx, &mut first, DecisionKind::Ignore, DAY);
    let mut second = escalated(&mut tx, &two, "blob-2");
    assert_eq!((second.media, first.media), (2, 1));
    let begun = retention::begin(&mut tx, first.id, "root", 99 * DAY).unwrap();
    assert!(begun.blobs.is_empty(), "the other job needs it");
    assert_eq!(retention::begin(&mut tx, first.id, "ben", 100 * DAY).unwrap(), begun, "once begun");
    commit(&store, tx);
    let mut tx = Tx::new(&store);
    assert!(retention::go_on(&mut tx, first.id, 99 * DAY).unwrap());
    assert!(retention::go_on(&mut tx, first.id, 99 * DAY).unwrap(), "again is nothing");
    assert!(job(&tx, first.id).unwrap().is_none() && item(&tx, &one.key).unwrap().is_some());
    commit(&store, tx);

    let mut tx = Tx::new(&store);
    decide(&mut tx, &mut second, DecisionKind::Ignore, 100 * DAY);
    assert_eq!(counts(retention::sweep(&mut tx, 200 * DAY).unwrap()), (1, 0));
    let mut blobs = retention::under_way(&tx, 9).unwrap().remove(0).blobs;
    blobs.sort();
    assert_eq!(blobs, ["blob-1", "blob-2"]);
    assert!(retention::go_on(&mut tx, second.id, 200 * DAY).unwrap());
    assert!(item(&tx, &one.key).unwrap().is_none() && item(&tx, &two.key).unwrap().is_none());
    assert_eq!(audit::tip(&tx).unwrap().number, 4, "begun and done, of each");
    commit(&store, tx);
    let left = census(&store).unwrap();
    assert_eq!((left.jobs, left.items, left.decisions, left.media_kept), (0, 0, 0, 0));
}

#[test]
fn items_that_made_no_job_go_when_they_are_old_and_those_of_jobs_stay() {
    let store = MemoryStore::default();
    let mut tx = Tx::new(&store);
    escalated(&mut tx, &post("1", "u"), "blob");
    put_item(&mut tx, post("2", "v")).unwrap();
    put_item(&mut tx, Item { received_ms: 9 * DAY, ..post("3", "v") }).unwrap();
    assert_eq!(counts(retention::sweep(&mut tx, 29 * DAY).unwrap()), (0, 0));
    assert_eq!(counts(retention::sweep(&mut tx, 31 * DAY).unwrap()), (0, 1));
    let is_there = |tx: &Tx<'_>, id: &str| item(tx, &ItemKey::new("post", id)).unwrap().is_some();
    assert!(is_there(&tx, "1") && !is_there(&tx, "2") && is_there(&tx, "3"));
    commit(&store, tx);
}

/// Gives an item so many uploads, however many one keeps.
fn upload(tx: &mut Tx<'_>, of: &Item, count: u64) {
    let place = |kind: u8| [&[kind], of.key.type_id.as_bytes(), &[0], of.key.id.as_bytes(), &[0]].concat();
    let known = item(tx, &of.key).unwrap().unwrap();
    tx.save(Keyspace::Items, place(b'i'), &Item { uploads: count, ..known });
    for number in 1..=count {
        let signals = [(SignalType::Pdq, format!("{number:064x}"))].into();
        let media = Media { field: "upload".to_string(), url: None, signals, ..of.media[0].clone() };
        let row = json!({ "number": number, "media": media });
        tx.save(Keyspace::Items, [&place(b'm')[..], &[0; 24], &number.to_be_bytes()].concat(), &row);
    }
}

/// Commits steps until the last, each sound and small; gives how many there were.
fn steps(store: &MemoryStore, mut step: impl FnMut(&mut Tx<'_>) -> bool) -> usize {
    for steps in 1.. {
        let mut tx = Tx::new(store);
        let done = step(&mut tx);
        assert!(tx.writes() < 5_100, "{} writes in one commit", tx.writes());
        commit(store, tx);
        if done {
            return steps;
        }
    }
    unreachable!("a bound of usize")
}

fn rows_of_items(store: &MemoryStore) -> usize {
    Tx::new(store).rows(Keyspace::Items, b"", usize::MAX).unwrap().len()
}

#[test]
fn items_with_very_many_uploads_go_in_steps_and_what_is_left_is_whole() {
    let store = MemoryStore::default();
    let mut tx = Tx::new(&store);
    put_item(&mut tx, post("few", "v")).unwrap();
    put_item(&mut tx, post("many", "v")).unwrap();
    upload(&mut tx, &post("many", "v"), 12_000);
    for at in 0..20 {
        put_item(&mut tx, post(&format!("z{at}"), "v")).unwrap();
        upload(&mut tx, &post(&format!("z{at}"), "v"), 1_000);
    }
    commit(&store, tx);
    let (mut items, mut seen) = (0, Vec::new());
    let taken = steps(&store, |tx| {
        let swept = retention::sweep(tx, 31 * DAY).unwrap();
        items += swept.items;
        let left = item(tx, &ItemKey::new("post", "many")).unwrap();
        seen.extend(left.map(|item| (item.uploads, item.media.len() as u64)));
        !swept.more
    });
    assert_eq!((items, rows_of_items(&store)), (22, 0));
    assert!((7..=9).contains(&taken), "32 000 uploads went in {taken} steps");
    assert!(!seen.is_empty() && seen.iter().all(|(uploads, media)| uploads + 1 == *media), "{seen:?}");
}

#[test]
fn an_item_whose_deletion_is_cut_short_stays_when_it_comes_again() {
    let store = MemoryStore::default();
    let mut tx = Tx::new(&store);
    put_item(&mut tx, post("1", "v")).unwrap();
    upload(&mut tx, &post("1", "v"), 6_000);
    commit(&store, tx);
    let mut tx = Tx::new(&store);
    assert!(retention::sweep(&mut tx, 31 * DAY).unwrap().more);
    put_item(&mut tx, Item { received_ms: 31 * DAY, arrival: 1, ..post("1", "v") }).unwrap();
    assert_eq!(retention::sweep(&mut tx, 32 * DAY).unwrap(), Swept::default());
    let left = item(&tx, &ItemKey::new("post", "1")).unwrap().unwrap();
    assert_eq!(left.uploads + 1, left.media.len() as u64);
    commit(&store, tx);
}

#[test]
fn a_job_whose_items_have_very_many_uploads_goes_in_steps() {
    let store = MemoryStore::default();
    let mut tx = Tx::new(&store);
    let (one, two) = (post("1", "u"), post("2", "u"));
    let mut first = escalated(&mut tx, &one, "blob-1");
    decide(&mut tx, &mut first, DecisionKind::Ignore, DAY);
    let second = escalated(&mut tx, &two, "blob-2"); // it has the first one's item, too
    let other = post("3", "u");
    put_item(&mut tx, other.clone()).unwrap();
    retention::name(&mut tx, first.id, &other.key);
    upload(&mut tx, &one, 6_000);
    upload(&mut tx, &other, 12_000);
    retention::begin(&mut tx, first.id, "root", 99 * DAY).unwrap();
    commit(&store, tx);
    let taken = steps(&store, |tx| retention::go_on(tx, first.id, 99 * DAY).unwrap());
    assert!((3..=4).contains(&taken), "12 000 uploads went in {taken} steps");
    let tx = Tx::new(&store);
    assert!(job(&tx, first.id).unwrap().is_none() && job(&tx, second.id).unwrap().is_some());
    assert!(item(&tx, &other.key).unwrap().is_none());
    assert_eq!(item(&tx, &one.key).unwrap().unwrap().uploads, 6_000, "another job needs it");
}

#[test]
fn items_of_before_get_a_term_that_begins_when_they_are_seen() {
    let store = MemoryStore::default();
    let mut tx = Tx::new(&store);
    escalated(&mut tx, &post("named", "u"), "blob");
    // More than one commit takes, and one that came since.
    (0..2_100).for_each(|at| put_item(&mut tx, post(&format!("p{at}"), "v")).unwrap());
    commit(&store, tx);
    let mut batch = index::store::Batch::default();
    for (key, _) in Tx::new(&store).rows(index::store::Keyspace::Items, b"t", usize::MAX).unwrap() {
        batch.delete(index::store::Keyspace::Items, key);
    }
    store.commit(batch, Durability::Sync).unwrap();
    let now = 500 * DAY;
    let mut tx = Tx::new(&store);
    put_item(&mut tx, Item { received_ms: now, ..post("new", "v") }).unwrap();
    commit(&store, tx);
    assert_eq!(
        reporter::renew_items(&store, Durability::Sync, now).unwrap(),
        2_101,
        "not the one that has a term"
    );
    assert_eq!(reporter::renew_items(&store, Durability::Sync, now + DAY).unwrap(), 0, "once");
    // One of them comes again: it is kept from then on.
    let mut tx = Tx::new(&store);
    put_item(&mut tx, Item { received_ms: now + 20 * DAY, arrival: 9, ..post("p7", "v") }).unwrap();
    assert_eq!(retention::sweep(&mut tx, now + 29 * DAY).unwrap().items, 0);
    let mut gone = 0;
    loop {
        let swept = retention::sweep(&mut tx, now + 31 * DAY).unwrap();
        gone += swept.items;
        if !swept.more {
            break;
        }
    }
    assert_eq!(
        gone, 2_100,
        "2 099 of before, and the new one; not the one that a job names, nor the one that came again"
    );
    let is_there = |tx: &Tx<'_>, id: &str| item(tx, &ItemKey::new("post", id)).unwrap().is_some();
    assert!(is_there(&tx, "named") && is_there(&tx, "p7") && !is_there(&tx, "p8") && !is_there(&tx, "new"));
    commit(&store, tx);
}

/// Takes out of a store what versions before preservation and retention did not write.
fn age(store: &MemoryStore) {
    let tx = Tx::new(store);
    let mut batch = index::store::Batch::default();
    for (key, _) in tx.rows(index::store::Keyspace::Evidence, b"", usize::MAX).unwrap() {
        batch.delete(index::store::Keyspace::Evidence, key);
    }
    for kind in [b"I", b"i", b"E", b"X"] {
        for (key, _) in tx.rows(index::store::Keyspace::Jobs, kind, usize::MAX).unwrap() {
            batch.delete(index::store::Keyspace::Jobs, key);
        }
    }
    store.commit(batch, Durability::Sync).unwrap();
}

#[test]
fn jobs_of_before_get_what_every_job_has_and_nothing_of_them_goes_at_once() {
    let store = MemoryStore::default();
    let mut tx = Tx::new(&store);
    // More than one commit takes.
    let ids: Vec<JobId> = (0..300)
        .map(|at| {
            let mut job = escalated(&mut tx, &post(&format!("p{at}"), &format!("u{at}")), &format!("b{at}"));
            match at % 3 {
                0 => {}
                1 => decide(&mut tx, &mut job, DecisionKind::Ignore, DAY),
                _ => decide(&mut tx, &mut job, DecisionKind::Report, DAY),
            }
            job.id
        })
        .collect();
    commit(&store, tx);
    age(&store);
    let now = 5_000 * DAY;
    assert_eq!(reporter::renew_jobs(&store, Durability::Sync, now).unwrap(), 300);
    assert_eq!(reporter::renew_jobs(&store, Durability::Sync, now + DAY).unwrap(), 0, "once");
    let mut tx = Tx::new(&store);
    assert_eq!(evidence::due(&tx, now, 999).unwrap().len(), 200, "of those that are open or to be reported");
    let term = |tx: &Tx<'_>, at: usize| retention::term(tx, ids[at]).unwrap();
    assert_eq!((term(&tx, 0), term(&tx, 2)), (None, None));
    assert_eq!(term(&tx, 1).unwrap().ended_ms, now, "it runs from now on");
    assert_eq!(retention::sweep(&mut tx, now + 29 * DAY).unwrap().jobs, 0);
    assert!(retention::sweep(&mut tx, now + 31 * DAY).unwrap().jobs > 0);
    while !retention::go_on(&mut tx, ids[1], now + 31 * DAY).unwrap() {}
    assert!(item(&tx, &ItemKey::new("post", "p1")).unwrap().is_none(), "its item goes with it");
    assert!(item(&tx, &ItemKey::new("post", "p0")).unwrap().is_some());
    commit(&store, tx);
}

#[test]
fn a_deletion_takes_so_many_rows_in_a_commit_and_is_sound_in_between() {
    let store = MemoryStore::default();
    let mut tx = Tx::new(&store);
    let mut job = escalated(&mut tx, &post("1", "u"), "blob");
    for at in 0..7_000 {
        evidence::view(&mut tx, (job.id, 1), &format!("person{at}"), 1).unwrap();
    }
    assert_eq!(evidence::viewers(&tx, job.id, 1).unwrap().len(), 100, "the first are listed");
    assert!(evidence::has_viewed(&tx, (job.id, 1), "person6999").unwrap());
    decide(&mut tx, &mut job, DecisionKind::Ignore, DAY);
    retention::begin(&mut tx, job.id, "root", 99 * DAY).unwrap();
    commit(&store, tx);
    let mut commits = 0;
    loop {
        let mut tx = Tx::new(&store);
        let done = retention::go_on(&mut tx, job.id, 99 * DAY).unwrap();
        commit(&store, tx);
        commits += 1;
        if done {
            break;
        }
    }
    assert_eq!(commits, 2);
    let left = Tx::new(&store).rows(index::store::Keyspace::Evidence, b"", 9).unwrap();
    assert!(left.is_empty());
}
