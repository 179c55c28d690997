//! Our table against NCMEC's own schema, where that is at hand (it is not ours to publish): both must say the same of what
//! we write, and of what we write with a change.
#![allow(clippy::panic, clippy::unwrap_used)] // a test fails by panicking

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use reporter::cyber_tipline::schema::{Problem, Rule, validate};
use reporter::cyber_tipline::xml::{file_details_xml, report_xml};
use reporter::cyber_tipline::{model, schema};

#[path = "../src/cyber_tipline/mutated.rs"]
mod mutated;
#[path = "../src/cyber_tipline/random.rs"]
mod random;

use random::Chance;

/// Documents of each kind.
const DOCUMENTS: u64 = 10_000;
/// What xmllint gets at once.
const BATCH: usize = 1_000;

/// NCMEC's schema, if it and xmllint are here.
fn xsd(test: &str) -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let xsd = env::var_os("HASHWARD_SHARED").map_or(beside, PathBuf::from).join("specs/cyber_tipline.xsd");
    let why = match (xsd.is_file(), Command::new("xmllint").arg("--version").output()) {
        (true, Ok(_)) => return Some(xsd),
        (false, _) => "no shared data".to_string(),
        (_, Err(error)) => format!("xmllint of libxml2-utils does not run: {error}"),
    };
    eprintln!("SKIPPED {test}: {why}");
    if let Some(log) = env::var_os("HASHWARD_SKIP_LOG") {
        use std::io::Write;
        let mut log = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        writeln!(log, "SKIPPED {test}: {why}").unwrap();
    }
    None
}

/// Those that the schema refuses, or that are no XML at all, by their numbers.
fn refused(xsd: &Path, folder: &str, documents: &[String]) -> BTreeSet<usize> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let mut refused = BTreeSet::new();
    for (batch, documents) in documents.chunks(BATCH).enumerate() {
        let first = batch * BATCH;
        let mut lint = Command::new("xmllint");
        lint.args(["--noout", "--nonet", "--schema"]).arg(xsd).current_dir(&folder);
        for (number, document) in (first..).zip(documents) {
            fs::write(folder.join(number.to_string()), document).unwrap();
            lint.arg(number.to_string());
        }
        let said = lint.output().unwrap().stderr;
        let said = String::from_utf8_lossy(&said);
        let valid: BTreeSet<usize> = said
            .lines()
            .filter_map(|line| line.strip_suffix(" validates").and_then(|number| number.parse().ok()))
            .collect();
        assert!(!valid.is_empty(), "xmllint found nothing valid: {said}");
        refused.extend((first..first + documents.len()).filter(|number| !valid.contains(number)));
    }
    fs::remove_dir_all(&folder).unwrap();
    refused
}

/// What is wrong with a document by the schema, as we see it.
fn problems(document: &str) -> Vec<Problem> {
    let problems = validate(document.as_bytes()).err().unwrap_or_default();
    problems.into_iter().filter(|problem| problem.rule != Rule::Documented).collect()
}

fn assert_agree(documents: &[String], refused: &BTreeSet<usize>) {
    let mut differ = Vec::new();
    for (seed, document) in documents.iter().enumerate() {
        let ours = problems(document);
        if ours.is_empty() == refused.contains(&seed) {
            differ
                .push(format!("{seed}: the schema refuses it: {}, we say {ours:?}", refused.contains(&seed)));
        }
    }
    assert!(differ.is_empty(), "{} seeds: {:#?}", differ.len(), &differ[..differ.len().min(20)]);
}

#[test]
fn check_27_ten_thousand_reports_and_files_details_are_valid_by_ncmecs_schema() {
    let Some(xsd) = xsd("check_27_ten_thousand_reports_and_files_details_are_valid_by_ncmecs_schema") else {
        return;
    };
    for (kind, write) in [
        ("reports", (|seed| report_xml(&random::report(seed))) as fn(u64) -> String),
        ("details", |seed| file_details_xml(&random::file_details(seed))),
    ] {
        let documents: Vec<String> = (0..DOCUMENTS).map(write).collect();
        let refused = refused(&xsd, kind, &documents);
        assert!(refused.is_empty(), "seeds {refused:?} of {kind}");
    }
}

