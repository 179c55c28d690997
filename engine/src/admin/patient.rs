//! A connection whose writes have a time limit: a client that takes nothing of its answer for so long is ended, and with
//! it what the answer holds (a thread, a snapshot of the store, memory). Connections that end close their sockets a few at
//! a time.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_channel::Receiver;
use futures_lite::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::metrics::TurnCounts;

/// A stream whose writes fail when nothing of them is taken in time.
pub struct Patient<S> {
    stream: S,
    limit: Duration,
    counts: Arc<TurnCounts>,
    /// Runs while a write waits.
    late: Option<Pin<Box<Sleep>>>,
    /// Turns to close a socket; empty once this one had its own.
    closing: Option<Pin<Box<Receiver<()>>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Patient<S> {
    /// A stream that waits so long for its peer, counted if that is not enough, and for a turn to close.
    pub fn new(stream: S, limit: Duration, counts: Arc<TurnCounts>, closing: Receiver<()>) -> Self {
        Self { stream, limit, counts, late: None, closing: Some(Box::pin(closing)) }
    }

    /// What a write gave; or, if it waits, whether it waits too long.
    fn watched<T>(&mut self, context: &mut Context<'_>, wrote: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if wrote.is_ready() {
            self.late = None;
            return wrote;
        }
        let limit = self.limit;
        let late = self.late.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(late.as_mut().poll(context));
        self.counts.stalled.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer")))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watched(context, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.watched(context, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.watched(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(turn) = &mut self.closing {
            ready!(turn.as_mut().poll_next(context)); // none come any more: the server ends, and everybody may
            self.closing = None;
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_lite::future::poll_once;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::pace;

    #[tokio::test]
    async fn a_write_waits_for_a_slow_reader_and_not_for_one_that_stopped() {
        let (ours, mut theirs) = duplex(8);
        let counts = Arc::new(TurnCounts::default());
        let mut ours = Patient::new(ours, Duration::from_millis(200), counts.clone(), pace::turns().1);
        let reading = tokio::spawn(async move {
            let mut all = [0; 1];
            for _ in 0..8 {
                sleep(Duration::from_millis(40)).await;
                theirs.read_exact(&mut all).await.unwrap();
            }
            theirs
        });
        ours.write_all(&[7; 16]).await.unwrap();
        let theirs = reading.await.unwrap();
        assert_eq!(counts.stalled.load(Ordering::Relaxed), 0);
        let error = ours.write_all(&[7; 16]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(counts.stalled.load(Ordering::Relaxed), 1);
        drop(theirs);
    }

    #[tokio::test]
    async fn connections_that_end_at_once_close_a_few_at_a_time() {
        let (closes, closing) = pace::turns();
        let mut pacing = pin!(pace::hand_out(closes, tokio::task::yield_now));
        let mut ending: Vec<_> = (0..20)
            .map(|_| {
                let counts = Arc::new(TurnCounts::default());
                Patient::new(duplex(8).0, Duration::from_secs(1), counts, closing.clone())
            })
            .collect();
        for turn in 1..=5 {
            assert!(poll_once(pacing.as_mut()).await.is_none());
            let mut left = Vec::new();
            for mut connection in ending {
                if poll_once(connection.shutdown()).await.is_none() {
                    left.push(connection);
                }
            }
            ending = left;
            assert_eq!(ending.len(), 20 - turn * pace::TOGETHER);
        }
    }
}
