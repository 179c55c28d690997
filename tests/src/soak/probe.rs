//! The well-behaved clients whose waits are measured: an answer is due at a time fixed before it is asked for, so a
//! server that stalls cannot hide behind a client that waits for it.

use std::thread::Scope;
use std::time::{Duration, Instant};

use ingest::wire::{Connection, Query, Request};
use loadtest::workload::{Mix, draw};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::load::{ANSWER_MAX, ask, judge};
use super::stage::{Place, Stage};
use super::{Plan, banks, priority};
use crate::Http;

/// Clients whose waits are measured, as the report names them.
pub const CLIENTS: [&str; 3] = ["frames", "newcomer", "text"];
/// How late a measured thread is woken that asks nobody: what the machine itself adds to every wait.
pub const MACHINE: &str = "machine";
/// Hashes of a measured frame, and the share of them that match.
const BATCH: usize = 16;
const HIT_RATIO: f64 = 0.3;
/// Measured frames, newcomers and text lookups: one each so often.
const FRAME_EVERY: Duration = Duration::from_millis(10);
const NEWCOMER_EVERY: Duration = Duration::from_millis(250);
const TEXT_EVERY: Duration = Duration::from_millis(100);
/// Behind its schedule by more, a client leaves out what it missed: each miss would count the same stall again.
const BEHIND_MAX: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(20);

/// Starts the measured clients.
pub fn start<'s>(scope: &'s Scope<'s, '_>, stage: &'s Stage, plan: &'s Plan) {
    scope.spawn(move || frames(stage, plan));
    scope.spawn(move || newcomers(stage, plan));
    scope.spawn(move || texts(stage));
    scope.spawn(move || paced(stage, MACHINE, FRAME_EVERY, |_| true));
}

/// Calls `attempt` when it is due until it succeeds or the server ends, and records the whole wait.
fn paced(stage: &Stage, client: &'static str, every: Duration, mut attempt: impl FnMut(&Place) -> bool) {
    priority::first();
    let mut due = Instant::now();
    let mut life = None;
    while let Some(place) = stage.place() {
        if life.replace(place.life).is_none_or(|before| before != place.life) {
            due = Instant::now(); // nobody was there to ask meanwhile
        }
        due = due.max(Instant::now().checked_sub(BEHIND_MAX).unwrap_or(due)) + every;
        stage.sleep_until(due);
        let phase = stage.phase(); // a wait belongs to the phase it began in
        if client == "newcomer" && phase.closed {
            due = Instant::now();
            continue;
        }
        while !attempt(&place) {
            if !stage.lives(&place) || stage.over() {
                break;
            }
            stage.count("measured attempts that failed", 1);
            stage.sleep_until(Instant::now() + AGAIN);
        }
        stage.waited(client, &phase, &place, due, due.elapsed());
    }
}

/// A pipeline that holds its connection.
fn frames(stage: &Stage, plan: &Plan) {
    let mut random = ChaCha8Rng::seed_from_u64(stage.seed ^ 0xf4a);
    let mut bank = banks::uniform(stage.seed);
    let mix = Mix { hit_ratio: HIT_RATIO, bank_count: plan.hashes };
    let mut held: Option<(usize, Connection)> = None;
    paced(stage, CLIENTS[0], FRAME_EVERY, |place| {
        if held.as_ref().is_none_or(|(life, _)| *life != place.life) {
            held = Connection::open(place.listen, None, ANSWER_MAX).ok().map(|open| (place.life, open));
        }
        let Some((_, connection)) = &mut held else { return false };
        let batch = draw(BATCH, mix, &mut bank, &mut random);
        let request = Request::Lookup(Query::pdq(batch.hashes.clone()));
        let answered = ask(stage, connection, &request).is_ok_and(|reply| judge(stage, &batch, &reply));
        if !answered {
            held = None;
        }
        answered
    });
}

/// A client that connects for each question.
fn newcomers(stage: &Stage, plan: &Plan) {
    let mut random = ChaCha8Rng::seed_from_u64(stage.seed ^ 0xe3e);
    let mut bank = banks::uniform(stage.seed);
    let mix = Mix { hit_ratio: 1.0, bank_count: plan.hashes };
    paced(stage, CLIENTS[1], NEWCOMER_EVERY, |place| {
        let Ok(mut connection) = Connection::open(place.listen, None, ANSWER_MAX) else { return false };
        let batch = draw(1, mix, &mut bank, &mut random);
        let request = Request::Lookup(Query::pdq(batch.hashes.clone()));
        ask(stage, &mut connection, &request).is_ok_and(|reply| judge(stage, &batch, &reply))
    });
}

/// A person who looks a text up over HTTP.
fn texts(stage: &Stage) {
    let mut at = 0;
    let mut held: Option<(usize, Http)> = None;
    paced(stage, CLIENTS[2], TEXT_EVERY, |place| {
        if held.as_ref().is_none_or(|(life, _)| *life != place.life) {
            held = Some((place.life, Http::with_timeout(&place.admin, ANSWER_MAX)));
        }
        let Some((_, http)) = &held else { return false };
        at = (at + 1) % banks::TEXTS_COUNT;
        let asked = json!({ "signal_type": "raw_text", "signals": [banks::text(stage.seed, at)] });
        match http.try_post("/api/v1/lookup", &asked) {
            Ok((200, answer)) => {
                let found = &answer["results"][0]["matches"][0];
                if found["bank"] != banks::TEXTS || found["distance"] != 0 {
                    stage.wrong(format!("text {at} is answered by {answer}"));
                }
                true
            }
            Ok((503, _)) => false,
            Ok((status, answer)) => {
                stage.wrong(format!("text {at} is answered by HTTP {status}: {answer}"));
                true
            }
            Err(_) => false,
        }
    });
}
