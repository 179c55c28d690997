//! `hashward demo`: the whole way, on this machine, with the real programs.
//!
//! Every step uses what users use: `serve` as a child process, `hashward-loadtest`, the client, the admin
//! port. A step that does not do what it says ends the demo with an error.

mod child;
mod filing;
mod pictures;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use index::{Hash256, RequestId, Signal, UploadContext};
use ingest::media::{Limits, hash_picture};
use ingest::stdout::{Unwritten, try_line};
use ingest::wire::{Client, ClientOptions, Query};
use serde_json::{Value, json};

use self::child::Server;
use self::filing::StandIn;
use super::http::Api;
use crate::cli::Demo;

const RULES: &str = include_str!("demo/rules.toml");

/// The pictures: what is banked, what is uploaded, and whether that is a hit.
const BANKED: [(&str, &[u8]); 3] = [
    ("ridges.jpg", include_bytes!("../../pictures/ridges.jpg")),
    ("spheres.jpg", include_bytes!("../../pictures/spheres.jpg")),
    ("mosaic.png", include_bytes!("../../pictures/mosaic.png")),
];
const UPLOADED: [(&str, &[u8], bool); 4] = [
    ("ridges-edited.jpg", include_bytes!("../../pictures/ridges-edited.jpg"), true),
    ("spheres-edited.jpg", include_bytes!("../../pictures/spheres-edited.jpg"), true),
    ("mosaic.png", include_bytes!("../../pictures/mosaic.png"), true),
    ("dusk.jpg", include_bytes!("../../pictures/dusk.jpg"), false),
];

/// The user whose posts they are.
const USER: &str = "user-17";

/// Shows everything; stays up until Ctrl-C unless told to exit.
pub fn run(args: Demo) -> Result<ExitCode> {
    let folder = tempfile::tempdir().context("no temporary folder can be made")?;
    let data = folder.path().join("data");
    let rules = folder.path().join("rules.toml");
    std::fs::write(&rules, RULES)?;
    let loadtest = sibling("hashward-loadtest")?;

    step(1, "build")?;
    match std::env::var("HASHWARD_BUILD_SECONDS") {
        Ok(seconds) => say(&format!("release build took {seconds} s"))?,
        Err(_) => say("built before (make demo measures it)")?,
    }

    step(2, "start the server on an empty data directory, and a stand-in for NCMEC")?;
    let ncmec = StandIn::start()?;
    say(&format!("NCMEC's stand-in at {}: nothing is reported to anybody", ncmec.url))?;
    let server = Server::start(&data, &rules, &ncmec.url)?;
    say(&format!(
        "ready in {:.2} s; binary port {}, admin http://{}",
        server.seconds, server.listen, server.admin
    ))?;
    let api = Api::new(&format!("http://{}", server.admin));

    step(3, "seed a bank, durably")?;
    let count = args.hashes.to_string();
    let admin = format!("http://{}", server.admin);
    say(&tool(
        &loadtest,
        &["seed", "--admin", &admin, "--bank", "DEMO_HASHES", "--count", &count, "--seed", "1"],
    )?)?;

    step(4, "hash pictures and bank them")?;
    api.post("/api/v1/banks", &json!({ "name": "DEMO_PICTURES" }))?;
    for (name, bytes) in BANKED {
        let picture = hash_picture(bytes, &Limits::default()).with_context(|| name.to_string())?;
        let pdq = Signal::Pdq(picture.hash).to_string();
        api.post(
            "/api/v1/banks/DEMO_PICTURES/contents",
            &json!({ "signals": { "pdq": pdq }, "note": name }),
        )?;
        say(&format!("{name:<20} quality {:>3}  {pdq}", picture.quality))?;
    }

    step(5, "look up a stream: planted near-duplicates among misses, every answer checked")?;
    let lookup = load(&loadtest, &server, args.hashes, &["--mode", "lookup", "--duration", "4"])?;
    show_load(&lookup)?;

    step(6, "submit a stream: every hit durable before its answer")?;
    let submit =
        load(&loadtest, &server, args.hashes, &["--mode", "submit", "--rate", "20000", "--duration", "3"])?;
    show_load(&submit)?;

    step(7, "upload edited pictures")?;
    let request = RequestId::fresh();
    let position = upload(server.client(), request)?;

    step(8, "what the rules did")?;
    settled(&api)?;
    show_queues(&api)?;

    step(9, "a platform tells of a user's posts; a reviewer decides")?;
    filing::organisation(&api)?;
    review(&api)?;

    step(10, "the decision becomes a CyberTip")?;
    filing::file(&ncmec, USER)?;
    let before = settled(&api)?;

    step(11, "kill -9, restart, recover")?;
    let address = server.kill()?;
    let server = Server::start(&data, &rules, &ncmec.url)?;
    let api = Api::new(&format!("http://{}", server.admin));
    let after = settled(&api)?;
    say(&format!("killed {address}; ready again in {:.2} s", server.seconds))?;
    ensure!(before == after, "before the kill {before:?}, after it {after:?}");
    say(&format!(
        "{} contents, {} hits, each in one job, {} report filed: all there, none twice",
        after.contents, after.hits, after.filed
    ))?;
    say(&format!("NCMEC has report {}, and no other", ncmec.has_one(USER)?))?;
    let again = upload(server.client(), request)?;
    ensure!(position == again, "a replayed upload was logged at {again}, first at {position}");
    say("the same upload sent again gave its first answer, and logged nothing")?;

    try_line(format_args!(
        "\nAll steps succeeded.\nAdmin: http://{}  (try /api/v1/queues, /api/v1/hits?before=999999999, /metrics)",
        server.admin
    ))?;
    if !args.exit {
        try_line(format_args!("Ctrl-C ends it."))?;
        // Waited for here, so that the temporary folder goes as well.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(tokio::signal::ctrl_c())?;
        drop(server);
    }
    Ok(ExitCode::SUCCESS)
}

