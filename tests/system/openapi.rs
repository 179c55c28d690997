//! The description of the admin port is true: every route is in it, everything in it is a route, answers have its shapes.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Server, Setup, hex};

use crate::banks::random_hashes;
use crate::items::{hashed, post, rule, send, with};

/// The routes as the program's sources name them, and their methods.
fn routes() -> BTreeSet<(String, &'static str)> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/src/admin");
    let mut routes = BTreeSet::new();
    for file in ["mod.rs", "hma/mod.rs"] {
        let text = std::fs::read_to_string(sources.join(file)).unwrap();
        for route in text.split(".route(").skip(1) {
            let mut parts = route.splitn(3, '"');
            let (path, rest) = (parts.nth(1).unwrap(), parts.next().unwrap());
            let rest = rest.split("\n        .").next().unwrap().split(';').next().unwrap();
            for method in ["get", "post", "put", "delete"] {
                if rest.contains(&format!("{method}(")) {
                    routes.insert((path.to_string(), method));
                }
            }
        }
    }
    assert!(routes.len() > 60, "{routes:?}");
    routes
}

/// A path without the names of its parameters: HMA's routes name them otherwise.
fn shape(path: &str) -> String {
    let part = |part: &str| if part.starts_with('{') { "{}".to_string() } else { part.to_string() };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let server = Setup::default().flag("--dev", true).start();
    let (status, document) = server.http.get("/openapi.json");
    assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")));
    assert_eq!(server.http.get("/openapi/openapi.json").1, document);
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        described
            .extend(methods.as_object().unwrap().keys().map(|method| format!("{method} {}", shape(path))));
    }
    let served: BTreeSet<String> =
        routes().iter().map(|(path, method)| format!("{method} {}", shape(path))).collect();
    assert_eq!(
        described.difference(&served).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "described, not served"
    );
    assert_eq!(
        served.difference(&described).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "served, not described"
    );
    let (status, page) = server.http.get("/openapi/");
    let page = page.as_str().unwrap();
    assert_eq!(status, 200);
    for path in document["paths"].as_object().unwrap().keys() {
        assert!(page.contains(&format!("<code>{path}</code>")), "{path} is not on the page");
    }
    assert!(!page.contains("://"), "the page needs nothing from elsewhere");
}

/// Why a value has not this shape; the part of JSON Schema that the description uses.
fn fault(value: &Value, schema: &Value, document: &Value) -> Option<String> {
    if let Some(name) = schema["$ref"].as_str() {
        return fault(value, document.pointer(&name[1..]).unwrap(), document);
    }
    if let Some(all) = schema["allOf"].as_array() {
        return all.iter().find_map(|schema| fault(value, schema, document));
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => return None,
    };
    let is = |kind: &&str| match *kind {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("type {other}"),
    };
    if !kinds.iter().any(is) {
        return Some(format!("{value} is no {kinds:?}"));
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        return Some(format!("{value} is none of {allowed:?}"));
    }
    if let Some(items) = value.as_array() {
        return items.iter().find_map(|item| fault(item, &schema["items"], document));
    }
    let fields = value.as_object()?;
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            return Some(format!("{name} is missing in {value}"));
        }
    }
    fields.iter().find_map(|(name, field)| {
        let schema = match &schema["properties"][name] {
            Value::Null => &schema["additionalProperties"],
            schema => schema,
        };
        fault(field, schema, document).map(|fault| format!("{name}: {fault}"))
    })
}

