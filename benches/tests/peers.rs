//! What `make bench-peers` says of our answers must be able to say 'wrong'.
#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::fs;
use std::path::Path;

use benches::contender::Contender;
use benches::data::{Dataset, Files, make};
use benches::ours::Ours;

const DATASETS: [Dataset; 4] = [Dataset::Uniform, Dataset::Clustered, Dataset::LowEntropy, Dataset::Images];

#[test]
fn our_answers_agree_with_brute_force_on_every_dataset() {
    for dataset in DATASETS {
        let folder = tempfile::tempdir().unwrap();
        let meta = make(dataset, 3_000, folder.path(), Path::new("nowhere")).unwrap();
        assert!(meta.planted > 1_000, "{dataset:?} has {} planted hits", meta.planted);
        let (mut ours, ready) = Ours::load(folder.path()).unwrap();
        assert_eq!(ready["n"], 3_000);
        let check = ours.other("check", 0.0).unwrap();
        assert_eq!(
            (check["recall"].as_f64(), check["false_hits"].as_u64()),
            (Some(1.0), Some(0)),
            "{dataset:?}"
        );
        assert!(check["matches"].as_u64().unwrap() >= meta.planted as u64);
    }
}

#[test]
fn a_missed_hit_and_a_false_one_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    make(Dataset::Uniform, 2_000, folder.path(), Path::new("nowhere")).unwrap();
    let mut truth = Files::at(folder.path()).truth().unwrap();
    let before = truth.len();
    let dropped = truth.remove(before / 2);
    let missed = [dropped[0], (dropped[1] + 1) % 2_000, 7];
    truth.push(missed);
    truth.sort_unstable();
    let bytes: Vec<u8> = truth.iter().flatten().flat_map(|word| word.to_le_bytes()).collect();
    fs::write(folder.path().join("truth.bin"), bytes).unwrap();
    let check = Ours::load(folder.path()).unwrap().0.other("check", 0.0).unwrap();
    assert_eq!(check["false_hits"], 1);
    assert!(check["recall"].as_f64().unwrap() < 1.0);
}

#[test]
fn the_same_seed_gives_the_same_files_and_a_half_made_folder_is_made_again() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in [&one, &two] {
        make(Dataset::Clustered, 2_000, folder.path(), Path::new("nowhere")).unwrap();
    }
    let read =
        |name: &str| (fs::read(one.path().join(name)).unwrap(), fs::read(two.path().join(name)).unwrap());
    for name in ["hashes.bin", "queries.bin", "misses.bin", "truth.bin"] {
        let (one, two) = read(name);
        assert!(one == two, "{name} differs");
    }
    fs::remove_file(two.path().join("meta.json")).unwrap();
    fs::write(two.path().join("queries.bin"), b"cut").unwrap();
    make(Dataset::Clustered, 2_000, two.path(), Path::new("nowhere")).unwrap();
    let (one, two) = read("queries.bin");
    assert!(one == two);
}
