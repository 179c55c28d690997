//! Whatever part of the server refuses a request, the answer has the form of its route: JSON with a message under `/api/v1/`,
//! Coop's list of errors on its two routes, HMA's JSON and pages on HMA's.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::Value;
use tests::{Server, Setup};

/// A path element, or value of a query, whose bytes are no UTF-8.
const NO_UTF8: &str = "%00%ff";

/// Sends a request: status, type and text of the answer.
fn answer(server: &Server, method: &str, path: &str, body: &[u8]) -> (u16, String, String) {
    let mut stream = TcpStream::connect(&server.admin).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = format!(
        "{} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        method.to_uppercase(),
        server.admin,
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let all = String::from_utf8_lossy(&all).into_owned();
    let (head, text) = all.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method} {path}: {all:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default();
    (status, kind.to_string(), text.to_string())
}

/// That an answer, if it is a refusal, has the form of its route.
fn has_form(method: &str, path: &str, (status, kind, text): (u16, String, String)) {
    if status < 400 {
        return;
    }
    let shown = format!("{method} {path}: {status} {kind} {text}");
    assert!(status < 500 || status == 501, "{shown}");
    let is_own = path.starts_with("/api/");
    if !is_own && kind.starts_with("text/html") {
        return;
    }
    assert_eq!(kind, "application/json", "{shown}");
    let text: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{shown}: {error}"));
    let is_coops = ["/api/v1/items/async", "/api/v1/report"]
        .contains(&path.split('?').next().unwrap().trim_end_matches('/'));
    let says = match is_coops {
        true => text["errors"].is_array(),
        false => text["message"].is_string() || !is_own && text.is_array(),
    };
    assert!(says, "{shown}");
}

/// Every route: its method, path and description.
fn routes(server: &Server) -> Vec<(String, String, Value)> {
    let document = server.http.get("/openapi.json").1;
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            routes.push((method.clone(), path.clone(), operation.clone()));
        }
    }
    assert!(routes.len() > 140);
    routes
}

/// A path whose parameters are this.
fn with_parameters(path: &str, value: &str) -> String {
    let part = |part: &str| if part.starts_with('{') { value.to_string() } else { part.to_string() };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[test]
fn a_path_that_is_no_utf8_is_refused_in_the_form_of_its_route() {
    let server = Setup::default().flag("--cores", 1).start();
    let mut asked = 0;
    for (method, path, _) in routes(&server).iter().filter(|(_, path, _)| path.contains('{')) {
        let path = with_parameters(path, NO_UTF8);
        let (status, kind, text) = answer(&server, method, &path, b"{}");
        assert!((400..500).contains(&status), "{method} {path}: {status} {text}");
        has_form(method, &path, (status, kind, text));
        asked += 1;
    }
    assert!(asked > 70, "{asked}");
}

#[test]
fn a_query_that_does_not_fit_is_refused_in_the_form_of_its_route() {
    let server = Setup::default().flag("--cores", 1).start();
    for (method, path, operation) in routes(&server) {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        for parameter in parameters.filter(|parameter| parameter["in"] == "query") {
            let name = parameter["name"].as_str().unwrap();
            let path = format!("{}?{name}={NO_UTF8}&{name}=%", with_parameters(&path, "1"));
            has_form(&method, &path, answer(&server, &method, &path, b"{}"));
        }
    }
}

#[test]
fn a_body_that_is_too_long_or_no_json_is_refused_in_the_form_of_its_route() {
    let server = Setup::default().flag("--cores", 1).start();
    let too_long = [&b"\""[..], &vec![b' '; 3 << 20], b"\""].concat();
    let mut too_large = 0;
    for (method, path, operation) in routes(&server) {
        if !operation["requestBody"]["content"]["application/json"].is_object() {
            continue;
        }
        let path = with_parameters(&path, "1");
        for body in [&b"\xff\xfe{"[..], &too_long[..]] {
            let told = answer(&server, &method, &path, body);
            too_large += u32::from(told.0 == 413);
            has_form(&method, &path, told);
        }
    }
    assert!(too_large > 20, "{too_large} bodies were too large");
}
