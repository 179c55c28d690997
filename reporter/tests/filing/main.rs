//! A filing goes its steps under one holder and ends once. A model of NCMEC takes what is sent; crashes, lost answers,
//! errors, two workers, the clock and people's words come in any order; and nothing is ever filed twice or lost.
#![allow(clippy::panic, clippy::unwrap_used)] // a test fails by panicking

mod world;

use proptest::prelude::*;
use reporter::cyber_tipline::Environment;
use reporter::desk::outbox::{self};
use reporter::tip::filing::pace::ATTEMPTS_MAX;
use reporter::tip::filing::person::{self, Word};
use reporter::tip::filing::step::{self};
use reporter::tip::filing::{Cause, Stage};
use reporter::{DeskError, JobId, Tx};

use self::world::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn check_01_02_03_10_11_whatever_happens_a_job_is_filed_once_or_a_person_is_asked(
        events in proptest::collection::vec(event(), 0..25)
    ) {
        let mut world = World::new();
        for event in events {
            match event {
                Event::Work(luck) => {
                    if !world.work(luck) {
                        world.start_anew();
                    }
                }
                Event::Work2(luck) => {
                    // The first worker stops after taking it; the process is thought dead, and another goes on.
                    let first = world.take();
                    world.start_anew();
                    if !world.work(luck) {
                        world.start_anew();
                    }
                    if let Some((ticket, tip)) = first {
                        let late = world.step(ticket, &tip, &mut None);
                        prop_assert!(matches!(late, Err(DeskError::Conflict { .. })), "an old ticket opens a step");
                    }
                }
                Event::Hours(hours) => world.now_ms += hours * HOUR_MS,
                Event::Retry => world.say(&Word::Retry),
                Event::Resume => world.say(&Word::Resume),
                Event::Asked => world.ask_ncmec(),
            }
            world.check();
        }
        // From now on all is well, and people do what they are asked to: it comes to an end.
        world.start_anew();
        for _ in 0..40 {
            world.now_ms += HOUR_MS;
            world.work(Luck::Good);
            world.check();
            world.ask_ncmec();
        }
        let tip = world.tip().unwrap();
        prop_assert_eq!(tip.stage, Stage::Filed, "{:?}", tip);
        prop_assert_eq!(outbox::filings_open(&Tx::new(&world.store), 9).unwrap(), Vec::new());
    }
}

/// With faults alone and nobody to help, nearly all come to their end by themselves, and the others are held.
#[test]
fn check_17_what_runs_out_is_held_with_an_alarm() {
    let mut world = World::new();
    for spent in 1..=ATTEMPTS_MAX {
        assert_eq!(world.tip().map_or(0, |tip| tip.spent), spent - 1);
        world.now_ms = world.tip().map_or(NOW, |tip| tip.due_ms);
        assert!(world.work(Luck::Again));
    }
    let tip = world.tip().unwrap();
    assert_eq!(tip.held.map(|held| held.cause), Some(Cause::AttemptsSpent));
    assert!(world.now_ms - NOW < 30 * 24 * HOUR_MS);
    let alarms = reporter::desk::alarm::open_alarms(&Tx::new(&world.store), 9).unwrap();
    assert!(alarms.iter().any(|alarm| alarm.kind == "tip.held" && alarm.about == "job 1"), "{alarms:?}");
    assert!(alarms.iter().any(|alarm| alarm.kind == "tip.late"), "{alarms:?}");
    world.say(&Word::Resume);
    assert!(world.work(Luck::Good));
    assert_eq!(world.tip().unwrap().stage, Stage::Filed);
}

#[test]
fn what_spends_nothing_is_tried_for_thirty_days_and_then_held() {
    let mut world = World::new();
    while world.tip().is_none_or(|tip| tip.held.is_none()) {
        world.now_ms = world.tip().map_or(NOW, |tip| tip.due_ms);
        assert!(world.work(Luck::NotReached));
        assert!(world.tip().unwrap().spent == 0);
    }
    assert_eq!(world.tip().unwrap().held.unwrap().cause, Cause::TooOld);
    assert!(world.now_ms - NOW > 30 * 24 * HOUR_MS);
}

#[test]
fn check_23_a_report_begun_in_one_environment_is_never_touched_by_the_other() {
    let mut world = World::new();
    assert!(world.work(Luck::NotReached));
    world.now_ms += 24 * HOUR_MS;
    let taken = world.commit(|tx, now| step::take(tx, JobId(1), Environment::Production, now)).unwrap();
    assert_eq!(taken, None);
    let held = world.tip().unwrap();
    assert_eq!(held.held.map(|held| held.cause), Some(Cause::EnvironmentChanged));
    assert_eq!(held.environment, TEST);
    let say = |world: &mut World, word: Word, environment| {
        world.commit(|tx, now| person::say(tx, JobId(1), &word, "ben", environment, now))
    };
    assert!(say(&mut world, Word::Resume, Environment::Production).is_err());
    // Something was sent to the test one, so even a retry stays there.
    let tip = say(&mut world, Word::Retry, Environment::Production).unwrap();
    assert_eq!(tip.environment, TEST);
    assert!(say(&mut world, Word::Resume, TEST).is_ok());
    assert!(world.work(Luck::Good));
    assert_eq!(world.tip().unwrap().stage, Stage::Filed);
}
