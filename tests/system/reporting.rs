//! What is filed, as it stands in the ledger of the stand-in: from items, a reviewer's decision and the platform's answer
//! to the last file. `reporter/tests/report` has the same checks one by one.

use std::thread;
use std::time::{Duration, Instant};

use reporter::cyber_tipline::Environment;
use serde_json::{Value, json};
use tests::ncmec::{Endpoint, File, Report};
use tests::{Misinformed, Ncmec, Platform, Server};

use crate::filing::{filed, organisation, set_up, setup};
use crate::items::{png, post, send, settled, sound};

const TEST: Environment = Environment::Test;
const INCIDENT: &str = "Online Enticement of Children for Sexual Acts";

/// Item types with addresses and conversations, beside those of `items`.
fn describe_more(server: &Server) {
    let field = |name: &str, of: &str| json!({ "name": name, "type": of });
    let common = [
        field("text", "STRING"),
        field("author", "RELATED_ITEM"),
        field("made", "DATETIME"),
        field("ip", "IP_ADDRESS"),
    ];
    let roles = json!({ "creatorId": "author", "createdAt": "made", "ipAddress": "ip" });
    let mut of_message = roles.clone();
    of_message["threadId"] = json!("thread");
    let pictures = json!({ "name": "pictures", "type": "IMAGE", "container": "ARRAY" });
    let photo = [&common[..], &[field("page", "URL"), pictures]].concat();
    let message = [&common[..], &[field("thread", "RELATED_ITEM")]].concat();
    let user = [
        field("name", "STRING"),
        field("mail", "EMAIL_ADDRESS"),
        field("ip", "IP_ADDRESS"),
        field("face", "IMAGE"),
    ];
    for (id, of) in [
        ("photo", json!({ "kind": "CONTENT", "fields": photo, "roles": roles })),
        ("message", json!({ "kind": "CONTENT", "fields": message, "roles": of_message })),
        (
            "user",
            json!({ "kind": "USER", "fields": user,
                "roles": { "displayName": "name", "email": "mail", "ipAddress": "ip", "profileIcon": "face" } }),
        ),
    ] {
        let (status, answer) = server.http.put(&format!("/api/v1/item-types/{id}"), &of);
        assert_eq!(status, 200, "{answer}");
    }
}

fn started(environment: Environment) -> (Ncmec, Platform, Server) {
    let (ncmec, platform) = (Ncmec::start(), Platform::start());
    let server = match environment {
        Environment::Test => setup(&ncmec).start(),
        Environment::Production => setup(&ncmec).env("NCMEC_ENV", "production").start(),
    };
    set_up(&server, &platform, environment);
    describe_more(&server);
    (ncmec, platform, server)
}

fn of_type(kind: &str, id: &str, user: &str, mut data: Value) -> Value {
    data["author"] = json!({ "id": user, "typeId": "user" });
    json!({ "id": id, "typeId": kind, "data": data })
}

/// Waits until each of a job's media that has a URL is preserved; gives them.
fn preserved(server: &Server, job: &Value) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let media = server.pages(&format!("/api/v1/jobs/{}/media", job["id"]));
        if media.iter().all(|medium| medium["evidence"]["state"] == "kept") {
            return media;
        }
        assert!(Instant::now() < deadline, "{media:#?}\n{}", server.log());
        thread::sleep(Duration::from_millis(20));
    }
}

fn next(server: &Server) -> Value {
    let (status, job) = server.http.post("/api/v1/queues/ncmec/next", &json!({ "reviewer": "anna" }));
    assert_eq!(status, 200, "{job}");
    job
}

/// A decision to report what it says of media, with these fields besides.
fn try_report(server: &Server, job: &Value, media: &[Value], more: Value) -> (u16, Value) {
    let mut body = json!({ "decision": "report", "lease": job["lease"]["token"], "revision": job["revision"],
        "incident_type": INCIDENT, "media": media });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.http.post(&format!("/api/v1/jobs/{}/decision", job["id"]), &body)
}

fn report(server: &Server, job: &Value, media: &[Value], more: Value) {
    let (status, answer) = try_report(server, job, media, more);
    assert_eq!(status, 200, "{answer}");
}

/// Every medium as one that was looked at, with this class.
fn all_as(media: &[Value], class: &str) -> Vec<Value> {
    let of = |medium: &Value| json!({ "media": medium["number"], "classification": class, "viewed": true });
    media.iter().map(of).collect()
}

