//! Which route needs which rights. A route that is not listed here is not served: what was forgotten is shut, not open.
//!
//! `docs/access.md` shows the same by role and scope, and a test calls every route as each of them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use axum::Extension;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use reporter::access::Right;
use reporter::access::Right::{
    Admin, Audit, ChildSafety, Configure, Curate, Distance, Items, Match, Observe, Report, Review,
};

use super::coop::Errors;
use super::deed::{is_recorded_around, recorded};
use super::{Admin as AdminPort, Refusal, guard};
use crate::access::{Caller, Who};

/// What may be called by everybody, or by everybody who said who they are.
const NONE: &[Right] = &[];

/// Methods, each with the rights it needs: all of them.
type Methods = &'static [(&'static str, &'static [Right])];

/// By path.
const TABLE: &[(&str, Methods)] = &[
    // Everybody's.
    ("/healthz", &[("GET", NONE)]),
    ("/api/v1/login", &[("POST", NONE)]),
    ("/ui/", &[("GET", NONE)]),
    ("/ui/page.css", &[("GET", NONE)]),
    ("/ui/page.js", &[("GET", NONE)]),
    ("/ui/api.js", &[("GET", NONE)]),
    ("/ui/dom.js", &[("GET", NONE)]),
    ("/ui/job.js", &[("GET", NONE)]),
    ("/ui/media.js", &[("GET", NONE)]),
    ("/ui/report.js", &[("GET", NONE)]),
    ("/ui/wellbeing.js", &[("GET", NONE)]),
    // Whoever has said who they are.
    ("/", &[("GET", NONE)]),
    ("/status", &[("GET", NONE)]),
    ("/status/live", &[("GET", NONE)]),
    ("/site-map", &[("GET", NONE)]),
    ("/readyz", &[("GET", NONE)]),
    ("/openapi.json", &[("GET", NONE)]),
    ("/openapi/openapi.json", &[("GET", NONE)]),
    ("/openapi/", &[("GET", NONE)]),
    ("/openapi/swagger", &[("GET", NONE)]),
    ("/api/v1/session", &[("GET", NONE)]),
    ("/api/v1/session/exposure", &[("GET", NONE)]),
    ("/api/v1/session/password", &[("PUT", NONE)]),
    ("/api/v1/logout", &[("POST", NONE)]),
    ("/api/v1/alarms", &[("GET", NONE)]),
    // Counts and health.
    ("/metrics", &[("GET", &[Observe])]),
    ("/api/v1/clock", &[("GET", &[Observe])]),
    ("/api/v1/clock/confirm", &[("POST", &[Admin])]),
    ("/api/v1/index", &[("GET", &[Observe])]),
    ("/api/v1/index/explain", &[("GET", &[Observe])]),
    ("/api/v1/statistics", &[("GET", &[Observe])]),
    // Matching.
    ("/api/v1/lookup", &[("POST", &[Match])]),
    ("/api/v1/match", &[("POST", &[Distance])]),
    ("/api/v1/hash", &[("GET", &[Match]), ("POST", &[Match])]),
    ("/api/v1/nearest", &[("GET", &[Curate])]),
    ("/api/v1/scan", &[("POST", &[Curate])]),
    ("/api/v1/embeddings", &[("GET", &[Distance])]),
    ("/api/v1/embeddings/{name}", &[("GET", &[Distance]), ("PUT", &[Curate]), ("DELETE", &[Curate])]),
    ("/api/v1/embeddings/{name}/nearest", &[("POST", &[Distance])]),
    ("/h/hash", &[("GET", &[Match]), ("POST", &[Match])]),
    ("/m/raw_lookup", &[("GET", &[Distance])]),
    ("/m/lookup", &[("GET", &[Distance]), ("POST", &[Distance])]),
    ("/m/compare", &[("POST", &[Match])]),
    ("/m/index/status", &[("GET", &[Match])]),
    ("/ui/query", &[("POST", &[Curate])]),
    ("/ui/query_url", &[("POST", &[Curate])]),
    ("/ui/query_hash", &[("POST", &[Curate])]),
    // Banks.
    ("/api/v1/banks", &[("GET", &[Match]), ("POST", &[Curate])]),
    ("/api/v1/banks/{name}", &[("GET", &[Match]), ("PUT", &[Curate]), ("DELETE", &[Curate])]),
    ("/api/v1/banks/{name}/history", &[("GET", &[Curate])]),
    ("/api/v1/banks/{name}/contents", &[("GET", &[Curate]), ("POST", &[Curate])]),
    ("/api/v1/banks/{name}/contents/{content}", &[("DELETE", &[Curate])]),
    ("/api/v1/banks/{name}/import", &[("POST", &[Curate])]),
    ("/api/v1/banks/{name}/export", &[("GET", &[Curate])]),
    ("/api/v1/contents/{id}", &[("GET", &[Curate])]),
    ("/api/v1/contents/{id}/history", &[("GET", &[Curate])]),
    ("/c/banks", &[("GET", &[Match]), ("POST", &[Curate])]),
    ("/c/bank/{name}", &[("GET", &[Match]), ("PUT", &[Curate]), ("DELETE", &[Curate])]),
    ("/c/bank/{name}/signal", &[("POST", &[Curate])]),
    ("/c/bank/{name}/content", &[("POST", &[Curate])]),
    ("/c/bank/{name}/content/{id}", &[("GET", &[Curate]), ("PUT", &[Curate]), ("DELETE", &[Curate])]),
    ("/c/exchanges", &[("GET", &[Curate]), ("POST", &[Curate])]),
    ("/c/exchanges/apis", &[("GET", &[Curate])]),
    ("/c/exchanges/api/{name}", &[("GET", &[Curate]), ("POST", &[Curate])]),
    ("/c/exchanges/api/{name}/schema", &[("GET", &[Curate])]),
    ("/c/exchange/{name}", &[("GET", &[Curate]), ("PUT", &[Curate]), ("DELETE", &[Curate])]),
    ("/c/exchange/{name}/status", &[("GET", &[Curate])]),
    ("/c/content_type", &[("GET", &[Match])]),
    ("/c/signal_type", &[("GET", &[Match])]),
    ("/c/signal_type/{name}", &[("PUT", &[Curate])]),
    ("/c/signal_type/index", &[("GET", &[Match])]),
    ("/ui/bank/{name}/content/find", &[("POST", &[Curate])]),
    ("/ui/create_bank", &[("POST", &[Curate])]),
    ("/dev/factory_reset", &[("POST", &[Admin])]),
    ("/dev/run_fetch", &[("POST", &[Admin])]),
    ("/dev/seed_banks", &[("POST", &[Admin])]),
    ("/dev/setup_sample_example", &[("POST", &[Admin])]),
    // What platforms send.
    ("/api/v1/items/async/", &[("POST", &[Items])]),
    ("/api/v1/items/async", &[("POST", &[Items])]),
    ("/api/v1/report", &[("POST", &[Items])]),
    ("/api/v1/s3/events", &[("POST", &[Items])]),
    // Cases of every kind together.
    ("/api/v1/hits", &[("GET", &[ChildSafety])]),
    ("/api/v1/hits/{position}", &[("GET", &[ChildSafety])]),
    ("/api/v1/recent", &[("GET", &[ChildSafety])]),
    ("/api/v1/contents/{id}/recent", &[("GET", &[ChildSafety])]),
    ("/api/v1/items", &[("GET", &[ChildSafety])]),
    ("/api/v1/users/items", &[("GET", &[ChildSafety])]),
    ("/api/v1/reports/{id}", &[("GET", &[ChildSafety])]),
    ("/api/v1/intake", &[("GET", &[ChildSafety])]),
    ("/api/v1/intake/{number}", &[("POST", &[ChildSafety])]),
    ("/api/v1/deliveries", &[("GET", &[ChildSafety])]),
    ("/api/v1/evaluations", &[("GET", &[ChildSafety])]),
    ("/api/v1/census", &[("GET", &[ChildSafety])]),
    ("/api/v1/filings", &[("GET", &[ChildSafety, Report])]),
    ("/api/v1/cybertips", &[("GET", &[ChildSafety, Report])]),
    ("/api/v1/cybertips/export", &[("GET", &[ChildSafety, Report])]),
    ("/api/v1/cybertips/{job}", &[("GET", &[ChildSafety, Report]), ("POST", &[ChildSafety, Report])]),
    ("/api/v1/cybertips/{job}/records", &[("GET", &[ChildSafety, Report])]),
    ("/api/v1/alarms/{number}/acknowledge", &[("POST", &[Report])]),
    // Reviewing: what is seen of it is the caller's sight.
    ("/api/v1/queues", &[("GET", &[Review])]),
    ("/api/v1/queues/{name}", &[("GET", &[Review]), ("PUT", &[Configure]), ("DELETE", &[Configure])]),
    ("/api/v1/queues/{name}/next", &[("POST", &[Review])]),
    ("/api/v1/jobs/{id}", &[("GET", &[Review]), ("DELETE", &[Admin, ChildSafety])]),
    ("/api/v1/jobs/{id}/hold", &[("PUT", &[Review, ChildSafety]), ("DELETE", &[Configure, ChildSafety])]),
    ("/api/v1/jobs/{id}/media", &[("GET", &[Review])]),
    ("/api/v1/jobs/{id}/media/{number}/content", &[("GET", &[Review])]),
    ("/api/v1/jobs/{id}/media/{number}/unblur", &[("POST", &[Review])]),
    ("/api/v1/jobs/{id}/hits", &[("GET", &[Review])]),
    ("/api/v1/jobs/{id}/comments", &[("GET", &[Review]), ("POST", &[Review])]),
    ("/api/v1/jobs/{id}/extend", &[("POST", &[Review])]),
    ("/api/v1/jobs/{id}/release", &[("POST", &[Review])]),
    ("/api/v1/jobs/{id}/skip", &[("POST", &[Review])]),
    ("/api/v1/jobs/{id}/move", &[("POST", &[Review])]),
    ("/api/v1/jobs/{id}/priority", &[("POST", &[Review])]),
    ("/api/v1/jobs/{id}/ncmec", &[("POST", &[Review, ChildSafety])]),
    ("/api/v1/jobs/{id}/decision", &[("POST", &[Review])]),
    // What operators set.
    ("/api/v1/item-types", &[("GET", &[Configure])]),
    ("/api/v1/item-types/{id}", &[("GET", &[Configure]), ("PUT", &[Configure]), ("DELETE", &[Configure])]),
    ("/api/v1/rules", &[("GET", &[Configure])]),
    ("/api/v1/rules/replay", &[("POST", &[Configure, ChildSafety])]),
    ("/api/v1/rules/{name}", &[("GET", &[Configure]), ("PUT", &[Configure]), ("DELETE", &[Configure])]),
    ("/api/v1/rules/{name}/versions", &[("GET", &[Configure])]),
    ("/api/v1/rule-tables/{version}", &[("GET", &[Configure])]),
    ("/api/v1/webhooks", &[("GET", &[Configure])]),
    ("/api/v1/webhooks/{name}", &[("PUT", &[Configure]), ("DELETE", &[Configure])]),
    ("/api/v1/organisations", &[("GET", &[Configure])]),
    ("/api/v1/organisations/{name}", &[("GET", &[Configure]), ("PUT", &[Configure])]),
    ("/api/v1/organisations/{name}/credentials", &[("PUT", &[Configure]), ("DELETE", &[Configure])]),
    ("/api/v1/settings", &[("GET", &[Configure]), ("PUT", &[Configure])]),
    ("/api/v1/settings/trusted-banks", &[("PUT", &[Admin])]),
    // Who may call.
    ("/api/v1/people", &[("GET", &[Admin]), ("POST", &[Admin])]),
    ("/api/v1/people/{name}", &[("GET", &[Admin]), ("PUT", &[Admin])]),
    ("/api/v1/keys", &[("GET", &[Admin]), ("POST", &[Admin])]),
    ("/api/v1/keys/{number}", &[("GET", &[Admin]), ("PUT", &[Admin]), ("DELETE", &[Admin])]),
    ("/api/v1/keys/{number}/rotate", &[("POST", &[Admin])]),
    ("/api/v1/keys/{number}/thaw", &[("POST", &[Admin])]),
    ("/api/v1/honeytokens", &[("GET", &[Admin]), ("POST", &[Admin])]),
    ("/api/v1/audit", &[("GET", &[Audit])]),
    ("/api/v1/audit/head", &[("GET", &[Audit])]),
    ("/api/v1/audit/proof", &[("GET", &[Audit])]),
];

