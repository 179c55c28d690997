//! HMA's HTTP API: the same paths, statuses and JSON (`docs/hma.md` lists where we differ on purpose).
//!
//! What HMA rebuilds in the background is visible here with the answer of the change that made it.

mod answer;
mod banks;
mod coin;
mod content;
mod dev;
mod exchanges;
mod fields;
mod matching;
mod media;
mod signals;
mod ui;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use serde_json::{Value, json};

use answer::Answer;
pub use answer::{message, no_method, no_route};

use super::Admin;
use crate::config::Roles;

/// The routes of the roles this process has.
pub fn routes(roles: Roles, dev: bool) -> Router<Arc<Admin>> {
    let mut router = Router::new()
        .route("/", get(|| async { answer::redirect("/status") }))
        .route("/status", get(status))
        .route("/status/live", get(|| async { answer::line(StatusCode::OK, ALIVE) }))
        .route("/site-map", get(site_map));
    if roles.hasher {
        router = router.route("/h/hash", get(media::hash_of_url).post(media::hash_of_file));
    }
    if roles.matcher {
        router = router
            .route("/m/raw_lookup", get(matching::raw_lookup))
            .route("/m/lookup", get(matching::lookup).post(matching::lookup_file))
            .route("/m/compare", post(matching::compare))
            .route("/m/index/status", get(signals::index_status));
    }
    if roles.curator {
        router = router
            .route("/c/banks", get(banks::list).post(banks::create))
            .route("/c/bank/{name}", get(banks::show).put(banks::update).delete(banks::remove))
            .route("/c/bank/{name}/signal", post(content::add_signals))
            .route("/c/bank/{name}/content", post(content::add_media))
            .route(
                "/c/bank/{name}/content/{id}",
                get(content::show).put(content::update).delete(content::remove),
            )
            .route("/c/exchanges", get(exchanges::list).post(exchanges::create))
            .route("/c/exchanges/apis", get(exchanges::apis))
            .route("/c/exchanges/api/{name}", get(exchanges::show_api).post(exchanges::set_credentials))
            .route("/c/exchanges/api/{name}/schema", get(exchanges::schema))
            .route(
                "/c/exchange/{name}",
                get(exchanges::show).put(exchanges::update).delete(exchanges::remove),
            )
            .route("/c/exchange/{name}/status", get(exchanges::status))
            .route("/c/content_type", get(signals::content_types))
            .route("/c/signal_type", get(signals::signal_types))
            .route("/c/signal_type/{name}", put(signals::set_signal_type))
            .route("/c/signal_type/index", get(signals::index_of_types));
    }
    if roles.curator && roles.matcher {
        router = router
            .route("/ui/query", post(ui::query_file))
            .route("/ui/query_url", post(ui::query_url))
            .route("/ui/query_hash", post(ui::query_hash))
            .route("/ui/bank/{name}/content/find", post(ui::find))
            .route("/ui/create_bank", post(ui::create));
    }
    if dev {
        router = router
            .route("/dev/factory_reset", post(dev::factory_reset))
            .route("/dev/run_fetch", post(dev::run_fetch))
            .route("/dev/seed_banks", post(dev::seed_banks))
            .route("/dev/setup_sample_example", post(dev::setup_sample));
    }
    router
}

const ALIVE: &str = "I-AM-ALIVE";

/// `GET /status`: what HMA's load balancers ask. A process that does not match needs no index to be well.
async fn status(State(admin): State<Arc<Admin>>) -> Answer {
    if admin.config.roles.matcher && admin.loaded.get().is_none() {
        return Ok(answer::line(StatusCode::SERVICE_UNAVAILABLE, "INDEX-NOT-LOADED"));
    }
    Ok(answer::line(StatusCode::OK, ALIVE))
}

/// `GET /site-map`: the paths there are, in HMA's notation.
async fn site_map(State(admin): State<Arc<Admin>>) -> Answer {
    let roles = admin.config.roles;
    let groups: [(bool, &[&str]); 6] = [
        (true, &["/", "/site-map", "/status", "/status/live"]),
        (
            admin.config.dev,
            &["/dev/factory_reset", "/dev/run_fetch", "/dev/seed_banks", "/dev/setup_sample_example"],
        ),
        (
            roles.curator && roles.matcher,
            &[
                "/ui/bank/<bank_name>/content/find",
                "/ui/create_bank",
                "/ui/query",
                "/ui/query_hash",
                "/ui/query_url",
            ],
        ),
        (roles.hasher, &["/h/hash"]),
        (roles.matcher, &["/m/compare", "/m/index/status", "/m/lookup", "/m/raw_lookup"]),
        (
            roles.curator,
            &[
                "/c/bank/<bank_name>",
                "/c/bank/<bank_name>/content",
                "/c/bank/<bank_name>/content/<int:content_id>",
                "/c/bank/<bank_name>/signal",
                "/c/banks",
                "/c/content_type",
                "/c/exchange/<string:exchange_name>",
                "/c/exchange/<string:exchange_name>/status",
                "/c/exchanges",
                "/c/exchanges/api/<string:api_name>",
                "/c/exchanges/api/<string:api_name>/schema",
                "/c/exchanges/apis",
                "/c/signal_type",
                "/c/signal_type/<signal_type_name>",
                "/c/signal_type/index",
            ],
        ),
    ];
    let mut paths: Vec<&str> =
        groups.iter().filter(|(on, _)| *on).flat_map(|(_, paths)| *paths).copied().collect();
    paths.sort_unstable();
    Ok(answer::json(&paths.into_iter().map(|path| json!(path)).collect::<Value>()))
}
