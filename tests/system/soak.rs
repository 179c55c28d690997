//! A short soak: the long one is `make soak`.

use std::process::Command;

use tests::program;

/// Twenty seconds with the kinds of hostile client that cost little, a kill or two, and no verdict on waits: a debug
/// build beside other tests has none that mean anything.
#[test]
fn a_soak_finds_no_wrong_answer_no_lost_hit_and_no_end_but_the_kills() {
    let programs = program("hashward").parent().expect("a folder").to_path_buf();
    let soak = Command::new(env!("CARGO_BIN_EXE_hashward-soak"))
        .args(["--seconds", "20", "--phase-seconds", "1.5", "--kill-seconds", "5", "--factor", "0"])
        .args(["--hashes", "2000", "--duplicates", "50", "--only", "idle,drip,bodies,garbage,submits"])
        .env("HASHWARD_BIN_DIR", programs)
        .env_remove("SOAK_SECONDS")
        .output()
        .expect("the soak runs");
    let (said, words) = (String::from_utf8_lossy(&soak.stdout), String::from_utf8_lossy(&soak.stderr));
    assert!(soak.status.success(), "{said}\n{words}");
    assert!(said.contains("kill -9"), "no kill: {said}");
}