/// What a tenant's key may call, of what its scopes open: what asks for the banks through
/// [`banks_of`](super::Loaded::banks_of), or knows none. Everything else is everybody's together, and the operator's.
const TENANTS: [&str; 23] = [
    "/api/v1/lookup",
    "/api/v1/match",
    "/api/v1/hash",
    "/h/hash",
    "/m/raw_lookup",
    "/m/lookup",
    "/m/compare",
    "/api/v1/banks",
    "/api/v1/banks/{name}",
    "/api/v1/banks/{name}/history",
    "/api/v1/banks/{name}/contents",
    "/api/v1/banks/{name}/contents/{content}",
    "/api/v1/banks/{name}/import",
    "/api/v1/banks/{name}/export",
    "/c/banks",
    "/c/bank/{name}",
    "/c/bank/{name}/signal",
    "/c/bank/{name}/content",
    "/c/bank/{name}/content/{id}",
    "/c/content_type",
    "/api/v1/items/async/",
    "/api/v1/items/async",
    "/api/v1/report",
];

fn needs(path: &str, method: &Method) -> Option<&'static [Right]> {
    static BY_PATH: OnceLock<HashMap<&'static str, Methods>> = OnceLock::new();
    let by_path = BY_PATH.get_or_init(|| TABLE.iter().copied().collect());
    let name = if method == Method::HEAD { "GET" } else { method.as_str() };
    by_path.get(path)?.iter().find(|(method, _)| *method == name).map(|(_, rights)| *rights)
}

