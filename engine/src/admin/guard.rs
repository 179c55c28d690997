//! Who may call the admin port at all, and who they are.
//!
//! A page in the operator's browser can reach loopback. Two checks stop it: the Host header must be a name
//! we know or an IP literal (DNS rebinding needs a name of the attacker's), and a request that a foreign
//! page sends carries its Origin. A change by a person's session carries a word that only our own page was told. HMA's
//! clients can show nothing: `--hma-allow` names the addresses that may call HMA's routes, and those alone, without.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ipnet::IpNet;
use reporter::access::Rights;
use subtle::ConstantTimeEq;

use super::{Refusal, page};
use crate::access::{Caller, Door, LISTED, Who, is_key};
use crate::config::Config;

/// The cookie with a person's session.
pub const SESSION_COOKIE: &str = "hashward_session";
/// The header with the word that only our own page was told.
const CSRF_HEADER: HeaderName = HeaderName::from_static("x-csrf-token");

/// Whether a path is one that Coop's clients call.
pub fn is_coops(path: &str) -> bool {
    COOPS.contains(&path)
}

/// Who calls, or why they may not.
pub fn identify(config: &Config, door: &Door, request: &Request, peer: IpAddr) -> Result<Caller, Refusal> {
    let rules = Rules { known: config.admin_host.as_deref(), door, hma_allow: &config.hma_allow.0 };
    rules.identify(request.method(), request.headers(), request.uri(), peer)
}

/// The route that S3's events come to.
const EVENTS: &str = "/api/v1/s3/events";

/// The routes that Coop's clients call.
const COOPS: [&str; 3] = ["/api/v1/items/async/", "/api/v1/items/async", "/api/v1/report"];

/// What everybody may call beside the page's files: whether the program lives, and to say who they are.
const EVERYBODYS: [&str; 2] = ["/healthz", "/api/v1/login"];

/// Who may call.
struct Rules<'a> {
    known: Option<&'a str>,
    door: &'a Door,
    hma_allow: &'a [IpNet],
}

/// Whether a path is one that HMA's clients call.
fn is_hmas(path: &str) -> bool {
    ["/h/", "/m/", "/c/"].iter().any(|group| path.starts_with(group))
        || ["/status", "/status/live", "/site-map"].contains(&path)
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"))
}

impl Rules<'_> {
    fn identify(
        &self,
        method: &Method,
        headers: &HeaderMap,
        uri: &Uri,
        peer: IpAddr,
    ) -> Result<Caller, Refusal> {
        let listed = is_hmas(uri.path()) && self.hma_allow.iter().any(|range| range.contains(&peer));
        self.check_page(headers, uri, listed)?;
        if listed {
            // Whoever shows more than an address is whom that says: a tenant sees its own banks, an administrator may more.
            let given = shown(headers, uri.path());
            return match given.as_ref().and_then(|given| self.door.bearer(given)) {
                Some(caller) => Ok(caller),
                None if given.is_some_and(|given| is_key(&given)) => Err(unknown()),
                None => Ok(Caller::new(Who::Listed(peer), LISTED)),
            };
        }
        if EVERYBODYS.contains(&uri.path()) || page::is_file(uri.path()) {
            return Ok(Caller::new(Who::Nobody, Rights::default()));
        }
        if let Some(given) = shown(headers, uri.path()) {
            match self.door.bearer(&given) {
                Some(caller) => return Ok(caller),
                // Whoever shows a token where none is asked for is not worse off than who shows none.
                None if self.door.is_open() && !is_key(&given) => {}
                None => return Err(unknown()),
            }
        }
        if let Some(token) = cookie(headers) {
            let (caller, csrf) = self.door.session(token).ok_or_else(unknown)?;
            let told = text(headers, &CSRF_HEADER).unwrap_or_default();
            let reads = [Method::GET, Method::HEAD].contains(method);
            if !reads && !bool::from(told.as_bytes().ct_eq(csrf.as_bytes())) {
                return Err(Refusal::new(
                    StatusCode::FORBIDDEN,
                    "a change by a session needs the header 'X-CSRF-Token' with what the login, or GET /api/v1/session, gave",
                ));
            }
            return Ok(caller);
        }
        if !self.door.is_open() {
            return Err(unknown());
        }
        if !peer.is_loopback() {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "without a token only --hma-allow's addresses may call, and HMA's routes only",
            ));
        }
        Ok(Caller::new(Who::Setup, Rights::ALL))
    }

    /// Refuses what a page of somebody else's may have sent.
    fn check_page(&self, headers: &HeaderMap, uri: &Uri, listed: bool) -> Result<(), Refusal> {
        if headers.get_all(header::HOST).iter().count() > 1 {
            return Err(Refusal::bad("more than one Host header"));
        }
        let host = text(headers, &header::HOST).or(uri.authority().map(|authority| authority.as_str()));
        // Servers on the list call us by whatever name their network gives us; browsers are not on it, and say so.
        let by_any_name = listed && !headers.contains_key(header::ORIGIN);
        if !by_any_name && !host.is_some_and(|host| may_name_us(host, self.known)) {
            return Err(Refusal::new(
                StatusCode::MISDIRECTED_REQUEST,
                "the Host header names another server: call an IP address, localhost, or the --admin-host name",
            ));
        }
        if let Some(origin) = text(headers, &header::ORIGIN) {
            let from = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            if !from.is_some_and(|from| may_name_us(from, self.known)) {
                return Err(Refusal::new(
                    StatusCode::FORBIDDEN,
                    "a page of another origin may not call the admin port",
                ));
            }
        }
        Ok(())
    }
}

