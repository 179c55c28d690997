//! Fetching what a URL names, without becoming somebody's way into a private network.
//!
//! Who hands us a URL does not choose what we connect to: every address is checked after the name is resolved and
//! before anything is sent, at each redirect again, and no proxy of the environment is used. Bytes and time are
//! bounded. What is large comes as a stream: then what is held is one piece of it, and the time it may take grows with
//! the bytes that came.

mod policy;

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Response, Url, redirect};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use policy::is_public;

pub use policy::FetchPolicy;

/// Bytes a second that a stream must bring, or it is ended: who sends a byte now and then holds no place for days.
const STREAM_RATE_MIN: u64 = 64 << 10;
/// Beyond any stream's time. Its own limits come first.
const STREAM_TIME_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

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
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    /// Not a URL that is taken at all: wrong scheme, no host, a host that is not on the list, a user or password in it.
    #[error("the URL is not taken: use https or http, no user or password, and a host that is allowed")]
    Url,
    /// Public hosts are not asked so.
    #[error(
        "{host} is asked by https and at its usual port alone; --fetch-http takes plain http, too, and --fetch-ports names \
         further ports"
    )]
    Unusual {
        /// The host.
        host: String,
    },
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
    /// For URLs that public hosts may have.
    public: Client,
    /// For all others: names lead it to the ranges that are allowed, and nowhere else.
    named: Client,
    policy: Arc<FetchPolicy>,
    room_mib: Arc<Semaphore>,
}

impl Fetcher {
    /// A fetcher that keeps to this policy. What it holds takes its MiB of `room_mib`, which others may share; without
    /// room an answer waits before its body is read.
    pub fn new(policy: FetchPolicy, room_mib: Arc<Semaphore>) -> Result<Self, FetchError> {
        choose_cryptography();
        let policy = Arc::new(policy);
        let (public, named) = (client(&policy, true)?, client(&policy, false)?);
        Ok(Self { public, named, policy, room_mib })
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
        let client = if self.policy.is_usual(&url) { &self.public } else { &self.named };
        let asking = client.get(url).timeout(time_max).send();
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
            if let Some(own) = inner.downcast_ref::<FetchError>() {
                return own.clone();
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

/// What asks for usual URLs, or for the others.
fn client(policy: &Arc<FetchPolicy>, usual: bool) -> Result<Client, FetchError> {
    let checked = policy.clone();
    let redirects = redirect::Policy::custom(move |attempt| {
        if attempt.previous().len() > checked.redirects_max {
            let text = format!("more than {} redirects", checked.redirects_max);
            return attempt.error(text);
        }
        match checked.follows(usual, attempt.url()) {
            Ok(()) => attempt.follow(),
            Err(error) => attempt.error(error),
        }
    });
    Client::builder()
        .user_agent(concat!("hashward/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .redirect(redirects)
        .referer(false)
        .connect_timeout(Duration::from_secs(10))
        .dns_resolver(Arc::new(Resolver { policy: policy.clone(), usual }))
        .build()
        .map_err(|error| FetchError::Broken { reason: error.to_string() })
}

/// Resolves names to the addresses that may be reached.
struct Resolver {
    policy: Arc<FetchPolicy>,
    usual: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (policy, usual) = (self.policy.clone(), self.usual);
        Box::pin(async move {
            let host = name.as_str().to_string();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let reaches = |address: &SocketAddr| policy.reaches(address.ip(), usual);
            let reached: Vec<SocketAddr> = found.iter().copied().filter(reaches).collect();
            if !reached.is_empty() {
                return Ok(Box::new(reached.into_iter()) as Addrs);
            }
            let is_public = found.iter().any(|address| is_public(address.ip()));
            Err(if is_public { FetchError::Unusual { host } } else { FetchError::Private { host } }.into())
        })
    }
}
