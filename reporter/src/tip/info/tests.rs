//! What is read of the platform's answer, and what refuses it.

use super::*;

fn keys(of: &str, ids: &[&str]) -> Vec<ItemKey> {
    ids.iter().map(|id| ItemKey::new(of, *id)).collect()
}

fn full() -> Value {
    json!({
        "users": [{
            "id": "u", "typeId": "user", "screenName": "sunny", "data": { "b": 1, "a": [null] },
            "email": [{ "email": "u@example.com", "type": "Home", "verified": true, "verificationDate": "2025-01-01T00:00:00Z" }],
            "ipCaptureEvent": [{
                "ipAddress": "192.0.2.1", "eventName": "Login", "dateTime": "2025-01-01T00:00:00Z",
                "possibleProxy": false, "port": 443
            }]
        }],
        "media": [
            { "id": "1", "typeId": "post", "missing": false, "publiclyAvailable": true, "fileName": "image.jpg",
              "additionalInfo": ["seen"], "ipCaptureEvent": [{ "ipAddress": "2001:db8::1" }],
              "fileDetails": { "hash": "abee", "hashType": "pdq" } },
            { "id": "2", "typeId": "post", "missing": true }
        ],
        "additionalFiles": [{ "fileUrl": "https://p.example/e.pdf", "fileName": "e.pdf", "additionalInfo": ["evidence"] }],
        "messages": [{ "id": "m", "typeId": "message", "ipAddress": "192.0.2.9" }, { "id": "n", "typeId": "message" }],
        "additionalInfo": "more"
    })
}

fn reads(value: &Value) -> Result<Info, InfoError> {
    read(value.to_string().as_bytes(), &keys("user", &["u"]), &keys("post", &["1", "2"]))
}

#[test]
fn the_request_is_that_of_coop() {
    let asked = request(&keys("user", &["u"]), &keys("post", &["1"]));
    assert_eq!(
        asked,
        json!({ "users": [{ "id": "u", "typeId": "user" }], "media": [{ "id": "1", "typeId": "post" }] })
    );
}

#[test]
fn everything_the_platform_says_is_read() {
    let info = reads(&full()).unwrap();
    let user = info.user(&ItemKey::new("user", "u")).unwrap();
    let email = &user.emails[0];
    assert_eq!((user.screen_name.as_deref(), email.kind), (Some("sunny"), Some(EmailKind::Home)));
    assert_eq!(email.verification_date.as_deref(), Some("2025-01-01T00:00:00Z"));
    let event = IpCaptureEvent {
        ip_address: "192.0.2.1".to_string(),
        event_name: Some(EventName::Login),
        date_time: Some("2025-01-01T00:00:00Z".to_string()),
        possible_proxy: Some(false),
        port: Some(443),
    };
    assert_eq!(user.ip_events, [event]);
    let first = ItemKey::new("post", "1");
    let medium = info.media_of(&first).next().unwrap();
    assert_eq!(medium.hash, Some(FileHash { hash: "abee".to_string(), of: "PDQ".to_string() }));
    assert_eq!((medium.publicly_available, medium.additional_info.len()), (Some(true), 1));
    assert!(!info.is_missing(&first) && info.is_missing(&ItemKey::new("post", "2")));
    assert_eq!((info.additional_files.len(), info.messages.len()), (1, 1));
    assert_eq!(info.additional_info.as_deref(), Some("more"));
    let stored: Info = serde_json::from_str(&serde_json::to_string(&info).unwrap()).unwrap();
    assert_eq!(stored, info);
}

#[test]
fn check_28_the_order_of_keys_says_nothing() {
    let other = r#"{"additionalInfo":"x","users":[{"data":{"b":1,"a":2},"typeId":"user","email":[{"verified":true,"email":"a@b"}],"id":"u"}]}"#;
    let one = r#"{"users":[{"id":"u","email":[{"email":"a@b","verified":true}],"data":{"a":2,"b":1},"typeId":"user"}],"additionalInfo":"x"}"#;
    let users = keys("user", &["u"]);
    let (one, other) =
        (read(one.as_bytes(), &users, &[]).unwrap(), read(other.as_bytes(), &users, &[]).unwrap());
    assert_eq!(serde_json::to_string(&one).unwrap(), serde_json::to_string(&other).unwrap());
}

#[test]
fn check_30_an_address_alone_is_an_event() {
    let value = json!({ "users": [{ "id": "u", "typeId": "user", "ipCaptureEvent": [{ "ipAddress": "192.0.2.1" }] }] });
    let info = read(value.to_string().as_bytes(), &keys("user", &["u"]), &[]).unwrap();
    let event = &info.users[0].ip_events[0];
    assert_eq!(event, &IpCaptureEvent { ip_address: "192.0.2.1".to_string(), ..IpCaptureEvent::default() });
}

