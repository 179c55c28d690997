//! Configuration: flag, then `HASHWARD_…` environment, then TOML file, then default.
//!
//! A setting is defined once, in [`Settings`]: clap reads flags and environment into it, serde the file.
//! [`Config`] is what the settings mean, checked; the rest of the program sees only that.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use index::store::Durability;
use index::{FindRule, VideoRule};
use ingest::exchange::ListDirs;
use ingest::media::cage::Launcher;
use ingest::media::fetch::FetchPolicy;
use ingest::media::video::VideoOptions;
use ipnet::IpNet;

use crate::audit::{HEADS_FILE, KEY_FILE};
use crate::cgroup::Allowance;
use crate::recent::RecentOptions;

pub use error::ConfigError;
pub use kinds::{Cage, DurabilityWord, Names, Ports, Ranges, Reactor, Roles, Secret, SignalTypes};
pub use ncmec::NcmecAccess;
pub use settings::Settings;

use warnings::IsSet;

pub mod descriptors;
mod environment;
mod error;
mod kinds;
mod ncmec;
mod settings;
mod show;
#[cfg(test)]
mod tests;
mod warnings;

/// Where everything durable lies where nobody says otherwise.
pub const DATA_DIR: &str = "hashward-data";

/// Files are held whole while they are hashed.
const UPLOAD_BYTES_MAX: usize = 128 << 20;

/// Hashes of a frame where nobody says otherwise.
const HASHES_MAX: usize = 4096;
const CACHE_BYTES: usize = 64 << 20;

/// What the settings mean.
#[derive(Clone, Debug)]
pub struct Config {
    /// See [`Settings::data_dir`]; so the others of the same name.
    pub data_dir: PathBuf,
    /// Binary protocol.
    pub listen: SocketAddr,
    /// Admin HTTP.
    pub admin: SocketAddr,
    /// Further allowed host name.
    pub admin_host: Option<String>,
    /// Token both ports ask for.
    pub token: Option<Secret>,
    /// What is taken, and should not be so; said when the program starts.
    pub warnings: Vec<String>,
    /// Sources that call HMA's routes without a token.
    pub hma_allow: Ranges,
    /// Key file; `None` is one in the data directory.
    pub key_file: Option<PathBuf>,
    /// Signed heads of the audit log.
    pub audit_heads: PathBuf,
    /// File with the key that signs them.
    pub audit_key_file: PathBuf,
    /// How often the audit log is signed if it has grown.
    pub audit_every: Duration,
    /// Shards.
    pub cores: usize,
    /// Reactor.
    pub reactor: Reactor,
    /// Rules file.
    pub rules: Option<PathBuf>,
    /// Development routes.
    pub dev: bool,
    /// Routes of HMA's that are served.
    pub roles: Roles,
    /// Directories whose hash lists exchanges may read.
    pub list_dirs: ListDirs,
    /// What may be fetched; a file that is uploaded is no longer either.
    pub fetch: FetchPolicy,
    /// Bytes of a file that is preserved as evidence.
    pub evidence_bytes_max: u64,
    /// Signal types that HMA's routes have.
    pub hma_signal_types: SignalTypes,
    /// How videos are hashed.
    pub video: VideoOptions,
    /// When two videos are the same.
    pub video_rule: VideoRule,
    /// How long hashing one file may take.
    pub hash_time: Duration,
    /// Objects of S3 that are fetched; `None` if no bucket is named.
    pub s3: Option<S3Access>,
    /// SNS topics whose messages are taken.
    pub sns_topics: Names,
    /// File with the key that signs what webhooks are told.
    pub signing_key_file: Option<PathBuf>,
    /// The one before it, while receivers change over.
    pub signing_key_file_former: Option<PathBuf>,
    /// Which CyberTipline is reported to.
    pub ncmec: NcmecAccess,
    /// URL and key of the classifier; `None` if it is not asked.
    pub content_safety: Option<(String, Secret)>,
    /// How long submissions are kept to look for new content in.
    pub recent: RecentOptions,
    /// What an acknowledgement is worth.
    pub durability: Durability,
    /// Bytes of memory for what is read of the databases; they share it.
    pub cache_bytes: usize,
    /// Free bytes below which nothing more is written; `None` is the default share of the disk.
    pub disk_reserve_bytes: Option<u64>,
    /// Bytes the tables may take, merges included; `None` where nobody says how much memory there is.
    pub memory_max_bytes: Option<u64>,
    /// What this process may use of the machine.
    pub allowance: Allowance,
    /// Limits of the binary port.
    pub limits: Limits,
    /// Log filter.
    pub log: String,
}

