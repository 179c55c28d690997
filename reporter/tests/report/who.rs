//! Who is reported, by whom, when and where.

use reporter::cyber_tipline::model::{EmailKind, EventName, Incident, Report};
use reporter::tip::organisation::InternetDetail;
use serde_json::{Value, json};

use crate::world::{HOUR, NOW, World};

fn one_post(more: Value) -> World {
    let mut world = World::new();
    let post = world.post("1", &["https://media.example/a.png?token=secret&x=1"], more);
    world.report(&[&post]);
    world
}

fn of_user(world: &mut World, user: Value) -> Report {
    let mut entry = json!({ "id": "u", "typeId": "user" });
    entry.as_object_mut().unwrap().extend(user.as_object().unwrap().clone());
    world.answered(entry, json!([{ "id": "1", "typeId": "post" }]));
    world.read()
}

#[test]
fn everything_that_is_known_is_in_its_field() {
    let mut world = one_post(json!({ "page": "https://example.org/posts/1" }));
    world.item("user", "u", json!({ "name": "Sunny Ü", "mail": "U@example.com", "ip": "198.51.100.7" }));
    world.words.escalate = Some("  a child is in danger now ".to_string());
    world.words.additional_info = Some("seen by two".to_string());
    let report = of_user(
        &mut world,
        json!({
            "screenName": "sunny", "data": { "z": 1, "a": "b" },
            "email": [{ "email": "u@example.com", "type": "Home", "verified": true, "verificationDate": "2025-01-01T01:00:00+01:00" }],
            "ipCaptureEvent": [{ "ipAddress": "192.0.2.1", "eventName": "Login", "dateTime": "2025-05-01T00:00:00Z", "port": 443, "possibleProxy": false }]
        }),
    );
    let summary = &report.incident_summary;
    assert_eq!(summary.escalate_to_high_priority.as_deref(), Some("  a child is in danger now "), "verbatim");
    assert_eq!(summary.incident_date_time, "2025-06-01T10:00:00Z");
    let user = &report.person_or_user_reported[0];
    assert_eq!(
        (user.esp_identifier.as_deref(), user.esp_service.as_deref(), user.screen_name.as_deref()),
        (Some("u"), Some("Chat"), Some("sunny"))
    );
    assert_eq!(user.display_name, ["Sunny Ü"]);
    let emails = &user.person_or_user_reported_person.as_ref().unwrap().email;
    assert_eq!(emails.len(), 1, "the item's address is the same one");
    assert_eq!((emails[0].kind, emails[0].verified), (Some(EmailKind::Home), Some(true)));
    assert_eq!(emails[0].verification_date.as_deref(), Some("2025-01-01T00:00:00Z"));
    let seen: Vec<_> = user
        .ip_capture_event
        .iter()
        .map(|e| (e.ip_address.as_str(), e.event_name, e.date_time.as_deref()))
        .collect();
    assert_eq!(
        seen,
        [
            ("192.0.2.1", Some(EventName::Login), Some("2025-05-01T00:00:00Z")),
            ("198.51.100.7", Some(EventName::Unknown), Some("2025-06-01T10:00:00Z"))
        ]
    );
    let Incident::WebPage(page) = &report.internet_details[0].incident else { panic!() };
    assert_eq!(
        page.url,
        [
            "https://example.org/posts/1",
            "https://media.example/a.png?token=secret&x=1",
            "https://example.org/ncmec"
        ]
    );
    let by = &report.reporter;
    assert_eq!(by.reporting_person.email[0].text, "reports@example.org");
    assert_eq!(by.contact_person.as_ref().unwrap().phone[0].text, "+1 555 0100");
    assert_eq!(
        (by.company_template.as_deref(), by.terms_of_service.as_deref(), by.legal_url.as_deref()),
        (Some("Serve us by mail."), Some("No abuse."), Some("https://example.org/terms"))
    );
    let said = report.additional_info.unwrap();
    assert!(said.starts_with("seen by two\n\n"), "{said}");
    assert!(said.contains(r#"{"a":"b","z":1}"#), "{said}");
    assert!(report.law_enforcement.is_none() && report.victim.is_empty());
}

#[test]
fn check_12_and_41_earlier_reports_are_named_newest_first_and_whole() {
    let mut world = one_post(json!({}));
    world.prior = vec![9_007_199_254_740_993, 7_855_764];
    let draft = world.draft();
    assert!(draft.xml.contains(
        "<priorCTReports>9007199254740993</priorCTReports><priorCTReports>7855764</priorCTReports>"
    ));
}

#[test]
fn check_28_the_order_of_the_platforms_keys_says_nothing() {
    let mut world = one_post(json!({}));
    world.answer = serde_json::from_str(
        r#"{"users":[{"id":"u","typeId":"user","screenName":"s","data":{"a":1,"b":2},"ipCaptureEvent":[{"ipAddress":"192.0.2.1","port":1,"dateTime":"2025-01-01T00:00:00Z","eventName":"Login"}]}],"media":[{"id":"1","typeId":"post","fileName":"f","publiclyAvailable":true,"fileDetails":{"hash":"aa","hashType":"MD5"}}],"additionalInfo":"x"}"#,
    )
    .unwrap();
    let one = world.draft();
    world.answer = serde_json::from_str(
        r#"{"additionalInfo":"x","media":[{"fileDetails":{"hashType":"MD5","hash":"aa"},"publiclyAvailable":true,"fileName":"f","typeId":"post","id":"1"}],"users":[{"ipCaptureEvent":[{"eventName":"Login","dateTime":"2025-01-01T00:00:00Z","port":1,"ipAddress":"192.0.2.1"}],"data":{"b":2,"a":1},"screenName":"s","typeId":"user","id":"u"}]}"#,
    )
    .unwrap();
    assert_eq!(world.draft(), one);
}

#[test]
fn check_30_and_31_what_is_absent_leaves_no_element() {
    let mut world = one_post(json!({}));
    let xml = {
        of_user(
            &mut world,
            json!({ "ipCaptureEvent": [{ "ipAddress": "192.0.2.1" }], "email": [{ "email": "a@b.example" }] }),
        );
        world.draft().xml
    };
    assert!(xml.contains("<ipCaptureEvent><ipAddress>192.0.2.1</ipAddress></ipCaptureEvent>"), "{xml}");
    assert!(xml.contains("<email>a@b.example</email>"), "{xml}");
    assert!(!xml.contains("/>"), "no empty element: {xml}");
    assert!(!regex::Regex::new(r"<\w+[^>]*></").unwrap().is_match(&xml), "no empty element: {xml}");
    for name in
        ["escalateToHighPriority", "screenName", "displayName", "priorCTReports", "victim", "lawEnforcement"]
    {
        assert!(!xml.contains(name), "{name}");
    }
}

#[test]
fn check_33_what_is_too_long_for_its_field_is_said_in_full() {
    let mut world = one_post(json!({}));
    let (screen_name, address) = ("é".repeat(257), format!("{}@b.example", "a".repeat(255)));
    world.organisation.esp_service = None;
    world.organisation.company_name = "C".repeat(120);
    let report = of_user(&mut world, json!({ "screenName": screen_name, "email": [{ "email": address }] }));
    let user = &report.person_or_user_reported[0];
    assert_eq!(
        (&user.screen_name, &user.esp_service, &user.person_or_user_reported_person),
        (&None, &None, &None)
    );
    let said = report.additional_info.unwrap();
    for whole in [&screen_name, &address, &world.organisation.company_name] {
        assert!(said.contains(whole.as_str()));
    }
    assert_eq!(world.draft().notes.len(), 2);
    let fits = "é".repeat(256);
    let report = of_user(&mut world, json!({ "screenName": fits }));
    assert_eq!(report.person_or_user_reported[0].screen_name.as_ref(), Some(&fits));
}

#[test]
fn check_35_a_time_in_the_future_is_clamped_and_said() {
    let mut world = one_post(json!({ "made": "2025-06-01T12:00:05Z" }));
    world.now_ms = NOW;
    let summary = world.read().incident_summary;
    assert_eq!(summary.incident_date_time, "2025-06-01T11:59:59Z");
    assert!(summary.incident_date_time_description.unwrap().contains("2025-06-01T12:00:05Z"));
    let file = &world.draft().files[0].details;
    assert_eq!(file.uploaded_to_esp_timestamp, None);
    assert!(file.additional_info.iter().any(|line| line.contains("2025-06-01T12:00:05Z")));
    // A time that no calendar has is no time either.
    let world = one_post(json!({ "made": u64::MAX }));
    let summary = world.read().incident_summary;
    assert_eq!(summary.incident_date_time, "2025-06-01T11:59:59Z");
}

#[test]
fn check_35_without_a_time_it_is_said_what_stands_in_its_place() {
    let world = one_post(json!({ "made": null }));
    let summary = world.read().incident_summary;
    assert_eq!(summary.incident_date_time, "2025-06-01T11:00:00Z", "when the item came");
    assert!(summary.incident_date_time_description.unwrap().starts_with("The platform gave no time"));
    assert_eq!(world.draft().files[0].details.uploaded_to_esp_timestamp, None);
    assert_eq!(NOW - HOUR, 1_748_775_600_000);
}

#[test]
fn check_40_without_an_answer_the_user_has_no_screen_name() {
    let world = one_post(json!({}));
    let user = &world.read().person_or_user_reported[0];
    assert_eq!((user.esp_identifier.as_deref(), &user.screen_name), (Some("u"), &None));
    assert!(user.prior_ct_reports.is_empty() && user.display_name.is_empty());
}

#[test]
fn the_setting_says_where_it_happened_and_the_urls_stand_in_each_kind() {
    let mut world = one_post(json!({}));
    let url = "https://media.example/a.png?token=secret&amp;x=1";
    for (detail, element) in [
        (InternetDetail::WebPage, "webPageIncident"),
        (InternetDetail::Email, "emailIncident"),
        (InternetDetail::Newsgroup, "newsgroupIncident"),
        (InternetDetail::ChatIm, "chatImIncident"),
        (InternetDetail::OnlineGaming, "onlineGamingIncident"),
        (InternetDetail::CellPhone, "cellPhoneIncident"),
        (InternetDetail::NonInternet, "nonInternetIncident"),
        (InternetDetail::PeerToPeer, "peer2peerIncident"),
    ] {
        world.organisation.internet_detail = detail;
        let xml = world.draft().xml;
        let inside = xml
            .split(&format!("<{element}>"))
            .nth(1)
            .unwrap()
            .split(&format!("</{element}>"))
            .next()
            .unwrap();
        assert!(inside.contains(url), "{element}: {inside}");
    }
}
