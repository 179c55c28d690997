//! Well-behaved clients: what they ask has a known answer, and each answer is compared with it.

use std::thread::Scope;
use std::time::{Duration, Instant};

use index::{RequestId, Signal, SignalType};
use ingest::wire::{Connection, ConnectionError, Query, Reply, Request};
use loadtest::truth::check;
use loadtest::workload::{Batch, Mix, draw};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::stage::Stage;
use super::{Plan, banks};
use crate::{Http, Unanswered, hex};

/// How long an answer may take before a client tries again.
pub const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How long it may take until nothing waits any more, at the end.
const SETTLED_MAX: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(100);

/// Starts the clients.
pub fn start<'s>(scope: &'s Scope<'s, '_>, stage: &'s Stage, plan: &'s Plan) {
    scope.spawn(move || lookups(stage, plan));
    scope.spawn(move || submits(stage, plan));
    scope.spawn(move || duplicates(stage, plan));
    scope.spawn(move || people(stage, Duration::from_millis(200), digests(stage)));
    scope.spawn(move || people(stage, Duration::from_millis(500), items(stage, plan)));
    scope.spawn(move || people(stage, Duration::from_secs(5), imports(stage)));
    scope.spawn(move || people(stage, Duration::from_millis(500), changes(stage)));
    scope.spawn(move || people(stage, Duration::from_secs(1), reads(stage, plan)));
}

/// Asks, and asks again while the server is busy.
pub fn ask(stage: &Stage, connection: &mut Connection, request: &Request) -> Result<Reply, ConnectionError> {
    let mut frame = Vec::new();
    request.encode(1, &mut frame);
    loop {
        connection.send(&frame)?;
        match connection.receive()? {
            (_, Reply::Busy { retry_after }) => {
                stage.count("Busy", 1);
                std::thread::sleep(retry_after);
            }
            (_, reply) => return Ok(reply),
        }
    }
}

/// Compares a reply with the truth of its batch. Says whether it was an answer.
pub fn judge(stage: &Stage, batch: &Batch, reply: &Reply) -> bool {
    let (Reply::Lookup(answer) | Reply::Submit(answer, _)) = reply else {
        stage.count("refusals", 1);
        return false;
    };
    let hits =
        answer.hits.iter().map(|hit| (hit.hash, hit.matches.iter().map(|found| found.distance.bits())));
    let verdicts = check(batch, hits);
    stage.count("answers checked", 1);
    if verdicts.found != verdicts.expected || verdicts.false_hits > 0 {
        stage.wrong(format!("a frame of {} hashes: {verdicts:?}", batch.hashes.len()));
    }
    true
}

/// Keeps a connection open and acts on it once in a while; opens another where it breaks.
fn pipeline(
    stage: &Stage,
    every: Duration,
    mut act: impl FnMut(&mut Connection) -> Result<(), ConnectionError>,
) {
    while let Some(place) = stage.place() {
        let connection = match stage.phase().closed {
            true => None,
            false => Connection::open(place.listen, None, ANSWER_MAX).ok(),
        };
        let Some(mut connection) = connection else {
            stage.sleep_until(Instant::now() + AGAIN);
            continue;
        };
        while stage.lives(&place) && !stage.over() {
            let begun = Instant::now();
            if act(&mut connection).is_err() {
                if stage.lives(&place) {
                    stage.count("connections cut", 1);
                }
                break;
            }
            stage.sleep_until(begun + every);
        }
    }
}

fn lookups(stage: &Stage, plan: &Plan) {
    let mut random = ChaCha8Rng::seed_from_u64(stage.seed ^ 1);
    let mut bank = banks::uniform(stage.seed);
    let mix = Mix { hit_ratio: 0.1, bank_count: plan.hashes };
    pipeline(stage, Duration::from_millis(50), |connection| {
        let batch = draw(256, mix, &mut bank, &mut random);
        let reply = ask(stage, connection, &Request::Lookup(Query::pdq(batch.hashes.clone())))?;
        judge(stage, &batch, &reply);
        Ok(())
    });
}

