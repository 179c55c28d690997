//! Fetching what a URL names, without becoming somebody's way into a private network.
//!
//! Who hands us a URL does not choose what we connect to: every address is checked after the name is resolved and
//! before anything is sent, at each redirect again, and no proxy of the environment is used. Bytes and time are
//! bounded. What is large comes as a stream: then what is held is one piece of it, and the time it may take grows with
//! the bytes that came.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Response, Url, redirect};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Bytes a second that a stream must bring, or it is ended: who sends a byte now and then holds no place for days.
const STREAM_RATE_MIN: u64 = 64 << 10;
/// Beyond any stream's time. Its own limits come first.
const STREAM_TIME_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

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
    /// Ranges that are reached although they are not public.
    pub allow: Vec<IpNet>,
}

impl Default for FetchPolicy {
    fn default() -> Self {
        Self {
            bytes_max: 100 << 20,
            timeout: Duration::from_secs(30),
            redirects_max: 5,
            hosts: Vec::new(),
            allow: Vec::new(),
        }
    }
}

/// What came.
#[derive(Debug)]
pub struct Fetched {
    /// The `Content-Type` header, empty if there was none.
    pub content_type: String,
    /// The body.
    pub bytes: bytes::Bytes,
    /// The room in memory it takes, given back when this is dropped.
    pub room: OwnedSemaphorePermit,
}

/// Why nothing came.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not a URL that is taken at all: wrong scheme, no host, a host that is not on the list.
    #[error("the URL is not taken: use http or https, and a host that is allowed")]
    Url,
    /// Its host lies where nobody outside may send us.
    #[error("{host} is not a public address; --fetch-allow names ranges that may be reached all the same")]
    Private {
        /// The host.
        host: String,
    },
    /// The server says no. In the words of HMA's HTTP library.
    #[error("{status} {side} Error: {reason} for url: {url}")]
    Status {
        /// The status.
        status: u16,
        /// Whose fault it is: `Client` or `Server`.
        side: &'static str,
        /// The status in words.
        reason: &'static str,
        /// The last URL, without what it carried of credentials.
        url: String,
    },
    /// More bytes than allowed.
    #[error("the answer is longer than {max} bytes")]
    TooLarge {
        /// The limit.
        max: u64,
    },
    /// It took too long.
    #[error("no whole answer came within {seconds} s")]
    Timeout {
        /// The limit.
        seconds: u64,
    },
    /// It brings too few bytes for the time it takes.
    #[error("it came too slowly: less than {rate} bytes a second")]
    Slow {
        /// The limit.
        rate: u64,
    },
    /// No connection, or it broke.
    #[error("{reason}")]
    Broken {
        /// What happened.
        reason: String,
    },
}

/// Fetches URLs.
#[derive(Clone, Debug)]
pub struct Fetcher {
    client: Client,
    policy: Arc<FetchPolicy>,
    room_mib: Arc<Semaphore>,
}

