//! The house rules that a compiler does not know: who may import whom, where `unsafe` may stand, which
//! licences may come in, how long a file may be.
#![allow(clippy::panic, clippy::unwrap_used)] // a test fails by panicking

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Which of our crates each may import (ARCHITECTURE.md, 'Who may import whom').
const MAY_IMPORT: [(&str, &[&str]); 7] = [
    ("index", &[]),
    ("ingest", &["index"]),
    ("reporter", &["index"]),
    ("engine", &["index", "ingest", "reporter"]),
    ("loadtest", &["index", "ingest"]),
    ("benches", &["engine", "index", "ingest", "reporter"]),
    ("tests", &["index", "ingest", "loadtest", "reporter"]),
];

/// The only files with `unsafe`: kernels, prefetch, memory mapping, generated code.
const UNSAFE: [&str; 5] = [
    "index/src/kernel/avx2.rs",
    "index/src/kernel/avx512.rs",
    "index/src/kernel/mod.rs",
    "index/src/memory.rs",
    "ingest/src/wire/generated.rs",
];

/// MPL is per file: fine for an unmodified crate (`bitmaps`, which glommio needs).
const LICENCES: [&str; 15] = [
    "MPL-2.0+",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unlicense",
    "0BSD",
    "CC0-1.0",
    "BSL-1.0",
    "Unicode-3.0",
    "MIT-0",
    "CDLA-Permissive-2.0", // data: the list of root certificates
];

const LINES_MAX: usize = 500;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the workspace is there")
}

fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(args).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "cargo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

fn metadata() -> Value {
    let text = cargo(&["metadata", "--format-version", "1", "--locked", "--all-features"]);
    serde_json::from_str(&text).expect("cargo writes JSON")
}

/// Our own Rust sources with their text, paths relative to the root.
fn sources() -> BTreeMap<String, String> {
    fn walk(folder: &Path, root: &Path, found: &mut BTreeMap<String, String>) {
        for entry in
            fs::read_dir(folder).expect("a folder of ours").map(|entry| entry.expect("readable").path())
        {
            let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_string();
            if entry.is_dir() && name != "target" && !name.starts_with('.') {
                walk(&entry, root, found);
            } else if name.ends_with(".rs") {
                let path = entry.strip_prefix(root).expect("below the root").display().to_string();
                found.insert(path, fs::read_to_string(&entry).expect("sources are UTF-8"));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&root(), &root(), &mut found);
    found
}

#[test]
fn crates_import_only_what_the_architecture_allows() {
    let metadata = metadata();
    let names: BTreeSet<&str> = MAY_IMPORT.iter().map(|(name, _)| *name).collect();
    let packages = metadata["packages"].as_array().expect("packages");
    for (name, allowed) in MAY_IMPORT {
        let package = packages.iter().find(|package| package["name"] == *name && package["source"].is_null());
        let package = package.unwrap_or_else(|| panic!("{name} is not in the workspace"));
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let imported = dependency["name"].as_str().expect("a name");
            if names.contains(imported) && dependency["source"].is_null() {
                assert!(allowed.contains(&imported), "{name} may not import {imported}");
            }
        }
    }
}

#[test]
fn only_the_engine_builds_rocksdb_and_only_one_file_names_it() {
    for package in ["index", "ingest", "reporter", "loadtest"] {
        let tree = cargo(&["tree", "-p", package, "-e", "normal,build", "--locked", "--prefix", "none"]);
        assert!(!tree.contains("librocksdb-sys"), "{package} pulls RocksDB in");
    }
    // The client is a library for others' programs: no runtime, no web client, no database comes with it.
    let tree = cargo(&["tree", "-p", "ingest", "-e", "normal,build", "--locked", "--prefix", "none"]);
    for heavy in ["tokio ", "reqwest ", "rustls ", "axum ", "glommio "] {
        assert!(!tree.contains(heavy), "the client pulls {heavy}in");
    }
    let tree = cargo(&["tree", "-p", "engine", "-e", "normal,build", "--locked", "--prefix", "none"]);
    assert!(tree.contains("librocksdb-sys"));
    for (path, text) in sources() {
        let names = text
            .lines()
            .any(|line| line.trim_start().starts_with("use rocksdb") || line.contains("rocksdb::"));
        assert!(
            !names || path.starts_with("index/src/store/rocks") || path == "tests/tidy.rs",
            "{path} names RocksDB"
        );
    }
}

#[test]
fn unsafe_stands_only_where_it_may() {
    for (path, text) in sources() {
        let uses = text.lines().any(|line| {
            let code = line.split("//").next().unwrap_or("");
            code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl")
        });
        assert!(
            !uses || UNSAFE.contains(&path.as_str()) || path == "tests/tidy.rs",
            "{path} has unsafe code"
        );
    }
}

#[test]
fn builds_for_users_have_no_places_to_be_killed_at() {
    let metadata = metadata();
    let engine =
        metadata["packages"].as_array().expect("packages").iter().find(|package| package["name"] == "engine");
    let features = &engine.expect("the engine is in the workspace")["features"];
    assert!(features["failpoints"].is_array(), "{features}");
    assert!(features["default"].is_null(), "a default feature may bring others: {features}");
    let makefile = fs::read_to_string(root().join("Makefile")).expect("the Makefile is there");
    assert!(!makefile.contains("failpoints"), "make builds for users");
}

#[test]
fn every_dependency_has_a_licence_that_may_come_in() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        let licence = package["license"].as_str().unwrap_or_else(|| panic!("{name} names no licence"));
        // 'A OR B' needs one of them, 'A AND B' each; '/' is the old way of writing OR.
        let fine = licence.replace('/', " OR ").split(" OR ").any(|choice| {
            let parts = choice.trim_matches(|c| c == '(' || c == ')' || c == ' ');
            parts
                .split(" AND ")
                .all(|part| LICENCES.contains(&part.trim_matches(|c| c == '(' || c == ')' || c == ' ')))
        });
        assert!(fine, "{name}: licence {licence}");
    }
}

