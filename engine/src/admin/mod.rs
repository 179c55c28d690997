//! Admin HTTP: health, metrics, banks, hits, queues. Loopback by default.
//!
//! Runs on the control plane's runtime, never on a shard's thread. It answers from the first moment: while
//! banks load, what needs them says 503 and how far loading is.

mod access;
mod alarms;
mod answer;
mod audit;
mod banks;
mod body;
mod cases;
mod client;
mod clock;
mod contents;
mod coop;
mod cybertips;
mod deed;
mod embeddings;
mod evidence;
mod exposure;
mod front;
mod guard;
mod hash;
pub mod hashing;
mod health;
mod hma;
mod honeytokens;
mod import;
mod jobs;
mod keys;
mod lookup;
mod matches;
mod openapi;
mod organisations;
mod page;
mod patient;
mod people;
mod policies;
mod queues;
mod recent;
mod retention;
mod s3;
mod scan;
mod statistics;
mod turns;
mod waiting;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::{delete, get, post, put};
use index::BankId;
use index::bank::{BankState, Banks, LoadProgress};
use index::store::Store;
use ingest::media::fetch::Fetcher;
use ingest::s3::Objects;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::access::logins::Logins;
use crate::access::{Caller, Door};
use crate::circuits::Circuits;
use crate::config::Config;
use crate::curator::Curator;
use crate::decoders::Decoders;
use crate::desk::Desk;
use crate::disk::Disk;
use crate::embeddings::Embeddings;
use crate::evidence::Evidence;
use crate::exchanges::Exchanges;
use crate::metrics::Metrics;
use crate::recent::Recent;
use crate::submit::Submitter;

pub use answer::Refusal;
pub use front::{Front, Peer};
pub use health::LastGauges;
pub use turns::Turns;

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
    /// The one writer of cases.
    pub desk: Desk,
    /// Preserved media.
    pub evidence: Arc<Evidence>,
    /// Rung when a deletion was begun.
    pub retention: Arc<Notify>,
    /// Rung when a filing may go on.
    pub filing: Arc<Notify>,
    /// Rung when something came that waits.
    pub intake: Arc<Notify>,
}

impl Loaded {
    /// The banks as a caller sees them.
    pub fn banks_of(&self, caller: &Caller) -> Arc<BankState> {
        self.banks.state_of(caller.tenant.as_ref())
    }

    /// The bank of this name, if the caller may read what it holds.
    pub fn opened(&self, caller: &Caller, name: &str) -> Result<BankId, Refusal> {
        let state = self.banks_of(caller);
        let bank = state.directory.named(name).filter(|_| state.directory.opens(name));
        bank.map(|bank| bank.id).ok_or_else(|| banks::no_bank(name))
    }
}

/// Shared by all routes.
pub struct Admin {
    /// The configuration.
    pub config: Config,
    /// Who may call.
    pub door: Door,
    /// Failed logins.
    pub logins: Logins,
    /// Set when loading is done.
    pub loaded: OnceLock<Loaded>,
    /// How far loading is.
    pub progress: LoadProgress,
    /// The data directory's disk.
    pub disk: Arc<Disk>,
    /// Everything counted.
    pub metrics: Arc<Metrics>,
    /// Decoders of pictures.
    pub decoders: Arc<Decoders>,
    /// Turns at what takes a CPU for long.
    pub turns: Turns,
    /// MiB that uploads and fetched files may take all together while they wait to be hashed.
    pub held_mib: Arc<Semaphore>,
    /// Fetches media.
    pub fetcher: Fetcher,
    /// Reads objects of S3, where that is configured.
    pub objects: Option<Objects>,
    /// Set when the shards take traffic; cleared when the program drains.
    pub accepting: Arc<AtomicBool>,
    /// Who is not reported to, or for, for a while.
    pub circuits: Arc<Circuits>,
    /// What `/metrics` read of the cases last.
    pub gauges: LastGauges,
}

impl Admin {
    /// The loaded parts, or 503 with the progress.
    pub fn loaded(&self) -> Result<&Loaded, Refusal> {
        self.loaded.get().ok_or_else(|| {
            let contents = self.progress.contents.load(std::sync::atomic::Ordering::Relaxed);
            Refusal::loading(contents)
        })
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
        .merge(page_routes())
        .merge(case_routes())
        .merge(access_routes())
        .route_layer(middleware::from_fn_with_state(admin.clone(), access::check))
        .fallback(answer::no_route)
        .method_not_allowed_fallback(answer::no_method)
        .layer(middleware::from_fn(answer::in_form))
        .with_state(admin.clone());
    Front::new(admin, routes)
}

/// The reviewers' page.
fn page_routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/ui/", get(page::file))
        .route("/ui/page.css", get(page::file))
        .route("/ui/page.js", get(page::file))
        .route("/ui/api.js", get(page::file))
        .route("/ui/dom.js", get(page::file))
        .route("/ui/job.js", get(page::file))
        .route("/ui/media.js", get(page::file))
        .route("/ui/report.js", get(page::file))
        .route("/ui/wellbeing.js", get(page::file))
}

