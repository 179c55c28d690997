//! The tables from outside: kept over a restart, repaired when damaged, bounded in memory, scanned in bulk,
//! explained.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use index::Hash256;
use ingest::wire::Query;
use serde_json::{Value, json};
use tests::{Server, Setup, flipped, hex, program};

use crate::banks::random_hashes;

/// Imports hashes as a list.
fn import(server: &Server, bank: &str, hashes: &[Hash256]) {
    let list: String = hashes.iter().map(|hash| hex(hash) + "\n").collect();
    let path = format!("/api/v1/banks/{bank}/import?signal_type=pdq");
    let (status, answer) = server.http.stream(&path, std::io::Cursor::new(list));
    assert_eq!((status, answer["imported"].as_u64()), (200, Some(hashes.len() as u64)), "{answer}");
}

/// Contents that match each query, by a lookup over the binary port.
fn matches(server: &Server, queries: &[Hash256]) -> Vec<Vec<u64>> {
    let mut client = server.client();
    let mut all = vec![Vec::new(); queries.len()];
    for (part, queries) in queries.chunks(1000).enumerate() {
        for hit in client.lookup(Query::pdq(queries.to_vec())).unwrap().hits {
            let contents = hit.matches.iter().map(|found| found.content.0).collect();
            all[part * 1000 + hit.hash as usize] = contents;
        }
    }
    all
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < until, "no {what} within a minute");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The files that hold stored segments.
fn stored(data: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(data.join("segments")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|kind| kind == "sst")).collect()
}

#[test]
fn tables_are_kept_over_a_restart_and_repaired_when_damaged() {
    let server = Server::start();
    for bank in ["KEPT", "GONE"] {
        server.create_bank(bank);
    }
    let hashes = random_hashes(71, 60_000);
    import(&server, "KEPT", &hashes[..40_000]);
    import(&server, "GONE", &hashes[40_000..50_000]);
    wait_for("stored segment", || {
        let (_, index) = server.http.get("/api/v1/index");
        let plans = index["pdq"]["plans"].as_array().unwrap().clone();
        plans.len() == 1 && plans[0]["stored"] == true && plans[0]["signals"] == 50_000
    });
    // What comes after the stored segment: more contents, some removed, a bank removed.
    import(&server, "KEPT", &hashes[50_000..]);
    let removed: Vec<u64> = (1..=40).map(|at| at * 7).collect();
    for content in &removed {
        assert_eq!(server.http.delete(&format!("/api/v1/banks/KEPT/contents/{content}")).0, 200);
    }
    assert_eq!(server.http.delete("/api/v1/banks/GONE").0, 200);
    let queries: Vec<Hash256> =
        hashes.iter().step_by(7).enumerate().map(|(at, hash)| flipped(hash, at % 34, at as u64)).collect();
    let expected = matches(&server, &queries);
    assert!(expected.iter().filter(|found| !found.is_empty()).count() > 6000);
    let shown = |server: &Server| {
        let banks = server.http.get("/api/v1/banks").1;
        (banks, server.http.get("/api/v1/index").1["pdq"]["signals"].as_u64())
    };
    let before = shown(&server);
    assert_eq!(before.1, Some(50_000 - 40));

    let killed = server.kill();
    let server = killed.restart();
    assert!(!server.log().contains("built anew"), "{}", server.log());
    assert!(server.log().contains("stored=50000"), "{}", server.log());
    assert!(matches(&server, &queries) == expected);
    assert_eq!(shown(&server), before);

    // A flipped bit in the middle of every stored file: noticed, said, repaired, no wrong answer.
    let stopped = server.stop();
    for file in stored(stopped.data()) {
        let length = fs::metadata(&file).unwrap().len();
        let file = OpenOptions::new().read(true).write(true).open(&file).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, length / 2).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], length / 2).unwrap();
    }
    let server = stopped.restart();
    assert!(server.log().contains("built anew from the contents"), "{}", server.log());
    assert!(matches(&server, &queries) == expected);
    assert_eq!(shown(&server), before);
    wait_for("segment stored again", || !stored(server.data()).is_empty());
}

