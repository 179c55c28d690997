//! Bodies of any length, read by blocking code in bounded memory.

use std::io::{self, Read};
use std::time::Duration;

use async_channel::{Receiver, Sender, bounded};
use axum::body::{Body, Bytes};
use futures_lite::{StreamExt, future};
use tokio::time::timeout;

use super::Refusal;
use super::cases::blocking;

/// How long a refused body is read all the same.
const REFUSED: Duration = Duration::from_secs(5);

/// Lets `work` read the body away from the runtime's own thread.
pub async fn read_whole<T: Send + 'static>(
    body: Body,
    work: impl FnOnce(BodyReader) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let (sender, receiver) = bounded(16);
    let reading = blocking(move || work(BodyReader { chunks: receiver, chunk: Bytes::new() }));
    let ((), answer) = future::zip(feed(body, sender), reading).await;
    answer
}

/// A refusal that waits until the body has come, though not for long: refused while it still writes, a client would
/// see a broken connection and not the reason.
pub async fn after(body: Body, refusal: Refusal) -> Refusal {
    let (sender, receiver) = bounded(1);
    drop(receiver);
    feed(body, sender).await;
    refusal
}

/// Passes the body on, chunk by chunk, as fast as it is read; what nobody reads any more is [`after`]'s.
async fn feed(body: Body, sender: Sender<io::Result<Bytes>>) {
    let mut chunks = body.into_data_stream();
    loop {
        // Who waits for a chunk must see as well that nobody wants it any more: a client may stall.
        let unwanted = async {
            sender.closed().await;
            None
        };
        let Some(chunk) = future::or(async { Some(chunks.next().await) }, unwanted).await else { break };
        let Some(chunk) = chunk else { return };
        if sender.send(chunk.map_err(io::Error::other)).await.is_err() {
            break;
        }
    }
    let rest = async { while chunks.next().await.is_some_and(|chunk| chunk.is_ok()) {} };
    let _ = timeout(REFUSED, rest).await; // slower than that, the client sees a broken connection
}

/// The receiving end of a body as a blocking reader.
pub struct BodyReader {
    chunks: Receiver<io::Result<Bytes>>,
    chunk: Bytes,
}

impl Read for BodyReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.chunks.recv_blocking() {
                Ok(chunk) => self.chunk = chunk?,
                Err(_) => return Ok(0), // the end of the body
            }
        }
        let count = into.len().min(self.chunk.len());
        into[..count].copy_from_slice(&self.chunk.split_to(count));
        Ok(count)
    }
}