/// Objects of S3 that are fetched.
#[derive(Clone, Debug)]
pub struct S3Access {
    /// From these buckets.
    pub buckets: Names,
    /// URL of the S3 API.
    pub endpoint: Option<String>,
    /// Region.
    pub region: String,
    /// Id of the key.
    pub access_key_id: Secret,
    /// The key.
    pub secret_access_key: Secret,
}

/// Limits of the binary port: each is stated in Welcome or has a metric.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections a shard accepts.
    pub connections_max: usize,
    /// The same from one address.
    pub connections_per_address_max: usize,
    /// Connections the admin port accepts.
    pub admin_connections_max: usize,
    /// Bytes that a shard holds of frames it has not served; beyond it, connections that send more end.
    pub waiting_bytes_max: usize,
    /// Time that a frame may wait to be served; one that waited longer is answered Busy.
    pub queue_time_max: Duration,
    /// Largest frame in bytes.
    pub frame_bytes_max: usize,
    /// Hashes in one frame.
    pub hashes_max: usize,
    /// Submits waiting per connection.
    pub window_frames: u32,
    /// Matches listed per hash.
    pub matches_max: usize,
    /// Bytes of answers a slow reader may let pile up before the connection is read no further.
    pub output_bytes_max: usize,
    /// Silence before a connection is closed.
    pub idle: Duration,
    /// From a frame's first byte to its last.
    pub frame: Duration,
    /// From connect to Hello.
    pub hello: Duration,
    /// For a reader that takes nothing.
    pub stalled: Duration,
}

