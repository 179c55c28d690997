//! The load generator against the real server, and against one that lies.

use std::process::Command;

use serde_json::Value;
use tests::{Server, program};

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
            .args(["--warmup", "0.2", "--admin", &admin])
            .args(args)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), serde_json::from_str::<Value>(&text).unwrap_or(Value::String(text)))
    };
    for args in [
        &["--bank-count", "20000"][..],
        &["--bank-count", "20000", "--rate", "5000", "--connections", "3"],
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
