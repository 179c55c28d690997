//! Whoever may not know does not learn it by asking: a refusal says the same, and takes as long, whether there is something
//! behind it or not.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Http, Setup};

use crate::access::{PASSWORD, bearing, key, person, with_admin};

/// Status, every header but the time, and the body.
fn refused(http: &Http, path: &str) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let (status, headers, bytes) = http.bytes(path, &[]);
    let headers = headers.into_iter().filter(|(name, _)| name != "date").collect();
    (status, headers, bytes)
}

#[test]
fn a_failed_login_takes_as_long_and_says_the_same_whether_there_is_such_a_person_or_not() {
    let (server, admin) = with_admin(Setup::default());
    let kinds = ["there", "nobody", "disabled"]
        .map(|kind| (0..4).map(|at| format!("{kind}{at}")).collect::<Vec<_>>());
    for name in kinds[0].iter().chain(&kinds[2]) {
        person(&server, &admin, name, "moderator");
    }
    for name in &kinds[2] {
        assert_eq!(admin.put(&format!("/api/v1/people/{name}"), &json!({ "disabled": true })).0, 200);
    }
    let try_in = |name: &str| {
        let begun = Instant::now();
        let answer = server.http.post("/api/v1/login", &json!({ "name": name, "password": "wrong" }));
        assert_eq!(answer, (401, json!({ "message": "name or password is wrong" })), "{name}");
        begun.elapsed()
    };
    // One after another, so that what else the machine does meets all of them; fewer than lock a name or an address.
    let mut took = [const { Vec::<Duration>::new() }; 3];
    for round in 0..6 {
        for (kind, names) in kinds.iter().enumerate() {
            took[kind].push(try_in(&names[round % 4]));
        }
    }
    // What else the machine does only adds.
    let least = took.map(|times| times.into_iter().min().unwrap());
    println!("there {:?}, not there {:?}, disabled {:?}", least[0], least[1], least[2]);
    // A password costs tens of milliseconds to compare; not comparing one would show as a small part of that.
    for other in &least[1..] {
        let share = other.as_secs_f64() / least[0].as_secs_f64();
        assert!((0.4..2.5).contains(&share), "{least:?}");
    }
    let log = admin.get("/api/v1/audit?action=login.failed").1;
    assert_eq!(log["entries"].as_array().unwrap().len(), 18, "all are on record alike");
}

#[test]
fn a_key_that_never_was_is_answered_as_one_that_was() {
    let (server, admin) = with_admin(Setup::default());
    let (removed, gone) = key(&admin, &["match"]);
    assert_eq!(admin.delete(&format!("/api/v1/keys/{removed}")).0, 204);
    let (changed, old) = key(&admin, &["match"]);
    assert_eq!(admin.post(&format!("/api/v1/keys/{changed}/rotate"), &json!({})).0, 200);
    let (_, live) = key(&admin, &["match"]);
    let mut close = live.clone();
    let last = close.pop().unwrap();
    close.push(if last == 'A' { 'B' } else { 'A' });
    let never = live.chars().map(|digit| if digit == '_' { '_' } else { 'x' }).collect::<String>();
    let others = [gone, old, close, never, "hwk_1_soup".to_string(), PASSWORD.to_string()];
    for path in ["/api/v1/banks", "/api/v1/queues", "/api/v1/no/such/route", "/c/banks", "/metrics"] {
        let plain = refused(&bearing(&server, "nonsense"), path);
        assert_eq!(plain.0, 401, "{path}: {}", String::from_utf8_lossy(&plain.2));
        for other in &others {
            assert_eq!(refused(&bearing(&server, other), path), plain, "{path}");
        }
    }
}

#[test]
fn what_a_key_may_not_do_is_refused_before_it_is_looked_whether_it_is_there() {
    let (server, admin) = with_admin(Setup::default());
    assert_eq!(admin.post("/api/v1/banks", &json!({ "name": "THERE" })).0, 201);
    person(&server, &admin, "anna", "moderator");
    let (number, _) = key(&admin, &["match"]);
    let (_, secret) = key(&admin, &["audit"]);
    let http = bearing(&server, &secret);
    let number = number.to_string();
    for (there, not_there) in [
        ("/api/v1/banks/THERE", "/api/v1/banks/NOT_THERE"),
        ("/api/v1/banks/THERE/contents", "/api/v1/banks/NOT_THERE/contents"),
        ("/c/bank/THERE", "/c/bank/NOT_THERE"),
        ("/api/v1/people/anna", "/api/v1/people/nobody"),
        (&format!("/api/v1/keys/{number}"), "/api/v1/keys/777"),
        ("/api/v1/queues/default", "/api/v1/queues/nowhere"),
        ("/api/v1/jobs/1", "/api/v1/jobs/777"),
    ] {
        let answer = refused(&http, there);
        assert_eq!(answer.0, 403, "{there}: {}", String::from_utf8_lossy(&answer.2));
        assert_eq!(answer, refused(&http, not_there), "{there}");
        for changing in ["PUT", "DELETE"] {
            let (one, other) = [there, not_there].map(|path| http.plain(changing, path, Some("{}"))).into();
            let other = (other.0, other.1.replace(not_there, there));
            assert!(one == other && one.0 >= 400, "{changing} {there}: {one:?}, {other:?}");
        }
    }
    let told: Value = http.get("/api/v1/banks/THERE").1;
    assert!(!told.to_string().contains("THERE"), "{told}");
}