fn step(number: u32, words: &str) -> Result<(), Unwritten> {
    try_line(format_args!("\n{number}. {words}"))
}

fn say(words: &str) -> Result<(), Unwritten> {
    words.lines().try_for_each(|line| try_line(format_args!("   {line}")))
}

/// A program built beside this one.
fn sibling(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(
        path.is_file(),
        "{} is not there: build it with `cargo build --release -p loadtest -p tests --bins`",
        path.display()
    );
    Ok(path)
}

fn tool(program: &Path, args: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(args)
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "{} {} ended with {}:\n{text}{}",
            program.display(),
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(text.trim_end().to_string())
}

fn load(loadtest: &Path, server: &Server, hashes: u64, more: &[&str]) -> Result<Value> {
    let (address, hashes) = (server.listen.to_string(), hashes.to_string());
    let mut args = vec!["run", "--addr", &address, "--batch", "64", "--connections", "1", "--depth", "1"];
    // On a busy machine the rate is the generator's; every answer is checked all the same.
    args.extend(["--bank-seed", "1", "--bank-count", &hashes, "--json", "-", "--allow-generator-bound"]);
    args.extend(more);
    Ok(serde_json::from_str(&tool(loadtest, &args)?)?)
}

fn show_load(result: &Value) -> Result<(), Unwritten> {
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    say(&format!(
        "{:.0} lookups/s; a frame of 64: p50 {:.0} µs, p99 {:.0} µs ({}, {} kernel, {})",
        number(&result["lookups_per_s"]),
        number(&result["latency_us"]["p50"]),
        number(&result["latency_us"]["p99"]),
        result["mode"].as_str().unwrap_or(""),
        result["server"]["kernel"].as_str().unwrap_or(""),
        result["server"]["reactor"].as_str().unwrap_or(""),
    ))?;
    if let Some(reason) = result["generator_bound"].as_str() {
        say(&format!("the machine was busy, so these are no figures of the server: {reason}"))?;
    }
    say(&format!(
        "hits: {} expected, {} found, {} false",
        result["hits_expected"], result["hits_found"], result["false_hits"]
    ))?;
    Ok(())
}

/// Submits the pictures; gives the log position of the first hit.
fn upload(mut client: Client, request: RequestId) -> Result<u64> {
    let mut hashes: Vec<Hash256> = Vec::new();
    let mut contexts = Vec::new();
    for (at, (name, bytes, _)) in UPLOADED.iter().enumerate() {
        hashes.push(hash_picture(bytes, &Limits::default()).with_context(|| name.to_string())?.hash);
        let context = UploadContext {
            item_id: Some(format!("upload-{at}")),
            item_type: Some(if at == 0 { "avatar" } else { "photo" }.to_string()),
            creator: Some(USER.to_string()),
            ..UploadContext::default()
        };
        contexts.push((at as u32, context));
    }
    let (answer, receipt) = client.submit(request, Query::pdq(hashes), contexts)?;
    let verdicts = ["none", "log", "review", "block"];
    for (at, (name, _, is_hit)) in UPLOADED.iter().enumerate() {
        let hit = answer.hits.iter().find(|hit| hit.hash as usize == at);
        ensure!(hit.is_some() == *is_hit, "{name}: a hit was {}expected", if *is_hit { "" } else { "not " });
        match hit {
            Some(hit) => say(&format!(
                "{name:<20} {} bits from {} in {}: {}",
                hit.matches[0].distance,
                hit.matches[0].content,
                hit.matches[0].bank_name,
                verdicts.get(usize::from(hit.verdict)).unwrap_or(&"?"),
            ))?,
            None => say(&format!("{name:<20} no match"))?,
        }
    }
    Ok(receipt.first_position.0)
}

