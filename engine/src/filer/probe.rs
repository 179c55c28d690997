//! Asking NCMEC whether it works, and whether its schema is the one we know.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use index::store::Keyspace;
use reporter::cyber_tipline::verdict::{Verdict, judge};
use reporter::tip::organisation::{Credentials, credentials, organisations};
use sha2::{Digest, Sha256};

use super::client::Call;
use super::{Filer, Ready};
use crate::circuits::{May, Part};

/// How often the schema is compared.
const SCHEMA_EVERY: Duration = Duration::from_secs(24 * 3600);
/// After this long without NCMEC's host an alarm is raised.
const HOST_ALARM: Duration = Duration::from_secs(600);
/// Where the digest of the schema that was seen last lies, by environment.
const SCHEMA_KEY: &[u8] = b"s";

impl Filer {
    /// `/status`, with the first credentials there are: the host works if it answers as NCMEC does, whoever we are to it.
    pub(super) async fn probe_host(&self) -> bool {
        let Some(credentials) = self.any_credentials().await else {
            // Nobody could report, so nobody needs to know.
            return self.parts.circuits.close(&Part::Host);
        };
        match self.status(&credentials).await {
            Verdict::Host { words, retry_after_ms } => {
                let circuits = &self.parts.circuits;
                circuits.trip(Part::Host, &words, retry_after_ms, Instant::now());
                let open = circuits.open(&Part::Host);
                let long = HOST_ALARM / u32::try_from(self.pace.faster.max(1)).unwrap_or(u32::MAX);
                if open.is_some_and(|open| open.since.elapsed() > long) {
                    let words = format!("NCMEC's host does not work, and reports wait: {words}");
                    self.raise("ncmec.host", "NCMEC".to_string(), words).await;
                }
                false
            }
            _ => {
                self.parts.circuits.close(&Part::Host);
                tracing::info!("NCMEC's host works again");
                true
            }
        }
    }

    /// Whether an organisation may be reported for; asks NCMEC whether it is known again, if it is time to.
    pub(super) async fn organisation_may(&self, ready: &Ready) -> bool {
        let part = Part::Organisation(ready.organisation.name.clone());
        match self.parts.circuits.may(&part, Instant::now()) {
            May::Ask => return true,
            May::Wait => return false,
            May::Probe => {}
        }
        match self.status(&ready.credentials).await {
            Verdict::Done(_) => {
                self.parts.circuits.close(&part);
                tracing::info!(organisation = %ready.organisation.name, "NCMEC knows the organisation again");
                true
            }
            Verdict::Host { words, retry_after_ms } => {
                self.parts.circuits.trip(Part::Host, &words, retry_after_ms, Instant::now());
                false
            }
            _ => {
                self.parts.circuits.trip(part, "NCMEC does not know the organisation", None, Instant::now());
                false
            }
        }
    }

    async fn status(&self, credentials: &Credentials) -> Verdict {
        self.parts.counts.calls.fetch_add(1, Ordering::Relaxed);
        judge(self.ncmec.make(&Call::status(), credentials, None).await.heard)
    }

    async fn any_credentials(&self) -> Option<Credentials> {
        let environment = self.parts.environment;
        let found = self.read(move |tx| {
            for organisation in organisations(tx)? {
                let known = credentials(tx, &organisation.name)?;
                if let Some(known) = known.filter(|known| known.environment == environment) {
                    return Ok(Some(known));
                }
            }
            Ok(None)
        });
        found.await.flatten()
    }

    /// Compares NCMEC's schema with the one seen last, every day; a change is an alarm, because what is sent was made for
    /// the old one.
    pub(super) async fn watch_schema(&self) {
        let every = SCHEMA_EVERY / u32::try_from(self.pace.faster.max(1)).unwrap_or(u32::MAX);
        loop {
            if let Some(credentials) = self.any_credentials().await
                && let Ok(schema) = self.ncmec.schema(&credentials).await
            {
                let digest: [u8; 32] = Sha256::digest(&schema).into();
                self.compare_schema(digest).await;
                tokio::time::sleep(every).await;
            } else {
                tokio::time::sleep(Duration::from_secs(60).min(every)).await;
            }
        }
    }

    async fn compare_schema(&self, digest: [u8; 32]) {
        let place = [SCHEMA_KEY, &[self.parts.environment as u8]].concat();
        let known = place.clone();
        let Some(before) = self.read(move |tx| tx.get(Keyspace::Tips, &known)).await else { return };
        if before.as_deref() == Some(&digest[..]) {
            return;
        }
        if before.is_some() {
            let words = "NCMEC's schema is not the one seen last: compare it with what is sent, before reports are refused";
            self.raise("ncmec.schema", "NCMEC".to_string(), words.to_string()).await;
        }
        let seen = self.parts.desk.ask(move |turn| {
            turn.tx.put(Keyspace::Tips, place, digest);
            Ok(())
        });
        if let Err(error) = seen.await {
            tracing::warn!(%error, "the digest of NCMEC's schema could not be kept");
        }
    }
}