/// The reports on a user, oldest first.
fn on(ncmec: &Ncmec, environment: Environment, user: &str) -> Vec<Report> {
    let mut numbers = ncmec.finished(environment).remove(user).unwrap_or_default();
    numbers.sort_unstable();
    numbers.into_iter().map(|number| ncmec.report(environment, number).unwrap()).collect()
}

/// What stands in each element of this name.
fn texts(xml: &str, name: &str) -> Vec<String> {
    let (begin, end) = (format!("<{name}"), format!("</{name}>"));
    let mut found = Vec::new();
    let mut rest = xml;
    while let Some(at) = rest.find(&begin) {
        rest = &rest[at + begin.len()..];
        if rest.starts_with(['>', ' ']) {
            let (_, inside) = rest.split_once('>').unwrap();
            found.push(unescaped(inside.split_once(&end).unwrap().0));
        }
    }
    found
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

fn one(xml: &str, name: &str) -> String {
    let mut found = texts(xml, name);
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    found.remove(0)
}

fn details(file: &File) -> &str {
    file.details.as_deref().expect("details of each file")
}

fn file<'r>(report: &'r Report, name: &str) -> &'r File {
    let names: Vec<&str> = report.files.iter().map(|file| file.name.as_str()).collect();
    report.files.iter().find(|file| file.name == name).unwrap_or_else(|| panic!("{name}: {names:?}"))
}

#[test]
fn a_report_says_everything_that_is_known_and_nothing_else() {
    let (ncmec, platform, server) = started(TEST);
    organisation(
        &server,
        json!({ "additional_info_url": platform.url("info"), "more_info_url": "https://example.com/ncmec", "esp_service": "Chat",
            "company_template": "Serve us by mail.", "terms_of_service": "No abuse.",
            "contact_person": { "first_name": "Ada", "last_name": "Law", "email": "law@example.com", "phone": "+1 555 0100" } }),
    );
    let urls = [("b/image.png", 11), ("c/image.png", 12), ("face", 13)]
        .map(|(name, seed)| platform.put(name, "image/png", &png(seed)));
    let gone = platform.put("gone?key=secret&x=1", "image/png", &png(9));
    send(
        &server,
        &[
            json!({ "id": "u", "typeId": "user", "data": { "name": "Sunny <3", "mail": "u@example.com", "ip": "198.51.100.7", "face": urls[2] } }),
            of_type("photo", "gone", "u", json!({ "pictures": [gone] })),
            of_type(
                "message",
                "m2",
                "v",
                json!({ "text": "=cmd, \"no\"", "made": "2026-01-02T00:01:00Z", "thread": { "id": "t", "typeId": "thread" } }),
            ),
        ],
    );
    settled(&server);
    let known = platform.url("media/known");
    let made = json!({ "made": "2026-01-02T00:00:00Z", "ip": "198.51.100.1", "page": "https://example.com/p/1", "pictures": [known, urls[0], urls[1]] });
    send(&server, &[of_type("photo", "p", "u", made)]);
    settled(&server);
    let said = json!({ "text": "hello", "made": "2026-01-02T00:00:30Z", "ip": "198.51.100.2", "thread": { "id": "t", "typeId": "thread" } });
    let complaint = json!({ "reporter": { "kind": "user", "typeId": "user", "id": "v" }, "reportedForReason": { "csam": true },
        "reportedItem": of_type("message", "m1", "u", said), "reportedItemsInThread": [{ "id": "m2", "typeId": "message" }] });
    assert_eq!(server.http.post("/api/v1/report", &complaint).0, 201);
    settled(&server);

    platform.inform_of_user("u", json!({ "screenName": "sunny", "data": { "plan": "free" },
        "email": [{ "email": "U@example.com", "type": "Home", "verified": true }], "ipCaptureEvent": [{ "ipAddress": "192.0.2.1" }] }));
    platform.inform_of_media("p", json!({ "publiclyAvailable": true, "fileName": "IMG_1.png",
        "ipCaptureEvent": [{ "ipAddress": "192.0.2.2", "eventName": "Upload" }, { "ipAddress": "192.0.2.3", "eventName": "Login" }],
        "fileDetails": { "hash": "abee", "hashType": "pdq" } }));
    platform.inform_of_media("gone", json!({ "missing": true }));
    let evidence = platform.put("e.pdf", "application/pdf", b"%PDF-");
    platform
        .inform_besides("additionalFiles", json!([{ "fileUrl": evidence, "additionalInfo": ["evidence"] }]));
    platform
        .inform_besides("messages", json!([{ "id": "m1", "typeId": "message", "ipAddress": "192.0.2.9" }]));
    platform.inform_besides("additionalInfo", json!("the platform's words"));

    let job = next(&server);
    let media = preserved(&server, &job);
    let mut decided = all_as(&media, "A1");
    let at = |url: &str| media.iter().position(|medium| medium["url"] == url).unwrap();
    decided[at(&urls[0])] =
        json!({ "media": media[at(&urls[0])]["number"], "classification": "Unclassified" });
    decided[at(&urls[1])]["annotations"] = json!(["potentialMeme"]);
    let shot = platform.put("shot", "image/png", &png(5));
    let more = json!({ "escalate": "   ", "additional_info": "the reviewer's words", "threads": job["threads"], "contents": job["contents"],
        "supplemental_files": [{ "url": shot, "file_name": "shot.png" }] });
    let (status, refused) = try_report(&server, &job, &decided, more.clone());
    assert_eq!((status, &refused["fields"][0]["pointer"]), (400, &json!("/escalate")), "check 34: {refused}");
    let mut more = more;
    more["escalate"] = json!("a child is in danger & afraid");
    report(&server, &job, &decided, more);
    filed(&server, 1);
    let filed = on(&ncmec, TEST, "u").remove(0);
    says(&filed.xml, &gone);
    files_say(&filed, &urls);
    let asked = platform.asked("/info")[0].json();
    assert_eq!(asked["users"], json!([{ "id": "u", "typeId": "user" }]));
    assert_eq!(asked["media"].as_array().unwrap().len(), 2, "the user's own picture is the user: {asked}");
}

