//! Sets of embeddings from outside: searched at once, labelled when approximate, kept over a kill, repaired when
//! damaged, refused when there is no room.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tests::{Server, Setup, program};

fn vectors(seed: u64, count: usize, dimensions: usize) -> Vec<Vec<f32>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut number = || random.next_u32() as f32 / u32::MAX as f32 - 0.5;
    (0..count).map(|_| (0..dimensions).map(|_| number()).collect()).collect()
}

fn lines(vectors: &[Vec<f32>]) -> String {
    let line = |(at, vector): (usize, &Vec<f32>)| {
        format!("{}\n", json!({ "id": format!("v{at}"), "vector": vector }))
    };
    vectors.iter().enumerate().map(line).collect()
}

/// Runs `hashward embeddings …` with this input.
fn embeddings(server: &Server, args: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new(program("hashward"))
        .args(["embeddings", "--admin", &format!("http://{}", server.admin)])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes()); // refused, it may end before it has read all
    let output = child.wait_with_output().unwrap();
    let words = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(words).unwrap())
}

fn nearest(server: &Server, set: &str, vector: &[f32], exact: bool) -> (u16, Value) {
    let body = json!({ "vector": vector, "k": 5, "exact": exact });
    server.http.post(&format!("/api/v1/embeddings/{set}/nearest"), &body)
}

fn wait_until_ready(server: &Server, set: &str) -> Value {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let (_, shown) = server.http.get(&format!("/api/v1/embeddings/{set}"));
        if shown["state"] == "ready" {
            return shown;
        }
        assert!(Instant::now() < until, "{shown}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_set_is_searched_at_once_labelled_and_kept() {
    let server = Server::start();
    let vectors = vectors(1, 3000, 24);
    let (done, words) =
        embeddings(&server, &["import", "FACES", "-", "--strategy", "graph"], &lines(&vectors));
    assert!(done, "{words}");
    // Before the graph is built answers are exact: the import is visible when it is acknowledged.
    let (status, answer) = nearest(&server, "FACES", &vectors[77], true);
    assert_eq!(
        (status, &answer["matches"][0]["id"], &answer["approximate"]),
        (200, &json!("v77"), &json!(false))
    );
    let shown = wait_until_ready(&server, "FACES");
    assert_eq!((&shown["embeddings"], &shown["dimensions"]), (&json!(3000), &json!(24)), "{shown}");
    assert!(shown["recall"].as_f64() > Some(0.8), "{shown}");
    let (_, approximate) = nearest(&server, "FACES", &vectors[78], false);
    assert_eq!(approximate["approximate"], true);
    assert_eq!((&approximate["recall"], &approximate["matches"][0]["id"]), (&shown["recall"], &json!("v78")));
    let (done, words) =
        embeddings(&server, &["nearest", "FACES", "--k", "1"], &format!("{}\n", json!(vectors[79])));
    assert!(done && words.contains("\"v79\""), "{words}");

    // Killed, it is the same; so it is with a spoilt graph, which is built again; a spoilt set says so.
    let stopped = server.kill();
    let server = stopped.restart();
    assert_eq!(wait_until_ready(&server, "FACES"), shown);
    assert_eq!(nearest(&server, "FACES", &vectors[78], false).1, approximate);
    assert!(!server.log().contains("a graph is built"), "{}", server.log());
    let folder = server.data().join("embeddings");
    let spoil = |file: &str| {
        let mut bytes = fs::read(folder.join(file)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        fs::write(folder.join(file), bytes).unwrap();
    };
    let stopped = server.kill();
    spoil("FACES.graph");
    let server = stopped.restart();
    assert_eq!(wait_until_ready(&server, "FACES"), shown);
    assert_eq!(nearest(&server, "FACES", &vectors[78], false).1, approximate);
    assert!(server.log().contains("cannot be used and is built anew"), "{}", server.log());
    let stopped = server.kill();
    spoil("FACES.set");
    let server = stopped.restart();
    let until = Instant::now() + Duration::from_secs(30);
    while server.http.get("/api/v1/embeddings/FACES").1["state"] != "damaged" {
        assert!(Instant::now() < until);
    }
    let (status, answer) = nearest(&server, "FACES", &vectors[78], false);
    assert!(status == 500 && answer["message"].as_str().unwrap().contains("import it again"), "{answer}");
    assert!(embeddings(&server, &["import", "FACES", "-"], &lines(&vectors[..50])).0);
    assert_eq!(nearest(&server, "FACES", &vectors[7], false).1["matches"][0]["id"], "v7");
    assert_eq!(server.http.delete("/api/v1/embeddings/FACES"), (200, json!({ "removed": true })));
    assert_eq!(server.http.delete("/api/v1/embeddings/FACES"), (200, json!({ "removed": false })));
    assert_eq!(nearest(&server, "FACES", &vectors[7], false).0, 404);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

#[test]
fn an_import_that_cannot_be_taken_leaves_the_set_as_it_was() {
    let server = Setup::default().flag("--memory-max-bytes", 32 << 20).start();
    let set = vectors(2, 100, 8);
    assert!(embeddings(&server, &["import", "SET", "-", "--metric", "euclidean"], &lines(&set)).0);
    for (input, reason) in [
        ("", "no embeddings"),
        ("{\"id\": \"a\", \"vector\": [1]}\n\n{\"id\": \"a\"}\n", "line 3: not {\"id\""),
        (
            "{\"id\": \"a\", \"vector\": [1]}\n{\"id\": \"a\", \"vector\": [2]}\n",
            "line 2: id 'a' is there twice",
        ),
        (
            "{\"id\": \"a\", \"vector\": [1]}\n{\"id\": \"b\", \"vector\": [2, 3]}",
            "line 2: the vector has 2 numbers",
        ),
        ("{\"id\": \"a\", \"vector\": [1e99]}", "line 1"),
    ] {
        let (done, words) = embeddings(&server, &["import", "SET", "-", "--metric", "euclidean"], input);
        assert!(!done && words.contains(reason), "{input}: {words}");
    }
    let (done, words) = embeddings(&server, &["import", "SET", "-"], &lines(&vectors(3, 10_000, 1024)));
    assert!(!done && words.contains("--memory-max-bytes"), "{words}");
    let (done, words) = embeddings(&server, &["import", "../SET", "-"], &lines(&set));
    assert!(!done && words.contains("A-Z, 0-9 and _"), "{words}");
    let (_, answer) = nearest(&server, "SET", &set[5], false);
    assert_eq!((&answer["matches"][0]["id"], &answer["matches"][0]["distance"]), (&json!("v5"), &json!(0.0)));
    let (status, answer) = nearest(&server, "SET", &[1.0], false);
    assert!(status == 400 && answer["message"].as_str().unwrap().contains("those of this set have 8"));

    // And what a set takes is no longer there for banks.
    assert!(embeddings(&server, &["import", "BIG", "-"], &lines(&vectors(4, 6000, 1024))).0);
    server.create_bank("B");
    let hashes: String =
        crate::banks::random_hashes(5, 15_000).iter().map(|hash| tests::hex(hash) + "\n").collect();
    let import =
        || server.http.stream("/api/v1/banks/B/import?signal_type=pdq", std::io::Cursor::new(hashes.clone()));
    let (status, answer) = import();
    assert_eq!(status, 507, "{answer}");
    assert_eq!(server.http.delete("/api/v1/embeddings/BIG").0, 200);
    assert_eq!(import().0, 200);
}