#[test]
fn check_27_our_table_and_ncmecs_schema_agree_on_what_is_changed() {
    let Some(xsd) = xsd("check_27_our_table_and_ncmecs_schema_agree_on_what_is_changed") else { return };
    let documents: Vec<String> = (0..DOCUMENTS)
        .map(|seed| {
            let xml = match seed % 2 {
                0 => report_xml(&random::report(seed)),
                _ => file_details_xml(&random::file_details(seed)),
            };
            mutated::mutated(&xml, &mut Chance(seed))
        })
        .collect();
    let refused = refused(&xsd, "changed", &documents);
    assert_agree(&documents, &refused);
    // Both kinds are there in numbers.
    assert!(refused.len() > 2_000 && refused.len() < 8_000, "{}", refused.len());
}

#[test]
fn what_is_well_formed_for_us_is_for_libxml2() {
    let Some(xsd) = xsd("what_is_well_formed_for_us_is_for_libxml2") else { return };
    let slips = [
        "<",
        ">",
        "/",
        "&",
        ";",
        "\"",
        "'",
        "=",
        "!",
        "?",
        "-",
        "--",
        "]]>",
        "<!--",
        "-->",
        "<![CDATA[",
        "<a>",
        "</a>",
        "<?x?>",
        "<?xml version=\"1.0\"?>",
        "&amp;",
        "&lt",
        "&nbsp;",
        "&#1;",
        "&#x41;",
        "&#X41;",
        "&#;",
        "&#xFFFE;",
        ":",
        "x:",
        "\u{1}",
        "\u{ffff}",
        "\u{b7}",
        "\u{feff}",
        "1",
        "a=\"1\"",
        " a='1'",
        " xml:lang=\"en\"",
        " xmlns:a=\"urn:a\"",
    ];
    let documents: Vec<String> = (0..DOCUMENTS)
        .map(|seed| {
            let mut chance = Chance(seed);
            let mut xml = file_details_xml(&random::file_details(seed));
            // Not in the declaration, where libxml2 forgives more than we do.
            let root = xml.find("<file").unwrap();
            let places: Vec<usize> = xml.char_indices().map(|(at, _)| at).filter(|at| *at >= root).collect();
            // Often at the beginning or the end, where the rules are others.
            let at = match chance.below(4) {
                0 => places[chance.below(60)],
                1 => places[places.len() - 1 - chance.below(20)],
                _ => chance.one(&places),
            };
            if chance.below(3) == 0 {
                xml.remove(at);
            } else {
                xml.insert_str(at, chance.one(&slips));
            }
            xml
        })
        .collect();
    let refused = refused(&xsd, "slips", &documents);
    assert_agree(&documents, &refused);
    assert!(refused.len() > 2_000 && refused.len() < 9_700, "{}", refused.len());
}

#[test]
fn our_table_and_ncmecs_schema_agree_on_the_recorded_cases() {
    let Some(xsd) = xsd("our_table_and_ncmecs_schema_agree_on_the_recorded_cases") else { return };
    let mut cases: Vec<PathBuf> =
        fs::read_dir(xsd.with_file_name("xmlcases")).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    let documents: Vec<String> = cases.iter().map(|case| fs::read_to_string(case).unwrap()).collect();
    let refused = refused(&xsd, "cases", &documents);
    for (number, document) in documents.iter().enumerate() {
        let ours = schema::validate(document.as_bytes());
        let name = cases[number].display();
        assert_eq!(!problems(document).is_empty(), refused.contains(&number), "{name}: {ours:?}");
    }
    assert!(!refused.is_empty() && refused.len() < cases.len());
}
