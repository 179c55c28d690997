//! What a stream of a fetched file does when its host is slow, silent, or says more than it should.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ingest::media::fetch::{FetchError, FetchPolicy, Fetcher};
use tokio::sync::Semaphore;

/// A host that answers each request so; gives its URL.
fn host(answer: impl Fn(&mut TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let url = format!("http://{}/film", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            answer(&mut stream);
        }
    });
    url
}

fn head(stream: &mut TcpStream, more: &str) {
    let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-type: video/mp4\r\n{more}\r\n").as_bytes());
}

async fn all(url: &str, bytes_max: u64) -> Result<(String, u64), FetchError> {
    let policy = FetchPolicy {
        timeout: Duration::from_millis(400),
        allow: vec!["127.0.0.0/8".parse().expect("a range")],
        ..FetchPolicy::default()
    };
    // No room at all: a stream takes none.
    let fetcher = Fetcher::new(policy, Arc::new(Semaphore::new(0))).expect("a fetcher");
    let mut streamed = fetcher.stream(url, bytes_max).await?;
    let mut bytes = 0;
    while let Some(piece) = streamed.chunk().await? {
        bytes += piece.len() as u64;
    }
    Ok((streamed.content_type, bytes))
}

#[tokio::test]
async fn a_stream_comes_whole_and_may_take_longer_than_one_wait() {
    let url = host(|stream| {
        head(stream, "content-length: 400000\r\n");
        for _ in 0..4 {
            let _ = stream.write_all(&[7; 100_000]);
            thread::sleep(Duration::from_millis(200)); // 800 ms in all
        }
    });
    assert_eq!(all(&url, 400_000).await.unwrap(), ("video/mp4".to_string(), 400_000));
    assert!(matches!(all(&url, 399_999).await, Err(FetchError::TooLarge { max: 399_999 })));
}

#[tokio::test]
async fn what_has_no_length_ends_at_the_limit() {
    let url = host(|stream| {
        head(stream, "");
        while stream.write_all(&[7; 10_000]).is_ok() {}
    });
    assert!(matches!(all(&url, 1_000_000).await, Err(FetchError::TooLarge { max: 1_000_000 })));
}

#[tokio::test]
async fn a_host_that_is_silent_or_drips_or_hangs_up_is_not_waited_for() {
    let silent = host(|_| thread::sleep(Duration::from_secs(5)));
    assert!(matches!(all(&silent, 1000).await, Err(FetchError::Timeout { .. })));
    let stuck = host(|stream| {
        head(stream, "content-length: 1000000\r\n");
        let _ = stream.write_all(&[7; 500_000]);
        thread::sleep(Duration::from_secs(5));
    });
    assert!(matches!(all(&stuck, 1_000_000).await, Err(FetchError::Timeout { .. })));
    let drips = host(|stream| {
        head(stream, "content-length: 1000000\r\n");
        while stream.write_all(&[7; 100]).is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
    });
    assert!(matches!(all(&drips, 1_000_000).await, Err(FetchError::Slow { .. })));
    let hangs_up = host(|stream| {
        head(stream, "content-length: 1000\r\n");
        let _ = stream.write_all(&[7; 999]);
    });
    assert!(matches!(all(&hangs_up, 1000).await, Err(FetchError::Broken { .. })));
}
