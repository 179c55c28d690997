//! The command line: what each verb takes. Nothing here does anything.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::Settings;

/// Exact matching of known abuse imagery, routing of hits, reporting.
#[derive(Debug, Parser)]
#[command(name = "hashward", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the server
    Serve(Box<Serve>),
    /// Make, fill, show and remove banks of a running server
    Bank(BankArgs),
    /// Ask a running server which banked contents match
    Lookup(Lookup),
    /// Match a file of very many PDQ hashes, resumably
    Scan(Scan),
    /// Sets of embeddings in a running server, and the ones nearest to a vector
    Embeddings(EmbeddingsArgs),
    /// How lookups in a running server go about it
    Index(IndexArgs),
    /// Hash files: one JSON line each
    Hash(Hash),
    /// Make an admin, where nobody can log in yet
    Admin(AdminArgs),
    /// Wrap all keys of a stopped server's data under another key file
    Rekey(RekeyArgs),
    /// Check what a stopped server has stored: rows and audit log, or what the flags name
    Check(Check),
    /// Show the whole way on this machine, step by step, with figures
    Demo(Demo),
    /// Decode files for the server (not for people)
    #[command(hide = true)]
    DecodeHelper(DecodeHelper),
}

/// `hashward serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// TOML file with settings; flags and HASHWARD_… variables win over it
    #[arg(long, env = "HASHWARD_CONFIG")]
    pub config: Option<PathBuf>,
    /// Print the resulting configuration, secrets masked, and exit
    #[arg(long)]
    pub print_config: bool,
    /// Everything a flag can set.
    #[command(flatten)]
    pub settings: Settings,
}

/// Where the running server is.
#[derive(Debug, Args)]
pub struct Server {
    /// Admin URL of the running server
    #[arg(
        long = "admin",
        env = "HASHWARD_ADMIN_URL",
        default_value = "http://127.0.0.1:7480",
        global = true
    )]
    pub admin: String,
}

/// `hashward bank`
#[derive(Debug, Args)]
pub struct BankArgs {
    /// Which server.
    #[command(flatten)]
    pub server: Server,
    /// What to do.
    #[command(subcommand)]
    pub verb: BankVerb,
}

/// What can be done to banks.
#[derive(Debug, Subcommand)]
pub enum BankVerb {
    /// Make an empty bank
    Create {
        /// A-Z, 0-9 and _, not starting with a digit
        name: String,
    },
    /// List the banks
    List,
    /// Show one bank
    Show {
        /// Its name
        name: String,
    },
    /// Remove a bank with all its contents
    Delete {
        /// Its name
        name: String,
    },
    /// Add a hash list to a bank
    Import(Import),
    /// Print a bank as NDJSON
    Export {
        /// Its name
        name: String,
        /// Also if its source shares with members only: you may pass it on
        #[arg(long)]
        restricted: bool,
    },
}

/// `hashward bank import`
#[derive(Debug, Args)]
pub struct Import {
    /// The bank
    pub name: String,
    /// Type of the signals in the file
    #[arg(long)]
    pub signal_type: String,
    /// One hex signal a line, CSV with header (signal,quality,note,…), or NDJSON; `-` reads standard input
    pub file: PathBuf,
    /// lines, csv or ndjson [default: seen from the file's beginning]
    #[arg(long)]
    pub format: Option<String>,
    /// Stop at the first bad line instead of skipping it
    #[arg(long)]
    pub strict: bool,
}

/// `hashward lookup`
#[derive(Debug, Args)]
pub struct Lookup {
    /// Which server.
    #[command(flatten)]
    pub server: Server,
    /// Type of the signals
    #[arg(long)]
    pub signal_type: String,
    /// Bits that may differ [default: the type's own]
    #[arg(long)]
    pub threshold: Option<u16>,
    /// The so many nearest PDQ contents instead, however far
    #[arg(long, value_name = "COUNT", conflicts_with = "threshold")]
    pub nearest: Option<usize>,
    /// Signals in hex
    #[arg(required = true)]
    pub signals: Vec<String>,
}

/// `hashward scan`
#[derive(Debug, Args)]
pub struct Scan {
    /// Which server.
    #[command(flatten)]
    pub server: Server,
    /// One hex PDQ hash a line, CSV with header (signal,…), or NDJSON
    pub file: PathBuf,
    /// Where the hits go: NDJSON, a line for each hash that matched, in the file's order
    #[arg(long)]
    pub out: PathBuf,
    /// Bits that may differ [default: 31]
    #[arg(long)]
    pub threshold: Option<u16>,
    /// Matches listed per hash, nearest first; all are counted
    #[arg(long, default_value_t = 16)]
    pub limit: usize,
    /// Requests under way at once [default: CPUs]
    #[arg(long)]
    pub threads: Option<usize>,
    /// Hashes of a request: what one sweep of the tables serves. More are faster, and the server takes 204 bytes for each
    #[arg(long, default_value_t = 1 << 20)]
    pub part: usize,
    /// No progress bar
    #[arg(long)]
    pub quiet: bool,
}

/// `hashward embeddings`
#[derive(Debug, Args)]
pub struct EmbeddingsArgs {
    /// Which server.
    #[command(flatten)]
    pub server: Server,
    /// What to do.
    #[command(subcommand)]
    pub verb: EmbeddingsVerb,
}

