//! For whom is reported: settings that NCMEC's rules are held against when they are saved, and credentials that go in and
//! never come out.

use serde_json::{Value, json};
use tests::{Server, Setup};

use crate::access::{bearing, key, person, with_admin};

const PATH: &str = "/api/v1/organisations/default";
const PLANTED: &str = "planted-ncmec-word";

fn pointer(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["fields"][0]["pointer"].as_str().unwrap_or_default())
}

/// Sets the organisation of queues that name none up.
pub fn organise(server: &Server, more: Value) -> Value {
    let mut body = json!({ "company_name": "Example", "contact_email": "reports@example.org" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, kept) = server.http.put(PATH, &body);
    assert_eq!(status, 200, "{kept}");
    kept
}

#[test]
fn check_39_settings_are_checked_when_they_are_saved() {
    let server = Server::start();
    let put = |body: Value| server.http.put(PATH, &body);
    assert_eq!(pointer(&put(json!({ "company_name": "Example" }))), (400, "/contact_email"));
    assert_eq!(server.http.get(PATH).0, 404, "nothing of it was saved");
    let kept = organise(&server, json!({ "company_template": "Serve us by mail." }));
    assert_eq!(kept["credentials"], json!({ "set": false }));
    assert_eq!(server.http.get(PATH).1, kept);
    assert_eq!(server.http.get("/api/v1/organisations").1, json!([kept]));

    let with = |name: &str, value: Value| {
        let mut body = json!({ "company_name": "Example", "contact_email": "reports@example.org" });
        body[name] = value;
        server.http.put(PATH, &body)
    };
    assert_eq!(pointer(&with("actions_on_report", json!(["ban"]))), (400, "/actions_on_report/0"));
    assert_eq!(pointer(&with("queue", json!("escalated"))), (400, "/queue"), "there is none");
    server.http.put("/api/v1/webhooks/ban", &json!({ "url": "https://platform.example/ban" }));
    server.http.put("/api/v1/queues/escalated", &json!({}));
    assert_eq!(pointer(&with("queue", json!("escalated"))), (400, "/queue"), "everybody sees it");
    server.http.put("/api/v1/queues/escalated", &json!({ "child_safety": true }));
    assert_eq!(with("queue", json!("escalated")).0, 200);
    assert_eq!(
        organise(&server, json!({ "queue": "escalated", "actions_on_report": ["ban"] }))["queue"],
        "escalated"
    );
    for (method, path) in [("webhook", "/api/v1/webhooks/ban"), ("queue", "/api/v1/queues/escalated")] {
        let (status, refused) = server.http.delete(path);
        assert_eq!(status, 409, "{method} is named: {refused}");
    }
    assert_eq!(server.http.put("/api/v1/queues/escalated", &json!({ "child_safety": false })).0, 409);

    // What is decided in a queue is reported for one organisation, which is there.
    let (status, refused) = server.http.put("/api/v1/queues/other", &json!({ "organisation": "other" }));
    assert_eq!((status, &refused["fields"][0]["pointer"]), (400, &json!("/organisation")));
    let other = json!({ "company_name": "Other", "contact_email": "other@example.org" });
    assert_eq!(server.http.put("/api/v1/organisations/other", &other).0, 200);
    let queue = json!({ "organisation": "other", "child_safety": true });
    assert_eq!(server.http.put("/api/v1/queues/other", &queue).1["organisation"], "other");
    assert_eq!(pointer(&with("queue", json!("other"))), (400, "/queue"), "it reports for another");
    assert_eq!(server.http.put("/api/v1/organisations/a%20b", &other).0, 400);
}

#[test]
fn credentials_go_in_and_never_come_out() {
    let (mut server, admin) = with_admin(Setup::default());
    server.http = admin.clone();
    let path = format!("{PATH}/credentials");
    let given = json!({ "username": "esp", "password": PLANTED, "environment": "production" });
    assert_eq!(admin.put(&path, &given).0, 404, "of no organisation");
    organise(&server, json!({}));
    for (field, wrong) in
        [("environment", json!("prod")), ("password", Value::Null), ("username", json!("a:b"))]
    {
        let mut body = given.clone();
        body[field] = wrong;
        assert_eq!(pointer(&admin.put(&path, &body)), (400, format!("/{field}").as_str()));
    }
    let known = json!({ "set": true, "username": "esp", "environment": "production" });
    assert_eq!(admin.put(&path, &given), (200, known.clone()));
    assert_eq!(admin.get(PATH).1["credentials"], known);
    assert_eq!(
        organise(&server, json!({ "at_once": 2 }))["credentials"],
        known,
        "they stay when the rest changes"
    );

    let manager = person(&server, &admin, "mia", "moderator_manager");
    let machine = bearing(&server, &key(&admin, &["admin"]).1);
    for http in [&admin, &manager, &machine] {
        for path in ["/api/v1/organisations", PATH, "/api/v1/settings", "/api/v1/queues", "/metrics"] {
            let (_, text) = http.plain("GET", path, None);
            assert!(!text.contains(PLANTED), "{path}");
        }
    }
    let (_, log) = admin.get("/api/v1/audit?limit=1000");
    let actions = log["entries"].as_array().unwrap().iter();
    let of = |action: &str| actions.clone().filter(|record| record["action"] == action).count();
    assert_eq!((of("organisation.change"), of("organisation.credentials")), (2, 1));
    assert!(!log.to_string().contains(PLANTED));
    assert_eq!(admin.delete(&path).0, 204);
    assert_eq!(admin.delete(&path).0, 404);
    assert_eq!(admin.get(PATH).1["credentials"], json!({ "set": false }));
    assert!(!server.log().contains(PLANTED));
}

#[test]
fn what_is_escalated_waits_where_the_organisation_says() {
    let server = crate::items::with(Setup::default());
    server.http.put("/api/v1/queues/escalated", &json!({ "child_safety": true }));
    organise(&server, json!({ "queue": "escalated" }));
    let reporter = json!({ "kind": "user", "typeId": "user", "id": "r" });
    let item = crate::items::post("1", "u", json!({}));
    assert_eq!(
        server.http.post("/api/v1/report", &json!({ "reporter": reporter, "reportedItem": item })).0,
        201
    );
    crate::items::settled(&server);
    let job = &server.jobs("default")[0];
    let (status, made) =
        server.http.post(&format!("/api/v1/jobs/{}/ncmec", job["id"]), &json!({ "reviewer": "anna" }));
    assert_eq!((status, &made["queue"]), (200, &json!("escalated")), "{made}");
}
