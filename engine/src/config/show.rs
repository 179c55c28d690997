//! The configuration as `--print-config` prints it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use index::store::Durability;
use serde::Serialize;

use super::{Cage, Config, Names, Ports, Ranges, Reactor};

impl Config {
    /// The configuration as TOML, secrets masked.
    pub fn show(&self) -> String {
        #[derive(Serialize)]
        struct Shown<'a> {
            data_dir: &'a Path,
            listen: SocketAddr,
            admin: SocketAddr,
            #[serde(skip_serializing_if = "Option::is_none")]
            admin_host: &'a Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            token: Option<&'a str>,
            hma_allow: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            key_file: &'a Option<PathBuf>,
            audit_heads: &'a Path,
            audit_key_file: &'a Path,
            audit_head_seconds: u64,
            cores: usize,
            reactor: Reactor,
            #[serde(skip_serializing_if = "Option::is_none")]
            rules: &'a Option<PathBuf>,
            dev: bool,
            role_hasher: bool,
            role_matcher: bool,
            role_curator: bool,
            #[serde(skip_serializing_if = "String::is_empty")]
            list_dir: String,
            fetch_allow: String,
            fetch_http: bool,
            fetch_ports: String,
            fetch_hosts: String,
            upload_bytes_max: usize,
            evidence_bytes_max: u64,
            hma_signal_types: String,
            ffmpeg: &'a Path,
            cage: Cage,
            video_fps: f64,
            video_query_percent: f64,
            video_banked_percent: f64,
            hash_seconds: u64,
            #[serde(skip_serializing_if = "String::is_empty")]
            s3_buckets: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            s3_endpoint: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            s3_region: Option<&'a str>,
            #[serde(skip_serializing_if = "String::is_empty")]
            sns_topics: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            signing_key_file: &'a Option<PathBuf>,
            #[serde(skip_serializing_if = "Option::is_none")]
            signing_key_file_former: &'a Option<PathBuf>,
            #[serde(skip_serializing_if = "Option::is_none")]
            content_safety_url: Option<&'a str>,
            recent_hours: u64,
            recent_bytes_max: u64,
            durability: Durability,
            cache_bytes: usize,
            #[serde(skip_serializing_if = "Option::is_none")]
            disk_reserve_bytes: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            memory_max_bytes: Option<u64>,
            connections_max: usize,
            connections_per_address_max: usize,
            queue_ms_max: u64,
            frame_bytes_max: usize,
            hashes_max: usize,
            window_frames: u32,
            matches_max: usize,
            idle_seconds: u64,
            frame_seconds: u64,
            log: &'a str,
        }
        let shown = Shown {
            data_dir: &self.data_dir,
            listen: self.listen,
            admin: self.admin,
            admin_host: &self.admin_host,
            token: self.token.as_ref().map(|_| "***"),
            hma_allow: self.hma_allow.to_string(),
            key_file: &self.key_file,
            audit_heads: &self.audit_heads,
            audit_key_file: &self.audit_key_file,
            audit_head_seconds: self.audit_every.as_secs(),
            cores: self.cores,
            reactor: self.reactor,
            rules: &self.rules,
            dev: self.dev,
            role_hasher: self.roles.hasher,
            role_matcher: self.roles.matcher,
            role_curator: self.roles.curator,
            list_dir: self.list_dirs.to_string(),
            fetch_allow: Ranges(self.fetch.allow.clone()).to_string(),
            fetch_http: self.fetch.http,
            fetch_ports: Ports(self.fetch.ports.clone()).to_string(),
            fetch_hosts: Names(self.fetch.hosts.clone()).to_string(),
            hma_signal_types: self.hma_signal_types.to_string(),
            ffmpeg: &self.video.ffmpeg,
            cage: self.video.launcher.enforcement.into(),
            video_fps: self.video.frames_per_second,
            video_query_percent: self.video_rule.query_percent,
            video_banked_percent: self.video_rule.banked_percent,
            hash_seconds: self.hash_time.as_secs(),
            s3_buckets: self.s3.as_ref().map_or_else(String::new, |s3| s3.buckets.to_string()),
            s3_endpoint: self.s3.as_ref().and_then(|s3| s3.endpoint.as_deref()),
            s3_region: self.s3.as_ref().map(|s3| s3.region.as_str()),
            sns_topics: self.sns_topics.to_string(),
            signing_key_file: &self.signing_key_file,
            signing_key_file_former: &self.signing_key_file_former,
            content_safety_url: self.content_safety.as_ref().map(|(url, _)| url.as_str()),
            recent_hours: self.recent.keep.as_secs() / 3600,
            recent_bytes_max: self.recent.bytes_max,
            upload_bytes_max: self.fetch.bytes_max,
            evidence_bytes_max: self.evidence_bytes_max,
            durability: self.durability,
            cache_bytes: self.cache_bytes,
            disk_reserve_bytes: self.disk_reserve_bytes,
            memory_max_bytes: self.memory_max_bytes,
            connections_max: self.limits.connections_max,
            connections_per_address_max: self.limits.connections_per_address_max,
            queue_ms_max: self.limits.queue_time_max.as_millis() as u64,
            frame_bytes_max: self.limits.frame_bytes_max,
            hashes_max: self.limits.hashes_max,
            window_frames: self.limits.window_frames,
            matches_max: self.limits.matches_max,
            idle_seconds: self.limits.idle.as_secs(),
            frame_seconds: self.limits.frame.as_secs(),
            log: &self.log,
        };
        let table = toml::to_string(&shown).expect("a flat table of plain values");
        let ncmec = &self.ncmec;
        format!(
            "{table}# The environment alone selects the {} CyberTipline, at {}\n",
            ncmec.environment.name(),
            ncmec.base_url
        )
    }
}
