//! What may be fetched, and which addresses are reached for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use reqwest::Url;

use super::FetchError;

/// What may be fetched.
#[derive(Clone, Debug)]
pub struct FetchPolicy {
    /// Bytes of one answer.
    pub bytes_max: usize,
    /// From the request to the last byte; of a stream to the next byte.
    pub timeout: Duration,
    /// Redirects followed.
    pub redirects_max: usize,
    /// Hosts whose URLs are taken, with their subdomains; empty takes any.
    pub hosts: Vec<String>,
    /// Ranges that are reached although they are not public, by http or https and at any port.
    pub allow: Vec<IpNet>,
    /// Public hosts are asked by plain http, too: what comes so may be anybody's.
    pub http: bool,
    /// Ports at which public hosts are asked, beside the scheme's own.
    pub ports: Vec<u16>,
}

impl Default for FetchPolicy {
    fn default() -> Self {
        Self {
            bytes_max: 100 << 20,
            timeout: Duration::from_secs(30),
            redirects_max: 3,
            hosts: Vec::new(),
            allow: Vec::new(),
            http: false,
            ports: Vec::new(),
        }
    }
}

impl FetchPolicy {
    /// Whether a URL is taken, as far as can be said before its name is resolved.
    pub(super) fn admits(&self, url: &Url) -> Result<(), FetchError> {
        let plain =
            matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
        let host = url.host_str().filter(|_| plain).ok_or(FetchError::Url)?;
        let listed = |name: &String| {
            host.eq_ignore_ascii_case(name)
                || host.len() > name.len()
                    && host.to_ascii_lowercase().ends_with(&format!(".{}", name.to_ascii_lowercase()))
        };
        if !self.hosts.is_empty() && !self.hosts.iter().any(listed) {
            return Err(FetchError::Url);
        }
        // An address needs no resolving, so nobody else looks at it.
        match address_of(url) {
            Some(address) if self.reaches(address, self.is_usual(url)) => Ok(()),
            Some(address) if is_public(address) => Err(FetchError::Unusual { host: host.to_string() }),
            Some(_) => Err(FetchError::Private { host: host.to_string() }),
            None => Ok(()),
        }
    }

    /// Whether it is a URL that public hosts may have. All others are for those that are allowed by name.
    pub(super) fn is_usual(&self, url: &Url) -> bool {
        let port = url.port().is_none_or(|port| self.ports.contains(&port));
        port && (url.scheme() == "https" || self.http)
    }

