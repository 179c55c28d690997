//! Starting, refusing to start, and stopping.

use std::collections::BTreeSet;
use std::fs;
use std::io::Cursor;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::thread;

use serde_json::json;
use tests::{DATA_FORMAT, Http, Server, Setup, hex, refusal};

use crate::banks::random_hashes;

fn refused(setup: Setup) -> String {
    let (status, words) = refusal(setup);
    assert_eq!(status.code(), Some(2), "{words}");
    assert!(!words.contains("panicked"), "{words}");
    words
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for flag in ["--listen", "--admin"] {
        let words = refused(Setup::default().flag(flag, address));
        assert!(words.contains(&format!("{flag} {address}")), "{words}");
    }
    // Shards share a port among themselves; a second server must not join them.
    let server = Server::start();
    let words = refused(Setup::default().flag("--listen", server.listen));
    assert!(words.contains("the port is in use"), "{words}");
}

#[test]
fn a_data_directory_has_one_owner() {
    let server = Server::start();
    let words = refused(Setup::default().data(server.data()));
    assert!(
        words.contains("locked by another process") && words.contains(&server.pid().to_string()),
        "{words}"
    );
}

#[test]
fn a_newer_or_foreign_data_directory_is_refused() {
    let stopped = Server::start().stop();
    fs::write(stopped.data().join("FORMAT"), format!("{}\n", DATA_FORMAT + 1)).unwrap();
    let words = refused(Setup::default().data(stopped.data()));
    assert!(
        words.contains(&format!("has format {}", DATA_FORMAT + 1)) && words.contains("newer hashward"),
        "{words}"
    );

    let foreign = tempfile::tempdir().unwrap();
    fs::write(foreign.path().join("thesis.doc"), "mine").unwrap();
    let words = refused(Setup::default().data(foreign.path()));
    assert!(words.contains("thesis.doc") && words.contains("not a hashward data directory"), "{words}");
    assert!(words.contains("cannot be used") && !words.contains("check the disk"), "{words}");
}

#[test]
fn what_the_system_does_not_allow_is_no_fault_of_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let [file, link] = ["file", "link"].map(|name| folder.path().join(name));
    fs::write(&file, "").unwrap();
    symlink(folder.path().join("nowhere"), &link).unwrap();
    let refused_folder = |path: &Path, cause: &str| {
        let words = refused(Setup::default().data(path));
        let named = words.contains(&path.display().to_string()) && words.contains(cause);
        assert!(named && words.contains("--data-dir") && !words.contains("check the disk"), "{words}");
    };
    refused_folder(&file, "Not a directory");
    refused_folder(&link, "File exists");
    refused_folder(Path::new("/proc/hashward"), "No such file");
    if !rustix::process::getuid().is_root() {
        return; // only the superuser can start a server as somebody else
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let stopped = Setup::default().data(&folder.path().join("data")).start().stop();
    let denied = |path: &str| {
        let words = refused(Setup::default().data(stopped.data()).wrapped(&as_nobody));
        let named =
            words.contains(path) && words.contains("Permission denied") && words.contains("owner and mode");
        assert!(named && !words.contains("check the disk"), "{words}");
    };
    denied("LOCK");
    for entry in fs::read_dir(stopped.data()).unwrap().map(|entry| entry.unwrap().path()) {
        chown(&entry, Some(65534), Some(65534)).unwrap();
    }
    chown(stopped.data(), Some(65534), Some(65534)).unwrap();
    fs::set_permissions(stopped.data().join("bank.high-water"), fs::Permissions::from_mode(0o444)).unwrap();
    denied("bank.high-water");
    fs::set_permissions(stopped.data().join("bank.high-water"), fs::Permissions::from_mode(0o644)).unwrap();
    denied("bank");
}

