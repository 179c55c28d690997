//! What a clock may do, and what our time does then.

use proptest::prelude::*;

use super::*;
use crate::clock::stamp::Stamp;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
const START: Reading = Reading { wall_ms: 1_700_000_000_000, boot_ms: 5_000_000 };

/// Both clocks after so long, the wall clock set ahead by so much.
fn after(ms: u64, ahead_ms: i64) -> Reading {
    Reading { wall_ms: (START.wall_ms + ms).saturating_add_signed(ahead_ms), boot_ms: START.boot_ms + ms }
}

#[test]
fn a_minute_three_days_ahead_never_moves_our_time_and_is_doubted_for_an_hour_more() {
    let mut timeline = Timeline::new(START);
    assert_eq!(timeline.observe(after(1000, 0)), None);
    let ahead = 3 * DAY_MS as i64;
    assert_eq!(timeline.observe(after(2000, ahead)), Some(Event::Jumped { by_ms: ahead, moved_ms: 0 }));
    assert_eq!(timeline.observe(after(60_000, ahead)), None, "it is told once");
    assert_eq!(timeline.at(after(60_000, 0).boot_ms), after(60_000, 0).wall_ms);
    assert_eq!(timeline.observe(after(62_000, 0)), Some(Event::Jumped { by_ms: -ahead, moved_ms: 0 }));
    assert_eq!(timeline.observe(after(62_000 + HOUR_MS - 1, 0)), None);
    assert!(timeline.doubt().is_some());
    assert_eq!(timeline.observe(after(62_000 + HOUR_MS, 0)), Some(Event::Settled { moved_ms: 0 }));
    assert_eq!(timeline.doubt(), None);
}

#[test]
fn a_clock_that_stays_where_it_was_set_is_trusted_after_an_hour_or_when_a_person_says_so() {
    for by_ms in [-9 * DAY_MS as i64, 9 * DAY_MS as i64] {
        for confirmed in [false, true] {
            let mut timeline = Timeline::new(START);
            assert!(timeline.observe(after(1000, by_ms)).is_some());
            let end = after(1000 + HOUR_MS, by_ms);
            if confirmed {
                assert_eq!(timeline.confirm(after(2000, by_ms)), Some(by_ms));
                assert_eq!(timeline.confirm(after(2000, by_ms)), None);
            } else {
                assert_eq!(timeline.observe(end), Some(Event::Settled { moved_ms: by_ms }));
            }
            assert_eq!(timeline.at(end.boot_ms), end.wall_ms);
            assert_eq!(timeline.observe(end), None);
            let newest = end.boot_ms.saturating_add_signed(timeline.newest_ms());
            assert_eq!(
                newest,
                end.wall_ms.max(after(1000 + HOUR_MS, 0).wall_ms),
                "the newest never goes back"
            );
        }
    }
}

#[test]
fn small_steps_are_taken_over_slowly_and_a_clock_that_runs_fast_is_found() {
    let mut timeline = Timeline::new(START);
    assert_eq!(timeline.observe(after(1000, -30_000)), None);
    let (mut last, mut ms) = (0, 1000);
    while ms < HOUR_MS {
        ms += 1000;
        assert_eq!(timeline.observe(after(ms, -30_000)), None);
        let now = timeline.at(after(ms, 0).boot_ms);
        assert!(now > last, "our time does not go back");
        last = now;
    }
    assert_eq!(last, after(ms, -30_000).wall_ms);
    // Twice as fast as it should be.
    let fast = (1..300).find_map(|second| timeline.observe(after(ms + second * 1000, second as i64 * 1000)));
    assert!(matches!(fast, Some(Event::Jumped { .. })), "{fast:?}");
}

fn restarted(timeline: &Timeline, stamped: Reading, now: Reading, boot: &str) -> (Timeline, Option<Event>) {
    let folder = tempfile::tempdir().unwrap();
    Stamp::of(timeline, stamped, "first".to_string()).write(folder.path()).unwrap();
    Stamp::read(folder.path()).unwrap().unwrap().resume(now, boot)
}