fn unknown() -> Refusal {
    Refusal::new(
        StatusCode::UNAUTHORIZED,
        "send the server's token or a key as 'Authorization: Bearer …', or log in",
    )
}

/// The token or key that a request shows.
fn shown(headers: &HeaderMap, path: &str) -> Option<String> {
    // Coop's clients have a header of their own for it.
    if COOPS.contains(&path)
        && let Some(key) = text(headers, &HeaderName::from_static("x-api-key"))
    {
        return Some(key.to_string());
    }
    let given = text(headers, &header::AUTHORIZATION)?;
    match given.strip_prefix("Basic ") {
        // SNS knows no other way: the token is the password, whoever the user.
        Some(basic) if path == EVENTS => Some(password(basic).unwrap_or_default()),
        _ => Some(given.strip_prefix("Bearer ").unwrap_or("").to_string()),
    }
}

/// The token of the session whose cookie a request carries.
pub fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut named =
        cookies.flat_map(|cookies| cookies.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    named.find_map(|(name, token)| (name == SESSION_COOKIE).then_some(token))
}

/// The password of a Basic authorisation, which is `user:password` in Base64.
fn password(basic: &str) -> Option<String> {
    let given = String::from_utf8(BASE64_STANDARD.decode(basic.trim()).ok()?).ok()?;
    given.split_once(':').map(|(_, password)| password.to_string())
}

