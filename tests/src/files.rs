//! A small web server over a folder, as HMA's recordings had one beside it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Serves the files of a folder until it is dropped.
pub struct Files {
    /// Where.
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Files {
    /// Serves `folder`.
    pub fn serve(folder: &Path) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let stop = Arc::new(AtomicBool::new(false));
        let (folder, stopped) = (folder.to_path_buf(), stop.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(stream), folder) = (stream, folder.clone()) else { continue };
                thread::spawn(move || answer(stream, &folder));
            }
        });
        Self { address, stop }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address); // so that the listener looks up
    }
}

fn answer(stream: TcpStream, folder: &Path) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 2 {
        line.clear();
    }
    let name = first.split(' ').nth(1)?.trim_start_matches('/').to_string();
    let mut stream = stream;
    if let Some(target) = name.strip_prefix("redirect/") {
        let text = format!(
            "HTTP/1.1 302 Found\r\nlocation: {target}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        return stream.write_all(text.as_bytes()).ok();
    }
    let path: PathBuf = folder.join(&name);
    let Ok(bytes) = std::fs::read(&path) else {
        return stream
            .write_all(b"HTTP/1.0 404 File not found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .ok();
    };
    let kind = match path.extension().and_then(|kind| kind.to_str()) {
        Some("jpg") => "image/jpeg",
        Some("png") => "image/png",
        Some("gif") => "image/gif",
        Some("mp4") => "video/mp4",
        _ => "text/plain",
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        bytes.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&bytes).ok()
}
