//! Who may do what: every route as every role and scope beside `docs/access.md`, logins, keys, and what is not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ingest::wire::{Client, ClientOptions, Query};
use serde_json::{Value, json};
use tests::{Http, Server, Setup, flipped, hex, program};

use crate::banks::random_hashes;
use crate::items::{describe, hashed, post, rule, settled};

pub const PASSWORD: &str = "correct horse battery";

/// Makes an admin on a data directory that no server has open.
pub fn create_admin(data: &Path, name: &str, password: &str) -> (bool, String) {
    let mut child = Command::new(program("hashward"))
        .args(["admin", "create", name, "--data-dir"])
        .arg(data)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    let said = [ended.stdout, ended.stderr].concat();
    (ended.status.success(), String::from_utf8(said).unwrap())
}

/// A server with an admin, and the admin's client.
pub fn with_admin(setup: Setup) -> (Server, Http) {
    let folder = tempfile::tempdir().unwrap().keep();
    let data = folder.join("data");
    let (made, said) = create_admin(&data, "root", PASSWORD);
    assert!(made, "{said}");
    let server = setup.data(&data).start();
    let admin = Http::logged_in(&server.admin, "root", PASSWORD);
    (server, admin)
}

/// A person of this role, logged in.
pub fn person(server: &Server, admin: &Http, name: &str, role: &str) -> Http {
    let body = json!({ "name": name, "role": role, "password": PASSWORD });
    let (status, answer) = admin.post("/api/v1/people", &body);
    assert_eq!(status, 201, "{answer}");
    Http::logged_in(&server.admin, name, PASSWORD)
}

/// A key with these scopes: its number and secret.
pub fn key(admin: &Http, scopes: &[&str]) -> (u64, String) {
    let (status, made) = admin.post("/api/v1/keys", &json!({ "name": scopes.join("+"), "scopes": scopes }));
    assert_eq!(status, 201, "{made}");
    (made["number"].as_u64().unwrap(), made["secret"].as_str().unwrap().to_string())
}

pub fn bearing(server: &Server, secret: &str) -> Http {
    Http::showing(&server.admin, &[("authorization", &format!("Bearer {secret}"))])
}

const ROLES: [&str; 5] = ["admin", "moderator_manager", "child_safety_moderator", "moderator", "analyst"];
const SCOPES: [&str; 8] = ["match", "distance", "curate", "items", "review", "report", "admin", "audit"];

/// The table of `docs/access.md`: a route, and who may call it.
pub fn table() -> BTreeMap<(String, String), [BTreeSet<String>; 2]> {
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/access.md");
    let text = std::fs::read_to_string(text).unwrap();
    let mut table = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let Some((method, path)) = cells.get(1).and_then(|cell| cell.split_once(" /")) else { continue };
        let who = |cell: &str, all: &[&str]| match cell {
            "all" => all.iter().map(ToString::to_string).collect(),
            "none" => BTreeSet::new(),
            names => names.split(", ").map(str::to_string).collect(),
        };
        let route = (method.to_string(), format!("/{path}"));
        assert!(table.insert(route, [who(cells[2], &ROLES), who(cells[3], &SCOPES)]).is_none(), "{line}");
    }
    table
}

/// The paths that `docs/access.md` lists for tenants' keys.
pub fn tenants_table() -> BTreeSet<String> {
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/access.md");
    let text = std::fs::read_to_string(text).unwrap();
    text.lines()
        .filter_map(|line| Some(line.strip_prefix("* `/")?.split_once('`')?.0.to_string()))
        .map(|path| format!("/{path}"))
        .collect()
}

const EVERYBODY: &str = "everybody";

/// Calls a route with nothing in it; whether the caller was let in.
fn is_let_in(http: &Http, method: &str, path: &str) -> bool {
    let place = path.split('/').map(|part| if part.starts_with('{') { "0" } else { part });
    let path = place.collect::<Vec<_>>().join("/");
    let body = (method != "GET").then_some("{}");
    let (status, text) = http.plain(method, &path, body);
    match status {
        403 if text.contains("it needs the right") => false,
        401 => panic!("{method} {path}: {status} {text}"),
        _ => true,
    }
}

