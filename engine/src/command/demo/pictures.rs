//! The demo's platform: a small web server with its pictures, which are fetched as evidence.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context, Result};

/// Serves these files on a free port of loopback for as long as the program runs.
pub fn serve(files: Vec<(&'static str, &'static [u8])>) -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no port is free")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let files = files.clone();
            thread::spawn(move || answer(&stream, &files)); // who leaves early is not waited for
        }
    });
    Ok(address)
}

fn answer(mut stream: &TcpStream, files: &[(&str, &[u8])]) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let asked = first.split(' ').nth(1).unwrap_or("").trim_start_matches('/');
    let (status, bytes) = match files.iter().find(|(name, _)| *name == asked) {
        Some((_, bytes)) => ("200 OK", *bytes),
        None => ("404 Not Found", &b""[..]),
    };
    let kind = if asked.ends_with(".png") { "image/png" } else { "image/jpeg" };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        bytes.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(bytes)
}
