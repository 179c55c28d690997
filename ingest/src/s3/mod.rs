//! Amazon S3: what an event says was uploaded, and the object itself.
//!
//! Only buckets that are named are read, from one endpoint, with given credentials: no metadata service, no proxy of the
//! environment, no redirect to elsewhere.

mod event;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::{Stream, StreamExt, stream};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{HttpClient, HttpConnector};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, GetOptions, GetResult, ObjectStore, RetryConfig};
use reqwest::{Client, redirect};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

pub use event::{Confirmation, Delivery, EventError, Object, read};

/// Where objects are, and who reads them.
#[derive(Clone)]
pub struct S3Options {
    /// URL of the S3 API; `None` is Amazon's own of the region.
    pub endpoint: Option<String>,
    /// Region, also of the signature.
    pub region: String,
    /// Who asks.
    pub access_key_id: String,
    /// With which key.
    pub secret_access_key: String,
    /// Buckets that are read.
    pub buckets: Vec<String>,
    /// Bytes of one object that is read whole.
    pub bytes_max: usize,
    /// From the request to the last byte of what is read whole; of a stream to the next byte.
    pub timeout: Duration,
}

/// Why there is no object.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    /// The bucket is not among those that are read.
    #[error("bucket '{bucket}' is not read here: --s3-buckets names those that are")]
    Bucket {
        /// Its name.
        bucket: String,
    },
    /// It was deleted meanwhile.
    #[error("the object is gone")]
    Gone,
    /// It is larger than allowed.
    #[error("the object has {found} bytes, {max} are allowed")]
    TooLarge {
        /// Its size.
        found: u64,
        /// The limit.
        max: u64,
    },
    /// Its key cannot be asked for.
    #[error("the object's key cannot be asked for: {reason}")]
    Key {
        /// Why.
        reason: String,
    },
    /// The store refused or broke off; later it may give it.
    #[error("the object was not read: {reason}")]
    Broken {
        /// What happened.
        reason: String,
    },
}

/// An object's bytes.
#[derive(Debug)]
pub struct Fetched {
    /// The whole object.
    pub bytes: bytes::Bytes,
    /// The room in memory it takes, given back when this is dropped.
    pub room: OwnedSemaphorePermit,
}

/// Reads objects.
#[derive(Clone)]
pub struct Objects {
    options: Arc<S3Options>,
    client: Client,
    room_mib: Arc<Semaphore>,
}

#[derive(Debug)]
struct OurClient(Client);

impl HttpConnector for OurClient {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

impl Objects {
    /// A reader with these options. What it holds takes its MiB of `room_mib`, which others may share.
    pub fn new(options: S3Options, room_mib: Arc<Semaphore>) -> Result<Self, S3Error> {
        // Several libraries could bring the cryptography; the first to say so decides, and it is the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .user_agent(concat!("hashward/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(redirect::Policy::none())
            .read_timeout(options.timeout)
            .connect_timeout(Duration::from_secs(10))
            .build()
            .map_err(|error| S3Error::Broken { reason: error.to_string() })?;
        Ok(Self { options: Arc::new(options), client, room_mib })
    }

    fn bucket(&self, bucket: &str) -> Result<AmazonS3, S3Error> {
        let options = &self.options;
        if !options.buckets.iter().any(|read| read == bucket) {
            return Err(S3Error::Bucket { bucket: bucket.chars().take(64).collect() });
        }
        let retry = RetryConfig {
            backoff: BackoffConfig { max_backoff: Duration::from_secs(2), ..BackoffConfig::default() },
            max_retries: 3,
            retry_timeout: options.timeout,
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(&options.region)
            .with_access_key_id(&options.access_key_id)
            .with_secret_access_key(&options.secret_access_key)
            .with_retry(retry)
            .with_http_connector(OurClient(self.client.clone()));
        if let Some(endpoint) = &options.endpoint {
            // Who names a plain endpoint means it: a store beside us, or a test's.
            builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
        }
        builder.build().map_err(|error| S3Error::Broken { reason: error.to_string() })
    }

    /// Reads one object, the version that the event told of.
    pub async fn fetch(&self, object: &Object) -> Result<Fetched, S3Error> {
        let reading = timeout(self.options.timeout, self.fetch_whole(object));
        let late = || S3Error::Broken {
            reason: format!("it did not come within {} s", self.options.timeout.as_secs()),
        };
        reading.await.unwrap_or_else(|_| Err(late()))
    }

    async fn fetch_whole(&self, object: &Object) -> Result<Fetched, S3Error> {
        let found = self.open(object, self.options.bytes_max as u64).await?;
        let size = found.meta.size;
        let room = self.room_mib.clone().acquire_many_owned((size >> 20) as u32 + 1).await;
        let room = room.map_err(|_| S3Error::Broken { reason: "the server is shutting down".to_string() })?;
        let mut bytes = Vec::with_capacity(size as usize);
        let mut chunks = whole(found);
        while let Some(chunk) = chunks.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        Ok(Fetched { bytes: bytes.into(), room })
    }

    /// Begins to read one object, piece by piece, up to so many bytes. It takes no room of others.
    pub async fn stream(&self, object: &Object, bytes_max: u64) -> Result<Chunks, S3Error> {
        Ok(whole(self.open(object, bytes_max).await?))
    }

    async fn open(&self, object: &Object, bytes_max: u64) -> Result<GetResult, S3Error> {
        let bucket = self.bucket(&object.bucket)?;
        let path = Path::parse(&object.key).map_err(|error| S3Error::Key { reason: error.to_string() })?;
        let get = GetOptions { version: object.version.clone(), ..GetOptions::default() };
        let found = bucket.get_opts(&path, get).await.map_err(fault)?;
        if found.meta.size > bytes_max {
            return Err(S3Error::TooLarge { found: found.meta.size, max: bytes_max });
        }
        Ok(found)
    }
}

/// An object, piece by piece. It ends with an error if these are not as many bytes as it has.
pub type Chunks = Pin<Box<dyn Stream<Item = Result<bytes::Bytes, S3Error>> + Send>>;

fn whole(found: GetResult) -> Chunks {
    let broken = |reason: &str| S3Error::Broken { reason: reason.to_string() };
    let size = found.meta.size;
    stream::try_unfold((found.into_stream(), size), move |(mut chunks, left)| async move {
        match chunks.next().await {
            Some(Ok(chunk)) => match left.checked_sub(chunk.len() as u64) {
                Some(left) => Ok(Some((chunk, (chunks, left)))),
                // No more than was announced: room was taken for that.
                None => Err(broken("it is longer than its length")),
            },
            Some(Err(error)) => Err(fault(error)),
            None if left > 0 => Err(broken("it broke off")),
            None => Ok(None),
        }
    })
    .boxed()
}

fn fault(error: object_store::Error) -> S3Error {
    match error {
        object_store::Error::NotFound { .. } => S3Error::Gone,
        // Not the whole of it: it holds the request's URL.
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            S3Error::Broken { reason: "the store refuses these credentials".to_string() }
        }
        other => S3Error::Broken { reason: other.to_string().chars().take(200).collect() },
    }
}
