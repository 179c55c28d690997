//! Bodies of any length, read by blocking code in bounded memory.

use std::io::{self, Read};
use std::time::Duration;

use async_channel::{Receiver, Sender, bounded};
use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::{HeaderMap, header};
use futures_lite::{StreamExt, future, stream};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::cases::blocking;
use super::{Admin, Refusal};

/// How long the rest of a body that nobody wants is read all the same.
const LINGER: Duration = Duration::from_secs(5);

/// The length a body is said to have.
pub fn declared(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads an upload of at most so many bytes, if it ends in time. What a longer one is refused with is the caller's to say.
pub async fn upload<E: From<Refusal>>(
    admin: &Admin,
    body: Body,
    bytes_max: usize,
    too_long: impl FnOnce() -> E,
) -> Result<Bytes, E> {
    let read = async {
        let (mut chunks, mut all) = (body.into_data_stream(), Vec::new());
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| Refusal::bad(format!("the body is not whole: {error}")))?;
            if chunk.len() > bytes_max - all.len() {
                return Err(too_long());
            }
            all.extend_from_slice(&chunk);
        }
        Ok(Bytes::from(all))
    };
    admin.in_upload_time(read).await?
}

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

/// Passes the body on, chunk by chunk, as fast as it is read, and no further.
async fn feed(body: Body, sender: Sender<io::Result<Bytes>>) {
    let mut chunks = body.into_data_stream();
    loop {
        // Who waits for a chunk must see as well that nobody wants it any more: a client may stall.
        let unwanted = async {
            sender.closed().await;
            None
        };
        let chunk = future::or(async { Some(chunks.next().await) }, unwanted).await.flatten();
        let Some(chunk) = chunk else { return };
        if sender.send(chunk.map_err(io::Error::other)).await.is_err() {
            return;
        }
    }
}

/// A body that breaks off where nothing comes for so long, and whose rest is read when nobody wants it any more, though
/// not for long: refused while it still writes, a client would see a broken connection and not the reason.
pub fn lingering(body: Body, idle: Duration) -> Body {
    let rest = Rest(Some(body.into_data_stream()));
    Body::from_stream(stream::unfold(rest, move |mut rest| async move {
        let chunk = match timeout(idle, rest.0.as_mut()?.next()).await {
            Ok(Some(chunk)) => chunk.map_err(io::Error::other),
            Ok(None) => {
                drop(rest.0.take()); // it has ended
                return None;
            }
            Err(_) => {
                drop(rest.0.take()); // nor is it waited for any more
                Err(io::Error::new(io::ErrorKind::TimedOut, "no more of the body came in time"))
            }
        };
        Some((chunk, rest))
    }))
}

/// What is left of a body; nothing once it has ended.
struct Rest(Option<BodyDataStream>);

impl Drop for Rest {
    fn drop(&mut self) {
        let (Some(mut chunks), Ok(runtime)) = (self.0.take(), Handle::try_current()) else { return };
        runtime.spawn(timeout(LINGER, async move {
            while chunks.next().await.is_some_and(|chunk| chunk.is_ok()) {}
        }));
    }
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
