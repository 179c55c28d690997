//! Where media are fetched from: the web, and the S3 buckets that are read here. One door for intake, preservation and
//! reports, so that a host which does not answer is left alone by all of them.

use std::sync::Arc;
use std::{fmt, io};

use axum::body::Bytes;
use futures_lite::{Stream, StreamExt, stream};
use ingest::media::fetch::{FetchError, Fetched, Streamed};
use ingest::s3::{Object, Objects};
use reporter::desk::evidence::Kept;

use crate::admin::Admin;
use crate::evidence::Evidence;
use crate::hosts::Hosts;
use crate::vault::VaultError;

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
        self.hosts.ask(url, self.admin.fetcher.fetch(url), is_silence).await
    }

    /// The same of a picture or video: whoever answers with a text has it no more.
    pub async fn fetch_medium(&self, url: &str) -> Result<Fetched, String> {
        let fetched = self.fetch(url).await?;
        no_text(&fetched.content_type, url)?;
        Ok(fetched)
    }

    /// Fetches a file into the vault, however long it is, up to the setting's limit. It is in hand there until a commit
    /// names it, and the caller lets it go.
    pub async fn fetch_into_vault(&self, evidence: &Arc<Evidence>, url: &str) -> Result<Kept, String> {
        self.preserve(evidence, url, |_| Ok(())).await
    }

    /// The same of a picture or video.
    pub async fn preserve_medium(&self, evidence: &Arc<Evidence>, url: &str) -> Result<Kept, String> {
        self.preserve(evidence, url, |content_type| no_text(content_type, url)).await
    }

    async fn preserve(
        &self,
        evidence: &Arc<Evidence>,
        url: &str,
        admits: impl FnOnce(&str) -> Result<(), String>,
    ) -> Result<Kept, String> {
        let max = self.admin.config.evidence_bytes_max;
        if let Some(rest) = url.strip_prefix("s3://") {
            let (objects, object) = self.at(rest)?;
            let chunks = objects.stream(&object, max).await.map_err(|error| error.to_string())?;
            let chunks = chunks.map(|chunk| chunk.map_err(io::Error::other));
            let kept = evidence.keep_stream(chunks, String::new(), max).await;
            return kept.map_err(|error| error.to_string());
        }
        let fetching = async {
            let answer = self.admin.fetcher.stream(url, max).await.map_err(Failed::Fetch)?;
            admits(&answer.content_type).map_err(Failed::Other)?;
            let content_type = answer.content_type.clone();
            evidence.keep_stream(chunks_of(answer), content_type, max).await.map_err(Failed::of_vault)
        };
        let silence = |error: &Failed| matches!(error, Failed::Fetch(error) if is_silence(error));
        self.hosts.ask(url, fetching, silence).await
    }

    async fn object(&self, place: &str) -> Result<Fetched, String> {
        let (objects, object) = self.at(place)?;
        let found = objects.fetch(&object).await.map_err(|error| error.to_string())?;
        Ok(Fetched { content_type: String::new(), bytes: found.bytes, room: found.room })
    }

    fn at(&self, place: &str) -> Result<(&Objects, Object), String> {
        let objects = self.admin.objects.as_ref().ok_or("no buckets are read here: set --s3-buckets")?;
        let (bucket, key) = place.split_once('/').ok_or("an object has a bucket and a key")?;
        let object = Object {
            bucket: bucket.to_string(),
            key: key.to_string(),
            version: None,
            sequencer: String::new(),
            made_ms: 0,
        };
        Ok((objects, object))
    }
}

/// Why a file is not in the vault.
enum Failed {
    Fetch(FetchError),
    Other(String),
}

impl Failed {
    /// What the host did wrong while its bytes were stored is its fault still.
    fn of_vault(error: VaultError) -> Self {
        match error {
            VaultError::Source(error) => match error.downcast() {
                Ok(error) => Failed::Fetch(error),
                Err(error) => Failed::Other(error.to_string()),
            },
            other => Failed::Other(other.to_string()),
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Fetch(error) => error.fmt(out),
            Failed::Other(words) => out.write_str(words),
        }
    }
}

fn is_silence(error: &FetchError) -> bool {
    matches!(error, FetchError::Timeout { .. } | FetchError::Broken { .. })
}

fn no_text(content_type: &str, url: &str) -> Result<(), String> {
    match content_type.starts_with("text/") {
        true => Err(format!("{} gives a text, not a file", short(url))),
        false => Ok(()),
    }
}

fn chunks_of(answer: Streamed) -> impl Stream<Item = io::Result<Bytes>> {
    stream::try_unfold(answer, |mut answer| async move {
        let chunk = answer.chunk().await.map_err(io::Error::other)?;
        Ok(chunk.map(|chunk| (chunk, answer)))
    })
}

/// A URL without what may be secret in it.
pub fn short(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}