impl Config {
    /// Brings the sources together: flags with environment already in `flags`, then the file.
    pub fn resolve(flags: Settings, file: Option<&Path>) -> Result<Self, ConfigError> {
        let from_file = file.map(read_file).transpose()?.unwrap_or_default();
        let secret = |name| std::env::var(name).ok().map(Secret::new);
        let environment = Settings {
            token: secret("HASHWARD_TOKEN"),
            content_safety_key: secret("HASHWARD_CONTENT_SAFETY_KEY"),
            s3_access_key_id: secret("HASHWARD_S3_ACCESS_KEY_ID"),
            s3_secret_access_key: secret("HASHWARD_S3_SECRET_ACCESS_KEY"),
            ..Settings::default()
        };
        let settings = flags.or(environment).or(from_file);
        let is_set =
            IsSet { memory_max: settings.memory_max_bytes.is_some(), ffmpeg: settings.ffmpeg.is_some() };
        let mut warnings = Vec::new();
        let token = match (settings.token, &settings.token_file) {
            (Some(token), _) => Some(token),
            (None, Some(path)) => {
                warnings.extend(readable("token file", path));
                Some(Secret::new(read("token file", path)?.trim()))
            }
            (None, None) => None,
        };
        let dev = settings.dev.unwrap_or(false);
        let mut fetch = FetchPolicy {
            hosts: settings.fetch_hosts.unwrap_or_default().0,
            allow: settings.fetch_allow.unwrap_or_default().0,
            http: settings.fetch_http.unwrap_or(false),
            ports: settings.fetch_ports.unwrap_or_default().0,
            ..FetchPolicy::default()
        };
        fetch.bytes_max = settings.upload_bytes_max.unwrap_or(fetch.bytes_max);
        if dev {
            fetch.allow.extend([
                IpNet::from(IpAddr::from([127, 0, 0, 1])),
                IpNet::from(IpAddr::from(Ipv6Addr::LOCALHOST)),
            ]);
        }
        let content_safety = match settings.content_safety_url {
            None => None,
            Some(url) => Some((url, settings.content_safety_key.ok_or(ConfigError::ClassifierKey)?)),
        };
        let hash_time = Duration::from_secs(settings.hash_seconds.unwrap_or(60));
        let video = VideoOptions {
            ffmpeg: settings.ffmpeg.unwrap_or_else(|| "ffmpeg".into()),
            frames_per_second: settings.video_fps.unwrap_or(1.0),
            time_max: hash_time,
            launcher: Launcher {
                enforcement: settings.cage.unwrap_or_default().into(),
                ..Launcher::default()
            },
            ..VideoOptions::default()
        };
        let s3 = match settings.s3_buckets.filter(|buckets| !buckets.0.is_empty()) {
            None => None,
            Some(buckets) => Some(S3Access {
                buckets,
                endpoint: settings.s3_endpoint,
                region: settings.s3_region.unwrap_or_else(|| "us-east-1".to_string()),
                access_key_id: settings.s3_access_key_id.ok_or(ConfigError::S3Key)?,
                secret_access_key: settings.s3_secret_access_key.ok_or(ConfigError::S3Key)?,
            }),
        };
        let allowance = Allowance::read(Path::new("/"));
        let data_dir = settings.data_dir.unwrap_or_else(|| DATA_DIR.into());
        let list_dirs = list_dirs(&settings.list_dir.unwrap_or_default(), &data_dir)?;
        let cores = settings.cores.unwrap_or_else(|| allowance.shards());
        let descriptors = descriptors::share(descriptors::limit(), cores, settings.connections_max)?;
        warnings.extend(descriptors.warning);
        let mut config = Config {
            audit_heads: settings.audit_heads.unwrap_or_else(|| data_dir.join(HEADS_FILE)),
            audit_key_file: settings.audit_key_file.unwrap_or_else(|| data_dir.join(KEY_FILE)),
            audit_every: Duration::from_secs(settings.audit_head_seconds.unwrap_or(60)),
            data_dir,
            listen: settings.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 7400))),
            admin: settings.admin.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 7480))),
            admin_host: settings.admin_host,
            token,
            hma_allow: settings.hma_allow.unwrap_or_default(),
            key_file: settings.key_file,
            cores,
            reactor: settings.reactor.unwrap_or_default(),
            rules: settings.rules,
            dev,
            roles: Roles {
                hasher: settings.role_hasher.unwrap_or(true),
                matcher: settings.role_matcher.unwrap_or(true),
                curator: settings.role_curator.unwrap_or(true),
            },
            list_dirs,
            fetch,
            warnings,
            evidence_bytes_max: settings.evidence_bytes_max.unwrap_or(8 << 30),
            hma_signal_types: settings.hma_signal_types.unwrap_or_default(),
            video,
            video_rule: VideoRule {
                query_percent: settings.video_query_percent.unwrap_or(80.0),
                banked_percent: settings.video_banked_percent.unwrap_or(0.0),
                ..VideoRule::default()
            },
            hash_time,
            s3,
            sns_topics: settings.sns_topics.unwrap_or_default(),
            signing_key_file: settings.signing_key_file,
            signing_key_file_former: settings.signing_key_file_former,
            ncmec: NcmecAccess::of_process(),
            content_safety,
            recent: RecentOptions {
                keep: Duration::from_secs(settings.recent_hours.unwrap_or(72).saturating_mul(3600)),
                bytes_max: settings.recent_bytes_max.unwrap_or(1 << 30),
                hashes_max: settings.hashes_max.unwrap_or(HASHES_MAX),
            },
            durability: match settings.durability {
                Some(DurabilityWord::Wal) => Durability::Wal,
                Some(DurabilityWord::Sync) | None => Durability::Sync,
            },
            cache_bytes: settings.cache_bytes.unwrap_or(CACHE_BYTES),
            disk_reserve_bytes: settings.disk_reserve_bytes,
            memory_max_bytes: settings.memory_max_bytes.or_else(|| allowance.tables_bytes()),
            allowance,
            limits: Limits {
                connections_max: descriptors.connections,
                connections_per_address_max: settings
                    .connections_per_address_max
                    .unwrap_or(descriptors.connections.div_ceil(4) * 3),
                admin_connections_max: descriptors.admin_connections,
                waiting_bytes_max: 256 << 20,
                queue_time_max: Duration::from_millis(settings.queue_ms_max.unwrap_or(250)),
                frame_bytes_max: settings.frame_bytes_max.unwrap_or(1 << 20),
                hashes_max: settings.hashes_max.unwrap_or(HASHES_MAX),
                window_frames: settings.window_frames.unwrap_or(64),
                matches_max: settings.matches_max.unwrap_or(256),
                output_bytes_max: 1 << 20,
                idle: Duration::from_secs(settings.idle_seconds.unwrap_or(60)),
                frame: Duration::from_secs(settings.frame_seconds.unwrap_or(5)),
                hello: Duration::from_secs(3),
                stalled: Duration::from_secs(10),
            },
            log: settings.log.unwrap_or_else(|| "info".to_string()),
        };
        config.check()?;
        let doubts = config.doubts(is_set);
        config.warnings.extend(doubts);
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        for (port, address) in [("--listen", self.listen), ("--admin", self.admin)] {
            // HMA's routes may be open to listed addresses; the guard keeps the others shut without a token.
            let listed = port == "--admin" && !self.hma_allow.0.is_empty();
            if !address.ip().is_loopback() && self.token.is_none() && !listed {
                return Err(ConfigError::OpenPort { port, address });
            }
        }
        if let Some(token) = &self.token
            && token.reveal().len() < 32
        {
            return Err(ConfigError::WeakToken { found: token.reveal().len() });
        }
        let limits = &self.limits;
        for (name, found, low, high, allowed) in [
            ("upload_bytes_max", self.fetch.bytes_max, 1 << 10, UPLOAD_BYTES_MAX, "1024 to 134217728"),
            (
                "evidence_bytes_max",
                self.evidence_bytes_max as usize,
                1 << 10,
                1 << 40,
                "1024 to 1099511627776",
            ),
            ("audit_head_seconds", self.audit_every.as_secs() as usize, 1, 3600, "1 to 3600"),
            ("hash_seconds", self.hash_time.as_secs() as usize, 1, 3600, "1 to 3600"),
            ("cores", self.cores, 1, 1024, "1 to 1024"),
            ("connections_max", limits.connections_max, 1, 1 << 20, "1 to 1048576"),
            ("connections_per_address_max", limits.connections_per_address_max, 1, 1 << 20, "1 to 1048576"),
            ("queue_ms_max", limits.queue_time_max.as_millis() as usize, 1, 60_000, "1 to 60000"),
            ("frame_bytes_max", limits.frame_bytes_max, 4096, 64 << 20, "4096 to 67108864"),
            ("hashes_max", limits.hashes_max, 1, 65_536, "1 to 65536"),
            ("window_frames", limits.window_frames as usize, 1, 65_536, "1 to 65536"),
            ("matches_max", limits.matches_max, 1, 4096, "1 to 4096"),
            ("idle_seconds", limits.idle.as_secs() as usize, 1, 86_400, "1 to 86400"),
            ("frame_seconds", limits.frame.as_secs() as usize, 1, 3600, "1 to 3600"),
        ] {
            if !(low..=high).contains(&found) {
                return Err(ConfigError::Range { name, found: found.to_string(), allowed });
            }
        }
        let folder = self.audit_heads.parent().filter(|folder| !folder.as_os_str().is_empty());
        // The data directory is made later, where it is not there yet.
        if let Some(folder) = folder
            && folder != self.data_dir
            && !folder.is_dir()
        {
            return Err(ConfigError::HeadsFolder { path: self.audit_heads.display().to_string() });
        }
        let percents = [
            ("video_fps", self.video.frames_per_second, 0.01, 60.0, "0.01 to 60"),
            ("video_query_percent", self.video_rule.query_percent, 1.0, 100.0, "1 to 100"),
            ("video_banked_percent", self.video_rule.banked_percent, 0.0, 100.0, "0 to 100"),
        ];
        for (name, found, low, high, allowed) in percents {
            if !(low..=high).contains(&found) {
                return Err(ConfigError::Range { name, found: found.to_string(), allowed });
            }
        }
        Ok(())
    }

    /// What counts as a match where a request does not say otherwise.
    pub fn find_rule(&self) -> FindRule {
        FindRule { threshold: None, video: self.video_rule }
    }
}

