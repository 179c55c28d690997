//! Where media are fetched from: the web, and the S3 buckets that are read here. One door for intake and preservation, so
//! that a host which does not answer is left alone by both.

use std::sync::Arc;

use ingest::media::fetch::{FetchError, Fetched};
use ingest::s3::Object;

use crate::admin::Admin;
use crate::hosts::Hosts;

/// What is fetched with.
pub struct Sources {
    /// Has the fetchers.
    pub admin: Arc<Admin>,
    /// Hosts that do not answer.
    pub hosts: Hosts,
}

impl Sources {
    /// Fetches a file, unless its host has not answered lately.
    pub async fn fetch(&self, url: &str) -> Result<Fetched, String> {
        if let Some(rest) = url.strip_prefix("s3://") {
            return self.object(rest).await;
        }
        let silence =
            |error: &FetchError| matches!(error, FetchError::Timeout { .. } | FetchError::Broken { .. });
        self.hosts.ask(url, self.admin.fetcher.fetch(url), silence).await
    }

    /// The same of a picture or video: whoever answers with a text has it no more.
    pub async fn fetch_medium(&self, url: &str) -> Result<Fetched, String> {
        let fetched = self.fetch(url).await?;
        if fetched.content_type.starts_with("text/") {
            return Err(format!("{} gives a text, not a file", short(url)));
        }
        Ok(fetched)
    }

    async fn object(&self, place: &str) -> Result<Fetched, String> {
        let objects = self.admin.objects.as_ref().ok_or("no buckets are read here: set --s3-buckets")?;
        let (bucket, key) = place.split_once('/').ok_or("an object has a bucket and a key")?;
        let object = Object {
            bucket: bucket.to_string(),
            key: key.to_string(),
            version: None,
            sequencer: String::new(),
            made_ms: 0,
        };
        let found = objects.fetch(&object).await.map_err(|error| error.to_string())?;
        Ok(Fetched { content_type: String::new(), bytes: found.bytes, room: found.room })
    }
}

/// A URL without what may be secret in it.
pub fn short(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}
