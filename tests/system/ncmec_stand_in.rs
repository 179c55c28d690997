//! The stand-in for NCMEC does what specs/cybertipline.md 1.8 asks of it: what our own tests lean on is tested itself.

mod client;

use std::io::{BufRead, BufReader, Cursor, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest, Md5};
use reporter::cyber_tipline::Environment::{Production, Test};
use serde_json::{Value, json};
use tests::Ncmec;
use tests::ncmec::{Caller, Endpoint, Fault, Plan, Shown, State, User};
use ureq::{Agent, SendBody};

use client::{Client, FORM, Told, XML, details, hex, multipart_head, multipart_kind, report};

#[test]
fn a_report_goes_its_way_and_each_step_answers_as_ncmec_does() {
    let ncmec = Ncmec::start();
    let client = Client::of(&ncmec);
    let status = client.get("status");
    assert_eq!((status.code(), status.tag("reportId")), (0, None));
    assert_eq!(status.tag("responseDescription").unwrap(), "Remote User : test-esp, Remote Ip : 127.0.0.1");
    assert!(client.get("xsd").text().contains("xs:schema"));
    let id = client.submit("u-&amp;1");
    let (first, second) = (client.upload(id, b"same"), client.upload(id, b"same"));
    let files = [first.tag("fileId").unwrap(), second.tag("fileId").unwrap()];
    assert!(files[0] != files[1] && files[0].len() == 32, "{files:?}");
    for told in [&first, &second] {
        assert_eq!(told.tag("hash").unwrap(), hex(&Md5::digest(b"same")));
    }
    let told = client.post("fileinfo", XML, details(id, &files[0]).as_bytes());
    assert_eq!((told.code(), told.tag("fileId")), (0, Some(files[0].clone())));
    assert_eq!(client.post("fileinfo", XML, details(id, &"0".repeat(32)).as_bytes()).code(), 5002);
    let done = client.finish(id);
    let wanted = format!(
        "<reportDoneResponse><responseCode>0</responseCode><reportId>{id}</reportId><files><fileId>{}</fileId>\
         <fileId>{}</fileId></files></reportDoneResponse>",
        files[0], files[1]
    );
    assert!(done.text().contains(&wanted), "{}", done.text());
    for endpoint in [Endpoint::Upload, Endpoint::FileInfo, Endpoint::Finish, Endpoint::Retract] {
        let told = client.reach(endpoint, id, &files[0]).unwrap();
        assert_eq!((told.status, told.code()), (200, 5102), "{endpoint:?}");
    }
    ncmec.set(|settings| settings.finish_refused_as_done = true);
    assert!(client.finish(id).text().contains("<reportDoneResponse><responseCode>5102</responseCode>"));

    let withdrawn = client.submit("u-2");
    let form =
        format!("--xx\r\nContent-Disposition: form-data; name=\"id\"\r\n\r\n{withdrawn}\r\n--xx--\r\n");
    assert_eq!(client.post("retract", &multipart_kind(), form.as_bytes()).code(), 0);
    assert_eq!(client.finish(withdrawn).code(), 5101);

    let kept = ncmec.report(Test, id).unwrap();
    assert_eq!((kept.state, kept.files.len()), (State::Finished, 2));
    assert_eq!(kept.files[0].kept.as_deref(), Some(&b"same"[..]));
    assert!(kept.files[0].details.as_ref().unwrap().contains("Reported") && kept.files[1].details.is_none());
    assert_eq!(ncmec.report(Test, withdrawn).unwrap().state, State::Retracted);
    assert_eq!(ncmec.finished(Test), [("u-&1".to_string(), vec![id])].into());
    assert!(ncmec.calls().iter().all(|call| call.ended_us.is_some() && call.at_ms > 0));
    assert_eq!((ncmec.at_once("test-esp"), ncmec.at_once("nobody")), (1, 0));
}