fn read(what: &'static str, path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError::Read {
        what,
        path: path.display().to_string(),
        reason: error.to_string(),
    })
}

/// What is to be said of a file with a secret that others than its owner can read. Its group may: systemd's credentials
/// look so.
fn readable(what: &str, path: &Path) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.mode();
    (mode & 0o037 != 0).then(|| {
        format!(
            "{what} {} can be read or written by others than its owner: chmod 600 it, and take another secret if it has \
             leaked",
            path.display()
        )
    })
}

/// The directories of lists. One that holds the data directory, or lies in it, would make a list of its keys.
fn list_dirs(named: &Names, data_dir: &Path) -> Result<ListDirs, ConfigError> {
    let whole = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path));
    let fault =
        |path: &Path, reason: String| ConfigError::ListDir { path: path.display().to_string(), reason };
    let dirs: Vec<PathBuf> = named.0.iter().map(PathBuf::from).collect();
    for dir in &dirs {
        let (real, data) = (whole(dir), whole(data_dir));
        let (Ok(real), Ok(data)) = (real, data) else { continue }; // the next line says why
        if real.starts_with(&data) || data.starts_with(&real) {
            let reason = "it holds the data directory, or lies in it: keep lists in a directory of their own";
            return Err(fault(dir, reason.to_string()));
        }
    }
    ListDirs::new(dirs).map_err(|error| fault(Path::new(&named.to_string()), error.to_string()))
}

fn read_file(path: &Path) -> Result<Settings, ConfigError> {
    toml::from_str(&read("config file", path)?)
        .map_err(|error| ConfigError::Parse { path: path.display().to_string(), reason: error.to_string() })
}