/// Submits with hits. One without an answer is sent again under its id until there is one.
fn submits(stage: &Stage, plan: &Plan) {
    let mut random = ChaCha8Rng::seed_from_u64(stage.seed ^ 2);
    let mut bank = banks::uniform(stage.seed);
    let mix = Mix { hit_ratio: 0.2, bank_count: plan.hashes };
    let mut waiting: Option<(RequestId, Batch)> = None;
    pipeline(stage, Duration::from_millis(50), |connection| {
        let retry = waiting.is_some();
        let (request, batch) =
            waiting.get_or_insert_with(|| (RequestId::fresh(), draw(16, mix, &mut bank, &mut random)));
        let query = Query::pdq(batch.hashes.clone());
        let reply = ask(
            stage,
            connection,
            &Request::Submit { request: *request, retry, query, contexts: Vec::new() },
        )?;
        if let Reply::Submit(_, receipt) = &reply {
            stage.acknowledged.add(receipt.first_position.0, batch.hits.len() as u64, *request);
        }
        if judge(stage, batch, &reply) {
            waiting = None;
        }
        Ok(())
    });
}

/// A query that matches very many contents is counted right.
fn duplicates(stage: &Stage, plan: &Plan) {
    let query = Query::pdq(vec![banks::duplicate(stage.seed)]);
    pipeline(stage, Duration::from_secs(1), |connection| {
        if let Reply::Lookup(answer) = ask(stage, connection, &Request::Lookup(query.clone()))? {
            let total = answer.hits.first().map_or(0, |hit| hit.total);
            stage.count("answers checked", 1);
            if u64::from(total) != plan.duplicates {
                stage.wrong(format!("{total} of {} duplicates match", plan.duplicates));
            }
        }
        Ok(())
    });
}

/// A client of the admin port that acts once in a while.
fn people(stage: &Stage, every: Duration, mut act: impl FnMut(&Http) -> Result<(), Unanswered>) {
    while let Some(place) = stage.place() {
        let http = Http::with_timeout(&place.admin, ANSWER_MAX);
        while stage.lives(&place) && !stage.over() {
            let begun = Instant::now();
            if act(&http).is_err() && stage.lives(&place) {
                stage.count("HTTP requests unanswered", 1);
            }
            stage.sleep_until(begun + every);
        }
    }
}

/// What a lookup of one signal says: the banks that match, nearest first.
fn banks_of(http: &Http, kind: SignalType, signal: &str) -> Result<Option<Vec<String>>, Unanswered> {
    let (status, answer) =
        http.try_post("/api/v1/lookup", &json!({ "signal_type": kind.name(), "signals": [signal] }))?;
    let list = answer["results"][0]["matches"].as_array().filter(|_| status == 200);
    let bank = |found: &Value| found["bank"].as_str().unwrap_or_default().to_string();
    Ok(list.map(|list| list.iter().map(bank).collect()))
}

fn expect(
    stage: &Stage,
    http: &Http,
    (kind, signal): (SignalType, &str),
    banks: &[&str],
) -> Result<(), Unanswered> {
    match banks_of(http, kind, signal)? {
        Some(found) if found == banks => stage.count("answers checked", 1),
        Some(found) => stage.wrong(format!("{kind} {signal} is in {found:?}, not in {banks:?}")),
        None => stage.count("HTTP refusals", 1),
    }
    Ok(())
}

fn digests(stage: &Stage) -> impl FnMut(&Http) -> Result<(), Unanswered> {
    let mut random = ChaCha8Rng::seed_from_u64(stage.seed ^ 3);
    move |http| {
        let at = random.random_range(0..banks::DIGESTS_COUNT * 2);
        let signal = banks::digest(stage.seed, at).to_string();
        let there: &[&str] = if at < banks::DIGESTS_COUNT { &[banks::DIGESTS] } else { &[] };
        expect(stage, http, (SignalType::VideoMd5, &signal), there)
    }
}

/// Items with signals of their own, one of ten of which matches. Sending an item twice is harmless.
fn items(stage: &Stage, plan: &Plan) -> impl FnMut(&Http) -> Result<(), Unanswered> {
    let (hashes, mut next) = (plan.hashes, 0u64);
    let (mut bank, mut others) = (banks::uniform(stage.seed), banks::others(stage.seed, 1));
    move |http| {
        let items: Vec<Value> = (next..next + 10)
            .map(|at| {
                let hash = if at % 10 == 0 { bank.get(at % hashes) } else { others.get(at) };
                json!({ "id": format!("soak-{at}"), "typeId": "soak", "data": {
                    "text": "soak", "author": { "id": format!("u{}", at % 1000), "typeId": "user" },
                    "pictures": [{ "signals": { "pdq": hex(&hash) } }] } })
            })
            .collect();
        let (status, _) = http.try_post("/api/v1/items/async/", &json!({ "items": items }))?;
        match status {
            202 => {
                next += 10;
                stage.count("items", 10);
            }
            _ => stage.count("HTTP refusals", 1),
        }
        Ok(())
    }
}

