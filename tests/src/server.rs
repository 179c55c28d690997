//! A running `hashward serve`.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use ingest::wire::{Client, ClientOptions};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::Http;

const READY_MAX: Duration = Duration::from_secs(60);

/// The path of one of our programs, freshly built.
pub fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        if let Some(folder) = std::env::var_os("HASHWARD_BIN_DIR") {
            return folder.into();
        }
        // A plain `cargo test -p tests`: build what is tested, then look beside this test's own program.
        let built = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "-p",
                "engine",
                "-p",
                "loadtest",
                "--bins",
                "--features",
                "engine/failpoints",
            ])
            .status()
            .expect("cargo runs");
        assert!(built.success(), "the programs under test do not build");
        let test = std::env::current_exe().expect("this program has a path");
        test.ancestors().nth(2).expect("target/<profile>/deps/<test>").to_path_buf()
    });
    folder.join(name)
}

/// How to start a server.
#[derive(Default)]
pub struct Setup {
    data: Option<PathBuf>,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    wrapper: Vec<String>,
}

impl Setup {
    /// Uses this data directory instead of a fresh one.
    pub fn data(mut self, folder: &Path) -> Self {
        self.data = Some(folder.to_path_buf());
        self
    }

    /// Adds a flag with its value.
    pub fn flag(mut self, name: &str, value: impl ToString) -> Self {
        self.flags.extend([name.to_string(), value.to_string()]);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.push((name.to_string(), value.to_string()));
        self
    }

    /// Lets the program die as often as a test wishes while it works on the same thing. Otherwise that thing waits for a
    /// person after the second time.
    pub fn killed_often(self) -> Self {
        self.env("HASHWARD_DEATHS_MAX", u32::MAX)
    }

    /// Runs the server under another program, for example `strace`.
    pub fn wrapped(mut self, command: &[&str]) -> Self {
        self.wrapper = command.iter().map(ToString::to_string).collect();
        self
    }

    fn command(&self, data: &Path) -> Command {
        let mut words = self.wrapper.clone();
        words.push(program("hashward").display().to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("serve").arg("--data-dir").arg(data);
        for (port, flag) in [("--listen", "127.0.0.1:0"), ("--admin", "127.0.0.1:0")] {
            if !self.flags.iter().any(|given| given == port) {
                command.args([port, flag]);
            }
        }
        command.args(&self.flags);
        // Nothing of the developer's own environment may steer a test.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HASHWARD_")) {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts it and waits until it takes traffic.
    pub fn start(self) -> Server {
        self.try_start().unwrap_or_else(|words| panic!("hashward did not get ready: {words}"))
    }

    /// The same of one that may be killed before it takes traffic: then its last words.
    pub fn try_start(self) -> Result<Server, String> {
        let own = self.data.is_none().then(|| tempfile::tempdir().expect("a temporary folder"));
        let data =
            self.data.clone().or(own.as_ref().map(|own| own.path().join("data"))).expect("one of the two");
        let mut child = self.command(&data).spawn().expect("hashward starts");
        let stderr = collect(child.stderr.take().expect("piped"));
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let deadline = Instant::now() + READY_MAX;
        stdout.read_line(&mut line).expect("stdout is text");
        assert!(Instant::now() < deadline, "no ready line within {READY_MAX:?}");
        let Ok(ready) = serde_json::from_str::<Value>(&line) else {
            let status = child.wait().expect("the child is ours");
            thread::sleep(Duration::from_millis(50)); // its last words are still being collected
            return Err(format!("{status}: {}", stderr.lock().expect("no panic there")));
        };
        let address = |name: &str| ready[name].as_str().expect("an address").to_string();
        Ok(Server {
            child,
            data,
            _own: own.map(Arc::new),
            listen: address("listen").parse().expect("an address"),
            http: Http::new(&address("admin")),
            admin: address("admin"),
            stderr,
        })
    }
}

/// Starts a server that must refuse; gives its exit status and its last words.
pub fn refusal(setup: Setup) -> (ExitStatus, String) {
    let own = tempfile::tempdir().expect("a temporary folder");
    let data = setup.data.clone().unwrap_or(own.path().join("data"));
    let mut child = setup.command(&data).spawn().expect("hashward starts");
    let mut words = String::new();
    let deadline = Instant::now() + READY_MAX;
    let status = loop {
        if let Some(status) = child.try_wait().expect("the child is ours") {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().expect("the child is ours");
            panic!("hashward should have refused, but runs");
        }
        thread::sleep(Duration::from_millis(10));
    };
    child.stderr.take().expect("piped").read_to_string(&mut words).expect("stderr is text");
    (status, words)
}

/// A server that takes traffic. Killed when dropped.
pub struct Server {
    child: Child,
    data: PathBuf,
    _own: Option<Arc<TempDir>>,
    /// Binary port.
    pub listen: SocketAddr,
    /// Admin port, `host:port`.
    pub admin: String,
    /// A client of the admin port.
    pub http: Http,
    stderr: Arc<Mutex<String>>,
}

impl Server {
    /// A server with defaults in a fresh folder.
    pub fn start() -> Self {
        Setup::default().start()
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Forgets how much memory it held before, at its start above all.
    pub fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").expect("the child is ours");
    }

    /// Bytes of memory that it has held at most.
    pub fn peak(&self) -> u64 {
        self.memory("VmHWM:").expect("it runs")
    }

    /// Bytes of memory that it holds; `None` once it has ended.
    pub fn resident(&self) -> Option<u64> {
        self.memory("VmRSS:")
    }

    fn memory(&self, field: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? << 10)
    }

    /// Its exit status, once it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child is ours")
    }

    /// A client of the binary port.
    pub fn client(&self) -> Client {
        Client::new(self.listen, ClientOptions::default())
    }