impl Fetcher {
    /// A fetcher that keeps to this policy. What it holds takes its MiB of `room_mib`, which others may share; without
    /// room an answer waits before its body is read.
    pub fn new(policy: FetchPolicy, room_mib: Arc<Semaphore>) -> Result<Self, FetchError> {
        choose_cryptography();
        let policy = Arc::new(policy);
        let checked = policy.clone();
        let redirects = redirect::Policy::custom(move |attempt| {
            if attempt.previous().len() > checked.redirects_max {
                let text = format!("more than {} redirects", checked.redirects_max);
                return attempt.error(text);
            }
            match checked.admits(attempt.url()) {
                Ok(()) => attempt.follow(),
                Err(error) => attempt.error(error),
            }
        });
        let client = Client::builder()
            .user_agent(concat!("hashward/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(redirects)
            .referer(false)
            .connect_timeout(Duration::from_secs(10))
            .dns_resolver(Arc::new(PublicOnly(policy.clone())))
            .build()
            .map_err(|error| FetchError::Broken { reason: error.to_string() })?;
        Ok(Self { client, policy, room_mib })
    }

    /// Fetches one URL.
    pub async fn fetch(&self, url: &str) -> Result<Fetched, FetchError> {
        let max = self.policy.bytes_max;
        let mut response = self.open(url, max as u64, self.policy.timeout).await?;
        let length = response.content_length().map_or(max, |length| length as usize);
        let room = self.room_mib.clone().acquire_many_owned((length >> 20) as u32 + 1).await;
        let room =
            room.map_err(|_| FetchError::Broken { reason: "the server is shutting down".to_string() })?;
        let content_type = content_type(&response);
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.fault(&error))? {
            // No more than was announced: room was taken for that.
            if bytes.len() + chunk.len() > max.min(length) {
                return Err(FetchError::TooLarge { max: max as u64 });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Fetched { content_type, bytes: bytes.into(), room })
    }

    /// Begins to fetch one URL, whose answer is read piece by piece, up to so many bytes. It takes no room of others.
    pub async fn stream(&self, url: &str, bytes_max: u64) -> Result<Streamed, FetchError> {
        let opening = timeout(self.policy.timeout, self.open(url, bytes_max, STREAM_TIME_MAX));
        let response = opening.await.map_err(|_| self.too_late())??;
        let content_type = content_type(&response);
        let fetcher = self.clone();
        Ok(Streamed { content_type, response, fetcher, bytes_max, bytes: 0, waited: Duration::ZERO })
    }

    /// Asks for a URL; an answer that says no, or is longer than this, is none.
    async fn open(&self, url: &str, bytes_max: u64, time_max: Duration) -> Result<Response, FetchError> {
        let url = Url::parse(url).map_err(|_| FetchError::Url)?;
        self.policy.admits(&url)?;
        let asking = self.client.get(url).timeout(time_max).send();
        let response = asking.await.map_err(|error| self.fault(&error))?;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            return Err(FetchError::Status {
                status: status.as_u16(),
                side: if status.is_client_error() { "Client" } else { "Server" },
                reason: status.canonical_reason().unwrap_or("no reason"),
                url: shown(response.url()),
            });
        }
        if response.content_length().is_some_and(|length| length > bytes_max) {
            return Err(FetchError::TooLarge { max: bytes_max });
        }
        Ok(response)
    }

    fn too_late(&self) -> FetchError {
        FetchError::Timeout { seconds: self.policy.timeout.as_secs() }
    }

    fn fault(&self, error: &reqwest::Error) -> FetchError {
        // Our own refusals travel inside the client's errors.
        let mut cause: Option<&(dyn Error + 'static)> = error.source();
        let mut last = String::new();
        while let Some(inner) = cause {
            if let Some(FetchError::Private { host }) = inner.downcast_ref() {
                return FetchError::Private { host: host.clone() };
            }
            if let Some(FetchError::Url) = inner.downcast_ref() {
                return FetchError::Url;
            }
            last = inner.to_string();
            cause = inner.source();
        }
        if error.is_timeout() {
            return self.too_late();
        }
        let host = error.url().and_then(Url::host_str).unwrap_or("the host");
        FetchError::Broken {
            reason: if last.is_empty() { error.to_string() } else { format!("{host}: {last}") },
        }
    }
}

/// What comes, piece by piece.
#[derive(Debug)]
pub struct Streamed {
    /// The `Content-Type` header, empty if there was none.
    pub content_type: String,
    response: Response,
    fetcher: Fetcher,
    bytes_max: u64,
    bytes: u64,
    /// For the host; the time that its bytes were worked on is not its fault.
    waited: Duration,
}

impl Streamed {
    /// The next piece; `None` after the last one.
    pub async fn chunk(&mut self) -> Result<Option<bytes::Bytes>, FetchError> {
        let idle_max = self.fetcher.policy.timeout;
        let earned = idle_max + Duration::from_secs(self.bytes / STREAM_RATE_MIN);
        let left = earned.saturating_sub(self.waited);
        let asked = Instant::now();
        let answer = timeout(left.min(idle_max), self.response.chunk()).await;
        self.waited += asked.elapsed();
        let chunk = match answer {
            Ok(chunk) => chunk.map_err(|error| self.fetcher.fault(&error))?,
            Err(_) if left < idle_max => return Err(FetchError::Slow { rate: STREAM_RATE_MIN }),
            Err(_) => return Err(self.fetcher.too_late()),
        };
        self.bytes += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        if self.bytes > self.bytes_max {
            return Err(FetchError::TooLarge { max: self.bytes_max });
        }
        Ok(chunk)
    }
}

fn content_type(response: &Response) -> String {
    let told = response.headers().get("content-type").and_then(|value| value.to_str().ok());
    told.unwrap_or_default().to_string()
}

/// Says what cryptography clients of HTTPS use. Several libraries could bring it; the first to say so decides, and it is
/// the same one.
pub fn choose_cryptography() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A URL without user, password, query and fragment, which may be secrets.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = (url.set_username(""), url.set_password(None)); // neither fails for http
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

impl FetchPolicy {
    /// Whether a URL is taken, as far as can be said before its name is resolved.
    fn admits(&self, url: &Url) -> Result<(), FetchError> {
        let host =
            url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")).ok_or(FetchError::Url)?;
        let listed = |name: &String| {
            host.eq_ignore_ascii_case(name)
                || host.len() > name.len()
                    && host.to_ascii_lowercase().ends_with(&format!(".{}", name.to_ascii_lowercase()))
        };
        if !self.hosts.is_empty() && !self.hosts.iter().any(listed) {
            return Err(FetchError::Url);
        }
        // An address needs no resolving, so nobody else looks at it.
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) if !self.reaches(address) => Err(FetchError::Private { host: host.to_string() }),
            _ => Ok(()),
        }
    }