#[test]
fn what_is_wrong_is_refused_with_its_code() {
    let ncmec = Ncmec::start();
    let other = User { environment: Test, name: "other".to_string(), password: "p".to_string() };
    ncmec.admit(other.clone());
    let client = Client::of(&ncmec);
    let id = client.submit("u");
    assert_eq!(client.post("submit", "application/json", report("u").as_bytes()).code(), 4000);
    assert_eq!(client.post("fileinfo", XML, details(99, "f").as_bytes()).code(), 5001);
    assert_eq!(client.upload(99, b"x").code(), 5001);
    assert_eq!(client.finish(99).code(), 5001);
    assert_eq!(client.post("finish", FORM, b"id=seven").code(), 4000);
    assert_eq!(client.post("finish", FORM, b"").code(), 4000);
    assert_eq!(client.post("finish", XML, b"id=1").code(), 4000);
    assert_eq!(client.post("upload", FORM, format!("id={id}").as_bytes()).code(), 4000);
    let without = format!("--xx\r\nContent-Disposition: form-data; name=\"id\"\r\n\r\n{id}\r\n--xx--\r\n");
    assert_eq!(client.post("upload", &multipart_kind(), without.as_bytes()).code(), 4200);
    assert_eq!(client.post("upload", &multipart_kind(), b"--xx\r\nnothing").code(), 4200);
    let told = client.post("publish", FORM, b"id=1");
    assert_eq!((told.status, told.code()), (404, 1210));
    assert_eq!(Client::new(ncmec.url(), &other).finish(id).code(), 5001, "it is another's");
    assert_eq!(ncmec.reports(Test).len(), 1);
    assert_eq!(ncmec.report(Test, id).unwrap().files.len(), 0);
}

#[test]
fn xml_that_is_malformed_or_breaks_the_schema_or_a_documented_rule_is_refused() {
    let ncmec = Ncmec::start();
    let client = Client::of(&ncmec);
    let sound = report("u");
    let submit = |xml: &str| client.post("submit", XML, xml.as_bytes());
    assert_eq!(submit(&sound.replace("Sex Tourism", "Tourism")).code(), 4100);
    assert_eq!(submit(&sound.replace("2020-01-02", "9020-01-02")).code(), 4100, "not in the past");
    assert_eq!(submit(&sound.replace("</report>", "")).code(), 4110);
    assert_eq!(submit(&sound.replace(">u<", ">\u{1}<")).code(), 4110);
    assert_eq!(submit("").code(), 4110);
    assert_eq!(submit(&details(1, "f")).code(), 4100, "the wrong root");
    let twice = "<reportAnnotations><spam>false</spam></reportAnnotations><incidentDateTime>";
    assert_eq!(submit(&sound.replace("<incidentDateTime>", twice)).code(), 4100, "xs:all, fixed");
    assert!(ncmec.reports(Test).is_empty());
}

#[test]
fn credentials_of_one_environment_are_refused_by_the_other_and_that_is_seen() {
    let ncmec = Ncmec::start();
    let confused = Client::new(ncmec.url(), &Ncmec::user(Production));
    let told = confused.get("status");
    assert_eq!((told.status, told.body.len()), (401, 0));
    assert!(told.request_id.is_some());
    ncmec.set(|settings| settings.unauthorized_xml = true);
    let told = confused.post("submit", XML, report("u").as_bytes());
    assert_eq!((told.status, told.code()), (401, 1000));
    let nobody = User { environment: Test, name: "x".to_string(), password: "y".to_string() };
    assert_eq!(Client::new(ncmec.url(), &nobody).get("xsd").status, 401);
    let shown: Vec<Shown> = ncmec.calls().into_iter().map(|call| call.shown).collect();
    let production = Shown::Known(Caller { environment: Production, user: "production-esp".to_string() });
    assert_eq!(shown, [production.clone(), production, Shown::Wrong]);
    assert!(ncmec.reports(Test).is_empty());
    // Both have numbers of their own, and they may be the same.
    let right = Client::new(ncmec.production_url(), &Ncmec::user(Production));
    assert_eq!(right.submit("u"), Client::of(&ncmec).submit("u"));
    assert_eq!((ncmec.reports(Test).len(), ncmec.reports(Production).len()), (1, 1));
}