    /// Whether one that was asked for a usual URL, or another, may send on to this one. Names are resolved for the kind that
    /// was asked for first, so with a name of the other kind it is not gone on.
    pub(super) fn follows(&self, usual: bool, url: &Url) -> Result<(), FetchError> {
        self.admits(url)?;
        match url.host_str() {
            Some(host) if usual && !self.is_usual(url) && address_of(url).is_none() => {
                Err(FetchError::Unusual { host: host.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// Whether this address is reached: for a usual URL, or for another.
    pub(super) fn reaches(&self, address: IpAddr, usual: bool) -> bool {
        let address = embedded(address);
        usual && is_public(address) || self.allow.iter().any(|range| range.contains(&address))
    }
}

/// The address in a URL that has one in place of a name.
fn address_of(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_matches(['[', ']']).parse().ok()
}

/// The IPv4 address that an IPv6 address stands for, where it does: mapped, NAT64, 6to4.
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return v4.into();
    }
    let quad = |high: u16, low: u16| {
        IpAddr::from(Ipv4Addr::new((high >> 8) as u8, high as u8, (low >> 8) as u8, low as u8))
    };
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => quad(high, low),
        _ => address,
    }
}

/// Whether an address is one of the public Internet (IANA's special-purpose registries).
pub(super) fn is_public(address: IpAddr) -> bool {
    match embedded(address) {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_broadcast()
                || v4.is_documentation()
                || v4.is_multicast()
                || a == 0
                || a >= 240
                || (a, b) == (100, b & 0x3f | 64)
                || (a, b, c) == (192, 0, 0)
                || (a, b & 0xfe) == (198, 18))
        }
        IpAddr::V6(v6) => {
            let [a, b, ..] = v6.segments();
            // Global unicast is 2000::/3; in it Teredo and the like, and documentation.
            a & 0xe000 == 0x2000
                && !(a == 0x2001 && (b < 0x200 || b == 0xdb8))
                && a != 0x3fff
                && v6 != Ipv6Addr::UNSPECIFIED
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        for public in
            ["8.8.8.8", "100.63.255.255", "100.128.0.1", "172.32.0.1", "2606:4700::1", "2002:808:808::1"]
        {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for private in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.8",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
    }

    fn says(policy: &FetchPolicy, url: &str) -> Result<(), FetchError> {
        policy.admits(&Url::parse(url).unwrap())
    }

    #[test]
    fn what_is_taken_before_a_name_is_resolved() {
        let policy = FetchPolicy { allow: vec!["10.1.0.0/16".parse().unwrap()], ..FetchPolicy::default() };
        let listed = FetchPolicy { hosts: vec!["cdn.example".into()], ..FetchPolicy::default() };
        assert!(says(&policy, "https://example.com/a").is_ok());
        assert!(says(&policy, "http://10.1.2.3/a").is_ok() && says(&policy, "https://10.1.2.3:81/a").is_ok());
        for bad in ["http://10.2.0.1/", "http://127.1/", "http://0x7f000001/", "http://[::ffff:10.2.0.1]/"] {
            assert!(matches!(says(&policy, bad), Err(FetchError::Private { .. })), "{bad}");
        }
        for bad in [
            "file:///etc/passwd",
            "ftp://example.com/",
            "data:text/plain,a",
            "https://user@example.com/",
            "https://:word@example.com/",
            "https://example.com@10.1.2.3/",
        ] {
            assert!(matches!(says(&policy, bad), Err(FetchError::Url)), "{bad}");
        }
        assert!(
            says(&listed, "https://cdn.example/a").is_ok() && says(&listed, "https://a.CDN.example/").is_ok()
        );
        assert!(
            says(&listed, "https://evilcdn.example/").is_err()
                && says(&listed, "https://cdn.example.org/").is_err()
        );
    }

    #[test]
    fn public_hosts_are_asked_by_https_at_the_usual_port_unless_more_is_set() {
        let strict = FetchPolicy::default();
        let plain = FetchPolicy { http: true, ..FetchPolicy::default() };
        let ports = FetchPolicy { ports: vec![8443], ..FetchPolicy::default() };
        for (url, by) in [
            ("https://8.8.8.8/", [true, true, true]),
            ("https://8.8.8.8:443/", [true, true, true]),
            ("http://8.8.8.8/", [false, true, false]),
            ("http://8.8.8.8:80/", [false, true, false]),
            ("https://8.8.8.8:8443/", [false, false, true]),
            ("https://8.8.8.8:80/", [false, false, false]),
            ("https://8.8.8.8:22/", [false, false, false]),
            ("http://8.8.8.8:8443/", [false, false, false]),
            ("http://[2606:4700::1]/", [false, true, false]),
        ] {
            let taken = [&strict, &plain, &ports].map(|policy| says(policy, url));
            assert_eq!(taken.each_ref().map(Result::is_ok), by, "{url}");
            for refused in taken.into_iter().filter_map(Result::err) {
                assert!(matches!(refused, FetchError::Unusual { .. }), "{url}: {refused}");
            }
        }
        // Of a name it is known when it is resolved: then others than the public ones are reached alone.
        let usual = |url: &str| strict.is_usual(&Url::parse(url).unwrap());
        assert!(usual("https://example.com/") && !usual("http://example.com/"));
        let public = "8.8.8.8".parse().unwrap();
        assert!(strict.reaches(public, true) && !strict.reaches(public, false));
    }
}