#[test]
fn every_route_is_open_to_whom_the_table_says_and_to_nobody_else() {
    let (server, admin) = with_admin(Setup::default().flag("--dev", true));
    let table = table();
    let (_, document) = admin.get("/openapi.json");
    let shape = |path: &str| -> String {
        path.split('/')
            .map(|part| if part.starts_with('{') { "{}" } else { part })
            .collect::<Vec<_>>()
            .join("/")
    };
    let listed: BTreeSet<(String, String)> =
        table.keys().map(|(method, path)| (method.to_lowercase(), shape(path))).collect();
    let mut served = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        served.extend(methods.as_object().unwrap().keys().map(|method| (method.clone(), shape(path))));
    }
    assert_eq!(listed.symmetric_difference(&served).collect::<Vec<_>>(), Vec::<&(String, String)>::new());

    let roles: Vec<(&str, Http)> =
        ROLES.iter().map(|role| (*role, person(&server, &admin, &format!("a-{role}"), role))).collect();
    let scopes: Vec<(&str, Http)> =
        SCOPES.iter().map(|scope| (*scope, bearing(&server, &key(&admin, &[scope]).1))).collect();
    let stranger = Http::new(&server.admin);
    // Whoever logs out is out: that one last.
    let last = |path: &str| path == "/api/v1/logout";
    let routes = table.iter().filter(|((_, path), _)| !last(path));
    for ((method, path), may) in routes.chain(table.iter().filter(|((_, path), _)| last(path))) {
        let everybodys = may[0].iter().any(|who| who.starts_with(EVERYBODY));
        let place = path.replace("{name}", "0");
        let (status, text) = stranger.plain(method, &place, (method != "GET").then_some("{}"));
        assert_eq!(status == 401, !everybodys, "{method} {path} of a stranger: {status} {text}");
        for (callers, may) in [&roles, &scopes].into_iter().zip(may) {
            for (who, http) in callers {
                let expected = everybodys || may.contains(*who);
                assert_eq!(is_let_in(http, method, path), expected, "{method} {path} as {who}");
            }
        }
    }
    assert_eq!(roles[0].1.get("/api/v1/session").0, 401, "logged out");
}

#[test]
fn the_first_admin_is_made_by_a_command_and_then_everybody_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Setup::default().data(&data).start();
    assert_eq!(server.http.get("/api/v1/banks").0, 200, "nobody was made yet");
    assert!(server.http.get("/api/v1/session").1["name"] == "setup");
    let (made, said) = create_admin(&data, "root", PASSWORD);
    assert!(!made && said.contains("locked"), "while a server has it open: {said}");
    let stopped = server.stop();
    for (password, why) in
        [("", "no password was given"), ("short", "/password"), ("rootrootroot", "/password")]
    {
        let (made, said) = create_admin(&data, "root", password);
        assert!(!made && said.contains(why), "{said}");
    }
    assert!(create_admin(&data, "root", PASSWORD).0);
    let server = stopped.restart();
    assert_eq!(server.http.get("/api/v1/banks").0, 401);
    assert!(server.client().lookup(Query::pdq(random_hashes(1, 1))).is_err(), "on the binary port, too");
    assert_eq!(server.http.get("/healthz").0, 200);
    assert_eq!(Http::logged_in(&server.admin, "root", PASSWORD).get("/api/v1/banks").0, 200);
    let stopped = server.stop();
    let (made, said) = create_admin(&data, "root", "another horse battery");
    assert!(made && said.contains("a new password"), "{said}");
    let server = stopped.restart();
    let login = |password: &str| {
        server.http.post("/api/v1/login", &json!({ "name": "root", "password": password })).0
    };
    assert_eq!((login(PASSWORD), login("another horse battery")), (401, 200));
}