/// What the report itself says.
fn says(xml: &str, gone: &str) {
    assert_eq!(one(xml, "incidentType"), INCIDENT);
    assert_eq!(one(xml, "escalateToHighPriority"), "a child is in danger & afraid", "check 34");
    assert_eq!(one(xml, "incidentDateTime"), "2026-01-02T00:00:30Z", "check 35");
    assert_eq!(texts(xml, "legalURL"), ["https://example.com/terms"]);
    assert_eq!(one(xml, "companyTemplate"), "Serve us by mail.");
    assert_eq!(one(xml, "termsOfService"), "No abuse.");
    assert_eq!(one(&one(xml, "reportingPerson"), "email"), "reports@example.com");
    assert_eq!(one(&one(xml, "contactPerson"), "phone"), "+1 555 0100");
    let user = one(xml, "personOrUserReported");
    assert_eq!(
        (one(&user, "espIdentifier"), one(&user, "espService")),
        ("u".to_string(), "Chat".to_string())
    );
    assert_eq!(
        (one(&user, "screenName"), one(&user, "displayName")),
        ("sunny".to_string(), "Sunny <3".to_string())
    );
    assert_eq!(texts(&user, "email"), ["U@example.com"]);
    let addresses = texts(&user, "ipAddress");
    for address in ["192.0.2.1", "198.51.100.7", "192.0.2.3", "198.51.100.1", "192.0.2.9"] {
        assert!(addresses.iter().any(|known| known == address), "check 29: {address} of {addresses:?}");
    }
    assert!(
        user.contains("<ipCaptureEvent><ipAddress>192.0.2.1</ipAddress></ipCaptureEvent>"),
        "check 30: {user}"
    );
    assert!(!user.contains("priorCTReports"), "it is a test");
    assert!(texts(xml, "url").iter().any(|url| url == "https://example.com/p/1"));
    assert_eq!(one(&one(xml, "intendedRecipient"), "espIdentifier"), "v");
    let words = texts(xml, "additionalInfo").pop().unwrap();
    for said in ["the reviewer's words", "the platform's words", r#"{"plan":"free"}"#, gone, "hello"] {
        assert!(words.contains(said), "{said}: {words}");
    }
    assert!(!xml.contains("/>"), "check 31: {xml}");
}