#[test]
fn an_open_port_without_a_token_is_refused() {
    for flag in ["--listen", "--admin"] {
        let words = refused(Setup::default().flag(flag, "0.0.0.0:0"));
        assert!(words.contains("HASHWARD_TOKEN"), "{words}");
    }
    let words = refused(Setup::default().flag("--listen", "0.0.0.0:0").env("HASHWARD_TOKEN", "short"));
    assert!(words.contains("32 or more") && !words.contains("short;"), "{words}");
    let (folder, token) = (tempfile::tempdir().unwrap(), "a-token-of-forty-two-characters-and-no-less");
    let file = folder.path().join("token");
    fs::write(&file, token).unwrap();
    let with_mode = |mode: u32| {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        Setup::default().flag("--token-file", file.display())
    };
    for (mode, is_open) in [(0o600, false), (0o440, false), (0o644, true), (0o604, true), (0o660, true)] {
        let server = with_mode(mode).start();
        assert_eq!(server.http.get("/api/v1/queues").0, 401, "{mode:o}");
        assert_eq!(crate::access::bearing(&server, token).get("/api/v1/queues").0, 200, "{mode:o}");
        let log = server.log();
        assert_eq!(log.contains("chmod 600"), is_open, "{mode:o}: {log}");
        assert!(!log.contains(token), "{log}");
    }
}

#[test]
fn the_documented_rules_are_taken() {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/rules.toml");
    drop(Setup::default().flag("--rules", rules).start().stop());
}

#[test]
fn wrong_settings_and_rules_are_named() {
    let rules = tempfile::NamedTempFile::new().unwrap();
    fs::write(rules.path(), "[[rule]]\nname = 'x'\nqeue = 'y'\n").unwrap();
    let words = refused(Setup::default().flag("--rules", rules.path().display()));
    assert!(words.contains("qeue"), "{words}");
    let words = refused(Setup::default().env("HASHWARD_KERNEL", "abacus"));
    assert!(words.contains("abacus") && words.contains("scalar"), "{words}");
    let words = refused(Setup::default().flag("--cores", "0"));
    assert!(words.contains("cores is 0"), "{words}");
    let words = refused(Setup::default().flag("--idle-seconds", "0"));
    assert!(words.contains("idle_seconds is 0"), "{words}");
    let words = refused(Setup::default().flag("--audit-heads", "/nowhere/heads.ndjson"));
    assert!(words.contains("--audit-heads /nowhere/heads.ndjson"), "{words}");
    let words = refused(Setup::default().flag("--log", "foo=blah"));
    assert_eq!(words.matches("blah").count(), 1, "the reason is said once: {words}");
}

#[test]
fn settings_that_are_taken_and_look_wrong_are_said_at_the_start() {
    let server = Setup::default()
        .env("HASHWARD_CORSE", "2")
        .flag("--memory-max-bytes", "100")
        .flag("--ffmpeg", "/nowhere/ffmpeg")
        .flag("--disk-reserve-bytes", u64::MAX)
        .start();
    let (status, answer) = server.http.post("/api/v1/banks", &json!({ "name": "B" }));
    assert!(status == 507 && answer.to_string().contains("--disk-reserve-bytes"), "{status}: {answer}");
    let log = server.log();
    for words in [
        "HASHWARD_CORSE is no setting",
        "--memory-max-bytes 100 is less than",
        "--ffmpeg /nowhere/ffmpeg is no file",
        "--disk-reserve-bytes is more than the whole disk",
    ] {
        assert!(log.contains(words), "{words}: {log}");
    }
}

#[test]
fn one_flipped_bit_in_the_log_is_refused_not_swallowed() {
    let server = Server::start();
    server.create_bank("B");
    for hash in crate::banks::random_hashes(11, 50) {
        server.add_pdq("B", &hash);
    }
    let stopped = server.kill();
    let log = fs::read_dir(stopped.data().join("bank")).unwrap().map(|entry| entry.unwrap().path());
    let log = log.filter(|path| path.extension().is_some_and(|ending| ending == "log")).max().unwrap();
    let file = fs::OpenOptions::new().read(true).write(true).open(&log).unwrap();
    let at = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
    let words = refused(Setup::default().data(stopped.data()));
    assert!(
        words.contains("restore") && (words.contains("damaged") || words.contains("lost acknowledged")),
        "{words}"
    );
}