#[test]
fn a_restart_knows_of_a_jump_while_nobody_watched() {
    let timeline = Timeline::new(START);
    // The machine ran on: the boot clock tells how long.
    let (same, event) = restarted(&timeline, START, after(31 * DAY_MS, 0), "first");
    assert_eq!((same.doubt(), event), (None, None));
    let ahead = 400 * DAY_MS as i64;
    let (same, event) = restarted(&timeline, START, after(1000, ahead), "first");
    assert_eq!(event, Some(Event::Jumped { by_ms: ahead, moved_ms: 0 }));
    assert_eq!(same.at(START.boot_ms + 1000), START.wall_ms + 1000);
    // What is doubted stays so, and time that both agree in counts while nobody watched.
    let (later, event) = restarted(&same, after(1000, ahead), after(2000, ahead), "first");
    assert!(later.doubt().is_some() && event.is_none());
    let (later, event) = restarted(&later, after(2000, ahead), after(1000 + HOUR_MS, ahead), "first");
    assert_eq!((later.doubt(), event), (None, Some(Event::Settled { moved_ms: ahead })));
}

#[test]
fn after_the_machine_was_started_anew_a_plausible_time_is_taken_and_another_doubted() {
    let timeline = Timeline::new(START);
    let booted = |wall_ms: u64| Reading { wall_ms, boot_ms: 9000 };
    for (gap_ms, doubted) in
        [(0, false), (HOUR_MS as i64, false), (-10_000, false), (2 * DAY_MS as i64, true), (-120_000, true)]
    {
        let now = booted(START.wall_ms.saturating_add_signed(gap_ms));
        let (mut new, event) = restarted(&timeline, START, now, "second");
        assert_eq!((new.doubt().is_some(), event.is_some()), (doubted, doubted), "{gap_ms}");
        assert_eq!(new.at(now.boot_ms), now.wall_ms);
        assert!(now.boot_ms.saturating_add_signed(new.newest_ms()) >= START.wall_ms);
        if doubted {
            // NTP comes up: nothing steady says otherwise, so our time goes with it, and stays in doubt.
            let right = Reading { wall_ms: START.wall_ms + 90_000, boot_ms: 10_000 };
            let by_ms = 89_000 - gap_ms;
            assert_eq!(new.observe(right), Some(Event::Jumped { by_ms, moved_ms: by_ms }));
            assert!(new.at(right.boot_ms) == right.wall_ms && new.doubt().is_some());
        }
    }
}

#[test]
fn a_stamp_that_does_not_read_is_an_error_and_none_is_none() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Stamp::read(folder.path()).unwrap().is_none());
    for text in ["", "{}", "{\"version\":2,\"boot_id\":\"\",\"stamped_ms\":1,\"timeline\":0}"] {
        std::fs::write(folder.path().join("clock"), text).unwrap();
        assert!(Stamp::read(folder.path()).is_err(), "{text}");
    }
    let (timeline, event) = Timeline::doubtful(START);
    assert!(timeline.doubt().is_some() && event.is_some());
}

proptest! {
    /// Whatever the wall clock does: our time moves with the boot clock, but for what events say and the slow taking over.
    #[test]
    fn our_time_moves_only_as_told(steps in proptest::collection::vec((1u64..120_000, -3i64..4, any::<bool>()), 1..200)) {
        let mut timeline = Timeline::new(START);
        let (mut ms, mut ahead_ms, mut newest) = (0, 0, 0);
        for (passed, days, sets) in steps {
            let before = timeline.at(START.boot_ms + ms);
            ms += passed;
            if sets {
                ahead_ms = days * DAY_MS as i64;
            }
            let event = timeline.observe(after(ms, ahead_ms));
            let now = timeline.at(START.boot_ms + ms);
            let moved = match event {
                Some(Event::Jumped { moved_ms, .. }) => {
                    prop_assert_eq!(moved_ms, 0, "it is steady");
                    0
                }
                Some(Event::Settled { moved_ms }) => moved_ms,
                None => 0,
            };
            let expected = (before + passed).saturating_add_signed(moved);
            prop_assert!(now.abs_diff(expected) <= passed / SLEW as u64, "{now} {expected}");
            let latest = (START.boot_ms + ms).saturating_add_signed(timeline.newest_ms());
            prop_assert!(latest >= now && latest >= newest);
            newest = latest;
        }
    }
}
