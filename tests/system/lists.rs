//! `local_file` exchanges: they read hash lists beneath `--list-dir`, and no other file of the machine.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};
use tests::{Setup, refusal};

use crate::access::{bearing, key};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn wanted(bank: &str, file: &Path) -> Value {
    json!({ "bank": bank, "api": "local_file", "api_json": { "filename": file, "signal_type": "pdq" } })
}

fn server(lists: Option<&Path>) -> Setup {
    let setup = Setup::default().env("HASHWARD_TOKEN", TOKEN).env("HASHWARD_DEV", "true");
    match lists {
        Some(folder) => setup.flag("--list-dir", folder.display()),
        None => setup,
    }
}

#[test]
fn without_a_directory_there_is_no_such_exchange() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.txt");
    fs::write(&list, "1".repeat(64)).unwrap();
    let server = server(None).start();
    let http = bearing(&server, TOKEN);
    let listed = http.get("/c/exchanges/apis").1;
    assert!(!listed.as_array().unwrap().contains(&json!("local_file")), "{listed}");
    assert_eq!(http.get("/c/exchanges/api/local_file/schema").0, 404);
    let (status, answer) = http.post("/c/exchanges", &wanted("LIST", &list));
    assert!(status == 400 && answer["message"].as_str().unwrap().contains("local_file"), "{answer}");
    assert_eq!(http.get("/c/banks").1, json!([]));
}

#[test]
fn only_an_administrator_makes_one() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.txt");
    fs::write(&list, "1".repeat(64)).unwrap();
    let server = server(Some(folder.path())).flag("--hma-allow", "127.0.0.0/8").start();
    let admin = bearing(&server, TOKEN);
    let curator = bearing(&server, &key(&admin, &["curate", "match"]).1);
    for (who, http) in [("a curator", &curator), ("an address of --hma-allow", &server.http)] {
        let (status, answer) = http.post("/c/exchanges", &wanted("LIST", &list));
        assert!(status == 403 && answer.to_string().contains("administrator"), "{who}: {status} {answer}");
    }
    assert_eq!(admin.get("/c/banks").1, json!([]));
    assert_eq!(admin.post("/c/exchanges", &wanted("LIST", &list)).0, 201);
}

#[test]
fn nothing_outside_the_directories_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("lists")).unwrap();
    let signal = "1".repeat(64);
    for name in ["lists/list.txt", "secret.txt"] {
        fs::write(path(name), &signal).unwrap();
    }
    symlink(path("secret.txt"), path("lists/link.txt")).unwrap();
    symlink(folder.path(), path("lists/up")).unwrap();
    let server = server(Some(&path("lists"))).start();
    let http = bearing(&server, TOKEN);
    let forged = Path::new("/etc/none\n2026-01-01T00:00:00Z  WARN engine: forged");
    let files = [
        path("secret.txt"),
        path("lists/../secret.txt"),
        path("lists/link.txt"),
        path("lists/up/secret.txt"),
        "/proc/self/environ".into(),
        "/dev/zero".into(),
        forged.to_path_buf(),
    ];
    for (at, file) in files.iter().enumerate() {
        assert_eq!(http.post("/c/exchanges", &wanted(&format!("BAD_{at}"), file)).0, 201);
    }
    assert_eq!(http.post("/c/exchanges", &wanted("GOOD", &path("lists/list.txt"))).0, 201);
    assert_eq!(http.post("/c/exchanges", &wanted("NAMED", Path::new("list.txt"))).0, 201);
    assert_eq!(http.post("/dev/run_fetch", &json!({})).0, 302);
    for at in 0..files.len() {
        let status = http.get(&format!("/c/exchange/BAD_{at}/status")).1;
        assert_eq!((&status["last_fetch_succeeded"], &status["fetched_items"]), (&json!(false), &json!(0)));
    }
    for name in ["GOOD", "NAMED"] {
        assert_eq!(http.get(&format!("/c/exchange/{name}/status")).1["fetched_items"], 1);
    }
    let log = server.log();
    assert!(!log.lines().any(|line| line.starts_with("2026-01-01T00:00:00Z")), "{log}");
    assert!(log.contains(r"/etc/none\n2026-01-01T00:00:00Z  WARN engine: forged"), "{log}");
}

#[test]
fn a_directory_that_holds_the_servers_own_files_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    for dir in [folder.path(), &data, Path::new("/")] {
        let (_, refused) = refusal(server(Some(dir)).data(&data));
        assert!(refused.contains("holds the data directory, or lies in it"), "{refused}");
    }
    let (_, refused) = refusal(server(Some(&folder.path().join("none"))).data(&data));
    assert!(refused.contains("--list-dir") && refused.contains("No such file"), "{refused}");
}
