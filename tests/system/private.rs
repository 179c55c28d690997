//! What a server writes is its user's alone.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ingest::wire::Query;
use tests::{Server, Setup};

use crate::banks::random_hashes;

/// The directory and everything in it that others have any right to.
fn open_to_others(folder: &Path) -> Vec<(PathBuf, String)> {
    let (mut folders, mut found) = (vec![folder.to_path_buf()], Vec::new());
    while let Some(folder) = folders.pop() {
        let inside = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        for path in inside.chain([folder.clone()]) {
            let Ok(about) = fs::symlink_metadata(&path) else { continue }; // removed meanwhile
            if about.permissions().mode() & 0o077 != 0 {
                found.push((path.clone(), format!("{:o}", about.permissions().mode())));
            }
            if about.is_dir() && path != folder {
                folders.push(path);
            }
        }
    }
    found
}

fn work(server: &Server) {
    let hash = random_hashes(5, 1)[0];
    server.create_bank("B");
    server.add_pdq("B", &hash);
    let request = index::RequestId::fresh();
    server.client().submit(request, Query::pdq(vec![hash]), vec![]).unwrap();
}

#[test]
fn the_data_directory_is_private_whatever_the_umask() {
    let loose = || Setup::default().wrapped(&["sh", "-c", "umask 000; exec \"$@\"", "sh"]);
    let server = loose().start();
    work(&server);
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
    let stopped = server.stop();
    assert_eq!(open_to_others(stopped.data()), []);

    // One that an older program left open is closed.
    fs::set_permissions(stopped.data(), Permissions::from_mode(0o755)).unwrap();
    let stopped = stopped.restart_with(loose()).stop();
    assert_eq!(open_to_others(stopped.data()), []);
}

#[test]
fn heads_that_lie_elsewhere_are_for_others() {
    let elsewhere = tempfile::tempdir().unwrap();
    let heads = elsewhere.path().join("heads.ndjson");
    let server = Setup::default()
        .wrapped(&["sh", "-c", "umask 077; exec \"$@\"", "sh"])
        .flag("--audit-heads", heads.display())
        .flag("--audit-head-seconds", 1)
        .start();
    work(&server);
    drop(server.stop());
    assert_eq!(fs::metadata(&heads).unwrap().permissions().mode() & 0o777, 0o644);
}