#[test]
fn answers_have_the_shapes_that_are_described() {
    let server = Server::start();
    let document = server.http.get("/openapi.json").1;
    let hashes = random_hashes(11, 3);
    server.create_bank("B");
    for hash in &hashes {
        server.add_pdq("B", hash);
    }
    server.http.post("/c/exchanges", &json!({ "bank": "SAMPLE", "api": "sample" }));
    server.http.put("/c/bank/B/content/2", &json!({ "note": "n", "disable_until_ts": 0 }));
    let request = index::RequestId::fresh();
    server.client().submit(request, ingest::wire::Query::pdq(hashes.clone()), vec![]).unwrap();
    server.routed();
    let hash = hex(&hashes[0]);
    let signals = json!({ "pdq": hash, "raw_text": "words" });
    let body = json!({ "items": [{ "id": 7, "signals": signals }, { "url": "http://127.0.0.1/" }] });
    let get = |path: &str| ("get", path.to_string(), server.http.get(path));
    let post = |path: &str, body: &Value| ("post", path.to_string(), server.http.post(path, body));
    let answers = [
        get("/readyz"),
        get("/api/v1/banks"),
        get("/api/v1/banks/B"),
        get("/api/v1/banks/B/history"),
        get("/api/v1/banks/B/contents?limit=2"),
        get(&format!("/api/v1/banks/B/contents?near={hash}")),
        get("/api/v1/contents/2"),
        get("/api/v1/contents/2/history"),
        get("/api/v1/contents/1/recent"),
        get(&format!("/api/v1/recent?signal_type=pdq&signal={hash}")),
        get(&format!("/api/v1/nearest?signal={hash}")),
        get("/api/v1/statistics"),
        get("/api/v1/index"),
        get("/api/v1/hits"),
        get("/api/v1/hits/1"),
        get("/api/v1/queues"),
        get("/api/v1/embeddings"),
        post("/api/v1/banks", &json!({ "name": "C" })),
        post(
            "/api/v1/banks/B/contents",
            &json!({ "signals": { "md5": "0".repeat(32) }, "metadata": { "a": 1 } }),
        ),
        post("/api/v1/lookup", &json!({ "signal_type": "pdq", "signals": [hash] })),
        post("/api/v1/match", &body),
        ("post", "/api/v1/hash".into(), server.http.stream("/api/v1/hash", &b"some bytes"[..])),
        ("put", "/api/v1/banks/B".into(), server.http.put("/api/v1/banks/B", &json!({ "threshold": 30 }))),
        ("delete", "/api/v1/banks/C".into(), server.http.delete("/api/v1/banks/C")),
    ];
    answers.into_iter().for_each(|answer| described(&document, answer));
}

