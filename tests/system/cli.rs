//! The command line, as a user types it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

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

/// Runs a program whose stdout nobody reads any more; says how it ended and what it said.
fn unread(program_name: &str, args: &[&str], with_stderr: bool) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(program(program_name));
    command.args(args).env_remove("HASHWARD_TOKEN").stdin(Stdio::null());
    if with_stderr {
        command.stderr(writer.try_clone().unwrap());
    } else {
        command.stderr(Stdio::piped());
    }
    let output = command.stdout(writer).spawn().unwrap().wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_command_whose_reader_is_gone_ends_quietly() {
    let server = Server::start();
    let admin = format!("http://{}", server.admin);
    server.create_bank("B");
    let hash = random_hashes(62, 1)[0];
    server.add_pdq("B", &hash);
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/pictures/ridges.jpg");
    let (picture, hash) = (picture.display().to_string(), hex(&hash));
    let embedding = "{\"id\":\"a\",\"vector\":[1.0,0.0]}\n";
    assert_eq!(server.http.plain("PUT", "/api/v1/embeddings/FACES", Some(embedding)).0, 200);
    let to_server: [&[&str]; 10] = [
        &["bank", "--admin", &admin, "list"],
        &["bank", "--admin", &admin, "show", "B"],
        &["bank", "--admin", &admin, "export", "B"],
        &["lookup", "--admin", &admin, "--signal-type", "pdq", &hash],
        &["lookup", "--admin", &admin, "--signal-type", "pdq", "--nearest", "1", &hash],
        &["index", "explain", "--admin", &admin, "--no-measure"],
        &["embeddings", "--admin", &admin, "list"],
        &["embeddings", "--admin", &admin, "show", "FACES"],
        &["hash", &picture],
        &["decode-helper", "--check"],
    ];
    for args in to_server {
        assert_eq!(unread("hashward", args, false), (Some(141), String::new()), "{args:?}");
        assert_eq!(unread("hashward", args, true).0, Some(141), "{args:?}, stderr as well");
    }
    let stopped = server.stop();
    let data = stopped.data().display().to_string();
    let heads_gone = ["check", "--data-dir", &data];
    let (code, words) = unread("hashward", &heads_gone, false);
    assert!(code == Some(141) && !words.contains("panicked"), "{code:?} {words}");
    assert_eq!(unread("hashward", &heads_gone, true).0, Some(141));
    assert_eq!(unread("hashward", &["serve", "--print-config"], false), (Some(141), String::new()));
    let password = stopped.data().join("password");
    std::fs::write(&password, "correct horse battery staple\n").unwrap();
    let password = password.display().to_string();
    let create = ["admin", "create", "root", "--data-dir", &data, "--password-file", &password];
    assert_eq!(unread("hashward", &create, false), (Some(141), String::new()));
    let run = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(run.path(), "{}").unwrap();
    let run = run.path().display().to_string();
    let (code, words) = unread("hashward-loadtest", &["compare", "--anyway", &run, &run], false);
    assert!(code == Some(141) || code == Some(2) && !words.contains("panicked"), "{code:?} {words}");
}

#[test]
fn a_command_whose_output_has_no_room_says_so() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(program("hashward"));
    let output = command.args(["serve", "--print-config"]).stdout(full).output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert!(words.contains("stdout cannot be written: No space left"), "{words}");
}