    /// A bare connection to the binary port.
    pub fn socket(&self) -> TcpStream {
        let socket = TcpStream::connect(self.listen).expect("the port is open");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
        socket
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.stderr.lock().expect("no panic while logging").clone()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("the child is ours").is_none()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process id");
        kill_process(pid, signal).expect("the child is ours");
    }

    /// Kills it as `kill -9` does; its folder stays.
    pub fn kill(mut self) -> Stopped {
        self.child.kill().expect("the child is ours");
        self.child.wait().expect("the child is ours");
        self.stopped()
    }

    /// Asks it to stop; it must drain and end with 0.
    pub fn stop(mut self) -> Stopped {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert!(status.success(), "SIGTERM ends with {status}: {}", self.log());
        self.stopped()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                return status;
            }
            assert!(Instant::now() < deadline, "hashward does not end: {}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn stopped(&mut self) -> Stopped {
        Stopped { data: self.data.clone(), _own: self._own.take() }
    }

    /// Makes a bank; it must not exist.
    pub fn create_bank(&self, name: &str) {
        let (status, body) = self.http.post("/api/v1/banks", &serde_json::json!({ "name": name }));
        assert_eq!(status, 201, "{body}");
    }

    /// Adds one PDQ hash to a bank; gives the content's id.
    pub fn add_pdq(&self, bank: &str, hash: &index::Hash256) -> u64 {
        let body = serde_json::json!({ "signals": { "pdq": crate::hex(hash) } });
        let (status, body) = self.http.post(&format!("/api/v1/banks/{bank}/contents"), &body);
        assert_eq!(status, 201, "{body}");
        body["first_content"].as_u64().expect("a content id")
    }

    /// Waits until the router has reached the end of the log; gives the hits of every queue's jobs, by queue.
    pub fn routed(&self) -> Vec<(String, Vec<Value>)> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let (_, hits) = self.http.get("/api/v1/hits?before=18446744073709551615&limit=1");
            let last = hits["entries"][0]["position"].as_u64().unwrap_or(0);
            if self.metric("hashward_router_position") >= last as f64 {
                break;
            }
            assert!(Instant::now() < deadline, "the router does not reach position {last}: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
        let hits = |job: &Value| self.pages(&format!("/api/v1/jobs/{}/hits", job["id"]));
        let queues =
            self.queues().into_iter().map(|(name, jobs)| (name, jobs.iter().flat_map(hits).collect()));
        queues.filter(|(_, hits): &(String, Vec<Value>)| !hits.is_empty()).collect()
    }

    /// The jobs that wait in every queue, by queue.
    pub fn queues(&self) -> Vec<(String, Vec<Value>)> {
        let (status, queues) = self.http.get("/api/v1/queues");
        assert_eq!(status, 200, "{queues}");
        let names =
            queues.as_array().expect("a list").iter().map(|queue| queue["name"].as_str().expect("a name"));
        names.map(|name| (name.to_string(), self.jobs(name))).collect()
    }

    /// The jobs that wait in a queue, first ones first.
    pub fn jobs(&self, queue: &str) -> Vec<Value> {
        let (mut jobs, mut after) = (Vec::new(), 0);
        loop {
            let (status, page) = self.http.get(&format!("/api/v1/queues/{queue}?after={after}&limit=1000"));
            assert_eq!(status, 200, "{page}");
            jobs.extend(page["jobs"].as_array().expect("a list").iter().cloned());
            match page["next"].as_u64() {
                Some(next) => after = next,
                None => return jobs,
            }
        }
    }

    /// A metric without labels; 0 if it is not there.
    pub fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.http.plain("GET", "/metrics", None);
        let value = |line: &str| {
            line.strip_prefix(name)?.trim_start_matches("_total").strip_prefix("{}")?.trim().parse().ok()
        };
        text.lines().find_map(value).unwrap_or(0.0)
    }

    /// A metric with its labels, as `/metrics` writes both.
    pub fn metric_of(&self, name: &str) -> Option<f64> {
        let (_, text) = self.http.plain("GET", "/metrics", None);
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// Imports PDQ hashes into a bank.
    pub fn import(&self, bank: &str, hashes: &[index::Hash256]) {
        let list: String = hashes.iter().map(|hash| crate::hex(hash) + "\n").collect();
        let path = format!("/api/v1/banks/{bank}/import?signal_type=pdq");
        let (status, answer) = self.http.stream(&path, std::io::Cursor::new(list));
        assert_eq!((status, answer["imported"].as_u64()), (200, Some(hashes.len() as u64)), "{answer}");
    }

    /// Every entry of a paged list.
    pub fn pages(&self, path: &str) -> Vec<Value> {
        let (mut entries, mut after) = (Vec::new(), 0);
        loop {
            let (status, page) = self.http.get(&format!("{path}?after={after}&limit=1000"));
            assert_eq!(status, 200, "{page}");
            entries.extend(page["entries"].as_array().expect("a list").iter().cloned());
            match page["next"].as_u64() {
                Some(next) => after = next,
                None => return entries,
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // ended already, mostly
        let _ = self.child.wait();
    }
}

/// The folder of a server that ended.
pub struct Stopped {
    data: PathBuf,
    _own: Option<Arc<TempDir>>,
}

impl Stopped {
    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Starts a server on it again.
    pub fn restart(&self) -> Server {
        self.restart_with(Setup::default())
    }

    /// The same with these settings.
    pub fn restart_with(&self, setup: Setup) -> Server {
        let mut server = setup.data(&self.data).start();
        server._own.clone_from(&self._own); // a server whose folder goes ends
        server
    }
}

fn collect(mut from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let sink = text.clone();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            sink.lock().expect("no panic while logging").push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    });
    text
}