#[test]
fn wrong_logins_are_alike_and_locked_and_sessions_end_with_what_they_stood_on() {
    let (server, admin) = with_admin(Setup::default());
    let anna = person(&server, &admin, "anna", "moderator");
    let gone = person(&server, &admin, "gone", "moderator");
    assert_eq!(admin.put("/api/v1/people/gone", &json!({ "disabled": true })).0, 200);
    assert_eq!(gone.get("/api/v1/queues").0, 401, "at once");
    let login = |name: &str, password: &str| {
        server.http.post("/api/v1/login", &json!({ "name": name, "password": password }))
    };
    let wrong = login("nobody", PASSWORD);
    assert_eq!(wrong.0, 401);
    assert_eq!((login("anna", "wrong"), login("gone", PASSWORD)), (wrong.clone(), wrong.clone()));
    for name in ["anna", "nobody"] {
        for _ in 0..4 {
            assert_eq!(login(name, "wrong"), wrong);
        }
        assert_eq!(login(name, PASSWORD).0, 429, "{name} is locked, the right password or not");
    }
    assert_eq!(anna.get("/api/v1/queues").0, 200, "who is in stays in");
    // A session is nothing without the word that only our page knows.
    let (status, told) = anna.get("/api/v1/session");
    assert_eq!((status, &told["role"]), (200, &json!("moderator")));
    let told = told.to_string();
    assert!(!told.contains("argon2") && !told.contains("password"), "{told}");
    let new = json!({ "old": PASSWORD, "new": "quite another horse" });
    assert_eq!(anna.put("/api/v1/session/password", &new).0, 429, "locked here, too");
    assert_eq!(admin.put("/api/v1/people/anna", &json!({ "role": "analyst" })).0, 200);
    assert_eq!(anna.get("/api/v1/session").0, 401, "a new role is a new session");
    let (status, refused) = admin.put("/api/v1/people/root", &json!({ "disabled": true }));
    assert!(status == 409 && refused["message"].as_str().unwrap().contains("last admin"), "{refused}");
    assert_eq!(admin.post("/api/v1/logout", &json!({})).0, 204);
    assert_eq!(admin.get("/api/v1/people").0, 401);
    let log = server.log();
    assert!(!log.contains(PASSWORD) && !log.contains("argon2"), "{log}");
}

#[test]
fn a_key_is_shown_once_rotated_with_grace_and_shut_on_both_ports_at_once() {
    let (server, admin) = with_admin(Setup::default());
    admin.post("/api/v1/banks", &json!({ "name": "KNOWN" }));
    let known = random_hashes(1, 1)[0];
    let (status, _) =
        admin.post("/api/v1/banks/KNOWN/contents", &json!({ "signals": { "pdq": hex(&known) } }));
    assert_eq!(status, 201);
    let (number, secret) = key(&admin, &["match"]);
    let place = format!("/api/v1/keys/{number}");
    let shown = admin.get(&place).1.to_string() + &admin.get("/api/v1/keys").1.to_string();
    let tail = secret.rsplit('_').next().unwrap();
    assert!(!shown.contains(tail) && !shown.contains("digest"), "{shown}");

    // Yes or no and the bank, on both ports.
    let near = flipped(&known, 20, 1);
    let http = bearing(&server, &secret);
    let body = json!({ "signal_type": "pdq", "signals": [hex(&near)] });
    let (status, answer) = http.post("/api/v1/lookup", &body);
    assert_eq!((status, &answer["results"][0]["matches"]), (200, &json!([{ "bank": "KNOWN" }])));
    let mut choosing = body.clone();
    choosing["threshold"] = json!(19);
    assert_eq!(http.post("/api/v1/lookup", &choosing).0, 403);
    let client = |secret: &str| {
        let token = Some(secret.to_string());
        Client::new(server.listen, ClientOptions { token, ..ClientOptions::default() })
    };
    let mut connected = client(&secret);
    let found = connected.lookup(Query::pdq(vec![near])).unwrap();
    let row = &found.hits[0].matches[0];
    assert_eq!((row.bank_name.as_str(), row.content.0, row.distance.bits()), ("KNOWN", 0, 0));

    let (_, seeing) = key(&admin, &["distance"]);
    let found = client(&seeing).lookup(Query::pdq(vec![near])).unwrap();
    assert_eq!(found.hits[0].matches[0].distance.bits(), 20);
    assert_eq!(bearing(&server, &seeing).post("/api/v1/lookup", &choosing).0, 200);

    let (status, rotated) = admin.post(&format!("{place}/rotate"), &json!({ "grace_seconds": 600 }));
    let new = rotated["secret"].as_str().unwrap().to_string();
    assert_eq!((status, bearing(&server, &new).post("/api/v1/lookup", &body).0), (200, 200));
    assert_eq!(http.post("/api/v1/lookup", &body).0, 200, "the one before, for a while");
    assert_eq!(admin.post(&format!("{place}/rotate"), &json!({})).0, 200);
    assert_eq!(
        (http.post("/api/v1/lookup", &body).0, bearing(&server, &new).post("/api/v1/lookup", &body).0),
        (401, 401)
    );
    let deadline = Instant::now() + Duration::from_secs(10);
    while connected.lookup(Query::pdq(vec![near])).is_ok() {
        assert!(Instant::now() < deadline, "an open connection outlives its key");
        thread::sleep(Duration::from_millis(100));
    }
    assert!(client(&new).lookup(Query::pdq(vec![near])).is_err());
    assert!(client("hwk_1_soup").lookup(Query::pdq(vec![near])).is_err());
    assert_eq!(admin.delete(&place).0, 204);
    assert_eq!(admin.get(&place).0, 404);
    assert!(!server.log().contains(tail));
}

