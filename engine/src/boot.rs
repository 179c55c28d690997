//! From nothing to 'accepts traffic', in order, and back.
//!
//! Order matters: ports and data directory are checked before anything is loaded; admin HTTP answers while
//! banks load; the shards listen last. Draining goes the other way, so that what was taken is settled.

mod control;
mod shards;
mod signals;
mod stores;
mod workers;

pub use stores::KEY_FILE;

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use index::bank::{Admit, BankOptions, Banks, LoadProgress, MemoryBudget, Storing};
use index::store::whole_file::Readers;
use index::store::{DataDir, Database, RocksSegments, Store, StoreError, WindowLimits};
use index::{Costs, Kernel, SignalType};
use ingest::media::fetch::Fetcher;
use ingest::s3::{Objects, S3Options};
use reporter::Cases;
use reporter::router::rule::RulesFile;
use tokio::sync::{Notify, Semaphore};

use self::stores::Stores;
use self::workers::Workers;
use crate::access::Door;
use crate::access::logins::Logins;
use crate::admin::{Admin, LastGauges, Loaded, Turns};
use crate::audit::{AuditKey, AuditSigner, Signing};
use crate::cgroup::Allowance;
use crate::circuits::Circuits;
use crate::cli::Serve;
use crate::clock_watch::ClockWatch;
use crate::config::{Config, descriptors};
use crate::decoders::Decoders;
use crate::defence::Alarms;
use crate::desk::Desk;
use crate::disk::Disk;
use crate::embeddings::Embeddings;
use crate::evidence::Evidence;
use crate::last_words::{self, End};
use crate::ledger::{self, LedgerParts};
use crate::metrics::Metrics;
use crate::outbound::{Caller, Signer};
use crate::submit::Submitter;
use crate::{
    alarm, clock, curator, damage, decoders, desk, exchanges, filer, logging, merge, private, recent,
};

/// MiB of files that wait to be hashed; a few of the largest, or very many of the usual.
const HELD_MIB: usize = 512;
/// How long the start waits for the reader of the ready line.
const READY_LINE_MAX: Duration = Duration::from_secs(1);
/// Alarms that may wait to be followed.
const ALARMS_MAX: usize = 1024;