#[test]
fn check_47_what_was_asked_for_and_not_answered_is_named() {
    let mut value = full();
    value["media"].as_array_mut().unwrap().remove(0);
    let error = reads(&value).unwrap_err();
    assert_eq!(error, InfoError::Missing { what: "medium", key: ItemKey::new("post", "1"), more: 0 });
    assert!(error.to_string().contains("medium 1 of type post"), "{error}");
    value["users"] = json!([{ "id": "u", "typeId": "person" }]);
    assert!(matches!(reads(&value), Err(InfoError::Missing { what: "user", .. })), "of another type");
    value["users"] = Value::Null;
    assert!(matches!(reads(&value), Err(InfoError::Missing { what: "user", .. })));
    let two = read(b"{}", &keys("user", &["a", "b", "c"]), &[]).unwrap_err();
    assert!(two.to_string().ends_with("user a of type user, and of 2 more"), "{two}");
}

#[test]
fn check_48_what_nobody_asked_for_is_passed_over() {
    let mut value = full();
    value["users"].as_array_mut().unwrap().insert(0, json!({ "id": "x", "typeId": "user", "email": 7 }));
    value["media"].as_array_mut().unwrap().push(json!({ "id": "9", "typeId": "post", "missing": "no" }));
    value["users"][1]["favourites"] = json!(["unknown"]);
    value["more"] = json!({});
    assert_eq!(reads(&value).unwrap(), reads(&full()).unwrap());
}

#[test]
fn check_48_a_wrong_type_refuses_the_whole_and_points_at_its_place() {
    let says = |pointer: &str, wrong: Value| {
        let mut value = full();
        *value.pointer_mut(pointer).unwrap() = wrong;
        match reads(&value) {
            Err(InfoError::Field(error)) => error.pointer,
            other => panic!("{pointer}: {other:?}"),
        }
    };
    for (pointer, wrong) in [
        ("/users", json!({})),
        ("/users/0", json!([])),
        ("/users/0/id", json!(7)),
        ("/users/0/screenName", json!(["a"])),
        ("/users/0/data", json!("text")),
        ("/users/0/email", json!("a@b")),
        ("/users/0/email/0/email", json!("")),
        ("/users/0/email/0/type", json!("Mobile")),
        ("/users/0/email/0/verified", json!("yes")),
        ("/users/0/email/0/verificationDate", json!("yesterday")),
        ("/users/0/ipCaptureEvent/0/ipAddress", json!("192.0.2")),
        ("/users/0/ipCaptureEvent/0/eventName", json!("Walk")),
        ("/users/0/ipCaptureEvent/0/dateTime", json!(5)),
        ("/users/0/ipCaptureEvent/0/possibleProxy", json!(0)),
        ("/users/0/ipCaptureEvent/0/port", json!(65_536)),
        ("/users/0/ipCaptureEvent/0/port", json!("443")),
        ("/media/0/missing", json!("false")),
        ("/media/0/publiclyAvailable", json!(1)),
        ("/media/0/fileName", json!({})),
        ("/media/0/additionalInfo", json!("text")),
        ("/media/0/additionalInfo/0", json!(1)),
        ("/media/0/fileDetails", json!("abee")),
        ("/additionalFiles/0/fileUrl", json!("file:///etc/passwd")),
        ("/messages/0/ipAddress", json!("nowhere")),
        ("/additionalInfo", json!(["a"])),
    ] {
        assert_eq!(says(pointer, wrong), pointer);
    }
    assert_eq!(says("/media/0/fileDetails/hashType", Value::Null), "/media/0/fileDetails");
    assert_eq!(says("/users/0/email/0/email", Value::Null), "/users/0/email/0/email");
}

#[test]
fn check_48_what_is_too_much_or_no_json_is_refused() {
    let users = keys("user", &["u"]);
    assert_eq!(read(&vec![b' '; INFO_BYTES_MAX + 1], &users, &[]), Err(InfoError::TooLong));
    for body in ["", "<html>", "{\"users\":[", "\u{feff}{}", "{} {}"] {
        assert!(matches!(read(body.as_bytes(), &users, &[]), Err(InfoError::NotJson { .. })), "{body}");
    }
    assert!(matches!(read(b"[]", &users, &[]), Err(InfoError::Field(_))));
    assert!(matches!(read(b"\xff\xfe", &users, &[]), Err(InfoError::NotJson { .. })));
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    assert!(matches!(read(&deep, &users, &[]), Err(InfoError::NotJson { .. })));
    let many = json!({ "users": [{ "id": "u", "typeId": "user", "email": vec![json!({ "email": "a@b" }); EMAILS_MAX + 1] }] });
    let error = read(many.to_string().as_bytes(), &users, &[]).unwrap_err();
    assert!(error.to_string().contains("/users/0/email: has 1001 entries, 1000 at most"), "{error}");
}