/// What its files are, and say.
fn files_say(report: &Report, urls: &[String; 3]) {
    assert_eq!(report.files.len(), 7, "{:?}", report.files.iter().map(|file| &file.name).collect::<Vec<_>>());
    let mut of_item = Vec::new();
    for file in report.files.iter().filter(|file| details(file).contains("<fileRelevance>Reported<")) {
        let said = details(file);
        assert_eq!(
            said.matches("<ipCaptureEvent>").count(),
            usize::from(!said.contains("/media/face")),
            "check 29: {said}"
        );
        assert!(said.contains(&format!("<originalFileHash hashType=\"MD5\">{}<", file.md5)), "{said}");
        assert!(said.contains("<exifViewedByEsp>false<"));
        if said.contains("/media/face") {
            continue;
        }
        assert_eq!(one(said, "ipAddress"), "192.0.2.2", "the platform's upload comes first");
        assert_eq!(one(said, "publiclyAvailable"), "true");
        assert!(
            !texts(said, "originalFileHash").contains(&"abee".to_string()),
            "check 45: it is nobody's: {said}"
        );
        of_item.push((
            one(said, "originalFileName"),
            one(said, "fileViewedByEsp"),
            texts(said, "industryClassification"),
        ));
        assert_eq!(said.contains("<potentialMeme>true<"), said.contains(&urls[1]));
    }
    of_item.sort();
    let (viewed, a1) = ("true".to_string(), vec!["A1".to_string()]);
    let image = "image.png".to_string();
    assert_eq!(
        of_item,
        [
            (image.clone(), "false".to_string(), Vec::new()),
            (image, viewed.clone(), a1.clone()),
            ("known".to_string(), viewed, a1)
        ],
        "checks 36 and 45"
    );
    for name in ["e.pdf", "shot.png", "t.csv"] {
        let said = details(file(report, name));
        assert_eq!(one(said, "fileRelevance"), "Supplemental Reported", "check 37");
        assert_eq!(one(said, "fileViewedByEsp"), "false", "check 36");
        assert!(
            !said.contains("industryClassification") && !said.contains("fileAnnotations"),
            "check 37: {said}"
        );
    }
    let csv = String::from_utf8(file(report, "t.csv").kept.clone().unwrap()).unwrap();
    assert_eq!(
        csv,
        "content,src,target,thread,type,contentId,chat_type,ip\n\
         \"hello\",\"u\",\"v\",\"t\",\"text\",\"\",\"private\",\"192.0.2.9\"\n\
         \"'=cmd, \"\"no\"\"\",\"v\",\"u\",\"t\",\"text\",\"\",\"private\",\"\"\n",
        "check 49"
    );
}

#[test]
fn check_12_and_40_and_41_a_second_report_names_the_first_and_no_name_is_made_up() {
    let (ncmec, platform, server) = started(Environment::Production);
    for count in 1..=3 {
        let url = platform.url("media/known");
        send(&server, &[post(&format!("p{count}"), "u", json!({ "cover": url }))]);
        settled(&server);
        let job = next(&server);
        let media = preserved(&server, &job);
        report(&server, &job, &all_as(&media, "Unclassified"), json!({}));
        filed(&server, count);
    }
    let reports = on(&ncmec, Environment::Production, "u");
    let numbers: Vec<String> = reports.iter().map(|report| report.id.to_string()).collect();
    let prior = |at: usize| texts(&reports[at].xml, "priorCTReports");
    assert_eq!((prior(0), prior(1)), (vec![], vec![numbers[0].clone()]));
    assert_eq!(prior(2), [numbers[1].clone(), numbers[0].clone()], "newest first");
    assert!(!reports[0].xml.contains("screenName"), "check 40: {}", reports[0].xml);
    assert!(reports[0].xml.contains("<espIdentifier>u</espIdentifier>"));
    assert!(on(&ncmec, TEST, "u").is_empty());
}

#[test]
fn check_44_what_dies_between_the_review_and_the_filing_is_filed_from_what_was_preserved() {
    let (ncmec, platform, server) = started(TEST);
    let bytes = [&png(3)[..], b"as the reviewer saw it"].concat();
    let url = platform.put("dies", "image/png", &bytes);
    send(&server, &[post("1", "u", json!({ "cover": url }))]);
    settled(&server);
    let job = next(&server);
    let media = preserved(&server, &job);
    platform.lose_all();
    report(&server, &job, &all_as(&media, "A1"), json!({}));
    filed(&server, 1);
    let filed = on(&ncmec, TEST, "u").remove(0);
    assert_eq!(filed.files[0].kept.as_deref(), Some(&bytes[..]));
    assert_eq!(one(details(&filed.files[0]), "locationOfFile"), url);
}

