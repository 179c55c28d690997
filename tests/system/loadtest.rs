//! The load generator against the real server, and against one that lies.

use std::process::Command;

use serde_json::Value;
use tests::{Hma, Server, program};

#[test]
fn a_seeded_bank_is_found_as_the_generator_knows_it() {
    let server = Server::start();
    let admin = format!("http://{}", server.admin);
    let seed = |count: &str| {
        Command::new(program("hashward-loadtest"))
            .args(["seed", "--admin", &admin, "--bank", "SEEDED", "--count", count, "--seed", "3"])
            .output()
            .unwrap()
    };
    assert!(seed("20000").status.success());
    let run = |args: &[&str]| {
        let output = Command::new(program("hashward-loadtest"))
            .args([
                "run",
                "--addr",
                &server.listen.to_string(),
                "--bank-seed",
                "3",
                "--duration",
                "1",
                "--json",
                "-",
            ])
            .args(["--warmup", "0.2", "--admin", &admin, "--allow-generator-bound"])
            .args(args)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), serde_json::from_str::<Value>(&text).unwrap_or(Value::String(text)))
    };
    for args in [
        &["--bank-count", "20000"][..],
        &["--bank-count", "20000", "--rate", "5000", "--connections", "3"],
        &["--bank-count", "20000", "--rate", "5000", "--arrivals", "poisson"],
        &["--bank-count", "20000", "--mode", "submit", "--batch", "16"],
    ] {
        let (code, result) = run(args);
        assert_eq!(code, Some(0), "{args:?}: {result}");
        let number = |name: &str| result[name].as_u64().unwrap();
        assert!(number("hits_expected") > 20 && number("hits_expected") == number("hits_found"), "{result}");
        assert_eq!((number("false_hits"), number("errors")), (0, 0), "{result}");
        assert_eq!(result["server"]["hashes"].as_u64(), Some(20000), "{result}");
    }
    // A generator that believes in more hashes than there are must miss some, and say so.
    let (code, result) = run(&["--bank-count", "40000"]);
    assert_eq!(code, Some(1), "{result}");
    assert!(result["hits_found"].as_u64() < result["hits_expected"].as_u64());
    // And one that believes in another bank sees every hit as missing.
    let (code, _) = run(&["--bank-count", "20000", "--bank-seed", "4"]);
    assert_ne!(code, Some(0));
}

#[test]
fn a_million_hashes_are_searched_without_a_miss_or_a_false_hit() {
    let server = Server::start();
    let admin = format!("http://{}", server.admin);
    let loadtest = |args: &[&str]| Command::new(program("hashward-loadtest")).args(args).output().unwrap();
    assert!(
        loadtest(&["seed", "--admin", &admin, "--bank", "MILLION", "--count", "1000000"]).status.success()
    );
    let address = server.listen.to_string();
    let output =
        loadtest(&["run", "--addr", &address, "--bank-count", "1000000", "--duration", "4", "--json", "-"]);
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{result}");
    assert!(result["hits_expected"].as_u64() > Some(500), "{result}");
    println!("{} of {} planted hits among a million", result["hits_found"], result["hits_expected"]);
}

#[test]
fn a_generator_that_is_the_bottleneck_says_so_and_reports_nothing() {
    let server = Server::start();
    let (listen, folder) = (server.listen.to_string(), tempfile::tempdir().unwrap());
    let run = |args: &[&str]| {
        let fixed = ["--addr", &listen, "--duration", "0.5", "--warmup", "0"];
        Command::new(program("hashward-loadtest")).arg("run").args(fixed).args(args).output().unwrap()
    };
    // Ten million single hashes a second are more than one thread can send.
    let result = folder.path().join("result").display().to_string();
    let absurd = ["--rate", "10000000", "--batch", "1", "--connections", "1", "--json", &result];
    let output = run(&absurd);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(3), true), "{words}");
    assert!(words.contains("limited by its generator") && !std::path::Path::new(&result).exists(), "{words}");
    let output = run(&[&absurd[..], &["--allow-generator-bound"]].concat());
    assert_eq!(output.status.code(), Some(0));
    let shown: Value = serde_json::from_slice(&std::fs::read(&result).unwrap()).unwrap();
    assert!(shown["generator_bound"].as_str().is_some(), "{shown}");

    let compare = |first: &str, second: &str, more: &[&str]| {
        let output = Command::new(program("hashward-loadtest"))
            .args(["compare", first, second])
            .args(more)
            .output()
            .unwrap();
        let words = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&words).into_owned())
    };
    let (code, words) = compare(&result, &result, &[]);
    assert!(
        code == Some(0) && words.contains("1.000") && words.contains("limited by its generator"),
        "{words}"
    );
    let other = folder.path().join("other").display().to_string();
    assert_eq!(run(&["--batch", "8", "--json", &other, "--allow-generator-bound"]).status.code(), Some(0));
    let (code, words) = compare(&result, &other, &[]);
    assert!(code == Some(2) && words.contains("differ in mode, batch"), "{words}");
    assert_eq!(compare(&result, &other, &["--anyway"]).0, Some(0));
}

