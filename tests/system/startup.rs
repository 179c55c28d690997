//! Starting, refusing to start, and stopping.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::FileExt;

use tests::{DATA_FORMAT, Server, Setup, refusal};

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
}

#[test]
fn an_open_port_without_a_token_is_refused() {
    for flag in ["--listen", "--admin"] {
        let words = refused(Setup::default().flag(flag, "0.0.0.0:0"));
        assert!(words.contains("HASHWARD_TOKEN"), "{words}");
    }
    let words = refused(Setup::default().flag("--listen", "0.0.0.0:0").env("HASHWARD_TOKEN", "short"));
    assert!(words.contains("32 or more") && !words.contains("short;"), "{words}");
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