/// Runs the server until SIGTERM or SIGINT.
pub fn serve(args: Serve) -> Result<ExitCode> {
    let raised = descriptors::raise();
    let config = Config::resolve(args.settings, args.config.as_deref())?;
    if args.print_config {
        ingest::stdout::text(format_args!("{}", config.show()));
        return Ok(ExitCode::SUCCESS);
    }
    logging::start(&config.log)?;
    config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of file descriptors could not be raised to the hard limit");
    }
    if let Err(error) = descriptors::enlarge(config.cores, config.limits.connections_max) {
        tracing::warn!(%error, "the table of file descriptors could not be enlarged; connections may stall while it grows");
    }
    tell_allowance(&config);
    let started = Instant::now();
    let kernel = Kernel::choose()?;
    let rules = load_rules(&config)?;
    let caller = Arc::new(caller(&config)?);
    let admin_port = bind_admin(config.admin)?;
    refuse_taken_port(config.listen)?;
    let data_dir = DataDir::open(&config.data_dir).map_err(StoreError::of_opening)?;
    private::close(data_dir.path());
    let last_end = last_words::begin(data_dir.path());
    let prepared = Prepared { config, started, kernel, rules, caller, admin_port, last_end };
    let outcome = run(prepared, &data_dir);
    match &outcome {
        Ok(()) => last_words::say(End::Stopped, ""),
        Err(error) => last_words::say(End::Failed, &format!("{error:#}")),
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

/// What is checked before anything is loaded.
struct Prepared {
    config: Config,
    started: Instant,
    kernel: Kernel,
    rules: Option<RulesFile>,
    caller: Arc<Caller>,
    admin_port: TcpListener,
    last_end: End,
}

fn run(prepared: Prepared, data_dir: &DataDir) -> Result<()> {
    let Prepared { config, started, kernel, rules, caller, admin_port, last_end } = prepared;
    let accepting = Arc::new(AtomicBool::new(false));
    let signals = signals::start(accepting.clone())?;
    let clock_event = clock::clock().open(data_dir.path());
    let Stores { bank: bank_store, case: case_store, wrap, seal, cache, damage } =
        stores::open(&config, data_dir)?;

    let disk = Arc::new(Disk::new(data_dir.path(), config.disk_reserve_bytes));
    let evidence = Arc::new(Evidence::open(data_dir.path(), wrap.clone(), disk.clone())?);
    let cases = open_cases(&config, disk.clone(), case_store.clone(), rules)?;
    let (alarms, heard) = Alarms::new(ALARMS_MAX);
    let held_mib = Arc::new(Semaphore::new(HELD_MIB));
    let metrics = Arc::new(Metrics::new(&config, kernel.name(), last_end, damage.clone()));
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let turns = Turns::new(cpus, metrics.turns.clone());
    let decoders = Arc::new(start_decoders(&config, cpus, &metrics)?);
    let admin = Arc::new(Admin {
        loaded: OnceLock::new(),
        progress: LoadProgress::default(),
        disk,
        door: Door::new(config.token.clone(), cases.directory(), alarms),
        logins: Logins::default(),
        metrics,
        fetcher: Fetcher::new(config.fetch.clone(), held_mib.clone())?,
        objects: objects(&config, held_mib.clone())?,
        held_mib,
        turns,
        decoders,
        accepting,
        circuits: Arc::new(Circuits::new(filer::pace().faster)),
        gauges: LastGauges::default(),
        config,
    });
    let admin_address = admin_port.local_addr()?;
    let control = control::start(admin.clone(), admin_port)?;

    let budget = Arc::new(MemoryBudget::new(admin.config.memory_max_bytes));
    let others = shards::others(admin.config.cores);
    let embeddings = Embeddings::open(data_dir.path(), budget.clone(), others.clone())
        .context("the data directory's embeddings/ cannot be opened")?;
    let scrubbed = [(Database::Bank, bank_store.clone()), (Database::Case, case_store.clone())];
    let banks = Arc::new(load_banks(&admin, bank_store, data_dir, budget)?);
    let (bell, merging) = merge::start(banks.clone(), admin.disk.clone(), others)?;
    bell.ring();
    let (curator, curating) = curator::start(banks.clone(), admin.disk.clone(), bell)?;
    let (exchanges, fetching) = exchanges::start(
        banks.clone(),
        curator.clone(),
        wrap,
        admin.config.list_dirs.clone(),
        admin.config.durability,
    )?;
    let (signing, auditing) = sign_audit(&admin, case_store.clone())?;
    let (desk, desk_queue) = desk::channel();
    let (ledger, logging) = ledger::start(LedgerParts {
        store: case_store.clone(),
        disk: admin.disk.clone(),
        durability: admin.config.durability,
        window: WindowLimits::default(),
        desk: desk.clone(),
        counts: admin.metrics.ledger.clone(),
    })?;
    let catalog = cases.catalog();
    let deciding = desk::start(cases, admin.disk.clone(), admin.metrics.desk.clone(), desk_queue)?;
    let (recent, keeping) = recent::start(
        data_dir,
        (&seal, &cache),
        admin.disk.clone(),
        admin.config.recent,
        admin.metrics.recent.clone(),
    )?;
    let submitter = Arc::new(Submitter {
        banks: banks.clone(),
        catalog: catalog.clone(),
        ledger: ledger.clone(),
        recent: recent.clone(),
        rule: admin.config.find_rule(),
        matches_max: admin.config.limits.matches_max,
    });
    let shards = shards::start(&admin, &banks, &catalog, ledger, recent.clone())?;
    let [intake, retention, filing] = [(); 3].map(|()| Arc::new(Notify::new()));
    control.runtime().spawn(ClockWatch { desk: desk.clone(), found: clock_event }.run());
    control.runtime().spawn(alarm::hear(heard, desk.clone(), admin.metrics.alarms.clone()));
    control.runtime().spawn(damage::raise_alarms(damage.clone(), embeddings.clone(), desk.clone()));
    control.runtime().spawn(decoders::raise_alarms(admin.metrics.decoders.clone(), desk.clone()));
    let (scrubbing, scrubber) = damage::scrub(scrubbed, data_dir.path(), damage)?;
    let workers = Workers {
        store: case_store.clone(),
        desk: desk.clone(),
        curator: curator.clone(),
        evidence: evidence.clone(),
        retention: retention.clone(),
        filing: filing.clone(),
        last_end,
    };
    control.runtime().spawn(reload(signals.reload.clone(), admin.config.rules.clone(), desk.clone()));
    workers.start(&admin, control.runtime(), caller, submitter.clone(), intake.clone())?;
    admin
        .loaded
        .set(Loaded {
            banks: banks.clone(),
            curator,
            cases: case_store,
            exchanges,
            embeddings,
            recent,
            submitter,
            desk,
            evidence,
            retention,
            filing,
            intake,
        })
        .map_err(|_| anyhow!("loaded twice"))?;
    admin.accepting.store(true, Ordering::Release);
    announce(&admin, shards.listen, admin_address, &banks, started)?;

    signals.wait_for_stop();
    tracing::info!("draining");
    admin.accepting.store(false, Ordering::Release);
    shards.drain();
    control.stop()?;
    drop(scrubbing);
    join("scrub", scrubber)?;
    drop(admin); // and with it the last senders to all of these
    join("ledger", logging)?;
    keeping.map(|keeping| join("recent", keeping)).transpose()?;
    join("desk", deciding)?;
    drop(signing); // nothing is remembered any more: what came last is signed
    join("audit", auditing)?;
    join("exchanges", fetching)?;
    join("curator", curating)?;
    let [merging, storing] = merging;
    join("merge", merging)?;
    join("store", storing)?;
    tracing::info!("stopped");
    Ok(())
}

/// Says how much memory and how many CPUs there are, and who says so.
fn tell_allowance(config: &Config) {
    let Allowance { memory, cpus } = &config.allowance;
    tracing::info!(
        memory_bytes = memory.as_ref().map(|memory| memory.limit),
        memory_source = memory.as_ref().map(|memory| memory.source.as_str()),
        tables_bytes_max = config.memory_max_bytes,
        cpu_quota = cpus.as_ref().map(|cpus| cpus.limit),
        cpu_source = cpus.as_ref().map(|cpus| cpus.source.as_str()),
        shards = config.cores,
        "what may be used"
    );
}

fn load_rules(config: &Config) -> Result<Option<RulesFile>> {
    config.rules.as_deref().map(read_rules).transpose()
}

fn read_rules(path: &Path) -> Result<RulesFile> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read rules file {}", path.display()))?;
    RulesFile::parse(&text).with_context(|| format!("rules file {}", path.display()))
}