/// What must survive a crash.
#[derive(Debug, PartialEq)]
struct Census {
    contents: u64,
    hits: u64,
    in_jobs: u64,
    filed: u64,
}

/// Waits until every hit of the log is in a job, every decision to report is filed, and nothing waits; and counts.
fn settled(api: &Api) -> Result<Census> {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let banks = api.get("/api/v1/banks")?;
        let cases = api.get("/api/v1/census")?;
        ensure!(cases["faults"] == 0, "something is not in one place: {}", cases["listed"]);
        let count = |field: &str| cases[field].as_u64().unwrap_or(0);
        let contents =
            banks.as_array().into_iter().flatten().filter_map(|row| row["contents"].as_u64()).sum();
        let (hits, in_jobs) = (count("hits"), count("hits_in_jobs"));
        let census = Census { contents, hits, in_jobs, filed: count("filed") };
        if hits == in_jobs && count("waiting") == 0 && count("filings") == 0 {
            return Ok(census);
        }
        ensure!(Instant::now() < until, "router or reporter do not catch up: {cases}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Sends posts of one user by the items API, takes the job that comes of them, and decides it.
fn review(api: &Api) -> Result<()> {
    let platform: SocketAddr = pictures::serve(UPLOADED.map(|(name, bytes, _)| (name, bytes)).to_vec())?;
    let author = json!({ "id": USER, "typeId": "user" });
    let mut items = Vec::new();
    for (at, (name, _, _)) in UPLOADED.iter().enumerate() {
        let data =
            json!({ "text": name, "pictures": [format!("http://{platform}/{name}")], "author": author });
        items.push(json!({ "id": format!("post-{at}"), "typeId": "post", "data": data }));
    }
    api.post("/api/v1/items/async/", &json!({ "items": items }))?;
    say(&format!("{} posts taken: durable when that was answered", items.len()))?;
    settled(api)?;
    let job = api.post("/api/v1/queues/ncmec/next", &json!({ "reviewer": "demo" }))?;
    let media = api.get(&format!("/api/v1/jobs/{}/media", job["id"]))?;
    let media = media["entries"].as_array().cloned().unwrap_or_default();
    let matched = |media: &Value| media["matches"].as_array().is_some_and(|found| !found.is_empty());
    say(&format!(
        "one NCMEC job about {}: {} media, {} of them matched ({})",
        job["subject"]["id"],
        media.len(),
        media.iter().filter(|media| matched(media)).count(),
        job["reasons"][0]["words"].as_str().unwrap_or("")
    ))?;
    let decided: Vec<Value> = media
        .iter()
        .map(|media| {
            let class = if matched(media) { "Unclassified" } else { "none" };
            json!({ "media": media["number"], "classification": class })
        })
        .collect();
    let decision = json!({ "decision": "report", "lease": job["lease"]["token"], "revision": job["revision"],
        "incident_type": "Child Pornography (possession, manufacture, and distribution)", "media": decided });
    api.post(&format!("/api/v1/jobs/{}/decision", job["id"]), &decision)?;
    say("decided: it is to be reported from the same commit on")?;
    Ok(())
}

fn show_queues(api: &Api) -> Result<()> {
    let metrics = api.text("/metrics")?;
    for line in metrics.lines().filter(|line| line.starts_with("hashward_rule_hits_total{")) {
        say(&format!("rule {}", line.trim_start_matches("hashward_rule_hits_total")))?;
    }
    for queue in api.get("/api/v1/queues")?.as_array().into_iter().flatten() {
        say(&format!(
            "queue {:<12} {} jobs of {} hits",
            queue["name"].as_str().unwrap_or(""),
            queue["jobs"],
            queue["hits"]
        ))?;
        let path = format!("/api/v1/queues/{}?limit=1", queue["name"].as_str().unwrap_or(""));
        if let Some(first) = api.get(&path)?["jobs"].as_array().and_then(|jobs| jobs.first().cloned()) {
            say(&format!("   first: {first}"))?;
        }
    }
    Ok(())
}

impl Server {
    fn client(&self) -> Client {
        Client::new(self.listen, ClientOptions::default())
    }
}
