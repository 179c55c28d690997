//! Recorded exchanges with HMA (`curl -i` and what came back), to be played against a server of ours.

use std::path::Path;

use serde_json::Value;

/// One request and what HMA answered.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The command, for people.
    pub command: String,
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    data: Option<String>,
    form: Vec<(String, String)>,
    /// HMA's status.
    pub status: u16,
    /// Its headers, names in lower case.
    pub answer_headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
}

/// What a server of ours answered.
#[derive(Debug)]
pub struct Answered {
    /// The status.
    pub status: u16,
    /// The `Allow` header, sorted.
    pub allow: Vec<String>,
    /// The `Location` header.
    pub location: Option<String>,
    /// The body.
    pub body: String,
}

/// Reads a recorded file.
pub fn read(text: &str) -> Vec<Exchange> {
    text.replace("\r\n", "\n").split("### curl -i ").skip(1).map(exchange).collect()
}

fn exchange(block: &str) -> Exchange {
    let (command, answer) = block.split_once('\n').expect("a command line");
    // Pages were recorded by their beginnings only, under headings of another form.
    let answer = answer.split("\n### ").next().unwrap_or_default();
    let (head, body) = answer.split_once("\n\n").unwrap_or((answer, ""));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status line");
    let header =
        |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_string()));
    let mut exchange = Exchange {
        command: command.trim().to_string(),
        method: String::new(),
        url: String::new(),
        headers: Vec::new(),
        data: None,
        form: Vec::new(),
        status,
        answer_headers: lines.filter_map(header).collect(),
        body: body.trim_end().to_string(),
    };
    let mut words = words(command).into_iter();
    while let Some(word) = words.next() {
        let mut next = || words.next().expect("an option's value");
        match word.as_str() {
            "-X" => exchange.method = next(),
            "--head" => {}
            "-d" => exchange.data = Some(next()),
            "-H" => {
                let mut header = next();
                if header.ends_with(':') {
                    header = format!("{header} {}", next()); // recorded without the shell's quotes
                }
                exchange.headers.extend(header.split_once(": ").map(|(a, b)| (a.to_string(), b.to_string())));
            }
            "-F" => exchange.form.extend(next().split_once('=').map(|(a, b)| (a.to_string(), b.to_string()))),
            _ => exchange.url = word,
        }
    }
    if exchange.method.is_empty() {
        exchange.method = "GET".to_string();
    }
    exchange
}

/// Words as a shell splits them: a backslash takes the next character as it is.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut characters) = (Vec::new(), String::new(), line.trim().chars());
    while let Some(character) = characters.next() {
        match character {
            '\\' => word.extend(characters.next()),
            ' ' => words.push(std::mem::take(&mut word)),
            other => word.push(other),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

impl Exchange {
    /// Sends the same to our server; files are found in `files` and served at `file_server`.
    pub fn play(&self, admin: &str, file_server: &str, files: &Path) -> Answered {
        // HMA's ports in the recordings; the last is that of the files beside it.
        let url = ["127.0.0.1:5199", "127.0.0.1:5120", "127.0.0.1:5101"]
            .iter()
            .fold(self.url.clone(), |url, theirs| url.replace(theirs, admin))
            .replace("127.0.0.1:5190", file_server);
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .allow_non_standard_methods(true)
            .build();
        let agent = ureq::Agent::new_with_config(config);
        let mut request = ureq::http::Request::builder().method(self.method.as_str()).uri(&url);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let mut body = Vec::new();
        if !self.form.is_empty() {
            request = request.header("content-type", "multipart/form-data; boundary=replay");
            body = self.form_body(files);
        } else if let Some(data) = &self.data {
            if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                request = request.header("content-type", "application/x-www-form-urlencoded");
            }
            body = data.replace("127.0.0.1:5190", file_server).into_bytes();
        }
        let bodiless =
            body.is_empty() && matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS" | "DELETE");
        let sent = if bodiless {
            agent.run(request.body(()).expect("a request"))
        } else {
            agent.run(request.body(body).expect("a request"))
        };
        let mut response = sent.unwrap_or_else(|error| panic!("{}: {error}", self.command));
        let header = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_string)
        };
        let mut allow: Vec<String> = header("allow")
            .unwrap_or_default()
            .split(',')
            .map(|method| method.trim().to_string())
            .filter(|method| !method.is_empty() && method != "OPTIONS")
            .collect();
        allow.sort();
        Answered {
            status: response.status().as_u16(),
            allow,
            location: header("location"),
            body: response.body_mut().read_to_string().expect("text"),
        }
    }

    fn form_body(&self, files: &Path) -> Vec<u8> {
        let mut body = Vec::new();
        for (name, value) in &self.form {
            body.extend_from_slice(b"--replay\r\n");
            let (file, bytes) = match value.strip_prefix('@') {
                Some(path) => {
                    let file = path.trim_start_matches("images/");
                    let bytes =
                        std::fs::read(files.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
                    (format!("; filename=\"{file}\""), bytes)
                }
                None => (String::new(), value.as_bytes().to_vec()),
            };
            body.extend_from_slice(
                format!("content-disposition: form-data; name=\"{name}\"{file}\r\n\r\n").as_bytes(),
            );
            body.extend_from_slice(&bytes);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--replay--\r\n");
        body
    }

    /// What HMA's `Allow` header named, sorted, without OPTIONS.
    pub fn allow(&self) -> Vec<String> {
        let allow =
            self.answer_headers.iter().find(|(name, _)| name == "allow").map_or("", |(_, value)| value);
        let mut allow: Vec<String> = allow
            .split(", ")
            .filter(|method| !method.is_empty() && *method != "OPTIONS")
            .map(Into::into)
            .collect();
        allow.sort();
        allow
    }
}

/// A body as it is compared: times hidden, lists whose order HMA leaves open sorted.
pub fn comparable(body: &str) -> Value {
    match serde_json::from_str::<Value>(body) {
        Ok(mut value) => {
            settle(&mut value);
            value
        }
        Err(_) => Value::String(body.trim_end().to_string()),
    }
}

const TIMES: [&str; 4] = ["built_to", "index_built_to", "newest_db_item", "last_fetch_complete_ts"];

fn settle(value: &mut Value) {
    match value {
        Value::Array(list) => {
            list.iter_mut().for_each(settle);
            // Matches, banks and field faults are objects; compared as sets. So are lists of ids and of names.
            if [Value::is_object, Value::is_u64, Value::is_string].iter().any(|kind| list.iter().all(kind)) {
                list.sort_by_key(Value::to_string);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                if TIMES.contains(&name.as_str()) && value.is_i64() {
                    *value = Value::String("a time".into());
                } else {
                    settle(value);
                }
            }
        }
        _ => {}
    }
}