#[test]
fn check_46_if_every_medium_is_gone_nothing_is_sent_and_a_person_looks() {
    let (ncmec, platform, server) = started(TEST);
    organisation(&server, json!({ "additional_info_url": platform.url("info") }));
    platform.inform_of_media("1", json!({ "missing": true }));
    send(&server, &[post("1", "u", json!({ "cover": platform.url("media/known") }))]);
    settled(&server);
    let job = next(&server);
    let media = preserved(&server, &job);
    report(&server, &job, &all_as(&media, "Unclassified"), json!({}));
    let deadline = Instant::now() + Duration::from_secs(30);
    while sound(&server)["filings_held"] != 1 {
        assert!(Instant::now() < deadline, "{}\n{}", sound(&server), server.log());
        thread::sleep(Duration::from_millis(20));
    }
    assert!(ncmec.calls_of(Endpoint::Submit).is_empty());
    let (status, tip) = server.http.get(&format!("/api/v1/cybertips/{}", job["id"]));
    assert_eq!(status, 200, "{tip}");
    assert!(tip.to_string().contains("all_media_missing"), "{tip}");
}

#[test]
fn check_46_a_profile_picture_alone_is_filed() {
    let (ncmec, platform, server) = started(TEST);
    organisation(&server, json!({ "additional_info_url": platform.url("info") }));
    let face =
        json!({ "id": "u", "typeId": "user", "data": { "name": "u", "face": platform.url("media/known") } });
    send(&server, &[face]);
    settled(&server);
    // A match is routed by its item: the user's own picture is the user's job.
    let job = next(&server);
    let media = preserved(&server, &job);
    report(&server, &job, &all_as(&media, "Unclassified"), json!({}));
    filed(&server, 1);
    assert_eq!(platform.asked("/info")[0].json()["media"], json!([]));
    assert_eq!(on(&ncmec, TEST, "u")[0].files.len(), 1);
}

#[test]
fn check_47_and_48_an_answer_that_is_not_whole_files_nothing_and_the_next_one_does() {
    let (ncmec, platform, server) = started(TEST);
    organisation(&server, json!({ "additional_info_url": platform.url("info") }));
    let wrong = [
        Misinformed::Omits("of-u".to_string()),
        Misinformed::WrongType("screenName"),
        Misinformed::Html,
        Misinformed::Huge(100 << 20),
    ];
    wrong.iter().for_each(|fault| platform.misinform(fault.clone()));
    crate::filing::decide(&server, &platform, "u");
    filed(&server, 1);
    assert_eq!(platform.asked("/info").len(), wrong.len() + 1);
    let calls = ncmec.calls_of(Endpoint::Submit);
    assert_eq!(calls.len(), 1, "nothing was sent of what was not whole");
    assert_eq!(one(&on(&ncmec, TEST, "u")[0].xml, "screenName"), "screen-u");
}

#[test]
fn check_50_words_alone_are_enqueued_reviewed_and_filed() {
    let (ncmec, _platform, server) = started(TEST);
    let said = |id: &str, by: &str, text: &str| {
        of_type("message", id, by, json!({ "text": text, "made": "2026-01-02T00:00:00Z" }))
    };
    let complaint = json!({ "reporter": { "kind": "user", "typeId": "user", "id": "v" }, "reportedForReason": { "csam": true },
        "reportedItem": said("m1", "groomer", "meet me"), "reportedItemThread": [said("m2", "v", "no")] });
    assert_eq!(server.http.post("/api/v1/report", &complaint).0, 201);
    settled(&server);
    let job = next(&server);
    report(&server, &job, &[], json!({ "threads": job["threads"], "contents": job["contents"] }));
    filed(&server, 1);
    let filed = on(&ncmec, TEST, "groomer").remove(0);
    let words = texts(&filed.xml, "additionalInfo").pop().unwrap();
    assert!(words.contains("meet me"), "{words}");
    assert_eq!(filed.files.len(), 1);
    assert_eq!(one(details(&filed.files[0]), "fileRelevance"), "Reported", "check 49: there is no medium");
    let csv = String::from_utf8(filed.files[0].kept.clone().unwrap()).unwrap();
    assert!(csv.contains("\"meet me\"") && csv.contains("\"no\""), "{csv}");
}