#[test]
fn an_open_report_lives_for_24_hours_or_one_after_its_last_change() {
    let ncmec = Ncmec::start();
    let client = Client::of(&ncmec);
    let hours = |hours: f64| ncmec.advance(Duration::from_secs_f64(hours * 3600.0));
    let (left, kept, finished) = (client.submit("left"), client.submit("kept"), client.submit("finished"));
    assert_eq!(client.finish(finished).code(), 0);
    hours(23.9);
    assert_eq!(client.upload(kept, b"late").code(), 0);
    hours(0.2);
    assert_eq!(client.finish(left).code(), 5001);
    hours(0.7);
    assert_eq!(client.upload(kept, b"later").code(), 0);
    hours(0.9);
    assert_eq!(ncmec.report(Test, kept).unwrap().state, State::Open);
    hours(0.2);
    assert_eq!(client.upload(kept, b"too late").code(), 5001);
    assert_eq!(client.finish(finished).code(), 5102);
    let states: Vec<State> = ncmec.reports(Test).iter().map(|report| report.state).collect();
    assert_eq!(states, [State::Expired, State::Expired, State::Finished]);
}

/// What a client sees of a fault, and whether the call had its effect.
fn seen(fault: Fault, told: Result<Told, ureq::Error>) {
    let broken = matches!(fault, Fault::Reset | Fault::Lost | Fault::Cut);
    assert_eq!(told.is_err(), broken, "{fault}: {told:?}");
    let Ok(told) = told else { return };
    assert!(told.request_id.is_some(), "{fault}: {told:?}");
    match fault {
        Fault::Code(code) => assert_eq!((told.status, told.code()), (200, code)),
        Fault::Status(status) => assert_eq!((told.status, told.kind.as_str()), (status, "text/plain")),
        Fault::TooMany(seconds) => {
            assert_eq!((told.status, told.retry_after), (429, Some(seconds.to_string())));
        }
        Fault::Unauthorized => assert_eq!((told.status, told.body.len()), (401, 0)),
        Fault::UnauthorizedXml => assert_eq!((told.status, told.code()), (401, 1000)),
        Fault::Html => assert!(told.status == 200 && told.text().contains("<html>")),
        Fault::GatewayTimeout => assert!(told.status == 504 && told.text().contains("<html>")),
        Fault::Truncated => assert!(told.status == 200 && !told.text().trim_end().ends_with("Response>")),
        Fault::Oversized(bytes) => assert!(told.code() == 0 && told.body.len() as u64 > bytes),
        Fault::WrongMd5 => assert_ne!(told.tag("hash").unwrap(), hex(&Md5::digest(b"bytes"))),
        Fault::NoReportId => assert_eq!((told.code(), told.tag("reportId")), (0, None)),
        Fault::Latin1 => {
            assert!(told.kind.ends_with("charset=ISO-8859-1") && told.code() == 0);
            let words = told.tag("responseDescription").unwrap_or_default();
            assert!(words.contains('\u{e9}') || told.text().contains("reportDone"), "{words}");
        }
        _ => assert_eq!((told.status, told.code()), (200, 0), "{fault}"),
    }
}

#[test]
fn every_fault_does_what_it_says_at_every_endpoint_and_says_truly_whether_it_had_its_effect() {
    let ncmec = Ncmec::start();
    let client = Client::of(&ncmec);
    let verbs = [Endpoint::Submit, Endpoint::Upload, Endpoint::FileInfo, Endpoint::Finish, Endpoint::Retract];
    for fault in Fault::all().into_iter().filter(|fault| !matches!(fault, Fault::Stall)) {
        for endpoint in verbs {
            if fault == Fault::WrongMd5 && endpoint != Endpoint::Upload {
                continue;
            }
            let id = client.submit("u");
            let file = client.upload(id, b"first").tag("fileId").unwrap();
            let before = ncmec.reports(Test).len();
            ncmec.fail(endpoint, fault, 1);
            seen(fault, client.reach(endpoint, id, &file));
            let after = ncmec.report(Test, id).unwrap();
            let had = match endpoint {
                Endpoint::Submit => ncmec.reports(Test).len() > before,
                Endpoint::Upload => after.files.len() > 1,
                Endpoint::FileInfo => after.files[0].details.is_some(),
                Endpoint::Finish => after.state == State::Finished,
                _ => after.state == State::Retracted,
            };
            assert_eq!(had, fault.processes(), "{fault} at {endpoint:?}");
            let call = ncmec.calls_of(endpoint).pop().unwrap();
            assert_eq!(call.fault, Some(fault).filter(|fault| *fault != Fault::Healthy));
        }
    }
    for endpoint in [Endpoint::Status, Endpoint::Xsd] {
        ncmec.fail(endpoint, Fault::Status(503), 1);
        assert_eq!((client.get(endpoint.name()).status, client.get(endpoint.name()).status), (503, 200));
    }
    // The first file's id, in place of the second's own.
    let id = client.submit("u");
    let first = client.upload(id, b"1").tag("fileId");
    ncmec.fail(Endpoint::Upload, Fault::DuplicateFileId, 1);
    assert_eq!(client.upload(id, b"2").tag("fileId"), first);
    let files = ncmec.report(Test, id).unwrap().files;
    assert_ne!(files[0].id, files[1].id);
}

