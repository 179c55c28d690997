//! What a warden refuses, tells and forgets.

use std::sync::Arc;

use async_channel::Receiver;
use rand::RngExt;

use super::*;
use crate::defence::{Alarm, AlarmKind};

const HOUR_MS: u64 = 3_600_000;

fn watched(allowance: Allowance) -> (Warden, Receiver<Alarm>, Alarms) {
    let (alarms, heard) = Alarms::new(8);
    (Warden::new(KeyNumber(7), allowance, Limits::default(), alarms.clone()), heard, alarms)
}

fn found(query: u32, content: u64, distance: u16) -> Matched {
    Matched { query, content: ContentId(content), distance: Distance::new(distance).unwrap() }
}

fn all(count: u32) -> impl Iterator<Item = Matched> + Clone {
    (0..count).map(|query| found(query, 1, 5))
}

fn flips(base: &Hash256, count: usize) -> Vec<Hash256> {
    (0..count).map(|position| flipped(base, &[position])).collect()
}

#[test]
fn a_frozen_key_gets_nothing_until_it_is_thawed() {
    let (warden, heard, _) = watched(Allowance::default());
    let base = some_hash(&mut random(1));
    let Err(Refused::Frozen { why }) = warden.admit(&flips(&base, 40), all(40), START_MS) else {
        panic!("a frame of flips was admitted");
    };
    assert_eq!(warden.frozen(), Some(why));
    assert!(warden.admit(&[some_hash(&mut random(2))], all(0), START_MS).is_err(), "misses neither");
    let alarm = heard.try_recv().unwrap();
    assert_eq!((alarm.key, alarm.kind, alarm.at_ms), (KeyNumber(7), AlarmKind::Walk, START_MS));
    assert!(heard.is_empty(), "one alarm, not one for each refusal");

    warden.thaw();
    assert_eq!(warden.frozen(), None);
    assert_eq!(warden.admit(&flips(&base, 20), all(20), START_MS), Ok(()), "it starts anew");
    warden.freeze("by hand");
    let why = "by hand".into();
    assert_eq!(warden.admit(&[base], all(1), START_MS), Err(Refused::Frozen { why }));
}

#[test]
fn misses_before_the_hit_in_the_same_frame_count() {
    let (warden, ..) = watched(Allowance::default());
    let base = some_hash(&mut random(3));
    let mut frame = flips(&base, 60);
    frame.push(base);
    let refused = warden.admit(&frame, std::iter::once(found(60, 1, 31)), START_MS);
    assert!(matches!(refused, Err(Refused::Frozen { .. })));
}

#[test]
fn neighbours_find_each_other_through_different_contents() {
    // Many listed hashes beside each other: each question finds another of them nearest.
    let (warden, ..) = watched(Allowance::default());
    let base = some_hash(&mut random(4));
    let frame = flips(&base, 60);
    let refused = warden.admit(&frame, (0..60).map(|query| found(query, u64::from(query), 20)), START_MS);
    assert!(matches!(refused, Err(Refused::Frozen { .. })));
}

#[test]
fn no_words_hold_a_hash() {
    let (warden, heard, _) = watched(Allowance::default());
    let base = some_hash(&mut random(5));
    let refused = warden.admit(&flips(&base, 64), all(64), START_MS).unwrap_err();
    let said = format!("{refused} {refused:?} {warden:?} {:?}", heard.try_recv());
    let long = said.split(|c: char| !c.is_ascii_hexdigit()).map(str::len).max();
    assert!(long < Some(16), "{said}");
}

#[test]
fn a_spent_budget_refuses_the_frame_and_tells_once_an_hour() {
    let allowance = Allowance { lookups_per_hour: Some(100), lookups_per_day: None };
    let (warden, heard, _) = watched(allowance);
    let random = &mut random(6);
    let frame: Vec<Hash256> = (0..60).map(|_| some_hash(random)).collect();
    assert_eq!(warden.admit(&frame, all(0), START_MS), Ok(()));
    for _ in 0..3 {
        let refused = warden.admit(&frame, all(0), START_MS + 1);
        assert!(matches!(refused, Err(Refused::Budget { retry_after }) if retry_after.as_secs() > 3000));
    }
    assert_eq!(warden.admit(&frame[..40], all(0), START_MS + 2), Ok(()), "what is refused costs nothing");
    assert_eq!(heard.try_recv().unwrap().kind, AlarmKind::Budget);
    assert!(heard.is_empty());
    assert_eq!(warden.admit(&frame, all(0), START_MS + 2 * HOUR_MS), Ok(()));
    assert!(!warden.is_frozen(), "a spent budget freezes nothing");
}

#[test]
fn a_crowd_is_told_and_not_frozen() {
    let (warden, heard, _) = watched(Allowance::default());
    let random = &mut random(8);
    let base = some_hash(random);
    // A picture with 40 undecided bits.
    for _ in 0..3000 {
        let altered: Vec<usize> = (0..40).filter(|_| random.random_bool(0.3)).map(|at| at * 6).collect();
        assert_eq!(warden.admit(&[flipped(&base, &altered)], all(1), START_MS), Ok(()));
    }
    assert_eq!(heard.try_recv().unwrap().kind, AlarmKind::Crowd);
    assert!(heard.is_empty(), "once a day");
}

#[test]
fn what_a_key_costs_in_memory_is_bounded() {
    use crate::defence::{region, regions, traces};
    let region = size_of::<region::Region>() + region::SKETCH_BYTES + region::REMEMBERED * 32;
    let bytes = regions::REGIONS_MAX * region + traces::BYTES;
    println!("a region {region} B, a key {bytes} B at most, {} B before its first hit", size_of::<Warden>());
    assert!(bytes < 5 << 18, "{bytes}");
    let (warden, random) = (Arc::new(watched(Allowance::default()).0), &mut random(9));
    for content in 0..2000 {
        assert_eq!(warden.admit(&[some_hash(random)], [found(0, content, 0)].into_iter(), START_MS), Ok(()));
    }
    assert_eq!(warden.figures().len(), regions::REGIONS_MAX);
}