#[test]
fn every_dependency_comes_from_the_registry_and_is_explained() {
    let metadata = metadata();
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    for package in metadata["packages"].as_array().expect("packages") {
        let source = package["source"].as_str().unwrap_or("");
        assert!(source.is_empty() || source.starts_with("registry+"), "{}: {source}", package["name"]);
        if source.is_empty() {
            for dependency in package["dependencies"].as_array().expect("dependencies") {
                let name = dependency["name"].as_str().expect("a name");
                let ours = dependency["source"].is_null();
                assert!(
                    ours || architecture.contains(&format!("`{name}`")),
                    "ARCHITECTURE.md does not say why {name}"
                );
            }
        }
    }
}

#[test]
fn files_are_short_begin_with_their_purpose_and_leave_nothing_for_later() {
    let left_over = ["todo", "fixme", "xxx", "hack"].map(|word| format!("{}:", word.to_uppercase()));
    for (path, text) in sources() {
        if path.ends_with("generated.rs") {
            continue;
        }
        assert!(
            text.lines().count() <= LINES_MAX,
            "{path} has {} lines: one idea each?",
            text.lines().count()
        );
        let begins = text.lines().next().unwrap_or("");
        assert!(
            begins.starts_with("//!") || path.contains("fuzz"),
            "{path} does not begin with what it is for"
        );
        for mark in &left_over {
            assert!(!text.contains(mark.as_str()), "{path} has {mark}");
        }
    }
}

#[test]
fn every_dependency_is_used_by_the_crate_that_names_it() {
    let (metadata, sources) = (metadata(), sources());
    for package in metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .filter(|package| package["source"].is_null())
    {
        let name = package["name"].as_str().expect("a name");
        let text: String = sources
            .iter()
            .filter(|(path, _)| path.starts_with(&format!("{name}/")))
            .map(|(_, text)| text.as_str())
            .collect();
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let imported = match dependency["name"].as_str().expect("a name") {
                "md-5" => "md5".to_string(),
                other => other.replace('-', "_"),
            };
            assert!(text.contains(&imported), "{name} names {imported} and does not use it");
        }
    }
}

#[test]
fn modules_of_a_crate_do_not_import_each_other_in_circles() {
    let sources = sources();
    for (name, _) in MAY_IMPORT {
        let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (path, text) in &sources {
            let Some(inside) = path.strip_prefix(&format!("{name}/src/")) else { continue };
            let module = inside.split('/').next().unwrap_or("").trim_end_matches(".rs").to_string();
            let taken = text.split("crate::").skip(1).map(|rest| {
                rest.chars()
                    .take_while(|c| c.is_ascii_lowercase() || *c == '_' || c.is_ascii_digit())
                    .collect::<String>()
            });
            let taken: BTreeSet<String> =
                taken.filter(|taken| !taken.is_empty() && *taken != module).collect();
            if !matches!(module.as_str(), "lib" | "main") {
                imports.entry(module).or_default().extend(taken);
            }
        }
        // What imports nothing that is left can go; what remains when nothing can go is a circle.
        loop {
            let left: BTreeSet<String> = imports.keys().cloned().collect();
            imports.values_mut().for_each(|taken| taken.retain(|module| left.contains(module)));
            let before = imports.len();
            imports.retain(|_, taken| !taken.is_empty());
            if imports.len() == before {
                break;
            }
        }
        assert!(imports.is_empty(), "{name}: circle among {imports:?}");
    }
}