/// Reads the rules file again whenever SIGHUP asks for it. A file that does not read leaves the rules as they are.
async fn reload(asked: Arc<Notify>, rules: Option<PathBuf>, desk: Desk) {
    loop {
        asked.notified().await;
        let Some(path) = &rules else {
            tracing::info!("SIGHUP: there is no rules file (--rules), so nothing is read again");
            continue;
        };
        let applied = read_rules(path).and_then(|file| Ok(desk.apply_rules(file)?));
        if let Err(error) = applied {
            tracing::error!(error = format!("{error:#}"), "SIGHUP: the rules stay as they were");
        }
    }
}

/// Calls parties, with the organisation's key where there is one.
fn caller(config: &Config) -> Result<Caller> {
    let open = |path: &PathBuf| Signer::open(path).with_context(|| format!("signing key {}", path.display()));
    let [signer, former] = [&config.signing_key_file, &config.signing_key_file_former]
        .map(|path| path.as_ref().map(open).transpose());
    Ok(Caller::new(signer?, former?)?)
}

/// The cases, with the rules of the file.
fn open_cases(
    config: &Config,
    disk: Arc<Disk>,
    store: Arc<dyn Store>,
    rules: Option<RulesFile>,
) -> Result<Cases> {
    let mut cases = Cases::open(store, config.durability, Box::new(desk::DiskGate(disk)))?;
    let changed =
        cases.apply_file(rules.as_ref(), clock::now_ms()).context("the rules file's rules cannot be kept")?;
    if changed {
        tracing::info!(table = cases.catalog().load().table.version, "the rules file changed the rules");
    }
    cases.set_classifier(config.content_safety.is_some());
    Ok(cases)
}

/// The case database of a data directory that no server has open; it is ours while the second is kept.
pub fn open_cases_alone(config: &Config) -> Result<(Arc<dyn Store>, DataDir)> {
    let data_dir = DataDir::open(&config.data_dir)?;
    Ok((stores::open(config, &data_dir)?.case, data_dir))
}

/// Signs the audit log while the server runs.
fn sign_audit(admin: &Admin, store: Arc<dyn Store>) -> Result<(Signing, JoinHandle<()>)> {
    let config = &admin.config;
    let path = &config.audit_key_file;
    // Signed heads and the key's public half are for others, where they lie where others come.
    let readers = |path: &Path| match path.starts_with(&config.data_dir) {
        true => Readers::Owner,
        false => Readers::Everybody,
    };
    let key = AuditKey::open(path, readers(path)).with_context(|| format!("audit key {}", path.display()))?;
    // Copied by whatever keeps the logs: another place to compare the key with.
    tracing::info!(public = %key.public(), heads = %config.audit_heads.display(), "the audit log is signed");
    let signer = AuditSigner {
        store,
        key,
        file: config.audit_heads.clone(),
        readers: readers(&config.audit_heads),
        every: config.audit_every,
        counts: admin.metrics.audit.clone(),
    };
    Ok(signer.start()?)
}

