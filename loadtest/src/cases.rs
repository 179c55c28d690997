//! Items through rules, and reviewers asking for work: what is sent is known, and what came of it is counted.
//!
//! `items`: how many items a second are taken, matched, seen by rules and settled, from the first request to the moment
//! when nothing waits any more. Their media are hashed before: this is not the hasher's measure.
//! `jobs`: how long 'next job' takes while so many jobs are open, for so many reviewers at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use index::{RequestId, Signal, UploadContext};
use ingest::out;
use ingest::wire::{Client, ClientOptions, Query};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::plan::{Items, Jobs, token};
use crate::seed::Api;
use crate::workload::BankHashes;

/// How long everything may take to be settled.
const SETTLED_MAX: Duration = Duration::from_secs(600);

/// `hashward-loadtest items`
pub fn items(plan: &Items) -> Result<()> {
    let api = Api::new(&plan.admin);
    describe(&api)?;
    rules(&api, plan.rules, &plan.bank)?;
    let before = census(&api)?;
    let (bodies, matching) = bodies(plan);
    let next = AtomicU64::new(0);
    let started = Instant::now();
    let taken = thread::scope(|scope| -> Result<Duration> {
        let sending: Vec<_> = (0..plan.connections)
            .map(|_| {
                let (bodies, next) = (&bodies, &next);
                scope.spawn(move || -> Result<()> {
                    let api = Api::new(&plan.admin);
                    while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                        loop {
                            match api.post_text("/api/v1/items/async/", body)? {
                                (202, _) => break,
                                (503, _) => thread::sleep(Duration::from_millis(5)), // as it asks for
                                (status, answer) => bail!("items were refused: {answer} (HTTP {status})"),
                            }
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        for thread in sending {
            thread.join().map_err(|_| anyhow::anyhow!("a sender panicked"))??;
        }
        Ok(started.elapsed())
    })?;
    let settled = settle(&api, started)?;
    let after = census(&api)?;
    let grown = |field: &str| after[field].as_u64().unwrap_or(0) - before[field].as_u64().unwrap_or(0);
    let rate = |time: Duration| plan.count as f64 / time.as_secs_f64();
    out!(
        "{} items through {} live rules: taken {:.0} a second, settled {:.0} a second ({:.2} s)",
        plan.count,
        plan.rules,
        rate(taken),
        rate(settled),
        settled.as_secs_f64()
    );
    out!("{} matched, {} hits in jobs, {} faults", matching, grown("hits_in_jobs"), after["faults"]);
    ensure!(grown("items") == plan.count, "{} items are there, {} were sent", grown("items"), plan.count);
    ensure!(
        grown("hits_in_jobs") == matching,
        "{} hits are in jobs, {matching} matched",
        grown("hits_in_jobs")
    );
    ensure!(after["faults"] == 0, "{}", after["listed"]);
    Ok(())
}

fn describe(api: &Api) -> Result<()> {
    let post = json!({ "kind": "CONTENT", "fields": [
        { "name": "text", "type": "STRING", "required": true },
        { "name": "likes", "type": "NUMBER" },
        { "name": "language", "type": "STRING" },
        { "name": "author", "type": "RELATED_ITEM" },
        { "name": "pictures", "type": "IMAGE", "container": "ARRAY" }
    ], "roles": { "creatorId": "author" } });
    done(api.put_json("/api/v1/item-types/loadtest", &post)?)
}

/// Live rules of every sort, none of which takes what the others' results would hide.
fn rules(api: &Api, count: u64, bank: &str) -> Result<()> {
    done(api.put_json(
        "/api/v1/webhooks/loadtest",
        &json!({ "url": "http://127.0.0.1:9/", "enabled": false }),
    )?)?;
    for number in 0..count {
        let field = |name: &str, comparator: &str, value: Value| json!({ "field": name, "comparator": comparator, "value": value });
        let condition = match number % 5 {
            0 => {
                json!([{ "hash_match": { "banks": [bank], "distance_max": 31 } }, field("likes", "GREATER_THAN", json!(1_000_000 + number))])
            }
            1 => json!([
                field("text", "CONTAINS", json!(format!("never {number}"))),
                field("language", "EQUALS", json!("de"))
            ]),
            2 => json!([field("text", "MATCHES", json!(format!("^x+{number}$"))), { "sample_percent": 50 }]),
            3 => {
                json!([{ "input": "author", "comparator": "EQUALS", "values": [format!("nobody{number}"), "nobody"] }])
            }
            _ => json!([field("likes", "LESS_THAN", json!(0)), { "hash_match": { "banks": [bank] } }]),
        };
        let when = json!({ "conjunction": "AND", "conditions": condition });
        let actions = json!([{ "webhook": { "name": "loadtest" } }]);
        let rule = json!({ "kind": "proactive", "state": "live", "when": when, "actions": actions });
        done(api.put_json(&format!("/api/v1/rules/loadtest-{number}"), &rule)?)?;
    }
    Ok(())
}

fn done((status, answer): (u16, Value)) -> Result<()> {
    ensure!((200..300).contains(&status), "{answer} (HTTP {status})");
    Ok(())
}

/// The requests, made before the clock runs; and how many of their items match.
fn bodies(plan: &Items) -> (Vec<String>, u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
    let (mut banked, mut others) = (BankHashes::new(plan.bank_seed), BankHashes::new(plan.seed ^ 0x5eed));
    let run = RequestId::fresh();
    let (mut matching, mut bodies) = (0, Vec::new());
    for first in (0..plan.count).step_by(plan.batch) {
        let last = plan.count.min(first + plan.batch as u64);
        let items: Vec<Value> = (first..last)
            .map(|at| {
                let hit = rng.random_bool(plan.hit_ratio);
                matching += u64::from(hit);
                let hash = if hit { banked.get(at % plan.bank_count) } else { others.get(at) };
                json!({ "id": format!("{run}-{at}"), "typeId": "loadtest", "data": {
                    "text": "some words that somebody has written under a picture of theirs", "likes": at % 1000,
                    "language": "en", "author": { "id": format!("user{}", at % 10_000), "typeId": "user" },
                    "pictures": [{ "url": format!("https://cdn.example/{at}.jpg"), "signals": { "pdq": Signal::Pdq(hash).to_string() } }]
                } })
            })
            .collect();
        bodies.push(json!({ "items": items }).to_string());
    }
    (bodies, matching)
}

fn census(api: &Api) -> Result<Value> {
    let (status, answer) = api.get("/api/v1/census")?;
    ensure!(status == 200, "{answer} (HTTP {status})");
    Ok(answer)
}

/// Waits until nothing waits; gives the time since the start.
fn settle(api: &Api, started: Instant) -> Result<Duration> {
    loop {
        let (_, waiting) = api.get("/api/v1/intake?limit=1")?;
        let metrics = api.metrics()?;
        let value = |name: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("{}"));
            line.and_then(|value| value.trim().parse::<f64>().ok()).unwrap_or(0.0)
        };
        let routed = value("hashward_router_position") >= value("hashward_log_position");
        if waiting["entries"].as_array().is_some_and(Vec::is_empty) && routed {
            return Ok(started.elapsed());
        }
        ensure!(started.elapsed() < SETTLED_MAX, "items wait: {waiting}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// `hashward-loadtest jobs`
pub fn jobs(plan: &Jobs) -> Result<()> {
    let api = Api::new(&plan.admin);
    fill(plan, &api)?;
    let queue = api.get("/api/v1/queues")?.1;
    let queue =
        queue.as_array().and_then(|queues| queues.iter().find(|queue| queue["name"] == plan.queue.as_str()));
    let queue = queue.cloned().with_context(|| format!("there is no queue {}", plan.queue))?;
    out!("queue {}: {} open jobs of {} hits", plan.queue, queue["jobs"], queue["hits"]);
    let lent = std::sync::Mutex::new(std::collections::BTreeSet::new());
    let started = Instant::now();
    let latency = thread::scope(|scope| -> Result<Histogram<u64>> {
        let asking: Vec<_> = (0..plan.reviewers)
            .map(|number| {
                let lent = &lent;
                scope.spawn(move || review(plan, number, lent))
            })
            .collect();
        let mut all = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        for thread in asking {
            all.add(thread.join().map_err(|_| anyhow::anyhow!("a reviewer panicked"))??)?;
        }
        Ok(all)
    })?;
    let ms = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1000.0;
    out!(
        "{} reviewers, {} jobs lent and decided ({:.0} a second): next job p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        plan.reviewers,
        latency.len(),
        latency.len() as f64 / started.elapsed().as_secs_f64(),
        ms(0.5),
        ms(0.99),
        latency.max() as f64 / 1000.0
    );
    let faults = census(&api)?;
    ensure!(faults["faults"] == 0, "{}", faults["listed"]);
    Ok(())
}

/// Submits hits of items, so many each, until there are that many.
fn fill(plan: &Jobs, api: &Api) -> Result<()> {
    if plan.hits == 0 {
        return Ok(());
    }
    let mut client = Client::new(plan.addr, ClientOptions { token: token(), ..ClientOptions::default() });
    let mut banked = BankHashes::new(plan.bank_seed);
    let (run, started) = (RequestId::fresh(), Instant::now());
    for first in (0..plan.hits).step_by(plan.batch) {
        let numbers = first..plan.hits.min(first + plan.batch as u64);
        let hashes = numbers.clone().map(|at| banked.get(at % plan.bank_count)).collect();
        let contexts = numbers.clone().enumerate().map(|(place, at)| {
            let item_id = Some(format!("{run}-{}", at / plan.hits_per_job));
            (place as u32, UploadContext { item_id, ..UploadContext::default() })
        });
        let (answer, _) = client.submit(RequestId::fresh(), Query::pdq(hashes), contexts.collect())?;
        ensure!(
            answer.hits.len() as u64 == numbers.end - numbers.start,
            "not every hash is banked: seed the bank first"
        );
    }
    let seconds = settle(api, started)?.as_secs_f64();
    out!(
        "{} hits submitted and routed in {seconds:.1} s ({:.0} a second)",
        plan.hits,
        plan.hits as f64 / seconds
    );
    Ok(())
}

/// One reviewer: asks, ignores, asks again. Times how long 'next' takes.
fn review(
    plan: &Jobs,
    number: u64,
    lent: &std::sync::Mutex<std::collections::BTreeSet<u64>>,
) -> Result<Histogram<u64>> {
    let api = Api::new(&plan.admin);
    let mut latency = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    let path = format!("/api/v1/queues/{}/next", plan.queue);
    for _ in 0..plan.each {
        let asked = Instant::now();
        let (status, job) = api.post_json(&path, &json!({ "reviewer": format!("reviewer {number}") }))?;
        latency.record(asked.elapsed().as_micros() as u64)?;
        if status == 204 {
            break;
        }
        ensure!(status == 200, "{job} (HTTP {status})");
        let id = job["id"].as_u64().context("a job has a number")?;
        let new = lent.lock().map_err(|_| anyhow::anyhow!("a reviewer panicked"))?.insert(id);
        ensure!(new, "job {id} was lent to two reviewers");
        let decision =
            json!({ "decision": "ignore", "lease": job["lease"]["token"], "revision": job["revision"] });
        done(api.post_json(&format!("/api/v1/jobs/{id}/decision"), &decision)?)?;
    }
    Ok(latency)
}