/// Lets a request through whose caller has the rights its route needs.
pub async fn check(
    State(admin): State<Arc<AdminPort>>,
    Extension(caller): Extension<Caller>,
    path: MatchedPath,
    mut request: Request,
    next: Next,
) -> Response {
    match needs(path.as_str(), request.method()) {
        Some(rights) => match refusal(&caller, path.as_str(), rights) {
            None if is_recorded_around(request.method(), path.as_str(), rights) => {
                let done = match admin.loaded() {
                    Ok(loaded) => recorded(loaded, &caller, request, next).await,
                    Err(loading) => Err(loading),
                };
                done.unwrap_or_else(IntoResponse::into_response)
            }
            None => next.run(request).await,
            Some(refusal) if guard::is_coops(path.as_str()) => Errors::from(refusal).into_response(),
            Some(refusal) => refusal.into_response(),
        },
        // No handler takes this method: the router's own answer says which it does take.
        None => {
            let asked = Asked(std::mem::replace(request.method_mut(), Method::TRACE));
            request.extensions_mut().insert(asked);
            next.run(request).await
        }
    }
}

/// The method of a request that no listed route has.
#[derive(Clone, Debug)]
pub struct Asked(pub Method);

fn refusal(caller: &Caller, path: &str, rights: &[Right]) -> Option<Refusal> {
    if rights.iter().any(|right| matches!(right, Match | Distance))
        && let Some(why) = caller.frozen()
    {
        return Some(Refusal::new(
            StatusCode::FORBIDDEN,
            format!("this key is frozen ({why}): ask an admin"),
        ));
    }
    if caller.tenant.is_some() && !rights.is_empty() && !TENANTS.contains(&path) {
        let why = "a tenant's key does not open what is everybody's together: ask the operator";
        return Some(Refusal::new(StatusCode::FORBIDDEN, why));
    }
    let missing = rights.iter().find(|right| !caller.rights.has(**right))?;
    let what = match caller.who {
        Who::Person(_) => "your role does not allow this",
        _ => "this key does not allow this",
    };
    Some(Refusal::new(StatusCode::FORBIDDEN, format!("{what}: it needs the right '{}'", missing.name())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reporter::access::Rights;

    use crate::defence::{Alarms, Allowance, KeyNumber, Limits, Warden};

    #[test]
    fn every_right_opens_something_and_what_is_not_listed_is_shut() {
        for right in Right::ALL {
            let opens =
                |(_, methods): &(&str, Methods)| methods.iter().any(|(_, rights)| rights.contains(&right));
            assert!(TABLE.iter().any(opens), "{right:?}");
        }
        let mut paths: Vec<&str> = TABLE.iter().map(|(path, _)| *path).collect();
        paths.sort_unstable();
        assert!(paths.windows(2).all(|two| two[0] != two[1]), "a path is listed twice");
        assert_eq!(needs("/api/v1/banks", &Method::HEAD), needs("/api/v1/banks", &Method::GET));
        assert_eq!(needs("/api/v1/banks", &Method::PATCH), None);
        assert_eq!(needs("/api/v2/banks", &Method::GET), None);
    }

    #[test]
    fn a_frozen_key_asks_nothing_and_may_still_send() {
        let (key, limits) = (KeyNumber(1), Limits::default());
        let warden = Arc::new(Warden::new(key, Allowance::default(), limits, Alarms::new(1).0));
        let mut caller = Caller::new(Who::Token, Rights::of(&[Match, Items]));
        caller.warden = Some(warden.clone());
        assert!(refusal(&caller, "", &[Match]).is_none() && refusal(&caller, "", &[Curate]).is_some());
        warden.freeze("a walk");
        assert!(refusal(&caller, "", &[Match]).is_some() && refusal(&caller, "", &[Items]).is_none());
    }
}