fn bind_admin(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| {
        format!("cannot listen on --admin {address}: stop what uses the port, or give another")
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Starts the decoders, before anything that a file could reach.
fn start_decoders(config: &Config, cpus: usize, metrics: &Metrics) -> Result<Decoders> {
    Decoders::start(config.video.launcher.clone(), cpus, config.hash_time, metrics.decoders.clone()).context(
        "pictures are decoded in confined processes; `hashward decode-helper --check` says more. Let the container \
         use seccomp, or run with what there is by --cage partial",
    )
}

/// Reads objects of S3, where that is configured.
fn objects(config: &Config, held_mib: Arc<Semaphore>) -> Result<Option<Objects>> {
    let Some(s3) = &config.s3 else { return Ok(None) };
    let options = S3Options {
        endpoint: s3.endpoint.clone(),
        region: s3.region.clone(),
        access_key_id: s3.access_key_id.reveal().to_string(),
        secret_access_key: s3.secret_access_key.reveal().to_string(),
        buckets: s3.buckets.0.clone(),
        bytes_max: config.fetch.bytes_max,
        timeout: config.fetch.timeout,
    };
    Ok(Some(Objects::new(options, held_mib)?))
}

/// Shards share their port by SO_REUSEPORT, so a second server on it would not fail: it would take half the
/// traffic. Whoever answers there is not us.
fn refuse_taken_port(address: SocketAddr) -> Result<()> {
    let mut target = address;
    if target.ip().is_unspecified() {
        target.set_ip(if target.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    if address.port() != 0 && TcpStream::connect_timeout(&target, Duration::from_millis(500)).is_ok() {
        bail!("cannot listen on --listen {address}: the port is in use; stop what uses it, or give another");
    }
    Ok(())
}

fn load_banks(
    admin: &Admin,
    store: Arc<dyn Store>,
    data_dir: &DataDir,
    memory: Arc<MemoryBudget>,
) -> Result<Banks> {
    let costs = Costs::measure();
    tracing::debug!(?costs, "measured");
    let (segments, damaged) = RocksSegments::open(data_dir.path()).map_err(StoreError::of_opening)?;
    let disk = admin.disk.clone();
    let admit: Admit = Arc::new(move |bytes| disk.admit_bytes(bytes));
    let options = BankOptions {
        storing: Some(Storing { admit, ..Storing::into(Arc::new(segments)) }),
        durability: admin.config.durability,
        window: WindowLimits::default(),
        opened_ms: Some(clock::now_ms()),
        memory,
        segment_max: None,
    };
    let (banks, report) = Banks::load(store, options, &admin.progress)?;
    if let Some(reason) = damaged.or(report.rebuilt) {
        tracing::warn!(%reason, "stored segments could not be used: the tables were built anew from the contents");
    }
    tracing::info!(stored = report.stored, "tables are loaded");
    Ok(banks)
}

/// The line programs wait for, on stdout; and the one for people, in the log.
fn announce(
    admin: &Admin,
    listen: SocketAddr,
    address: SocketAddr,
    banks: &Banks,
    started: Instant,
) -> Result<()> {
    let state = banks.state();
    tracing::info!(
        listen = %listen,
        admin = %format!("http://{address}"),
        shards = admin.config.cores,
        reactor = admin.metrics.reactor(),
        kernel = admin.metrics.kernel(),
        banks = state.directory.list().len(),
        pdq = state.tables.pdq.len(),
        digests = SignalType::EXACT.into_iter().map(|kind| state.tables.len(kind)).sum::<usize>(),
        seconds = started.elapsed().as_secs_f32(),
        "ready"
    );
    let line = serde_json::json!({
        "ready": true,
        "listen": listen.to_string(),
        "admin": address.to_string(),
        "pid": std::process::id(),
    });
    print_ready(format!("{line}\n"))
}

/// Writes the ready line to stdout. A reader that is late gets it when it reads, and the server serves meanwhile.
fn print_ready(line: String) -> Result<()> {
    let (done, written) = sync_channel(1);
    thread::Builder::new().name("ready".into()).spawn(move || {
        let mut stdout = std::io::stdout().lock();
        let outcome = stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush());
        let _ = done.send(outcome); // nobody waits any more if it came late
    })?;
    match written.recv_timeout(READY_LINE_MAX) {
        Ok(outcome) => outcome.context(
            "cannot write the ready line to stdout: give `serve` a stdout that takes one line (/dev/null does)",
        ),
        Err(_) => {
            tracing::warn!("nobody reads stdout: the ready line waits there, and the server serves");
            Ok(())
        }
    }
}

fn join(name: &str, thread: JoinHandle<()>) -> Result<()> {
    thread.join().map_err(|_| anyhow!("the {name} thread panicked; see the log"))
}
