//! The external classifier: Google's Content Safety API, as specs/coop.md 6 describes it. Pictures of several items go in
//! one request; the key goes in a header, where no log of URLs has it.

use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender, bounded};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reporter::desk::intake::Priority;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::oneshot;

use crate::config::Secret;
use crate::decoders::Decoders;
use crate::outbound::Caller;

/// Images of one request, and bytes of its body (the API's limits).
const IMAGES_MAX: usize = 32;
const BODY_MAX: usize = 10 << 20;
/// How long the first image of a request waits for others.
const GATHER: Duration = Duration::from_millis(20);
/// Pixels that the API looks at; more are of no use.
const PIXELS_MAX: u32 = 300_000;
const ANSWER_MAX: usize = 1 << 20;
const WAITING_MAX: usize = 256;

struct Asked {
    image: String,
    tell: oneshot::Sender<Result<Priority, String>>,
}

/// Asks the classifier.
#[derive(Clone)]
pub struct Classifier {
    asks: Sender<Asked>,
    decoders: Arc<Decoders>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    review_priorities: Vec<Priority>,
}

impl Classifier {
    /// Starts the task that asks.
    pub fn start(
        runtime: &tokio::runtime::Handle,
        caller: Arc<Caller>,
        decoders: Arc<Decoders>,
        url: String,
        key: Secret,
    ) -> Self {
        let (sender, waiting) = bounded(WAITING_MAX);
        runtime.spawn(async move {
            while let Ok(first) = waiting.recv().await {
                let group = gather(first, &waiting).await;
                let images: Vec<&str> = group.iter().map(|asked| asked.image.as_str()).collect();
                let outcome = ask(&caller, &url, &key, &images).await;
                match outcome {
                    Ok(priorities) => {
                        group
                            .into_iter()
                            .zip(priorities)
                            .for_each(|(asked, priority)| drop(asked.tell.send(Ok(priority))));
                    }
                    Err(why) => group.into_iter().for_each(|asked| drop(asked.tell.send(Err(why.clone())))),
                }
            }
        });
        Self { asks: sender, decoders }
    }

    /// The priority of one picture.
    pub async fn priority(&self, bytes: Vec<u8>) -> Result<Priority, String> {
        let place = self.decoders.place().ok_or("too many files wait to be decoded")?;
        let decoders = self.decoders.clone();
        let shrink = move || {
            let small = decoders.shrink(&bytes, PIXELS_MAX);
            drop(place);
            small
        };
        let small = tokio::task::spawn_blocking(shrink)
            .await
            .map_err(|_| "the server is shutting down".to_string())?
            .map_err(|error| error.to_string())?;
        let (tell, told) = oneshot::channel();
        let asked = Asked { image: BASE64_STANDARD.encode(small), tell };
        self.asks.send(asked).await.map_err(|_| "the server is shutting down".to_string())?;
        told.await.unwrap_or_else(|_| Err("the server is shutting down".to_string()))
    }
}

async fn gather(first: Asked, waiting: &Receiver<Asked>) -> Vec<Asked> {
    let mut bytes = first.image.len();
    let mut group = vec![first];
    let until = tokio::time::Instant::now() + GATHER;
    while group.len() < IMAGES_MAX && bytes < BODY_MAX / 2 {
        let Ok(Ok(next)) = tokio::time::timeout_at(until, waiting.recv()).await else { break };
        bytes += next.image.len();
        group.push(next);
    }
    group
}

async fn ask(caller: &Caller, url: &str, key: &Secret, images: &[&str]) -> Result<Vec<Priority>, String> {
    let url = format!("{}/v1beta1/images:classify", url.trim_end_matches('/'));
    let body = json!({ "images": images }).to_string().into_bytes();
    let answer = caller.post_with_key(&url, ("x-goog-api-key", key.reveal()), body, ANSWER_MAX).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let Answer { review_priorities } =
        serde_json::from_slice(&answer).map_err(|error| format!("its answer does not read: {error}"))?;
    if review_priorities.len() != images.len() {
        return Err(format!("it answered {} priorities to {} images", review_priorities.len(), images.len()));
    }
    Ok(review_priorities)
}
