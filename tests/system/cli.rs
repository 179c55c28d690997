//! The command line, as a user types it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tests::{Server, hex, program};

use crate::banks::random_hashes;

fn hashward(args: &[&str]) -> Output {
    Command::new(program("hashward")).args(args).env_remove("HASHWARD_TOKEN").output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn files_are_hashed_a_line_each() {
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/pictures");
    let path = |name: &str| pictures.join(name).display().to_string();
    let output = hashward(&["hash", &path("ridges.jpg"), &path("mosaic.png"), &path("README.md")]);
    let lines = lines(&output);
    // Pinned: a change of decoder or hasher must not go unseen.
    for (line, pdq) in lines.iter().zip([
        "ebb8cc1e1a5615e0bfa0e1144a7bdacb984ca33de7146b4b2b4ba7d8a0195db4",
        "5f438255207eb1f49ca32e062fbd16ad8bb5e2cdeac9b071a4166834f11ebf09",
    ]) {
        assert_eq!((line["pdq"].as_str(), line["quality"].as_u64()), (Some(pdq), Some(100)), "{line}");
        assert_eq!((line["md5"].as_str().unwrap().len(), line["sha256"].as_str().unwrap().len()), (32, 64));
    }
    assert!(
        lines[2]["pdq"].is_null() && lines[2]["pdq_error"].as_str().unwrap().contains("read as JPEG, PNG")
    );
    let output = hashward(&["hash", "/no/such/file"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/no/such/file"));
}

#[test]
fn banks_are_kept_from_the_command_line() {
    let server = Server::start();
    let admin = format!("http://{}", server.admin);
    let bank = |args: &[&str]| hashward(&[&["bank", "--admin", &admin], args].concat());
    lines(&bank(&["create", "CLI"]));
    let hashes = random_hashes(61, 3);
    let mut list = tempfile::NamedTempFile::new().unwrap();
    writeln!(list, "signal,note\n{},first\n{},\n{},", hex(&hashes[0]), hex(&hashes[1]), hex(&hashes[2]))
        .unwrap();
    let file = list.path().display().to_string();
    let imported = lines(&bank(&["import", "CLI", "--signal-type", "pdq", &file]));
    assert_eq!(imported[0]["imported"], 3);
    assert_eq!(lines(&bank(&["list"])).len(), 1);
    assert_eq!(lines(&bank(&["show", "CLI"]))[0]["contents"], 3);
    let mut spoilt = tempfile::NamedTempFile::new().unwrap();
    writeln!(spoilt, "nonsense").unwrap();
    let spoilt = spoilt.path().display().to_string();
    let output = bank(&["import", "CLI", "--signal-type", "pdq", &spoilt]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("not imported: line 1: "));
    assert_eq!(lines(&output)[0]["bad"], 1);
    let output = bank(&["import", "CLI", "--signal-type", "pdq", "--strict", &spoilt]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("line 1: "));
    let exported = lines(&bank(&["export", "CLI"]));
    assert_eq!((exported.len(), exported[0]["note"].as_str()), (3, Some("first")));
    let found =
        hashward(&["lookup", "--admin", &admin, "--signal-type", "pdq", &hex(&hashes[1]), &"0f".repeat(32)]);
    let found = lines(&found);
    assert_eq!(
        (found[0]["matches"][0]["bank"].as_str(), &found[1]["matches"]),
        (Some("CLI"), &serde_json::json!([]))
    );

    for (args, says) in [
        (&["show", "NONE"][..], "bank 'NONE' not found"),
        (&["create", "CLI"], "already exists"),
        (&["create", "small"], "use A-Z"),
        (&["import", "CLI", "--signal-type", "sift", &file], "unknown signal type 'sift'"),
        (&["import", "CLI", "--signal-type", "pdq", "/no/such/list"], "/no/such/list"),
    ] {
        let output = bank(args);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && words.contains(says), "{args:?}: {words}");
    }
    lines(&bank(&["delete", "CLI"]));
    assert!(lines(&bank(&["list"])).is_empty());
    let nobody = hashward(&["bank", "list", "--admin", "http://127.0.0.1:1"]);
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("is `hashward serve` running there"));
}

#[test]
fn the_demo_succeeds_on_its_own() {
    let output = hashward(&["demo", "--exit", "--hashes", "20000"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for said in
        ["All steps succeeded", "1 report filed: all there, none twice", "incidentSummary/incidentType  "]
    {
        assert!(text.contains(said), "{text}");
    }
}
