//! Calls to the parties an operator has named: webhooks, and the platform's own endpoints. Signed, bounded, never to
//! anybody else.
//!
//! Signed twice (specs/coop.md 2.8): `Coop-Signature` is Coop's, over the body; `webhook-signature` covers the delivery's
//! id and time as well (`id.timestamp.body`), so that a copy sent later is seen. Without a key nothing is sent. While a key
//! is changed, `webhook-signature` carries a signature by the one before as well: receivers take either, when they like.

use std::io;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ingest::media::fetch::choose_cryptography;
use reqwest::{Client, redirect};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};

use crate::clock::now_s;

/// From connecting to the last byte.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The organisation's key.
pub struct Signer(RsaKeyPair);

impl Signer {
    /// Reads a PEM file with an RSA key in PKCS #8.
    pub fn open(path: &Path) -> io::Result<Self> {
        let wrong = |what: &str| {
            let text = format!(
                "{} is no RSA key in PKCS #8 ({what}): make one with `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048`",
                path.display()
            );
            io::Error::new(io::ErrorKind::InvalidData, text)
        };
        let text = std::fs::read_to_string(path)?;
        let body = text
            .split_once("-----BEGIN PRIVATE KEY-----")
            .and_then(|(_, rest)| rest.split_once("-----END PRIVATE KEY-----"));
        let (body, _) = body.ok_or_else(|| wrong("no 'BEGIN PRIVATE KEY'"))?;
        let body: String = body.chars().filter(|c| !c.is_whitespace()).collect();
        let der = BASE64_STANDARD.decode(body).map_err(|_| wrong("its text is not Base64"))?;
        RsaKeyPair::from_pkcs8(&der).map(Self).map_err(|error| wrong(&error.to_string()))
    }

    fn sign(&self, bytes: &[u8]) -> Result<String, CallError> {
        let mut signature = vec![0; self.0.public().modulus_len()];
        self.0
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), bytes, &mut signature)
            .map_err(|_| CallError::Key("signing failed".to_string()))?;
        Ok(BASE64_STANDARD.encode(signature))
    }
}

/// Why a call was not understood.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is no key to sign with.
    #[error("nothing is sent unsigned, and there is no key: set --signing-key-file")]
    NoKey,
    /// Signing failed.
    #[error("{0}")]
    Key(String),
    /// No whole answer came.
    #[error("no answer: {0}")]
    Broken(String),
    /// The answer is no.
    #[error("it answered {0}")]
    Status(u16),
    /// The answer is too long.
    #[error("its answer is longer than {0} bytes")]
    TooLong(usize),
}

/// Calls parties.
pub struct Caller {
    client: Client,
    signer: Option<Signer>,
    /// The key before it, while receivers still know that one alone.
    former: Option<Signer>,
}

impl Caller {
    /// A caller with the organisation's key, if there is one, and the one before it while that still counts.
    pub fn new(signer: Option<Signer>, former: Option<Signer>) -> Result<Self, CallError> {
        choose_cryptography();
        let client = Client::builder()
            .user_agent(concat!("hashward/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(redirect::Policy::none()) // a signed body goes where it was sent
            .referer(false)
            .timeout(TIMEOUT)
            .connect_timeout(Duration::from_secs(5))
            .build()
            .map_err(|error| CallError::Broken(error.without_url().to_string()))?;
        Ok(Self { client, signer, former })
    }

    /// Sends a signed JSON body; gives the answer of a party that understood, at most so many bytes of it.
    pub async fn post(
        &self,
        url: &str,
        id: &str,
        body: Vec<u8>,
        answer_max: usize,
    ) -> Result<Vec<u8>, CallError> {
        let signer = self.signer.as_ref().ok_or(CallError::NoKey)?;
        let timestamp = now_s().to_string();
        let dated = [id.as_bytes(), b".", timestamp.as_bytes(), b".", &body].concat();
        let signatures = [Some(signer), self.former.as_ref()].into_iter().flatten();
        let signatures = signatures.map(|signer| Ok(format!("v1rsa,{}", signer.sign(&dated)?)));
        let signatures = signatures.collect::<Result<Vec<_>, CallError>>()?.join(" ");
        let request = self
            .client
            .post(url)
            .header("content-type", "application/json")
            .header("coop-signature", signer.sign(&body)?)
            .header("webhook-id", id)
            .header("webhook-timestamp", &timestamp)
            .header("webhook-signature", signatures)
            .body(body);
        read(request.send().await, answer_max).await
    }

    /// The same to a party that knows us by a key in a header.
    pub async fn post_with_key(
        &self,
        url: &str,
        (header, key): (&'static str, &str),
        body: Vec<u8>,
        answer_max: usize,
    ) -> Result<Vec<u8>, CallError> {
        let request =
            self.client.post(url).header("content-type", "application/json").header(header, key).body(body);
        read(request.send().await, answer_max).await
    }
}

async fn read(sent: reqwest::Result<reqwest::Response>, answer_max: usize) -> Result<Vec<u8>, CallError> {
    // URLs may hold secrets of the party's.
    let broken = |error: reqwest::Error| CallError::Broken(error.without_url().to_string());
    let mut response = sent.map_err(broken)?;
    if !response.status().is_success() {
        return Err(CallError::Status(response.status().as_u16()));
    }
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if answer.len() + chunk.len() > answer_max {
            return Err(CallError::TooLong(answer_max));
        }
        answer.extend_from_slice(&chunk);
    }
    Ok(answer)
}