#[test]
fn contents_beyond_the_memory_budget_are_refused_and_lookups_go_on() {
    let server = Setup::default().flag("--memory-max-bytes", 8 << 20).start();
    server.create_bank("B");
    let hashes = random_hashes(72, 40_000);
    let list: String = hashes.iter().map(|hash| hex(hash) + "\n").collect();
    let (status, answer) =
        server.http.stream("/api/v1/banks/B/import?signal_type=pdq", std::io::Cursor::new(list));
    let words = answer["message"].as_str().unwrap_or_default().to_string();
    assert_eq!(status, 507, "{answer}");
    assert!(words.contains("8388608 bytes") || words.contains("8388608 are allowed"), "{words}");
    assert!(words.contains("--memory-max-bytes"), "{words}");
    let held = server.http.get("/api/v1/banks/B").1["contents"].as_u64().unwrap() as usize;
    assert!(held > 1000 && held < 20_000, "{held}");
    let found = matches(&server, &hashes);
    assert!(found[..held].iter().all(|found| found.len() == 1) && found[held..].iter().all(Vec::is_empty));
}

fn hashward(server: &Server, args: &[&str]) -> Output {
    let admin = format!("http://{}", server.admin);
    Command::new(program("hashward")).args(args).args(["--admin", &admin]).output().unwrap()
}