fn imports(stage: &Stage) -> impl FnMut(&Http) -> Result<(), Unanswered> {
    let (mut hashes, mut next) = (banks::others(stage.seed, 2), 0u64);
    move |http| {
        let list = (next..next + 200).map(|at| hex(&hashes.get(at))).collect::<Vec<_>>();
        next += 200; // an import without an answer is not made again: its hashes may be there or not
        let path =
            format!("/api/v1/banks/{}/import?signal_type=pdq&format=lines&strict=true", banks::GROWING);
        match http.try_text(&path, list.join("\n"))? {
            (200, answer) if answer["imported"] == 200 => {
                stage.count("hashes imported", 200);
                expect(stage, http, (SignalType::Pdq, &list[next as usize % 200]), &[banks::GROWING])
            }
            (200, answer) => {
                stage.wrong(format!("an import of 200 hashes says {answer}"));
                Ok(())
            }
            _ => {
                stage.count("HTTP refusals", 1);
                Ok(())
            }
        }
    }
}

/// A content matches once it is acknowledged, and no longer once its removal is.
fn changes(stage: &Stage) -> impl FnMut(&Http) -> Result<(), Unanswered> {
    let (mut hashes, mut next) = (banks::others(stage.seed, 3), 0u64);
    move |http| {
        let signal = Signal::Pdq(hashes.get(next)).to_string();
        next += 1; // after a change without an answer nothing is known about its hash
        let path = format!("/api/v1/banks/{}/contents", banks::CHANGING);
        let (status, said) = http.try_post(&path, &json!({ "signals": { "pdq": signal } }))?;
        let Some(content) = said["first_content"].as_u64().filter(|_| status == 201) else {
            stage.count("HTTP refusals", 1);
            return Ok(());
        };
        expect(stage, http, (SignalType::Pdq, &signal), &[banks::CHANGING])?;
        let (status, _) = http.try_plain("DELETE", &format!("{path}/{content}"), None)?;
        if !(200..300).contains(&status) {
            stage.count("HTTP refusals", 1);
            return Ok(());
        }
        stage.count("bank changes", 2);
        expect(stage, http, (SignalType::Pdq, &signal), &[])
    }
}

/// Pages that operators and monitoring read, once a second, and a dear one less often.
fn reads(stage: &Stage, plan: &Plan) -> impl FnMut(&Http) -> Result<(), Unanswered> {
    const PATHS: [&str; 9] = [
        "/metrics",
        "/readyz",
        "/api/v1/banks",
        "/api/v1/hits?before=18446744073709551615&limit=20",
        "/api/v1/queues",
        "/api/v1/queues/soak?limit=20",
        "/api/v1/statistics",
        "/ui/",
        "/api/v1/index",
    ];
    let (mut round, every) = (0usize, plan.census_seconds);
    move |http| {
        round += 1;
        let dear = (every > 0 && round.is_multiple_of(every)).then_some("/api/v1/census");
        for path in PATHS.into_iter().chain(dear) {
            match http.try_plain("GET", path, None)? {
                (200, answer) if path == "/api/v1/census" && answer["faults"] != 0 => {
                    stage.wrong(format!("the census has faults: {}", answer["listed"]));
                }
                (200, _) => stage.count("pages", 1),
                (status @ (429 | 503 | 507), _) => {
                    stage.count(if status == 507 { "pages refused, disk" } else { "pages refused" }, 1);
                }
                (status, answer) => stage.wrong(format!("{path} answers {status}: {answer}")),
            }
        }
        Ok(())
    }
}

/// Waits until no item waits; gives the census, or words where it has faults or misses items.
pub fn settled(admin: &str, stage: &Stage) -> Result<Value, String> {
    let http = Http::with_timeout(admin, ANSWER_MAX);
    let begun = Instant::now();
    loop {
        let census = match http.try_plain("GET", "/api/v1/census", None) {
            Ok((200, census)) => census,
            other => return Err(format!("there is no census: {other:?}")),
        };
        let waiting = census["waiting"].as_u64().unwrap_or(0);
        if waiting > 0 && begun.elapsed() < SETTLED_MAX {
            std::thread::sleep(AGAIN);
            continue;
        }
        let (items, sent) = (census["items"].as_u64().unwrap_or(0), stage.counted("items"));
        return match () {
            () if census["faults"] != 0 => Err(format!("the census has faults: {}", census["listed"])),
            () if items < sent => Err(format!("{items} of {sent} acknowledged items are there")),
            () => Ok(census),
        };
    }
}