    fn reaches(&self, address: IpAddr) -> bool {
        let address = embedded(address);
        is_public(address) || self.allow.iter().any(|range| range.contains(&address))
    }
}

/// Resolves names to the addresses that may be reached.
struct PublicOnly(Arc<FetchPolicy>);

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0.clone();
        Box::pin(async move {
            let host = name.as_str().to_string();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let reached: Vec<SocketAddr> =
                found.into_iter().filter(|address| policy.reaches(address.ip())).collect();
            if reached.is_empty() {
                return Err(FetchError::Private { host }.into());
            }
            Ok(Box::new(reached.into_iter()) as Addrs)
        })
    }
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
fn is_public(address: IpAddr) -> bool {
    match address {
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
            assert!(is_public(embedded(public.parse().unwrap())), "{public}");
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
            assert!(!is_public(embedded(private.parse().unwrap())), "{private}");
        }
    }

    #[test]
    fn what_is_taken_before_a_name_is_resolved() {
        let policy = FetchPolicy { allow: vec!["10.1.0.0/16".parse().unwrap()], ..FetchPolicy::default() };
        let listed = FetchPolicy { hosts: vec!["cdn.example".into()], ..FetchPolicy::default() };
        let says = |policy: &FetchPolicy, url: &str| policy.admits(&Url::parse(url).unwrap());
        assert!(says(&policy, "https://example.com/a").is_ok());
        assert!(says(&policy, "http://10.1.2.3/a").is_ok());
        for bad in ["http://10.2.0.1/", "http://127.1/", "http://0x7f000001/", "http://[::ffff:10.2.0.1]/"] {
            assert!(matches!(says(&policy, bad), Err(FetchError::Private { .. })), "{bad}");
        }
        for bad in ["file:///etc/passwd", "ftp://example.com/", "data:text/plain,a"] {
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
}
