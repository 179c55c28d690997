//! A stand-in for NCMEC's CyberTipline: what specs/cybertipline.md 1 says of it, with a clock that can be set and faults
//! that can be told. It serves tests in-process, and as the program `ncmec-stand-in` the demo and platforms' dry runs.
//!
//! Both environments of NCMEC stand in one, at an address each, so that who confuses them is seen. Nothing is stored; a file
//! that is larger than what is kept is hashed, counted and forgotten as it comes. Below: `serve` reads calls and answers,
//! `book` knows the reports, `fault` what goes wrong, `control` is for programs.

mod book;
mod control;
mod fault;
mod form;
mod held;
mod reply;
mod schema;
mod serve;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use reporter::cyber_tipline::Environment;

use self::book::Book;
pub use self::book::{Caller, File, Report, State};
pub use self::control::HELP;
pub use self::fault::{Endpoint, Fault, Plan};
use self::held::Held;
pub use self::held::{Call, Settings, Shown, User};
use self::serve::lock;

/// Connections at a time, each a thread; further ones are closed.
const CONNECTIONS_MAX: usize = 1024;
/// Bytes of files that are kept, of all reports together.
const KEPT_BYTES_MAX: usize = 256 << 20;
/// A schema of its own: NCMEC's is not ours to give away.
const XSD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
    <xs:schema xmlns:xs=\"http://www.w3.org/2001/XMLSchema\" elementFormDefault=\"qualified\">\n\
    <!-- A stand-in's: start it with NCMEC's own to serve that. -->\n</xs:schema>\n";

/// How to start one.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the test CyberTipline listens.
    pub listen: SocketAddr,
    /// Where the production one does, if there is to be one.
    pub production: Option<SocketAddr>,
    /// Who may call.
    pub users: Vec<User>,
    /// The number of the first report, in each environment.
    pub first_id: i64,
    /// What `/xsd` answers, if not a schema of its own.
    pub xsd: Option<Vec<u8>>,
    /// How it behaves.
    pub settings: Settings,
}

impl Default for Options {
    /// What tests use: both environments on free ports.
    fn default() -> Self {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            listen: anywhere,
            production: Some(anywhere),
            users: vec![Ncmec::user(Environment::Test), Ncmec::user(Environment::Production)],
            first_id: 7_855_764,
            xsd: None,
            settings: Settings::default(),
        }
    }
}

/// A running stand-in. It goes on until the program ends.
#[derive(Clone)]
pub struct Ncmec {
    /// Where its test CyberTipline is.
    pub address: SocketAddr,
    /// Where its production one is.
    pub production: Option<SocketAddr>,
    held: Arc<Mutex<Held>>,
}

impl Ncmec {
    /// One for a test.
    pub fn start() -> Self {
        Self::with(Options::default()).expect("free ports")
    }

    /// One as it is asked for.
    pub fn with(options: Options) -> io::Result<Self> {
        let book = Book::new(options.first_id, KEPT_BYTES_MAX);
        let xsd = options.xsd.unwrap_or_else(|| XSD.into());
        let held = Arc::new(Mutex::new(Held::new(book, options.users, options.settings, xsd)));
        let connections = Arc::new(AtomicUsize::new(0));
        let start = |address, environment| listen(address, environment, &held, &connections);
        let address = start(options.listen, Environment::Test)?;
        let production = options.production.map(|at| start(at, Environment::Production)).transpose()?;
        Ok(Self { address, production, held })
    }

    /// The credentials that tests use in an environment.
    pub fn user(environment: Environment) -> User {
        let name = format!("{}-esp", environment.name());
        User { environment, password: format!("{name}-password"), name }
    }

    /// Base URL of the test CyberTipline.
    pub fn url(&self) -> String {
        format!("http://{}{}", self.address, serve::BASE)
    }

    /// Base URL of the production one.
    pub fn production_url(&self) -> String {
        format!("http://{}{}", self.production.expect("it was started with one"), serve::BASE)
    }