/// What is said of a queue or job, without its name.
fn without(answer: (u16, Value), names: &[&str]) -> (u16, String) {
    let text = names.iter().fold(answer.1.to_string(), |text, name| text.replace(name, "?"));
    (answer.0, text)
}

#[test]
fn child_safety_data_is_not_there_for_who_may_not_see_it() {
    let key_file = tests::Platform::key_file();
    let (mut server, admin) = with_admin(Setup::default().flag("--signing-key-file", key_file.display()));
    server.http = admin.clone();
    describe(&server);
    server.create_bank("KNOWN");
    let hashes = random_hashes(7, 3);
    hashes.iter().for_each(|hash| assert!(server.add_pdq("KNOWN", hash) > 0));
    let says = |word: &str| json!({ "field": "text", "comparator": "CONTAINS", "value": word });
    rule(&server, "csam", json!({ "order": 1, "when": says("csam"), "actions": [{ "enqueue_ncmec": {} }] }));
    rule(
        &server,
        "secret",
        json!({ "order": 2, "when": says("secret"), "actions": [{ "enqueue": { "queue": "secret" } }] }),
    );
    assert_eq!(admin.put("/api/v1/queues/secret", &json!({ "child_safety": true })).0, 200);
    for (at, word) in ["csam", "secret", "plain"].into_iter().enumerate() {
        let mut item =
            post(&format!("i-{word}"), &format!("u-{word}"), json!({ "gallery": [hashed(&hashes[at])] }));
        item["data"]["text"] = json!(word);
        assert_eq!(admin.post("/api/v1/items/async", &json!({ "items": [item] })).0, 202);
    }
    settled(&server);
    let job = |queue: &str| server.jobs(queue)[0]["id"].as_u64().unwrap();
    let (ncmec, secret, plain) = (job("ncmec"), job("secret"), job("default"));

    let ben = person(&server, &admin, "ben", "moderator");
    let carl = person(&server, &admin, "carl", "child_safety_moderator");
    for queue in ["secret", "ncmec", "triage"] {
        let (status, refused) = admin.put(
            &format!("/api/v1/queues/{queue}"),
            &json!({ "child_safety": true, "members": ["carl", "ben"] }),
        );
        assert_eq!((status, &refused["fields"][0]["pointer"]), (400, &json!("/members/1")), "{queue}");
    }
    assert_eq!(admin.put("/api/v1/queues/default", &json!({ "members": ["ben"] })).0, 200);
    assert_eq!(admin.put("/api/v1/queues/secret", &json!({ "child_safety": false })).0, 409, "it holds jobs");

    let names = |http: &Http| -> BTreeSet<String> {
        let (_, queues) = http.get("/api/v1/queues");
        queues.as_array().unwrap().iter().map(|queue| queue["name"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(names(&ben), BTreeSet::from(["default".to_string()]));
    assert_eq!(
        names(&carl),
        BTreeSet::from(["ncmec".to_string(), "secret".to_string()]),
        "not a member of the other"
    );
    assert!(names(&admin).len() >= 3);
    for queue in ["ncmec", "secret", "triage"] {
        let there = without(ben.get(&format!("/api/v1/queues/{queue}")), &[queue]);
        assert_eq!(there, without(ben.get("/api/v1/queues/absent"), &["absent"]));
        let there = without(ben.post(&format!("/api/v1/queues/{queue}/next"), &json!({})), &[queue]);
        assert_eq!(there, without(ben.post("/api/v1/queues/absent/next", &json!({})), &["absent"]));
        let to = |queue: &str| ben.post(&format!("/api/v1/jobs/{plain}/move"), &json!({ "queue": queue }));
        assert_eq!(without(to(queue), &[queue]), without(to("absent"), &["absent"]));
    }
    let decision = json!({ "lease": "x", "revision": 1, "decision": "ignore" });
    for (method, place, body) in [
        ("GET", "", Value::Null),
        ("GET", "/media", Value::Null),
        ("GET", "/hits", Value::Null),
        ("GET", "/comments", Value::Null),
        ("POST", "/comments", json!({ "text": "?" })),
        ("POST", "/extend", json!({ "lease": "x" })),
        ("POST", "/release", json!({ "lease": "x" })),
        ("POST", "/skip", json!({ "lease": "x" })),
        ("POST", "/move", json!({ "queue": "default" })),
        ("POST", "/priority", json!({ "priority": 1 })),
        ("POST", "/decision", decision),
    ] {
        let of = |http: &Http, job: u64| {
            let path = format!("/api/v1/jobs/{job}{place}");
            let answer = if method == "GET" { http.get(&path) } else { http.post(&path, &body) };
            without(answer, &[&job.to_string()])
        };
        let absent = of(&ben, 999_999);
        assert_eq!(absent.0, 404);
        for hidden in [ncmec, secret] {
            assert_eq!(of(&ben, hidden), absent, "{method} {place}");
            assert_ne!(of(&carl, hidden), absent, "{method} {place}");
        }
        assert_ne!(of(&ben, plain), absent, "{method} {place}");
    }
    // Counts: an analyst's metrics know nothing of it.
    let dora = person(&server, &admin, "dora", "analyst");
    for path in ["/metrics", "/api/v1/statistics"] {
        let (status, text) = dora.plain("GET", path, None);
        assert_eq!(status, 200);
        for word in ["\"ncmec\"", "\"secret\"", "\"triage\"", "filings_waiting{}"] {
            assert!(!text.contains(word), "{path} tells of {word}");
        }
        let (_, text) = admin.plain("GET", path, None);
        assert!(text.contains("\"ncmec\""), "{path} tells an admin");
    }
    // What was escalated is gone for who escalated nothing of the kind.
    let (status, lent) = ben.post("/api/v1/queues/default/next", &json!({}));
    assert_eq!((status, &lent["lease"]["reviewer"]), (200, &json!("ben")));
    assert_eq!(
        ben.post("/api/v1/queues/default/next", &json!({ "reviewer": "carl" })).0,
        400,
        "one is oneself"
    );
    assert_eq!(
        admin.post(&format!("/api/v1/jobs/{plain}/release"), &json!({ "lease": lent["lease"]["token"] })).0,
        409
    );
    let body = json!({ "lease": lent["lease"]["token"] });
    assert_eq!(ben.post(&format!("/api/v1/jobs/{plain}/ncmec"), &body).0, 403);
    assert_eq!(ben.post(&format!("/api/v1/jobs/{plain}/release"), &body).0, 200);
    assert_eq!(admin.post(&format!("/api/v1/jobs/{plain}/ncmec"), &json!({})).0, 200);
    assert_eq!(ben.get(&format!("/api/v1/jobs/{plain}")).0, 404);
    // A queue that was for child safety stays so when another takes its place.
    assert_eq!(admin.put("/api/v1/settings", &json!({ "ncmec_queue": "ncmec2" })).0, 200);
    assert!(!names(&ben).contains("ncmec") && names(&carl).contains("ncmec"));
    let (status, refused) = carl.post(&format!("/api/v1/jobs/{ncmec}/move"), &json!({ "queue": "default" }));
    assert_eq!(status, 404, "carl is no member there: {refused}");
    assert_eq!(admin.post(&format!("/api/v1/jobs/{ncmec}/move"), &json!({ "queue": "default" })).0, 409);
}

#[test]
fn everything_that_is_done_is_on_record_with_who_did_it_and_no_secret() {
    let (mut server, admin) = with_admin(Setup::default());
    server.http = admin.clone();
    describe(&server);
    let anna = person(&server, &admin, "anna", "child_safety_moderator");
    let auditor = bearing(&server, &key(&admin, &["audit"]).1);
    let (number, secret) = key(&admin, &["curate"]);
    let curator = bearing(&server, &secret);
    assert_eq!(curator.post("/api/v1/banks", &json!({ "name": "KNOWN" })).0, 201);
    assert_eq!(curator.post("/api/v1/banks", &json!({ "name": "KNOWN" })).0, 409);
    assert_eq!(curator.plain("GET", "/api/v1/banks/KNOWN/export", None).0, 200);
    rule(
        &server,
        "csam",
        json!({ "kind": "proactive", "when": { "field": "text", "comparator": "CONTAINS", "value": "words" }, "actions": [{ "enqueue_ncmec": {} }] }),
    );
    assert_eq!(
        admin.put("/api/v1/webhooks/platform", &json!({ "url": "https://platform.example/?key=planted" })).0,
        200
    );
    let mut item = post("i1", "u1", json!({}));
    item["data"]["text"] = json!("words");
    assert_eq!(admin.post("/api/v1/items/async", &json!({ "items": [item] })).0, 202);
    settled(&server);
    let (status, job) = anna.post("/api/v1/queues/ncmec/next", &json!({}));
    assert_eq!(status, 200, "{job}");
    let decision =
        json!({ "lease": job["lease"]["token"], "revision": job["revision"], "decision": "ignore" });
    assert_eq!(anna.post(&format!("/api/v1/jobs/{}/decision", job["id"]), &decision).0, 200);
    server.http.post("/api/v1/login", &json!({ "name": "anna", "password": "wrong" }));
    Http::new(&server.admin).post("/api/v1/login", &json!({ "name": "Typed Password", "password": "x" }));

    let records = |http: &Http| -> Vec<Value> {
        let (status, page) = http.get("/api/v1/audit?after=0&limit=1000");
        assert_eq!(status, 200, "{page}");
        page["entries"].as_array().unwrap().clone()
    };
    let all = records(&admin);
    let has = |who: &str, action: &str, about: &str| {
        all.iter()
            .any(|record| record["who"] == who && record["action"] == action && record["about"] == about)
    };
    let curators = format!("key:{number} (curate)");
    for (who, action, about) in [
        ("command", "people.add_admin", "person root"),
        ("person:root", "login", "address 127.0.0.1"),
        ("person:root", "people.add", "person anna"),
        ("person:root", "key.add", "key"),
        (curators.as_str(), "request.begun", "POST /api/v1/banks"),
        (curators.as_str(), "request.done", "POST /api/v1/banks"),
        (curators.as_str(), "request.done", "GET /api/v1/banks/KNOWN/export"),
        ("person:root", "item_type.change", "item type post"),
        ("person:root", "rule.change", "rule csam"),
        ("person:root", "webhook.change", "webhook platform"),
        ("person:anna", "job.lend", &format!("job {}", job["id"])),
        ("person:anna", "job.decide", &format!("job {}", job["id"])),
        ("address:127.0.0.1", "login.failed", "person anna"),
        ("address:127.0.0.1", "login.failed", "person ?"),
    ] {
        assert!(has(who, action, about), "{who} {action} {about} is not in {all:#?}");
    }
    let statuses: Vec<&Value> = all
        .iter()
        .filter(|record| record["about"] == "POST /api/v1/banks")
        .map(|record| &record["details"]["status"])
        .collect();
    assert_eq!(statuses, [&Value::Null, &json!(201), &Value::Null, &json!(409)]);
    let text = json!(all).to_string();
    for planted in [PASSWORD, "planted", "Typed Password", secret.rsplit('_').next().unwrap(), "argon2"] {
        assert!(!text.contains(planted), "{planted} is in the log");
    }
    // An auditor who may not see child safety data sees that there is a record, and checks the chain.
    let sealed: Vec<Value> =
        records(&auditor).into_iter().filter(|record| record["sealed"] == true).collect();
    assert!(
        sealed.len() >= 2
            && sealed.iter().all(|record| record["who"].is_null() && record["hash"].is_string())
    );
    assert!(!json!(records(&auditor)).to_string().contains("job.decide"));
}
