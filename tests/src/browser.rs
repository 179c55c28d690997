//! A headless Chromium behind ChromeDriver, spoken to by WebDriver's plain JSON. Both end with the value.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Http;

const DRIVER: &str = "/usr/bin/chromedriver";
/// WebDriver's name for the field that refers to an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// For what a page does by itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// A browser with one tab.
pub struct Browser {
    http: Http,
    session: String,
    folder: TempDir,
    driver: Child,
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.quit();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

impl Browser {
    /// Starts one; none where ChromeDriver is not installed.
    pub fn start() -> Option<Self> {
        if !Path::new(DRIVER).exists() {
            return None;
        }
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let driver = Command::new(DRIVER)
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("ChromeDriver starts");
        let folder = tempfile::tempdir().expect("a folder");
        let http = Http::new(&format!("127.0.0.1:{port}"));
        let mut browser = Self { http, session: String::new(), folder, driver };
        let begun = Instant::now();
        while browser.http.try_post("/status", &json!({})).is_err() {
            assert!(begun.elapsed() < PATIENCE, "ChromeDriver does not listen");
            thread::sleep(Duration::from_millis(50));
        }
        let profile = format!("--user-data-dir={}", browser.folder.path().display());
        let flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1200,1600",
            &profile,
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": { "args": flags, "binary": "/usr/bin/chromium" } } } });
        let (status, made) = browser.http.post("/session", &wanted);
        assert_eq!(status, 200, "{made}");
        browser.session = made["value"]["sessionId"].as_str().expect("a session").to_string();
        Some(browser)
    }

    /// The folder with all that it keeps.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends the browser; its folder stays until the value goes.
    pub fn quit(&mut self) {
        if !self.session.is_empty() {
            let _ = self.http.delete(&format!("/session/{}", self.session));
            self.session.clear();
        }
    }

    fn post(&self, what: &str, body: &Value) -> Value {
        let (status, answer) = self.http.post(&format!("/session/{}/{what}", self.session), body);
        assert_eq!(status, 200, "{what} {body}: {answer}");
        answer["value"].clone()
    }

    /// Runs a script before any of every page that is opened from now on.
    pub fn on_every_page(&self, script: &str) {
        self.devtools("Page.addScriptToEvaluateOnNewDocument", &json!({ "source": script }));
    }

    /// A command of Chromium's own protocol.
    pub fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// Opens a page.
    pub fn open(&self, url: &str) {
        self.post("url", &json!({ "url": url }));
    }

    /// What a script returns.
    pub fn run(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until a script returns something true.
    pub fn wait(&self, script: &str) {
        let begun = Instant::now();
        while self.run(script) != json!(true) {
            let page = self.run("return document.body.innerText");
            assert!(begun.elapsed() < PATIENCE, "never: {script}\n{page}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The element that an XPath finds, when it is there.
    pub fn find(&self, path: &str) -> Value {
        let begun = Instant::now();
        loop {
            let body = json!({ "using": "xpath", "value": path });
            let (status, answer) = self.http.post(&format!("/session/{}/element", self.session), &body);
            if status == 200 {
                return answer["value"].clone();
            }
            assert!(begun.elapsed() < PATIENCE, "no {path}\n{}", self.run("return document.body.innerText"));
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Clicks what an XPath finds.
    pub fn click(&self, path: &str) {
        self.on(path, "click", &json!({}));
    }

    /// Types into what an XPath finds.
    pub fn write(&self, path: &str, text: &str) {
        self.on(path, "value", &json!({ "text": text }));
    }

    fn on(&self, path: &str, what: &str, body: &Value) {
        let begun = Instant::now();
        loop {
            let found = self.find(path);
            let id = found[ELEMENT].as_str().expect("an element");
            let place = format!("/session/{}/element/{id}/{what}", self.session);
            let (status, answer) = self.http.post(&place, body);
            if status == 200 {
                return;
            }
            // The page has made its parts anew since it was found.
            let is_stale = answer["value"]["error"] == "stale element reference";
            assert!(is_stale && begun.elapsed() < PATIENCE, "{what} of {path}: {answer}");
        }
    }

    /// A picture of what an XPath finds, as PNG.
    pub fn picture(&self, path: &str) -> Vec<u8> {
        let found = self.find(path);
        let id = found[ELEMENT].as_str().expect("an element");
        let (status, shot) = self.http.get(&format!("/session/{}/element/{id}/screenshot", self.session));
        assert_eq!(status, 200, "{shot}");
        BASE64_STANDARD.decode(shot["value"].as_str().expect("a picture")).expect("Base64")
    }

    /// Presses the mouse on what an XPath finds, and keeps it pressed.
    pub fn press(&self, path: &str) {
        let found = self.find(path);
        let script = "arguments[0].scrollIntoView({ block: 'center' })";
        self.post("execute/sync", &json!({ "script": script, "args": [found] }));
        let actions = json!([
            { "type": "pointerMove", "duration": 0, "origin": found, "x": 0, "y": 0 },
            { "type": "pointerDown", "button": 0 },
        ]);
        self.pointer(&actions);
    }

    /// Lets the mouse go.
    pub fn let_go(&self) {
        self.pointer(&json!([{ "type": "pointerUp", "button": 0 }]));
    }

    fn pointer(&self, actions: &Value) {
        let mouse = json!({ "type": "pointer", "id": "mouse", "parameters": { "pointerType": "mouse" }, "actions": actions });
        self.post("actions", &json!({ "actions": [mouse] }));
    }

    /// Presses a key and lets it go.
    pub fn key(&self, key: &str) {
        let actions = json!([{ "type": "keyDown", "value": key }, { "type": "keyUp", "value": key }]);
        self.post("actions", &json!({ "actions": [{ "type": "key", "id": "keys", "actions": actions }] }));
    }
}
