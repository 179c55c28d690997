//! `hashward scan`: a file of very many hashes against the banks of a running server.
//!
//! The file is read in parts; as many parts as the machine has CPUs are under way at once. Answers are written in
//! the file's order. After each part the output is synced and a small file beside it says how far it is: the same
//! command again goes on from there.

mod progress;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal};
use std::process::ExitCode;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use index::{Hash256, Signal, SignalType};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ingest::import::{ImportError, Records};
use ingest::{note, out};
use serde_json::{Value, json};

use super::http::Api;
use crate::cli::Scan;
use progress::Progress;

/// Bad lines that are shown; all are counted.
const BAD_SHOWN: u64 = 20;

/// A part of the file: its hashes with their lines.
#[derive(Default)]
struct Part {
    hashes: Vec<Hash256>,
    lines: Vec<u64>,
    bad: u64,
}

/// A part with the lines the server answered.
type Answered = (Part, Vec<Value>);

/// Scans the file.
pub fn run(args: Scan) -> Result<ExitCode> {
    let begun = Instant::now();
    let file = File::open(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let size = file.metadata()?.len();
    let mut progress = Progress::open(&args.out, &args.file, size, args.threshold)?;
    if progress.lines > 0 {
        note!("goes on behind line {} of {}", progress.lines, args.file.display());
    }
    let bar = bar(&args, size);
    let mut records = Records::open(BufReader::new(bar.wrap_read(file)), None, SignalType::Pdq)?;
    let threads =
        args.threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from)).max(1);
    let mut under_way: VecDeque<JoinHandle<Result<Answered>>> = VecDeque::new();
    let (from, before, mut shown) = (progress.lines, progress.hashes, 0);
    loop {
        let part = read_part(&mut records, from, args.part.max(1), &mut shown)?;
        let (ended, part_bad) = (part.hashes.is_empty(), part.bad);
        if !ended {
            let path = format!(
                "/api/v1/scan?limit={}{}",
                args.limit,
                args.threshold.map_or_else(String::new, |bits| format!("&threshold={bits}"))
            );
            let server = args.server.admin.clone();
            under_way.push_back(thread::spawn(move || ask(&server, &path, part)));
        }
        while under_way.len() >= threads || (ended && !under_way.is_empty()) {
            let Some(first) = under_way.pop_front() else { break };
            let (part, hits) = first.join().map_err(|_| anyhow!("a scanning thread panicked"))??;
            write(&mut progress, &part, hits)?;
        }
        if ended {
            progress.bad += part_bad;
            break;
        }
    }
    bar.finish_and_clear();
    let seconds = begun.elapsed().as_secs_f64();
    let summary = json!({
        "hashes": progress.hashes,
        "hits": progress.hits,
        "bad_lines": progress.bad,
        "seconds": seconds,
        "hashes_per_s": (progress.hashes - before) as f64 / seconds,
        "out": args.out,
    });
    progress.finish()?;
    out!("{summary}");
    Ok(ExitCode::SUCCESS)
}

/// Reads lines behind `from` until the part is full or the file ends.
fn read_part<R: BufRead>(records: &mut Records<R>, from: u64, size: usize, shown: &mut u64) -> Result<Part> {
    let mut part = Part::default();
    while part.hashes.len() < size {
        match records.next() {
            None => break,
            Some(Ok(record)) if record.line <= from => {}
            Some(Ok(record)) => {
                let Signal::Pdq(hash) = record.signal else {
                    bail!("line {} is not a PDQ hash", record.line)
                };
                part.hashes.push(hash);
                part.lines.push(record.line);
            }
            Some(Err(ImportError::Line(line))) if line.line <= from => {}
            Some(Err(ImportError::Line(line))) => {
                part.bad += 1;
                *shown += 1;
                if *shown <= BAD_SHOWN {
                    note!("{line}");
                }
            }
            Some(Err(error)) => return Err(error.into()),
        }
    }
    Ok(part)
}

/// One request; its answer must be whole.
fn ask(server: &str, path: &str, part: Part) -> Result<Answered> {
    let body: Vec<u8> = part.hashes.iter().flat_map(|hash| hash.0).collect();
    let mut response = Api::new(server).post_bytes(path, body)?;
    let mut hits = Vec::new();
    for line in BufReader::new(response.body_mut().as_reader()).lines() {
        let line: Value = serde_json::from_str(&line?).context("the server's answer is not NDJSON")?;
        if line["done"] == true {
            return Ok((part, hits));
        }
        hits.push(line);
    }
    bail!("the server's answer broke off: start the same command again, it goes on where it was")
}

/// Writes what a part found, then how far the scan is.
fn write(progress: &mut Progress, part: &Part, hits: Vec<Value>) -> Result<()> {
    let mut text = String::new();
    for mut hit in hits {
        let index = hit["index"].as_u64().and_then(|index| usize::try_from(index).ok());
        let index = index
            .filter(|index| *index < part.hashes.len())
            .context("the server names a hash it was not sent")?;
        let hit = hit.as_object_mut().context("the server's answer is no object")?;
        hit.remove("index");
        hit.insert("line".into(), part.lines[index].into());
        hit.insert("signal".into(), Signal::Pdq(part.hashes[index]).to_string().into());
        text.push_str(&serde_json::to_string(hit)?);
        text.push('\n');
        progress.hits += 1;
    }
    progress.bad += part.bad;
    progress.hashes += part.hashes.len() as u64;
    progress.lines = part.lines.last().copied().unwrap_or(progress.lines);
    progress.append(text.as_bytes())
}

fn bar(args: &Scan, size: u64) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() && !args.quiet {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(size), target);
    if let Ok(style) =
        ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left")
    {
        bar.set_style(style);
    }
    bar
}
