//! What is not fetched, wherever a URL or a redirect points; and what a stream of a fetched file does when its host is slow,
//! silent, or says more than it should.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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

/// Whoever hands us a URL may write an address in many ways, have a name for it, or send us on.
#[tokio::test]
async fn nothing_that_is_not_public_is_reached_however_it_is_written() {
    let (asked, count) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = asked.clone();
    let inside = host(move |stream| {
        counted.fetch_add(1, Ordering::Relaxed);
        head(stream, "content-length: 0\r\n");
    });
    let port = inside.rsplit(':').next().unwrap().trim_end_matches("/film").to_string();
    let private = [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "2130706433",
        "017700000001",
        "127.255.255.254",
        "0.0.0.0",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fd00::1]",
        "[ff02::1]",
        "localhost",
        "①②⑦.0.0.1",
        "10.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "172.31.0.1",
        "192.168.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
    ];
    let fetch = async |policy: FetchPolicy, url: &str| {
        let timeout = Duration::from_secs(5);
        let fetcher =
            Fetcher::new(FetchPolicy { timeout, ..policy }, Arc::new(Semaphore::new(8))).expect("a fetcher");
        fetcher.fetch(url).await.err()
    };
    for host in private {
        for policy in [FetchPolicy::default(), FetchPolicy { http: true, ..FetchPolicy::default() }] {
            for url in [format!("http://{host}:{port}/film"), format!("https://{host}/")] {
                let refused = fetch(policy.clone(), &url).await;
                assert!(matches!(refused, Some(FetchError::Private { .. })), "{url}: {refused:?}");
            }
        }
    }
    for url in ["gopher://127.0.0.1/", "http://a@127.0.0.1/", "file:///etc/passwd", "http:///", "//a/", ""] {
        let refused = fetch(FetchPolicy::default(), url).await;
        assert!(matches!(refused, Some(FetchError::Url | FetchError::Private { .. })), "{url}: {refused:?}");
    }
    for url in ["http://8.8.8.8/", "https://8.8.8.8:22/", "https://[2606:4700::1]:8443/"] {
        let refused = fetch(FetchPolicy::default(), url).await;
        assert!(matches!(refused, Some(FetchError::Unusual { .. })), "{url}: {refused:?}");
    }

    // One that may be asked sends us on: to where nobody may, to a public one as it is not asked, and round and round.
    let only = || FetchPolicy { allow: vec!["127.0.0.7/32".parse().unwrap()], ..FetchPolicy::default() };
    let sends_on = |to: String| {
        let (counted, listener) = (count.clone(), TcpListener::bind(("127.0.0.7", 0)).expect("a free port"));
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let to = if to.is_empty() { url.clone() } else { to };
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 4096]);
                counted.fetch_add(1, Ordering::Relaxed);
                let answer = format!(
                    "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                );
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        url
    };
    for to in
        [inside.clone(), format!("http://localhost:{port}/"), "http://169.254.169.254/latest".to_string()]
    {
        let refused = fetch(only(), &sends_on(to.clone())).await;
        assert!(matches!(refused, Some(FetchError::Private { .. })), "{to}: {refused:?}");
    }
    for (to, is_url) in
        [("http://8.8.8.8/", false), ("ftp://8.8.8.8/", true), ("http://u:p@127.0.0.7/", true)]
    {
        let refused = fetch(only(), &sends_on(to.to_string())).await;
        let right = match &refused {
            Some(FetchError::Url) => is_url,
            Some(FetchError::Unusual { .. }) => !is_url,
            _ => false,
        };
        assert!(right, "{to}: {refused:?}");
    }
    let before = count.load(Ordering::Relaxed);
    let refused = fetch(only(), &sends_on(String::new())).await.unwrap().to_string();
    assert!(refused.contains("more than 3 redirects"), "{refused}");
    assert_eq!(count.load(Ordering::Relaxed) - before, 4, "the first, and three that it was sent on to");
    assert_eq!(asked.load(Ordering::Relaxed), 0, "who is inside was never asked");
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
