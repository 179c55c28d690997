//! PDQ against the reference's hashes of real pictures (data beside the repository).
#![allow(clippy::panic, clippy::unwrap_used)] // a test fails by panicking

use std::path::PathBuf;
use std::{env, fs};

use index::{Signal, SignalType};
use ingest::media::{Limits, decode, pdq};

fn shared(test: &str) -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let folder = env::var_os("HASHWARD_SHARED").map_or(beside, PathBuf::from).join("data/pdq");
    if folder.join("vectors.json").is_file() {
        return Some(folder);
    }
    eprintln!("SKIPPED {test}: {} is not there", folder.display());
    if let Some(log) = env::var_os("HASHWARD_SKIP_LOG") {
        use std::io::Write;
        let mut log = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        writeln!(log, "SKIPPED {test}: no shared data").unwrap();
    }
    None
}

#[test]
fn the_same_pixels_give_the_same_hash_and_our_decoder_stays_near() {
    let Some(folder) = shared("the_same_pixels_give_the_same_hash_and_our_decoder_stays_near") else {
        return;
    };
    let vectors: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.join("vectors.json")).unwrap()).unwrap();
    let (mut same, mut near, mut listed) = (0, 0, Vec::new());
    for (name, vector) in vectors.as_object().unwrap() {
        let path = [name.clone(), format!("misc-images/{name}"), format!("reg-test-input/{name}")];
        let Some(path) = path.iter().map(|name| folder.join(name)).find(|path| path.is_file()) else {
            listed.push(format!("{name}: file not found"));
            continue;
        };
        let mode = vector["mode"].as_str().unwrap_or("");
        let quality = vector["quality"].as_u64().unwrap_or(0);
        let picture = match decode(&fs::read(&path).unwrap(), &Limits::default()) {
            Ok(picture) => picture,
            Err(error) => {
                listed.push(format!("{name} ({mode}): {error}"));
                continue;
            }
        };
        let parse = |text: &str| match Signal::parse(SignalType::Pdq, text) {
            Ok(Signal::Pdq(hash)) => hash,
            other => panic!("{name}: {other:?}"),
        };
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let (hashes, ours) = pdq::dihedral(picture.as_raw(), width, height);
        let expected = parse(vector["pdq"].as_str().unwrap());
        let distance = hashes[0].distance(&expected).bits();
        let lossless = name.ends_with(".png") && matches!(mode, "RGB" | "L" | "LA" | "RGBA");
        if lossless {
            assert_eq!((distance, u64::from(ours)), (0, quality), "{name} ({mode})");
            for (turn, (hash, text)) in hashes.iter().zip(vector["dihedral"].as_array().unwrap()).enumerate()
            {
                assert_eq!(*hash, parse(text.as_str().unwrap()), "{name} {}", pdq::TURNS[turn]);
            }
            same += 1;
        } else if mode != "P" && mode != "1" && mode != "PA" && mode != "CMYK" && quality >= 80 {
            assert!(distance <= 10, "{name} ({mode}): {distance} bits, quality {ours} for {quality}");
            near += 1;
        }
        if distance > 0 {
            listed.push(format!("{name} ({mode}): {distance} bits, quality {ours}, reference {quality}"));
        }
    }
    println!("{same} pictures identical, {near} within 10 bits; not identical:\n  {}", listed.join("\n  "));
    assert!(same >= 4 && near >= 20, "{same} and {near}: too few pictures were compared");
}