#[test]
fn a_sweep_finds_the_rate_within_a_latency() {
    let server = Server::start();
    let sweep = |args: &[&str]| {
        let output = Command::new(program("hashward-loadtest"))
            .args(["sweep", "--addr", &server.listen.to_string(), "--duration", "0.3", "--warmup", "0"])
            .args(args)
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default(), words)
    };
    let (code, points, words) = sweep(&["--from", "1000", "--to", "4000", "--steps", "3"]);
    assert_eq!(code, Some(0), "{words}");
    let offered: Vec<u64> = points
        .as_array()
        .unwrap()
        .iter()
        .map(|point| point["offered_per_s"].as_f64().unwrap() as u64)
        .collect();
    assert_eq!(offered, [1000, 2000, 4000]);
    // A minute for a frame is always kept, so the search ends near the top.
    let (code, points, words) =
        sweep(&["--from", "1000", "--to", "4000", "--steps", "2", "--p99-us", "60000000"]);
    assert_eq!((code, points.as_array().map(Vec::len)), (Some(0), Some(3)), "{words}");
    assert!(words.contains("highest rate with a p99 within"), "{words}");
    let (code, _, words) = sweep(&["--from", "1000", "--to", "10"]);
    assert!(code == Some(2) && words.contains("--from is above 0"), "{words}");
}

#[test]
fn hma_is_driven_by_the_same_generator_and_judged_by_the_same_truth() {
    let hma = Hma::start();
    let url = format!("http://{}", hma.address);
    let loadtest = |args: &[&str]| {
        let output = Command::new(program("hashward-loadtest")).args(args).output().unwrap();
        let words = String::from_utf8_lossy(&[output.stdout.clone(), output.stderr].concat()).into_owned();
        (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default(), words)
    };
    let (code, _, words) =
        loadtest(&["seed", "--hma", &url, "--bank", "LOAD", "--count", "500", "--seed", "3"]);
    assert!(code == Some(0) && words.contains("in the index"), "{words}");
    let page = tempfile::NamedTempFile::new().unwrap();
    let shown = page.path().display().to_string();
    let run = |args: &[&str]| {
        let fixed =
            ["run", "--hma", &url, "--bank-seed", "3", "--bank-count", "500", "--duration", "1", "--warmup"];
        loadtest(&[&fixed[..], &["0.1", "--json", "-", "--allow-generator-bound"], args].concat())
    };
    for args in [&["--connections", "3", "--html", &shown][..], &["--rate", "100", "--arrivals", "poisson"]] {
        let (code, result, words) = run(args);
        assert_eq!(code, Some(0), "{words}");
        let number = |name: &str| result[name].as_u64().unwrap();
        assert!(number("hits_expected") > 2 && number("hits_expected") == number("hits_found"), "{words}");
        assert_eq!((number("false_hits"), number("errors"), number("batch")), (0, 0, 1), "{words}");
        assert_eq!(result["server"]["hashes"], 500, "{words}");
    }
    let page = std::fs::read_to_string(page.path()).unwrap();
    assert_eq!(page.matches("<svg").count(), 3, "{page}");
    hma.forgets.store(3, std::sync::atomic::Ordering::Relaxed);
    let (code, result, words) = run(&[]);
    assert!(code == Some(1) && result["hits_found"].as_u64() < result["hits_expected"].as_u64(), "{words}");
    let (code, _, words) = loadtest(&["run", "--hma", "http://127.0.0.1:9", "--duration", "1"]);
    assert!(code == Some(2) && words.contains("no answer from"), "{words}");
}

#[test]
fn rates_of_a_server_that_falls_behind_are_by_the_time_that_passed() {
    let hma = Hma::start();
    let url = format!("http://{}", hma.address);
    hma.slow_ms.store(20, std::sync::atomic::Ordering::Relaxed);
    let output = Command::new(program("hashward-loadtest"))
        .args(["run", "--hma", &url, "--duration", "0.5", "--warmup", "0", "--connections", "1"])
        .args(["--rate", "200", "--json", "-", "--allow-generator-bound"])
        .output()
        .unwrap();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |name: &str| result[name].as_f64().unwrap();
    // A hundred were due in half a second, and took two: 20 ms each, one after another.
    assert_eq!((number("answered"), number("planned_s")), (100.0, 0.5), "{result}");
    assert!(number("duration_s") >= 2.0 && number("lookups_per_s") <= 50.0, "{result}");
}
