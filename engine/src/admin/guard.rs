//! Who may call the admin port at all.
//!
//! A page in the operator's browser can reach loopback. Two checks stop it: the Host header must be a name
//! we know or an IP literal (DNS rebinding needs a name of the attacker's), and a request that a foreign
//! page sends carries its Origin. With a token set, everything but `/healthz` needs it as well. HMA's clients cannot
//! send one: `--hma-allow` names the addresses that may call HMA's routes, and those alone, without.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ipnet::IpNet;
use subtle::ConstantTimeEq;

use super::Refusal;
use crate::config::Config;

/// Whether a path is one that Coop's clients call.
pub fn is_coops(path: &str) -> bool {
    COOPS.contains(&path)
}

/// Why a request is refused; `None` if it may go on.
pub fn refuse(config: &Config, request: &Request, peer: IpAddr) -> Option<Refusal> {
    let rules = Rules {
        known: config.admin_host.as_deref(),
        token: config.token.as_ref().map(|token| token.reveal()),
        hma_allow: &config.hma_allow.0,
    };
    rules.refuse(request.headers(), request.uri(), peer)
}

/// The route that S3's events come to.
const EVENTS: &str = "/api/v1/s3/events";

/// The routes that Coop's clients call.
const COOPS: [&str; 3] = ["/api/v1/items/async/", "/api/v1/items/async", "/api/v1/report"];

/// Who may call.
struct Rules<'a> {
    known: Option<&'a str>,
    token: Option<&'a str>,
    hma_allow: &'a [IpNet],
}

/// Whether a path is one that HMA's clients call.
fn is_hmas(path: &str) -> bool {
    ["/h/", "/m/", "/c/"].iter().any(|group| path.starts_with(group))
        || ["/status", "/status/live", "/site-map"].contains(&path)
}

impl Rules<'_> {
    fn refuse(&self, headers: &HeaderMap, uri: &Uri, peer: IpAddr) -> Option<Refusal> {
        let (known, token) = (self.known, self.token);
        let listed = is_hmas(uri.path()) && self.hma_allow.iter().any(|range| range.contains(&peer));
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"));
        let host = text(header::HOST).or(uri.authority().map(|authority| authority.as_str()));
        // Servers on the list call us by whatever name their network gives us; browsers are not on it, and say so.
        let by_any_name = listed && !headers.contains_key(header::ORIGIN);
        if !by_any_name && !host.is_some_and(|host| may_name_us(host, known)) {
            return Some(Refusal::new(
                StatusCode::MISDIRECTED_REQUEST,
                "the Host header names another server: call an IP address, localhost, or the --admin-host name",
            ));
        }
        if let Some(origin) = text(header::ORIGIN) {
            let from = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            if !from.is_some_and(|from| may_name_us(from, known)) {
                return Some(Refusal::new(
                    StatusCode::FORBIDDEN,
                    "a page of another origin may not call the admin port",
                ));
            }
        }
        if listed || uri.path() == "/healthz" {
            return None;
        }
        if token.is_none() && !peer.is_loopback() {
            return Some(Refusal::new(
                StatusCode::FORBIDDEN,
                "without a token only --hma-allow's addresses may call, and HMA's routes only",
            ));
        }
        if let Some(token) = token {
            let given = text(header::AUTHORIZATION).unwrap_or("");
            let coops = COOPS
                .contains(&uri.path())
                .then(|| text(header::HeaderName::from_static("x-api-key")))
                .flatten();
            let given = match given.strip_prefix("Basic ") {
                // Coop's clients have a header of their own for it.
                _ if coops.is_some() => coops.unwrap_or_default().as_bytes().to_vec(),
                // SNS knows no other way: the token is the password, whoever the user.
                Some(basic) if uri.path() == EVENTS => password(basic).unwrap_or_default(),
                _ => given.strip_prefix("Bearer ").unwrap_or("").as_bytes().to_vec(),
            };
            if !bool::from(given.ct_eq(token.as_bytes())) {
                return Some(Refusal::new(
                    StatusCode::UNAUTHORIZED,
                    "send the server's token as 'Authorization: Bearer …'",
                ));
            }
        }
        None
    }
}

/// The password of a Basic authorisation, which is `user:password` in Base64.
fn password(basic: &str) -> Option<Vec<u8>> {
    let given = BASE64_STANDARD.decode(basic.trim()).ok()?;
    let colon = given.iter().position(|byte| *byte == b':')?;
    Some(given[colon + 1..].to_vec())
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
    use super::*;
    use axum::response::IntoResponse;

    fn refusal(headers: &[(&str, &str)], path: &str, token: Option<&str>) -> Option<u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(header::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let rules =
            Rules { known: Some("match.example"), token, hma_allow: &["10.1.0.0/16".parse().unwrap()] };
        let peer = headers.iter().find(|(name, _)| *name == "peer").map_or("127.0.0.1", |(_, peer)| *peer);
        let refusal = rules.refuse(&map, &path.parse().unwrap(), peer.parse().unwrap())?;
        Some(refusal.into_response().status().as_u16())
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
}
