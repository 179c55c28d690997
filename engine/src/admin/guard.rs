//! Who may call the admin port at all.
//!
//! A page in the operator's browser can reach loopback. Two checks stop it: the Host header must be a name
//! we know or an IP literal (DNS rebinding needs a name of the attacker's), and a request that a foreign
//! page sends carries its Origin. With a token set, everything but `/healthz` needs it as well.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::{Admin, Refusal};

/// The middleware around every route.
pub async fn check(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let known = admin.config.admin_host.as_deref();
    match refuse(
        request.headers(),
        request.uri(),
        known,
        admin.config.token.as_ref().map(|token| token.reveal()),
    ) {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    }
}

fn refuse(headers: &HeaderMap, uri: &Uri, known: Option<&str>, token: Option<&str>) -> Option<Refusal> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"));
    let host = text(header::HOST).or(uri.authority().map(|authority| authority.as_str()));
    if !host.is_some_and(|host| may_name_us(host, known)) {
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
    if let Some(token) = token
        && uri.path() != "/healthz"
    {
        let given = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")).unwrap_or("");
        if !bool::from(given.as_bytes().ct_eq(token.as_bytes())) {
            return Some(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "send the server's token as 'Authorization: Bearer …'",
            ));
        }
    }
    None
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

    fn refusal(headers: &[(&str, &str)], path: &str, token: Option<&str>) -> Option<u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(header::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let refusal = refuse(&map, &path.parse().unwrap(), Some("match.example"), token)?;
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
    fn with_a_token_only_healthz_goes_without() {
        let (host, token) = (("host", "localhost"), Some("0123456789abcdef0123456789abcdef"));
        assert_eq!(refusal(&[host], "/metrics", token), Some(401));
        assert_eq!(refusal(&[host], "/healthz", token), None);
        assert_eq!(
            refusal(&[host, ("authorization", "Bearer 0123456789abcdef")], "/metrics", token),
            Some(401)
        );
        let right = ("authorization", "Bearer 0123456789abcdef0123456789abcdef");
        assert_eq!(refusal(&[host, right], "/metrics", token), None);
    }
}