/// Whether a `host[:port]` can be ours: localhost, the configured name, or any IP literal.
fn may_name_us(authority: &str, known: Option<&str>) -> bool {
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _port)) => v6,
        None => authority.rsplit_once(':').map_or(authority, |(host, _port)| host),
    };
    host.eq_ignore_ascii_case("localhost")
        || known.is_some_and(|known| host.eq_ignore_ascii_case(known))
        || host.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use arc_swap::ArcSwap;
    use axum::response::IntoResponse;
    use reporter::access::Directory;

    use crate::config::Secret;
    use crate::defence::Alarms;

    fn refusal(headers: &[(&str, &str)], path: &str, token: Option<&str>) -> Option<u16> {
        let nobody = Arc::new(ArcSwap::from_pointee(Directory::default()));
        refusal_by(&Door::new(token.map(Secret::new), nobody, Alarms::new(1).0), Method::GET, headers, path)
    }

    fn refusal_by(door: &Door, method: Method, headers: &[(&str, &str)], path: &str) -> Option<u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(header::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let rules =
            Rules { known: Some("match.example"), door, hma_allow: &["10.1.0.0/16".parse().unwrap()] };
        let peer = headers.iter().find(|(name, _)| *name == "peer").map_or("127.0.0.1", |(_, peer)| *peer);
        let caller = rules.identify(&method, &map, &path.parse().unwrap(), peer.parse().unwrap());
        caller.err().map(|refusal| refusal.into_response().status().as_u16())
    }

    #[test]
    fn only_names_that_cannot_be_rebound_are_ours() {
        for host in
            ["localhost:7480", "127.0.0.1", "[::1]:7480", "10.0.0.7:7480", "match.example", "MATCH.example:1"]
        {
            assert_eq!(refusal(&[("host", host)], "/metrics", None), None, "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:7480", ""] {
            assert_eq!(refusal(&[("host", host)], "/metrics", None), Some(421), "{host}");
        }
        assert_eq!(refusal(&[], "/metrics", None), Some(421));
    }

    #[test]
    fn a_foreign_page_is_refused() {
        let host = ("host", "localhost:7480");
        for origin in ["http://evil.example", "null", "https://localhost.evil.example"] {
            assert_eq!(refusal(&[host, ("origin", origin)], "/", None), Some(403), "{origin}");
        }
        assert_eq!(refusal(&[host, ("origin", "http://localhost:7480")], "/", None), None);
    }

    #[test]
    fn listed_addresses_call_hmas_routes_and_nothing_else_without_a_token() {
        let (listed, stranger) = (("peer", "10.1.2.3"), ("peer", "10.2.0.1"));
        let (host, token) = (("host", "matching:7480"), Some("0123456789abcdef0123456789abcdef"));
        for path in ["/m/lookup", "/h/hash", "/c/banks", "/status"] {
            assert_eq!(refusal(&[listed, host], path, token), None, "{path}");
            assert_eq!(refusal(&[listed, host], path, None), None, "{path}");
            assert_eq!(refusal(&[stranger, ("host", "10.0.0.7")], path, token), Some(401), "{path}");
            assert_eq!(refusal(&[stranger, ("host", "10.0.0.7")], path, None), Some(403), "{path}");
            let page = ("origin", "http://evil.example");
            assert!(refusal(&[listed, host, page], path, token).is_some(), "{path}");
        }
        for path in ["/api/v1/banks", "/metrics", "/dev/factory_reset", "/ui/create_bank", "/"] {
            assert_eq!(refusal(&[listed, ("host", "10.0.0.7")], path, token), Some(401), "{path}");
            assert_eq!(refusal(&[listed, ("host", "10.0.0.7")], path, None), Some(403), "{path}");
        }
    }

    #[test]
    fn with_a_token_only_healthz_goes_without() {
        let (host, token) = (("host", "localhost"), Some("0123456789abcdef0123456789abcdef"));
        assert_eq!(refusal(&[host], "/metrics", token), Some(401));
        assert_eq!(refusal(&[host], "/healthz", token), None);
        assert_eq!(
            refusal(&[host, ("authorization", "Bearer 0123456789abcdef")], "/metrics", token),
            Some(401)
        );
        let basic = ("authorization", "Basic c25zOjAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2Nzg5YWJjZGVm");
        assert_eq!(refusal(&[host, basic], "/api/v1/s3/events", token), None);
        assert_eq!(refusal(&[host, basic], "/api/v1/banks", token), Some(401));
        assert_eq!(
            refusal(&[host, ("authorization", "Basic c25zOjAx")], "/api/v1/s3/events", token),
            Some(401)
        );
        let right = ("authorization", "Bearer 0123456789abcdef0123456789abcdef");
        assert_eq!(refusal(&[host, right], "/metrics", token), None);
    }

    #[test]
    fn a_session_changes_nothing_without_the_word_that_only_our_page_knows() {
        let digest = reporter::access::digest("token");
        let mut directory = Directory::default();
        directory.people.insert(
            "anna".to_string(),
            reporter::access::Person {
                name: "anna".to_string(),
                display_name: String::new(),
                role: reporter::access::Role::Admin,
                password: String::new(),
                created_ms: 0,
                disabled: false,
            },
        );
        let session = reporter::access::Session {
            digest,
            person: "anna".to_string(),
            since_ms: 0,
            until_ms: u64::MAX,
            csrf: "word".to_string(),
        };
        directory.sessions.insert(digest, session);
        let door = Door::new(None, Arc::new(ArcSwap::from_pointee(directory)), Alarms::new(1).0);
        let with = |method: Method, more: &[(&str, &str)]| {
            let headers =
                [&[("host", "localhost"), ("cookie", "a=b; hashward_session=token")][..], more].concat();
            refusal_by(&door, method, &headers, "/api/v1/banks")
        };
        assert_eq!(with(Method::GET, &[]), None);
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            assert_eq!(with(method.clone(), &[]), Some(403));
            assert_eq!(with(method.clone(), &[("x-csrf-token", "wore")]), Some(403));
            assert_eq!(with(method, &[("x-csrf-token", "word")]), None);
        }
        let other = [("host", "localhost"), ("cookie", "hashward_session=tokem")];
        assert_eq!(refusal_by(&door, Method::GET, &other, "/api/v1/banks"), Some(401));
        assert_eq!(refusal_by(&door, Method::GET, &[("host", "localhost")], "/api/v1/banks"), Some(401));
        assert_eq!(refusal_by(&door, Method::POST, &[("host", "localhost")], "/api/v1/login"), None);
    }
}
