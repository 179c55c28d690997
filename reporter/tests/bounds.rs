//! What a job holds has a bound, and says so when there is more; what the job is about has a place always.

#![allow(clippy::unwrap_used)] // clippy takes this file's helpers for code outside tests

use index::store::{MemoryStore, Store};
use reporter::Tx;
use reporter::desk::item::{Item, ItemKey, Media, MediaKind, Screening, put_item};
use reporter::desk::job::{Reason, put_job};
use reporter::desk::ncmec::{Escalation, MEDIA_MAX, escalate, join, media_of};
use reporter::desk::queue::Verdict;
use reporter::desk::settings::Settings;

fn item(number: u64, media: u64) -> Item {
    let medium = |at| Media {
        field: format!("pictures/{at}"),
        kind: MediaKind::Image,
        url: Some(format!("https://a.example/{number}/{at}")),
        signals: [].into(),
        screening: Screening::Done { matches: Vec::new() },
        kept: None,
    };
    Item {
        creator: Some(ItemKey::new("user", "u")),
        created_ms: Some(number),
        media: (0..media).map(medium).collect(),
        arrival: number,
        ..Item::bare(ItemKey::new("post", format!("p{number}")), number)
    }
}

fn escalation<'a>(item: &'a Item, words: &str) -> Escalation<'a> {
    let reason = Reason {
        at_ms: 1,
        item: item.key.clone(),
        words: words.to_string(),
        rule: None,
        rule_version: None,
        verdict: Verdict::Review,
    };
    Escalation { item, user: None, queue: None, reason, priority: 5, now_ms: 1 }
}

#[test]
fn a_user_with_very_much_media_makes_a_job_with_the_newest_and_what_it_is_about() {
    let store: Box<dyn Store> = Box::new(MemoryStore::default());
    let mut tx = Tx::new(&*store);
    let settings = Settings::default();
    for number in 1..=MEDIA_MAX + 50 {
        put_item(&mut tx, item(number, 1)).unwrap();
    }
    let about = item(1, 3); // the oldest of all
    let job = escalate(&mut tx, &settings, escalation(&about, "first")).unwrap();
    put_job(&mut tx, &job);
    assert_eq!((job.media, job.media_truncated), (MEDIA_MAX, true));
    let media = media_of(&tx, job.id, 0, usize::MAX).unwrap();
    let reported: Vec<&str> =
        media.iter().filter(|media| media.reported).map(|media| media.item.id.as_str()).collect();
    assert_eq!(reported, ["p1"; 3], "what the job is about has its place");
    assert!(
        media.iter().any(|media| media.item.id == format!("p{}", MEDIA_MAX + 50)),
        "the newest are there"
    );

    // What comes later has no room, unless the job is about it.
    let later = item(9_000, 1);
    join(&mut tx, &settings, &later, 2).unwrap();
    let job = escalate(&mut tx, &settings, escalation(&later, "second")).unwrap();
    assert_eq!((job.media, job.reasons_total), (MEDIA_MAX + 1, 2));
    let media = media_of(&tx, job.id, MEDIA_MAX, 9).unwrap();
    assert_eq!((media.len(), &media[0].reasons), (1, &vec!["second".to_string()]));
}

#[test]
fn reasons_are_listed_to_a_bound_and_counted_all() {
    let store = MemoryStore::default();
    let mut tx = Tx::new(&store);
    let settings = Settings::default();
    for number in 1..=300 {
        let of = item(number, 0);
        let job = escalate(&mut tx, &settings, escalation(&of, &format!("reason {number}"))).unwrap();
        put_job(&mut tx, &job);
    }
    let of = item(1, 0);
    let job = escalate(&mut tx, &settings, escalation(&of, "last")).unwrap();
    assert_eq!(
        (job.reasons.len(), job.reasons_total, job.contents.len(), job.listed_truncated),
        (200, 301, 200, true)
    );
}