#[test]
fn a_stalled_client_leaves_and_a_slow_answer_is_slow() {
    let ncmec = Ncmec::start();
    let mut client = Client::of(&ncmec);
    ncmec.fail(Endpoint::Status, Fault::Slow(2), 1);
    let begun = Instant::now();
    assert_eq!(client.get("status").code(), 0);
    assert!(begun.elapsed() > Duration::from_millis(300), "{:?}", begun.elapsed());
    let short = Agent::config_builder().timeout_global(Some(Duration::from_millis(300)));
    client.agent = short.build().into();
    ncmec.fail_always(Endpoint::Submit, Fault::Stall);
    for _ in 0..2 {
        client.try_post("submit", XML, report("u").as_bytes()).unwrap_err();
    }
    ncmec.heal();
    client.submit("u");
    assert_eq!(ncmec.reports(Test).len(), 1);
    // It saw them leave.
    let deadline = Instant::now() + Duration::from_secs(10);
    while ncmec.calls_of(Endpoint::Submit).iter().any(|call| call.ended_us.is_none()) {
        assert!(Instant::now() < deadline, "a stalled connection stays");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn bodies_in_chunks_and_expectations_are_taken_on_one_connection_and_half_bodies_are_not() {
    let ncmec = Ncmec::start();
    let authorization = BASE64_STANDARD.encode("test-esp:test-esp-password");
    let mut stream = TcpStream::connect(ncmec.address).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let xml = report("u");
    let head = format!(
        "POST /ispws/submit HTTP/1.1\r\nhost: x\r\nauthorization: basic {authorization}\r\ncontent-type: text/xml\r\n"
    );
    let mut answer = |sent: String, first: &str| {
        stream.write_all(sent.as_bytes()).unwrap();
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.starts_with(first), "{line}");
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            if let Some(given) = line.strip_prefix("content-length: ") {
                length = given.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        String::from_utf8(body).unwrap()
    };
    let (one, two) = xml.split_at(40);
    let chunks = format!(
        "{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{one}\r\n{:X};note=1\r\n{two}\r\n0\r\n\r\n",
        one.len(),
        two.len()
    );
    assert!(answer(chunks, "HTTP/1.1 200").contains("<responseCode>0<"));
    let expecting = format!("{head}expect: 100-continue\r\ncontent-length: {}\r\n\r\n", xml.len());
    assert_eq!(answer(expecting, "HTTP/1.1 100"), "");
    assert!(answer(xml.clone(), "HTTP/1.1 200").contains("<responseCode>0<"));
    assert_eq!(ncmec.reports(Test).len(), 2);
    stream.write_all(format!("{head}content-length: {}\r\n\r\n{one}", xml.len()).as_bytes()).unwrap();
    drop((stream, reader));
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(ncmec.reports(Test).len(), 2, "who dies in a body has said nothing");
}

#[test]
fn a_program_steers_it_and_reads_it_over_http() {
    let ncmec = Ncmec::start();
    let client = Client::of(&ncmec);
    let control = tests::Http::new(&ncmec.address.to_string());
    let told = |path: &str, body: Value| {
        let (status, answer) = control.post(&format!("/control/{path}"), &body);
        assert_eq!(status, 200, "{answer}");
    };
    told("faults", json!({ "endpoint": "submit", "fault": "too_many:7", "times": 1 }));
    assert_eq!(control.get("/control/faults").1[0]["fault"], "too_many:7");
    assert_eq!(client.post("submit", XML, report("u").as_bytes()).retry_after.as_deref(), Some("7"));
    told("plan", json!({ "seed": 3, "chances": [{ "fault": "code:1100", "chance": 1.0 }] }));
    assert_eq!(client.get("status").code(), 1100);
    assert_eq!(control.delete("/control/faults").0, 200);
    let id = client.submit("u");
    let file = client.upload(id, b"bytes").tag("fileId").unwrap();
    told("clock", json!({ "advance_seconds": 25 * 3600 }));
    assert_eq!(client.finish(id).code(), 5001);
    let report = control.get(&format!("/control/reports/test/{id}")).1;
    assert_eq!((&report["state"], &report["esp_identifier"]), (&json!("expired"), &json!("u")));
    assert_eq!(control.get(&format!("/control/reports/test/{id}/files/{file}")).1, "bytes");
    assert_eq!(control.get("/control/reports?state=open").1, json!([]));
    told("users", json!({ "environment": "test", "user": "x", "password": "y" }));
    let other = User { environment: Test, name: "x".to_string(), password: "y".to_string() };
    let filed = Client::new(ncmec.url(), &other).submit("v");
    Client::new(ncmec.url(), &other).finish(filed);
    assert_eq!(control.get("/control/finished").1, json!({ "v": [filed] }));
    told("settings", json!({ "latin1": true }));
    assert!(client.get("status").kind.ends_with("ISO-8859-1"));
    assert_eq!(control.put("/control/xsd", &json!("<xs:schema/>")).0, 200);
    assert!(client.get("xsd").text().contains("<xs:schema/>"));
    let calls = control.get("/control/calls?endpoint=finish").1;
    assert_eq!((calls.as_array().unwrap().len(), &calls[0]["code"]), (2, &json!(5001)));
    assert_eq!(calls[1]["credentials"], json!({ "environment": "test", "user": "x" }));
    assert_eq!(control.get("/control/counts").1["test"]["finish"], 2);
    for wrong in
        [json!({ "endpoint": "submit", "fault": "nonsense" }), json!({ "endpoint": "x", "fault": "lost" })]
    {
        assert_eq!(control.post("/control/faults", &wrong).0, 400);
    }
    assert_eq!(control.post("/control/nonsense", &json!({})).0, 404);
    assert!(control.get("/").1.as_str().unwrap().contains("duplicate_file_id"));
}

#[test]
fn faults_by_chance_are_the_same_for_the_same_seed() {
    let faults = || {
        let ncmec = Ncmec::start();
        let chances = vec![(None, Fault::Code(1000), 0.3), (Some(Endpoint::Status), Fault::Status(503), 0.3)];
        ncmec.plan(Plan { seed: 11, chances });
        let client = Client::of(&ncmec);
        (0..60).for_each(|_| drop(client.get("status")));
        ncmec.calls().into_iter().map(|call| call.fault).collect::<Vec<_>>()
    };
    let drawn = faults();
    assert_eq!(drawn, faults());
    for fault in [None, Some(Fault::Code(1000)), Some(Fault::Status(503))] {
        assert!(drawn.contains(&fault), "{fault:?} never came");
    }
}

#[test]
fn a_large_file_is_hashed_and_not_held() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ncmec-stand-in"))
        .args(["--user", "u", "--password", "p", "--quiet"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    let user = User { environment: Test, name: "u".to_string(), password: "p".to_string() };
    let client = Client::new(ready["url"].as_str().unwrap().to_string(), &user);
    let id = client.submit("u");
    let peak = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap().to_string();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before_kb = peak();
    let bytes: u64 = if std::env::var("FULL").is_ok_and(|full| full == "1") { 5 << 30 } else { 200 << 20 };
    let tail = Cursor::new(b"\r\n--xx--\r\n");
    let body = Cursor::new(multipart_head(id)).chain(std::io::repeat(0).take(bytes)).chain(tail);
    let told = client.send("POST", "upload", &multipart_kind(), SendBody::from_owned_reader(body)).unwrap();
    let mut digest = Md5::new();
    let block = vec![0; 1 << 20];
    (0..bytes >> 20).for_each(|_| digest.update(&block));
    assert_eq!(told.tag("hash").unwrap(), hex(&digest.finalize()));
    let grown_kb = peak() - before_kb;
    assert!(grown_kb < 16 << 10, "{grown_kb} KiB more for {bytes} bytes");
    child.kill().unwrap();
    child.wait().unwrap();
}