#[test]
fn every_kernel_gives_the_same_answers() {
    let hashes = crate::banks::random_hashes(12, 200);
    let mut answers = Vec::new();
    for kernel in index::Kernel::available() {
        let server = Setup::default().env("HASHWARD_KERNEL", kernel.name()).start();
        server.create_bank("B");
        for hash in &hashes {
            server.add_pdq("B", hash);
        }
        let mut client = server.client();
        assert_eq!(client.welcome().unwrap().kernel, kernel.name());
        let queries = hashes.iter().map(|hash| tests::flipped(hash, 31, 3)).collect();
        answers.push(client.lookup(ingest::wire::Query::pdq(queries)).unwrap().hits);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn the_configuration_is_shown_with_secrets_masked() {
    let secret = "correct-horse-battery-staple-0123456789";
    let output = std::process::Command::new(tests::program("hashward"))
        .args(["serve", "--print-config", "--cores", "3"])
        .env("HASHWARD_TOKEN", secret)
        .env("HASHWARD_HASHES_MAX", "77")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("cores = 3") && text.contains("hashes_max = 77") && text.contains("token = \"***\""),
        "{text}"
    );
    assert!(!text.contains(secret));
}

#[test]
fn while_banks_load_every_route_that_needs_them_says_so_and_none_that_there_is_no_bank() {
    let server = Server::start();
    server.create_bank("LARGE");
    let list: String = random_hashes(12, 60_000).iter().map(|hash| hex(hash) + "\n").collect();
    let (status, imported) =
        server.http.stream("/api/v1/banks/LARGE/import?signal_type=pdq", Cursor::new(list));
    assert_eq!(status, 200, "{imported}");
    let stopped = server.stop();
    // Without stored tables the start takes long enough to be asked meanwhile.
    fs::remove_dir_all(stopped.data().join("segments")).unwrap();

    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let data = stopped.data().to_path_buf();
    let starting = thread::spawn(move || Setup::default().data(&data).flag("--admin", port).start());
    let http = Http::new(&port.to_string());
    let signal = "0".repeat(64);
    let asked = [
        ("/c/bank/LARGE".to_string(), 200),
        ("/c/bank/LARGE/content/1".to_string(), 200),
        ("/c/banks".to_string(), 200),
        ("/api/v1/banks/LARGE".to_string(), 200),
        ("/api/v1/contents/1".to_string(), 200),
        (format!("/m/lookup?signal_type=pdq&signal={signal}"), 200),
        (format!("/m/raw_lookup?signal_type=pdq&signal={signal}"), 200),
        ("/status".to_string(), 200),
        ("/readyz".to_string(), 200),
    ];
    let mut seen = BTreeSet::new();
    while !starting.is_finished() {
        for (path, ready) in &asked {
            // Before the port is there nobody answers.
            if TcpStream::connect(port).is_ok() {
                let (status, answer) = http.get(path);
                assert!([*ready, 503].contains(&status), "{path} while loading: {status} {answer}");
                // HMA's clients know its words.
                let words = match (status, path.as_str()) {
                    (503, "/status") => Some(json!("INDEX-NOT-LOADED")),
                    (503, path) if path.starts_with("/m/") => {
                        Some(json!({ "message": "index not yet ready" }))
                    }
                    _ => None,
                };
                assert!(words.is_none_or(|words| words == answer), "{path} while loading: {answer}");
                seen.insert((path, status));
            }
        }
    }
    let server = starting.join().unwrap();
    for (path, ready) in &asked {
        assert!(seen.contains(&(path, 503)), "{path} was never asked while banks loaded: {seen:?}");
        assert_eq!(server.http.get(path).0, *ready, "{path}");
    }
}

#[test]
fn a_failed_upgrade_leaves_the_data_directory_to_the_older_program() {
    let stopped = Server::start().stop();
    let (format, key) = (stopped.data().join("FORMAT"), stopped.data().join("data.key"));
    let older = format!("{}\n", DATA_FORMAT - 1);
    fs::write(&format, &older).unwrap();
    let kept = fs::read(&key).unwrap();
    fs::write(&key, "soup").unwrap();
    let words = refused(Setup::default().data(stopped.data()));
    assert!(words.contains("data.key"), "{words}");
    assert_eq!(fs::read_to_string(&format).unwrap(), older, "nothing was changed yet");
    fs::write(&key, kept).unwrap();
    drop(stopped.restart());
    assert_eq!(fs::read_to_string(&format).unwrap(), format!("{DATA_FORMAT}\n"));
}