/// Who may call.
fn access_routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/api/v1/login", post(people::login))
        .route("/api/v1/logout", post(people::logout))
        .route("/api/v1/session", get(people::session))
        .route("/api/v1/session/exposure", get(exposure::show))
        .route("/api/v1/session/password", put(people::change_password))
        .route("/api/v1/people", get(people::list).post(people::add))
        .route("/api/v1/people/{name}", get(people::show).put(people::change))
        .route("/api/v1/honeytokens", get(honeytokens::list).post(honeytokens::add))
        .route("/api/v1/keys", get(keys::list).post(keys::add))
        .route("/api/v1/keys/{number}", get(keys::show).put(keys::change).delete(keys::remove))
        .route("/api/v1/keys/{number}/rotate", post(keys::rotate))
        .route("/api/v1/keys/{number}/thaw", post(keys::thaw))
}

/// Items, rules, jobs.
fn case_routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/api/v1/items/async/", post(coop::items).layer(DefaultBodyLimit::disable()))
        .route("/api/v1/items/async", post(coop::items).layer(DefaultBodyLimit::disable()))
        .route("/api/v1/report", post(coop::report).layer(DefaultBodyLimit::disable()))
        .route("/api/v1/reports/{id}", get(waiting::report))
        .route("/api/v1/items", get(waiting::show_item))
        .route("/api/v1/users/items", get(waiting::user_items))
        .route("/api/v1/intake", get(waiting::intake))
        .route("/api/v1/intake/{number}", post(waiting::act))
        .route("/api/v1/deliveries", get(waiting::deliveries))
        .route("/api/v1/filings", get(waiting::filings))
        .route("/api/v1/census", get(waiting::census))
        .route("/api/v1/item-types", get(policies::item_types))
        .route(
            "/api/v1/item-types/{id}",
            get(policies::item_type).put(policies::put_item_type).delete(policies::remove_item_type),
        )
        .route("/api/v1/rules", get(policies::rules))
        .route("/api/v1/rules/replay", post(policies::replay_rule))
        .route(
            "/api/v1/rules/{name}",
            get(policies::rule).put(policies::put_rule).delete(policies::remove_rule),
        )
        .route("/api/v1/rules/{name}/versions", get(policies::versions))
        .route("/api/v1/rule-tables/{version}", get(policies::table))
        .route("/api/v1/evaluations", get(policies::evaluations))
        .route("/api/v1/webhooks", get(policies::webhooks))
        .route("/api/v1/webhooks/{name}", put(policies::put_webhook).delete(policies::remove_webhook))
        .route("/api/v1/cybertips", get(cybertips::list))
        .route("/api/v1/cybertips/export", get(cybertips::export))
        .route("/api/v1/cybertips/{job}", get(cybertips::show).post(cybertips::say))
        .route("/api/v1/cybertips/{job}/records", get(cybertips::records))
        .route("/api/v1/organisations", get(organisations::list))
        .route("/api/v1/organisations/{name}", get(organisations::show).put(organisations::put))
        .route(
            "/api/v1/organisations/{name}/credentials",
            put(organisations::put_credentials).delete(organisations::remove_credentials),
        )
        .route("/api/v1/clock", get(clock::show))
        .route("/api/v1/clock/confirm", post(clock::confirm))
        .route("/api/v1/alarms", get(alarms::list))
        .route("/api/v1/alarms/{number}/acknowledge", post(alarms::acknowledge))
        .route("/api/v1/settings", get(policies::show_settings).put(policies::put_settings))
        .route("/api/v1/settings/trusted-banks", put(policies::trust))
        .route("/api/v1/queues", get(queues::queues))
        .route("/api/v1/audit", get(audit::list))
        .route("/api/v1/audit/head", get(audit::head))
        .route("/api/v1/audit/proof", get(audit::proof))
        .route(
            "/api/v1/queues/{name}",
            get(queues::queue).put(queues::put_queue).delete(queues::remove_queue),
        )
        .route("/api/v1/queues/{name}/next", post(queues::next))
        .route("/api/v1/jobs/{id}", get(jobs::show).delete(retention::delete))
        .route("/api/v1/jobs/{id}/hold", put(retention::hold).delete(retention::let_go))
        .route("/api/v1/jobs/{id}/media", get(evidence::media))
        .route("/api/v1/jobs/{id}/media/{number}/content", get(evidence::content))
        .route("/api/v1/jobs/{id}/media/{number}/unblur", post(evidence::unblur))
        .route("/api/v1/jobs/{id}/hits", get(jobs::hits))
        .route("/api/v1/jobs/{id}/comments", get(jobs::comments).post(jobs::comment))
        .route("/api/v1/jobs/{id}/extend", post(jobs::extend))
        .route("/api/v1/jobs/{id}/release", post(jobs::release))
        .route("/api/v1/jobs/{id}/skip", post(jobs::skip))
        .route("/api/v1/jobs/{id}/move", post(jobs::transfer))
        .route("/api/v1/jobs/{id}/priority", post(jobs::priority))
        .route("/api/v1/jobs/{id}/ncmec", post(jobs::ncmec))
        .route("/api/v1/jobs/{id}/decision", post(jobs::decide))
}