fn json_of(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_file_is_scanned_as_lookups_would_and_goes_on_after_kill_9() {
    let server = Server::start();
    server.create_bank("B");
    let banked = random_hashes(73, 30_000);
    import(&server, "B", &banked);
    let strangers = random_hashes(74, 60_000);
    let queries: Vec<Hash256> = strangers
        .iter()
        .enumerate()
        .map(
            |(at, stranger)| {
                if at % 9 == 0 { flipped(&banked[at / 2], at % 36, at as u64) } else { *stranger }
            },
        )
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let mut file = fs::File::create(path("list")).unwrap();
    for (at, query) in queries.iter().enumerate() {
        if at == 100 {
            writeln!(file, "not a hash").unwrap();
        }
        writeln!(file, "{}", hex(query)).unwrap();
    }
    drop(file);
    let scan = ["scan", &path("list"), "--out", &path("out"), "--part", "20000", "--threads", "2"];
    let output = hashward(&server, &scan);
    let summary = json_of(&output);
    assert_eq!((summary["hashes"].as_u64(), summary["bad_lines"].as_u64()), (Some(60_000), Some(1)));
    assert!(String::from_utf8_lossy(&output.stderr).contains("line 101"));
    let text = fs::read_to_string(path("out")).unwrap();
    let mut expected = Vec::new();
    for (at, found) in
        matches(&server, &queries).into_iter().enumerate().filter(|(_, found)| !found.is_empty())
    {
        expected.push((at + 1 + usize::from(at >= 100), hex(&queries[at]), found));
    }
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let found: Vec<(usize, String, Vec<u64>)> = lines
        .map(|line| {
            let contents =
                line["matches"].as_array().unwrap().iter().map(|it| it["content"].as_u64().unwrap());
            let signal = line["signal"].as_str().unwrap().to_string();
            (line["line"].as_u64().unwrap() as usize, signal, contents.collect())
        })
        .collect();
    assert!(found == expected, "{} hits, {} expected", found.len(), expected.len());
    assert_eq!(summary["hits"].as_u64(), Some(expected.len() as u64));
    let again = hashward(&server, &scan);
    assert!(String::from_utf8_lossy(&again.stderr).contains("not written over"));

    // Killed in the middle, then the same command again: the same output, byte for byte.
    let admin = format!("http://{}", server.admin);
    let small = ["scan", &path("list"), "--out", &path("killed"), "--part", "500", "--threads", "1"];
    let mut process = Command::new(program("hashward"))
        .args(small)
        .args(["--admin", &admin])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let progress = path("killed.progress");
    wait_for("progress", || {
        let kept =
            fs::read_to_string(&progress).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
        kept.is_some_and(|kept| kept["lines"].as_u64() > Some(2000))
    });
    process.kill().unwrap();
    process.wait().unwrap();
    let halfway = fs::metadata(path("killed")).unwrap().len();
    assert!(halfway < text.len() as u64, "it was killed too late to tell");
    // What a kill may leave behind the last note.
    OpenOptions::new().append(true).open(path("killed")).unwrap().write_all(b"{\"line\":").unwrap();
    let other = ["scan", &path("list"), "--out", &path("killed"), "--threshold", "20"];
    assert!(String::from_utf8_lossy(&hashward(&server, &other).stderr).contains("of another scan"));
    let output = hashward(&server, &small);
    assert!(String::from_utf8_lossy(&output.stderr).contains("goes on behind line"));
    assert_eq!(json_of(&output)["hashes"].as_u64(), Some(60_000));
    assert!(fs::read_to_string(path("killed")).unwrap() == text);
    assert!(!Path::new(&progress).exists());
}

#[test]
fn the_nearest_contents_are_found_however_far() {
    let server = Server::start();
    let banked = random_hashes(76, 3000);
    for (bank, hashes) in [("A", &banked[..1500]), ("B", &banked[1500..])] {
        server.create_bank(bank);
        import(&server, bank, hashes);
    }
    let query = random_hashes(77, 1)[0];
    let mut ranked: Vec<(u16, u64)> =
        (1..).zip(&banked).map(|(content, hash)| (query.distance(hash).bits(), content)).collect();
    ranked.sort_unstable();
    let found = |answer: &Value| -> Vec<(u16, u64)> {
        let matches = answer["matches"].as_array().unwrap().iter();
        matches
            .map(|hit| (hit["distance"].as_u64().unwrap() as u16, hit["content"].as_u64().unwrap()))
            .collect()
    };
    let output = hashward(&server, &["lookup", "--signal-type", "pdq", "--nearest", "7", &hex(&query)]);
    let answer = json_of(&output);
    assert_eq!((found(&answer), &answer["approximate"]), (ranked[..7].to_vec(), &json!(false)));
    let path = format!("/api/v1/nearest?signal={}&k=5&bank=B", hex(&query));
    let of_b: Vec<(u16, u64)> =
        ranked.iter().filter(|(_, content)| *content > 1500).take(5).copied().collect();
    assert_eq!(found(&server.http.get(&path).1), of_b);
    for (bad, says) in
        [("k=0", "k is 1 to"), ("bank=NONE", "bank 'NONE' not found"), ("max_distance=300", "0 to 256")]
    {
        let (status, answer) = server.http.get(&format!("/api/v1/nearest?signal={}&{bad}", hex(&query)));
        assert!(status >= 400 && answer["message"].as_str().unwrap().contains(says), "{status} {answer}");
    }
}

#[test]
fn a_scan_that_cannot_be_is_refused_with_the_reason() {
    let server = Server::start();
    let (status, answer) = server.http.stream("/api/v1/scan", std::io::Cursor::new(vec![0u8; 33]));
    assert_eq!((status, answer["message"].as_str().unwrap().contains("33 bytes")), (400, true), "{answer}");
    let (status, answer) =
        server.http.stream("/api/v1/scan?threshold=200", std::io::Cursor::new(vec![0u8; 32]));
    assert_eq!(
        (status, answer["message"].as_str().unwrap().contains("threshold 200")),
        (400, true),
        "{answer}"
    );
    let long = std::io::Cursor::new(vec![0u8; (32 << 20) + 32]);
    let (status, answer) = server.http.stream("/api/v1/scan", long);
    assert_eq!(
        (status, answer["message"].as_str().unwrap().contains("1048576 hashes")),
        (413, true),
        "{answer}"
    );
}

#[test]
fn the_index_explains_its_plan_with_its_predicted_and_measured_cost() {
    let server = Server::start();
    server.create_bank("B");
    import(&server, "B", &random_hashes(75, 50_000));
    wait_for("one segment", || {
        server.http.get("/api/v1/index").1["pdq"]["plans"].as_array().is_some_and(|plans| plans.len() == 1)
    });
    let explained = json_of(&hashward(&server, &["index", "explain", "--json"]));
    let segment = &explained["segments"][0];
    assert_eq!((segment["shape"].as_str(), segment["probes"].as_u64()), (Some("narrow"), Some(32)));
    assert_eq!(explained["costs"]["measured"], true);
    assert!(
        segment["predicted_ns"].as_f64().unwrap() > 0.0 && segment["measured_ns"].as_f64().unwrap() > 0.0
    );
    assert_eq!(segment["options"].as_array().unwrap().len(), 3);
    // Beyond what quotas of three reach everything is read.
    let wide =
        json_of(&hashward(&server, &["index", "explain", "--json", "--threshold", "100", "--no-measure"]));
    assert_eq!((&wide["segments"][0]["reads_all"], &wide["measured_ns"]), (&json!(true), &Value::Null));
    let text = String::from_utf8(hashward(&server, &["index", "explain"]).stdout).unwrap();
    assert!(text.contains("narrow") && text.contains("32 × 0") && text.contains("could be wide"), "{text}");
    let metrics = server.http.get("/metrics").1.to_string();
    assert!(metrics.contains("hashward_segment_hashes"), "{metrics}");
}