/// What can be done with sets of embeddings.
#[derive(Debug, Subcommand)]
pub enum EmbeddingsVerb {
    /// Replace a set by what a file holds
    Import {
        /// A-Z, 0-9 and _, not starting with a digit
        name: String,
        /// NDJSON: {"id": "…", "vector": [0.1, …]} a line; `-` reads standard input
        file: PathBuf,
        /// cosine or euclidean
        #[arg(long, default_value = "cosine")]
        metric: String,
        /// auto (by size), exact, or graph (approximate)
        #[arg(long, default_value = "auto")]
        strategy: String,
    },
    /// List the sets
    List,
    /// Show one set
    Show {
        /// Its name
        name: String,
    },
    /// Remove a set
    Delete {
        /// Its name
        name: String,
    },
    /// The embeddings nearest to each vector of standard input, a JSON array a line
    Nearest {
        /// The set
        name: String,
        /// How many
        #[arg(long = "k", default_value_t = 10)]
        count: usize,
        /// Look at all of them, so that the answer is exact
        #[arg(long)]
        exact: bool,
    },
}

/// `hashward index`
#[derive(Debug, Args)]
pub struct IndexArgs {
    /// What to show.
    #[command(subcommand)]
    pub verb: IndexVerb,
}

/// What can be shown of the tables.
#[derive(Debug, Subcommand)]
pub enum IndexVerb {
    /// Show the plan of a PDQ lookup, its predicted and its measured cost
    Explain(Explain),
}

/// `hashward index explain`
#[derive(Debug, Args)]
pub struct Explain {
    /// Which server.
    #[command(flatten)]
    pub server: Server,
    /// Bits that may differ [default: 31]
    #[arg(long)]
    pub threshold: Option<u16>,
    /// Do not search for random hashes to measure the cost
    #[arg(long)]
    pub no_measure: bool,
    /// The whole answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// `hashward hash`
#[derive(Debug, Args)]
pub struct Hash {
    /// Files; pictures get a PDQ hash, every file its digests
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
}

/// `hashward decode-helper`
#[derive(Debug, Args)]
pub struct DecodeHelper {
    /// Try the cage from inside instead, and say what is refused
    #[arg(long)]
    pub check: bool,
    /// The same in this very process
    #[arg(long, hide = true)]
    pub probe: bool,
    /// Run where the system refuses a part of the cage
    #[arg(long)]
    pub partial: bool,
    /// Seconds of processor time of the program
    #[arg(long, default_value_t = 60)]
    pub cpu_seconds: u64,
    /// Program to become, with its arguments
    #[arg(last = true)]
    pub program: Vec<std::ffi::OsString>,
}

/// `hashward admin`
#[derive(Debug, Args)]
pub struct AdminArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: AdminVerb,
}

/// What can be done without logging in, on a data directory that no server has open.
#[derive(Debug, Subcommand)]
pub enum AdminVerb {
    /// Make an admin, or give one a new password
    Create {
        /// What they log in by
        name: String,
        /// File whose first line is the password [default: asked for]
        #[arg(long)]
        password_file: Option<PathBuf>,
        /// Where everything durable lies
        #[arg(long, env = "HASHWARD_DATA_DIR", default_value = "hashward-data")]
        data_dir: PathBuf,
        /// The server's key file [default: secrets.key in the data directory]
        #[arg(long, env = "HASHWARD_KEY_FILE")]
        key_file: Option<PathBuf>,
    },
}

/// `hashward rekey`
#[derive(Debug, Args)]
pub struct RekeyArgs {
    /// Where everything durable lies
    #[arg(long, env = "HASHWARD_DATA_DIR", default_value = "hashward-data")]
    pub data_dir: PathBuf,
    /// The key file that everything is wrapped under [default: secrets.key in the data directory]
    #[arg(long, env = "HASHWARD_KEY_FILE")]
    pub key_file: Option<PathBuf>,
    /// The key file that takes its place; made if it is not there
    #[arg(long)]
    pub new_key_file: PathBuf,
}

/// `hashward check`: without --rows, --audit or --audit-proof it checks the rows and the audit log.
#[derive(Debug, Args)]
pub struct Check {
    /// Check the audit log: every record, the whole chain, every signed head
    #[arg(long)]
    pub audit: bool,
    /// Check every row of the databases: what does not read as it was written is named, by its keyspace and key
    #[arg(long)]
    pub rows: bool,
    /// Key file that the rows were sealed with [default: secrets.key in the data directory]
    #[arg(long, env = "HASHWARD_KEY_FILE")]
    pub key_file: Option<PathBuf>,
    /// Check a proof about the audit log, a file as GET /api/v1/audit/proof answers, by the signed heads alone: no log is read
    #[arg(long, value_name = "FILE")]
    pub audit_proof: Option<PathBuf>,
    /// Data directory of the stopped server, or a copy of it [default: ./hashward-data]
    #[arg(long, env = "HASHWARD_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Signed heads of the audit log [default: audit-heads.ndjson in the data directory]
    #[arg(long, env = "HASHWARD_AUDIT_HEADS")]
    pub heads: Option<PathBuf>,
    /// Public half of the key that signed them: your own copy [default: audit.pub in the data directory]
    #[arg(long)]
    pub public_key: Option<PathBuf>,
}

/// `hashward demo`
#[derive(Debug, Args)]
pub struct Demo {
    /// End by itself instead of staying up until Ctrl-C
    #[arg(long)]
    pub exit: bool,
    /// Hashes to seed
    #[arg(long, default_value_t = 200_000)]
    pub hashes: u64,
}
