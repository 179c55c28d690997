//! HTTP/1.1 as the stand-ins read it: a head, then a body that is streamed, however it is framed.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};

const HEAD_BYTES_MAX: u64 = 64 << 10;
const CHUNK_LINE_BYTES_MAX: u64 = 1 << 10;

/// What comes before a body.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// `POST`, `GET`.
    pub method: String,
    /// The path, with its query.
    pub target: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
}

impl Head {
    /// Reads one; none where the connection ends, or what comes is no HTTP.
    pub fn read(reader: &mut impl BufRead) -> Option<Self> {
        let mut reader = reader.take(HEAD_BYTES_MAX);
        let first = line(&mut reader)?;
        let mut words = first.split(' ');
        let (method, target) = (words.next()?.to_string(), words.next()?.to_string());
        let mut headers = BTreeMap::new();
        loop {
            let line = line(&mut reader)?;
            if line.is_empty() {
                return Some(Self { method, target, headers });
            }
            let (name, value) = line.split_once(':')?;
            headers.insert(name.to_ascii_lowercase(), value.trim().to_string());
        }
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The path alone.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or(&self.target)
    }

    /// Whether the sender waits for a `100 Continue` before it sends the body.
    pub fn expects_continue(&self) -> bool {
        self.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
    }
}

fn line(reader: &mut impl BufRead) -> Option<String> {
    let mut bytes = Vec::new();
    reader.read_until(b'\n', &mut bytes).ok()?;
    let text = bytes.strip_suffix(b"\n")?; // an unended line is an ended connection
    Some(String::from_utf8_lossy(text.strip_suffix(b"\r").unwrap_or(text)).into_owned())
}

/// A body, as it comes. Its end is the end of the request, not of the connection.
pub struct Body<'r, R> {
    reader: &'r mut R,
    framing: Framing,
}

enum Framing {
    Length(u64),
    Chunked { left: u64, begun: bool },
    Ended,
}

impl<'r, R: BufRead> Body<'r, R> {
    /// The body that follows this head.
    pub fn new(reader: &'r mut R, head: &Head) -> io::Result<Self> {
        let chunked = head.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked"));
        let framing = match head.header("content-length") {
            _ if chunked => Framing::Chunked { left: 0, begun: false },
            Some(length) => Framing::Length(length.parse().map_err(|_| wrong("a length that is no number"))?),
            None => Framing::Ended,
        };
        Ok(Self { reader, framing })
    }

    /// Reads what is left and throws it away; gives how much that was.
    pub fn drain(&mut self) -> io::Result<u64> {
        io::copy(self, &mut io::sink())
    }

    /// The length of the next chunk; 0 after the last.
    fn next_chunk(&mut self, begun: bool) -> io::Result<u64> {
        let mut lines = self.reader.by_ref().take(CHUNK_LINE_BYTES_MAX);
        let mut next = || line(&mut lines).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof));
        if begun && !next()?.is_empty() {
            return Err(wrong("a chunk that is longer than it says"));
        }
        let size = next()?;
        let size = size.split(';').next().unwrap_or("").trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| wrong("a chunk without a length"))?;
        if size == 0 {
            while !next()?.is_empty() {} // trailers
        }
        Ok(size)
    }
}

impl<R: BufRead> Read for Body<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Framing::Chunked { left: 0, begun } = self.framing {
            self.framing = match self.next_chunk(begun)? {
                0 => Framing::Ended,
                left => Framing::Chunked { left, begun: true },
            };
        }
        let left = match &mut self.framing {
            Framing::Length(left) | Framing::Chunked { left, .. } if *left > 0 && !into.is_empty() => left,
            _ => return Ok(0),
        };
        let most = into.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
        let read = self.reader.read(&mut into[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *left -= read as u64;
        Ok(read)
    }
}

fn wrong(words: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(request: &[u8]) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let mut reader = request;
        let head = Head::read(&mut reader).expect("a head");
        let mut bytes = Vec::new();
        Body::new(&mut reader, &head)?.read_to_end(&mut bytes)?;
        Ok((bytes, reader.to_vec()))
    }

    #[test]
    fn a_body_ends_where_its_framing_says_and_not_before() {
        let with_length = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET";
        assert_eq!(body(with_length).unwrap(), (b"abc".to_vec(), b"GET".to_vec()));
        let chunked =
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\nA: b\r\n\r\nGET";
        assert_eq!(body(chunked).unwrap(), (b"abc".to_vec(), b"GET".to_vec()));
        assert_eq!(body(b"GET / HTTP/1.1\r\n\r\nGET").unwrap(), (vec![], b"GET".to_vec()));
        for cut in [
            &b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\nabc"[..],
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc",
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ] {
            assert_eq!(body(cut).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
        for wrong in [
            &b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n"[..],
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
        ] {
            assert_eq!(body(wrong).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
