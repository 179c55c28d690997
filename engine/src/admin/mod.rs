//! Admin HTTP: health, metrics, banks, hits, queues. Loopback by default.
//!
//! Runs on the control plane's runtime, never on a shard's thread. It answers from the first moment: while
//! banks load, what needs them says 503 and how far loading is.

mod answer;
mod banks;
mod body;
mod cases;
mod contents;
mod embeddings;
mod front;
mod guard;
mod hash;
mod hashing;
mod health;
mod hma;
mod import;
mod lookup;
mod matches;
mod openapi;
mod recent;
mod s3;
mod scan;
mod statistics;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use index::bank::{Banks, LoadProgress};
use index::store::Store;
use ingest::media::fetch::Fetcher;
use ingest::s3::Objects;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::config::Config;
use crate::curator::Curator;
use crate::disk::Disk;
use crate::embeddings::Embeddings;
use crate::exchanges::Exchanges;
use crate::metrics::Metrics;
use crate::recent::Recent;
use crate::submit::Submitter;

pub use answer::Refusal;
pub use front::Front;

/// What the routes work on once it is loaded.
pub struct Loaded {
    /// The banks.
    pub banks: Arc<Banks>,
    /// Where bank changes go.
    pub curator: Curator,
    /// The case database.
    pub cases: Arc<dyn Store>,
    /// Exchanges.
    pub exchanges: Exchanges,
    /// Sets of embeddings.
    pub embeddings: Arc<Embeddings>,
    /// Submissions of the last hours.
    pub recent: Recent,
    /// Where what is fetched here is submitted.
    pub submitter: Arc<Submitter>,
}

/// Shared by all routes.
pub struct Admin {
    /// The configuration.
    pub config: Config,
    /// Set when loading is done.
    pub loaded: OnceLock<Loaded>,
    /// How far loading is.
    pub progress: LoadProgress,
    /// The data directory's disk.
    pub disk: Arc<Disk>,
    /// Everything counted.
    pub metrics: Arc<Metrics>,
    /// As many scans at once as there are CPUs.
    pub scans: Arc<Semaphore>,
    /// MiB that uploads and fetched files may take all together while they wait to be hashed.
    pub held_mib: Arc<Semaphore>,
    /// Fetches media.
    pub fetcher: Fetcher,
    /// Reads objects of S3, where that is configured.
    pub objects: Option<Objects>,
    /// Set when the shards take traffic; cleared when the program drains.
    pub accepting: AtomicBool,
}

impl Admin {
    /// The loaded parts, or 503 with the progress.
    pub fn loaded(&self) -> Result<&Loaded, Refusal> {
        self.loaded.get().ok_or_else(|| {
            let contents = self.progress.contents.load(std::sync::atomic::Ordering::Relaxed);
            Refusal::loading(contents)
        })
    }

    /// Waits for a turn at what takes a CPU for long.
    pub async fn turn(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.scans.clone().acquire_owned().await.map_err(|_| Refusal::interrupted())
    }

    /// Waits until there is room in memory for an upload of so many bytes, or of the largest.
    pub async fn hold(&self, bytes: Option<usize>) -> Result<OwnedSemaphorePermit, Refusal> {
        let bytes = bytes.unwrap_or(usize::MAX).min(self.config.fetch.bytes_max);
        let held = self.held_mib.clone().acquire_many_owned((bytes >> 20) as u32 + 1).await;
        held.map_err(|_| Refusal::interrupted())
    }

    /// What reads an upload, if that ends in time.
    pub async fn in_upload_time<T>(&self, reading: impl Future<Output = T>) -> Result<T, Refusal> {
        let late = |_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "the upload took too long");
        timeout(UPLOAD_TIME, reading).await.map_err(late)
    }
}

/// Body of a batch to match: a thousand vPDQ signals of a few minutes each.
const MATCH_BYTES_MAX: usize = 32 << 20;
/// An upload's first byte to its last: it holds memory meanwhile.
const UPLOAD_TIME: Duration = Duration::from_secs(120);

/// Every route.
pub fn routes(admin: Arc<Admin>) -> Front {
    let routes = Router::new()
        .merge(hma::routes(admin.config.roles, admin.config.dev))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/openapi.json", get(openapi::document))
        .route("/openapi/openapi.json", get(openapi::document))
        .route("/openapi/", get(openapi::page))
        .route("/openapi/swagger", get(openapi::page))
        .route("/api/v1/index", get(health::index))
        .route("/api/v1/index/explain", get(health::explain))
        .route("/api/v1/banks", get(banks::list).post(banks::create))
        .route("/api/v1/banks/{name}", get(banks::show).put(banks::update).delete(banks::remove))
        .route("/api/v1/banks/{name}/history", get(banks::history))
        .route("/api/v1/banks/{name}/contents", get(contents::list).post(banks::add))
        .route("/api/v1/contents/{id}", get(contents::show))
        .route("/api/v1/contents/{id}/history", get(contents::history))
        .route("/api/v1/s3/events", post(s3::events))
        .route("/api/v1/recent", get(recent::of_signal))
        .route("/api/v1/contents/{id}/recent", get(recent::of_content))
        .route("/api/v1/statistics", get(statistics::show))
        .route("/api/v1/banks/{name}/contents/{content}", delete(banks::remove_content))
        .route("/api/v1/banks/{name}/import", post(import::import))
        .route("/api/v1/banks/{name}/export", get(import::export))
        .route("/api/v1/scan", post(scan::scan))
        .route("/api/v1/nearest", get(lookup::nearest))
        .route("/api/v1/lookup", post(lookup::lookup))
        .route("/api/v1/hash", get(hash::hash_url).post(hash::hash_file).layer(DefaultBodyLimit::disable()))
        .route("/api/v1/match", post(hash::match_batch).layer(DefaultBodyLimit::max(MATCH_BYTES_MAX)))
        .route("/api/v1/embeddings", get(embeddings::list))
        .route(
            "/api/v1/embeddings/{name}",
            get(embeddings::show).put(embeddings::put).delete(embeddings::remove),
        )
        .route("/api/v1/embeddings/{name}/nearest", post(embeddings::nearest))
        .route("/api/v1/hits", get(cases::hits))
        .route("/api/v1/hits/{position}", get(cases::hit))
        .route("/api/v1/queues", get(cases::queues))
        .route("/api/v1/queues/{name}", get(cases::queue))
        .fallback(answer::no_route)
        .method_not_allowed_fallback(answer::no_method)
        .with_state(admin.clone());
    Front::new(admin, routes)
}
