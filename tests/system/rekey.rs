//! `hashward rekey`: everything opens with the new key file and nothing with the old one, wherever the command is killed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::json;
use tests::{Platform, program, refusal};

use crate::evidence::{content, preserved, set_up, setup};
use crate::items::{png, post, send, settled, sound};

fn rekey(data: &Path, old: &Path, new: &Path, kill: &str) -> Output {
    let mut command = Command::new(program("hashward"));
    command.arg("rekey").arg("--data-dir").arg(data).arg("--key-file").arg(old);
    command.arg("--new-key-file").arg(new).stdin(Stdio::null());
    if !kill.is_empty() {
        command.env("HASHWARD_KILL_AT", kill);
    }
    command.output().unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[test]
fn wherever_it_is_killed_all_is_under_the_new_key_file_in_the_end() {
    let (platform, folder) = (Platform::start(), tempfile::tempdir().unwrap());
    let data = folder.path().join("data");
    let server = setup().data(&data).start();
    set_up(&server);
    let urls = [platform.put("a", "image/png", &png(3)), platform.put("b", "image/png", &png(4))];
    send(&server, &[post("1", "u", json!({ "gallery": urls }))]);
    settled(&server);
    preserved(&server);
    let login = json!({ "credential_json": { "user": "u", "password": "planted" } });
    assert_eq!(server.http.post("/c/exchanges/api/ncmec", &login).0, 200);
    drop(server.stop());

    let mut old: PathBuf = data.join("secrets.key");
    let points =
        ["rekey-marked", "rekey-evidence:1", "rekey-evidence:2", "rekey-credentials", "rekey-data-key"];
    for (round, point) in points.into_iter().enumerate() {
        let new = folder.path().join(format!("key-{round}"));
        let killed = rekey(&data, &old, &new, point);
        assert!(
            !killed.status.success() && words(&killed).contains("failpoint"),
            "{point}: {}",
            words(&killed)
        );
        for key in [&old, &new] {
            let (status, said) = refusal(setup().data(&data).flag("--key-file", key.display()));
            assert!(!status.success() && said.contains("run `hashward rekey` again"), "{point}: {said}");
        }
        let other = rekey(&data, &old, &folder.path().join("other"), "");
        assert!(!other.status.success() && !folder.path().join("other").exists(), "{}", words(&other));
        let done = rekey(&data, &old, &new, "");
        assert!(done.status.success(), "{point}: {}", words(&done));
        let again = rekey(&data, &old, &new, "");
        assert!(again.status.success() && words(&again).contains("already"), "{point}: {}", words(&again));

        let (status, said) = refusal(setup().data(&data).flag("--key-file", old.display()));
        assert!(!status.success() && said.contains("does not open with this key file"), "{point}: {said}");
        let server = setup().data(&data).flag("--key-file", new.display()).start();
        let job = server.jobs("ncmec").pop().unwrap();
        assert_eq!(content(&server.http, &job, 1), (200, png(3)), "{point}");
        assert_eq!(content(&server.http, &job, 2), (200, png(4)), "{point}");
        assert_eq!(server.http.get("/c/exchanges/api/ncmec").1["has_set_authentification"], true, "{point}");
        sound(&server);
        drop(server.stop());
        old = new;
    }
    let same = rekey(&data, &old, &old, "");
    assert!(
        !same.status.success() && words(&same).contains("holds the key of the old one"),
        "{}",
        words(&same)
    );
}