#[test]
fn answers_about_cases_have_the_shapes_that_are_described() {
    let server = with(Setup::default().flag("--audit-head-seconds", 1));
    let document = server.http.get("/openapi.json").1;
    let hash = random_hashes(12, 1)[0];
    server.create_bank("KNOWN");
    server.add_pdq("KNOWN", &hash);
    rule(&server, "csam", json!({ "banks": ["KNOWN"], "actions": [{ "enqueue_ncmec": {} }] }));
    let item = post("1", "u", json!({ "gallery": [hashed(&hash)], "made": "2026-01-01T00:00:00Z" }));
    send(&server, &[item.clone(), post("2", "u", json!({ "cover": "http://127.0.0.1:9/x" }))]);
    settled_but(&server, 1);
    let get = |path: &str| ("get", path.to_string(), server.http.get(path));
    let post_to = |path: &str, body: Value| ("post", path.to_string(), server.http.post(path, &body));
    let put = |path: &str, body: Value| ("put", path.to_string(), server.http.put(path, &body));
    let reporter = json!({ "kind": "user", "typeId": "user", "id": "r" });
    let report =
        post_to("/api/v1/report", json!({ "reporter": reporter, "reportedItem": post("3", "v", json!({})) }));
    let report_id = report.2.1["reportId"].as_str().unwrap().to_string();
    let next = post_to("/api/v1/queues/ncmec/next", json!({ "reviewer": "anna" }));
    let (job, token) = (format!("/api/v1/jobs/{}", next.2.1["id"]), next.2.1["lease"]["token"].clone());
    let comment = post_to(&format!("{job}/comments"), json!({ "reviewer": "anna", "text": "t" }));
    let extended = post_to(&format!("{job}/extend"), json!({ "lease": token }));
    let medium = json!([{ "media": 1, "classification": "A1", "viewed": true }]);
    let decision = json!({ "decision": "report", "lease": token, "revision": next.2.1["revision"], "media": medium,
        "incident_type": "Child Sex Tourism" });
    let answers = [
        report,
        next,
        comment,
        extended,
        get(&format!("{job}/media")),
        get(&format!("{job}/hits")),
        get(&format!("{job}/comments")),
        post_to(&format!("{job}/decision"), decision),
        get(&job),
        get("/api/v1/filings"),
        get("/api/v1/census"),
        get("/api/v1/queues"),
        get("/api/v1/queues/default"),
        put("/api/v1/queues/default", json!({ "description": "d" })),
        get(&format!("/api/v1/reports/{report_id}")),
        get("/api/v1/items?typeId=post&id=1"),
        get("/api/v1/users/items?typeId=user&id=u"),
        get("/api/v1/intake"),
        post_to("/api/v1/intake/2", json!({ "action": "give_up" })),
        get("/api/v1/deliveries"),
        get("/api/v1/item-types"),
        get("/api/v1/item-types/post"),
        put("/api/v1/item-types/other", json!({ "kind": "THREAD", "fields": [] })),
        get("/api/v1/rules"),
        get("/api/v1/rules/csam"),
        get("/api/v1/rules/csam/versions"),
        put("/api/v1/rules/more", json!({ "queue": "q", "state": "draft" })),
        post_to("/api/v1/rules/replay", json!({ "name": "csam" })),
        ("delete", "/api/v1/rules/more".into(), server.http.delete("/api/v1/rules/more")),
        get("/api/v1/rule-tables/1"),
        get("/api/v1/evaluations"),
        put("/api/v1/webhooks/w", json!({ "url": "https://a.example/" })),
        get("/api/v1/webhooks"),
        put(
            "/api/v1/organisations/default",
            json!({ "company_name": "c", "contact_email": "a@b.org", "actions_on_report": ["w"] }),
        ),
        put(
            "/api/v1/organisations/default/credentials",
            json!({ "username": "u", "password": "p", "environment": "test" }),
        ),
        get("/api/v1/organisations"),
        get("/api/v1/organisations/default"),
        get("/api/v1/alarms?all=true"),
        get("/api/v1/cybertips"),
        get("/api/v1/settings"),
        put("/api/v1/settings", json!({ "user_type": "user" })),
        put("/api/v1/settings/trusted-banks", json!({ "banks": [], "by": "ada" })),
        get("/api/v1/audit?limit=1"),
        signed_head(&server),
        get("/api/v1/audit/proof?record=1"),
        get("/api/v1/audit/proof?earlier=1"),
    ];
    answers.into_iter().for_each(|answer| described(&document, answer));
}

/// The last signed head, once there is one.
fn signed_head(server: &Server) -> (&'static str, String, (u16, Value)) {
    let path = "/api/v1/audit/head";
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = server.http.get(path);
        if answer.0 == 200 {
            return ("get", path.to_string(), answer);
        }
        assert!(Instant::now() < deadline, "{}", server.log());
        thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until no more than so many items wait.
fn settled_but(server: &Server, left: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.http.get("/api/v1/intake").1["entries"].as_array().unwrap().len() > left {
        assert!(Instant::now() < deadline, "{}", server.log());
        thread::sleep(Duration::from_millis(10));
    }
}

/// That an answer has the shape that the document gives it.
fn described(document: &Value, (method, path, (status, answer)): (&str, String, (u16, Value))) {
    assert!((200..300).contains(&status), "{path}: {answer}");
    let plain = path.split('?').next().unwrap();
    let paths = document["paths"].as_object().unwrap();
    let (_, methods) = paths
        .iter()
        .filter(|(described, _)| {
            let parts = |path: &str| path.split('/').map(str::to_string).collect::<Vec<_>>();
            let (described, asked) = (parts(described), parts(plain));
            described.len() == asked.len()
                && described.iter().zip(&asked).all(|(one, other)| one.starts_with('{') || one == other)
        })
        .min_by_key(|(described, _)| described.matches('{').count())
        .unwrap();
    let response = &methods[method]["responses"][status.to_string()];
    assert!(response.is_object(), "{method} {path} answers {status}, which is not described");
    let schema = &response["content"]["application/json"]["schema"];
    assert!(schema.is_object(), "{method} {path}");
    assert_eq!(fault(&answer, schema, document), None, "{method} {path}: {answer}");
}