    /// Lets somebody else call, too.
    pub fn admit(&self, user: User) {
        lock(&self.held).users.push(user);
    }

    /// The next so many requests of an endpoint go wrong like this, after those that were told before.
    pub fn fail(&self, endpoint: Endpoint, fault: Fault, times: u64) {
        lock(&self.held).faults.tell(endpoint, fault, times);
    }

    /// Every request of an endpoint goes wrong like this, until [`Self::heal`].
    pub fn fail_always(&self, endpoint: Endpoint, fault: Fault) {
        self.fail(endpoint, fault, u64::MAX);
    }

    /// Requests for which nothing is told go wrong by chance.
    pub fn plan(&self, plan: Plan) {
        lock(&self.held).faults.plan = plan;
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        lock(&self.held).faults.clear();
    }

    /// Changes how it behaves.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut lock(&self.held).settings);
    }

    /// Answers `/xsd` with this from now on.
    pub fn set_xsd(&self, xsd: &[u8]) {
        lock(&self.held).xsd = xsd.to_vec();
    }

    /// What its clock says, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        lock(&self.held).now_ms()
    }

    /// Sets its clock forward.
    pub fn advance(&self, by: Duration) {
        let mut held = lock(&self.held);
        let now_ms = held.now_ms() + u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        held.set_clock(now_ms);
    }

    /// All reports of an environment, by their numbers.
    pub fn reports(&self, environment: Environment) -> Vec<Report> {
        let held = lock(&self.held);
        let reports =
            held.book.reports(held.now_ms()).filter(|(report, _)| report.environment == environment);
        reports.map(|(report, state)| Report { state, ..report.clone() }).collect()
    }

    /// One report.
    pub fn report(&self, environment: Environment, id: i64) -> Option<Report> {
        let held = lock(&self.held);
        held.book.report(environment, id, held.now_ms())
    }

    /// Finished reports by the id that the reported user has at the platform: a job has exactly one.
    pub fn finished(&self, environment: Environment) -> BTreeMap<String, Vec<i64>> {
        control::finished(&lock(&self.held), environment)
    }

    /// Waits until so many reports are finished.
    pub fn wait_finished(&self, environment: Environment, count: usize) -> BTreeMap<String, Vec<i64>> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let finished = self.finished(environment);
            let so_far: usize = finished.values().map(Vec::len).sum();
            if so_far >= count {
                return finished;
            }
            assert!(Instant::now() < deadline, "{so_far} reports are finished, not {count}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Every call, in the order of their coming.
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.held).calls().cloned().collect()
    }

    /// Calls of an endpoint, in both environments.
    pub fn calls_of(&self, endpoint: Endpoint) -> Vec<Call> {
        lock(&self.held).calls().filter(|call| call.endpoint == Some(endpoint)).cloned().collect()
    }

    /// The most calls that this user ever had under way at once.
    pub fn at_once(&self, user: &str) -> usize {
        let held = lock(&self.held);
        let of =
            held.calls().filter(|call| matches!(&call.shown, Shown::Known(caller) if caller.user == user));
        let turns = of.flat_map(|call| [(call.began_us, 1), (call.ended_us.unwrap_or(u64::MAX), -1)]);
        let mut turns: Vec<(u64, isize)> = turns.collect();
        turns.sort_unstable();
        let under_way = turns.iter().scan(0_isize, |now, (_, change)| {
            *now += change;
            Some(*now)
        });
        under_way.max().unwrap_or(0).unsigned_abs()
    }
}

fn listen(
    address: SocketAddr,
    environment: Environment,
    held: &Arc<Mutex<Held>>,
    connections: &Arc<AtomicUsize>,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    let (held, connections) = (held.clone(), connections.clone());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if connections.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
                connections.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (held, connections) = (held.clone(), connections.clone());
            thread::spawn(move || {
                // A connection that breaks is the client's affair.
                let _ = serve::connection(stream, environment, &held);
                connections.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    Ok(address)
}
