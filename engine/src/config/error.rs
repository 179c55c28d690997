//! Why settings cannot be used, in words that say what to do.

use std::net::SocketAddr;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {what} {path}: {reason}")]
    Read {
        /// Which file.
        what: &'static str,
        /// Where.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// The TOML file does not parse.
    #[error("config file {path}: {reason}")]
    Parse {
        /// Where.
        path: String,
        /// Line and fault.
        reason: String,
    },
    /// A port would be open to others without proof.
    #[error(
        "{port} {address} is not loopback, and there is no token: set HASHWARD_TOKEN or --token-file \
         (32 characters or more), or listen on 127.0.0.1"
    )]
    OpenPort {
        /// Which setting.
        port: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// The token is too short to be one.
    #[error("the token has {found} characters; use 32 or more, for example from `openssl rand -hex 32`")]
    WeakToken {
        /// Its length.
        found: usize,
    },
    /// A classifier without a key.
    #[error("--content-safety-url needs HASHWARD_CONTENT_SAFETY_KEY")]
    ClassifierKey,
    /// Buckets without a key.
    #[error("--s3-buckets needs HASHWARD_S3_ACCESS_KEY_ID and HASHWARD_S3_SECRET_ACCESS_KEY")]
    S3Key,
    /// A directory of lists that cannot be one.
    #[error("--list-dir {path}: {reason}")]
    ListDir {
        /// The directory.
        path: String,
        /// Why not.
        reason: String,
    },
    /// Nothing could be written there.
    #[error("--audit-heads {path}: its folder is not there, or is no folder: make it, or give another path")]
    HeadsFolder {
        /// The setting.
        path: String,
    },
    /// More descriptors may be needed than the system allows.
    #[error(
        "these settings may need {needed} file descriptors, and the process may have {allowed}: raise the hard limit \
         (`ulimit -Hn`, LimitNOFILE= of systemd, --ulimit nofile= of containers), or lower --connections-max or --cores"
    )]
    Descriptors {
        /// How many may be needed.
        needed: u64,
        /// The hard limit.
        allowed: u64,
    },
    /// A number is out of its range.
    #[error("{name} is {found}, allowed is {allowed}")]
    Range {
        /// The setting.
        name: &'static str,
        /// What was set.
        found: String,
        /// What is allowed.
        allowed: &'static str,
    },
}
