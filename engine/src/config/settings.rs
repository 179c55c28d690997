//! Every setting, once: its name, what it means, its environment variable.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::{Cage, DurabilityWord, Names, Ports, Ranges, Reactor, Secret, SignalTypes};

macro_rules! settings {
    ($( $(#[doc = $doc:literal])+ $name:ident: $kind:ty = $env:literal, )+) => {
        /// What was set, by whichever source; absent means 'not set there'.
        #[derive(Clone, Debug, Default, clap::Args, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Settings {
            $(
                $(#[doc = $doc])+
                #[arg(long, env = $env, value_name = stringify!($kind), hide_env_values = true)]
                pub $name: Option<$kind>,
            )+
            /// Development routes
            #[arg(long, env = "HASHWARD_DEV", num_args = 0..=1, default_missing_value = "true", value_name = "bool")]
            pub dev: Option<bool>,
            /// Key of the S3 API: its id, and the secret. Not flags either.
            #[arg(skip)]
            pub s3_access_key_id: Option<Secret>,
            /// The secret of that key.
            #[arg(skip)]
            pub s3_secret_access_key: Option<Secret>,
            /// Key of the Content Safety API. Not a flag either.
            #[arg(skip)]
            pub content_safety_key: Option<Secret>,
            /// Bearer token both ports ask for. Not a flag: arguments are visible to every process.
            #[arg(skip)]
            pub token: Option<Secret>,
        }

        impl Settings {
            /// These settings, and where they are silent, the others.
            pub fn or(self, other: Settings) -> Settings {
                Settings { $( $name: self.$name.or(other.$name), )+ dev: self.dev.or(other.dev), token: self.token.or(other.token), content_safety_key: self.content_safety_key.or(other.content_safety_key), s3_access_key_id: self.s3_access_key_id.or(other.s3_access_key_id), s3_secret_access_key: self.s3_secret_access_key.or(other.s3_secret_access_key) }
            }
        }
    };
}

settings! {
    /// Where everything durable lies [default: ./hashward-data]
    data_dir: PathBuf = "HASHWARD_DATA_DIR",
    /// Binary protocol [default: 127.0.0.1:7400; port 0 picks a free one]
    listen: SocketAddr = "HASHWARD_LISTEN",
    /// Admin HTTP [default: 127.0.0.1:7480; port 0 picks a free one]
    admin: SocketAddr = "HASHWARD_ADMIN",
    /// Further host name under which the admin port may be called (the Host header is checked)
    admin_host: String = "HASHWARD_ADMIN_HOST",
    /// File with the bearer token that both ports ask for (or set HASHWARD_TOKEN); needed beyond loopback
    token_file: PathBuf = "HASHWARD_TOKEN_FILE",
    /// Addresses that may call HMA's routes (/h /m /c) without a token, with commas between (10.1.0.0/16,10.2.0.7)
    hma_allow: Ranges = "HASHWARD_HMA_ALLOW",
    /// File with the key that seals all else; made at the first start [default: secrets.key in the data directory; keep it elsewhere]
    key_file: PathBuf = "HASHWARD_KEY_FILE",
    /// Where signed heads of the audit log go: best on another disk [default: audit-heads.ndjson in the data directory]
    audit_heads: PathBuf = "HASHWARD_AUDIT_HEADS",
    /// File with the key that signs them; made if it is not there, audit.pub beside it [default: audit.key in the data directory]
    audit_key_file: PathBuf = "HASHWARD_AUDIT_KEY_FILE",
    /// Seconds after which the audit log is signed if it has grown [default: 60]
    audit_head_seconds: u64 = "HASHWARD_AUDIT_HEAD_SECONDS",
    /// Shards, one thread each [default: CPUs - 1, at least 1]
    cores: usize = "HASHWARD_CORES",
    /// epoll, glommio (io_uring) or auto, which is epoll [default: auto]
    reactor: Reactor = "HASHWARD_REACTOR",
    /// TOML file with rules and item types; what it has is changed there, and nowhere else
    rules: PathBuf = "HASHWARD_RULES",
    /// File with the organisation's RSA key (PEM, PKCS #8), which signs what webhooks are told; nothing is sent without
    signing_key_file: PathBuf = "HASHWARD_SIGNING_KEY_FILE",
    /// The signing key before that one, while receivers change over: webhook-signature carries both
    signing_key_file_former: PathBuf = "HASHWARD_SIGNING_KEY_FILE_FORMER",
    /// URL of Google's Content Safety API, for rules that ask it (needs HASHWARD_CONTENT_SAFETY_KEY) [default: not asked]
    content_safety_url: String = "HASHWARD_CONTENT_SAFETY_URL",
    /// What an acknowledgement is worth: sync (survives a power cut) or wal (survives kill -9) [default: sync]
    durability: DurabilityWord = "HASHWARD_DURABILITY",
    /// Bytes of memory for what is read of the databases [default: 64 MiB]
    cache_bytes: usize = "HASHWARD_CACHE_BYTES",
    /// Free bytes below which nothing more is written [default: 5 % of the disk, at least 48 MiB or a quarter of it, at most 256 MiB]
    disk_reserve_bytes: u64 = "HASHWARD_DISK_RESERVE_BYTES",
    /// Bytes the tables may take, merges included; banks take no more beyond it [default: 80 % of the memory that this process may use, and at least 384 MiB less than it]
    memory_max_bytes: u64 = "HASHWARD_MEMORY_MAX_BYTES",
    /// Serve /h: hash media [default: true]
    role_hasher: bool = "HASHWARD_ROLE_HASHER",
    /// Serve /m: match [default: true]
    role_matcher: bool = "HASHWARD_ROLE_MATCHER",
    /// Serve /c: curate banks [default: true]
    role_curator: bool = "HASHWARD_ROLE_CURATOR",
    /// Directories whose hash lists local_file exchanges may read, with commas between [default: none, and no such exchange]
    list_dir: Names = "HASHWARD_LIST_DIR",
    /// Ranges that URLs may lie in although they are not public, with commas between (10.1.0.0/16,fd00::/8)
    fetch_allow: Ranges = "HASHWARD_FETCH_ALLOW",
    /// Fetch from public hosts by plain http, too; ranges of --fetch-allow are always asked so [default: false]
    fetch_http: bool = "HASHWARD_FETCH_HTTP",
    /// Ports at which public hosts are asked beside their scheme's own, with commas between (8443) [default: none]
    fetch_ports: Ports = "HASHWARD_FETCH_PORTS",
    /// Hosts whose URLs are fetched, with their subdomains, with commas between [default: any]
    fetch_hosts: Names = "HASHWARD_FETCH_HOSTS",
    /// Largest file that is uploaded or fetched, in bytes [default: 100 MiB]
    upload_bytes_max: usize = "HASHWARD_UPLOAD_BYTES_MAX",
    /// Largest file that is preserved as evidence, in bytes [default: 8 GiB]
    evidence_bytes_max: u64 = "HASHWARD_EVIDENCE_BYTES_MAX",
    /// Signal types that HMA's routes have, with commas between [default: pdq,video_md5]
    hma_signal_types: SignalTypes = "HASHWARD_HMA_SIGNAL_TYPES",
    /// Program that reads videos for vpdq [default: ffmpeg]
    ffmpeg: PathBuf = "HASHWARD_FFMPEG",
    /// Where the system refuses decoders their filter of system calls: full (the server does not start) or partial (it runs, and /readyz says what is missing) [default: full]
    cage: Cage = "HASHWARD_CAGE",
    /// Frames of each second of a video that are hashed [default: 1]
    video_fps: f64 = "HASHWARD_VIDEO_FPS",
    /// Share of a video's frames, in percent, that a banked video must have to match [default: 80]
    video_query_percent: f64 = "HASHWARD_VIDEO_QUERY_PERCENT",
    /// Share of a banked video's frames, in percent, that a video must have to match [default: 0]
    video_banked_percent: f64 = "HASHWARD_VIDEO_BANKED_PERCENT",
    /// Seconds that hashing one file may take [default: 60]
    hash_seconds: u64 = "HASHWARD_HASH_SECONDS",
    /// Buckets of S3 whose objects are fetched when an event tells of them, with commas between [default: none]
    s3_buckets: Names = "HASHWARD_S3_BUCKETS",
    /// URL of the S3 API [default: Amazon's of the region]
    s3_endpoint: String = "HASHWARD_S3_ENDPOINT",
    /// Region of the buckets [default: us-east-1]
    s3_region: String = "HASHWARD_S3_REGION",
    /// SNS topics (ARNs) whose messages are taken, with commas between [default: none]
    sns_topics: Names = "HASHWARD_SNS_TOPICS",
    /// Hours for which submissions are kept to look for new content in; 0 keeps none [default: 72]
    recent_hours: u64 = "HASHWARD_RECENT_HOURS",
    /// Bytes that those may take; the oldest go [default: 1 GiB]
    recent_bytes_max: u64 = "HASHWARD_RECENT_BYTES_MAX",
    /// Connections a shard accepts [default: 1024, fewer where the limit of file descriptors is low]
    connections_max: usize = "HASHWARD_CONNECTIONS_MAX",
    /// Connections a shard accepts from one address [default: three quarters of --connections-max]
    connections_per_address_max: usize = "HASHWARD_CONNECTIONS_PER_ADDRESS_MAX",
    /// Milliseconds a frame may wait to be served before it is answered Busy [default: 250]
    queue_ms_max: u64 = "HASHWARD_QUEUE_MS_MAX",
    /// Largest frame in bytes [default: 1 MiB]
    frame_bytes_max: usize = "HASHWARD_FRAME_BYTES_MAX",
    /// Hashes in one frame [default: 4096]
    hashes_max: usize = "HASHWARD_HASHES_MAX",
    /// Submits a connection may have waiting for their acknowledgement [default: 64]
    window_frames: u32 = "HASHWARD_WINDOW_FRAMES",
    /// Matches listed per hash, nearest first; all are counted [default: 256]
    matches_max: usize = "HASHWARD_MATCHES_MAX",
    /// Seconds a connection of either port may stay silent [default: 60]
    idle_seconds: u64 = "HASHWARD_IDLE_SECONDS",
    /// Seconds from a frame's first byte to its last [default: 5]
    frame_seconds: u64 = "HASHWARD_FRAME_SECONDS",
    /// What to log, as `level` or `module=level,…` [default: info]
    log: String = "HASHWARD_LOG",
}
