//! `ncmec-stand-in`: a CyberTipline that reports nothing to anybody, for demos and dry runs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::{fs, thread};

use clap::Parser;
use reporter::cyber_tipline::Environment;
use serde_json::json;
use tests::ncmec::{HELP, Ncmec, Options, Settings, User};

/// A stand-in for NCMEC's CyberTipline: takes reports, checks them, and reports nothing to anybody.
///
/// When it listens it writes one JSON line with its address to stdout. Each call is a line on stderr. Nothing is stored:
/// when it ends, all is forgotten. Ctrl-C ends it.
#[derive(Debug, Parser)]
#[command(name = "ncmec-stand-in", version, after_long_help = HELP)]
struct Asked {
    /// Where it listens; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// User name of the platform
    #[arg(long, default_value = "test-esp")]
    user: String,
    /// Its password
    #[arg(long, default_value = "test-esp-password")]
    password: String,
    /// Where it stands in for production as well, with credentials of its own; reports go nowhere there, too
    #[arg(long)]
    production_listen: Option<SocketAddr>,
    /// User name there
    #[arg(long, default_value = "production-esp")]
    production_user: String,
    /// Password there
    #[arg(long, default_value = "production-esp-password")]
    production_password: String,
    /// Number of the first report
    #[arg(long, default_value_t = 7_855_764)]
    first_id: i64,
    /// A schema that /xsd answers with, for example NCMEC's own
    #[arg(long)]
    xsd: Option<PathBuf>,
    /// How long an answer takes, in milliseconds
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
    /// Answers are in ISO-8859-1, as NCMEC's were
    #[arg(long)]
    latin1: bool,
    /// Files up to this length are kept in memory, so that they can be looked at
    #[arg(long, default_value_t = 1 << 20)]
    keep_bytes_max: usize,
    /// No line for each call
    #[arg(long)]
    quiet: bool,
}

fn main() -> ExitCode {
    let asked = Asked::parse();
    match start(&asked) {
        Ok(ncmec) => {
            let production = ncmec.production.is_some().then(|| ncmec.production_url());
            let line = json!({ "ready": true, "listen": ncmec.address, "url": ncmec.url(), "production_url": production });
            println!("{line}");
            loop {
                thread::park(); // Ctrl-C ends it
            }
        }
        Err(words) => {
            eprintln!("ncmec-stand-in: {words}");
            ExitCode::FAILURE
        }
    }
}

fn start(asked: &Asked) -> Result<Ncmec, String> {
    let xsd =
        asked.xsd.as_ref().map(|path| fs::read(path).map_err(|error| format!("{}: {error}", path.display())));
    let user = |environment, name: &str, password: &str| User {
        environment,
        name: name.to_string(),
        password: password.to_string(),
    };
    let options = Options {
        listen: asked.listen,
        production: asked.production_listen,
        users: vec![
            user(Environment::Test, &asked.user, &asked.password),
            user(Environment::Production, &asked.production_user, &asked.production_password),
        ],
        first_id: asked.first_id,
        xsd: xsd.transpose()?,
        settings: Settings {
            delay_ms: asked.delay_ms,
            latin1: asked.latin1,
            keep_bytes_max: asked.keep_bytes_max,
            says: !asked.quiet,
            ..Settings::default()
        },
    };
    Ncmec::with(options).map_err(|error| format!("{} cannot be listened on: {error}", asked.listen))
}
